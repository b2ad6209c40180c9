package index

import (
	"math"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
)

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
