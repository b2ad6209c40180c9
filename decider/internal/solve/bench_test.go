package solve_test

import (
	"fmt"
	"testing"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/solve"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// BenchmarkDecide places 500 pods of 20 shapes; "full" rejects every one of them.
// One iteration is one batch; decisions/s is per core.
func BenchmarkDecide(b *testing.B) {
	for _, nodes := range []int{1000, 5000} {
		for _, full := range []bool{false, true} {
			b.Run(fmt.Sprintf("nodes=%d/full=%t", nodes, full), func(b *testing.B) {
				state := &berthv1.Snapshot{}
				for i := range nodes {
					n := &berthv1.Node{
						Name:        fmt.Sprintf("node-%05d", i),
						Labels:      map[string]string{"zone": fmt.Sprintf("z%d", i%3), "kubernetes.io/os": "linux"},
						Allocatable: map[string]int64{"cpu": 32000, "memory": 64 << 30, "pods": 110},
					}
					if full {
						n.Allocatable["cpu"] = 50
					}
					if i%10 == 0 {
						n.Taints = []*berthv1.Taint{{Key: "gpu", Effect: berthv1.TaintEffect_TAINT_EFFECT_NO_SCHEDULE}}
					}
					state.Nodes = append(state.Nodes, n)
				}
				snapshot, err := model.NewSnapshot(state, filter.Constraints(filter.Default()))
				if err != nil {
					b.Fatal(err)
				}
				request := &solve.Request{Snapshot: snapshot, Seed: 1}
				for i := range 500 {
					cpu, memory := int64(100+50*(i%20)), int64(1+i%20)<<27
					pod, err := snapshot.NewPod(&berthv1.Pod{
						Uid:           fmt.Sprint(i),
						Requests:      map[string]int64{"cpu": cpu, "memory": memory},
						ScoreRequests: map[string]int64{"cpu": cpu, "memory": memory},
					})
					if err != nil {
						b.Fatal(err)
					}
					request.Pods = append(request.Pods, pod)
				}
				b.ReportAllocs()
				for b.Loop() {
					solver.Decide(request)
				}
				b.ReportMetric(float64(b.N*len(request.Pods))/b.Elapsed().Seconds(), "decisions/s")
			})
		}
	}
}

// BenchmarkPreempt evicts for one pod on full nodes with so many pods of lower priority
// each.
func BenchmarkPreempt(b *testing.B) {
	for _, size := range []struct{ nodes, pods int }{{1000, 30}, {5000, 30}, {1, 20000}} {
		b.Run(fmt.Sprintf("nodes=%d/pods=%d", size.nodes, size.pods), func(b *testing.B) {
			state := &berthv1.Snapshot{}
			for i := range size.nodes {
				name, full := fmt.Sprintf("node-%05d", i), int64(size.pods)
				state.Nodes = append(state.Nodes, &berthv1.Node{
					Name: name, Allocatable: map[string]int64{"cpu": 100 * full, "memory": full << 30, "pods": full + 1},
				})
				for j := range size.pods {
					state.PlacedPods = append(state.PlacedPods, &berthv1.PlacedPod{
						Uid: fmt.Sprintf("%d-%d", i, j), NodeName: name, StartTimeNanos: int64(i*j + 1),
						Requests: map[string]int64{"cpu": 100, "memory": 1 << 28},
					})
				}
			}
			snapshot, err := model.NewSnapshot(state, filter.Constraints(filter.Default()))
			if err != nil {
				b.Fatal(err)
			}
			pod, err := snapshot.NewPod(&berthv1.Pod{Uid: "w", Requests: map[string]int64{"cpu": 400}, Priority: 1})
			if err != nil {
				b.Fatal(err)
			}
			request := &solve.Request{Snapshot: snapshot, Pods: []*model.Pod{pod}, Preempt: true}
			b.ReportAllocs()
			for b.Loop() {
				solver.Decide(request)
			}
		})
	}
}
