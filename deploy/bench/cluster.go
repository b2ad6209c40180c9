package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/berth-scheduler/berth/deploy/bench/internal/timeline"
	"github.com/berth-scheduler/berth/deploy/bench/internal/workload"
	"github.com/berth-scheduler/berth/deploy/internal/child"
)

const (
	// workers is how many requests are under way at once wherever the benchmark
	// itself creates, binds or deletes.
	workers = 64
	// readyTimeout bounds how long a program may take to become ready, which is
	// looked for every readyInterval: short, since it is part of what is measured.
	readyTimeout  = 2 * time.Minute
	readyInterval = 5 * time.Millisecond
	// stopGrace is how long a program has between SIGTERM and SIGKILL.
	stopGrace = 20 * time.Second
	// cleanTimeout bounds how long the objects of a run may take to go, which is
	// looked for every cleanInterval.
	cleanTimeout  = 10 * time.Minute
	cleanInterval = 100 * time.Millisecond
	// placedStep is how many placed pods are created before somebody is told.
	placedStep = 10000
	// lease is what Berth's watchers elect their leader by.
	leaseNamespace, leaseName = "kube-system", "berth-berth"
)

// A cluster is etcd and kube-apiserver and nothing else.
type cluster struct {
	local      *child.Child
	dir        string
	kubeconfig string
	client     kubernetes.Interface // for everything but watches
	watcher    kubernetes.Interface // with a connection of its own
	placed     placed               // the pods in workload.PlacedNamespace
}

// placed are the pods of a workload that are placed already: so many to a node, or so many
// that the nodes are full to a percentage. Neither is there if both are 0.
type placed struct{ perNode, full int }

// unknown is what is there if they did not all come or go.
var unknown = placed{-1, -1}

// startCluster starts one with its files in dir.
func startCluster(ctx context.Context, s *child.Spawner, dir, log string) (*cluster, error) {
	local, err := s.Start("local", log, s.Command("local", "up", "--bare", "--dir", dir, "--bin", s.Bin))
	if err != nil {
		return nil, err
	}
	c := &cluster{local: local, dir: dir}
	err = await(ctx, local, func(context.Context) (err error) {
		c.kubeconfig, err = local.Said("kubeconfig: ")
		return err
	})
	if err == nil {
		c.client, err = connect(c.kubeconfig)
	}
	if err == nil {
		c.watcher, err = connect(c.kubeconfig)
	}
	if err != nil {
		local.Stop(stopGrace)
		return nil, err
	}
	return c, nil
}

// await polls ready until it returns nil. It is an error if c ends first.
func await(ctx context.Context, c *child.Child, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := c.Await(ctx, readyInterval, ready); err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	return nil
}

// connect returns a client with a connection of its own.
func connect(kubeconfig string) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.UserAgent = "berth-bench"
	config.QPS = -1 // workers is the limit
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	config.Dial = (&net.Dialer{}).DialContext // transports with a dialer of their own share no connection
	return kubernetes.NewForConfig(rest.AddUserAgent(config, "bench"))
}

// pid of a component.
func (c *cluster) pid(component string) (int, error) {
	data, err := os.ReadFile(filepath.Join(c.dir, component+".pid"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}

// auditLog is where the API server logs writes.
func (c *cluster) auditLog() string { return filepath.Join(c.dir, "audit.log") }

// prepare creates the namespaces and the nodes that all runs share.
func (c *cluster) prepare(ctx context.Context, nodes int) error {
	for _, name := range []string{workload.Namespace, workload.PlacedNamespace} {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := c.client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating namespace %s: %w", name, err)
		}
	}
	err := inOrder(ctx, workload.Nodes(nodes), func(_ int, n *corev1.Node) error {
		_, err := c.client.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("creating nodes: %w", err)
	}
	return nil
}

// occupy sees to it that the nodes have the pods of w that are placed already,
// and no others. Runs share them, since none changes them. They take their time,
// of which say is told.
func (c *cluster) occupy(ctx context.Context, w workload.Workload, nodes int, say func(format string, args ...any)) error {
	want := placed{w.PlacedPerNode, w.Full}
	if c.placed == want {
		return nil
	}
	if c.placed != (placed{}) {
		say("deleting the placed pods of the workload before")
		c.placed = unknown
		if err := c.evacuate(ctx); err != nil {
			return err
		}
	}
	pods := w.Placed(nodes)
	c.placed = unknown
	var there atomic.Int64
	err := inOrder(ctx, pods, func(_ int, p *corev1.Pod) error {
		if _, err := c.client.CoreV1().Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{}); err != nil {
			return err
		}
		if n := there.Add(1); n%placedStep == 0 {
			say("%d of %d placed pods are there", n, len(pods))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("creating placed pods: %w", err)
	}
	c.placed = want
	return nil
}

// evacuate deletes the placed pods and returns when they are gone.
func (c *cluster) evacuate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cleanTimeout)
	defer cancel()
	pods := c.client.CoreV1().Pods(workload.PlacedNamespace)
	err := child.Poll(ctx, cleanInterval, func(ctx context.Context) error {
		// The API server gives up a request after a minute, however far it is.
		return pods.DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}, metav1.ListOptions{})
	})
	if err != nil {
		return fmt.Errorf("deleting placed pods: %w", err)
	}
	return nil
}

// createServices creates services.
func (c *cluster) createServices(ctx context.Context, services []*corev1.Service) error {
	for _, s := range services {
		if _, err := c.client.CoreV1().Services(s.Namespace).Create(ctx, s, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating service %s: %w", s.Name, err)
		}
	}
	return nil
}

// createPod creates one pod and returns it as the API server has it.
func (c *cluster) createPod(ctx context.Context, p *corev1.Pod, t *timeline.Timeline) (*corev1.Pod, error) {
	t.Sent(p.Name, time.Now())
	created, err := c.client.CoreV1().Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("creating pod %s: %w", p.Name, err)
	}
	return created, nil
}

// createPods creates pods as fast as the API server takes them and returns them
// as it has them, in the same order.
func (c *cluster) createPods(ctx context.Context, pods []workload.Pod, t *timeline.Timeline) ([]*corev1.Pod, error) {
	created := make([]*corev1.Pod, len(pods))
	err := inOrder(ctx, pods, func(i int, p workload.Pod) (err error) {
		created[i], err = c.createPod(ctx, p.Object, t)
		return err
	})
	return created, err
}

// follow tells t of what happens to pods and Events until ctx ends. It returns
// once everything from then on will be seen.
func (c *cluster) follow(ctx context.Context, t *timeline.Timeline) error {
	pods, events := c.watcher.CoreV1().Pods(workload.Namespace), c.watcher.EventsV1().Events(workload.Namespace)
	podList, err := pods.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("listing pods: %w", err)
	}
	now := time.Now()
	for i := range podList.Items {
		t.Pod(&podList.Items[i], now)
	}
	err = stream(ctx, podList.ResourceVersion, pods.Watch, func(p *corev1.Pod) { t.Pod(p, time.Now()) })
	if err != nil {
		return fmt.Errorf("watching pods: %w", err)
	}
	eventList, err := events.List(ctx, metav1.ListOptions{Limit: 1})
	if err == nil {
		err = stream(ctx, eventList.ResourceVersion, events.Watch, func(e *eventsv1.Event) { t.Event(e, time.Now()) })
	}
	if err != nil {
		return fmt.Errorf("watching Events: %w", err)
	}
	return nil
}

// stream calls seen with every object that is added or changed after version
// until ctx ends.
func stream[T runtime.Object](ctx context.Context, version string, open watchFunc, seen func(T)) error {
	w, err := watchtools.NewRetryWatcherWithContext(ctx, version, &cache.ListWatch{WatchFuncWithContext: open})
	if err != nil {
		return err
	}
	go func() {
		for ev := range w.ResultChan() {
			if object, ok := ev.Object.(T); ok && ev.Type != watch.Deleted {
				seen(object)
			}
		}
	}()
	return nil
}

type watchFunc = func(context.Context, metav1.ListOptions) (watch.Interface, error)

// clean deletes what a run created, but for the nodes that all runs share, and
// returns when it is gone.
func (c *cluster) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cleanTimeout)
	defer cancel()
	now, all := metav1.DeleteOptions{GracePeriodSeconds: new(int64)}, metav1.ListOptions{}
	pods, events := c.client.CoreV1().Pods(workload.Namespace), c.client.EventsV1().Events(workload.Namespace)
	deletions := []func(context.Context) error{
		func(ctx context.Context) error { return pods.DeleteCollection(ctx, now, all) },
		func(ctx context.Context) error { return events.DeleteCollection(ctx, now, all) },
		c.deleteServices,
		func(ctx context.Context) error {
			err := c.client.CoordinationV1().Leases(leaseNamespace).Delete(ctx, leaseName, now)
			if apierrors.IsNotFound(err) {
				return nil
			}
			return err
		},
		func(ctx context.Context) error {
			return c.client.CoreV1().Nodes().DeleteCollection(ctx, now, metav1.ListOptions{LabelSelector: workload.ChurnLabel})
		},
		func(ctx context.Context) error {
			left, err := pods.List(ctx, metav1.ListOptions{Limit: 1})
			if err == nil && len(left.Items) > 0 {
				err = fmt.Errorf("pod %s is still there", left.Items[0].Name)
			}
			return err
		},
	}
	var wg sync.WaitGroup
	errs := make([]error, len(deletions))
	for i, deletion := range deletions {
		// The API server gives up a request after a minute, however far it is.
		wg.Go(func() { errs[i] = child.Poll(ctx, cleanInterval, deletion) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("deleting what the run created: %w", err)
	}
	return nil
}

// deleteServices deletes those of the workloads' namespace; no one request can.
func (c *cluster) deleteServices(ctx context.Context) error {
	services := c.client.CoreV1().Services(workload.Namespace)
	list, err := services.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, s := range list.Items {
		if err := services.Delete(ctx, s.Name, metav1.DeleteOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// createTurn creates the objects of one turn of a churn.
func (c *cluster) createTurn(ctx context.Context, t workload.Turn) error {
	if _, err := c.client.CoreV1().Nodes().Create(ctx, t.Node, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating node %s: %w", t.Node.Name, err)
	}
	for _, p := range t.Pods {
		if _, err := c.client.CoreV1().Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating pod %s: %w", p.Name, err)
		}
	}
	return c.createServices(ctx, []*corev1.Service{t.Service})
}

// deleteTurn deletes what createTurn created.
func (c *cluster) deleteTurn(ctx context.Context, t workload.Turn) error {
	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64)}
	err := c.client.CoreV1().Nodes().Delete(ctx, t.Node.Name, now)
	for _, p := range t.Pods {
		err = errors.Join(err, c.client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, now))
	}
	return errors.Join(err, c.client.CoreV1().Services(t.Service.Namespace).Delete(ctx, t.Service.Name, now))
}

// inOrder calls do for each item and its index, workers of them at once, begun
// in order. It ends at the first error.
func inOrder[T any](ctx context.Context, items []T, do func(int, T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan int)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range queue {
				if err := do(i, items[i]); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	for i := range items {
		select {
		case queue <- i:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(queue)
	wg.Wait()
	return context.Cause(ctx)
}
