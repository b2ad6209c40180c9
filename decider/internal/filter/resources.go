package filter

import "github.com/berth-scheduler/berth/decider/internal/model"

// resources rejects nodes that have no place for one more pod or too little of
// something that the pod asks for. It gives every reason, not only the first.
func resources(p *model.Pod, _ *model.Snapshot) Check {
	tooMany := Reason{Text: "Too many pods", EvictionCouldHelp: true}
	insufficient := make([]Reason, len(p.Requests))
	for i, a := range p.Requests {
		insufficient[i] = Reason{Text: "Insufficient " + a.Name, EvictionCouldHelp: true}
	}
	return Check{Reject: func(n *model.Node, reasons []Reason) []Reason {
		if n.Allocatable.Of(model.Pods)-n.Requested.Of(model.Pods) < 1 {
			reasons = append(reasons, tooMany)
		}
		tooSmall := false
		for i := range p.Requests {
			a := &p.Requests[i]
			allocatable := n.Allocatable.Of(a.Resource)
			if a.Value > allocatable-n.Requested.Of(a.Resource) {
				reasons = append(reasons, insufficient[i])
				tooSmall = tooSmall || a.Value > allocatable
			}
		}
		// An empty node would not do either: no eviction helps, whatever else
		// is short.
		if tooSmall {
			for i := range reasons {
				reasons[i].EvictionCouldHelp = false
			}
		}
		return reasons
	}}
}
