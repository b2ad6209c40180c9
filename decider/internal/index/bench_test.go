package index_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/berth-scheduler/berth/decider/internal/index"
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/solve"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// BenchmarkIndex decides batches of 500 pods by the index and by the plain solver in
// turn, and says how much processor time each took. What matters is plain/index: how
// many times as long the plain solver takes, which the kinds of pods
// that no index can help must not bring far below 1. After each batch a few pods come
// and go.
func BenchmarkIndex(b *testing.B) {
	for _, nodes := range []int{1000, 5000} {
		for _, kind := range benchKinds {
			b.Run(fmt.Sprintf("nodes=%d/%s", nodes, kind.name), func(b *testing.B) { benchmark(b, nodes, kind.pod) })
		}
	}
}

// benchKinds are the kinds of pods: pod number i of all.
var benchKinds = []struct {
	name string
	pod  func(i, nodes int) *berthv1.Pod
}{
	{"equal", func(i, _ int) *berthv1.Pod { return benchPod(i, 100) }},
	{"classes=20", func(i, _ int) *berthv1.Pod { return benchPod(i, int64(i%20)+100) }},
	{"classes=1000", func(i, _ int) *berthv1.Pod { return benchPod(i, int64(i%1000)+100) }},
	{"classes=1000/spread", func(i, _ int) *berthv1.Pod { return spreadBy(benchPod(i, int64(i%1000)+100), zone) }},
	{"own-class", func(i, _ int) *berthv1.Pod { return benchPod(i, int64(i)+100) }},
	{"own-class/spread", func(i, _ int) *berthv1.Pod {
		p := spreadBy(benchPod(i, 100), zone)
		p.Labels["job"] = fmt.Sprint(i)
		p.TopologySpreadConstraints[0].MatchLabelKeys = []string{"job"}
		return p
	}},
	{"own-class/anti-affinity", func(i, _ int) *berthv1.Pod {
		p := benchPod(i, 100)
		p.Labels["job"] = fmt.Sprint(i)
		p.PodAntiAffinity = &berthv1.PodAffinity{Required: []*berthv1.PodAffinityTerm{{
			TopologyKey: hostname, LabelSelector: &berthv1.LabelSelector{MatchLabels: map[string]string{"job": fmt.Sprint(i)}},
		}}}
		return p
	}},
	{"daemon-set", func(i, nodes int) *berthv1.Pod {
		p := benchPod(i, 100)
		p.NodeAffinity = &berthv1.NodeAffinity{Required: byName(fmt.Sprintf("node-%05d", i*7%nodes))}
		return p
	}},
	{"stateful-set", func(i, _ int) *berthv1.Pod {
		p := spreadBy(benchPod(i, 100), hostname)
		p.Labels[podIndex] = fmt.Sprint(i)
		return p
	}},
	{"too-big", func(i, _ int) *berthv1.Pod { return benchPod(i, 1<<40+int64(i%20)) }},
	{"anti-affinity", func(i, _ int) *berthv1.Pod {
		p := benchPod(i, 100)
		p.PodAntiAffinity = &berthv1.PodAffinity{Required: []*berthv1.PodAffinityTerm{{
			TopologyKey: hostname, LabelSelector: &berthv1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
		}}}
		return p
	}},
}

func benchPod(i int, cpu int64) *berthv1.Pod {
	requests := map[string]int64{"cpu": cpu, "memory": 64 << 20}
	return &berthv1.Pod{
		Uid: fmt.Sprint("w", i), Namespace: "a", Labels: map[string]string{"app": "web"}, SchedulerName: profileNames[0],
		Requests: requests, ScoreRequests: requests,
	}
}

func spreadBy(p *berthv1.Pod, key string) *berthv1.Pod {
	p.TopologySpreadConstraints = []*berthv1.TopologySpreadConstraint{{
		MaxSkew: 5, TopologyKey: key, WhenUnsatisfiable: berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_DO_NOT_SCHEDULE,
		LabelSelector: &berthv1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
	}}
	return p
}

func benchmark(b *testing.B, nodes int, pod func(i, nodes int) *berthv1.Pod) {
	// Each on a snapshot of its own: nobody listens to what the plain solver does.
	byIndex, byPlain := benchSnapshot(b, nodes), benchSnapshot(b, nodes)
	x := index.New(byIndex, plain, index.Config{})
	var took [2]time.Duration
	decided := 0
	decide := func(i int, on *model.Snapshot, records []*berthv1.Pod, decide func(*solve.Request) []*berthv1.Decision) {
		r := &solve.Request{Snapshot: on, Seed: 1}
		for _, record := range records {
			p, err := on.NewPod(record)
			if err != nil {
				b.Fatal(err)
			}
			r.Pods = append(r.Pods, p)
		}
		start := processorTime(b)
		decide(r)
		took[i] += processorTime(b) - start
	}
	for b.Loop() {
		records := make([]*berthv1.Pod, 500)
		for i := range records {
			records[i] = pod(decided+i, nodes)
		}
		decide(0, byIndex, records, x.Decide)
		decide(1, byPlain, records, plain.Decide)
		decided += len(records)
		churn := &berthv1.Changes{}
		for i := range 20 {
			churn.PlacedPods = append(churn.PlacedPods, &berthv1.PlacedPod{
				Uid: fmt.Sprint("churn-", i), NodeName: fmt.Sprintf("node-%05d", (decided+i*31)%nodes), Namespace: "a",
				Labels: map[string]string{"app": "db"}, Requests: map[string]int64{"cpu": 50}, ScoreRequests: map[string]int64{"cpu": 50},
			})
		}
		byIndex.Apply(churn)
		byPlain.Apply(churn)
	}
	each := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(decided) }
	b.ReportMetric(each(took[0]), "index-ns/decision")
	b.ReportMetric(each(took[1]), "plain-ns/decision")
	b.ReportMetric(each(took[1])/each(took[0]), "plain/index")
	b.ReportMetric(float64(x.Stats().Bytes)/(1<<20), "index-MiB")
	b.ReportMetric(0, "ns/op") // of both, and of making pods
}

// processorTime is what the process has used, whatever else the machine does.
func processorTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// benchSnapshot is a cluster in three zones whose nodes are half full.
func benchSnapshot(b testing.TB, nodes int) *model.Snapshot {
	c := &berthv1.Changes{}
	for i := range nodes {
		name := fmt.Sprintf("node-%05d", i)
		c.Nodes = append(c.Nodes, &berthv1.Node{
			Name: name, Labels: map[string]string{zone: fmt.Sprint("z", i%3), hostname: name, "disk": fmt.Sprint(i % 2)},
			Allocatable: map[string]int64{"cpu": 32000, "memory": 64 << 30, "pods": 110},
		})
		for j := range 5 {
			c.PlacedPods = append(c.PlacedPods, &berthv1.PlacedPod{
				Uid: fmt.Sprint(name, "-", j), NodeName: name, Namespace: "a", Labels: map[string]string{"app": "db"},
				Requests:      map[string]int64{"cpu": 3000, "memory": 6 << 30},
				ScoreRequests: map[string]int64{"cpu": 3000, "memory": 6 << 30},
			})
		}
	}
	s := model.New(understood)
	if rejected := s.Apply(c); len(rejected) > 0 {
		b.Fatal(rejected)
	}
	return s
}
