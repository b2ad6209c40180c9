package driver

import (
	"slices"

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
		d.queue.WakeWhere(d.now, interestIn(c), func(e *queue.Entry) bool {
			return d.worthATry(d.pods[e.UID], c)
		})
	}
}

// worthATry says whether one of the pod's conditions describes the change. Whether
// enough is free is asked of the node as it is now: where it is not, another change
// must come first.
func (d *Driver) worthATry(p *pod, c cluster.Change) bool {
	return len(p.waitsFor) == 0 || slices.ContainsFunc(p.waitsFor, func(w *berthv1.WakeCondition) bool {
		if interestOf(w)&interestIn(c) == 0 {
			return false
		}
		if c.Node == "" {
			return true
		}
		return (len(w.GetNodeNames()) == 0 || slices.Contains(w.GetNodeNames(), c.Node)) &&
			(len(w.GetFree()) == 0 || d.ledger.Free(c.Node, w.GetFree()))
	})
}

// anything is an interest in every change.
const anything = ^queue.Interest(0)

// interestIn is the interest that a change meets: a bit of its own for each object and
// kind of change, and one for those without.
func interestIn(c cluster.Change) queue.Interest {
	if c.Object == berthv1.ObjectKind_OBJECT_KIND_UNSPECIFIED {
		return 1
	}
	return interest(c.Object, c.Kind)
}

func interest(object berthv1.ObjectKind, kind berthv1.ChangeKind) queue.Interest {
	const kinds = int(berthv1.ChangeKind_CHANGE_KIND_DELETED) // the last one
	return 1 << (int(object-1)*kinds + int(kind))
}

// interestOf is the interest of one condition. What only a newer decider may say is an
// interest in everything that it may mean.
func interestOf(w *berthv1.WakeCondition) queue.Interest {
	switch w.GetObject() {
	case berthv1.ObjectKind_OBJECT_KIND_NODE, berthv1.ObjectKind_OBJECT_KIND_PLACED_POD, berthv1.ObjectKind_OBJECT_KIND_NAMESPACE:
	default:
		return anything
	}
	var of, every queue.Interest
	for _, kind := range []berthv1.ChangeKind{
		berthv1.ChangeKind_CHANGE_KIND_ADDED, berthv1.ChangeKind_CHANGE_KIND_UPDATED, berthv1.ChangeKind_CHANGE_KIND_DELETED,
	} {
		bit := interest(w.GetObject(), kind)
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

// interests is the interest of conditions together; none is an interest in anything.
func interests(conditions []*berthv1.WakeCondition) queue.Interest {
	if len(conditions) == 0 {
		return anything
	}
	var all queue.Interest
	for _, w := range conditions {
		all |= interestOf(w)
	}
	return all
}
