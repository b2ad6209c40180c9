package filter

import "github.com/berth-scheduler/berth/decider/internal/model"

// taints rejects nodes with a NoSchedule or NoExecute taint that the pod does not
// tolerate.
func taints(p *model.Pod, _ *model.Snapshot) Check {
	reason := Reason{Text: "node(s) had untolerated taint(s)"}
	return Check{Reject: func(n *model.Node, reasons []Reason) []Reason {
		for _, taint := range n.Taints {
			if !p.Tolerates(taint) {
				return append(reasons, reason)
			}
		}
		return reasons
	}}
}
