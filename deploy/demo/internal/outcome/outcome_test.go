package outcome

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/berth-scheduler/berth/deploy/demo/internal/workload"
)

// run is a tracker of a few pods, and changes them as an API server would.
type run struct {
	*Tracker
	began time.Time
}

func newRun(wants map[string]workload.Want, order ...string) run {
	var pods []workload.Pod
	for _, name := range order {
		p := workload.NewPod("berth", name, nil, workload.Resources(500, 1024, 1))
		pods = append(pods, workload.Pod{Object: p, Want: wants[name]})
	}
	return run{NewTracker(pods), time.Now()}
}

func (r run) at(seconds float64) time.Time {
	return r.began.Add(time.Duration(seconds * float64(time.Second)))
}

func (r run) create(name string, at float64) {
	r.Sent(name, r.at(at))
	r.Seen(r.byName[name].Object.DeepCopy(), r.at(at))
}

func (r run) bind(name, node string, at float64) {
	p := r.byName[name].last.DeepCopy()
	p.Spec.NodeName = node
	p.Status = corev1.PodStatus{Phase: corev1.PodPending}
	r.Seen(p, r.at(at))
}

func (r run) start(name string, at float64) {
	p := r.byName[name].last.DeepCopy()
	p.Status.Phase = corev1.PodRunning
	r.Seen(p, r.at(at))
}

func (r run) refuse(name, reason, message string) {
	p := r.byName[name].last.DeepCopy()
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: reason, Message: message}}
	r.Seen(p, r.began)
}

func TestWhatIsMissing(t *testing.T) {
	fits := workload.Want{Fit: workload.Fits}
	cannot := workload.Want{Fit: workload.CannotFit, Message: "2 Insufficient cpu"}
	wants := map[string]workload.Want{
		"runs": fits, "bound": fits, "waits": fits, "deleted": fits, "absent": fits,
		"refused": cannot, "wrong-text": cannot, "wrong-reason": cannot, "placed": cannot,
	}
	r := newRun(wants, "runs", "bound", "waits", "deleted", "absent", "refused", "wrong-text", "wrong-reason", "placed", "free", "free-refused", "free-error")
	for name := range r.byName {
		if name != "absent" {
			r.create(name, 0)
		}
	}
	for _, name := range []string{"runs", "bound", "deleted", "placed", "free"} {
		r.bind(name, "a", 1)
	}
	for _, name := range []string{"runs", "deleted", "placed", "free"} {
		r.start(name, 2)
	}
	r.Gone("deleted")
	r.refuse("refused", "Unschedulable", "0/2 nodes are available: 2 Insufficient cpu.")
	r.refuse("wrong-text", "Unschedulable", "0/2 nodes are available: 2 Too many pods.")
	r.refuse("wrong-reason", "SchedulerError", "2 Insufficient cpu")
	r.refuse("free-refused", "Unschedulable", "0/2 nodes are available: 2 Too many pods.")
	r.refuse("free-error", "SchedulerError", "no decider")

	want := []Missing{
		{"bound", "on a, Pending", "Running", "none"},
		{"waits", "pending", "Running", "none"},
		{"deleted", "deleted", "Running", "none"},
		{"absent", "not created", "Running", "-"},
		{"wrong-text", "pending", "Unschedulable: 2 Insufficient cpu", "Unschedulable: 0/2 nodes are available: 2 Too many pods."},
		{"wrong-reason", "pending", "Unschedulable: 2 Insufficient cpu", "SchedulerError: 2 Insufficient cpu"},
		{"placed", "on a, Running", "Unschedulable: 2 Insufficient cpu", "none"},
		{"free-error", "pending", "Running or Unschedulable", "SchedulerError: no decider"},
	}
	if diff := cmp.Diff(want, r.Missing()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	counts, _ := r.Counts()
	if want := (Counts{Total: 12, Created: 10, Bound: 4, Running: 3, Refused: 5, Done: 4}); counts != want {
		t.Errorf("counts %+v, want %+v", counts, want)
	}
}

func TestCountsVersion(t *testing.T) {
	r := newRun(nil, "a")
	_, before := r.Counts()
	r.Seen(&corev1.Pod{}, r.began) // not of the workload
	if _, after := r.Counts(); after != before {
		t.Error("a foreign pod changed the version")
	}
	r.create("a", 0)
	if _, after := r.Counts(); after == before {
		t.Error("a change did not change the version")
	}
}

func TestSummary(t *testing.T) {
	r := newRun(nil, "a", "b", "c", "d", "e")
	for i, name := range []string{"a", "b", "c", "d"} {
		r.create(name, float64(i)/10)
	}
	r.bind("a", "n", 0.25)
	r.start("a", 9)
	r.bind("b", "n", 2.1)
	r.refuse("c", "Unschedulable", "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. preemption: none.")
	r.refuse("d", "Unschedulable", "0/4 nodes are available: 10 Insufficient cpu, 2 node(s) had untolerated taint(s).")

	node := workload.NewNode("n", "", workload.Capacity(2000, 4096, 8, 110))
	var got strings.Builder
	r.Summary([]*corev1.Node{node}).Print(&got)
	const want = `placed       2 of 5 pods, 1 Running
pending      2
         2   Unschedulable: Insufficient cpu, node(s) had untolerated taint(s)
missing      1 pods do not exist
speed        1.0 pods/s from the first creation to the last bind (2.100 s), 1.1 pods/s from the first bind (1.850 s)
latency      p50 0.250 s, p99 2.000 s from sending the create request to seeing the pod bound
utilisation  cpu 50%, memory 50%, nvidia.com/gpu 25% of what the nodes offer is requested by these pods
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestPercentile(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	for _, test := range []struct {
		sorted []time.Duration
		p      int
		want   time.Duration
	}{{hundred, 50, 50}, {hundred, 99, 99}, {hundred[:1], 99, 1}, {hundred[:2], 50, 1}, {hundred[:3], 50, 2}} {
		if got := percentile(test.sorted, test.p); got != test.want {
			t.Errorf("p%d of %d: %d, want %d", test.p, len(test.sorted), got, test.want)
		}
	}
}

func TestPrintMissing(t *testing.T) {
	var missing []Missing
	for range maxMissing + 2 {
		missing = append(missing, Missing{"p", "pending", "Running", strings.Repeat("x", 200)})
	}
	var got strings.Builder
	PrintMissing(&got, missing)
	lines := strings.Split(strings.TrimSpace(got.String()), "\n")
	if len(lines) != maxMissing+2 || lines[len(lines)-1] != "... and 2 more" {
		t.Errorf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
	if want := "p    pending  Running   " + strings.Repeat("x", maxText-3) + "..."; lines[1] != want {
		t.Errorf("row %q, want %q", lines[1], want)
	}
}
