package score_test

import (
	"fmt"
	"testing"

	"github.com/berth-scheduler/berth/decider/internal/score"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/scenario"
)

// BenchmarkRank ranks 5,000 nodes with 50,000 placed pods for one pod of each kind.
func BenchmarkRank(b *testing.B) {
	state := &berthv1.Snapshot{}
	for i := range 5000 {
		name := fmt.Sprintf("n%04d", i)
		state.Nodes = append(state.Nodes, &berthv1.Node{
			Name:        name,
			Labels:      map[string]string{"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": fmt.Sprint("z", i%3)},
			Allocatable: map[string]int64{"cpu": 32000, "memory": 64 << 30, "pods": 110},
			Images:      map[string]int64{fmt.Sprint("image", i%7): 500 << 20},
		})
		for j := range 10 {
			state.PlacedPods = append(state.PlacedPods, &berthv1.PlacedPod{
				Uid: fmt.Sprint(name, j), NodeName: name, Labels: map[string]string{"app": fmt.Sprint("app", j)},
				Requests: map[string]int64{"cpu": 500}, ScoreRequests: map[string]int64{"cpu": 500, "memory": 200 << 20},
			})
		}
	}
	for _, kind := range []struct{ name, pod string }{
		{"plain", "p cpu=1 image=unknown"},
		{"image", "p cpu=1 image=image3"},
		{"prefers-node", "p cpu=1 prefer=1:topology.kubernetes.io/zone:In:z1"},
		{"default-spread", "p cpu=1 spread-selector=app=app3"},
		{"own-spread", "p cpu=1 spread=topology.kubernetes.io/zone:1:ScheduleAnyway:app=app3"},
		{"prefers-pod", "p cpu=1 prefer-pod=1:topology.kubernetes.io/zone:app=app3"},
	} {
		b.Run(kind.name, func(b *testing.B) {
			pods, err := scenario.ParsePods(kind.pod)
			if err != nil {
				b.Fatal(err)
			}
			turn, rules := turn(b, state, pods[0]), score.Default()
			for b.Loop() {
				score.Rank(rules, turn)
			}
		})
	}
}
