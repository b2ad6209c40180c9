package encode

import (
	"maps"
	"math"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// What a container without a request counts as in scores: kube-scheduler's
// DefaultMilliCPURequest and DefaultMemoryRequest.
var (
	defaultCPU    = *resource.NewMilliQuantity(100, resource.DecimalSI)
	defaultMemory = *resource.NewQuantity(200*1024*1024, resource.DecimalSI)
)

// scoreDefaults has both. It is never changed.
var scoreDefaults = corev1.ResourceList{corev1.ResourceCPU: defaultCPU, corev1.ResourceMemory: defaultMemory}

// pendingRequests is what kube-scheduler's NodeResourcesFit filter counts for a
// pod that wants a node.
func pendingRequests(p *corev1.Pod) corev1.ResourceList {
	return podRequests(p, resourcehelper.PodResourcesOptions{})
}

// pendingScoreRequests is what its scorer counts for that pod. The scorer passes
// over requests of the pod as a whole, which its filter and its accounting of
// placed pods do not; scores are the same as kube-scheduler's only if this does
// too.
func pendingScoreRequests(p *corev1.Pod) corev1.ResourceList {
	return podRequests(p, resourcehelper.PodResourcesOptions{
		SkipPodLevelResources:       true,
		NonMissingContainerRequests: scoreDefaults,
	})
}

// placedOptions count a pod that has a node: while it is being resized, the
// larger of what it has and what it asks for.
var placedOptions = resourcehelper.PodResourcesOptions{
	UseStatusResources: true,
	InPlacePodLevelResourcesVerticalScalingEnabled: true,
}

// placedRequests is what kube-scheduler's cache counts for a pod that has a node.
func placedRequests(p *corev1.Pod) corev1.ResourceList {
	return podRequests(p, placedOptions)
}

// placedScoreRequests is what kube-scheduler's cache counts in scores for a pod
// that has a node. Where the pod as a whole has requests, only resources that
// nobody asks for get a default.
func placedScoreRequests(p *corev1.Pod) corev1.ResourceList {
	opts := placedOptions
	opts.NonMissingContainerRequests = scoreDefaults
	if resourcehelper.IsPodLevelRequestsSet(p) {
		opts.NonMissingContainerRequests = maps.Clone(scoreDefaults)
		for name := range placedRequests(p) {
			delete(opts.NonMissingContainerRequests, name)
		}
	}
	return podRequests(p, opts)
}

// podRequests is resourcehelper.PodRequests; the list is not to be changed. A pod that
// is one container and nothing else, as most are, requests what the container does: no
// list is made for it, which was half of the time that encoding a pod took.
func podRequests(p *corev1.Pod, opts resourcehelper.PodResourcesOptions) corev1.ResourceList {
	if len(p.Spec.Containers) != 1 || len(p.Spec.InitContainers) > 0 || p.Spec.Resources != nil || p.Spec.Overhead != nil ||
		opts.UseStatusResources && len(p.Status.ContainerStatuses) > 0 {
		return resourcehelper.PodRequests(p, opts)
	}
	requests := p.Spec.Containers[0].Resources.Requests
	for name := range opts.NonMissingContainerRequests {
		if _, ok := requests[name]; !ok {
			return resourcehelper.PodRequests(p, opts)
		}
	}
	return requests
}

// requests are the amounts of both lists, in one map if they are equal, as they are
// unless there are defaults in the second.
func requests(filter, score corev1.ResourceList) (forFilter, forScore map[string]int64) {
	forFilter, forScore = amounts(filter), amounts(score)
	if maps.Equal(forFilter, forScore) {
		return forFilter, forFilter
	}
	return forFilter, forScore
}

// allocatable is what the node offers.
func allocatable(n *corev1.Node) map[string]int64 {
	out := amounts(n.Status.Allocatable)
	if pods := amount(*n.Status.Allocatable.Pods(), 0); pods != 0 {
		if out == nil {
			out = map[string]int64{}
		}
		out[string(corev1.ResourcePods)] = pods
	}
	return out
}

// amounts has the resources that kube-scheduler counts, rounded up to whole units;
// nil if there are none. "pods" is not among them: a pod's place is not a request.
func amounts(list corev1.ResourceList) map[string]int64 {
	var out map[string]int64
	for name, quantity := range list {
		var n int64
		switch {
		case name == corev1.ResourceCPU:
			n = amount(quantity, resource.Milli)
		case counted(name):
			n = amount(quantity, 0)
		}
		if n == 0 {
			continue
		}
		if out == nil {
			out = make(map[string]int64, len(list))
		}
		out[string(name)] = n
	}
	return out
}

// amount is the quantity in units of 10^scale, rounded up; the largest int64 if it
// is more. The quantity's own conversions wrap there, or make 0 of it, and a pod
// that asks for too much would pass for one that asks for nothing.
func amount(quantity resource.Quantity, scale resource.Scale) int64 {
	if quantity.Cmp(*resource.NewScaledQuantity(math.MaxInt64, scale)) >= 0 {
		return math.MaxInt64
	}
	return quantity.ScaledValue(scale)
}

// counted says whether kube-scheduler counts a resource other than cpu and pods:
// memory, ephemeral storage, huge pages, attachable volumes, and everything with
// a domain (devices).
func counted(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		return true
	}
	return strings.Contains(string(name), "/") ||
		strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) ||
		strings.HasPrefix(string(name), corev1.ResourceAttachableVolumesPrefix)
}

// hostPorts are the node's ports that the pod takes for as long as it runs: its
// containers' and its sidecars'.
func hostPorts(p *corev1.Pod) []*berthv1.HostPort {
	var out []*berthv1.HostPort
	add := func(ports []corev1.ContainerPort) {
		for i := range ports {
			if ports[i].HostPort > 0 {
				out = append(out, &berthv1.HostPort{
					Protocol: string(ports[i].Protocol),
					Ip:       ports[i].HostIP,
					Port:     ports[i].HostPort,
				})
			}
		}
	}
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(c.Ports)
		}
	}
	for i := range p.Spec.Containers {
		add(p.Spec.Containers[i].Ports)
	}
	return out
}
