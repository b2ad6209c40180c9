package judge

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-scheduler/berth/deploy/check/internal/audit"
	"github.com/berth-scheduler/berth/deploy/check/internal/history"
)

// landed returns the binds that took effect, in order of time. Those answered 2xx
// did. So did one that was not refused, as when its client went away before the
// answer, if its pod was on its node later. Of a pod that got its node without a
// bind in the log, since the API server was killed before it wrote the line, the
// bind is made up: at the time of the one before it in the recording.
func landed(in Input, records []history.Record) []*audit.Bind {
	nodes := map[types.UID]string{} // of each pod, the first
	for i := range records {
		if p := records[i].Pod; p != nil && p.Spec.NodeName != "" && nodes[p.UID] == "" {
			nodes[p.UID] = p.Spec.NodeName
		}
	}
	var binds []*audit.Bind
	times := map[types.UID]time.Time{}
	for i := range in.Binds {
		b := &in.Binds[i]
		uid := types.UID(b.UID)
		if b.OK() || !b.Refused() && uid != "" && b.Node != "" && nodes[uid] == b.Node {
			binds = append(binds, b)
			times[uid] = b.Received
		}
	}
	named := map[string]bool{} // pods with a bind that has no uid
	for _, b := range binds {
		named[b.Namespace+"/"+b.Pod] = named[b.Namespace+"/"+b.Pod] || b.UID == ""
	}
	var last time.Time
	seen := map[types.UID]bool{} // without a node
	for i := range records {
		p := records[i].Pod
		switch {
		case p == nil:
		case p.Spec.NodeName == "":
			seen[p.UID] = true
		case !seen[p.UID]: // it had a node before, or from the beginning
		default:
			delete(seen, p.UID)
			at, logged := times[p.UID]
			switch {
			case logged:
				last = at
			case !last.IsZero() && !named[p.Namespace+"/"+p.Name] && slices.Contains(in.SchedulerNames, p.Spec.SchedulerName):
				binds = append(binds, unlogged(p, last))
			}
		}
	}
	slices.SortStableFunc(binds, func(a, b *audit.Bind) int { return a.Received.Compare(b.Received) })
	return binds
}

func unlogged(p *corev1.Pod, at time.Time) *audit.Bind {
	return &audit.Bind{Namespace: p.Namespace, Pod: p.Name, UID: string(p.UID), Node: p.Spec.NodeName, Received: at}
}

// inOrder returns the records by resourceVersion.
func inOrder(records []history.Record) []history.Record {
	records = slices.Clone(records)
	slices.SortStableFunc(records, func(a, b history.Record) int {
		return cmp.Compare(a.ResourceVersion, b.ResourceVersion)
	})
	return records
}
