// Package result is what runs of a benchmark measured: kept in a file, summed up
// over rounds, and printed.
package result

import (
	"fmt"
	"time"
)

// A Result is one run: one system, on one workload, in one round. Its JSON is
// what a store holds; durations are in seconds.
type Result struct {
	// Digest stands for everything that results must share to be compared:
	// the programs and the number of nodes.
	Digest   string    `json:"digest"`
	Workload string    `json:"workload"`
	System   string    `json:"system"`
	Round    int       `json:"round"` // from 1
	Time     time.Time `json:"time"`  // of its end
	// Took is how long the run took in all, in seconds.
	Took float64 `json:"tookSeconds"`

	Nodes int `json:"nodes"`
	Pods  int `json:"pods"`
	// Rate is the pods created a second while the scheduler ran, 0 if all
	// existed before.
	Rate int `json:"rate,omitempty"`
	// Placed is how many other pods were on nodes when the scheduler started.
	Placed int `json:"placed,omitempty"`

	// Problems say why the run does not count; a run without any does.
	Problems []string `json:"problems,omitempty"`

	// Bound and Rejected count the pods that became what they should.
	Bound    int `json:"bound"`
	Rejected int `json:"rejected,omitempty"`

	// From the scheduler's readiness or from the first bind, to the last bind
	// (or rejection) or the last Event.
	ReadyToLastBind  float64 `json:"readyToLastBindSeconds"`
	FirstToLastBind  float64 `json:"firstToLastBindSeconds"`
	ReadyToLastEvent float64 `json:"readyToLastEventSeconds,omitempty"`
	FirstToLastEvent float64 `json:"firstToLastEventSeconds,omitempty"`

	// From the start of the scheduler's processes to its readiness and to the
	// first and the last bind; 0 where the benchmark itself binds.
	StartToReady     float64 `json:"startToReadySeconds,omitempty"`
	StartToFirstBind float64 `json:"startToFirstBindSeconds,omitempty"`
	StartToLastBind  float64 `json:"startToLastBindSeconds,omitempty"`

	// Questions is how many a decider answered beside its work, and Answer how
	// long it took. Baseline names the workload without them, to compare with.
	Questions int       `json:"questions,omitempty"`
	Answer    Quantiles `json:"answer,omitzero"`
	Baseline  string    `json:"baseline,omitempty"`

	// CreateToBound is from a pod's create request, or the scheduler's
	// readiness where that was later, until a watch showed its node; SeenToBound
	// from when the watch showed the pod; CreateToRejected until it showed the
	// condition.
	CreateToBound    Quantiles `json:"createToBound"`
	SeenToBound      Quantiles `json:"seenToBound"`
	CreateToRejected Quantiles `json:"createToRejected"`

	// Processes are the scheduler's, by program ("watcher", "decider",
	// "kube-scheduler"); empty where the benchmark itself binds. Several of one
	// program are added up.
	Processes map[string]Process `json:"processes,omitempty"`
	// APIServer and Etcd are the seconds of CPU that they used from the
	// scheduler's readiness to the end.
	APIServer float64 `json:"apiserverSeconds"`
	Etcd      float64 `json:"etcdSeconds"`
}

// Quantiles are in seconds.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// A Process is what a program used.
type Process struct {
	Life  float64 `json:"lifeSeconds"`  // CPU since its start
	Ready float64 `json:"readySeconds"` // CPU since the scheduler was ready
	Peak  int64   `json:"peakBytes"`    // its largest resident set
}

// Valid says whether r counts.
func (r *Result) Valid() bool { return len(r.Problems) == 0 }

// Scheduler adds up the scheduler's processes.
func (r *Result) Scheduler() Process {
	var sum Process
	for _, p := range r.Processes {
		sum.Life += p.Life
		sum.Ready += p.Ready
		sum.Peak += p.Peak
	}
	return sum
}

// PerSecond is how many of the run's pods that makes a second.
func (r *Result) PerSecond(seconds float64) float64 {
	return over(float64(r.Bound+r.Rejected), seconds)
}

// PerPod is CPU per pod, in milliseconds.
func (r *Result) PerPod(seconds float64) float64 {
	return over(1000*seconds, float64(r.Bound+r.Rejected))
}

// over is a/b, 0 where there is nothing to divide by.
func over(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// key is what a store holds one result of.
func (r *Result) key() string {
	return fmt.Sprintf("%s %s %s %d %d", r.Digest, r.Workload, r.System, r.Pods, r.Round)
}
