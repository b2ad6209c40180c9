package index

import "github.com/berth-scheduler/berth/decider/internal/model"

// maxAside is on how many nodes room may be set aside; more are looked at by the plain
// solver.
const maxAside = 256

// setAside takes the rooms into account that are set aside on nodes and that p must
// respect: the nodes have to take p with those pods on them, too. restore takes that
// back. ok is false if the pods for which room is set aside could count for p elsewhere.
func (c *class) setAside(p *model.Pod, nodes []*model.Node) (restore func(), ok bool) {
	if len(nodes) > maxAside || len(c.spread) > 0 || c.terms || len(c.repelling) > 0 {
		return nil, false
	}
	before := make([]cell, len(nodes))
	for i, n := range nodes {
		now := &c.cells[n.Slot]
		before[i] = *now
		c.judgeWith(p, n)
		if now.verdict == 0 {
			*now = before[i]
		} else {
			c.regroupOne(&before[i], now)
		}
	}
	c.rejection = nil
	return func() {
		for i, n := range nodes {
			with := c.cells[n.Slot]
			c.cells[n.Slot] = before[i]
			c.regroupOne(&with, &before[i])
		}
		c.rejection = nil
	}, true
}

// judgeWith judges n with the pods on it for which room is set aside and that p must
// respect.
func (c *class) judgeWith(p *model.Pod, n *model.Node) {
	s := c.x.snapshot
	s.Observe(nil) // this is for a moment
	defer s.Observe(c.x)
	var added []*model.PlacedPod
	for _, m := range n.Nominated {
		if p.Respects(m) {
			n.Add(m)
			added = append(added, m)
		}
	}
	c.judgeNode(n)
	for i := len(added) - 1; i >= 0; i-- {
		n.Remove(added[i])
	}
}
