package score

import (
	"math"
	"strings"

	"github.com/berth-scheduler/berth/decider/internal/model"
)

// demand is a resource that a rule looks at, in one pod's turn.
type demand struct {
	resource model.Resource
	// asked is how much of it the pod asks for.
	asked int64
	// weight is the resource's in the mean.
	weight int64
}

// demands returns what is looked at for the pod of t, in the order of resources.
// asked is how much the pod asks for. Resources that kube-scheduler passes over for
// every node are not in it: those that no node offers and, other than cpu, memory
// and ephemeral storage, those that the pod does not ask for.
func demands(t *model.Turn, resources []Resource, asked func(name string) int64) []demand {
	found := make([]demand, 0, len(resources))
	for _, r := range resources {
		d := demand{asked: asked(r.Name), weight: r.Weight}
		switch r.Name {
		case "cpu":
			d.resource = model.CPU
		case "memory":
			d.resource = model.Memory
		case "ephemeral-storage":
			d.resource = model.EphemeralStorage
		default:
			number, ok := t.Snapshot.Resource(r.Name)
			if !ok || d.asked == 0 || !isScalar(r.Name) {
				continue
			}
			d.resource = number
		}
		found = append(found, d)
	}
	return found
}

// isScalar says whether kube-scheduler counts a resource, other than the ones that
// every cluster has, on nodes (util.IsScalarResourceName).
func isScalar(name string) bool {
	return strings.HasPrefix(name, "hugepages-") || strings.HasPrefix(name, "attachable-volumes-") ||
		strings.Contains(name, "kubernetes.io/") ||
		strings.Contains(name, "/") && !strings.HasPrefix(name, "requests.")
}

// resourcesFit likes nodes by how much of their resources would be taken with the
// pod on them. cpu and memory are counted as scores count them, everything else as
// the filter does.
func resourcesFit(strategy Strategy) func(*model.Turn) Scorer {
	mean := strategy.mean()
	return func(t *model.Turn) Scorer {
		demands := demands(t, strategy.Resources, t.Pod.ScoreRequest)
		return Scorer{Score: func(n *model.Node) int64 { return mean(demands, n) }}
	}
}

// taken is how much of the demand's resource is taken on n with the pod on it.
func (d *demand) taken(n *model.Node) int64 {
	if int(d.resource) < len(n.ScoreRequested) {
		return add(n.ScoreRequested[d.resource], d.asked)
	}
	return add(n.Requested.Of(d.resource), d.asked)
}

// mean returns the strategy's score of a node by what is demanded.
func (s *Strategy) mean() func([]demand, *model.Node) int64 {
	switch s.Type {
	case MostAllocated:
		return mostAllocated
	case RequestedToCapacityRatio:
		shape := s.Shape
		return func(demands []demand, n *model.Node) int64 { return byShape(shape, demands, n) }
	default:
		return leastAllocated
	}
}

// leastAllocated is the weighted mean of the shares that stay free, leaving out what
// the node has none of.
func leastAllocated(demands []demand, n *model.Node) int64 {
	var score, weight int64
	for i := range demands {
		d := &demands[i]
		capacity := n.Allocatable.Of(d.resource)
		if capacity == 0 {
			continue
		}
		if taken := d.taken(n); taken <= capacity {
			score += share(capacity-taken, capacity) * d.weight
		}
		weight += d.weight
	}
	if weight == 0 {
		return 0
	}
	return score / weight
}

// mostAllocated is the weighted mean of the shares that are taken.
func mostAllocated(demands []demand, n *model.Node) int64 {
	var score, weight int64
	for i := range demands {
		d := &demands[i]
		capacity := n.Allocatable.Of(d.resource)
		if capacity == 0 {
			continue
		}
		score += share(min(d.taken(n), capacity), capacity) * d.weight
		weight += d.weight
	}
	if weight == 0 {
		return 0
	}
	return score / weight
}

// byShape is the weighted mean, rounded, of what shape says of the shares that are
// taken. What it gives nothing for does not count in the mean.
func byShape(shape []Point, demands []demand, n *model.Node) int64 {
	var score, weight int64
	for i := range demands {
		d := &demands[i]
		capacity := n.Allocatable.Of(d.resource)
		if capacity == 0 {
			continue
		}
		if s := at(shape, share(min(d.taken(n), capacity), capacity)); s > 0 {
			score += s * d.weight
			weight += d.weight
		}
	}
	if weight == 0 {
		return 0
	}
	return int64(math.Round(float64(score) / float64(weight)))
}

// at returns the score that shape gives to a utilization: linear between points and
// level beyond the first and the last.
func at(shape []Point, utilization int64) int64 {
	const scale = Max / 10 // a point's score is 0 to 10
	for i, p := range shape {
		if utilization > p.Utilization {
			continue
		}
		if i == 0 {
			return p.Score * scale
		}
		before := shape[i-1]
		rise := (p.Score - before.Score) * scale
		return before.Score*scale + rise*(utilization-before.Utilization)/(p.Utilization-before.Utilization)
	}
	return shape[len(shape)-1].Score * scale
}
