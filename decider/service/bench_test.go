package service_test

import (
	"fmt"
	"testing"

	"github.com/berth-scheduler/berth/decider/policy"
	"github.com/berth-scheduler/berth/decider/service"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// BenchmarkDecide is what a request costs besides deciding: one pod, 5,000 nodes
// and 20,000 placed pods to decode and to digest.
func BenchmarkDecide(b *testing.B) {
	snapshot := &berthv1.Snapshot{}
	for i := range 5000 {
		snapshot.Nodes = append(snapshot.Nodes, &berthv1.Node{
			Name: fmt.Sprintf("node-%05d", i), Uid: fmt.Sprintf("00000000-0000-0000-0000-%012d", i),
			Labels:      map[string]string{"kubernetes.io/hostname": fmt.Sprintf("node-%05d", i), "topology.kubernetes.io/zone": "z1", "kubernetes.io/os": "linux"},
			Allocatable: map[string]int64{"cpu": 32000, "memory": 64 << 30, "ephemeral-storage": 1 << 40, "pods": 110},
		})
	}
	for i := range 20000 {
		amounts := map[string]int64{"cpu": 100, "memory": 200 << 20}
		snapshot.PlacedPods = append(snapshot.PlacedPods, &berthv1.PlacedPod{
			Uid: fmt.Sprintf("10000000-0000-0000-0000-%012d", i), Namespace: "default", Name: fmt.Sprintf("pod-%d", i),
			NodeName: fmt.Sprintf("node-%05d", i%5000), Labels: map[string]string{"app": "web"},
			Requests: amounts, ScoreRequests: amounts,
		})
	}
	request := &berthv1.DecideRequest{
		State: &berthv1.DecideRequest_Snapshot{Snapshot: snapshot},
		Pods:  []*berthv1.Pod{{Uid: "p", Requests: map[string]int64{"cpu": 100}}},
	}
	for _, omit := range []bool{false, true} {
		b.Run(fmt.Sprintf("digest=%t", !omit), func(b *testing.B) {
			s, err := service.New(service.Config{Policy: policy.Default(), OmitStateDigest: omit})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Decide(b.Context(), request); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
