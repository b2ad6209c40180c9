package main

import (
	"fmt"
	"math"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// pod is a pod whose name begins with prefix. Of background pods only what others
// read of them is drawn.
func (g *generator) pod(prefix string, background bool) *corev1.Pod {
	g.pods++
	name := fmt.Sprintf("%s%d", prefix, g.pods)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: name, Namespace: g.namespace(), UID: types.UID(fmt.Sprintf("%s-%02d", prefix, g.pods)), Labels: g.labels(65),
	}}
	g.containers(p, background)
	g.priority(p, background)
	if g.themes.podAffinity {
		g.podAffinity(p, background)
	}
	if background {
		return p
	}
	if g.themes.taints || g.themes.cordons {
		g.tolerations(p)
	}
	if g.themes.nodeAffinity {
		g.nodeAffinity(p)
	}
	if g.themes.spread {
		g.spread(p)
	}
	p.Spec.SchedulerName = g.profile()
	return p
}

// priority also sets the policy for preemption.
func (g *generator) priority(p *corev1.Pod, background bool) {
	if g.percent(60) || g.themes.preempt {
		priority := pick(g, int32(-10), 0, 0, 10, 100, math.MinInt32)
		if !background && g.themes.preempt && g.percent(80) {
			priority = pick(g, int32(10), 100, 1000)
		}
		if background && g.themes.ties {
			priority = 0
		}
		p.Spec.Priority = &priority
	}
	if !background && g.percent(12) {
		policy := pick(g, corev1.PreemptNever, corev1.PreemptLowerPriority)
		p.Spec.PreemptionPolicy = &policy
	}
}

func (g *generator) containers(p *corev1.Pod, background bool) {
	for i := range 1 + g.IntN(2) {
		p.Spec.Containers = append(p.Spec.Containers, g.container(fmt.Sprintf("c%d", i)))
	}
	if g.themes.crowded {
		request := resource.MustParse(pick(g, "300m", "500m"))
		if !background {
			request = resource.MustParse(pick(g, "500m", "1"))
		}
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: request}}
	}
	if g.percent(15) {
		for i := range 1 + g.IntN(2) {
			c := g.container(fmt.Sprintf("i%d", i))
			if g.percent(50) {
				always := corev1.ContainerRestartPolicyAlways
				c.RestartPolicy = &always
			}
			p.Spec.InitContainers = append(p.Spec.InitContainers, c)
		}
	}
	if g.percent(5) {
		p.Spec.Overhead = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("32Mi")}
	}
	if g.themes.podLevel && g.percent(50) {
		r := &corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
		for _, name := range some(g, 70, corev1.ResourceCPU, corev1.ResourceMemory) {
			list := pick(g, r.Requests, r.Limits)
			if name == corev1.ResourceCPU {
				list[name] = resource.MustParse(pick(g, "2", "2500m", "3"))
			} else {
				list[name] = resource.MustParse(pick(g, "1Gi", "1500Mi"))
			}
		}
		p.Spec.Resources = r
	}
	if !background && g.themes.images {
		for i := range g.upTo(2) {
			if g.percent(40) {
				p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: fmt.Sprintf("v%d", i), VolumeSource: corev1.VolumeSource{
					Image: &corev1.ImageVolumeSource{Reference: pick(g, imageNames...), PullPolicy: corev1.PullIfNotPresent},
				}})
			}
		}
	}
	if !background && g.themes.features {
		g.features(p)
	}
	if g.themes.ports && g.percent(60) {
		g.hostPorts(p)
	}
}

// features are what a node has to declare.
func (g *generator) features(p *corev1.Pod) {
	if g.percent(40) {
		never := corev1.ContainerRestartPolicyNever
		p.Spec.Containers[0].RestartPolicy = &never
		p.Spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{{
			Action:    pick(g, corev1.ContainerRestartRuleActionRestartAllContainers, corev1.ContainerRestartRuleActionRestart),
			ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}},
		}}
	}
	if g.percent(40) {
		hostUsers := g.percent(20)
		p.Spec.HostNetwork, p.Spec.HostUsers = g.percent(80), &hostUsers
	}
}

// container is one with requests, some of them only by their limits.
func (g *generator) container(name string) corev1.Container {
	c := corev1.Container{Name: name, Image: "app"}
	if g.themes.images {
		c.Image = pick(g, imageNames...)
	}
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	ask := func(p int, name corev1.ResourceName, from ...string) {
		if !g.percent(p) {
			return
		}
		amount := resource.MustParse(pick(g, from...))
		if g.percent(10) {
			limits[name] = amount
		} else {
			requests[name] = amount
		}
	}
	ask(65, corev1.ResourceCPU, "0", "100m", "250m", "300m", "500m", "1")
	ask(65, corev1.ResourceMemory, "0", "64Mi", "100Mi", "200M", "256Mi", "500Mi")
	ask(15, corev1.ResourceEphemeralStorage, "100Mi", "500Mi", "1Gi")
	if _, limited := limits[corev1.ResourceMemory]; !limited && g.percent(2) {
		requests[corev1.ResourceMemory] = resource.MustParse("1000500m") // rounded up
	}
	if g.themes.extended {
		for _, name := range some(g, 30, gpu, foo, licence) {
			limits[name] = resource.MustParse(pick(g, "0", "1", "1", "2"))
		}
	}
	if g.themes.huge && g.percent(40) {
		limits[huge2Mi] = resource.MustParse(pick(g, "2Mi", "4Mi", "8Mi"))
		requests[corev1.ResourceCPU] = resource.MustParse("100m")
		delete(limits, corev1.ResourceCPU)
	}
	if len(requests) > 0 {
		c.Resources.Requests = requests
	}
	if len(limits) > 0 {
		c.Resources.Limits = limits
	}
	return c
}

// hostPorts gives some container ports of the node.
func (g *generator) hostPorts(p *corev1.Pod) {
	containers := p.Spec.Containers
	if len(p.Spec.InitContainers) > 0 && g.percent(50) {
		containers = p.Spec.InitContainers
	}
	c := &containers[g.IntN(len(containers))]
	p.Spec.HostNetwork = p.Spec.HostNetwork || g.percent(15)
	numbers := []int32{80, 443}
	first := g.IntN(2)
	for i := range 1 + g.upTo(1) {
		port := corev1.ContainerPort{
			Name:          "p" + strconv.Itoa(i),
			ContainerPort: numbers[(first+i)%2],
			Protocol:      pick(g, "", corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP),
		}
		if !p.Spec.HostNetwork {
			port.HostPort = port.ContainerPort
			port.HostIP = pick(g, "", "", "0.0.0.0", "127.0.0.1", "10.0.0.1", "::")
		}
		c.Ports = append(c.Ports, port)
	}
}

func (g *generator) tolerations(p *corev1.Pod) {
	for range g.upTo(2) {
		t := corev1.Toleration{Key: pick(g, taintKeys...), Operator: pick(g, "", corev1.TolerationOpEqual, corev1.TolerationOpExists)}
		if t.Operator != corev1.TolerationOpExists {
			t.Value = pick(g, taintValues...)
		}
		if g.percent(70) {
			t.Effect = pick(g, effects...)
		}
		if t.Effect == corev1.TaintEffectNoExecute && g.percent(30) {
			seconds := int64(300)
			t.TolerationSeconds = &seconds
		}
		if g.percent(6) {
			t.Key, t.Operator, t.Value = "", corev1.TolerationOpExists, ""
		}
		p.Spec.Tolerations = append(p.Spec.Tolerations, t)
	}
	if g.themes.cordons && g.percent(30) {
		p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{
			Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists, Effect: pick(g, "", corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute),
		})
	}
}

func (g *generator) nodeAffinity(p *corev1.Pod) {
	if g.percent(20) {
		p.Spec.NodeSelector = map[string]string{"disk": pick(g, disks...)}
		if g.percent(30) {
			p.Spec.NodeSelector["rack"] = pick(g, racks...)
		}
	}
	a := &corev1.NodeAffinity{}
	if g.percent(50) {
		a.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{}
		required := a.RequiredDuringSchedulingIgnoredDuringExecution
		for range 1 + g.upTo(2) {
			required.NodeSelectorTerms = append(required.NodeSelectorTerms, g.nodeTerm())
		}
		if g.percent(8) { // validation takes it for a number, and no label is more or less
			required.NodeSelectorTerms[0] = corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{
				{Key: "size", Operator: pick(g, corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt), Values: []string{"many"}},
			}}
		}
		if g.percent(4) {
			in := corev1.NodeSelectorRequirement{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn}
			one, other := in, in
			one.Values, other.Values = []string{"n1"}, []string{"n2"}
			required.NodeSelectorTerms = []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{one, other}}}
		}
	}
	if g.percent(60) {
		for range 1 + g.upTo(2) {
			a.PreferredDuringSchedulingIgnoredDuringExecution = append(a.PreferredDuringSchedulingIgnoredDuringExecution,
				corev1.PreferredSchedulingTerm{Weight: pick(g, int32(1), 7, 50, 100), Preference: g.nodeTerm()})
		}
	}
	g.affinity(p).NodeAffinity = a
}

func (g *generator) affinity(p *corev1.Pod) *corev1.Affinity {
	if p.Spec.Affinity == nil {
		p.Spec.Affinity = &corev1.Affinity{}
	}
	return p.Spec.Affinity
}

func (g *generator) nodeTerm() corev1.NodeSelectorTerm {
	t := corev1.NodeSelectorTerm{}
	for range pick(g, 0, 1, 1, 1, 1, 2) {
		t.MatchExpressions = append(t.MatchExpressions, g.nodeRequirement())
	}
	// Without labels to match, names often are all there is to it, as for a
	// DaemonSet's pod.
	if g.percent(15) || len(t.MatchExpressions) == 0 && g.percent(80) {
		for range pick(g, 1, 1, 1, 2) {
			t.MatchFields = append(t.MatchFields, corev1.NodeSelectorRequirement{
				Key: metav1.ObjectNameField, Operator: pick(g, corev1.NodeSelectorOpIn, corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn),
				Values: []string{pick(g, "n1", "n2", "n3", "gone")},
			})
		}
	}
	return t
}

func (g *generator) nodeRequirement() corev1.NodeSelectorRequirement {
	switch g.IntN(10) {
	case 0, 1, 2:
		return corev1.NodeSelectorRequirement{Key: "size", Operator: pick(g, corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt),
			Values: []string{pick(g, "0", "4", "5", "007", "9")}}
	case 3:
		return corev1.NodeSelectorRequirement{Key: pick(g, "disk", "rack", "size", "missing"), Operator: corev1.NodeSelectorOpExists}
	case 4:
		return corev1.NodeSelectorRequirement{Key: pick(g, "disk", "rack", "size", "missing"), Operator: corev1.NodeSelectorOpDoesNotExist}
	}
	values := map[string][]string{corev1.LabelTopologyZone: zones, "disk": disks, "size": sizes[:3], "rack": racks}
	key := pick(g, corev1.LabelTopologyZone, "disk", "size", "rack")
	r := corev1.NodeSelectorRequirement{Key: key, Operator: pick(g, corev1.NodeSelectorOpIn, corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn), Values: []string{pick(g, values[key]...)}}
	if g.percent(30) {
		r.Values = append(r.Values, pick(g, values[key]...))
	}
	return r
}

func (g *generator) topologyKey() string {
	if g.percent(3) {
		return "missing"
	}
	return pick(g, topologyKeys...)
}

func (g *generator) spread(p *corev1.Pod) {
	type kind struct {
		key    string
		action corev1.UnsatisfiableConstraintAction
	}
	used := map[kind]bool{}
	for range 1 + g.upTo(2) {
		c := corev1.TopologySpreadConstraint{
			MaxSkew:           int32(pick(g, 1, 1, 2, 3)),
			TopologyKey:       g.topologyKey(),
			WhenUnsatisfiable: pick(g, corev1.DoNotSchedule, corev1.ScheduleAnyway),
			LabelSelector:     g.labelSelector(),
		}
		if k := (kind{c.TopologyKey, c.WhenUnsatisfiable}); used[k] {
			continue
		} else {
			used[k] = true
		}
		if c.WhenUnsatisfiable == corev1.DoNotSchedule && g.percent(30) {
			n := int32(1 + g.IntN(4))
			c.MinDomains = &n
		}
		if g.percent(25) {
			policy := pick(g, corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore, corev1.NodeInclusionPolicyIgnore)
			c.NodeAffinityPolicy = &policy
		}
		if g.percent(30) {
			policy := pick(g, corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore)
			c.NodeTaintsPolicy = &policy
		}
		if c.LabelSelector != nil && g.percent(25) {
			c.MatchLabelKeys = g.unused(c.LabelSelector)
			if g.percent(50) {
				metav1.SetMetaDataAnnotation(&p.ObjectMeta, oldAnnotation, "true")
			}
		}
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, c)
	}
}

// unused are label keys that the selector has not, as validation wants it.
func (g *generator) unused(s *metav1.LabelSelector) []string {
	used := map[string]bool{}
	for key := range s.MatchLabels {
		used[key] = true
	}
	for _, r := range s.MatchExpressions {
		used[r.Key] = true
	}
	var out []string
	for _, key := range append([]string{"missing"}, labelKeys...) {
		if !used[key] && g.percent(40) {
			out = append(out, key)
		}
	}
	return out
}

func (g *generator) podAffinity(p *corev1.Pod, background bool) {
	chance := 45
	if background {
		chance = 15
	}
	terms := func() (required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
		if g.percent(chance) {
			for range 1 + g.upTo(1) {
				required = append(required, g.podTerm(p))
			}
		}
		if g.percent(chance) {
			for range 1 + g.upTo(1) {
				preferred = append(preferred, corev1.WeightedPodAffinityTerm{Weight: pick(g, int32(1), 10, 100), PodAffinityTerm: g.podTerm(p)})
			}
		}
		return required, preferred
	}
	if required, preferred := terms(); len(required)+len(preferred) > 0 {
		g.affinity(p).PodAffinity = &corev1.PodAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: required, PreferredDuringSchedulingIgnoredDuringExecution: preferred,
		}
	}
	if required, preferred := terms(); len(required)+len(preferred) > 0 {
		g.affinity(p).PodAntiAffinity = &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: required, PreferredDuringSchedulingIgnoredDuringExecution: preferred,
		}
	}
}

func (g *generator) podTerm(p *corev1.Pod) corev1.PodAffinityTerm {
	t := corev1.PodAffinityTerm{TopologyKey: g.topologyKey(), LabelSelector: g.labelSelector()}
	if g.percent(25) && len(p.Labels) > 0 {
		t.LabelSelector = &metav1.LabelSelector{MatchLabels: p.Labels} // its own kind
	}
	if g.percent(25) {
		t.Namespaces = some(g, 40, namespaces...)
	}
	if g.percent(30) {
		t.NamespaceSelector = &metav1.LabelSelector{}
		if g.percent(75) {
			t.NamespaceSelector.MatchExpressions = append(t.NamespaceSelector.MatchExpressions,
				g.requirement([]string{"team", "team", "missing"}, map[string][]string{"team": teams, "missing": {"x"}}))
		}
		if g.percent(10) {
			t.NamespaceSelector.MatchLabels = map[string]string{corev1.LabelMetadataName: pick(g, namespaces...)}
		}
	}
	if t.LabelSelector != nil && g.percent(15) {
		keys := g.unused(t.LabelSelector)
		if g.percent(50) {
			t.MatchLabelKeys = keys
		} else {
			t.MismatchLabelKeys = keys
		}
	}
	return t
}
