package score_test

import (
	"math"
	"math/big"
	"slices"

	"github.com/berth-scheduler/berth/decider/internal/score"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// The oracle scores nodes by the contract's records alone: slow, dumb, and in
// numbers without an end where the rules have to mind it. It knows the selectors that
// draw draws.

// oracle returns the raw and normalised score of each of the nodes; ok is false for
// no preference.
func oracle(rule string, args score.Args, s *berthv1.Snapshot, p *berthv1.Pod, nodes []*berthv1.Node) (raw, normalized []int64, ok bool) {
	each := func(f func(n *berthv1.Node) int64) []int64 {
		var scores []int64
		for _, n := range nodes {
			scores = append(scores, f(n))
		}
		return scores
	}
	switch rule {
	case "TaintToleration":
		raw = each(func(n *berthv1.Node) (count int64) {
			for _, taint := range n.Taints {
				if taint.Effect == berthv1.TaintEffect_TAINT_EFFECT_PREFER_NO_SCHEDULE && !oracleTolerates(p, taint) {
					count++
				}
			}
			return count
		})
		highest := slices.Max(raw)
		for _, v := range raw {
			if highest == 0 {
				normalized = append(normalized, 100)
			} else {
				normalized = append(normalized, 100-100*v/highest)
			}
		}
	case "NodeAffinity":
		terms := p.GetNodeAffinity().GetPreferred()
		if len(terms) == 0 {
			return nil, nil, false
		}
		raw = each(func(n *berthv1.Node) (sum int64) {
			for _, term := range terms {
				r := term.Term.MatchExpressions[0]
				if value, ok := n.Labels[r.Key]; ok && slices.Contains(r.Values, value) {
					sum += int64(term.Weight)
				}
			}
			return sum
		})
		highest := max(1, slices.Max(raw))
		for _, v := range raw {
			normalized = append(normalized, 100*v/highest)
		}
	case "NodeResourcesFit":
		raw = each(func(n *berthv1.Node) int64 {
			score, weights := new(big.Int), int64(0)
			for _, r := range args.Fit.Resources {
				capacity, taken := n.Allocatable[r.Name], oracleTaken(s, n, r.Name)
				asked := p.ScoreRequests[r.Name]
				if capacity == 0 || r.Name == "example.com/gpu" && asked == 0 {
					continue
				}
				left := new(big.Int).Sub(big.NewInt(capacity), taken)
				if left.Sub(left, big.NewInt(asked)).Sign() > 0 {
					part := left.Mul(left, big.NewInt(100))
					score.Add(score, part.Div(part, big.NewInt(capacity)).Mul(part, big.NewInt(r.Weight)))
				}
				weights += r.Weight
			}
			if weights == 0 {
				return 0
			}
			return score.Div(score, big.NewInt(weights)).Int64()
		})
	case "PodTopologySpread":
		return oracleSpread(s, p, nodes)
	case "InterPodAffinity":
		met := false
		raw = each(func(n *berthv1.Node) (sum int64) {
			for _, q := range s.PlacedPods {
				there := s.Nodes[slices.IndexFunc(s.Nodes, func(n *berthv1.Node) bool { return n.Name == q.NodeName })]
				weigh := func(term *berthv1.PodAffinityTerm, weight int64, from, to string, labels map[string]string) {
					value, ok := there.Labels[term.TopologyKey]
					if !ok || from != to || !oracleSelects(term.LabelSelector, labels) {
						return
					}
					met = true
					if mine, ok := n.Labels[term.TopologyKey]; ok && mine == value {
						sum += weight
					}
				}
				for _, t := range p.GetPodAffinity().GetPreferred() {
					weigh(t.Term, int64(t.Weight), p.Namespace, q.Namespace, q.Labels)
				}
				for _, t := range p.GetPodAntiAffinity().GetPreferred() {
					weigh(t.Term, -int64(t.Weight), p.Namespace, q.Namespace, q.Labels)
				}
				for _, t := range q.GetPodAffinity().GetRequired() {
					weigh(t, args.HardPodAffinityWeight, q.Namespace, p.Namespace, p.Labels)
				}
				for _, t := range q.GetPodAntiAffinity().GetPreferred() {
					weigh(t.Term, -int64(t.Weight), q.Namespace, p.Namespace, p.Labels)
				}
			}
			return sum
		})
		if !met {
			return nil, nil, false
		}
		lowest, highest := slices.Min(raw), slices.Max(raw)
		for _, v := range raw {
			if lowest == highest {
				normalized = append(normalized, 0)
			} else {
				normalized = append(normalized, int64(100*(float64(v-lowest)/float64(highest-lowest))))
			}
		}
	case "NodeSignals":
		return oracleSignals(args, nodes)
	}
	if normalized == nil {
		normalized = raw
	}
	return raw, normalized, true
}

func oracleTolerates(p *berthv1.Pod, taint *berthv1.Taint) bool {
	return slices.ContainsFunc(p.Tolerations, func(t *berthv1.Toleration) bool {
		return t.Key == taint.Key && (t.Effect == 0 || t.Effect == taint.Effect)
	})
}

// oracleTaken is what is taken of a resource: cpu and memory as scores count them.
func oracleTaken(s *berthv1.Snapshot, n *berthv1.Node, name string) *big.Int {
	taken := new(big.Int)
	for _, q := range s.PlacedPods {
		switch {
		case q.NodeName != n.Name:
		case name == "cpu" || name == "memory":
			taken.Add(taken, big.NewInt(q.ScoreRequests[name]))
		default:
			taken.Add(taken, big.NewInt(q.Requests[name]))
		}
	}
	return taken
}

func oracleSelects(s *berthv1.LabelSelector, labels map[string]string) bool {
	for key, value := range s.MatchLabels {
		if actual, ok := labels[key]; !ok || actual != value {
			return false
		}
	}
	return true
}

// oracleSpread knows own constraints without policies, which are all soft.
func oracleSpread(s *berthv1.Snapshot, p *berthv1.Pod, nodes []*berthv1.Node) (raw, normalized []int64, ok bool) {
	if len(p.TopologySpreadConstraints) == 0 {
		return nil, nil, false
	}
	complete := func(n *berthv1.Node) bool {
		return !slices.ContainsFunc(p.TopologySpreadConstraints, func(c *berthv1.TopologySpreadConstraint) bool {
			_, ok := n.Labels[c.TopologyKey]
			return !ok
		})
	}
	lowest, highest := int64(math.MaxInt64), int64(0)
	for _, n := range nodes {
		var sum float64
		for _, c := range p.TopologySpreadConstraints {
			domains, count := map[string]bool{}, 0
			for _, other := range nodes {
				if complete(other) {
					domains[other.Labels[c.TopologyKey]] = true
				}
			}
			for _, q := range s.PlacedPods {
				there := s.Nodes[slices.IndexFunc(s.Nodes, func(n *berthv1.Node) bool { return n.Name == q.NodeName })]
				if complete(there) && there.Labels[c.TopologyKey] == n.Labels[c.TopologyKey] && !q.Terminating &&
					q.Namespace == p.Namespace && len(c.LabelSelector.MatchLabels) > 0 && oracleSelects(c.LabelSelector, q.Labels) {
					count++
				}
			}
			sum += float64(float64(count)*math.Log(float64(len(domains)+2))) + float64(c.MaxSkew-1)
		}
		if !complete(n) {
			raw = append(raw, 0)
			continue
		}
		raw = append(raw, int64(math.Round(sum)))
		lowest, highest = min(lowest, raw[len(raw)-1]), max(highest, raw[len(raw)-1])
	}
	for i, n := range nodes {
		switch {
		case !complete(n):
			normalized = append(normalized, 0)
		case highest == 0:
			normalized = append(normalized, 100)
		default:
			normalized = append(normalized, 100*(highest+lowest-raw[i])/highest)
		}
	}
	return raw, normalized, true
}

func oracleSignals(args score.Args, nodes []*berthv1.Node) (raw, normalized []int64, ok bool) {
	raw = make([]int64, len(nodes))
	var weights int64
	for _, signal := range args.Signals {
		var lowest, highest *big.Int
		for _, n := range nodes {
			if v, ok := n.Signals[signal.Name]; ok {
				value := big.NewInt(v)
				if lowest == nil || value.Cmp(lowest) < 0 {
					lowest = value
				}
				if highest == nil || value.Cmp(highest) > 0 {
					highest = value
				}
			}
		}
		if lowest == nil {
			continue
		}
		weights += signal.Weight
		span := new(big.Int).Sub(highest, lowest)
		for i, n := range nodes {
			v, ok := n.Signals[signal.Name]
			switch {
			case !ok:
				continue
			case span.Sign() == 0:
				raw[i] += 100 * signal.Weight
				continue
			}
			better := new(big.Int).Sub(big.NewInt(v), lowest)
			if !signal.HigherIsBetter {
				better.Sub(highest, big.NewInt(v))
			}
			better.Mul(better, big.NewInt(100)).Div(better, span)
			raw[i] += better.Int64() * signal.Weight
		}
	}
	if weights == 0 {
		return nil, nil, false
	}
	for i := range raw {
		raw[i] /= weights
	}
	return raw, raw, true
}
