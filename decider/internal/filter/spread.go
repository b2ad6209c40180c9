package filter

import (
	"github.com/berth-scheduler/berth/decider/internal/model"
)

// Why a spread constraint rules a node out.
var (
	SpreadMissing = Reason{Text: "node(s) didn't match pod topology spread constraints (missing required label)"}
	SpreadSkewed  = Reason{Text: "node(s) didn't match pod topology spread constraints", EvictionCouldHelp: true}
)

// topologySpread rejects nodes on which the pod would break a hard spread
// constraint: one of its own or, if it has none at all, one of defaults.
func topologySpread(defaults []model.SpreadConstraint) func(*model.Pod, *model.Snapshot) Check {
	defaults = hard(defaults)
	return func(p *model.Pod, s *model.Snapshot) Check {
		spread := newSpread(p, defaults)
		if len(spread) == 0 {
			return Check{}
		}
		for _, n := range s.Nodes {
			spread.count(p, n)
		}
		for i := range spread {
			spread[i].summarize()
		}
		return Check{
			Reject: func(n *model.Node, reasons []Reason) []Reason {
				for i := range spread {
					c := &spread[i]
					domain, ok := n.Labels[c.TopologyKey]
					if !ok {
						return append(reasons, SpreadMissing)
					}
					if c.pods[domain]+c.self-c.minimum() > c.MaxSkew {
						return append(reasons, SpreadSkewed)
					}
				}
				return reasons
			},
			// Unlike the first count, kube-scheduler's updateWithPod asks neither
			// whether q is terminating nor whether the selector is empty.
			Moved: func(q *model.PlacedPod, n *model.Node, by int64) {
				if q.Namespace != p.Namespace || !spread.carriedBy(n) {
					return
				}
				for i := range spread {
					if c := &spread[i]; c.Selector.Matches(q.Labels) && c.Includes(p, n) {
						c.move(n.Labels[c.TopologyKey], by)
					}
				}
			},
		}
	}
}

// hard returns the constraints that rule nodes out.
func hard(constraints []model.SpreadConstraint) []model.SpreadConstraint {
	var of []model.SpreadConstraint
	for _, c := range constraints {
		if c.Hard {
			of = append(of, c)
		}
	}
	return of
}

// HardSpread returns the hard constraints of p, each with its selector: its own or, if
// it has none at all, those of defaults.
func HardSpread(p *model.Pod, defaults []model.SpreadConstraint) []model.SpreadConstraint {
	var constraints []model.SpreadConstraint
	for _, c := range newSpread(p, hard(defaults)) {
		constraints = append(constraints, c.SpreadConstraint)
	}
	return constraints
}

// spread is the hard constraints of one pod, in order.
type spread []spreadCount

// spreadCount is a constraint and how many of its pods each domain has.
type spreadCount struct {
	model.SpreadConstraint
	// self is 1 if the constraint selects the pod itself, else 0.
	self int64
	// pods are how many pods each domain has that a node of the count is in.
	pods map[string]int64
	// domains are how many domains have so many pods, so that the least is known
	// when a pod moves.
	domains map[int64]int
	// least is how many pods the least occupied domain has.
	least int64
}

func newSpread(p *model.Pod, defaults []model.SpreadConstraint) spread {
	constraints := defaults
	if len(p.Spread) > 0 {
		constraints = hard(p.Spread)
	} else if p.SpreadSelector.SelectsAll() || p.SpreadSelector.SelectsNothing() {
		return nil // nothing to spread it among
	}
	if len(constraints) == 0 {
		return nil
	}
	spread := make(spread, len(constraints))
	for i, constraint := range constraints {
		c := &spread[i]
		c.SpreadConstraint = constraint
		if len(p.Spread) == 0 {
			c.Selector = p.SpreadSelector
		}
		if c.Selector.Matches(p.Labels) {
			c.self = 1
		}
		c.pods, c.domains = map[string]int64{}, map[int64]int{}
	}
	return spread
}

// carriedBy says whether n carries the topology keys of all constraints. Other
// nodes count for none of them.
func (s spread) carriedBy(n *model.Node) bool {
	for i := range s {
		if _, ok := n.Labels[s[i].TopologyKey]; !ok {
			return false
		}
	}
	return true
}

// count adds the pods on n. Pods that are terminating do not count, and an empty
// selector, though it selects every pod, counts none.
func (s spread) count(p *model.Pod, n *model.Node) {
	if !s.carriedBy(n) {
		return
	}
	for i := range s {
		c := &s[i]
		if !c.Includes(p, n) {
			continue
		}
		var selected int64
		if !c.Selector.SelectsAll() {
			for _, q := range n.Pods {
				if !q.Terminating && q.Namespace == p.Namespace && c.Selector.Matches(q.Labels) {
					selected++
				}
			}
		}
		c.pods[n.Labels[c.TopologyKey]] += selected // 0 makes it a domain, too
	}
}

// summarize finds the least occupied domain.
func (c *spreadCount) summarize() {
	first := true
	for _, pods := range c.pods {
		c.domains[pods]++
		if first || pods < c.least {
			c.least, first = pods, false
		}
	}
}

// minimum is what a domain is compared with.
func (c *spreadCount) minimum() int64 {
	if int64(len(c.pods)) < c.MinDomains {
		return 0
	}
	return c.least
}

// move counts one pod more (by is 1) or fewer (by is -1) in a domain.
func (c *spreadCount) move(domain string, by int64) {
	before := c.pods[domain]
	after := before + by
	c.pods[domain] = after
	c.domains[before]--
	c.domains[after]++
	if after < c.least || before == c.least && c.domains[before] == 0 {
		c.least = after
	}
}
