package policy

// First takes the first node in name order that can take the pod, whatever the
// seed. It fills one node after the other.
func First() Policy { return first{} }

type first struct{}

func (first) Name() string { return "first" }

// Rank gives the first node the highest score and the last one 1.
func (first) Rank(t Turn) []int64 {
	scores := make([]int64, len(t.Nodes))
	for i := range scores {
		scores[i] = int64(len(scores) - i)
	}
	return scores
}
