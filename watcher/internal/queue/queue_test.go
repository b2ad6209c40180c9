package queue

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// most lets any group go, with at most n pods.
func most(n int) func(Group) int { return func(Group) int { return n } }

func popped(es []*Entry) (uids []types.UID) {
	for _, e := range es {
		uids = append(uids, e.UID)
	}
	return uids
}

func TestOrder(t *testing.T) {
	q := New(Backoffs{})
	g := Group{SchedulerName: "berth"}
	q.Add(epoch.Add(1), "late", g, 0)
	q.Add(epoch, "early", g, 0)
	q.Add(epoch.Add(2), "urgent", g, 10)
	q.Add(epoch, "other", Group{SchedulerName: "other"}, 5)
	if got, want := popped(q.Pop(most(2), true)), []types.UID{"urgent", "early"}; !slices.Equal(got, want) {
		t.Errorf("first batch %v, want %v", got, want)
	}
	if got, want := popped(q.Pop(most(9), true)), []types.UID{"other"}; !slices.Equal(got, want) {
		t.Errorf("second batch %v, want %v: groups do not mix", got, want)
	}
	if got := q.Pop(most(0), true); got != nil {
		t.Errorf("a group that is not allowed was popped: %v", popped(got))
	}
}

func TestBackoffDoublesToItsMaximum(t *testing.T) {
	q := New(Backoffs{})
	q.Add(epoch, "p", Group{}, 0)
	now := epoch
	for i, want := range []time.Duration{1, 2, 4, 8, 10, 10, 10} {
		if len(q.Pop(most(1), true)) != 1 {
			t.Fatalf("failure %d: the pod is not active", i)
		}
		q.Fail(now, "p")
		if got := q.Next().Sub(now); got != want*time.Second {
			t.Errorf("backoff %d is %v, want %v", i+1, got, want*time.Second)
		}
		now = q.Next()
		q.Expire(now.Add(-1))
		if q.Len(Active) != 0 {
			t.Errorf("backoff %d ended early", i+1)
		}
		q.Expire(now)
	}
}

func TestWakeWhere(t *testing.T) {
	q := New(Backoffs{})
	for uid, interest := range map[types.UID]Interest{
		"a": {Sorts: 1}, "b": {Sorts: 2}, "both": {Sorts: 3}, "twin": {Sorts: 3}, "like": {Sorts: 3, Key: "x"}, "none": {},
	} {
		q.Add(epoch, uid, Group{}, 0)
		q.Pop(most(1), true)
		q.Reject(epoch, uid, interest, "")
	}
	later := epoch.Add(time.Minute)
	q.Remove("b") // nobody is asked about it any more
	asked := 0
	q.WakeWhere(later, 2, "", func(e *Entry) int { asked++; return 0 })
	if asked != 2 {
		t.Errorf("asked %d times, want once for each of the interests of sort 2", asked)
	}
	q.WakeWhere(later, 1, "", func(e *Entry) int {
		if e.UID == "both" || e.UID == "twin" {
			return All
		}
		return 0
	})
	for uid, want := range map[types.UID]State{"a": Waiting, "both": Active, "twin": Active, "like": Waiting, "none": Waiting} {
		if got := q.Get(uid).State(); got != want {
			t.Errorf("%s is %v, want %v", uid, got, want)
		}
	}
	q.WakeAll(later)
	if len(q.interested) > 0 {
		t.Errorf("left over: %v", q.interested)
	}
}

// Where a change has room for one, one of equal pods is woken for it: the one that has
// waited longest. If it does not use the room, the next one gets its turn.
func TestTurns(t *testing.T) {
	q := New(Backoffs{})
	for _, uid := range []types.UID{"first", "second", "third", "other"} {
		q.Add(epoch, uid, Group{}, 0)
		q.Pop(most(1), true)
		class := "equal"
		if uid == "other" {
			class = ""
		}
		q.Reject(epoch, uid, Interest{Sorts: 1}, class)
	}
	later := epoch.Add(time.Minute)
	expect := func(what string, want ...types.UID) {
		t.Helper()
		got := popped(q.Pop(most(9), true))
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	room := func(*Entry) int { return 1 }
	q.WakeWhere(later, 1, "n", room)
	expect("room for one of a class", "first", "other")
	q.PassOn(later, "other", "elsewhere") // it took no turn: nobody is like it
	expect("nobody's turn")
	q.PassOn(later, "first", "elsewhere")
	expect("the first one got a place elsewhere", "second")
	q.PassOn(later, "second", "n")
	q.PassOn(later, "second", "")
	expect("the second one used the room")
	q.Reject(later, "first", Interest{Sorts: 1}, "equal")
	q.WakeWhere(later.Add(time.Minute), 1, "n", room)
	q.PassOn(later.Add(time.Minute), "third", "")
	q.Remove("third")
	expect("the third one is gone", "first")
	q.Reject(later, "second", Interest{Sorts: 1}, "equal")
	q.PassOn(later, "first", "")
	expect("who comes later was rejected later")
}

// Pods that interact with others are passed over while they must not be handed out.
func TestTogether(t *testing.T) {
	q := New(Backoffs{})
	for i, uid := range []types.UID{"a", "b", "c", "d"} {
		q.Add(epoch.Add(time.Duration(i)), uid, Group{}, 0)
		q.SetTogether(uid, uid == "a" || uid == "c")
	}
	if got := popped(q.Pop(most(9), false)); !slices.Equal(got, []types.UID{"b", "d"}) {
		t.Errorf("without those that interact: %v", got)
	}
	if got := q.Pop(most(9), false); got != nil {
		t.Errorf("only those are left that interact: %v", popped(got))
	}
	q.Return("b")
	q.SetTogether("c", false)
	if got := popped(q.Pop(most(9), true)); !slices.Equal(got, []types.UID{"a", "b", "c"}) {
		t.Errorf("all: %v", got)
	}
}

func TestWakeHonoursTheBackoff(t *testing.T) {
	q := New(Backoffs{})
	q.Add(epoch, "p", Group{}, 0)
	q.Pop(most(1), true)
	q.Reject(epoch, "p", Interest{}, "")
	q.WakeAll(epoch.Add(500 * time.Millisecond))
	if s := q.Get("p").State(); s != Backoff {
		t.Fatalf("woken within its backoff, the pod is %v", s)
	}
	q.Expire(epoch.Add(time.Second))
	q.Pop(most(1), true)
	q.Reject(epoch, "p", Interest{}, "")
	q.WakeAll(epoch.Add(time.Hour))
	if s := q.Get("p").State(); s != Active {
		t.Fatalf("woken after its backoff, the pod is %v", s)
	}
}

func TestNetCatchesAndCounts(t *testing.T) {
	q := New(Backoffs{})
	q.Add(epoch, "p", Group{}, 0)
	q.Pop(most(1), true)
	q.Reject(epoch, "p", Interest{}, "")
	if got := q.Next(); !got.Equal(epoch.Add(MaxWait)) {
		t.Fatalf("next timer at %v", got.Sub(epoch))
	}
	q.Expire(epoch.Add(MaxWait))
	if q.Get("p").State() != Active || q.Netted() != 1 {
		t.Errorf("state %v, netted %d", q.Get("p").State(), q.Netted())
	}
}

// TestEveryPodIsSomewhere drives the queue at random against a map of states.
func TestEveryPodIsSomewhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q, model, now := New(Backoffs{}), map[types.UID]State{}, epoch
		uid := func() types.UID {
			return types.UID(fmt.Sprint("p", rapid.IntRange(0, 9).Draw(t, "pod")))
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				if u := uid(); q.Get(u) == nil {
					q.Add(now, u, Group{Fallback: rapid.IntRange(0, 1).Draw(t, "group")}, int32(rapid.IntRange(0, 2).Draw(t, "priority")))
					model[u] = Active
				}
			},
			"remove": func(t *rapid.T) { u := uid(); q.Remove(u); delete(model, u) },
			"pop": func(t *rapid.T) {
				for _, e := range q.Pop(most(rapid.IntRange(1, 3).Draw(t, "limit")), true) {
					if model[e.UID] != Active {
						t.Fatalf("popped %s, which is %v", e.UID, model[e.UID])
					}
					model[e.UID] = Out
				}
			},
			"settle": func(t *rapid.T) {
				u := uid()
				if model[u] != Out || q.Get(u) == nil {
					return
				}
				switch rapid.IntRange(0, 2).Draw(t, "how") {
				case 0:
					q.Return(u)
					model[u] = Active
				case 1:
					q.Fail(now, u)
					model[u] = Backoff
				case 2:
					q.Reject(now, u, Interest{Sorts: uint16(rapid.IntRange(0, 7).Draw(t, "sorts"))}, rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "class"))
					model[u] = Waiting
				}
			},
			"regroup": func(t *rapid.T) {
				if u := uid(); q.Get(u) != nil {
					q.Regroup(u, Group{Fallback: rapid.IntRange(0, 1).Draw(t, "group")})
				}
			},
			"wake where": func(t *rapid.T) {
				sort := uint16(1) << rapid.IntRange(0, 3).Draw(t, "sort")
				limit := rapid.SampledFrom([]int{1, 2, All}).Draw(t, "limit")
				waiting := map[*class]int{}
				for u, s := range model {
					if s == Waiting {
						waiting[q.Get(u).class]++
					}
				}
				q.WakeWhere(now, sort, "n", func(*Entry) int { return limit })
				woken := map[*class]int{}
				for u, s := range model {
					e := q.Get(u)
					if s != Waiting || e.class.of.interest.Sorts&sort == 0 || e.State() == Waiting {
						continue
					}
					woken[e.class]++
					model[u] = Backoff
					if !e.Until().After(now) {
						model[u] = Active
					}
				}
				for c, n := range waiting {
					if c.of.interest.Sorts&sort != 0 && woken[c] != min(n, limit) {
						t.Fatalf("%d of %d pods of a class were woken, of %d that the change is worth", woken[c], n, limit)
					}
				}
			},
			"wake now": func(t *rapid.T) {
				u := uid()
				if q.WakeNow(u); model[u] == Waiting || model[u] == Backoff {
					if q.Get(u) != nil {
						model[u] = Active
					}
				}
			},
			"together": func(t *rapid.T) { q.SetTogether(uid(), rapid.Bool().Draw(t, "together")) },
			"wake": func(t *rapid.T) {
				q.WakeAll(now)
				for u, s := range model {
					if s == Waiting {
						model[u] = Backoff
						if !q.Get(u).Until().After(now) {
							model[u] = Active
						}
					}
				}
			},
			"time": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 400).Draw(t, "seconds")) * time.Second)
				q.Expire(now)
				for u, s := range model {
					e := q.Get(u)
					if s == Backoff && !e.Until().After(now) || s == Waiting && !e.net.After(now) {
						model[u] = Active
					}
				}
			},
			"": func(t *rapid.T) {
				var counts [states]int
				for u, s := range model {
					counts[s]++
					if e := q.Get(u); e == nil || e.State() != s {
						t.Fatalf("%s should be %v: %+v", u, s, e)
					}
				}
				if counts != q.counts {
					t.Fatalf("counts %v, want %v", q.counts, counts)
				}
				var sorts [16]int
				waiting := 0
				for interest, i := range q.interested {
					for bit := range sorts {
						sorts[bit] += int(interest.Sorts >> bit & 1)
					}
					for name, c := range i.classes {
						if c.waiting.Len() == 0 || c.name != name || c.of != i || i.interest != interest {
							t.Fatalf("%v has the class %q, which is %+v", interest, name, c)
						}
						for at := c.waiting.Front(); at != nil; at = at.Next() {
							e := at.Value.(*Entry)
							if waiting++; model[e.UID] != Waiting || e.place != at || e.class != c {
								t.Fatalf("%s, which is %v, waits for %v", e.UID, model[e.UID], interest)
							}
						}
					}
				}
				if sorts != q.sorts || waiting != counts[Waiting] {
					t.Fatalf("%d pods wait for the sorts %v, want %d for %v", waiting, q.sorts, counts[Waiting], sorts)
				}
			},
		})
	})
}

// A pod waits twice as long after each failure, up to the longest backoff.
func TestBackoffs(t *testing.T) {
	for _, c := range []struct {
		backoffs Backoffs
		want     []time.Duration
	}{
		{Backoffs{}, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second, 10 * time.Second}},
		{Backoffs{Initial: 3 * time.Second, Max: 20 * time.Second}, []time.Duration{3 * time.Second, 6 * time.Second, 12 * time.Second, 20 * time.Second}},
		{Backoffs{Initial: math.MaxInt64 / 2, Max: math.MaxInt64}, []time.Duration{math.MaxInt64 / 2, math.MaxInt64 - 1, math.MaxInt64}},
	} {
		q, now := New(c.backoffs), time.Time{}
		q.Add(now, "a", Group{}, 0)
		for i, want := range c.want {
			q.Pop(func(Group) int { return 1 }, true)
			q.Fail(now, "a")
			if got := q.Get("a").Until().Sub(now); got != want {
				t.Errorf("%+v: after %d failures %v, want %v", c.backoffs, i+1, got, want)
			}
			now = q.Get("a").Until()
			q.Expire(now)
		}
	}
}

// full is a queue in which 100,000 pods of as many workloads wait for a node to come or
// change.
func full(b *testing.B, workloads int) *Queue {
	b.Helper()
	q := New(Backoffs{})
	for i := range 100_000 {
		uid := types.UID(fmt.Sprint("pod-", i))
		q.Add(epoch, uid, Group{}, int32(i%3))
		q.Pop(most(1), true)
		q.Reject(epoch, uid, Interest{Sorts: 6, Key: fmt.Sprint(i % workloads)}, "")
	}
	return q
}

// BenchmarkChange is a change that wakes nobody: one that nobody waits for, as bindings
// mostly are, and one that is not enough for anybody.
func BenchmarkChange(b *testing.B) {
	for _, workloads := range []int{100, 10_000} {
		q := full(b, workloads)
		for sort, name := range map[uint16]string{1: "nobody waits for it", 2: "not enough"} {
			b.Run(fmt.Sprint(name, "/workloads=", workloads), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					q.WakeWhere(epoch, sort, "", func(*Entry) int { return 0 })
				}
			})
		}
	}
}

// BenchmarkAttempts is one attempt of each of 100,000 pods that find no node.
func BenchmarkAttempts(b *testing.B) {
	q := full(b, 100)
	now := epoch
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Minute)
		q.WakeAll(now)
		for q.Len(Active) > 0 {
			for _, e := range q.Pop(most(500), true) {
				q.Reject(now, e.UID, e.class.of.interest, "")
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100_000, "ns/pod")
}

// BenchmarkAdd is a new pod, with what it takes in memory.
func BenchmarkAdd(b *testing.B) {
	uids := make([]types.UID, 100_000)
	for i := range uids {
		uids[i] = types.UID(fmt.Sprint("pod-", i))
	}
	b.ReportAllocs()
	q := New(Backoffs{})
	for i := 0; b.Loop(); i++ {
		if i%len(uids) == 0 {
			q = New(Backoffs{})
		}
		q.Add(epoch, uids[i%len(uids)], Group{SchedulerName: "berth"}, 0)
	}
}
