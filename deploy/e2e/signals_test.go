//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// bySignal is a profile that scores by one signal alone, of which less is better.
const bySignal = `apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: berth
  plugins:
    score:
      disabled:
      - name: "*"
      enabled:
      - name: NodeSignals
  pluginConfig:
  - name: NodeSignals
    args:
      apiVersion: kubescheduler.config.k8s.io/v1
      kind: NodeSignalsArgs
      signals:
      - name: %s
        weight: 1
        better: Lower
`

// TestSignals: pods go where the load is lowest, follow it when it moves, and stop
// depending on it when nobody has measured it for too long. The load comes from a
// metrics API that the test serves, and from annotations.
func TestSignals(t *testing.T) {
	const prefix = "signals.example.com/"
	for _, source := range []struct {
		name, signal, flag string
		// feed returns what sets every node's load, measured now, and what lets time pass
		// without another measurement.
		feed func(*testing.T) (set func(map[string]float64), stop func())
	}{
		{"metrics", "cpu-utilization", "--signal-metrics-interval=200ms", func(t *testing.T) (func(map[string]float64), func()) {
			api := serveNodeMetrics(t)
			return api.set, api.freeze
		}},
		{"annotations", "load", "--signal-annotation-prefix=" + prefix, func(t *testing.T) (func(map[string]float64), func()) {
			return func(loads map[string]float64) {
				for node, load := range loads {
					patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"%v@%s"}}}`, prefix+"load", load, time.Now().UTC().Format(time.RFC3339Nano))
					if _, err := client.CoreV1().Nodes().Patch(context.Background(), node, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
						t.Fatal(err)
					}
				}
			}, func() {}
		}},
	} {
		t.Run(source.name, func(t *testing.T) {
			namespace(t)
			names := nodes(t, 3, nil)
			config := filepath.Join(t.TempDir(), "config.yaml")
			if err := os.WriteFile(config, fmt.Appendf(nil, bySignal, source.signal), 0o600); err != nil {
				t.Fatal(err)
			}
			_, address := decider(t, "--config", config)
			_, metrics := watcher(t, "--decider", address, source.flag, "--signal-max-age=15s", "--seed=1")
			set, stop := source.feed(t)

			pods := 0
			place := func() string {
				t.Helper()
				name := fmt.Sprintf("p%02d", pods)
				pods++
				createPod(t, pod(t, name, "10m"))
				var node string
				eventually(t, name+" is bound", func() error {
					p, err := client.CoreV1().Pods(slug(t)).Get(context.Background(), name, metav1.GetOptions{})
					if err == nil && p.Spec.NodeName == "" {
						err = fmt.Errorf("%+v", condition(p))
					}
					if err == nil {
						node = p.Spec.NodeName
					}
					return err
				})
				return node
			}
			// The lowest load is on each node in turn; the last move is a small one.
			var best string
			for i, loads := range [][]float64{{0.1, 0.5, 0.9}, {0.6, 0.9, 0.2}, {0.6, 0.3, 0.4}} {
				byNode := map[string]float64{}
				for n, load := range loads {
					byNode[names[n]] = load
				}
				best = names[slices.Index(loads, slices.Min(loads))]
				set(byNode)
				eventually(t, fmt.Sprintf("pods follow load %d to %s", i, best), func() error {
					if node := place(); node != best {
						return fmt.Errorf("a pod went to %s", node)
					}
					return nil
				})
				for range 5 {
					if node := place(); node != best {
						t.Errorf("load %d: a pod went to %s, want %s, where the load is lowest", i, node, best)
					}
				}
			}
			stop()
			eventually(t, "values that are too old are withdrawn", func() error {
				if n := signals(t, metrics); n != 0 {
					return fmt.Errorf("%d are left", n)
				}
				return nil
			})
			elsewhere := 0
			for range 20 {
				if place() != best {
					elsewhere++
				}
			}
			// By chance they would with a probability of 1 in 3^20.
			if elsewhere == 0 {
				t.Errorf("without signals all pods still go to %s", best)
			}
		})
	}
}

// signals is how many values the watcher has.
func signals(t *testing.T, metrics string) int {
	t.Helper()
	_, body := get(t, metrics, "/metrics")
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, "berth_watcher_signals "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("the watcher does not count signals")
	return 0
}

// nodeMetrics is a metrics API.
type nodeMetrics struct {
	mu     sync.Mutex
	loads  map[string]float64 // cpu, as a share of the nodes' 32 cores
	frozen time.Time          // when the last measurement was; zero if measuring goes on
}

func (m *nodeMetrics) set(loads map[string]float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loads = loads
}

func (m *nodeMetrics) freeze() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.frozen = time.Now()
}

// list is a NodeMetricsList as metrics-server writes it.
func (m *nodeMetrics) list() map[string]any {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.frozen
	if at.IsZero() {
		at = time.Now()
	}
	items := []any{}
	for _, node := range slices.Sorted(maps.Keys(m.loads)) {
		items = append(items, map[string]any{
			"metadata":  map[string]any{"name": node},
			"timestamp": at.UTC().Format(time.RFC3339),
			"window":    "10s",
			"usage":     map[string]string{"cpu": fmt.Sprintf("%dn", int64(m.loads[node]*32e9)), "memory": "1048576Ki"},
		})
	}
	return map[string]any{"kind": "NodeMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": map[string]any{}, "items": items}
}

// serveNodeMetrics makes the API server find metrics.k8s.io at a server of the test's.
func serveNodeMetrics(t *testing.T) *nodeMetrics {
	t.Helper()
	m := &nodeMetrics{}
	const group = "/apis/metrics.k8s.io/v1beta1"
	mux := http.NewServeMux()
	reply := func(content func() map[string]any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(content())
		}
	}
	mux.HandleFunc(group+"/nodes", reply(m.list))
	mux.HandleFunc(group, reply(func() map[string]any {
		return map[string]any{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "metrics.k8s.io/v1beta1", "resources": []any{
			map[string]any{"name": "nodes", "singularName": "", "namespaced": false, "kind": "NodeMetrics", "verbs": []string{"get", "list"}}}}
	}))
	server := httptest.NewTLSServer(mux)
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	// Nobody routes the addresses of Services here, but an external name is looked up.
	kubectl(t, fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: metrics, namespace: kube-system}
spec: {type: ExternalName, externalName: localhost}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.metrics.k8s.io}
spec:
  group: metrics.k8s.io
  version: v1beta1
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {name: metrics, namespace: kube-system, port: %s}
`, port), "apply", "-f", "-")
	t.Cleanup(func() {
		// Namespaces are not deleted while an API is missing.
		kubectl(t, "", "delete", "apiservice/v1beta1.metrics.k8s.io")
		kubectl(t, "", "delete", "-n", "kube-system", "service/metrics")
	})
	eventually(t, "the metrics API is there", func() error {
		err := client.Discovery().RESTClient().Get().AbsPath(group + "/nodes").Do(context.Background()).Error()
		if apierrors.IsNotFound(err) || apierrors.IsServiceUnavailable(err) {
			return err
		}
		if err != nil {
			t.Fatal(err)
		}
		return nil
	})
	return m
}
