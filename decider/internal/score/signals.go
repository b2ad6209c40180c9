package score

import (
	"math"
	"math/bits"

	"github.com/berth-scheduler/berth/decider/internal/model"
)

// nodeSignals likes nodes by numbers about them. This rule is Berth's own.
//
// For each signal, with lowest and highest being its values among the feasible nodes
// that have it, a node's value v is worth
//
//	100 * (v - lowest) / (highest - lowest)   where higher is better,
//	100 * (highest - v) / (highest - lowest)  where lower is better,
//
// rounded down; 100 where all are equal; and 0 on a node that does not have the
// signal, because nothing speaks for it. The score, raw and normalised, is the mean
// of what the signals are worth, by their weights, rounded down. A signal that no
// feasible node has is left out of the mean; without any signal there is no
// preference.
func nodeSignals(signals []Signal) func(*model.Turn) Scorer {
	return func(t *model.Turn) Scorer {
		var spans []span
		var weights int64
		for _, signal := range signals {
			s := span{Signal: signal, lowest: math.MaxInt64, highest: math.MinInt64}
			for _, n := range t.Feasible {
				if v, ok := n.Record.GetSignals()[s.Name]; ok {
					s.lowest, s.highest = min(s.lowest, v), max(s.highest, v)
				}
			}
			if s.lowest <= s.highest {
				spans = append(spans, s)
				weights += s.Weight
			}
		}
		if len(spans) == 0 {
			return Scorer{}
		}
		return Scorer{Score: func(n *model.Node) int64 {
			var score int64
			for i := range spans {
				if v, ok := n.Record.GetSignals()[spans[i].Name]; ok {
					score += spans[i].worth(v) * spans[i].Weight
				}
			}
			return score / weights
		}}
	}
}

// span is a signal and its values among the feasible nodes.
type span struct {
	Signal
	lowest, highest int64
}

// worth is what the value v, which is in the span, is worth: 0 to Max.
func (s *span) worth(v int64) int64 {
	if s.lowest == s.highest {
		return Max
	}
	// Differences of int64 fit into uint64, their product with Max into two.
	better := uint64(v) - uint64(s.lowest)
	if !s.HigherIsBetter {
		better = uint64(s.highest) - uint64(v)
	}
	high, low := bits.Mul64(better, Max)
	worth, _ := bits.Div64(high, low, uint64(s.highest)-uint64(s.lowest))
	return int64(worth)
}
