// Package guard looks at a decision once more before it is bound: it refuses a
// node that the kubelet would not admit the pod to, or that a cordon or a taint
// keeps the pod from.
//
// It reads Kubernetes' own objects, never the messages that the decider saw, so
// that a fault in either is caught by the other. It accepts every node that
// kube-scheduler's rules accept, but for extended resources under a name that a
// device class claims for itself, which it cannot know. It is no substitute for
// deciding: it knows neither other nodes nor rules between pods.
package guard

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	resourcehelper "k8s.io/component-helpers/resource"
	schedulinghelper "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// A Refusal says why a pod must not be bound to a node.
type Refusal struct {
	// Reason is one of the Reason constants, for metrics.
	Reason string
	// Message is one sentence for people.
	Message string
}

// The reasons, in the order in which they are looked for.
const (
	ReasonNodeName  = "node-name"
	ReasonCordoned  = "cordoned"
	ReasonTaint     = "taint"
	ReasonAffinity  = "affinity"
	ReasonPorts     = "ports"
	ReasonResources = "resources"
)

// Check says why the pod must not be bound to the node, on which onNode is taken
// already; nil if it may. onNode must not count the pod itself. Nothing is changed
// and nothing is kept; any number of goroutines may call it.
func Check(pod *corev1.Pod, node *corev1.Node, onNode Usage) *Refusal {
	if name := pod.Spec.NodeName; name != "" && name != node.Name {
		return refuse(ReasonNodeName, "the pod names node %s as its own", name)
	}
	if node.Spec.Unschedulable && !tolerated(pod, &cordon) {
		return refuse(ReasonCordoned, "the node is cordoned")
	}
	for i := range node.Spec.Taints {
		taint := &node.Spec.Taints[i]
		if keepsOut(taint.Effect) && !tolerated(pod, taint) {
			return refuse(ReasonTaint, "the pod does not tolerate the node's taint %s", taint.ToString())
		}
	}
	// kube-scheduler, too, takes a term that cannot be parsed as one that does not
	// match.
	if match, _ := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node); !match {
		return refuse(ReasonAffinity, "the node does not match the pod's node selector and affinity")
	}
	for _, port := range hostPorts(pod) {
		if onNode.taken(port) {
			return refuse(ReasonPorts, "port %s is taken on the node", port)
		}
	}
	return checkResources(pod, node, onNode)
}

func checkResources(pod *corev1.Pod, node *corev1.Node, onNode Usage) *Refusal {
	if allowed := node.Status.Allocatable.Pods().Value(); int64(onNode.Pods) >= allowed {
		return refuse(ReasonResources, "the node has %d pods and takes %d", onNode.Pods, allowed)
	}
	requests := amounts(podRequests(pod, resourcehelper.PodResourcesOptions{}))
	// In name order, so that equal faults have equal messages.
	for _, name := range slices.Sorted(maps.Keys(requests)) {
		allocatable, offered := node.Status.Allocatable[corev1.ResourceName(name)]
		if !offered && strings.HasPrefix(name, resourcev1.ResourceDeviceClassPrefix) {
			continue // devices are allocated by claim, whatever the node offers
		}
		want, used, capacity := requests[name], onNode.Requested[name], amount(name, allocatable)
		if want > 0 && want > capacity-used {
			return refuse(ReasonResources, "the pod wants %d of %s; the node has %d, of which %d is taken", want, name, capacity, used)
		}
	}
	return nil
}

func refuse(reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// cordon is what a pod must tolerate to be placed on a cordoned node, whether or
// not the node carries that taint.
var cordon = corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}

func keepsOut(effect corev1.TaintEffect) bool {
	return effect == corev1.TaintEffectNoSchedule || effect == corev1.TaintEffectNoExecute
}

// tolerated lets Lt and Gt count: where the cluster has not turned them on, its API
// server accepts no pod that uses them.
func tolerated(pod *corev1.Pod, taint *corev1.Taint) bool {
	return schedulinghelper.TolerationsTolerateTaint(klog.Logger{}, pod.Spec.Tolerations, taint, true)
}
