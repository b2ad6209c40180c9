package workload

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// ChurnLabel is a label of the nodes that come and go.
const ChurnLabel = "churn"

// A Turn is what one turn of a churn creates, and deletes some turns later.
type Turn struct {
	// Pods are one that fits and one that is too big for any node.
	Pods    []*corev1.Pod
	Service *corev1.Service
	// Node has a taint that nobody tolerates: a pod that is bound to it would
	// be on a node that goes away a moment later.
	Node *corev1.Node
}

// NewTurn returns the i-th turn, counted from 0. Its names are its own.
func NewTurn(i int, scheduler string) Turn {
	name := func(kind string) string { return fmt.Sprintf("churn-%s-%05d", kind, i) }
	t := Turn{
		Pods:    []*corev1.Pod{newPod(name("small"), scheduler), newPod(name("big"), scheduler)},
		Service: service(name("service")),
		Node:    newNode(name("node"), zones[i%len(zones)]),
	}
	tooBig(t.Pods[1])
	t.Node.Labels[ChurnLabel] = ""
	t.Node.Spec.Taints = []corev1.Taint{{Key: "churn", Effect: corev1.TaintEffectNoSchedule}}
	return t
}
