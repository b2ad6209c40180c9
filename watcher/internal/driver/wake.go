package driver

import (
	"crypto/sha256"
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
		for _, o := range d.outstanding {
			o.since[c] = true
		}
		d.queue.WakeWhere(d.now, sortOf(c), c.Node, func(e *queue.Entry) int { return d.worth(d.pods[e.UID], c) })
	}
}

// worth is for how many pods like p, at most, one of its conditions describes the change.
// Whether enough is free is asked of the node as it is now: where it is not, another
// change must come first.
//
// Where a pod leaves that others wait for, as many are tried as there is room for: if they
// take it the others wait for the same as before. After any other change, of a node for
// example, the others might have to wait for something else, which only the next decision
// about them tells.
func (d *Driver) worth(p *pod, c cluster.Change) int {
	if len(p.waitsFor) == 0 {
		return queue.All
	}
	most := 0
	for _, w := range p.waitsFor {
		if sortsOf(w)&sortOf(c) == 0 {
			continue
		}
		if c.Node == "" {
			return queue.All
		}
		if len(w.GetNodeNames()) > 0 && !slices.Contains(w.GetNodeNames(), c.Node) {
			continue
		}
		if len(w.GetFree()) == 0 {
			return queue.All
		}
		n := d.ledger.Free(c.Node, w.GetFree())
		if n > 0 && c.Object != berthv1.ObjectKind_OBJECT_KIND_PLACED_POD {
			return queue.All
		}
		most = max(most, n)
	}
	return most
}

// classOf names the pod's equals: who differs in nothing but uid, name and the node that
// it is nominated for, and asks the same decider.
func (d *Driver) classOf(p *pod) string {
	if p.classed != p.record {
		r := proto.CloneOf(p.record)
		r.Uid, r.Name, r.NominatedNodeName = "", "", ""
		text, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
		if err != nil {
			panic(fmt.Sprintf("driver: a pod's record makes no message: %v", err))
		}
		sum := sha256.Sum256(text)
		p.class, p.classed = string(sum[:16]), p.record
	}
	return p.class + fmt.Sprint(d.queue.Get(p.object.UID).Group.Fallback)
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
