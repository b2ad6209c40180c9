package service

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// BenchmarkState is what it takes to build and to change a state: as many nodes as
// BERTH_BENCH_NODES says, 10,000 if it says nothing, as many placed pods, in batches of
// 4,096. The messages are decoded as gRPC does.
func BenchmarkState(b *testing.B) {
	nodes := 10_000
	if n, err := strconv.Atoi(os.Getenv("BERTH_BENCH_NODES")); err == nil {
		nodes = n
	}
	decoded := func(c *berthv1.Changes) *berthv1.Changes {
		encoded, err := proto.Marshal(c)
		if err != nil {
			b.Fatal(err)
		}
		c = &berthv1.Changes{}
		if err := proto.Unmarshal(encoded, c); err != nil {
			b.Fatal(err)
		}
		return c
	}
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	for b.Loop() {
		b.StopTimer()
		before := heap()
		f := &feed{service: &Service{config: Config{MaxStateBytes: 1 << 40}, metrics: newMetrics(), held: newHeld()}, feeder: &feeder{}}
		if err := f.begin(&berthv1.SyncBegin{Epoch: "e"}); err != nil {
			b.Fatal(err)
		}
		var took time.Duration
		timed := func(do func()) {
			b.StartTimer()
			start := time.Now()
			do()
			took += time.Since(start)
			b.StopTimer()
		}
		for first := 0; first < nodes; first += 1000 {
			c := &berthv1.Changes{}
			for i := first; i < min(nodes, first+1000); i++ {
				c.Nodes = append(c.Nodes, &berthv1.Node{
					Name: fmt.Sprintf("node-%07d", i), Uid: fmt.Sprintf("00000000-0000-0000-0000-%012d", i),
					Labels: map[string]string{
						"kubernetes.io/hostname": fmt.Sprintf("node-%07d", i), "topology.kubernetes.io/zone": fmt.Sprint("zone-", i%3),
						"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
					},
					Allocatable: map[string]int64{"cpu": 32000, "memory": 64 << 30, "ephemeral-storage": 1 << 40, "pods": 110},
				})
			}
			c = decoded(c)
			timed(func() {
				if err := f.change(c, nil); err != nil {
					b.Fatal(err)
				}
			})
		}
		timed(f.apply)
		full, ofNodes := took, heap()-before
		took = 0
		f.committed = true
		for first := 0; first < nodes; first += 4096 {
			c := &berthv1.Changes{}
			for i := first; i < min(nodes, first+4096); i++ {
				amounts := map[string]int64{"cpu": 100, "memory": 200 << 20}
				c.PlacedPods = append(c.PlacedPods, &berthv1.PlacedPod{
					Uid: fmt.Sprintf("10000000-0000-0000-0000-%012d", i), Namespace: "default", Name: fmt.Sprintf("pod-%d", i),
					NodeName: fmt.Sprintf("node-%07d", i*7919%nodes), Labels: map[string]string{"app": fmt.Sprint("web-", i%20)},
					Requests: amounts, ScoreRequests: amounts,
				})
			}
			c = decoded(c)
			timed(func() {
				if err := f.change(c, nil); err != nil {
					b.Fatal(err)
				}
				f.apply()
			})
		}
		b.ReportMetric(float64(full.Nanoseconds())/float64(nodes), "ns/node")
		b.ReportMetric(float64(took.Nanoseconds())/float64(nodes), "ns/pod")
		b.ReportMetric(ofNodes/float64(nodes), "B/node")
		b.ReportMetric((heap()-before-ofNodes)/float64(nodes), "B/pod")
		runtime.KeepAlive(f)
		b.StartTimer()
	}
}
