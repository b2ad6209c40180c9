package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"pgregory.net/rapid"

	"github.com/berth-scheduler/berth/deploy/check/internal/history"
)

// store is an API server for pods with etcd's history in it: every event, its
// place being its resourceVersion less one.
type store struct {
	events    []watch.Event
	cached    uint64 // watches from before get 410
	compacted uint64 // exact reads from before get 410
}

// put makes the next version of a pod; an existing one is modified.
func (s *store) put(name, node string) {
	typ, uid := watch.Added, types.UID(fmt.Sprint("uid-", len(s.events)+1))
	if old := s.at(s.version())[name]; old != nil {
		typ, uid = watch.Modified, old.UID
	}
	s.event(typ, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: uid}, Spec: corev1.PodSpec{NodeName: node}})
}

func (s *store) remove(name string) {
	if old := s.at(s.version())[name]; old != nil {
		s.event(watch.Deleted, old.DeepCopy())
	}
}

func (s *store) event(typ watch.EventType, p *corev1.Pod) {
	p.ResourceVersion = strconv.FormatUint(s.version()+1, 10)
	s.events = append(s.events, watch.Event{Type: typ, Object: p})
}

func (s *store) version() uint64 { return uint64(len(s.events)) }

// at returns the pods by name as they were at version.
func (s *store) at(version uint64) map[string]*corev1.Pod {
	pods := map[string]*corev1.Pod{}
	for _, ev := range s.events[:version] {
		p := ev.Object.(*corev1.Pod)
		if pods[p.Name] = p; ev.Type == watch.Deleted {
			delete(pods, p.Name)
		}
	}
	return pods
}

func (s *store) source() source {
	return source{
		kind: history.Pod,
		list: func(_ context.Context, o metav1.ListOptions) (runtime.Object, error) {
			version := s.version()
			if o.ResourceVersionMatch == metav1.ResourceVersionMatchExact {
				version, _ = parseVersion(o.ResourceVersion)
				if version < s.compacted {
					return nil, apierrors.NewResourceExpired("compacted")
				}
			}
			only, _, _ := strings.Cut(strings.TrimPrefix(o.FieldSelector, "metadata.name="), ",")
			list := &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: strconv.FormatUint(version, 10)}}
			for name, p := range s.at(version) {
				if only == "" || only == name {
					list.Items = append(list.Items, *p)
				}
			}
			return list, nil
		},
		watch: func(_ context.Context, o metav1.ListOptions) (watch.Interface, error) {
			since, _ := parseVersion(o.ResourceVersion)
			if since < s.cached {
				return nil, apierrors.NewResourceExpired("too old resource version")
			}
			w := watch.NewFakeWithChanSize(len(s.events)+1, false)
			for _, ev := range s.events[since:] {
				w.Action(ev.Type, ev.Object)
			}
			if o.AllowWatchBookmarks {
				w.Action(watch.Bookmark, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{ResourceVersion: strconv.FormatUint(s.version(), 10)}})
			}
			w.Stop()
			return w, nil
		},
	}
}

// change makes n arbitrary changes to three pods.
func (s *store) change(t *rapid.T, n int) {
	for range n {
		name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name")
		if rapid.Bool().Draw(t, "remove") {
			s.remove(name)
		} else {
			s.put(name, fmt.Sprint("node-", len(s.events)))
		}
	}
}

// journal follows s into the records it returns.
func journal(s *store) (*follower, *[]history.Record) {
	var out []history.Record
	return &follower{source: s.source(), emit: func(rec history.Record) error {
		out = append(out, rec)
		return nil
	}}, &out
}

// lines are the events among records.
func lines(records []history.Record) []string {
	var out []string
	for _, r := range records {
		if o := r.Object(); o != nil {
			out = append(out, fmt.Sprintf("%d %s %s %s %s", r.ResourceVersion, r.Type, o.GetName(), o.GetUID(), r.Pod.Spec.NodeName))
		}
	}
	return out
}

// TestBridgeIsWhatAWatchWouldHaveShown: from any history, a gap is filled with
// the events that were missed, but for incarnations that lived within it.
func TestBridgeIsWhatAWatchWouldHaveShown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &store{}
		s.put("first", "")
		s.change(t, rapid.IntRange(0, 6).Draw(t, "before"))
		f, got := journal(s)
		if err := f.begin(t.Context(), time.Time{}); err != nil {
			t.Fatal(err)
		}
		start := s.version()
		s.change(t, rapid.IntRange(0, 12).Draw(t, "missed"))
		s.cached = s.version()

		visible := map[types.UID]bool{}
		for _, version := range []uint64{start, s.version()} {
			for _, p := range s.at(version) {
				visible[p.UID] = true
			}
		}
		var want []history.Record
		for _, ev := range s.events[start:] {
			if visible[ev.Object.(*corev1.Pod).UID] {
				rec, err := record(history.Type(ev.Type), ev.Object)
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, rec)
			}
		}
		*got = nil
		if start < s.version() {
			if err := f.watchOnce(t.Context()); !errors.Is(err, errGone) {
				t.Fatalf("watch: %v, want errGone", err)
			}
		}
		if err := f.listAgain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if g, w := lines(*got), lines(want); !slices.Equal(g, w) {
			t.Errorf("bridged\n%s\nwant\n%s", strings.Join(g, "\n"), strings.Join(w, "\n"))
		}
		if f.version != s.version() || slices.ContainsFunc(*got, func(r history.Record) bool { return r.Type == history.Gap }) {
			t.Errorf("at version %d of %d, records %+v", f.version, s.version(), *got)
		}
	})
}

// TestBridgeOverAnOutage: an API server that does not answer for a while is asked again
// for the version that it owes, and one that refuses is not.
func TestBridgeOverAnOutage(t *testing.T) {
	for _, test := range []struct {
		name  string
		err   error
		again bool
	}{
		{"away", &url.Error{Op: "Get", URL: "https://x", Err: syscall.ECONNREFUSED}, true},
		{"starting", apierrors.NewServiceUnavailable("starting"), true},
		{"busy", apierrors.NewTooManyRequests("busy", 0), true},
		{"forbidden", apierrors.NewForbidden(corev1.Resource("pods"), "", errors.New("no")), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &store{}
			s.put("a", "")
			f, got := journal(s)
			if err := f.begin(t.Context(), time.Time{}); err != nil {
				t.Fatal(err)
			}
			s.put("a", "n")
			s.cached = s.version()
			*got = nil
			var asked atomic.Int64
			list := f.list
			f.list = func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				if o.ResourceVersionMatch == metav1.ResourceVersionMatchExact && asked.Add(1) == 1 {
					return nil, test.err
				}
				return list(ctx, o)
			}
			err := f.listAgain(t.Context())
			if !test.again {
				if !errors.Is(err, test.err) || asked.Load() != 1 {
					t.Errorf("asked %d times, error %v", asked.Load(), err)
				}
				return
			}
			if g, want := lines(*got), []string{"2 MODIFIED a uid-1 n"}; err != nil || !slices.Equal(g, want) {
				t.Errorf("bridged %q with error %v, want %q", g, err, want)
			}
		})
	}
}

// TestGap: what etcd compacted is a gap, and the differences follow it.
func TestGap(t *testing.T) {
	s := &store{}
	s.put("a", "")
	s.put("b", "")
	f, got := journal(s)
	if err := f.begin(t.Context(), time.Time{}); err != nil {
		t.Fatal(err)
	}
	s.put("a", "n") // 3
	s.remove("b")   // 4
	s.put("b", "n") // 5
	s.put("c", "n") // 6
	s.cached, s.compacted = 6, 6
	*got = nil
	if err := f.listAgain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if g := (*got)[0]; g.Type != history.Gap || g.Since != 2 || g.ResourceVersion != 6 {
		t.Errorf("first record %+v, want a gap from 2 to 6", g)
	}
	want := []string{"3 MODIFIED a uid-1 n", "4 DELETED b uid-2 ", "5 ADDED b uid-5 n", "6 ADDED c uid-6 n"}
	if g := lines(*got); !slices.Equal(g, want) {
		t.Errorf("after the gap %q, want %q", g, want)
	}
}

// TestWatchLeavesOutWhatIsNotRecorded: an update of nothing that is judged is
// no line, and following goes on after it.
func TestWatchLeavesOutWhatIsNotRecorded(t *testing.T) {
	s := &store{}
	s.put("a", "n")
	f, got := journal(s)
	if err := f.begin(t.Context(), time.Time{}); err != nil {
		t.Fatal(err)
	}
	s.put("a", "n")
	s.remove("a")
	if err := f.watchOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if g, want := lines(*got), []string{"1 LISTED a uid-1 n", "3 DELETED a uid-1 n"}; !slices.Equal(g, want) {
		t.Errorf("recorded %q, want %q", g, want)
	}
}

// TestCatchUp: wherever the recording ends, it is led to the final list.
func TestCatchUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &store{}
		s.put("first", "")
		f, recording := journal(s)
		if err := f.begin(t.Context(), time.Time{}); err != nil {
			t.Fatal(err)
		}
		s.change(t, rapid.IntRange(0, 6).Draw(t, "recorded"))
		if err := f.watchOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.change(t, rapid.IntRange(0, 6).Draw(t, "after"))
		final, version, err := s.source().snapshot(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s.change(t, rapid.IntRange(0, 6).Draw(t, "later"))
		if rapid.Bool().Draw(t, "restarted") {
			s.cached = s.version()
		}
		added, err := catchUp(t.Context(), s.source(), *recording, final, version)
		if err != nil {
			t.Errorf("catchUp: %v; added %q", err, lines(added))
		}
		for _, rec := range added {
			if rec.ResourceVersion > version {
				t.Errorf("added a record of %d, after %d", rec.ResourceVersion, version)
			}
		}
		// A recording that lost a line does not lead there.
		i := slices.IndexFunc(*recording, func(r history.Record) bool { return r.Type == history.Listed })
		if s.at(version)["first"] == nil {
			t.Fatal("nothing removes the first pod")
		}
		if _, err := catchUp(t.Context(), s.source(), slices.Delete(slices.Clone(*recording), i, i+1), final, version); err == nil {
			t.Error("catchUp accepts a recording without its first line")
		}
	})
}
