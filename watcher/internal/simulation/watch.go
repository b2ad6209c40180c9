package simulation

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-scheduler/berth/watcher/internal/driver"
)

// informer shows one process the objects of one kind, in order, after a while. Kinds
// overtake each other. When a watch was away, what has happened meanwhile is made up from
// a list: only what is different is shown, and what is gone only in its last known form.
type informer struct {
	p    *process
	kind kind
	// known is what was shown, by name.
	known map[string]metav1.Object
	// queue is made up from a list and comes before history[next:].
	queue []revision
	next  int
	// away says that the watch is broken: a list comes.
	away    bool
	stalled time.Duration // nothing is shown before
	pending bool          // a delivery is on the agenda
	synced  bool          // the first list was shown
}

// wake puts the next delivery on the agenda.
func (i *informer) wake() {
	w := i.p.w
	if i.away || i.pending || len(i.queue) == 0 && i.next == len(w.server.history[i.kind]) {
		return
	}
	i.pending = true
	d := w.source.at(keyWatch, uint64(i.p.number), uint64(i.kind), uint64(i.next), uint64(len(i.queue)))
	delay := d.between(500*time.Microsecond, 12*time.Millisecond)
	if !w.calmed() && d.in(60) {
		delay = d.between(10*time.Millisecond, 400*time.Millisecond)
	}
	if w.inject(WatchStall, 8, uint64(i.p.number), uint64(i.kind), uint64(i.next)) {
		delay = d.between(time.Second, 6*time.Second)
	}
	w.agenda.add(&occasion{at: max(w.now+delay, i.stalled), of: i.p, do: func() {
		i.pending = false
		if i.away {
			return
		}
		for range 1 + d.below(3) {
			i.show()
		}
		i.p.shown()
		i.wake()
	}})
}

// gap breaks the watch for a while.
func (i *informer) gap(length time.Duration) {
	if i.away {
		return
	}
	i.away = true
	i.p.w.in(length, i.p, i.list)
}

// list makes up what has happened from what is there.
func (i *informer) list() {
	s := &i.p.w.server
	i.away, i.queue, i.next = false, nil, len(s.history[i.kind])
	var gone, there []revision
	for _, name := range slices.Sorted(maps.Keys(i.known)) {
		if o, _ := s.find(i.kind, name); o == nil {
			gone = append(gone, revision{s.revision, i.known[name], true})
		}
	}
	for _, o := range s.objects[i.kind] {
		if i.known[o.GetName()] != o {
			there = append(there, revision{s.revision, o, false})
		}
	}
	d := i.p.w.source.at(keyList, uint64(i.p.number), uint64(i.kind), uint64(i.next))
	if d.in(500) {
		i.queue = append(gone, there...)
	} else {
		i.queue = append(there, gone...)
	}
	i.p.w.say("%s lists %s: %d differ, %d are gone", i.p, i.kind, len(there), len(gone))
	if len(i.queue) == 0 {
		i.synced = true
		i.p.shown()
	}
	i.wake()
}

// reached says whether everything up to a revision was shown.
func (i *informer) reached(number uint64) bool {
	h := i.p.w.server.history[i.kind]
	return !i.away && i.synced && len(i.queue) == 0 && (i.next == len(h) || h[i.next].number > number)
}

// show shows the next change, if there is one.
func (i *informer) show() {
	w := i.p.w
	var r revision
	switch h := w.server.history[i.kind]; {
	case len(i.queue) > 0:
		r, i.queue = i.queue[0], i.queue[1:]
	case i.next < len(h):
		r = h[i.next]
		i.next++
	default:
		return
	}
	name := r.object.GetName()
	old := i.known[name]
	if r.gone {
		if old == nil || old.GetUID() != r.object.GetUID() {
			return // the list that came before has shown it
		}
		delete(i.known, name)
		i.p.step(i.goneEvent(r.object))
	} else {
		i.known[name] = r.object
		if old != nil && old.GetUID() != r.object.GetUID() {
			// The informer shows a deletion and a new object of the same name as one
			// change. Whoever reads it makes two of it, and the driver does without.
			hides := GapHidesPod
			if i.kind == nodeKind {
				hides = GapHidesNode
			}
			if i.kind == budgetKind || !w.inject(hides, 500, uint64(i.p.number), r.number) {
				i.p.step(i.goneEvent(old))
			}
		}
		i.p.step(i.changedEvent(r.object))
	}
	if len(i.queue) == 0 {
		i.synced = true
	}
}

func (i *informer) changedEvent(o metav1.Object) driver.Event {
	switch o := o.(type) {
	case *corev1.Pod:
		return driver.PodChanged{Pod: o}
	case *corev1.Node:
		return driver.NodeChanged{Node: o}
	}
	return driver.BudgetChanged{Budget: o.(*policyv1.PodDisruptionBudget)}
}

func (i *informer) goneEvent(o metav1.Object) driver.Event {
	switch o := o.(type) {
	case *corev1.Pod:
		return driver.PodGone{Pod: o}
	case *corev1.Node:
		return driver.NodeGone{Node: o}
	}
	return driver.BudgetGone{Budget: o.(*policyv1.PodDisruptionBudget)}
}
