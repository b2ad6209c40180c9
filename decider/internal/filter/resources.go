package filter

import (
	"slices"
	"strings"

	"github.com/berth-scheduler/berth/decider/internal/model"
)

// resources rejects nodes that have no place for one more pod or too little of
// something that the pod asks for, other than extended resources with these names
// or of these groups. It gives every reason, not only the first.
func resources(ignored, ignoredGroups []string) func(*model.Pod, *model.Snapshot) Check {
	isIgnored := func(a model.Amount) bool {
		group, _, _ := strings.Cut(a.Name, "/")
		return extended(a.Name) && (slices.Contains(ignored, a.Name) || slices.Contains(ignoredGroups, group))
	}
	return func(p *model.Pod, _ *model.Snapshot) Check {
		requests := p.Requests
		if len(ignored)+len(ignoredGroups) > 0 {
			requests = slices.DeleteFunc(slices.Clone(requests), isIgnored)
		}
		return fits(requests)
	}
}

// extended says whether a resource is an extended one: it has a group, which is not
// Kubernetes' own.
func extended(resource string) bool {
	return strings.Contains(resource, "/") && !strings.Contains(resource, "kubernetes.io/") &&
		!strings.HasPrefix(resource, "requests.")
}

// fits is the check for a pod that asks for requests.
func fits(requests []model.Amount) Check {
	tooMany := Reason{Text: "Too many pods", EvictionCouldHelp: true}
	insufficient := make([]Reason, len(requests))
	for i, a := range requests {
		insufficient[i] = Reason{Text: "Insufficient " + a.Name, EvictionCouldHelp: true}
	}
	free := func() map[string]int64 {
		free := map[string]int64{"pods": 1}
		for _, a := range requests {
			free[a.Name] = a.Value
		}
		return free
	}
	return Check{Free: free, Reject: func(n *model.Node, reasons []Reason) []Reason {
		if n.Allocatable.Of(model.Pods)-n.Requested.Of(model.Pods) < 1 {
			reasons = append(reasons, tooMany)
		}
		tooSmall := false
		for i := range requests {
			a := &requests[i]
			allocatable := n.Allocatable.Of(a.Resource)
			if a.Value > allocatable-n.Requested.Of(a.Resource) {
				reasons = append(reasons, insufficient[i])
				tooSmall = tooSmall || a.Value > allocatable
			}
		}
		// An empty node would not do either: no eviction helps, whatever else
		// is short.
		if tooSmall {
			for i := range reasons {
				reasons[i].EvictionCouldHelp = false
			}
		}
		return reasons
	}}
}
