package score

import "github.com/berth-scheduler/berth/decider/internal/model"

// nodeAffinity likes nodes that match preferred terms of much weight: the pod's own
// and those added to every pod of the profile. Without any it has no preference.
func nodeAffinity(added []model.WeightedTerm) func(*model.Turn) Scorer {
	return func(t *model.Turn) Scorer {
		own := t.Pod.PreferredNodes
		if len(own)+len(added) == 0 {
			return Scorer{}
		}
		return Scorer{
			Score:     func(n *model.Node) int64 { return matched(added, n) + matched(own, n) },
			Normalize: func(scores []int64) { normalize(scores, false) },
		}
	}
}

// matched is the weight of the terms that match n.
func matched(terms []model.WeightedTerm, n *model.Node) int64 {
	var weight int64
	for i := range terms {
		if terms[i].Matches(n) {
			weight += terms[i].Weight
		}
	}
	return weight
}
