package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/grpc/resolver"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	discoveryinformers "k8s.io/client-go/informers/discovery/v1"
	"k8s.io/client-go/tools/cache"
)

// ServicePort is one port of a Service, which a target such as
// kubernetes:///NAMESPACE/SERVICE:PORT names.
type ServicePort struct {
	Namespace, Service string
	// Port is the Service's name for the port, or the number that its pods listen on.
	Port string
}

// endpointsScheme begins the targets that Endpoints looks up.
const endpointsScheme = "kubernetes"

// ParseServicePort reads a target; ok is false if it has another scheme.
func ParseServicePort(target string) (p ServicePort, ok bool, err error) {
	if !strings.HasPrefix(target, endpointsScheme+":") {
		return p, false, nil
	}
	if u, err := url.Parse(target); err == nil && u.Scheme == endpointsScheme && u.Host == "" && u.RawQuery == "" && u.Fragment == "" {
		var service string
		p.Namespace, service, _ = strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
		p.Service, p.Port, _ = strings.Cut(service, ":")
	}
	if len(validation.IsDNS1123Label(p.Namespace)) > 0 || len(validation.IsDNS1123Label(p.Service)) > 0 || !validPort(p.Port) {
		return p, true, fmt.Errorf("%s names no port of a Service: write kubernetes:///NAMESPACE/SERVICE:PORT, such as kubernetes:///berth-system/berth-decider:grpc", target)
	}
	return p, true, nil
}

// validPort says whether it is a number or a name.
func validPort(port string) bool {
	if n, err := strconv.Atoi(port); err == nil {
		return len(validation.IsValidPortNum(n)) == 0
	}
	return len(validation.IsDNS1123Label(port)) == 0
}

// String is the target.
func (p ServicePort) String() string {
	return fmt.Sprintf("%s:///%s/%s:%s", endpointsScheme, p.Namespace, p.Service, p.Port)
}

// Endpoints is a resolver.Builder that finds the ready pods behind a Service by its
// EndpointSlices, as they come and go. Use NewEndpoints.
type Endpoints struct{ client *Client }

// NewEndpoints returns one that asks the client's API server.
func NewEndpoints(client *Client) *Endpoints { return &Endpoints{client} }

// Scheme implements resolver.Builder.
func (*Endpoints) Scheme() string { return endpointsScheme }

// OverrideAuthority implements resolver.AuthorityOverrider: certificates carry the name
// that the Service has within the cluster.
func (*Endpoints) OverrideAuthority(target resolver.Target) string {
	p, _, _ := ParseServicePort(target.URL.String())
	return p.Service + "." + p.Namespace + ".svc"
}

// Build implements resolver.Builder. While no endpoint is ready, and while the API server
// cannot be asked, an error is reported in place of endpoints, so that whoever keeps what
// was found before goes on with that.
func (e *Endpoints) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	p, ok, err := ParseServicePort(target.URL.String())
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%s is no target of scheme %s", target.URL.String(), endpointsScheme)
	}
	of := labels.Set{discoveryv1.LabelServiceName: p.Service}.String()
	informer := discoveryinformers.NewFilteredEndpointSliceInformer(e.client.main, p.Namespace, 0, cache.Indexers{},
		func(o *metav1.ListOptions) { o.LabelSelector = of })
	if err := informer.SetTransform(func(o any) (any, error) { stripEndpointSlice(o); return o, nil }); err != nil {
		return nil, fmt.Errorf("informer: %w", err)
	}
	if err := informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		if err = p.explain(err); err != nil {
			cc.ReportError(err)
		}
	}); err != nil {
		return nil, fmt.Errorf("informer: %w", err)
	}
	changed := make(chan struct{}, 1)
	change := func() {
		select {
		case changed <- struct{}{}:
		default: // it will see this one, too
		}
	}
	handler, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { change() },
		UpdateFunc: func(_, _ any) { change() },
		DeleteFunc: func(any) { change() },
	})
	if err != nil {
		return nil, fmt.Errorf("informer: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &endpointsWatch{end: cancel}
	w.running.Go(func() { informer.RunWithContext(ctx) })
	w.running.Go(func() {
		// Until then only some are known.
		for cache.WaitForCacheSync(ctx.Done(), handler.HasSynced) && ctx.Err() == nil {
			if addresses, err := p.addresses(informer.GetStore().List()); err != nil {
				cc.ReportError(err)
			} else {
				cc.UpdateState(resolver.State{Endpoints: endpoints(addresses)}) // its error says that others would be better
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	})
	return w, nil
}

// endpointsWatch follows one Service.
type endpointsWatch struct {
	end     context.CancelFunc
	running sync.WaitGroup
}

// ResolveNow implements resolver.Resolver: what there is has been told.
func (*endpointsWatch) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements resolver.Resolver. It waits until nothing more is told.
func (w *endpointsWatch) Close() {
	w.end()
	w.running.Wait()
}

// explain says what to do about an error of the informer; nil if nothing. Like those of
// addresses, it is read after the target's name.
func (p ServicePort) explain(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), apierrors.IsResourceExpired(err), apierrors.IsGone(err):
		return nil // it is watched again
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return fmt.Errorf("its EndpointSlices must not be read: allow list and watch on endpointslices.discovery.k8s.io in namespace %s, as deploy/base/access does, or give --decider a dns:/// target: %w", p.Namespace, err)
	}
	return fmt.Errorf("its EndpointSlices cannot be read: %w", err)
}

// addresses are those of the ready endpoints among EndpointSlices, sorted. There is an
// error if there is none.
func (p ServicePort) addresses(objects []any) ([]string, error) {
	family := discoveryv1.AddressTypeIPv6
	var all []*discoveryv1.EndpointSlice
	for _, o := range objects {
		s := o.(*discoveryv1.EndpointSlice)
		all = append(all, s)
		if s.AddressType == discoveryv1.AddressTypeIPv4 && len(s.Endpoints) > 0 {
			family = s.AddressType // one of each pod's, so that no pod is there twice
		}
	}
	found, others, unready := map[string]bool{}, map[string]bool{}, 0
	for _, s := range all {
		if s.AddressType != family {
			continue
		}
		port, ok := p.in(s.Ports, others)
		if !ok {
			continue
		}
		for _, e := range s.Endpoints {
			if ready := e.Conditions.Ready; ready != nil && !*ready || len(e.Addresses) == 0 {
				unready++
				continue
			}
			found[net.JoinHostPort(e.Addresses[0], strconv.Itoa(port))] = true // the others are the same pod's
		}
	}
	switch {
	case len(found) > 0:
		return slices.Sorted(maps.Keys(found)), nil
	case unready > 0:
		return nil, fmt.Errorf("none of its %d endpoints is ready", unready)
	case len(others) > 0:
		return nil, fmt.Errorf("the Service has no port %s but %s: give --decider one of these", p.Port, strings.Join(slices.Sorted(maps.Keys(others)), ", "))
	}
	return nil, fmt.Errorf("it has no endpoints: see that Service %s is in namespace %s and selects pods, or give another --decider", p.Service, p.Namespace)
}

// in finds the port's number among an EndpointSlice's. The names of those that it is not
// are added to others. Where a slice has no ports, every number will do.
func (p ServicePort) in(ports []discoveryv1.EndpointPort, others map[string]bool) (int, bool) {
	number, err := strconv.Atoi(p.Port)
	if err == nil && len(ports) == 0 {
		return number, true
	}
	for _, port := range ports {
		if port.Port == nil {
			continue
		}
		name := ""
		if port.Name != nil {
			name = *port.Name
		}
		if name == p.Port || err == nil && int(*port.Port) == number {
			return int(*port.Port), true
		}
		others[strings.TrimSpace(fmt.Sprintf("%s %d", name, *port.Port))] = true
	}
	return 0, false
}

func endpoints(addresses []string) []resolver.Endpoint {
	all := make([]resolver.Endpoint, len(addresses))
	for i, a := range addresses {
		all[i].Addresses = []resolver.Address{{Addr: a}}
	}
	return all
}

// stripEndpointSlice keeps what addresses reads.
func stripEndpointSlice(o any) {
	s, ok := o.(*discoveryv1.EndpointSlice)
	if !ok {
		return
	}
	stripMeta(&s.ObjectMeta)
	for i, e := range s.Endpoints {
		s.Endpoints[i] = discoveryv1.Endpoint{Addresses: e.Addresses, Conditions: e.Conditions}
	}
}
