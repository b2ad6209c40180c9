package index

import (
	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/score"
)

// compile prepares rules and scores for the class's pod.
func (c *class) compile() {
	p, s := c.pod, c.x.snapshot
	c.facts = s.Facts
	if c.unfit = len(p.Spread)+len(p.Affinity.Required)+len(p.Affinity.AntiRequired) > maxParts; c.unfit {
		return
	}
	for _, rule := range c.profile.Rules {
		switch rule.Name {
		case filter.PodTopologySpread:
			c.spreadBy = filter.HardSpread(p, rule.DefaultSpread)
			for _, constraint := range c.spreadBy {
				sp := &spread{tally: tally{domains: c.x.domainsOf(constraint.TopologyKey)}, constraint: constraint}
				sp.fine = c.x.fine(sp.domains)
				if constraint.Selector.Matches(p.Labels) {
					sp.self = 1
				}
				c.spread = append(c.spread, sp)
				c.tallied(&sp.tally)
				c.checks = append(c.checks, check{rule: rule.Name, kind: spreads, spread: sp})
			}
		case filter.InterPodAffinity:
			c.affine = true
			a := &p.Affinity
			c.terms = len(a.Required)+len(a.AntiRequired) > 0
			c.first = len(a.Required) > 0
			for i := range a.Required {
				c.first = c.first && s.Selects(&a.Required[i], p.Labels, p.Namespace)
				c.wanted.of(c.x, c, a.Required[i].TopologyKey)
			}
			for i := range a.AntiRequired {
				c.unwanted.of(c.x, c, a.AntiRequired[i].TopologyKey)
			}
			for _, kind := range []checkKind{wants, avoids, avoided} {
				c.checks = append(c.checks, check{rule: rule.Name, kind: kind})
			}
		default:
			compiled := rule.For(p, s)
			if compiled.Reject == nil {
				continue
			}
			kind := dynamic
			if isStatic(rule.Name) {
				kind = static
			}
			c.checks = append(c.checks, check{rule: rule.Name, kind: kind, reject: compiled.Reject})
			if compiled.Free != nil {
				for name, value := range compiled.Free() {
					c.free[name] = value
				}
			}
		}
	}
	turn := &model.Turn{Pod: p, Snapshot: s}
	for _, rule := range c.scores {
		switch rule.Name {
		case "PodTopologySpread":
			constraints, allKeys := score.SoftSpread(p, rule.Args.DefaultSpread, rule.Args.SystemDefaulted)
			if len(constraints) == 0 {
				continue
			}
			c.soft = &soft{weight: rule.Weight, constraints: constraints, allKeys: allKeys}
			for _, constraint := range constraints {
				d := c.x.domainsOf(constraint.TopologyKey) // of hosts, too: whether a node carries it
				c.soft.domains = append(c.soft.domains, d)
				if constraint.TopologyKey == hostname {
					c.soft.tallies = append(c.soft.tallies, nil)
					c.soft.hosts = append(c.soft.hosts, make([]int32, len(c.x.at)))
					continue
				}
				// Never fine: how many of the domains have a node that can take the pod,
				// groups tell.
				t := &tally{domains: d, coarse: true}
				c.unfit = c.unfit || d.present > c.x.mostGroups()
				c.soft.tallies = append(c.soft.tallies, t)
				c.soft.hosts = append(c.soft.hosts, nil)
				c.tallied(t)
			}
		case "InterPodAffinity":
			own := len(p.Affinity.Preferred)+len(p.Affinity.AntiPreferred) > 0
			if own || !rule.Args.IgnorePreferredTermsOfExistingPods {
				c.attract = &attraction{weight: rule.Weight, required: rule.Args.HardPodAffinityWeight, own: own}
			}
		case "NodeSignals":
			c.signals = &rule
		default:
			scorer := rule.For(turn)
			switch {
			case scorer.Score == nil:
			case scorer.Same:
				scores := []int64{scorer.Score(s.Nodes[0])}
				if scorer.Normalize != nil {
					scorer.Normalize(scores)
				}
				c.constant += rule.Weight * scores[0]
			case scorer.Normalize != nil:
				c.ranked = append(c.ranked, ranked{rule.Weight, scorer})
			default:
				c.locals = append(c.locals, local{rule.Weight, scorer.Score})
				if rule.Name == "ImageLocality" { // it compares with how many nodes have an image
					c.nodes = len(s.Nodes)
				}
			}
		}
	}
	c.readLabels()
	hard, softs := len(c.spread), 0
	if c.soft != nil {
		softs = len(c.soft.constraints)
	}
	c.unfit = c.unfit || hard > 16 || softs > 16
}

// tallied notes a tally: nodes are told apart by it from the next grouping on.
func (c *class) tallied(t *tally) {
	c.tallies = append(c.tallies, t)
	c.ownChecks = c.ownChecks || t.fine
	c.groups = nil
}
