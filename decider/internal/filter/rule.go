// Package filter holds the hard rules: may this node take this pod at all?
//
// The rules, their order, their names and their texts are kube-scheduler's, so
// that people and tools who know its messages know these.
package filter

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/berth-scheduler/berth/decider/internal/model"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Rule is one reason why a node cannot take a pod.
type Rule struct {
	// Name is kube-scheduler's plugin name.
	Name string
	// Constraints are the names of the contract that the rule honours.
	Constraints []string
	// DefaultSpread are PodTopologySpread's constraints of pods without any of their
	// own.
	DefaultSpread []model.SpreadConstraint
	// AddedAffinity is what NodeAffinity requires for every pod besides its own.
	AddedAffinity []model.Term
	// For compiles the rule for one pod: what depends on the pod alone, and what is
	// counted over the cluster, is done here, once.
	For func(p *model.Pod, s *model.Snapshot) Check
}

// Check is a rule compiled for one pod. The zero value has nothing to check.
type Check struct {
	// Reject says why a node cannot take the pod. Nil means that every node can.
	Reject Predicate
	// Moved brings what was counted over the cluster up to date when q was added to
	// n (by is 1) or removed from it (by is -1). Reject reads what is on the node
	// itself from the node. Nil means that nothing else was counted.
	Moved func(q *model.PlacedPod, n *model.Node, by int64)
	// Free returns what must be free on a node, in the units of Node.allocatable,
	// for Reject to accept it. Nil means nothing in particular.
	Free func() map[string]int64
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

// Args are the arguments of the rules that take some. The zero value is
// kube-scheduler's defaults.
type Args struct {
	// AddedAffinity is a node affinity that every pod of the profile has besides
	// its own: alternatives, one of which must match. Nil means none.
	AddedAffinity []model.Term
	// IgnoredResources and IgnoredResourceGroups (what is before the "/" of a
	// resource's name) are not looked at by NodeResourcesFit. They hold for
	// extended resources alone.
	IgnoredResources, IgnoredResourceGroups []string
	// DefaultSpread are the constraints of pods without spread constraints of their
	// own; their selector is the pod's SpreadSelector. Those that are not Hard are
	// not looked at.
	DefaultSpread []model.SpreadConstraint
}

// Names are the rules of kube-scheduler's default profile, in its order.
var Names = []string{
	"NodeUnschedulable", "NodeName", "TaintToleration", "NodeAffinity", "NodePorts", "NodeResourcesFit",
	PodTopologySpread, InterPodAffinity, "NodeDeclaredFeatures",
}

// The rules for which pods on other nodes matter, too.
const (
	PodTopologySpread = "PodTopologySpread"
	InterPodAffinity  = "InterPodAffinity"
)

// Constraints of the rules, by name.
var constraints = map[string][]string{
	"NodeUnschedulable": {berthv1.ConstraintNodeUnschedulable},
	"NodeName":          {berthv1.ConstraintNodeName},
	"TaintToleration":   {berthv1.ConstraintTaintToleration},
	"NodeAffinity": {
		berthv1.ConstraintNodeSelector,
		berthv1.ConstraintNodeAffinity,
		berthv1.ConstraintNodeAffinityComparison,
		berthv1.ConstraintNodeAffinityFields,
	},
	"NodePorts":        {berthv1.ConstraintNodePorts},
	"NodeResourcesFit": {berthv1.ConstraintNodeResourcesFit},
	PodTopologySpread:  {berthv1.ConstraintPodTopologySpread},
	InterPodAffinity: {
		berthv1.ConstraintPodAffinity,
		berthv1.ConstraintPodAntiAffinity,
		berthv1.ConstraintExistingAntiAffinity,
	},
	"NodeDeclaredFeatures": {berthv1.ConstraintNodeDeclaredFeatures},
}

// Rules returns the rules with these names, in this order: the first that rejects a
// node says why. Before them come what the snapshot itself gets wrong and what
// kube-scheduler decides before it looks at nodes. The error names a rule that
// there is none of.
func Rules(names []string, args Args) ([]Rule, error) {
	rules := []Rule{{Name: "Snapshot", For: understood}}
	if slices.Contains(names, "NodeAffinity") {
		rules = append(rules, Rule{Name: "NodeAffinity", For: namedByAffinity})
	}
	for _, name := range names {
		rule := Rule{Name: name, Constraints: constraints[name]}
		switch name {
		case "NodeUnschedulable":
			rule.For = unschedulable
		case "NodeName":
			rule.For = nodeName
		case "TaintToleration":
			rule.For = taints
		case "NodeAffinity":
			rule.For, rule.AddedAffinity = affinity(args.AddedAffinity), args.AddedAffinity
		case "NodePorts":
			rule.For = ports
		case "NodeResourcesFit":
			rule.For = resources(args.IgnoredResources, args.IgnoredResourceGroups)
		case PodTopologySpread:
			rule.For, rule.DefaultSpread = topologySpread(args.DefaultSpread), args.DefaultSpread
		case InterPodAffinity:
			rule.For = podAffinity
		case "NodeDeclaredFeatures":
			rule.For = declaredFeatures
		default:
			return nil, fmt.Errorf("%q is not a filter; there are %s", name, strings.Join(Names, ", "))
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// Default are the rules of kube-scheduler's default profile.
func Default() []Rule {
	rules, err := Rules(Names, Args{})
	if err != nil {
		panic(err)
	}
	return rules
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

// Filter is the rules compiled for one pod. While it is in use, pods are added to
// the snapshot's nodes and removed from them through it alone.
type Filter struct {
	pod     *model.Pod
	rules   []string
	checks  []Check
	moved   []func(q *model.PlacedPod, n *model.Node, by int64)
	scratch []Reason
}

// Compile compiles rules for p.
func Compile(rules []Rule, p *model.Pod, s *model.Snapshot) *Filter {
	f := &Filter{pod: p}
	for _, rule := range rules {
		check := rule.For(p, s)
		if check.Reject == nil {
			continue
		}
		f.rules = append(f.rules, rule.Name)
		f.checks = append(f.checks, check)
		if check.Moved != nil {
			f.moved = append(f.moved, check.Moved)
		}
	}
	return f
}

// Reject returns the first rule that rejects n and its reasons, or "" if n can
// take the pod. The reasons are valid until the next call.
//
// Where room is set aside for pods of the same or a higher priority, n must do both
// with them on it and without: they may take what the pod needs, and they may be
// what it needs.
func (f *Filter) Reject(n *model.Node) (rule string, reasons []Reason) {
	respected := 0
	for _, m := range n.Nominated {
		if f.pod.Respects(m) {
			f.Add(m, n)
			respected++
		}
	}
	if respected > 0 {
		rule, reasons = f.reject(n)
		for i := len(n.Nominated) - 1; i >= 0; i-- {
			if m := n.Nominated[i]; f.pod.Respects(m) {
				f.Remove(m, n)
			}
		}
		if rule != "" {
			return rule, reasons
		}
	}
	return f.reject(n)
}

func (f *Filter) reject(n *model.Node) (rule string, reasons []Reason) {
	for i := range f.checks {
		if f.scratch = f.checks[i].Reject(n, f.scratch[:0]); len(f.scratch) > 0 {
			return f.rules[i], f.scratch
		}
	}
	return "", nil
}

// Free returns what must be free on a node for the pod to fit, in the units of
// Node.allocatable; empty means nothing in particular.
func (f *Filter) Free() map[string]int64 {
	free := map[string]int64{}
	for i := range f.checks {
		if f.checks[i].Free != nil {
			maps.Copy(free, f.checks[i].Free())
		}
	}
	return free
}

// Add puts q on n.
func (f *Filter) Add(q *model.PlacedPod, n *model.Node) {
	n.Add(q)
	for _, moved := range f.moved {
		moved(q, n, 1)
	}
}

// RemoveFunc takes the pods that leave off n and returns them.
func (f *Filter) RemoveFunc(n *model.Node, leaves func(*model.PlacedPod) bool) (removed []*model.PlacedPod) {
	removed = n.RemoveFunc(leaves)
	for _, q := range removed {
		for _, moved := range f.moved {
			moved(q, n, -1)
		}
	}
	return removed
}

// Remove takes q, which is on n, off it.
func (f *Filter) Remove(q *model.PlacedPod, n *model.Node) {
	n.Remove(q)
	for _, moved := range f.moved {
		moved(q, n, -1)
	}
}
