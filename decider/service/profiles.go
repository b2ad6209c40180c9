package service

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/profile"
	"github.com/berth-scheduler/berth/decider/internal/score"
	"github.com/berth-scheduler/berth/decider/internal/solve"
	"github.com/berth-scheduler/berth/decider/policy"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/config"
)

// profiles are how pods are decided, by scheduler name.
type profiles struct {
	byName map[string]*solve.Profile
	// other is for every other scheduler name. Nil means that there is no other.
	other *solve.Profile
}

// newProfiles returns the profiles of a configuration, or kube-scheduler's default
// one for every scheduler name if there are none.
func newProfiles(configured []config.Profile, p policy.Policy) (profiles, error) {
	if len(configured) == 0 {
		return profiles{other: &solve.Profile{Rules: filter.Default(), Ranker: ranker{p, score.Default()}, Preempt: true}}, nil
	}
	all := profiles{byName: map[string]*solve.Profile{}}
	for i := range configured {
		name := configured[i].SchedulerName
		rules, err := profile.New(&configured[i])
		if err != nil {
			return all, fmt.Errorf("service: Config.Profiles[%d]: %w", i, err)
		}
		if all.byName[name] != nil {
			return all, fmt.Errorf("service: Config.Profiles[%d]: %q is the scheduler name of an earlier one", i, name)
		}
		all.byName[name] = &solve.Profile{Rules: rules.Filters, Ranker: ranker{p, rules.Scores}, Preempt: rules.Preempt}
	}
	return all, nil
}

// of returns the profile of a scheduler name, or nil.
func (p *profiles) of(schedulerName string) *solve.Profile {
	if found := p.byName[schedulerName]; found != nil {
		return found
	}
	return p.other
}

// unknown says that there is no profile of a scheduler name.
func (p *profiles) unknown(schedulerName string) *model.FieldError {
	return &model.FieldError{
		Field: "scheduler_name",
		Message: fmt.Sprintf("%q has no profile in this decider's configuration; there are %s",
			schedulerName, strings.Join(slices.Sorted(maps.Keys(p.byName)), ", ")),
	}
}

// ranker shows a policy the solver's turns.
type ranker struct {
	policy policy.Policy
	scores []score.Rule
}

func (r ranker) Rank(t *model.Turn) []int64 {
	scores := r.policy.Rank(policy.NewTurn(t, r.scores))
	if len(scores) != len(t.Feasible) {
		panic(fmt.Sprintf("policy %q returned %d scores for %d nodes", r.policy.Name(), len(scores), len(t.Feasible)))
	}
	return scores
}

// Scores implements index.Scored.
func (r ranker) Scores() ([]score.Rule, bool) { return r.scores, policy.IsDefault(r.policy) }

func (r ranker) Explain(t *model.Turn) [][]*berthv1.Score {
	explainer, ok := r.policy.(policy.Explainer)
	if !ok {
		return nil
	}
	return explainer.Explain(policy.NewTurn(t, r.scores))
}

// unreadState names the parts of the state that no profile reads. Whoever brings a
// policy or a solver of their own may read all of a node.
func (s *Service) unreadState() []string {
	if s.config.Solver != nil {
		return nil
	}
	all := slices.Collect(maps.Values(s.profiles.byName))
	if s.profiles.other != nil {
		all = append(all, s.profiles.other)
	}
	read := map[string]bool{}
	for _, p := range all {
		read["disruption_budgets"] = read["disruption_budgets"] || p.Preempt
		for _, rule := range p.Rules {
			read["nodes.declared_features"] = read["nodes.declared_features"] || rule.Name == "NodeDeclaredFeatures"
		}
		if scores, counted := p.Ranker.(ranker).Scores(); counted {
			for _, rule := range scores {
				read["nodes.images"] = read["nodes.images"] || rule.Name == "ImageLocality"
				read["nodes.signals"] = read["nodes.signals"] || rule.Name == "NodeSignals"
			}
		}
	}
	var unread []string
	for _, part := range []string{"disruption_budgets", "nodes.conditions", "nodes.declared_features", "nodes.images", "nodes.signals"} {
		if !read[part] && (part == "disruption_budgets" || policy.IsBuiltin(s.config.Policy)) {
			unread = append(unread, part)
		}
	}
	return unread
}
