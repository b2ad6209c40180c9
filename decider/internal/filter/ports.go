package filter

import (
	"slices"

	"github.com/berth-scheduler/berth/decider/internal/model"
)

// ports rejects nodes on which a port that the pod needs is taken.
func ports(p *model.Pod, _ *model.Snapshot) Check {
	if len(p.Ports) == 0 {
		return Check{}
	}
	reason := Reason{Text: "node(s) didn't have free ports for the requested pod ports", EvictionCouldHelp: true}
	return Check{Reject: func(n *model.Node, reasons []Reason) []Reason {
		if slices.ContainsFunc(p.Ports, func(want model.Port) bool { return slices.ContainsFunc(n.Ports, want.Conflicts) }) {
			return append(reasons, reason)
		}
		return reasons
	}}
}
