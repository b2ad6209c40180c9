package main

import (
	"context"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/berth-scheduler/berth/deploy/chaos/internal/evictions"
	"github.com/berth-scheduler/berth/deploy/chaos/internal/workload"
)

// A pod is what is known of one that was sent to the API server.
type pod struct {
	object    *corev1.Pod // as it was sent
	created   bool        // the API server has said that it is there
	leaving   bool        // it is being deleted by us
	gone      bool
	uid       string
	sent      time.Time
	bound     time.Time // when it was first seen on a node
	node      string
	nominated []string
}

// waits says whether it is there and has no node.
func (p *pod) waits() bool { return !p.gone && p.bound.IsZero() }

// A tracker knows what became of the pods and their budgets. It may be used by several
// goroutines at once.
type tracker struct {
	mu      sync.Mutex // guards what follows
	pods    map[string]*pod
	budgets map[string][]evictions.Budget
	changes uint64 // of pods
	bound   int    // seen on a node, whatever became of them
	evicted int    // gone, and not by us
	deleted int    // by us
	created int
}

func newTracker() *tracker {
	return &tracker{pods: map[string]*pod{}, budgets: map[string][]evictions.Budget{}}
}

// sending is called before the API server is asked for a pod, there once it said that
// it has it.
func (t *tracker) sending(object *corev1.Pod) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pods[object.Name] = &pod{object: object, sent: time.Now()}
}

func (t *tracker) there(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pods[name].created = true
	t.created++
}

// leave says that we are about to delete a pod; false if it is gone or about to be.
func (t *tracker) leave(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.pods[name]
	if p.gone || p.leaving {
		return false
	}
	p.leaving = true
	return true
}

// mayLeave says whether all of the pods are there and, if waiting counts, none waits for
// a node.
func (t *tracker) mayLeave(objects []*corev1.Pod, waiting bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !slices.ContainsFunc(objects, func(object *corev1.Pod) bool {
		p := t.pods[object.Name]
		return p == nil || !p.created || waiting && p.waits()
	})
}

// left says whether all pods of a group are gone.
func (t *tracker) left(g workload.Group) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !slices.ContainsFunc(g.Pods, func(object *corev1.Pod) bool {
		p := t.pods[object.Name]
		return p == nil || !p.gone
	})
}

// demand is what the pods that stay ask for, in millicores, but for those that are
// larger than any node.
func (t *tracker) demand() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	var sum int64
	for _, p := range t.pods {
		if cpu := workload.CPU(p.object); !p.gone && !p.leaving && cpu <= workload.NodeCPU {
			sum += cpu
		}
	}
	return sum
}

// counts is a moment of a run.
type counts struct {
	Created int `json:"created"`
	// Bound were seen on a node, whatever became of them.
	Bound int `json:"bound"`
	// Pending are there and have none.
	Pending int `json:"pending"`
	// Deleted are gone because this program wanted it, Evicted are gone for another
	// reason.
	Deleted int `json:"deleted"`
	Evicted int `json:"evicted"`
	changes uint64
}

func (t *tracker) counts() counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := counts{Created: t.created, Bound: t.bound, Deleted: t.deleted, Evicted: t.evicted, changes: t.changes}
	for _, p := range t.pods {
		if p.created && p.waits() {
			c.Pending++
		}
	}
	return c
}

// seen takes a pod as the API server has it.
func (t *tracker) seen(object *corev1.Pod) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.pods[object.Name]
	if p == nil || p.gone {
		return
	}
	t.changes++
	p.uid = string(object.UID)
	if node := object.Spec.NodeName; node != "" && p.node == "" {
		p.node, p.bound = node, time.Now()
		t.bound++
	}
	if node := object.Status.NominatedNodeName; node != "" && !slices.Contains(p.nominated, node) {
		p.nominated = append(p.nominated, node)
	}
}

// wentAway takes a pod that the API server does not have any more.
func (t *tracker) wentAway(object *corev1.Pod) {
	t.seen(object) // its last state may be new
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.pods[object.Name]
	if p == nil || p.gone {
		return
	}
	p.gone = true
	if p.leaving {
		t.deleted++
	} else {
		t.evicted++
	}
}

// allows takes what a budget allows now.
func (t *tracker) allows(b *policyv1.PodDisruptionBudget) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.budgets[b.Name] = append(t.budgets[b.Name], evictions.Budget{Since: time.Now(), Allowed: b.Status.DisruptionsAllowed})
}

// watch feeds the tracker until ctx ends. It returns once all that happens from then on
// will be seen.
func (t *tracker) watch(ctx context.Context, c *cluster) error {
	factory := informers.NewSharedInformerFactoryWithOptions(c.client, 0, informers.WithNamespace(workload.Namespace))
	pods := factory.Core().V1().Pods().Informer()
	budgets := factory.Policy().V1().PodDisruptionBudgets().Informer()
	if _, err := pods.AddEventHandler(handler(t.seen, t.wentAway)); err != nil {
		return err
	}
	if _, err := budgets.AddEventHandler(handler(t.allows, func(*policyv1.PodDisruptionBudget) {})); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), pods.HasSynced, budgets.HasSynced) {
		return context.Cause(ctx)
	}
	return nil
}

func handler[T any](seen, gone func(T)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { seen(obj.(T)) },
		UpdateFunc: func(_, obj any) { seen(obj.(T)) },
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			if o, ok := obj.(T); ok {
				gone(o)
			}
		},
	}
}

// known is what the judge of evictions has to know of the pods.
func (t *tracker) known() (map[string]*evictions.Pod, map[string][]evictions.Budget) {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := map[string]*evictions.Pod{}
	for name, p := range t.pods {
		known[name] = &evictions.Pod{Name: name, UID: p.uid, Group: p.object.Labels[workload.GroupLabel], Priority: workload.Priority(p.object),
			Created: p.sent, Bound: p.bound, Node: p.node, Nominated: slices.Clone(p.nominated)}
	}
	budgets := map[string][]evictions.Budget{}
	for name, b := range t.budgets {
		budgets[name] = slices.Clone(b)
	}
	return known, budgets
}
