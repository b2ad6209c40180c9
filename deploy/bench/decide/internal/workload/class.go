package workload

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Class is pods that ask for the same.
type Class struct {
	// Name is that of the class; its pods' begin with it.
	Name string

	pod, placed []byte // their records without what each has of its own, encoded
	// each appends what pod i has of its own besides its names, to a Pod or to a
	// PlacedPod. Nil appends nothing.
	each func(b []byte, i int, placed bool) []byte
}

// AppendPod appends the record of pod i as one that wants a node.
func (c *Class) AppendPod(b []byte, i int) []byte {
	b = appendString(b, 1, appendUID(nil, 'b', i))
	b = appendString(b, 3, c.appendName(nil, i))
	if c.each != nil {
		b = c.each(b, i, false)
	}
	return append(b, c.pod...)
}

// AppendPlaced appends the record of pod i as one on a node.
func (c *Class) AppendPlaced(b []byte, i, node int) []byte {
	b = appendString(b, 1, appendUID(nil, 'b', i))
	b = appendString(b, 3, c.appendName(nil, i))
	b = appendString(b, 4, appendNodeName(nil, node))
	if c.each != nil {
		b = c.each(b, i, true)
	}
	return append(b, c.placed...)
}

// UID is the uid of pod i, whatever its class.
func UID(i int) string { return string(appendUID(nil, 'b', i)) }

func (c *Class) appendName(b []byte, i int) []byte {
	return appendDigits(append(append(b, c.Name...), '-'), i, 8)
}

// newClass returns the class of pods like p, which has requests and whatever its kind
// asks for, but no labels.
func newClass(name string, p *berthv1.Pod) *Class {
	p.Namespace = "default"
	p.SchedulerName = "default-scheduler"
	p.Labels = map[string]string{"app": name}
	p.ScoreRequests = p.Requests
	p.Constraints = append(p.Constraints, berthv1.ConstraintNodeResourcesFit)
	slices.Sort(p.Constraints)
	return &Class{
		Name: name,
		pod:  encode(p),
		placed: encode(&berthv1.PlacedPod{
			Namespace: p.Namespace, Labels: p.Labels, Requests: p.Requests, ScoreRequests: p.ScoreRequests,
			HostPorts: p.HostPorts, PodAffinity: p.PodAffinity, PodAntiAffinity: p.PodAntiAffinity,
		}),
	}
}

// tooBig is what is added to the cpu of pods that fit on no node.
const tooBig = 1_000_000

// Kind is a kind of class.
type Kind struct {
	// Name is for people and programs.
	Name string
	// InterPod is set if a decision depends on where other pods are, not only on how
	// much room is left.
	InterPod bool

	ask  func(name string, p *berthv1.Pod)
	each func(b []byte, i int, placed bool) []byte
}

// Classes returns so many classes of the kind, which differ in what they request. Their
// pods fit on no node if reject is set.
func (k *Kind) Classes(count int, reject bool) []*Class {
	classes := make([]*Class, count)
	for i := range classes {
		name := fmt.Sprintf("%s-%03d", k.Name, i)
		cpu := int64(100 + 10*(i%20))
		if reject {
			name += "-big"
			cpu += tooBig
		}
		p := &berthv1.Pod{Requests: map[string]int64{"cpu": cpu, "memory": int64(128+i) << 20}}
		if k.ask != nil {
			k.ask(name, p)
		}
		classes[i] = newClass(name, p)
		classes[i].each = k.each
	}
	return classes
}

// Kinds are the kinds of pods that one class each is measured of.
func Kinds(c *Cluster) []*Kind {
	return []*Kind{
		{Name: "plain"},
		{Name: "node-selector", ask: func(_ string, p *berthv1.Pod) {
			p.NodeSelector = map[string]string{typeLabel: machines[0].name}
			p.Constraints = []string{berthv1.ConstraintNodeSelector}
		}},
		{Name: "node-affinity", ask: func(_ string, p *berthv1.Pod) { requireZones(p, 5) }},
		{Name: "toleration", ask: func(_ string, p *berthv1.Pod) { toleratePool(p) }},
		{Name: "preferred-node", ask: func(_ string, p *berthv1.Pod) { preferZones(p) }},
		{Name: "hard-spread", InterPod: true, ask: func(name string, p *berthv1.Pod) { spread(p, name, hard, zoneLabel, 1) }},
		{Name: "soft-spread", InterPod: true, ask: func(name string, p *berthv1.Pod) { spread(p, name, soft, zoneLabel, 1) }},
		{Name: "default-spread", InterPod: true, ask: func(name string, p *berthv1.Pod) { p.SpreadSelector = app(name) }},
		{Name: "pod-affinity", InterPod: true, ask: func(name string, p *berthv1.Pod) { requireNear(p, name) }},
		{Name: "preferred-pods", InterPod: true, ask: func(name string, p *berthv1.Pod) { preferNear(p, name) }},
		{Name: "anti-affinity", InterPod: true, ask: func(name string, p *berthv1.Pod) {
			p.PodAntiAffinity = &berthv1.PodAffinity{Required: []*berthv1.PodAffinityTerm{{TopologyKey: hostnameLabel, LabelSelector: app(name)}}}
			p.Constraints = []string{berthv1.ConstraintPodAntiAffinity, berthv1.ConstraintExistingAntiAffinity}
		}},
		unique,
		daemon(c),
	}
}

// KindNamed returns the kind of this name; nil if there is none.
func KindNamed(c *Cluster, name string) *Kind {
	for _, k := range Kinds(c) {
		if k.Name == name {
			return k
		}
	}
	return nil
}

// unique is pods each of which asks for another amount of memory, so that none is like
// another.
var unique = &Kind{Name: "unique", each: func(b []byte, i int, placed bool) []byte {
	fields := []protowire.Number{7, 8}
	if placed {
		fields = []protowire.Number{6, 7}
	}
	for _, field := range fields {
		b = appendAmount(b, field, "memory", 100<<20+int64(i)<<10)
	}
	return b
}, ask: func(_ string, p *berthv1.Pod) { delete(p.Requests, "memory") }}

// daemon is pods each of which names its only node, as a DaemonSet's do.
func daemon(c *Cluster) *Kind {
	return &Kind{Name: "daemon", each: func(b []byte, i int, placed bool) []byte {
		if placed {
			return b
		}
		return append(b, encode(&berthv1.Pod{NodeAffinity: &berthv1.NodeAffinity{Required: &berthv1.NodeSelector{
			Terms: []*berthv1.NodeSelectorTerm{{MatchFields: []*berthv1.NodeSelectorRequirement{{
				Key: "metadata.name", Operator: berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_IN, Values: []string{NodeName(i % c.Nodes)},
			}}}},
		}}})...)
	}, ask: func(_ string, p *berthv1.Pod) {
		p.Constraints = []string{berthv1.ConstraintNodeAffinityFields}
		p.Tolerations = []*berthv1.Toleration{{Operator: berthv1.TolerationOperator_TOLERATION_OPERATOR_EXISTS}}
	}}
}

// Mixed is the twenty classes that a million pods are of: 6 plain, 5 that node
// affinity, a node selector or tolerations restrict or let on, 4 with preferred node
// affinity, 3 that spread over zones, 2 with zone affinity to pods. The cluster's
// PreferNoSchedule taints face all of them.
func Mixed() []*Class {
	var classes []*Class
	add := func(kind string, cpuMilli, mebibytes int64, ask func(name string, p *berthv1.Pod)) {
		name := fmt.Sprintf("%s-%02d", kind, len(classes))
		p := &berthv1.Pod{Requests: map[string]int64{"cpu": cpuMilli, "memory": mebibytes << 20}}
		if ask != nil {
			ask(name, p)
		}
		classes = append(classes, newClass(name, p))
	}
	for i := range int64(6) {
		add("plain", 100+150*i, 128<<i, nil)
	}

	add("node-selector", 500, 1024, func(_ string, p *berthv1.Pod) {
		p.NodeSelector = map[string]string{typeLabel: machines[1].name}
		p.Constraints = []string{berthv1.ConstraintNodeSelector}
	})
	add("node-affinity", 250, 512, func(_ string, p *berthv1.Pod) { requireZones(p, 5) })
	add("node-affinity", 1000, 4096, func(_ string, p *berthv1.Pod) {
		require(p, typeLabel, berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_NOT_IN, machines[0].name, machines[1].name)
	})
	add("toleration", 2000, 2048, func(_ string, p *berthv1.Pod) {
		toleratePool(p)
		p.NodeSelector = map[string]string{poolLabel: poolName}
		p.Constraints = []string{berthv1.ConstraintNodeSelector}
	})
	add("toleration", 300, 256, func(_ string, p *berthv1.Pod) { toleratePool(p) })

	add("preferred-node", 200, 512, func(_ string, p *berthv1.Pod) { preferZones(p) })
	add("preferred-node", 400, 1024, func(_ string, p *berthv1.Pod) {
		prefer(p, 20, typeLabel, machines[3].name)
		prefer(p, 5, typeLabel, machines[2].name)
	})
	add("preferred-node", 150, 2048, func(_ string, p *berthv1.Pod) {
		prefer(p, 1, poolLabel, poolName)
		toleratePool(p)
	})
	add("preferred-node", 800, 256, func(_ string, p *berthv1.Pod) {
		preferZones(p)
		prefer(p, 30, typeLabel, machines[1].name)
	})

	add("hard-spread", 250, 512, func(name string, p *berthv1.Pod) { spread(p, name, hard, zoneLabel, 1) })
	add("soft-spread", 250, 1024, func(name string, p *berthv1.Pod) { spread(p, name, soft, zoneLabel, 1) })
	add("both-spread", 500, 1024, func(name string, p *berthv1.Pod) {
		spread(p, name, hard, zoneLabel, 5)
		spread(p, name, soft, zoneLabel, 1)
	})

	add("pod-affinity", 100, 256, func(name string, p *berthv1.Pod) { requireNear(p, name) })
	add("preferred-pods", 200, 512, func(name string, p *berthv1.Pod) { preferNear(p, name) })
	return classes
}

// ClassOf is which of so many classes pod i is of, where they come in a mixed order.
func ClassOf(i, classes int) int { return int(mix(uint64(i)^0x5eed) % uint64(classes)) }

const (
	hard = berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_DO_NOT_SCHEDULE
	soft = berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_SCHEDULE_ANYWAY
)

func app(name string) *berthv1.LabelSelector {
	return &berthv1.LabelSelector{MatchLabels: map[string]string{"app": name}}
}

func spread(p *berthv1.Pod, name string, action berthv1.UnsatisfiableAction, key string, maxSkew int32) {
	p.TopologySpreadConstraints = append(p.TopologySpreadConstraints, &berthv1.TopologySpreadConstraint{
		MaxSkew: maxSkew, TopologyKey: key, WhenUnsatisfiable: action, LabelSelector: app(name),
	})
	if action == hard {
		p.Constraints = append(p.Constraints, berthv1.ConstraintPodTopologySpread)
	}
}

func requireNear(p *berthv1.Pod, name string) {
	p.PodAffinity = &berthv1.PodAffinity{Required: []*berthv1.PodAffinityTerm{{TopologyKey: zoneLabel, LabelSelector: app(name)}}}
	p.Constraints = append(p.Constraints, berthv1.ConstraintPodAffinity)
}

func preferNear(p *berthv1.Pod, name string) {
	p.PodAffinity = &berthv1.PodAffinity{Preferred: []*berthv1.PreferredPodTerm{{
		Weight: 10, Term: &berthv1.PodAffinityTerm{TopologyKey: zoneLabel, LabelSelector: app(name)},
	}}}
}

// requireZones lets p onto the nodes of the first zones.
func requireZones(p *berthv1.Pod, zones int) {
	var names []string
	for zone := range zones {
		names = append(names, zoneName(zone))
	}
	require(p, zoneLabel, berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_IN, names...)
}

func require(p *berthv1.Pod, key string, operator berthv1.NodeSelectorOperator, values ...string) {
	p.NodeAffinity = &berthv1.NodeAffinity{Required: &berthv1.NodeSelector{Terms: []*berthv1.NodeSelectorTerm{term(key, operator, values...)}}}
	p.Constraints = append(p.Constraints, berthv1.ConstraintNodeAffinity)
}

// preferZones likes the first zone most, then the second.
func preferZones(p *berthv1.Pod) {
	prefer(p, 10, zoneLabel, zoneName(0))
	prefer(p, 3, zoneLabel, zoneName(1))
}

func prefer(p *berthv1.Pod, weight int32, key, value string) {
	if p.NodeAffinity == nil {
		p.NodeAffinity = &berthv1.NodeAffinity{}
	}
	p.NodeAffinity.Preferred = append(p.NodeAffinity.Preferred, &berthv1.PreferredNodeTerm{
		Weight: weight, Term: term(key, berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_IN, value),
	})
}

func term(key string, operator berthv1.NodeSelectorOperator, values ...string) *berthv1.NodeSelectorTerm {
	return &berthv1.NodeSelectorTerm{MatchExpressions: []*berthv1.NodeSelectorRequirement{{Key: key, Operator: operator, Values: values}}}
}

func toleratePool(p *berthv1.Pod) {
	p.Tolerations = append(p.Tolerations, &berthv1.Toleration{Key: poolTaint, Value: poolName, Effect: berthv1.TaintEffect_TAINT_EFFECT_NO_SCHEDULE})
}
