package score

import "github.com/berth-scheduler/berth/decider/internal/model"

// taints likes nodes with few PreferNoSchedule taints that the pod does not
// tolerate.
func taints(t *model.Turn) Scorer {
	p := t.Pod
	return Scorer{
		Same: !t.Snapshot.Discouraging,
		Score: func(n *model.Node) int64 {
			var untolerated int64
			for _, taint := range n.Discouraging {
				if !p.Tolerates(taint) {
					untolerated++
				}
			}
			return untolerated
		},
		Normalize: func(scores []int64) { normalize(scores, true) },
	}
}
