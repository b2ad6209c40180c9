package kube

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
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
	for _, one := range []struct {
		informer cache.SharedIndexInformer
		strip    func(any)
		handler  cache.ResourceEventHandler
	}{
		{pods, stripPod, handler(w.pods, deliver,
			func(p *corev1.Pod) driver.Event {
				if !encode.Holds(p) {
					return driver.PodGone{Pod: p}
				}
				return driver.PodChanged{Pod: p}
			},
			func(p *corev1.Pod) driver.Event { return driver.PodGone{Pod: p} })},
		{nodes, func(o any) { stripNode(o, client.kept) }, handler(w.nodes, deliver,
			func(n *corev1.Node) driver.Event { return driver.NodeChanged{Node: n} },
			func(n *corev1.Node) driver.Event { return driver.NodeGone{Node: n} })},
		{namespaces, stripNamespace, handler(newDelivered(), deliver,
			func(n *corev1.Namespace) driver.Event { return driver.NamespaceChanged{Namespace: n} },
			func(n *corev1.Namespace) driver.Event { return driver.NamespaceGone{Namespace: n} })},
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
func (w *Watch) Synced() bool {
	for _, handler := range w.handlers {
		if !handler.HasSynced() {
			return false
		}
	}
	return true
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

// stripPod keeps what encode, guard, the binding and the reports read.
func stripPod(o any) {
	p, ok := o.(*corev1.Pod)
	if !ok {
		return
	}
	stripMeta(&p.ObjectMeta)
	stripContainers(p.Spec.InitContainers)
	stripContainers(p.Spec.Containers)
	p.Spec.EphemeralContainers = nil
	p.Spec.ImagePullSecrets = nil
	p.Spec.HostAliases = nil
	p.Spec.DNSConfig = nil
	p.Spec.SecurityContext = nil
	for i := range p.Spec.Volumes {
		// The kind is all that matters of these, and they can be large.
		v := &p.Spec.Volumes[i].VolumeSource
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
	}
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
}

func stripContainers(containers []corev1.Container) {
	for i := range containers {
		c := containers[i]
		containers[i] = corev1.Container{
			Name:               c.Name,
			Ports:              c.Ports,
			Resources:          c.Resources,
			RestartPolicy:      c.RestartPolicy,
			RestartPolicyRules: c.RestartPolicyRules,
		}
	}
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

// stripNode keeps what encode, guard and the signals read.
func stripNode(o any, annotations string) {
	n, ok := o.(*corev1.Node)
	if !ok {
		return
	}
	kept := withPrefix(n.Annotations, annotations)
	stripMeta(&n.ObjectMeta)
	n.Annotations = kept
	n.Status = corev1.NodeStatus{
		Allocatable:      n.Status.Allocatable,
		Conditions:       n.Status.Conditions,
		DeclaredFeatures: n.Status.DeclaredFeatures,
	}
}

func stripNamespace(o any) {
	if n, ok := o.(*corev1.Namespace); ok {
		stripMeta(&n.ObjectMeta)
	}
}
