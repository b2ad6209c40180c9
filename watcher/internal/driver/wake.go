package driver

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/watcher/internal/cluster"
	"github.com/berth-scheduler/berth/watcher/internal/queue"
)

// whateverMakesRoom is what pods wait for whose decision says nothing of it: a node
// that comes or changes, a pod that leaves, a label that selects no more.
var whateverMakesRoom = []*berthv1.WakeCondition{
	{Object: berthv1.ObjectKind_OBJECT_KIND_NODE, Changes: []berthv1.ChangeKind{
		berthv1.ChangeKind_CHANGE_KIND_ADDED, berthv1.ChangeKind_CHANGE_KIND_UPDATED}},
	{Object: berthv1.ObjectKind_OBJECT_KIND_PLACED_POD, Changes: []berthv1.ChangeKind{
		berthv1.ChangeKind_CHANGE_KIND_UPDATED, berthv1.ChangeKind_CHANGE_KIND_DELETED}},
	{Object: berthv1.ObjectKind_OBJECT_KIND_NAMESPACE},
}

// notice wakes the pods that wait for what has changed in the ledger, and remembers
// it for those that are being decided about.
func (d *Driver) notice() {
	for _, c := range d.ledger.TakeChanges() {
		if d.batch != nil {
			d.since[c] = true
		}
		d.queue.WakeWhere(d.now, sortOf(c), func(e *queue.Entry) bool {
			return d.worthATry(d.pods[e.UID], c)
		})
	}
}

// worthATry says whether one of the pod's conditions describes the change. Whether
// enough is free is asked of the node as it is now: where it is not, another change
// must come first.
func (d *Driver) worthATry(p *pod, c cluster.Change) bool {
	return len(p.waitsFor) == 0 || slices.ContainsFunc(p.waitsFor, func(w *berthv1.WakeCondition) bool {
		if sortsOf(w)&sortOf(c) == 0 {
			return false
		}
		if c.Node == "" {
			return true
		}
		return (len(w.GetNodeNames()) == 0 || slices.Contains(w.GetNodeNames(), c.Node)) &&
			(len(w.GetFree()) == 0 || d.ledger.Free(c.Node, w.GetFree()))
	})
}

// anySort is every sort of change, otherSort those of objects that no condition can
// name.
const (
	anySort   uint16 = 1<<16 - 1
	otherSort uint16 = 1
)

// sortOf is the sort of a change: a bit of its own for each object and kind of change.
func sortOf(c cluster.Change) uint16 {
	if c.Object == berthv1.ObjectKind_OBJECT_KIND_UNSPECIFIED {
		return otherSort
	}
	return sort(c.Object, c.Kind)
}

func sort(object berthv1.ObjectKind, kind berthv1.ChangeKind) uint16 {
	const kinds = int(berthv1.ChangeKind_CHANGE_KIND_DELETED) // the last one
	return otherSort << (int(object-1)*kinds + int(kind))
}

// sortsOf are the sorts of change that a condition describes. What only a newer decider
// may say is everything that it may mean.
func sortsOf(w *berthv1.WakeCondition) uint16 {
	switch w.GetObject() {
	case berthv1.ObjectKind_OBJECT_KIND_NODE, berthv1.ObjectKind_OBJECT_KIND_PLACED_POD, berthv1.ObjectKind_OBJECT_KIND_NAMESPACE:
	default:
		return anySort
	}
	var of, every uint16
	for _, kind := range []berthv1.ChangeKind{
		berthv1.ChangeKind_CHANGE_KIND_ADDED, berthv1.ChangeKind_CHANGE_KIND_UPDATED, berthv1.ChangeKind_CHANGE_KIND_DELETED,
	} {
		bit := sort(w.GetObject(), kind)
		every |= bit
		if slices.Contains(w.GetChanges(), kind) {
			of |= bit
		}
	}
	if of == 0 {
		return every
	}
	return of
}

// interestOf is what pods with these conditions wait for; without any it is any change.
// Replicas mostly have the same.
func interestOf(conditions []*berthv1.WakeCondition) queue.Interest {
	if len(conditions) == 0 {
		return queue.Interest{Sorts: anySort}
	}
	i := queue.Interest{}
	for _, w := range conditions {
		i.Sorts |= sortsOf(w)
	}
	key, err := proto.MarshalOptions{Deterministic: true}.Marshal(&berthv1.Rejection{WakeConditions: conditions})
	if err != nil {
		panic(fmt.Sprintf("driver: wake conditions that came in a message make none: %v", err))
	}
	i.Key = string(key)
	return i
}
