package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/klog/v2"

	"github.com/berth-scheduler/berth/watcher/internal/kube"
	"github.com/berth-scheduler/berth/watcher/internal/remote"
)

// A stage is how far this process is on its way to scheduling. It may be used
// concurrently; the zero value is that of a standby.
type stage struct{ atomic.Int32 }

const (
	standingBy int32 = iota
	takingOver       // it leads, and reads what it may have missed
	scheduling
)

// readiness returns what /readyz says: an error names everything that is missing for the
// next pod to be scheduled at once. A standby is ready too: it knows the cluster and could
// take over.
func readiness(watch *kube.Watch, pool *remote.Pool, at *stage) func() error {
	return func() error {
		var missing []string
		if resources := watch.Missing(); len(resources) > 0 {
			missing = append(missing, "the cluster is not known yet: no first list of "+strings.Join(resources, ", "))
		}
		if names := pool.Unreachable(); len(names) > 0 {
			var why []string
			for _, s := range pool.Status() {
				if s.Problem != "" {
					why = append(why, s.Target+": "+s.Problem)
				}
			}
			missing = append(missing, fmt.Sprintf("no decider reachable for %s (%s)", strings.Join(names, ", "), strings.Join(why, "; ")))
		}
		switch at.Load() {
		case takingOver:
			missing = append(missing, "taking over: it is not certain yet that the cluster is known as it is now")
		case scheduling:
			if names := pool.Unprepared(); len(names) > 0 {
				missing = append(missing, "the deciders for "+strings.Join(names, ", ")+" are being sent the state of the cluster")
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("%s", strings.Join(missing, "; "))
		}
		return nil
	}
}

// reachable says per decider whether it is.
type reachable struct{ pool *remote.Pool }

var deciderReachable = prometheus.NewDesc("berth_watcher_decider_reachable",
	"1 if the decider is connected and has introduced itself, else 0.", []string{"decider"}, nil)

// Describe implements prometheus.Collector.
func (r reachable) Describe(ch chan<- *prometheus.Desc) { ch <- deciderReachable }

// Collect implements prometheus.Collector.
func (r reachable) Collect(ch chan<- prometheus.Metric) {
	for _, s := range r.pool.Status() {
		value := 1.0
		if s.Problem != "" {
			value = 0
		}
		ch <- prometheus.MustNewConstMetric(deciderReachable, prometheus.GaugeValue, value, s.Target)
	}
}

// serveMetrics serves /metrics, /livez and /readyz until ctx ends, and with profiling
// also /debug/pprof. Its error says that it could not begin.
func serveMetrics(ctx context.Context, wg *sync.WaitGroup, address string, profiling bool, registry *prometheus.Registry, ready func() error) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("--metrics-listen %s: %w", address, err)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	if profiling {
		mux.HandleFunc("/debug/pprof/", pprof.Index) // heap, allocs, goroutine and the like
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	klog.FromContext(ctx).Info("Serving metrics", "address", listener.Addr().String())
	wg.Go(func() {
		defer context.AfterFunc(ctx, func() { server.Close() })()
		if err := server.Serve(listener); ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Serving metrics failed")
		}
	})
	return nil
}
