// Package profile turns a profile of the configuration file into rules: the
// plugins that it enables, in its order, with its weights and arguments.
package profile

import (
	"fmt"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/score"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/config"
)

// Profile is how the pods of one scheduler name are decided.
type Profile struct {
	// Filters are the rules that say which nodes can take a pod.
	Filters []filter.Rule
	// Scores are the rules that say which of those are liked.
	Scores []score.Rule
	// Preempt says whether pods may be evicted for a pod that no node takes.
	Preempt bool
}

// refused are the plugins that have no rule here. Whatever needs them carries a
// constraint that no rule honours and is refused by its name, whether they are
// enabled or not; where nothing needs them they neither reject nor prefer.
var refused = map[string]bool{
	"DynamicResources":   true,
	"NodeVolumeLimits":   true,
	"VolumeBinding":      true,
	"VolumeRestrictions": true,
	"VolumeZone":         true,
}

// New returns the rules of p. The error names what in p no configuration that was
// read has: a plugin that there is none of or an argument without meaning.
func New(p *config.Profile) (*Profile, error) {
	out := &Profile{Preempt: p.Preempt}
	var filters []string
	for _, name := range p.Filters {
		if !refused[name] {
			filters = append(filters, name)
		}
	}
	var weights []score.Weight
	for _, s := range p.Scores {
		if !refused[s.Name] {
			weights = append(weights, score.Weight{Name: s.Name, Weight: s.Weight})
		}
	}
	filterArgs, scoreArgs, err := arguments(&p.Args)
	if err != nil {
		return nil, err
	}
	if out.Filters, err = filter.Rules(filters, filterArgs); err != nil {
		return nil, err
	}
	if out.Scores, err = score.Rules(weights, scoreArgs); err != nil {
		return nil, err
	}
	return out, nil
}

// arguments turns the plugins' arguments into those of the rules.
func arguments(args *config.Args) (filter.Args, score.Args, error) {
	filters := filter.Args{
		IgnoredResources:      args.NodeResourcesFit.IgnoredResources,
		IgnoredResourceGroups: args.NodeResourcesFit.IgnoredResourceGroups,
	}
	scores := score.Args{
		Fit:                                strategy(&args.NodeResourcesFit.Strategy),
		SystemDefaulted:                    args.PodTopologySpread.SystemDefaulted,
		HardPodAffinityWeight:              args.InterPodAffinity.HardPodAffinityWeight,
		IgnorePreferredTermsOfExistingPods: args.InterPodAffinity.IgnorePreferredTermsOfExistingPods,
	}
	for _, r := range args.NodeResourcesBalancedAllocation.Resources {
		scores.Balanced = append(scores.Balanced, r.Name)
	}
	for _, s := range args.NodeSignals.Signals {
		scores.Signals = append(scores.Signals, score.Signal{
			Name: s.Name, Weight: s.Weight, HigherIsBetter: s.Better == config.Higher,
		})
	}
	var err error
	if filters.DefaultSpread, err = spread(args.PodTopologySpread.DefaultConstraints); err != nil {
		return filters, scores, err
	}
	scores.DefaultSpread = filters.DefaultSpread
	filters.AddedAffinity, scores.AddedPreferred, err = addedAffinity(args.NodeAffinity.AddedAffinity)
	return filters, scores, err
}

func strategy(s *config.ScoringStrategy) score.Strategy {
	out := score.Strategy{Type: score.StrategyType(s.Type)}
	for _, r := range s.Resources {
		out.Resources = append(out.Resources, score.Resource(r))
	}
	for _, p := range s.Shape {
		out.Shape = append(out.Shape, score.Point(p))
	}
	return out
}

// spread decodes default constraints. Their match label keys mean nothing:
// kube-scheduler puts the selector of the pod's owner in the place of the one that
// they are merged into (podtopologyspread.buildDefaultConstraints).
func spread(records []*berthv1.TopologySpreadConstraint) ([]model.SpreadConstraint, error) {
	var out []model.SpreadConstraint
	for i, record := range records {
		c, err := model.NewSpreadConstraint(record)
		if err != nil {
			return nil, fmt.Errorf("PodTopologySpread: defaultConstraints[%d].%w", i, err)
		}
		out = append(out, c)
	}
	return out, nil
}

// addedAffinity decodes what is required and preferred of nodes for every pod.
func addedAffinity(record *berthv1.NodeAffinity) ([]model.Term, []model.WeightedTerm, error) {
	var required []model.Term
	if record.GetRequired() != nil {
		terms, err := model.NewTerms("required", record.GetRequired())
		if err != nil {
			return nil, nil, fmt.Errorf("NodeAffinity: addedAffinity.%w", err)
		}
		required = terms
	}
	preferred, err := model.NewWeightedTerms("preferred", record.GetPreferred())
	if err != nil {
		return nil, nil, fmt.Errorf("NodeAffinity: addedAffinity.%w", err)
	}
	return required, preferred, nil
}
