package guard

import (
	"slices"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"
)

// TestAcceptsWhatUpstreamAccepts compares Check with the rules of kube-scheduler's
// filters, written out below as plainly as possible and without any of the helpers
// that Check uses.
func TestAcceptsWhatUpstreamAccepts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		node := drawNode(t)
		var others []*corev1.Pod
		var usage Usage
		for range rapid.IntRange(0, 4).Draw(t, "others") {
			p := drawPod(t)
			others = append(others, p)
			usage.Add(FootprintOf(p))
		}
		// Some leave again: what is left must count as if they had never come.
		for len(others) > 0 && rapid.Bool().Draw(t, "leave") {
			usage.Remove(FootprintOf(others[0]))
			others = others[1:]
		}
		pod := drawPod(t)
		upstream := upstreamAccepts(pod, node, others)
		switch refusal := Check(pod, node, usage); {
		case upstream && refusal != nil:
			t.Fatalf("refused, but upstream accepts: %+v", refusal)
		case !upstream && refusal == nil:
			t.Fatal("accepted, but upstream refuses")
		}
	})
}

var (
	keys      = rapid.SampledFrom([]string{"a", "b", corev1.TaintNodeUnschedulable})
	values    = rapid.SampledFrom([]string{"", "1", "2", "x"})
	effects   = rapid.SampledFrom([]corev1.TaintEffect{"NoSchedule", "NoExecute", "PreferNoSchedule"})
	operators = rapid.SampledFrom([]corev1.NodeSelectorOperator{"In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"})
	resources = rapid.SampledFrom([]corev1.ResourceName{"cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "x.com/gpu"})
)

func drawNode(t *rapid.T) *corev1.Node {
	n := &corev1.Node{}
	n.Name = rapid.SampledFrom([]string{"n1", "n2"}).Draw(t, "node")
	n.Labels = rapid.MapOfN(keys, values, 0, 2).Draw(t, "labels")
	n.Spec.Unschedulable = rapid.IntRange(0, 4).Draw(t, "cordoned") == 0
	for range rapid.IntRange(0, 1).Draw(t, "taints") {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: keys.Draw(t, "key"), Value: values.Draw(t, "value"), Effect: effects.Draw(t, "effect")})
	}
	n.Status.Allocatable = corev1.ResourceList{"pods": *resource.NewQuantity(int64(rapid.IntRange(0, 5).Draw(t, "pods")), resource.DecimalSI)}
	for _, name := range []corev1.ResourceName{"cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "x.com/gpu"} {
		if rapid.IntRange(0, 5).Draw(t, "offers") > 0 {
			n.Status.Allocatable[name] = drawQuantity(t, 3000)
		}
	}
	return n
}

func drawPod(t *rapid.T) *corev1.Pod {
	p := &corev1.Pod{}
	s := &p.Spec
	s.NodeName = rapid.SampledFrom([]string{"", "", "", "n1"}).Draw(t, "nodeName")
	if rapid.IntRange(0, 3).Draw(t, "selects") == 0 {
		s.NodeSelector = rapid.MapOfN(keys, values, 0, 1).Draw(t, "selector")
	}
	if rapid.IntRange(0, 3).Draw(t, "required") == 0 {
		s.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: drawSelector(t)}}
	}
	for range rapid.IntRange(0, 2).Draw(t, "tolerations") {
		s.Tolerations = append(s.Tolerations, corev1.Toleration{
			Key:      rapid.OneOf(keys, rapid.Just("")).Draw(t, "key"),
			Operator: rapid.SampledFrom([]corev1.TolerationOperator{"", "Equal", "Exists"}).Draw(t, "operator"),
			Value:    values.Draw(t, "value"),
			Effect:   rapid.OneOf(effects, rapid.Just(corev1.TaintEffect(""))).Draw(t, "effect"),
		})
	}
	always := corev1.ContainerRestartPolicyAlways
	for range rapid.IntRange(0, 2).Draw(t, "init") {
		c := drawContainer(t)
		if rapid.Bool().Draw(t, "sidecar") {
			c.RestartPolicy = &always
		}
		s.InitContainers = append(s.InitContainers, c)
	}
	for range rapid.IntRange(1, 2).Draw(t, "containers") {
		s.Containers = append(s.Containers, drawContainer(t))
	}
	if rapid.IntRange(0, 3).Draw(t, "overhead") == 0 {
		s.Overhead = drawList(t)
	}
	if rapid.IntRange(0, 3).Draw(t, "whole") == 0 {
		s.Resources = &corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": drawQuantity(t, 2000)}}
	}
	return p
}

func drawContainer(t *rapid.T) corev1.Container {
	c := corev1.Container{Resources: corev1.ResourceRequirements{Requests: drawList(t)}}
	if rapid.IntRange(0, 2).Draw(t, "ports") == 0 {
		c.Ports = []corev1.ContainerPort{{
			HostPort: int32(rapid.IntRange(0, 2).Draw(t, "port")),
			HostIP:   rapid.SampledFrom([]string{"", "0.0.0.0", "10.0.0.1", "10.0.0.2", "::"}).Draw(t, "ip"),
			Protocol: rapid.SampledFrom([]corev1.Protocol{"", "TCP", "UDP"}).Draw(t, "protocol"),
		}}
	}
	return c
}

func drawList(t *rapid.T) corev1.ResourceList {
	out := corev1.ResourceList{}
	for range rapid.IntRange(0, 2).Draw(t, "requests") {
		out[resources.Draw(t, "resource")] = drawQuantity(t, 700)
	}
	return out
}

// drawQuantity is whole thousandths, so that rounding happens.
func drawQuantity(t *rapid.T, most int) resource.Quantity {
	return *resource.NewMilliQuantity(int64(rapid.IntRange(0, most).Draw(t, "thousandths")), resource.DecimalSI)
}

func drawSelector(t *rapid.T) *corev1.NodeSelector {
	out := &corev1.NodeSelector{}
	for range rapid.IntRange(0, 2).Draw(t, "terms") {
		term := corev1.NodeSelectorTerm{}
		for range rapid.IntRange(0, 2).Draw(t, "expressions") {
			r := corev1.NodeSelectorRequirement{Key: keys.Draw(t, "key"), Operator: operators.Draw(t, "operator")}
			switch r.Operator {
			case "In", "NotIn":
				r.Values = rapid.SliceOfN(values, 1, 2).Draw(t, "values")
			case "Gt", "Lt":
				r.Values = []string{strconv.Itoa(rapid.IntRange(0, 3).Draw(t, "bound"))}
			}
			term.MatchExpressions = append(term.MatchExpressions, r)
		}
		if rapid.IntRange(0, 3).Draw(t, "fields") == 0 {
			term.MatchFields = []corev1.NodeSelectorRequirement{{
				Key: "metadata.name", Operator: rapid.SampledFrom([]corev1.NodeSelectorOperator{"In", "NotIn"}).Draw(t, "operator"),
				Values: []string{rapid.SampledFrom([]string{"n1", "n2"}).Draw(t, "name")},
			}}
		}
		out.NodeSelectorTerms = append(out.NodeSelectorTerms, term)
	}
	return out
}

func upstreamAccepts(pod *corev1.Pod, node *corev1.Node, others []*corev1.Pod) bool {
	s := pod.Spec
	if s.NodeName != "" && s.NodeName != node.Name {
		return false
	}
	taints := slices.Clone(node.Spec.Taints)
	if node.Spec.Unschedulable {
		taints = append(taints, corev1.Taint{Key: "node.kubernetes.io/unschedulable", Effect: "NoSchedule"})
	}
	for _, taint := range taints {
		if taint.Effect != "PreferNoSchedule" && !slices.ContainsFunc(s.Tolerations, func(t corev1.Toleration) bool {
			return (t.Effect == "" || t.Effect == taint.Effect) && (t.Key == "" || t.Key == taint.Key) &&
				(t.Operator == "Exists" || t.Value == taint.Value)
		}) {
			return false
		}
	}
	for k, v := range s.NodeSelector {
		if have, ok := node.Labels[k]; !ok || have != v {
			return false
		}
	}
	if s.Affinity != nil && !slices.ContainsFunc(s.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms,
		func(term corev1.NodeSelectorTerm) bool { return plainMatch(term, node) }) {
		return false
	}
	for _, want := range plainPorts(pod) {
		for _, other := range others {
			for _, have := range plainPorts(other) {
				if want[1] == have[1] && want[2] == have[2] && (want[0] == have[0] || want[0] == "0.0.0.0" || have[0] == "0.0.0.0") {
					return false
				}
			}
		}
	}
	thousandths := func(list corev1.ResourceList, name corev1.ResourceName) int64 {
		q := list[name]
		return q.MilliValue()
	}
	if int64(len(others))+1 > thousandths(node.Status.Allocatable, "pods")/1000 {
		return false
	}
	for _, name := range []corev1.ResourceName{"cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "x.com/gpu"} {
		units := func(thousandths int64) int64 {
			if name == "cpu" {
				return thousandths
			}
			return (thousandths + 999) / 1000
		}
		free := units(thousandths(node.Status.Allocatable, name))
		for _, other := range others {
			free -= units(plainRequest(other, name))
		}
		if want := units(plainRequest(pod, name)); want > 0 && want > free {
			return false
		}
	}
	return true
}

func plainMatch(term corev1.NodeSelectorTerm, node *corev1.Node) bool {
	for _, r := range term.MatchExpressions {
		have, ok := node.Labels[r.Key]
		var holds bool
		switch r.Operator {
		case "In":
			holds = ok && slices.Contains(r.Values, have)
		case "NotIn":
			holds = !ok || !slices.Contains(r.Values, have)
		case "Exists":
			holds = ok
		case "DoesNotExist":
			holds = !ok
		case "Gt", "Lt":
			a, err := strconv.Atoi(have)
			b, _ := strconv.Atoi(r.Values[0])
			holds = err == nil && (r.Operator == "Gt" && a > b || r.Operator == "Lt" && a < b)
		}
		if !holds {
			return false
		}
	}
	for _, r := range term.MatchFields {
		if (r.Operator == "In") != (r.Values[0] == node.Name) {
			return false
		}
	}
	return len(term.MatchExpressions)+len(term.MatchFields) > 0
}

// plainPorts are address, protocol and number of each port.
func plainPorts(p *corev1.Pod) [][3]string {
	var out [][3]string
	for i, c := range append(slices.Clone(p.Spec.InitContainers), p.Spec.Containers...) {
		if i < len(p.Spec.InitContainers) && c.RestartPolicy == nil {
			continue
		}
		for _, port := range c.Ports {
			if port.HostPort > 0 {
				ip, protocol := port.HostIP, string(port.Protocol)
				if ip == "" {
					ip = "0.0.0.0"
				}
				if protocol == "" {
					protocol = "TCP"
				}
				out = append(out, [3]string{ip, protocol, strconv.Itoa(int(port.HostPort))})
			}
		}
	}
	return out
}

// plainRequest is in thousandths: the most that is asked for at any moment, or
// what is asked for the pod as a whole, and the overhead.
func plainRequest(p *corev1.Pod, name corev1.ResourceName) int64 {
	of := func(list corev1.ResourceList) int64 {
		q := list[name]
		return q.MilliValue()
	}
	var sidecars, peak int64
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil {
			sidecars += of(c.Resources.Requests)
			peak = max(peak, sidecars)
		} else {
			peak = max(peak, sidecars+of(c.Resources.Requests))
		}
	}
	running := sidecars
	for _, c := range p.Spec.Containers {
		running += of(c.Resources.Requests)
	}
	peak = max(peak, running)
	if p.Spec.Resources != nil && name == "cpu" {
		peak = of(p.Spec.Resources.Requests)
	}
	return peak + of(p.Spec.Overhead)
}
