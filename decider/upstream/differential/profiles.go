package main

import (
	"k8s.io/apimachinery/pkg/runtime"
	schedconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	_ "k8s.io/kubernetes/pkg/scheduler/apis/config/latest" // adds the defaults to the scheme
	"k8s.io/kubernetes/pkg/scheduler/apis/config/scheme"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/validation"
)

// profiles is the scheduler configuration of every case: one profile for each way
// to configure the rules, chosen by a pod's schedulerName.
const profiles = `
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
percentageOfNodesToScore: 100
profiles:
- schedulerName: default-scheduler
  pluginConfig:
  - {name: DefaultPreemption, args: {minCandidateNodesPercentage: 100}}
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
        resources: [{name: cpu, weight: 1}, {name: memory, weight: 2}, {name: example.com/foo, weight: 3}]
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
        resources: [{name: cpu, weight: 2}, {name: ephemeral-storage, weight: 1}, {name: hugepages-2Mi, weight: 4}]
  - name: NodeResourcesBalancedAllocation
    args: {resources: [{name: cpu, weight: 1}, {name: memory, weight: 1}, {name: example.com/gpu, weight: 1}]}
- schedulerName: ignored-resources
  pluginConfig:
  - name: NodeResourcesFit
    args: {ignoredResources: [example.com/foo], ignoredResourceGroups: [example.org]}
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
`

// profileNames are the schedulerNames in profiles.
var profileNames = []string{
	"default-scheduler", "most-allocated", "requested-to-capacity", "least-allocated", "ignored-resources", "added-affinity",
	"list-spreading", "no-default-spreading", "own-terms-only", "other-plugins",
}

// profile is mostly that of the case.
func (g *generator) profile() string {
	if g.percent(85) {
		return g.mostly
	}
	return pick(g, profileNames...)
}

// favour draws the profile of most pods and gives a case that is not about the default
// one something for its arguments to decide.
func (g *generator) favour() {
	g.mostly = profileNames[0]
	if g.percent(60) {
		return
	}
	g.mostly = pick(g, profileNames...)
	t := &g.themes
	likely := func(theme *bool) { *theme = *theme || g.percent(70) }
	switch g.mostly {
	case "most-allocated", "own-terms-only":
		likely(&t.podAffinity)
	case "requested-to-capacity", "ignored-resources":
		likely(&t.extended)
	case "least-allocated":
		likely(&t.extended)
		t.tight, t.preempt = t.tight && g.percent(40), t.preempt && g.percent(40)
	case "list-spreading":
		likely(&t.defaultSpread)
		t.spread = t.spread && g.percent(30)
	case "no-default-spreading":
		likely(&t.defaultSpread)
	case "other-plugins":
		likely(&t.ports)
		likely(&t.taints)
	}
}

// loadProfiles reads the profiles of a scheduler configuration as kube-scheduler does.
func loadProfiles(configuration string) ([]schedconfig.KubeSchedulerProfile, error) {
	loaded := &schedconfig.KubeSchedulerConfiguration{}
	if err := runtime.DecodeInto(scheme.Codecs.UniversalDecoder(), []byte(configuration), loaded); err != nil {
		return nil, err
	}
	if err := validation.ValidateKubeSchedulerConfiguration(loaded); err != nil {
		return nil, err
	}
	return loaded.Profiles, nil
}
