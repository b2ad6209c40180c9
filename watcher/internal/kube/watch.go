package kube

import (
	"context"
	"fmt"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsinformers "k8s.io/client-go/informers/apps/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	policyinformers "k8s.io/client-go/informers/policy/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/berth-scheduler/berth/watcher/encode"
	"github.com/berth-scheduler/berth/watcher/internal/driver"
)

// podSelector leaves finished pods at the API server. One that finishes leaves the
// selection and arrives as deleted.
var podSelector = fmt.Sprintf("status.phase!=%s,status.phase!=%s", corev1.PodSucceeded, corev1.PodFailed)

// Watch follows the cluster and turns its changes into events.
type Watch struct {
	client    *Client
	informers []cache.SharedIndexInformer
	handlers  []cache.ResourceEventHandlerRegistration
	resources []string // of the handlers
	pods      *delivered
	nodes     *delivered
}

// NewWatch returns a watch that has not started. deliver is called with every
// change, for one object in order, for different kinds concurrently; while it
// blocks, that kind's changes wait in memory. Objects given to it are shared and
// stripped of what nobody here reads.
func NewWatch(client *Client, deliver func(driver.Event)) (*Watch, error) {
	w := &Watch{client: client, pods: newDelivered(), nodes: newDelivered()}
	tweak := func(o *metav1.ListOptions) { o.FieldSelector = podSelector }
	pods := coreinformers.NewFilteredPodInformer(client.main, metav1.NamespaceAll, 0, cache.Indexers{}, tweak)
	nodes := coreinformers.NewNodeInformer(client.main, 0, cache.Indexers{})
	namespaces := coreinformers.NewNamespaceInformer(client.main, 0, cache.Indexers{})
	const all = metav1.NamespaceAll
	services := coreinformers.NewServiceInformer(client.main, all, 0, cache.Indexers{})
	replicationControllers := coreinformers.NewReplicationControllerInformer(client.main, all, 0, cache.Indexers{})
	replicaSets := appsinformers.NewReplicaSetInformer(client.main, all, 0, cache.Indexers{})
	statefulSets := appsinformers.NewStatefulSetInformer(client.main, all, 0, cache.Indexers{})
	budgets := policyinformers.NewPodDisruptionBudgetInformer(client.main, all, 0, cache.Indexers{})
	for _, one := range []struct {
		resource string
		informer cache.SharedIndexInformer
		strip    func(any)
		handler  cache.ResourceEventHandler
	}{
		{"pods", pods, podStripper(), handler(w.pods, deliver,
			func(p *corev1.Pod) driver.Event {
				if !encode.Holds(p) {
					return driver.PodGone{Pod: p}
				}
				return driver.PodChanged{Pod: p}
			},
			func(p *corev1.Pod) driver.Event { return driver.PodGone{Pod: p} })},
		{"nodes", nodes, nodeStripper(client.kept), handler(w.nodes, deliver,
			func(n *corev1.Node) driver.Event { return driver.NodeChanged{Node: n} },
			func(n *corev1.Node) driver.Event { return driver.NodeGone{Node: n} })},
		{"namespaces", namespaces, stripNamespace, handler(newDelivered(), deliver,
			func(n *corev1.Namespace) driver.Event { return driver.NamespaceChanged{Namespace: n} },
			func(n *corev1.Namespace) driver.Event { return driver.NamespaceGone{Namespace: n} })},
		{"services", services, stripService, workloads[*corev1.Service](deliver)},
		{"replicationcontrollers", replicationControllers, stripReplicationController, workloads[*corev1.ReplicationController](deliver)},
		{"replicasets", replicaSets, stripReplicaSet, workloads[*appsv1.ReplicaSet](deliver)},
		{"statefulsets", statefulSets, stripStatefulSet, workloads[*appsv1.StatefulSet](deliver)},
		{"poddisruptionbudgets", budgets, stripBudget, handler(newDelivered(), deliver,
			func(b *policyv1.PodDisruptionBudget) driver.Event { return driver.BudgetChanged{Budget: b} },
			func(b *policyv1.PodDisruptionBudget) driver.Event { return driver.BudgetGone{Budget: b} })},
	} {
		strip := one.strip
		if err := one.informer.SetTransform(func(o any) (any, error) { strip(o); return o, nil }); err != nil {
			return nil, fmt.Errorf("informer: %w", err)
		}
		registration, err := one.informer.AddEventHandler(one.handler)
		if err != nil {
			return nil, fmt.Errorf("informer: %w", err)
		}
		w.informers = append(w.informers, one.informer)
		w.handlers = append(w.handlers, registration)
		w.resources = append(w.resources, one.resource)
	}
	return w, nil
}

// Run follows the cluster until ctx ends, and returns when the last deliver has
// returned. It may be called once.
func (w *Watch) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, informer := range w.informers {
		wg.Go(func() { informer.RunWithContext(ctx) })
	}
	wg.Wait()
}

// Synced says whether everything that existed at the start has been delivered.
func (w *Watch) Synced() bool { return len(w.Missing()) == 0 }

// Missing are the resources of which not everything that existed at the start has been
// delivered: those that this process may not list, too.
func (w *Watch) Missing() []string {
	var names []string
	for i, handler := range w.handlers {
		if !handler.HasSynced() {
			names = append(names, w.resources[i])
		}
	}
	return names
}

// workloads is the handler for one of the kinds that pods belong to.
func workloads[T metav1.Object](deliver func(driver.Event)) cache.ResourceEventHandler {
	return handler(newDelivered(), deliver,
		func(o T) driver.Event { return driver.WorkloadChanged{Object: o} },
		func(o T) driver.Event { return driver.WorkloadGone{Object: o} })
}

// handler turns an informer's calls, which come from one goroutine, into events.
func handler[T metav1.Object](track *delivered, deliver func(driver.Event), changed, gone func(T) driver.Event) cache.ResourceEventHandler {
	change := func(o T) {
		deliver(changed(o))
		track.changed(o)
	}
	leave := func(o T) {
		deliver(gone(o))
		track.gone(o)
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { change(o.(T)) },
		UpdateFunc: func(old, o any) {
			before, now := old.(T), o.(T)
			switch {
			case before.GetUID() != now.GetUID():
				// A watch that was away for a while shows a deletion and a new
				// object of the same name as one change.
				leave(before)
				change(now)
			case before.GetResourceVersion() != now.GetResourceVersion():
				change(now)
			}
		},
		DeleteFunc: func(o any) {
			// After a gap in the watch only the last known form is left.
			if unknown, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = unknown.Obj
			}
			if last, ok := o.(T); ok {
				leave(last)
			}
		},
	}
}

func stripMeta(m *metav1.ObjectMeta) {
	m.ManagedFields = nil
	m.Annotations = nil
}

// podStripper returns a function that keeps what encode, guard, the binding and the
// reports read of a pod, and shares it with earlier pods. It may be called with a pod
// that it has stripped before, and changes nothing then that pods share.
func podStripper() func(any) {
	var s sharing
	return func(o any) {
		if p, ok := o.(*corev1.Pod); ok {
			stripPod(p)
			s.pod(p)
		}
	}
}

func stripPod(p *corev1.Pod) {
	stripMeta(&p.ObjectMeta)
	p.GenerateName = ""
	p.Spec.InitContainers = strippedContainers(p.Spec.InitContainers)
	p.Spec.Containers = strippedContainers(p.Spec.Containers)
	p.Spec.Volumes = strippedVolumes(p.Spec.Volumes)
	p.Spec.EphemeralContainers = nil
	p.Spec.ImagePullSecrets = nil
	p.Spec.HostAliases = nil
	p.Spec.DNSConfig = nil
	p.Spec.SecurityContext = nil
	p.Spec.Hostname = ""
	p.Spec.Subdomain = ""
	s := p.Status
	p.Status = corev1.PodStatus{
		Phase:                 s.Phase,
		ObservedGeneration:    s.ObservedGeneration,
		Conditions:            s.Conditions,
		NominatedNodeName:     s.NominatedNodeName,
		StartTime:             s.StartTime,
		Resources:             s.Resources,
		AllocatedResources:    s.AllocatedResources,
		ContainerStatuses:     resizedStatuses(s.ContainerStatuses),
		InitContainerStatuses: resizedStatuses(s.InitContainerStatuses),
	}
	if p.Spec.NodeName != "" {
		p.Status.Conditions = placedConditions(s.Conditions) // nobody tells such a pod anything
	}
}

func strippedContainers(in []corev1.Container) []corev1.Container {
	if in == nil {
		return nil
	}
	out := make([]corev1.Container, len(in))
	for i := range in {
		c := &in[i]
		out[i] = corev1.Container{
			Name:               c.Name,
			Image:              c.Image,
			Ports:              c.Ports,
			Resources:          c.Resources,
			RestartPolicy:      c.RestartPolicy,
			RestartPolicyRules: c.RestartPolicyRules,
		}
	}
	return out
}

// strippedVolumes are volumes without names, of which some are made up for each pod.
func strippedVolumes(in []corev1.Volume) []corev1.Volume {
	if in == nil {
		return nil
	}
	out := make([]corev1.Volume, len(in))
	for i := range in {
		v := in[i].VolumeSource
		// The kind is all that matters of these, and they can be large.
		if v.Projected != nil {
			v.Projected = &corev1.ProjectedVolumeSource{}
		}
		if v.ConfigMap != nil {
			v.ConfigMap = &corev1.ConfigMapVolumeSource{}
		}
		if v.Secret != nil {
			v.Secret = &corev1.SecretVolumeSource{}
		}
		if v.DownwardAPI != nil {
			v.DownwardAPI = &corev1.DownwardAPIVolumeSource{}
		}
		out[i].VolumeSource = v
	}
	return out
}

// placedConditions are those that say why a pod is being deleted, and what it counts for
// while it is being resized.
func placedConditions(in []corev1.PodCondition) []corev1.PodCondition {
	var out []corev1.PodCondition
	for i := range in {
		if in[i].Type == corev1.DisruptionTarget || in[i].Type == corev1.PodResizePending {
			out = append(out, in[i])
		}
	}
	return out
}

// resizedStatuses keeps what counts towards a pod's requests.
func resizedStatuses(in []corev1.ContainerStatus) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for i := range in {
		if in[i].Resources != nil {
			out = append(out, corev1.ContainerStatus{Name: in[i].Name, Resources: in[i].Resources, AllocatedResources: in[i].AllocatedResources})
		}
	}
	return out
}

// nodeStripper is podStripper for nodes: it keeps what encode, guard and the signals read,
// and of the annotations those whose keys begin with the given.
func nodeStripper(annotations string) func(any) {
	var s sharing
	return func(o any) {
		if n, ok := o.(*corev1.Node); ok {
			stripNode(n, annotations)
			s.node(n)
		}
	}
}

func stripNode(n *corev1.Node, annotations string) {
	kept := withPrefix(n.Annotations, annotations)
	stripMeta(&n.ObjectMeta)
	n.Annotations = kept
	n.Spec = corev1.NodeSpec{Unschedulable: n.Spec.Unschedulable, Taints: n.Spec.Taints}
	n.Status = corev1.NodeStatus{
		Allocatable:      n.Status.Allocatable,
		Conditions:       strippedConditions(n.Status.Conditions),
		DeclaredFeatures: n.Status.DeclaredFeatures,
		Images:           n.Status.Images,
	}
}

// strippedConditions are those of a node without when and why, which are each node's own.
func strippedConditions(in []corev1.NodeCondition) []corev1.NodeCondition {
	if in == nil {
		return nil
	}
	out := make([]corev1.NodeCondition, len(in))
	for i := range in {
		out[i] = corev1.NodeCondition{Type: in[i].Type, Status: in[i].Status}
	}
	return out
}

func stripNamespace(o any) {
	if n, ok := o.(*corev1.Namespace); ok {
		stripMeta(&n.ObjectMeta)
	}
}

// Of what pods belong to only the selectors are read, of budgets their state, too.

func stripService(o any) {
	if s, ok := o.(*corev1.Service); ok {
		stripMeta(&s.ObjectMeta)
		s.Spec, s.Status = corev1.ServiceSpec{Selector: s.Spec.Selector}, corev1.ServiceStatus{}
	}
}

func stripReplicationController(o any) {
	if c, ok := o.(*corev1.ReplicationController); ok {
		stripMeta(&c.ObjectMeta)
		c.Spec, c.Status = corev1.ReplicationControllerSpec{Selector: c.Spec.Selector}, corev1.ReplicationControllerStatus{}
	}
}

func stripReplicaSet(o any) {
	if s, ok := o.(*appsv1.ReplicaSet); ok {
		stripMeta(&s.ObjectMeta)
		s.Spec, s.Status = appsv1.ReplicaSetSpec{Selector: s.Spec.Selector}, appsv1.ReplicaSetStatus{}
	}
}

func stripStatefulSet(o any) {
	if s, ok := o.(*appsv1.StatefulSet); ok {
		stripMeta(&s.ObjectMeta)
		s.Spec, s.Status = appsv1.StatefulSetSpec{Selector: s.Spec.Selector}, appsv1.StatefulSetStatus{}
	}
}

func stripBudget(o any) {
	if b, ok := o.(*policyv1.PodDisruptionBudget); ok {
		stripMeta(&b.ObjectMeta)
		b.Spec = policyv1.PodDisruptionBudgetSpec{Selector: b.Spec.Selector}
		b.Status = policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: b.Status.DisruptionsAllowed, DisruptedPods: b.Status.DisruptedPods}
	}
}
