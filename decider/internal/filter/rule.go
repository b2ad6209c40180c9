// Package filter holds the hard rules: may this node take this pod at all?
//
// The rules, their order, their names and their texts are kube-scheduler's, so
// that people and tools who know its messages know these.
package filter

import (
	"github.com/berth-scheduler/berth/decider/internal/model"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Rule is one reason why a node cannot take a pod.
type Rule struct {
	// Name is kube-scheduler's plugin name.
	Name string
	// Constraints are the names of the contract that the rule honours.
	Constraints []string
	// For compiles the rule for one pod: what depends on the pod alone is done
	// here, once. Nil means that the rule has nothing to check for this pod.
	// The predicate sees placements that are made after it was compiled.
	For func(p *model.Pod, s *model.Snapshot) Predicate
}

// Predicate appends to reasons why n cannot take the pod, in a defined order.
// It appends nothing if the node can.
type Predicate func(n *model.Node, reasons []Reason) []Reason

// Reason is one reason why a node cannot take a pod.
type Reason struct {
	// Text is kube-scheduler's.
	Text string
	// EvictionCouldHelp is set if evicting pods from the node could make room.
	EvictionCouldHelp bool
	// WholePod is set if the reason lies in the pod alone, so that it holds for
	// every node and is not counted by node.
	WholePod bool
}

// Rules are all rules, in kube-scheduler's order. The first that rejects a node
// says why. Before kube-scheduler's own come what the snapshot itself gets
// wrong and what kube-scheduler decides before it looks at nodes.
var Rules = []Rule{
	{Name: "Snapshot", For: understood},
	{Name: "NodeAffinity", For: namedByAffinity},
	{Name: "NodeUnschedulable", For: unschedulable, Constraints: []string{berthv1.ConstraintNodeUnschedulable}},
	{Name: "NodeName", For: nodeName, Constraints: []string{berthv1.ConstraintNodeName}},
	{Name: "TaintToleration", For: taints, Constraints: []string{berthv1.ConstraintTaintToleration}},
	{Name: "NodeAffinity", For: affinity, Constraints: []string{
		berthv1.ConstraintNodeSelector,
		berthv1.ConstraintNodeAffinity,
		berthv1.ConstraintNodeAffinityComparison,
		berthv1.ConstraintNodeAffinityFields,
	}},
	{Name: "NodePorts", For: ports, Constraints: []string{berthv1.ConstraintNodePorts}},
	{Name: "NodeResourcesFit", For: resources, Constraints: []string{berthv1.ConstraintNodeResourcesFit}},
}

// Constraints returns the names that the rules honour, as a set.
func Constraints(rules []Rule) map[string]bool {
	names := map[string]bool{}
	for _, rule := range rules {
		for _, name := range rule.Constraints {
			names[name] = true
		}
	}
	return names
}

// Filter is the rules compiled for one pod.
type Filter struct {
	rules      []string
	predicates []Predicate
	scratch    []Reason
}

// Compile compiles rules for p.
func Compile(rules []Rule, p *model.Pod, s *model.Snapshot) *Filter {
	f := &Filter{}
	for _, rule := range rules {
		if predicate := rule.For(p, s); predicate != nil {
			f.rules = append(f.rules, rule.Name)
			f.predicates = append(f.predicates, predicate)
		}
	}
	return f
}

// Reject returns the first rule that rejects n and its reasons, or "" if n can
// take the pod. The reasons are valid until the next call.
func (f *Filter) Reject(n *model.Node) (rule string, reasons []Reason) {
	for i, predicate := range f.predicates {
		if f.scratch = predicate(n, f.scratch[:0]); len(f.scratch) > 0 {
			return f.rules[i], f.scratch
		}
	}
	return "", nil
}
