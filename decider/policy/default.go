package policy

import (
	"github.com/berth-scheduler/berth/decider/internal/score"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Default scores nodes as kube-scheduler does, by the scores of the pod's profile.
func Default() Policy { return scored{} }

// IsDefault says whether p is the one that Default returns.
func IsDefault(p Policy) bool { return p == Default() }

type scored struct{}

func (scored) Name() string { return "default" }

func (scored) Rank(t Turn) []int64 {
	return score.Rank(t.scores, t.turn)
}

func (scored) Explain(t Turn) [][]*berthv1.Score {
	scores := make([][]*berthv1.Score, len(t.Nodes))
	for _, c := range score.Columns(t.scores, t.turn) {
		for i := range scores {
			scores[i] = append(scores[i], &berthv1.Score{
				Rule: c.Rule.Name, Raw: c.Raw[i], Normalized: c.Normalized[i], Weight: c.Rule.Weight,
			})
		}
	}
	return scores
}
