// Bench compares Berth with kube-scheduler and with no scheduler at all: it runs
// each of them in turn on a local cluster of etcd and kube-apiserver alone,
// counts a run only if bin/check finds nothing wrong with it, and prints what
// came out of it side by side.
//
// It drives the programs that a user has and shares no code with them.
//
// Two measurements of Berth alone are commands of their own: replicas.go is several
// deciders side by side, takeover.go the death of a leader; aside.go is what they share.
//
// Reading order of the rest: bench.go is which runs are made and in which order, trial.go one
// run from beginning to end, system.go what is compared, bind.go what binds
// without a scheduler, cluster.go what is done to the API server, usage.go what
// programs use. The pure parts are internal/workload (what is scheduled),
// internal/timeline (when what happened), internal/result (what is kept and
// printed), internal/plot (how it is drawn), and internal/scrape, internal/replicas and
// internal/takeover for the two commands.
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
	"strings"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"

	"github.com/berth-scheduler/berth/deploy/bench/internal/workload"
)

const usageText = `Usage: bench [flags]
       bench replicas [flags]   four slow deciders beside one
       bench takeover [flags]   the leader is killed while pods are scheduled

Measures how fast pods are placed, what it costs, and how long a pod waits: by
Berth, by kube-scheduler, and by nobody, on one local cluster. Rows are printed as
runs end and kept, so that an interrupted benchmark goes on where it was; at the
end there is a report in Markdown with charts. docs/performance.md says what is
measured and what each column means.

  --workloads A,B  what is scheduled (default all that are listed below)
  --systems A,B    what is compared (default all that are listed below)
  --rounds N       how often each is measured, interleaved with the others
                   (default 3; 1 with --quick)
  --quick          500 nodes and 300 pods: seconds per run, to see that all works
  --nodes N        nodes (default 5000)
  --pods N         pods of each workload (default: those listed below)
  --again          measure anew what has been measured before
  --report         measure nothing; print the report of the last benchmark
  --json           print rows and report as JSON lines
  --results DIR    where rows, report and charts are kept (default: bench-results
                   beside this program)
  --dir DIR        where the cluster and all logs are (default .local/bench)
  --bin DIR        where the programs are (default: the folder of this program)

For example:
  bench --quick --workloads equal
  bench --workloads hard-spread,half-too-big --systems kube-scheduler,berth --rounds 1

How long it will take is said at the beginning. All of it takes more than an hour,
on a machine that should have nothing else to do.

A row that was kept is used again only if the programs (etcd, kube-apiserver,
kube-scheduler, watcher, decider, check and this one) and the nodes are the same.
Exit status 0 only if every run counts.
`

const (
	defaultNodes, quickNodes = 5000, 500
	quickPods                = 300
)

type options struct {
	workloads           []workload.Workload
	systems             []system
	named               bool // systems were named
	rounds, nodes       int
	pods                int // 0 is each workload's own number
	again, report, json bool
	results, dir, bin   string
	rawWorkloads        string
	rawSystems          string
}

// parse reads the command line. flag.ErrHelp means that help was asked for.
func parse(args []string) (options, error) {
	o := options{}
	var quick bool
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are printed once, by main
	fs.StringVar(&o.rawWorkloads, "workloads", "", "")
	fs.StringVar(&o.rawSystems, "systems", "", "")
	fs.IntVar(&o.rounds, "rounds", 0, "")
	fs.BoolVar(&quick, "quick", false, "")
	fs.IntVar(&o.nodes, "nodes", 0, "")
	fs.IntVar(&o.pods, "pods", 0, "")
	fs.BoolVar(&o.again, "again", false, "")
	fs.BoolVar(&o.report, "report", false, "")
	fs.BoolVar(&o.json, "json", false, "")
	fs.StringVar(&o.results, "results", filepath.Join(programFolder(), "bench-results"), "")
	fs.StringVar(&o.dir, "dir", filepath.Join(".local", "bench"), "")
	fs.StringVar(&o.bin, "bin", programFolder(), "")
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return o, err
	} else if err != nil {
		return o, fmt.Errorf("%w; see bench --help", err)
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q: everything is a flag, see bench --help", fs.Arg(0))
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	fill := func(name string, value *int, normal, quickly int) {
		if !given[name] {
			*value = normal
			if quick {
				*value = quickly
			}
		}
	}
	fill("rounds", &o.rounds, 3, 1)
	fill("nodes", &o.nodes, defaultNodes, quickNodes)
	fill("pods", &o.pods, 0, quickPods)
	switch {
	case o.rounds < 1:
		return o, fmt.Errorf("--rounds %d: want 1 or more", o.rounds)
	case o.nodes < workload.MinNodes:
		return o, fmt.Errorf("--nodes %d: want at least %d", o.nodes, workload.MinNodes)
	case o.pods < 0 || given["pods"] && o.pods == 0:
		return o, fmt.Errorf("--pods %d: want 1 or more", o.pods)
	}
	return o, o.choose()
}

// choose looks up what was named.
func (o *options) choose() error {
	o.workloads, o.systems = workload.All(), systems()
	if o.rawWorkloads != "" {
		o.workloads = nil
		for name := range strings.SplitSeq(o.rawWorkloads, ",") {
			w, err := workload.Find(name)
			if err != nil {
				return fmt.Errorf("--workloads: %w", err)
			}
			o.workloads = append(o.workloads, w)
		}
	}
	if o.rawSystems != "" {
		o.named, o.systems = true, nil
		for name := range strings.SplitSeq(o.rawSystems, ",") {
			s, err := findSystem(name)
			if err != nil {
				return fmt.Errorf("--systems: %w", err)
			}
			o.systems = append(o.systems, s)
		}
	}
	return nil
}

// help is all that there is to know on the command line.
func help() string {
	var b strings.Builder
	b.WriteString(usageText)
	b.WriteString("\nWorkloads:\n")
	for _, w := range workload.All() {
		fmt.Fprintf(&b, "  %-15s %5d pods: %s\n", w.Name, w.Pods, w.Description)
	}
	b.WriteString("\nSystems:\n")
	for _, s := range systems() {
		fmt.Fprintf(&b, "  %-15s %s\n", s.name, s.description)
	}
	return b.String()
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
	// client-go would report on its watches between the rows.
	klog.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
