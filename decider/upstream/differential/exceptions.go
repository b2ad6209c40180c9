package main

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Exception is a known difference between kube-scheduler and Berth.
type Exception struct {
	// Name is that of its story in testdata/exceptions.
	Name string
	// Reason says why the difference stays.
	Reason string
	// Applies says whether the difference that c shows is this one. It is as narrow
	// as it can be.
	Applies func(c *Case, d *Difference) bool
}

// exceptions are all known differences.
var exceptions = []Exception{
	{
		Name: "port-held-twice",
		Reason: "kube-scheduler keeps a node's ports as a set: to its preemption, a port that two pods hold is free once one of them is " +
			"evicted. Berth counts them. Only pods that no scheduler placed, such as static ones, hold a port twice.",
		Applies: func(c *Case, d *Difference) bool {
			return c.Preempt && strings.Contains(d.Kind+d.Want+d.Got, "preemption") && holdsPortTwice(c)
		},
	},
	{
		Name: "conflicting-terms-not-found",
		Reason: "after a PreFilter that rejects the pod, kube-scheduler's DynamicResources finds no state of its own, its error \"not found\" ends " +
			"the PostFilters, and nobody looks at preemption. Berth says that preemption is not helpful.",
		Applies: func(c *Case, d *Difference) bool {
			return c.Preempt && c.Pending[d.Pod].Spec.Affinity != nil &&
				strings.HasPrefix(d.Kind, "berth") && strings.Contains(d.Kind, ": rejection.") && strings.HasSuffix(d.Want, "not found")
		},
	},
	{
		Name: "unreadable-preference",
		Reason: "validation lets preferred node affinity pass that no label can meet. kube-scheduler tries such a pod for ever, with an error of its " +
			"own, unless a single node is left. Berth refuses it and names the field.",
		Applies: func(c *Case, d *Difference) bool {
			return (d.Kind == schedulerError || d.Kind == "berth: outcome") &&
				strings.HasPrefix(d.Got, berthv1.Outcome_OUTCOME_INVALID.String()+" (pods["+strconv.Itoa(d.Pod)+"].node_affinity.preferred[") &&
				unreadablePreference(c.Pending[d.Pod])
		},
	},
}

// unreadablePreference says whether kube-scheduler cannot read p's preferred node
// affinity.
func unreadablePreference(p *corev1.Pod) bool {
	if p.Spec.Affinity == nil || p.Spec.Affinity.NodeAffinity == nil {
		return false
	}
	_, err := nodeaffinity.NewPreferredSchedulingTerms(p.Spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	return err != nil
}

// holdsPortTwice says whether two pods on one node hold the same port.
func holdsPortTwice(c *Case) bool {
	type key struct {
		node, ip string
		protocol corev1.Protocol
		port     int32
	}
	seen := map[key]bool{}
	for _, p := range c.Placed {
		for _, container := range append(p.Spec.InitContainers[:len(p.Spec.InitContainers):len(p.Spec.InitContainers)], p.Spec.Containers...) {
			for _, port := range container.Ports {
				if port.HostPort == 0 {
					continue
				}
				k := key{p.Spec.NodeName, port.HostIP, port.Protocol, port.HostPort}
				if k.ip == "" {
					k.ip = "0.0.0.0"
				}
				if seen[k] {
					return true
				}
				seen[k] = true
			}
		}
	}
	return false
}

// exceptionOf is the known difference that d is, or nil.
func exceptionOf(c *Case, d *Difference) *Exception {
	for i := range exceptions {
		if exceptions[i].Applies(c, d) {
			return &exceptions[i]
		}
	}
	return nil
}
