package snapshot

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	resourcehelper "k8s.io/component-helpers/resource"
)

// setDefaults does what the API server does to a new object, as far as it matters to
// scheduling.
func setDefaults(o object) {
	uid := o.GetName()
	switch o.(type) {
	case *corev1.Node, *corev1.Namespace:
	default:
		if o.GetNamespace() == "" {
			o.SetNamespace(corev1.NamespaceDefault)
		}
		uid = o.GetNamespace() + "/" + uid
	}
	if o.GetUID() == "" {
		o.SetUID(types.UID(uid))
	}
	switch o := o.(type) {
	case *corev1.Node:
		defaultNode(o)
	case *corev1.Namespace:
		defaultNamespace(o)
	case *corev1.Pod:
		defaultPod(o)
	case *corev1.ReplicationController:
		if len(o.Spec.Selector) == 0 && o.Spec.Template != nil {
			o.Spec.Selector = o.Spec.Template.Labels
		}
	}
}

func defaultPod(p *corev1.Pod) {
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
	mergeLabelKeys(p)
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

// mergeLabelKeys puts matchLabelKeys and mismatchLabelKeys of affinities to pods into
// their selectors, with the values that the pod has.
func mergeLabelKeys(p *corev1.Pod) {
	if p.Spec.Affinity == nil {
		return
	}
	if a := p.Spec.Affinity.PodAffinity; a != nil {
		mergeTerms(a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution, p.Labels)
	}
	if a := p.Spec.Affinity.PodAntiAffinity; a != nil {
		mergeTerms(a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution, p.Labels)
	}
}

func mergeTerms(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm, labels map[string]string) {
	for i := range required {
		mergeTerm(&required[i], labels)
	}
	for i := range preferred {
		mergeTerm(&preferred[i].PodAffinityTerm, labels)
	}
}

func mergeTerm(t *corev1.PodAffinityTerm, labels map[string]string) {
	if t.LabelSelector == nil {
		return
	}
	for _, merge := range []struct {
		keys     []string
		operator metav1.LabelSelectorOperator
	}{{t.MatchLabelKeys, metav1.LabelSelectorOpIn}, {t.MismatchLabelKeys, metav1.LabelSelectorOpNotIn}} {
		for _, key := range merge.keys {
			if value, ok := labels[key]; ok {
				t.LabelSelector.MatchExpressions = append(t.LabelSelector.MatchExpressions,
					metav1.LabelSelectorRequirement{Key: key, Operator: merge.operator, Values: []string{value}})
			}
		}
	}
}

func defaultNode(n *corev1.Node) {
	if len(n.Status.Allocatable) == 0 {
		n.Status.Allocatable = n.Status.Capacity
	}
}

func defaultNamespace(n *corev1.Namespace) {
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	n.Labels[corev1.LabelMetadataName] = n.Name
}
