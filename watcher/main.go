// Watcher schedules the pods of a Kubernetes cluster: it watches, keeps the
// queue and the ledger, asks deciders over gRPC which node each pod should get,
// and binds. It alone writes to the API server.
//
// Reading order: this file (what is started and stopped in which order), then
// internal/driver (the rules of the game: Step, Ready), internal/queue and
// internal/cluster (what it decides on), internal/loop (what carries its work
// out), internal/remote (the deciders; internal/route says which replica) and
// internal/kube (the API server);
// encode says what Kubernetes' objects mean to deciders, and internal/guard
// keeps the answers honest.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc/resolver"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/logs/json/register" // --logging-format=json
	"k8s.io/component-base/version"
	"k8s.io/klog/v2"

	"github.com/berth-scheduler/berth/watcher/internal/driver"
	"github.com/berth-scheduler/berth/watcher/internal/kube"
	"github.com/berth-scheduler/berth/watcher/internal/loop"
	"github.com/berth-scheduler/berth/watcher/internal/remote"
	nodesignal "github.com/berth-scheduler/berth/watcher/internal/signal"
	"github.com/berth-scheduler/berth/watcher/internal/snapshot"
)

const (
	// bindTimeout bounds one call to the API server, a binding above all.
	bindTimeout = 5 * time.Second
	// stopTimeout bounds the wait for the outcome of bindings that are under way when
	// the process is told to stop: the binding itself, and the read that settles it.
	stopTimeout = 2*bindTimeout + time.Second
	// flushTimeout bounds the wait for conditions and Events that are not written
	// yet; the Lease is released by then.
	flushTimeout = 5 * time.Second
	// maxBinding is how many bindings may be under way before no more are decided:
	// what a new leader may have to wait for.
	maxBinding = 2000
)

func main() {
	// The first signal stops in order, a second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// collectAt is how much garbage, in percent of what is in use, makes Go collect it: less
// than the usual 100, for a watcher holds the cluster in memory and makes little garbage.
// It takes a tenth less memory for a twentieth more processor time.
const collectAt = 70

// run is main without the process: it returns the exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "snapshot" {
		return snapshot.Run(args[1:], stdin, stdout, stderr)
	}
	logging := logsapi.NewLoggingConfiguration()
	o, err := parseOptions(args, stdout, func(fs *flag.FlagSet) { logsapi.AddGoFlags(logging, fs) })
	if err == nil && !o.version {
		err = logsapi.ValidateAndApply(logging, nil)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		complain(stderr, err)
		return 2
	case o.version:
		fmt.Fprintln(stdout, version.Get().GitVersion)
		return 0
	}
	defer logs.FlushLogs()
	if err := schedule(klog.NewContext(ctx, klog.Background()), o); err != nil {
		complain(stderr, err)
		return 1
	}
	return 0
}

// complain prints an error, one line for each of those that were joined.
func complain(stderr io.Writer, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(stderr, "watcher: %s\n", line)
	}
}

// schedule runs the watcher until ctx ends or the Lease is lost.
func schedule(ctx context.Context, o *options) error {
	log := klog.FromContext(ctx)
	hostname, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	identity := fmt.Sprintf("%s_%d_%08x", hostname, os.Getpid(), rand.Uint32())

	client, err := kube.NewClient(kube.Config{
		Kubeconfig: o.kubeconfig, QPS: float32(o.kubeAPIQPS), Burst: o.kubeAPIBurst,
		NodeAnnotations: o.signalPrefix, Version: version.Get().GitVersion, Identity: identity,
	})
	if err != nil {
		return err
	}
	ping, cancel := context.WithTimeout(ctx, 10*time.Second)
	err = client.Ping(ping)
	cancel()
	if err != nil {
		return err
	}
	var lease *kube.Lease // nil: nobody else wants it
	if o.leaderElect {
		lease, err = client.NewLease(kube.LeaseConfig{
			Namespace: o.leaseNamespace, Name: o.leaseName, Identity: identity,
			Duration: o.leaseDuration, RenewDeadline: o.renewDeadline, RetryPeriod: o.retryTime, BindTimeout: bindTimeout,
		})
		if err != nil {
			return err
		}
	}
	credentials, err := o.credentials()
	if err != nil {
		return err
	}

	registry := prometheus.NewRegistry()
	metrics := loop.NewMetrics()
	registry.MustRegister(metrics, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reporter := kube.NewReporter(client, kube.ReporterConfig{Identity: identity, Registerer: registry})

	// Everything below outlives ctx, which only says when to stop; end ends it.
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	stop, stopScheduling := context.WithCancel(running)
	defer stopScheduling()

	var l *loop.Loop
	pool, err := remote.New(remote.Config{
		Deciders: o.deciders, Resolvers: []resolver.Builder{kube.NewEndpoints(client)}, Credentials: credentials, MaxMessageBytes: o.maxMessageBytes, Timeout: o.decideTimeout,
		State:    func(ctx context.Context) (driver.State, error) { return l.State(ctx) },
		Changed:  func() { l.Deliver(running, driver.DecidersChanged{}) },
		Capacity: func(batches map[string]int) { l.Deliver(running, driver.CapacityChanged{Batches: batches}) },
	})
	if err != nil {
		return err
	}
	counts := map[string]int{}
	for name, targets := range o.deciders {
		counts[name] = len(targets)
	}
	if o.seed == 0 {
		o.seed = rand.Uint64()
	}
	l = loop.New(loop.Config{
		Driver: driver.Config{
			Deciders: counts, Seed: o.seed,
			MaxBatch: o.maxBatchPods, MaxBinding: maxBinding, MaxSent: 2 * o.parallelBinds, OneAtATime: o.oneAtATime, Backoffs: o.backoffs,
		},
		Deciders: pool,
		Cluster:  hands{client, reporter, lease},
		Metrics:  metrics,
		Identity: identity,
		Binders:  o.parallelBinds, CallTimeout: bindTimeout,
	})
	deliver := func(ev driver.Event) { l.Deliver(running, ev) }
	signals := kube.NewSignals(client, kube.SignalsConfig{
		AnnotationPrefix: o.signalPrefix, MetricsInterval: o.signalMetrics,
		Signal:     nodesignal.Config{MaxAge: o.signalMaxAge, MinChange: o.signalMinChange},
		Registerer: registry,
	}, deliver)
	watch, err := kube.NewWatch(client, func(ev driver.Event) {
		deliver(ev)
		signals.Observe(ev)
	})
	if err != nil {
		return err
	}
	leading := prometheus.NewGauge(prometheus.GaugeOpts{Name: "berth_watcher_leading", Help: "1 while this process schedules, 0 while it stands by."})
	registry.MustRegister(leading, pool, reachable{pool})

	var at stage
	var background sync.WaitGroup
	defer background.Wait()
	defer end()
	if o.metricsListen != "" {
		if err := serveMetrics(running, &background, o.metricsListen, o.profiling, registry, readiness(watch, pool, &at)); err != nil {
			return err
		}
	}
	background.Go(func() { pool.Run(running) })
	background.Go(func() { watch.Run(running) })
	background.Go(func() { signals.Run(running) })
	background.Go(func() { reporter.Run(running) })
	lead, stopped := make(chan struct{}), make(chan struct{})
	background.Go(func() {
		defer close(stopped)
		l.Run(running, stop, lead)
	})

	log.Info("Watching", "version", version.Get().GitVersion, "identity", identity, "schedulerNames", o.schedulerNames, "deciders", o.deciders)
	err = lease.Lead(ctx, func(leadCtx context.Context) {
		// The Lease is released when this function returns: after the last binding.
		defer func() {
			stopScheduling()
			select {
			case <-stopped:
			case <-time.After(stopTimeout):
				log.Info("Stopping although some bindings have no known outcome")
			}
		}()
		at.Store(takingOver)
		log.Info("Leading", "lease", o.leaseNamespace+"/"+o.leaseName)
		if err := watch.CaughtUp(leadCtx); err != nil {
			log.Info("Stopped before this process knew the cluster", "err", err)
			return
		}
		log.Info("Scheduling", "nodes", l.Stats().Nodes, "placedPods", l.Stats().Placed)
		leading.Set(1)
		close(lead)
		at.Store(scheduling)
		<-leadCtx.Done()
		leading.Set(0)
	})
	log.Info("Stopped scheduling")
	flush, cancelFlush := context.WithTimeout(running, flushTimeout)
	defer cancelFlush()
	if flushErr := reporter.Flush(flush); flushErr != nil {
		log.Info("Some conditions and Events were not written", "err", flushErr)
	}
	return err
}

// hands carry the loop's work out at the API server.
type hands struct {
	*kube.Client
	*kube.Reporter
	lease *kube.Lease
}

// MayBind implements loop.Cluster.
func (h hands) MayBind(now time.Time) bool { return h.lease.MayBind(now) }
