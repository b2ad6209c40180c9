// Package signal is the nodes' signals: which numbers about a node deciders are
// told, and until when.
//
// A Store takes what is observed and says what of it is worth telling. A value that
// is too old is withdrawn, and a small change is held back until it has added up, so
// that a node's record is not sent anew for noise. It is a value without clock or
// goroutines: time comes in as an argument, and one caller at a time uses it.
package signal

import (
	"container/heap"
	"maps"
	"math"
	"slices"
	"time"
)

// Value is one observation of a signal.
type Value struct {
	// Milli is the number in thousandths of its unit.
	Milli int64
	// At is when it was measured. A value without a time has no age: it holds until it
	// is replaced or withdrawn.
	At time.Time
}

// Config says when a value is too old and when a change is too small. Both fields
// are used as they are.
type Config struct {
	// MaxAge is how long after its time a value holds.
	MaxAge time.Duration
	// MinChange is the part of the value last told that a value has to differ by to be
	// told: 0.05 for five percent, 0 for every change. A value that comes, goes, or is
	// 0 before or after is always told.
	MinChange float64
}

// Change is a node whose signals deciders should be told anew.
type Change struct {
	Node string
	// Signals are all that the node has now, in thousandths by name; nil for none. It
	// is shared with the store and must not be changed.
	Signals map[string]int64
}

// Store is what is known of the nodes' signals, and what of it was told. Use New.
type Store struct {
	config    Config
	nodes     map[string]*node
	dirty     map[string]bool // nodes to look at in the next Step
	ageing    ageing
	live      int
	withdrawn int
}

type node struct {
	values map[string]*entry
	told   map[string]int64 // what the last Change said
}

// entry is one signal of one node. It outlives its value's age, so that the same
// observation again does not bring the value back.
type entry struct {
	node  string
	value Value
	until time.Time // from then on the value is too old; zero if it has no age
	live  bool      // it is not too old
	index int       // in ageing; -1 if it is not there
}

// New returns a store that knows of nothing.
func New(config Config) *Store {
	return &Store{config: config, nodes: map[string]*node{}, dirty: map[string]bool{}}
}

// Observe records the latest value of a node's signal, whatever its time. One from
// the future is as old as if it had been measured now. One with the time and number
// of that before it is the same observation and gets no younger by being repeated.
func (s *Store) Observe(now time.Time, nodeName, name string, v Value) {
	n := s.nodes[nodeName]
	if n == nil {
		n = &node{values: map[string]*entry{}}
		s.nodes[nodeName] = n
	}
	e := n.values[name]
	switch {
	case e == nil:
		e = &entry{node: nodeName, index: -1}
		n.values[name] = e
	case e.value.Milli == v.Milli && e.value.At.Equal(v.At):
		return
	}
	e.value, e.until = v, time.Time{}
	if !v.At.IsZero() {
		at := v.At
		if at.After(now) {
			at = now
		}
		e.until = at.Add(s.config.MaxAge)
	}
	s.setLive(e, e.until.IsZero() || e.until.After(now))
	s.dirty[nodeName] = true
}

// Withdraw records that a node does not have the signal any more.
func (s *Store) Withdraw(nodeName, name string) {
	n := s.nodes[nodeName]
	if n == nil || n.values[name] == nil {
		return
	}
	s.setLive(n.values[name], false)
	delete(n.values, name)
	s.dirty[nodeName] = true
}

// Forget lets go of a node that does not exist any more. No Change says so.
func (s *Store) Forget(nodeName string) {
	if n := s.nodes[nodeName]; n != nil {
		for _, e := range n.values {
			s.setLive(e, false)
		}
	}
	delete(s.nodes, nodeName)
	delete(s.dirty, nodeName)
}

// Step withdraws what has become too old, and returns the nodes whose signals are
// worth telling, in the order of their names, and when the next value will be too
// old; zero if none will.
func (s *Store) Step(now time.Time) ([]Change, time.Time) {
	for len(s.ageing) > 0 && !s.ageing[0].until.After(now) {
		e := s.ageing[0]
		s.setLive(e, false)
		s.withdrawn++
		s.dirty[e.node] = true
	}
	var changes []Change
	for _, name := range slices.Sorted(maps.Keys(s.dirty)) {
		n := s.nodes[name]
		var signals map[string]int64
		for signal, e := range n.values {
			if e.live {
				if signals == nil {
					signals = make(map[string]int64, len(n.values))
				}
				signals[signal] = e.value.Milli
			}
		}
		if s.worthTelling(n.told, signals) {
			// All of them, the small changes too: the record is sent anyway.
			n.told = signals
			changes = append(changes, Change{name, signals})
		}
		if len(n.values) == 0 {
			delete(s.nodes, name)
		}
	}
	clear(s.dirty)
	if len(s.ageing) == 0 {
		return changes, time.Time{}
	}
	return changes, s.ageing[0].until
}

// Live counts the values that are not too old.
func (s *Store) Live() int { return s.live }

// Withdrawn counts how often a value became too old.
func (s *Store) Withdrawn() int { return s.withdrawn }

func (s *Store) worthTelling(told, signals map[string]int64) bool {
	if len(told) != len(signals) {
		return true
	}
	for name, now := range signals {
		before, ok := told[name]
		if !ok || s.differ(before, now) {
			return true
		}
	}
	return false
}

func (s *Store) differ(before, now int64) bool {
	if before == now {
		return false
	}
	// In floating point, where no difference overflows.
	return before == 0 || now == 0 ||
		math.Abs(float64(now)-float64(before)) >= s.config.MinChange*math.Abs(float64(before))
}

// setLive is the one function that makes a value live or not, and keeps it in ageing
// as long as it is live and has an age.
func (s *Store) setLive(e *entry, live bool) {
	if e.live != live {
		e.live = live
		if live {
			s.live++
		} else {
			s.live--
		}
	}
	switch ages := live && !e.until.IsZero(); {
	case ages && e.index >= 0:
		heap.Fix(&s.ageing, e.index)
	case ages:
		heap.Push(&s.ageing, e)
	case e.index >= 0:
		heap.Remove(&s.ageing, e.index)
	}
}

// ageing is a heap of the live values that will be too old, the next one first.
type ageing []*entry

// Len implements heap.Interface.
func (a ageing) Len() int { return len(a) }

// Less implements heap.Interface.
func (a ageing) Less(i, j int) bool { return a[i].until.Before(a[j].until) }

// Swap implements heap.Interface.
func (a ageing) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].index, a[j].index = i, j
}

// Push implements heap.Interface.
func (a *ageing) Push(x any) {
	e := x.(*entry)
	e.index = len(*a)
	*a = append(*a, e)
}

// Pop implements heap.Interface.
func (a *ageing) Pop() any {
	last := len(*a) - 1
	e := (*a)[last]
	(*a)[last], e.index = nil, -1
	*a = (*a)[:last]
	return e
}
