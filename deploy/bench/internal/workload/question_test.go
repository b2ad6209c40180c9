package workload

import (
	"strings"
	"testing"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// The question is about the state that a decider is fed, and about nodes that have
// other names and more room than those that are there, in the contract's units.
func TestQuestion(t *testing.T) {
	q := Question()
	if q.GetReference() == nil || q.GetReference().GetEpoch() != "" || len(q.GetPods()) != 1 {
		t.Errorf("the question is about %v and %d pods", q.GetState(), len(q.GetPods()))
	}
	p := q.GetPods()[0]
	if p.GetRequests()["cpu"] != 100 || p.GetRequests()["memory"] != 500<<20 || len(p.GetScoreRequests()) != 2 {
		t.Errorf("the pod asks for %v", p.GetRequests())
	}
	there := map[string]bool{}
	for _, n := range Nodes(2 * HypotheticalNodes) {
		there[n.Name] = true
	}
	nodes := q.GetHypothetical().GetNodes()
	for _, n := range nodes {
		if there[n.GetName()] {
			t.Fatalf("two nodes are called %s", n.GetName())
		}
		there[n.GetName()] = true
		if room := n.GetAllocatable(); room["cpu"] != 8000 || room["memory"] != 64<<30 || room["pods"] != 110 {
			t.Fatalf("%s has %v", n.GetName(), room)
		}
	}
	if len(nodes) != HypotheticalNodes {
		t.Errorf("%d nodes, want %d", len(nodes), HypotheticalNodes)
	}
}

func TestCheckAnswer(t *testing.T) {
	placed := func(node string) *berthv1.Decision {
		return &berthv1.Decision{Outcome: berthv1.Outcome_OUTCOME_PLACED, Candidates: []*berthv1.Candidate{{NodeName: node}}}
	}
	for name, c := range map[string]struct {
		epoch     string
		decisions []*berthv1.Decision
		want      string // in the error; empty if there is none
	}{
		"as it should be":   {"1", []*berthv1.Decision{placed(Question().GetHypothetical().GetNodes()[7].GetName())}, ""},
		"nothing was fed":   {"", []*berthv1.Decision{placed("what-if-00007")}, "no state"},
		"nothing decided":   {"1", nil, "0 decisions"},
		"rejected":          {"1", []*berthv1.Decision{{Outcome: berthv1.Outcome_OUTCOME_REJECTED}}, "no node"},
		"hypothesis unseen": {"1", []*berthv1.Decision{placed(nodeName(7))}, "go to node-00007"},
	} {
		err := CheckAnswer(&berthv1.DecideResponse{Epoch: c.epoch, Decisions: c.decisions})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
