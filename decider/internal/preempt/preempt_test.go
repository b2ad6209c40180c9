package preempt_test

import (
	"math"
	"slices"
	"testing"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/preempt"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// A rule that rejects a node and takes it when it is asked again, nothing having
// changed, gets kube-scheduler's answer and no eviction.
func TestNobodyIsEvictedForNothing(t *testing.T) {
	s, err := model.NewSnapshot(&berthv1.Snapshot{
		Nodes:      []*berthv1.Node{{Name: "a"}},
		PlacedPods: []*berthv1.PlacedPod{{Uid: "p", NodeName: "a"}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.NewPod(&berthv1.Pod{Uid: "w", Priority: 1})
	if err != nil {
		t.Fatal(err)
	}
	fickle := filter.Rule{Name: "Fickle", For: func(*model.Pod, *model.Snapshot) filter.Check {
		asked := false
		return filter.Check{Reject: func(_ *model.Node, reasons []filter.Reason) []filter.Reason {
			if !asked {
				asked = true
				return append(reasons, filter.Reason{Text: "not yet", EvictionCouldHelp: true})
			}
			return reasons
		}}
	}}
	f := filter.Compile([]filter.Rule{fickle}, p, s)
	if rule, _ := f.Reject(s.Nodes[0]); rule == "" {
		t.Fatal("the node is not rejected")
	}
	o := preempt.On(s.Nodes[0], p, f, nil)
	if want := []string{`expected at least one victim pod on node "a"`}; len(o.Victims) != 0 || !slices.Equal(o.Reasons, want) {
		t.Errorf("victims %v, reasons %q, want none and %q", o.Victims, o.Reasons, want)
	}
}

// Sums of priorities are exact at both ends of their range, and so are budgets.
func TestExtremes(t *testing.T) {
	outcome := func(priorities ...int32) *preempt.Outcome {
		o := &preempt.Outcome{}
		for _, priority := range priorities {
			o.Victims = append(o.Victims, &model.PlacedPod{Priority: priority})
		}
		return o
	}
	for _, c := range []struct{ better, worse *preempt.Outcome }{
		{outcome(math.MaxInt32, math.MinInt32), outcome(math.MaxInt32, math.MinInt32, math.MinInt32)},
		{outcome(math.MaxInt32), outcome(math.MaxInt32, math.MaxInt32)},
		{outcome(math.MinInt32), outcome(math.MaxInt32)},
		{outcome(-1), outcome(-1, -1)},
	} {
		if preempt.Compare(c.better, c.worse) >= 0 || preempt.Compare(c.worse, c.better) <= 0 {
			t.Errorf("%v is not better than %v", c.better.Victims, c.worse.Victims)
		}
	}

	s, err := model.NewSnapshot(&berthv1.Snapshot{
		Nodes: []*berthv1.Node{{Name: "a"}},
		PlacedPods: []*berthv1.PlacedPod{
			{Uid: "p", NodeName: "a", Labels: map[string]string{"app": "x"}},
			{Uid: "q", NodeName: "a", Labels: map[string]string{"app": "x"}},
		},
		DisruptionBudgets: []*berthv1.DisruptionBudget{{
			Name: "x", Selector: &berthv1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}, DisruptionsAllowed: math.MinInt32,
		}},
	}, filter.Constraints(filter.Default()))
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.NewPod(&berthv1.Pod{Uid: "w", Priority: 1})
	if err != nil {
		t.Fatal(err)
	}
	alone := filter.Rule{Name: "Alone", For: func(*model.Pod, *model.Snapshot) filter.Check {
		return filter.Check{Reject: func(n *model.Node, reasons []filter.Reason) []filter.Reason {
			if len(n.Pods) > 0 {
				return append(reasons, filter.Reason{Text: "not alone", EvictionCouldHelp: true})
			}
			return reasons
		}}
	}}
	o := preempt.On(s.Nodes[0], p, filter.Compile([]filter.Rule{alone}, p, s), s.Budgets)
	if o.BudgetViolations != 2 {
		t.Errorf("%d budget violations, want 2", o.BudgetViolations)
	}
	undo := preempt.Nominate(s, p, &o)
	if got := s.Budgets[0].Allowed; got != math.MinInt32 {
		t.Errorf("the budget allows %d", got)
	}
	undo()
}
