package index_test

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/index"
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/score"
	"github.com/berth-scheduler/berth/decider/internal/solve"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// sums is a ranker that the index can do without.
type sums struct{ rules []score.Rule }

func (s sums) Rank(t *model.Turn) []int64               { return score.Rank(s.rules, t) }
func (s sums) Explain(*model.Turn) [][]*berthv1.Score   { return nil }
func (s sums) Scores() (rules []score.Rule, added bool) { return s.rules, true }

// A pod that is repelled and disliked under more topology keys than a class can tell
// apart is left to the plain solver.
func TestManyTopologyKeys(t *testing.T) {
	state := &berthv1.Snapshot{}
	selector := &berthv1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}
	labels := map[string]string{"zone": "z"}
	for i := range 60 {
		key := fmt.Sprintf("key-%02d", i)
		labels[key] = "v"
		state.PlacedPods = append(state.PlacedPods, &berthv1.PlacedPod{
			Uid: key, Namespace: "x", NodeName: "n0", Labels: selector.MatchLabels,
			PodAntiAffinity: &berthv1.PodAffinity{Preferred: []*berthv1.PreferredPodTerm{{
				Weight: 100, Term: &berthv1.PodAffinityTerm{TopologyKey: key, LabelSelector: selector},
			}}},
		})
	}
	for i := range 3 {
		state.Nodes = append(state.Nodes, &berthv1.Node{
			Name: fmt.Sprintf("n%d", i), Labels: labels, Allocatable: map[string]int64{"cpu": 1000, "pods": 100},
		})
	}
	profile := &solve.Profile{Rules: filter.Default(), Ranker: sums{score.Default()}}
	plain := &solve.Solver{Profile: func(string) *solve.Profile { return profile }}
	request := func() *solve.Request {
		s, err := model.NewSnapshot(state, filter.Constraints(profile.Rules))
		if err != nil {
			t.Fatal(err)
		}
		r := &solve.Request{Snapshot: s}
		for i := range 4 {
			pod, err := s.NewPod(&berthv1.Pod{
				Uid: fmt.Sprint(i), Namespace: "x", Labels: selector.MatchLabels,
				TopologySpreadConstraints: []*berthv1.TopologySpreadConstraint{{
					MaxSkew: 1, TopologyKey: "zone", LabelSelector: selector,
					WhenUnsatisfiable: berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_DO_NOT_SCHEDULE,
				}},
			})
			if err != nil {
				t.Fatal(err)
			}
			r.Pods = append(r.Pods, pod)
		}
		return r
	}
	indexed := request()
	got := index.New(indexed.Snapshot, plain, index.Config{MinUses: 1}).Decide(indexed)
	for i, want := range plain.Decide(request()) {
		if !proto.Equal(got[i], want) {
			t.Errorf("pod %d: the index says %v, plain %v", i, got[i], want)
		}
	}
}
