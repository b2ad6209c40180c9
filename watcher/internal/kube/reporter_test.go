package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	eventsclient "k8s.io/client-go/kubernetes/typed/events/v1"
	clienttesting "k8s.io/client-go/testing"

	"github.com/berth-scheduler/berth/watcher/internal/driver"
)

func failed(p *corev1.Pod, message string) driver.Report {
	return driver.Report{Kind: driver.FailedScheduling, Pod: p, Reason: "Unschedulable", Message: message}
}

// start runs a reporter until the test ends.
func start(t *testing.T, set *fake.Clientset, config ReporterConfig) *Reporter {
	t.Helper()
	config.Identity = "host_1"
	r := newReporter(set, newPrecedence(), config)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	t.Cleanup(func() { stop(); <-done })
	return r
}

func flush(t *testing.T, r *Reporter) {
	t.Helper()
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func events(t *testing.T, set *fake.Clientset) []eventsv1.Event {
	t.Helper()
	list, err := set.EventsV1().Events("shop").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func condition(t *testing.T, set *fake.Clientset) corev1.PodCondition {
	t.Helper()
	pod, err := set.CoreV1().Pods("shop").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled {
			return c
		}
	}
	return corev1.PodCondition{}
}

func counted(t *testing.T, r *Reporter, kind, result string) float64 {
	t.Helper()
	var m dto.Metric
	if err := r.reports.WithLabelValues(kind, result).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.Counter.GetValue()
}

func patches(set *fake.Clientset, resource string) (out []string) {
	for _, action := range set.Actions() {
		if patch, ok := action.(clienttesting.PatchAction); ok && patch.GetResource().Resource == resource {
			out = append(out, string(patch.GetPatch()))
		}
	}
	return out
}

func TestReportOfFailure(t *testing.T) {
	pod := testPod()
	set := fake.NewClientset(pod.DeepCopy())
	r := start(t, set, ReporterConfig{})
	long := "0/5 nodes are available: " + strings.Repeat("x", 2000)
	r.Report(failed(pod, long))
	flush(t, r)

	c := condition(t, set)
	if c.Status != corev1.ConditionFalse || c.Reason != "Unschedulable" || c.Message != long || c.ObservedGeneration != 1 || c.LastTransitionTime.IsZero() {
		t.Errorf("condition %+v", c)
	}
	var patch struct{ Metadata metav1.ObjectMeta }
	if p := patches(set, "pods"); len(p) != 1 || json.Unmarshal([]byte(p[0]), &patch) != nil || patch.Metadata.UID != "u1" || patch.Metadata.ResourceVersion != "5" {
		t.Errorf("patches without preconditions: %v", p)
	}
	e := events(t, set)
	if len(e) != 1 {
		t.Fatalf("%d events", len(e))
	}
	got := fmt.Sprint(e[0].Type, " ", e[0].Reason, " ", e[0].Action, " ", e[0].ReportingController, " ", e[0].ReportingInstance, " ", e[0].Regarding.Kind, " ", e[0].Regarding.UID)
	if want := "Warning FailedScheduling Scheduling berth berth-host_1 Pod u1"; got != want {
		t.Errorf("event %s, want %s", got, want)
	}
	if note := e[0].Note; len(note) != 1024 || !strings.HasSuffix(note, "x ...") {
		t.Errorf("note of %d bytes ends in %q", len(note), note[len(note)-6:])
	}
}

func TestReportOfSuccess(t *testing.T) {
	set := fake.NewClientset()
	r := start(t, set, ReporterConfig{})
	r.Report(driver.Report{Kind: driver.Scheduled, Pod: testPod(), Node: "n1"})
	flush(t, r)
	e := events(t, set)
	if len(e) != 1 || e[0].Note != "Successfully assigned shop/web to n1" || e[0].Type != "Normal" || e[0].Reason != "Scheduled" || e[0].Action != "Binding" {
		t.Errorf("events %+v", e)
	}
	if p := patches(set, "pods"); len(p) != 0 {
		t.Errorf("the condition is the API server's, but was written: %v", p)
	}
}

// TestSameFailureAgain becomes a count, and the condition is not written again.
func TestSameFailureAgain(t *testing.T) {
	pod := testPod()
	set := fake.NewClientset(pod.DeepCopy())
	r := start(t, set, ReporterConfig{})
	for range 3 {
		r.Report(failed(pod, "no room"))
		flush(t, r)
		// The next report carries the pod as it is by then.
		var err error
		if pod, err = set.CoreV1().Pods("shop").Get(t.Context(), "web", metav1.GetOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if p := patches(set, "pods"); len(p) != 1 {
		t.Errorf("%d writes of one condition", len(p))
	}
	if e := events(t, set); len(e) != 1 || e[0].Series == nil || e[0].Series.Count != 3 {
		t.Errorf("events %+v", e)
	}
	r.Report(failed(pod, "still no room"))
	flush(t, r)
	if e := events(t, set); len(e) != 2 {
		t.Errorf("another note made %d events", len(e))
	}
}

// TestReportIsLateForTheBind: the pod was bound while the report waited. The
// condition that it was scheduled must stay.
func TestReportIsLateForTheBind(t *testing.T) {
	bound := testPod()
	bound.ResourceVersion, bound.Spec.NodeName = "6", "n1"
	set := fake.NewClientset(bound)
	set.PrependReactor("patch", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, "web", nil)
	})
	r := start(t, set, ReporterConfig{})
	r.Report(failed(testPod(), "no room"))
	flush(t, r)
	if c := condition(t, set); c.Status != "" {
		t.Errorf("condition %+v on a bound pod", c)
	}
	if e := events(t, set); len(e) != 0 {
		t.Errorf("events %+v about a bound pod", e)
	}
	if n := counted(t, r, "failed_scheduling", resultGone); n != 1 {
		t.Errorf("%v reports are counted as gone", n)
	}
}

func TestReportsAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := fake.NewClientset()
		var mu sync.Mutex
		names := map[string]int{}
		set.PrependReactor("create", "events", func(a clienttesting.Action) (bool, runtime.Object, error) {
			mu.Lock()
			defer mu.Unlock()
			event := a.(clienttesting.CreateAction).GetObject().(*eventsv1.Event)
			if names[event.Name]++; names[event.Name] < 3 {
				return true, nil, apierrors.NewServiceUnavailable("starting")
			}
			return false, nil, nil
		})
		ctx, stop := context.WithCancel(t.Context())
		r := newReporter(set, newPrecedence(), ReporterConfig{Identity: "a"})
		go r.Run(ctx)
		r.Report(driver.Report{Kind: driver.Scheduled, Pod: testPod(), Node: "n1"})
		if err := r.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		if len(names) != 1 || len(events(t, set)) != 1 {
			t.Errorf("tries under the names %v made %d events", names, len(events(t, set)))
		}
		stop()
		synctest.Wait()
	})
}

// TestReportNeverBlocks: nobody writes, memory is bounded, and what is dropped is
// counted.
func TestReportNeverBlocks(t *testing.T) {
	r := newReporter(fake.NewClientset(), newPrecedence(), ReporterConfig{Identity: "a", MaxPods: 2})
	for i := range 5 {
		p := testPod()
		p.UID = types.UID(fmt.Sprint(i))
		for range 3 {
			r.Report(failed(p, "no room"))
		}
	}
	if len(r.slots) != 2 {
		t.Errorf("%d slots", len(r.slots))
	}
	if n := counted(t, r, "failed_scheduling", resultDropped); n != 9 {
		t.Errorf("%v dropped", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r.Flush(ctx) == nil {
		t.Error("flushed without a writer")
	}
}

// TestLatestReportWins: what was not written yet is replaced.
func TestLatestReportWins(t *testing.T) {
	set := fake.NewClientset(testPod())
	r := newReporter(set, newPrecedence(), ReporterConfig{Identity: "a"})
	r.Report(failed(testPod(), "first"))
	r.Report(failed(testPod(), "second"))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	flush(t, r)
	stop()
	<-done
	if e := events(t, set); len(e) != 1 || e[0].Note != "second" {
		t.Errorf("events %+v", e)
	}
}

// heldEvents is a client that creates no Event before release is closed.
type heldEvents struct {
	*fake.Clientset
	release  chan struct{}
	underWay atomic.Int32
}

type (
	heldEventsV1 struct {
		eventsclient.EventsV1Interface
		held *heldEvents
	}
	heldNamespace struct {
		eventsclient.EventInterface
		held *heldEvents
	}
)

func (h *heldEvents) EventsV1() eventsclient.EventsV1Interface {
	return heldEventsV1{h.Clientset.EventsV1(), h}
}

func (h heldEventsV1) Events(namespace string) eventsclient.EventInterface {
	return heldNamespace{h.EventsV1Interface.Events(namespace), h.held}
}

func (h heldNamespace) Create(ctx context.Context, e *eventsv1.Event, options metav1.CreateOptions) (*eventsv1.Event, error) {
	h.held.underWay.Add(1)
	<-h.held.release
	return h.EventInterface.Create(ctx, e, options)
}

// TestEventsGiveWay: while the API server is busy with bindings, conditions are written
// all the same and Events by one worker, until so many wait that the next ones might
// be dropped. An Event has the time of what it tells, however late it is.
func TestEventsGiveWay(t *testing.T) {
	for _, test := range []struct {
		name     string
		maxPods  int
		bindings int
		want     int32 // Events under way
	}{
		{"busy", 1000, busy, 1},
		{"not busy", 1000, busy - 1, 10},
		{"busy, but there is little room left", 20, busy, 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				set := &heldEvents{Clientset: fake.NewClientset(), release: make(chan struct{})}
				set.PrependReactor("patch", "pods", func(clienttesting.Action) (bool, runtime.Object, error) { return true, testPod(), nil })
				precedence := newPrecedence()
				for range test.bindings {
					precedence.begin()
				}
				r := newReporter(set, precedence, ReporterConfig{Identity: "a", Workers: 10, MaxPods: test.maxPods})
				reported := metav1.NowMicro()
				for i := range 10 {
					p := testPod()
					p.UID, p.Name = types.UID(fmt.Sprint(i)), fmt.Sprint("web-", i)
					r.Report(failed(p, "no room"))
				}
				time.Sleep(time.Minute)
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { r.Run(ctx); close(done) }()
				synctest.Wait()
				if n := len(patches(set.Clientset, "pods")); n != 10 {
					t.Errorf("%d conditions are written", n)
				}
				if n := set.underWay.Load(); n != test.want {
					t.Errorf("%d Events are under way, want %d", n, test.want)
				}
				for range test.bindings {
					precedence.end()
				}
				synctest.Wait()
				if n := set.underWay.Load(); n != 10 {
					t.Errorf("%d Events are under way after the last binding", n)
				}
				close(set.release)
				flush(t, r)
				for _, e := range events(t, set.Clientset) {
					if !e.EventTime.Equal(&reported) {
						t.Errorf("an Event of %v, reported at %v", e.EventTime, reported)
					}
				}
				stop()
				<-done
			})
		})
	}
}

// TestEventsDoNotOutliveTheReporter: those that give way end, too.
func TestEventsDoNotOutliveTheReporter(t *testing.T) {
	precedence := newPrecedence()
	for range busy {
		precedence.begin()
	}
	r := newReporter(fake.NewClientset(), precedence, ReporterConfig{Identity: "a"})
	ctx, stop := context.WithCancel(t.Context())
	stop()
	r.Run(ctx)
}

func BenchmarkReporter(b *testing.B) {
	for _, kind := range []string{"Scheduled", "FailedScheduling"} {
		b.Run(kind, func(b *testing.B) {
			set := fake.NewClientset()
			set.PrependReactor("create", "events", func(clienttesting.Action) (bool, runtime.Object, error) { return true, &eventsv1.Event{}, nil })
			set.PrependReactor("patch", "pods", func(clienttesting.Action) (bool, runtime.Object, error) { return true, testPod(), nil })
			r := newReporter(set, newPrecedence(), ReporterConfig{Identity: "a", MaxPods: math.MaxInt})
			ctx, stop := context.WithCancel(b.Context())
			done := make(chan struct{})
			go func() { r.Run(ctx); close(done) }()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p := testPod()
				p.UID = types.UID(fmt.Sprint(i))
				if kind == "Scheduled" {
					r.Report(driver.Report{Kind: driver.Scheduled, Pod: p, Node: "n1"})
				} else {
					r.Report(failed(p, "0/5000 nodes are available: 5000 Insufficient cpu."))
				}
			}
			if err := r.Flush(ctx); err != nil {
				b.Fatal(err)
			}
			stop()
			<-done
		})
	}
}
