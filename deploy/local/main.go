// Command local runs a real Kubernetes control plane on loopback: etcd,
// kube-apiserver, kube-controller-manager and, on request, kube-scheduler, each
// a process of its own that can be killed and restarted alone, with kubelets
// simulated by kwok.
//
// Reading order: cluster.go says what runs and with which flags, process.go how
// one process is started and ended, supervisor.go ties them together, control.go
// is the line from the other subcommands to a running cluster, build.go compiles
// the programs. The rest is material: pki.go certificates, api.go a minimal API
// client, nodes.go the simulated nodes, config/ the files the components read.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// A command is one subcommand.
type command struct {
	name  string
	short string // one line for `local --help`
	help  string // the whole of `local NAME --help`
	run   func(ctx context.Context, args []string, stdout, stderr io.Writer) error
}

// commands in the order in which `local --help` lists them. A function, since
// the commands' own errors refer to it.
func commands() []command {
	return []command{
		{"build", "compile the control plane into a folder", buildHelp, runBuild},
		{"up", "start a cluster and keep it until interrupted", upHelp, runUp},
		{"down", "end the cluster of a folder", downHelp, runDown},
		{"restart", "end one component gently and start it again", restartHelp, runRestart},
		{"kill", "kill -9 one component and leave it dead", killHelp, runKill},
	}
}

// A usageError is a mistake on the command line: exit status 2 instead of 1.
type usageError struct{ error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "local:", err)
	if errors.As(err, new(usageError)) {
		os.Exit(2)
	}
	os.Exit(1)
}

// run carries out one command line. Help goes to stdout and is no error.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return usagef("which subcommand? See local --help")
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, "local runs a real Kubernetes control plane on loopback with simulated kubelets.\n\nUsage: local COMMAND [flags]\n\n")
		for _, c := range commands() {
			fmt.Fprintf(stdout, "  %-8s  %s\n", c.name, c.short)
		}
		fmt.Fprint(stdout, "\nlocal COMMAND --help tells the rest.\n")
		return nil
	}
	for _, c := range commands() {
		if c.name != args[0] {
			continue
		}
		err := c.run(ctx, args[1:], stdout, stderr)
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(stdout, c.help)
			return nil
		}
		return err
	}
	return usagef("unknown subcommand %q; see local --help", args[0])
}

// parse reads flags and hands back the arguments that follow them, which must
// be exactly as many as names. flag.ErrHelp means that help was asked for.
func parse(fs *flag.FlagSet, args []string, names ...string) ([]string, error) {
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil, err
	} else if err != nil {
		return nil, usagef("%s: %v; see local %s --help", fs.Name(), err, fs.Name())
	}
	rest := fs.Args()
	if len(rest) > len(names) {
		return nil, usagef("%s: unexpected argument %q; see local %s --help", fs.Name(), rest[len(names)], fs.Name())
	}
	if len(rest) < len(names) {
		return nil, usagef("%s: %s is missing; see local %s --help", fs.Name(), names[len(rest)], fs.Name())
	}
	return rest, nil
}

// programFolder is the folder of the running program, where build also puts
// the control plane unless told otherwise.
func programFolder() string {
	exe, err := os.Executable()
	if err != nil {
		return "."
	}
	return filepath.Dir(exe)
}

// absolute makes *path absolute, so that it keeps its meaning when the working
// directory changes.
func absolute(path *string) error {
	abs, err := filepath.Abs(*path)
	*path = abs
	return err
}
