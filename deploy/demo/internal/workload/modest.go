package workload

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// What each pod asks for that is meant to fit a cluster which is in use.
const (
	modestCPU    = 10 // thousandths of a cpu
	modestMemory = 16 // Mi
)

// Modest returns a workload for a cluster that is in use: at most pods many
// pods, no more than half of the room that nodes have beside the pods that are
// placed already, and an eighth of it pods that cannot fit anywhere. Its pods
// satisfy the restricted Pod Security Standard. It fails if there is no room.
//
// That every other pod fits holds for as long as others leave half of the room.
func Modest(scheduler string, nodes []*corev1.Node, placed []*corev1.Pod, pods int) (Workload, error) {
	usedCPU, usedMemory, used := map[string]int64{}, map[string]int64{}, map[string]int64{}
	for _, p := range placed {
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		cpu, memory := requests(p)
		usedCPU[p.Spec.NodeName] += cpu
		usedMemory[p.Spec.NodeName] += memory
		used[p.Spec.NodeName]++
	}
	var room, largest int64
	for _, n := range nodes {
		allocatable := n.Status.Allocatable
		largest = max(largest, allocatable.Cpu().MilliValue())
		if !Usable(n) {
			continue
		}
		room += max(0, min(
			(allocatable.Cpu().MilliValue()-usedCPU[n.Name])/modestCPU,
			(allocatable.Memory().Value()-usedMemory[n.Name])/(modestMemory<<20),
			allocatable.Pods().Value()-used[n.Name],
		))
	}
	if room/2 < 1 {
		return Workload{}, fmt.Errorf("none of the cluster's %d nodes has room for two pods of %dm cpu and %dMi memory: free or untaint a node", len(nodes), modestCPU, modestMemory)
	}

	impossible := max(3, (pods+7)/8)
	fitting := min(pods-impossible, int(room/2))
	if fitting < 1 {
		return Workload{}, fmt.Errorf("%d pods are too few: three of them cannot fit, so ask for at least 4", pods)
	}
	impossible = min(impossible, max(3, (fitting+6)/7))

	var w Workload
	add := func(want Want, name, kind string, requests corev1.ResourceList) *corev1.Pod {
		p := NewPod(scheduler, name, map[string]string{"kind": kind, "app.kubernetes.io/part-of": "berth-demo"}, requests)
		restrict(p)
		w.Pods = append(w.Pods, Pod{p, want})
		return p
	}
	// Nodes come and go in a cluster in use, so messages are compared without
	// their numbers.
	for i := range fitting {
		add(Want{Fit: Fits}, fmt.Sprintf("service-%05d", i), "service", Resources(modestCPU, modestMemory, 0))
	}
	for i := range impossible {
		switch i % 3 {
		case 0:
			add(Want{CannotFit, insufficientCPU}, fmt.Sprintf("too-big-%05d", i), "impossible", Resources(2*largest+1000, 0, 0))
		case 1:
			p := add(Want{CannotFit, noMatch}, fmt.Sprintf("no-such-node-%05d", i), "impossible", Resources(modestCPU, modestMemory, 0))
			p.Spec.NodeSelector = map[string]string{"berth-demo.example/no-such-label": "true"}
		case 2:
			add(Want{CannotFit, insufficientGPU}, fmt.Sprintf("too-many-gpus-%05d", i), "impossible", Resources(0, 0, 1000))
		}
	}
	return w, nil
}

// Usable says whether a pod without tolerations may be placed on n: it is Ready,
// not cordoned, and has no taint that repels pods.
func Usable(n *corev1.Node) bool {
	if n.Spec.Unschedulable {
		return false
	}
	for _, t := range n.Spec.Taints {
		if t.Effect != corev1.TaintEffectPreferNoSchedule {
			return false
		}
	}
	return Ready(n)
}

// Ready says whether n's kubelet, simulated or not, reports that it is ready.
func Ready(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// requests are p's requests of cpu, in thousandths, and memory, in bytes. Init
// containers count in full beside the others, which is more than they take.
func requests(p *corev1.Pod) (cpu, memory int64) {
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for _, c := range list {
			cpu += c.Resources.Requests.Cpu().MilliValue()
			memory += c.Resources.Requests.Memory().Value()
		}
	}
	return cpu + p.Spec.Overhead.Cpu().MilliValue(), memory + p.Spec.Overhead.Memory().Value()
}

// restrict gives p what the restricted Pod Security Standard asks for.
func restrict(p *corev1.Pod) {
	yes, no, user := true, false, int64(65535)
	p.Spec.SecurityContext = &corev1.PodSecurityContext{
		RunAsNonRoot:   &yes,
		RunAsUser:      &user,
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
		AllowPrivilegeEscalation: &no,
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
}
