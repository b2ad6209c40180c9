package route

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// A story is steps, each at a time after the start, and what they print.
//
//	set a b          these replicas are known
//	began a          a was sent a batch of 10 pods
//	ok a, failed a, late a, void a
//	                 what became of it, after 1 s
//	pick KEY [-a]    prints who gets it, a excluded
//	state            prints the breakers
func tell(t *testing.T, story string) string {
	t.Helper()
	r, now := New(Config{}), start
	var known, printed []string
	for line := range strings.Lines(story) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if at, err := time.ParseDuration(words[0]); err == nil {
			now, words = start.Add(at), words[1:]
		}
		results := map[string]Result{"ok": OK, "failed": Failed, "late": Late, "void": Void}
		switch does := words[0]; does {
		case "set":
			known = words[1:]
			r.Set(known)
		case "began":
			r.Began(words[1], 10)
		case "ok", "failed", "late", "void":
			r.Done(now, words[1], 10, time.Second, results[does])
		case "pick":
			picked, ok := r.Pick(now, words[1], func(replica string) bool { return slices.Contains(words[2:], "-"+replica) })
			if !ok {
				picked = "nobody"
			}
			printed = append(printed, picked)
		case "state":
			var states []string
			for _, one := range known {
				states = append(states, r.Breaker(now, one).String())
			}
			printed = append(printed, strings.Join(states, ","))
		default:
			t.Fatalf("what is %q?", line)
		}
	}
	return strings.Join(printed, " ")
}

// home is a key whose replica of a, b and c is the first of these, and the second if that
// is not to be had.
func home(first, second string) string {
	r := New(Config{})
	r.Set([]string{"a", "b", "c"})
	for i := 0; ; i++ {
		key := fmt.Sprint("k", i)
		one, _ := r.Pick(start, key, nil)
		two, _ := r.Pick(start, key, func(replica string) bool { return replica == one })
		if one == first && two == second {
			return key
		}
	}
}

func TestStories(t *testing.T) {
	ab, cb := home("a", "b"), home("c", "b")
	open := func(replica string) string {
		return strings.Repeat("began "+replica+"\nfailed "+replica+"\n", 3)
	}
	for _, test := range []struct{ name, story, want string }{
		{"nobody is known", "pick k", "nobody"},
		{"all are excluded", "set a b\npick k -a -b", "nobody"},
		{"a key has its replica", "set a b c\npick " + ab + "\npick " + ab + "\npick " + cb, "a a c"},
		{"who is busy is passed over, for the key's next", "set a b c\nbegan a\npick " + ab + "\nok a\npick " + ab, "b a"},
		{"all are busy: who has the fewest pods", "set a b c\nbegan a\nbegan a\nbegan b\nbegan c\nbegan c\npick " + ab, "b"},
		{"failures in a row count", "set a\nbegan a\nfailed a\nbegan a\nlate a\nbegan a\nok a\nbegan a\nfailed a\nstate", "closed"},
		{"what says nothing does not", "set a\nbegan a\nfailed a\nbegan a\nfailed a\nbegan a\nvoid a\nstate\nbegan a\nlate a\nstate", "closed open"},
		{"an open one is passed over, for a busy one too", "set a b c\n" + open("a") + "began b\nbegan c\npick " + ab + "\n999ms pick " + ab, "b b"},
		{"all are open: the one whose pause is over first", "set a b\n" + open("b") + "100ms " + open("a") + "pick " + ab, "b"},
		{"one probe at a time", "set a b c\n" + open("a") + "1s state\npick " + ab + "\nbegan a\npick " + ab + "\nvoid a\npick " + ab,
			"half-open,closed,closed a b a"},
		{"a probe that succeeds closes", "set a\n" + open("a") + "1s began a\nok a\nstate", "closed"},
		{"one that fails does not, and the pause doubles", "set a\n" + open("a") + `
			1s     began a
			       failed a
			       state
			2.999s state
			3s     state
			       began a
			4s     failed a
			7.999s state
			8s     state`,
			"open open half-open open half-open"},
		{"the pause has an end", "set a\n" + open("a") + `
			100s began a
			     failed a
			200s began a
			     failed a
			300s began a
			     failed a
			400s began a
			     failed a
			500s began a
			     failed a
			529.999s state
			530s state`,
			"open half-open"},
		{"many lost at once are one failure of the probe", "set a\n" + strings.Repeat("began a\n", 10) + strings.Repeat("failed a\n", 10) + "999ms state\n1s state", "open half-open"},
		{"after a success the pause is short again", "set a\n" + open("a") + "1s began a\nfailed a\n3s began a\nok a\n" + open("a") + "3.999s state\n4s state", "open half-open"},
		{"an answer from before it opened closes it", "set a\nbegan a\n" + open("a") + "state\nok a\nstate", "open closed"},
		{"who stays keeps the history", "set a b\n" + open("a") + "set a c\nstate", "open,closed"},
		{"who goes does not", "set a b\n" + open("a") + "set b\nset a b\nstate", "closed,closed"},
		{"unless something is outstanding", "set a b\nbegan a\n" + open("a") + "set b\npick " + ab + "\nset a b\nstate\nok a\nstate", "b open,closed closed,closed"},
		{"what is done by somebody who is gone", "set a b\nbegan a\nset b\nok a\nset a b\npick " + ab, "a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := tell(t, test.story); got != test.want {
				t.Errorf("got %q, want %q after\n%s", got, test.want, test.story)
			}
		})
	}
}

func TestHedgeAfter(t *testing.T) {
	const ms = time.Millisecond
	for _, test := range []struct {
		name  string
		times func(i int) (pods int, took time.Duration)
		n     int
		pods  int
		want  time.Duration // 0 if none
	}{
		{"too few", func(int) (int, time.Duration) { return 10, 100 * ms }, 19, 10, 0},
		{"enough", func(int) (int, time.Duration) { return 10, 100 * ms }, 20, 10, 100 * ms},
		{"not too soon", func(int) (int, time.Duration) { return 10, ms }, 20, 10, 50 * ms},
		{"a pod and a batch have their parts", func(i int) (int, time.Duration) { return 100 * i, time.Duration(100+100*i) * ms }, 20, 1000, 1100 * ms},
		{"of one size: smaller ones take as long", func(int) (int, time.Duration) { return 100, 200 * ms }, 20, 1, 200 * ms},
		{"of one size: larger ones take longer", func(int) (int, time.Duration) { return 100, 200 * ms }, 20, 500, 1000 * ms},
		{"larger than any", func(i int) (int, time.Duration) { return 100 * i, time.Duration(100+100*i) * ms }, 25, 4800, 5000 * ms},
		{"one of a hundred is beyond", func(i int) (int, time.Duration) {
			if i == 50 {
				return 10, 10 * time.Second
			}
			return 10, 100 * ms
		}, 100, 10, 100 * ms},
		{"two of a hundred are not", func(i int) (int, time.Duration) {
			if i == 50 || i == 60 {
				return 10, 10 * time.Second
			}
			return 10, 100 * ms
		}, 100, 10, 10 * time.Second},
		{"what was long ago does not count", func(i int) (int, time.Duration) {
			if i < 100 {
				return 10, 10 * time.Second
			}
			return 10, 100 * ms
		}, 200, 10, 100 * ms},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := New(Config{})
			for i := range test.n {
				pods, took := test.times(i)
				r.Done(start, "whoever", pods, took, OK)
				r.Done(start, "whoever", pods, 0, OK)
				r.Done(start, "whoever", pods, time.Hour, Late)
			}
			got, ok := r.HedgeAfter(test.pods)
			if ok != (test.want > 0) || ok && got.Round(ms) != test.want {
				t.Errorf("got %v, %v; want %v", got, ok, test.want)
			}
		})
	}
}

// names are replicas that there may be.
var names = []string{"10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1", "10.0.0.5:1", "10.0.0.6:1"}

func some(t *rapid.T, label string) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, len(names), rapid.ID).Draw(t, label)
}

// Equal keys stay together when a replica that is not theirs comes or goes.
func TestKeysStay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := New(Config{})
		before, after := some(t, "before"), some(t, "after")
		key := rapid.String().Draw(t, "key")
		r.Set(before)
		first, _ := r.Pick(start, key, nil)
		r.Set(after)
		second, ok := r.Pick(start, key, nil)
		if ok != (len(after) > 0) {
			t.Fatalf("served: %v", ok)
		}
		if slices.Contains(after, first) && second != first && slices.Contains(before, second) {
			t.Fatalf("%q went from %s to %s, which both were there before and after", key, first, second)
		}
	})
}

// Every replica gets its share of the keys.
func TestKeysSpread(t *testing.T) {
	r := New(Config{})
	r.Set(names)
	got := map[string]int{}
	const keys = 6000
	for i := range keys {
		replica, _ := r.Pick(start, fmt.Sprint("default/replicaset-", i), nil)
		got[replica]++
	}
	for _, name := range names {
		if n := got[name]; n < keys/len(names)*9/10 || n > keys/len(names)*11/10 {
			t.Errorf("%s got %d of %d keys", name, n, keys)
		}
	}
}

// Whatever happens: a batch is served while a replica is known that may be asked; one that
// is open is passed over while another is not, and probed once at a time; one that is busy
// is passed over while another is free; and the same history leads to the same picks.
func TestAnyHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, twin, now := New(Config{}), New(Config{}), start
		outstanding := map[string]int{}
		var known []string
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms")) * time.Millisecond)
			switch rapid.SampledFrom([]string{"set", "batch", "batch", "done", "done"}).Draw(t, "what") {
			case "set":
				known = some(t, "known")
				r.Set(known)
				twin.Set(slices.Sorted(slices.Values(known)))
			case "batch":
				excluded := some(t, "excluded")
				not := func(replica string) bool { return slices.Contains(excluded, replica) }
				key := rapid.SampledFrom([]string{"web", "api", "db"}).Draw(t, "key")
				picked, ok := r.Pick(now, key, not)
				if again, _ := twin.Pick(now, key, not); again != picked {
					t.Fatalf("%s in place of %s", again, picked)
				}
				allowed := slices.DeleteFunc(slices.Clone(known), not)
				if ok != (len(allowed) > 0) {
					t.Fatalf("served is %v with %v", ok, allowed)
				}
				if !ok {
					continue
				}
				if !slices.Contains(allowed, picked) {
					t.Fatalf("%s is not among %v", picked, allowed)
				}
				bad := func(replica string) bool {
					state := r.Breaker(now, replica)
					return state == Open || state == HalfOpen && outstanding[replica] > 0
				}
				for _, other := range allowed {
					switch {
					case bad(picked) && !bad(other):
						t.Fatalf("%s was picked, which is %v, and not %s", picked, r.Breaker(now, picked), other)
					case bad(picked) == bad(other) && outstanding[picked] > 0 && outstanding[other] == 0:
						t.Fatalf("%s was picked, which is busy, and not %s", picked, other)
					}
					if free := outstanding[other] == 0 && r.Breaker(now, other) == Closed; r.Free(now, other) != free {
						t.Fatalf("%s is free: %v", other, !free)
					}
				}
				r.Began(picked, 10)
				twin.Began(picked, 10)
				outstanding[picked]++
			case "done":
				var busy []string
				for _, name := range names {
					if outstanding[name] > 0 {
						busy = append(busy, name)
					}
				}
				if len(busy) == 0 {
					continue
				}
				replica := rapid.SampledFrom(busy).Draw(t, "replica")
				result := rapid.SampledFrom([]Result{OK, Failed, Failed, Late, Void}).Draw(t, "result")
				r.Done(now, replica, 10, time.Second, result)
				twin.Done(now, replica, 10, time.Second, result)
				outstanding[replica]--
			}
		}
		for _, name := range names {
			for range outstanding[name] {
				r.Done(now, name, 10, 0, Void)
			}
		}
		r.Set(nil)
		if len(r.replicas) > 0 {
			t.Fatalf("%d replicas are remembered for nobody", len(r.replicas))
		}
	})
}
