// Package evictions judges whom watchers evicted: for whom, and whether they might.
package evictions

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berth-scheduler/berth/deploy/chaos/internal/trace"
)

// A Pod is what is known of one of the run.
type Pod struct {
	Name     string
	UID      string
	Group    string // names its budget, if it has one
	Priority int32
	Created  time.Time // when the API server was asked for it
	Bound    time.Time // when it was first seen on a node; zero if it never was
	Node     string
	// Nominated are the nodes that were set aside for it.
	Nominated []string
}

// A Claim is what an Event says about a victim: it was evicted for that pod.
type Claim struct {
	Victim    string // its name
	Preemptor string // uid
}

// A Budget is what a PodDisruptionBudget allowed from an instant on.
type Budget struct {
	Since   time.Time
	Allowed int32
}

// A Run is what happened. Pods are by name, which is used once; budgets by the group of
// the pods that they protect, in the order of time.
type Run struct {
	Evictions []trace.Write
	Pods      map[string]*Pod
	Claims    []Claim
	Budgets   map[string][]Budget
}

// A Finding is something that a scheduler must not do.
type Finding struct {
	Rule   string `json:"rule"`
	Pod    string `json:"pod"`
	Detail string `json:"detail"`
}

// The rules.
const (
	// NotLower: a victim's priority is not lower than its preemptor's.
	NotLower = "EvictedNotLower"
	// ForNobody: no pod is known that the victim could have been evicted for.
	ForNobody = "EvictedForNobody"
	// Twice: a pod was evicted twice.
	Twice = "EvictedTwice"
)

// A Verdict is what is to be said about the evictions of a run.
type Verdict struct {
	Evicted int `json:"evicted"`
	// ByEvent, ByNomination and Unattributed say how the preemptor is known: an Event
	// names it; a pod of higher priority was nominated to the victim's node; or not at
	// all, but there was a pod without a node that might have been it.
	ByEvent      int `json:"byEvent"`
	ByNomination int `json:"byNomination"`
	Unattributed int `json:"unattributed"`
	// OverBudget is how many were evicted while their budget, as last seen, allowed
	// none. A scheduler may, where nothing else makes room.
	OverBudget int       `json:"overBudget"`
	Violations []Finding `json:"violations"`
}

// Judge looks at every eviction.
func Judge(r Run) Verdict {
	var v Verdict
	byUID := map[string]*Pod{}
	nominated := map[string][]*Pod{} // by node
	for _, p := range r.Pods {
		if p.UID != "" { // else whether it was created, nobody heard
			byUID[p.UID] = p
		}
		for _, n := range p.Nominated {
			nominated[n] = append(nominated[n], p)
		}
	}
	claims := map[string]string{}
	for _, c := range r.Claims {
		claims[c.Victim] = c.Preemptor
	}
	evicted := map[string]trace.Write{}
	violation := func(rule, pod, format string, args ...any) {
		v.Violations = append(v.Violations, Finding{rule, pod, fmt.Sprintf(format, args...)})
	}
	for _, e := range r.Evictions {
		if first, again := evicted[e.Pod]; again {
			violation(Twice, e.Pod, "at %s by %s and at %s by %s", clock(first.At), first.By, clock(e.At), e.By)
			continue
		}
		evicted[e.Pod] = e
		v.Evicted++
		victim := r.Pods[e.Pod]
		if victim == nil {
			violation(ForNobody, e.Pod, "%s deleted a pod that is none of this run's", e.By)
			continue
		}
		higher := func(p *Pod) bool { return p.Priority > victim.Priority }
		waited := func(p *Pod) bool {
			return higher(p) && p.Created.Before(e.At) && (p.Bound.IsZero() || p.Bound.After(e.At))
		}
		preemptor := byUID[claims[e.Pod]]
		switch {
		case preemptor != nil:
			v.ByEvent++
			if !higher(preemptor) {
				violation(NotLower, e.Pod, "its priority %d is not lower than %d of %s, for which it was evicted", victim.Priority, preemptor.Priority, preemptor.Name)
			}
		case victim.Node != "" && slices.ContainsFunc(nominated[victim.Node], higher):
			v.ByNomination++
		case someone(r.Pods, waited):
			v.Unattributed++
		default:
			violation(ForNobody, e.Pod, "priority %d, evicted at %s by %s: no pod of higher priority waited for a node", victim.Priority, clock(e.At), e.By)
		}
		if budget := r.Budgets[victim.Group]; len(budget) > 0 && allowed(budget, e.At) < 1 {
			v.OverBudget++
		}
	}
	slices.SortStableFunc(v.Violations, func(a, b Finding) int { return strings.Compare(a.Rule, b.Rule) })
	return v
}

func someone(pods map[string]*Pod, is func(*Pod) bool) bool {
	for _, p := range pods {
		if is(p) {
			return true
		}
	}
	return false
}

// allowed is what the budget allowed at an instant, as far as that was seen: before the
// first time, none.
func allowed(budget []Budget, at time.Time) int32 {
	var n int32
	for _, b := range budget {
		if b.Since.Before(at) {
			n = b.Allowed
		}
	}
	return n
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }
