// Package process is a decider's process: its command line, log, listeners, metrics
// and exit status. What decides is the caller's, so that a main of a few lines is a
// whole program; see Program.
package process

import (
	"context"
	"errors"
	"flag"
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

	"github.com/berth-scheduler/berth/decider/service"
)

// Program is the command line of a decider: without a command it serves, with
// `decide` it answers one saved request.
type Program struct {
	// Name is the program's, for its help and before its complaints.
	Name string
	// Purpose is one sentence for its help.
	Purpose string
	// Flags adds the flags that say what decides, which both commands have. What it
	// returns is called once they are parsed. Nil panics.
	Flags func(flags *flag.FlagSet) Configure
}

// Configure returns what a decider decides by: a service.Config with a Policy, and
// Profiles, or a Solver; the process fills in the rest. about are keys and values
// for the log. An error that a UsageError wraps is one of the person who started the
// process.
type Configure func(ctx context.Context) (config service.Config, about []any, err error)

// UsageError is a command line that cannot be carried out: exit status 2, not 1.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e UsageError) Unwrap() error { return e.Err }

// Main runs p with the arguments of this process and ends it. The first SIGTERM or
// SIGINT drains, a second one ends the process at once.
func (p Program) Main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(p.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// Run is Main without the process: it does what args ask for, at the longest until ctx
// ends, and returns the exit status. It sets klog's logger.
func (p Program) Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var err error
	if len(args) > 0 && args[0] == "decide" {
		err = p.decide(ctx, args[1:], stdin, stdout)
	} else {
		err = p.serve(ctx, args, stdout, stderr)
	}
	if err == nil {
		return 0
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(stderr, "%s: %s\n", p.Name, line)
	}
	if errors.As(err, new(UsageError)) {
		return 2
	}
	return 1
}

// serve serves until ctx ends.
func (p Program) serve(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, configure, err := p.parseServeOptions(args, stdout)
	if err != nil || o == nil {
		return err
	}
	if err := o.setUpLogging(stderr); err != nil {
		return err
	}
	config, about, err := configure(ctx)
	if err != nil {
		return err
	}
	if config.Credentials, err = o.credentials(); err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	config.Version = version()
	config.MaxMessageBytes = o.maxMessageBytes
	config.MaxPods = o.maxPods
	config.MaxConcurrent = o.maxConcurrent
	config.MaxWaiting = o.maxWaiting
	config.MaxStateBytes = o.maxStateBytes
	config.OmitStateDigest = !o.stateDigest
	config.DrainTimeout = o.drainTimeout
	config.Logger = klog.Background()
	config.Registerer = registry
	s, err := service.New(config)
	if err != nil {
		return UsageError{err}
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
	klog.InfoS("Serving decisions", append([]any{"address", address(listener),
		"version", config.Version, "tls", config.Credentials != nil}, about...)...)
	group.Go(func() error {
		defer setDrained()
		return s.Serve(ctx, listener)
	})
	err = group.Wait()
	klog.InfoS("Stopped")
	klog.Flush()
	return err
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
