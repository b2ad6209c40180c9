package index

import (
	"encoding/binary"

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
	reads := []*domains{}
	fit := true
	read := func(r *model.Requirement) {
		d := c.x.domainsOf(r.Key)
		for _, other := range reads {
			if other == d {
				return
			}
		}
		reads = append(reads, d)
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
	if fit && len(reads) < maxParts && len(c.ranked) <= maxParts {
		c.reads, c.looked = reads, map[lookKey]*looked{}
	}
}

// look is what the class makes of n's record.
func (c *class) look(n *model.Node) *looked {
	if c.reads == nil {
		c.lookAt(n, &c.unread)
		return &c.unread
	}
	key := lookKey{c.x.looks.of[n.Slot]}
	for i, d := range c.reads {
		key[i+1] = d.of[n.Slot]
	}
	if c.last != nil && c.lastKey == key {
		return c.last
	}
	l := c.looked[key]
	if l == nil {
		l = &looked{}
		c.lookAt(n, l)
		if len(c.looked) >= maxLooked {
			clear(c.looked)
		}
		c.looked[key] = l
	}
	c.last, c.lastKey = l, key
	return l
}

// lookAt asks the static checks and the ranked scores about n.
func (c *class) lookAt(n *model.Node, l *looked) {
	l.static = 0
	for place := range c.checks {
		ch := &c.checks[place]
		if ch.kind != static {
			continue
		}
		if c.x.reasons = ch.reject(n, c.x.reasons[:0]); len(c.x.reasons) > 0 {
			l.static = c.verdict(place, c.x.reasons)
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
