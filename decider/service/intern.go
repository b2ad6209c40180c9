package service

import (
	"hash/maphash"
	"maps"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// interner lets records share what is equal in them: label maps of pods that one
// template made, allocatable of nodes of one kind, keys and values of labels. It
// remembers the last of each kind by hash, so that it takes no more memory the more it
// has seen. The zero value is ready to use, by one goroutine.
type interner struct {
	seed    maphash.Seed
	seeded  bool
	strings []string
	labels  []map[string]string
	amounts []map[string]int64
}

// interned is how many values of a kind are remembered, a power of 2.
const interned = 1 << 12

func (i *interner) start() {
	if !i.seeded {
		i.seed, i.seeded = maphash.MakeSeed(), true
		i.strings = make([]string, interned)
		i.labels = make([]map[string]string, interned)
		i.amounts = make([]map[string]int64, interned)
	}
}

// node makes a node's record share what it can.
func (i *interner) node(r *berthv1.Node) {
	i.start()
	// Most nodes have labels that no other has: the map is their own.
	for key, value := range r.GetLabels() {
		r.Labels[i.string(key)] = i.string(value)
	}
	r.Allocatable = i.amountMap(r.GetAllocatable())
	for name, size := range r.GetImages() {
		r.Images[i.string(name)] = size
	}
	for name, value := range r.GetSignals() {
		r.Signals[i.string(name)] = value
	}
	for at, name := range r.GetDeclaredFeatures() {
		r.DeclaredFeatures[at] = i.string(name)
	}
}

// placedPod makes a placed pod's record share what is kept of it decoded.
func (i *interner) placedPod(r *berthv1.PlacedPod) {
	i.start()
	r.Namespace = i.string(r.GetNamespace())
	r.Labels = i.labelMap(r.GetLabels())
}

// string returns a string that is equal to s.
func (i *interner) string(s string) string {
	at := &i.strings[maphash.String(i.seed, s)%interned]
	if *at != s {
		*at = s
	}
	return *at
}

func (i *interner) labelMap(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	var hash uint64 // the same in whatever order
	for key, value := range m {
		hash += maphash.String(i.seed, key) * (maphash.String(i.seed, value) | 1)
	}
	at := &i.labels[hash%interned]
	if !maps.Equal(*at, m) {
		*at = m
	}
	return *at
}

func (i *interner) amountMap(m map[string]int64) map[string]int64 {
	if len(m) == 0 {
		return nil
	}
	var hash uint64
	for key, value := range m {
		hash += maphash.String(i.seed, key) * (maphash.Comparable(i.seed, value) | 1)
	}
	at := &i.amounts[hash%interned]
	if !maps.Equal(*at, m) {
		*at = m
	}
	return *at
}
