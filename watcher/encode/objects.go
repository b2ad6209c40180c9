package encode

import (
	"cmp"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Objects is a cluster as Kubernetes knows it.
type Objects struct {
	Nodes                  []*corev1.Node
	Pods                   []*corev1.Pod
	Namespaces             []*corev1.Namespace
	Services               []*corev1.Service
	ReplicationControllers []*corev1.ReplicationController
	ReplicaSets            []*appsv1.ReplicaSet
	StatefulSets           []*appsv1.StatefulSet
	DisruptionBudgets      []*policyv1.PodDisruptionBudget
}

// Add adds an object; one of another kind is left out.
func (o *Objects) Add(object runtime.Object) {
	switch object := object.(type) {
	case *corev1.Node:
		o.Nodes = append(o.Nodes, object)
	case *corev1.Pod:
		o.Pods = append(o.Pods, object)
	case *corev1.Namespace:
		o.Namespaces = append(o.Namespaces, object)
	case *corev1.Service:
		o.Services = append(o.Services, object)
	case *corev1.ReplicationController:
		o.ReplicationControllers = append(o.ReplicationControllers, object)
	case *appsv1.ReplicaSet:
		o.ReplicaSets = append(o.ReplicaSets, object)
	case *appsv1.StatefulSet:
		o.StatefulSets = append(o.StatefulSets, object)
	case *policyv1.PodDisruptionBudget:
		o.DisruptionBudgets = append(o.DisruptionBudgets, object)
	}
}

// Workloads are those of the objects that pods belong to.
func (o *Objects) Workloads() *Workloads {
	w := &Workloads{}
	for _, s := range o.Services {
		w.Set(s)
	}
	for _, c := range o.ReplicationControllers {
		w.Set(c)
	}
	for _, s := range o.ReplicaSets {
		w.Set(s)
	}
	for _, s := range o.StatefulSets {
		w.Set(s)
	}
	return w
}

// Snapshot is the objects as state, its records sorted by their keys: names of nodes
// and namespaces, namespaces and names of budgets, uids of pods. Pods that neither
// have a node nor are nominated for one, and pods that hold nothing, are left out.
// Epoch and version are the caller's to set.
func (o *Objects) Snapshot() *berthv1.Snapshot {
	out := &berthv1.Snapshot{}
	for _, n := range o.Nodes {
		out.Nodes = append(out.Nodes, Node(n))
	}
	for _, p := range o.Pods {
		if p.Spec.NodeName != "" && Holds(p) {
			out.PlacedPods = append(out.PlacedPods, PlacedPod(p, p.Spec.NodeName))
		} else if nominated := Nominated(p); nominated != nil {
			out.PlacedPods = append(out.PlacedPods, nominated)
		}
	}
	for _, n := range o.Namespaces {
		out.Namespaces = append(out.Namespaces, Namespace(n))
	}
	for _, b := range o.DisruptionBudgets {
		out.DisruptionBudgets = append(out.DisruptionBudgets, DisruptionBudget(b))
	}
	slices.SortStableFunc(out.Nodes, func(a, b *berthv1.Node) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(out.PlacedPods, func(a, b *berthv1.PlacedPod) int { return cmp.Compare(a.Uid, b.Uid) })
	slices.SortStableFunc(out.Namespaces, func(a, b *berthv1.Namespace) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(out.DisruptionBudgets, func(a, b *berthv1.DisruptionBudget) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// PendingPods are pods that want a node as the objects have them ask for one: each
// as Pod encodes it, with its spread selector, and with the constraint that placed
// and nominated pods' anti-affinities are.
func (o *Objects) PendingPods(pods []*corev1.Pod) []*berthv1.Pod {
	workloads := o.Workloads()
	var repelling []*corev1.Pod
	for _, p := range o.Pods {
		if AntiAffinity(p) && (p.Spec.NodeName != "" && Holds(p) || Nominated(p) != nil) {
			repelling = append(repelling, p)
		}
	}
	var out []*berthv1.Pod
	for _, p := range pods {
		pod := Pod(p)
		pod.SpreadSelector = workloads.SpreadSelector(p)
		if slices.ContainsFunc(repelling, func(placed *corev1.Pod) bool { return placed.UID != p.UID && MaySelect(placed, p) }) {
			pod.Constraints = append(pod.Constraints, berthv1.ConstraintExistingAntiAffinity)
			slices.Sort(pod.Constraints)
		}
		out = append(out, pod)
	}
	return out
}
