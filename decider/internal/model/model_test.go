package model

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

func TestLabelValues(t *testing.T) {
	for value, want := range map[string]bool{
		"": true, "a": true, "A-b_c.9": true, strings.Repeat("x", 63): true,
		"-a": false, "a.": false, "a b": false, "ä": false, strings.Repeat("x", 64): false,
	} {
		if isLabelValue(value) != want {
			t.Errorf("isLabelValue(%q) is %t", value, !want)
		}
	}
}

// Amounts are in kube-scheduler's order, whatever the map's, and 0 is no request.
func TestRequestsOrder(t *testing.T) {
	s, err := NewSnapshot(&berthv1.Snapshot{Nodes: []*berthv1.Node{{Name: "n", Allocatable: map[string]int64{"z/z": 1}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.NewPod(&berthv1.Pod{Uid: "p", Requests: map[string]int64{
		"z/z": 1, "a/a": 1, "ephemeral-storage": 1, "memory": 1, "cpu": 1, "b/b": 0,
	}})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, a := range p.Requests {
		names = append(names, a.Name)
	}
	if diff := gocmp.Diff([]string{"cpu", "memory", "ephemeral-storage", "a/a", "z/z"}, names); diff != "" {
		t.Error(diff)
	}
}

// Sums that no int64 holds fill a node; they do not empty it.
func TestSumsDoNotWrap(t *testing.T) {
	huge := map[string]int64{"cpu": math.MaxInt64}
	s, err := NewSnapshot(&berthv1.Snapshot{
		Nodes: []*berthv1.Node{{Name: "n", Allocatable: map[string]int64{"cpu": 5}}},
		PlacedPods: []*berthv1.PlacedPod{
			{Uid: "1", NodeName: "n", Requests: huge, ScoreRequests: huge},
			{Uid: "2", NodeName: "n", Requests: huge, ScoreRequests: huge},
			{Uid: "3", NodeName: "n", Requests: huge, Nominated: true},
		},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	n := s.Nodes[0]
	if n.Requested.Of(CPU) != math.MaxInt64 || n.ScoreRequested[CPU] != math.MaxInt64 || n.Free(CPU) >= 0 {
		t.Errorf("requested %d, for scores %d, free %d", n.Requested.Of(CPU), n.ScoreRequested[CPU], n.Free(CPU))
	}
}

// Whatever pods come and go, the sums are those of the pods that are there.
func TestAddRemove(t *testing.T) {
	s, err := NewSnapshot(&berthv1.Snapshot{Nodes: []*berthv1.Node{{Name: "n"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	near := &berthv1.PodAffinity{Required: []*berthv1.PodAffinityTerm{{TopologyKey: "zone"}}}
	n, random := s.Nodes[0], rand.New(rand.NewPCG(1, 2))
	for step := range 2000 {
		if len(n.Pods) > 0 && random.IntN(2) == 0 {
			// The last one is gone most often.
			n.Remove(n.Pods[len(n.Pods)-1-min(random.IntN(3)/2, len(n.Pods)-1)])
		} else {
			record := &berthv1.PlacedPod{Uid: fmt.Sprint(step), NodeName: "n", Requests: map[string]int64{}, ScoreRequests: map[string]int64{}}
			for _, name := range []string{"cpu", "x/y", "x/z"} {
				record.Requests[name] = []int64{0, 1, 2, math.MaxInt64}[random.IntN(20)/6]
				record.ScoreRequests["cpu"] = record.Requests[name]
			}
			for port := range random.IntN(3) {
				record.HostPorts = append(record.HostPorts, &berthv1.HostPort{Port: int32(step + 10*port + 1)})
			}
			if random.IntN(2) == 0 {
				record.PodAffinity = near
			}
			q, err := newPlacedPod(record, s.resources)
			if err != nil {
				t.Fatal(err)
			}
			n.Add(q)
		}
		var want Node
		for _, q := range n.Pods {
			want.Add(q)
		}
		sums := func(n *Node) string {
			ports, affine := slices.Clone(n.Ports), slices.Clone(n.Affine)
			slices.SortFunc(ports, func(a, b Port) int { return cmp.Compare(a.Number, b.Number) })
			slices.SortFunc(affine, func(a, b *PlacedPod) int { return strings.Compare(a.UID, b.UID) })
			return fmt.Sprint(n.Requested, n.ScoreRequested, ports, affine)
		}
		if got, want := sums(n), sums(&want); got != want {
			t.Fatalf("step %d: %s, want %s", step, got, want)
		}
		if s.Affine != len(n.Affine) {
			t.Fatalf("step %d: %d pods have affinity, want %d", step, s.Affine, len(n.Affine))
		}
	}
}

// A resource that one node or pod has costs the others nothing: with a table of all
// resources per node, a request of some megabytes would take all memory.
func TestManyResources(t *testing.T) {
	const nodes = 4000
	state := &berthv1.Snapshot{}
	for i := range nodes {
		name := fmt.Sprint("n", i)
		state.Nodes = append(state.Nodes, &berthv1.Node{Name: name, Allocatable: map[string]int64{"offered/" + name: 2}})
		state.PlacedPods = append(state.PlacedPods, &berthv1.PlacedPod{
			Uid: name, NodeName: name, Requests: map[string]int64{"taken/" + name: 1, "offered/" + name: 1},
		})
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s, err := NewSnapshot(state, nil)
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	if each := (after.TotalAlloc - before.TotalAlloc) / nodes; each > 8<<10 {
		t.Errorf("%d bytes for each node", each)
	}
	n := s.Node("n7")
	offered, _ := s.Resource("offered/n7")
	taken, _ := s.Resource("taken/n7")
	if n.Free(offered) != 1 || n.Free(taken) != -1 || s.Node("n8").Free(taken) != 0 {
		t.Errorf("free: %d offered, %d taken", n.Free(offered), n.Free(taken))
	}
}

// A constraint without a name is not passed over.
func TestConstraintsWithoutName(t *testing.T) {
	constraints := []string{"NodeName", ""}
	s, err := NewSnapshot(&berthv1.Snapshot{
		Nodes:      []*berthv1.Node{{Name: "a", Constraints: constraints}, {Name: "b"}},
		PlacedPods: []*berthv1.PlacedPod{{Uid: "q", Name: "q", NodeName: "b", Constraints: constraints}},
	}, map[string]bool{"NodeName": true})
	if err != nil {
		t.Fatal(err)
	}
	_, refused := s.NewPod(&berthv1.Pod{Uid: "p", Constraints: constraints})
	want := "a: constraints[1]: a constraint needs a name\n" +
		"b: placed pod /q.constraints[1]: a constraint needs a name\n" +
		"p: constraints[1]: a constraint needs a name"
	if got := fmt.Sprintf("a: %s\nb: %s\np: %v", s.Node("a").Problem, s.Node("b").Problem, refused); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A selector takes memory by its length, not by the square of it.
func TestLongSelector(t *testing.T) {
	const length = 4000
	record := &berthv1.LabelSelector{MatchLabels: map[string]string{}}
	for i := range length {
		record.MatchLabels[fmt.Sprint(i)] = "v"
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	selector, err := newLabelSelector(record)
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	if each := (after.TotalAlloc - before.TotalAlloc) / length; each > 2<<10 {
		t.Errorf("%d bytes for each requirement", each)
	}
	if !selector.Matches(record.MatchLabels) {
		t.Error("it does not match its own labels")
	}
}

// What is undone was never there: sums, ports and the nomination.
func TestPlaceUndo(t *testing.T) {
	s, err := NewSnapshot(&berthv1.Snapshot{
		Nodes:      []*berthv1.Node{{Name: "a"}, {Name: "b", Allocatable: map[string]int64{"x/y": 2}}},
		PlacedPods: []*berthv1.PlacedPod{{Uid: "p", NodeName: "a", Nominated: true, Requests: map[string]int64{"cpu": 1}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.NewPod(&berthv1.Pod{
		Uid: "p", Requests: map[string]int64{"cpu": 1, "x/y": 2}, ScoreRequests: map[string]int64{"cpu": 3},
		HostPorts: []*berthv1.HostPort{{Port: 80}},
	})
	if err != nil {
		t.Fatal(err)
	}
	a, b := s.Nodes[0], s.Nodes[1]
	undo := s.Place(p, b)
	gpu, _ := s.Resource("x/y")
	if len(a.Nominated) != 0 || b.Requested.Of(Pods) != 1 || b.Requested.Of(gpu) != 2 || b.ScoreRequested[CPU] != 3 || len(b.Ports) != 1 {
		t.Errorf("placed: %+v, %+v", a, b)
	}
	undo()
	if len(a.Nominated) != 1 || b.Requested.Of(Pods) != 0 || b.Requested.Of(gpu) != 0 || b.ScoreRequested[CPU] != 0 || len(b.Ports) != 0 {
		t.Errorf("undone: %+v, %+v", a, b)
	}
}

// Who may preempt is said by a policy that is known, or by none.
func TestPreemptionPolicy(t *testing.T) {
	s, err := NewSnapshot(&berthv1.Snapshot{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for policy, want := range map[berthv1.PreemptionPolicy]string{
		berthv1.PreemptionPolicy_PREEMPTION_POLICY_UNSPECIFIED:            "true",
		berthv1.PreemptionPolicy_PREEMPTION_POLICY_PREEMPT_LOWER_PRIORITY: "true",
		berthv1.PreemptionPolicy_PREEMPTION_POLICY_NEVER:                  "false",
		3: "preemption_policy: 3 is not a preemption policy",
	} {
		p, err := s.NewPod(&berthv1.Pod{Uid: "p", PreemptionPolicy: policy})
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = fmt.Sprint(p.Preempts)
		}
		if got != want {
			t.Errorf("%v: %s, want %s", policy, got, want)
		}
	}
}
