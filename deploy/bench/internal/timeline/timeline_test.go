package timeline

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-scheduler/berth/deploy/bench/internal/workload"
)

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }

// pods are named pods of a run; those whose names begin with x fit nowhere.
func pods(names ...string) []workload.Pod {
	var list []workload.Pod
	for _, name := range names {
		p := workload.Pod{Object: named(name), Node: "node"}
		if name[0] == 'x' {
			p.Node = ""
		}
		list = append(list, p)
	}
	return list
}

func named(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func bound(name string) *corev1.Pod {
	p := named(name)
	p.Spec.NodeName = "node"
	return p
}

func refused(name string, reason string) *corev1.Pod {
	p := named(name)
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: reason}}
	return p
}

func event(pod, reason string) *eventsv1.Event {
	return &eventsv1.Event{Reason: reason, Regarding: corev1.ObjectReference{Name: pod}}
}

func settled(t *Timeline) bool {
	select {
	case <-t.Settled():
		return true
	default:
		return false
	}
}

func TestFigures(t *testing.T) {
	l := New(pods("a", "b", "x"), true)
	l.Sent("a", at(0))
	l.Sent("b", at(1))
	l.Sent("x", at(2))
	l.Pod(named("a"), at(3))
	l.Pod(named("b"), at(3))
	l.Started(at(6))
	l.Ready(at(10))
	l.Pod(bound("a"), at(12))
	l.Pod(refused("x", corev1.PodReasonUnschedulable), at(13))
	l.Pod(bound("a"), at(14)) // somebody else changed it
	l.Event(event("a", "Scheduled"), at(15))
	l.Event(event("x", "FailedScheduling"), at(16))
	l.Event(event("b", "Scheduled"), at(17)) // it may be seen first
	if settled(l) {
		t.Fatal("settled before b is bound")
	}
	l.Pod(bound("b"), at(18))
	if !settled(l) {
		t.Fatal("not settled though everything is there")
	}
	l.Event(event("b", "Scheduled"), at(30)) // it was counted up
	want := Figures{
		Bound: 2, Rejected: 1,
		ReadyToLast: 8 * time.Second, FirstToLast: 6 * time.Second,
		ReadyToTold: 7 * time.Second, FirstToTold: 5 * time.Second,
		StartToReady: 4 * time.Second, StartToFirst: 6 * time.Second, StartToLast: 12 * time.Second,
		Bind:   Quantiles{2 * time.Second, 8 * time.Second},
		Watch:  Quantiles{2 * time.Second, 8 * time.Second},
		Reject: Quantiles{3 * time.Second, 3 * time.Second},
	}
	if diff := cmp.Diff(want, l.Figures()); diff != "" {
		t.Error(diff)
	}
	if p := l.Problems(); p != nil {
		t.Errorf("problems: %q", p)
	}
}

// Of pods that are created while the scheduler runs, their creation counts.
func TestFiguresOfATrickle(t *testing.T) {
	l := New(pods("a"), false)
	l.Ready(at(0))
	l.Sent("a", at(5))
	l.Pod(named("a"), at(7))
	l.Pod(bound("a"), at(8))
	f := l.Figures()
	if f.Bind.P50 != 3*time.Second || f.Watch.P50 != time.Second || !settled(l) {
		t.Errorf("%+v", f)
	}
	if f.ReadyToTold != 0 || f.FirstToTold != 0 || f.Reject != (Quantiles{}) {
		t.Errorf("measured what there was not: %+v", f)
	}
}

// A scheduler binds before it is seen to be ready: that is when it was.
func TestFiguresBeforeReady(t *testing.T) {
	l := New(pods("a", "b"), false)
	l.Sent("a", at(0))
	l.Sent("b", at(0))
	l.Started(at(1))
	l.Pod(bound("a"), at(4))
	l.Ready(at(5))
	l.Pod(bound("b"), at(6))
	want := Figures{Bound: 2, ReadyToLast: 2 * time.Second, FirstToLast: 2 * time.Second,
		StartToReady: 3 * time.Second, StartToFirst: 3 * time.Second, StartToLast: 5 * time.Second,
		Bind: Quantiles{0, 2 * time.Second}, Watch: Quantiles{0, 0}}
	if diff := cmp.Diff(want, l.Figures()); diff != "" {
		t.Error(diff)
	}
}

// The middle is between the first and the last tenth.
func TestMiddle(t *testing.T) {
	var names []string
	for i := range 20 {
		names = append(names, string(rune('a'+i)))
	}
	l := New(pods(names...), false)
	l.Ready(at(0))
	for i, name := range names {
		l.Pod(bound(name), at(i*i))
	}
	if got, want := l.Figures().Middle, (17*17-1)*time.Second; got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestProblems(t *testing.T) {
	l := New(pods("a", "b", "c", "d", "e", "x1", "x2"), true)
	l.Ready(at(0))
	l.Pod(bound("a"), at(1)) // without its Event
	for _, name := range []string{"b", "c", "d", "e"} {
		l.Pod(refused(name, corev1.PodReasonUnschedulable), at(1))
		l.Event(event(name, "FailedScheduling"), at(1))
	}
	l.Pod(refused("x1", "SchedulerError"), at(1))
	l.Pod(bound("x2"), at(1))
	l.Pod(bound("other"), at(1))
	l.Event(event("other", "Scheduled"), at(1))
	want := []string{
		"4 pods not bound: b, c, d, ...",
		"1 pods without the condition PodScheduled=False: x1",
		"1 pods bound though no node has room for it: x2",
		"1 pods without an Event: a",
	}
	if got := l.Problems(); !slices.Equal(got, want) {
		t.Errorf("problems\n%q, want\n%q", got, want)
	}
	if undone, untold, last := l.Progress(); undone != 6 || untold != 7 || !last.Equal(at(1)) || settled(l) {
		t.Errorf("%d pods and %d Events awaited since %v", undone, untold, last)
	}
}

func TestNoPods(t *testing.T) {
	l := New(nil, true)
	if !settled(l) || l.Figures() != (Figures{}) {
		t.Errorf("%+v", l.Figures())
	}
}

func TestQuantile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, c := range []struct {
		of   []time.Duration
		q    float64
		want time.Duration
	}{
		{nil, 0.5, 0}, {hundred[:1], 0.99, 1}, {hundred[:2], 0.5, 1}, {hundred[:3], 0.5, 2},
		{hundred, 0.5, 50}, {hundred, 0.99, 99}, {hundred[:10], 0.99, 10},
	} {
		if got := quantile(c.of, c.q); got != c.want {
			t.Errorf("%v of %d: %d, want %d", c.q, len(c.of), got, c.want)
		}
	}
}
