package index

import (
	"cmp"
	"slices"
)

// priorities counts the pods on nodes by their priority. Clusters have a handful.
type priorities []atPriority

// atPriority is how many pods have a priority, at least one.
type atPriority struct {
	priority int32
	pods     int
}

// move counts by more pods of a priority.
func (p *priorities) move(priority int32, by int) {
	i, found := slices.BinarySearchFunc(*p, priority, func(a atPriority, priority int32) int { return cmp.Compare(a.priority, priority) })
	if !found {
		*p = slices.Insert(*p, i, atPriority{priority, by})
		return
	}
	if (*p)[i].pods += by; (*p)[i].pods == 0 {
		*p = slices.Delete(*p, i, i+1)
	}
}

// below says whether a pod has a lower priority than this.
func (p priorities) below(priority int32) bool {
	return len(p) > 0 && p[0].priority < priority
}
