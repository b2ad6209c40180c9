package index_test

import (
	"flag"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"
)

var (
	// decisions is as many as CI allows with the race detector; `make laws` makes more.
	decisions = flag.Int("decisions", 20_000, "how many decisions TestIndexedEqualsPlain has the index itself make at least")
	seed      = flag.Uint64("seed", 1, "what the histories are drawn from")
	only      = flag.Int64("history", -1, "take the history of this number alone")
)

// TestIndexedEqualsPlain takes random histories of clusters through the index. After
// each step it answers as the plain solver does on a snapshot that knows no history.
func TestIndexedEqualsPlain(t *testing.T) {
	if *only >= 0 {
		if failure := take(*seed, uint64(*only), tally{}); failure != nil {
			t.Fatal(failure)
		}
		return
	}
	var (
		lock    sync.Mutex
		seen    = tally{}
		next    uint64
		failed  *failure
		start   = time.Now()
		told    = start
		workers sync.WaitGroup
	)
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			lock.Lock()
			defer lock.Unlock()
			for failed == nil && seen[byIndex] < *decisions {
				number := next
				next++
				lock.Unlock()
				mine := tally{}
				failure := take(*seed, number, mine)
				lock.Lock()
				seen.add(mine)
				if failure != nil && (failed == nil || failure.number < failed.number) {
					failed = failure
				}
				if testing.Verbose() && time.Since(told) > 10*time.Second {
					told = time.Now()
					t.Logf("%d decisions of the index in %d histories, %.0f/s", seen[byIndex], next, float64(seen[byIndex])/time.Since(start).Seconds())
				}
			}
		})
	}
	workers.Wait()
	if failed != nil {
		t.Fatal(failed)
	}
	t.Logf("%d decisions of the index in %d histories of seed %d\n%s", seen[byIndex], next, *seed, seen)
	if missing := seen.missing(); len(missing) > 0 {
		t.Errorf("not exercised: %q", missing)
	}
}

// failure is a history that breaks a law.
type failure struct {
	seed, number uint64
	history      *history
	violation    *violation
}

// String shows the history without what does not matter.
func (f *failure) String() string {
	history, violation := f.history.shrink(f.violation)
	return fmt.Sprintf("history %d of seed %d (again: -seed %d -history %d)\n\n%s\n%s", f.number, f.seed, f.seed, f.number, history, violation)
}

// take draws a history and takes it; nil means that all laws hold.
func take(seed, number uint64, seen tally) *failure {
	g := newGenerator(seed, number)
	h := &history{config: g.config}
	r := newRun(g.config)
	r.seen = seen
	for i := range g.steps {
		s := g.next(r.content)
		h.steps = append(h.steps, s)
		for _, kind := range s.events {
			seen["event: "+kind]++
		}
		if v := r.do(s); v != nil {
			v.step = i
			return &failure{seed, number, h, v}
		}
	}
	seen.indexed(r.index)
	return nil
}
