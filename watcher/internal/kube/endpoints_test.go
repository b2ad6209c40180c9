package kube

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc/resolver"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestParseServicePort(t *testing.T) {
	for _, target := range []string{"kubernetes:///ns/decider:grpc", "kubernetes:///ns/decider:50051"} {
		p, ok, err := ParseServicePort(target)
		if !ok || err != nil || p.String() != target || p.Namespace != "ns" || p.Service != "decider" {
			t.Errorf("%s is read as %v, %v, %v", target, p, ok, err)
		}
	}
	for _, target := range []string{"dns:///decider.ns:50051", "127.0.0.1:50051", "unix:///kubernetes:", "kubernetes.default:443"} {
		if _, ok, err := ParseServicePort(target); ok || err != nil {
			t.Errorf("%s is taken for a Service: %v", target, err)
		}
	}
	for _, target := range []string{
		"kubernetes:", "kubernetes:///", "kubernetes:///decider:grpc", "kubernetes:///ns/decider", "kubernetes:///ns/decider:",
		"kubernetes:///ns/decider:0", "kubernetes:///ns/decider:65536", "kubernetes:///ns/decider:-1", "kubernetes:///ns/decider:a:b",
		"kubernetes:///ns/x/decider:grpc", "kubernetes:///NS/decider:grpc", "kubernetes://ns/decider:grpc", "kubernetes:ns/decider:grpc",
		"kubernetes:///ns/decider:grpc?x=y", "kubernetes:///ns/%zz:grpc",
	} {
		_, ok, err := ParseServicePort(target)
		if !ok || err == nil || !strings.Contains(err.Error(), target) || !strings.Contains(err.Error(), "kubernetes:///NAMESPACE/SERVICE:PORT") {
			t.Errorf("%s: %v, %v; want a complaint that names it and what to write", target, ok, err)
		}
	}
}

// slice is an EndpointSlice of the Service decider: each endpoint an address, after a ! if
// it is not ready and after a ? if nobody says; each port a name and a number.
func slice(name string, family discoveryv1.AddressType, endpoints string, ports ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: "decider"}},
		AddressType: family,
	}
	for address := range strings.FieldsSeq(endpoints) {
		ready := !strings.HasPrefix(address, "!")
		e := discoveryv1.Endpoint{Addresses: []string{strings.TrimLeft(address, "!?"), "another.of.the.same"}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}
		if strings.HasPrefix(address, "?") {
			e.Conditions.Ready = nil
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	for _, port := range ports {
		name, digits, _ := strings.Cut(port, " ")
		var number int32
		fmt.Sscan(digits, &number)
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &name, Port: &number})
	}
	return s
}

func TestAddresses(t *testing.T) {
	const v4, v6 = discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6
	grpc, metrics := "grpc 50051", "metrics 10352"
	for _, test := range []struct {
		name, port string
		slices     []any
		want       string
	}{
		{"by the port's name", "grpc", []any{slice("a", v4, "10.0.0.2 10.0.0.1", metrics, grpc)}, "10.0.0.1:50051 10.0.0.2:50051"},
		{"by its number", "50051", []any{slice("a", v4, "10.0.0.1", metrics, grpc)}, "10.0.0.1:50051"},
		{"a Service without ports", "50051", []any{slice("a", v4, "10.0.0.1")}, "10.0.0.1:50051"},
		{"of several slices, each once", "grpc", []any{slice("a", v4, "10.0.0.1", grpc), slice("b", v4, "10.0.0.2 10.0.0.1", "grpc 50052")},
			"10.0.0.1:50051 10.0.0.1:50052 10.0.0.2:50052"},
		{"the ready ones", "grpc", []any{slice("a", v4, "10.0.0.1 !10.0.0.2 ?10.0.0.3", grpc)}, "10.0.0.1:50051 10.0.0.3:50051"},
		{"of two families", "grpc", []any{slice("a", v6, "fd00::1", grpc), slice("b", v4, "10.0.0.1", grpc)}, "10.0.0.1:50051"},
		{"of two, one of them empty", "grpc", []any{slice("a", v6, "fd00::1", grpc), slice("b", v4, "", grpc)}, "[fd00::1]:50051"},
		{"names are not looked up", "grpc", []any{slice("a", discoveryv1.AddressTypeFQDN, "x.example.com", grpc)},
			"it has no endpoints: see that Service decider is in namespace ns and selects pods, or give another --decider"},
		{"no slices", "grpc", nil,
			"it has no endpoints: see that Service decider is in namespace ns and selects pods, or give another --decider"},
		{"none is ready", "grpc", []any{slice("a", v4, "!10.0.0.1 !10.0.0.2", grpc)},
			"none of its 2 endpoints is ready"},
		{"another port", "http", []any{slice("a", v4, "10.0.0.1", metrics, grpc)},
			"the Service has no port http but grpc 50051, metrics 10352: give --decider one of these"},
		{"the Service's number", "80", []any{slice("a", v4, "10.0.0.1", grpc)},
			"the Service has no port 80 but grpc 50051: give --decider one of these"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ServicePort{"ns", "decider", test.port}.addresses(test.slices)
			text := strings.Join(got, " ")
			if err != nil {
				text = err.Error()
			}
			if text != test.want {
				t.Errorf("got  %s\nwant %s", text, test.want)
			}
		})
	}
}

// heard is a resolver.ClientConn that says what it was told.
type heard struct {
	resolver.ClientConn
	all chan string
}

func (h heard) UpdateState(s resolver.State) error {
	var addresses []string
	for _, e := range s.Endpoints {
		addresses = append(addresses, e.Addresses[0].Addr)
	}
	h.all <- strings.Join(addresses, " ")
	return nil
}

func (h heard) ReportError(err error) { h.all <- err.Error() }

// until waits until something like this is told.
func (h heard) until(t *testing.T, part string) {
	t.Helper()
	for {
		select {
		case got := <-h.all:
			if strings.Contains(got, part) {
				return
			}
		case <-t.Context().Done():
			t.Fatalf("%q was never told", part)
		}
	}
}

func lookUp(t *testing.T, set *fake.Clientset) heard {
	t.Helper()
	target, err := url.Parse("kubernetes:///ns/decider:grpc")
	if err != nil {
		t.Fatal(err)
	}
	h := heard{all: make(chan string, 1000)}
	r, err := NewEndpoints(&Client{main: set}).Build(resolver.Target{URL: *target}, h, resolver.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return h
}

// Replicas are found as they come and go, and what belongs to others is not.
func TestEndpoints(t *testing.T) {
	const v4 = discoveryv1.AddressTypeIPv4
	other := slice("other", v4, "10.9.9.9", "grpc 50051")
	other.Labels[discoveryv1.LabelServiceName] = "other"
	set := fake.NewClientset(slice("a", v4, "10.0.0.1", "grpc 50051"), other)
	h := lookUp(t, set)
	if got := <-h.all; got != "10.0.0.1:50051" {
		t.Errorf("at first there is %q", got)
	}
	api := set.DiscoveryV1().EndpointSlices("ns")
	if _, err := api.Update(t.Context(), slice("a", v4, "10.0.0.1 !10.0.0.2", "grpc 50051"), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := api.Create(t.Context(), slice("b", v4, "10.0.0.3", "grpc 50051"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	h.until(t, "10.0.0.1:50051 10.0.0.3:50051")
	if err := api.Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	h.until(t, "10.0.0.3:50051")
	if err := api.Delete(t.Context(), "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	h.until(t, "no endpoints: see that Service decider is in namespace ns")
}

// Whoever may not read EndpointSlices is told what to do.
func TestEndpointsForbidden(t *testing.T) {
	set := fake.NewClientset()
	denied := apierrors.NewForbidden(discoveryv1.Resource("endpointslices"), "", nil)
	set.PrependReactor("list", "endpointslices", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, denied })
	set.PrependWatchReactor("endpointslices", clienttesting.DefaultWatchReactor(nil, denied))
	lookUp(t, set).until(t, "allow list and watch on endpointslices.discovery.k8s.io in namespace ns")
}

// A certificate is for the name that the Service has in the cluster.
func TestEndpointsAuthority(t *testing.T) {
	target, err := url.Parse("kubernetes:///berth-system/berth-decider:grpc")
	if err != nil {
		t.Fatal(err)
	}
	if got := NewEndpoints(nil).OverrideAuthority(resolver.Target{URL: *target}); got != "berth-decider.berth-system.svc" {
		t.Errorf("it is %q", got)
	}
}
