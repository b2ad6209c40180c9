package encode

import (
	corev1 "k8s.io/api/core/v1"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

const affinityPath = "spec.affinity.nodeAffinity."

// nodeAffinity is spec.affinity.nodeAffinity, nil if there is none.
func nodeAffinity(p *corev1.Pod, names *constraints) *berthv1.NodeAffinity {
	if p.Spec.Affinity == nil || p.Spec.Affinity.NodeAffinity == nil {
		return nil
	}
	in := p.Spec.Affinity.NodeAffinity
	out := &berthv1.NodeAffinity{}
	if required := in.RequiredDuringSchedulingIgnoredDuringExecution; required != nil {
		out.Required = &berthv1.NodeSelector{}
		for i := range required.NodeSelectorTerms {
			out.Required.Terms = append(out.Required.Terms, nodeSelectorTerm(&required.NodeSelectorTerms[i], names))
		}
		requiredConstraints(out.Required, names)
	}
	for i := range in.PreferredDuringSchedulingIgnoredDuringExecution {
		preferred := &in.PreferredDuringSchedulingIgnoredDuringExecution[i]
		out.Preferred = append(out.Preferred, &berthv1.PreferredNodeTerm{
			Weight: preferred.Weight,
			Term:   nodeSelectorTerm(&preferred.Preference, names),
		})
	}
	if out.Required == nil && out.Preferred == nil {
		return nil
	}
	return out
}

// requiredConstraints names the behaviours that a required node affinity uses. A
// selector without any requirement, which matches no node, counts as one on
// labels.
func requiredConstraints(selector *berthv1.NodeSelector, names *constraints) {
	labels, comparison, fields := false, false, false
	for _, term := range selector.Terms {
		for _, r := range term.MatchExpressions {
			switch r.Operator {
			case berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_GT, berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_LT:
				comparison = true
			default:
				labels = true
			}
		}
		fields = fields || len(term.MatchFields) > 0
	}
	if comparison {
		names.add(berthv1.ConstraintNodeAffinityComparison)
	}
	if fields {
		names.add(berthv1.ConstraintNodeAffinityFields)
	}
	if labels || !comparison && !fields {
		names.add(berthv1.ConstraintNodeAffinity)
	}
}

func nodeSelectorTerm(in *corev1.NodeSelectorTerm, names *constraints) *berthv1.NodeSelectorTerm {
	out := &berthv1.NodeSelectorTerm{}
	for i := range in.MatchExpressions {
		out.MatchExpressions = append(out.MatchExpressions, requirement(&in.MatchExpressions[i], names))
	}
	for i := range in.MatchFields {
		field := &in.MatchFields[i]
		if field.Key != "metadata.name" {
			names.unknown(affinityPath + "matchFields.key")
		}
		if field.Operator != corev1.NodeSelectorOpIn && field.Operator != corev1.NodeSelectorOpNotIn {
			names.unknown(affinityPath + "matchFields.operator")
		}
		out.MatchFields = append(out.MatchFields, requirement(field, names))
	}
	return out
}

func requirement(in *corev1.NodeSelectorRequirement, names *constraints) *berthv1.NodeSelectorRequirement {
	operator, ok := nodeSelectorOperators[in.Operator]
	if !ok {
		names.unknown(affinityPath + "operator")
	}
	return &berthv1.NodeSelectorRequirement{Key: in.Key, Operator: operator, Values: in.Values}
}

var nodeSelectorOperators = map[corev1.NodeSelectorOperator]berthv1.NodeSelectorOperator{
	corev1.NodeSelectorOpIn:           berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_IN,
	corev1.NodeSelectorOpNotIn:        berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_NOT_IN,
	corev1.NodeSelectorOpExists:       berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_EXISTS,
	corev1.NodeSelectorOpDoesNotExist: berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_DOES_NOT_EXIST,
	corev1.NodeSelectorOpGt:           berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_GT,
	corev1.NodeSelectorOpLt:           berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_LT,
}

// tolerations leaves out those that the contract cannot express; a pod that has
// one bears a constraint that says so.
func tolerations(in []corev1.Toleration, names *constraints) []*berthv1.Toleration {
	var out []*berthv1.Toleration
	for i := range in {
		t := &in[i]
		var operator berthv1.TolerationOperator
		switch t.Operator {
		case "", corev1.TolerationOpEqual:
			operator = berthv1.TolerationOperator_TOLERATION_OPERATOR_EQUAL
		case corev1.TolerationOpExists:
			operator = berthv1.TolerationOperator_TOLERATION_OPERATOR_EXISTS
		case corev1.TolerationOpLt, corev1.TolerationOpGt:
			names.add(berthv1.ConstraintTolerationComparison)
			continue
		default:
			names.unknown("spec.tolerations.operator")
			continue
		}
		effect, ok := taintEffects[t.Effect]
		if !ok {
			names.unknown("spec.tolerations.effect")
			continue
		}
		out = append(out, &berthv1.Toleration{Key: t.Key, Operator: operator, Value: t.Value, Effect: effect})
	}
	return out
}

var taintEffects = map[corev1.TaintEffect]berthv1.TaintEffect{
	"":                                 berthv1.TaintEffect_TAINT_EFFECT_UNSPECIFIED,
	corev1.TaintEffectNoSchedule:       berthv1.TaintEffect_TAINT_EFFECT_NO_SCHEDULE,
	corev1.TaintEffectPreferNoSchedule: berthv1.TaintEffect_TAINT_EFFECT_PREFER_NO_SCHEDULE,
	corev1.TaintEffectNoExecute:        berthv1.TaintEffect_TAINT_EFFECT_NO_EXECUTE,
}
