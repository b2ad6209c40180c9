// Package score holds the preferences: how much would this node be liked, among
// those that can take the pod?
//
// The rules, their names, weights and arithmetic are kube-scheduler's.
package score

import "github.com/berth-scheduler/berth/decider/internal/model"

// Max is the highest score of a rule after normalisation; the lowest is 0.
const Max = 100

// Rule is one preference.
type Rule struct {
	// Name is kube-scheduler's plugin name.
	Name string
	// Weight is what the normalised score is multiplied by in the sum.
	Weight int64
	// For compiles the rule for one pod. Nil means that it has no preference.
	For func(p *model.Pod, s *model.Snapshot) Scorer
	// Normalize brings the raw scores of all feasible nodes into 0 to Max, in
	// place. Nil means that they are.
	Normalize func(raw []int64)
}

// Scorer returns the raw score of a feasible node.
type Scorer func(n *model.Node) int64

// Rules are all rules, sorted by name.
var Rules = []Rule{
	{Name: "NodeResourcesFit", Weight: 1, For: leastAllocated},
}

// Column is what one rule says of the feasible nodes.
type Column struct {
	Rule Rule
	// Raw and Normalized have one score per feasible node.
	Raw, Normalized []int64
}

// Columns asks the rules about the feasible nodes of a turn. A rule without a
// preference is left out.
func Columns(rules []Rule, t *model.Turn) []Column {
	var columns []Column
	for _, rule := range rules {
		scorer := rule.For(t.Pod, t.Snapshot)
		if scorer == nil {
			continue
		}
		raw := make([]int64, len(t.Feasible))
		for i, n := range t.Feasible {
			raw[i] = scorer(n)
		}
		normalized := raw
		if rule.Normalize != nil {
			normalized = append([]int64(nil), raw...)
			rule.Normalize(normalized)
		}
		columns = append(columns, Column{Rule: rule, Raw: raw, Normalized: normalized})
	}
	return columns
}

// Total returns the weighted sum of the columns for each of the nodes.
func Total(columns []Column, nodes int) []int64 {
	total := make([]int64, nodes)
	for _, c := range columns {
		for i, score := range c.Normalized {
			total[i] += c.Rule.Weight * score
		}
	}
	return total
}
