package driver

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// BenchmarkPlacementWhileOthersWait is what one placement costs the driver, 500 of them
// a second, while 5,000 pods wait: for any change of a placed pod, as those do whose
// affinity finds nobody, all alike or each in its own way; or each for room on a node of
// its own. decisions/op is how often one of them was decided about again: it is bounded
// by their backoffs, however many placements there are. Run it with -benchtime=10000x,
// twice the longest backoff.
func BenchmarkPlacementWhileOthersWait(b *testing.B) {
	anyPod := []*berthv1.WakeCondition{{Object: berthv1.ObjectKind_OBJECT_KIND_PLACED_POD}}
	for name, waitsFor := range map[string]func(i int) []*berthv1.WakeCondition{
		"affinity": func(int) []*berthv1.WakeCondition { return anyPod },
		"affinityEach": func(i int) []*berthv1.WakeCondition {
			return append([]*berthv1.WakeCondition{{Object: berthv1.ObjectKind_OBJECT_KIND_NODE, NodeNames: []string{fmt.Sprint(i)}}}, anyPod...)
		},
		"roomEach": func(i int) []*berthv1.WakeCondition {
			return []*berthv1.WakeCondition{{Object: berthv1.ObjectKind_OBJECT_KIND_PLACED_POD, NodeNames: []string{fmt.Sprint(i)}}}
		},
	} {
		b.Run(name, func(b *testing.B) {
			const waiting = 5000
			d := New(Config{Deciders: map[string]int{"berth": 1}, Seed: 1, MaxBatch: 500, MaxBinding: 100})
			now, decisions, index := start, 0, map[string]int{}
			for i := range waiting {
				uid := fmt.Sprint("waits-", i)
				index[uid] = i
				d.Step(now, PodChanged{newPod(uid, uid, "1")})
			}
			rejectAll := func() {
				for r := d.Ready(); len(r.Decide) > 0; r = d.Ready() {
					b := r.Decide[0]
					response := &berthv1.DecideResponse{Version: b.Version}
					for _, p := range b.Request.GetPods() {
						response.Decisions = append(response.Decisions, &berthv1.Decision{PodUid: p.GetUid(), Outcome: berthv1.Outcome_OUTCOME_REJECTED,
							Rejection: &berthv1.Rejection{Message: "no", WakeConditions: waitsFor(index[p.GetUid()])}})
						decisions++
					}
					d.Step(now, Decided{Batch: b.ID, Decider: "d", Response: response})
				}
			}
			rejectAll()
			placed := func(i int, after time.Duration) {
				now = now.Add(after)
				p := newPod(fmt.Sprint("p", i%1000), fmt.Sprint("p", i%1000), "0")
				p.UID, p.Labels = types.UID(p.Name), map[string]string{"i": fmt.Sprint(i)}
				p.Spec = corev1.PodSpec{NodeName: "n"}
				d.Step(now, PodChanged{p})
				rejectAll()
			}
			for i := range 1000 { // until the backoffs are at their longest
				placed(i, 50*time.Millisecond)
			}
			decisions = 0
			b.ResetTimer()
			for i := range b.N {
				placed(i, 2*time.Millisecond)
			}
			b.ReportMetric(float64(decisions)/float64(b.N), "decisions/op")
		})
	}
}
