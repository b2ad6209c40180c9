package filter

import "github.com/berth-scheduler/berth/decider/internal/model"

// resources rejects nodes that have no place for one more pod or too little of
// something that the pod asks for. It gives every reason, not only the first.
//
// Room that is set aside for pods of the same or a higher priority counts as
// taken. kube-scheduler checks with and without them; since more pods never
// leave more room, with them is enough.
func resources(p *model.Pod, _ *model.Snapshot) Predicate {
	tooMany := Reason{Text: "Too many pods", EvictionCouldHelp: true}
	insufficient := make([]Reason, len(p.Requests))
	for i, a := range p.Requests {
		insufficient[i] = Reason{Text: "Insufficient " + a.Name, EvictionCouldHelp: true}
	}
	return func(n *model.Node, reasons []Reason) []Reason {
		var nominated model.Amounts
		if len(n.Nominated) > 0 {
			nominated = nominatedAmounts(p, n)
		}
		if n.Allocatable.Of(model.Pods)-n.Requested.Of(model.Pods)-nominated.Of(model.Pods) < 1 {
			reasons = append(reasons, tooMany)
		}
		tooSmall := false
		for i := range p.Requests {
			a := &p.Requests[i]
			allocatable := n.Allocatable.Of(a.Resource)
			if a.Value > free(allocatable, n.Requested.Of(a.Resource), nominated.Of(a.Resource)) {
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
	}
}

// free is allocatable less requested less nominated, none of them negative. What
// is overcommitted is as good as 0: nobody asks for less.
func free(allocatable, requested, nominated int64) int64 {
	return max(0, max(0, allocatable-requested)-nominated)
}

// nominatedAmounts is what is set aside on n for pods that go before p.
func nominatedAmounts(p *model.Pod, n *model.Node) model.Amounts {
	var total model.Amounts
	n.NominatedFor(p, func(m *model.Nominated) { total = total.Plus(m.Requests) })
	return total
}
