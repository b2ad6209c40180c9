package filter

import (
	"slices"

	"github.com/berth-scheduler/berth/decider/internal/model"
)

// ports rejects nodes on which a port that the pod needs is taken, or set aside
// for a pod that goes first.
func ports(p *model.Pod, _ *model.Snapshot) Predicate {
	if len(p.Ports) == 0 {
		return nil
	}
	conflict := func(held []model.Port) bool {
		return slices.ContainsFunc(p.Ports, func(want model.Port) bool { return slices.ContainsFunc(held, want.Conflicts) })
	}
	reason := Reason{Text: "node(s) didn't have free ports for the requested pod ports", EvictionCouldHelp: true}
	return func(n *model.Node, reasons []Reason) []Reason {
		taken := conflict(n.Ports)
		n.NominatedFor(p, func(m *model.Nominated) { taken = taken || conflict(m.Ports) })
		if taken {
			return append(reasons, reason)
		}
		return reasons
	}
}
