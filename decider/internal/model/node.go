package model

import (
	"fmt"
	"maps"
	"math"
	"slices"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Node is what a node offers and what it holds.
//
// What every rule reads of every node for every pod comes first: the plain scan
// lives on it being close together.
type Node struct {
	// Index is the node's place in name order.
	Index int
	// Slot is a number that the node keeps as long as it is in the snapshot, whatever
	// its place becomes; less than Snapshot.Slots.
	Slot int
	// Unschedulable is set if the node is cordoned.
	Unschedulable bool
	// Understood is set if there is neither a Problem nor anything Unknown. No
	// pod may be placed on another node.
	Understood bool
	// Taints are those that keep pods off: NoSchedule and NoExecute, in order.
	Taints []Taint
	// Nominated are the pods for which room is set aside here, by uid. They are
	// in none of the sums.
	Nominated []*PlacedPod
	// Allocatable is what the node offers; none is negative.
	Allocatable Amounts
	// Requested is what the pods on it take; none is negative. Pods is how
	// many they are.
	Requested Amounts
	// ScoreRequested is what the pods on it take as scores count it.
	ScoreRequested ScoreAmounts

	// Name is unique in the snapshot.
	Name string
	// Labels are metadata.labels.
	Labels map[string]string
	// Pods are those that hold room here, in no particular order. Affine are those
	// of them that have affinity or anti-affinity to pods, in no particular order.
	Pods, Affine []*PlacedPod
	// Ports are those that the pods on it hold, in no particular order.
	Ports []Port
	// Discouraging are the taints that new pods avoid where they can:
	// PreferNoSchedule, in order.
	Discouraging []Taint
	// Record is what was sent. It is not changed.
	Record *berthv1.Node
	// Unknown is the first constraint of the node or of a pod on it that this decider
	// does not understand, or empty.
	Unknown string
	// UnknownOfPod is set if pods on the node have such constraints and the node
	// itself has none.
	UnknownOfPod bool
	// Problem says what could not be understood of the node or of a pod on it,
	// or is empty.
	Problem string
	// ProblemOfPod is set if the Problem is one of a pod on the node.
	ProblemOfPod bool

	// odd are the pods of the node because of which it cannot be used, in no particular
	// order.
	odd []*PlacedPod
	// snapshot is the one that the node is in, or nil.
	snapshot *Snapshot
}

// Taint keeps pods off a node unless they tolerate it.
type Taint struct {
	Key    string
	Value  string
	Effect berthv1.TaintEffect
}

// Respects says whether p must respect the nomination of m: that of another pod
// whose priority is at least its own.
func (p *Pod) Respects(m *PlacedPod) bool { return m.Priority >= p.Priority && m.UID != p.UID }

// Free returns how much of r is neither requested nor nominated; it is negative
// on a node that is overcommitted. For pods that may take nominated room it is
// a lower bound.
func (n *Node) Free(r Resource) int64 {
	taken := n.Requested.Of(r)
	for _, m := range n.Nominated {
		if r == Pods {
			taken = sum(taken, 1)
		}
		for _, a := range m.Requests {
			if a.Resource == r {
				taken = sum(taken, a.Value)
			}
		}
	}
	return n.Allocatable.Of(r) - taken
}

// decode fills n from its record. The error's path is relative to the node.
func (n *Node) decode(record *berthv1.Node, r *resources) *FieldError {
	n.Labels = record.GetLabels()
	n.Unschedulable = record.GetUnschedulable()
	if err := checkConstraints(record.GetConstraints()); err != nil {
		return err
	}
	for i, taint := range record.GetTaints() {
		switch taint.GetEffect() {
		case berthv1.TaintEffect_TAINT_EFFECT_NO_SCHEDULE, berthv1.TaintEffect_TAINT_EFFECT_NO_EXECUTE:
			n.Taints = append(n.Taints, Taint{Key: taint.GetKey(), Value: taint.GetValue(), Effect: taint.GetEffect()})
		case berthv1.TaintEffect_TAINT_EFFECT_PREFER_NO_SCHEDULE:
			n.Discouraging = append(n.Discouraging, Taint{Key: taint.GetKey(), Value: taint.GetValue(), Effect: taint.GetEffect()})
		default:
			return fieldError(fmt.Sprintf("taints[%d].effect", i), "%v is not a taint effect", taint.GetEffect())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(record.GetAllocatable())) {
		value := record.GetAllocatable()[name]
		if value < 0 {
			return fieldError("allocatable["+name+"]", "%d is negative", value)
		}
		n.Allocatable.set(r.number(name), value)
	}
	return nil
}

// judge says whether the node can be used, by its record, which was decoded, and its
// odd pods. The problem that is shown is that of the first uid.
func (n *Node) judge() {
	own := firstUnknown(n.Record.GetConstraints(), n.snapshot.understood)
	n.Unknown = own
	first := ""
	for _, q := range n.odd {
		if u := q.oddity.unknown; u != "" && (n.Unknown == "" || u < n.Unknown) {
			n.Unknown = u
		}
		if problem := q.oddity.problem; problem != "" && (n.Problem == "" || n.ProblemOfPod && q.UID < first) {
			n.Problem, n.ProblemOfPod, first = problem, true, q.UID
		}
	}
	n.UnknownOfPod = own == "" && n.Unknown != ""
	n.Understood = n.Problem == "" && n.Unknown == ""
}

// Add puts q on the node.
func (n *Node) Add(q *PlacedPod) {
	n.Pods = append(n.Pods, q)
	n.count(q)
	n.moved(q, 1)
}

// moved tells the snapshot's observer of a pod that was added or removed.
func (n *Node) moved(q *PlacedPod, by int64) {
	if n.snapshot != nil && n.snapshot.observer != nil {
		n.snapshot.observer.PodMoved(q, n, by)
	}
}

// Remove takes q, which is on the node, off it.
func (n *Node) Remove(q *PlacedPod) {
	last := len(n.Pods) - 1
	if n.Pods[last] != q { // not what was added last, for a moment
		n.Pods[slices.Index(n.Pods, q)] = n.Pods[last]
	}
	n.Pods[last] = nil
	n.Pods = n.Pods[:last]
	n.uncount(q)
	n.moved(q, -1)
}

// RemoveFunc takes the pods that leave off the node and returns them.
func (n *Node) RemoveFunc(leaves func(*PlacedPod) bool) (removed []*PlacedPod) {
	kept := n.Pods[:0]
	for _, q := range n.Pods {
		if leaves(q) {
			removed = append(removed, q)
		} else {
			kept = append(kept, q)
		}
	}
	if len(removed) > 0 {
		clear(n.Pods[len(kept):])
		n.Pods = kept
		n.uncount(removed...)
		for _, q := range removed {
			n.moved(q, -1)
		}
	}
	return removed
}

// uncount takes pods, which are not on the node any more, off its sums.
func (n *Node) uncount(pods ...*PlacedPod) {
	for _, q := range pods {
		ok := n.Requested.remove(q.Requests)
		for r, value := range q.ScoreRequests {
			ok = ok && n.ScoreRequested[r] < math.MaxInt64
			n.ScoreRequested[r] -= value
		}
		if !ok {
			n.recount()
			return
		}
	}
	for _, q := range pods {
		for _, port := range q.Ports {
			last := len(n.Ports) - 1
			n.Ports[slices.Index(n.Ports, port)] = n.Ports[last]
			n.Ports = n.Ports[:last]
		}
		if q.Affinity.Any() {
			n.Affine = without(n.Affine, q)
			if n.snapshot != nil {
				n.snapshot.Affine--
			}
		}
	}
}

// recount does the node's sums anew: from those that stopped at the largest int64
// nothing can be subtracted.
func (n *Node) recount() {
	n.Requested.clear()
	clear(n.ScoreRequested[:])
	if n.snapshot != nil {
		n.snapshot.Affine -= len(n.Affine)
	}
	n.Ports, n.Affine = n.Ports[:0], n.Affine[:0]
	for _, other := range n.Pods {
		n.count(other)
	}
}

// count adds what q takes to the node's sums.
func (n *Node) count(q *PlacedPod) {
	n.Requested.add(q.Requests)
	for r, value := range q.ScoreRequests {
		n.ScoreRequested[r] = sum(n.ScoreRequested[r], value)
	}
	n.Ports = append(n.Ports, q.Ports...)
	if q.Affinity.Any() {
		n.Affine = append(n.Affine, q)
		if n.snapshot != nil {
			n.snapshot.Affine++
		}
	}
}
