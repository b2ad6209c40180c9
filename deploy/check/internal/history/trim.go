package history

import (
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TrimPod returns a new pod with what the judge reads: identity, requests as
// specified and as the kubelet reports them, host ports, selectors,
// tolerations, gates, phase and the PodScheduled and resize conditions.
func TrimPod(p *corev1.Pod) *corev1.Pod {
	out := &corev1.Pod{
		ObjectMeta: trimMeta(&p.ObjectMeta),
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
	if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		if required := a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution; required != nil {
			out.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
				RequiredDuringSchedulingIgnoredDuringExecution: required,
			}}
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

func trimMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID,
		ResourceVersion: m.ResourceVersion, DeletionTimestamp: m.DeletionTimestamp,
	}
}
