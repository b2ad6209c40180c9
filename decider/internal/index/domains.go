package index

import "github.com/berth-scheduler/berth/decider/internal/model"

// domains are the values of one topology key: nodes with the same one are near each
// other. They are numbered from 0, which is the empty value; a number is not given
// again to another value.
type domains struct {
	key string
	ids map[string]int32
	// of is the domain of the node in each slot; lacking if it does not carry the key or
	// there is none.
	of []int32
	// nodes is how many nodes are in each domain, present in how many domains there are
	// any.
	nodes   []int32
	present int
	// The nodes of a domain are a list: first by domain, next and before by slot.
	first, next, before []int32
}

// lacking is the domain of a node that does not carry the key.
const lacking int32 = -1

func newDomains(key string, s *model.Snapshot) *domains {
	d := &domains{key: key, ids: map[string]int32{"": 0}, nodes: []int32{0}, first: []int32{none}}
	for _, n := range s.Nodes {
		d.came(n)
	}
	return d
}

// grow makes room for so many slots.
func (d *domains) grow(slots int) {
	for len(d.of) < slots {
		d.of, d.next, d.before = append(d.of, lacking), append(d.next, none), append(d.before, none)
	}
}

func (d *domains) came(n *model.Node) {
	d.grow(n.Slot + 1)
	value, ok := n.Labels[d.key]
	if !ok {
		return
	}
	id, known := d.ids[value]
	if !known {
		id = int32(len(d.nodes))
		d.ids[value] = id
		d.nodes, d.first = append(d.nodes, 0), append(d.first, none)
	}
	slot, first := int32(n.Slot), d.first[id]
	d.of[slot], d.next[slot], d.before[slot], d.first[id] = id, first, none, slot
	if first != none {
		d.before[first] = slot
	}
	if d.nodes[id]++; d.nodes[id] == 1 {
		d.present++
	}
}

func (d *domains) gone(n *model.Node) {
	slot := int32(n.Slot)
	id := d.of[slot]
	if id == lacking {
		return
	}
	before, next := d.before[slot], d.next[slot]
	if before == none {
		d.first[id] = next
	} else {
		d.next[before] = next
	}
	if next != none {
		d.before[next] = before
	}
	d.of[slot] = lacking
	if d.nodes[id]--; d.nodes[id] == 0 {
		d.present--
	}
}
