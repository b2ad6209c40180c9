package index

import (
	"hash/maphash"

	"github.com/berth-scheduler/berth/decider/internal/filter"
)

// rebuild forgets everything but the pod and looks at every node.
func (c *class) rebuild() {
	c.prepare()
	c.countNodes()
	c.countPods()
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

// countNodes counts every node. It reads what classes share and changes nothing of it.
func (c *class) countNodes() {
	if c.unfit {
		return
	}
	x := c.x
	c.verdicts = []verdict{{place: len(c.checks), evictable: false}}
	c.cells = make([]cell, len(x.at))
	for slot := range c.cells {
		c.cells[slot] = cell{verdict: absent, static: absent}
	}
	if len(c.spread) > 0 || c.soft != nil {
		for _, n := range x.snapshot.Nodes {
			c.came(n)
		}
	}
}

// countPods counts every pod that counts.
func (c *class) countPods() {
	x := c.x
	x.readAll()
	c.seen, c.order = x.now(), x.order
	all := c.counts()
	if c.unfit || !all && x.snapshot.Affine == 0 {
		return
	}
	for _, n := range x.snapshot.Nodes {
		pods := n.Pods
		if !all {
			pods = n.Affine
		}
		for _, q := range pods {
			c.count(q, n, 1)
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

// ahead is how many classes are built at once: no more, since a request that is to stop
// does so between pods.
const ahead = 8

// buildAhead builds the next classes that the request asks for often enough and that are
// not there or have to be built anew: several at a time.
func (x *Index) buildAhead() {
	var classes []*class
	for len(x.firsts) > 0 && len(classes) < ahead {
		p := x.firsts[0]
		x.firsts = x.firsts[1:]
		hash := maphash.String(x.seed, p.Key)
		if p.NodeName != "" || x.snapshot.Node(p.NominatedNode) != nil || x.announced[hash] < x.minUses(p) {
			continue
		}
		c := x.classes[p.Key]
		if c == nil {
			need := x.classBytes()
			if _, limited := filter.NamedNodes(p); limited || x.bytes+need > x.config.MaxBytes || len(x.domains) > maxDomains {
				continue
			}
			profile, scores := x.profile(p)
			c = &class{x: x, key: p.Key, pod: p, profile: profile, scores: scores, bytes: need}
			x.bytes += need
			x.classes[c.key] = c
			delete(x.uses, hash)
		} else if c.unfit || !x.outdated(c) {
			continue
		}
		c.pod, c.lastUse = p, x.clock
		c.prepare()
		classes = append(classes, c)
	}
	x.each(classes, (*class).countNodes)
	for _, c := range classes {
		c.countPods()
	}
	x.slots() // all read them
	x.each(classes, (*class).build)
	for _, c := range classes {
		x.account(c)
	}
}

// each calls do with each class, several at a time if it can.
func (x *Index) each(classes []*class, do func(c *class)) {
	if x.Parallel == nil {
		for _, c := range classes {
			do(c)
		}
		return
	}
	x.Parallel(len(classes), func(i int) { do(classes[i]) })
}
