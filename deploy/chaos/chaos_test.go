package main

import (
	"bytes"
	"errors"
	"flag"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/berth-scheduler/berth/deploy/chaos/internal/evictions"
	"github.com/berth-scheduler/berth/deploy/chaos/internal/plan"
	"github.com/berth-scheduler/berth/deploy/chaos/internal/workload"
)

func TestUsageErrors(t *testing.T) {
	for line, want := range map[string]string{
		"now":             `unexpected argument "now"`,
		"--minute 3":      "flag provided but not defined: -minute",
		"--minutes 0":     "--minutes 0: want 0.1 to 1440",
		"--pods 1":        "--pods 1: want 10 at least",
		"--nodes 3":       "--nodes 3: want 10 at least",
		"--deciders 0":    "--deciders 0: want 1 at least",
		"--faults sabots": `--faults: no fault "sabots": there are [decider watcher apiserver etcd proxy]`,
	} {
		if _, err := parse(strings.Fields(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("chaos %s: %v, want %q", line, err, want)
		}
	}
}

func TestDefaults(t *testing.T) {
	o, err := parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	if o.length != 10*time.Minute || o.pods != 20000 || o.nodes != 200 || o.deciders != 3 || o.seed == 0 || !slices.Equal(o.faults, plan.Kinds) {
		t.Errorf("%+v", o)
	}
	if o, err = parse(strings.Fields("--pods 500 --seed 7")); err != nil || o.nodes != 10 || o.seed != 7 {
		t.Errorf("%+v, %v", o, err)
	}
}

// Every flag is described.
func TestHelp(t *testing.T) {
	if _, err := parse([]string{"--help"}); !errors.Is(err, flag.ErrHelp) {
		t.Fatal(err)
	}
	for _, f := range []string{"minutes", "pods", "nodes", "deciders", "seed", "faults", "plan", "json", "dir", "keep", "bin"} {
		if !strings.Contains(usage, "\n  --"+f+" ") {
			t.Errorf("--%s is not described", f)
		}
		// A flag that does not exist is an error even before --help.
		if _, err := parse([]string{"--" + f + "=1", "--help"}); !errors.Is(err, flag.ErrHelp) {
			t.Errorf("--%s: %v", f, err)
		}
	}
}

// What becomes of a pod, from when it is asked for to when it is gone.
func TestTracker(t *testing.T) {
	tr := newTracker()
	stream := workload.NewStream(1)
	g := stream.Next()
	for len(g.Pods) != 1 || workload.CPU(g.Pods[0]) > workload.NodeCPU {
		g = stream.Next()
	}
	p := g.Pods[0]
	want := func(step string, c counts, demand int64, mayLeave bool) {
		t.Helper()
		got := tr.counts()
		got.changes = 0
		if got != c || tr.demand() != demand || tr.mayLeave(g.Pods, true) != mayLeave {
			t.Errorf("%s: %+v, demand %d, may leave %t", step, got, tr.demand(), tr.mayLeave(g.Pods, true))
		}
	}
	want("nothing", counts{}, 0, false)
	tr.sending(p)
	want("asked for", counts{}, workload.CPU(p), false)
	tr.there(p.Name)
	want("there", counts{Created: 1, Pending: 1}, workload.CPU(p), false)
	seen := p.DeepCopy()
	seen.UID = "uid"
	tr.seen(seen)
	bound := seen.DeepCopy()
	bound.Spec.NodeName = "n"
	bound.Status.NominatedNodeName = "n"
	tr.seen(bound)
	tr.seen(bound)
	want("bound", counts{Created: 1, Bound: 1}, workload.CPU(p), true)
	known, _ := tr.known()
	if k := known[p.Name]; k.UID != "uid" || k.Node != "n" || k.Bound.IsZero() || !slices.Equal(k.Nominated, []string{"n"}) || k.Priority != workload.Priority(p) {
		t.Errorf("known: %+v", k)
	}
	if !tr.leave(p.Name) || tr.leave(p.Name) {
		t.Error("it does not leave once")
	}
	want("leaving", counts{Created: 1, Bound: 1}, 0, true)
	tr.wentAway(bound)
	tr.seen(bound)
	want("gone", counts{Created: 1, Bound: 1, Deleted: 1}, 0, true)
	if !tr.left(g) {
		t.Error("its group has not left")
	}

	other := stream.Next().Pods[0]
	tr.sending(other)
	tr.there(other.Name)
	tr.wentAway(other)
	if c := tr.counts(); c.Evicted != 1 || c.Deleted != 1 {
		t.Errorf("%+v after one was evicted", c)
	}
}

// Pods ask for more than there is now and then, and for less in between.
func TestWaves(t *testing.T) {
	c := &churn{length: time.Minute}
	above, below := 0, 0
	for s := range 60 {
		switch share := c.wanted(time.Duration(s) * time.Second); {
		case share > 1:
			above++
		case share < 0.9:
			below++
		}
	}
	if above < 10 || below < 10 {
		t.Errorf("%d s above, %d s below", above, below)
	}
}

func TestSettled(t *testing.T) {
	n := workload.Nodes(10)[9]
	if !settled(n) {
		t.Error("a taint of ours keeps a node from being settled")
	}
	n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeNotReady})
	if settled(n) {
		t.Error("a node that is not ready is settled")
	}
}

func TestReport(t *testing.T) {
	r := report{Seed: 7, Created: 100, Faults: map[string]int{"etcd": 2, "proxy drop": 3}, Pause: longPause{Seconds: 1.5},
		Refusals: []refusal{{"404 NotFound: pods", 1, 2}}, Endings: []ending{{Name: "watcher-1", How: "exit status 1", Last: "lost"}}}
	if r.status() != 0 {
		t.Errorf("status %d", r.status())
	}
	for range most + 5 {
		r.Violations = append(r.Violations, evictions.Finding{Rule: noReason, Pod: "p", Detail: "why"})
	}
	r.Incomplete = []string{"a gap"}
	if r.status() != exitViolated {
		t.Errorf("status %d", r.status())
	}
	var out bytes.Buffer
	r.print(&out)
	for _, want := range []string{"pods created", "100", "fault: etcd", "3 ", "1 in takeovers; 404 NotFound", "watcher-1", "1.5 s", "not judged: a gap",
		"VIOLATION NoReason p: why", "VIOLATION NoReason: 5 more", "25 violations, seed 7"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not print %q:\n%s", want, &out)
		}
	}
	if strings.Count(out.String(), "VIOLATION") != most+1 {
		t.Errorf("%d lines of violations", strings.Count(out.String(), "VIOLATION"))
	}
	r.Violations = nil
	if r.status() != exitCannotJudge {
		t.Errorf("status %d", r.status())
	}
}
