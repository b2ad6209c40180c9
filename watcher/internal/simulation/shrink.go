package simulation

import (
	"maps"
	"slices"
	"time"
)

// mostRuns is how many runs may be spent on making a story shorter.
const mostRuns = 3000

// Story is a run that breaks a law, as short as it could be made.
type Story struct {
	Seed   uint64
	Broken *Broken
	// Acts and Faults are what is left of the plan.
	Acts   int
	Faults []string
	// Lines are what happens, one line each.
	Lines []string
}

// Shortest is the story of a seed that breaks a law, nil if it breaks none. What is left
// out of it does not matter: the same law is broken without.
func Shortest(seed uint64) *Story {
	plan := NewPlan(seed)
	first := run(plan, NewTally(), false, false)
	if first.broken == nil {
		return nil
	}
	s := &shrinker{plan: plan, law: first.broken.Law}
	s.shrink(first.broken.At)
	last := run(s.plan, NewTally(), true, false)
	out := &Story{Seed: seed, Broken: last.broken, Acts: len(s.plan.Acts), Lines: last.story}
	for f := range faults {
		if s.plan.Faults.Has(f) {
			out.Faults = append(out.Faults, f.String())
		}
	}
	return out
}

// shrinker has the shortest plan so far that breaks the law.
type shrinker struct {
	plan *Plan
	law  string
	runs int
}

// try takes the plan if it breaks the law, too.
func (s *shrinker) try(change func(*Plan)) bool {
	if s.runs++; s.runs > mostRuns {
		return false
	}
	p := *s.plan
	p.Acts, p.Spared = slices.Clone(p.Acts), maps.Clone(p.Spared)
	change(&p)
	if r := run(&p, NewTally(), false, false); r.broken == nil || r.broken.Law != s.law {
		return false
	}
	s.plan = &p
	return true
}

func (s *shrinker) shrink(at time.Duration) {
	s.try(func(p *Plan) {
		p.Acts = slices.DeleteFunc(p.Acts, func(a Act) bool { return a.At > at })
		p.End = min(p.End, at+time.Millisecond)
	})
	s.try(func(p *Plan) { p.Standby = false })
	for f := range faults {
		if s.plan.Faults.Has(f) {
			s.try(func(p *Plan) { p.Faults = p.Faults.Without(f) })
		}
	}
	for before := -1; before != len(s.plan.Acts) && s.runs < mostRuns; {
		before = len(s.plan.Acts)
		s.leaveOut(func() int { return len(s.plan.Acts) }, func(p *Plan, from, to int) { p.Acts = slices.Delete(p.Acts, from, to) })
		s.spare()
	}
	for f := range faults {
		if s.plan.Faults.Has(f) {
			s.try(func(p *Plan) { p.Faults = p.Faults.Without(f) })
		}
	}
}

// spare leaves out faults that happen by chance.
func (s *shrinker) spare() {
	injected := run(s.plan, NewTally(), false, true).injected
	s.leaveOut(func() int { return len(injected) }, func(p *Plan, from, to int) {
		if p.Spared == nil {
			p.Spared = map[uint64]bool{}
		}
		for _, id := range injected[from:to] {
			p.Spared[id] = true
		}
	})
}

// leaveOut tries to do without ever smaller pieces of a list, from its end on.
func (s *shrinker) leaveOut(length func() int, without func(p *Plan, from, to int)) {
	for size := max(length()/2, 1); ; size /= 2 {
		for to := length(); to > 0; to -= size {
			from := max(to-size, 0)
			if to > length() {
				continue // so much is not there any more
			}
			s.try(func(p *Plan) { without(p, from, to) })
		}
		if size <= 1 {
			return
		}
	}
}
