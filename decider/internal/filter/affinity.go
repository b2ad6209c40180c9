package filter

import (
	"slices"

	"github.com/berth-scheduler/berth/decider/internal/model"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// affinity rejects nodes that the affinity added to every pod of the profile does
// not match, and those that the pod's own nodeSelector or required node affinity
// does not match.
func affinity(added []model.Term) func(*model.Pod, *model.Snapshot) Check {
	enforced := Reason{Text: "node(s) didn't match scheduler-enforced node affinity"}
	own := Reason{Text: "node(s) didn't match Pod's node affinity/selector"}
	return func(p *model.Pod, _ *model.Snapshot) Check {
		if added == nil && len(p.Selector) == 0 && p.NodeAffinity == nil {
			return Check{}
		}
		return Check{Reject: func(n *model.Node, reasons []Reason) []Reason {
			switch {
			case added != nil && !model.MatchesAny(added, n):
				return append(reasons, enforced)
			case !p.Wants(n):
				return append(reasons, own)
			}
			return reasons
		}}
	}
}

// namedByAffinity rejects the nodes that no alternative names, if every
// alternative names nodes. kube-scheduler does that before it looks at any node,
// in words of its own; a daemon set's pods are the usual case.
func namedByAffinity(p *model.Pod, _ *model.Snapshot) Check {
	names, limited := affinityNames(p.NodeAffinity)
	if !limited {
		return Check{}
	}
	reason := Reason{Text: "node(s) didn't satisfy plugin(s) [NodeAffinity]"}
	if len(names) == 0 {
		reason = Reason{Text: "pod affinity terms conflict", WholePod: true}
	}
	return Check{Reject: func(n *model.Node, reasons []Reason) []Reason {
		// The node set aside for the pod is looked at before any names are.
		if !names[n.Name] && (n.Name != p.NominatedNode || reason.WholePod) {
			return append(reasons, reason)
		}
		return reasons
	}}
}

// NamedNodes returns the names of the nodes that p's required affinity names. limited is
// false if it may go to others.
func NamedNodes(p *model.Pod) (names map[string]bool, limited bool) {
	return affinityNames(p.NodeAffinity)
}

// affinityNames returns the names of the nodes that terms name. limited is false
// if some alternative leaves the name open.
func affinityNames(terms []model.Term) (_ map[string]bool, limited bool) {
	names := map[string]bool{}
	for _, term := range terms {
		var in []string // the intersection of the term's IN requirements
		named := false
		for _, field := range term.Fields {
			if field.Operator != berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_IN {
				continue
			}
			if !named {
				in, named = slices.Clone(field.Values), true
				continue
			}
			in = slices.DeleteFunc(in, func(name string) bool { return !slices.Contains(field.Values, name) })
		}
		if !named {
			return nil, false
		}
		for _, name := range in {
			names[name] = true
		}
	}
	return names, len(terms) > 0
}
