package filter

import "github.com/berth-scheduler/berth/decider/internal/model"

// nodeName rejects every node but the one that the pod names.
func nodeName(p *model.Pod, _ *model.Snapshot) Check {
	if p.NodeName == "" {
		return Check{}
	}
	reason := Reason{Text: "node(s) didn't match the requested node name"}
	return Check{Reject: func(n *model.Node, reasons []Reason) []Reason {
		if n.Name != p.NodeName {
			return append(reasons, reason)
		}
		return reasons
	}}
}
