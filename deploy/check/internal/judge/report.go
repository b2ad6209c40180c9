package judge

import (
	"fmt"
	"time"
)

// A Rule names what a Finding is about.
type Rule string

const (
	// Overcommitted: the sum of requests on a node exceeds its allocatable.
	Overcommitted Rule = "Overcommitted"
	// NodeSelector, NodeAffinity, Taint, Cordoned and HostPort: the pod was
	// bound to a node that the rule of this name excluded at that point.
	NodeSelector Rule = "NodeSelector"
	NodeAffinity Rule = "NodeAffinity"
	Taint        Rule = "Taint"
	Cordoned     Rule = "Cordoned"
	HostPort     Rule = "HostPort"
	// PodAffinity, PodAntiAffinity and TopologySpread: so did the pods that were
	// there or near, whatever the order of binds within a few seconds.
	PodAffinity     Rule = "PodAffinity"
	PodAntiAffinity Rule = "PodAntiAffinity"
	TopologySpread  Rule = "TopologySpread"
	// NoSuchNode: the pod was bound to a name or to an incarnation of a node
	// that did not exist at that point.
	NoSuchNode Rule = "NoSuchNode"
	// Lost: at the end the pod is neither bound, nor deleted, nor does a
	// PodScheduled=False condition say why it waits.
	Lost Rule = "Lost"
	// BindNotKept: the API server answered that the pod was bound, but it
	// never was on that node.
	BindNotKept Rule = "BindNotKept"
	// BoundTwice: the API server answered twice that the pod was bound.
	BoundTwice Rule = "BoundTwice"
	// OldLeader: a watcher bound after its successor's first bind.
	OldLeader Rule = "OldLeader"
	// NotLeader: a watcher bound that never held the lease.
	NotLeader Rule = "NotLeader"
	// NodeHasRoom: the pod is pending at the end and a node would take it.
	NodeHasRoom Rule = "NodeHasRoom"
)

// A Finding is one thing that happened to a pod, a node, or both.
type Finding struct {
	Rule Rule `json:"rule"`
	// Pod is namespace/name, UID its UID; both empty when only a node is meant.
	Pod string `json:"pod,omitempty"`
	UID string `json:"uid,omitempty"`
	// Node is the node's name, empty when no node is meant.
	Node string `json:"node,omitempty"`
	// ResourceVersion is the point of the replay, 0 for what is seen at its
	// end or in the audit log alone.
	ResourceVersion uint64 `json:"resourceVersion,omitempty"`
	Detail          string `json:"detail"`
}

// A Report is the judge's answer. Its lists are in the order of the replay,
// then of the audit log; counts are sorted by name.
type Report struct {
	// Violations are what a scheduler must never do.
	Violations []Finding `json:"violations"`
	// Incomplete says, a sentence each, what could not be judged and why.
	Incomplete []string `json:"incomplete"`
	// Observations are overcommitted nodes where no judged scheduler was the
	// last cause: a pod placed by others, a resize, or allocatable that shrank.
	Observations []Finding `json:"observations"`

	// From and To bound the replay, in resourceVersions.
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
	Pods Counts `json:"pods"`

	// Outcomes counts the bind attempts by their answer, Binders by who made
	// them, Refusals the refused ones by reason.
	Outcomes  []Count    `json:"outcomes"`
	Binders   []Count    `json:"binders"`
	Refusals  []Refusal  `json:"refusals"`
	Takeovers []Takeover `json:"takeovers"`
}

// Counts says what became of the judged pods.
type Counts struct {
	// Judged = Bound + Elsewhere + Pending + Gone.
	Judged int `json:"judged"`
	// Bound were bound in the replay, whatever became of them later.
	Bound int `json:"bound"`
	// Elsewhere had a node when created or when the replay began.
	Elsewhere int `json:"elsewhere"`
	// Pending have no node at the end; Gone ended without ever having one.
	Pending int `json:"pending"`
	Gone    int `json:"gone"`
}

// A Count is how often Name happened.
type Count struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

// A Refusal is one answer to binds that were refused. Names and UIDs are
// left out of Message, so that equal refusals count together.
type Refusal struct {
	Code    int    `json:"code"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// Inside counts those in a takeover window, Outside the others.
	Inside  int `json:"insideTakeover"`
	Outside int `json:"outsideTakeover"`
}

// A Takeover is one change of leader, with the window in which refused binds
// are expected: from the last bind of the old leader to 15 s after the first
// of the new one.
type Takeover struct {
	From      string    `json:"from"`
	To        string    `json:"to"`
	LastBind  time.Time `json:"lastBind"`
	FirstBind time.Time `json:"firstBind"`
}

// settle is how long after a new leader's first bind refusals are still put
// down to the takeover.
const settle = 15 * time.Second

// contains reports whether t lies in the takeover's window.
func (t Takeover) contains(at time.Time) bool {
	return !at.Before(t.LastBind) && !at.After(t.FirstBind.Add(settle))
}

// ExitCode is 0 when nothing was violated, 1 when something was, and 2 when
// nothing was but something could not be judged.
func (r *Report) ExitCode() int {
	switch {
	case len(r.Violations) > 0:
		return 1
	case len(r.Incomplete) > 0:
		return 2
	}
	return 0
}

func (r *Report) incomplete(format string, args ...any) {
	r.Incomplete = append(r.Incomplete, fmt.Sprintf(format, args...))
}
