package main

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"

	"github.com/berth-scheduler/berth/decider/service"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// serveRandom serves a decider that places every pod on any node.
func serveRandom(ctx context.Context, listener net.Listener, o options) error {
	record := io.Discard
	if o.record != "" {
		file, err := os.Create(o.record)
		if err != nil {
			return err
		}
		defer file.Close()
		record = file
	}
	return serveSolver(ctx, listener, &random{out: json.NewEncoder(record)})
}

func serveSolver(ctx context.Context, listener net.Listener, s service.Solver) error {
	decider, err := service.New(service.Config{Solver: s})
	if err != nil {
		return err
	}
	return decider.Serve(ctx, listener)
}

// An answer is one decision of a random decider, as it is recorded.
type answer struct {
	// Request counts the requests to decide; the answers of one follow each other.
	Request int    `json:"request"`
	Pod     string `json:"pod"` // uid
	Node    string `json:"node"`
	// Against is the first rule, of those that are looked at, that the node breaks on
	// the state that was sent with the answers before it in the request carried out as
	// far as those broke none. Empty is none.
	Against string `json:"against"`
}

// random is a solver without rules.
type random struct {
	mu       sync.Mutex // guards what follows
	requests int
	out      *json.Encoder
}

func (*random) Name() string          { return "random" }
func (*random) Configuration() string { return "" }
func (*random) Profiles() []string    { return nil }

// Constraints are those that it ignores.
func (*random) Constraints() []string {
	return []string{
		berthv1.ConstraintNodeResourcesFit, berthv1.ConstraintNodeUnschedulable,
		berthv1.ConstraintTaintToleration, berthv1.ConstraintNodeSelector,
	}
}

func (s *random) Solve(_ context.Context, r *service.SolverRequest) []*berthv1.Decision {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	nodes := slices.Clone(r.Snapshot.GetNodes())
	slices.SortFunc(nodes, func(a, b *berthv1.Node) int {
		if a.GetName() < b.GetName() {
			return -1
		}
		return 1
	})
	taken := usage(r.Snapshot)
	draw := rand.New(rand.NewPCG(r.Seed, 0))
	decisions := make([]*berthv1.Decision, len(r.Pods))
	for i, p := range r.Pods {
		switch {
		case p == nil:
			continue
		case len(nodes) == 0:
			decisions[i] = &berthv1.Decision{PodUid: p.GetUid(), Outcome: berthv1.Outcome_OUTCOME_REJECTED,
				Rejection: &berthv1.Rejection{Message: "there is no node"}}
			continue
		}
		n := nodes[draw.IntN(len(nodes))]
		against := broken(p, n, taken[n.GetName()])
		if against == "" {
			take(taken, n.GetName(), p.GetRequests())
		}
		// An answer that is not recorded shows as one that nobody gave.
		s.out.Encode(answer{Request: s.requests, Pod: p.GetUid(), Node: n.GetName(), Against: against})
		decisions[i] = &berthv1.Decision{PodUid: p.GetUid(), Outcome: berthv1.Outcome_OUTCOME_PLACED,
			Candidates: []*berthv1.Candidate{{NodeName: n.GetName(), NodeUid: n.GetUid()}}}
	}
	return decisions
}

// pods is the resource of which every pod takes one.
const pods = "pods"

// usage is what pods take of each node, by its name and the resource.
func usage(s *berthv1.Snapshot) map[string]map[string]int64 {
	taken := map[string]map[string]int64{}
	for _, p := range s.GetPlacedPods() {
		if !p.GetNominated() {
			take(taken, p.GetNodeName(), p.GetRequests())
		}
	}
	return taken
}

func take(taken map[string]map[string]int64, node string, requests map[string]int64) {
	if taken[node] == nil {
		taken[node] = map[string]int64{}
	}
	taken[node][pods]++
	for resource, amount := range requests {
		taken[node][resource] += amount
	}
}

// broken is the first rule that keeps the pod from the node; empty if none does.
func broken(p *berthv1.Pod, n *berthv1.Node, taken map[string]int64) string {
	cordon := &berthv1.Taint{Key: "node.kubernetes.io/unschedulable", Effect: berthv1.TaintEffect_TAINT_EFFECT_NO_SCHEDULE}
	if n.GetUnschedulable() && !tolerates(p, cordon) {
		return "cordoned"
	}
	for _, t := range n.GetTaints() {
		if t.GetEffect() != berthv1.TaintEffect_TAINT_EFFECT_PREFER_NO_SCHEDULE && !tolerates(p, t) {
			return "taint"
		}
	}
	for key, value := range p.GetNodeSelector() {
		if v, ok := n.GetLabels()[key]; !ok || v != value {
			return "affinity"
		}
	}
	if taken[pods]+1 > n.GetAllocatable()[pods] {
		return "resources"
	}
	for _, resource := range []string{"cpu", "memory"} {
		if want := p.GetRequests()[resource]; want > 0 && want > n.GetAllocatable()[resource]-taken[resource] {
			return "resources"
		}
	}
	return ""
}

func tolerates(p *berthv1.Pod, taint *berthv1.Taint) bool {
	return slices.ContainsFunc(p.GetTolerations(), func(t *berthv1.Toleration) bool {
		if t.GetEffect() != berthv1.TaintEffect_TAINT_EFFECT_UNSPECIFIED && t.GetEffect() != taint.GetEffect() {
			return false
		}
		if t.GetKey() != "" && t.GetKey() != taint.GetKey() {
			return false
		}
		return t.GetOperator() == berthv1.TolerationOperator_TOLERATION_OPERATOR_EXISTS || t.GetValue() == taint.GetValue()
	})
}
