// Decide measures deciders as processes, over the contract and nothing else: what a
// decision costs on clusters of all sizes, and how long 1,000,000 pods onto 1,000,000
// nodes take.
//
// Reading order: run.go (which cases are measured, in which order), measure.go (one
// case), million.go and replay.go (a million pods, and whether the plain solver
// answers the same), feed.go (the state that a decider is fed), process.go (the
// deciders), wire.go (messages), table.go (what is printed). internal/workload makes up
// clusters and pods.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/berth-scheduler/berth/deploy/bench/decide/internal/workload"
)

const usage = `Usage: bench-decide [flags]
       bench-decide million [flags]
       bench-decide replay [flags]

Measures deciders. Without a command: what a decision costs, by solver, number of
nodes, how full they are, and kind of pod. Every answer of indexed and upstream is
compared with plain's. All of it takes about half an hour and 12 GB of memory; up to
50,000 nodes a quarter of an hour and 2 GB.

  --solvers LIST    plain, indexed, upstream (default all)
  --nodes LIST      numbers of nodes (default 1000,5000,50000,1000000)
  --classes LIST    in how many classes plain pods are, in turn; those that differ in
                    their names alone are of one class (default 1,100,1000)
  --full LIST       which part of each node is taken (default 0,0.5,0.95)
  --kinds LIST      kinds of pods besides plain, on half-full nodes or the only
                    --full there is (default all; none for none): node-selector,
                    node-affinity, toleration, preferred-node, hard-spread,
                    soft-spread, default-spread, pod-affinity, preferred-pods,
                    anti-affinity, unique (each pod is a class of its own), daemon
                    (each pod names its node), mixed (those of million)
  --seconds D       how long each case is measured (default 1s)
  --limit D         cases whose single decision takes longer are skipped
                    (default 20s)
  --batch N         pods in one request, at most (default 1000)
  --upstream-nodes N  upstream is skipped on more nodes (default 50000)
  --json FILE       write all that was measured as JSON
  --plot FILE       draw cost against nodes, as SVG

million feeds one indexed decider an empty cluster and has it place pods of twenty
classes, batch by batch; the placements of each go back through Sync before the next.
It writes what was decided to --history.

  --nodes N         (default 1000000)
  --pods N          (default 1000000)
  --batch N         pods in one request (default 4096)
  --sample N        how many decisions are kept for replay (default 10000)
  --history FILE    (default bench-decide.history)
  --json FILE       write the figures as JSON

replay feeds a plain decider the same states and asks it about the decisions that were
kept. What it has compared is noted in a file beside --history: it can be interrupted
and started again.

  --history FILE    (default bench-decide.history)
  --solver NAME     who is asked (default plain)
  --for D           ends after this time; 0 means when all is compared (default 0)

All:
  --bin DIR         where the deciders are (default: the folder of this program)

Exit status 1 if answers differ or something failed, 2 if the command line makes no
sense.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(usage)
	case errors.As(err, new(usageError)):
		fmt.Fprintln(os.Stderr, "bench-decide:", err)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench-decide:", err)
		os.Exit(1)
	}
}

// usageError is a command line that cannot be carried out.
type usageError struct{ error }

// run carries out a command line. What was measured goes to out, how far it is to
// progress.
func run(ctx context.Context, args []string, out, progress io.Writer) error {
	command := "costs"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet("bench-decide", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	bin := flags.String("bin", programFolder(), "")
	var do func() error
	switch command {
	case "costs":
		o := costsFlags(flags)
		do = func() error { return costs(ctx, processes(*bin), o, out, progress) }
	case "million":
		o := millionFlags(flags)
		do = func() error { return million(ctx, processes(*bin), o, out, progress) }
	case "replay":
		o := replayFlags(flags)
		do = func() error { return replay(ctx, processes(*bin), o, out, progress) }
	default:
		return usageError{fmt.Errorf("unknown command %q: there are million and replay", command)}
	}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil {
		return usageError{fmt.Errorf("%w; see bench-decide --help", err)}
	}
	if flags.NArg() > 0 {
		return usageError{fmt.Errorf("unexpected argument %q: everything else is a flag", flags.Arg(0))}
	}
	return do()
}

// programFolder is the folder of the running program, where the deciders are too.
func programFolder() string {
	exe, err := os.Executable()
	if err != nil {
		return "bin"
	}
	return filepath.Dir(exe)
}

// list is a flag of values with commas between them.
type list[T any] struct {
	values *[]T
	parse  func(string) (T, error)
}

func (l list[T]) String() string { return "" }

func (l list[T]) Set(s string) error {
	*l.values = nil
	for field := range strings.SplitSeq(s, ",") {
		v, err := l.parse(field)
		if err != nil {
			return fmt.Errorf("%q: %w", field, err)
		}
		*l.values = append(*l.values, v)
	}
	return nil
}

// positive parses a number above 0.
func positive(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err == nil && n < 1 {
		err = errors.New("want 1 or more")
	}
	return n, err
}

// part parses a number from 0 to 1.
func part(s string) (float64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err == nil && !(f >= 0 && f <= 1) {
		err = errors.New("want 0 to 1")
	}
	return f, err
}

// among parses one of some names.
func among(names []string) func(string) (string, error) {
	return func(s string) (string, error) {
		if !slices.Contains(names, s) {
			return "", fmt.Errorf("want one of %s", strings.Join(names, ", "))
		}
		return s, nil
	}
}

// kindNames are those of all kinds.
func kindNames() []string {
	var names []string
	for _, k := range workload.Kinds(&workload.Cluster{Nodes: 1}) {
		names = append(names, k.Name)
	}
	return append(names, mixed)
}

func median[T cmp.Ordered](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// seconds prints a time in seconds.
func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
