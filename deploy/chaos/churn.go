package main

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-scheduler/berth/deploy/chaos/internal/workload"
)

const (
	// creators is how many requests for pods are under way at once, deletors how many
	// for their deletion.
	creators, deletors = 16, 16
	// waves is how often what pods ask for rises above what there is, and falls again.
	waves = 3
	// turn is the time between two looks at what there is to create and to delete.
	turn = 200 * time.Millisecond
	// quiet is how much of what there is pods ask for in the end.
	quiet = 0.9
)

// A churn creates and deletes pods.
type churn struct {
	cluster *cluster
	tracker *tracker
	stream  *workload.Stream
	random  *rand.Rand // one goroutine uses it, that of shrink
	pods    int        // to create
	length  time.Duration
	nodeCPU int64 // of all nodes

	mu     sync.Mutex       // guards what follows
	single []*corev1.Pod    // that may go one by one
	whole  []workload.Group // that go all at once
	groups []workload.Group // with a budget
}

func newChurn(c *cluster, t *tracker, o options) *churn {
	return &churn{cluster: c, tracker: t, stream: workload.NewStream(o.seed), random: rand.New(rand.NewPCG(o.seed, 3)),
		pods: o.pods, length: o.length, nodeCPU: int64(o.nodes) * workload.NodeCPU}
}

// run creates all pods, evenly over the length of the run, and deletes as many as are
// too many at each moment. It returns when the last one was created and the time is
// up, or ctx has ended.
func (c *churn) run(ctx context.Context) {
	began := time.Now()
	var wg sync.WaitGroup
	wg.Go(func() { c.create(ctx, began) })
	deleting, stop := context.WithCancel(ctx)
	var deletions sync.WaitGroup
	deletions.Go(func() {
		for deleting.Err() == nil {
			c.shrink(ctx, c.wanted(time.Since(began)))
			pause(deleting, turn)
		}
	})
	wg.Wait()
	pause(ctx, time.Until(began.Add(c.length)))
	stop()
	deletions.Wait()
}

// wanted is how much of all cpus pods shall ask for at most: above all there are, at the
// top of each wave.
func (c *churn) wanted(elapsed time.Duration) float64 {
	return 1 + 0.15*math.Sin(2*math.Pi*(waves*elapsed.Seconds()/c.length.Seconds()-0.25))
}

// create creates pods until there were enough of them.
func (c *churn) create(ctx context.Context, began time.Time) {
	queue := make(chan *corev1.Pod)
	var wg sync.WaitGroup
	for range creators {
		wg.Go(func() {
			for p := range queue {
				c.tracker.sending(p)
				err := persist(ctx, func(ctx context.Context) error {
					_, err := c.cluster.client.CoreV1().Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{})
					return err
				})
				if err == nil {
					c.tracker.there(p.Name)
				}
			}
		})
	}
	created := 0
	for created < c.pods && ctx.Err() == nil {
		due := int(float64(c.pods) * min(1, time.Since(began).Seconds()/c.length.Seconds()))
		for created < due && ctx.Err() == nil {
			g := c.stream.Next()
			if g.Budget != nil {
				persist(ctx, func(ctx context.Context) error { // ends with ctx alone
					_, err := c.cluster.client.PolicyV1().PodDisruptionBudgets(workload.Namespace).Create(ctx, g.Budget, metav1.CreateOptions{})
					return err
				})
			}
			for _, p := range g.Pods {
				queue <- p
			}
			created += len(g.Pods)
			c.add(g)
		}
		pause(ctx, turn)
	}
	close(queue)
	wg.Wait()
}

func (c *churn) add(g workload.Group) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g.Whole {
		c.whole = append(c.whole, g)
	} else {
		c.single = append(c.single, g.Pods...)
	}
	if g.Budget != nil {
		c.groups = append(c.groups, g)
	}
}

// shrink deletes pods at random until those that stay ask for no more than a share of
// all cpus, and returns when they are deleted.
func (c *churn) shrink(ctx context.Context, share float64) {
	excess := c.tracker.demand() - int64(share*float64(c.nodeCPU))
	var going []*corev1.Pod
	for tries := 0; excess > 0 && tries < 10000; tries++ {
		for _, p := range c.pick() {
			if c.tracker.leave(p.Name) {
				going = append(going, p)
				excess -= workload.CPU(p)
			}
		}
	}
	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64)}
	c.all(going, func(p *corev1.Pod) error {
		return persist(ctx, func(ctx context.Context) error {
			return c.cluster.client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, now)
		})
	})
	for _, g := range c.unguarded() {
		persist(ctx, func(ctx context.Context) error { // ends with ctx alone
			return c.cluster.client.PolicyV1().PodDisruptionBudgets(workload.Namespace).Delete(ctx, g.Name, now)
		})
	}
}

// all calls do for each pod, deletors of them at once.
func (c *churn) all(pods []*corev1.Pod, do func(*corev1.Pod) error) {
	queue := make(chan *corev1.Pod)
	var wg sync.WaitGroup
	for range min(deletors, len(pods)) {
		wg.Go(func() {
			for p := range queue {
				do(p) // fails with ctx alone
			}
		})
	}
	for _, p := range pods {
		queue <- p
	}
	close(queue)
	wg.Wait()
}

// pick returns a pod, or a group of pods that has to go as a whole and may; none if the
// one that was drawn may not.
func (c *churn) pick() []*corev1.Pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	// A group has about six pods.
	n := len(c.single) + 6*len(c.whole)
	if n == 0 {
		return nil
	}
	i := c.random.IntN(n)
	if i < len(c.single) {
		p := c.single[i]
		if !c.tracker.mayLeave([]*corev1.Pod{p}, false) {
			return nil
		}
		c.single[i] = c.single[len(c.single)-1]
		c.single = c.single[:len(c.single)-1]
		return []*corev1.Pod{p}
	}
	i = (i - len(c.single)) / 6
	g := c.whole[i]
	if !c.tracker.mayLeave(g.Pods, true) {
		return nil
	}
	c.whole = slices.Delete(c.whole, i, i+1)
	return g.Pods
}

// unguarded returns the groups that have gone and whose budgets are left, once each.
func (c *churn) unguarded() []workload.Group {
	c.mu.Lock()
	defer c.mu.Unlock()
	var gone []workload.Group
	c.groups = slices.DeleteFunc(c.groups, func(g workload.Group) bool {
		left := c.tracker.left(g)
		if left {
			gone = append(gone, g)
		}
		return left
	})
	return gone
}
