package simulation

import (
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// seeds are enough for every fault and every way of a pod.
const seeds = 2000

// TestLaws runs some thousand seeds. A failure prints its shortest story.
func TestLaws(t *testing.T) {
	tallies := make([]*Tally, runtime.GOMAXPROCS(0))
	var next, broken atomic.Uint64
	var workers sync.WaitGroup
	for i := range tallies {
		tallies[i] = NewTally()
		workers.Go(func() {
			for broken.Load() == 0 {
				seed := next.Add(1)
				if seed > seeds {
					return
				}
				if o := Run(seed, tallies[i]); o.Broken != nil {
					broken.Store(seed)
				}
			}
		})
	}
	workers.Wait()
	if seed := broken.Load(); seed != 0 {
		s := Shortest(seed)
		t.Fatalf("seed %d: %s\n%s", seed, s.Broken, strings.Join(s.Lines, "\n"))
	}
	for _, o := range tallies[1:] {
		tallies[0].Add(o)
	}
	if missing := tallies[0].Missing(); len(missing) > 0 {
		t.Errorf("%d seeds do not have: %s", seeds, strings.Join(missing, "; "))
	}
}

// TestDeterminism: a seed is one course of events, to the bit.
func TestDeterminism(t *testing.T) {
	different := map[uint64]bool{}
	used := NewTally() // what has happened before changes nothing
	for seed := uint64(1); seed <= 200; seed++ {
		first, again := Run(seed, NewTally()), Run(seed, used)
		if first.Hash != again.Hash {
			one, _ := Tell(seed)
			two, _ := Tell(seed)
			for i := range min(len(one), len(two)) {
				if one[i] != two[i] {
					t.Fatalf("seed %d has two courses:\n%s\n%s", seed, one[i], two[i])
				}
			}
			t.Fatalf("seed %d has two courses, which tell the same", seed)
		}
		different[first.Hash] = true
	}
	if len(different) != 200 {
		t.Errorf("200 seeds have %d courses", len(different))
	}
	one, _ := Tell(1)
	two, _ := Tell(1)
	if !slices.Equal(one, two) {
		t.Error("a seed tells two stories")
	}
}
