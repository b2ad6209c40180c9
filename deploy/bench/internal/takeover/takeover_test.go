package takeover

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-scheduler/berth/deploy/bench/internal/result"
)

func at(seconds float64) time.Time {
	return time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC).Add(time.Duration(seconds * float64(time.Second)))
}

// entry is a line of an audit log.
func entry(verb, subresource, agent, stage string, code int, received, done time.Time) string {
	return fmt.Sprintf(`{"level":"RequestResponse","stage":%q,"verb":%q,"userAgent":%q,"objectRef":{"resource":"pods","subresource":%q,"name":"p"},"responseStatus":{"code":%d},"requestReceivedTimestamp":%q,"stageTimestamp":%q}`+"\n",
		stage, verb, agent, subresource, code, received.Format(time.RFC3339Nano), done.Format(time.RFC3339Nano))
}

func TestReadBinds(t *testing.T) {
	const agent, complete = "berth-watcher/v0.1.0 (host_7_ab)", "ResponseComplete"
	log := entry("create", "binding", agent, complete, 201, at(1), at(2)) +
		entry("create", "binding", agent, complete, 409, at(2), at(3)) + // refused
		entry("create", "binding", agent, "RequestReceived", 201, at(2), at(3)) +
		entry("create", "binding", "kubectl/v1.36.3 (linux/amd64)", complete, 201, at(2), at(3)) +
		entry("patch", "status", agent+" binding", complete, 200, at(2), at(3)) +
		entry("create", "", agent, complete, 201, at(2), at(3)) +
		entry("create", "binding", agent, complete, 201, at(4), at(5)) +
		`{"verb":"create","objectRef":{"subresource":"bind`
	got, err := ReadBinds(strings.NewReader(log))
	if err != nil {
		t.Fatal(err)
	}
	want := []Bind{{"host_7_ab", at(1), at(2)}, {"host_7_ab", at(4), at(5)}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := ReadBinds(strings.NewReader("binding\n")); err == nil || !strings.HasPrefix(err.Error(), "line 1: ") {
		t.Errorf("error %v", err)
	}
}

var change = Change{Old: "a", New: "b", Killed: at(10), LeaseEnd: at(24.5), Acquired: at(25)}

func TestMeasure(t *testing.T) {
	binds := []Bind{
		{"a", at(8), at(9)}, {"a", at(9.9), at(10.1)}, {"a", at(9.8), at(10)},
		{"b", at(25.4), at(25.6)}, {"b", at(25.3), at(25.5)}, {"c", at(1), at(40)},
	}
	r := Run{Round: 1}
	r.Measure(binds, change, 8)
	if diff := cmp.Diff(Run{Round: 1, Before: 3, After: 2, Unheard: 2, FromKill: 15.5, FromLeaseEnd: 1, FromAcquired: 0.5, Gap: 15.4}, r); diff != "" {
		t.Error(diff)
	}

	r = Run{}
	if r.Measure(append(binds, Bind{"a", at(25.35), at(25.4)}), change, 7); r.OldAfter != 1 || !r.Violated || len(r.Problems) != 1 {
		t.Errorf("a bind of the old leader after the new one's first: %+v", r)
	}
	r = Run{}
	if r.Measure(binds[:3], change, 3); r.Violated || len(r.Problems) != 1 || r.FromKill != 0 {
		t.Errorf("no bind of the new leader: %+v", r)
	}
	r = Run{}
	if r.Measure(binds[3:], change, 3); len(r.Problems) != 1 || r.FromKill != 0 {
		t.Errorf("no bind of the old leader: %+v", r)
	}
}

func TestTable(t *testing.T) {
	runs := []Run{
		{Round: 1, Nodes: 5000, Pods: 20000, Before: 4970, Unheard: 30, After: 15000, FromKill: 15, FromLeaseEnd: 1, FromAcquired: 0.5, Gap: 15.25},
		{Round: 2, Nodes: 5000, Pods: 20000, Before: 6000, After: 14000, FromKill: 14, FromLeaseEnd: 2, FromAcquired: 0.25, Gap: 14},
		{Round: 3, Nodes: 5000, Pods: 20000, Before: 6000, Verdict: result.Verdict{Problems: []string{"the new leader bound no pod"}}},
	}
	const want = `  round  nodes   pods  kill to bind  lease end to bind  acquired to bind  last to first bind  bound by old  unheard  by new  old after new
      1   5000  20000       15.00 s             1.00 s            0.50 s             15.25 s          4970       30   15000              0
      2   5000  20000       14.00 s             2.00 s            0.25 s             14.00 s          6000        0   14000              0
      3   5000  20000        0.00 s             0.00 s            0.00 s              0.00 s          6000        0       0              0
medians of 2 rounds: kill to bind 14.50 s, lease end to bind 1.50 s, acquired to bind 0.38 s
DOES NOT COUNT: round 3: the new leader bound no pod
`
	if diff := cmp.Diff(want, Table(runs)); diff != "" {
		t.Error(diff)
	}
	var back Report
	data, err := json.Marshal(Report{runs})
	if err != nil || json.Unmarshal(data, &back) != nil || !cmp.Equal(runs, back.Runs) {
		t.Errorf("error %v, JSON %s", err, data)
	}
}
