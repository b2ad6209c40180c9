package main

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/berth-scheduler/berth/proto/scenario"
)

// Report is what came of a run.
type Report struct {
	Cases    int
	Refused  int            // generated cases that the API server would not take
	Indexed  int            // decisions that were asked of the index
	Excepted map[string]int // cases by the known difference that they showed
	Failures []*Failure     // the first case of each kind of difference, by number
	Coverage Coverage
}

// Failure is a case on which the answers differ.
type Failure struct {
	Number     uint64
	Count      int // how many cases differ in this way
	Case       *Case
	Difference *Difference
}

// Run runs cases [0, cases) of seed on all processors. Progress is told how many are
// done, now and then.
func Run(ctx context.Context, seed uint64, cases int, progress func(done int)) (*Report, error) {
	workers := runtime.GOMAXPROCS(0)
	reports := make([]*Report, workers)
	errs := make([]error, workers)
	var done sync.WaitGroup
	var told sync.Mutex
	total := 0
	for w := range workers {
		done.Go(func() {
			judges, err := NewJudges(ctx, true)
			if err != nil {
				errs[w] = err
				return
			}
			reports[w] = newReport()
			for number := w; number < cases; number += workers {
				if errs[w] = reports[w].run(ctx, judges, seed, uint64(number)); errs[w] != nil {
					return
				}
				told.Lock()
				if total++; total%1000 == 0 {
					progress(total)
				}
				told.Unlock()
			}
			reports[w].Indexed = judges.fed.decisions
		})
	}
	done.Wait()
	out := newReport()
	for w := range workers {
		if errs[w] != nil {
			return nil, errs[w]
		}
		out.add(reports[w])
	}
	return out, nil
}

func newReport() *Report { return &Report{Excepted: map[string]int{}, Coverage: NewCoverage()} }

// run runs one case.
func (r *Report) run(ctx context.Context, judges *Judges, seed, number uint64) error {
	r.Cases++
	c := Generate(seed, number)
	admitted, err := c.admit()
	if err != nil {
		r.Refused++
		return nil
	}
	want, difference, err := judges.Run(ctx, admitted)
	if err != nil {
		return fmt.Errorf("case %d of seed %d: %w", number, seed, err)
	}
	r.Coverage.Observe(admitted, want)
	if difference == nil {
		return nil
	}
	if known := exceptionOf(admitted, difference); known != nil {
		r.Excepted[known.Name]++
		return nil
	}
	r.fail(&Failure{Number: number, Count: 1, Case: c, Difference: difference})
	return nil
}

func (r *Report) fail(f *Failure) {
	i := slices.IndexFunc(r.Failures, func(g *Failure) bool { return g.Difference.Kind == f.Difference.Kind })
	if i < 0 {
		r.Failures = append(r.Failures, f)
		return
	}
	g := r.Failures[i]
	count := f.Count + g.Count
	if f.Number < g.Number {
		r.Failures[i] = f
	}
	r.Failures[i].Count = count
}

func (r *Report) add(other *Report) {
	r.Cases += other.Cases
	r.Refused += other.Refused
	r.Indexed += other.Indexed
	r.Coverage.Add(other.Coverage)
	for name, n := range other.Excepted {
		r.Excepted[name] += n
	}
	for _, f := range other.Failures {
		r.fail(f)
	}
	slices.SortFunc(r.Failures, func(a, b *Failure) int { return cmp.Compare(a.Number, b.Number) })
}

// Shrink makes the case small and keeps the kind of the difference.
func (f *Failure) Shrink(ctx context.Context, judges *Judges) error {
	same := func(c *Case) *Difference {
		admitted, err := c.admit()
		if err != nil {
			return nil
		}
		judges.fed.forget()
		_, difference, err := judges.Run(ctx, admitted)
		if err != nil || difference == nil || difference.Kind != f.Difference.Kind || exceptionOf(admitted, difference) != nil {
			return nil
		}
		return difference
	}
	if f.Difference.Kind == byIndex && same(f.Case) == nil {
		return nil // it takes the cases before, too
	}
	f.Case = shrink(f.Case, func(c *Case) bool { return same(c) != nil })
	difference := same(f.Case)
	if difference == nil {
		return fmt.Errorf("case %d: %s comes and goes: the answers are not deterministic", f.Number, f.Difference.Kind)
	}
	f.Difference = difference
	return nil
}

// String is the case as objects and as a scenario, with both answers.
func (f *Failure) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "case %d (%d cases like it): %s\n\n%s\n", f.Number, f.Count, f.Difference, f.Case)
	if admitted, err := f.Case.admit(); err == nil {
		r := request(admitted)
		fmt.Fprintf(&b, "cluster\n%s----\n\ndecide\n", scenario.FormatCluster(r.GetSnapshot()))
		for _, p := range r.GetPods() {
			fmt.Fprintln(&b, scenario.FormatPod(p))
		}
		fmt.Fprintln(&b, "----")
	}
	return b.String()
}
