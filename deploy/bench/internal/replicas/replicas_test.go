package replicas

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-scheduler/berth/deploy/bench/internal/result"
)

var runs = []Run{
	{Workload: "equal", Deciders: 1, Round: 1, Pods: 1000, Bound: 1000, FirstToLast: 20, Middle: 16, Placements: 1000, Decisions: 1000, Shares: []int{1008}},
	{Workload: "equal", Deciders: 4, Round: 1, Pods: 1000, Bound: 1000, FirstToLast: 5, Middle: 4, Placements: 1000, Decisions: 1010, Next: 1, Shares: []int{240, 250, 250, 268}},
	{Workload: "equal", Deciders: 4, Round: 2, Pods: 1000, Bound: 1000, FirstToLast: 8, Middle: 5, Placements: 1000, Decisions: 1000, Shares: []int{1, 2, 2, 3}},
	{Workload: "equal", Deciders: 1, Round: 2, Pods: 1000, Bound: 1000, FirstToLast: 24, Middle: 17.5, Placements: 1000, Decisions: 1000},
	{Workload: "full-95", Deciders: 4, Round: 1, Pods: 1000, Bound: 990, FirstToLast: 6, Middle: 4, Placements: 990, Decisions: 1287, Next: 20, Again: 31, Stale: 40, Refusals: 2, Hedges: 1,
		Verdict: result.Verdict{Problems: []string{"10 pods not bound: a"}}},
}

func TestTable(t *testing.T) {
	const want = `  workload  deciders  round  pods  first/s  middle/s  placed  decisions/placed  next  again  stale  refused  hedged    shares
     equal         1      1  1000     50.0      50.0    1000             1.000     0      0      0        0       0  100-100%
     equal         4      1  1000    200.0     200.0    1000             1.010     1      0      0        0       0    24-27%
     equal         4      2  1000    125.0     160.0    1000             1.000     0      0      0        0       0    13-38%
     equal         1      2  1000     41.7      45.7    1000             1.000     0      0      0        0       0         -
   full-95         4      1  1000    165.0     198.0     990             1.300    20     31     40        2       1         -
DOES NOT COUNT: full-95, 4 deciders, round 1: 10 pods not bound: a
equal: 4 deciders are 3.50 (3.00 to 4.00) times as fast as one from the first to the last bind, 3.75 (3.50 to 4.00) in the middle, in 2 rounds
`
	if diff := cmp.Diff(want, Table(runs)); diff != "" {
		t.Error(diff)
	}
	if got := Speedups(runs[:1]); got != nil {
		t.Errorf("one decider alone: %v", got)
	}
}

func TestReport(t *testing.T) {
	data, err := json.Marshal(Report{runs, Speedups(runs)})
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(runs, back.Runs); diff != "" {
		t.Error(diff)
	}
	if len(back.Speedups) != 1 || back.Speedups[0].FirstToLast.Median != 3.5 {
		t.Errorf("%+v", back.Speedups)
	}
}
