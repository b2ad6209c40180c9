// Package workload makes the nodes and the endless stream of pods of a run.
package workload

import (
	"fmt"
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Namespace is where all pods are, Scheduler who they are for.
const (
	Namespace = "berth-chaos"
	Scheduler = "berth"
)

// GroupLabel names the group of a pod.
const GroupLabel = "group"

// NodeCPU is what a node has, in millicores.
const NodeCPU = 16000

const (
	diskLabel = "disk"      // of every node
	taintKey  = "dedicated" // of every tenth
	zones     = 3
)

// The priority classes. Pods that others are placed by are steady: were one of them
// evicted a moment before another is bound, the other would be in the wrong place, and
// nobody could have known.
const (
	low     = "berth-chaos-low"
	mid     = "berth-chaos-mid"
	high    = "berth-chaos-high"
	patient = "berth-chaos-patient" // as high, and evicts nobody
	steady  = "berth-chaos-steady"
)

var priorities = map[string]int32{low: 100, mid: 1000, high: 10000, patient: 10000, steady: 100000}

// Classes are the priority classes that the pods need.
func Classes() []*schedulingv1.PriorityClass {
	var classes []*schedulingv1.PriorityClass
	for _, name := range []string{low, mid, high, patient, steady} {
		c := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: priorities[name]}
		if name == patient {
			never := corev1.PreemptNever
			c.PreemptionPolicy = &never
		}
		classes = append(classes, c)
	}
	return classes
}

// Nodes are n simulated nodes in three zones, some with slow disks and some for those
// who tolerate their taint.
func Nodes(n int) []*corev1.Node {
	var nodes []*corev1.Node
	for i := range n {
		name := fmt.Sprintf("node-%05d", i)
		capacity := corev1.ResourceList{
			corev1.ResourceCPU:              *resource.NewMilliQuantity(NodeCPU, resource.DecimalSI),
			corev1.ResourceMemory:           resource.MustParse("64Gi"),
			corev1.ResourceEphemeralStorage: resource.MustParse("1Ti"),
			corev1.ResourcePods:             resource.MustParse("110"),
		}
		disk := "ssd"
		if i%4 == 3 {
			disk = "hdd"
		}
		node := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{
				Name:        name,
				Annotations: map[string]string{"kwok.x-k8s.io/node": "fake"},
				Labels: map[string]string{
					corev1.LabelHostname: name, corev1.LabelTopologyZone: fmt.Sprintf("zone-%d", i%zones), diskLabel: disk,
					corev1.LabelArchStable: "amd64", corev1.LabelOSStable: "linux",
					"beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux",
				},
			},
			Status: corev1.NodeStatus{
				Capacity: capacity, Allocatable: capacity,
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "Simulated"}},
			},
		}
		if i%10 == 9 {
			node.Spec.Taints = []corev1.Taint{{Key: taintKey, Value: "batch", Effect: corev1.TaintEffectNoSchedule}}
		}
		nodes = append(nodes, node)
	}
	return nodes
}

// A Group is pods that are created together.
type Group struct {
	Name string
	Pods []*corev1.Pod
	// Budget protects them; nil if none does. It has to be there first.
	Budget *policyv1.PodDisruptionBudget
	// Whole is whether its pods may only go all at once, and only while none of them
	// waits for a node: the place of some depends on where others are.
	Whole bool
}

// A Stream is where groups come from. One goroutine uses it.
type Stream struct {
	random *rand.Rand
	groups int
	pods   int
}

// NewStream returns a stream; equal seeds have equal streams.
func NewStream(seed uint64) *Stream { return &Stream{random: rand.New(rand.NewPCG(seed, 2))} }

// Next returns the next group.
func (s *Stream) Next() Group {
	s.groups++
	g := Group{Name: fmt.Sprintf("g-%05d", s.groups)}
	switch n := s.random.IntN(100); {
	case n < 70:
		s.single(&g)
	case n < 78:
		s.apart(&g)
	case n < 86:
		s.spread(&g)
	case n < 94:
		s.near(&g)
	default:
		s.guarded(&g)
	}
	return g
}

// single is one pod of any size and priority, with a wish about nodes or none. One in
// a hundred fits on no node.
func (s *Stream) single(g *Group) {
	p := s.pod(g, one(s.random, low, low, low, low, low, low, mid, mid, high, patient), one[int64](s.random, 100, 250, 500, 500, 1000, 2000))
	switch n := s.random.IntN(100); {
	case n < 1:
		p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = *resource.NewMilliQuantity(NodeCPU+1000, resource.DecimalSI)
	case n < 20:
		wanted := corev1.NodeSelectorRequirement{Key: diskLabel, Operator: corev1.NodeSelectorOpIn, Values: []string{one(s.random, "ssd", "ssd", "hdd")}}
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{wanted}}}}}}
	case n < 40:
		p.Spec.Tolerations = []corev1.Toleration{{Key: taintKey, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}
	}
}

// apart is pods of which no two may be on one node.
func (s *Stream) apart(g *Group) {
	class, cpu := one(s.random, low, mid), one[int64](s.random, 250, 500)
	for range 3 + s.random.IntN(5) {
		p := s.pod(g, class, cpu)
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: corev1.LabelHostname, LabelSelector: selects(g)}}}}
	}
}

// spread is pods of which no zone may have more than one more than another.
func (s *Stream) spread(g *Group) {
	g.Whole = true
	cpu := one[int64](s.random, 250, 500)
	for range 4 + s.random.IntN(6) {
		p := s.pod(g, steady, cpu)
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone,
			WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: selects(g)}}
	}
}

// near is a pod and others that have to be in its zone.
func (s *Stream) near(g *Group) {
	g.Whole = true
	const role = "role"
	anchor := s.pod(g, steady, 250)
	anchor.Labels[role] = "anchor"
	class := one(s.random, low, mid, high)
	for range 2 + s.random.IntN(4) {
		p := s.pod(g, class, 500)
		at := selects(g)
		at.MatchLabels[role] = "anchor"
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: corev1.LabelTopologyZone, LabelSelector: at}}}}
	}
}

// guarded is pods with a budget that allows one of them to be disrupted.
func (s *Stream) guarded(g *Group) {
	n := 3 + s.random.IntN(3)
	for range n {
		s.pod(g, low, 500)
	}
	available := intstr.FromInt(n - 1)
	g.Budget = &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: g.Name},
		Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: &available, Selector: selects(g)}}
}

func selects(g *Group) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{GroupLabel: g.Name}}
}

// pod adds a pod to the group.
func (s *Stream) pod(g *Group, class string, cpu int64) *corev1.Pod {
	s.pods++
	var noGrace int64
	var noToken bool
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: fmt.Sprintf("p-%06d", s.pods), Labels: map[string]string{GroupLabel: g.Name}},
		Spec: corev1.PodSpec{
			SchedulerName:                 Scheduler,
			PriorityClassName:             class,
			TerminationGracePeriodSeconds: &noGrace,
			AutomountServiceAccountToken:  &noToken,
			Containers: []corev1.Container{{Name: "main", Image: "registry.k8s.io/pause:3.10", Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{
					corev1.ResourceCPU:    *resource.NewMilliQuantity(cpu, resource.DecimalSI),
					corev1.ResourceMemory: *resource.NewQuantity(cpu<<20, resource.BinarySI),
				}}}},
		},
	}
	g.Pods = append(g.Pods, p)
	return p
}

// CPU is what a pod asks for, in millicores.
func CPU(p *corev1.Pod) int64 {
	return p.Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
}

// Priority is what the API server gives the pod by its class.
func Priority(p *corev1.Pod) int32 { return priorities[p.Spec.PriorityClassName] }

func one[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }
