package score

import (
	"slices"

	"github.com/berth-scheduler/berth/decider/internal/model"
)

// podAffinity likes nodes near pods that the pod prefers, or that prefer or require
// it, and dislikes nodes near pods that it, or that them, would rather not be near.
// Where no term selects a pod it has no preference.
//
// Terminating pods count until they are gone. required is what a placed pod's
// required affinity to the pod weighs. With onlyOwn, pods without preferred terms of
// their own get no preference.
func podAffinity(required int64, onlyOwn bool) func(*model.Turn) Scorer {
	return func(t *model.Turn) Scorer {
		p, s := t.Pod, t.Snapshot
		own := len(p.Affinity.Preferred)+len(p.Affinity.AntiPreferred) > 0
		if !own && (onlyOwn || s.Affine == 0) {
			return Scorer{}
		}
		a := &attraction{pod: p, snapshot: s, required: required}
		for _, n := range s.Nodes {
			// Without terms of its own, only pods that have some matter.
			pods := n.Affine
			if own {
				pods = n.Pods
			}
			for _, q := range pods {
				a.count(q, n)
			}
		}
		if len(a.topologies) == 0 {
			return Scorer{}
		}
		return Scorer{Score: a.score, Normalize: ScaleAffinity}
	}
}

// attraction is how much nodes attract a pod by the pods near them.
type attraction struct {
	pod      *model.Pod
	snapshot *model.Snapshot
	required int64
	// topologies are in the order in which they were met, which makes no
	// difference to sums.
	topologies []topology
}

// topology is the weight of each value of a topology key.
type topology struct {
	key     string
	weights map[string]int64
}

// count adds what q, on n, means to the pod and the pod to q.
func (a *attraction) count(q *model.PlacedPod, n *model.Node) {
	for i := range a.pod.Affinity.Preferred {
		t := &a.pod.Affinity.Preferred[i]
		if a.snapshot.Selects(&t.PodTerm, q.Labels, q.Namespace) {
			a.add(t.TopologyKey, n, t.Weight)
		}
	}
	for i := range a.pod.Affinity.AntiPreferred {
		t := &a.pod.Affinity.AntiPreferred[i]
		if a.snapshot.Selects(&t.PodTerm, q.Labels, q.Namespace) {
			a.add(t.TopologyKey, n, -t.Weight)
		}
	}
	if a.required > 0 {
		for i := range q.Affinity.Required {
			if t := &q.Affinity.Required[i]; a.selected(t) {
				a.add(t.TopologyKey, n, a.required)
			}
		}
	}
	for i := range q.Affinity.Preferred {
		if t := &q.Affinity.Preferred[i]; a.selected(&t.PodTerm) {
			a.add(t.TopologyKey, n, t.Weight)
		}
	}
	for i := range q.Affinity.AntiPreferred {
		if t := &q.Affinity.AntiPreferred[i]; a.selected(&t.PodTerm) {
			a.add(t.TopologyKey, n, -t.Weight)
		}
	}
}

// selected says whether a placed pod's term selects the pod.
func (a *attraction) selected(t *model.PodTerm) bool {
	return t.Selects(a.pod.Labels, a.pod.Namespace, a.snapshot.Namespaces[a.pod.Namespace])
}

// add adds weight to what is near n, unless n does not carry the key.
func (a *attraction) add(key string, n *model.Node, weight int64) {
	value, ok := n.Labels[key]
	if !ok {
		return
	}
	i := slices.IndexFunc(a.topologies, func(t topology) bool { return t.key == key })
	if i < 0 {
		i = len(a.topologies)
		a.topologies = append(a.topologies, topology{key: key, weights: map[string]int64{}})
	}
	a.topologies[i].weights[value] += weight
}

// score is the sum of the weights of n's values. It may be negative.
func (a *attraction) score(n *model.Node) int64 {
	var score int64
	for i := range a.topologies {
		if value, ok := n.Labels[a.topologies[i].key]; ok {
			score += a.topologies[i].weights[value]
		}
	}
	return score
}

// ScaleAffinity makes the lowest score 0 and the highest Max; where all are equal, 0. The
// operations are kube-scheduler's, in its order, so that rounding is the same.
func ScaleAffinity(scores []int64) {
	lowest, highest := slices.Min(scores), slices.Max(scores)
	for i, score := range scores {
		if highest == lowest {
			scores[i] = 0
			continue
		}
		scores[i] = int64(Max * (float64(score-lowest) / float64(highest-lowest)))
	}
}
