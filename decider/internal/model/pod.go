package model

import (
	"fmt"
	"maps"
	"slices"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Pod is what a pod that wants a node asks for.
type Pod struct {
	// Record is what was sent. It is not changed.
	Record *berthv1.Pod
	// UID names the pod.
	UID string
	// Namespace is its namespace.
	Namespace string
	// Labels are metadata.labels.
	Labels map[string]string
	// Requests are what it needs, none of them 0: cpu, memory, ephemeral
	// storage, then the others by name.
	Requests []Amount
	// ScoreRequests are its cpu and memory as scores count them.
	ScoreRequests ScoreAmounts
	// PlacedScoreRequests are the same once it is placed.
	PlacedScoreRequests ScoreAmounts
	// NodeName is the only node that will do; empty means any.
	NodeName string
	// Selector is spec.nodeSelector: requirements on labels, all of which must
	// match.
	Selector []Requirement
	// NodeAffinity is the required node affinity: alternatives, one of which must
	// match. Nil means any node; empty means none.
	NodeAffinity []Term
	// PreferredNodes are the preferred node affinity's terms.
	PreferredNodes []WeightedTerm
	// Affinity is what it wants of the pods near it.
	Affinity PodAffinity
	// Spread are its own spread constraints, in order.
	Spread []SpreadConstraint
	// SpreadSelector selects the pods that default spread constraints count;
	// nothing if they do not apply to it.
	SpreadSelector LabelSelector
	// Tolerations are in the pod's order.
	Tolerations []Toleration
	// Ports are those it needs on the node.
	Ports []Port
	// Priority is compared with that of nominated pods and of pods to preempt.
	Priority int32
	// Preempts is set if pods of lower priority may be evicted for it.
	Preempts bool
	// NominatedNode is the node on which room is set aside for it; empty means
	// none.
	NominatedNode string
	// Key is what an index knows equal pods by; empty until one has asked.
	Key string
}

// ScoreAmounts are cpu in millicores and memory in bytes, by Resource.
type ScoreAmounts [2]int64

// ScoreRequest returns how much of a resource the pod asks for as scores count it.
func (p *Pod) ScoreRequest(resource string) int64 { return p.Record.GetScoreRequests()[resource] }

// Request returns how much of a resource the pod asks for.
func (p *Pod) Request(resource string) int64 { return p.Record.GetRequests()[resource] }

func newScoreAmounts(field string, requests map[string]int64) (ScoreAmounts, *FieldError) {
	amounts := ScoreAmounts{CPU: requests["cpu"], Memory: requests["memory"]}
	switch {
	case amounts[CPU] < 0:
		return amounts, fieldError(field+"[cpu]", "%d is negative", amounts[CPU])
	case amounts[Memory] < 0:
		return amounts, fieldError(field+"[memory]", "%d is negative", amounts[Memory])
	}
	return amounts, nil
}

// Toleration lets a pod onto nodes with matching taints.
type Toleration struct {
	// Key is the taint's key; empty means every key.
	Key string
	// Exists is set if any value will do.
	Exists bool
	// Value is the taint's value, unless Exists.
	Value string
	// Effect is the taint's effect; unspecified means every effect.
	Effect berthv1.TaintEffect
}

// Tolerates says whether one of the pod's tolerations matches t.
func (p *Pod) Tolerates(t Taint) bool {
	for i := range p.Tolerations {
		o := &p.Tolerations[i]
		if (o.Effect == berthv1.TaintEffect_TAINT_EFFECT_UNSPECIFIED || o.Effect == t.Effect) &&
			(o.Key == "" || o.Key == t.Key) &&
			(o.Exists || o.Value == t.Value) {
			return true
		}
	}
	return false
}

// Wants says whether n matches the pod's nodeSelector and required node affinity.
func (p *Pod) Wants(n *Node) bool {
	selector := Term{Labels: p.Selector}
	return selector.Matches(n) && (p.NodeAffinity == nil || MatchesAny(p.NodeAffinity, n))
}

// NewPod decodes a pod to be decided on s. The error's path is relative to the
// pod.
func (s *Snapshot) NewPod(record *berthv1.Pod) (*Pod, *FieldError) {
	p := &Pod{
		Record:        record,
		UID:           record.GetUid(),
		Namespace:     record.GetNamespace(),
		Labels:        record.GetLabels(),
		NodeName:      record.GetNodeName(),
		Selector:      selectorRequirements(record.GetNodeSelector()),
		Priority:      record.GetPriority(),
		NominatedNode: record.GetNominatedNodeName(),
	}
	if p.UID == "" {
		return nil, fieldError("uid", "a pod needs one")
	}
	err := checkConstraints(record.GetConstraints())
	if err != nil {
		return nil, err
	}
	switch record.GetPreemptionPolicy() {
	case berthv1.PreemptionPolicy_PREEMPTION_POLICY_UNSPECIFIED,
		berthv1.PreemptionPolicy_PREEMPTION_POLICY_PREEMPT_LOWER_PRIORITY:
		p.Preempts = true
	case berthv1.PreemptionPolicy_PREEMPTION_POLICY_NEVER:
	default:
		return nil, fieldError("preemption_policy", "%v is not a preemption policy", record.GetPreemptionPolicy())
	}
	if p.Requests, err = s.resources.requests("requests", record.GetRequests(), s.resources.find); err != nil {
		return nil, err
	}
	if p.ScoreRequests, err = newScoreAmounts("score_requests", record.GetScoreRequests()); err != nil {
		return nil, err
	}
	p.PlacedScoreRequests = p.ScoreRequests
	if placed := record.GetPlacedScoreRequests(); len(placed) > 0 {
		if p.PlacedScoreRequests, err = newScoreAmounts("placed_score_requests", placed); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(record.GetScoreRequests())) {
		if value := record.GetScoreRequests()[name]; value < 0 {
			return nil, fieldError("score_requests["+name+"]", "%d is negative", value)
		}
	}
	if required := record.GetNodeAffinity().GetRequired(); required != nil {
		if p.NodeAffinity, err = NewTerms("node_affinity.required", required); err != nil {
			return nil, err
		}
	}
	if p.PreferredNodes, err = NewWeightedTerms("node_affinity.preferred", record.GetNodeAffinity().GetPreferred()); err != nil {
		return nil, err
	}
	if p.Affinity, err = newPodAffinity(record.GetPodAffinity(), record.GetPodAntiAffinity(), p.Namespace, newStrictSelector); err != nil {
		return nil, err
	}
	if p.Spread, err = newSpreadConstraints(record.GetTopologySpreadConstraints(), p.Labels); err != nil {
		return nil, err
	}
	if p.SpreadSelector, err = newStrictSelector(record.GetSpreadSelector()); err != nil {
		return nil, err.under("spread_selector")
	}
	if p.Tolerations, err = newTolerations(record.GetTolerations()); err != nil {
		return nil, err
	}
	if p.Ports, err = newPorts(record.GetHostPorts()); err != nil {
		return nil, err
	}
	return p, nil
}

func newTolerations(records []*berthv1.Toleration) ([]Toleration, *FieldError) {
	var tolerations []Toleration
	for i, record := range records {
		t := Toleration{Key: record.GetKey(), Value: record.GetValue(), Effect: record.GetEffect()}
		switch record.GetOperator() {
		case berthv1.TolerationOperator_TOLERATION_OPERATOR_UNSPECIFIED,
			berthv1.TolerationOperator_TOLERATION_OPERATOR_EQUAL:
		case berthv1.TolerationOperator_TOLERATION_OPERATOR_EXISTS:
			t.Exists = true
		default:
			return nil, fieldError(fmt.Sprintf("tolerations[%d].operator", i), "%v is not an operator", record.GetOperator())
		}
		if _, known := berthv1.TaintEffect_name[int32(t.Effect)]; !known {
			return nil, fieldError(fmt.Sprintf("tolerations[%d].effect", i), "%v is not a taint effect", t.Effect)
		}
		tolerations = append(tolerations, t)
	}
	return tolerations, nil
}
