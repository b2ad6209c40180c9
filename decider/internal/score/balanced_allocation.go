package score

import (
	"math"

	"github.com/berth-scheduler/berth/decider/internal/model"
)

// balancedAllocation likes nodes on which the pod brings the shares of resources that
// are taken closer to each other: Max where it turns the greatest imbalance into
// none, half of Max for the opposite, and half way between, 75, where it changes
// nothing. It has no preference about a pod that asks for none of the resources.
func balancedAllocation(resources []string) func(*model.Turn) Scorer {
	weighted := make([]Resource, len(resources))
	for i, name := range resources {
		weighted[i] = Resource{Name: name, Weight: 1}
	}
	return func(t *model.Turn) Scorer {
		bestEffort := true
		for _, name := range resources {
			bestEffort = bestEffort && t.Pod.Request(name) == 0
		}
		if bestEffort {
			return Scorer{}
		}
		demands := demands(t, weighted, t.Pod.Request)
		with, without := make([]float64, 0, len(demands)), make([]float64, 0, len(demands))
		return Scorer{Score: func(n *model.Node) int64 {
			with, without = with[:0], without[:0]
			for i := range demands {
				d := &demands[i]
				if capacity := n.Allocatable.Of(d.resource); capacity != 0 {
					taken := n.Requested.Of(d.resource)
					with = append(with, fraction(add(taken, d.asked), capacity))
					without = append(without, fraction(taken, capacity))
				}
			}
			return Max/2 + (Max/2+balance(with)-balance(without))/2
		}}
	}
}

// fraction is the part of capacity that is taken, at most 1.
func fraction(taken, capacity int64) float64 {
	return min(float64(taken)/float64(capacity), 1)
}

// balance is Max less the standard deviation of fractions, rounded down. The
// operations are kube-scheduler's, in its order, so that rounding is the same; the
// conversions keep compilers from merging a product and a sum, which would round
// otherwise on some processors.
func balance(fractions []float64) int64 {
	deviation := 0.0
	switch count := float64(len(fractions)); {
	case count == 2:
		deviation = math.Abs((fractions[0] - fractions[1]) / 2)
	case count > 2:
		var total, squares float64
		for _, f := range fractions {
			total += f
		}
		mean := total / count
		for _, f := range fractions {
			squares += float64((f - mean) * (f - mean))
		}
		deviation = math.Sqrt(squares / count)
	}
	return int64((1 - deviation) * Max)
}
