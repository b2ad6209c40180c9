package score

import (
	"math"

	"github.com/berth-scheduler/berth/decider/internal/model"
)

// leastAllocated likes nodes of which, with the pod on them, the largest share is
// free: the mean of cpu and memory, leaving out what the node has none of.
func leastAllocated(t *model.Turn) Scorer {
	p := t.Pod
	return Scorer{Score: func(n *model.Node) int64 {
		cpu, memory := n.Allocatable.Of(model.CPU), n.Allocatable.Of(model.Memory)
		cpuFree := freeShare(cpu, n.ScoreRequested[model.CPU], p.ScoreRequests[model.CPU])
		memoryFree := freeShare(memory, n.ScoreRequested[model.Memory], p.ScoreRequests[model.Memory])
		if cpu == 0 || memory == 0 {
			return cpuFree + memoryFree // one of them, or both, are 0
		}
		return (cpuFree + memoryFree) / 2
	}}
}

// freeShare is the share of capacity that taken and asked leave, in parts of Max,
// rounded down; 0 if they leave nothing or there is none. None of the three is negative.
func freeShare(capacity, taken, asked int64) int64 {
	if capacity == 0 || taken > capacity || asked > capacity-taken {
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
