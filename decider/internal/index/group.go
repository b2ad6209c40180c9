package index

// regroup sorts all nodes into groups, by what is known of them.
func (c *class) regroup() {
	x := c.x
	c.groups, c.byKey = make([]*group, 0, len(c.groups)), map[groupKey]int32{}
	c.rejection = nil
	parts := 0
	for _, t := range c.tallies {
		if !t.fine {
			parts++
		}
	}
	if parts+len(c.ranked)+1 > maxParts {
		c.unfit = true
	}
	if c.unfit {
		return
	}
	var recent [recents]int32 // numbers of groups, and one more
	sizes := make([]int, 0, 64)
	slots := x.slots()
	for _, slot := range slots {
		key := c.groupKey(slot)
		at := &recent[recentOf(key[:])]
		if *at == 0 || c.groups[*at-1].key != key {
			*at = c.groupOf(key) + 1
		}
		i := *at - 1
		if int(i) == len(sizes) {
			sizes = append(sizes, 0)
		}
		cell := &c.cells[slot]
		cell.group, cell.place = i, int32(sizes[i])
		sizes[i]++
	}
	if len(c.groups) > x.mostGroups() {
		c.unfit = true
		return
	}
	for i, g := range c.groups {
		g.slots, g.ranks = make([]int32, sizes[i]), make([]int32, sizes[i])
	}
	for rank, slot := range slots {
		cell := &c.cells[slot]
		g := c.groups[cell.group]
		g.slots[cell.place], g.ranks[cell.place] = slot, int32(rank)
		g.have(cell.verdict, 1)
		if cell.verdict == 0 {
			t := g.tree(cell.dyn)
			t.nodes++
			t.levels[0][cell.place] = cell.local
		}
	}
	for _, g := range c.groups {
		for i := range g.trees {
			g.trees[i].fill()
		}
	}
}

// groupOf returns the number of the group with this key, a new one if there is none.
func (c *class) groupOf(key groupKey) int32 {
	i, ok := c.byKey[key]
	if !ok {
		i = int32(len(c.groups))
		c.byKey[key] = i
		c.groups = append(c.groups, &group{key: key})
	}
	return i
}

// groupKey is what the node in a slot has in common with its group.
func (c *class) groupKey(slot int32) (key groupKey) {
	part := 0
	for _, t := range c.tallies {
		if !t.fine {
			key[part] = int64(t.domains.of[slot])
			part++
		}
	}
	if len(c.ranked) > 0 {
		part += copy(key[part:], c.look(slot).raw[:len(c.ranked)])
	}
	if c.soft != nil {
		for i, hosts := range c.soft.hosts {
			if hosts != nil {
				key[part] = min(0, int64(c.soft.domains[i].of[slot]))
			}
		}
	}
	return key
}

// have counts one more node or one fewer with a verdict.
func (g *group) have(verdict, by int32) {
	for len(g.having) <= int(verdict) {
		g.having = append(g.having, 0)
	}
	g.having[verdict] += by
}

// tree returns the tree of a dyn, an empty one if there is none yet.
func (g *group) tree(dyn int32) *dynTree {
	empty := -1
	for i := range g.trees {
		if g.trees[i].dyn == dyn {
			return &g.trees[i]
		}
		if g.trees[i].nodes == 0 {
			empty = i
		}
	}
	if empty < 0 {
		empty = len(g.trees)
		g.trees = append(g.trees, dynTree{tree: newTree(len(g.slots))})
	}
	g.trees[empty].dyn = dyn
	return &g.trees[empty]
}

// place finds the first place in g of a node at or after rank.
func (g *group) from(rank int) int32 {
	low, high := 0, len(g.ranks)
	for low < high {
		if middle := int(uint(low+high) >> 1); int(g.ranks[middle]) < rank {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return int32(low)
}

// repair brings the class up to date with the log.
func (c *class) repair() {
	x := c.x
	x.settle()
	if c.seen == x.now() && c.order == x.order && c.groups != nil {
		return
	}
	if c.seen < x.logStart || len(c.dyns) > maxDyns || c.resized() {
		c.rebuild()
		return
	}
	for len(c.cells) < len(x.at) {
		c.cells = append(c.cells, cell{verdict: absent, static: absent})
	}
	if c.soft != nil {
		for i, hosts := range c.soft.hosts {
			if hosts != nil && len(hosts) < len(x.at) {
				c.soft.hosts[i] = append(hosts, make([]int32, len(x.at)-len(hosts))...)
			}
		}
	}
	regroup := c.order != x.order
	before := c.scalars()
	counts := c.counts() || c.affine || c.attract != nil
	x.unmark()
	for i := c.seen - x.logStart; i < uint64(len(x.log)); i++ {
		e := &x.log[i]
		switch {
		case e.node == nil:
			continue
		case e.pod == nil:
			regroup = c.moved(e) || regroup
		case counts:
			c.count(e.pod, e.node, int64(e.by))
		}
		x.markSlot(e.slot)
	}
	x.readAll()
	c.seen, c.order = x.now(), x.order
	regroup = regroup || c.groups == nil
	if c.scalars() != before {
		for _, n := range x.snapshot.Nodes {
			x.markSlot(int32(n.Slot))
		}
	}
	c.rejection = nil
	c.fetch(x.dirty)
	for _, slot := range x.dirty {
		n := x.at[slot]
		if n == nil {
			c.cells[slot] = cell{verdict: absent, static: absent}
			regroup = true
			continue
		}
		old := c.cells[slot]
		c.judge(slot)
		if !regroup && !c.unfit {
			c.regroupOne(&old, &c.cells[slot])
		}
	}
	if regroup {
		c.regroup()
	}
}

// fetch reads what repair is to write, so that the processor has it at hand: here, no read
// waits for the one before it, and memory is what repairs wait for on many nodes. It
// returns something, so that it is not optimised away.
func (c *class) fetch(slots []int32) (sum int32) {
	if c.groups == nil {
		return 0
	}
	for _, slot := range slots {
		sum += c.cells[slot].place
	}
	for _, slot := range slots {
		if cell := &c.cells[slot]; cell.verdict == 0 {
			for i := range c.groups[cell.group].trees {
				if t := &c.groups[cell.group].trees[i]; t.dyn == cell.dyn {
					sum += t.levels[0][cell.place]
				}
			}
		}
	}
	return sum
}

// moved takes note of a node that came or is gone, and reports whether the groups have
// to be made anew.
func (c *class) moved(e *change) (regroup bool) {
	n := e.node
	if e.by < 0 {
		c.include(n, -1)
		return false
	}
	c.came(n)
	if c.x.at[n.Slot] != n {
		return false // gone again
	}
	cell := &c.cells[n.Slot]
	existed := cell.static != absent
	cell.static = c.look(int32(n.Slot)).static
	return !existed || c.groups == nil || c.groups[cell.group].key != c.groupKey(int32(n.Slot))
}

// regroupOne brings a node's group up to date with what is known of it now.
func (c *class) regroupOne(old, now *cell) {
	g := c.groups[now.group]
	if old.verdict != now.verdict {
		g.have(old.verdict, -1)
		g.have(now.verdict, 1)
	}
	if old.verdict == 0 && (now.verdict != 0 || old.dyn != now.dyn) {
		t := g.tree(old.dyn)
		t.set(now.place, none)
		t.nodes--
	}
	if now.verdict == 0 {
		t := g.tree(now.dyn)
		t.set(now.place, now.local)
		if old.verdict != 0 || old.dyn != now.dyn {
			t.nodes++
		}
	}
}

// maxDyns is how many dyns are numbered before they are numbered anew.
const maxDyns = 4096

// scalars is what fine checks depend on besides the node's own domain.
func (c *class) scalars() (of [17]int64) {
	for i, s := range c.spread {
		if s.fine {
			of[i] = s.minimum()
		}
	}
	for _, t := range c.wanted {
		if t.fine && c.first && c.wantedTotal == 0 {
			of[16] = 1
		}
	}
	return of
}

// resized says whether a topology key has become fine or coarse since.
func (c *class) resized() bool {
	for _, t := range c.tallies {
		if !t.coarse && t.fine != c.x.fine(t.domains) {
			return true
		}
	}
	return false
}
