package model_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/berth-scheduler/berth/decider/internal/model"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Small domains make coincidences, where mistakes are, likely.
var (
	someNodes      = rapid.SampledFrom([]string{"n0", "n1", "n2", "n3", "n4"})
	someUIDs       = rapid.SampledFrom([]string{"p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7"})
	someNamespaces = rapid.SampledFrom([]string{"a", "b"})
	resourceNames  = []string{"cpu", "memory", "ephemeral-storage", "pods", "example.com/gpu", "example.com/nic"}
	imageNames     = []string{"app", "base"}
)

// one is true once in so many draws.
func one(t *rapid.T, in int, what string) bool { return rapid.IntRange(1, in).Draw(t, what) == in }

func drawAmounts(t *rapid.T) map[string]int64 {
	amounts := rapid.MapOfN(rapid.SampledFrom([]string{"cpu", "memory", "example.com/gpu", "example.com/nic"}), rapid.Int64Range(0, 3), 0, 2).Draw(t, "amounts")
	if one(t, 15, "huge") {
		amounts["cpu"] = 1<<63 - 1
	}
	if one(t, 15, "negative") {
		amounts["memory"] = -1
	}
	return amounts
}

func drawConstraints(t *rapid.T) []string {
	return rapid.SampledFrom([][]string{nil, nil, nil, nil, {"known"}, {"x"}, {"y"}, {"known", "x", "y"}, {""}}).Draw(t, "constraints")
}

func drawNode(t *rapid.T) *berthv1.Node {
	n := &berthv1.Node{
		Name: someNodes.Draw(t, "name"), Labels: map[string]string{"zone": rapid.SampledFrom([]string{"", "z"}).Draw(t, "zone")},
		Unschedulable: one(t, 4, "cordoned"), Allocatable: drawAmounts(t), Constraints: drawConstraints(t),
	}
	for range rapid.IntRange(0, 2).Draw(t, "taints") {
		n.Taints = append(n.Taints, &berthv1.Taint{Key: "k", Effect: berthv1.TaintEffect(rapid.SampledFrom([]int32{0, 1, 1, 2, 2, 2, 3}).Draw(t, "effect"))})
	}
	n.Images = rapid.MapOfN(rapid.SampledFrom(imageNames), rapid.Int64Range(1, 2), 0, 2).Draw(t, "images")
	n.Signals = rapid.MapOfN(rapid.Just("load"), rapid.Int64Range(0, 1), 0, 1).Draw(t, "signals")
	if one(t, 20, "nameless") {
		n.Name = ""
	}
	return n
}

func drawPlaced(t *rapid.T) *berthv1.PlacedPod {
	q := &berthv1.PlacedPod{
		Uid: someUIDs.Draw(t, "uid"), Name: "name", Namespace: someNamespaces.Draw(t, "namespace"), NodeName: someNodes.Draw(t, "on"),
		Requests: drawAmounts(t), ScoreRequests: map[string]int64{"cpu": rapid.Int64Range(0, 2).Draw(t, "score")},
		Nominated: one(t, 4, "nominated"), Terminating: one(t, 4, "terminating"), Constraints: drawConstraints(t),
	}
	if one(t, 3, "ports") {
		q.HostPorts = []*berthv1.HostPort{{Port: rapid.Int32Range(0, 2).Draw(t, "port")}}
	}
	if one(t, 3, "affine") {
		q.PodAffinity = &berthv1.PodAffinity{Required: []*berthv1.PodAffinityTerm{{TopologyKey: rapid.SampledFrom([]string{"zone", "zone", ""}).Draw(t, "topology")}}}
	}
	if one(t, 20, "keyless") {
		q.Uid = ""
	}
	return q
}

func drawChanges(t *rapid.T) *berthv1.Changes {
	c := &berthv1.Changes{}
	some := func(what string, draw func()) {
		for range rapid.SampledFrom([]int{0, 0, 1, 1, 2, 3}).Draw(t, what) {
			draw()
		}
	}
	some("nodes", func() { c.Nodes = append(c.Nodes, drawNode(t)) })
	some("pods", func() { c.PlacedPods = append(c.PlacedPods, drawPlaced(t)) })
	some("namespaces", func() {
		c.Namespaces = append(c.Namespaces, &berthv1.Namespace{
			Name:   rapid.SampledFrom([]string{"a", "b", "a", "b", ""}).Draw(t, "name"),
			Labels: rapid.MapOfN(rapid.Just("team"), rapid.SampledFrom([]string{"red", "blue"}), 0, 1).Draw(t, "labels"),
		})
	})
	some("budgets", func() {
		c.DisruptionBudgets = append(c.DisruptionBudgets, &berthv1.DisruptionBudget{
			Namespace: someNamespaces.Draw(t, "namespace"), Name: rapid.SampledFrom([]string{"one", "two", "one", "two", ""}).Draw(t, "name"),
			DisruptionsAllowed: rapid.Int32Range(-1, 2).Draw(t, "allowed"),
		})
	})
	some("removed nodes", func() { c.RemovedNodes = append(c.RemovedNodes, someNodes.Draw(t, "name")) })
	some("removed pods", func() { c.RemovedPlacedPods = append(c.RemovedPlacedPods, someUIDs.Draw(t, "uid")) })
	some("removed namespaces", func() { c.RemovedNamespaces = append(c.RemovedNamespaces, someNamespaces.Draw(t, "name")) })
	some("removed budgets", func() {
		c.RemovedDisruptionBudgets = append(c.RemovedDisruptionBudgets, &berthv1.DisruptionBudgetKey{
			Namespace: someNamespaces.Draw(t, "namespace"), Name: rapid.SampledFrom([]string{"one", "two"}).Draw(t, "name"),
		})
	})
	return c
}

// content is the records of a state by key, as the contract says of changes.
type content struct {
	nodes      map[string]*berthv1.Node
	pods       map[string]*berthv1.PlacedPod
	namespaces map[string]*berthv1.Namespace
	budgets    map[string]*berthv1.DisruptionBudget
}

func newContent() *content {
	return &content{
		map[string]*berthv1.Node{}, map[string]*berthv1.PlacedPod{},
		map[string]*berthv1.Namespace{}, map[string]*berthv1.DisruptionBudget{},
	}
}

func (c *content) apply(changes *berthv1.Changes) {
	var removed []string
	for _, b := range changes.GetRemovedDisruptionBudgets() {
		removed = append(removed, b.GetNamespace()+"/"+b.GetName())
	}
	change(c.nodes, changes.GetRemovedNodes(), changes.GetNodes(), (*berthv1.Node).GetName)
	change(c.pods, changes.GetRemovedPlacedPods(), changes.GetPlacedPods(), (*berthv1.PlacedPod).GetUid)
	change(c.namespaces, changes.GetRemovedNamespaces(), changes.GetNamespaces(), (*berthv1.Namespace).GetName)
	change(c.budgets, removed, changes.GetDisruptionBudgets(), func(b *berthv1.DisruptionBudget) string {
		if b.GetName() == "" {
			return ""
		}
		return b.GetNamespace() + "/" + b.GetName()
	})
}

// change leaves records without a key out.
func change[R any](records map[string]R, removed []string, set []R, key func(R) string) {
	for _, k := range removed {
		delete(records, k)
	}
	for _, r := range set {
		if k := key(r); k != "" {
			records[k] = r
		}
	}
}

func (c *content) snapshot(t *rapid.T) *berthv1.Snapshot {
	return &berthv1.Snapshot{
		Nodes: anyOrder(t, c.nodes), PlacedPods: anyOrder(t, c.pods),
		Namespaces: anyOrder(t, c.namespaces), DisruptionBudgets: anyOrder(t, c.budgets),
	}
}

func anyOrder[R any](t *rapid.T, records map[string]R) []R {
	var sorted []R
	for _, key := range slices.Sorted(maps.Keys(records)) {
		sorted = append(sorted, records[key])
	}
	if len(sorted) < 2 {
		return sorted
	}
	return rapid.Permutation(sorted).Draw(t, "order")
}

// seen is all that rules and scores can see of a node, in an order that means nothing.
type seen struct {
	Name                       string
	Index                      int
	Unschedulable, Understood  bool
	Taints, Discouraging       []model.Taint
	Nominated, Pods, Affine    []string
	Allocatable, Requested     []int64
	ScoreRequested             model.ScoreAmounts
	Ports                      []string
	Record                     *berthv1.Node
	Labels                     map[string]string
	Unknown, Problem           string
	UnknownOfPod, ProblemOfPod bool
}

// seenOf is all that there is to see of a snapshot.
func seenOf(s *model.Snapshot) any {
	uids := func(pods []*model.PlacedPod) []string {
		var of []string
		for _, q := range pods {
			of = append(of, fmt.Sprintf("%s %v %v %v %v", q.UID, q.Requests != nil, q.ScoreRequests, q.Terminating, q.Affinity))
		}
		return of
	}
	var nodes []seen
	for _, n := range s.Nodes {
		v := seen{
			Name: n.Name, Index: n.Index, Unschedulable: n.Unschedulable, Understood: n.Understood, Taints: n.Taints, Discouraging: n.Discouraging,
			Nominated: uids(n.Nominated), Pods: uids(n.Pods), Affine: uids(n.Affine), ScoreRequested: n.ScoreRequested, Record: n.Record,
			Labels: n.Labels, Unknown: n.Unknown, Problem: n.Problem, UnknownOfPod: n.UnknownOfPod, ProblemOfPod: n.ProblemOfPod,
		}
		slices.Sort(v.Pods)
		slices.Sort(v.Affine)
		for _, name := range resourceNames {
			var allocatable, requested int64
			if r, ok := s.Resource(name); ok {
				allocatable, requested = n.Allocatable.Of(r), n.Requested.Of(r)
			}
			v.Allocatable, v.Requested = append(v.Allocatable, allocatable), append(v.Requested, requested)
		}
		for _, p := range n.Ports {
			v.Ports = append(v.Ports, fmt.Sprint(p))
		}
		slices.Sort(v.Ports)
		nodes = append(nodes, v)
	}
	placed := map[string]bool{}
	for i := range 8 {
		uid := fmt.Sprintf("p%d", i)
		placed[uid] = s.Placed(uid)
	}
	var budgets []string
	for _, b := range s.Budgets {
		budgets = append(budgets, fmt.Sprint(b.Namespace, "/", b.Name, " ", b.Allowed))
	}
	images := map[string]int{}
	for _, name := range imageNames {
		images[name] = s.NodesWithImage(name)
	}
	labels := map[string]map[string]string{}
	for name, of := range s.Namespaces {
		labels[name] = maps.Clone(of)
	}
	return map[string]any{
		"nodes": nodes, "placed": placed, "namespaces": labels, "budgets": budgets, "images": images, "affine": s.Affine,
		"discouraging": s.Discouraging, "signals": s.Signals, "nominations": s.Nominations(),
	}
}

// What a snapshot answers follows from its content, whatever led to it; whoever observes
// it can keep up with it; and Facts changes with what it says.
func TestApply(t *testing.T) {
	understood := map[string]bool{"known": true}
	rapid.Check(t, func(t *rapid.T) {
		c, s := newContent(), model.New(understood)
		o := &mirror{snapshot: s, bySlot: map[int]*model.Node{}, pods: map[*model.Node][]*model.PlacedPod{}, fail: t.Fatalf}
		s.Observe(o)
		for range rapid.IntRange(1, 8).Draw(t, "messages") {
			changes := drawChanges(t)
			facts, before := s.Facts, factsOf(s)
			c.apply(changes)
			rejected := s.Apply(changes)
			if after := factsOf(s); s.Facts == facts && after != before {
				t.Fatalf("Facts does not tell of %s, which was %s", after, before)
			}
			anew, err := model.NewSnapshot(c.snapshot(t), understood)
			if err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(seenOf(anew), seenOf(s), protocmp.Transform()); diff != "" {
				t.Fatalf("decoded anew (-) and changed (+): %s", diff)
			}
			o.check()
			for _, n := range changes.GetNodes() {
				if n.GetName() == "" && !slices.ContainsFunc(rejected, func(r *berthv1.RejectedRecord) bool {
					return r.GetObject() == berthv1.ObjectKind_OBJECT_KIND_NODE && r.GetKey() == "" && r.GetField() == "name"
				}) {
					t.Fatalf("a node without a name is not among the rejected %v", rejected)
				}
			}
		}
	})
}

// factsOf is what Facts counts the changes of.
func factsOf(s *model.Snapshot) string {
	labels := maps.Clone(s.Namespaces)
	maps.DeleteFunc(labels, func(_ string, of map[string]string) bool { return len(of) == 0 })
	facts := fmt.Sprint(s.Discouraging, labels)
	for _, name := range imageNames {
		facts += fmt.Sprint(" ", s.NodesWithImage(name))
	}
	for _, name := range resourceNames {
		_, known := s.Resource(name)
		facts += fmt.Sprint(" ", known)
	}
	return facts
}

// mirror is what an observer knows of a snapshot.
type mirror struct {
	snapshot *model.Snapshot
	bySlot   map[int]*model.Node
	pods     map[*model.Node][]*model.PlacedPod
	fail     func(format string, args ...any)
}

func (m *mirror) NodeCame(n *model.Node) {
	if other := m.bySlot[n.Slot]; other != nil {
		m.fail("%s came into slot %d, which %s has", n.Name, n.Slot, other.Name)
	}
	m.bySlot[n.Slot] = n
}

func (m *mirror) NodeGone(n *model.Node) {
	if m.bySlot[n.Slot] != n {
		m.fail("%s went from slot %d, which it did not have", n.Name, n.Slot)
	}
	if len(m.pods[n]) > 0 {
		m.fail("%s went with %d pods on it", n.Name, len(m.pods[n]))
	}
	delete(m.bySlot, n.Slot)
}

func (m *mirror) PodMoved(q *model.PlacedPod, n *model.Node, by int64) {
	if by > 0 {
		m.pods[n] = append(m.pods[n], q)
		return
	}
	i := slices.Index(m.pods[n], q)
	if i < 0 {
		m.fail("%s went from %s, where it was not", q.UID, n.Name)
	}
	m.pods[n] = slices.Delete(m.pods[n], i, i+1)
}

// check compares what the observer knows with what there is.
func (m *mirror) check() {
	if len(m.bySlot) != len(m.snapshot.Nodes) {
		m.fail("the observer knows %d nodes; there are %d", len(m.bySlot), len(m.snapshot.Nodes))
	}
	byUID := func(a, b *model.PlacedPod) int { return cmp.Compare(a.UID, b.UID) }
	for _, n := range m.snapshot.Nodes {
		if m.bySlot[n.Slot] != n || n.Slot >= m.snapshot.Slots {
			m.fail("%s has slot %d of %d; the observer knows another node there", n.Name, n.Slot, m.snapshot.Slots)
		}
		known, there := slices.SortedFunc(slices.Values(m.pods[n]), byUID), slices.SortedFunc(slices.Values(n.Pods), byUID)
		if !slices.Equal(known, there) {
			m.fail("%s has %d pods; the observer knows %d, or others", n.Name, len(there), len(known))
		}
	}
}

// A node whose record is replaced has the slot that it had, and one that is new any that
// no other has.
func TestSlots(t *testing.T) {
	s := model.New(nil)
	apply := func(c *berthv1.Changes) {
		if rejected := s.Apply(c); len(rejected) > 0 {
			t.Fatal(rejected)
		}
	}
	apply(&berthv1.Changes{Nodes: []*berthv1.Node{{Name: "b"}, {Name: "c"}}})
	slot := s.Node("c").Slot
	apply(&berthv1.Changes{Nodes: []*berthv1.Node{{Name: "a"}, {Name: "c", Unschedulable: true}}, RemovedNodes: []string{"b", "c"}})
	if c := s.Node("c"); c.Slot != slot || !c.Unschedulable || c.Index != 1 {
		t.Errorf("c has slot %d and place %d, want %d and 1", c.Slot, c.Index, slot)
	}
	if s.Slots > 3 || s.Node("a").Slot == slot {
		t.Errorf("a has slot %d of %d", s.Node("a").Slot, s.Slots)
	}
}
