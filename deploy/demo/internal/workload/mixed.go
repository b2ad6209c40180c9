package workload

import (
	"fmt"
	"math/rand/v2"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// The smallest sizes that hold every kind of node and of pod.
const (
	MinNodes = 6  // a general node in each zone, a node of each GPU model
	MinPods  = 10 // three of them impossible
)

// kube-scheduler's reasons for which pods of the workload cannot fit.
const (
	untoleratedTaint = "node(s) had untolerated taint(s)"
	noMatch          = "node(s) didn't match Pod's node affinity/selector"
	insufficientCPU  = "Insufficient cpu"
	insufficientGPU  = "Insufficient nvidia.com/gpu"
)

// A slot is the most that one service or batch pod asks for.
const (
	slotCPU    = 1000 // thousandths of a cpu
	slotMemory = 2048 // Mi
)

// GPU nodes have this taint, and GPU jobs tolerate it.
const gpuTaint = "nvidia.com/gpu"

// models of the GPU nodes, gpus on each node, and perJob, what each job of that
// model asks for: it divides gpus, so that jobs of one model cannot leave GPUs
// that are free and of no use.
var models = []struct {
	name         string
	gpus, perJob int64
}{{"T4", 4, 1}, {"L4", 4, 1}, {"A100", 8, 4}}

// gpuJobs are the models that the i-th GPU job accepts, in turn. For one node of
// each model, one turn fills at most what the nodes have, the job that accepts
// two models being counted against both: T4 4 of 4, L4 4 of 4, A100 2 of 2.
var gpuJobs = [][]int{{0}, {1}, {2}, {0}, {1}, {0, 1}, {0}, {1}, {2}}

var zones = []string{"zone-a", "zone-b", "zone-c"}

// Mixed returns a workload of services, batch jobs, GPU jobs and, an eighth of
// it, pods that cannot fit for one of three reasons. The same numbers give the
// same workload.
//
// Every other pod fits wherever a correct scheduler put the ones before it:
// no service or batch pod asks for more than a slot, and each of the nodes it
// may use has so many slots that all pods which may use those nodes would not
// fill them; GPU jobs do the same with GPUs, see gpuJobs.
func Mixed(scheduler string, nodes, pods int) (Workload, error) {
	if nodes < MinNodes {
		return Workload{}, fmt.Errorf("%d nodes are too few: the mixed workload needs at least %d", nodes, MinNodes)
	}
	if pods < MinPods {
		return Workload{}, fmt.Errorf("%d pods are too few: the mixed workload needs at least %d", pods, MinPods)
	}
	perModel := max(1, nodes/10)
	m := mixed{
		scheduler: scheduler,
		random:    rand.New(rand.NewPCG(1, 2)),
		gpuNodes:  perModel * len(models),
	}
	m.generalNodes = nodes - m.gpuNodes

	impossible := max(3, (pods+7)/8)
	gpu := min(pods*3/20, perModel*len(gpuJobs))
	general := pods - impossible - gpu
	m.services(general * 3 / 5)
	m.batch(general - general*3/5)
	slots := m.slots() // of the pods so far
	m.gpu(gpu)
	m.impossible(impossible, slots)
	m.random.Shuffle(len(m.pods), func(i, j int) { m.pods[i], m.pods[j] = m.pods[j], m.pods[i] })
	return Workload{Nodes: m.nodes(slots, perModel), Pods: m.pods}, nil
}

// mixed is a mixed workload in the making.
type mixed struct {
	scheduler    string
	random       *rand.Rand
	generalNodes int
	gpuNodes     int
	pods         []Pod
}

// add appends a pod and returns it to be completed.
func (m *mixed) add(want Want, name string, labels map[string]string, requests corev1.ResourceList) *corev1.Pod {
	labels["app.kubernetes.io/part-of"] = "berth-demo"
	p := NewPod(m.scheduler, name, labels, requests)
	m.pods = append(m.pods, Pod{Object: p, Want: want})
	return p
}

// partOfSlot draws requests of at most a slot, in quarters of it.
func (m *mixed) partOfSlot() corev1.ResourceList {
	return Resources(slotCPU/4*(1+m.random.Int64N(4)), slotMemory/4*(1+m.random.Int64N(4)), 0)
}

// services adds n pods of services with 3 to 8 equal replicas. The first has a
// host port and therefore at most one replica on a node; every third of the
// others stays in one zone.
func (m *mixed) services(n int) {
	for service := 0; n > 0; service++ {
		replicas := min(n, 3+m.random.IntN(6))
		if service == 0 {
			replicas = min(n, max(1, m.generalNodes/3))
		}
		n -= replicas
		requests := m.partOfSlot()
		for r := range replicas {
			app := fmt.Sprintf("service-%03d", service)
			p := m.add(Want{Fit: Fits}, fmt.Sprintf("%s-%04d", app, r), map[string]string{"app": app, "kind": "service"}, requests)
			switch {
			case service == 0:
				p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 8080, HostPort: 8080, Protocol: corev1.ProtocolTCP}}
			case service%3 == 0:
				p.Spec.NodeSelector = map[string]string{corev1.LabelTopologyZone: zones[service/3%len(zones)]}
			}
		}
	}
}

// batch adds n batch pods, each in one zone, where its data is.
func (m *mixed) batch(n int) {
	for i := range n {
		p := m.add(Want{Fit: Fits}, fmt.Sprintf("batch-%05d", i), map[string]string{"kind": "batch"}, m.partOfSlot())
		p.Spec.NodeSelector = map[string]string{corev1.LabelTopologyZone: zones[i%len(zones)]}
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
	}
}

// gpu adds n GPU jobs.
func (m *mixed) gpu(n int) {
	for i := range n {
		accepted := gpuJobs[i%len(gpuJobs)]
		var names []string
		for _, a := range accepted {
			names = append(names, models[a].name)
		}
		gpus := models[accepted[0]].perJob
		p := m.add(Want{Fit: Fits}, fmt.Sprintf("gpu-job-%05d", i), map[string]string{"kind": "gpu"}, Resources(4000*gpus, 8192*gpus, gpus))
		RequireModel(p, names...)
		tolerateGPU(p)
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
	}
}

func tolerateGPU(p *corev1.Pod) {
	p.Spec.Tolerations = []corev1.Toleration{{Key: gpuTaint, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}
}

// impossible adds n pods that no node can take, for three reasons in turn. They
// ask for nothing but what cannot be had, so that the reason does not depend on
// what else is placed.
func (m *mixed) impossible(n, slots int) {
	nodes := m.generalNodes + m.gpuNodes
	labels := func() map[string]string { return map[string]string{"kind": "impossible"} }
	for i := range n {
		switch i % 3 {
		case 0:
			want := Want{CannotFit, refusal(nodes, map[string]int{insufficientCPU: m.generalNodes, untoleratedTaint: m.gpuNodes})}
			m.add(want, fmt.Sprintf("too-big-%05d", i), labels(), Resources(int64(slots+1)*slotCPU, 0, 0))
		case 1:
			want := Want{CannotFit, refusal(nodes, map[string]int{noMatch: nodes})}
			p := m.add(want, fmt.Sprintf("no-such-model-%05d", i), labels(), Resources(0, 0, 1))
			RequireModel(p, "H100")
			tolerateGPU(p)
		case 2:
			want := Want{CannotFit, refusal(nodes, map[string]int{insufficientGPU: m.generalNodes, untoleratedTaint: m.gpuNodes})}
			m.add(want, fmt.Sprintf("no-toleration-%05d", i), labels(), Resources(0, 0, 1))
		}
	}
}

// slots returns how many slots each general node must have for m.pods, which
// are service and batch pods alone. For each pod, the nodes that it may use need
// a slot for every pod that may use one of them.
func (m *mixed) slots() int {
	inZone := map[string]int{} // pods by the zone they are bound to, "" for none
	holders := 0               // of the host port
	for _, p := range m.pods {
		inZone[p.Object.Spec.NodeSelector[corev1.LabelTopologyZone]]++
		if len(p.Object.Spec.Containers[0].Ports) > 0 {
			holders++
		}
	}
	// A pod with the host port may use the nodes that the other holders leave.
	slots := ceil(len(m.pods), m.generalNodes-max(0, holders-1))
	for z, zone := range zones {
		usable := (m.generalNodes + len(zones) - 1 - z) / len(zones) // nodes of this zone, see nodes
		slots = max(slots, ceil(inZone[""]+inZone[zone], usable))
	}
	return slots
}

func ceil(a, b int) int { return (a + b - 1) / b }

// nodes returns general nodes of the given number of slots, in turn in the
// zones, and perModel GPU nodes of each model.
func (m *mixed) nodes(slots, perModel int) []*corev1.Node {
	var nodes []*corev1.Node
	for i := range m.generalNodes {
		// More room for pods than quarters of slots, so that even a full node
		// refuses the pods that cannot fit for the expected reason alone.
		capacity := Capacity(int64(slots)*slotCPU, int64(slots)*slotMemory, 0, int64(max(110, 4*slots+1)))
		nodes = append(nodes, NewNode(fmt.Sprintf("general-%04d", i), zones[i%len(zones)], capacity))
	}
	for _, model := range models {
		for i := range perModel {
			name := fmt.Sprintf("gpu-%s-%04d", strings.ToLower(model.name), i)
			n := NewNode(name, zones[i%len(zones)], Capacity(4000*model.gpus, 8192*model.gpus, model.gpus, 110))
			n.Labels[ModelLabel] = model.name
			n.Spec.Taints = []corev1.Taint{{Key: gpuTaint, Value: "present", Effect: corev1.TaintEffectNoSchedule}}
			nodes = append(nodes, n)
		}
	}
	return nodes
}
