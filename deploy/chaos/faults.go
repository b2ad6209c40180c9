package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/berth-scheduler/berth/deploy/chaos/internal/plan"
	"github.com/berth-scheduler/berth/deploy/chaos/internal/proxy"
)

// A broken is a fault that took place.
type broken struct {
	fault plan.Fault
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	What  string    `json:"what"`
	// Failed says why it did not take place as planned.
	Failed string `json:"failed,omitempty"`
}

// breaker carries out a plan.
type breaker struct {
	cluster *cluster
	fleet   *fleet

	mu   sync.Mutex // guards what follows
	done []broken
	last *member // the watcher that was last seen leading
}

// run breaks things by the plan, and returns when nothing is broken any more.
func (b *breaker) run(ctx context.Context, faults []plan.Fault) {
	began := time.Now()
	var wg sync.WaitGroup
	for _, f := range faults {
		if pause(ctx, time.Until(began.Add(f.At))); ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			r := broken{fault: f, From: time.Now()}
			what, err := b.apply(ctx, f)
			r.To, r.What = time.Now(), what
			if err != nil {
				r.Failed = err.Error()
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			b.done = append(b.done, r)
		})
	}
	wg.Wait()
}

// apply breaks one thing, and returns what it did when it is whole again or, a process
// that was killed, when it is dead.
func (b *breaker) apply(ctx context.Context, f plan.Fault) (string, error) {
	switch f.Kind {
	case plan.Decider:
		return kill(b.fleet.deciders[f.Target], f.For)
	case plan.Watcher:
		leader := b.leader(ctx)
		if leader == nil {
			return "the watcher that leads: killed", fmt.Errorf("none was found")
		}
		return kill(leader, f.For)
	case plan.APIServer, plan.Etcd:
		component := map[plan.Kind]string{plan.APIServer: "kube-apiserver", plan.Etcd: "etcd"}[f.Kind]
		also, err := b.cluster.outage(ctx, component, f.For)
		what := fmt.Sprintf("%s: killed, started again after %.1f s", component, f.For.Seconds())
		if len(also) > 0 {
			what += fmt.Sprintf("; started again, too, since they were dead: %v", also)
		}
		return what, err
	case plan.Proxy:
		return b.cut(ctx, f), nil
	}
	return "", fmt.Errorf("no fault %q", f.Kind)
}

func kill(m *member, away time.Duration) (string, error) {
	what := fmt.Sprintf("%s: killed, started again after %.1f s", m.name, away.Seconds())
	if !m.kill(away) {
		return what, fmt.Errorf("it was dead")
	}
	return what, nil
}

// leader is the watcher that leads or, where the API server cannot say, the one that did.
func (b *breaker) leader(ctx context.Context) *member {
	pid, err := b.cluster.leader(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		if m := b.fleet.watcherOf(pid); m != nil {
			b.last = m
		}
	}
	return b.last
}

// cut breaks the connections of a link.
func (b *breaker) cut(ctx context.Context, f plan.Fault) string {
	link, what := b.fleet.links[f.Target], b.fleet.names[f.Target]+": "
	switch f.How {
	case plan.Drop:
		return what + fmt.Sprintf("%d connections reset", link.Drop())
	case plan.Delay:
		end := link.Delay(f.Late)
		pause(ctx, f.For)
		end()
		return what + fmt.Sprintf("%.2f s late in each direction for %.1f s", f.Late.Seconds(), f.For.Seconds())
	case plan.Hold:
		release := link.Hold()
		pause(ctx, f.For)
		release()
		return what + fmt.Sprintf("silence for %.1f s", f.For.Seconds())
	default:
		n := link.HalfClose(proxy.Side(f.Toward))
		return what + fmt.Sprintf("%d connections half closed, toward the %s", n, []string{"watcher", "server"}[f.Toward])
	}
}

// counts is how many faults there were so far, by kind and way.
func (b *breaker) counts() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	counts := map[string]int{}
	for _, d := range b.done {
		counts[d.fault.Label()]++
	}
	return counts
}

// history is all faults so far, in the order in which they began.
func (b *breaker) history() []broken {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]broken(nil), b.done...)
}
