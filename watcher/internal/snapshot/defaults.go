package snapshot

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	resourcehelper "k8s.io/component-helpers/resource"
)

// defaultPod does what the API server does to a new pod, as far as it matters to
// scheduling.
func defaultPod(p *corev1.Pod) {
	if p.Namespace == "" {
		p.Namespace = corev1.NamespaceDefault
	}
	if p.UID == "" {
		p.UID = types.UID(p.Namespace + "/" + p.Name)
	}
	s := &p.Spec
	if s.SchedulerName == "" {
		s.SchedulerName = corev1.DefaultSchedulerName
	}
	for _, containers := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range containers {
			defaultContainer(&containers[i], s.HostNetwork)
		}
	}
	defaultPodRequests(p)
	for i := range s.Tolerations {
		if s.Tolerations[i].Operator == "" {
			s.Tolerations[i].Operator = corev1.TolerationOpEqual
		}
	}
	for i := range s.Volumes {
		if s.Volumes[i].VolumeSource == (corev1.VolumeSource{}) {
			s.Volumes[i].EmptyDir = &corev1.EmptyDirVolumeSource{}
		}
	}
}

func defaultContainer(c *corev1.Container, hostNetwork bool) {
	c.Resources.Requests = requestsFromLimits(c.Resources.Requests, c.Resources.Limits)
	for i := range c.Ports {
		port := &c.Ports[i]
		if port.Protocol == "" {
			port.Protocol = corev1.ProtocolTCP
		}
		if hostNetwork && port.HostPort == 0 {
			port.HostPort = port.ContainerPort
		}
	}
}

// requestsFromLimits is requests with the limits for what it does not have.
func requestsFromLimits(requests, limits corev1.ResourceList) corev1.ResourceList {
	if len(limits) == 0 {
		return requests
	}
	out := maps.Clone(limits)
	maps.Copy(out, requests)
	return out
}

// defaultPodRequests fills in requests of the pod as a whole, if it has limits of
// its own: from its containers, and from its limits where no container asks.
func defaultPodRequests(p *corev1.Pod) {
	r := p.Spec.Resources
	if r == nil || len(r.Limits) == 0 {
		return
	}
	requests := corev1.ResourceList{}
	for name, limit := range r.Limits {
		if resourcehelper.IsSupportedPodLevelResource(name) {
			requests[name] = limit
		}
	}
	for name, sum := range resourcehelper.AggregateContainerRequests(p, resourcehelper.PodResourcesOptions{}) {
		// Huge pages are not overcommitted: their limit is their request.
		if name == corev1.ResourceCPU || name == corev1.ResourceMemory {
			requests[name] = sum
		}
	}
	maps.Copy(requests, r.Requests)
	r.Requests = requests
}

func defaultNode(n *corev1.Node) {
	if n.UID == "" {
		n.UID = types.UID(n.Name)
	}
	if len(n.Status.Allocatable) == 0 {
		n.Status.Allocatable = n.Status.Capacity
	}
}

func defaultNamespace(n *corev1.Namespace) {
	if n.UID == "" {
		n.UID = types.UID(n.Name)
	}
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	n.Labels[corev1.LabelMetadataName] = n.Name
}
