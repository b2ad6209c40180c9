// Package timeline is when the pods of one run were created, bound or rejected,
// and told of by an Event: as the API server's watches showed it.
package timeline

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"

	"github.com/berth-scheduler/berth/deploy/bench/internal/workload"
)

// A Timeline follows the pods of one run. Safe for concurrent use.
//
// Times are the caller's and should carry monotonic clock readings.
type Timeline struct {
	events bool // an Event is awaited for every pod

	mu      sync.Mutex // guards all below
	pods    map[string]*pod
	undone  int // pods that are neither bound nor rejected, as they should be
	untold  int // pods without their Event; those of a run without Events are told of when done
	started time.Time
	ready   time.Time
	changed time.Time // when a pod last came to be done or told of
	settled chan struct{}
}

// pod is what is known of one pod. Times are zero until it happens.
type pod struct {
	fits bool
	sent time.Time // its create request
	seen time.Time // that it exists
	done time.Time // that it has a node or, if it fits nowhere, the condition that says so
	told time.Time // the Event that says so
	node string
}

// New returns the timeline of pods that are not created yet. events says
// whether each of them gets an Event.
func New(pods []workload.Pod, events bool) *Timeline {
	t := &Timeline{events: events, pods: map[string]*pod{}, undone: len(pods), untold: len(pods), settled: make(chan struct{})}
	for _, p := range pods {
		t.pods[p.Object.Name] = &pod{fits: p.Fits()}
	}
	if !events {
		t.untold = 0
	}
	if t.undone+t.untold == 0 {
		close(t.settled)
	}
	return t
}

// Sent says that a pod's create request is about to be sent.
func (t *Timeline) Sent(name string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.pods[name]; p != nil {
		p.sent = at
	}
}

// Started says that the scheduler's processes are about to be started.
func (t *Timeline) Started(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.started = at
}

// Ready says that the scheduler was able to work.
func (t *Timeline) Ready(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ready, t.changed = at, at
}

// Pod says that a watch showed object. Pods that are not of the run are ignored.
func (t *Timeline) Pod(object *corev1.Pod, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.pods[object.Name]
	if p == nil {
		return
	}
	if p.seen.IsZero() {
		p.seen = at
	}
	if object.Spec.NodeName != "" {
		p.node = object.Spec.NodeName
	}
	if p.done.IsZero() && (p.fits && p.node != "" || !p.fits && rejected(object)) {
		p.done, t.changed = at, at
		t.undone--
		t.settle()
	}
}

// rejected says whether p's condition says that no node can take it.
func rejected(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable
	})
}

// Event says that a watch showed e. Events about other things are ignored.
func (t *Timeline) Event(e *eventsv1.Event, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.pods[e.Regarding.Name]
	if !t.events || p == nil || !p.told.IsZero() {
		return
	}
	if p.fits && e.Reason == "Scheduled" || !p.fits && e.Reason == "FailedScheduling" {
		p.told, t.changed = at, at
		t.untold--
		t.settle()
	}
}

// settle is called with mu held, after one of the counts has gone down.
func (t *Timeline) settle() {
	if t.undone+t.untold == 0 {
		close(t.settled)
	}
}

// Settled is closed once every pod is bound, or rejected where it fits nowhere,
// and every Event is there.
func (t *Timeline) Settled() <-chan struct{} { return t.settled }

// Progress returns how many pods and Events are awaited, and when one last came
// (when the scheduler became ready, if none did).
func (t *Timeline) Progress() (undone, untold int, last time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.undone, t.untold, t.changed
}

// Problems says in a sentence each why the run does not count; nothing if
// every pod became what it should.
func (t *Timeline) Problems() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var unbound, unrejected, untold, wrong []string
	for name, p := range t.pods {
		switch {
		case !p.fits && p.node != "":
			wrong = append(wrong, name)
		case p.done.IsZero() && p.fits:
			unbound = append(unbound, name)
		case p.done.IsZero():
			unrejected = append(unrejected, name)
		case t.events && p.told.IsZero():
			untold = append(untold, name)
		}
	}
	var problems []string
	for _, kind := range []struct {
		names []string
		what  string
	}{
		{unbound, "not bound"},
		{unrejected, "without the condition PodScheduled=False"},
		{wrong, "bound though no node has room for it"},
		{untold, "without an Event"},
	} {
		if len(kind.names) > 0 {
			slices.Sort(kind.names)
			problems = append(problems, fmt.Sprintf("%d pods %s: %s", len(kind.names), kind.what, some(kind.names)))
		}
	}
	return problems
}

// some is the first few of names.
func some(names []string) string {
	const most = 3
	if len(names) > most {
		return strings.Join(names[:most], ", ") + ", ..."
	}
	return strings.Join(names, ", ")
}

// Figures is a timeline in numbers. Durations are zero where there is nothing
// to measure.
type Figures struct {
	// Bound and Rejected count the pods that became what they should.
	Bound, Rejected int
	// ReadyToLast is from the scheduler's readiness to the last bind or
	// rejection, FirstToLast from the first of them, ReadyToTold and
	// FirstToTold to the last Event. A first bind before the readiness was seen
	// counts as the readiness.
	ReadyToLast, FirstToLast, ReadyToTold, FirstToTold time.Duration
	// Middle is from when a tenth of the pods was bound or rejected until nine tenths
	// were: without what is special about a beginning and an end.
	Middle time.Duration
	// From when the scheduler's processes were started to its readiness and to
	// the first and the last bind or rejection. Zero if there are no processes.
	StartToReady, StartToFirst, StartToLast time.Duration
	// Bind is from a pod's create request, or the scheduler's readiness if that
	// was later, until it was seen to have a node; Watch from when the pod was
	// seen to exist; Reject from the create request or readiness until its
	// condition was seen.
	Bind, Watch, Reject Quantiles
}

// Quantiles are of a set of durations: with q of them not longer. Zero for an
// empty set.
type Quantiles struct{ P50, P99 time.Duration }

// Figures returns the numbers of a timeline to which nothing more happens.
func (t *Timeline) Figures() Figures {
	t.mu.Lock()
	defer t.mu.Unlock()
	var f Figures
	var first, last, told time.Time
	for _, p := range t.pods {
		if !p.done.IsZero() && (first.IsZero() || p.done.Before(first)) {
			first = p.done
		}
		last, told = later(last, p.done), later(told, p.told)
	}
	ready := t.ready
	if !first.IsZero() && first.Before(ready) {
		ready = first
	}
	var done []time.Time
	var bind, watch, reject []time.Duration
	for _, p := range t.pods {
		if p.done.IsZero() {
			continue
		}
		done = append(done, p.done)
		since := p.done.Sub(later(p.sent, ready))
		if !p.fits {
			f.Rejected++
			reject = append(reject, since)
			continue
		}
		f.Bound++
		bind = append(bind, since)
		watch = append(watch, p.done.Sub(later(p.seen, ready)))
	}
	if !last.IsZero() {
		f.ReadyToLast, f.FirstToLast = last.Sub(ready), last.Sub(first)
	}
	if slices.SortFunc(done, time.Time.Compare); len(done) >= 10 {
		f.Middle = done[len(done)*9/10-1].Sub(done[len(done)/10-1])
	}
	if !t.started.IsZero() && !last.IsZero() {
		f.StartToReady, f.StartToFirst, f.StartToLast = ready.Sub(t.started), first.Sub(t.started), last.Sub(t.started)
	}
	if !told.IsZero() {
		f.ReadyToTold, f.FirstToTold = told.Sub(ready), told.Sub(first)
	}
	f.Bind, f.Watch, f.Reject = NewQuantiles(bind), NewQuantiles(watch), NewQuantiles(reject)
	return f
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// NewQuantiles returns those of durations, which it sorts.
func NewQuantiles(durations []time.Duration) Quantiles {
	slices.SortFunc(durations, cmp.Compare)
	return Quantiles{quantile(durations, 0.50), quantile(durations, 0.99)}
}

// quantile is the shortest of sorted that at least q of them do not exceed (the
// nearest-rank method).
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}
