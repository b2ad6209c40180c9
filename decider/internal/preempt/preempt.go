// Package preempt holds preemption as a decision: which pods would have to leave
// which node so that a pod fits there?
//
// The answers are kube-scheduler's (framework/preemption and the plugin
// DefaultPreemption), with two choices where it has none: every node is tried, not
// a sample from a random one on, and pods of one priority and one start time are
// told apart by their uids. What it says of resource claims ("no new claims to
// deallocate") is left out.
package preempt

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
)

// Why nobody is evicted for a pod, in kube-scheduler's words.
const (
	// Never is said of a pod that may not preempt.
	Never = "not eligible due to preemptionPolicy=Never."
	// NoVictims is said of a node without a pod of lower priority.
	NoVictims = "No preemption victims found for incoming pod"
)

// Ineligible says in kube-scheduler's words why no pod may be evicted for p, or ""
// if some may. helpful are the nodes on which an eviction could help.
func Ineligible(p *model.Pod, s *model.Snapshot, helpful []*model.Node) string {
	if !p.Preempts {
		return Never
	}
	n := s.Node(p.NominatedNode)
	if n == nil || !slices.Contains(helpful, n) {
		// What was evicted for it there does not help any more.
		return ""
	}
	for _, q := range n.Pods {
		if q.Priority < p.Priority && q.Terminating && q.Preempted {
			return "not eligible due to a terminating pod on the nominated node."
		}
	}
	return ""
}

// Outcome is what evicting pods from one node comes to.
type Outcome struct {
	// Node is the node.
	Node *model.Node
	// Victims are the pods to evict, the most important first. There are none if
	// that does not help.
	Victims []*model.PlacedPod
	// BudgetViolations is how many of the victims are beyond what a disruption
	// budget allows.
	BudgetViolations int
	// Reasons say in kube-scheduler's words why it does not help. There are none if
	// it does.
	Reasons []string
}

// On returns what evicting pods from n comes to for p, whose rules are f. All pods
// of lower priority are taken off; if p fits then, as many as possible come back,
// first those that a budget protects, then the others, the more important before
// the less important. n is as before in the end, but for the order of its pods.
func On(n *model.Node, p *model.Pod, f *filter.Filter, budgets []*model.Budget) Outcome {
	o := Outcome{Node: n}
	lower := f.RemoveFunc(n, func(q *model.PlacedPod) bool { return q.Priority < p.Priority })
	if len(lower) == 0 {
		o.Reasons = []string{NoVictims}
		return o
	}
	if rule, reasons := f.Reject(n); rule != "" {
		for _, reason := range reasons {
			o.Reasons = append(o.Reasons, reason.Text)
		}
		addAll(f, lower, n)
		return o
	}
	slices.SortFunc(lower, byImportance)
	protected, others := split(lower, budgets)
	for i, q := range append(protected, others...) {
		f.Add(q, n)
		if rule, _ := f.Reject(n); rule == "" {
			continue
		}
		f.Remove(q, n)
		o.Victims = append(o.Victims, q)
		if i < len(protected) {
			o.BudgetViolations++
		}
	}
	addAll(f, o.Victims, n)
	slices.SortFunc(o.Victims, byImportance)
	if len(o.Victims) == 0 {
		// The rules contradict themselves: the node takes p after all.
		o.Reasons = []string{fmt.Sprintf("expected at least one victim pod on node %q", n.Name)}
	}
	return o
}

func addAll(f *filter.Filter, pods []*model.PlacedPod, n *model.Node) {
	for _, q := range pods {
		f.Add(q, n)
	}
}

// byImportance puts pods of higher priority first, then those that run for longer.
func byImportance(a, b *model.PlacedPod) int {
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(started(a), started(b)), cmp.Compare(a.UID, b.UID))
}

// started is when q started; a pod that has not starts after all others.
func started(q *model.PlacedPod) int64 {
	if q.Start == 0 {
		return math.MaxInt64
	}
	return q.Start
}

// split parts pods into those whose eviction a budget does not allow, if the pods
// before them are evicted, and the others. Both stay in order.
func split(pods []*model.PlacedPod, budgets []*model.Budget) (protected, others []*model.PlacedPod) {
	allowed := make([]int64, len(budgets))
	for i, b := range budgets {
		allowed[i] = int64(b.Allowed)
	}
	for _, q := range pods {
		violates := false
		for i, b := range budgets {
			if counts(b, q) {
				allowed[i]--
				violates = violates || allowed[i] < 0
			}
		}
		if violates {
			protected = append(protected, q)
		} else {
			others = append(others, q)
		}
	}
	return protected, others
}

// counts says whether evicting q uses up some of b. Pods without labels are under
// no budget, whatever it selects.
func counts(b *model.Budget, q *model.PlacedPod) bool {
	return b.Namespace == q.Namespace && len(q.Labels) > 0 &&
		b.Selector.Matches(q.Labels) && !slices.Contains(b.Disrupted, q.Name)
}

// Compare orders nodes on which eviction helps, the better first: fewer budget
// violations, the lower the priority of the most important victim, the lower the
// sum of priorities, fewer victims, the later the first of the victims of the
// highest priority started. 0 means that kube-scheduler takes either.
func Compare(a, b *Outcome) int {
	return cmp.Or(
		cmp.Compare(a.BudgetViolations, b.BudgetViolations),
		cmp.Compare(a.Victims[0].Priority, b.Victims[0].Priority),
		cmp.Compare(priorities(a.Victims), priorities(b.Victims)),
		cmp.Compare(len(a.Victims), len(b.Victims)),
		cmp.Compare(started(b.Victims[0]), started(a.Victims[0])),
	)
}

// priorities sums the priorities, each raised so that none is negative: one pod of
// a low priority is less than two.
func priorities(pods []*model.PlacedPod) int64 {
	total := int64(0)
	for _, q := range pods {
		total += int64(q.Priority) - math.MinInt32
	}
	return total
}

// Nominate makes s what it is once o was carried out for p: room is set aside for p
// on the node, and the victims are leaving because of it. They still hold their
// room. undo takes it back.
//
// Each victim uses up one eviction of its budgets. It is not among those whose
// eviction was counted already: preemption deletes pods without asking the API for
// evictions, which is what counts them, so that the disruption controller takes a
// healthy pod less into account. What was leaving before has been taken into
// account, and no budget falls below 0.
func Nominate(s *model.Snapshot, p *model.Pod, o *Outcome) (undo func()) {
	undos := []func(){s.Nominate(p, o.Node)}
	for _, q := range o.Victims {
		if q.Terminating {
			continue
		}
		q.Terminating, q.Preempted = true, true
		undos = append(undos, func() { q.Terminating, q.Preempted = false, false })
		for _, b := range s.Budgets {
			if b.Allowed > 0 && counts(b, q) {
				b.Allowed--
				undos = append(undos, func() { b.Allowed++ })
			}
		}
	}
	return func() {
		for _, undo := range slices.Backward(undos) {
			undo()
		}
	}
}
