package policy_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"

	"k8s.io/klog/v2"

	"github.com/berth-scheduler/berth/decider/policy"
	"github.com/berth-scheduler/berth/decider/service"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// packed takes the node with the least cpu to spare.
type packed struct{}

func (packed) Name() string { return "packed" }

func (packed) Rank(t policy.Turn) []int64 {
	scores := make([]int64, len(t.Nodes))
	for i, n := range t.Nodes {
		scores[i] = -n.Free("cpu")
	}
	return scores
}

// A policy is a type with two methods. This main serves it in the place of any
// other decider; all rules are applied before it is asked.
func Example_main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	decider, err := service.New(service.Config{Policy: packed{}, Version: "v0.0.1", Logger: klog.Background()})
	if err != nil {
		klog.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:50051")
	if err != nil {
		klog.Fatal(err)
	}
	if err := decider.Serve(ctx, listener); err != nil {
		klog.Fatal(err)
	}
}

// The same policy, asked without a server.
func ExamplePolicy() {
	decider, err := service.New(service.Config{Policy: packed{}})
	if err != nil {
		fmt.Println(err)
		return
	}
	room := func(cpu int64) map[string]int64 { return map[string]int64{"cpu": cpu, "pods": 110} }
	response, err := decider.Decide(context.Background(), &berthv1.DecideRequest{
		State: &berthv1.DecideRequest_Snapshot{Snapshot: &berthv1.Snapshot{Nodes: []*berthv1.Node{
			{Name: "large", Allocatable: room(32000)},
			{Name: "small", Allocatable: room(2000)},
		}}},
		Pods: []*berthv1.Pod{
			{Uid: "one", Requests: map[string]int64{"cpu": 1500}},
			{Uid: "two", Requests: map[string]int64{"cpu": 1500}},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, d := range response.GetDecisions() {
		fmt.Println(d.GetPodUid(), "on", d.GetCandidates()[0].GetNodeName())
	}
	// Output:
	// one on small
	// two on large
}
