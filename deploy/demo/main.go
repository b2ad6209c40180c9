// Demo shows Berth at work: it starts a local cluster, deciders and a watcher,
// creates a workload, tells what becomes of it, and has bin/check judge the run.
//
// It drives the same programs as a user would and shares no code with them.
//
// Reading order: demo.go is a run from beginning to end, cluster.go what it does
// to the API server, family.go its processes and how they end, progress.go
// what is printed while pods are placed, hints.go what is printed for those who
// want to look around. The pure parts are internal/workload (what is created and
// what must become of it), internal/openb (a trace as a workload) and
// internal/outcome (what became of it).
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
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

const usage = `Usage: demo [flags]

Starts a Kubernetes control plane on loopback with simulated kubelets, two
deciders and a watcher; schedules a workload; prints a summary and bin/check's
judgement; and stays up until Ctrl-C, which ends everything.

  --once            end after the summary. Exit status 0 only if every pod that
                    can fit is bound and Running, every other has
                    PodScheduled=False with the expected reason, and bin/check
                    found no violation
  --nodes N         simulated nodes (default 50, at least 6)
  --pods N          pods; an eighth of them cannot fit, for three different
                    reasons (default 500, at least 10)
  --deciders N      deciders to start. With 0 the watcher is given an address
                    where nobody listens (default 2)
  --timeout D       how long pods may take before what is missing is listed
                    (default 10m)
  --trace DIR       schedule the openb trace in DIR instead: all of its nodes and
                    the pods of openb_pod_list_default.csv
  --trace-pods NAME the pods of openb_pod_list_NAME.csv
  --cluster FILE    use the cluster of this kubeconfig, in namespace berth-demo
                    alone, which is removed at the end. Creates no nodes. The
                    environment's KUBECONFIG is never used
  --yes             with --cluster: do not ask
  --dir DIR         where the local cluster and all logs are (default .local/run)
  --bin DIR         where the programs are (default: the folder of this program)
`

type options struct {
	once, yes                      bool
	nodes, pods, deciders          int
	timeout                        time.Duration
	trace, tracePods, cluster, dir string
	bin                            string
}

// parse reads the command line. flag.ErrHelp means that help was asked for.
func parse(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("demo", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are printed once, by main
	fs.BoolVar(&o.once, "once", false, "")
	fs.IntVar(&o.nodes, "nodes", 50, "")
	fs.IntVar(&o.pods, "pods", 500, "")
	fs.IntVar(&o.deciders, "deciders", 2, "")
	fs.DurationVar(&o.timeout, "timeout", 10*time.Minute, "")
	fs.StringVar(&o.trace, "trace", "", "")
	fs.StringVar(&o.tracePods, "trace-pods", "default", "")
	fs.StringVar(&o.cluster, "cluster", "", "")
	fs.BoolVar(&o.yes, "yes", false, "")
	fs.StringVar(&o.dir, "dir", filepath.Join(".local", "run"), "")
	fs.StringVar(&o.bin, "bin", programFolder(), "")
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return o, err
	} else if err != nil {
		return o, fmt.Errorf("%w; see demo --help", err)
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	return o, o.validate(given, fs.Args())
}

// validate returns the first complaint about o. given are the flags that were
// on the command line.
func (o options) validate(given map[string]bool, rest []string) error {
	clash := func(a, b, why string) error {
		if given[a] && given[b] {
			return fmt.Errorf("--%s and --%s exclude each other: %s", a, b, why)
		}
		return nil
	}
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q: everything is a flag, see demo --help", rest[0])
	case o.deciders < 0:
		return fmt.Errorf("--deciders %d: want 0 or more", o.deciders)
	case o.timeout <= 0:
		return fmt.Errorf("--timeout %s: want more than 0", o.timeout)
	case given["trace-pods"] && o.trace == "":
		return errors.New("--trace-pods needs --trace, the folder of the trace")
	}
	return errors.Join(
		clash("trace", "nodes", "the trace brings its own nodes"),
		clash("trace", "pods", "the trace brings its own pods"),
		clash("trace", "cluster", "the trace needs simulated nodes"),
		clash("cluster", "nodes", "an existing cluster keeps the nodes it has"),
	)
}

// programFolder is the folder of the running program, where the others are too.
func programFolder() string {
	exe, err := os.Executable()
	if err != nil {
		return "bin"
	}
	return filepath.Dir(exe)
}

func main() {
	// client-go would report on its watches between the lines of progress.
	klog.SetLogger(logr.Discard())
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		fmt.Print(usage)
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = run(ctx, o, terminal{in: os.Stdin, out: os.Stdout})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}
