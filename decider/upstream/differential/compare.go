package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/berth-scheduler/berth/decider/upstream/oracle"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Difference is the first thing in which two answers to a case differ.
type Difference struct {
	// Pod is the index of the pending pod.
	Pod int
	// Kind names what differs without saying how, such as "nodes.scores.ImageLocality
	// raw": equal kinds have, most likely, one cause.
	Kind string
	// Want and Got are the two values.
	Want, Got string
}

func (d *Difference) String() string {
	return fmt.Sprintf("pod %d: %s:\n  want %s\n  got  %s", d.Pod, d.Kind, d.Want, d.Got)
}

// compare returns the first difference between kube-scheduler's verdict on a pod and
// an answer, or nil. Wake conditions are not compared: kube-scheduler
// has none.
func compare(want *oracle.Verdict, got *berthv1.Decision) *Difference {
	d := &comparison{}
	d.decision(want, got)
	return d.found
}

// comparison keeps the first difference.
type comparison struct{ found *Difference }

func (d *comparison) value(kind string, want, got any) {
	if d.found == nil && want != got {
		d.found = &Difference{Kind: kind, Want: fmt.Sprint(want), Got: fmt.Sprint(got)}
	}
}

func (d *comparison) decision(verdict *oracle.Verdict, got *berthv1.Decision) {
	want := verdict.Decision
	if want.GetOutcome() != got.GetOutcome() && (refusal(want) != "" || refusal(got) != "") {
		d.value("outcome", want.GetOutcome().String()+refusal(want), got.GetOutcome().String()+refusal(got))
		return
	}
	d.nodes(want.GetExplanation().GetNodes(), got.GetExplanation().GetNodes())
	d.value("outcome", want.GetOutcome(), got.GetOutcome())
	d.value("pod_uid", want.GetPodUid(), got.GetPodUid())
	d.candidates(verdict, got)
	d.value("rejection.message", withoutClaims(want.GetRejection().GetMessage()), withoutClaims(got.GetRejection().GetMessage()))
	d.value("rejection.rules", rules(want), rules(got))
	d.value("rejection.preemption", defaultPreemption(want), defaultPreemption(got))
	d.value("preemptions", preemptions(want), preemptions(got))
	d.preemption(verdict, got)
}

// withoutClaims is a message without what DynamicResources says after the filters of
// every pod without claims: nothing about the pod.
func withoutClaims(message string) string {
	return strings.Replace(message, "no new claims to deallocate, ", "", 1)
}

// defaultPreemption is what DefaultPreemption says, without its name.
func defaultPreemption(d *berthv1.Decision) string {
	_, text, named := strings.Cut(d.GetRejection().GetPreemption(), "preemption: ")
	if !named {
		return d.GetRejection().GetPreemption()
	}
	return text
}

func refusal(d *berthv1.Decision) string {
	if r := d.GetRefusal(); r != nil {
		return fmt.Sprintf(" (%s%s %s)", r.GetField(), r.GetConstraint(), r.GetMessage())
	}
	return ""
}

// candidates holds the nodes and their order to the scores; among nodes of one score
// any order will do.
func (d *comparison) candidates(want *oracle.Verdict, got *berthv1.Decision) {
	line := func(cs []*berthv1.Candidate) string {
		cs = slices.SortedStableFunc(slices.Values(cs), func(a, b *berthv1.Candidate) int {
			return cmp.Or(cmp.Compare(b.GetScore(), a.GetScore()), cmp.Compare(a.GetNodeName(), b.GetNodeName()))
		})
		var out []string
		for _, c := range cs {
			out = append(out, fmt.Sprintf("%s %s %d", c.GetNodeName(), c.GetNodeUid(), c.GetScore()))
		}
		return strings.Join(out, ", ")
	}
	d.value("candidates", line(want.GetCandidates()), line(got.GetCandidates()))
	if cs := got.GetCandidates(); len(cs) > 0 && !slices.Contains(want.Best, cs[0].GetNodeName()) {
		d.value("best", strings.Join(want.Best, " or "), cs[0].GetNodeName())
	}
}

func rules(d *berthv1.Decision) string {
	var out []string
	for _, r := range d.GetRejection().GetRules() {
		out = append(out, fmt.Sprintf("%s %q %d %t", r.GetRule(), r.GetText(), r.GetNodes(), r.GetEvictionCouldHelp()))
	}
	return strings.Join(out, ", ")
}

func preemptions(d *berthv1.Decision) string {
	var out []string
	for _, p := range d.GetExplanation().GetPreemptions() {
		out = append(out, fmt.Sprintf("%s %s %d %q", p.GetNodeName(), victims(p.GetVictims()), p.GetBudgetViolations(), p.GetReasons()))
	}
	return strings.Join(out, ", ")
}

func victims(vs []*berthv1.Victim) string {
	var out []string
	for _, v := range vs {
		out = append(out, fmt.Sprintf("%s/%s(%s)", v.GetNamespace(), v.GetName(), v.GetUid()))
	}
	return strings.Join(out, "+")
}

// settled is d with what kube-scheduler leaves to chance in one order: preemption goes
// through equally important victims in that of an unstable sort, and the contract
// takes them by uid.
func settled(c *Case, d *berthv1.Decision) *berthv1.Decision {
	for _, p := range d.GetExplanation().GetPreemptions() {
		c.settleVictims(p.GetVictims())
	}
	c.settleVictims(d.GetPreemption().GetVictims())
	return d
}

// settleVictims sorts by importance, and equally important ones by uid.
func (c *Case) settleVictims(vs []*berthv1.Victim) {
	pods := c.byUID()
	if slices.ContainsFunc(vs, func(v *berthv1.Victim) bool { return pods[v.GetUid()] == nil }) {
		return // wrong in any order
	}
	slices.SortStableFunc(vs, func(a, b *berthv1.Victim) int {
		p, q := pods[a.GetUid()], pods[b.GetUid()]
		return cmp.Or(cmp.Compare(priority(q), priority(p)), cmp.Compare(started(p), started(q)), cmp.Compare(a.GetUid(), b.GetUid()))
	})
}

// started is when a pod started; one that has not will do so later than all others.
func started(p *corev1.Pod) int64 {
	if p.Status.StartTime == nil {
		return math.MaxInt64
	}
	return p.Status.StartTime.UnixNano()
}

// scored is a node's scores but for those of DynamicResources, which has no rule of
// its own here: it gives every node 0 as long as no pod with claims is decided.
func scored(n *berthv1.NodeExplanation) []*berthv1.Score {
	return slices.DeleteFunc(slices.Clone(n.GetScores()), func(s *berthv1.Score) bool {
		return s.GetRule() == "DynamicResources" && s.GetRaw() == 0 && s.GetNormalized() == 0
	})
}

func (d *comparison) nodes(want, got []*berthv1.NodeExplanation) {
	d.value("nodes", len(want), len(got))
	for i := range min(len(want), len(got)) {
		w, g := want[i], got[i]
		at := func(value any) string { return fmt.Sprintf("%s: %v", w.GetNodeName(), value) }
		d.value("nodes.name", w.GetNodeName(), g.GetNodeName())
		d.value("nodes.rule "+w.GetRule()+" "+g.GetRule(),
			at(w.GetRule()+" "+strings.Join(w.GetReasons(), ", ")), at(g.GetRule()+" "+strings.Join(g.GetReasons(), ", ")))
		d.value("nodes.reasons "+w.GetRule(), at(strings.Join(w.GetReasons(), ", ")), at(strings.Join(g.GetReasons(), ", ")))
		d.value("nodes.eviction_could_help "+w.GetRule(), at(w.GetEvictionCouldHelp()), at(g.GetEvictionCouldHelp()))
	}
	for i := range min(len(want), len(got)) {
		w, g := want[i], got[i]
		wanted, found := scored(w), scored(g)
		for j := range max(len(wanted), len(found)) {
			ws, gs := at(wanted, j), at(found, j)
			line := func(value int64) string { return fmt.Sprintf("%s: %d", w.GetNodeName(), value) }
			d.value("nodes.scores", w.GetNodeName()+": "+ws.GetRule(), w.GetNodeName()+": "+gs.GetRule())
			d.value("nodes.scores."+ws.GetRule()+" raw", line(ws.GetRaw()), line(gs.GetRaw()))
			d.value("nodes.scores."+ws.GetRule()+" normalized", line(ws.GetNormalized()), line(gs.GetNormalized()))
			d.value("nodes.scores."+ws.GetRule()+" weight", line(ws.GetWeight()), line(gs.GetWeight()))
		}
		d.value("nodes.total", w.GetTotal(), g.GetTotal())
	}
}

// at is the i-th, or nil.
func at[T any](list []*T, i int) *T {
	if i < len(list) {
		return list[i]
	}
	return nil
}

// preemption holds the choice between nodes to kube-scheduler's; among nodes that are
// equal to it any will do.
func (d *comparison) preemption(want *oracle.Verdict, got *berthv1.Decision) {
	p := got.GetPreemption()
	if p == nil || !slices.Contains(want.PreemptionBest, p.GetNodeName()) {
		d.value("preemption.node_name", strings.Join(want.PreemptionBest, " or "), p.GetNodeName())
		return
	}
	for _, w := range want.Preemptions {
		if w.GetNodeName() == p.GetNodeName() {
			d.value("preemption.node_uid", w.GetNodeUid(), p.GetNodeUid())
			d.value("preemption.victims", victims(w.GetVictims()), victims(p.GetVictims()))
			d.value("preemption.budget_violations", w.GetBudgetViolations(), p.GetBudgetViolations())
		}
	}
}
