package encode

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

const (
	podAffinityPath     = "spec.affinity.podAffinity."
	podAntiAffinityPath = "spec.affinity.podAntiAffinity."
	spreadPath          = "spec.topologySpreadConstraints."
)

// affinitiesToPods are spec.affinity.podAffinity and podAntiAffinity, each nil if it
// asks for nothing.
func affinitiesToPods(p *corev1.Pod, names *constraints) (affinity, anti *berthv1.PodAffinity) {
	if p.Spec.Affinity == nil {
		return nil, nil
	}
	if in := p.Spec.Affinity.PodAffinity; in != nil {
		affinity = podAffinity(
			podTerms(in.RequiredDuringSchedulingIgnoredDuringExecution, podAffinityPath, names),
			preferredPodTerms(in.PreferredDuringSchedulingIgnoredDuringExecution, podAffinityPath, names))
	}
	if in := p.Spec.Affinity.PodAntiAffinity; in != nil {
		anti = podAffinity(
			podTerms(in.RequiredDuringSchedulingIgnoredDuringExecution, podAntiAffinityPath, names),
			preferredPodTerms(in.PreferredDuringSchedulingIgnoredDuringExecution, podAntiAffinityPath, names))
	}
	return affinity, anti
}

// placedAffinitiesToPods is affinitiesToPods for a pod that has a node. There only
// its required anti-affinity restricts others. What else cannot be expressed is
// left out, so that no decider finds the record invalid for it; the scores of some
// nodes differ for that.
func placedAffinitiesToPods(p *corev1.Pod, names *constraints) (affinity, anti *berthv1.PodAffinity) {
	if p.Spec.Affinity == nil {
		return nil, nil
	}
	if in := p.Spec.Affinity.PodAffinity; in != nil {
		affinity = podAffinity(
			known(podTerms, in.RequiredDuringSchedulingIgnoredDuringExecution, podAffinityPath, &constraints{}),
			known(preferredPodTerms, in.PreferredDuringSchedulingIgnoredDuringExecution, podAffinityPath, &constraints{}))
	}
	if in := p.Spec.Affinity.PodAntiAffinity; in != nil {
		anti = podAffinity(
			known(podTerms, in.RequiredDuringSchedulingIgnoredDuringExecution, podAntiAffinityPath, names),
			known(preferredPodTerms, in.PreferredDuringSchedulingIgnoredDuringExecution, podAntiAffinityPath, &constraints{}))
	}
	return affinity, anti
}

// known is terms, or nothing if one of them cannot be expressed; names says so.
func known[In, Out any](encode func([]In, string, *constraints) []Out, terms []In, path string, names *constraints) []Out {
	var unknown constraints
	out := encode(terms, path, &unknown)
	if len(unknown) > 0 {
		*names = append(*names, unknown...)
		return nil
	}
	return out
}

func podAffinity(required []*berthv1.PodAffinityTerm, preferred []*berthv1.PreferredPodTerm) *berthv1.PodAffinity {
	if required == nil && preferred == nil {
		return nil
	}
	return &berthv1.PodAffinity{Required: required, Preferred: preferred}
}

func podTerms(in []corev1.PodAffinityTerm, path string, names *constraints) []*berthv1.PodAffinityTerm {
	var out []*berthv1.PodAffinityTerm
	for i := range in {
		out = append(out, podTerm(&in[i], path, names))
	}
	return out
}

func preferredPodTerms(in []corev1.WeightedPodAffinityTerm, path string, names *constraints) []*berthv1.PreferredPodTerm {
	var out []*berthv1.PreferredPodTerm
	for i := range in {
		out = append(out, &berthv1.PreferredPodTerm{Weight: in[i].Weight, Term: podTerm(&in[i].PodAffinityTerm, path, names)})
	}
	return out
}

func podTerm(in *corev1.PodAffinityTerm, path string, names *constraints) *berthv1.PodAffinityTerm {
	return &berthv1.PodAffinityTerm{
		TopologyKey:       in.TopologyKey,
		LabelSelector:     labelSelector(in.LabelSelector, path+"labelSelector.", names),
		Namespaces:        in.Namespaces,
		NamespaceSelector: labelSelector(in.NamespaceSelector, path+"namespaceSelector.", names),
	}
}

// labelSelector keeps the difference between a selector that is nil and one that is
// empty. path is where it stands, with a dot at its end.
func labelSelector(in *metav1.LabelSelector, path string, names *constraints) *berthv1.LabelSelector {
	if in == nil {
		return nil
	}
	out := &berthv1.LabelSelector{MatchLabels: in.MatchLabels}
	for i := range in.MatchExpressions {
		r := &in.MatchExpressions[i]
		operator, ok := labelSelectorOperators[r.Operator]
		if !ok {
			names.unknown(path + "operator")
		}
		out.MatchExpressions = append(out.MatchExpressions, &berthv1.LabelSelectorRequirement{Key: r.Key, Operator: operator, Values: r.Values})
	}
	return out
}

var labelSelectorOperators = map[metav1.LabelSelectorOperator]berthv1.LabelSelectorOperator{
	metav1.LabelSelectorOpIn:           berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_IN,
	metav1.LabelSelectorOpNotIn:        berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_NOT_IN,
	metav1.LabelSelectorOpExists:       berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_EXISTS,
	metav1.LabelSelectorOpDoesNotExist: berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_DOES_NOT_EXIST,
}

// topologySpreadConstraints leaves what is not set unset: its defaults are the
// rule's.
func topologySpreadConstraints(p *corev1.Pod, names *constraints) []*berthv1.TopologySpreadConstraint {
	var out []*berthv1.TopologySpreadConstraint
	for i := range p.Spec.TopologySpreadConstraints {
		in := &p.Spec.TopologySpreadConstraints[i]
		c := &berthv1.TopologySpreadConstraint{
			MaxSkew:            in.MaxSkew,
			TopologyKey:        in.TopologyKey,
			LabelSelector:      labelSelector(in.LabelSelector, spreadPath+"labelSelector.", names),
			NodeAffinityPolicy: inclusionPolicy(in.NodeAffinityPolicy, "nodeAffinityPolicy", names),
			NodeTaintsPolicy:   inclusionPolicy(in.NodeTaintsPolicy, "nodeTaintsPolicy", names),
			MatchLabelKeys:     in.MatchLabelKeys,
		}
		if in.MinDomains != nil {
			c.MinDomains = *in.MinDomains
		}
		switch in.WhenUnsatisfiable {
		case corev1.DoNotSchedule:
			c.WhenUnsatisfiable = berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_DO_NOT_SCHEDULE
			names.add(berthv1.ConstraintPodTopologySpread)
		case corev1.ScheduleAnyway:
			c.WhenUnsatisfiable = berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_SCHEDULE_ANYWAY
		default:
			names.unknown(spreadPath + "whenUnsatisfiable")
		}
		out = append(out, c)
	}
	return out
}

func inclusionPolicy(in *corev1.NodeInclusionPolicy, field string, names *constraints) berthv1.NodeInclusionPolicy {
	switch {
	case in == nil:
		return berthv1.NodeInclusionPolicy_NODE_INCLUSION_POLICY_UNSPECIFIED
	case *in == corev1.NodeInclusionPolicyHonor:
		return berthv1.NodeInclusionPolicy_NODE_INCLUSION_POLICY_HONOR
	case *in == corev1.NodeInclusionPolicyIgnore:
		return berthv1.NodeInclusionPolicy_NODE_INCLUSION_POLICY_IGNORE
	}
	names.unknown(spreadPath + field)
	return berthv1.NodeInclusionPolicy_NODE_INCLUSION_POLICY_UNSPECIFIED
}
