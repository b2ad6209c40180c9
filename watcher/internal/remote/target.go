package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
	"k8s.io/klog/v2"

	"github.com/berth-scheduler/berth/watcher/internal/route"
)

// resolvePause is how often a name is looked up again. A name server's answer may be kept
// for as long by grpc.
const resolvePause = 30 * time.Second

// target is one decider: a name behind which are replicas of it.
type target struct {
	name    string
	pool    *Pool
	builder resolver.Builder
	parsed  resolver.Target
	turn    chan struct{} // has an element while a serial decider is asked
	lost    chan struct{} // has an element when a replica's connection has ended

	mu       sync.Mutex          // guards what follows
	replicas map[string]*replica // by address; run alone changes it
	problem  string              // why there are none; run alone changes it
	router   *route.Router       // knows those of replicas
}

// newTarget finds who can look the name up, as grpc.NewClient does.
func newTarget(p *Pool, name string) (*target, error) {
	t := &target{name: name, pool: p, turn: make(chan struct{}, 1), lost: make(chan struct{}, 1),
		replicas: map[string]*replica{}, problem: "not connected yet", router: route.New(route.Config{})}
	for _, full := range []string{name, "dns:///" + name} {
		u, err := url.Parse(full)
		if err != nil {
			continue
		}
		if t.builder = p.resolver(u.Scheme); t.builder != nil {
			t.parsed = resolver.Target{URL: *u}
			return t, nil
		}
	}
	return nil, fmt.Errorf("decider %q: not a gRPC target: give HOST:PORT, dns:///NAME:PORT, kubernetes:///NAMESPACE/SERVICE:PORT or unix:///PATH", name)
}

// resolver returns who looks targets of the scheme up; nil if nobody does.
func (p *Pool) resolver(scheme string) resolver.Builder {
	for _, b := range p.config.Resolvers {
		if b.Scheme() == scheme {
			return b
		}
	}
	return resolver.Get(scheme)
}

// run keeps a connection to every replica until ctx ends.
func (t *target) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	found := &resolution{news: make(chan struct{}, 1)}
	names, err := t.builder.Build(t.parsed, found, resolver.BuildOptions{DisableServiceConfig: true})
	if err != nil {
		t.set(nil, err.Error())
		return
	}
	defer names.Close()
	again := time.NewTicker(resolvePause)
	defer again.Stop()
	running := map[string]context.CancelFunc{}
	for {
		select {
		case <-found.news:
			endpoints, anew, err := found.take()
			problem := "its name has no addresses"
			if err != nil {
				if problem = err.Error(); problem != t.problem {
					klog.FromContext(ctx).Info("Decider's name cannot be looked up, and what was found before is kept", "decider", t.name, "err", problem)
				}
			}
			if !anew {
				t.set(t.replicas, problem)
				break
			}
			replicas := map[string]*replica{}
			for _, e := range endpoints {
				address := addressOf(e)
				r := t.replicas[address]
				if r == nil {
					if r, err = t.newReplica(address, e); err != nil {
						klog.FromContext(ctx).Error(err, "Decider cannot be connected to", "decider", t.name, "replica", address)
						continue
					}
					inUse, cancel := context.WithCancel(ctx)
					running[address] = cancel
					wg.Go(func() { r.run(inUse) })
				}
				replicas[address] = r
			}
			before := t.replicas
			t.set(replicas, problem)
			for address, cancel := range running {
				if replicas[address] == nil {
					wg.Go(func() {
						before[address].batches.Wait() // which it may still answer
						cancel()
					})
					delete(running, address)
				}
			}
			t.pool.moved()
		case <-t.lost:
			names.ResolveNow(resolver.ResolveNowOptions{})
		case <-again.C:
			names.ResolveNow(resolver.ResolveNowOptions{})
		case <-ctx.Done():
			return
		}
	}
}

// nobody looks nothing up.
type nobody struct{}

func (nobody) ResolveNow(resolver.ResolveNowOptions) {}
func (nobody) Close()                                {}

func addressOf(e resolver.Endpoint) string {
	var all []string
	for _, a := range e.Addresses {
		all = append(all, a.Addr)
	}
	return strings.Join(all, ",")
}

func (t *target) set(replicas map[string]*replica, problem string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.replicas, t.problem = replicas, problem
	t.router.Set(slices.Collect(maps.Keys(replicas)))
}

// begin picks one of the replicas that may be asked for a batch, and notes that it has it.
// It is nil if there is none; else there must be one call of done.
func (t *target) begin(key string, pods int, may func(*replica) bool) *replica {
	t.mu.Lock()
	defer t.mu.Unlock()
	address, ok := t.router.Pick(time.Now(), key, func(address string) bool { return !may(t.replicas[address]) })
	if !ok {
		return nil
	}
	t.router.Began(address, pods)
	r := t.replicas[address]
	r.batches.Add(1)
	return r
}

// beginFree is begin, of those that have nothing to do and are well.
func (t *target) beginFree(key string, pods int, may func(*replica) bool) *replica {
	now := time.Now()
	return t.begin(key, pods, func(r *replica) bool { return t.router.Free(now, r.address) && may(r) })
}

// done says what became of a batch at a replica. took is 0 if that was no measure.
func (t *target) done(r *replica, pods int, took time.Duration, result route.Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.router.Done(time.Now(), r.address, pods, took, result)
	r.batches.Done()
}

// hedgeAfter is how long a batch may take before it is sent to another replica, too. It is
// false if that is not known, or there is no other.
func (t *target) hedgeAfter(pods int) (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.replicas) < 2 {
		return 0, false
	}
	return t.router.HedgeAfter(pods)
}

// breaker is the state of the replica's.
func (t *target) breaker(r *replica) route.State {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.router.Breaker(time.Now(), r.address)
}

// failing is 1 if the breaker of every replica that is reachable is open, else 0.
func (t *target) failing() int {
	reachable := t.reachable()
	for _, r := range reachable {
		if t.breaker(r) != route.Open {
			return 0
		}
	}
	return min(1, len(reachable))
}

// all returns the replicas in the order of their addresses.
func (t *target) all() []*replica {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.SortedFunc(maps.Values(t.replicas), func(a, b *replica) int { return cmp.Compare(a.address, b.address) })
}

// reachable returns those that have introduced themselves, in the order of their
// addresses.
func (t *target) reachable() []*replica {
	return slices.DeleteFunc(t.all(), func(r *replica) bool { described, _ := r.get(); return described == nil })
}

// status says why no replica is reachable; empty if one is.
func (t *target) status() string {
	var problems []string
	for _, r := range t.all() {
		described, problem := r.get()
		if described != nil {
			return ""
		}
		problems = append(problems, problem)
	}
	if len(problems) == 0 {
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.problem
	}
	return strings.Join(problems, "; ")
}

// resolution takes what a resolver finds, and keeps the last of it.
type resolution struct {
	resolver.ClientConn
	news chan struct{} // has an element when there is something to take

	mu        sync.Mutex // guards what follows
	endpoints []resolver.Endpoint
	anew      bool  // they were not taken yet
	err       error // since then
}

// UpdateState implements resolver.ClientConn.
func (r *resolution) UpdateState(s resolver.State) error {
	endpoints := s.Endpoints
	if len(endpoints) == 0 {
		for _, a := range s.Addresses {
			endpoints = append(endpoints, resolver.Endpoint{Addresses: []resolver.Address{a}})
		}
	}
	r.put(func() { r.endpoints, r.anew, r.err = endpoints, true, nil })
	return nil
}

// ReportError implements resolver.ClientConn.
func (r *resolution) ReportError(err error) { r.put(func() { r.err = err }) }

func (r *resolution) put(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	select {
	case r.news <- struct{}{}:
	default: // what was there before is of no interest any more
	}
}

// take returns what was found last, whether that is news, and the error since.
func (r *resolution) take() (endpoints []resolver.Endpoint, anew bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	anew, r.anew = r.anew, false
	return r.endpoints, anew, r.err
}

// NewAddress implements resolver.ClientConn.
func (r *resolution) NewAddress(addresses []resolver.Address) {
	r.UpdateState(resolver.State{Addresses: addresses})
}

// ParseServiceConfig implements resolver.ClientConn.
func (*resolution) ParseServiceConfig(string) *serviceconfig.ParseResult {
	return &serviceconfig.ParseResult{Err: errors.New("deciders' service configurations are not used")}
}

// only is a resolver that finds one endpoint, so that a connection to it is in
// everything else one to its target.
type only struct {
	scheme   string
	endpoint resolver.Endpoint
}

// Scheme implements resolver.Builder.
func (o only) Scheme() string { return o.scheme }

// Build implements resolver.Builder.
func (o only) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	return nobody{}, cc.UpdateState(resolver.State{Addresses: o.endpoint.Addresses, Endpoints: []resolver.Endpoint{o.endpoint}})
}

// onlyAs is only where the target's own resolver says who the other side must be.
type onlyAs struct {
	only
	resolver.AuthorityOverrider
}

// at says where a connection to the target goes.
func (t *target) at(e resolver.Endpoint) grpc.DialOption {
	one := only{t.parsed.URL.Scheme, e}
	if o, ok := t.builder.(resolver.AuthorityOverrider); ok {
		return grpc.WithResolvers(onlyAs{one, o})
	}
	return grpc.WithResolvers(one)
}
