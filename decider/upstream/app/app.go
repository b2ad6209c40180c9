// Package app is the upstream decider's command line. It is exported so that a main
// of a few lines can have out-of-tree plugins, as with kube-scheduler's own app
// package: see Main and WithPlugin.
package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"k8s.io/klog/v2"
	schedconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/scheme"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/validation"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"

	"github.com/berth-scheduler/berth/decider/service"
	"github.com/berth-scheduler/berth/decider/upstream/batch"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Option changes what the decider is made of.
type Option func(frameworkruntime.Registry) error

// WithPlugin registers an out-of-tree plugin, which profiles of the configuration
// file may then name. factory is what kube-scheduler's app.WithPlugin takes; plugins
// get a framework handle whose informers are filled with the snapshot that is
// decided on and whose client reaches nothing.
func WithPlugin(name string, factory frameworkruntime.PluginFactory) Option {
	return func(registry frameworkruntime.Registry) error { return registry.Register(name, factory) }
}

// Main runs the command line of the process and ends it.
func Main(options ...Option) {
	// The first signal drains, a second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, options...))
}

// usageError is a command line that cannot be carried out: exit status 2.
type usageError struct{ error }

// Run is Main without the process: it serves, or does what else args ask for, until
// ctx ends, and returns the exit status.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, options ...Option) int {
	err := run(ctx, args, stdin, stdout, stderr, options)
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "upstream: %v\n", err)
		return 2
	}
	fmt.Fprintf(stderr, "upstream: %v\n", err)
	return 1
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, options []Option) error {
	registry := frameworkruntime.Registry{}
	for _, option := range options {
		if err := option(registry); err != nil {
			return err
		}
	}
	if len(args) > 0 && args[0] == "decide" {
		return decide(ctx, args[1:], stdin, stdout, registry)
	}
	return serve(ctx, args, stdout, stderr, registry)
}

// newSolver reads the configuration file, if there is one, as kube-scheduler does.
func newSolver(ctx context.Context, file string, plugins frameworkruntime.Registry) (*batch.Solver, error) {
	var profiles []schedconfig.KubeSchedulerProfile
	if file != "" {
		config, err := readConfig(file)
		if err != nil {
			return nil, err
		}
		profiles = config.Profiles
	}
	solver, err := batch.New(ctx, profiles, plugins)
	if err != nil {
		return nil, usageError{fmt.Errorf("--config %s: %w", file, err)}
	}
	return solver, nil
}

// readConfig decodes, defaults and validates a KubeSchedulerConfiguration.
func readConfig(file string) (*schedconfig.KubeSchedulerConfiguration, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	object, kind, err := scheme.Codecs.UniversalDecoder().Decode(data, nil, nil)
	if err != nil {
		return nil, usageError{fmt.Errorf("--config %s: %w", file, err)}
	}
	config, ok := object.(*schedconfig.KubeSchedulerConfiguration)
	if !ok {
		return nil, usageError{fmt.Errorf("--config %s: it is a %s; a KubeSchedulerConfiguration is wanted", file, kind.Kind)}
	}
	config.APIVersion = kind.GroupVersion().String()
	if err := validation.ValidateKubeSchedulerConfiguration(config); err != nil {
		return nil, usageError{fmt.Errorf("--config %s: %w", file, err)}
	}
	if len(config.Extenders) > 0 {
		return nil, usageError{fmt.Errorf("--config %s: extenders: this decider asks nobody: remove them", file)}
	}
	return config, nil
}

// decide answers one saved request without a server.
func decide(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer, plugins frameworkruntime.Registry) error {
	o, err := parseDecideOptions(args, stdout)
	if err != nil || o == nil {
		return err
	}
	encoded, err := io.ReadAll(stdin)
	if err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	request := &berthv1.DecideRequest{}
	if err := protojson.Unmarshal(encoded, request); err != nil {
		return fmt.Errorf("the request on standard input is no DecideRequest in json: %w", err)
	}
	if o.explain {
		request.Explanation = berthv1.ExplanationLevel_EXPLANATION_LEVEL_NODES
	}
	solver, err := newSolver(ctx, o.config, plugins)
	if err != nil {
		return err
	}
	s, err := service.New(service.Config{Solver: solver, Version: buildVersion()})
	if err != nil {
		return err
	}
	response, err := s.Decide(ctx, request)
	if err != nil {
		return fmt.Errorf("%v: %s", status.Code(err), status.Convert(err).Message())
	}
	if encoded, err = protojson.Marshal(response); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	// protojson varies its spaces from build to build.
	encoder := json.NewEncoder(stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(json.RawMessage(encoded))
}

// serve serves until ctx ends.
func serve(ctx context.Context, args []string, stdout, stderr io.Writer, plugins frameworkruntime.Registry) error {
	o, err := parseServeOptions(args, stdout)
	if err != nil || o == nil {
		return err
	}
	if err := o.setUpLogging(stderr); err != nil {
		return err
	}
	solver, err := newSolver(ctx, o.config, plugins)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s, err := service.New(service.Config{
		Solver:          solver,
		Version:         buildVersion(),
		MaxMessageBytes: o.maxMessageBytes,
		MaxPods:         o.maxPods,
		MaxConcurrent:   o.maxConcurrent,
		MaxWaiting:      o.maxWaiting,
		OmitStateDigest: !o.stateDigest,
		DrainTimeout:    o.drainTimeout,
		Logger:          klog.Background(),
		Registerer:      registry,
	})
	if err != nil {
		return usageError{err}
	}
	listener, err := net.Listen(o.network())
	if err != nil {
		return fmt.Errorf("--listen %s: %w", o.listen, err)
	}
	group, ctx := errgroup.WithContext(ctx)
	// Metrics and health outlive the drain.
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
	klog.InfoS("Serving decisions", "address", listener.Addr().String(), "profiles", solver.Profiles(), "version", buildVersion())
	group.Go(func() error {
		defer setDrained()
		return s.Serve(ctx, listener)
	})
	err = group.Wait()
	klog.InfoS("Stopped")
	klog.Flush()
	return err
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
	return server.Close()
}
