package service

import (
	"context"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/solve"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Solver decides in place of Berth's own rules, profiles and policies. What it is
// given has been decoded once, so that it need not look for records that make no
// sense. It is asked by several goroutines at once, and its answer must follow from
// its configuration and the request alone.
type Solver interface {
	// Name is for people and metrics. It does not change.
	Name() string
	// Configuration describes the configuration completely and in one form: equal
	// strings decide equally.
	Configuration() string
	// Constraints are the names that it understands.
	Constraints() []string
	// Profiles are the scheduler names whose pods it decides, nil if all.
	Profiles() []string
	// Solve returns one decision per pod, in order, and nil for a nil pod. ctx ends
	// with the call; it is for logging, and Stop says when to stop.
	Solve(ctx context.Context, r *SolverRequest) []*berthv1.Decision
}

// SolverRequest is one request to a Solver.
type SolverRequest struct {
	// Snapshot is the state. It must not be changed.
	Snapshot *berthv1.Snapshot
	// Unusable are the nodes that no pod may get, by name, because a constraint of
	// theirs is not understood or a record of theirs makes no sense, with a reason in
	// the words that a rejection counts.
	Unusable map[string]Reason
	// Pods are to be decided in order. Nil is a pod that was refused: it keeps its
	// place.
	Pods []*berthv1.Pod
	// Seed breaks ties as the contract says.
	Seed uint64
	// Candidates is how many nodes to name; less than 1 means 1.
	Candidates int
	// Explain asks for an explanation of every decision.
	Explain bool
	// Preempt asks whom to evict for a pod that no node takes.
	Preempt bool
	// Stop is to be asked before each pod; once it says true, the pods that are left
	// are NOT_DECIDED.
	Stop func() bool
}

// Reason is why a node must not be used.
type Reason struct {
	// Text is in the words of a rejection, such as "node(s) were unschedulable".
	Text string
	// EvictionCouldHelp is set if evicting pods from the node could change that.
	EvictionCouldHelp bool
}

// solverRequest is a request as a solver sees it; state is its snapshot's records.
func solverRequest(r *solve.Request, state *berthv1.Snapshot) *SolverRequest {
	pods := make([]*berthv1.Pod, len(r.Pods))
	for i, p := range r.Pods {
		if p != nil {
			pods[i] = p.Record
		}
	}
	return &SolverRequest{
		Snapshot: state, Unusable: unusable(r.Snapshot), Pods: pods,
		Seed: r.Seed, Candidates: r.Candidates, Explain: r.Explain, Preempt: r.Preempt, Stop: r.Stop,
	}
}

// solverProfiles has the names of a solver's profiles; they are nothing more here.
func solverProfiles(s Solver) profiles {
	if s.Profiles() == nil {
		return profiles{other: &solve.Profile{}}
	}
	all := profiles{byName: map[string]*solve.Profile{}}
	for _, name := range s.Profiles() {
		all.byName[name] = &solve.Profile{}
	}
	return all
}

func solverConstraints(s Solver) map[string]bool {
	understood := map[string]bool{}
	for _, name := range s.Constraints() {
		understood[name] = true
	}
	return understood
}

// unusable are the nodes that the rule before all others rejects, whatever the pod.
func unusable(s *model.Snapshot) map[string]Reason {
	rules, err := filter.Rules(nil, filter.Args{})
	if err != nil {
		panic(err) // no name is no unknown name
	}
	usable := filter.Compile(rules, &model.Pod{Record: &berthv1.Pod{}}, s)
	reasons := map[string]Reason{}
	for _, n := range s.Nodes {
		if _, why := usable.Reject(n); len(why) > 0 {
			reasons[n.Name] = Reason{Text: why[0].Text, EvictionCouldHelp: why[0].EvictionCouldHelp}
		}
	}
	return reasons
}
