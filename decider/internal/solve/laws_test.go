package solve_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/solve"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Small domains make coincidences, where mistakes are, likely.
var (
	keys      = rapid.SampledFrom([]string{"zone", "disk", "gen"})
	values    = rapid.SampledFrom([]string{"a", "b", "1", "2", "10"})
	nodeNames = rapid.SampledFrom([]string{"n0", "n1", "n2", "n3", "n4", "n5"})
	labels    = rapid.MapOfN(keys, values, 0, 3)
	effects   = rapid.SampledFrom([]berthv1.TaintEffect{
		berthv1.TaintEffect_TAINT_EFFECT_NO_SCHEDULE,
		berthv1.TaintEffect_TAINT_EFFECT_PREFER_NO_SCHEDULE,
		berthv1.TaintEffect_TAINT_EFFECT_NO_EXECUTE,
	})
	requests = rapid.MapOfN(rapid.SampledFrom([]string{"cpu", "memory", "ephemeral-storage", "example.com/gpu"}), rapid.Int64Range(0, 6), 0, 4)
	hostPort = rapid.Custom(func(t *rapid.T) *berthv1.HostPort {
		return &berthv1.HostPort{
			Protocol: rapid.SampledFrom([]string{"", "TCP", "UDP"}).Draw(t, "protocol"),
			Ip:       rapid.SampledFrom([]string{"", "0.0.0.0", "10.0.0.1", "10.0.0.2"}).Draw(t, "ip"),
			Port:     rapid.Int32Range(1, 3).Draw(t, "port"),
		}
	})
	hostPorts = rapid.SliceOfN(hostPort, 0, 2)
	// Pods and namespaces share an alphabet of labels, so that selectors often
	// select.
	podKeys    = rapid.SampledFrom([]string{"app", "tier"})
	podValues  = rapid.SampledFrom([]string{"a", "b"})
	podLabels  = rapid.MapOfN(podKeys, podValues, 1, 2)
	namespaces = rapid.SampledFrom([]string{"x", "x", "x", "y", ""})
	topologies = rapid.SampledFrom([]string{"zone", "zone", "zone", "disk"})
	features   = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"RestartAllContainersOnContainerExits", "UserNamespacesHostNetworkSupport"}), 0, 2, rapid.ID)
)

// one is true once in so many draws.
func one(t *rapid.T, in int, what string) bool { return rapid.IntRange(1, in).Draw(t, what) == in }

func drawLabelSelector(t *rapid.T) *berthv1.LabelSelector {
	if one(t, 12, "absent") {
		return nil
	}
	s := &berthv1.LabelSelector{MatchLabels: rapid.MapOfN(podKeys, podValues, 0, 1).Draw(t, "labels")}
	if one(t, 3, "expression") {
		r := &berthv1.LabelSelectorRequirement{
			Key:      podKeys.Draw(t, "key"),
			Operator: berthv1.LabelSelectorOperator(rapid.IntRange(1, 4).Draw(t, "operator")),
		}
		if r.Operator <= berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_NOT_IN {
			r.Values = rapid.SliceOfN(podValues, 1, 2).Draw(t, "values")
		}
		s.MatchExpressions = append(s.MatchExpressions, r)
	}
	return s
}

func drawPodAffinity(t *rapid.T) *berthv1.PodAffinity {
	a := &berthv1.PodAffinity{}
	for range rapid.SampledFrom([]int{0, 0, 0, 0, 1, 1, 2}).Draw(t, "terms") {
		term := &berthv1.PodAffinityTerm{TopologyKey: topologies.Draw(t, "topology"), LabelSelector: drawLabelSelector(t)}
		if one(t, 3, "namespaced") {
			term.Namespaces = rapid.SliceOfN(namespaces, 0, 2).Draw(t, "namespaces")
		}
		if one(t, 3, "selecting") {
			term.NamespaceSelector = drawLabelSelector(t)
		}
		a.Required = append(a.Required, term)
	}
	return a
}

func drawSpread(t *rapid.T) []*berthv1.TopologySpreadConstraint {
	var constraints []*berthv1.TopologySpreadConstraint
	for range rapid.SampledFrom([]int{0, 1, 1, 2}).Draw(t, "constraints") {
		constraints = append(constraints, &berthv1.TopologySpreadConstraint{
			MaxSkew:            rapid.Int32Range(1, 2).Draw(t, "skew"),
			TopologyKey:        topologies.Draw(t, "topology"),
			WhenUnsatisfiable:  berthv1.UnsatisfiableAction(rapid.SampledFrom([]int32{1, 1, 1, 2}).Draw(t, "action")),
			LabelSelector:      drawLabelSelector(t),
			MinDomains:         rapid.SampledFrom([]int32{0, 0, 2, 3}).Draw(t, "domains"),
			NodeAffinityPolicy: berthv1.NodeInclusionPolicy(rapid.IntRange(0, 2).Draw(t, "affinity")),
			NodeTaintsPolicy:   berthv1.NodeInclusionPolicy(rapid.IntRange(0, 2).Draw(t, "taints")),
			MatchLabelKeys:     rapid.SliceOfN(podKeys, 0, 1).Draw(t, "keys"),
		})
	}
	return constraints
}

func drawRequirement(t *rapid.T) *berthv1.NodeSelectorRequirement {
	r := &berthv1.NodeSelectorRequirement{
		Key:      keys.Draw(t, "key"),
		Operator: berthv1.NodeSelectorOperator(rapid.IntRange(1, 6).Draw(t, "operator")),
	}
	switch r.Operator {
	case berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_IN, berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_NOT_IN:
		r.Values = rapid.SliceOfN(values, 1, 2).Draw(t, "values")
	case berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_GT, berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_LT:
		r.Values = []string{values.Draw(t, "value")}
	}
	return r
}

func drawSelector(t *rapid.T) *berthv1.NodeSelector {
	s := &berthv1.NodeSelector{}
	for range rapid.IntRange(0, 2).Draw(t, "terms") {
		term := &berthv1.NodeSelectorTerm{}
		for range rapid.IntRange(0, 2).Draw(t, "expressions") {
			term.MatchExpressions = append(term.MatchExpressions, drawRequirement(t))
		}
		if rapid.Bool().Draw(t, "fields") {
			term.MatchFields = append(term.MatchFields, &berthv1.NodeSelectorRequirement{
				Key:      "metadata.name",
				Operator: berthv1.NodeSelectorOperator(rapid.IntRange(1, 2).Draw(t, "operator")),
				Values:   []string{nodeNames.Draw(t, "name")},
			})
		}
		s.Terms = append(s.Terms, term)
	}
	return s
}

func drawNode(t *rapid.T, name string) *berthv1.Node {
	n := &berthv1.Node{
		Name: name, Uid: "uid-" + name, Labels: labels.Draw(t, "labels"),
		Unschedulable: rapid.IntRange(0, 5).Draw(t, "cordoned") == 0,
		Allocatable:   requests.Draw(t, "allocatable"),
	}
	for r := range n.Allocatable {
		n.Allocatable[r] *= 2
	}
	n.Allocatable["pods"] = rapid.Int64Range(0, 4).Draw(t, "pods")
	n.DeclaredFeatures = features.Draw(t, "features")
	if rapid.Bool().Draw(t, "roomy") { // the rules that come last are reached
		n.Unschedulable = false
		n.Labels["zone"] = rapid.SampledFrom([]string{"a", "b", ""}).Draw(t, "zone")
		n.Labels["disk"] = "a"
		n.Allocatable = map[string]int64{"cpu": 99, "memory": 99, "ephemeral-storage": 99, "example.com/gpu": 99, "pods": 99}
		n.DeclaredFeatures = []string{"RestartAllContainersOnContainerExits", "UserNamespacesHostNetworkSupport"}
	}
	for range rapid.SampledFrom([]int{0, 0, 0, 0, 1, 2}).Draw(t, "taints") {
		n.Taints = append(n.Taints, &berthv1.Taint{Key: keys.Draw(t, "key"), Value: values.Draw(t, "value"), Effect: effects.Draw(t, "effect")})
	}
	return n
}

func drawCluster(t *rapid.T) *berthv1.Snapshot {
	s := &berthv1.Snapshot{}
	for _, name := range rapid.SliceOfNDistinct(nodeNames, 0, 6, rapid.ID).Draw(t, "nodes") {
		s.Nodes = append(s.Nodes, drawNode(t, name))
	}
	for i := range rapid.IntRange(0, 9).Draw(t, "placed") {
		s.PlacedPods = append(s.PlacedPods, drawPlaced(t, fmt.Sprintf("p%d", i)))
	}
	for _, name := range rapid.SliceOfNDistinct(namespaces, 0, 3, rapid.ID).Draw(t, "namespaces") {
		if name != "" {
			s.Namespaces = append(s.Namespaces, &berthv1.Namespace{Name: name, Labels: podLabels.Draw(t, "labels")})
		}
	}
	return s
}

func drawPlaced(t *rapid.T, uid string) *berthv1.PlacedPod {
	r := requests.Draw(t, "requests")
	q := &berthv1.PlacedPod{
		Uid: uid, NodeName: nodeNames.Draw(t, "on"), Namespace: namespaces.Draw(t, "namespace"), Labels: podLabels.Draw(t, "labels"),
		Requests: r, ScoreRequests: map[string]int64{"cpu": max(r["cpu"], 1), "memory": max(r["memory"], 1)},
		HostPorts: hostPorts.Draw(t, "ports"), Priority: rapid.Int32Range(0, 2).Draw(t, "priority"),
		Nominated: one(t, 4, "nominated"), Terminating: one(t, 4, "terminating"),
	}
	if one(t, 2, "light") {
		q.Requests, q.HostPorts = map[string]int64{}, nil
	}
	q.PodAntiAffinity = drawPodAffinity(t)
	return q
}

func drawPods(t *rapid.T) []*berthv1.Pod {
	var pods []*berthv1.Pod
	for i := range rapid.IntRange(1, 6).Draw(t, "pods") {
		r := requests.Draw(t, "requests")
		p := &berthv1.Pod{
			Uid: fmt.Sprintf("w%d", i), Requests: r,
			ScoreRequests: map[string]int64{"cpu": max(r["cpu"], 1), "memory": max(r["memory"], 1)},
			HostPorts:     hostPorts.Draw(t, "ports"), Priority: rapid.Int32Range(0, 2).Draw(t, "priority"),
			Namespace: namespaces.Draw(t, "namespace"), Labels: podLabels.Draw(t, "labels"),
			PodAffinity: drawPodAffinity(t), PodAntiAffinity: drawPodAffinity(t),
			TopologySpreadConstraints: drawSpread(t),
		}
		if one(t, 4, "particular") {
			p.RequiredFeatures = features.Draw(t, "features")
		}
		// Some of them have a nomination.
		if rapid.IntRange(0, 3).Draw(t, "nominee") == 0 {
			p.Uid = fmt.Sprintf("p%d", i)
		}
		// Others ask nothing of a node itself, so that what is near it decides.
		if rapid.Bool().Draw(t, "light") {
			p.Requests, p.HostPorts = nil, nil
			pods = append(pods, p)
			continue
		}
		if rapid.IntRange(0, 5).Draw(t, "named") == 0 {
			p.NodeName = nodeNames.Draw(t, "node")
		}
		if rapid.IntRange(0, 3).Draw(t, "selected") == 0 {
			p.NodeSelector = rapid.MapOfN(keys, values, 0, 2).Draw(t, "selector")
		}
		if rapid.IntRange(0, 2).Draw(t, "affine") == 0 {
			p.NodeAffinity = &berthv1.NodeAffinity{Required: drawSelector(t)}
		}
		for range rapid.IntRange(0, 2).Draw(t, "tolerations") {
			p.Tolerations = append(p.Tolerations, &berthv1.Toleration{
				Key:      rapid.SampledFrom([]string{"", "zone", "disk", "node.kubernetes.io/unschedulable"}).Draw(t, "key"),
				Operator: berthv1.TolerationOperator(rapid.IntRange(0, 2).Draw(t, "operator")),
				Value:    rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "value"),
				Effect:   berthv1.TaintEffect(rapid.IntRange(0, 3).Draw(t, "effect")),
			})
		}
		pods = append(pods, p)
	}
	return pods
}

// placed is the placed pod that a placement makes of p.
func placed(p *berthv1.Pod, node string) *berthv1.PlacedPod {
	return &berthv1.PlacedPod{
		Uid: p.Uid, NodeName: node, Requests: p.Requests, ScoreRequests: p.ScoreRequests,
		HostPorts: p.HostPorts, Priority: p.Priority,
		Namespace: p.Namespace, Labels: p.Labels, PodAffinity: p.PodAffinity, PodAntiAffinity: p.PodAntiAffinity,
	}
}

// withPlaced is the state after p was placed: its nomination has ended.
func withPlaced(s *berthv1.Snapshot, p *berthv1.Pod, node string) *berthv1.Snapshot {
	next := proto.Clone(s).(*berthv1.Snapshot)
	next.PlacedPods = slices.DeleteFunc(next.PlacedPods, func(q *berthv1.PlacedPod) bool { return q.Uid == p.Uid && q.Nominated })
	next.PlacedPods = append(next.PlacedPods, placed(p, node))
	return next
}

// distinct gives pods that are placed already another uid: only nominations share
// one with a pod that wants a node.
func distinct(s *berthv1.Snapshot, pods []*berthv1.Pod) {
	for _, q := range s.PlacedPods {
		for _, p := range pods {
			if p.Uid == q.Uid && !q.Nominated {
				p.Uid = "w-" + p.Uid
			}
		}
	}
}

// Every node is judged as the oracle judges it, with the pods before placed.
func TestRulesAreTheOracles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state, pods := drawCluster(t), drawPods(t)
		distinct(state, pods)
		for i, d := range decide(t, state, pods, explained) {
			for _, n := range d.GetExplanation().GetNodes() {
				rule, reasons := oracle(state, pods[i], n.GetNodeName())
				if n.GetRule() != rule || !slices.Equal(n.GetReasons(), reasons) {
					t.Fatalf("pod %d, node %s: %s %q; the oracle says %s %q", i, n.GetNodeName(), n.GetRule(), n.GetReasons(), rule, reasons)
				}
			}
			if d.GetOutcome() == berthv1.Outcome_OUTCOME_PLACED {
				state = withPlaced(state, pods[i], d.GetCandidates()[0].GetNodeName())
			}
		}
	})
}

// A batch is decided as one pod after the other would be.
func TestBatchIsOneByOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state, pods := drawCluster(t), drawPods(t)
		distinct(state, pods)
		batch := decide(t, state, pods, explained)
		for i, p := range pods {
			single := decide(t, state, []*berthv1.Pod{p}, explained)[0]
			if diff := cmp.Diff(single, batch[i], protocmp.Transform()); diff != "" {
				t.Fatalf("pod %d: %s", i, diff)
			}
			if single.GetOutcome() == berthv1.Outcome_OUTCOME_PLACED {
				state = withPlaced(state, p, single.GetCandidates()[0].GetNodeName())
			}
		}
	})
}

// The order of the state's records means nothing, and asking again changes
// nothing.
func TestSameStateSameAnswer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state, pods := drawCluster(t), drawPods(t)
		seeded := func(r *solve.Request) { explained(r); r.Seed = 7; r.Candidates = 3 }
		shuffled := proto.Clone(state).(*berthv1.Snapshot)
		shuffled.Nodes = rapid.Permutation(shuffled.Nodes).Draw(t, "nodes")
		shuffled.PlacedPods = rapid.Permutation(shuffled.PlacedPods).Draw(t, "placed")
		one, other := decide(t, state, pods, seeded), decide(t, shuffled, pods, seeded)
		if diff := cmp.Diff(one, other, protocmp.Transform()); diff != "" {
			t.Fatal(diff)
		}
	})
}

// However many candidates are asked for, the first is the decision; they are
// distinct, feasible, best first.
func TestCandidates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state, pods := drawCluster(t), drawPods(t)
		seed, count := rapid.Uint64Range(0, 5).Draw(t, "seed"), rapid.IntRange(0, 7).Draw(t, "candidates")
		one := decide(t, state, pods, func(r *solve.Request) { r.Seed = seed })
		many := decide(t, state, pods, func(r *solve.Request) { explained(r); r.Seed, r.Candidates = seed, count })
		for i := range pods {
			first, all := one[i].GetCandidates(), many[i].GetCandidates()
			if len(first) == 0 {
				if len(all) > 0 {
					t.Fatalf("pod %d is placed only if candidates are asked for", i)
				}
				continue
			}
			if !proto.Equal(first[0], all[0]) {
				t.Fatalf("pod %d: %v with one candidate, %v with %d", i, first[0], all[0], count)
			}
			feasible := 0
			for _, n := range many[i].GetExplanation().GetNodes() {
				if n.GetRule() == "" {
					feasible++
				}
			}
			if want := min(feasible, max(1, count)); len(all) != want {
				t.Fatalf("pod %d: %d candidates, want %d", i, len(all), want)
			}
			if !slices.IsSortedFunc(all, func(a, b *berthv1.Candidate) int { return int(b.GetScore() - a.GetScore()) }) {
				t.Fatalf("pod %d: %v is not best first", i, all)
			}
		}
	})
}

// The tie law, read word for word: among the best nodes the first at or after the
// position, wrapping round.
func TestTies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state, pods := drawCluster(t), drawPods(t)
		seed := rapid.Uint64().Draw(t, "seed")
		for i, d := range decide(t, state, pods, func(r *solve.Request) { explained(r); r.Seed = seed }) {
			nodes := d.GetExplanation().GetNodes()
			if d.GetOutcome() != berthv1.Outcome_OUTCOME_PLACED {
				continue
			}
			best := int64(-1)
			for _, n := range nodes {
				if n.GetRule() == "" {
					best = max(best, n.GetTotal())
				}
			}
			at := solve.Position(seed, i, len(nodes))
			for nodes[at].GetRule() != "" || nodes[at].GetTotal() != best {
				at = (at + 1) % len(nodes)
			}
			if got := d.GetCandidates()[0].GetNodeName(); got != nodes[at].GetNodeName() {
				t.Fatalf("pod %d is on %s, want %s", i, got, nodes[at].GetNodeName())
			}
		}
	})
}

// Deciding leaves the snapshot as it was, so that the next request finds the same
// state.
func TestNothingSurvives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state, records := drawCluster(t), drawPods(t)
		snapshot, err := model.NewSnapshot(state, filter.Constraints(filter.Default()))
		if err != nil {
			t.Fatal(err)
		}
		request := &solve.Request{Snapshot: snapshot}
		explained(request)
		for _, record := range records {
			pod, err := snapshot.NewPod(record)
			if err != nil {
				t.Fatal(err)
			}
			request.Pods = append(request.Pods, pod)
		}
		first, second := solver.Decide(request), solver.Decide(request)
		if diff := cmp.Diff(first, second, protocmp.Transform()); diff != "" {
			t.Fatal(diff)
		}
	})
}

// What was counted over the cluster follows the pods that are moved. Terminating
// pods and empty selectors are left out: with them, as with kube-scheduler, adding
// is not what counting anew would say.
func TestMovedPodsAreCounted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state, record := drawCluster(t), drawPods(t)[0]
		state.PlacedPods = slices.DeleteFunc(state.PlacedPods, func(q *berthv1.PlacedPod) bool { return q.Terminating || q.Nominated })
		record.TopologySpreadConstraints = slices.DeleteFunc(record.TopologySpreadConstraints, func(c *berthv1.TopologySpreadConstraint) bool {
			return c.LabelSelector != nil && len(c.LabelSelector.MatchLabels)+len(c.LabelSelector.MatchExpressions) == 0
		})
		// The rules that count are reached.
		record.Requests, record.HostPorts, record.NodeName, record.Tolerations = nil, nil, "", nil
		snapshot, err := model.NewSnapshot(state, filter.Constraints(filter.Default()))
		if err != nil {
			t.Fatal(err)
		}
		pod, err := snapshot.NewPod(record)
		if err != nil {
			t.Fatal(err)
		}
		verdicts := func(f *filter.Filter) []string {
			var of []string
			for _, n := range snapshot.Nodes {
				rule, reasons := f.Reject(n)
				of = append(of, fmt.Sprint(n.Name, rule, reasons))
			}
			return of
		}
		moving := filter.Compile(filter.Default(), pod, snapshot)
		before := verdicts(moving)
		var removed []func()
		for _, n := range snapshot.Nodes {
			for _, q := range slices.Clone(n.Pods) {
				if rapid.Bool().Draw(t, "removed") {
					moving.Remove(q, n)
					removed = append(removed, func() { moving.Add(q, n) })
				}
			}
		}
		if moved, counted := verdicts(moving), verdicts(filter.Compile(filter.Default(), pod, snapshot)); !slices.Equal(moved, counted) {
			t.Fatalf("%q after pods were removed; counted anew %q", moved, counted)
		}
		for _, add := range removed {
			add()
		}
		if after := verdicts(moving); !slices.Equal(after, before) {
			t.Fatalf("%q after pods were put back; before %q", after, before)
		}
	})
}

// change is one change of a state.
type change struct {
	object   berthv1.ObjectKind
	kind     berthv1.ChangeKind
	nodeName string
}

// drawChange changes s by one record, if there is one to change.
func drawChange(t *rapid.T, s *berthv1.Snapshot) change {
	c := change{
		object: berthv1.ObjectKind(rapid.IntRange(1, 3).Draw(t, "object")),
		kind:   berthv1.ChangeKind(rapid.IntRange(1, 3).Draw(t, "change")),
	}
	switch c.object {
	case berthv1.ObjectKind_OBJECT_KIND_NODE:
		var n *berthv1.Node
		s.Nodes, n = drawChangeOf(t, s.Nodes, c.kind, func(old *berthv1.Node) *berthv1.Node {
			if old != nil {
				return drawNode(t, old.Name)
			}
			names := []string{"n0", "n1", "n2", "n3", "n4", "n5", "n6"}
			for _, n := range s.Nodes {
				names = slices.DeleteFunc(names, func(name string) bool { return name == n.Name })
			}
			return drawNode(t, rapid.SampledFrom(names).Draw(t, "new"))
		})
		c.nodeName = n.GetName()
	case berthv1.ObjectKind_OBJECT_KIND_PLACED_POD:
		var q *berthv1.PlacedPod
		s.PlacedPods, q = drawChangeOf(t, s.PlacedPods, c.kind, func(old *berthv1.PlacedPod) *berthv1.PlacedPod {
			if old == nil {
				return drawPlaced(t, "p-new")
			}
			if rapid.Bool().Draw(t, "shrunk") {
				next := proto.Clone(old).(*berthv1.PlacedPod)
				next.Requests, next.HostPorts = nil, nil
				return next
			}
			next := drawPlaced(t, old.Uid)
			next.NodeName = old.NodeName // pods do not move
			return next
		})
		c.nodeName = q.GetNodeName()
	case berthv1.ObjectKind_OBJECT_KIND_NAMESPACE:
		s.Namespaces, _ = drawChangeOf(t, s.Namespaces, c.kind, func(old *berthv1.Namespace) *berthv1.Namespace {
			next := &berthv1.Namespace{Name: old.GetName(), Labels: podLabels.Draw(t, "labels")}
			for i := 0; next.Name == ""; i++ {
				name := []string{"x", "y", "z"}[i]
				if !slices.ContainsFunc(s.Namespaces, func(n *berthv1.Namespace) bool { return n.Name == name }) {
					next.Name = name
				}
			}
			return next
		})
	}
	return c
}

// drawChangeOf adds a record to records, or updates or deletes one if there is any,
// and returns it. draw draws a record to put in place of another, or of nil.
func drawChangeOf[R any](t *rapid.T, records []*R, kind berthv1.ChangeKind, draw func(*R) *R) ([]*R, *R) {
	if kind == berthv1.ChangeKind_CHANGE_KIND_ADDED {
		added := draw(nil)
		return append(records, added), added
	}
	if len(records) == 0 {
		return records, nil
	}
	at := rapid.IntRange(0, len(records)-1).Draw(t, "at")
	old := records[at]
	if kind == berthv1.ChangeKind_CHANGE_KIND_DELETED {
		return slices.Delete(slices.Clone(records), at, at+1), old
	}
	records[at] = draw(old)
	return records, records[at]
}

// describes reads a wake condition word for word; s is the state after c.
func describes(w *berthv1.WakeCondition, c change, s *berthv1.Snapshot) bool {
	if w.GetObject() != c.object ||
		len(w.GetChanges()) > 0 && !slices.Contains(w.GetChanges(), c.kind) ||
		len(w.GetNodeNames()) > 0 && !slices.Contains(w.GetNodeNames(), c.nodeName) {
		return false
	}
	free := map[string]int64{}
	for _, n := range s.Nodes {
		if n.Name == c.nodeName {
			maps.Copy(free, n.Allocatable)
		}
	}
	for _, q := range s.PlacedPods {
		if q.NodeName == c.nodeName && !q.Nominated {
			free["pods"]--
			for name, amount := range q.Requests {
				free[name] -= amount
			}
		}
	}
	for name, amount := range w.GetFree() {
		if free[name] < amount {
			return false
		}
	}
	return true
}

// Wake conditions never say too little: where one change makes a rejected pod fit,
// a condition describes the change.
func TestWakeConditionsMissNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state, pods := drawCluster(t), drawPods(t)[:1]
		distinct(state, pods)
		// A record that makes no sense keeps pods off its node.
		for _, q := range state.PlacedPods {
			if rapid.IntRange(0, 5).Draw(t, "broken") == 0 {
				q.Requests["cpu"] = -1
			}
		}
		rejected := decide(t, state, pods, nil)[0]
		if rejected.GetOutcome() != berthv1.Outcome_OUTCOME_REJECTED {
			return
		}
		c := drawChange(t, state)
		if decide(t, state, pods, nil)[0].GetOutcome() != berthv1.Outcome_OUTCOME_PLACED {
			return
		}
		conditions := rejected.GetRejection().GetWakeConditions()
		if !slices.ContainsFunc(conditions, func(w *berthv1.WakeCondition) bool { return describes(w, c, state) }) {
			t.Fatalf("%v made the pod fit and is described by none of %v", c, conditions)
		}
	})
}

func TestPosition(t *testing.T) {
	// The published test vector of SplitMix64 with seed 1234567.
	for i, want := range []uint64{6457827717110365317, 3203168211198807973, 9817491932198370423} {
		if got := solve.Mix(1234567, uint64(i)); got != want {
			t.Errorf("Mix(1234567, %d) is %d, want %d", i, got, want)
		}
	}
	if got := solve.Position(1234567, 1, 1000); got != 973 {
		t.Errorf("Position is %d, want 973", got)
	}
	for index := range 10 {
		if got := solve.Position(0, index, 7); got != 0 {
			t.Errorf("Position(0, %d, 7) is %d, want 0", index, got)
		}
	}
}

func explained(r *solve.Request) { r.Explain = true }
