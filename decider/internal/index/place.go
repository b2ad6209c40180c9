package index

import (
	"math"

	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/score"
	"github.com/berth-scheduler/berth/decider/internal/solve"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// candidate is the nodes of a group that can take the pod and have one dyn.
type candidate struct {
	group *group
	tree  *tree
	dyn   dyn
	// base is what all of them are liked besides their local scores.
	base int64
}

// decide decides on p, which is of the class. ok is false if the plain solver is to.
func (c *class) decide(r *solve.Request, index int, p *model.Pod) (_ *berthv1.Decision, undo func(), ok bool) {
	c.candidates()
	if len(c.x.candidates) > 0 {
		var decision *berthv1.Decision
		if c.scores == nil || c.signals != nil && c.x.snapshot.Signals > 0 {
			decision, undo = c.placeEach(r, index, p)
		} else {
			decision, undo = c.place(r, index, p)
		}
		return decision, undo, true
	}
	preempts := r.Preempt && c.profile.Preempt
	if preempts && p.Preempts && c.x.priorities.below(p.Priority) {
		return nil, nil, false
	}
	if c.rejection == nil {
		c.rejection, c.evictable = c.reject()
		clear(c.helpless[:])
	}
	rejection := c.rejection
	if preempts {
		helpless := &c.helpless[0]
		if p.Preempts {
			helpless = &c.helpless[1]
		}
		if *helpless == nil {
			*helpless = solve.Helpless(c.rejection, p, len(c.x.snapshot.Nodes), c.evictable)
		}
		rejection = *helpless
	}
	return &berthv1.Decision{PodUid: p.UID, Outcome: berthv1.Outcome_OUTCOME_REJECTED, Rejection: rejection}, nil, true
}

// place puts p on the best of the candidates.
func (c *class) place(r *solve.Request, index int, p *model.Pod) (_ *berthv1.Decision, undo func()) {
	decision := &berthv1.Decision{PodUid: p.UID}
	c.rank()
	nodes := c.x.snapshot.Nodes
	position := solve.Position(r.Seed, index, len(nodes))
	var taken []spot
	var first *model.Node
	for range max(1, r.Candidates) {
		best, ok := c.best(position)
		if !ok {
			break
		}
		n := nodes[best.candidate.group.ranks[best.place]]
		if first == nil {
			first = n
		}
		decision.Candidates = append(decision.Candidates, &berthv1.Candidate{
			NodeName: n.Name, NodeUid: n.Record.GetUid(), Score: best.candidate.base + int64(best.value),
		})
		if r.Candidates > 1 {
			best.candidate.tree.set(best.place, none)
			taken = append(taken, best)
		}
	}
	for _, s := range taken {
		s.candidate.tree.set(s.place, s.value)
	}
	decision.Outcome = berthv1.Outcome_OUTCOME_PLACED
	return decision, c.x.snapshot.Place(p, first)
}

// candidates finds the groups that can take a pod.
func (c *class) candidates() {
	c.x.candidates = c.x.candidates[:0]
	for _, g := range c.groups {
		if len(g.having) == 0 || g.having[0] == 0 {
			continue
		}
		if place, _ := c.rejects(g); place < len(c.checks) {
			continue
		}
		for i := range g.trees {
			if t := &g.trees[i]; t.nodes > 0 {
				c.x.candidates = append(c.x.candidates, candidate{group: g, tree: t.tree, dyn: c.dyns[t.dyn]})
			}
		}
	}
}

// rejects returns the first check that rules out all nodes of a group and why; the
// number of checks if there is none.
func (c *class) rejects(g *group) (place int, verdict int32) {
	for place := range c.checks {
		ch := &c.checks[place]
		if ch.kind == static || ch.kind == dynamic {
			continue
		}
		if reason, rejected := c.rejectsNear(ch, false, func(d *domains) int32 { return c.domainIn(g, d) }); rejected {
			c.reasons = append(c.reasons[:0], reason)
			return place, c.verdict(place, c.reasons)
		}
	}
	return len(c.checks), 0
}

// domainIn is the domain of all nodes of a group.
func (c *class) domainIn(g *group, d *domains) int32 { return d.of[g.slots[0]] }

// rank sets the candidates' bases.
func (c *class) rank() {
	candidates := c.x.candidates
	for i := range candidates {
		candidates[i].base = c.constant
	}
	raw := c.x.raw[:0]
	for range candidates {
		raw = append(raw, 0)
	}
	c.x.raw = raw
	add := func(weight int64) {
		for i := range candidates {
			candidates[i].base += weight * raw[i]
		}
	}
	part := 0
	for _, t := range c.tallies {
		if !t.fine {
			part++
		}
	}
	for j := range c.ranked {
		for i := range candidates {
			raw[i] = candidates[i].group.key[part+j]
		}
		c.ranked[j].scorer.Normalize(raw)
		add(c.ranked[j].weight)
	}
	if a := c.attract; a != nil && len(a.nearby) > 0 {
		for i := range candidates {
			g := candidates[i].group
			raw[i] = candidates[i].dyn[len(dyn{})-1]
			for _, t := range a.nearby {
				if id := c.domainIn(g, t.domains); !t.fine && id != lacking {
					raw[i] += t.of(id)
				}
			}
		}
		score.ScaleAffinity(raw)
		add(a.weight)
	}
	if c.soft != nil {
		c.rankSpread(raw)
		add(c.soft.weight)
	}
}

// rankSpread puts what PodTopologySpread says of the candidates into scores.
func (c *class) rankSpread(scores []int64) {
	s, candidates := c.soft, c.x.candidates
	ignored := func(i int) bool {
		if !s.allKeys {
			return false
		}
		for j := range s.constraints {
			if c.domainIn(candidates[i].group, s.domains[j]) == lacking {
				return true
			}
		}
		return false
	}
	clear(scores)
	var sums [16]float64
	for j := range s.constraints {
		sums[j] = score.SpreadWeight(c.spreadSize(j, ignored))
	}
	for i := range candidates {
		if ignored(i) {
			continue
		}
		var sum float64
		host := 0
		for j := range s.constraints {
			var pods int64
			id := c.domainIn(candidates[i].group, s.domains[j])
			if s.tallies[j] == nil {
				pods = candidates[i].dyn[host]
				host++
			} else if id != lacking {
				pods = s.tallies[j].of(id)
			}
			if id != lacking {
				sum += score.SpreadPart(pods, sums[j], s.constraints[j].MaxSkew)
			}
		}
		scores[i] = int64(math.Round(sum))
	}
	score.NormalizeSpread(scores, ignored)
}

// spreadSize is how many domains of a soft constraint have a node that can take the pod.
func (c *class) spreadSize(constraint int, ignored func(int) bool) int {
	size := 0
	t := c.soft.tallies[constraint]
	clear(c.x.sizes)
	for i := range c.x.candidates {
		if ignored(i) {
			continue
		}
		g := c.x.candidates[i].group
		switch {
		case t != nil:
			c.x.sizes[max(0, c.domainIn(g, t.domains))] = true
		case i == 0 || c.x.candidates[i-1].group != g: // each group once
			size += int(g.having[0])
		}
	}
	if t != nil {
		return len(c.x.sizes)
	}
	return size
}

// spot is a node that was found.
type spot struct {
	candidate *candidate
	place     int32
	value     int32
}

// best returns the best node: by score, then by how far after position, wrapping round,
// it is in name order. ok is false if none is left.
func (c *class) best(position int) (_ spot, ok bool) {
	highest := int64(math.MinInt64)
	for i := range c.x.candidates {
		a := &c.x.candidates[i]
		if top := a.tree.top(); top != none {
			highest = max(highest, a.base+int64(top))
		}
	}
	if highest == math.MinInt64 {
		return spot{}, false
	}
	nodes := len(c.x.snapshot.Nodes)
	var best spot
	nearest := nodes
	for i := range c.x.candidates {
		a := &c.x.candidates[i]
		top := a.tree.top()
		if top == none || a.base+int64(top) != highest {
			continue
		}
		place := a.tree.next(a.group.from(position), top)
		if place < 0 {
			place = a.tree.next(0, top)
		}
		distance := int(a.group.ranks[place]) - position
		if distance < 0 {
			distance += nodes
		}
		if distance < nearest {
			nearest, best = distance, spot{a, place, top}
		}
	}
	return best, true
}

// reject sums up why no node will do, and counts the nodes on which nothing but pods is in
// the way.
func (c *class) reject() (_ *berthv1.Rejection, evictable int) {
	counts := map[solve.Because]*int32{}
	rejected := make([]int32, len(c.groups)) // the verdict on the whole group, 0 for none
	for i, g := range c.groups {
		place, whole := c.rejects(g)
		rejected[i] = whole
		for verdict, nodes := range g.having {
			if nodes == 0 {
				continue
			}
			if whole != 0 && c.verdicts[verdict].place >= place {
				verdict = int(whole)
			}
			v := &c.verdicts[verdict]
			for _, reason := range v.reasons {
				because := solve.Because{Rule: c.checks[v.place].rule, Reason: reason}
				if counts[because] == nil {
					counts[because] = new(int32)
				}
				*counts[because] += nodes
			}
			if v.evictable {
				evictable += int(nodes)
			}
		}
	}
	var named []*model.Node
	if evictable > 0 && evictable <= solve.MaxNamed {
		for _, n := range c.x.snapshot.Nodes {
			cell := &c.cells[n.Slot]
			v := &c.verdicts[cell.verdict]
			if whole := rejected[cell.group]; whole != 0 && v.place >= c.verdicts[whole].place {
				v = &c.verdicts[whole]
			}
			if v.evictable {
				named = append(named, n)
			}
		}
	}
	return solve.NewRejection(c.pod, len(c.x.snapshot.Nodes), counts, c.free, evictable, named), evictable
}
