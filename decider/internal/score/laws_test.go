package score_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/score"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Small alphabets let labels, selectors and constraints meet.
var (
	keys      = rapid.SampledFrom([]string{"kubernetes.io/hostname", "zone", "disk"})
	values    = rapid.SampledFrom([]string{"a", "b", "c"})
	podLabels = rapid.MapOfN(rapid.SampledFrom([]string{"app", "tier"}), values, 0, 2)
	// amounts are small, or as large as they get.
	amounts = rapid.OneOf(rapid.Int64Range(0, 20), rapid.Int64Range(math.MaxInt64-3, math.MaxInt64))
	numbers = rapid.OneOf(rapid.Int64Range(-9, 9), rapid.SampledFrom([]int64{math.MinInt64, math.MaxInt64}))
)

var resources = rapid.SampledFrom([]string{"cpu", "memory", "ephemeral-storage", "example.com/gpu"})

// few is how many of something there are: mostly none.
func few(t *rapid.T, what string) int { return rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, what) }

func drawTerm(t *rapid.T) *berthv1.PodAffinityTerm {
	return &berthv1.PodAffinityTerm{TopologyKey: keys.Draw(t, "key"), LabelSelector: &berthv1.LabelSelector{MatchLabels: podLabels.Draw(t, "selector")}}
}

func drawPreferredPods(t *rapid.T) (terms []*berthv1.PreferredPodTerm) {
	for range few(t, "preferred") {
		terms = append(terms, &berthv1.PreferredPodTerm{Weight: rapid.Int32Range(1, 100).Draw(t, "weight"), Term: drawTerm(t)})
	}
	return terms
}

// draw draws a cluster, one node of which at least is feasible, and a pod.
func draw(t *rapid.T) (*berthv1.Snapshot, *berthv1.Pod) {
	s := &berthv1.Snapshot{}
	names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"b", "c", "d", "x1", "x2"}), 0, 5, rapid.ID).Draw(t, "nodes")
	for _, name := range append(names, "a") {
		n := &berthv1.Node{
			Name: name, Labels: rapid.MapOfN(keys, values, 0, 3).Draw(t, "labels"),
			Allocatable: rapid.MapOfN(resources, amounts, 0, 4).Draw(t, "allocatable"),
			Images:      rapid.MapOfN(values, rapid.OneOf(rapid.Int64Range(0, 2000<<20), numbers), 0, 2).Draw(t, "images"),
			Signals:     rapid.MapOfN(values, numbers, 0, 2).Draw(t, "signals"),
		}
		if _, ok := n.Labels["kubernetes.io/hostname"]; ok { // no two nodes share it
			n.Labels["kubernetes.io/hostname"] = name
		}
		for range few(t, "taints") {
			n.Taints = append(n.Taints, &berthv1.Taint{Key: values.Draw(t, "taint"), Effect: berthv1.TaintEffect(rapid.Int32Range(1, 3).Draw(t, "effect"))})
		}
		s.Nodes = append(s.Nodes, n)
	}
	for i := range rapid.IntRange(0, 8).Draw(t, "placed") {
		q := &berthv1.PlacedPod{
			Uid: fmt.Sprint(i), NodeName: rapid.SampledFrom(s.Nodes).Draw(t, "on").Name, Namespace: values.Draw(t, "namespace"),
			Labels:   podLabels.Draw(t, "labels"),
			Requests: rapid.MapOfN(resources, amounts, 0, 4).Draw(t, "requests"), Terminating: rapid.Bool().Draw(t, "terminating"),
			ScoreRequests:   rapid.MapOfN(resources, amounts, 0, 2).Draw(t, "score"),
			PodAffinity:     &berthv1.PodAffinity{},
			PodAntiAffinity: &berthv1.PodAffinity{Preferred: drawPreferredPods(t)},
		}
		for range few(t, "required") {
			q.PodAffinity.Required = append(q.PodAffinity.Required, drawTerm(t))
		}
		s.PlacedPods = append(s.PlacedPods, q)
	}
	p := &berthv1.Pod{
		Uid: "p", Namespace: values.Draw(t, "namespace"), Labels: podLabels.Draw(t, "labels"),
		Requests:        rapid.MapOfN(resources, amounts, 0, 4).Draw(t, "requests"),
		ScoreRequests:   rapid.MapOfN(resources, amounts, 0, 4).Draw(t, "score"),
		NodeAffinity:    &berthv1.NodeAffinity{},
		PodAffinity:     &berthv1.PodAffinity{Preferred: drawPreferredPods(t)},
		PodAntiAffinity: &berthv1.PodAffinity{Preferred: drawPreferredPods(t)},
		Images:          rapid.SliceOfN(values, 0, 3).Draw(t, "images"),
		VolumeImages:    rapid.SliceOfN(values, 0, 1).Draw(t, "volumes"),
	}
	for range few(t, "preferred") {
		p.NodeAffinity.Preferred = append(p.NodeAffinity.Preferred, &berthv1.PreferredNodeTerm{
			Weight: rapid.Int32Range(0, 100).Draw(t, "weight"),
			Term: &berthv1.NodeSelectorTerm{MatchExpressions: []*berthv1.NodeSelectorRequirement{{
				Key: keys.Draw(t, "key"), Operator: berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_IN, Values: rapid.SliceOfN(values, 1, 2).Draw(t, "values"),
			}}},
		})
	}
	for range few(t, "tolerations") {
		p.Tolerations = append(p.Tolerations, &berthv1.Toleration{
			Key: values.Draw(t, "taint"), Operator: berthv1.TolerationOperator_TOLERATION_OPERATOR_EXISTS,
			Effect: berthv1.TaintEffect(rapid.Int32Range(0, 3).Draw(t, "effect")),
		})
	}
	for range few(t, "spread") {
		p.TopologySpreadConstraints = append(p.TopologySpreadConstraints, &berthv1.TopologySpreadConstraint{
			MaxSkew: rapid.Int32Range(1, 4).Draw(t, "skew"), TopologyKey: keys.Draw(t, "key"),
			WhenUnsatisfiable: berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_SCHEDULE_ANYWAY,
			LabelSelector:     &berthv1.LabelSelector{MatchLabels: podLabels.Draw(t, "selector")},
		})
	}
	return s, p
}

// drawArgs are kube-scheduler's arguments but for more resources and signals.
func drawArgs(t *rapid.T) score.Args {
	args := score.DefaultArgs()
	args.Fit.Resources = nil
	for _, name := range rapid.SliceOfNDistinct(resources, 1, 4, rapid.ID).Draw(t, "resources") {
		args.Fit.Resources = append(args.Fit.Resources, score.Resource{Name: name, Weight: rapid.Int64Range(1, 100).Draw(t, "weight")})
	}
	args.Balanced = rapid.SliceOfNDistinct(resources, 1, 4, rapid.ID).Draw(t, "balanced")
	args.HardPodAffinityWeight = rapid.Int64Range(1, 100).Draw(t, "hard")
	for _, name := range []string{"a", "b"} {
		args.Signals = append(args.Signals, score.Signal{
			Name: name, Weight: rapid.Int64Range(1, 100).Draw(t, "weight"), HigherIsBetter: rapid.Bool().Draw(t, "higher"),
		})
	}
	return args
}

// all are all scores there are.
var all = append(slices.Clone(score.Weights), score.Weight{Name: "NodeSignals", Weight: 5})

func rules(t fataler, args score.Args) []score.Rule {
	t.Helper()
	rules, err := score.Rules(all, args)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return rules
}

// What a rule says is what the oracle says.
func TestRulesAreTheOracles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, p := draw(t)
		args := drawArgs(t)
		turn := turn(t, s, p)
		var nodes []*berthv1.Node
		for _, n := range turn.Feasible {
			nodes = append(nodes, n.Record)
		}
		columns := score.Columns(rules(t, args), turn)
		for _, rule := range []string{"TaintToleration", "NodeAffinity", "NodeResourcesFit", "PodTopologySpread", "InterPodAffinity", "NodeSignals"} {
			raw, normalized, ok := oracle(rule, args, s, p, nodes)
			i := slices.IndexFunc(columns, func(c score.Column) bool { return c.Rule.Name == rule })
			if ok != (i >= 0) {
				t.Fatalf("%s has a preference: %t; the oracle says %t", rule, i >= 0, ok)
			}
			if i < 0 {
				continue
			}
			if diff := cmp.Diff([2][]int64{raw, normalized}, [2][]int64{columns[i].Raw, columns[i].Normalized}); diff != "" {
				t.Fatalf("%s (-oracle +rule): %s", rule, diff)
			}
		}
	})
}

// Scores are 0 to Max whatever the numbers, Rank is the sum of Columns, and neither
// depends on the order of records or on who was placed and taken away in between.
func TestScores(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, p := draw(t)
		args := drawArgs(t)
		args.Fit.Type = rapid.SampledFrom([]score.StrategyType{score.LeastAllocated, score.MostAllocated, score.RequestedToCapacityRatio}).Draw(t, "strategy")
		args.Fit.Shape = []score.Point{
			{Utilization: 0, Score: rapid.Int64Range(0, 10).Draw(t, "score")},
			{Utilization: rapid.Int64Range(1, 100).Draw(t, "utilization"), Score: rapid.Int64Range(0, 10).Draw(t, "score")},
		}
		rules, before := rules(t, args), turn(t, s, p)
		columns := score.Columns(rules, before)
		sum := make([]int64, len(before.Feasible))
		for _, c := range columns {
			for i, v := range c.Normalized {
				if v < 0 || v > score.Max {
					t.Fatalf("%s gives %s %d", c.Rule.Name, before.Feasible[i].Name, v)
				}
				sum[i] += c.Rule.Weight * v
			}
		}
		if diff := cmp.Diff(sum, score.Rank(rules, before)); diff != "" {
			t.Fatalf("Rank (-columns +rank): %s", diff)
		}
		shuffled := proto.Clone(s).(*berthv1.Snapshot)
		shuffled.Nodes = rapid.Permutation(shuffled.Nodes).Draw(t, "nodes")
		shuffled.PlacedPods = rapid.Permutation(shuffled.PlacedPods).Draw(t, "placed")
		after := turn(t, shuffled, p)
		undo := after.Snapshot.Place(after.Pod, rapid.SampledFrom(after.Snapshot.Nodes).Draw(t, "on"))
		score.Columns(rules, after)
		undo()
		if diff := cmp.Diff(text(columns, before), text(score.Columns(rules, after), after)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func text(columns []score.Column, t *model.Turn) (lines []string) {
	for _, c := range columns {
		for i, n := range t.Feasible {
			lines = append(lines, fmt.Sprintf("%s %s %d->%d", c.Rule.Name, n.Name, c.Raw[i], c.Normalized[i]))
		}
	}
	return lines
}
