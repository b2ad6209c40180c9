package kube

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-scheduler/berth/watcher/internal/driver"
	"github.com/berth-scheduler/berth/watcher/internal/signal"
)

const testPrefix = "signals.example.com/"

// told is the latest that was delivered, by node.
type told struct {
	mu  sync.Mutex
	all map[string]map[string]int64
}

func (d *told) deliver(ev driver.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change := ev.(driver.SignalsChanged)
	d.all[change.Node] = change.Signals
}

func (d *told) of(node string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return fmt.Sprint(d.all[node])
}

func newTestSignals(client *Client) (*Signals, *told) {
	d := &told{all: map[string]map[string]int64{}}
	return NewSignals(client, SignalsConfig{
		AnnotationPrefix: testPrefix,
		MetricsInterval:  time.Millisecond,
		Signal:           signal.Config{MaxAge: time.Minute},
		Registerer:       prometheus.NewRegistry(),
	}, d.deliver), d
}

// signalNode has 4 cores, 8 GiB, and annotations under the prefix.
func signalNode(name string, annotations ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{"other": "high"}}}
	n.Status.Allocatable = corev1.ResourceList{"cpu": quantity("4"), "memory": quantity("8Gi")}
	for _, a := range annotations {
		key, value, _ := strings.Cut(a, "=")
		n.Annotations[testPrefix+key] = value
	}
	return n
}

// number is what a counter or a gauge stands at.
func number(t *testing.T, metric prometheus.Metric) float64 {
	t.Helper()
	var m dto.Metric
	if err := metric.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue() + m.GetGauge().GetValue()
}

var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func TestAnnotationsBecomeSignals(t *testing.T) {
	s, d := newTestSignals(nil)
	for _, step := range []struct {
		annotations []string
		want        string
		errors      float64
	}{
		{nil, "map[]", 0},
		{[]string{"load=0.5@2026-01-31T11:59:30Z", "rating=3"}, "map[load:500 rating:3000]", 0},
		{[]string{"load=high", "rating=3"}, "map[rating:3000]", 1},
		{[]string{"load=high", "rating=3"}, "map[rating:3000]", 1},
		{[]string{"load=higher", "rating=3"}, "map[rating:3000]", 2},
		{[]string{"load=0.7", "rating=3"}, "map[load:700 rating:3000]", 2},
		{[]string{"load=0.7@2026-01-31T11:00:00Z", "rating=3"}, "map[rating:3000]", 2},
		{[]string{"load=0.7"}, "map[load:700]", 2},
		{nil, "map[]", 2},
	} {
		s.nodeChanged(noon, signalNode("a", step.annotations...))
		if got := d.of("a"); got != step.want {
			t.Errorf("%v: told %s, want %s", step.annotations, got, step.want)
		}
		if got := number(t, s.errors.WithLabelValues(sourceAnnotation)); got != step.errors {
			t.Errorf("%v: %v errors, want %v", step.annotations, got, step.errors)
		}
	}
}

func TestUtilization(t *testing.T) {
	s, d := newTestSignals(nil)
	used := func(cores, bytes int64, at time.Time) map[string]signal.Usage {
		return map[string]signal.Usage{"a": {CPU: cores * 1000, Memory: bytes * 1000, At: at}, "unknown": {CPU: 1, Memory: 1, At: at}}
	}
	check := func(what, want string) {
		t.Helper()
		if got := d.of("a"); got != want {
			t.Errorf("%s: told %s, want %s", what, got, want)
		}
	}
	s.used(noon, used(1, 2<<30, noon))
	s.nodeChanged(noon, signalNode("a"))
	check("a node that comes after its metrics", "map[cpu-utilization:250 memory-utilization:250]")
	s.used(noon, used(2, 2<<30, noon.Add(30*time.Second)))
	check("new metrics", "map[cpu-utilization:500 memory-utilization:250]")
	smaller := signalNode("a")
	smaller.Status.Allocatable["cpu"] = quantity("2")
	delete(smaller.Status.Allocatable, "memory")
	s.nodeChanged(noon, smaller)
	check("a smaller node", "map[cpu-utilization:1000]")
	s.nodeChanged(noon, signalNode("a", "cpu-utilization=0.1"))
	check("overruled", "map[cpu-utilization:100 memory-utilization:250]")
	s.used(noon, used(3, 2<<30, noon.Add(40*time.Second)))
	check("still overruled", "map[cpu-utilization:100 memory-utilization:250]")
	s.nodeChanged(noon, signalNode("a"))
	check("not any more", "map[cpu-utilization:750 memory-utilization:250]")
	s.used(noon, nil)
	check("not in the list", "map[cpu-utilization:750 memory-utilization:250]")
	if got := number(t, s.values); got != 2 {
		t.Errorf("%v values, want 2", got)
	}
	s.mu.Lock()
	s.tell(noon.Add(61 * time.Second))
	s.mu.Unlock()
	check("too old", "map[]")
	if values, withdrawn := number(t, s.values), number(t, s.withdrawn); values != 0 || withdrawn != 2 {
		t.Errorf("%v values, %v withdrawn; want 0 and 2", values, withdrawn)
	}
	if _, ok := d.all["unknown"]; ok {
		t.Error("a node that nobody has seen was told of")
	}
}

// A node that is gone is forgotten, and one of its name starts anew.
func TestSignalsOfAGoneNode(t *testing.T) {
	s, d := newTestSignals(nil)
	s.Observe(driver.NodeChanged{Node: signalNode("a", "rating=3")})
	s.Observe(driver.NodeGone{Node: signalNode("a")})
	delete(d.all, "a")
	s.Observe(driver.NodeChanged{Node: signalNode("a")})
	if got := d.of("a"); got != "map[]" {
		t.Errorf("told %s", got)
	}
	s.Observe(driver.NodeChanged{Node: signalNode("a", "rating=3")})
	if got := d.of("a"); got != "map[rating:3000]" {
		t.Errorf("told %s", got)
	}
}

// Run withdraws a value when it is a minute old, not later.
func TestRunWithdraws(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, d := newTestSignals(nil)
		s.config.MetricsInterval = 0
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.Run(ctx); close(done) }()
		synctest.Wait()
		s.Observe(driver.NodeChanged{Node: signalNode("a", "load=1@"+time.Now().UTC().Format(time.RFC3339Nano))})
		for _, step := range []struct {
			after time.Duration
			want  string
		}{{59 * time.Second, "map[load:1000]"}, {time.Second, "map[]"}} {
			time.Sleep(step.after) // of the bubble's clock
			synctest.Wait()
			if got := d.of("a"); got != step.want {
				t.Errorf("after %v: told %s, want %s", step.after, got, step.want)
			}
		}
		stop()
		<-done
	})
}

// TestPoll: a metrics API that is missing, there, forbidden, and there again.
func TestPoll(t *testing.T) {
	var code, cores atomic.Int64
	code.Store(http.StatusNotFound)
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/apis/metrics.k8s.io/v1beta1/nodes" || r.Header.Get("Accept") != "application/json" {
			t.Errorf("asked %s, accepting %s", r.URL, r.Header.Get("Accept"))
		}
		if code := code.Load(); code != http.StatusOK {
			answer(w, int(code), "no")
			return
		}
		fmt.Fprintf(w, `{"kind":"NodeMetricsList","items":[{"metadata":{"name":"a"},"timestamp":%q,"usage":{"cpu":"%d","memory":"0"}}]}`,
			time.Now().UTC().Format(time.RFC3339), cores.Load())
	})
	s, d := newTestSignals(client)
	s.Observe(driver.NodeChanged{Node: signalNode("a")})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	failures := func() float64 { return number(t, s.errors.WithLabelValues(sourceMetrics)) }
	eventually(t, "failures", func() bool { return failures() >= 2 })
	cores.Store(1)
	code.Store(http.StatusOK)
	eventually(t, "the first value", func() bool { return d.of("a") == "map[cpu-utilization:250 memory-utilization:0]" })
	before := failures()
	code.Store(http.StatusForbidden)
	eventually(t, "another failure", func() bool { return failures() > before })
	cores.Store(2)
	code.Store(http.StatusOK)
	eventually(t, "the second value", func() bool { return d.of("a") == "map[cpu-utilization:500 memory-utilization:0]" })
	stop()
	<-done
}

// What the API server says is followed by what to do about it.
func TestNodeMetricsErrors(t *testing.T) {
	for code, want := range map[int]string{404: "install metrics-server", 503: "install metrics-server", 403: "apply deploy/base/access", 500: ""} {
		client := serve(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, code, "no") })
		if _, _, err := client.nodeMetrics(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v, want %s", code, err, want)
		}
	}
}

func TestStripNodeKeepsSignals(t *testing.T) {
	for prefix, want := range map[string][]string{"": nil, testPrefix: {testPrefix + "load"}} {
		n := signalNode("a", "load=1")
		stripNode(n, prefix)
		if got := slices.Sorted(maps.Keys(n.Annotations)); !slices.Equal(got, want) {
			t.Errorf("prefix %q keeps %v, want %v", prefix, got, want)
		}
	}
}
