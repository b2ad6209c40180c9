package filter

import "github.com/berth-scheduler/berth/decider/internal/model"

// understood rejects nodes whose records ask for what this decider cannot honour
// or that make no sense. Other nodes go on serving.
func understood(*model.Pod, *model.Snapshot) Check {
	return Check{Reject: func(n *model.Node, reasons []Reason) []Reason {
		switch {
		case n.Understood:
		case n.Problem != "":
			return append(reasons, Reason{
				Text:              "node(s) with an invalid record (" + n.Name + ": " + n.Problem + ")",
				EvictionCouldHelp: n.ProblemOfPod,
			})
		default:
			return append(reasons, Reason{
				Text:              "node(s) with the constraint " + n.Unknown + ", which this decider does not understand",
				EvictionCouldHelp: n.UnknownOfPod,
			})
		}
		return reasons
	}}
}
