// Command mutate breaks Berth, one line at a time, and says whether the differential
// test notices: a rule that can be wrong without a difference is a rule that nobody
// looks at.
//
// mutations.txt is the list. Each mutation is compiled into the differential test by
// an overlay, so that the checkout stays as it is, and runs until the answers differ.
package main

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

//go:embed mutations.txt
var list string

func main() {
	m := &mutator{}
	flag.StringVar(&m.root, "root", "../..", "the repository")
	flag.IntVar(&m.cases, "cases", 2000, "within how many cases each has to be caught")
	flag.Uint64Var(&m.seed, "seed", 1, "what the cases are drawn from")
	parallel := flag.Int("parallel", runtime.GOMAXPROCS(0), "how many are compiled and run at a time")
	only := flag.String("only", "", "try those alone whose name matches this regular expression")
	flag.Parse()
	if err := m.all(context.Background(), *only, *parallel); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

// mutator compiles and runs mutations.
type mutator struct {
	root    string // of the repository; absolute once all runs
	scratch string // a directory of its own
	cases   int
	seed    uint64
}

// all tries the mutations whose names match only, prints what came of them and
// returns an error unless all are caught.
func (m *mutator) all(ctx context.Context, only string, parallel int) error {
	mutations, err := Parse(list)
	if err != nil {
		return fmt.Errorf("mutations.txt: %w", err)
	}
	wanted, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("--only: %w", err)
	}
	mutations = slices.DeleteFunc(mutations, func(mutation Mutation) bool { return !wanted.MatchString(mutation.Name) })
	if len(mutations) == 0 {
		return fmt.Errorf("no mutation's name matches %q", only)
	}
	if m.root, err = filepath.Abs(m.root); err != nil {
		return err
	}
	if m.scratch, err = os.MkdirTemp("", "mutate-"); err != nil {
		return err
	}
	defer os.RemoveAll(m.scratch)

	o, left, err := m.together(mutations)
	if err != nil {
		return err
	}
	binary := filepath.Join(m.scratch, "together")
	if err := m.compile(ctx, o, binary); err != nil {
		return err
	}
	// If the answers differ anyway, nothing is caught.
	if r := m.run(ctx, binary, ""); r.verdict != survived {
		return fmt.Errorf("without a mutation: %s; nothing can be told until that is repaired", r)
	}
	results := make([]result, len(mutations))
	next := make(chan int)
	var workers sync.WaitGroup
	var progress sync.Mutex
	done := 0
	for range max(1, parallel) {
		workers.Go(func() {
			for i := range next {
				if slices.Contains(left, i) {
					results[i] = m.alone(ctx, i, &mutations[i])
				} else {
					results[i] = m.run(ctx, binary, strconv.Itoa(i))
				}
				progress.Lock()
				done++
				fmt.Fprintf(os.Stderr, "%3d of %d  %s: %s\n", done, len(mutations), mutations[i].Name, results[i])
				progress.Unlock()
			}
		})
	}
	for i := range mutations {
		next <- i
	}
	close(next)
	workers.Wait()
	return report(mutations, results)
}

// report prints a table and returns an error unless all are caught.
func report(mutations []Mutation, results []result) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	var took []int
	for i, r := range results {
		fmt.Fprintf(w, "%s\t%s\n", mutations[i].Name, r)
		if r.verdict == caught {
			took = append(took, r.cases)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	slices.Sort(took)
	if len(took) > 0 {
		fmt.Printf("%d of %d mutations caught; half of those within %d cases, the last after %d\n",
			len(took), len(results), took[(len(took)-1)/2], took[len(took)-1])
	}
	if len(took) < len(results) {
		return fmt.Errorf("%d of %d mutations were not caught", len(results)-len(took), len(results))
	}
	return nil
}

// verdict is what came of a mutation.
type verdict int

const (
	broken verdict = iota // it could not be applied, or the test failed otherwise
	stillborn
	survived
	caught
)

// result is a verdict with what explains it.
type result struct {
	verdict verdict
	cases   int    // how many it took, if caught
	text    string // the kind of difference or what failed
}

func (r result) String() string {
	switch r.verdict {
	case caught:
		return fmt.Sprintf("caught after %d cases (%s)", r.cases, r.text)
	case survived:
		return "SURVIVED"
	case stillborn:
		return "does not compile: " + r.text
	}
	return "FAILED: " + r.text
}

// patience is how long one mutation may run: one that never ends is not caught.
const patience = 10 * time.Minute

// alone compiles the differential test with one mutation and runs it.
func (m *mutator) alone(ctx context.Context, number int, mutation *Mutation) result {
	o, err := m.overlay(mutation)
	if err != nil {
		return result{text: err.Error()}
	}
	binary := filepath.Join(m.scratch, fmt.Sprintf("alone-%d", number))
	defer os.Remove(binary)
	if err := m.compile(ctx, o, binary); err != nil {
		return result{verdict: stillborn, text: err.Error()}
	}
	return m.run(ctx, binary, "")
}

// run runs a differential test that was compiled, with the mutation of this number.
func (m *mutator) run(ctx context.Context, binary, number string) result {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	run := exec.CommandContext(ctx, binary, "--first", fmt.Sprintf("--cases=%d", m.cases), fmt.Sprintf("--seed=%d", m.seed))
	run.Env = append(os.Environ(), variable+"="+number)
	var stdout, stderr strings.Builder
	run.Stdout, run.Stderr = &stdout, &stderr
	err := run.Run()
	if err == nil {
		return result{verdict: survived}
	}
	var cases int
	if _, scanned := fmt.Sscanf(stdout.String(), "difference after %d cases", &cases); scanned != nil {
		return result{text: lastLine(stderr.String(), err)}
	}
	_, kind, _ := strings.Cut(strings.TrimSpace(stdout.String()), ": ")
	return result{verdict: caught, cases: cases, text: kind}
}

// lastLine is what a command that failed said last.
func lastLine(stderr string, err error) string {
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	return fmt.Sprintf("%v: %s", err, lines[len(lines)-1])
}
