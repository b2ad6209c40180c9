package index

import (
	"slices"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
)

// tally is how many pods, or how much weight, each domain of a topology key has.
type tally struct {
	domains *domains
	counts  []int64
	// fine is set if there are so many domains that nodes are told apart by what their
	// own has, instead of by which it is; coarse if it must not be.
	fine, coarse bool
}

func (t *tally) of(id int32) int64 {
	if int(id) < len(t.counts) {
		return t.counts[id]
	}
	return 0
}

func (t *tally) add(id int32, by int64) {
	for len(t.counts) <= int(id) {
		t.counts = append(t.counts, make([]int64, max(1, len(t.domains.nodes)-len(t.counts)))...)
	}
	t.counts[id] += by
}

// domainOf is n's domain, whether n is in the snapshot still or not any more.
func (x *Index) domainOf(d *domains, n *model.Node) int32 {
	if x.at[n.Slot] == n {
		return d.of[n.Slot]
	}
	if value, ok := n.Labels[d.key]; ok {
		return d.ids[value]
	}
	return lacking
}

// spread is a hard spread constraint: the tally of the pods that it counts, and the
// least that a domain has.
type spread struct {
	tally
	constraint model.SpreadConstraint
	self       int64
	// included is how many nodes of each domain count.
	included []int32
	// having is how many domains with nodes that count have so many pods; of them there
	// are present.
	having  []int32
	present int64
	lowest  int
}

func (s *spread) include(id int32, by int32) {
	for len(s.included) <= int(id) {
		s.included = append(s.included, make([]int32, max(1, len(s.domains.nodes)-len(s.included)))...)
	}
	s.included[id] += by
	switch {
	case by > 0 && s.included[id] == 1:
		s.present++
		s.have(s.of(id), 1)
	case by < 0 && s.included[id] == 0:
		s.present--
		s.have(s.of(id), -1)
	}
}

// move counts one pod more or fewer in a domain that has nodes that count.
func (s *spread) move(id int32, by int64) {
	s.have(s.of(id), -1)
	s.add(id, by)
	s.have(s.of(id), 1)
}

func (s *spread) have(pods int64, by int32) {
	for len(s.having) <= int(pods) {
		s.having = append(s.having, 0)
	}
	s.having[pods] += by
	if by > 0 && int(pods) < s.lowest {
		s.lowest = int(pods)
	}
}

// minimum is what a domain is compared with.
func (s *spread) minimum() int64 {
	if s.present == 0 || s.present < s.constraint.MinDomains {
		return 0
	}
	for s.having[s.lowest] == 0 {
		s.lowest++
	}
	return int64(s.lowest)
}

// rejects says why a node in this domain would break the constraint.
func (s *spread) rejects(id int32, minimum int64) (filter.Reason, bool) {
	if id == lacking {
		return filter.SpreadMissing, true
	}
	if s.of(id)+s.self-minimum > s.constraint.MaxSkew {
		return filter.SpreadSkewed, true
	}
	return filter.Reason{}, false
}

// carries says whether n carries the topology keys of all constraints.
func carries(n *model.Node, constraints []model.SpreadConstraint) bool {
	for i := range constraints {
		if _, ok := n.Labels[constraints[i].TopologyKey]; !ok {
			return false
		}
	}
	return true
}

// counted says whether q is counted by a spread constraint with this selector of a pod
// in namespace. An empty selector, though it selects every pod, counts none.
func counted(q *model.PlacedPod, namespace string, selector *model.LabelSelector) bool {
	return q.Namespace == namespace && !q.Terminating && !selector.SelectsAll() && selector.Matches(q.Labels)
}

// maxTallies is how many tallies a class has at most.
const maxTallies = 4 * maxParts

// nearby are tallies by topology key, in the order in which the keys were met.
type nearby []*tally

func (l *nearby) of(x *Index, c *class, key string) *tally {
	if i := slices.IndexFunc(*l, func(t *tally) bool { return t.domains.key == key }); i >= 0 {
		return (*l)[i]
	}
	if len(c.tallies) > maxTallies {
		c.unfit = true
		return &tally{domains: c.tallies[0].domains} // counted and forgotten
	}
	t := &tally{domains: x.domainsOf(key)}
	t.fine = x.fine(t.domains)
	*l = append(*l, t)
	c.tallied(t)
	return t
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
