// Package score holds the preferences: how much would this node be liked, among
// those that can take the pod?
//
// The rules, their names, weights and arithmetic are kube-scheduler's, but for
// NodeSignals, which is Berth's own.
package score

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/berth-scheduler/berth/decider/internal/model"
)

// Max is the highest score of a rule after normalisation; the lowest is 0.
const Max = 100

// Rule is one preference.
type Rule struct {
	// Name is kube-scheduler's plugin name, or NodeSignals.
	Name string
	// Weight is what the normalised score is multiplied by in the sum.
	Weight int64
	// Args are the arguments that it was made with.
	Args *Args
	// For compiles the rule for one pod's turn: what depends on the pod, and what is
	// counted over the cluster or the feasible nodes, is done here, once.
	For func(t *model.Turn) Scorer
}

// Scorer is a rule compiled for one pod's turn. The zero value has no preference and
// is left out of the sum.
type Scorer struct {
	// Score returns the raw score of a feasible node. Nil means no preference.
	Score func(n *model.Node) int64
	// Same is set if Score returns the same for every feasible node, so that one
	// stands for all.
	Same bool
	// Normalize brings the raw scores of the feasible nodes, in their order, into 0
	// to Max, in place. Nil means that they are.
	Normalize func(raw []int64)
}

// Weight is a rule's name and weight.
type Weight struct {
	// Name is the rule's.
	Name string
	// Weight is 1 to the largest int32, as in kube-scheduler's configuration, so
	// that no sum of scores overflows.
	Weight int64
}

// Weights are the rules of kube-scheduler's default profile, sorted by name. Those
// of volumes and devices are not among them.
var Weights = []Weight{
	{"ImageLocality", 1},
	{"InterPodAffinity", 2},
	{"NodeAffinity", 2},
	{"NodeResourcesBalancedAllocation", 1},
	{"NodeResourcesFit", 1},
	{"PodTopologySpread", 2},
	{"TaintToleration", 3},
}

// Rules returns the rules with these names and weights, sorted by name. The error
// names a rule that there is none of, or what is wrong with a weight or an argument.
func Rules(weights []Weight, args Args) ([]Rule, error) {
	if err := args.check(); err != nil {
		return nil, err
	}
	var rules []Rule
	for _, w := range weights {
		if err := checkWeight(w); err != nil {
			return nil, err
		}
		rule := Rule{Name: w.Name, Weight: w.Weight, Args: &args}
		switch w.Name {
		case "ImageLocality":
			rule.For = images
		case "InterPodAffinity":
			rule.For = podAffinity(args.HardPodAffinityWeight, args.IgnorePreferredTermsOfExistingPods)
		case "NodeAffinity":
			rule.For = nodeAffinity(args.AddedPreferred)
		case "NodeResourcesBalancedAllocation":
			rule.For = balancedAllocation(args.Balanced)
		case "NodeResourcesFit":
			rule.For = resourcesFit(args.Fit)
		case "NodeSignals":
			rule.For = nodeSignals(args.Signals)
		case "PodTopologySpread":
			rule.For = topologySpread(args.DefaultSpread, args.SystemDefaulted)
		case "TaintToleration":
			rule.For = taints
		default:
			return nil, fmt.Errorf("%q is not a score", w.Name)
		}
		rules = append(rules, rule)
	}
	slices.SortFunc(rules, func(a, b Rule) int { return cmp.Compare(a.Name, b.Name) })
	return rules, nil
}

// Default are the rules of kube-scheduler's default profile.
func Default() []Rule {
	rules, err := Rules(Weights, DefaultArgs())
	if err != nil {
		panic(err)
	}
	return rules
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
		scorer := rule.For(t)
		if scorer.Score == nil {
			continue
		}
		c := Column{Rule: rule, Raw: make([]int64, len(t.Feasible)), Normalized: make([]int64, len(t.Feasible))}
		scorer.raw(t.Feasible, c.Raw)
		copy(c.Normalized, c.Raw)
		scorer.normalize(c.Normalized)
		columns = append(columns, c)
	}
	return columns
}

// Rank returns the weighted sum of what the rules say of each feasible node of a
// turn: that of Columns, without the columns.
func Rank(rules []Rule, t *model.Turn) []int64 {
	total, scores := make([]int64, len(t.Feasible)), make([]int64, len(t.Feasible))
	same := int64(0) // what all nodes have
	for _, rule := range rules {
		scorer := rule.For(t)
		switch {
		case scorer.Score == nil:
		case scorer.Same:
			scorer.raw(t.Feasible[:1], scores[:1])
			scorer.normalize(scores[:1])
			same += rule.Weight * scores[0]
		default:
			scorer.raw(t.Feasible, scores)
			scorer.normalize(scores)
			for i, score := range scores {
				total[i] += rule.Weight * score
			}
		}
	}
	for i := range total {
		total[i] += same
	}
	return total
}

// raw asks about nodes.
func (s *Scorer) raw(nodes []*model.Node, scores []int64) {
	for i, n := range nodes {
		scores[i] = s.Score(n)
	}
}

func (s *Scorer) normalize(scores []int64) {
	if s.Normalize != nil {
		s.Normalize(scores)
	}
}
