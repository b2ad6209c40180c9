// Package app is the upstream decider's command line. It is exported so that a main
// of a few lines can have out-of-tree plugins, as with kube-scheduler's own app
// package: see Main and WithPlugin.
package app

import (
	"context"
	"flag"
	"fmt"
	"os"

	schedconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/scheme"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/validation"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"

	"github.com/berth-scheduler/berth/decider/process"
	"github.com/berth-scheduler/berth/decider/service"
	"github.com/berth-scheduler/berth/decider/upstream/batch"
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
func Main(options ...Option) { Program(options...).Main() }

// Program is the command line that Main runs.
func Program(options ...Option) process.Program {
	return process.Program{
		Name:    "upstream",
		Purpose: "upstream answers over gRPC which node kube-scheduler's own plugins would give each pod.",
		Flags: func(flags *flag.FlagSet) process.Configure {
			file := flags.String("config", "", "`file` with a KubeSchedulerConfiguration, read by kube-scheduler's own loader; its profiles decide for their scheduler names; empty means the default profile for every one")
			return func(ctx context.Context) (service.Config, []any, error) {
				solver, err := newSolver(ctx, *file, options)
				if err != nil {
					return service.Config{}, nil, err
				}
				return service.Config{Solver: solver}, []any{"profiles", solver.Profiles()}, nil
			}
		},
	}
}

// newSolver reads the configuration file, if there is one, as kube-scheduler does.
func newSolver(ctx context.Context, file string, options []Option) (*batch.Solver, error) {
	plugins := frameworkruntime.Registry{}
	for _, option := range options {
		if err := option(plugins); err != nil {
			return nil, err
		}
	}
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
		return nil, process.UsageError{Err: fmt.Errorf("--config %s: %w", file, err)}
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
		return nil, process.UsageError{Err: fmt.Errorf("--config %s: %w", file, err)}
	}
	config, ok := object.(*schedconfig.KubeSchedulerConfiguration)
	if !ok {
		return nil, process.UsageError{Err: fmt.Errorf("--config %s: it is a %s; a KubeSchedulerConfiguration is wanted", file, kind.Kind)}
	}
	config.APIVersion = kind.GroupVersion().String()
	if err := validation.ValidateKubeSchedulerConfiguration(config); err != nil {
		return nil, process.UsageError{Err: fmt.Errorf("--config %s: %w", file, err)}
	}
	if len(config.Extenders) > 0 {
		return nil, process.UsageError{Err: fmt.Errorf("--config %s: extenders: this decider asks nobody: remove them", file)}
	}
	return config, nil
}
