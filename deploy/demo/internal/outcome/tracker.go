// Package outcome is what became of a workload's pods: counted while it is being
// scheduled, compared with what was expected, and summed up at the end.
package outcome

import (
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/berth-scheduler/berth/deploy/demo/internal/workload"
)

// A Tracker follows the pods of one workload. Safe for concurrent use.
//
// Times are the caller's: when a create request was sent, and when a watch
// showed a change. They should carry monotonic clock readings.
type Tracker struct {
	mu      sync.Mutex // guards all below
	pods    []*pod     // in the workload's order
	byName  map[string]*pod
	counts  Counts
	version uint64 // counts changes of any pod
}

// pod is what is known of one pod.
type pod struct {
	workload.Pod
	sent  time.Time // when its create request was sent; zero if it was not
	bound time.Time // when it was first seen with a node; zero if it was not
	last  *corev1.Pod
	gone  bool
}

// NewTracker returns a tracker of pods, of which none is created yet.
func NewTracker(pods []workload.Pod) *Tracker {
	t := &Tracker{byName: map[string]*pod{}}
	for _, p := range pods {
		state := &pod{Pod: p}
		t.pods = append(t.pods, state)
		t.byName[p.Object.Name] = state
	}
	t.counts.Total = len(pods)
	return t
}

// Sent says that a pod's create request is about to be sent.
func (t *Tracker) Sent(name string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byName[name].sent = at
}

// Seen says that a watch showed p at the given time. Pods that are not of the
// workload are ignored.
func (t *Tracker) Seen(p *corev1.Pod, at time.Time) {
	t.change(p.Name, func(s *pod) {
		s.last, s.gone = p, false
		if p.Spec.NodeName != "" && s.bound.IsZero() {
			s.bound = at
		}
	})
}

// Gone says that a watch showed the end of a pod.
func (t *Tracker) Gone(name string) {
	t.change(name, func(s *pod) { s.gone = true })
}

// change applies f to a pod and keeps the counts right.
func (t *Tracker) change(name string, f func(*pod)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.byName[name]
	if s == nil {
		return
	}
	t.counts.add(s, -1)
	f(s)
	t.counts.add(s, 1)
	t.version++
}

// Counts says how many pods are how far. Created, Bound, Running and Refused
// count what exists now.
type Counts struct {
	Total   int
	Created int
	Bound   int // have a node
	Running int // have a node and run there, or ran to their end
	Refused int // have no node, and a condition that says why
	// Done are as they should be in the end: bound and Running, or refused, as
	// expected.
	Done int
}

func (c *Counts) add(s *pod, n int) {
	if s.last == nil || s.gone {
		return
	}
	c.Created += n
	if s.last.Spec.NodeName != "" {
		c.Bound += n
	} else if condition(s.last) != nil {
		c.Refused += n
	}
	if s.running() {
		c.Running += n
	}
	if s.done() {
		c.Done += n
	}
}

func (s *pod) running() bool {
	phase := s.last.Status.Phase
	return s.last.Spec.NodeName != "" && (phase == corev1.PodRunning || phase == corev1.PodSucceeded)
}

// refused says whether the scheduler says, in the expected words, that the pod
// fits nowhere.
func (s *pod) refused() bool {
	c := condition(s.last)
	return s.last.Spec.NodeName == "" && c != nil &&
		c.Reason == corev1.PodReasonUnschedulable && strings.Contains(c.Message, s.Want.Message)
}

func (s *pod) done() bool {
	switch {
	case s.last == nil || s.gone:
		return false
	case s.Want.Fit == workload.Fits:
		return s.running()
	case s.Want.Fit == workload.CannotFit:
		return s.refused()
	}
	return s.running() || s.refused()
}

// condition is p's PodScheduled condition if it is False, else nil.
func condition(p *corev1.Pod) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return c
		}
	}
	return nil
}

// Counts returns the counts and a version that changes whenever a pod does.
func (t *Tracker) Counts() (Counts, uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts, t.version
}

// A Missing is a pod that is not as it should be in the end.
type Missing struct {
	Pod, State, Expected, Condition string
}

// Missing returns the pods that are not done, in the workload's order.
func (t *Tracker) Missing() []Missing {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Missing
	for _, s := range t.pods {
		if !s.done() {
			out = append(out, Missing{s.Object.Name, s.state(), s.expected(), s.said()})
		}
	}
	return out
}

func (s *pod) state() string {
	switch {
	case s.sent.IsZero():
		return "not created"
	case s.last == nil:
		return "created, not seen"
	case s.gone:
		return "deleted"
	case s.last.Spec.NodeName == "":
		return "pending"
	}
	return fmt.Sprintf("on %s, %s", s.last.Spec.NodeName, s.last.Status.Phase)
}

func (s *pod) expected() string {
	refused := corev1.PodReasonUnschedulable
	if s.Want.Message != "" {
		refused += ": " + s.Want.Message
	}
	switch s.Want.Fit {
	case workload.Fits:
		return "Running"
	case workload.CannotFit:
		return refused
	}
	return "Running or " + refused
}

// said is what the PodScheduled condition says.
func (s *pod) said() string {
	if s.last == nil {
		return "-"
	}
	c := condition(s.last)
	if c == nil {
		return "none"
	}
	return c.Reason + ": " + c.Message
}
