package index

import (
	"math"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/score"
	"github.com/berth-scheduler/berth/decider/internal/solve"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// class is what is remembered about pods of one key: for each node whether it can take
// them and how much it is liked, in groups of nodes that can differ only in what the
// node itself has.
type class struct {
	x   *Index
	key string
	pod *model.Pod // the first one; stands for all
	// profile and scores are how it is decided; without scores, by the profile's ranker.
	profile *solve.Profile
	scores  []score.Rule

	// seen is the number of the first change that is not in here yet; order and facts
	// are those of the index and the snapshot by then.
	seen         uint64
	order, facts uint64
	// nodes is how many nodes the scores were compiled for, if those depend on it; else 0.
	nodes int
	// lastUse is the decision that last asked for it.
	lastUse uint64
	bytes   int64
	// unfit is set if the class cannot be indexed.
	unfit bool

	checks []check
	free   map[string]int64
	spread []*spread
	// spreadBy are the constraints of spread.
	spreadBy []model.SpreadConstraint
	// affine is set if InterPodAffinity filters; terms if the pod has required terms.
	affine, terms               bool
	first                       bool
	wanted, unwanted, repelling nearby
	wantedTotal                 int64

	// locals are scores that depend on the node alone; ranked those of its record that
	// are normalised; constant is what every node has.
	locals   []local
	ranked   []ranked
	constant int64
	soft     *soft
	attract  *attraction
	signals  *score.Rule // NodeSignals; nil if it is not asked

	// reads are the labels of nodes that static checks and ranked scores read; nil if
	// they read more. looked is what came of it, recent of some of them.
	reads  []*domains
	looked map[lookKey]*looked
	recent [recents]struct {
		key    lookKey
		looked *looked
	}
	// shaped is what is known of empty nodes by their shape. ownChecks is set if a tally
	// is fine, so that checks depend on more.
	shaped    []shaped
	ownChecks bool
	unread    looked // of one node after the other, where reads is nil

	tallies  []*tally  // all of them
	verdicts []verdict // 0 is that the node can take the pod
	cells    []cell    // by slot
	groups   []*group
	byKey    map[groupKey]int32
	dyns     []dyn
	byDyn    map[dyn]int32
	// reasons is room for those of one node after the other.
	reasons []filter.Reason
	// rejection is what was said the last time that no node would do, until something
	// changes.
	rejection *berthv1.Rejection
}

// check is one rule, or one constraint of a rule, in the profile's order.
type check struct {
	rule string
	kind checkKind
	// reject is for static and dynamic ones.
	reject filter.Predicate
	spread *spread
}

type checkKind int

const (
	static  checkKind = iota // reads the node's record
	dynamic                  // reads what is on the node, too
	spreads                  // a hard spread constraint
	wants                    // required affinity
	avoids                   // required anti-affinity
	avoided                  // that of placed pods
)

type local struct {
	weight int64
	score  func(*model.Node) int64
}

type ranked struct {
	weight int64
	scorer score.Scorer
}

// soft is PodTopologySpread's score.
type soft struct {
	weight      int64
	constraints []model.SpreadConstraint
	allKeys     bool
	// tallies are by constraint, nil for those whose every node is a domain; for those
	// hosts has how many pods the node in each slot has.
	tallies []*tally
	hosts   [][]int32
	// domains are those of the constraints' topology keys.
	domains []*domains
}

// attraction is InterPodAffinity's score.
type attraction struct {
	weight   int64
	required int64
	own      bool
	nearby
}

// hostname is the label of which PodTopologySpread's score takes every node for a
// domain of its own.
const hostname = "kubernetes.io/hostname"

// verdict is why a node cannot take the pod: the place of the check and its reasons.
type verdict struct {
	place   int
	reasons []filter.Reason
	// evictable is set if nothing but pods is in the way.
	evictable bool
}

// cell is what is known of the node in one slot.
type cell struct {
	// verdict says whether it can take the pod; static is that of the static checks
	// alone. Both are absent where there is no node.
	verdict, static int32
	// local is the sum of the local scores, dyn what tells it from its group besides.
	local, dyn int32
	// group and place are where in which group it is.
	group, place int32
	// includes has a bit per spread constraint, hard ones first, that counts it.
	includes uint32
}

const absent int32 = -1

// maxParts is how many parts a group's key has at most, and how many constraints a pod.
const maxParts = 8

// groupKey is what nodes of one group have in common: the domain of each coarse tally,
// whether they carry the hostname, and the raw scores that depend on their record.
type groupKey [maxParts]int64

// dyn is what else tells nodes apart: the counts of soft spread constraints whose every
// node is a domain, and how much its fine domains attract the pod.
type dyn [4]int64

// group is nodes with one groupKey.
type group struct {
	key   groupKey
	slots []int32 // in name order
	ranks []int32 // their place in the name order of all nodes
	// having is how many nodes have each verdict.
	having []int32
	// trees has the local scores of the nodes that can take the pod, by dyn.
	trees []dynTree
}

type dynTree struct {
	dyn   int32
	nodes int32
	*tree
}

// rebuild forgets everything but the pod and looks at every node.
func (c *class) rebuild() {
	c.prepare()
	c.countAll()
	c.build()
}

// prepare forgets everything but the pod, and compiles rules and scores for it.
func (c *class) prepare() {
	*c = class{x: c.x, key: c.key, pod: c.pod, profile: c.profile, scores: c.scores, lastUse: c.lastUse, bytes: c.bytes,
		free: map[string]int64{}, byDyn: map[dyn]int32{}}
	c.x.stats.Built++
	c.x.settle()
	c.compile()
}

// counts says whether pods are counted for the class.
func (c *class) counts() bool {
	return len(c.spread) > 0 || c.soft != nil || c.terms || c.attract != nil && c.attract.own
}

// size is what the class takes in bytes, about.
func (c *class) size() int64 {
	bytes := int64(4096) + int64(len(c.cells))*cellBytes + int64(len(c.verdicts))*128 + int64(len(c.dyns))*96
	for _, g := range c.groups {
		bytes += 256 + int64(cap(g.slots)+cap(g.ranks))*4 + int64(len(g.trees))*(treeBytes(len(g.slots))+32)
	}
	for _, t := range c.tallies {
		bytes += int64(cap(t.counts)) * 8
	}
	for _, s := range c.spread {
		bytes += int64(cap(s.included)+cap(s.having)) * 4
	}
	if c.soft != nil {
		for _, hosts := range c.soft.hosts {
			bytes += int64(cap(hosts)) * 4
		}
	}
	return bytes
}

// compile prepares rules and scores for the class's pod.
func (c *class) compile() {
	p, s := c.pod, c.x.snapshot
	c.facts = s.Facts
	if c.unfit = len(p.Spread)+len(p.Affinity.Required)+len(p.Affinity.AntiRequired) > maxParts; c.unfit {
		return
	}
	for _, rule := range c.profile.Rules {
		switch rule.Name {
		case filter.PodTopologySpread:
			c.spreadBy = filter.HardSpread(p, rule.DefaultSpread)
			for _, constraint := range c.spreadBy {
				sp := &spread{tally: tally{domains: c.x.domainsOf(constraint.TopologyKey)}, constraint: constraint}
				sp.fine = c.x.fine(sp.domains)
				if constraint.Selector.Matches(p.Labels) {
					sp.self = 1
				}
				c.spread = append(c.spread, sp)
				c.tallied(&sp.tally)
				c.checks = append(c.checks, check{rule: rule.Name, kind: spreads, spread: sp})
			}
		case filter.InterPodAffinity:
			c.affine = true
			a := &p.Affinity
			c.terms = len(a.Required)+len(a.AntiRequired) > 0
			c.first = len(a.Required) > 0
			for i := range a.Required {
				c.first = c.first && s.Selects(&a.Required[i], p.Labels, p.Namespace)
				c.wanted.of(c.x, c, a.Required[i].TopologyKey)
			}
			for i := range a.AntiRequired {
				c.unwanted.of(c.x, c, a.AntiRequired[i].TopologyKey)
			}
			for _, kind := range []checkKind{wants, avoids, avoided} {
				c.checks = append(c.checks, check{rule: rule.Name, kind: kind})
			}
		default:
			compiled := rule.For(p, s)
			if compiled.Reject == nil {
				continue
			}
			kind := dynamic
			if isStatic(rule.Name) {
				kind = static
			}
			c.checks = append(c.checks, check{rule: rule.Name, kind: kind, reject: compiled.Reject})
			if compiled.Free != nil {
				for name, value := range compiled.Free() {
					c.free[name] = value
				}
			}
		}
	}
	turn := &model.Turn{Pod: p, Snapshot: s}
	for _, rule := range c.scores {
		switch rule.Name {
		case "PodTopologySpread":
			constraints, allKeys := score.SoftSpread(p, rule.Args.DefaultSpread, rule.Args.SystemDefaulted)
			if len(constraints) == 0 {
				continue
			}
			c.soft = &soft{weight: rule.Weight, constraints: constraints, allKeys: allKeys}
			for _, constraint := range constraints {
				d := c.x.domainsOf(constraint.TopologyKey) // of hosts, too: whether a node carries it
				c.soft.domains = append(c.soft.domains, d)
				if constraint.TopologyKey == hostname {
					c.soft.tallies = append(c.soft.tallies, nil)
					c.soft.hosts = append(c.soft.hosts, make([]int32, len(c.x.at)))
					continue
				}
				// Never fine: how many of the domains have a node that can take the pod,
				// groups tell.
				t := &tally{domains: d, coarse: true}
				c.unfit = c.unfit || d.present > c.x.mostGroups()
				c.soft.tallies = append(c.soft.tallies, t)
				c.soft.hosts = append(c.soft.hosts, nil)
				c.tallied(t)
			}
		case "InterPodAffinity":
			own := len(p.Affinity.Preferred)+len(p.Affinity.AntiPreferred) > 0
			if own || !rule.Args.IgnorePreferredTermsOfExistingPods {
				c.attract = &attraction{weight: rule.Weight, required: rule.Args.HardPodAffinityWeight, own: own}
			}
		case "NodeSignals":
			c.signals = &rule
		default:
			scorer := rule.For(turn)
			switch {
			case scorer.Score == nil:
			case scorer.Same:
				scores := []int64{scorer.Score(s.Nodes[0])}
				if scorer.Normalize != nil {
					scorer.Normalize(scores)
				}
				c.constant += rule.Weight * scores[0]
			case scorer.Normalize != nil:
				c.ranked = append(c.ranked, ranked{rule.Weight, scorer})
			default:
				c.locals = append(c.locals, local{rule.Weight, scorer.Score})
				if rule.Name == "ImageLocality" { // it compares with how many nodes have an image
					c.nodes = len(s.Nodes)
				}
			}
		}
	}
	c.readLabels()
	hard, softs := len(c.spread), 0
	if c.soft != nil {
		softs = len(c.soft.constraints)
	}
	c.unfit = c.unfit || hard > 16 || softs > 16
}

// tallied notes a tally: nodes are told apart by it from the next grouping on.
func (c *class) tallied(t *tally) {
	c.tallies = append(c.tallies, t)
	c.ownChecks = c.ownChecks || t.fine
	c.groups = nil
}

// countAll counts every node and every pod.
func (c *class) countAll() {
	x := c.x
	x.readAll()
	c.seen, c.order = x.now(), x.order
	if c.unfit {
		return
	}
	c.verdicts = []verdict{{place: len(c.checks), evictable: false}}
	c.cells = make([]cell, len(x.at))
	for slot := range c.cells {
		c.cells[slot] = cell{verdict: absent, static: absent}
	}
	all := c.counts()
	if all || x.snapshot.Affine > 0 {
		for _, n := range x.snapshot.Nodes {
			c.came(n)
			pods := n.Pods
			if !all {
				pods = n.Affine
			}
			for _, q := range pods {
				c.count(q, n, 1)
			}
		}
	}
}

// build looks at every node. It reads what classes share and changes nothing of it.
func (c *class) build() {
	if c.unfit {
		return
	}
	x := c.x
	for _, slot := range x.slots() {
		c.cells[slot].static = c.look(slot).static
		c.judge(slot)
	}
	c.regroup()
}

// came counts a node without its pods.
func (c *class) came(n *model.Node) {
	if len(c.spread) == 0 && c.soft == nil {
		return
	}
	if c.x.at[n.Slot] == n {
		c.cells[n.Slot].includes = c.includes(n)
	}
	c.include(n, 1)
}

func (c *class) include(n *model.Node, by int32) {
	if len(c.spread) == 0 {
		return
	}
	bits := c.includesOf(n)
	for i, s := range c.spread {
		if bits&(1<<i) != 0 {
			s.include(c.x.domainOf(s.domains, n), by)
		}
	}
}

// includesOf is includes, remembered for nodes that are in the snapshot.
func (c *class) includesOf(n *model.Node) uint32 {
	if c.x.at[n.Slot] == n {
		return c.cells[n.Slot].includes
	}
	return c.includes(n)
}

// includes says which of the spread constraints count n.
func (c *class) includes(n *model.Node) (bits uint32) {
	if len(c.spread) > 0 && carries(n, c.spreadBy) {
		for i := range c.spreadBy {
			if c.spreadBy[i].Includes(c.pod, n) {
				bits |= 1 << i
			}
		}
	}
	if c.soft != nil && !(c.soft.allKeys && !carries(n, c.soft.constraints)) {
		for i := range c.soft.constraints {
			if c.soft.constraints[i].Includes(c.pod, n) {
				bits |= 1 << (16 + i)
			}
		}
	}
	return bits
}

// count counts q on n.
func (c *class) count(q *model.PlacedPod, n *model.Node, by int64) {
	x := c.x
	if len(c.spread) > 0 {
		bits := c.includesOf(n)
		for i, s := range c.spread {
			if bits&(1<<i) != 0 && counted(q, c.pod.Namespace, &s.constraint.Selector) {
				id := x.domainOf(s.domains, n)
				s.move(id, by)
				c.touch(&s.tally, id)
			}
		}
	}
	if c.soft != nil {
		bits := c.includesOf(n)
		for i := range c.soft.constraints {
			if !counted(q, c.pod.Namespace, &c.soft.constraints[i].Selector) {
				continue
			}
			if hosts := c.soft.hosts[i]; hosts != nil {
				hosts[n.Slot] += int32(by)
			} else if bits&(1<<(16+i)) != 0 {
				t := c.soft.tallies[i]
				t.add(max(0, x.domainOf(t.domains, n)), by)
			}
		}
	}
	if c.affine {
		c.countAffinity(q, n, by)
	}
	if c.attract != nil {
		c.countAttraction(q, n, by)
	}
}

// near adds to a tally of pods near n, unless n does not carry the key.
func (c *class) near(t *tally, n *model.Node, by int64) bool {
	id := c.x.domainOf(t.domains, n)
	if id == lacking {
		return false
	}
	t.add(id, by)
	c.touch(t, id)
	return true
}

func (c *class) countAffinity(q *model.PlacedPod, n *model.Node, by int64) {
	s, p := c.x.snapshot, c.pod
	for i := range q.Affinity.AntiRequired {
		t := &q.Affinity.AntiRequired[i]
		if t.Selects(p.Labels, p.Namespace, s.Namespaces[p.Namespace]) {
			c.near(c.repelling.of(c.x, c, t.TopologyKey), n, by)
		}
	}
	if !c.terms {
		return
	}
	if required := p.Affinity.Required; len(required) > 0 {
		all := true
		for i := range required {
			all = all && s.Selects(&required[i], q.Labels, q.Namespace)
		}
		for i := range required {
			if all && c.near(c.wanted.of(c.x, c, required[i].TopologyKey), n, by) {
				c.wantedTotal += by
			}
		}
	}
	for i := range p.Affinity.AntiRequired {
		if t := &p.Affinity.AntiRequired[i]; s.Selects(t, q.Labels, q.Namespace) {
			c.near(c.unwanted.of(c.x, c, t.TopologyKey), n, by)
		}
	}
}

func (c *class) countAttraction(q *model.PlacedPod, n *model.Node, by int64) {
	a, s, p := c.attract, c.x.snapshot, c.pod
	if a.own {
		for i := range p.Affinity.Preferred {
			if t := &p.Affinity.Preferred[i]; s.Selects(&t.PodTerm, q.Labels, q.Namespace) {
				c.near(a.of(c.x, c, t.TopologyKey), n, by*t.Weight)
			}
		}
		for i := range p.Affinity.AntiPreferred {
			if t := &p.Affinity.AntiPreferred[i]; s.Selects(&t.PodTerm, q.Labels, q.Namespace) {
				c.near(a.of(c.x, c, t.TopologyKey), n, -by*t.Weight)
			}
		}
	}
	if !q.Affinity.Any() {
		return
	}
	selected := func(t *model.PodTerm) bool { return t.Selects(p.Labels, p.Namespace, s.Namespaces[p.Namespace]) }
	if a.required > 0 {
		for i := range q.Affinity.Required {
			if t := &q.Affinity.Required[i]; selected(t) {
				c.near(a.of(c.x, c, t.TopologyKey), n, by*a.required)
			}
		}
	}
	for i := range q.Affinity.Preferred {
		if t := &q.Affinity.Preferred[i]; selected(&t.PodTerm) {
			c.near(a.of(c.x, c, t.TopologyKey), n, by*t.Weight)
		}
	}
	for i := range q.Affinity.AntiPreferred {
		if t := &q.Affinity.AntiPreferred[i]; selected(&t.PodTerm) {
			c.near(a.of(c.x, c, t.TopologyKey), n, -by*t.Weight)
		}
	}
}

// touch has the nodes of a domain looked at again, if its tally tells them apart.
func (c *class) touch(t *tally, id int32) {
	if !t.fine {
		return
	}
	for slot := t.domains.first[id]; slot != none; slot = t.domains.next[slot] {
		c.x.markSlot(slot)
	}
}

// judge asks what else depends on the node in a slot: it sets its verdict, its local
// score and its dyn.
func (c *class) judge(slot int32) {
	cell := &c.cells[slot]
	shape := c.x.shapes.empty(slot)
	if shape == 0 || c.ownChecks || c.nodes > 0 {
		c.judgeNode(c.x.at[slot])
		return
	}
	for len(c.shaped) <= int(shape) {
		c.shaped = append(c.shaped, shaped{})
	}
	s := &c.shaped[shape]
	if !s.known {
		s.known = true
		s.verdict, s.local = c.judgeDynamic(c.x.at[slot], len(c.checks))
	}
	cell.verdict = cell.static
	if c.verdicts[s.verdict].place < c.verdicts[cell.static].place {
		cell.verdict = s.verdict
	}
	if cell.verdict == 0 {
		cell.local, cell.dyn = s.local, c.dyn(slot)
	}
}

// judgeNode is judge for a node as it is at the moment.
func (c *class) judgeNode(n *model.Node) {
	cell := &c.cells[n.Slot]
	verdict, local := c.judgeDynamic(n, c.verdicts[cell.static].place)
	switch {
	case verdict != 0:
		cell.verdict = verdict
	case cell.static != 0:
		cell.verdict = cell.static
	default:
		cell.verdict, cell.local, cell.dyn = 0, local, c.dyn(int32(n.Slot))
	}
}

// judgeDynamic asks the checks before limit that do not depend on n's record alone and,
// if none of them rules it out, the local scores.
func (c *class) judgeDynamic(n *model.Node, limit int) (verdict, local int32) {
	for place := range c.checks[:limit] {
		ch := &c.checks[place]
		reasons := c.reasons[:0]
		switch {
		case ch.kind == static:
			continue
		case ch.kind == dynamic:
			reasons = ch.reject(n, reasons)
		case c.ownChecks:
			if reason, rejected := c.rejectsNear(ch, true, func(d *domains) int32 { return d.of[n.Slot] }); rejected {
				reasons = append(reasons, reason)
			}
		}
		c.reasons = reasons
		if len(reasons) > 0 {
			return c.verdict(place, reasons), 0
		}
	}
	if limit < len(c.checks) {
		return 0, 0 // the record rules it out
	}
	total := int64(0)
	for i := range c.locals {
		total += c.locals[i].weight * c.locals[i].score(n)
	}
	if total < 0 || total > math.MaxInt32 {
		c.unfit = true
		return 0, 0
	}
	return 0, int32(total)
}

// rejectsNear asks a check that counts pods about a node whose domains are given: its
// fine tallies or its coarse ones.
func (c *class) rejectsNear(ch *check, fine bool, domain func(*domains) int32) (filter.Reason, bool) {
	switch ch.kind {
	case spreads:
		if ch.spread.fine == fine {
			return ch.spread.rejects(domain(ch.spread.domains), ch.spread.minimum())
		}
	case wants:
		alone := c.first && c.wantedTotal == 0
		for _, t := range c.wanted {
			if t.fine != fine {
				continue
			}
			if id := domain(t.domains); id == lacking || t.of(id) == 0 && !alone {
				return filter.AffinityUnmet, true
			}
		}
	case avoids:
		return anyNear(c.unwanted, fine, domain, filter.Repelled)
	case avoided:
		return anyNear(c.repelling, fine, domain, filter.Repelling)
	}
	return filter.Reason{}, false
}

func anyNear(list nearby, fine bool, domain func(*domains) int32, why filter.Reason) (filter.Reason, bool) {
	for _, t := range list {
		if t.fine == fine {
			if id := domain(t.domains); id != lacking && t.of(id) > 0 {
				return why, true
			}
		}
	}
	return filter.Reason{}, false
}

// dynOf is what tells the node in a slot from its group.
func (c *class) dynOf(slot int32) (d dyn) {
	part := 0
	if c.soft != nil {
		for _, hosts := range c.soft.hosts {
			if hosts != nil {
				if part == len(d)-1 {
					c.unfit = true
					return d
				}
				d[part] = int64(hosts[slot])
				part++
			}
		}
	}
	if c.attract != nil {
		for _, t := range c.attract.nearby {
			if id := t.domains.of[slot]; t.fine && id != lacking {
				d[len(d)-1] += t.of(id)
			}
		}
	}
	return d
}

// dyn numbers what tells the node in a slot from its group.
func (c *class) dyn(slot int32) int32 {
	d := c.dynOf(slot)
	if len(c.dyns) > 0 && c.dyns[0] == d {
		return 0
	}
	id, ok := c.byDyn[d]
	if !ok {
		id = int32(len(c.dyns))
		c.dyns = append(c.dyns, d)
		c.byDyn[d] = id
	}
	return id
}

// verdict numbers a verdict.
func (c *class) verdict(place int, reasons []filter.Reason) int32 {
	for i := 1; i < len(c.verdicts); i++ {
		v := &c.verdicts[i]
		if v.place == place && equal(v.reasons, reasons) {
			return int32(i)
		}
	}
	v := verdict{place: place, reasons: append([]filter.Reason(nil), reasons...), evictable: true}
	for _, reason := range reasons {
		v.evictable = v.evictable && reason.EvictionCouldHelp
	}
	c.verdicts = append(c.verdicts, v)
	if len(c.verdicts) > maxVerdicts {
		c.unfit = true
	}
	return int32(len(c.verdicts) - 1)
}

// maxVerdicts is how many ways to be ruled out are told apart.
const maxVerdicts = 256

func equal(a, b []filter.Reason) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
