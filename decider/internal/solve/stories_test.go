package solve_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/score"
	"github.com/berth-scheduler/berth/decider/internal/solve"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/scenario"
)

// liking is kube-scheduler's scores as a ranker.
type liking struct{}

func (liking) Rank(t *model.Turn) []int64 {
	return score.Rank(score.Default(), t)
}

func (liking) Explain(t *model.Turn) [][]*berthv1.Score {
	parts := make([][]*berthv1.Score, len(t.Feasible))
	for _, c := range score.Columns(score.Default(), t) {
		for i := range parts {
			parts[i] = append(parts[i], &berthv1.Score{Rule: c.Rule.Name, Raw: c.Raw[i], Normalized: c.Normalized[i], Weight: c.Rule.Weight})
		}
	}
	return parts
}

var solver = newSolver(liking{})

// newSolver returns a solver with the default rules and this liking.
func newSolver(ranker solve.Ranker) solve.Solver {
	profile := &solve.Profile{Rules: filter.Default(), Ranker: ranker, Preempt: true}
	return solve.Solver{Profile: func(string) *solve.Profile { return profile }}
}

// fataler is what testing.T, testing.B and rapid.T share.
type fataler interface {
	Helper()
	Fatal(args ...any)
}

// decide decides on records; every one of them must be valid.
func decide(t fataler, state *berthv1.Snapshot, records []*berthv1.Pod, change func(*solve.Request)) []*berthv1.Decision {
	t.Helper()
	snapshot, err := model.NewSnapshot(state, filter.Constraints(filter.Default()))
	if err != nil {
		t.Fatal(err)
	}
	request := &solve.Request{Snapshot: snapshot}
	for _, record := range records {
		pod, err := snapshot.NewPod(record)
		if err != nil {
			t.Fatal(err)
		}
		request.Pods = append(request.Pods, pod)
	}
	if change != nil {
		change(request)
	}
	return solver.Decide(request)
}

// Stories: `cluster` sets the nodes and placed pods, `decide` prints what becomes
// of pods. Arguments: seed=N, candidates=N, explain, preempt,
// stop=N (after it was asked N times).
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var cluster *berthv1.Snapshot
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "cluster":
				var err error
				if cluster, err = scenario.ParseCluster(d.Input); err != nil {
					d.Fatalf(t, "%v", err)
				}
				return ""
			case "decide":
				pods, err := scenario.ParsePods(d.Input)
				if err != nil {
					d.Fatalf(t, "%v", err)
				}
				return printed(decide(t, cluster, pods, func(r *solve.Request) {
					d.MaybeScanArgs(t, "seed", &r.Seed)
					d.MaybeScanArgs(t, "candidates", &r.Candidates)
					r.Explain, r.Preempt = d.HasArg("explain"), d.HasArg("preempt")
					if after := 0; d.MaybeScanArgs(t, "stop", &after) {
						r.Stop = func() bool { after--; return after < 0 }
					}
				}))
			}
			d.Fatalf(t, "unknown command")
			return ""
		})
	})
}

func printed(decisions []*berthv1.Decision) string {
	var out strings.Builder
	for _, d := range decisions {
		fmt.Fprint(&out, scenario.FormatDecision(d))
	}
	return out.String()
}
