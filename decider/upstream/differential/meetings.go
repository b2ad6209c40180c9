package main

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A meeting brings together what cases of many themes hardly ever draw at once. All
// else in the case is quiet: nodes have room, and pods are drawn without themes.
type meeting struct {
	profile string // of all pending pods; that of the case if empty
	preempt bool
	arrange func(*generator, *Case)
}

// meetings are drawn alike.
var meetings = []meeting{
	{arrange: (*generator).domainsLeftOut},
	{arrange: (*generator).domainsLeftOut}, // by taints, or by node affinity
	{preempt: true, arrange: (*generator).spreadVictims},
	{arrange: (*generator).nominatedRepel},
	{arrange: (*generator).nominatedCount},
	{preempt: true, arrange: (*generator).waitForVictims},
	{arrange: (*generator).preferPods},
	{arrange: (*generator).noNodes},
	{profile: "list-spreading", arrange: (*generator).softOfService},
	{profile: "default-scheduler", arrange: (*generator).contradictingOwners},
	{arrange: (*generator).unreadablePreference},
	{arrange: (*generator).wholeRequests},
	{arrange: (*generator).twoFeatures},
	{arrange: (*generator).fewDomains},
	{arrange: (*generator).twoTerms},
	{arrange: (*generator).nominatedNear},
	{profile: "own-terms-only", arrange: (*generator).preferredByOthers},
	{preempt: true, arrange: (*generator).victimsOutside},
	{preempt: true, arrange: (*generator).manyBudgets},
}

// everyMeeting is how many cases there are to one meeting.
const everyMeeting = 4

// meet draws a case about m.
func (g *generator) meet(m meeting) *Case {
	g.themes, g.mostly = themes{preempt: m.preempt}, m.profile
	if m.profile == "" {
		g.mostly = "default-scheduler"
	}
	c := g.newCase()
	for _, p := range c.Pending {
		p.Spec.SchedulerName = g.mostly
		p.Spec.NodeName, p.Status.NominatedNodeName = "", ""
	}
	m.arrange(g, c)
	return c
}

// alike makes most placed pods and all that wait pods of one kind, so that selectors
// and terms about it concern nearly all of them.
func (g *generator) alike(c *Case) {
	for _, p := range c.Placed {
		if g.percent(80) {
			p.Namespace, p.Labels = "default", map[string]string{"app": "a"}
		}
	}
	for _, p := range c.Pending {
		p.Namespace, p.Labels = "default", map[string]string{"app": "a"}
	}
}

// alikeOnes selects them.
func alikeOnes() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}
}

// zoned puts all nodes into two zones.
func (g *generator) zoned(c *Case) {
	for i, n := range c.Nodes {
		if n.Labels == nil {
			n.Labels = map[string]string{}
		}
		n.Labels[corev1.LabelTopologyZone] = zones[i%2]
	}
}

// domainsLeftOut are those of spread constraints that leave tainted nodes or those of
// another disk out, or not.
func (g *generator) domainsLeftOut(c *Case) {
	g.alike(c)
	g.zoned(c)
	taints := g.percent(50)
	left := map[string]bool{}
	for _, n := range c.Nodes {
		n.Labels["disk"] = pick(g, disks...)
		left[n.Name] = n.Labels["disk"] != "ssd"
		if taints {
			left[n.Name] = g.percent(50)
		}
		if taints && left[n.Name] {
			n.Spec.Taints = []corev1.Taint{{Key: "dedicated", Value: "a", Effect: pick(g, effects...)}}
		}
	}
	var kept []string
	for _, n := range c.Nodes {
		if !left[n.Name] {
			kept = append(kept, n.Name)
		}
	}
	// So that the domains that are left out are often those with the fewest pods.
	for i, p := range c.Placed {
		if len(kept) > 0 && g.percent(70) {
			p.Spec.NodeName = kept[i%len(kept)]
		}
		if left[p.Spec.NodeName] && g.percent(60) {
			p.Labels = nil
		}
	}
	for _, p := range c.Pending {
		constraint := corev1.TopologySpreadConstraint{
			MaxSkew: 1, TopologyKey: pick(g, topologyKeys...), LabelSelector: alikeOnes(),
			WhenUnsatisfiable: pick(g, corev1.DoNotSchedule, corev1.DoNotSchedule, corev1.ScheduleAnyway),
		}
		policy := pick(g, corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore)
		switch {
		case g.percent(20): // as it is by default
		case taints:
			constraint.NodeTaintsPolicy = &policy
		default:
			constraint.NodeAffinityPolicy = &policy
		}
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{constraint}
		if taints && g.percent(30) {
			p.Spec.Tolerations = []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpExists}}
		}
		if !taints {
			p.Spec.NodeSelector = map[string]string{"disk": "ssd"}
		}
	}
}

// spreadVictims stand between a pod and its hard constraints; some are about to end,
// which constraints do not count, and some are too important to go.
func (g *generator) spreadVictims(c *Case) {
	g.alike(c)
	g.zoned(c)
	// The domain with the fewest pods would always do: often, nobody may go there.
	tainted := map[string]bool{}
	for _, n := range c.Nodes {
		if g.percent(20) {
			delete(n.Labels, pick(g, topologyKeys[1:]...)) // found out only after the others
		}
	}
	for _, n := range c.Nodes[1:] {
		if g.percent(60) {
			tainted[n.Name] = true
			n.Spec.Taints = []corev1.Taint{{Key: "dedicated", Value: "a", Effect: corev1.TaintEffectNoSchedule}}
		}
	}
	for _, p := range c.Placed {
		if tainted[p.Spec.NodeName] && g.percent(70) {
			p.Labels = nil
		}
		priority := pick(g, int32(0), 10, 1000)
		p.Spec.Priority = &priority
		if p.DeletionTimestamp == nil && g.percent(35) {
			deleted, grace := metav1.NewTime(epoch), int64(30)
			p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &deleted, &grace
		}
	}
	for _, p := range c.Pending {
		priority := int32(100)
		p.Spec.Priority, p.Spec.PreemptionPolicy = &priority, nil
		for _, key := range some(g, 60, topologyKeys...) {
			p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
				MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: alikeOnes(),
			})
		}
	}
}

// nominatedRepel is pods without terms and nominated ones that want them elsewhere.
// kube-scheduler looks at their terms only if a placed pod repels the pod as well.
func (g *generator) nominatedRepel(c *Case) {
	g.alike(c)
	repels := func(p *corev1.Pod) {
		p.Namespace = "default"
		g.affinity(p).PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
			{TopologyKey: pick(g, topologyKeys...), LabelSelector: alikeOnes()},
		}}
	}
	for range 1 + g.upTo(2) {
		p := g.pod("m", true)
		priority := pick(g, int32(-10), 100, 1000)
		p.Spec.Priority, p.Status.Phase, p.Status.NominatedNodeName = &priority, corev1.PodPending, g.nodeName(c)
		repels(p)
		c.Nominated = append(c.Nominated, p)
	}
	if len(c.Placed) == 0 {
		return
	}
	repels(c.Placed[0])
	if g.percent(70) { // others
		c.Placed[0].Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0].LabelSelector.MatchLabels["app"] = "c"
	}
}

// nominatedCount is hard constraints for which a nominated pod fills the least occupied
// domain, while its node is looked at and no longer.
func (g *generator) nominatedCount(c *Case) {
	g.alike(c)
	g.zoned(c)
	c.Placed = c.Placed[:min(len(c.Placed), 1+g.upTo(len(c.Nodes)))]
	first := c.Nodes[0].Name
	for _, p := range c.Placed {
		if p.Spec.NodeName == first {
			p.Spec.NodeName = c.Nodes[len(c.Nodes)-1].Name
		}
	}
	p := g.pod("m", true)
	priority := pick(g, int32(-10), 100, 100)
	p.Namespace, p.Labels, p.Spec.Priority = "default", map[string]string{"app": "a"}, &priority
	p.Status.Phase, p.Status.NominatedNodeName = corev1.PodPending, first
	c.Nominated = append(c.Nominated, p)
	for _, p := range c.Pending {
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: pick(g, topologyKeys[:2]...), WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: alikeOnes(),
		}}
	}
}

// preferPods is pods that would rather be near some and away from others, by weights
// whose sums do not divide evenly.
func (g *generator) preferPods(c *Case) {
	g.zoned(c)
	terms := func() (out []corev1.WeightedPodAffinityTerm) {
		for range 1 + g.upTo(2) {
			out = append(out, corev1.WeightedPodAffinityTerm{Weight: pick(g, int32(1), 3, 7), PodAffinityTerm: corev1.PodAffinityTerm{
				TopologyKey: pick(g, topologyKeys...), NamespaceSelector: &metav1.LabelSelector{},
				LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": pick(g, labelValues["app"]...)}},
			}})
		}
		return out
	}
	for _, p := range c.Pending {
		g.affinity(p).PodAffinity = &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: terms()}
		if g.percent(50) {
			p.Spec.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: terms()}
		}
	}
}

// waitForVictims is pods whose nominated node is full; somebody on it is about to end.
func (g *generator) waitForVictims(c *Case) {
	n := c.Nodes[0]
	n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("2")
	c.Placed = nil
	for i := range 2 {
		p := g.pod("v", true)
		priority := pick(g, int32(0), 100, 1000)
		start := metav1.NewTime(epoch.AddDate(0, 0, i))
		p.Spec.Priority, p.Spec.NodeName = &priority, n.Name
		p.Status.Phase, p.Status.StartTime = corev1.PodRunning, &start
		c.Placed = append(c.Placed, p)
	}
	ending := c.Placed[0]
	deleted, grace := metav1.NewTime(epoch), int64(30)
	ending.DeletionTimestamp, ending.DeletionGracePeriodSeconds = &deleted, &grace
	ending.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
		Reason: pick(g, corev1.PodReasonPreemptionByScheduler, corev1.PodReasonPreemptionByScheduler, "EvictionByEvictionAPI"),
	}}
	c.Nodes = c.Nodes[:1+g.upTo(min(1, len(c.Nodes)-1))]
	for i, p := range c.Pending {
		priority := int32(100 + i)
		p.Spec.Priority, p.Status.NominatedNodeName = &priority, n.Name
		// Wherever it would fit it would not have to wait.
		p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: n.Labels[corev1.LabelHostname]}
	}
}

func (g *generator) noNodes(c *Case) { c.Nodes = nil }

// softOfService is pods of a Service that spread over racks if they can: the hard
// constraints of the list are not for them.
func (g *generator) softOfService(c *Case) {
	g.alike(c)
	g.zoned(c)
	for _, n := range c.Nodes {
		if g.percent(30) {
			delete(n.Labels, corev1.LabelTopologyZone)
		}
	}
	c.Services = append(c.Services, g.service("a"))
	for _, p := range c.Pending {
		if g.percent(70) {
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
				MaxSkew: 1, TopologyKey: "rack", WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: alikeOnes(),
			}}
		}
	}
}

// service selects what has the value of app.
func (g *generator) service(app string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "of-" + app, Namespace: "default", UID: types.UID("service-of-" + app)},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": app}},
	}
}

// contradictingOwners is pods that a Service selects and that a ReplicationController
// of other pods owns. Both say among what they spread.
func (g *generator) contradictingOwners(c *Case) {
	g.alike(c)
	g.zoned(c)
	for _, p := range c.Placed {
		if g.percent(40) {
			p.Namespace, p.Labels = "default", map[string]string{"app": "b"}
		}
	}
	c.Services = append(c.Services, g.service("a"))
	labels := map[string]string{"app": pick(g, "a", "b", "b")}
	c.ReplicationControllers = append(c.ReplicationControllers, &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Name: "owner", UID: "owner", Namespace: "default"},
		Spec: corev1.ReplicationControllerSpec{Selector: labels, Template: &corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "app"}}},
		}},
	})
	controller := true
	for _, p := range c.Pending {
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicationController", APIVersion: "v1", Name: "owner", UID: "owner", Controller: &controller}}
	}
}

// unreadablePreference is pods with a preferred term that validation lets pass, and
// that kube-scheduler cannot read.
func (g *generator) unreadablePreference(c *Case) {
	for i, p := range c.Pending {
		if i > 0 {
			return
		}
		g.affinity(p).NodeAffinity = &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{
			{Weight: 1, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{pick(g,
				corev1.NodeSelectorRequirement{Key: "size", Operator: corev1.NodeSelectorOpGt, Values: []string{"many"}},
				corev1.NodeSelectorRequirement{Key: "disk", Operator: corev1.NodeSelectorOpIn, Values: []string{fmt.Sprintf("%s {b}", pick(g, disks...))}},
			)}}},
		}}
	}
}

// wholeRequests is pods one after the other whose requests are set as a whole, onto
// few nodes.
func (g *generator) wholeRequests(c *Case) {
	c.Nodes, c.Placed = c.Nodes[:1], nil
	for len(c.Pending) < 3 {
		p := g.pod("q", false)
		p.Spec.SchedulerName, p.Spec.NodeName = g.mostly, ""
		c.Pending = append(c.Pending, p)
	}
	for _, p := range c.Pending {
		p.Spec.Overhead, p.Spec.InitContainers, p.Spec.Containers = nil, nil, p.Spec.Containers[:1]
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{}
		p.Spec.Resources = &corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceMemory: resource.MustParse(pick(g, "0", "500Mi", "1500Mi", "3Gi")),
		}}
	}
}

// twoFeatures is pods that need two features, and nodes that mostly declare one.
func (g *generator) twoFeatures(c *Case) {
	for _, n := range c.Nodes {
		n.Status.DeclaredFeatures = some(g, 60, "RestartAllContainersOnContainerExits", "UserNamespacesHostNetworkSupport")
	}
	for _, p := range c.Pending {
		never, hostUsers := corev1.ContainerRestartPolicyNever, false
		p.Spec.HostNetwork, p.Spec.HostUsers = true, &hostUsers
		p.Spec.Containers[0].RestartPolicy = &never
		p.Spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{{
			Action:    corev1.ContainerRestartRuleActionRestartAllContainers,
			ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{1}},
		}}
	}
}

// fewDomains is hard constraints that want about as many domains as there are, each
// with about as many pods as one more may join.
func (g *generator) fewDomains(c *Case) {
	g.alike(c)
	g.zoned(c)
	c.Placed = c.Placed[:min(len(c.Placed), len(c.Nodes))]
	for i, p := range c.Placed {
		p.Spec.NodeName = c.Nodes[i].Name
	}
	for _, p := range c.Pending {
		domains := int32(1 + g.IntN(4))
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: pick(g, int32(1), 1, 2), TopologyKey: pick(g, topologyKeys[:2]...), MinDomains: &domains,
			WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: alikeOnes(),
		}}
	}
}

// twoTerms is pods that must be near others in two ways; some nodes are in one only.
func (g *generator) twoTerms(c *Case) {
	g.alike(c)
	g.zoned(c)
	for _, p := range c.Pending {
		p.Labels = map[string]string{"app": "b"} // not the first of its kind
		terms := []corev1.PodAffinityTerm{
			{TopologyKey: corev1.LabelHostname, LabelSelector: alikeOnes()},
			{TopologyKey: corev1.LabelTopologyZone, LabelSelector: alikeOnes()},
		}
		if g.percent(50) {
			terms[0], terms[1] = terms[1], terms[0]
		}
		g.affinity(p).PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms}
	}
}

// nominatedNear is pods that must be near one of another kind: where that is only a
// nominated one, it may never come.
func (g *generator) nominatedNear(c *Case) {
	g.zoned(c)
	for _, p := range c.Placed {
		p.Labels = nil
	}
	p := g.pod("m", true)
	priority := int32(1000)
	p.Namespace, p.Labels, p.Spec.Priority = "default", map[string]string{"app": "a"}, &priority
	p.Status.Phase, p.Status.NominatedNodeName = corev1.PodPending, g.nodeName(c)
	c.Nominated = append(c.Nominated, p)
	if len(c.Placed) > 0 && g.percent(30) {
		c.Placed[0].Namespace, c.Placed[0].Labels = "default", map[string]string{"app": "a"}
	}
	for _, p := range c.Pending {
		p.Namespace, p.Labels = "default", map[string]string{"app": "b"}
		g.affinity(p).PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
			{TopologyKey: pick(g, topologyKeys...), LabelSelector: alikeOnes()},
		}}
	}
}

// preferredByOthers is pods without terms that placed ones would rather be near, or not.
func (g *generator) preferredByOthers(c *Case) {
	g.alike(c)
	g.zoned(c)
	for _, p := range c.Placed {
		terms := []corev1.WeightedPodAffinityTerm{{Weight: pick(g, int32(1), 3, 7), PodAffinityTerm: corev1.PodAffinityTerm{
			TopologyKey: pick(g, topologyKeys...), LabelSelector: alikeOnes(),
		}}}
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: terms}}
		if g.percent(30) {
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: terms}}
		}
	}
}

// victimsOutside are on a node that lacks a further constraint's label, so that the
// zone is no less full without them.
func (g *generator) victimsOutside(c *Case) {
	for len(c.Nodes) < 4 {
		c.Nodes = append(c.Nodes, g.node(fmt.Sprintf("n%d", len(c.Nodes)+1)))
	}
	for len(c.Placed) < 6 {
		p := g.pod("p", true)
		g.running(p)
		c.Placed = append(c.Placed, p)
	}
	c.Nodes, c.Placed = c.Nodes[:4], c.Placed[:6]
	g.alike(c)
	g.zoned(c)
	for i, n := range c.Nodes {
		n.Labels["rack"] = pick(g, "a", "b")
		if i > 0 {
			n.Spec.Taints = []corev1.Taint{{Key: "dedicated", Value: "a", Effect: corev1.TaintEffectNoSchedule}}
		}
	}
	delete(c.Nodes[0].Labels, "rack")
	for i, p := range c.Placed {
		priority := int32(0)
		p.Spec.Priority, p.Spec.NodeName = &priority, c.Nodes[i%2*2].Name // the first zone's
	}
	for _, p := range c.Pending {
		priority := int32(100)
		p.Spec.Priority, p.Spec.PreemptionPolicy, p.Spec.Tolerations = &priority, nil, nil
		for _, key := range []string{corev1.LabelTopologyZone, "rack"} {
			p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
				MaxSkew: int32(1 + g.upTo(1)), TopologyKey: key, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: alikeOnes(),
			})
		}
	}
}

// manyBudgets protect the same pods, one of which has to go from every node.
func (g *generator) manyBudgets(c *Case) {
	g.alike(c)
	for _, n := range c.Nodes {
		n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse(pick(g, "1", "2"))
	}
	for _, p := range c.Placed {
		priority := pick(g, int32(0), 10)
		p.Spec.Priority = &priority
	}
	c.Budgets = nil
	for i := range 3 {
		b := g.budget(c, i)
		b.Namespace, b.Spec.Selector, b.Status.DisruptedPods = "default", alikeOnes(), nil
		b.Status.DisruptionsAllowed = pick(g, int32(0), 1, 5)
		c.Budgets = append(c.Budgets, b)
	}
	for i, p := range c.Pending {
		priority := int32(100 + i)
		p.Spec.Priority, p.Spec.PreemptionPolicy = &priority, nil
	}
}
