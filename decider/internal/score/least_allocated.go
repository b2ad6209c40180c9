package score

import (
	"math"

	"github.com/berth-scheduler/berth/decider/internal/model"
)

// leastAllocated likes nodes of which, with the pod on them, the largest share is
// free: the mean of cpu and memory, leaving out what the node has none of.
func leastAllocated(p *model.Pod, _ *model.Snapshot) Scorer {
	return func(n *model.Node) int64 {
		var total, resources int64
		for r, asked := range p.ScoreRequests {
			capacity := n.Allocatable.Of(model.Resource(r))
			if capacity == 0 {
				continue
			}
			total += freeShare(capacity, n.ScoreRequested[r], asked)
			resources++
		}
		if resources == 0 {
			return 0
		}
		return total / resources
	}
}

// freeShare is the share of capacity that taken and asked leave, in parts of Max,
// rounded down; 0 if they leave nothing. None of the three is negative.
func freeShare(capacity, taken, asked int64) int64 {
	if taken > capacity || asked > capacity-taken {
		return 0
	}
	left := capacity - taken - asked
	if left > math.MaxInt64/Max {
		// The product would overflow, from 92 PB on; the quotient is as good
		// there.
		return left / (capacity / Max)
	}
	return left * Max / capacity
}
