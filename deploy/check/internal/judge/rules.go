package judge

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	helpers "k8s.io/component-helpers/resource"
	schedulinghelpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// A breach is a rule that a pod on a node would break, and how.
type breach struct {
	rule   Rule
	detail string
}

// demand is what a pod asks of its node, compiled once per pod.
type demand struct {
	selector    labels.Selector
	affinity    nodeaffinity.RequiredNodeAffinity
	tolerations []corev1.Toleration
	ports       []corev1.ContainerPort
	// What it requires of other pods.
	podAffinity, antiAffinity []podTerm
	spread                    []spreadTerm
}

func demandOf(p *corev1.Pod) demand {
	// The selector is compiled apart from the affinity, so that a report can
	// tell them apart.
	onlyAffinity := &corev1.Pod{Spec: corev1.PodSpec{Affinity: p.Spec.Affinity}}
	return demand{
		selector:    labels.SelectorFromSet(p.Spec.NodeSelector),
		affinity:    nodeaffinity.GetRequiredNodeAffinity(onlyAffinity),
		tolerations: p.Spec.Tolerations,
		ports:       hostPorts(p),
		podAffinity: affinityTerms(p), antiAffinity: antiAffinityTerms(p),
		spread: spreadTerms(p),
	}
}

// breaches returns the rules that a pod with demand d on node n breaks, n
// holding the pods others already. Resources are not among them: they depend
// on the sum over the node.
func (d demand) breaches(n *corev1.Node, others []*pod) []breach {
	var out []breach
	if !d.selector.Matches(labels.Set(n.Labels)) {
		out = append(out, breach{NodeSelector, fmt.Sprintf("nodeSelector %s, node labels %s", d.selector, labels.Set(n.Labels))})
	}
	if ok, err := d.affinity.Match(n); !ok {
		detail := "required node affinity does not match node labels " + labels.Set(n.Labels).String()
		if err != nil {
			detail += ": " + err.Error()
		}
		out = append(out, breach{NodeAffinity, detail})
	}
	cordon := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if n.Spec.Unschedulable && !d.tolerates(&cordon) {
		out = append(out, breach{Cordoned, "spec.unschedulable is true"})
	}
	for _, t := range n.Spec.Taints {
		repels := t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
		// The taint that follows a cordon says the same thing twice.
		said := n.Spec.Unschedulable && t.Key == cordon.Key && t.Effect == cordon.Effect
		if repels && !said && !d.tolerates(&t) {
			out = append(out, breach{Taint, "taint " + t.ToString() + " is not tolerated"})
		}
	}
	for _, want := range d.ports {
		for _, other := range others {
			if slices.ContainsFunc(other.demand.ports, func(has corev1.ContainerPort) bool { return conflict(want, has) }) {
				out = append(out, breach{HostPort, fmt.Sprintf("host port %s/%d is in use by %s", want.Protocol, want.HostPort, other.name())})
			}
		}
	}
	return out
}

// tolerates reports whether the pod tolerates t. Lt and Gt are always
// understood: the API server accepts them only where they are switched on.
func (d demand) tolerates(t *corev1.Taint) bool {
	return schedulinghelpers.TolerationsTolerateTaint(klog.Background(), d.tolerations, t, true)
}

// hostPorts returns the host ports of all containers that run as long as the
// pod does: the containers and the restartable init containers.
func hostPorts(p *corev1.Pod) []corev1.ContainerPort {
	var out []corev1.ContainerPort
	add := func(c *corev1.Container) {
		for _, port := range c.Ports {
			if port.HostPort > 0 {
				if port.Protocol == "" {
					port.Protocol = corev1.ProtocolTCP
				}
				out = append(out, port)
			}
		}
	}
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(c)
		}
	}
	for i := range p.Spec.Containers {
		add(&p.Spec.Containers[i])
	}
	return out
}

// conflict reports whether two pods on one node cannot both have these ports.
func conflict(a, b corev1.ContainerPort) bool {
	wildcard := func(ip string) bool { return ip == "" || ip == "0.0.0.0" }
	return a.HostPort == b.HostPort && a.Protocol == b.Protocol &&
		(a.HostIP == b.HostIP || wildcard(a.HostIP) || wildcard(b.HostIP))
}

// requestsOf returns what p takes from its node, itself as one of "pods"
// included. Resizes count as kube-scheduler counts them: the largest of what
// is specified, allocated and in use.
func requestsOf(p *corev1.Pod) corev1.ResourceList {
	requests := helpers.PodRequests(p, helpers.PodResourcesOptions{
		// Where the features are off the API server drops the fields, so
		// reading them is always right.
		UseStatusResources: true,
		InPlacePodLevelResourcesVerticalScalingEnabled: true,
	}).DeepCopy()
	if requests == nil {
		requests = corev1.ResourceList{}
	}
	requests[corev1.ResourcePods] = *resource.NewQuantity(1, resource.DecimalSI)
	return requests
}

// sum adds up the requests of pods.
func sum(pods []*pod) corev1.ResourceList {
	total := corev1.ResourceList{}
	for _, p := range pods {
		for name, q := range p.requests {
			t := total[name].DeepCopy()
			t.Add(q)
			total[name] = t
		}
	}
	return total
}

// exceeded describes, sorted by name, each resource of which total is more
// than the node has. A resource that the node does not name is 0 there. With
// asks, only resources that it asks for count: a pod that wants no memory may
// go to a node that is short of it.
func exceeded(n *corev1.Node, total, asks corev1.ResourceList) string {
	var out []string
	for name, q := range total {
		if asks != nil {
			if want := asks[name]; want.Sign() <= 0 {
				continue
			}
		}
		if has := n.Status.Allocatable[name]; q.Cmp(has) > 0 {
			out = append(out, fmt.Sprintf("%s %s of %s", name, q.String(), has.String()))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}
