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
