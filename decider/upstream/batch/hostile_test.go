package batch_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/berth-scheduler/berth/decider/service"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/scenario"
)

// TestHostile has kube-scheduler's plugins decide requests with some bytes changed:
// every pod gets an answer, and the same one twice. It is no fuzz target because
// those compile all of kube-scheduler's packages anew.
func TestHostile(t *testing.T) {
	snapshot, err := scenario.ParseCluster(`
a cpu=1 zone=z image:i=9 feature=F
b cpu=2 zone=z unschedulable taint=k:NoSchedule
w on=a cpu=1 app=web priority=-1 pod-anti-affinity=zone:app=web
budget /web selector=app=web allowed=1
namespace n x=y`)
	if err != nil {
		t.Fatal(err)
	}
	pods, err := scenario.ParsePods(`
p cpu=1 priority=1 app=web spread=zone:1:DoNotSchedule:app=web prefer-pod=1:zone:app=web image=i affinity=zone:Gt:1 prefer=1:zone:Exists spread-selector=app=web toleration=
q cpu=2 nominated-node=a port=80 affinity=metadata.name:In:a`)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := proto.Marshal(&berthv1.DecideRequest{
		State: &berthv1.DecideRequest_Snapshot{Snapshot: snapshot}, Pods: pods, Preempt: true,
		Explanation: berthv1.ExplanationLevel_EXPLANATION_LEVEL_NODES,
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := service.New(service.Config{Solver: solver(t)})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	decided := 0
	for range 10_000 {
		changed := slices.Clone(encoded)
		for range 1 + random.IntN(3) {
			changed[random.IntN(len(changed))] = byte(random.IntN(256))
		}
		request := &berthv1.DecideRequest{}
		if proto.Unmarshal(changed, request) != nil {
			continue
		}
		response, err := s.Decide(t.Context(), request)
		if err != nil {
			continue // the envelope
		}
		decided++
		for i, d := range response.GetDecisions() {
			if d.GetOutcome() == berthv1.Outcome_OUTCOME_UNSPECIFIED {
				t.Fatalf("%v: pod %d got %v", request, i, d)
			}
		}
		again, err := s.Decide(t.Context(), request)
		if err != nil || !proto.Equal(response, again) {
			t.Fatalf("%v: the answers are %v and %v, %v", request, response, again, err)
		}
	}
	if decided < 500 {
		t.Errorf("only %d requests were decided", decided)
	}
}
