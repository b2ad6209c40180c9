// Decider answers over gRPC which node each pod should get. It needs no cluster,
// no credentials and no disk.
//
// Reading order: this file (flags, validation, serving, draining), then
// service.Decide (decode, solve, encode), internal/solve (one decision after
// another), internal/filter and internal/score (the rules), internal/preempt
// (whom to evict), internal/model (what they look at), policy (what can be
// swapped) and internal/profile (rules and scores as a file configures them).
// decide.go answers a saved request with the same service; docs/contract.md is
// for those who write a decider of their own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/berth-scheduler/berth/decider/policy"
	"github.com/berth-scheduler/berth/decider/service"
	"github.com/berth-scheduler/berth/proto/config"
)

func main() {
	// The first signal drains, a second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// usageError is a command line that cannot be carried out: exit status 2.
type usageError struct{ error }

// run is main without the process: it returns the exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	command := serve
	if len(args) > 0 && args[0] == "decide" {
		command, args = decide, args[1:]
	}
	err := command(ctx, args, stdin, stdout, stderr)
	if err == nil {
		return 0
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(stderr, "decider: %s\n", line)
	}
	if errors.As(err, new(usageError)) {
		return 2
	}
	return 1
}

// serve serves until ctx ends.
func serve(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) error {
	o, err := parseServeOptions(args, stdout)
	if err != nil || o == nil {
		return err
	}
	if err := o.setUpLogging(stderr); err != nil {
		return err
	}
	p, err := policy.Named(o.policy)
	if err != nil {
		return usageError{err}
	}
	profiles, err := readProfiles(o.config)
	if err != nil {
		return err
	}
	credentials, err := o.credentials()
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s, err := service.New(service.Config{
		Policy:          p,
		Profiles:        profiles,
		Version:         buildVersion(),
		MaxMessageBytes: o.maxMessageBytes,
		MaxPods:         o.maxPods,
		MaxConcurrent:   o.maxConcurrent,
		MaxWaiting:      o.maxWaiting,
		OmitStateDigest: !o.stateDigest,
		DrainTimeout:    o.drainTimeout,
		Credentials:     credentials,
		Logger:          klog.Background(),
		Registerer:      registry,
	})
	if err != nil {
		return usageError{err}
	}
	listener, err := listen(o.listen)
	if err != nil {
		return fmt.Errorf("--listen %s: %w", o.listen, err)
	}
	group, ctx := errgroup.WithContext(ctx)
	// Metrics and health outlive the drain, so that the last decisions are
	// counted and readiness says what goes on.
	drained, setDrained := context.WithCancel(context.WithoutCancel(ctx))
	defer setDrained()
	if o.metricsListen != "" {
		metricsListener, err := net.Listen("tcp", o.metricsListen)
		if err != nil {
			return errors.Join(fmt.Errorf("--metrics-listen %s: %w", o.metricsListen, err), listener.Close())
		}
		klog.InfoS("Serving metrics", "address", metricsListener.Addr().String())
		group.Go(func() error { return serveMetrics(drained, metricsListener, registry, s.Ready) })
	}
	klog.InfoS("Serving decisions", "address", address(listener), "policy", p.Name(), "profiles", schedulerNames(profiles),
		"version", buildVersion(), "tls", credentials != nil)
	group.Go(func() error {
		defer setDrained()
		return s.Serve(ctx, listener)
	})
	err = group.Wait()
	klog.InfoS("Stopped")
	klog.Flush()
	return err
}

// schedulerNames are the names of the profiles, for people.
func schedulerNames(profiles []config.Profile) []string {
	names := []string{}
	for _, p := range profiles {
		names = append(names, p.SchedulerName)
	}
	return names
}

// unixScheme begins an address that is a socket's path.
const unixScheme = "unix://"

// listen opens a TCP address or the socket of a unix:// address. A socket that a
// dead process left behind is replaced; one that answers is not.
func listen(address string) (net.Listener, error) {
	path, isSocket := strings.CutPrefix(address, unixScheme)
	if !isSocket {
		return net.Listen("tcp", address)
	}
	listener, err := net.Listen("unix", path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return listener, err
	}
	if conn, dialErr := net.Dial("unix", path); dialErr == nil {
		conn.Close()
		return nil, err
	} else if !errors.Is(dialErr, syscall.ECONNREFUSED) {
		return nil, err
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return net.Listen("unix", path)
}

// address is what a client dials.
func address(listener net.Listener) string {
	if listener.Addr().Network() == "unix" {
		return unixScheme + listener.Addr().String()
	}
	return listener.Addr().String()
}

// serveMetrics serves /metrics, /livez and /readyz until ctx ends.
func serveMetrics(ctx context.Context, listener net.Listener, registry *prometheus.Registry, ready func() bool) error {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready() {
			http.Error(w, "not serving", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve metrics on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := server.Shutdown(last); err != nil {
		return server.Close()
	}
	return nil
}
