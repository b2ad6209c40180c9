package history

import (
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TrimPod returns a new pod with what the judge reads: identity, requests as
// specified and as the kubelet reports them, host ports, labels, selectors,
// what it requires of other pods and of their spread, tolerations, gates, phase and the PodScheduled and resize conditions.
func TrimPod(p *corev1.Pod) *corev1.Pod {
	meta := trimMeta(&p.ObjectMeta)
	meta.Labels = p.Labels
	out := &corev1.Pod{
		ObjectMeta: meta,
		Spec: corev1.PodSpec{
			NodeName:        p.Spec.NodeName,
			SchedulerName:   p.Spec.SchedulerName,
			NodeSelector:    p.Spec.NodeSelector,
			Tolerations:     p.Spec.Tolerations,
			SchedulingGates: p.Spec.SchedulingGates,
			Overhead:        p.Spec.Overhead,
			Resources:       p.Spec.Resources,
			InitContainers:  trimContainers(p.Spec.InitContainers),
			Containers:      trimContainers(p.Spec.Containers),
		},
		Status: corev1.PodStatus{
			Phase:                 p.Status.Phase,
			ContainerStatuses:     trimStatuses(p.Status.ContainerStatuses),
			InitContainerStatuses: trimStatuses(p.Status.InitContainerStatuses),
			AllocatedResources:    p.Status.AllocatedResources,
			Resources:             p.Status.Resources,
		},
	}
	if a := p.Spec.Affinity; a != nil {
		out.Spec.Affinity = trimAffinity(a)
	}
	for _, c := range p.Spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable == corev1.DoNotSchedule {
			out.Spec.TopologySpreadConstraints = append(out.Spec.TopologySpreadConstraints, c)
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled || c.Type == corev1.PodResizePending {
			out.Status.Conditions = append(out.Status.Conditions, corev1.PodCondition{
				Type: c.Type, Status: c.Status, Reason: c.Reason, Message: c.Message,
			})
		}
	}
	return out
}

// trimAffinity returns what a requires, nil if that is nothing.
func trimAffinity(a *corev1.Affinity) *corev1.Affinity {
	out := &corev1.Affinity{}
	if a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		out.NodeAffinity = &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution,
		}
	}
	if a.PodAffinity != nil && len(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 {
		out.PodAffinity = &corev1.PodAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution,
		}
	}
	if a.PodAntiAffinity != nil && len(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 {
		out.PodAntiAffinity = &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution,
		}
	}
	if *out == (corev1.Affinity{}) {
		return nil
	}
	return out
}

func trimContainers(cs []corev1.Container) []corev1.Container {
	var out []corev1.Container
	for _, c := range cs {
		t := corev1.Container{Name: c.Name, Resources: c.Resources, RestartPolicy: c.RestartPolicy}
		for _, p := range c.Ports {
			if p.HostPort != 0 {
				t.Ports = append(t.Ports, p)
			}
		}
		out = append(out, t)
	}
	return out
}

// trimStatuses keeps only statuses that report resources: the others do not
// change what a pod requests.
func trimStatuses(cs []corev1.ContainerStatus) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for _, c := range cs {
		if c.Resources != nil || c.AllocatedResources != nil {
			out = append(out, corev1.ContainerStatus{
				Name: c.Name, Resources: c.Resources, AllocatedResources: c.AllocatedResources,
			})
		}
	}
	return out
}

// TrimNode returns a new node with what the judge reads: identity, labels,
// taints, cordon and allocatable resources.
func TrimNode(n *corev1.Node) *corev1.Node {
	meta := trimMeta(&n.ObjectMeta)
	meta.Labels = n.Labels
	return &corev1.Node{
		ObjectMeta: meta,
		Spec:       corev1.NodeSpec{Unschedulable: n.Spec.Unschedulable, Taints: n.Spec.Taints},
		Status:     corev1.NodeStatus{Allocatable: n.Status.Allocatable},
	}
}

// TrimLease returns a new lease with its holder and when that became the
// holder; renewals are left out.
func TrimLease(l *coordinationv1.Lease) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: trimMeta(&l.ObjectMeta),
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity:   l.Spec.HolderIdentity,
			AcquireTime:      l.Spec.AcquireTime,
			LeaseTransitions: l.Spec.LeaseTransitions,
		},
	}
}

// TrimNamespace returns a new namespace with its name and labels.
func TrimNamespace(n *corev1.Namespace) *corev1.Namespace {
	meta := trimMeta(&n.ObjectMeta)
	meta.Labels = n.Labels
	return &corev1.Namespace{ObjectMeta: meta}
}

func trimMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID,
		ResourceVersion: m.ResourceVersion, DeletionTimestamp: m.DeletionTimestamp,
	}
}
