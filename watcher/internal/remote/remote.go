// Package remote is the line to the deciders: connections, what they are fed, deadlines,
// and which of them answers.
package remote

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"

	"github.com/berth-scheduler/berth/watcher/internal/driver"
)

// Config says which deciders there are and how to reach them.
type Config struct {
	// Deciders are gRPC targets by scheduler name, the preferred one first: a
	// host:port, unix://PATH, or dns:///NAME:PORT, behind which several replicas
	// may be, or what one of Resolvers looks up. Required.
	Deciders map[string][]string
	// Resolvers look targets up, by their schemes, before those that gRPC knows.
	Resolvers []resolver.Builder
	// Credentials secure the connections; nil means plaintext.
	Credentials credentials.TransportCredentials
	// MaxMessageBytes bounds requests and answers. Required.
	MaxMessageBytes int
	// Timeout bounds one attempt at one decider. Required.
	Timeout time.Duration
	// State returns the state of the cluster. It waits until there is one to decide on,
	// and what is given to Feed from then on follows on it. It is called concurrently.
	// Required.
	State func(context.Context) (driver.State, error)
	// Changed is called, by a goroutine of the pool, whenever a decider has
	// introduced itself that was not reachable before. Required.
	Changed func()
	// Capacity is called, by one goroutine of the pool, with how many batches may be
	// outstanding by scheduler name: at first, and whenever that has changed. It may keep
	// the map. Required.
	Capacity func(batches map[string]int)
}

// Pool holds a connection to every replica of every decider, feeds those that take it, and
// spreads batches over them. It is a prometheus.Collector. Use New, then Run; the other methods may be called
// concurrently.
type Pool struct {
	config  Config
	feed    *feed
	metrics *metrics
	names   map[string][]*target // by scheduler name, in order of preference
	targets []*target            // each once, by name

	mu     sync.Mutex          // guards what follows
	moves  chan struct{}       // closed when a replica's state changes
	claims map[string]*replica // which one is fed, by the instance that it is
}

// New prepares the pool; no connection is made before Run.
func New(config Config) (*Pool, error) {
	if config.Credentials == nil {
		config.Credentials = insecure.NewCredentials()
	}
	p := &Pool{
		config: config, feed: newFeed(config.State), metrics: newMetrics(), names: map[string][]*target{},
		moves: make(chan struct{}), claims: map[string]*replica{},
	}
	byName := map[string]*target{}
	for name, targets := range config.Deciders {
		for _, target := range targets {
			t := byName[target]
			if t == nil {
				var err error
				if t, err = newTarget(p, target); err != nil {
					return nil, err
				}
				byName[target] = t
				p.targets = append(p.targets, t)
			}
			p.names[name] = append(p.names[name], t)
		}
	}
	slices.SortFunc(p.targets, func(a, b *target) int { return strings.Compare(a.name, b.name) })
	return p, nil
}

// Run keeps the connections up until ctx ends, and closes them.
func (p *Pool) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { p.tellCapacity(ctx) })
	for _, t := range p.targets {
		wg.Go(func() { t.run(ctx) })
	}
	wg.Wait()
	return nil
}

// Feed takes what has changed of the state, for the deciders that are fed. It does not
// block.
func (p *Pool) Feed(f *driver.Feed) { p.feed.add(f) }

// motion returns a channel that is closed when a replica's state changes next.
func (p *Pool) motion() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.moves
}

// moved says that a replica's state has changed.
func (p *Pool) moved() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.moves)
	p.moves = make(chan struct{})
}

// claim says whether the replica may be fed as this instance: a process that is known
// under several addresses is fed under one.
func (p *Pool) claim(r *replica, instance string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if instance == "" {
		return true
	}
	if holder := p.claims[instance]; holder != nil {
		return holder == r
	}
	p.claims[instance] = r
	return true
}

// release takes back what the replica has claimed.
func (p *Pool) release(r *replica) {
	p.mu.Lock()
	maps.DeleteFunc(p.claims, func(_ string, holder *replica) bool { return holder == r })
	p.mu.Unlock()
	p.moved()
}

// Status is how one decider is.
type Status struct {
	Target string
	// Problem says why it is not reachable; empty means that it is.
	Problem string
}

// Status returns how every decider is, by target.
func (p *Pool) Status() []Status {
	all := make([]Status, 0, len(p.targets))
	for _, t := range p.targets {
		all = append(all, Status{t.name, t.status()})
	}
	return all
}

// Unreachable returns the scheduler names of which no decider is reachable,
// sorted.
func (p *Pool) Unreachable() []string {
	var names []string
	for name, targets := range p.names {
		if !slices.ContainsFunc(targets, func(t *target) bool { return t.status() == "" }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Unprepared returns the scheduler names whose deciders, as many as are reachable, do not
// have the state of the cluster yet, sorted. A decider that is not fed, or takes too long,
// is not waited for. Before this process leads, that is every name with a decider that
// takes Sync.
func (p *Pool) Unprepared() []string {
	now := time.Now()
	var names []string
	for name, targets := range p.names {
		reachable, prepared := false, false
		for _, t := range targets {
			reachable = reachable || t.status() == ""
			prepared = prepared || slices.ContainsFunc(t.all(), func(r *replica) bool { return r.prepared(now) })
		}
		if reachable && !prepared {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Attempt is one call of one decider. One that was given up because another replica
// answered first is none.
type Attempt struct {
	Decider  string
	Code     codes.Code
	Duration time.Duration
}

// Decide asks the scheduler name's deciders in turn, from the batch's fallback
// on, until one answers: first those of its replicas that are fed, the one that the
// batch's key belongs to before the others, then the others, with the whole state. Pods
// that a decider does not understand are not sent to it; their decision is UNSUPPORTED.
// The attempts that were made are returned with the outcome. It may be called
// concurrently, and batches go to different replicas then; those for a serial decider
// wait for each other.
func (p *Pool) Decide(ctx context.Context, b *driver.Batch) (driver.Decided, []Attempt) {
	q := &question{pool: p, batch: b}
	all := p.names[b.SchedulerName]
	targets := make([]*target, 0, len(all))
	for i := range all {
		targets = append(targets, all[(b.Fallback+i)%len(all)])
	}
	// A decider that has failed for a while is asked when nobody else is left.
	slices.SortStableFunc(targets, func(a, b *target) int { return cmp.Compare(a.failing(), b.failing()) })
	for _, t := range targets {
		if decided := q.ask(ctx, t); decided != nil {
			return *decided, q.attempts
		}
	}
	if q.unfit != nil {
		return driver.Decided{Batch: b.ID, Err: q.unfit}, q.attempts // waiting for a decider would not help
	}
	return driver.Decided{Batch: b.ID, Err: fmt.Errorf("%w: %s", driver.ErrNoDecider, strings.Join(q.problems, "; "))}, q.attempts
}
