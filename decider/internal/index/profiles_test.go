package index_test

import (
	"hash/fnv"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/profile"
	"github.com/berth-scheduler/berth/decider/internal/score"
	"github.com/berth-scheduler/berth/decider/internal/solve"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/config"
)

// configuration has one profile for each way to configure the rules. A pod chooses
// its own by its scheduler name.
const configuration = `
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: default
- schedulerName: most-allocated
  pluginConfig:
  - name: NodeResourcesFit
    args:
      scoringStrategy:
        type: MostAllocated
        resources: [{name: cpu, weight: 3}, {name: memory, weight: 1}, {name: example.com/gpu, weight: 5}]
  - name: InterPodAffinity
    args: {hardPodAffinityWeight: 10}
- schedulerName: requested-to-capacity
  pluginConfig:
  - name: NodeResourcesFit
    args:
      scoringStrategy:
        type: RequestedToCapacityRatio
        resources: [{name: cpu, weight: 1}, {name: memory, weight: 2}, {name: example.com/gpu, weight: 3}]
        requestedToCapacityRatio:
          shape: [{utilization: 10, score: 0}, {utilization: 55, score: 7}, {utilization: 90, score: 3}]
  - name: NodeResourcesBalancedAllocation
    args: {resources: [{name: cpu, weight: 1}]}
- schedulerName: least-allocated
  pluginConfig:
  - name: NodeResourcesFit
    args:
      scoringStrategy:
        type: LeastAllocated
        resources: [{name: cpu, weight: 2}, {name: ephemeral-storage, weight: 1}, {name: example.com/gpu, weight: 4}]
  - name: NodeResourcesBalancedAllocation
    args: {resources: [{name: cpu, weight: 1}, {name: memory, weight: 1}, {name: example.com/gpu, weight: 1}]}
- schedulerName: signals
  plugins:
    score:
      enabled:
      - {name: NodeSignals, weight: 4}
  pluginConfig:
  - name: NodeSignals
    args:
      signals:
      - {name: load, weight: 3, better: Lower}
      - {name: power, weight: 1, better: Higher}
- schedulerName: ignored-resources
  pluginConfig:
  - name: NodeResourcesFit
    args: {ignoredResources: [example.com/gpu], ignoredResourceGroups: [example.org]}
- schedulerName: added-affinity
  pluginConfig:
  - name: NodeAffinity
    args:
      addedAffinity:
        requiredDuringSchedulingIgnoredDuringExecution:
          nodeSelectorTerms:
          - matchExpressions: [{key: disk, operator: In, values: [ssd]}]
          - matchFields: [{key: metadata.name, operator: In, values: [n1]}]
        preferredDuringSchedulingIgnoredDuringExecution:
        - {weight: 40, preference: {matchExpressions: [{key: rack, operator: In, values: [r1]}]}}
- schedulerName: list-spreading
  pluginConfig:
  - name: PodTopologySpread
    args:
      defaultingType: List
      defaultConstraints:
      - {maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule}
      - {maxSkew: 2, topologyKey: rack, whenUnsatisfiable: ScheduleAnyway}
- schedulerName: no-default-spreading
  pluginConfig:
  - name: PodTopologySpread
    args: {defaultingType: List}
- schedulerName: own-terms-only
  pluginConfig:
  - name: InterPodAffinity
    args: {hardPodAffinityWeight: 0, ignorePreferredTermsOfExistingPods: true}
- schedulerName: other-order
  plugins:
    filter:
      enabled:
      - {name: InterPodAffinity}
      - {name: PodTopologySpread}
      - {name: NodeResourcesFit}
      - {name: NodeAffinity}
      - {name: TaintToleration}
      disabled:
      - {name: "*"}
- schedulerName: other-plugins
  plugins:
    multiPoint:
      enabled:
      - {name: TaintToleration, weight: 7}
      disabled:
      - {name: ImageLocality}
    filter:
      disabled:
      - {name: NodePorts}
    score:
      enabled:
      - {name: NodeResourcesFit, weight: 9}
      disabled:
      - {name: NodeResourcesFit}
      - {name: InterPodAffinity}
    postFilter:
      disabled:
      - {name: "*"}
- schedulerName: no-scores
  plugins:
    score:
      disabled:
      - {name: "*"}
`

// stranger is the scheduler name of a profile whose ranker is nobody's.
const stranger = "stranger"

// profileNames are the scheduler names that have a profile, the default one first.
var profileNames = append(func() []string {
	var names []string
	for _, p := range read().Profiles {
		names = append(names, p.SchedulerName)
	}
	return names
}(), stranger)

var profiles = func() map[string]*solve.Profile {
	all := map[string]*solve.Profile{
		stranger: {Rules: filter.Default(), Ranker: whims{}, Preempt: true},
	}
	for _, p := range read().Profiles {
		rules, err := profile.New(&p)
		if err != nil {
			panic(err)
		}
		all[p.SchedulerName] = &solve.Profile{Rules: rules.Filters, Ranker: scores(rules.Scores), Preempt: rules.Preempt}
	}
	return all
}()

func read() *config.Configuration {
	c, err := config.Read([]byte(configuration))
	if err != nil {
		panic(err)
	}
	return c
}

// plain decides by profiles.
var plain = &solve.Solver{Profile: func(schedulerName string) *solve.Profile { return profiles[schedulerName] }}

// scores ranks as policy.Default does.
type scores []score.Rule

func (s scores) Scores() ([]score.Rule, bool) { return s, true }

func (s scores) Rank(t *model.Turn) []int64 { return score.Rank(s, t) }

func (s scores) Explain(t *model.Turn) [][]*berthv1.Score {
	out := make([][]*berthv1.Score, len(t.Feasible))
	for _, c := range score.Columns(s, t) {
		for i := range out {
			out[i] = append(out[i], &berthv1.Score{Rule: c.Rule.Name, Raw: c.Raw[i], Normalized: c.Normalized[i], Weight: c.Rule.Weight})
		}
	}
	return out
}

// whims ranks by all that a turn has, for no reason.
type whims struct{}

func (whims) Rank(t *model.Turn) []int64 {
	ranks := make([]int64, len(t.Feasible))
	for i, n := range t.Feasible {
		h := fnv.New32()
		h.Write([]byte(n.Name))
		ranks[i] = int64(h.Sum32()+uint32(t.Index)+uint32(t.Seed)+uint32(len(n.Pods)))%7 - 3
	}
	return ranks
}

func (whims) Explain(*model.Turn) [][]*berthv1.Score { return nil }
