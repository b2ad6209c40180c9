package solve

import (
	"cmp"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/preempt"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// preempt adds to the rejection of p which pods to evict for it, or why that does
// not help. evictable are the nodes on which nothing but pods is in the way. It
// returns as decide does.
func (r *Request) preempt(decision *berthv1.Decision, index int, p *model.Pod, rules *filter.Filter, evictable []*model.Node) (_ *berthv1.Decision, undo func()) {
	if why := preempt.Ineligible(p, r.Snapshot, evictable); why != "" {
		helpless(decision.Rejection, why)
		return decision, nil
	}
	nodes := len(r.Snapshot.Nodes)
	position := Position(r.Seed, index, nodes)
	better := func(a, b *preempt.Outcome) bool {
		return cmp.Or(preempt.Compare(a, b), cmp.Compare(distance(a.Node, position, nodes), distance(b.Node, position, nodes))) < 0
	}
	var best *preempt.Outcome
	texts := map[string]int32{}
	for _, n := range evictable {
		if r.stopped() {
			return nil, nil
		}
		o := preempt.On(n, p, rules, r.Snapshot.Budgets)
		if r.Explain {
			decision.Explanation.Preemptions = append(decision.Explanation.Preemptions, &berthv1.PreemptionExplanation{
				NodeName: n.Name, Victims: victims(&o), BudgetViolations: int32(o.BudgetViolations), Reasons: o.Reasons,
			})
		}
		if len(o.Victims) > 0 {
			if best == nil || better(&o, best) {
				best = &o
			}
			continue
		}
		for _, reason := range o.Reasons {
			texts[reason]++
		}
	}
	if best == nil {
		helpless(decision.Rejection, unhelpful(nodes, len(evictable), texts))
		return decision, nil
	}
	decision.Preemption = &berthv1.Preemption{
		NodeName: best.Node.Name, NodeUid: best.Node.Record.GetUid(),
		Victims: victims(best), BudgetViolations: int32(best.BudgetViolations),
	}
	return decision, preempt.Nominate(r.Snapshot, p, best)
}

// unhelpful says in kube-scheduler's words why no eviction helps on any of the nodes:
// texts count those of the evictable ones, and on the others pods are not what is in the
// way.
func unhelpful(nodes, evictable int, texts map[string]int32) string {
	if others := nodes - evictable; others > 0 {
		texts["Preemption is not helpful for scheduling"] = int32(others)
	}
	return message(nodes, "", texts)
}

// Helpless returns the rejection of a pod for which nobody can be evicted, because it may
// not preempt or because no placed pod has a lower priority, as a request that asks to
// preempt is answered. evictable is on how many of the nodes nothing but pods is in the
// way. The rejection that is given stays as it is.
func Helpless(rejection *berthv1.Rejection, p *model.Pod, nodes, evictable int) *berthv1.Rejection {
	why := preempt.Never
	if p.Preempts {
		texts := map[string]int32{}
		if evictable > 0 {
			texts[preempt.NoVictims] = int32(evictable)
		}
		why = unhelpful(nodes, evictable, texts)
	}
	out := &berthv1.Rejection{Message: rejection.GetMessage(), Rules: rejection.GetRules(), WakeConditions: rejection.GetWakeConditions()}
	helpless(out, why)
	return out
}

// helpless adds to a rejection why no eviction helps. kube-scheduler puts "no new
// claims to deallocate, " before it, which says that no resource claims are in the
// way either; they are not looked at here.
func helpless(rejection *berthv1.Rejection, why string) {
	rejection.Preemption = why
	rejection.Message += " preemption: " + why
}

func victims(o *preempt.Outcome) []*berthv1.Victim {
	var victims []*berthv1.Victim
	for _, q := range o.Victims {
		victims = append(victims, &berthv1.Victim{Uid: q.UID, Namespace: q.Namespace, Name: q.Name})
	}
	return victims
}
