package index_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/berth-scheduler/berth/decider/internal/index"
	"github.com/berth-scheduler/berth/decider/internal/solve"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// What classes are said to take bounds them, so it has to be about what they take: also
// of those that read a label that tells every node from the others.
func TestClassesTakeWhatTheySay(t *testing.T) {
	const nodes, classes = 4000, 30
	on := benchSnapshot(t, nodes)
	x := index.New(on, plain, index.Config{})
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	decide := func(class int) {
		r := &solve.Request{Snapshot: on}
		for i := range 3 {
			record := benchPod(class*3+i, 100)
			record.NodeAffinity = &berthv1.NodeAffinity{Required: &berthv1.NodeSelector{Terms: []*berthv1.NodeSelectorTerm{{
				MatchExpressions: []*berthv1.NodeSelectorRequirement{{
					Key: hostname, Operator: berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_NOT_IN,
					Values: []string{fmt.Sprint("bad-", class)},
				}},
			}}}}
			p, err := on.NewPod(record)
			if err != nil {
				t.Fatal(err)
			}
			r.Pods = append(r.Pods, p)
		}
		x.Decide(r)
	}
	decide(0)
	before, said := heap(), x.Stats().Bytes
	for i := range classes {
		decide(i + 1)
	}
	took := heap() - before
	said = x.Stats().Bytes - said
	if x.Stats().Classes != classes+1 {
		t.Fatalf("%d classes, want %d", x.Stats().Classes, classes+1)
	}
	t.Logf("%d classes take %d bytes and say %d", classes, took, said)
	if took > said*3/2 || took < said/2 {
		t.Errorf("%d classes take %d bytes and say %d", classes, took, said)
	}
	runtime.KeepAlive(x)
}
