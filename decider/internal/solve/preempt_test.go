package solve_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/solve"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// contest is a cluster that is nearly full and pods that want a place in it.
type contest struct {
	state *berthv1.Snapshot
	pods  []*berthv1.Pod
}

var (
	contestLabels    = rapid.SampledFrom([]map[string]string{nil, {"app": "x"}, {"app": "y"}})
	contestSelectors = rapid.SampledFrom([]*berthv1.LabelSelector{
		nil, {},
		{MatchLabels: map[string]string{"app": "x"}},
		{MatchExpressions: []*berthv1.LabelSelectorRequirement{{Key: "app", Operator: berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_EXISTS}}},
		{MatchExpressions: []*berthv1.LabelSelectorRequirement{{Key: "none", Operator: berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_DOES_NOT_EXIST}}},
	})
	contestNamespaces = rapid.SampledFrom([]string{"a", "a", "b"})
)

func oneIn(t *rapid.T, n int, label string) bool { return rapid.IntRange(1, n).Draw(t, label) == 1 }

// drawNear draws a term that selects pods of one app in one zone.
func drawNear(t *rapid.T) *berthv1.PodAffinity {
	return &berthv1.PodAffinity{Required: []*berthv1.PodAffinityTerm{{
		TopologyKey:   rapid.SampledFrom([]string{"zone", "host"}).Draw(t, "near"),
		LabelSelector: &berthv1.LabelSelector{MatchLabels: map[string]string{"app": "x"}},
	}}}
}

func drawContest(t *rapid.T, pods int) contest {
	c := contest{state: &berthv1.Snapshot{}}
	nodes := rapid.IntRange(1, 4).Draw(t, "nodes")
	for i := range nodes {
		name := fmt.Sprintf("n%d", i)
		c.state.Nodes = append(c.state.Nodes, &berthv1.Node{
			Name: name, Uid: "uid-" + name,
			Labels:        map[string]string{"host": name, "zone": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "zone")},
			Allocatable:   map[string]int64{"cpu": rapid.Int64Range(2, 6).Draw(t, "cpu"), "pods": rapid.Int64Range(1, 5).Draw(t, "places")},
			Unschedulable: oneIn(t, 8, "cordoned"),
		})
	}
	on := rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("n%d", rapid.IntRange(0, nodes-1).Draw(t, "on")) })
	for i := range rapid.IntRange(0, 10).Draw(t, "placed") {
		q := &berthv1.PlacedPod{
			Uid: fmt.Sprintf("p%d", i), Name: fmt.Sprintf("p%d", i), NodeName: on.Draw(t, "on"),
			Namespace: contestNamespaces.Draw(t, "namespace"), Labels: contestLabels.Draw(t, "labels"),
			Requests: map[string]int64{"cpu": rapid.Int64Range(0, 3).Draw(t, "cpu")},
			Priority: rapid.Int32Range(-1, 2).Draw(t, "priority"), StartTimeNanos: rapid.Int64Range(0, 2).Draw(t, "start"),
			Terminating: oneIn(t, 5, "terminating"), Nominated: oneIn(t, 6, "nominated"),
		}
		q.Preempted = q.Terminating && rapid.Bool().Draw(t, "preempted")
		if oneIn(t, 4, "port") {
			q.HostPorts = []*berthv1.HostPort{{Port: int32(i + 1)}}
		}
		// A fresh look passes over what nominated pods repel once nothing else is
		// repelled, as kube-scheduler does; a look that saw a victim repel does not.
		if !q.Nominated && oneIn(t, 5, "alone") {
			q.PodAntiAffinity = drawNear(t)
		}
		c.state.PlacedPods = append(c.state.PlacedPods, q)
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "budgets") {
		b := &berthv1.DisruptionBudget{
			Name: fmt.Sprint(i), Namespace: contestNamespaces.Draw(t, "namespace"), Selector: contestSelectors.Draw(t, "selector"),
			DisruptionsAllowed: rapid.Int32Range(-1, 2).Draw(t, "allowed"),
		}
		if oneIn(t, 3, "disrupted") {
			b.DisruptedPods = []string{fmt.Sprintf("p%d", rapid.IntRange(0, 5).Draw(t, "pod"))}
		}
		c.state.DisruptionBudgets = append(c.state.DisruptionBudgets, b)
	}
	for i := range rapid.IntRange(1, pods).Draw(t, "pods") {
		p := &berthv1.Pod{
			Uid: fmt.Sprintf("w%d", i), Name: fmt.Sprintf("w%d", i), Namespace: "a", Labels: contestLabels.Draw(t, "labels"),
			Requests: map[string]int64{"cpu": rapid.Int64Range(0, 5).Draw(t, "cpu")},
			Priority: rapid.Int32Range(0, 3).Draw(t, "priority"),
		}
		if oneIn(t, 8, "never") {
			p.PreemptionPolicy = berthv1.PreemptionPolicy_PREEMPTION_POLICY_NEVER
		}
		if oneIn(t, 4, "port") {
			p.HostPorts = []*berthv1.HostPort{{Port: rapid.Int32Range(1, 10).Draw(t, "port")}}
		}
		if oneIn(t, 4, "alone") {
			p.PodAntiAffinity = drawNear(t)
		}
		if oneIn(t, 3, "nominated") {
			p.NominatedNodeName = on.Draw(t, "nominated")
			c.state.PlacedPods = append(c.state.PlacedPods, placedBy(p, p.NominatedNodeName, true))
		}
		c.pods = append(c.pods, p)
	}
	return c
}

// placedBy is the record of p once it is on a node or nominated there.
func placedBy(p *berthv1.Pod, node string, nominated bool) *berthv1.PlacedPod {
	return &berthv1.PlacedPod{
		Uid: p.Uid, Name: p.Name, Namespace: p.Namespace, Labels: p.Labels, NodeName: node, Nominated: nominated,
		Requests: p.Requests, HostPorts: p.HostPorts, Priority: p.Priority, PodAntiAffinity: p.PodAntiAffinity,
	}
}

// after is the state once d was carried out for p, the victims not gone yet.
func after(state *berthv1.Snapshot, p *berthv1.Pod, d *berthv1.Decision) *berthv1.Snapshot {
	node, nominated := d.GetPreemption().GetNodeName(), true
	if len(d.GetCandidates()) > 0 {
		node, nominated = d.GetCandidates()[0].GetNodeName(), false
	}
	if node == "" {
		return state
	}
	next := proto.Clone(state).(*berthv1.Snapshot)
	next.PlacedPods = slices.DeleteFunc(next.PlacedPods, func(q *berthv1.PlacedPod) bool { return q.Uid == p.Uid })
	for _, q := range next.PlacedPods {
		if q.Terminating || !slices.ContainsFunc(d.GetPreemption().GetVictims(), func(v *berthv1.Victim) bool { return v.Uid == q.Uid }) {
			continue
		}
		q.Terminating, q.Preempted = true, true
		for _, b := range next.DisruptionBudgets {
			if oracleCounts(b, q) && b.DisruptionsAllowed > 0 {
				b.DisruptionsAllowed--
			}
		}
	}
	next.PlacedPods = append(next.PlacedPods, placedBy(p, node, nominated))
	return next
}

// without is the state without these pods.
func without(state *berthv1.Snapshot, gone []*berthv1.PlacedPod) *berthv1.Snapshot {
	return &berthv1.Snapshot{
		Nodes: state.Nodes, DisruptionBudgets: state.DisruptionBudgets,
		PlacedPods: slices.DeleteFunc(slices.Clone(state.PlacedPods), func(q *berthv1.PlacedPod) bool { return slices.Contains(gone, q) }),
	}
}

// judged asks a decider that has never seen anything else about one node.
func judged(t fataler, state *berthv1.Snapshot, p *berthv1.Pod, node string) *berthv1.NodeExplanation {
	nodes := decide(t, state, []*berthv1.Pod{p}, explained)[0].GetExplanation().GetNodes()
	return nodes[slices.IndexFunc(nodes, func(n *berthv1.NodeExplanation) bool { return n.NodeName == node })]
}

func oracleCounts(b *berthv1.DisruptionBudget, q *berthv1.PlacedPod) bool {
	if b.Namespace != q.Namespace || slices.Contains(b.DisruptedPods, q.Name) || len(q.Labels) == 0 {
		return false
	}
	for key, value := range b.Selector.GetMatchLabels() {
		if q.Labels[key] != value {
			return false
		}
	}
	for _, e := range b.Selector.GetMatchExpressions() {
		_, has := q.Labels[e.Key]
		if has != (e.Operator == berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_EXISTS) {
			return false
		}
	}
	return len(b.Selector.GetMatchLabels())+len(b.Selector.GetMatchExpressions()) > 0
}

// oraclePreempt is preemption by brute force on the records. Of all ways to keep
// pods of lower priority beside p it takes the one that keeps the first in
// kube-scheduler's order if one does, then the second, and so on. It must not be
// asked about pods that need others near them: for those the order in which pods
// are put back matters.
func oraclePreempt(t fataler, state *berthv1.Snapshot, p *berthv1.Pod, position int) *berthv1.Decision {
	d := &berthv1.Decision{Rejection: &berthv1.Rejection{}, Explanation: &berthv1.Explanation{}}
	if p.PreemptionPolicy == berthv1.PreemptionPolicy_PREEMPTION_POLICY_NEVER {
		d.Rejection.Preemption = "not eligible due to preemptionPolicy=Never."
		return d
	}
	for _, q := range state.PlacedPods {
		if q.NodeName == p.NominatedNodeName && !q.Nominated && q.Preempted && q.Terminating && q.Priority < p.Priority &&
			judged(t, state, p, q.NodeName).EvictionCouldHelp {
			d.Rejection.Preemption = "not eligible due to a terminating pod on the nominated node."
			return d
		}
	}
	start := func(q *berthv1.PlacedPod) int64 {
		if q.StartTimeNanos == 0 {
			return 1 << 60
		}
		return q.StartTimeNanos
	}
	counts := map[string]int{}
	var bestKey []int64
	for i, n := range state.Nodes {
		if !judged(t, state, p, n.Name).EvictionCouldHelp {
			counts["Preemption is not helpful for scheduling"]++
			continue
		}
		e := &berthv1.PreemptionExplanation{NodeName: n.Name}
		d.Explanation.Preemptions = append(d.Explanation.Preemptions, e)
		var lower []*berthv1.PlacedPod
		for _, q := range state.PlacedPods {
			if q.NodeName == n.Name && !q.Nominated && q.Priority < p.Priority {
				lower = append(lower, q)
			}
		}
		slices.SortFunc(lower, func(a, b *berthv1.PlacedPod) int {
			return cmp.Or(-cmp.Compare(a.Priority, b.Priority), cmp.Compare(start(a), start(b)), cmp.Compare(a.Uid, b.Uid))
		})
		var protected, order []*berthv1.PlacedPod
		used := map[string]int32{}
		for _, q := range lower {
			over := false
			for _, b := range state.DisruptionBudgets {
				if oracleCounts(b, q) {
					used[b.Namespace+"/"+b.Name]++
					over = over || used[b.Namespace+"/"+b.Name] > b.DisruptionsAllowed
				}
			}
			if over {
				protected = append(protected, q)
			} else {
				order = append(order, q)
			}
		}
		order = append(slices.Clone(protected), order...)
		var victims []*berthv1.PlacedPod
		fits := false
		for kept := 1<<len(order) - 1; kept >= 0 && !fits; kept-- {
			victims = nil
			for j, q := range order {
				if kept>>(len(order)-1-j)&1 == 0 {
					victims = append(victims, q)
				}
			}
			last := judged(t, without(state, victims), p, n.Name)
			fits, e.Reasons = last.Rule == "", last.Reasons
		}
		if len(lower) == 0 {
			e.Reasons = []string{"No preemption victims found for incoming pod"}
		}
		for _, text := range e.Reasons {
			counts[text]++
		}
		if !fits {
			continue
		}
		key := []int64{0, -1 << 40, 0, int64(len(victims)), -1 << 60, int64((i - position + len(state.Nodes)) % len(state.Nodes))}
		for _, q := range lower { // in the order of the answer
			if !slices.Contains(victims, q) {
				continue
			}
			e.Victims = append(e.Victims, &berthv1.Victim{Uid: q.Uid, Namespace: q.Namespace, Name: q.Name})
			if slices.Contains(protected, q) {
				e.BudgetViolations++
			}
			key[2] += int64(q.Priority) + 1<<31
			if int64(q.Priority) > key[1] {
				key[1], key[4] = int64(q.Priority), -start(q)
			} else if int64(q.Priority) == key[1] {
				key[4] = max(key[4], -start(q))
			}
		}
		key[0] = int64(e.BudgetViolations)
		if bestKey == nil || slices.Compare(key, bestKey) < 0 {
			bestKey = key
			d.Preemption = &berthv1.Preemption{NodeName: n.Name, NodeUid: n.Uid, Victims: e.Victims, BudgetViolations: e.BudgetViolations}
		}
	}
	if d.Preemption == nil {
		var texts []string
		for _, text := range slices.Sorted(maps.Keys(counts)) {
			texts = append(texts, fmt.Sprintf("%d %s", counts[text], text))
		}
		slices.Sort(texts)
		d.Rejection.Preemption = fmt.Sprintf("0/%d nodes are available: %s.", len(state.Nodes), strings.Join(texts, ", "))
	}
	return d
}

func preempting(r *solve.Request) { r.Preempt, r.Explain = true, true }

// Victims, node, texts and the explanation are the oracle's, for every pod of a
// batch on what the pods before left.
func TestPreemptionIsTheOracles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawContest(t, 3)
		if len(c.pods) == 1 && !slices.ContainsFunc(c.state.PlacedPods, (*berthv1.PlacedPod).GetTerminating) && rapid.Bool().Draw(t, "spread") {
			// What is terminating is not counted, but is counted off when it is
			// evicted, as kube-scheduler does it. A fresh look does not show that.
			c.pods[0].TopologySpreadConstraints = []*berthv1.TopologySpreadConstraint{{
				TopologyKey: "zone", MaxSkew: 1, LabelSelector: &berthv1.LabelSelector{MatchLabels: map[string]string{"app": "x"}},
				WhenUnsatisfiable: berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_DO_NOT_SCHEDULE,
			}}
		}
		if len(c.pods) > 1 {
			for _, p := range c.pods { // they may come to be nominated
				p.PodAntiAffinity = nil
			}
			for _, q := range c.state.PlacedPods {
				if q.Nominated {
					q.PodAntiAffinity = nil
				}
			}
		}
		seed := rapid.Uint64Range(0, 3).Draw(t, "seed")
		state := c.state
		for i, d := range decide(t, state, c.pods, func(r *solve.Request) { preempting(r); r.Seed = seed }) {
			if d.GetOutcome() == berthv1.Outcome_OUTCOME_REJECTED {
				want := oraclePreempt(t, state, c.pods[i], solve.Position(seed, i, len(state.Nodes)))
				got := &berthv1.Decision{
					Preemption:  d.GetPreemption(),
					Rejection:   &berthv1.Rejection{Preemption: d.GetRejection().GetPreemption()},
					Explanation: &berthv1.Explanation{Preemptions: d.GetExplanation().GetPreemptions()},
				}
				if diff := gocmp.Diff(want, got, protocmp.Transform()); diff != "" {
					t.Fatalf("pod %d: %s", i, diff)
				}
			}
			state = after(state, c.pods[i], d)
		}
	})
}

// A batch in which pods are evicted is decided as one pod after the other would be.
func TestPreemptingBatchIsOneByOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawContest(t, 4)
		state := c.state
		for i, d := range decide(t, c.state, c.pods, preempting) {
			single := decide(t, state, c.pods[i:i+1], preempting)[0]
			if diff := gocmp.Diff(single, d, protocmp.Transform()); diff != "" {
				t.Fatalf("pod %d: %s", i, diff)
			}
			state = after(state, c.pods[i], d)
		}
	})
}

// Victims are of lower priority and on the node; without them the pod fits, with
// any one of them back it does not, unless it needs some of them near.
func TestPreemptionMakesRoom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawContest(t, 1)
		p := c.pods[0]
		if rapid.Bool().Draw(t, "company") {
			p.PodAffinity = drawNear(t)
		}
		for _, e := range decide(t, c.state, c.pods, preempting)[0].GetExplanation().GetPreemptions() {
			if len(e.Victims) == 0 {
				continue
			}
			var gone []*berthv1.PlacedPod
			for _, v := range e.Victims {
				at := slices.IndexFunc(c.state.PlacedPods, func(q *berthv1.PlacedPod) bool { return q.Uid == v.Uid })
				q := c.state.PlacedPods[at]
				if q.NodeName != e.NodeName || q.Nominated || q.Priority >= p.Priority {
					t.Fatalf("%v must not be evicted from %s", q, e.NodeName)
				}
				gone = append(gone, q)
			}
			if left := judged(t, without(c.state, gone), p, e.NodeName); left.Rule != "" {
				t.Fatalf("%v does not fit on %s without %v: %v", p, e.NodeName, gone, left)
			}
			for i := range gone {
				but := slices.Delete(slices.Clone(gone), i, i+1)
				if p.PodAffinity == nil && judged(t, without(c.state, but), p, e.NodeName).Rule == "" {
					t.Fatalf("%v fits on %s without evicting %v", p, e.NodeName, gone[i])
				}
			}
		}
	})
}

// The order of the records means nothing for preemption either.
func TestPreemptionOfTheSameState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawContest(t, 3)
		shuffled := proto.Clone(c.state).(*berthv1.Snapshot)
		shuffled.Nodes = rapid.Permutation(shuffled.Nodes).Draw(t, "nodes")
		shuffled.PlacedPods = rapid.Permutation(shuffled.PlacedPods).Draw(t, "placed")
		shuffled.DisruptionBudgets = rapid.Permutation(shuffled.DisruptionBudgets).Draw(t, "budgets")
		seeded := func(r *solve.Request) { preempting(r); r.Seed = 7 }
		if diff := gocmp.Diff(decide(t, c.state, c.pods, seeded), decide(t, shuffled, c.pods, seeded), protocmp.Transform()); diff != "" {
			t.Fatal(diff)
		}
	})
}

// Preemption leaves the snapshot as it was, wherever it is stopped. What was
// decided before the stop stays decided, and the rest is not.
func TestNothingSurvivesPreemption(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawContest(t, 4)
		snapshot, err := model.NewSnapshot(c.state, filter.Constraints(filter.Default()))
		if err != nil {
			t.Fatal(err)
		}
		request := &solve.Request{Snapshot: snapshot}
		preempting(request)
		for _, record := range c.pods {
			p, err := snapshot.NewPod(record)
			if err != nil {
				t.Fatal(err)
			}
			request.Pods = append(request.Pods, p)
		}
		before := dump(snapshot)
		all := solver.Decide(request)
		if diff := gocmp.Diff(before, dump(snapshot)); diff != "" {
			t.Fatal(diff)
		}
		left := rapid.IntRange(0, 12).Draw(t, "stop")
		request.Stop = func() bool { left--; return left < 0 }
		stopped := false
		for i, d := range solver.Decide(request) {
			want := all[i]
			stopped = stopped || d.GetOutcome() == berthv1.Outcome_OUTCOME_NOT_DECIDED
			if stopped {
				want = &berthv1.Decision{PodUid: c.pods[i].Uid, Outcome: berthv1.Outcome_OUTCOME_NOT_DECIDED}
			}
			if diff := gocmp.Diff(want, d, protocmp.Transform()); diff != "" {
				t.Fatalf("pod %d: %s", i, diff)
			}
		}
		if diff := gocmp.Diff(before, dump(snapshot)); diff != "" {
			t.Fatal(diff)
		}
	})
}

// dump prints what Decide changes in a snapshot.
func dump(s *model.Snapshot) string {
	var out strings.Builder
	pods := func(title string, pods []*model.PlacedPod) {
		pods = slices.SortedFunc(slices.Values(pods), func(a, b *model.PlacedPod) int { return cmp.Compare(a.UID, b.UID) })
		for _, q := range pods {
			fmt.Fprintf(&out, "  %s %s terminating=%t preempted=%t\n", title, q.UID, q.Terminating, q.Preempted)
		}
	}
	for _, n := range s.Nodes {
		fmt.Fprintf(&out, "%s requested=%v as scored=%v\n", n.Name, n.Requested, n.ScoreRequested)
		pods("pod", n.Pods)
		pods("affine", n.Affine)
		pods("nominated", n.Nominated)
		for _, port := range slices.SortedFunc(slices.Values(n.Ports), func(a, b model.Port) int { return cmp.Compare(a.Number, b.Number) }) {
			fmt.Fprintf(&out, "  port %v\n", port)
		}
	}
	for _, b := range s.Budgets {
		fmt.Fprintf(&out, "budget %s/%s allowed=%d\n", b.Namespace, b.Name, b.Allowed)
	}
	return out.String()
}

// Nothing is looked for unless both the request and the profile want it.
func TestPreemptionIsAskedFor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawContest(t, 1)
		asked := decide(t, c.state, c.pods, preempting)[0]
		plain := decide(t, c.state, c.pods, explained)[0]
		never := solve.Solver{Profile: func(name string) *solve.Profile {
			profile := *solver.Profile(name)
			profile.Preempt = false
			return &profile
		}}
		snapshot, err := model.NewSnapshot(c.state, filter.Constraints(filter.Default()))
		if err != nil {
			t.Fatal(err)
		}
		p, err := snapshot.NewPod(c.pods[0])
		if err != nil {
			t.Fatal(err)
		}
		request := &solve.Request{Snapshot: snapshot, Pods: []*model.Pod{p}}
		preempting(request)
		if diff := gocmp.Diff(plain, never.Decide(request)[0], protocmp.Transform()); diff != "" {
			t.Fatalf("the profile does not want it: %s", diff)
		}
		// All that is asked for in addition is in fields of its own, and in the
		// message.
		if why := asked.GetRejection().GetPreemption(); why != "" {
			plain.Rejection.Message += " preemption: " + why
			plain.Rejection.Preemption = why
		}
		plain.Preemption = asked.Preemption
		plain.Explanation.Preemptions = asked.Explanation.Preemptions
		if diff := gocmp.Diff(plain, asked, protocmp.Transform()); diff != "" {
			t.Fatalf("the request does not want it: %s", diff)
		}
	})
}
