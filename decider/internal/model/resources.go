package model

import (
	"cmp"
	"maps"
	"math"
	"slices"
)

// Resource numbers a resource within one Snapshot. The four that every cluster
// has are constants; others are numbered as they are met, so only their names
// may be shown or compared.
type Resource int

// The resources that every cluster has.
const (
	CPU Resource = iota
	Memory
	EphemeralStorage
	Pods
	// others is the number of every resource that a pod asks for and that no node and
	// no placed pod has ever had: whatever the pod asks for, there is none. Those that
	// they have are numbered after it.
	others
)

// Others is how many resources every cluster has.
const Others = int(others)

// resources gives numbers to names.
type resources struct {
	names   []string
	numbers map[string]Resource
	// shared are the last amounts of each hash, for pods that ask for the same.
	shared [256][]Amount
}

func newResources() *resources {
	r := &resources{names: []string{"cpu", "memory", "ephemeral-storage", "pods", ""}, numbers: map[string]Resource{}}
	for i, name := range r.names[:others] {
		r.numbers[name] = Resource(i)
	}
	return r
}

// number returns the number of a resource that a node or a placed pod has.
func (r *resources) number(name string) Resource {
	n, ok := r.numbers[name]
	if !ok {
		n = Resource(len(r.names))
		r.names = append(r.names, name)
		r.numbers[name] = n
	}
	return n
}

// Amount is how much of one resource a pod asks for: more than 0, in the units
// of Node.allocatable.
type Amount struct {
	Resource Resource
	Name     string
	Value    int64
}

// Amounts holds one value per resource; one that was never set is 0. The zero value
// is ready to use.
type Amounts struct {
	common [others]int64
	// more are those that not every cluster has. Each node knows its own alone:
	// names without end must not take memory without end.
	more map[Resource]int64
}

// Of returns the amount of resource r.
func (a *Amounts) Of(r Resource) int64 {
	if r < others {
		return a.common[r]
	}
	return a.more[r]
}

// Common returns the amounts of the resources that every cluster has; alone is set if
// there are no others.
func (a *Amounts) Common() (amounts [Others]int64, alone bool) { return a.common, len(a.more) == 0 }

func (a *Amounts) set(r Resource, value int64) {
	if r < others {
		a.common[r] = value
		return
	}
	if value == 0 {
		delete(a.more, r)
		return
	}
	if a.more == nil {
		a.more = map[Resource]int64{}
	}
	a.more[r] = value
}

// add adds one more pod that requests the amounts.
func (a *Amounts) add(requests []Amount) {
	a.common[Pods]++
	for i := range requests {
		r := requests[i].Resource
		a.set(r, sum(a.Of(r), requests[i].Value))
	}
}

// remove takes a pod that was added off again. ok is false if a sum has stopped at the
// largest int64, so that it is not known what it is without the pod.
func (a *Amounts) remove(requests []Amount) (ok bool) {
	a.common[Pods]--
	for i := range requests {
		before := a.Of(requests[i].Resource)
		if before == math.MaxInt64 {
			return false
		}
		a.set(requests[i].Resource, before-requests[i].Value)
	}
	return true
}

// clear makes all amounts 0.
func (a *Amounts) clear() {
	a.common = [others]int64{}
	clear(a.more)
}

// find returns the number of a resource that a pod asks for.
func (r *resources) find(name string) Resource {
	if n, ok := r.numbers[name]; ok {
		return n
	}
	return others
}

// requests decodes a pod's requests into amounts: cpu, memory, ephemeral storage,
// then the others by name, as kube-scheduler checks them. number is find or number.
func (r *resources) requests(field string, requests map[string]int64, number func(string) Resource) ([]Amount, *FieldError) {
	if len(requests) == 0 {
		return nil, nil
	}
	amounts := make([]Amount, 0, len(requests))
	for _, name := range slices.Sorted(maps.Keys(requests)) {
		switch value := requests[name]; {
		case value < 0:
			return nil, fieldError(field+"["+name+"]", "%d is negative", value)
		case name == "pods":
			return nil, fieldError(field+"["+name+"]", "a pod's place is counted without being asked for; remove it")
		case value > 0:
			a := Amount{Resource: number(name), Name: name, Value: value}
			if a.Resource != others {
				a.Name = r.names[a.Resource] // the same bytes for all pods
			}
			amounts = append(amounts, a)
		}
	}
	slices.SortStableFunc(amounts, func(a, b Amount) int {
		return cmp.Compare(min(a.Resource, others), min(b.Resource, others))
	})
	return amounts, nil
}

// share returns amounts that are equal to a and may be those of other pods.
func (r *resources) share(a []Amount) []Amount {
	var hash uint64
	for i := range a {
		hash = (hash ^ uint64(a[i].Resource)<<48 ^ uint64(a[i].Value)) * 0x9e3779b97f4a7c15
	}
	last := &r.shared[hash>>56]
	if !slices.Equal(*last, a) {
		*last = a
	}
	return *last
}

// sum adds two amounts that are not negative and stops at the largest int64, so
// that absurd requests fill a node instead of emptying it.
func sum(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
