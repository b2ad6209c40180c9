package convert

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// affinity is nil if all three are.
func affinity(node *berthv1.NodeAffinity, pods, anti *berthv1.PodAffinity) *corev1.Affinity {
	if node == nil && pods == nil && anti == nil {
		return nil
	}
	out := &corev1.Affinity{NodeAffinity: nodeAffinity(node)}
	if pods != nil {
		out.PodAffinity = &corev1.PodAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution:  podTerms(pods.GetRequired()),
			PreferredDuringSchedulingIgnoredDuringExecution: preferredPodTerms(pods.GetPreferred()),
		}
	}
	if anti != nil {
		out.PodAntiAffinity = &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution:  podTerms(anti.GetRequired()),
			PreferredDuringSchedulingIgnoredDuringExecution: preferredPodTerms(anti.GetPreferred()),
		}
	}
	return out
}

func nodeAffinity(in *berthv1.NodeAffinity) *corev1.NodeAffinity {
	if in == nil {
		return nil
	}
	out := &corev1.NodeAffinity{}
	if in.GetRequired() != nil {
		out.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{}
		for _, term := range in.GetRequired().GetTerms() {
			out.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms = append(
				out.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms, nodeTerm(term))
		}
	}
	for _, preferred := range in.GetPreferred() {
		out.PreferredDuringSchedulingIgnoredDuringExecution = append(out.PreferredDuringSchedulingIgnoredDuringExecution,
			corev1.PreferredSchedulingTerm{Weight: preferred.GetWeight(), Preference: nodeTerm(preferred.GetTerm())})
	}
	return out
}

func nodeTerm(in *berthv1.NodeSelectorTerm) corev1.NodeSelectorTerm {
	return corev1.NodeSelectorTerm{
		MatchExpressions: nodeRequirements(in.GetMatchExpressions()),
		MatchFields:      nodeRequirements(in.GetMatchFields()),
	}
}

func nodeRequirements(in []*berthv1.NodeSelectorRequirement) []corev1.NodeSelectorRequirement {
	var out []corev1.NodeSelectorRequirement
	for _, r := range in {
		out = append(out, corev1.NodeSelectorRequirement{Key: r.GetKey(), Operator: nodeOperators[r.GetOperator()], Values: r.GetValues()})
	}
	return out
}

var nodeOperators = map[berthv1.NodeSelectorOperator]corev1.NodeSelectorOperator{
	berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_IN:             corev1.NodeSelectorOpIn,
	berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_NOT_IN:         corev1.NodeSelectorOpNotIn,
	berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_EXISTS:         corev1.NodeSelectorOpExists,
	berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_DOES_NOT_EXIST: corev1.NodeSelectorOpDoesNotExist,
	berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_GT:             corev1.NodeSelectorOpGt,
	berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_LT:             corev1.NodeSelectorOpLt,
}

func podTerms(in []*berthv1.PodAffinityTerm) []corev1.PodAffinityTerm {
	var out []corev1.PodAffinityTerm
	for _, term := range in {
		out = append(out, podTerm(term))
	}
	return out
}

func preferredPodTerms(in []*berthv1.PreferredPodTerm) []corev1.WeightedPodAffinityTerm {
	var out []corev1.WeightedPodAffinityTerm
	for _, preferred := range in {
		out = append(out, corev1.WeightedPodAffinityTerm{Weight: preferred.GetWeight(), PodAffinityTerm: podTerm(preferred.GetTerm())})
	}
	return out
}

func podTerm(in *berthv1.PodAffinityTerm) corev1.PodAffinityTerm {
	return corev1.PodAffinityTerm{
		TopologyKey:       in.GetTopologyKey(),
		LabelSelector:     labelSelector(in.GetLabelSelector()),
		Namespaces:        in.GetNamespaces(),
		NamespaceSelector: labelSelector(in.GetNamespaceSelector()),
	}
}

// labelSelector keeps the difference between one that is absent and one that is
// empty.
func labelSelector(in *berthv1.LabelSelector) *metav1.LabelSelector {
	if in == nil {
		return nil
	}
	out := &metav1.LabelSelector{MatchLabels: in.GetMatchLabels()}
	for _, r := range in.GetMatchExpressions() {
		out.MatchExpressions = append(out.MatchExpressions, metav1.LabelSelectorRequirement{
			Key: r.GetKey(), Operator: labelOperators[r.GetOperator()], Values: r.GetValues(),
		})
	}
	return out
}

var labelOperators = map[berthv1.LabelSelectorOperator]metav1.LabelSelectorOperator{
	berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_IN:             metav1.LabelSelectorOpIn,
	berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_NOT_IN:         metav1.LabelSelectorOpNotIn,
	berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_EXISTS:         metav1.LabelSelectorOpExists,
	berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_DOES_NOT_EXIST: metav1.LabelSelectorOpDoesNotExist,
}

func spreadConstraint(in *berthv1.TopologySpreadConstraint) corev1.TopologySpreadConstraint {
	out := corev1.TopologySpreadConstraint{
		MaxSkew:            in.GetMaxSkew(),
		TopologyKey:        in.GetTopologyKey(),
		WhenUnsatisfiable:  unsatisfiableActions[in.GetWhenUnsatisfiable()],
		LabelSelector:      labelSelector(in.GetLabelSelector()),
		NodeAffinityPolicy: inclusionPolicies[in.GetNodeAffinityPolicy()],
		NodeTaintsPolicy:   inclusionPolicies[in.GetNodeTaintsPolicy()],
		MatchLabelKeys:     in.GetMatchLabelKeys(),
	}
	if in.GetMinDomains() != 0 {
		out.MinDomains = &in.MinDomains
	}
	return out
}

var unsatisfiableActions = map[berthv1.UnsatisfiableAction]corev1.UnsatisfiableConstraintAction{
	berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_DO_NOT_SCHEDULE: corev1.DoNotSchedule,
	berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_SCHEDULE_ANYWAY: corev1.ScheduleAnyway,
}

var inclusionPolicies = map[berthv1.NodeInclusionPolicy]*corev1.NodeInclusionPolicy{
	berthv1.NodeInclusionPolicy_NODE_INCLUSION_POLICY_IGNORE: new(corev1.NodeInclusionPolicyIgnore),
	berthv1.NodeInclusionPolicy_NODE_INCLUSION_POLICY_HONOR:  new(corev1.NodeInclusionPolicyHonor),
}
