package service_test

import (
	"context"
	"slices"
	"testing"

	"github.com/berth-scheduler/berth/decider/policy"
	"github.com/berth-scheduler/berth/decider/service"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// recorder is a solver that rejects every pod and keeps what it was asked.
type recorder struct{ asked *service.SolverRequest }

func (*recorder) Name() string          { return "recorder" }
func (*recorder) Configuration() string { return "none" }
func (*recorder) Constraints() []string { return []string{berthv1.ConstraintNodeResourcesFit} }
func (*recorder) Profiles() []string    { return []string{"a"} }

func (r *recorder) Solve(_ context.Context, request *service.SolverRequest) []*berthv1.Decision {
	r.asked = request
	decisions := make([]*berthv1.Decision, len(request.Pods))
	for i, p := range request.Pods {
		if p != nil {
			decisions[i] = &berthv1.Decision{PodUid: p.GetUid(), Outcome: berthv1.Outcome_OUTCOME_REJECTED}
		}
	}
	return decisions
}

// TestSolver checks what a solver is asked and what is answered in its place.
func TestSolver(t *testing.T) {
	solver := &recorder{}
	s, err := service.New(service.Config{Solver: solver})
	if err != nil {
		t.Fatal(err)
	}
	description, err := s.Describe(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if description.GetName() != "recorder" || !slices.Equal(description.GetConstraints(), solver.Constraints()) {
		t.Errorf("described as %v", description)
	}
	pod := func(uid, scheduler string, constraints ...string) *berthv1.Pod {
		return &berthv1.Pod{Uid: uid, SchedulerName: scheduler, Constraints: constraints}
	}
	response, err := s.Decide(t.Context(), &berthv1.DecideRequest{
		State: &berthv1.DecideRequest_Snapshot{Snapshot: &berthv1.Snapshot{Nodes: []*berthv1.Node{
			{Name: "fine"},
			{Name: "odd", Constraints: []string{"NodePorts"}},
			{Name: "wrong", Allocatable: map[string]int64{"cpu": -1}},
		}}},
		Pods: []*berthv1.Pod{
			pod("1", "a"), pod("2", "b"), pod("3", "a", "NodePorts"), pod("1", "a"),
			{Uid: "4", SchedulerName: "a", Requests: map[string]int64{"cpu": -1}}, pod("5", "a", "NodeResourcesFit"),
		},
		Seed: 7, Candidates: 3, Preempt: true, Explanation: berthv1.ExplanationLevel_EXPLANATION_LEVEL_NODES,
	})
	if err != nil {
		t.Fatal(err)
	}
	var outcomes []berthv1.Outcome
	for _, d := range response.GetDecisions() {
		outcomes = append(outcomes, d.GetOutcome())
	}
	if want := []berthv1.Outcome{
		berthv1.Outcome_OUTCOME_REJECTED, berthv1.Outcome_OUTCOME_INVALID, berthv1.Outcome_OUTCOME_UNSUPPORTED,
		berthv1.Outcome_OUTCOME_INVALID, berthv1.Outcome_OUTCOME_INVALID, berthv1.Outcome_OUTCOME_REJECTED,
	}; !slices.Equal(outcomes, want) {
		t.Errorf("outcomes are %v, want %v", outcomes, want)
	}
	asked := solver.asked
	if asked.Seed != 7 || asked.Candidates != 3 || !asked.Preempt || !asked.Explain || asked.Stop == nil {
		t.Errorf("asked %+v", asked)
	}
	if len(asked.Unusable) != 2 || asked.Unusable["odd"].Text == "" || asked.Unusable["wrong"].Text == "" {
		t.Errorf("unusable nodes are %v, want odd and wrong", asked.Unusable)
	}
	for i, p := range asked.Pods {
		if (p != nil) != (i == 0 || i == 5) {
			t.Errorf("asked for pod %d: %v", i, p)
		}
	}
	if _, err := service.New(service.Config{Solver: solver, Policy: policy.Default()}); err == nil {
		t.Error("a solver and a policy are accepted together")
	}
}
