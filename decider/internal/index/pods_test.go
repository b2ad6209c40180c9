package index_test

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// request asks where some pods should go.
func (g *generator) request(c *cluster) *berthv1.DecideRequest {
	r := &berthv1.DecideRequest{
		Seed: pick(g, 0, 1, 2, g.Uint64()), Candidates: pick[int32](g, 0, 1, 1, 1, 2, 3),
		Preempt: g.percent(10) || g.about.preempt && g.percent(60),
	}
	if g.percent(8) {
		r.Explanation = berthv1.ExplanationLevel_EXPLANATION_LEVEL_NODES
	}
	count := 1 + g.IntN(pick(g, 1, 4, 8, 16))
	switch kind := g.IntN(100); {
	case kind < 35: // equal pods
		of := g.known()
		for range count {
			r.Pods = append(r.Pods, g.member(of))
		}
	case kind < 60: // classes in turn
		for i := range count {
			r.Pods = append(r.Pods, g.member(g.classes[i%len(g.classes)]))
		}
	case kind < 72:
		for range count {
			r.Pods = append(r.Pods, g.member(g.known()))
		}
	case kind < 82: // each its own class
		for range count {
			r.Pods = append(r.Pods, g.member(g.class()))
		}
	case kind < 88: // almost one class
		of := g.known()
		for range count {
			r.Pods = append(r.Pods, g.member(g.sibling(of)))
		}
	case kind < 94: // of a daemon set
		of := g.known()
		for i, name := range sortedKeys(c.nodes) {
			if i == count {
				break
			}
			p := g.member(of)
			p.NodeAffinity = &berthv1.NodeAffinity{Required: byName(name)}
			r.Pods = append(r.Pods, p)
		}
	default: // of a stateful set
		of := g.known()
		for i := range count {
			p := g.member(of)
			p.Labels[podIndex] = fmt.Sprint(i)
			r.Pods = append(r.Pods, p)
		}
	}
	g.renominate(c, r)
	if g.about.broken && g.percent(15) && len(r.Pods) > 0 {
		breakPod(g, pick(g, r.Pods...))
	}
	return r
}

// renominate has nominated pods of c ask for their nodes, and now and then one that
// is placed for another.
func (g *generator) renominate(c *cluster, r *berthv1.DecideRequest) {
	odds := pick(g, 0, 0, 0, 0, 1)
	for _, uid := range sortedKeys(c.pods) {
		if q := c.pods[uid]; q.GetNominated() && g.percent(30) || g.percent(odds) {
			p := g.member(g.known())
			p.Uid, p.Name, p.Namespace, p.Labels, p.Priority = uid, q.GetName(), q.GetNamespace(), proto.CloneOf(q).GetLabels(), q.GetPriority()
			p.Requests, p.ScoreRequests = q.GetRequests(), q.GetScoreRequests()
			p.NominatedNodeName = q.GetNodeName()
			r.Pods = append(r.Pods, p)
		}
	}
}

// known is a class that is drawn again and again; it may be a new one from now on.
func (g *generator) known() *berthv1.Pod {
	i := g.IntN(len(g.classes))
	if g.percent(4) {
		g.classes[i] = g.class()
	}
	return g.classes[i]
}

// member is a new pod of a class.
func (g *generator) member(of *berthv1.Pod) *berthv1.Pod {
	p := proto.CloneOf(of)
	p.Uid = g.fresh("w")
	p.Name = "name-" + p.Uid
	return p
}

// class is a pod of which others may differ in uid and name.
func (g *generator) class() *berthv1.Pod {
	p := &berthv1.Pod{SchedulerName: g.mostly, Namespace: pick(g, namespaceNames...), Labels: g.podLabels()}
	if g.percent(15) {
		p.SchedulerName = pick(g, profileNames...)
	}
	p.Requests, p.ScoreRequests = g.requests()
	if g.about.preempt || g.about.nominated {
		p.Priority = int32(g.IntN(4))
	}
	for range pick(g, 0, 1, 1, 1, 2, 3) {
		g.particular(p)
	}
	return p
}

// particular gives p something that a rule or a score looks at, of what g is about.
func (g *generator) particular(p *berthv1.Pod) {
	about := []func(*generator, *berthv1.Pod){
		func(g *generator, p *berthv1.Pod) { p.Requests, p.ScoreRequests = g.requests() },
	}
	add := func(is bool, some ...func(*generator, *berthv1.Pod)) {
		if is {
			about = append(about, some...)
		}
	}
	add(g.percent(15),
		func(g *generator, p *berthv1.Pod) { p.NodeName = nodeName(g.IntN(g.size + 1)) },
		func(g *generator, p *berthv1.Pod) {
			p.NodeAffinity = &berthv1.NodeAffinity{Required: byName(nodeName(g.IntN(g.size+1)), nodeName(g.IntN(g.size+1)))}
		},
		func(g *generator, p *berthv1.Pod) { p.Requests = nil },
		func(g *generator, p *berthv1.Pod) { p.Labels[podIndex] = fmt.Sprint(g.IntN(3)) },
		func(g *generator, p *berthv1.Pod) {
			p.PlacedScoreRequests = map[string]int64{"cpu": pick[int64](g, 0, 100, 900), "memory": pick[int64](g, 0, 1<<30)}
		},
	)
	add(g.about.taints || g.about.cordons, func(g *generator, p *berthv1.Pod) {
		for range 1 + g.IntN(2) {
			p.Tolerations = append(p.Tolerations, g.toleration())
		}
	})
	add(g.about.nodeAffinity,
		func(g *generator, p *berthv1.Pod) {
			p.NodeSelector = pick(g, map[string]string{"disk": "ssd"}, map[string]string{zone: "z1"}, map[string]string{zone: "z2", "disk": "hdd"})
		},
		func(g *generator, p *berthv1.Pod) {
			if p.GetNodeAffinity() == nil {
				p.NodeAffinity = &berthv1.NodeAffinity{}
			}
			p.NodeAffinity.Required = &berthv1.NodeSelector{}
			for range 1 + g.IntN(2) {
				p.NodeAffinity.Required.Terms = append(p.NodeAffinity.Required.Terms, g.nodeTerm())
			}
		},
		func(g *generator, p *berthv1.Pod) {
			if p.GetNodeAffinity() == nil {
				p.NodeAffinity = &berthv1.NodeAffinity{}
			}
			for range 1 + g.IntN(2) {
				p.NodeAffinity.Preferred = append(p.NodeAffinity.Preferred, &berthv1.PreferredNodeTerm{Weight: pick[int32](g, 1, 7, 100), Term: g.nodeTerm()})
			}
		})
	add(g.about.ports, func(g *generator, p *berthv1.Pod) { p.HostPorts = g.hostPorts() })
	for range 3 {
		add(g.about.extended && (g.about.rare || g.percent(33)), wantsExtended)
	}
	spread := func(g *generator, p *berthv1.Pod) { p.TopologySpreadConstraints = g.spreadConstraints(p) }
	add(g.about.spread, spread, spread, spread)
	add(g.about.defaultSpread, func(g *generator, p *berthv1.Pod) {
		p.SpreadSelector, p.TopologySpreadConstraints = g.labelSelector(p.GetLabels()), nil
	})
	add(g.about.podAffinity,
		func(g *generator, p *berthv1.Pod) { p.PodAffinity = g.podAffinity(p.GetLabels()) },
		func(g *generator, p *berthv1.Pod) { p.PodAntiAffinity = g.podAffinity(p.GetLabels()) })
	add(g.about.images,
		func(g *generator, p *berthv1.Pod) { p.Images = some(g, 60, imageNames...) },
		func(g *generator, p *berthv1.Pod) { p.VolumeImages = some(g, 60, imageNames...) })
	add(g.about.features, func(g *generator, p *berthv1.Pod) { p.RequiredFeatures = some(g, 60, featureNames...) },
		func(g *generator, p *berthv1.Pod) {
			p.RequiredFeatures, p.Requests = some(g, 60, featureNames...), nil
		})
	add(g.about.nominated, func(g *generator, p *berthv1.Pod) { p.NominatedNodeName = nodeName(g.IntN(g.size + 1)) })
	add(g.about.preempt || g.about.nominated,
		func(g *generator, p *berthv1.Pod) { p.Priority = int32(g.IntN(5)) },
		func(g *generator, p *berthv1.Pod) {
			p.PreemptionPolicy = berthv1.PreemptionPolicy_PREEMPTION_POLICY_NEVER
		})
	pick(g, about...)(g, p)
}

// wantsExtended gives p a resource that few nodes have.
func wantsExtended(g *generator, p *berthv1.Pod) {
	name := pick(g, append(extended, "example.com/nowhere")...)
	p.Requests = map[string]int64{name: pick[int64](g, 1, 2)}
	p.ScoreRequests[name] = p.Requests[name]
}

// sibling is of another class that differs in one thing from the class of p.
func (g *generator) sibling(of *berthv1.Pod) *berthv1.Pod {
	p := proto.CloneOf(of)
	pick(g,
		g.particular, g.particular, g.particular,
		func(p *berthv1.Pod) { p.Labels = g.podLabels() },
		func(p *berthv1.Pod) { p.Labels["other"] = "x" },
		func(p *berthv1.Pod) { p.Namespace = pick(g, namespaceNames...) },
		func(p *berthv1.Pod) { p.SchedulerName = pick(g, profileNames...) },
		func(p *berthv1.Pod) { p.Priority = int32(g.IntN(5)) },
		func(p *berthv1.Pod) { p.NominatedNodeName = nodeName(g.IntN(g.size)) },
		func(p *berthv1.Pod) { p.Requests = map[string]int64{"cpu": 1} },
		func(p *berthv1.Pod) { p.ScoreRequests = map[string]int64{"cpu": 77, "memory": 1} },
		func(p *berthv1.Pod) { p.PlacedScoreRequests = map[string]int64{"cpu": 77, "memory": 1} },
		func(p *berthv1.Pod) {
			p.TopologySpreadConstraints, p.SpreadSelector = nil, &berthv1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
		},
		func(p *berthv1.Pod) { p.PreemptionPolicy = berthv1.PreemptionPolicy_PREEMPTION_POLICY_NEVER },
	)(p)
	return p
}

// breakPod makes a pod that cannot be understood.
func breakPod(g *generator, p *berthv1.Pod) {
	if g.percent(50) {
		p.Requests = map[string]int64{"cpu": -1}
	} else {
		p.TopologySpreadConstraints = []*berthv1.TopologySpreadConstraint{{TopologyKey: zone}}
	}
}

func (g *generator) podLabels() map[string]string {
	labels := map[string]string{"app": pick(g, "web", "web", "db")}
	if g.percent(40) {
		labels["tier"] = pick(g, "x", "y")
	}
	if g.percent(3) {
		labels[podIndex] = fmt.Sprint(g.IntN(3))
	}
	return labels
}

// requests are what a pod needs and what scores count.
func (g *generator) requests() (needs, score map[string]int64) {
	needs = map[string]int64{}
	if g.percent(85) {
		needs["cpu"] = pick[int64](g, 100, 250, 500, 900)
	}
	if g.percent(85) {
		needs["memory"] = pick[int64](g, 100<<20, 500<<20, 1<<30)
	}
	if g.percent(10) {
		needs["ephemeral-storage"] = 1 << 30
	}
	if g.about.extended && g.percent(20) {
		needs[pick(g, extended...)] = 1
	}
	if g.percent(4) {
		needs["cpu"] = pick[int64](g, 100000, 3000, 1700)
	}
	if g.about.broken && g.percent(2) {
		needs["cpu"] = math.MaxInt64
	}
	score = map[string]int64{"cpu": needs["cpu"], "memory": needs["memory"]}
	if score["cpu"] == 0 {
		score["cpu"] = 100
	}
	if score["memory"] == 0 {
		score["memory"] = 200 << 20
	}
	if n := needs[gpu]; n > 0 {
		score[gpu] = n
	}
	if g.percent(20) {
		needs = nil
	}
	return needs, score
}

func (g *generator) hostPorts() []*berthv1.HostPort {
	var ports []*berthv1.HostPort
	for range 1 + g.IntN(2) {
		ports = append(ports, &berthv1.HostPort{
			Protocol: pick(g, "", "TCP", "UDP"), Ip: pick(g, "", "", "0.0.0.0", "10.0.0.1", "10.0.0.2"), Port: int32(80 + g.IntN(3)),
		})
	}
	return ports
}

func (g *generator) toleration() *berthv1.Toleration {
	return &berthv1.Toleration{
		Key:      pick(g, "", "dedicated", "gpu", "node.kubernetes.io/unschedulable"),
		Operator: pick(g, berthv1.TolerationOperator_TOLERATION_OPERATOR_EQUAL, berthv1.TolerationOperator_TOLERATION_OPERATOR_EXISTS, berthv1.TolerationOperator_TOLERATION_OPERATOR_EXISTS),
		Value:    pick(g, "", "a", "b"), Effect: berthv1.TaintEffect(g.IntN(4)),
	}
}

func byName(names ...string) *berthv1.NodeSelector {
	s := &berthv1.NodeSelector{}
	for _, name := range names {
		s.Terms = append(s.Terms, &berthv1.NodeSelectorTerm{MatchFields: []*berthv1.NodeSelectorRequirement{{
			Key: "metadata.name", Operator: berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_IN, Values: []string{name},
		}}})
	}
	return s
}

func (g *generator) nodeTerm() *berthv1.NodeSelectorTerm {
	t := &berthv1.NodeSelectorTerm{}
	for range pick(g, 0, 1, 1, 1, 1, 1, 2) {
		r := &berthv1.NodeSelectorRequirement{Key: pick(g, "disk", zone, rack, hostname)}
		values := map[string][]string{"disk": {"ssd", "hdd"}, zone: {"z1", "z2", "z3"}, rack: {"r1", "r2"}, hostname: {"n0", "n1", "shared"}}[r.Key]
		switch g.IntN(6) {
		case 0, 1:
			r.Operator, r.Values = berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_IN, []string{pick(g, values...), pick(g, values...)}
		case 2:
			r.Operator, r.Values = berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_NOT_IN, []string{pick(g, values...)}
		case 3:
			r.Operator = berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_EXISTS
		case 4:
			r.Operator = berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_DOES_NOT_EXIST
		case 5:
			r.Key, r.Values = "size", []string{pick(g, "1", "4", "5")}
			r.Operator = pick(g, berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_GT, berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_LT)
		}
		t.MatchExpressions = append(t.MatchExpressions, r)
	}
	if g.percent(8) {
		t.MatchFields = byName(nodeName(g.IntN(g.size))).Terms[0].MatchFields
		t.MatchFields[0].Operator = pick(g, berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_IN, berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_NOT_IN)
	}
	return t
}

// labelSelector selects, more often than not, what has these labels.
func (g *generator) labelSelector(own map[string]string) *berthv1.LabelSelector {
	switch n := g.IntN(100); {
	case n < 45 && own["app"] != "":
		return &berthv1.LabelSelector{MatchLabels: map[string]string{"app": own["app"]}}
	case n < 75:
		return &berthv1.LabelSelector{MatchLabels: map[string]string{"app": pick(g, "web", "web", "db")}}
	case n < 78:
		return nil
	case n < 84:
		return &berthv1.LabelSelector{}
	}
	r := &berthv1.LabelSelectorRequirement{Key: pick(g, "app", "tier", "tier", podIndex), Operator: berthv1.LabelSelectorOperator(1 + g.IntN(4))}
	if r.Operator <= berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_NOT_IN {
		r.Values = pick(g, []string{"web", "x", "0"}, []string{"db", "y", "1"}, []string{"web", "db", "1", "2"})
	}
	return &berthv1.LabelSelector{MatchExpressions: []*berthv1.LabelSelectorRequirement{r}}
}

func (g *generator) spreadConstraints(p *berthv1.Pod) []*berthv1.TopologySpreadConstraint {
	var out []*berthv1.TopologySpreadConstraint
	for _, key := range pick(g, []string{zone}, []string{zone}, []string{hostname}, []string{zone, hostname}, []string{hostname, zone}, []string{rack}, []string{zone, rack}) {
		c := &berthv1.TopologySpreadConstraint{
			MaxSkew: int32(1 + g.IntN(2)), TopologyKey: key, LabelSelector: g.labelSelector(p.GetLabels()),
			WhenUnsatisfiable: pick(g, berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_DO_NOT_SCHEDULE, berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_SCHEDULE_ANYWAY),
		}
		if g.percent(25) {
			c.NodeAffinityPolicy, c.NodeTaintsPolicy = berthv1.NodeInclusionPolicy(g.IntN(3)), berthv1.NodeInclusionPolicy(g.IntN(3))
		}
		if g.percent(20) {
			c.MatchLabelKeys = []string{pick(g, "app", "tier", podIndex)}
		}
		if c.WhenUnsatisfiable == berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_DO_NOT_SCHEDULE {
			c.MinDomains = pick[int32](g, 0, 0, 0, 2, 4)
		}
		out = append(out, c)
	}
	return out
}

// podAffinity is for affinity and for anti-affinity.
func (g *generator) podAffinity(own map[string]string) *berthv1.PodAffinity {
	a := &berthv1.PodAffinity{}
	for range pick(g, 0, 0, 1, 1, 1, 2) {
		a.Required = append(a.Required, g.podTerm(own))
	}
	for range pick(g, 0, 0, 1, 2) {
		a.Preferred = append(a.Preferred, &berthv1.PreferredPodTerm{Weight: pick[int32](g, 1, 10, 100), Term: g.podTerm(own)})
	}
	return a
}

func (g *generator) podTerm(own map[string]string) *berthv1.PodAffinityTerm {
	t := &berthv1.PodAffinityTerm{TopologyKey: pick(g, zone, zone, hostname, hostname, rack), LabelSelector: g.labelSelector(own)}
	if g.percent(20) {
		t.Namespaces = some(g, 40, "a", "b", "c")
	}
	if g.percent(25) {
		t.NamespaceSelector = &berthv1.LabelSelector{}
		if g.percent(75) {
			r := &berthv1.LabelSelectorRequirement{Key: "team", Operator: berthv1.LabelSelectorOperator(1 + g.IntN(4))}
			if r.Operator <= berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_NOT_IN {
				r.Values = []string{pick(g, "red", "blue")}
			}
			t.NamespaceSelector.MatchExpressions = append(t.NamespaceSelector.MatchExpressions, r)
		}
	}
	return t
}
