// Chaos breaks things while Berth schedules: it runs a local cluster, watchers and
// deciders with pods that come and go, kills processes and cuts connections by a plan
// that is drawn from a seed, and judges what became of the pods.
//
// Reading order: chaos.go is a run from beginning to end, cluster.go the API server,
// fleet.go the processes, which are started again when they end, faults.go what is done
// to them, churn.go what is done to pods, pods.go what is seen of them, judge.go the
// verdict, report.go how it is told. The pure parts are internal/plan (what is broken,
// and when), internal/workload (nodes and pods), internal/trace (what the audit log
// says) and internal/evictions (who was evicted for whom); internal/proxy is the
// network.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"

	"github.com/berth-scheduler/berth/deploy/chaos/internal/plan"
)

const usage = `Usage: chaos [flags]

Starts a Kubernetes control plane on loopback with simulated kubelets, two watchers
and several deciders, and creates and deletes pods of all priorities with all kinds
of constraints, more than fit now and then. Meanwhile deciders, the watcher that
leads, kube-apiserver and etcd are killed (-9) and started again, and connections
between watchers and deciders and between watchers and API server are reset,
delayed, silenced and half closed. Then faults end, the cluster comes to rest, and
the run is judged: by bin/check, by what the audit log says about evictions, and by
whether every pod is bound or says why it is not.

  --minutes N      how long things are broken (default 10; 0.5 is possible)
  --pods N         pods to create in that time (default 20000)
  --nodes N        simulated nodes of 16 cpus (default one per 100 pods, at least
                   10). A quarter of the pods of the default fill them
  --deciders N     deciders (default 3)
  --seed N         start of the plan of faults and of the stream of pods; equal
                   seeds have equal ones, though not equal runs (default: drawn,
                   and printed)
  --faults LIST    which faults, separated by commas (default
                   decider,watcher,apiserver,etcd,proxy); empty is none
  --plan           print the plan of faults and end
  --json FILE      also write the verdict and all figures to FILE
  --dir DIR        where the cluster and all logs are (default .local/chaos)
  --keep           leave the cluster running after the verdict, until Ctrl-C
  --bin DIR        where the programs are (default: the folder of this program)

Exit status: 0 nothing was violated, 1 something was, 2 it cannot be judged.
`

// The exit statuses.
const (
	exitViolated    = 1
	exitCannotJudge = 2
)

// watchers is how many there are.
const watchers = 2

type options struct {
	length                time.Duration
	pods, nodes, deciders int
	seed                  uint64
	faults                []plan.Kind
	planOnly, keep        bool
	json, dir, bin        string
}

// parse reads the command line. flag.ErrHelp means that help was asked for.
func parse(args []string) (options, error) {
	o := options{}
	fs := flag.NewFlagSet("chaos", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are printed once, by main
	minutes := fs.Float64("minutes", 10, "")
	fs.IntVar(&o.pods, "pods", 20000, "")
	fs.IntVar(&o.nodes, "nodes", 0, "")
	fs.IntVar(&o.deciders, "deciders", 3, "")
	fs.Uint64Var(&o.seed, "seed", 0, "")
	faults := fs.String("faults", "decider,watcher,apiserver,etcd,proxy", "")
	fs.BoolVar(&o.planOnly, "plan", false, "")
	fs.StringVar(&o.json, "json", "", "")
	fs.StringVar(&o.dir, "dir", filepath.Join(".local", "chaos"), "")
	fs.BoolVar(&o.keep, "keep", false, "")
	fs.StringVar(&o.bin, "bin", programFolder(), "")
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return o, err
	} else if err != nil {
		return o, fmt.Errorf("%w; see chaos --help", err)
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q: everything is a flag, see chaos --help", fs.Arg(0))
	}
	o.length = time.Duration(*minutes * float64(time.Minute))
	if o.nodes == 0 {
		o.nodes = max(10, o.pods/100)
	}
	for o.seed == 0 {
		o.seed = uint64(rand.Uint32())
	}
	var err error
	if o.faults, err = plan.Parse(*faults); err != nil {
		return o, fmt.Errorf("--faults: %w", err)
	}
	var errs []error
	if !(*minutes >= 0.1 && *minutes <= 24*60) || math.IsNaN(*minutes) {
		errs = append(errs, fmt.Errorf("--minutes %v: want 0.1 to 1440", *minutes))
	}
	for _, n := range []struct {
		flag  string
		value int
		least int
	}{{"pods", o.pods, 10}, {"nodes", o.nodes, 10}, {"deciders", o.deciders, 1}} {
		if n.value < n.least {
			errs = append(errs, fmt.Errorf("--%s %d: want %d at least", n.flag, n.value, n.least))
		}
	}
	return o, errors.Join(errs...)
}

// plan is the plan of the run.
func (o options) plan() []plan.Fault {
	return plan.Draw(plan.Setting{Seed: o.seed, Kinds: o.faults, Length: o.length, Deciders: o.deciders, Watchers: watchers})
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
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(usage)
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(exitCannotJudge)
	case o.planOnly:
		fmt.Printf("seed %d\n", o.seed)
		for _, f := range o.plan() {
			fmt.Println(f)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status, err := run(ctx, o, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
	os.Exit(status)
}
