// Package policy is what decides between the nodes that can take a pod. It is
// the part of a decider that is meant to be swapped: implement Policy, pass it
// to decider/service in a main of your own, and everything else stays.
package policy

import (
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/score"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Policy decides between nodes. The rules (resources, taints, affinity, ...) have
// been applied before: every node that a policy sees can take the pod.
//
// A policy is asked by several goroutines at once. Its answer must follow from
// its configuration and the turn alone: no clock, no state, no randomness beyond
// the turn's seed. Then every replica answers alike, and an answer can be asked
// for again.
type Policy interface {
	// Name is for people and metrics, such as "default". It does not change.
	Name() string
	// Rank returns one score per node of t.Nodes, in their order. The highest
	// wins; between equals the request's seed decides, as the contract says.
	Rank(t Turn) []int64
}

// Explainer is a policy that can say what its scores are made of.
type Explainer interface {
	Policy
	// Explain returns, per node of t.Nodes, the parts of the score that Rank
	// returns, sorted by rule.
	Explain(t Turn) [][]*berthv1.Score
}

// Configured is a policy with a configuration, without which two deciders of one
// build and one policy name are taken to decide equally.
type Configured interface {
	Policy
	// Configuration describes the configuration completely and in one form:
	// equal strings decide equally.
	Configuration() string
}

// Turn is one pod's turn in a request. It is read-only and ends when Rank
// returns.
type Turn struct {
	// Seed is the request's.
	Seed uint64
	// Index is the pod's place in the request, from 0.
	Index int
	// Pod is the pod whose turn it is, as it was sent.
	Pod *berthv1.Pod
	// Nodes are the nodes that can take it, in name order; at least one.
	Nodes []Node

	turn   *model.Turn
	scores []score.Rule
}

// NewTurn returns the turn of a pod whose profile has these scores for policies to
// see. It is for decider/service.
func NewTurn(t *model.Turn, scores []score.Rule) Turn {
	nodes := make([]Node, len(t.Feasible))
	for i, n := range t.Feasible {
		nodes[i] = Node{node: n, snapshot: t.Snapshot}
	}
	return Turn{Seed: t.Seed, Index: t.Index, Pod: t.Pod.Record, Nodes: nodes, turn: t, scores: scores}
}

// Node is a node that can take the pod, with the pods before it in the request
// placed.
type Node struct {
	node     *model.Node
	snapshot *model.Snapshot
}

// Name returns the node's name.
func (n Node) Name() string { return n.node.Name }

// Record returns the node as it was sent: labels, taints, conditions, what it
// offers. It must not be changed.
func (n Node) Record() *berthv1.Node { return n.node.Record }

// Free returns how much of a resource is not taken, in the units of
// Node.allocatable, before the pod is placed. Room that is set aside for a
// nominated pod counts as taken, also where the pod may take it. It may be negative
// there, and where the pod does not ask for the resource.
func (n Node) Free(resource string) int64 {
	r, ok := n.snapshot.Resource(resource)
	if !ok {
		return 0
	}
	return n.node.Free(r)
}

// Pods returns how many pods hold room on the node, nominated ones not among
// them.
func (n Node) Pods() int64 { return n.node.Requested.Of(model.Pods) }
