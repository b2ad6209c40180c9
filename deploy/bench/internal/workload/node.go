package workload

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MinNodes is the least number of nodes that workloads are made for.
const MinNodes = 3

// zones are taken in turn by the nodes.
var zones = []string{"zone-a", "zone-b", "zone-c"}

// Nodes returns n nodes as scheduler_perf's: 4 CPUs, 32Gi, 110 pods, in turn in
// three zones. They are born Ready and with the labels that a kubelet and the
// controller manager would give them, since neither exists.
func Nodes(n int) []*corev1.Node {
	nodes := make([]*corev1.Node, n)
	for i := range nodes {
		nodes[i] = newNode(nodeName(i), zones[i%len(zones)])
	}
	return nodes
}

func nodeName(i int) string { return fmt.Sprintf("node-%05d", i) }

func newNode(name, zone string) *corev1.Node {
	capacity := requests(4000, 32<<10)
	capacity[corev1.ResourcePods] = *resource.NewQuantity(110, resource.DecimalSI)
	capacity[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(100<<30, resource.BinarySI)
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			Labels: map[string]string{
				corev1.LabelArchStable:     "amd64",
				corev1.LabelHostname:       name,
				corev1.LabelOSStable:       "linux",
				corev1.LabelTopologyRegion: "local",
				corev1.LabelTopologyZone:   zone,
			},
		},
		Status: corev1.NodeStatus{
			Capacity:    capacity,
			Allocatable: capacity,
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "Simulated"}},
		},
	}
}

// requests is a list of cpu in thousandths and memory in Mi.
func requests(cpuMilli, memoryMi int64) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(cpuMilli, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(memoryMi<<20, resource.BinarySI),
	}
}
