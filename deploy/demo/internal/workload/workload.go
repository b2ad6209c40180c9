// Package workload makes the nodes and pods that the demo schedules, and says
// of each pod what must become of it.
package workload

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// GPU is the resource that GPUs are counted in.
	GPU corev1.ResourceName = "nvidia.com/gpu"
	// ModelLabel is the node label that names the model of a node's GPUs.
	ModelLabel = "nvidia.com/gpu.product"

	// image is never pulled by simulated kubelets, and small for real ones.
	image = "registry.k8s.io/pause:3.10"

	// kubeletAnnotation marks the nodes whose kubelet is simulated.
	kubeletAnnotation = "kwok.x-k8s.io/node"
)

// A Workload is what one run creates: first all nodes, then the pods in order.
type Workload struct {
	// Nodes is empty where the cluster has nodes of its own.
	Nodes []*corev1.Node
	Pods  []Pod
}

// A Pod is an object to create and what must become of it. Names are unique
// within a workload; the namespace is left to the caller.
type Pod struct {
	Object *corev1.Pod
	Want   Want
}

// Want says what must become of a pod. The zero value accepts both outcomes.
type Want struct {
	Fit Fit
	// Message is what the message of the PodScheduled condition must contain,
	// for CannotFit.
	Message string
}

// Fit says whether a pod has room in the cluster.
type Fit int

const (
	// Unknown: bound and Running, or refused as Unschedulable.
	Unknown Fit = iota
	// Fits: bound and Running, whatever else was placed before.
	Fits
	// CannotFit: refused as Unschedulable by any correct scheduler.
	CannotFit
)

// NewPod returns a pod of one container for the scheduler of the given name.
// Requests of 0 are left out, and GPUs are limits too, as Kubernetes asks of
// extended resources.
func NewPod(scheduler, name string, labels map[string]string, requests corev1.ResourceList) *corev1.Pod {
	resources := corev1.ResourceRequirements{Requests: corev1.ResourceList{}}
	for name, q := range requests {
		if q.IsZero() {
			continue
		}
		resources.Requests[name] = q
		if name == GPU {
			resources.Limits = corev1.ResourceList{GPU: q}
		}
	}
	var noGrace int64
	var noToken bool
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: corev1.PodSpec{
			SchedulerName:                 scheduler,
			TerminationGracePeriodSeconds: &noGrace,
			AutomountServiceAccountToken:  &noToken,
			Containers:                    []corev1.Container{{Name: "main", Image: image, Resources: resources}},
		},
	}
}

// NewNode returns a node whose kubelet is simulated. It is born Ready and with
// every label that the controller manager would add, because each later write
// to it costs the API server as much as its creation. A zone that is empty is
// left out.
func NewNode(name, zone string, capacity corev1.ResourceList) *corev1.Node {
	labels := map[string]string{
		"beta.kubernetes.io/arch": "amd64",
		"beta.kubernetes.io/os":   "linux",
		corev1.LabelArchStable:    "amd64",
		corev1.LabelHostname:      name,
		corev1.LabelOSStable:      "linux",
	}
	if zone != "" {
		labels[corev1.LabelTopologyRegion] = "local"
		labels[corev1.LabelTopologyZone] = zone
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Annotations: map[string]string{kubeletAnnotation: "fake"}},
		Status: corev1.NodeStatus{
			Capacity:    capacity,
			Allocatable: capacity,
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "Simulated"}},
		},
	}
}

// Resources is a list of cpu in thousandths, memory in Mi and whole GPUs.
func Resources(cpuMilli, memoryMi, gpus int64) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(cpuMilli, resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(memoryMi<<20, resource.BinarySI),
		GPU:                   *resource.NewQuantity(gpus, resource.DecimalSI),
	}
}

// Capacity is what a node of so much cpu, memory and GPUs offers, with room for
// pods many pods. Without GPUs the node does not name them.
func Capacity(cpuMilli, memoryMi, gpus, pods int64) corev1.ResourceList {
	list := Resources(cpuMilli, memoryMi, gpus)
	if gpus == 0 {
		delete(list, GPU)
	}
	list[corev1.ResourcePods] = *resource.NewQuantity(pods, resource.DecimalSI)
	list[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(1<<40, resource.BinarySI)
	return list
}

// RequireModel lets p run only on nodes whose GPUs are one of models.
func RequireModel(p *corev1.Pod, models ...string) {
	p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{
					{Key: ModelLabel, Operator: corev1.NodeSelectorOpIn, Values: models},
				},
			}},
		},
	}}
}

// refusal is kube-scheduler's sentence for a pod that each of nodes refused:
// counts[reason] of them for that reason.
func refusal(nodes int, counts map[string]int) string {
	var reasons []string
	for reason, n := range counts {
		reasons = append(reasons, fmt.Sprintf("%d %s", n, reason))
	}
	slices.Sort(reasons)
	return fmt.Sprintf("0/%d nodes are available: %s.", nodes, strings.Join(reasons, ", "))
}
