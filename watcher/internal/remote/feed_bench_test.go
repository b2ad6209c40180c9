package remote

import (
	"fmt"
	"testing"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// BenchmarkWholeState is what the whole state of 5,000 nodes and 50,000 pods costs until
// it is ready to be sent: 10 MB in messages below 1 MiB.
func BenchmarkWholeState(b *testing.B) {
	c := &berthv1.Changes{}
	for i := range 5_000 {
		c.Nodes = append(c.Nodes, &berthv1.Node{Name: fmt.Sprint("node-", i), Uid: fmt.Sprintf("%032d", i),
			Labels:      map[string]string{"kubernetes.io/hostname": fmt.Sprint("node-", i), "topology.kubernetes.io/zone": fmt.Sprint("zone-", i%3), "kubernetes.io/os": "linux"},
			Allocatable: map[string]int64{"cpu": 4000, "memory": 32 << 30, "pods": 110, "ephemeral-storage": 100 << 30}})
	}
	for i := range 50_000 {
		c.PlacedPods = append(c.PlacedPods, &berthv1.PlacedPod{Uid: fmt.Sprintf("%036d", i), Namespace: "default", Name: fmt.Sprint("deployment-6b474476c4-", i),
			NodeName: fmt.Sprint("node-", i%5_000), Labels: map[string]string{"app": "web", "pod-template-hash": "6b474476c4"},
			Requests: map[string]int64{"cpu": 100, "memory": 500 << 20}, ScoreRequests: map[string]int64{"cpu": 100, "memory": 500 << 20}, StartTimeNanos: 1})
	}
	for b.Loop() {
		bytes := 0
		for _, message := range encode(c, needs{}) {
			bytes += len(message)
		}
		b.ReportMetric(float64(bytes), "bytes")
	}
}
