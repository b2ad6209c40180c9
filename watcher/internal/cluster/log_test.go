package cluster

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/digest"
)

// TestSinceLeadsToNow changes the ledger in every way and any order. The changes since
// any version then lead to the state as it stands: from the state at that version, and
// from that at any between.
func TestSinceLeadsToNow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := New()
		then := map[uint64]*berthv1.Snapshot{0: l.Snapshot()}
		name := rapid.SampledFrom([]string{"a", "b", "c"})
		pod := func(t *rapid.T, node string) *corev1.Pod {
			return labelled(newPod(rapid.SampledFrom([]string{"p", "q", "r"}).Draw(t, "pod"), node, rapid.SampledFrom([]string{"1", "2"}).Draw(t, "cpu")),
				rapid.SampledFrom([]string{"x", "y"}).Draw(t, "label"))
		}
		held := func(t *rapid.T, p *corev1.Pod, want func(assumed, ok bool) bool) {
			if _, assumed, ok := l.Holds(p.UID); !want(assumed, ok) {
				t.Skip("the pod is elsewhere")
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"set node": func(t *rapid.T) {
				l.SetNode(withImage(newNode(name.Draw(t, "name"), name.Draw(t, "uid"), "4"), name.Draw(t, "image")))
			},
			"remove node": func(t *rapid.T) { l.RemoveNode(name.Draw(t, "name")) },
			"signals": func(t *rapid.T) {
				l.SetSignals(name.Draw(t, "name"), map[string]int64{"load": rapid.Int64Range(0, 2).Draw(t, "load")})
			},
			"assume": func(t *rapid.T) {
				p := pod(t, "")
				held(t, p, func(_, ok bool) bool { return !ok })
				l.Assume(p, name.Draw(t, "node"), false)
			},
			"forget": func(t *rapid.T) {
				p := pod(t, "")
				held(t, p, func(assumed, ok bool) bool { return ok && assumed })
				l.Forget(p.UID)
			},
			"place":      func(t *rapid.T) { l.Place(pod(t, name.Draw(t, "node"))) },
			"remove pod": func(t *rapid.T) { l.Remove(pod(t, "").UID) },
			"nominate": func(t *rapid.T) {
				p := pod(t, "")
				held(t, p, func(assumed, ok bool) bool { return !ok || assumed })
				l.Nominate(nominated(p, rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "node")))
			},
			"set namespace":    func(t *rapid.T) { l.SetNamespace(newNamespace(name.Draw(t, "name"), name.Draw(t, "label"))) },
			"remove namespace": func(t *rapid.T) { l.RemoveNamespace(name.Draw(t, "name")) },
			"set budget": func(t *rapid.T) {
				l.SetBudget(newBudget(name.Draw(t, "name"), rapid.Int32Range(0, 1).Draw(t, "allowed")))
			},
			"remove budget": func(t *rapid.T) { l.RemoveBudget("ns", name.Draw(t, "name")) },
			"": func(t *rapid.T) {
				now := l.Snapshot()
				then[l.Version()] = now
				d := l.Digest()
				sum := d.Nodes
				sum.Add(d.Budgets)
				sum.Add(d.Others)
				if want := digest.Of(now); sum != want {
					t.Fatalf("the digest is %v, that of the state %v", sum, want)
				}
				since := rapid.SampledFrom(slices.Sorted(maps.Keys(then))).Draw(t, "since")
				changes := l.Since(since)
				for version, state := range then {
					if version < since {
						continue
					}
					got := changed(state, changes)
					got.Version = now.GetVersion()
					if !proto.Equal(got, now) {
						t.Fatalf("changes since %d: %v\nlead from version %d: %v\nto %v\nthe state is %v", since, changes, version, state, got, now)
					}
				}
			},
		})
	})
}

// changed is a state after changes, records in the order of their keys.
func changed(s *berthv1.Snapshot, c *berthv1.Changes) *berthv1.Snapshot {
	var budgets []string
	for _, b := range c.GetRemovedDisruptionBudgets() {
		budgets = append(budgets, b.GetNamespace()+"/"+b.GetName())
	}
	return &berthv1.Snapshot{
		Nodes:             replaced(s.GetNodes(), c.GetNodes(), c.GetRemovedNodes(), (*berthv1.Node).GetName),
		PlacedPods:        replaced(s.GetPlacedPods(), c.GetPlacedPods(), c.GetRemovedPlacedPods(), (*berthv1.PlacedPod).GetUid),
		Namespaces:        replaced(s.GetNamespaces(), c.GetNamespaces(), c.GetRemovedNamespaces(), (*berthv1.Namespace).GetName),
		DisruptionBudgets: replaced(s.GetDisruptionBudgets(), c.GetDisruptionBudgets(), budgets, func(b *berthv1.DisruptionBudget) string { return b.GetNamespace() + "/" + b.GetName() }),
	}
}

func replaced[R any](records, now []R, removed []string, key func(R) string) []R {
	all := map[string]R{}
	for _, r := range records {
		all[key(r)] = r
	}
	for _, k := range removed {
		delete(all, k)
	}
	for _, r := range now {
		all[key(r)] = r
	}
	var out []R
	for _, k := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[k])
	}
	return out
}

// What has changed is told once, by what it is now, and the log does not grow without
// bound: from before it began, there is nothing to tell.
func TestLogIsBounded(t *testing.T) {
	l := New()
	l.SetNode(newNode("gone", "g", "4"))
	l.RemoveNode("gone")
	first := l.Version()
	for i := range 3 * maxLog {
		l.SetNamespace(newNamespace("ns", fmt.Sprint(i)))
		if len(l.log.entries) > 2*maxLog {
			t.Fatalf("%d entries after %d versions", len(l.log.entries), i)
		}
	}
	if changes := l.Since(first); changes != nil {
		t.Errorf("it knows what changed since version %d: %d namespaces", first, len(changes.GetNamespaces()))
	}
	if changes := l.Since(l.Version() - maxLog); len(changes.GetNamespaces()) != 1 {
		t.Errorf("of one namespace that changed %d times it tells %d", maxLog, len(changes.GetNamespaces()))
	}
	if changes := l.Since(l.Version()); !proto.Equal(changes, &berthv1.Changes{}) {
		t.Errorf("nothing has changed since now, and it tells %v", changes)
	}
	if l.ChangedSince("gone", l.Version()) || !l.ChangedSince("gone", first) {
		t.Error("whether a node was there at a version is known as far as the log goes, and must be taken for possible before that")
	}
}

// BenchmarkSince is what telling of 500 placements costs, on an empty cluster and on one
// with 50,000 pods: the same.
func BenchmarkSince(b *testing.B) {
	for _, placed := range []int{0, 50_000} {
		b.Run(fmt.Sprint(placed), func(b *testing.B) {
			l := New()
			for i := range placed {
				l.Place(newPod(fmt.Sprint("placed-", i), "a", "1"))
			}
			version := l.Version()
			for i := range 500 {
				l.Assume(newPod(fmt.Sprint("p-", i), "", "1"), "a", false)
			}
			for b.Loop() {
				if c := l.Since(version); len(c.GetPlacedPods()) != 500 {
					b.Fatal(len(c.GetPlacedPods()))
				}
			}
		})
	}
}

// BenchmarkPlacement is what one pod costs the ledger on its way from a promise to a pod
// that has started.
func BenchmarkPlacement(b *testing.B) {
	l := New()
	l.SetNode(newNode("a", "a1", "4"))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		uid := fmt.Sprint(i)
		l.Assume(newPod(uid, "", "1"), "a", false)
		l.Place(newPod(uid, "a", "1"))
		l.Place(started(newPod(uid, "a", "1")))
		l.TakeChanges()
		l.Remove(types.UID(uid))
		l.TakeChanges()
	}
}
