package policy

import (
	"hash/fnv"

	"github.com/berth-scheduler/berth/decider/internal/solve"
)

// Random takes any node that can take the pod. Which one follows from the seed,
// the pod's index and the nodes' names; it does not depend on which other nodes
// there are.
func Random() Policy { return random{} }

type random struct{}

func (random) Name() string { return "random" }

// Rank draws a number that is not negative for every node.
func (random) Rank(t Turn) []int64 {
	draw := solve.Mix(t.Seed, uint64(t.Index))
	scores := make([]int64, len(t.Nodes))
	for i, n := range t.Nodes {
		name := fnv.New64a()
		name.Write([]byte(n.Name()))
		scores[i] = int64(solve.Mix(draw, name.Sum64()) >> 1)
	}
	return scores
}
