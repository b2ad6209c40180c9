package signal

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const maxAge = time.Minute

func after(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }

func observe(s *Store, now int, name string, milli int64, at int) {
	s.Observe(after(now), "n", name, Value{milli, after(at)})
}

// step is what Step says as text: the signals of n if they are to be told.
func step(t *testing.T, s *Store, now int) string {
	t.Helper()
	changes, _ := s.Step(after(now))
	switch {
	case len(changes) == 0:
		return "nothing"
	case len(changes) > 1 || changes[0].Node != "n":
		t.Fatalf("told of %v", changes)
	}
	return fmt.Sprint(changes[0].Signals)
}

func check(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("told %s, want %s", got, want)
	}
}

func TestSmallChangesAddUp(t *testing.T) {
	s := New(Config{MaxAge: maxAge, MinChange: 0.05})
	for _, change := range []struct {
		milli int64
		want  string
	}{
		{1000, "map[load:1000]"},
		{1049, "nothing"},
		{1050, "map[load:1050]"},
		{998, "nothing"},
		{997, "map[load:997]"},
		{0, "map[load:0]"},
		{1, "map[load:1]"},
		{-1, "map[load:-1]"},
		{math.MinInt64, "map[load:-9223372036854775808]"},
		{math.MaxInt64, "map[load:9223372036854775807]"},
		{math.MaxInt64 - 1, "nothing"},
	} {
		observe(s, 0, "load", change.milli, 0)
		check(t, step(t, s, 0), change.want)
	}
}

// A change that is told takes the small ones with it.
func TestRecordIsToldWhole(t *testing.T) {
	s := New(Config{MaxAge: maxAge, MinChange: 0.05})
	observe(s, 0, "load", 1000, 0)
	observe(s, 0, "power", 1000, 0)
	check(t, step(t, s, 0), "map[load:1000 power:1000]")
	observe(s, 1, "load", 1001, 1)
	check(t, step(t, s, 1), "nothing")
	observe(s, 2, "power", 2000, 2)
	check(t, step(t, s, 2), "map[load:1001 power:2000]")
}

func TestEveryChangeCountsWithoutAMinimum(t *testing.T) {
	s := New(Config{MaxAge: maxAge})
	observe(s, 0, "load", 1000, 0)
	check(t, step(t, s, 0), "map[load:1000]")
	observe(s, 0, "load", 1001, 0)
	check(t, step(t, s, 0), "map[load:1001]")
}

func TestAge(t *testing.T) {
	s := New(Config{MaxAge: maxAge, MinChange: 0.05})
	observe(s, 0, "load", 1000, 0)
	s.Observe(after(0), "n", "rating", Value{Milli: 5})
	check(t, step(t, s, 0), "map[load:1000 rating:5]")
	check(t, step(t, s, 59), "nothing")
	observe(s, 59, "load", 1000, 30) // nothing new but its time
	check(t, step(t, s, 60), "nothing")
	if _, next := s.Step(after(60)); !next.Equal(after(90)) {
		t.Errorf("next %v, want %v", next, after(90))
	}
	check(t, step(t, s, 90), "map[rating:5]")
	if _, next := s.Step(after(90)); !next.IsZero() || s.Live() != 1 || s.Withdrawn() != 1 {
		t.Errorf("next %v, %d live, %d withdrawn; want never, 1, 1", next, s.Live(), s.Withdrawn())
	}
	observe(s, 91, "load", 1000, 30) // told again, no younger
	check(t, step(t, s, 91), "nothing")
	observe(s, 92, "load", 1000, 31) // too old when it comes
	check(t, step(t, s, 92), "nothing")
	observe(s, 93, "load", 1000, 93)
	check(t, step(t, s, 93), "map[load:1000 rating:5]")
	observe(s, 94, "load", 1000, 20) // a source that takes back what it said
	check(t, step(t, s, 94), "map[rating:5]")
}

// A source whose clock is ahead gains nothing by it.
func TestTimesInTheFuture(t *testing.T) {
	s := New(Config{MaxAge: maxAge})
	observe(s, 0, "load", 1000, 3600)
	check(t, step(t, s, 0), "map[load:1000]")
	observe(s, 50, "load", 1000, 3600)
	check(t, step(t, s, 60), "map[]")
	observe(s, 61, "load", 1000, 3600)
	check(t, step(t, s, 61), "nothing")
	observe(s, 62, "load", 1000, 3601)
	check(t, step(t, s, 62), "map[load:1000]")
}

func TestWithdrawAndForget(t *testing.T) {
	s := New(Config{MaxAge: maxAge})
	observe(s, 0, "load", 1000, 0)
	check(t, step(t, s, 0), "map[load:1000]")
	s.Withdraw("n", "power")
	s.Withdraw("m", "load")
	check(t, step(t, s, 0), "nothing")
	s.Withdraw("n", "load")
	check(t, step(t, s, 0), "map[]")
	observe(s, 0, "load", 1000, 0)
	check(t, step(t, s, 0), "map[load:1000]")
	s.Forget("n")
	s.Forget("m")
	check(t, step(t, s, 0), "nothing")
	if s.Live() != 0 || len(s.nodes) != 0 || len(s.ageing) != 0 {
		t.Errorf("left over: %+v", s)
	}
	observe(s, 0, "load", 1000, 0) // another node of that name, of which nothing was told
	check(t, step(t, s, 0), "map[load:1000]")
}

// model is the store without its bookkeeping.
type model struct {
	values map[[2]string]Value
	since  map[[2]string]time.Time // when it was first observed
	told   map[string]map[string]int64
	live   map[[2]string]bool
	gone   int
}

func (m *model) step(now time.Time, minChange float64) ([]Change, time.Time) {
	now64 := map[string]map[string]int64{}
	var next time.Time
	for key, v := range m.values {
		until := v.At
		if until.After(m.since[key]) {
			until = m.since[key]
		}
		until = until.Add(maxAge)
		if v.At.IsZero() || until.After(now) {
			if now64[key[0]] == nil {
				now64[key[0]] = map[string]int64{}
			}
			now64[key[0]][key[1]] = v.Milli
			if !v.At.IsZero() && (next.IsZero() || until.Before(next)) {
				next = until
			}
		} else if m.live[key] {
			m.live[key] = false
			m.gone++
		}
	}
	var changes []Change
	for _, n := range []string{"n0", "n1", "n2"} {
		tell := len(now64[n]) != len(m.told[n])
		for name, v := range now64[n] {
			before, ok := m.told[n][name]
			small := math.Abs(float64(v-before)) < minChange*math.Abs(float64(before))
			tell = tell || !ok || v != before && (v == 0 || before == 0 || !small)
		}
		if tell {
			m.told[n] = now64[n]
			changes = append(changes, Change{n, now64[n]})
		}
	}
	return changes, next
}

// TestAgainstModel drives a store at random beside one that looks at everything
// every time.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		minChange := rapid.SampledFrom([]float64{0, 0.05, 0.5}).Draw(t, "minChange")
		s, now := New(Config{MaxAge: maxAge, MinChange: minChange}), noon
		m := &model{map[[2]string]Value{}, map[[2]string]time.Time{}, map[string]map[string]int64{}, map[[2]string]bool{}, 0}
		key := func() [2]string {
			return [2]string{fmt.Sprint("n", rapid.IntRange(0, 2).Draw(t, "node")), fmt.Sprint("s", rapid.IntRange(0, 2).Draw(t, "signal"))}
		}
		t.Repeat(map[string]func(*rapid.T){
			"observe": func(t *rapid.T) {
				k := key()
				v := Value{Milli: rapid.SampledFrom([]int64{-100, 0, 1, 100, 102, 106, 200}).Draw(t, "milli")}
				if age := rapid.IntRange(-1, 5).Draw(t, "age in 15 s"); age < 5 {
					v.At = now.Add(-15 * time.Second * time.Duration(age))
				}
				s.Observe(now, k[0], k[1], v)
				if before, ok := m.values[k]; !ok || before.Milli != v.Milli || !before.At.Equal(v.At) {
					m.values[k], m.since[k] = v, now
					m.live[k] = v.At.IsZero() || v.At.Add(maxAge).After(now)
				}
			},
			"withdraw": func(t *rapid.T) {
				k := key()
				s.Withdraw(k[0], k[1])
				delete(m.values, k)
				delete(m.live, k)
			},
			"forget": func(t *rapid.T) {
				k := key()
				s.Forget(k[0])
				delete(m.told, k[0])
				for _, name := range []string{"s0", "s1", "s2"} {
					delete(m.values, [2]string{k[0], name})
					delete(m.live, [2]string{k[0], name})
				}
			},
			"step": func(t *rapid.T) {
				now = now.Add(15 * time.Second * time.Duration(rapid.IntRange(0, 2).Draw(t, "in 15 s")))
				changes, next := s.Step(now)
				want, wantNext := m.step(now, minChange)
				same := slices.EqualFunc(changes, want, func(a, b Change) bool {
					return a.Node == b.Node && maps.Equal(a.Signals, b.Signals) && (a.Signals == nil) == (len(b.Signals) == 0)
				})
				if !same || !next.Equal(wantNext) {
					t.Fatalf("told %v, next %v;\nwant %v, next %v", changes, next, want, wantNext)
				}
				live := 0
				for _, is := range m.live {
					if is {
						live++
					}
				}
				if s.Live() != live || s.Withdrawn() != m.gone {
					t.Fatalf("%d live, %d withdrawn; want %d, %d", s.Live(), s.Withdrawn(), live, m.gone)
				}
			},
		})
	})
}

// What was told is not changed by what comes later.
func TestToldIsNotChanged(t *testing.T) {
	s := New(Config{MaxAge: maxAge})
	observe(s, 0, "load", 1, 0)
	changes, _ := s.Step(after(0))
	observe(s, 1, "load", 2, 1)
	s.Step(after(1))
	if want := map[string]int64{"load": 1}; !reflect.DeepEqual(changes[0].Signals, want) {
		t.Errorf("%v became of %v", changes[0].Signals, want)
	}
}
