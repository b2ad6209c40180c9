package index

import (
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/solve"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// placeEach puts p on the best of the nodes that can take it by looking at each of them,
// and at no other: what is known of them is added up, and signals are asked, or the
// ranker is, if it does not add up scores.
func (c *class) placeEach(r *solve.Request, index int, p *model.Pod) (_ *berthv1.Decision, undo func()) {
	s := c.x.snapshot
	c.rank()
	bases := map[*group]map[dyn]int64{}
	for i := range c.x.candidates {
		a := &c.x.candidates[i]
		if bases[a.group] == nil {
			bases[a.group] = map[dyn]int64{}
		}
		bases[a.group][a.dyn] = a.base
	}
	turn := &model.Turn{Seed: r.Seed, Index: index, Pod: p, Snapshot: s}
	var scores []int64
	for _, n := range s.Nodes {
		cell := &c.cells[n.Slot]
		if cell.verdict != 0 {
			continue
		}
		if base := bases[c.groups[cell.group]]; base != nil {
			turn.Feasible = append(turn.Feasible, n)
			if c.scores != nil {
				scores = append(scores, base[c.dyns[cell.dyn]]+int64(cell.local))
			}
		}
	}
	if c.scores == nil {
		scores = c.profile.Ranker.Rank(turn)
	} else if scorer := c.signals.For(turn); scorer.Score != nil {
		for i, n := range turn.Feasible {
			scores[i] += c.signals.Weight * scorer.Score(n)
		}
	}
	return r.Place(&berthv1.Decision{PodUid: p.UID}, turn, scores)
}
