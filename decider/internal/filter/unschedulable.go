package filter

import (
	"github.com/berth-scheduler/berth/decider/internal/model"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// unschedulable rejects cordoned nodes, unless the pod tolerates the taint that
// cordoning adds.
func unschedulable(p *model.Pod, _ *model.Snapshot) Check {
	cordon := model.Taint{Key: "node.kubernetes.io/unschedulable", Effect: berthv1.TaintEffect_TAINT_EFFECT_NO_SCHEDULE}
	if p.Tolerates(cordon) {
		return Check{}
	}
	reason := Reason{Text: "node(s) were unschedulable"}
	return Check{Reject: func(n *model.Node, reasons []Reason) []Reason {
		if n.Unschedulable {
			return append(reasons, reason)
		}
		return reasons
	}}
}
