package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/berth-scheduler/berth/deploy/demo/internal/outcome"
	"github.com/berth-scheduler/berth/deploy/demo/internal/workload"
	"github.com/berth-scheduler/berth/deploy/internal/child"
)

const (
	// namespace is where all pods are created, in every cluster.
	namespace = "berth-demo"
	// creators is how many create requests are under way at once. They start in
	// the workload's order.
	creators = 16
	// nodesTimeout bounds how long simulated nodes take to become Ready,
	// namespaceTimeout how long a namespace takes to come and to go.
	nodesTimeout     = 5 * time.Minute
	namespaceTimeout = 3 * time.Minute
)

// A cluster is a running cluster and how to reach it.
type cluster struct {
	kubeconfig string
	context    string // in the kubeconfig
	server     string // URL
	client     kubernetes.Interface
}

// connect reads a kubeconfig. It does not talk to the cluster yet.
func connect(path string) (*cluster, error) {
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: path}
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{})
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	raw, err := loader.RawConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	config.UserAgent = "berth-demo"
	config.QPS = -1 // creators is the limit
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return &cluster{kubeconfig: path, context: raw.CurrentContext, server: config.Host, client: client}, nil
}

// createNodes creates nodes, waits until all of them are Ready, and returns them
// as they are then.
func (c *cluster) createNodes(ctx context.Context, nodes []*corev1.Node) ([]*corev1.Node, error) {
	err := inOrder(ctx, nodes, func(n *corev1.Node) error {
		_, err := c.client.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("creating nodes: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, nodesTimeout)
	defer cancel()
	var created []*corev1.Node
	// A list costs the server some 50 µs a node, so it is not asked too often.
	interval := pollInterval + time.Duration(len(nodes))*time.Millisecond/5
	err = child.Poll(ctx, interval, func(ctx context.Context) error {
		if created, err = c.nodes(ctx); err != nil {
			return err
		}
		ready := 0
		for _, n := range created {
			if settledIn(n) {
				ready++
			}
		}
		if ready < len(nodes) {
			return fmt.Errorf("%d of %d simulated nodes are Ready", ready, len(nodes))
		}
		return nil
	})
	return created, err
}

// settledIn says whether n is Ready and the controller manager has taken away
// the taints that nodes are born with.
func settledIn(n *corev1.Node) bool {
	for _, t := range n.Spec.Taints {
		if strings.HasPrefix(t.Key, "node.kubernetes.io/") {
			return false
		}
	}
	return workload.Ready(n)
}

// nodes returns the cluster's nodes.
func (c *cluster) nodes(ctx context.Context) ([]*corev1.Node, error) {
	list, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	var nodes []*corev1.Node
	for i := range list.Items {
		nodes = append(nodes, &list.Items[i])
	}
	return nodes, nil
}

// placed returns the pods that have a node.
func (c *cluster) placed(ctx context.Context) ([]*corev1.Pod, error) {
	list, err := c.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName!="})
	if err != nil {
		return nil, fmt.Errorf("listing pods: %w", err)
	}
	var pods []*corev1.Pod
	for i := range list.Items {
		pods = append(pods, &list.Items[i])
	}
	return pods, nil
}

// createNamespace creates the namespace and waits for the service account
// without which no pod is admitted to it. One that exists is left alone: it may
// be somebody's.
func (c *cluster) createNamespace(ctx context.Context) error {
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	_, err := c.client.CoreV1().Namespaces().Create(ctx, object, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("namespace %s exists already: if an earlier run left it, remove it with kubectl --kubeconfig %s delete namespace %s", namespace, c.kubeconfig, namespace)
	}
	if err != nil {
		return fmt.Errorf("creating namespace %s: %w", namespace, err)
	}
	return nil
}

// awaitServiceAccount waits for the account that the pods of the namespace use.
func (c *cluster) awaitServiceAccount(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, namespaceTimeout)
	defer cancel()
	return child.Poll(ctx, pollInterval, func(ctx context.Context) error {
		_, err := c.client.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// removeNamespace deletes the namespace with all that is in it and returns when
// it is gone.
func (c *cluster) removeNamespace(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, namespaceTimeout)
	defer cancel()
	err := child.Poll(ctx, time.Second, func(ctx context.Context) error {
		err := c.client.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err == nil, apierrors.IsConflict(err):
			return errors.New("it is still being removed")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("removing namespace %s: %w; remove it with kubectl --kubeconfig %s delete namespace %s", namespace, err, c.kubeconfig, namespace)
	}
	return nil
}

// watch feeds tracker with what happens to the namespace's pods until ctx ends.
// It returns once everything that happens from then on will be seen.
func (c *cluster) watch(ctx context.Context, tracker *outcome.Tracker) error {
	factory := informers.NewSharedInformerFactoryWithOptions(c.client, 0, informers.WithNamespace(namespace))
	pods := factory.Core().V1().Pods().Informer()
	seen := func(obj any) { tracker.Seen(obj.(*corev1.Pod), time.Now()) }
	_, err := pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    seen,
		UpdateFunc: func(_, obj any) { seen(obj) },
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			if p, ok := obj.(*corev1.Pod); ok {
				tracker.Gone(p.Name)
			}
		},
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), pods.HasSynced) {
		return context.Cause(ctx)
	}
	return nil
}

// createPods creates the pods, telling tracker when each request is sent.
func (c *cluster) createPods(ctx context.Context, pods []workload.Pod, tracker *outcome.Tracker) error {
	err := inOrder(ctx, pods, func(p workload.Pod) error {
		tracker.Sent(p.Object.Name, time.Now())
		for tried := false; ; tried = true {
			_, err := c.client.CoreV1().Pods(namespace).Create(ctx, p.Object, metav1.CreateOptions{})
			switch {
			case err == nil, tried && apierrors.IsAlreadyExists(err):
				return nil
			case !transient(err):
				return fmt.Errorf("pod %s: %w", p.Object.Name, err)
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(pollInterval):
			}
		}
	})
	if err != nil {
		return fmt.Errorf("creating pods: %w", err)
	}
	return nil
}

// transient says whether a request that failed may succeed when it is repeated.
func transient(err error) bool {
	return apierrors.IsTooManyRequests(err) || apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err)
}

// inOrder calls do for each item, creators of them at once, begun in order. It
// ends at the first error.
func inOrder[T any](ctx context.Context, items []T, do func(T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan T)
	var wg sync.WaitGroup
	for range creators {
		wg.Go(func() {
			for item := range queue {
				if err := do(item); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	for _, item := range items {
		select {
		case queue <- item:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(queue)
	wg.Wait()
	return context.Cause(ctx)
}
