package model

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"
	"pgregory.net/rapid"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// TestLabels: what Kubernetes takes for a label's key or value is taken, nothing else.
func TestLabels(t *testing.T) {
	text := rapid.StringOfN(rapid.SampledFrom([]rune("aZ0-_./é ")), 0, 6, -1)
	long := rapid.Custom(func(t *rapid.T) string {
		return text.Draw(t, "before") + strings.Repeat("a", rapid.IntRange(50, 260).Draw(t, "length")) + text.Draw(t, "after")
	})
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(text, long).Draw(t, "text")
		if got, want := isLabelKey(s), len(validation.IsQualifiedName(s)) == 0; got != want {
			t.Errorf("key %q: %v, want %v", s, got, want)
		}
		if got, want := isLabelValue(s), len(validation.IsValidLabelValue(s)) == 0; got != want {
			t.Errorf("value %q: %v, want %v", s, got, want)
		}
	})
}

// TestImpossibleSelectors: a pod whose selectors no label can meet is refused by the
// field; a pod that is placed already is taken at its word.
func TestImpossibleSelectors(t *testing.T) {
	in := berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_IN
	bad := &berthv1.LabelSelector{MatchExpressions: []*berthv1.LabelSelectorRequirement{{Key: "app", Operator: in, Values: []string{"a", "{b}"}}}}
	term := &berthv1.PodAffinityTerm{TopologyKey: "zone", LabelSelector: bad}
	prefer := func(key string, operator berthv1.NodeSelectorOperator, values ...string) *berthv1.Pod {
		return &berthv1.Pod{NodeAffinity: &berthv1.NodeAffinity{Preferred: []*berthv1.PreferredNodeTerm{{Weight: 1, Term: &berthv1.NodeSelectorTerm{
			MatchExpressions: []*berthv1.NodeSelectorRequirement{{Key: key, Operator: operator, Values: values}}}}}}}
	}
	s, err := NewSnapshot(&berthv1.Snapshot{
		Nodes:      []*berthv1.Node{{Name: "a"}},
		PlacedPods: []*berthv1.PlacedPod{{Uid: "placed", NodeName: "a", PodAntiAffinity: &berthv1.PodAffinity{Required: []*berthv1.PodAffinityTerm{term}}}},
	}, nil)
	if err != nil || s.Nodes[0].Problem != "" {
		t.Fatalf("placed pod: %v, problem %q", err, s.Nodes[0].Problem)
	}
	nothing := prefer("a b", berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_EXISTS)
	nothing.Uid, nothing.NodeAffinity.Preferred[0].Weight = "p", 0
	if _, err := s.NewPod(nothing); err != nil {
		t.Errorf("a preference of weight 0: %v, want none", err)
	}
	for field, p := range map[string]*berthv1.Pod{
		"pod_affinity.required[0].label_selector.match_expressions[0].values[1]":            {PodAffinity: &berthv1.PodAffinity{Required: []*berthv1.PodAffinityTerm{term}}},
		"pod_anti_affinity.preferred[0].term.label_selector.match_expressions[0].values[1]": {PodAntiAffinity: &berthv1.PodAffinity{Preferred: []*berthv1.PreferredPodTerm{{Weight: 1, Term: term}}}},
		"topology_spread_constraints[0].label_selector.match_expressions[0].values[1]":      {TopologySpreadConstraints: []*berthv1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_DO_NOT_SCHEDULE, LabelSelector: bad}}},
		"spread_selector.match_labels[a b]":                                                 {SpreadSelector: &berthv1.LabelSelector{MatchLabels: map[string]string{"a b": "c"}}},
		"node_affinity.preferred[0].term.match_expressions[0].key":                          prefer("a b", berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_EXISTS),
		"node_affinity.preferred[0].term.match_expressions[0].values[0]":                    prefer("a", berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_GT, "many"),
	} {
		p.Uid = "p"
		if _, err := s.NewPod(p); err == nil || err.Field != field {
			t.Errorf("got %v, want an error of %s", err, field)
		}
	}
}
