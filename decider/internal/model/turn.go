package model

// Turn is one pod's turn in a request, as a policy sees it.
type Turn struct {
	// Seed is the request's.
	Seed uint64
	// Index is the pod's place in the request, from 0.
	Index int
	// Pod is the pod whose turn it is.
	Pod *Pod
	// Snapshot is the cluster with the placements of the pods before it.
	Snapshot *Snapshot
	// Feasible are the nodes that can take the pod, in name order; at least
	// one.
	Feasible []*Node
}
