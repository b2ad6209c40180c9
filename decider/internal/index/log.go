package index

import (
	"maps"
	"reflect"
	"slices"

	"github.com/berth-scheduler/berth/decider/internal/model"
)

// change is one of a snapshot's: a pod that was added to a node (by is 1) or removed
// from it (by is -1), or, without a pod, a node that came or is gone. Without a node it
// is none.
type change struct {
	pod  *model.PlacedPod
	node *model.Node
	slot int32 // the node's, at hand
	by   int32
}

// now is the number of the next change.
func (x *Index) now() uint64 { return x.logStart + uint64(len(x.log)) }

// record appends to the log, unless there is no class to read it.
func (x *Index) record(c change) {
	if len(x.classes) == 0 {
		x.logStart += uint64(len(x.log)) + 1
		x.log = x.log[:0]
		x.readAll()
		return
	}
	// Whoever is further behind than this looks at every node anyway.
	if limit := max(8192, 2*len(x.snapshot.Nodes)); len(x.log) >= 2*limit {
		dropped := len(x.log) - limit
		x.logStart += uint64(dropped)
		copy(x.log, x.log[dropped:])
		clear(x.log[limit:])
		x.log = x.log[:limit]
		x.readAll() // what is removed may not be there any more
	}
	x.log = append(x.log, c)
}

// NodeCame implements model.Observer.
func (x *Index) NodeCame(n *model.Node) {
	for len(x.at) <= n.Slot {
		x.at, x.names, x.marks = append(x.at, nil), append(x.names, ""), append(x.marks, 0)
	}
	x.at[n.Slot] = n
	if x.leaving[n.Slot] && x.names[n.Slot] == n.Name {
		delete(x.leaving, n.Slot)
	} else {
		x.names[n.Slot] = n.Name
		x.order++
	}
	x.looks.came(n)
	x.shapes.came(n)
	for _, d := range x.domains {
		d.came(n)
	}
	x.record(change{node: n, slot: int32(n.Slot), by: 1})
}

// NodeGone implements model.Observer.
func (x *Index) NodeGone(n *model.Node) {
	x.at[n.Slot] = nil
	x.leaving[n.Slot] = true
	for _, d := range x.domains {
		d.gone(n)
	}
	x.record(change{node: n, slot: int32(n.Slot), by: -1})
}

// PodMoved implements model.Observer.
//
// A request's placements are taken back at its end, and most of them come again with
// the next version of the state: then neither is a change, if nobody has read of the
// first.
func (x *Index) PodMoved(q *model.PlacedPod, n *model.Node, by int64) {
	x.shapes.pods[n.Slot] += int32(by)
	x.priorities.move(q.Priority, int(by))
	if by > 0 {
		if q.Affinity.Any() {
			x.learn(&q.Affinity)
		}
		if at, ok := x.removed[q.UID]; ok {
			delete(x.removed, q.UID)
			if before := &x.log[at-x.logStart]; before.node == n && alike(before.pod, q) {
				*before = change{}
				return
			}
		}
	}
	x.record(change{q, n, int32(n.Slot), int32(by)})
	if by < 0 && len(x.classes) > 0 {
		x.removed[q.UID] = x.now() - 1
	}
}

// alike says whether it makes no difference to any class which of two pods is on a node.
func alike(p, q *model.PlacedPod) bool {
	return p == q || p.Namespace == q.Namespace && p.Terminating == q.Terminating && p.ScoreRequests == q.ScoreRequests &&
		slices.Equal(p.Requests, q.Requests) && slices.Equal(p.Ports, q.Ports) && maps.Equal(p.Labels, q.Labels) &&
		p.Affinity.Any() == q.Affinity.Any() && (!p.Affinity.Any() || reflect.DeepEqual(&p.Affinity, &q.Affinity))
}

// readAll notes that somebody has read all of the log.
func (x *Index) readAll() {
	if len(x.removed) > 0 {
		clear(x.removed)
	}
}

// settle makes up for nodes that are gone and did not come back with another record:
// the others have another place.
func (x *Index) settle() {
	if len(x.leaving) > 0 {
		clear(x.leaving)
		x.order++
	}
}

// slots are the slots of the nodes in name order.
func (x *Index) slots() []int32 {
	if x.slotsOrder != x.order || len(x.slotsOf) != len(x.snapshot.Nodes) {
		x.slotsOf = x.slotsOf[:0]
		for _, n := range x.snapshot.Nodes {
			x.slotsOf = append(x.slotsOf, int32(n.Slot))
		}
		x.slotsOrder = x.order
	}
	return x.slotsOf
}

// learn notes which labels the terms of pods read that are placed or are to be.
func (x *Index) learn(a *model.PodAffinity) {
	note := func(key string) {
		if !x.read[key] {
			x.read[key] = true
			x.readVersion++
			for _, c := range x.classes { // no pod has their keys any more
				x.evict(c)
			}
		}
	}
	for _, terms := range [][]model.PodTerm{a.Required, a.AntiRequired} {
		for i := range terms {
			terms[i].Selector.Keys(note)
		}
	}
	for _, terms := range [][]model.WeightedPodTerm{a.Preferred, a.AntiPreferred} {
		for i := range terms {
			terms[i].Selector.Keys(note)
		}
	}
}
