package score

import (
	"fmt"
	"math"

	"github.com/berth-scheduler/berth/decider/internal/model"
)

// Args are the arguments of the rules that take some. Every field means what it
// says, its zero value too; DefaultArgs returns kube-scheduler's.
type Args struct {
	// AddedPreferred are preferred terms that every pod of the profile has besides
	// its own, for NodeAffinity (addedAffinity).
	AddedPreferred []model.WeightedTerm
	// Fit is how NodeResourcesFit likes nodes.
	Fit Strategy
	// Balanced are the names of the resources that NodeResourcesBalancedAllocation
	// compares.
	Balanced []string
	// DefaultSpread are the constraints of pods without spread constraints of their
	// own, for PodTopologySpread; their selector is the pod's SpreadSelector. Those
	// that are Hard are not looked at.
	DefaultSpread []model.SpreadConstraint
	// SystemDefaulted is set if DefaultSpread are Kubernetes' own (defaultingType
	// System). Nodes without one of the topology keys are scored by the others
	// then.
	SystemDefaulted bool
	// HardPodAffinityWeight is what a placed pod's required affinity to the pod
	// weighs for InterPodAffinity: 0 to 100; 0 leaves it out.
	HardPodAffinityWeight int64
	// IgnorePreferredTermsOfExistingPods lets InterPodAffinity have no preference
	// about pods without preferred terms of their own.
	IgnorePreferredTermsOfExistingPods bool
	// Signals are what NodeSignals looks at.
	Signals []Signal
}

// Strategy is how NodeResourcesFit likes nodes (scoringStrategy).
type Strategy struct {
	// Type is one of the constants below.
	Type StrategyType
	// Resources are what is looked at.
	Resources []Resource
	// Shape is the function of RequestedToCapacityRatio from utilization to score,
	// linear between points, in ascending order of utilization; at least one. The
	// other types do without.
	Shape []Point
}

// StrategyType is kube-scheduler's name of a strategy.
type StrategyType string

const (
	// LeastAllocated likes nodes of which the largest share stays free.
	LeastAllocated StrategyType = "LeastAllocated"
	// MostAllocated likes nodes of which the largest share is taken.
	MostAllocated StrategyType = "MostAllocated"
	// RequestedToCapacityRatio likes nodes as Shape says.
	RequestedToCapacityRatio StrategyType = "RequestedToCapacityRatio"
)

// Resource is a resource that a strategy looks at.
type Resource struct {
	// Name is the resource's, such as "cpu".
	Name string
	// Weight is the resource's in the mean: 1 to 100.
	Weight int64
}

// Point is a point of a function from utilization to score.
type Point struct {
	// Utilization is in percent: 0 to 100.
	Utilization int64
	// Score is as configuration files have it: 0 to 10, a tenth of what a rule's
	// score is.
	Score int64
}

// Signal is a number about nodes (Node.signals of the contract) that NodeSignals
// looks at.
type Signal struct {
	// Name is the signal's.
	Name string
	// Weight is the signal's in the mean: 1 to 100.
	Weight int64
	// HigherIsBetter is set if high values are liked, rather than low ones.
	HigherIsBetter bool
}

// DefaultArgs returns kube-scheduler's arguments, and no signals.
func DefaultArgs() Args {
	return Args{
		Fit:      Strategy{Type: LeastAllocated, Resources: []Resource{{"cpu", 1}, {"memory", 1}}},
		Balanced: []string{"cpu", "memory"},
		DefaultSpread: []model.SpreadConstraint{
			{MaxSkew: 3, TopologyKey: hostname, MinDomains: 1, HonorAffinity: true},
			{MaxSkew: 5, TopologyKey: "topology.kubernetes.io/zone", MinDomains: 1, HonorAffinity: true},
		},
		SystemDefaulted:       true,
		HardPodAffinityWeight: 1,
	}
}

// hostname is the label whose value is different on every node.
const hostname = "kubernetes.io/hostname"

// maxWeight is the highest weight of a term, a resource or a signal.
const maxWeight = 100

// check says which argument has no meaning, so that no rule has to look again.
func (a *Args) check() error {
	switch a.Fit.Type {
	case LeastAllocated, MostAllocated:
	case RequestedToCapacityRatio:
		if len(a.Fit.Shape) == 0 {
			return fmt.Errorf("NodeResourcesFit: %s needs a shape", a.Fit.Type)
		}
	default:
		return fmt.Errorf("NodeResourcesFit: %q is not a strategy; there are %s, %s and %s",
			a.Fit.Type, LeastAllocated, MostAllocated, RequestedToCapacityRatio)
	}
	before := int64(-1)
	for i, point := range a.Fit.Shape {
		switch {
		case point.Utilization <= before || point.Utilization > 100:
			return fmt.Errorf("NodeResourcesFit: shape[%d].utilization is %d; it must be 0 to 100 and more than the one before", i, point.Utilization)
		case point.Score < 0 || point.Score > 10:
			return fmt.Errorf("NodeResourcesFit: shape[%d].score is %d; it must be 0 to 10", i, point.Score)
		}
		before = point.Utilization
	}
	for _, r := range a.Fit.Resources {
		if r.Weight < 1 || r.Weight > maxWeight {
			return fmt.Errorf("NodeResourcesFit: the weight of %q is %d; it must be 1 to %d", r.Name, r.Weight, maxWeight)
		}
	}
	for _, s := range a.Signals {
		if s.Weight < 1 || s.Weight > maxWeight {
			return fmt.Errorf("NodeSignals: the weight of %q is %d; it must be 1 to %d", s.Name, s.Weight, maxWeight)
		}
	}
	if w := a.HardPodAffinityWeight; w < 0 || w > maxWeight {
		return fmt.Errorf("InterPodAffinity: the weight of required affinity is %d; it must be 0 to %d", w, maxWeight)
	}
	return nil
}

// checkWeight says whether a rule can have this weight.
func checkWeight(w Weight) error {
	if w.Weight < 1 || w.Weight > math.MaxInt32 {
		return fmt.Errorf("the weight of %s is %d; it must be 1 to %d", w.Name, w.Weight, math.MaxInt32)
	}
	return nil
}
