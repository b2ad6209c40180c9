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
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
	"k8s.io/klog/v2"
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
	turn    atomic.Uint64 // counts batches, so that replicas take turns
	lost    chan struct{} // has an element when a replica's connection has ended

	mu       sync.Mutex          // guards what follows; run alone changes it
	replicas map[string]*replica // by address
	problem  string              // why there are none
}

// newTarget finds who can look the name up, as grpc.NewClient does.
func newTarget(p *Pool, name string) (*target, error) {
	t := &target{name: name, pool: p, lost: make(chan struct{}, 1), replicas: map[string]*replica{}, problem: "not connected yet"}
	for _, full := range []string{name, "dns:///" + name} {
		u, err := url.Parse(full)
		if err != nil {
			continue
		}
		if t.builder = resolver.Get(u.Scheme); t.builder != nil {
			t.parsed = resolver.Target{URL: *u}
			return t, nil
		}
	}
	return nil, fmt.Errorf("decider %q: not a gRPC target: give HOST:PORT, dns:///NAME:PORT or unix:///PATH", name)
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
			endpoints, err := found.take()
			if err != nil { // what was found before is kept
				t.set(t.replicas, err.Error())
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
			for address, cancel := range running {
				if replicas[address] == nil {
					cancel()
					delete(running, address)
				}
			}
			t.set(replicas, "its name has no addresses")
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
}

// all returns the replicas in the order of their addresses.
func (t *target) all() []*replica {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.SortedFunc(maps.Values(t.replicas), func(a, b *replica) int { return cmp.Compare(a.address, b.address) })
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
	err       error
}

// UpdateState implements resolver.ClientConn.
func (r *resolution) UpdateState(s resolver.State) error {
	endpoints := s.Endpoints
	if len(endpoints) == 0 {
		for _, a := range s.Addresses {
			endpoints = append(endpoints, resolver.Endpoint{Addresses: []resolver.Address{a}})
		}
	}
	r.put(endpoints, nil)
	return nil
}

// ReportError implements resolver.ClientConn.
func (r *resolution) ReportError(err error) { r.put(nil, err) }

func (r *resolution) put(endpoints []resolver.Endpoint, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endpoints, r.err = endpoints, err
	select {
	case r.news <- struct{}{}:
	default: // what was there before is of no interest any more
	}
}

func (r *resolution) take() ([]resolver.Endpoint, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.endpoints, r.err
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
