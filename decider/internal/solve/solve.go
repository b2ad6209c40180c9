// Package solve decides: pods and a snapshot in, decisions with reasons out. It
// is a pure function.
//
// This is the plain solver. It looks at every node for every pod and is written
// to be read; whatever is faster must answer the same.
package solve

import (
	"cmp"
	"slices"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Ranker says how much the feasible nodes of a turn are liked.
type Ranker interface {
	// Rank returns one score per feasible node, in their order. The highest
	// wins.
	Rank(t *model.Turn) []int64
	// Explain returns what the scores of Rank are made of, per feasible node,
	// sorted by rule. Nil means that there is nothing to say.
	Explain(t *model.Turn) [][]*berthv1.Score
}

// Solver decides by rules and by liking. It holds no state.
type Solver struct {
	// Profile returns how the pods of a scheduler name are decided. It is not nil
	// for the pods of a request.
	Profile func(schedulerName string) *Profile
}

// Profile is how the pods of one scheduler name are decided.
type Profile struct {
	// Rules say which nodes can take a pod.
	Rules []filter.Rule
	// Ranker says which of those it gets.
	Ranker Ranker
	// Preempt is set if pods may be evicted for those that no node takes, where a
	// request asks for it.
	Preempt bool
}

// Request is one batch.
type Request struct {
	// Snapshot is what is decided on. Decide changes it and leaves it as it
	// found it.
	Snapshot *model.Snapshot
	// Pods are decided in order, each with those before it placed. Nil is a pod
	// that was refused: it keeps its place and gets no decision.
	Pods []*model.Pod
	// Seed breaks ties, see Position.
	Seed uint64
	// Candidates is how many nodes to name; less than 1 means 1.
	Candidates int
	// Explain asks for an explanation of every decision.
	Explain bool
	// Preempt asks for pods to evict for a pod that no node takes. The pods after
	// it see them leaving and the room set aside.
	Preempt bool
	// Stop is asked before each pod and each node that pods may be evicted from;
	// once it says true, this pod and those that are left are not decided. Nil
	// never stops.
	Stop func() bool

	// feasible is room for the feasible nodes of one turn after the other.
	feasible []*model.Node
}

// Decide returns one decision per pod, in order, and nil for a nil pod.
func (s *Solver) Decide(r *Request) []*berthv1.Decision { return r.Each(s.One) }

// Each has decide called for one pod after the other, as Solver.One is, and takes back
// in the end what they undo. It returns as Solver.Decide does.
func (r *Request) Each(decide func(r *Request, index int, p *model.Pod) (_ *berthv1.Decision, undo func())) []*berthv1.Decision {
	decisions := make([]*berthv1.Decision, len(r.Pods))
	stopped := false
	for i, p := range r.Pods {
		if p == nil {
			continue
		}
		stopped = stopped || r.stopped()
		if !stopped {
			var undo func()
			if decisions[i], undo = decide(r, i, p); undo != nil {
				defer undo()
			}
			stopped = decisions[i] == nil
		}
		if stopped {
			decisions[i] = &berthv1.Decision{PodUid: p.UID, Outcome: berthv1.Outcome_OUTCOME_NOT_DECIDED}
		}
	}
	return decisions
}

func (r *Request) stopped() bool { return r.Stop != nil && r.Stop() }

// One decides on one pod, the one at index, and shows the pods after it what becomes
// of it; undo takes that back and is nil if there is nothing to see. The decision is
// nil if it was told to stop.
func (s *Solver) One(r *Request, index int, p *model.Pod) (_ *berthv1.Decision, undo func()) {
	decision := &berthv1.Decision{PodUid: p.UID}
	if r.feasible == nil {
		r.feasible = make([]*model.Node, 0, len(r.Snapshot.Nodes))
	}
	profile := s.Profile(p.Record.GetSchedulerName())
	rules := filter.Compile(profile.Rules, p, r.Snapshot)
	turn := &model.Turn{
		Seed: r.Seed, Index: index, Pod: p, Snapshot: r.Snapshot,
		Feasible: r.feasible[:0],
	}
	for _, n := range nodes(r.Snapshot, p, rules) {
		if rule, _ := rules.Reject(n); rule == "" {
			turn.Feasible = append(turn.Feasible, n)
		}
	}
	r.feasible = turn.Feasible
	var scores []int64
	if len(turn.Feasible) > 0 {
		scores = profile.Ranker.Rank(turn)
	}
	if r.Explain {
		decision.Explanation = explain(turn, profile, rules, scores)
	}
	if len(turn.Feasible) == 0 {
		decision.Outcome = berthv1.Outcome_OUTCOME_REJECTED
		var evictable []*model.Node
		decision.Rejection, evictable = reject(r.Snapshot, p, rules)
		if !r.Preempt || !profile.Preempt || len(r.Snapshot.Nodes) == 0 {
			return decision, nil
		}
		return r.preempt(decision, index, p, rules, evictable)
	}
	return r.Place(decision, turn, scores)
}

// Place says in the decision which of the feasible nodes of a turn, at least one, the pod
// gets by their scores, and puts it there.
func (r *Request) Place(decision *berthv1.Decision, turn *model.Turn, scores []int64) (_ *berthv1.Decision, undo func()) {
	position := Position(r.Seed, turn.Index, len(r.Snapshot.Nodes))
	best := pick(turn.Feasible, scores, position, max(1, r.Candidates), len(r.Snapshot.Nodes))
	decision.Outcome = berthv1.Outcome_OUTCOME_PLACED
	for _, i := range best {
		n := turn.Feasible[i]
		decision.Candidates = append(decision.Candidates, &berthv1.Candidate{
			NodeName: n.Name, NodeUid: n.Record.GetUid(), Score: scores[i],
		})
	}
	return decision, r.Snapshot.Place(turn.Pod, turn.Feasible[best[0]])
}

// nodes returns the nodes to choose from: the one that is set aside for p, if it can
// take p, else all.
func nodes(s *model.Snapshot, p *model.Pod, rules *filter.Filter) []*model.Node {
	if n := s.Node(p.NominatedNode); n != nil {
		if rule, _ := rules.Reject(n); rule == "" {
			return s.Nodes[n.Index : n.Index+1]
		}
	}
	return s.Nodes
}

// explain says of every node what became of it. A node that could take the pod and
// was passed over for the one set aside for it has neither a rule nor scores.
func explain(turn *model.Turn, profile *Profile, rules *filter.Filter, scores []int64) *berthv1.Explanation {
	explanation := &berthv1.Explanation{}
	var parts [][]*berthv1.Score
	if len(turn.Feasible) > 0 {
		parts = profile.Ranker.Explain(turn)
	}
	feasible := 0 // the next of turn.Feasible
	for _, n := range turn.Snapshot.Nodes {
		node := &berthv1.NodeExplanation{NodeName: n.Name}
		if feasible < len(turn.Feasible) && turn.Feasible[feasible] == n {
			node.Total = scores[feasible]
			if parts != nil {
				node.Scores = parts[feasible]
			}
			feasible++
		} else {
			rule, reasons := rules.Reject(n)
			node.Rule = rule
			node.EvictionCouldHelp = rule != ""
			for _, reason := range reasons {
				node.Reasons = append(node.Reasons, reason.Text)
				node.EvictionCouldHelp = node.EvictionCouldHelp && reason.EvictionCouldHelp
			}
		}
		explanation.Nodes = append(explanation.Nodes, node)
	}
	return explanation
}

// pick returns the places in feasible of the best nodes, at most count of them,
// best first: by score, then by how far after position, wrapping round, they are
// in the name order of all nodes.
func pick(feasible []*model.Node, scores []int64, position, count, nodes int) []int {
	after := func(i int) int { return distance(feasible[i], position, nodes) }
	better := func(a, b int) int {
		if scores[a] != scores[b] {
			return cmp.Compare(scores[b], scores[a])
		}
		return cmp.Compare(after(a), after(b))
	}
	if count == 1 {
		best := 0
		for i, score := range scores {
			if score > scores[best] || score == scores[best] && after(i) < after(best) {
				best = i
			}
		}
		return []int{best}
	}
	order := make([]int, len(feasible))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, better)
	return order[:min(count, len(order))]
}

// distance is how far after position, wrapping round, n is in the name order of
// all nodes.
func distance(n *model.Node, position, nodes int) int {
	if n.Index >= position {
		return n.Index - position
	}
	return n.Index - position + nodes
}
