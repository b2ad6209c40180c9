package filter

import (
	"slices"

	"github.com/berth-scheduler/berth/decider/internal/model"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// affinity rejects nodes that the pod's nodeSelector or required node affinity
// does not match.
func affinity(p *model.Pod, _ *model.Snapshot) Check {
	if len(p.Selector) == 0 && p.NodeAffinity == nil {
		return Check{}
	}
	selector := model.Term{Labels: p.Selector}
	reason := Reason{Text: "node(s) didn't match Pod's node affinity/selector"}
	return Check{Reject: func(n *model.Node, reasons []Reason) []Reason {
		if !selector.Matches(n) || p.NodeAffinity != nil && !matchesAny(p.NodeAffinity, n) {
			return append(reasons, reason)
		}
		return reasons
	}}
}

func matchesAny(terms []model.Term, n *model.Node) bool {
	for i := range terms {
		if terms[i].Matches(n) {
			return true
		}
	}
	return false
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
		if !names[n.Name] {
			return append(reasons, reason)
		}
		return reasons
	}}
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
