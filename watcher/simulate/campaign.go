package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/berth-scheduler/berth/watcher/internal/simulation"
)

// campaign tries seeds in parallel. Which seed it finds does not depend on how many are
// tried at a time.
type campaign struct {
	first uint64
	seeds int
	laws  []string // that count; all if empty
}

// run tries the seeds until one breaks a law, the lowest of those that do.
func (c *campaign) run() (tally *simulation.Tally, broken uint64, found bool) {
	var next, done, steps atomic.Uint64
	lowest := atomic.Uint64{}
	lowest.Store(^uint64(0))
	tallies := make([]*simulation.Tally, runtime.GOMAXPROCS(0))
	var workers sync.WaitGroup
	for i := range tallies {
		tallies[i] = simulation.NewTally()
		workers.Go(func() {
			for {
				seed := c.first + next.Add(1) - 1
				if seed >= c.first+uint64(c.seeds) || seed > lowest.Load() {
					return
				}
				before := tallies[i].Steps
				if b := simulation.Run(seed, tallies[i]).Broken; b != nil && (len(c.laws) == 0 || slices.Contains(c.laws, b.Law)) {
					for was := lowest.Load(); seed < was && !lowest.CompareAndSwap(was, seed); was = lowest.Load() {
					}
				}
				done.Add(1)
				steps.Add(uint64(tallies[i].Steps - before))
			}
		})
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		began := time.Now()
		for tick := time.NewTicker(3 * time.Second); ; {
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
				s := time.Since(began).Seconds()
				fmt.Fprintf(os.Stderr, "%d of %d seeds, %.0f seeds/s, %.0f steps/s\n", done.Load(), c.seeds, float64(done.Load())/s, float64(steps.Load())/s)
			}
		}
	}()
	workers.Wait()
	close(stop)
	<-stopped
	for _, t := range tallies[1:] {
		tallies[0].Add(t)
	}
	return tallies[0], lowest.Load(), lowest.Load() != ^uint64(0)
}

// report tries the seeds and prints what came of it.
func (c *campaign) report(asJSON bool) error {
	began := time.Now()
	tally, broken, isBroken := c.run()
	took := time.Since(began)
	if isBroken {
		s := simulation.Shortest(broken)
		if s == nil {
			return fmt.Errorf("seed %d broke a law once and does not again: it has two courses", broken)
		}
		return found(s, asJSON)
	}
	missing := tally.Missing()
	if asJSON {
		if err := print(map[string]any{"seconds": took.Seconds(), "counts": counts(tally), "missing": missing}); err != nil {
			return err
		}
	} else {
		printTally(tally)
		s := took.Seconds()
		fmt.Printf("\n%d seeds, %d steps of the driver, %d occasions in %.1f s: %.0f seeds/s, %.0f steps/s\n",
			tally.Runs, tally.Steps, tally.Occasions, s, float64(tally.Runs)/s, float64(tally.Steps)/s)
		fmt.Println("all laws hold")
	}
	if len(missing) > 0 && c.seeds >= enough {
		return errors.New("no run had: " + strings.Join(missing, "; "))
	}
	return nil
}

// counts is the tally by names.
func counts(t *simulation.Tally) map[string]any {
	moves, faults := map[string]int{}, map[string]int{}
	for m, n := range t.Moves {
		moves[m.String()] = n
	}
	for f, n := range t.Faults {
		faults[simulation.Fault(f).String()] = n
	}
	return map[string]any{
		"runs": t.Runs, "steps": t.Steps, "occasions": t.Occasions, "batches": t.Batches, "binds": t.Binds, "bound": t.Bound,
		"evictions": t.Evictions, "leaders": t.Leaders, "moves": moves, "faults": faults, "deleted": t.Deleted, "updated": t.Updated,
		"wakes": t.Wakes, "netted": t.Netted, "missed": t.Missed, "passed": t.Passed, "rest_ms": t.Rest,
	}
}

// printTally prints the tables.
func printTally(t *simulation.Tally) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(format string, args ...any) { fmt.Fprintf(w, format+"\t\n", args...) }

	fmt.Println("Ways of a pod")
	moves := slices.Collect(maps.Keys(t.Moves))
	for _, m := range simulation.Ways {
		if t.Moves[m] == 0 {
			moves = append(moves, m)
		}
	}
	slices.SortFunc(moves, func(a, b simulation.Move) int { return cmp.Compare(a.String(), b.String()) })
	for _, m := range moves {
		line("%d\t%s", t.Moves[m], m)
	}
	w.Flush()

	fmt.Println("\nFaults")
	for f, n := range t.Faults {
		line("%d\t%s", n, simulation.Fault(f))
	}
	w.Flush()

	fmt.Println("\nPods deleted and updated, by where the leader had them")
	line("deleted\tupdated\t")
	for _, p := range slices.Sorted(maps.Keys(t.Deleted)) {
		line("%d\t%d\t%s", t.Deleted[p], t.Updated[p], p)
	}
	w.Flush()

	fmt.Println("\nWake-ups of pods that waited, by what woke them")
	line("all\tplaced\trejected\trejected per placed\t")
	var all simulation.Wakes
	for _, c := range simulation.Causes {
		n := t.Wakes[c]
		all = simulation.Wakes{All: all.All + n.All, True: all.True + n.True, False: all.False + n.False}
		line("%d\t%d\t%d\t%s\t%s", n.All, n.True, n.False, ratio(n), c)
	}
	line("%d\t%d\t%d\t%s\t%s", all.All, all.True, all.False, ratio(all), "all")
	line("%d\t\t\t\tmissed", t.Missed)
	w.Flush()

	fmt.Printf("\n%d batches, %d bindings sent, %d done, %d evictions, %d terms of leaders\n", t.Batches, t.Binds, t.Bound, t.Evictions, t.Leaders)
	fmt.Printf("without faults: passed over in %d batches at most, the last pod bound after %d ms at most\n", t.Passed, t.Rest)
}

func ratio(w simulation.Wakes) string {
	if w.True == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", float64(w.False)/float64(w.True))
}
