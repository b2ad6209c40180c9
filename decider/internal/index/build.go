package index

import (
	"hash/maphash"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/solve"
)

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

// buildAhead builds the classes that a request, which was announced, asks for often
// enough and that are not there or have to be built anew: several at a time.
func (x *Index) buildAhead(r *solve.Request) {
	s := x.snapshot
	if r.Explain || len(s.Nodes) == 0 {
		return
	}
	var classes []*class
	for _, p := range x.firsts {
		hash := maphash.String(x.seed, p.Key)
		if p.NodeName != "" || s.Node(p.NominatedNode) != nil || x.announced[hash] < x.minUses(p) {
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
		c.countAll()
		classes = append(classes, c)
	}
	x.slots() // all read them
	build := func(i int) { classes[i].build() }
	if x.Parallel != nil {
		x.Parallel(len(classes), build)
	} else {
		for i := range classes {
			build(i)
		}
	}
	for _, c := range classes {
		x.account(c)
	}
}
