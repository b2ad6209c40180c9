package loop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/watcher/internal/driver"
	"github.com/berth-scheduler/berth/watcher/internal/remote"
)

// fake is both sides of the loop: a decider that places every pod on node a, and
// an API server that binds it. Its functions, where set, come first.
type fake struct {
	decide func(ctx context.Context, b *driver.Batch) error
	bind   func(ctx context.Context) driver.BindOutcome
	read   func() (*corev1.Pod, error)
	fenced atomic.Bool // may not bind
	state  func(context.Context) (driver.State, error)

	mu  sync.Mutex // guards log
	log []string   // what was asked of it, with seconds since the start
	at  time.Time
}

func (f *fake) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, fmt.Sprintf("%v ", time.Since(f.at))+fmt.Sprintf(format, args...))
}

// said returns what was asked since the last time, in order of their text: calls
// of one instant have no order.
func (f *fake) said() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	said := f.log
	f.log = nil
	slices.Sort(said)
	return strings.Join(said, "\n")
}

func (f *fake) Decide(ctx context.Context, b *driver.Batch) (driver.Decided, []remote.Attempt) {
	state, err := f.state(ctx)
	if err != nil {
		return driver.Decided{Batch: b.ID, Err: err}, nil
	}
	f.note("decide %d: %d pods, %d nodes", b.ID, len(b.Request.GetPods()), len(state.Snapshot.GetNodes()))
	if f.decide != nil {
		if err := f.decide(ctx, b); err != nil {
			return driver.Decided{Batch: b.ID, Err: err}, []remote.Attempt{{Decider: "x", Code: codes.Unavailable}, {Decider: "y", Code: codes.Internal}}
		}
	}
	r := &berthv1.DecideResponse{Epoch: state.Snapshot.GetEpoch(), Version: state.Snapshot.GetVersion()}
	for _, p := range b.Request.GetPods() {
		r.Decisions = append(r.Decisions, &berthv1.Decision{PodUid: p.GetUid(), Outcome: berthv1.Outcome_OUTCOME_PLACED,
			Candidates: []*berthv1.Candidate{{NodeName: "a", NodeUid: "a-uid"}}})
	}
	return driver.Decided{Batch: b.ID, Decider: "x", Response: r}, []remote.Attempt{{Decider: "x"}}
}

func (f *fake) Feed(*driver.Feed) {}

func (f *fake) Bind(ctx context.Context, b driver.Bind) (driver.BindOutcome, string) {
	f.note("bind %s", b.Pod.Name)
	if f.bind != nil {
		return f.bind(ctx), "message"
	}
	return driver.BindOK, ""
}

func (f *fake) Nominate(ctx context.Context, n driver.Nominate) error {
	f.note("nominate %s for %s", n.Pod.Name, n.Node)
	return nil
}

func (f *fake) Evict(ctx context.Context, e driver.Evict) (driver.EvictOutcome, string) {
	f.note("evict %s", e.Victim.Name)
	return driver.EvictOK, ""
}

func (f *fake) Read(ctx context.Context, r driver.Read) (*corev1.Pod, error) {
	f.note("read %s", r.Name)
	return f.read()
}

func (f *fake) Report(r driver.Report)     { f.note("report %s %s", r.Pod.Name, r.Reason) }
func (f *fake) MayBind(now time.Time) bool { return !f.fenced.Load() }

// running is a loop that runs in a bubble with a clock of its own.
type running struct {
	*Loop
	*fake
	lead      chan struct{}
	end, stop context.CancelFunc
	ended     chan struct{}
	registry  *prometheus.Registry
}

func start(t *testing.T, f *fake) *running {
	f.at = time.Now()
	metrics := NewMetrics()
	r := &running{fake: f, lead: make(chan struct{}), ended: make(chan struct{}), registry: prometheus.NewRegistry()}
	r.registry.MustRegister(metrics)
	r.Loop = New(Config{
		Driver:   driver.Config{Deciders: map[string]int{"berth": 1}, MaxBatch: 10, MaxBinding: 10},
		Deciders: f, Cluster: f, Metrics: metrics, Binders: 2, CallTimeout: 5 * time.Second,
	})
	f.state = r.State
	ctx, end := context.WithCancel(t.Context())
	stopping, stop := context.WithCancel(ctx)
	r.end, r.stop = end, stop
	go func() {
		defer close(r.ended)
		r.Run(ctx, stopping, r.lead)
	}()
	return r
}

// deliver hands over a node with room for everything and pods, and lets
// everything happen that takes no time.
func (r *running) deliver(t *testing.T, pods ...string) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "a-uid"}}
	n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100"), corev1.ResourcePods: resource.MustParse("110")}
	r.Deliver(t.Context(), driver.NodeChanged{Node: n})
	for _, name := range pods {
		r.Deliver(t.Context(), driver.PodChanged{Pod: newPod(name)})
	}
	synctest.Wait()
}

func newPod(name string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), CreationTimestamp: metav1.Now()}}
	p.Spec.SchedulerName = "berth"
	p.Spec.Containers = []corev1.Container{{Name: "c"}}
	return p
}

func (r *running) want(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	if got := r.said(); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func (r *running) wantEnded(t *testing.T, want bool) {
	t.Helper()
	synctest.Wait()
	select {
	case <-r.ended:
		if !want {
			t.Fatal("Run has returned")
		}
	default:
		if want {
			t.Fatal("Run has not returned")
		}
	}
}

// Every test ends with the bubble: it fails if a goroutine is left.

func TestStandbyFollowsAndLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, &fake{})
		r.deliver(t, "web", "api")
		time.Sleep(2 * time.Hour)
		r.want(t) // nothing
		if s := r.Stats(); s.Nodes != 1 || s.Active != 2 {
			t.Errorf("a standby knows of %d nodes and %d pods, want 1 and 2", s.Nodes, s.Active)
		}
		close(r.lead)
		r.want(t, "2h0m0s bind api", "2h0m0s bind web", "2h0m0s decide 1: 2 pods, 1 nodes", "2h0m0s report api ", "2h0m0s report web ")
		r.wantEnded(t, false)
		r.end()
		r.wantEnded(t, true)
	})
}

// What was delivered before lead was closed is known to the first decision, even
// if the loop had not yet looked at it.
func TestDeliveredBeforeLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, &fake{})
		for i := range 500 {
			n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%d", i), UID: "u"}}
			r.Deliver(t.Context(), driver.NodeChanged{Node: n})
			if i == 0 {
				r.Deliver(t.Context(), driver.PodChanged{Pod: newPod("web")})
			}
		}
		close(r.lead)
		synctest.Wait()
		if said := r.said(); !strings.HasPrefix(said, "0s decide 1: 1 pods, 500 nodes") {
			t.Errorf("the first decision was about another cluster: %s", said)
		}
		r.end()
		r.wantEnded(t, true)
	})
}

func TestStopWaitsForBindingsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, &fake{bind: func(context.Context) driver.BindOutcome {
			time.Sleep(time.Second)
			return driver.BindOK
		}})
		close(r.lead)
		r.deliver(t, "a", "b", "c", "d")
		r.said()
		r.stop() // two binders are busy, two bindings have not been sent
		r.wantEnded(t, false)
		time.Sleep(time.Second)
		r.wantEnded(t, true)
		r.want(t, "1s report a ", "1s report b ")
		if s := r.Stats(); s.Active+s.Deciding != 2 || s.Binding != 0 || s.Assumed != 2 {
			t.Errorf("two should be bound and two be waiting: %+v", s)
		}
		r.wantMetric(t, "berth_watcher_binds_total", "not-sent", 2)
		r.end()
	})
}

// An outcome that nobody knows is settled by a read before Run returns.
func TestStopWaitsForReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{bind: func(ctx context.Context) driver.BindOutcome { <-ctx.Done(); return driver.BindUnknown }}
		reads := 0
		f.read = func() (*corev1.Pod, error) {
			if reads++; reads == 1 {
				return nil, errors.New("unreachable")
			}
			p := newPod("web")
			p.Spec.NodeName = "a"
			return p, nil
		}
		r := start(t, f)
		close(r.lead)
		r.deliver(t, "web")
		r.stop()
		time.Sleep(5 * time.Second) // CallTimeout
		r.wantEnded(t, false)
		time.Sleep(time.Second)
		r.wantEnded(t, true)
		r.want(t, "0s bind web", "0s decide 1: 1 pods, 1 nodes", "5s read web", "6s read web", "6s report web ")
		r.end()
	})
}

func TestStopCancelsADecision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, &fake{decide: func(ctx context.Context, _ *driver.Batch) error { <-ctx.Done(); return ctx.Err() }})
		close(r.lead)
		r.deliver(t, "web")
		r.want(t, "0s decide 1: 1 pods, 1 nodes")
		r.stop()
		r.wantEnded(t, true)
		r.end()
	})
}

// A process that may not bind for now neither sends bindings nor asks in a
// tight loop, and goes on when it may again.
func TestFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		f.fenced.Store(true)
		r := start(t, f)
		close(r.lead)
		r.deliver(t, "web")
		time.Sleep(150 * time.Millisecond)
		r.want(t, "0s decide 1: 1 pods, 1 nodes", "100ms decide 2: 1 pods, 1 nodes")
		r.wantMetric(t, "berth_watcher_binds_total", "not-sent", 2)
		r.fenced.Store(false)
		time.Sleep(100 * time.Millisecond)
		r.want(t, "200ms bind web", "200ms decide 3: 1 pods, 1 nodes", "200ms report web ")
		r.end()
		r.wantEnded(t, true)
	})
}

func TestBackoffWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refusals := 0
		r := start(t, &fake{bind: func(context.Context) driver.BindOutcome {
			if refusals++; refusals < 3 {
				return driver.BindRefused
			}
			return driver.BindOK
		}})
		close(r.lead)
		r.deliver(t, "web")
		time.Sleep(time.Minute)
		r.want(t, "0s bind web", "0s decide 1: 1 pods, 1 nodes", "0s report web SchedulerError",
			"1s bind web", "1s decide 2: 1 pods, 1 nodes", "1s report web SchedulerError",
			"3s bind web", "3s decide 3: 1 pods, 1 nodes", "3s report web ")
		r.wantMetric(t, "scheduler_schedule_attempts_total", "error", 2)
		r.wantMetric(t, "scheduler_schedule_attempts_total", "scheduled", 1)
		r.end()
		r.wantEnded(t, true)
	})
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := 0
		r := start(t, &fake{decide: func(context.Context, *driver.Batch) error {
			if lost++; lost == 1 {
				return driver.ErrNoDecider
			}
			return nil
		}})
		close(r.lead)
		r.deliver(t, "web", "api")
		r.wantMetric(t, "scheduler_pending_pods", "active", 2)
		time.Sleep(time.Second)
		synctest.Wait()
		r.wantMetric(t, "berth_watcher_decider_errors_total", "x", 1)
		r.wantMetric(t, "berth_watcher_decide_retries_total", "", 1)
		r.wantMetric(t, "berth_watcher_binds_total", "ok", 2)
		r.wantMetric(t, "scheduler_pending_pods", "active", 0)
		r.wantMetric(t, "scheduler_cache_size", "nodes", 1)
		r.wantMetric(t, "scheduler_cache_size", "assumed_pods", 2)
		r.wantMetric(t, "berth_watcher_binding_pods", "", 0)
		r.end()
		r.wantEnded(t, true)
	})
}

// Deliver does not outlive its context where nobody listens any more.
func TestDeliverAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, &fake{})
		r.end()
		r.wantEnded(t, true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range cap(r.events) + 1 {
			r.Deliver(ctx, driver.DecidersChanged{})
		}
		if ctx.Err() == nil {
			t.Error("Deliver took more than there is room for")
		}
	})
}

// wantMetric sums the samples of a metric that have the label value, or all.
func (r *running) wantMetric(t *testing.T, name, label string, want float64) {
	t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got float64
	for _, family := range families {
		for _, m := range family.GetMetric() {
			matches := label == ""
			for _, l := range m.GetLabel() {
				matches = matches || l.GetValue() == label
			}
			if family.GetName() == name && matches {
				got += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	if got != want {
		t.Errorf("%s{%s} is %v, want %v", name, label, got, want)
	}
}
