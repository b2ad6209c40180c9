package index

import (
	"encoding/binary"
	"slices"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
)

// looks numbers what rules and scores read of nodes' records besides labels: 0 is a node
// without taints that is not cordoned and declares nothing. A number is not given again.
type looks struct {
	ids map[string]int32
	of  []int32 // by slot
	// buffer is scratch.
	buffer []byte
}

func (l *looks) came(n *model.Node) {
	for len(l.of) <= n.Slot {
		l.of = append(l.of, 0)
	}
	l.of[n.Slot] = 0
	features := n.Record.GetDeclaredFeatures()
	if len(n.Taints)+len(n.Discouraging)+len(features) == 0 && !n.Unschedulable {
		return
	}
	k := keyWriter{buffer: l.buffer[:0]}
	for _, taints := range [][]model.Taint{n.Taints, n.Discouraging} {
		k.number(int64(len(taints)))
		for _, t := range taints {
			k.text(t.Key)
			k.text(t.Value)
			k.number(int64(t.Effect))
		}
	}
	k.texts(features)
	if n.Unschedulable {
		k.buffer = binary.AppendVarint(k.buffer, 1)
	}
	l.buffer = k.buffer
	id, ok := l.ids[string(l.buffer)]
	if !ok {
		id = int32(len(l.ids) + 1)
		l.ids[string(l.buffer)] = id
	}
	l.of[n.Slot] = id
}

// lookKey is what a class reads of a node's record: its look and the values of labels.
type lookKey [maxParts]int32

// looked is what a class makes of a node's record: the verdict of the static checks and
// the raw scores of those that are ranked.
type looked struct {
	static int32
	raw    [maxParts]int64
}

// maxLooked is how many are remembered: where there are more, labels are read that tell
// every node from the others.
const maxLooked = 4096

// readLabels finds the labels that the class's rules and scores read of nodes' records.
// reads stays nil if they read more than labels, or too many.
func (c *class) readLabels() {
	keys := []string{}
	fit := true
	read := func(r *model.Requirement) {
		if !slices.Contains(keys, r.Key) {
			keys = append(keys, r.Key)
		}
	}
	terms := func(list []model.Term) {
		for i := range list {
			fit = fit && len(list[i].Fields) == 0
			for j := range list[i].Labels {
				read(&list[i].Labels[j])
			}
		}
	}
	weighted := func(list []model.WeightedTerm) {
		for i := range list {
			terms([]model.Term{list[i].Term})
		}
	}
	for i := range c.pod.Selector {
		read(&c.pod.Selector[i])
	}
	terms(c.pod.NodeAffinity)
	weighted(c.pod.PreferredNodes)
	for i := range c.profile.Rules {
		terms(c.profile.Rules[i].AddedAffinity)
	}
	for i := range c.scores {
		if c.scores[i].Name == "NodeAffinity" {
			weighted(c.scores[i].Args.AddedPreferred)
		}
	}
	if !fit || len(keys) >= maxParts || len(c.ranked) > maxParts {
		return
	}
	c.reads, c.looked = []*domains{}, map[lookKey]*looked{}
	for _, key := range keys {
		c.reads = append(c.reads, c.x.domainsOf(key))
	}
}

// look is what the class makes of the record of the node in a slot.
func (c *class) look(slot int32) *looked {
	if c.reads == nil {
		c.lookAt(c.x.at[slot], &c.unread)
		return &c.unread
	}
	key := lookKey{c.x.looks.of[slot]}
	for i, d := range c.reads {
		key[i+1] = d.of[slot]
	}
	at := &c.recent[recentOf(key[:len(c.reads)+1])]
	if at.looked != nil && at.key == key {
		return at.looked
	}
	l := c.looked[key]
	if l == nil {
		l = &looked{}
		c.lookAt(c.x.at[slot], l)
		if len(c.looked) >= maxLooked {
			clear(c.looked)
		}
		c.looked[key] = l
	}
	at.key, at.looked = key, l
	return l
}

// recents is how many keys are found without a map, a power of 2: nodes of different
// kinds mostly take turns.
const recents = 64

// recentOf is where a key is among the recent ones.
func recentOf[T int32 | int64](key []T) int {
	hash := uint64(0)
	for _, part := range key {
		hash = (hash ^ uint64(part)) * 0x9e3779b97f4a7c15
	}
	return int(hash >> (64 - 6))
}

// lookAt asks the static checks and the ranked scores about n.
func (c *class) lookAt(n *model.Node, l *looked) {
	l.static = 0
	for place := range c.checks {
		ch := &c.checks[place]
		if ch.kind != static {
			continue
		}
		if c.reasons = ch.reject(n, c.reasons[:0]); len(c.reasons) > 0 {
			l.static = c.verdict(place, c.reasons)
			break
		}
	}
	for i := range c.ranked {
		l.raw[i] = c.ranked[i].scorer.Score(n)
	}
}

// isStatic says whether a rule's check reads the node's record alone.
func isStatic(rule string) bool {
	switch rule {
	case "Snapshot", "NodePorts", "NodeResourcesFit", filter.PodTopologySpread, filter.InterPodAffinity:
		return false
	}
	return true
}

// shapes numbers what empty nodes offer, from 1 on; 0 is a node that is not understood or
// offers what not every cluster has.
type shapes struct {
	ids map[[model.Others]int64]int32
	of  []int32 // by slot, what the node offers if it is empty
	// pods is how many pods are on the node in each slot.
	pods []int32
}

func (s *shapes) came(n *model.Node) {
	for len(s.of) <= n.Slot {
		s.of, s.pods = append(s.of, 0), append(s.pods, 0)
	}
	s.of[n.Slot], s.pods[n.Slot] = 0, int32(len(n.Pods))
	offers, alone := n.Allocatable.Common()
	if !alone || !n.Understood {
		return
	}
	id, ok := s.ids[offers]
	if !ok && len(s.ids) < maxLooked {
		id = int32(len(s.ids) + 1)
		s.ids[offers] = id
	}
	s.of[n.Slot] = id
}

// empty is the shape of the node in a slot if it is empty, else 0.
func (s *shapes) empty(slot int32) int32 {
	if s.pods[slot] != 0 {
		return 0
	}
	return s.of[slot]
}

// shaped is what the dynamic checks and local scores make of empty nodes of one shape.
type shaped struct {
	known   bool
	verdict int32
	local   int32
}
