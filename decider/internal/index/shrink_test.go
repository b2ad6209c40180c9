package index_test

import (
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/berth-scheduler/berth/decider/internal/index"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// shrink returns a history as small as can be found that breaks the same law, and how
// it does.
func (h *history) shrink(of *violation) (*history, *violation) {
	s := &shrinking{law: of.law, left: 20000}
	s.best = &history{config: h.config, steps: h.steps[:of.step+1]}
	if s.found = s.best.check(); s.found == nil || s.found.law != of.law {
		return h, of // not found again: state outside of the history
	}
	for before := 0; before != s.left; {
		before = s.left
		s.steps()
		for i := 0; i < len(s.best.steps); i++ {
			s.step(i)
		}
		s.configuration()
		if s.tries == 0 {
			break
		}
		s.tries = 0
	}
	return s.best, s.found
}

// shrinking is a history on its way to a smaller one.
type shrinking struct {
	law   string
	best  *history
	found *violation
	// left is how many tries are left; tries is how many helped.
	left, tries int
}

// try keeps a history that breaks the law.
func (s *shrinking) try(h *history) bool {
	if s.left--; s.left < 0 {
		return false
	}
	v := h.check()
	if v == nil || v.law != s.law {
		return false
	}
	h.steps = h.steps[:v.step+1]
	s.best, s.found = h, v
	s.tries++
	return true
}

// steps leaves out steps: half of them, then fewer.
func (s *shrinking) steps() {
	for size := len(s.best.steps) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(s.best.steps); {
			if !s.try(&history{config: s.best.config, steps: slices.Delete(slices.Clone(s.best.steps), at, at+size)}) {
				at += size
			}
		}
	}
}

// step makes one step smaller.
func (s *shrinking) step(at int) {
	change := func(f func(*step)) bool {
		if at >= len(s.best.steps) {
			return false
		}
		next := *s.best.steps[at]
		if f(&next); next.same(s.best.steps[at]) {
			return false
		}
		steps := slices.Clone(s.best.steps)
		steps[at] = &next
		return s.try(&history{config: s.best.config, steps: steps})
	}
	now := func() *step { return s.best.steps[min(at, len(s.best.steps)-1)] }
	for _, f := range []func(*step){
		func(n *step) { n.changes = nil },
		func(n *step) { n.ask = nil },
		func(n *step) { n.resync = false },
		func(n *step) { n.nominate = false },
		func(n *step) { n.undo = false },
		func(n *step) { n.bind = 0 },
		func(n *step) { n.stopAfter = -1 },
		func(n *step) { n.order = 0 },
	} {
		change(f)
	}
	for {
		smaller := false
		if m := now().changes; m != nil {
			smaller = without(m.ProtoReflect(), func(less protoreflect.Message) bool {
				return change(func(n *step) { n.changes = less.Interface().(*berthv1.Changes) })
			})
		}
		if m := now().ask; m != nil && !smaller {
			smaller = without(m.ProtoReflect(), func(less protoreflect.Message) bool {
				return change(func(n *step) { n.ask = less.Interface().(*berthv1.DecideRequest) })
			})
		}
		if !smaller {
			return
		}
	}
}

// configuration simplifies the index's.
func (s *shrinking) configuration() {
	for _, simplify := range []func(*index.Config){
		func(c *index.Config) { c.MinUses = 1 },
		func(c *index.Config) { c.MaxBytes = 0 },
		func(c *index.Config) { c.Coarse = 0 },
	} {
		config := s.best.config
		if simplify(&config); config != s.best.config {
			s.try(&history{config: config, steps: s.best.steps})
		}
	}
}

// without offers try each message that m is without one of its parts, until it takes
// one. Keys stay.
func without(m protoreflect.Message, try func(protoreflect.Message) bool) bool {
	var fields []protoreflect.FieldDescriptor
	m.Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		fields = append(fields, f)
		return true
	})
	slices.SortFunc(fields, func(a, b protoreflect.FieldDescriptor) int { return a.Index() - b.Index() })
	for _, f := range fields {
		switch f.Name() {
		case "uid", "name", "node_name", "operator", "effect", "when_unsatisfiable", "scheduler_name":
			continue
		}
		less := proto.Clone(m.Interface()).ProtoReflect()
		if less.Clear(f); try(less) {
			return true
		}
		inside := func(part protoreflect.Message, put func(in, part protoreflect.Message)) bool {
			return without(part, func(lesser protoreflect.Message) bool {
				less := proto.Clone(m.Interface()).ProtoReflect()
				put(less, lesser)
				return try(less)
			})
		}
		switch {
		case f.IsMap():
			var keys []protoreflect.MapKey
			m.Get(f).Map().Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
				keys = append(keys, k)
				return true
			})
			slices.SortFunc(keys, func(a, b protoreflect.MapKey) int {
				if a.String() < b.String() {
					return -1
				}
				return 1
			})
			for _, k := range keys {
				less := proto.Clone(m.Interface()).ProtoReflect()
				if less.Mutable(f).Map().Clear(k); try(less) {
					return true
				}
			}
		case f.IsList():
			list := m.Get(f).List()
			for i := range list.Len() {
				less := proto.Clone(m.Interface()).ProtoReflect()
				kept := less.Mutable(f).List()
				for j := i; j+1 < kept.Len(); j++ {
					kept.Set(j, kept.Get(j+1))
				}
				if kept.Truncate(kept.Len() - 1); try(less) {
					return true
				}
				if f.Message() != nil && inside(list.Get(i).Message(), func(in, part protoreflect.Message) {
					in.Mutable(f).List().Set(i, protoreflect.ValueOfMessage(part))
				}) {
					return true
				}
			}
		case f.Message() != nil:
			if inside(m.Get(f).Message(), func(in, part protoreflect.Message) {
				in.Set(f, protoreflect.ValueOfMessage(part))
			}) {
				return true
			}
		}
	}
	return false
}

// same says whether nothing was changed.
func (s *step) same(as *step) bool {
	return s.changes == as.changes && s.ask == as.ask && s.resync == as.resync && s.undo == as.undo &&
		s.bind == as.bind && s.nominate == as.nominate && s.stopAfter == as.stopAfter && s.order == as.order
}
