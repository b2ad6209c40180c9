// Command differential holds Berth to kube-scheduler. It makes up Kubernetes objects,
// has the API server's own code default and validate them, and asks three times
// where the pods should go: kube-scheduler's plugins on the objects, Berth's decider
// on what the watcher says of them, and the decider of decider/upstream on the same
// messages. A decider that is fed the clusters as changes of each other has to answer
// by its index what Berth's answers without. Every difference that is not a known one is
// shrunk and printed.
//
// In reading order: case.go is what is asked, generate.go and meetings.go make it up, answers.go
// and fed.go ask, compare.go compares, shrink.go makes a failure readable, coverage.go counts
// what was exercised, exceptions.go lists what is known to differ.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"k8s.io/klog/v2"

	"github.com/berth-scheduler/berth/proto/scenario"
)

func main() {
	klog.LogToStderr(false)
	klog.SetOutput(nothing{})
	seed := flag.Uint64("seed", 1, "what the cases are drawn from")
	cases := flag.Int("cases", 2000, "how many cases to run")
	only := flag.Int64("case", -1, "run and print this case alone")
	stop := flag.Bool("first", false, "stop at the first difference and say how many cases it took; exits with 2")
	save := flag.String("save", "", "a directory to write shrunk cases into")
	flag.Parse()
	var err error
	switch {
	case *only >= 0:
		err = one(context.Background(), *seed, uint64(*only))
	case *stop:
		err = first(context.Background(), *seed, *cases)
	default:
		err = all(context.Background(), *seed, *cases, *save)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "differential:", err)
		if errors.Is(err, errDiffer) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

// nothing discards what kube-scheduler's plugins log about every pod.
type nothing struct{}

func (nothing) Write(p []byte) (int, error) { return len(p), nil }

// all runs cases, prints what came of them and returns an error if anything differs
// or was not exercised.
func all(ctx context.Context, seed uint64, cases int, save string) error {
	start := time.Now()
	report, err := Run(ctx, seed, cases, func(done int) {
		fmt.Fprintf(os.Stderr, "\r%d of %d cases, %.0f/s ", done, cases, float64(done)/time.Since(start).Seconds())
	})
	fmt.Fprintln(os.Stderr)
	if err != nil {
		return err
	}
	judges, err := NewJudges(ctx, true)
	if err != nil {
		return err
	}
	for i, f := range report.Failures {
		if i < 20 {
			if err := f.Shrink(ctx, judges); err != nil {
				return err
			}
			fmt.Printf("%s\n", f)
			if save != "" {
				name := filepath.Join(save, fmt.Sprintf("seed-%d-case-%d.yaml", seed, f.Number))
				if err := os.WriteFile(name, []byte(f.Case.String()), 0o644); err != nil {
					return err
				}
			}
		} else {
			fmt.Printf("case %d (%d cases like it): %s\n", f.Number, f.Count, f.Difference)
		}
	}
	report.Coverage.Print(os.Stdout)
	for _, e := range exceptions {
		fmt.Printf("%8d  known difference: %s\n", report.Excepted[e.Name], e.Name)
	}
	fmt.Printf("%8d  decisions asked of the index, on states that became of each other\n", report.Indexed)
	fmt.Printf("%d cases of seed %d, %d of them refused by validation, in %s: %d kinds of difference\n",
		report.Cases, seed, report.Refused, time.Since(start).Round(time.Second), len(report.Failures))
	missing := report.Coverage.Missing()
	switch {
	case len(report.Failures) > 0:
		return fmt.Errorf("answers differ; run one case with --case")
	case len(missing) > 0:
		return fmt.Errorf("not exercised: %q", missing)
	}
	return nil
}

// one runs and prints one case.
func one(ctx context.Context, seed, number uint64) error {
	judges, err := NewJudges(ctx, true)
	if err != nil {
		return err
	}
	report := newReport()
	if err := report.run(ctx, judges, seed, number); err != nil {
		return err
	}
	for _, f := range report.Failures {
		if err := f.Shrink(ctx, judges); err != nil {
			return err
		}
		fmt.Println(f)
		return fmt.Errorf("answers differ")
	}
	c := Generate(seed, number)
	fmt.Print(c)
	if c, err = c.admit(); err != nil {
		return err
	}
	decisions, _, err := judges.Run(ctx, c)
	for _, d := range decisions {
		fmt.Print(scenario.FormatDecision(d))
	}
	return err
}
