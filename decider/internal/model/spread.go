package model

import (
	"fmt"
	"slices"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// SpreadConstraint keeps the pods that it selects evenly spread over domains, the
// nodes with one value of a label.
type SpreadConstraint struct {
	// MaxSkew is at least 1.
	MaxSkew int64
	// TopologyKey is not empty.
	TopologyKey string
	// Hard is set if a node that breaks the constraint is ruled out, rather than
	// liked less.
	Hard bool
	// Selector selects the pods, of the pod's own namespace. The values of match
	// label keys are in it.
	Selector LabelSelector
	// MinDomains is at least 1: with fewer domains, the least occupied counts as
	// empty.
	MinDomains int64
	// HonorAffinity and HonorTaints leave nodes out of the count that the pod's
	// node selector and affinity, or taints, rule out.
	HonorAffinity, HonorTaints bool
}

// Includes says whether the constraint's policies let n, which carries the topology
// key, into the count for p. What a profile adds to the affinity of its pods is
// not asked, nor is it by kube-scheduler.
func (c *SpreadConstraint) Includes(p *Pod, n *Node) bool {
	return (!c.HonorAffinity || p.Wants(n)) &&
		(!c.HonorTaints || !slices.ContainsFunc(n.Taints, func(t Taint) bool { return !p.Tolerates(t) }))
}

// newSpreadConstraints decodes the constraints of a pod with these labels. The
// error's path is relative to the pod.
func newSpreadConstraints(records []*berthv1.TopologySpreadConstraint, labels map[string]string) ([]SpreadConstraint, *FieldError) {
	var constraints []SpreadConstraint
	for i, record := range records {
		c, err := NewSpreadConstraint(record)
		if err != nil {
			return nil, err.under(fmt.Sprintf("topology_spread_constraints[%d]", i))
		}
		for _, key := range record.GetMatchLabelKeys() {
			if value, ok := labels[key]; ok {
				c.Selector.require(key, value)
			}
		}
		constraints = append(constraints, c)
	}
	return constraints, nil
}

// NewSpreadConstraint decodes a constraint without its match label keys. The
// error's path is relative to the constraint.
func NewSpreadConstraint(record *berthv1.TopologySpreadConstraint) (SpreadConstraint, *FieldError) {
	c := SpreadConstraint{
		MaxSkew:       int64(record.GetMaxSkew()),
		TopologyKey:   record.GetTopologyKey(),
		MinDomains:    max(1, int64(record.GetMinDomains())),
		HonorAffinity: record.GetNodeAffinityPolicy() != berthv1.NodeInclusionPolicy_NODE_INCLUSION_POLICY_IGNORE,
		HonorTaints:   record.GetNodeTaintsPolicy() == berthv1.NodeInclusionPolicy_NODE_INCLUSION_POLICY_HONOR,
	}
	if c.MaxSkew < 1 {
		return c, fieldError("max_skew", "%d is less than 1", c.MaxSkew)
	}
	if c.TopologyKey == "" {
		return c, fieldError("topology_key", "a constraint needs one")
	}
	if record.GetMinDomains() < 0 {
		return c, fieldError("min_domains", "%d is negative", record.GetMinDomains())
	}
	switch record.GetWhenUnsatisfiable() {
	case berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_DO_NOT_SCHEDULE:
		c.Hard = true
	case berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_SCHEDULE_ANYWAY:
	default:
		return c, fieldError("when_unsatisfiable", "%v is not an action", record.GetWhenUnsatisfiable())
	}
	for _, policy := range []struct {
		field string
		value berthv1.NodeInclusionPolicy
	}{
		{"node_affinity_policy", record.GetNodeAffinityPolicy()},
		{"node_taints_policy", record.GetNodeTaintsPolicy()},
	} {
		if _, known := berthv1.NodeInclusionPolicy_name[int32(policy.value)]; !known {
			return c, fieldError(policy.field, "%v is not a policy", policy.value)
		}
	}
	var err *FieldError
	if c.Selector, err = newStrictSelector(record.GetLabelSelector()); err != nil {
		return c, err.under("label_selector")
	}
	return c, nil
}
