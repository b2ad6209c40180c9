package workload

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// The figures of two runs can be compared because the records are the same, byte for
// byte. Whoever changes them on purpose changes these sums too.
func TestDeterministic(t *testing.T) {
	sums := func() []string {
		c := &Cluster{Nodes: 2000, Full: 0.5}
		nodes, fillers, pods, placed := sha256.New(), sha256.New(), sha256.New(), sha256.New()
		for i := range c.Nodes {
			nodes.Write(c.AppendNode(nil, i))
			fillers.Write(c.AppendFiller(nil, i))
		}
		classes := Mixed()
		for _, k := range Kinds(c) {
			classes = append(slices.Concat(classes, k.Classes(3, false)), k.Classes(1, true)...)
		}
		for i := range 1000 {
			class := classes[ClassOf(i, len(classes))]
			pods.Write(class.AppendPod(nil, i))
			placed.Write(class.AppendPlaced(nil, i, i))
		}
		return []string{
			fmt.Sprintf("nodes %x", nodes.Sum(nil)[:8]), fmt.Sprintf("fillers %x", fillers.Sum(nil)[:8]),
			fmt.Sprintf("pods %x", pods.Sum(nil)[:8]), fmt.Sprintf("placed %x", placed.Sum(nil)[:8]),
		}
	}
	first := sums()
	if second := sums(); !slices.Equal(first, second) {
		t.Errorf("first %v, then %v", first, second)
	}
	want := []string{"nodes 9abbfffb3632bd96", "fillers a95398ffec63655c", "pods 3e426e4a1e66d5a2", "placed c70616dc57e3cde2"}
	if !slices.Equal(first, want) {
		t.Errorf("the records are others than they were: %q, want %q", first, want)
	}
}

func decode[M proto.Message](t *testing.T, encoded []byte, into M) M {
	t.Helper()
	if err := proto.Unmarshal(encoded, into); err != nil {
		t.Fatal(err)
	}
	return into
}

func TestNodes(t *testing.T) {
	c := &Cluster{Nodes: 20_000, Full: 0.95}
	var taints, cordons int
	zones, types := map[string]int{}, map[string]int{}
	var room, taken int64
	for i := range c.Nodes {
		n := decode(t, c.AppendNode(nil, i), &berthv1.Node{})
		if n.GetName() != NodeName(i) || n.GetLabels()[hostnameLabel] != n.GetName() {
			t.Fatalf("node %d: %v", i, n)
		}
		if index, ok := c.NodeIndex([]byte(n.GetName())); !ok || index != i {
			t.Fatalf("%q is node %d (%t), want %d", n.GetName(), index, ok, i)
		}
		zones[n.GetLabels()[zoneLabel]]++
		types[n.GetLabels()[typeLabel]]++
		taints += len(n.GetTaints())
		if n.GetUnschedulable() {
			cordons++
		}
		filler := decode(t, c.AppendFiller(nil, i), &berthv1.PlacedPod{})
		if filler.GetNodeName() != n.GetName() || filler.GetRequests()["cpu"] > n.GetAllocatable()["cpu"] {
			t.Fatalf("filler %d: %v", i, filler)
		}
		room += n.GetAllocatable()["cpu"]
		taken += filler.GetRequests()["cpu"]
	}
	if len(zones) != Zones || len(types) != len(machines) {
		t.Errorf("%d zones and %d types of machine", len(zones), len(types))
	}
	if taints < 1800 || taints > 2200 || cordons < 10 || cordons > 40 {
		t.Errorf("%d taints and %d cordons among %d nodes", taints, cordons, c.Nodes)
	}
	if part := float64(taken) / float64(room); part < 0.94 || part > 0.96 {
		t.Errorf("%.3f of the cpu is taken, want 0.95", part)
	}
}

func TestNodeIndexOfStrangers(t *testing.T) {
	c := &Cluster{Nodes: 10}
	for _, name := range []string{"", "node-", "node-0000010", "node-00000001", "node-000000x", "edon-0000001"} {
		if i, ok := c.NodeIndex([]byte(name)); ok {
			t.Errorf("%q is node %d", name, i)
		}
	}
}

// Pods of one class differ in their names alone, but for those kinds whose pods are all
// different.
func TestClasses(t *testing.T) {
	c := &Cluster{Nodes: 100}
	for _, k := range Kinds(c) {
		for _, class := range k.Classes(2, false) {
			a, b := decode(t, class.AppendPod(nil, 1), &berthv1.Pod{}), decode(t, class.AppendPod(nil, 2), &berthv1.Pod{})
			if a.GetUid() != UID(1) || a.GetUid() == b.GetUid() || a.GetName() == b.GetName() {
				t.Errorf("%s: %v and %v", class.Name, a, b)
			}
			a.Uid, a.Name = b.GetUid(), b.GetName()
			if equal := proto.Equal(a, b); equal != (k.each == nil) {
				t.Errorf("%s: two pods are equal is %t: %v and %v", class.Name, equal, a, b)
			}
			placed := decode(t, class.AppendPlaced(nil, 2, 7), &berthv1.PlacedPod{})
			want := &berthv1.PlacedPod{
				Uid: b.GetUid(), Namespace: b.GetNamespace(), Name: b.GetName(), NodeName: NodeName(7), Labels: b.GetLabels(),
				Requests: b.GetRequests(), ScoreRequests: b.GetScoreRequests(), HostPorts: b.GetHostPorts(),
				PodAffinity: b.GetPodAffinity(), PodAntiAffinity: b.GetPodAntiAffinity(),
			}
			if !proto.Equal(placed, want) {
				t.Errorf("%s: placed is %v, want %v", class.Name, placed, want)
			}
		}
	}
}

func TestMixed(t *testing.T) {
	classes := Mixed()
	if len(classes) != 20 {
		t.Errorf("%d classes", len(classes))
	}
	seen := make([]int, len(classes))
	for i := range 20_000 {
		seen[ClassOf(i, len(classes))]++
	}
	for i, n := range seen {
		if n < 800 || n > 1200 {
			t.Errorf("%s: %d pods of 20,000", classes[i].Name, n)
		}
	}
}
