package index_test

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// event is a kind of change.
type event struct {
	name string
	// change adds a change of c to what happens; false says that there is nothing to
	// change.
	change func(g *generator, c *cluster, to *berthv1.Changes) bool
}

// events are drawn with equal chances.
var events = []event{
	{"node added", func(g *generator, c *cluster, to *berthv1.Changes) bool {
		if len(c.nodes) > g.size+2 {
			return false
		}
		at := g.IntN(2 * g.size) // between the others, too
		for i := range 2 * g.size {
			if name := nodeName((at + i) % (2 * g.size)); c.nodes[name] == nil {
				to.Nodes = append(to.Nodes, g.node(name))
				return true
			}
		}
		return false
	}},
	{"node removed", func(g *generator, c *cluster, to *berthv1.Changes) bool {
		if len(c.nodes) < g.size-2 && g.percent(90) {
			return false
		}
		n := g.anyNode(c)
		if n != nil {
			to.RemovedNodes = append(to.RemovedNodes, n.GetName())
		}
		return n != nil
	}},
	{"node removed and added at once", func(g *generator, c *cluster, to *berthv1.Changes) bool {
		n := g.anyNode(c)
		if n != nil {
			again := g.node(n.GetName())
			again.Uid = g.fresh("node-uid-")
			to.RemovedNodes, to.Nodes = append(to.RemovedNodes, n.GetName()), append(to.Nodes, again)
		}
		return n != nil
	}},
	{"node twice in one message", func(g *generator, c *cluster, to *berthv1.Changes) bool {
		n := g.anyNode(c)
		if n != nil {
			to.Nodes = append(to.Nodes, g.node(n.GetName()), g.node(n.GetName()))
		}
		return n != nil
	}},
	nodeEvent("node said again", func(*generator, *berthv1.Node) {}),
	nodeEvent("node redrawn", func(g *generator, n *berthv1.Node) {
		again := g.node(n.GetName())
		proto.Reset(n)
		proto.Merge(n, again)
	}),
	nodeEvent("node relabelled", func(g *generator, n *berthv1.Node) {
		labels := g.nodeLabels(n.GetName())
		if key := pick(g, zone, hostname, rack, "disk", "size", "all"); key == "all" {
			n.Labels = labels
		} else if value, ok := labels[key]; ok && g.percent(80) {
			n.Labels[key] = value
		} else {
			delete(n.Labels, key)
		}
	}),
	nodeEvent("node tainted", func(g *generator, n *berthv1.Node) { n.Taints = append(n.Taints, g.taint()) }),
	nodeEvent("node untainted", func(_ *generator, n *berthv1.Node) { n.Taints = nil }),
	nodeEvent("node cordoned or not", func(_ *generator, n *berthv1.Node) { n.Unschedulable = !n.GetUnschedulable() }),
	nodeEvent("node resized", func(g *generator, n *berthv1.Node) { n.Allocatable = g.allocatable() }),
	nodeEvent("node images", func(g *generator, n *berthv1.Node) { n.Images = g.nodeImages() }),
	nodeEvent("node signals", func(g *generator, n *berthv1.Node) { n.Signals = g.nodeSignals() }),
	nodeEvent("node features", func(g *generator, n *berthv1.Node) { n.DeclaredFeatures = some(g, 70, featureNames...) }),
	broken(nodeEvent("node with an unknown constraint", func(g *generator, n *berthv1.Node) {
		n.Constraints = pick(g, []string{"example.com/Unknown"}, []string{"example.com/Other", "example.com/Unknown"}, []string{berthv1.ConstraintNodeName})
	})),
	broken(nodeEvent("node that makes no sense", breakNode)),
	{"node mended", func(g *generator, c *cluster, to *berthv1.Changes) bool {
		before := len(to.Nodes)
		for _, name := range sortedKeys(c.nodes) {
			n := proto.CloneOf(c.nodes[name])
			n.Constraints = nil
			n.Taints = slices.DeleteFunc(n.Taints, func(t *berthv1.Taint) bool { return t.GetEffect() == 0 })
			maps.DeleteFunc(n.Allocatable, func(_ string, value int64) bool { return value < 0 })
			if !proto.Equal(n, c.nodes[name]) {
				to.Nodes = append(to.Nodes, n)
			}
		}
		return len(to.Nodes) > before
	}},
	{"pod added", addPod},
	{"pod added", addPod},
	{"pod removed", removePod},
	{"pod removed", removePod},
	{"all pods of a node removed", func(g *generator, c *cluster, to *berthv1.Changes) bool {
		n := g.anyNode(c)
		before := len(to.RemovedPlacedPods)
		for _, uid := range sortedKeys(c.pods) {
			if c.pods[uid].GetNodeName() == n.GetName() {
				to.RemovedPlacedPods = append(to.RemovedPlacedPods, uid)
			}
		}
		return len(to.RemovedPlacedPods) > before
	}},
	podEvent("pod said again", func(*generator, *cluster, *berthv1.PlacedPod) {}),
	podEvent("pod redrawn", func(g *generator, _ *cluster, q *berthv1.PlacedPod) {
		again := g.placed(q.GetUid())
		proto.Reset(q)
		proto.Merge(q, again)
	}),
	podEvent("pod moved", func(g *generator, c *cluster, q *berthv1.PlacedPod) { q.NodeName = g.nameOf(c) }),
	podEvent("pod relabelled", func(g *generator, _ *cluster, q *berthv1.PlacedPod) { q.Labels = g.podLabels() }),
	podEvent("pod resized", func(g *generator, _ *cluster, q *berthv1.PlacedPod) { q.Requests, q.ScoreRequests = g.requests() }),
	podEvent("pod terminating", func(g *generator, _ *cluster, q *berthv1.PlacedPod) {
		q.Terminating, q.Preempted = true, g.percent(50)
	}),
	podEvent("pod with other ports", func(g *generator, _ *cluster, q *berthv1.PlacedPod) { q.HostPorts = g.hostPorts() }),
	podEvent("pod with other terms", func(g *generator, _ *cluster, q *berthv1.PlacedPod) {
		q.PodAffinity, q.PodAntiAffinity = g.podAffinity(q.GetLabels()), g.podAffinity(q.GetLabels())
	}),
	podEvent("pod of another namespace or priority", func(g *generator, _ *cluster, q *berthv1.PlacedPod) {
		q.Namespace, q.Priority = pick(g, namespaceNames...), int32(g.IntN(4))
	}),
	nominated(podEvent("pod nominated or not", func(_ *generator, _ *cluster, q *berthv1.PlacedPod) { q.Nominated = !q.GetNominated() })),
	broken(podEvent("pod with an unknown constraint", func(_ *generator, _ *cluster, q *berthv1.PlacedPod) {
		q.Constraints = []string{"example.com/Unknown"}
	})),
	broken(podEvent("pod that makes no sense", breakPlaced)),
	{"pod mended", func(g *generator, c *cluster, to *berthv1.Changes) bool {
		before := len(to.PlacedPods)
		for _, uid := range sortedKeys(c.pods) {
			q := proto.CloneOf(c.pods[uid])
			q.Constraints = nil
			q.HostPorts = slices.DeleteFunc(q.HostPorts, func(p *berthv1.HostPort) bool { return p.GetProtocol() == "QUIC" })
			maps.DeleteFunc(q.Requests, func(_ string, value int64) bool { return value < 0 })
			if !proto.Equal(q, c.pods[uid]) {
				to.PlacedPods = append(to.PlacedPods, q)
			}
		}
		return len(to.PlacedPods) > before
	}},
	nominated(event{"pod nominated", func(g *generator, c *cluster, to *berthv1.Changes) bool {
		q := g.placed(g.fresh("m"))
		q.Nominated, q.Terminating = true, false
		q.NodeName = g.nameOf(c)
		to.PlacedPods = append(to.PlacedPods, q)
		return true
	}}),
	nominated(event{"nominations ended", func(g *generator, c *cluster, to *berthv1.Changes) bool {
		before := len(to.RemovedPlacedPods)
		for _, uid := range sortedKeys(c.pods) {
			if c.pods[uid].GetNominated() {
				to.RemovedPlacedPods = append(to.RemovedPlacedPods, uid)
			}
		}
		return len(to.RemovedPlacedPods) > before
	}}),
	{"pod twice in one message", func(g *generator, _ *cluster, to *berthv1.Changes) bool {
		uid := g.fresh("p")
		to.PlacedPods = append(to.PlacedPods, g.placed(uid), g.placed(uid))
		return true
	}},
	{"pod removed and added at once", func(g *generator, c *cluster, to *berthv1.Changes) bool {
		q := g.anyPod(c)
		if q != nil {
			to.RemovedPlacedPods = append(to.RemovedPlacedPods, q.GetUid())
			to.PlacedPods = append(to.PlacedPods, g.placed(q.GetUid()))
		}
		return q != nil
	}},
	{"pod on a node that is not there", func(g *generator, c *cluster, to *berthv1.Changes) bool {
		q := g.placed(g.fresh("p"))
		q.NodeName = nodeName(g.IntN(2 * g.size))
		to.PlacedPods = append(to.PlacedPods, q)
		return c.nodes[q.NodeName] == nil
	}},
	{"removal of what is not there", func(_ *generator, _ *cluster, to *berthv1.Changes) bool {
		to.RemovedNodes = append(to.RemovedNodes, "nobody")
		to.RemovedPlacedPods = append(to.RemovedPlacedPods, "nobody")
		to.RemovedNamespaces = append(to.RemovedNamespaces, "nobody")
		to.RemovedDisruptionBudgets = append(to.RemovedDisruptionBudgets, &berthv1.DisruptionBudgetKey{Name: "nobody"})
		return true
	}},
	{"namespace added or relabelled", func(g *generator, _ *cluster, to *berthv1.Changes) bool {
		to.Namespaces = append(to.Namespaces, g.namespace(pick(g, "a", "b", "c")))
		return true
	}},
	{"namespace removed", func(g *generator, c *cluster, to *berthv1.Changes) bool {
		name := pick(g, "a", "b", "c")
		if c.namespaces[name] == nil || g.percent(50) {
			return false
		}
		to.RemovedNamespaces = append(to.RemovedNamespaces, name)
		return true
	}},
	{"budget added or changed", func(g *generator, _ *cluster, to *berthv1.Changes) bool {
		to.DisruptionBudgets = append(to.DisruptionBudgets, g.budget())
		return true
	}},
	{"budget removed", func(g *generator, c *cluster, to *berthv1.Changes) bool {
		b := g.budget()
		if c.budgets[budgetKey(b)] == nil {
			return false
		}
		to.RemovedDisruptionBudgets = append(to.RemovedDisruptionBudgets, &berthv1.DisruptionBudgetKey{Namespace: b.GetNamespace(), Name: b.GetName()})
		return true
	}},
}

func (g *generator) event() event { return pick(g, events...) }

// broken is an event of histories in which records make no sense.
func broken(e event) event {
	return event{e.name, func(g *generator, c *cluster, to *berthv1.Changes) bool {
		return g.about.broken && e.change(g, c, to)
	}}
}

// nominated is an event of histories in which room is set aside for pods.
func nominated(e event) event {
	return event{e.name, func(g *generator, c *cluster, to *berthv1.Changes) bool {
		return g.about.nominated && e.change(g, c, to)
	}}
}

// nodeEvent changes the record of one node.
func nodeEvent(name string, change func(*generator, *berthv1.Node)) event {
	return event{name, func(g *generator, c *cluster, to *berthv1.Changes) bool {
		n := g.anyNode(c)
		if n == nil {
			return false
		}
		n = proto.CloneOf(n)
		if n.Labels == nil {
			n.Labels = map[string]string{}
		}
		change(g, n)
		to.Nodes = append(to.Nodes, n)
		return true
	}}
}

// podEvent changes the record of one placed pod.
func podEvent(name string, change func(*generator, *cluster, *berthv1.PlacedPod)) event {
	return event{name, func(g *generator, c *cluster, to *berthv1.Changes) bool {
		q := g.anyPod(c)
		if q == nil {
			return false
		}
		q = proto.CloneOf(q)
		change(g, c, q)
		to.PlacedPods = append(to.PlacedPods, q)
		return true
	}}
}

func addPod(g *generator, c *cluster, to *berthv1.Changes) bool {
	if len(c.pods) > 4*g.size {
		return false
	}
	q := g.placed(g.fresh("p"))
	q.NodeName = g.nameOf(c)
	to.PlacedPods = append(to.PlacedPods, q)
	return true
}

func removePod(g *generator, c *cluster, to *berthv1.Changes) bool {
	q := g.anyPod(c)
	if q == nil {
		return false
	}
	to.RemovedPlacedPods = append(to.RemovedPlacedPods, q.GetUid())
	return true
}

// breakNode makes a node that no pod may be placed on.
func breakNode(g *generator, n *berthv1.Node) {
	if g.percent(50) {
		n.Taints = append(n.Taints, &berthv1.Taint{Key: "no-effect"})
	} else {
		n.Allocatable["cpu"] = -1
	}
}

// breakPlaced makes a pod whose node no pod may be placed on.
func breakPlaced(g *generator, _ *cluster, q *berthv1.PlacedPod) {
	if g.percent(50) {
		q.HostPorts = append(q.HostPorts, &berthv1.HostPort{Protocol: "QUIC", Port: 1})
	} else {
		q.Requests = map[string]int64{"memory": -1}
	}
}

func nodeName(i int) string { return fmt.Sprintf("n%d", i) }

// anyNode is nil if there is none.
func (g *generator) anyNode(c *cluster) *berthv1.Node {
	if len(c.nodes) == 0 {
		return nil
	}
	return c.nodes[pick(g, sortedKeys(c.nodes)...)]
}

// anyPod is nil if there is none.
func (g *generator) anyPod(c *cluster) *berthv1.PlacedPod {
	if len(c.pods) == 0 {
		return nil
	}
	return c.pods[pick(g, sortedKeys(c.pods)...)]
}

// nameOf is the name of a node; now and then of one that is not there.
func (g *generator) nameOf(c *cluster) string {
	if n := g.anyNode(c); n != nil && g.percent(97) {
		return n.GetName()
	}
	return nodeName(g.IntN(2 * g.size))
}

func (g *generator) namespace(name string) *berthv1.Namespace {
	n := &berthv1.Namespace{Name: name}
	if g.percent(70) {
		n.Labels = map[string]string{"team": pick(g, "red", "blue")}
	}
	return n
}

func (g *generator) budget() *berthv1.DisruptionBudget {
	return &berthv1.DisruptionBudget{
		Namespace: pick(g, "a", "a", "b"), Name: pick(g, "one", "two"),
		Selector: g.labelSelector(nil), DisruptionsAllowed: int32(g.IntN(4) - 1),
	}
}

// node is one that most pods like; what g is about is in the way of some.
func (g *generator) node(name string) *berthv1.Node {
	n := &berthv1.Node{Name: name, Uid: "uid-" + name, Labels: g.nodeLabels(name), Allocatable: g.allocatable()}
	if g.about.taints {
		for g.percent(30) {
			n.Taints = append(n.Taints, g.taint())
		}
	}
	n.Unschedulable = g.about.cordons && g.percent(25)
	if g.about.images {
		n.Images = g.nodeImages()
	}
	if g.about.signals {
		n.Signals = g.nodeSignals()
	}
	if g.about.features {
		n.DeclaredFeatures = some(g, 80, featureNames...)
	}
	if g.about.broken && g.percent(5) {
		breakNode(g, n)
	}
	if g.about.broken && g.percent(5) {
		n.Constraints = []string{"example.com/Unknown"}
	}
	return n
}

func (g *generator) nodeLabels(name string) map[string]string {
	labels := map[string]string{}
	set := func(percent int, key string, values ...string) {
		if g.about.bareNodes {
			percent -= 15
		}
		if g.percent(percent) {
			labels[key] = pick(g, values...)
		}
	}
	set(100, hostname, name)
	set(100, zone, zones...)
	set(60, rack, "r1", "r2")
	set(60, "disk", "ssd", "hdd")
	set(60, "size", "1", "5", "10", "large")
	if g.percent(5) || g.about.bareNodes && g.percent(20) {
		labels[hostname] = pick(g, "shared", "shared", "")
	}
	return labels
}

func (g *generator) taint() *berthv1.Taint {
	return &berthv1.Taint{
		Key: pick(g, "dedicated", "gpu"), Value: pick(g, "", "a", "b"),
		Effect: pick(g, berthv1.TaintEffect_TAINT_EFFECT_NO_SCHEDULE, berthv1.TaintEffect_TAINT_EFFECT_PREFER_NO_SCHEDULE,
			berthv1.TaintEffect_TAINT_EFFECT_PREFER_NO_SCHEDULE, berthv1.TaintEffect_TAINT_EFFECT_NO_EXECUTE),
	}
}

func (g *generator) allocatable() map[string]int64 {
	a := map[string]int64{}
	if g.about.twins {
		a["cpu"], a["memory"], a["pods"], a["ephemeral-storage"] = 2000, 4<<30, 5, 5<<30
	} else if g.about.tight {
		a["cpu"], a["memory"] = pick[int64](g, 0, 1000, 1500, 2000, 2000), pick[int64](g, 1, 2, 2, 3)<<30
		a["pods"], a["ephemeral-storage"] = pick[int64](g, 1, 2, 3, 5, 110), pick[int64](g, 0, 1, 5)<<30
	} else {
		a["cpu"], a["memory"] = pick[int64](g, 4000, 4000, 8000, 3900), pick[int64](g, 8, 8, 16, 7)<<30
		a["pods"], a["ephemeral-storage"] = pick[int64](g, 110, 110, 30), 20<<30
	}
	if g.about.extended {
		for _, name := range extended {
			if !g.about.rare || g.percent(g.rare) {
				a[name] = pick[int64](g, 0, 1, 2, 4)
			}
		}
	}
	if g.about.broken && g.percent(3) {
		a["cpu"] = 1<<63 - 1
	}
	return a
}

func (g *generator) nodeImages() map[string]int64 {
	images := map[string]int64{}
	for _, name := range some(g, 50, imageNames...) {
		images[name] = pick[int64](g, 10, 60, 300, 1000) << 20
	}
	return images
}

func (g *generator) nodeSignals() map[string]int64 {
	signals := map[string]int64{}
	for _, name := range some(g, 70, "load", "power", "other") {
		signals[name] = int64(g.IntN(5)-1) * 250
	}
	return signals
}

// placed is a pod on some node, there or not.
func (g *generator) placed(uid string) *berthv1.PlacedPod {
	q := &berthv1.PlacedPod{
		Uid: uid, Name: "name-" + uid, NodeName: nodeName(g.IntN(g.size)), Namespace: pick(g, namespaceNames...), Labels: g.podLabels(),
		Terminating: g.percent(8), StartTimeNanos: int64(g.IntN(4)),
	}
	q.Requests, q.ScoreRequests = g.requests()
	if g.about.rare { // nobody knows it before a node has it
		for _, name := range extended {
			delete(q.Requests, name)
		}
	}
	if g.about.preempt || g.about.nominated {
		q.Priority = int32(g.IntN(4))
	}
	q.Preempted = q.Terminating && g.percent(50)
	q.Nominated = g.about.nominated && g.percent(20)
	if g.about.ports && g.percent(40) {
		q.HostPorts = g.hostPorts()
	}
	if g.about.podAffinity && g.percent(40) {
		q.PodAffinity = g.podAffinity(q.Labels)
	}
	if g.about.podAffinity && g.percent(40) {
		q.PodAntiAffinity = g.podAffinity(q.Labels)
	}
	if g.about.broken && g.percent(2) {
		breakPlaced(g, nil, q)
	}
	if g.about.broken && g.percent(2) {
		q.Constraints = []string{"example.com/Unknown"}
	}
	return q
}
