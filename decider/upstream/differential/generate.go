package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Small alphabets, so that what is generated meets.
var (
	zones      = []string{"z1", "z2", "z3"}
	racks      = []string{"r1", "r2"}
	disks      = []string{"ssd", "hdd"}
	sizes      = []string{"1", "5", "10", "007", "large", "99999999999999999999"}
	namespaces = []string{"default", "prod", "dev", "ghost"}
	teams      = []string{"red", "blue"}

	labelValues = map[string][]string{"app": {"a", "b", "c"}, "tier": {"x", "y"}, "rev": {"1", "2"}}
	labelKeys   = []string{"app", "tier", "rev"}

	taintKeys   = []string{"dedicated", "gpu"}
	taintValues = []string{"", "a", "b"}
	effects     = []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}

	topologyKeys = []string{corev1.LabelHostname, corev1.LabelTopologyZone, "rack"}

	imageNames = []string{"app:v1", "app", "base:latest", "tools", "registry.example:5000/web", digest("web")}
	imageSizes = []int64{10 << 20, 23 << 20, 60 << 20, 300 << 20, 1000 << 20, 3 << 30}
)

const (
	gpu     = corev1.ResourceName("example.com/gpu")
	foo     = corev1.ResourceName("example.com/foo")
	licence = corev1.ResourceName("example.org/licence")
	huge2Mi = corev1.ResourceName("hugepages-2Mi")
)

func digest(name string) string {
	return name + "@sha256:" + fmt.Sprintf("%064d", len(name))
}

// epoch is when the first pod started.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// generator draws one case.
type generator struct {
	*rand.Rand
	themes themes
	mostly string // the profile of most pods
	pods   int
	absent bool // some pod has no start time; a second one would be a tie
}

// themes are what a case is about. Constraints of every kind in one case would
// leave no node.
type themes struct {
	taints, cordons, nodeAffinity, ports, extended, huge bool
	spread, podAffinity, images, nominated, features     bool
	preempt, tight, defaultSpread, resize, podLevel      bool
	// crowded nodes are full of pods, so that somebody has to go.
	crowded bool
	// ties are pods that start at the same time and have the same priority.
	ties bool
}

// Generate is the case of a seed and a number. Nobody has checked that the API
// server takes it.
func Generate(seed, number uint64) *Case {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, number))}
	if number%everyMeeting == 0 {
		return g.meet(pick(g, meetings...))
	}
	g.themes = themes{
		taints:        g.percent(35),
		cordons:       g.percent(15),
		nodeAffinity:  g.percent(40),
		ports:         g.percent(20),
		extended:      g.percent(25),
		huge:          g.percent(10),
		spread:        g.percent(40),
		podAffinity:   g.percent(40),
		images:        g.percent(30),
		nominated:     g.percent(20),
		features:      g.percent(10),
		preempt:       g.percent(40),
		tight:         g.percent(50),
		defaultSpread: g.percent(25),
		resize:        g.percent(15),
		podLevel:      g.percent(15),
		ties:          g.percent(25),
	}
	g.favour()
	if t := &g.themes; t.preempt && g.percent(60) {
		t.crowded, t.tight = true, true
		t.cordons, t.huge, t.features, t.extended = false, false, false, false
		t.taints = t.taints && g.percent(30)
		t.nodeAffinity = t.nodeAffinity && g.percent(30)
		t.podAffinity = t.podAffinity && g.percent(40)
		t.spread = t.spread && g.percent(40)
	}
	return g.newCase()
}

func (g *generator) percent(p int) bool { return g.IntN(100) < p }

// upTo is 0 to n.
func (g *generator) upTo(n int) int { return g.IntN(n + 1) }

func pick[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

// some is each of from with a chance of p percent, in order.
func some[T any](g *generator, p int, from ...T) []T {
	var out []T
	for _, x := range from {
		if g.percent(p) {
			out = append(out, x)
		}
	}
	return out
}

func (g *generator) newCase() *Case {
	c := &Case{Preempt: g.themes.preempt, Seed: uint64(g.IntN(5))}
	for i := range 1 + g.IntN(8) {
		c.Nodes = append(c.Nodes, g.node(fmt.Sprintf("n%d", i+1)))
	}
	for _, name := range namespaces {
		if name == "ghost" || g.percent(5) {
			continue
		}
		n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("ns-" + name), Labels: map[string]string{corev1.LabelMetadataName: name}}}
		if g.percent(70) {
			n.Labels["team"] = pick(g, teams...)
		}
		c.Namespaces = append(c.Namespaces, n)
	}
	pending := pick(g, 1, 1, 1, 1, 1, 1, 2, 3)
	// Pods of this case that are placed before others have no start time either, so
	// that they would be as important as each other, and as a pod without one.
	g.absent = pending > 1
	g.themes.ties = g.themes.ties && pending == 1
	placed := g.upTo(pick(g, 3, 8, 20))
	if g.themes.crowded {
		placed = min(20, g.upTo(3*len(c.Nodes))+len(c.Nodes))
	}
	// kube-scheduler's sort of victims is unstable from 13 on.
	g.themes.ties = g.themes.ties && (placed <= 12 || g.themes.crowded && len(c.Nodes) > 1)
	for i := range placed {
		p := g.pod("p", true)
		p.Spec.NodeName = g.nodeName(c)
		if g.themes.crowded {
			p.Spec.NodeName = c.Nodes[i%len(c.Nodes)].Name
		}
		g.running(p)
		c.Placed = append(c.Placed, p)
	}
	if g.themes.nominated {
		for range 1 + g.upTo(2) {
			p := g.pod("m", true)
			p.Status.Phase = corev1.PodPending
			p.Status.NominatedNodeName = g.nodeName(c)
			c.Nominated = append(c.Nominated, p)
		}
	}
	for i := range pending {
		p := g.pod("q", false)
		if pending > 1 && c.Preempt {
			*p.Spec.Priority += int32(i)
		}
		if g.percent(10) || g.themes.crowded && g.percent(15) {
			p.Status.NominatedNodeName = g.nodeName(c)
		}
		if g.percent(2) {
			p.Spec.NodeName = g.nodeName(c)
		}
		c.Pending = append(c.Pending, p)
	}
	if g.themes.defaultSpread {
		g.owners(c)
	}
	if g.themes.preempt {
		for i := range g.upTo(3) {
			c.Budgets = append(c.Budgets, g.budget(c, i))
		}
	}
	return c
}

// nodeName is a node's; now and then one that is not there.
func (g *generator) nodeName(c *Case) string {
	if g.percent(2) {
		return "gone"
	}
	return pick(g, c.Nodes...).Name
}

func (g *generator) node(name string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("node-" + name), Labels: map[string]string{}}}
	label := func(p int, key string, value string) {
		if g.percent(p) {
			n.Labels[key] = value
		}
	}
	label(94, corev1.LabelHostname, name)
	label(88, corev1.LabelTopologyZone, pick(g, zones...))
	label(70, "rack", pick(g, racks...))
	label(60, "disk", pick(g, disks...))
	label(60, "size", pick(g, sizes...))
	if g.percent(1) {
		n.Labels = nil
	}
	if g.themes.taints {
		for _, key := range some(g, 35, taintKeys...) {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Value: pick(g, taintValues...), Effect: pick(g, effects...)})
		}
		if g.percent(15) {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "extra", Effect: corev1.TaintEffectPreferNoSchedule})
		}
	}
	if g.themes.cordons && g.percent(40) {
		n.Spec.Unschedulable = true
		if g.percent(60) {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule})
		}
	}
	allocatable := corev1.ResourceList{}
	offer := func(p int, name corev1.ResourceName, from ...string) {
		if g.percent(p) {
			allocatable[name] = resource.MustParse(pick(g, from...))
		}
	}
	if g.themes.tight {
		if g.themes.crowded {
			offer(100, corev1.ResourceCPU, "1", "1500m", "2")
		} else {
			offer(98, corev1.ResourceCPU, "500m", "1", "1500m", "2", "0")
		}
		offer(98, corev1.ResourceMemory, "512Mi", "1Gi", "1000Mi", "2Gi")
		offer(97, corev1.ResourcePods, "1", "2", "3", "5", "110")
		offer(70, corev1.ResourceEphemeralStorage, "1Gi", "5Gi")
	} else {
		offer(100, corev1.ResourceCPU, "4", "8", "3900m", "16")
		offer(100, corev1.ResourceMemory, "8Gi", "16Gi", "7777Mi")
		offer(100, corev1.ResourcePods, "110", "30")
		offer(90, corev1.ResourceEphemeralStorage, "20Gi", "100Gi")
	}
	if g.themes.extended {
		offer(60, gpu, "0", "1", "2", "4")
		offer(40, foo, "1", "3")
		offer(40, licence, "1", "3")
	}
	if g.themes.huge {
		offer(70, huge2Mi, "0", "4Mi", "16Mi")
	}
	n.Status.Allocatable, n.Status.Capacity = allocatable, allocatable.DeepCopy()
	if g.themes.images {
		for _, image := range some(g, 40, imageNames...) {
			size := imageSizes[len(image)%len(imageSizes)]
			if g.percent(10) {
				size = pick(g, imageSizes...)
			}
			names := []string{image}
			if g.percent(20) {
				names = append(names, image+":latest")
			}
			n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: names, SizeBytes: size})
		}
	}
	if g.themes.features {
		n.Status.DeclaredFeatures = some(g, 50, "ExtendWebSocketsToKubelet", "RestartAllContainersOnContainerExits", "UserNamespacesHostNetworkSupport")
	}
	return n
}

// running gives a placed pod the status of one that runs, or is about to end.
func (g *generator) running(p *corev1.Pod) {
	p.Status.Phase = corev1.PodRunning
	seconds := g.IntN(1000)*64 + g.pods
	if g.themes.ties {
		seconds = g.IntN(2)
	}
	if !g.absent && g.percent(5) {
		g.absent = true
	} else {
		start := metav1.NewTime(epoch.Add(time.Duration(seconds) * time.Second))
		p.Status.StartTime = &start
	}
	if g.percent(10) {
		deleted, grace := metav1.NewTime(epoch), int64(30)
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &deleted, &grace
		switch g.IntN(4) {
		case 0, 1:
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
				Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler,
			})
		case 2:
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
				Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI",
			})
		}
	}
	if g.themes.resize && g.percent(60) {
		g.resize(p)
	}
	if g.percent(2) {
		p.Status.Phase = pick(g, corev1.PodSucceeded, corev1.PodFailed)
	}
}

// resize gives a running pod a resize in place that the kubelet has not finished,
// or not begun, or refused.
func (g *generator) resize(p *corev1.Pod) {
	status := func(containers []corev1.Container) []corev1.ContainerStatus {
		var out []corev1.ContainerStatus
		for i := range containers {
			if g.percent(20) {
				continue
			}
			s := corev1.ContainerStatus{Name: containers[i].Name}
			if g.percent(80) {
				s.AllocatedResources = g.scaled(containers[i].Resources.Requests)
			}
			if g.percent(70) {
				s.Resources = &corev1.ResourceRequirements{Requests: g.scaled(containers[i].Resources.Requests)}
			}
			out = append(out, s)
		}
		return out
	}
	p.Status.ContainerStatuses = status(p.Spec.Containers)
	p.Status.InitContainerStatuses = status(p.Spec.InitContainers)
	if r := p.Spec.Resources; r != nil {
		if g.percent(70) {
			p.Status.AllocatedResources = g.scaled(r.Requests)
		}
		if g.percent(70) {
			p.Status.Resources = &corev1.ResourceRequirements{Requests: g.scaled(r.Requests)}
		}
	}
	if g.percent(50) {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
			Type: corev1.PodResizePending, Status: corev1.ConditionTrue,
			Reason: pick(g, corev1.PodReasonInfeasible, corev1.PodReasonInfeasible, corev1.PodReasonDeferred),
		})
	}
}

// scaled is other amounts of the same resources.
func (g *generator) scaled(in corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		if q, ok := in[name]; ok {
			out[name] = *resource.NewMilliQuantity(q.MilliValue()*int64(1+g.IntN(4))/2, q.Format)
		}
	}
	return out
}

func (g *generator) namespace() string {
	switch n := g.IntN(100); {
	case n < 60:
		return "default"
	case n < 80:
		return "prod"
	case n < 94:
		return "dev"
	}
	return "ghost"
}

func (g *generator) labels(p int) map[string]string {
	out := map[string]string{}
	for _, key := range labelKeys {
		if g.percent(p) {
			out[key] = pick(g, labelValues[key]...)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func (g *generator) labelSelector() *metav1.LabelSelector {
	switch n := g.IntN(100); {
	case n < 4:
		return nil
	case n < 10:
		return &metav1.LabelSelector{}
	case n < 55:
		key := pick(g, labelKeys...)
		return &metav1.LabelSelector{MatchLabels: map[string]string{key: pick(g, labelValues[key]...)}}
	}
	s := &metav1.LabelSelector{}
	for range 1 + g.upTo(1) {
		s.MatchExpressions = append(s.MatchExpressions, g.requirement(labelKeys, labelValues))
	}
	if g.percent(10) {
		s.MatchLabels = g.labels(40)
	}
	return s
}

func (g *generator) requirement(keys []string, values map[string][]string) metav1.LabelSelectorRequirement {
	r := metav1.LabelSelectorRequirement{Key: pick(g, keys...)}
	r.Operator = pick(g, metav1.LabelSelectorOpIn, metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist)
	if r.Operator == metav1.LabelSelectorOpIn || r.Operator == metav1.LabelSelectorOpNotIn {
		r.Values = append(r.Values, pick(g, values[r.Key]...))
		if g.percent(30) {
			r.Values = append(r.Values, pick(g, values[r.Key]...))
		}
	}
	return r
}

// owners adds what a pod's default spreading is derived from.
func (g *generator) owners(c *Case) {
	all := append(append([]*corev1.Pod{}, c.Placed...), c.Pending...)
	for i := range 1 + g.upTo(1) {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("s%d", i), UID: types.UID(fmt.Sprintf("service-%d", i)), Namespace: g.namespace()}}
		if g.percent(90) {
			s.Spec.Selector = g.labels(50)
		}
		c.Services = append(c.Services, s)
	}
	if g.percent(30) {
		return
	}
	kind := g.IntN(3)
	meta := metav1.ObjectMeta{Name: "owner", UID: "owner", Namespace: "default"}
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": pick(g, labelValues["app"]...)}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "app"}}},
	}
	selector := &metav1.LabelSelector{MatchLabels: template.Labels}
	if g.percent(40) {
		selector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: "app", Operator: metav1.LabelSelectorOpIn, Values: []string{"a", "b", "c"}},
		}}
	}
	ref := metav1.OwnerReference{Name: "owner", UID: "owner", APIVersion: "apps/v1", Controller: new(bool)}
	*ref.Controller = true
	switch kind {
	case 0:
		ref.Kind = "ReplicaSet"
		c.ReplicaSets = append(c.ReplicaSets, &appsv1.ReplicaSet{ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{Selector: selector, Template: template}})
	case 1:
		ref.Kind = "StatefulSet"
		c.StatefulSets = append(c.StatefulSets, &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Selector: selector, Template: template}})
	case 2:
		ref.Kind, ref.APIVersion = "ReplicationController", "v1"
		c.ReplicationControllers = append(c.ReplicationControllers, &corev1.ReplicationController{ObjectMeta: meta,
			Spec: corev1.ReplicationControllerSpec{Selector: template.Labels, Template: &template}})
	}
	if g.percent(10) {
		ref.Kind = pick(g, "Job", "ReplicaSet") // of another kind, or of a name that is not there
	}
	for _, p := range all {
		if g.percent(60) {
			p.OwnerReferences = []metav1.OwnerReference{ref}
		}
	}
}

func (g *generator) budget(c *Case, i int) *policyv1.PodDisruptionBudget {
	b := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("b%d", i), UID: types.UID(fmt.Sprintf("budget-%d", i)), Namespace: g.namespace()},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: g.labelSelector()},
		Status:     policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: int32(g.upTo(2))},
	}
	if g.percent(50) {
		b.Namespace = "default"
	}
	available := intstr.FromInt32(1)
	b.Spec.MinAvailable = &available
	for _, p := range c.Placed {
		if p.Namespace == b.Namespace && g.percent(10) {
			if b.Status.DisruptedPods == nil {
				b.Status.DisruptedPods = map[string]metav1.Time{}
			}
			b.Status.DisruptedPods[p.Name] = metav1.NewTime(epoch)
		}
	}
	return b
}
