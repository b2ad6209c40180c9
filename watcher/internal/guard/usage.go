package guard

import (
	"fmt"
	"maps"
	"math"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
)

// Usage is what the pods of one node take together. It is the sum of their
// footprints, so that adding or removing a pod costs what the pod has, not what
// the node has. The zero value is an empty node. A copy shares the sums with the
// original.
type Usage struct {
	// Requested is what is requested: "cpu" in millicores, everything else in its
	// own unit. Read only.
	Requested map[string]int64
	// Pods is how many pods there are. Read only.
	Pods int
	// ports counts the pods that hold a port, by address, because pods that were
	// placed by hand may hold the same one.
	ports map[socket]map[string]int
}

// A Footprint is what one pod takes from its node. It does not change with the
// pod: whoever adds a footprint must remove the same one.
type Footprint struct {
	// Requests is what the pod requests, in the units of Usage. Read only.
	Requests map[string]int64
	ports    []hostPort
}

// FootprintOf is what the pod takes from its node, in the form it has now: while it
// is being resized, the larger of what it has and what it asks for.
func FootprintOf(p *corev1.Pod) Footprint {
	return Footprint{
		Requests: amounts(podRequests(p, resourcehelper.PodResourcesOptions{
			UseStatusResources: true,
			InPlacePodLevelResourcesVerticalScalingEnabled: true,
		})),
		ports: hostPorts(p),
	}
}

// podRequests is resourcehelper.PodRequests; the list is not to be changed. A pod that
// is one container and nothing else, as most are, requests what the container does.
func podRequests(p *corev1.Pod, options resourcehelper.PodResourcesOptions) corev1.ResourceList {
	if len(p.Spec.Containers) != 1 || len(p.Spec.InitContainers) > 0 || p.Spec.Resources != nil || p.Spec.Overhead != nil ||
		options.UseStatusResources && len(p.Status.ContainerStatuses) > 0 {
		return resourcehelper.PodRequests(p, options)
	}
	return p.Spec.Containers[0].Resources.Requests
}

// Clone is a copy that shares nothing with the original.
func (u *Usage) Clone() Usage {
	c := Usage{Requested: maps.Clone(u.Requested), Pods: u.Pods}
	for s, held := range u.ports {
		if c.ports == nil {
			c.ports = make(map[socket]map[string]int, len(u.ports))
		}
		c.ports[s] = maps.Clone(held)
	}
	return c
}

// Add adds a pod.
func (u *Usage) Add(f Footprint) {
	u.Pods++
	for name, amount := range f.Requests {
		if u.Requested == nil {
			u.Requested = map[string]int64{}
		}
		u.Requested[name] += amount
	}
	for _, p := range f.ports {
		if u.ports == nil {
			u.ports = map[socket]map[string]int{}
		}
		if u.ports[p.socket] == nil {
			u.ports[p.socket] = map[string]int{}
		}
		u.ports[p.socket][p.ip]++
	}
}

// Remove removes a pod that was added with the same footprint.
func (u *Usage) Remove(f Footprint) {
	u.Pods--
	for name, amount := range f.Requests {
		if u.Requested[name] -= amount; u.Requested[name] == 0 {
			delete(u.Requested, name)
		}
	}
	for _, p := range f.ports {
		if u.ports[p.socket][p.ip]--; u.ports[p.socket][p.ip] == 0 {
			delete(u.ports[p.socket], p.ip)
		}
		if len(u.ports[p.socket]) == 0 {
			delete(u.ports, p.socket)
		}
	}
}

// taken says whether the port conflicts with one that is held: on the same
// address, or if either is on every address.
func (u *Usage) taken(p hostPort) bool {
	held := u.ports[p.socket]
	if p.ip == everyAddress {
		return len(held) > 0
	}
	return held[p.ip] > 0 || held[everyAddress] > 0
}

// everyAddress is what a port without an address is on. "::" is an address like
// any other here, as in kube-scheduler.
const everyAddress = "0.0.0.0"

type socket struct {
	protocol string
	port     int32
}

type hostPort struct {
	socket
	ip string
}

func (p hostPort) String() string {
	return fmt.Sprintf("%s %s:%d", p.protocol, p.ip, p.port)
}

// hostPorts are the ports that the pod holds while it runs: those of its
// containers and its sidecars.
func hostPorts(pod *corev1.Pod) []hostPort {
	var out []hostPort
	collect := func(c *corev1.Container) {
		for i := range c.Ports {
			if c.Ports[i].HostPort <= 0 {
				continue
			}
			p := hostPort{socket{string(c.Ports[i].Protocol), c.Ports[i].HostPort}, c.Ports[i].HostIP}
			if p.protocol == "" {
				p.protocol = string(corev1.ProtocolTCP)
			}
			if p.ip == "" {
				p.ip = everyAddress
			}
			out = append(out, p)
		}
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			collect(c)
		}
	}
	for i := range pod.Spec.Containers {
		collect(&pod.Spec.Containers[i])
	}
	return out
}

// amounts has what kube-scheduler counts of the list, nil if that is nothing.
func amounts(list corev1.ResourceList) map[string]int64 {
	var out map[string]int64
	for name, quantity := range list {
		n := amount(string(name), quantity)
		if n == 0 || !counted(name) {
			continue
		}
		if out == nil {
			out = make(map[string]int64, len(list))
		}
		out[string(name)] = n
	}
	return out
}

// amount rounds up, as Kubernetes does; what no int64 holds is the largest, where
// the quantity's own conversions wrap.
func amount(name string, quantity resource.Quantity) int64 {
	scale := resource.Scale(0)
	if name == string(corev1.ResourceCPU) {
		scale = resource.Milli
	}
	if quantity.Cmp(*resource.NewScaledQuantity(math.MaxInt64, scale)) >= 0 {
		return math.MaxInt64
	}
	return quantity.ScaledValue(scale)
}

// counted says whether a node's room for the resource limits its pods. Names
// without a domain that Kubernetes does not know are never counted.
func counted(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		return true
	}
	return strings.Contains(string(name), "/") ||
		strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) ||
		strings.HasPrefix(string(name), corev1.ResourceAttachableVolumesPrefix)
}
