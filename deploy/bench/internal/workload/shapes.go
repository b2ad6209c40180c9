package workload

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	appLabel   = "app"
	colorLabel = "color"
	// fitsNowhere stands for the node of a pod that is too big for all.
	fitsNowhere = -1
	// Classes is how many kinds of pods the workload "mixed" has.
	Classes = 50
	// sets is how many StatefulSets the pods of "statefulset" look like.
	sets = 10
)

// All returns every workload, the simplest first.
func All() []Workload {
	return []Workload{
		{Name: "equal", Description: "all pods alike, without constraints", Pods: 10000, pod: equal},
		{Name: "mixed", Description: "50 classes in turn: ten sizes, each without constraint, with a node selector, a toleration, required and preferred node affinity", Pods: 3000, pod: mixed},
		{Name: "node-affinity", Description: "required node affinity to two of three zones", Pods: 3000, pod: nodeAffinity},
		{Name: "hard-spread", Description: "topology spread over zones, maxSkew 5, DoNotSchedule", Pods: 3000, pod: spread(corev1.DoNotSchedule)},
		{Name: "soft-spread", Description: "topology spread over zones, maxSkew 5, ScheduleAnyway", Pods: 3000, pod: spread(corev1.ScheduleAnyway)},
		{Name: "default-spread", Description: "pods of one Service: the default spread over nodes and zones", Pods: 3000, pod: ofService, services: []string{"web"}},
		{Name: "anti-affinity", Description: "required anti-affinity to each other by hostname", Pods: 3000, pod: antiAffinity},
		{Name: "pod-affinity", Description: "required affinity to each other by zone", Pods: 3000, pod: podAffinity},
		{Name: "preferred", Description: "half with preferred affinity to each other by hostname, half with preferred anti-affinity", Pods: 3000, pod: preferred},
		{Name: "half-too-big", Description: "every second pod asks for more CPU than any node has", Pods: 3000, pod: halfTooBig},
		{Name: "churn", Description: "pods alike, while other pods, Services and nodes come and go", Pods: 3000, Churn: true, pod: equal},
		{Name: "daemonset", Description: "each pod for one node by its name, as a DaemonSet's", Pods: 3000, pod: daemonSet},
		{Name: "statefulset", Description: "pods of ten StatefulSets with a Service each, all with labels of their own", Pods: 3000, pod: statefulSet, services: setNames()},
		{Name: "trickle", Description: "pods alike, 50 a second while the scheduler runs", Pods: 1000, Rate: 50, pod: equal},
		{Name: "what-if", Description: "as trickle, while a client asks the decider twice a second what if there were 1,000 more nodes", Pods: 1000, Rate: 50, Questions: 2, Baseline: "trickle", pod: equal},
		{Name: "restart", Description: "pods alike, on a cluster where each node has ten pods of 50 classes when the scheduler starts", Pods: 100, PlacedPerNode: 10, pod: equal},
	}
}

// Find returns the workload of a name.
func Find(name string) (Workload, error) {
	all := All()
	i := slices.IndexFunc(all, func(w Workload) bool { return w.Name == name })
	if i < 0 {
		var names []string
		for _, w := range all {
			names = append(names, w.Name)
		}
		return Workload{}, fmt.Errorf("no workload %q: there are %s", name, strings.Join(names, ", "))
	}
	return all[i], nil
}

func equal(_ *corev1.Pod, i, nodes int) int { return i % nodes }

// mixed makes the classes differ in what is asked for and by which rule.
func mixed(p *corev1.Pod, i, nodes int) int {
	class := i % Classes
	size, kind := int64(class%10), class/10
	p.Labels[appLabel] = fmt.Sprintf("class-%02d", class)
	p.Spec.Containers[0].Resources.Requests = requests(40+20*size, 100+100*size)
	switch kind {
	case 1:
		p.Spec.NodeSelector = map[string]string{corev1.LabelTopologyZone: zones[size%3]}
		return inZone(i, int(size%3), nodes)
	case 2:
		p.Spec.Tolerations = []corev1.Toleration{{Key: "dedicated", Value: p.Labels[appLabel], Effect: corev1.TaintEffectNoSchedule}}
	case 3:
		p.Spec.Affinity = requiredZones(zones[size%3], zones[(size+1)%3])
		return inZone(i, int(size%3), nodes)
	case 4:
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{
				{Weight: int32(1 + size), Preference: inZones(zones[size%3])},
			},
		}}
	}
	return i % nodes
}

func nodeAffinity(p *corev1.Pod, i, nodes int) int {
	p.Spec.Affinity = requiredZones(zones[0], zones[1])
	return inZone(i/2, i%2, nodes)
}

func spread(unsatisfiable corev1.UnsatisfiableConstraintAction) func(*corev1.Pod, int, int) int {
	return func(p *corev1.Pod, i, nodes int) int {
		p.Labels[colorLabel] = "blue"
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew:           5,
			TopologyKey:       corev1.LabelTopologyZone,
			WhenUnsatisfiable: unsatisfiable,
			LabelSelector:     &metav1.LabelSelector{MatchLabels: map[string]string{colorLabel: "blue"}},
		}}
		return inZone(i/len(zones), i%len(zones), nodes)
	}
}

func ofService(p *corev1.Pod, i, nodes int) int {
	p.Labels[appLabel] = "web"
	return i % nodes
}

func antiAffinity(p *corev1.Pod, i, nodes int) int {
	p.Labels[colorLabel] = "green"
	p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{near("green", corev1.LabelHostname)},
	}}
	return i % nodes
}

func podAffinity(p *corev1.Pod, i, nodes int) int {
	p.Labels[colorLabel] = "blue"
	p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{near("blue", corev1.LabelTopologyZone)},
	}}
	return inZone(i, 0, nodes)
}

func preferred(p *corev1.Pod, i, nodes int) int {
	if i%2 == 0 {
		p.Labels[colorLabel] = "red"
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{
				{Weight: 1, PodAffinityTerm: near("red", corev1.LabelHostname)},
			},
		}}
	} else {
		p.Labels[colorLabel] = "yellow"
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{
				{Weight: 1, PodAffinityTerm: near("yellow", corev1.LabelHostname)},
			},
		}}
	}
	return i % nodes
}

func halfTooBig(p *corev1.Pod, i, nodes int) int {
	if i%2 == 0 {
		return i % nodes
	}
	tooBig(p)
	return fitsNowhere
}

// tooBig makes p ask for more CPU than a node has.
func tooBig(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = requests(9000, 500) }

// daemonSet gives p the affinity that the DaemonSet controller gives its pods,
// and their tolerations of what concerns readiness.
func daemonSet(p *corev1.Pod, i, nodes int) int {
	p.Labels[appLabel] = "agent"
	p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchFields: []corev1.NodeSelectorRequirement{
					{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{nodeName(i % nodes)}},
				},
			}},
		},
	}}
	p.Spec.Tolerations = []corev1.Toleration{
		{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
		{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
		{Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
	}
	return i % nodes
}

// statefulSet gives p the labels that the StatefulSet controller gives its pods.
func statefulSet(p *corev1.Pod, i, nodes int) int {
	set, index := setNames()[i%sets], i/sets
	p.Labels[appLabel] = set
	p.Labels["apps.kubernetes.io/pod-index"] = strconv.Itoa(index)
	p.Labels["statefulset.kubernetes.io/pod-name"] = fmt.Sprintf("%s-%d", set, index)
	return i % nodes
}

func setNames() []string {
	names := make([]string, sets)
	for i := range names {
		names[i] = fmt.Sprintf("store-%d", i)
	}
	return names
}

// inZone is the i-th node of a zone, counted round and round.
func inZone(i, zone, nodes int) int {
	members := (nodes - zone + len(zones) - 1) / len(zones)
	return zone + len(zones)*(i%members)
}

// near is the term of pods of a color, seen from within one topology domain.
func near(color, topologyKey string) corev1.PodAffinityTerm {
	return corev1.PodAffinityTerm{
		TopologyKey:   topologyKey,
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{colorLabel: color}},
	}
}

func requiredZones(zones ...string) *corev1.Affinity {
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{inZones(zones...)},
		},
	}}
}

func inZones(zones ...string) corev1.NodeSelectorTerm {
	return corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{
		{Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: zones},
	}}
}
