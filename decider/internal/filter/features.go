package filter

import (
	"slices"

	"github.com/berth-scheduler/berth/decider/internal/model"
)

// declaredFeatures rejects nodes that do not declare a feature that the pod needs.
func declaredFeatures(p *model.Pod, _ *model.Snapshot) Check {
	required := p.Record.GetRequiredFeatures()
	if len(required) == 0 {
		return Check{}
	}
	reason := Reason{Text: "node(s) didn't match Pod's required features"}
	return Check{Reject: func(n *model.Node, reasons []Reason) []Reason {
		declared := n.Record.GetDeclaredFeatures()
		if slices.ContainsFunc(required, func(feature string) bool { return !slices.Contains(declared, feature) }) {
			return append(reasons, reason)
		}
		return reasons
	}}
}
