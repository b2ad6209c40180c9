package index_test

import (
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/index"
	"github.com/berth-scheduler/berth/decider/internal/score"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// tally counts what was exercised, by kind.
type tally map[string]int

func (t tally) add(other tally) {
	for kind, n := range other {
		t[kind] += n
	}
}

// byIndex is the kind of decision that an index did not leave to the plain solver.
const byIndex = "index: decided"

// kinds are what has to be exercised: a kind with no count has not been.
var kinds = func() []string {
	kinds := []string{"event: begin", "event: resync", "event: what-if", "event: decisions carried out"}
	for _, e := range events {
		if kind := "event: " + e.name; !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	for _, name := range profileNames {
		kinds = append(kinds, "profile: "+name)
	}
	for _, what := range []string{
		"plain", "node name", "matchFields", "tolerations", "node selector", "required node affinity", "preferred node affinity",
		"host ports", "extended resource", "placed score requests", "pod index label", "features", "images", "volume images",
		"spread selector", "nominated node", "never preempts", "priority", "equal to the one before", "equal to one of a request before",
		"its own class", "refused", "placed already",
		"namespace selector", "spread with node policies", "spread with label keys", "spread with minimum domains",
	} {
		kinds = append(kinds, "pod: "+what)
	}
	for _, keys := range []string{zone, hostname, rack, zone + " and " + hostname} {
		kinds = append(kinds, "pod: hard spread by "+keys, "pod: soft spread by "+keys)
	}
	kinds = append(kinds, "pod: hard spread by zone and soft by hostname")
	for _, key := range []string{zone, hostname, rack} {
		for _, term := range []string{"required affinity", "required anti-affinity", "preferred affinity", "preferred anti-affinity"} {
			kinds = append(kinds, "pod: "+term+" by "+key)
		}
	}
	for _, name := range filter.Names {
		kinds = append(kinds, "rejected by "+name)
	}
	kinds = append(kinds, "rejected by Snapshot")
	for _, w := range score.Weights {
		kinds = append(kinds, "liked differently by "+w.Name)
	}
	kinds = append(kinds, byIndex, "index: left to the plain solver", "index: built", "index: repaired", "index: evicted")
	return append(kinds, "liked differently by NodeSignals",
		"decision: placed", "decision: rejected", "decision: not decided", "decision: preempting", "decision: preemption does not help",
		"decision: beyond a budget", "decision: on the nominated node", "decision: with 2 candidates", "decision: with 3 candidates",
		"decision: among equals", "decision: explained", "decision: with a seed", "decision: on 60 nodes or more", "decision: on no nodes",
		"decision: after a preemption in the same request")
}()

// missing are the kinds without a count.
func (t tally) missing() []string {
	return slices.DeleteFunc(slices.Clone(kinds), func(kind string) bool { return t[kind] > 0 })
}

// String is a table.
func (t tally) String() string {
	var b strings.Builder
	for _, kind := range kinds {
		fmt.Fprintf(&b, "%10d  %s\n", t[kind], kind)
	}
	for _, kind := range slices.Sorted(maps.Keys(t)) {
		if !slices.Contains(kinds, kind) {
			fmt.Fprintf(&b, "%10d  (%s)\n", t[kind], kind)
		}
	}
	return b.String()
}

// indexed counts what an index did; nil did nothing.
func (t tally) indexed(x *index.Index) {
	if x == nil {
		return
	}
	did := x.Stats()
	t[byIndex] += int(did.Indexed)
	t["index: left to the plain solver"] += int(did.Plain)
	t["index: built"] += int(did.Built)
	t["index: repaired"] += int(did.Repaired)
	t["index: evicted"] += int(did.Evicted)
}

// decided counts the decisions of a step.
func (t tally) decided(r *run, s *step, decisions []*berthv1.Decision) {
	if s.bind != 0 && len(decisions) > 0 {
		t["event: decisions carried out"] += bits.OnesCount64(s.bind & (1<<min(63, len(decisions)) - 1))
	}
	before, preempted := "", false
	for i, p := range s.ask.GetPods() {
		class := classOf(p)
		if class == before {
			t["pod: equal to the one before"]++
		}
		switch r.classes[class]++; {
		case r.classes[class] == 1:
			t["pod: its own class"]++
		case class != before:
			t["pod: equal to one of a request before"]++
		}
		before = class
		t.pod(p)
		if r.content.pods[p.GetUid()] != nil && !r.content.pods[p.GetUid()].GetNominated() {
			t["pod: placed already"]++
		}
		if decisions[i] == nil {
			t["pod: refused"]++
			continue
		}
		t["decisions"]++
		t.decision(r, s, p, decisions[i])
		if preempted {
			t["decision: after a preemption in the same request"]++
		}
		preempted = preempted || decisions[i].GetPreemption() != nil
	}
}

// classOf is what equal pods have in common.
func classOf(p *berthv1.Pod) string {
	p = proto.CloneOf(p)
	p.Uid, p.Name = "", ""
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(p)
	if err != nil {
		panic(err)
	}
	return string(encoded)
}

func (t tally) decision(r *run, s *step, p *berthv1.Pod, d *berthv1.Decision) {
	count := func(is bool, kind string) {
		if is {
			t["decision: "+kind]++
		}
	}
	candidates := d.GetCandidates()
	count(len(candidates) > 0, "placed")
	count(d.GetRejection() != nil, "rejected")
	count(d.GetOutcome() == berthv1.Outcome_OUTCOME_NOT_DECIDED, "not decided")
	count(d.GetPreemption() != nil, "preempting")
	count(d.GetRejection().GetPreemption() != "", "preemption does not help")
	count(d.GetPreemption().GetBudgetViolations() > 0, "beyond a budget")
	count(len(candidates) > 0 && candidates[0].GetNodeName() == p.GetNominatedNodeName(), "on the nominated node")
	count(len(candidates) == 2, "with 2 candidates")
	count(len(candidates) == 3, "with 3 candidates")
	count(len(candidates) > 1 && candidates[0].GetScore() == candidates[1].GetScore(), "among equals")
	count(d.GetExplanation() != nil, "explained")
	count(s.ask.GetSeed() != 0, "with a seed")
	count(len(r.content.nodes) >= 60, "on 60 nodes or more")
	count(len(r.content.nodes) == 0, "on no nodes")
	for _, rule := range d.GetRejection().GetRules() {
		t["rejected by "+rule.GetRule()]++
	}
	first := map[string]int64{}
	different := map[string]bool{}
	for _, n := range d.GetExplanation().GetNodes() {
		for _, score := range n.GetScores() {
			if value, ok := first[score.GetRule()]; ok && value != score.GetNormalized() {
				different[score.GetRule()] = true
			}
			first[score.GetRule()] = score.GetNormalized()
		}
	}
	for rule := range different {
		t["liked differently by "+rule]++
	}
}

// pod counts what a pod asks for.
func (t tally) pod(p *berthv1.Pod) {
	particular := false
	count := func(is bool, kind string) {
		if is {
			t["pod: "+kind]++
			particular = true
		}
	}
	t["profile: "+p.GetSchedulerName()]++
	count(p.GetNodeName() != "", "node name")
	terms := p.GetNodeAffinity().GetRequired().GetTerms()
	count(slices.ContainsFunc(terms, func(t *berthv1.NodeSelectorTerm) bool { return len(t.GetMatchFields()) > 0 }), "matchFields")
	count(slices.ContainsFunc(terms, func(t *berthv1.NodeSelectorTerm) bool { return len(t.GetMatchExpressions()) > 0 }), "required node affinity")
	count(len(p.GetNodeAffinity().GetPreferred()) > 0, "preferred node affinity")
	count(len(p.GetTolerations()) > 0, "tolerations")
	count(len(p.GetNodeSelector()) > 0, "node selector")
	count(len(p.GetHostPorts()) > 0, "host ports")
	count(p.GetRequests()[gpu]+p.GetRequests()[licence] > 0, "extended resource")
	count(len(p.GetPlacedScoreRequests()) > 0, "placed score requests")
	count(p.GetLabels()[podIndex] != "", "pod index label")
	count(len(p.GetRequiredFeatures()) > 0, "features")
	count(len(p.GetImages()) > 0, "images")
	count(len(p.GetVolumeImages()) > 0, "volume images")
	count(p.GetSpreadSelector() != nil, "spread selector")
	count(p.GetNominatedNodeName() != "", "nominated node")
	count(p.GetPreemptionPolicy() == berthv1.PreemptionPolicy_PREEMPTION_POLICY_NEVER, "never preempts")
	count(p.GetPriority() > 0, "priority")
	spread := map[string]bool{}
	for _, c := range p.GetTopologySpreadConstraints() {
		hard := c.GetWhenUnsatisfiable() == berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_DO_NOT_SCHEDULE
		kind := map[bool]string{true: "hard", false: "soft"}[hard] + " spread by "
		spread[kind+c.GetTopologyKey()] = true
		count(true, kind+c.GetTopologyKey())
		count(c.GetNodeAffinityPolicy() != 0 || c.GetNodeTaintsPolicy() != 0, "spread with node policies")
		count(len(c.GetMatchLabelKeys()) > 0, "spread with label keys")
		count(c.GetMinDomains() > 1, "spread with minimum domains")
	}
	for _, kind := range []string{"hard spread by ", "soft spread by "} {
		count(spread[kind+zone] && spread[kind+hostname], kind+zone+" and "+hostname)
	}
	count(spread["hard spread by "+zone] && spread["soft spread by "+hostname], "hard spread by zone and soft by hostname")
	for kind, a := range map[string]*berthv1.PodAffinity{"affinity": p.GetPodAffinity(), "anti-affinity": p.GetPodAntiAffinity()} {
		term := func(way string, term *berthv1.PodAffinityTerm) {
			count(true, way+" "+kind+" by "+term.GetTopologyKey())
			count(term.GetNamespaceSelector() != nil, "namespace selector")
		}
		for _, required := range a.GetRequired() {
			term("required", required)
		}
		for _, preferred := range a.GetPreferred() {
			term("preferred", preferred.GetTerm())
		}
	}
	count(!particular, "plain")
}
