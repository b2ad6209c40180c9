package index

import (
	"google.golang.org/protobuf/proto"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/score"
	"github.com/berth-scheduler/berth/decider/internal/solve"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// maxNamed is how many nodes a pod may name; more are no fewer than all.
const maxNamed = 64

// decideNamed decides on a pod that can go to the nodes that it names alone, as those of
// daemon sets do: it asks these nodes. What is counted for it is counted for the class
// of pods that name none. ok is false if the plain solver is to decide: where none of
// the nodes will do, all have to be counted; and spread constraints may count the nodes
// that the pod's affinity lets in alone, which are others for each name.
func (x *Index) decideNamed(r *solve.Request, index int, p *model.Pod, names map[string]bool, profile *solve.Profile, scores []score.Rule) (_ *berthv1.Decision, undo func(), ok bool) {
	if len(names) > maxNamed || len(p.Spread) > 0 || !p.SpreadSelector.SelectsNothing() && !p.SpreadSelector.SelectsAll() {
		return nil, nil, false
	}
	c := x.classFor(x.unnamed(p), profile, scores)
	if c == nil {
		return nil, nil, false
	}
	checks := c.named(p)
	x.candidates = x.candidates[:0]
	for name := range names {
		n := x.snapshot.Node(name)
		if n == nil || c.rejectsNode(checks, n) {
			continue
		}
		total := int64(0)
		for i := range c.locals {
			total += c.locals[i].weight * c.locals[i].score(n)
		}
		one := &group{key: c.groupKey(int32(n.Slot)), slots: []int32{int32(n.Slot)}, ranks: []int32{int32(n.Index)}, having: []int32{1}}
		x.candidates = append(x.candidates, candidate{group: one, tree: &tree{levels: [][]int32{{int32(total)}}}, dyn: c.dynOf(int32(n.Slot))})
	}
	if len(x.candidates) == 0 {
		return nil, nil, false
	}
	decision, undo := c.place(r, index, p)
	return decision, undo, true
}

// unnamed returns p without its required node affinity.
func (x *Index) unnamed(p *model.Pod) *model.Pod {
	record := proto.CloneOf(p.Record)
	record.NodeAffinity.Required = nil
	q := *p
	q.Record, q.NodeAffinity, q.Key = record, nil, ""
	return &q
}

// named are the class's checks for p itself.
func (c *class) named(p *model.Pod) []check {
	var checks []check
	for _, rule := range c.profile.Rules {
		if rule.Name == filter.PodTopologySpread || rule.Name == filter.InterPodAffinity {
			for i := range c.checks {
				if c.checks[i].rule == rule.Name {
					checks = append(checks, c.checks[i])
				}
			}
			continue
		}
		if compiled := rule.For(p, c.x.snapshot); compiled.Reject != nil {
			checks = append(checks, check{rule: rule.Name, reject: compiled.Reject})
		}
	}
	return checks
}

// rejectsNode says whether one of the checks rules n out.
func (c *class) rejectsNode(checks []check, n *model.Node) bool {
	for i := range checks {
		ch := &checks[i]
		if ch.reject != nil {
			if c.reasons = ch.reject(n, c.reasons[:0]); len(c.reasons) > 0 {
				return true
			}
			continue
		}
		for _, fine := range []bool{true, false} {
			if _, rejected := c.rejectsNear(ch, fine, func(d *domains) int32 { return d.of[n.Slot] }); rejected {
				return true
			}
		}
	}
	return false
}
