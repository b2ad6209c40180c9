package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-scheduler/berth/deploy/bench/internal/replicas"
	"github.com/berth-scheduler/berth/deploy/bench/internal/scrape"
)

func TestAsideUsageErrors(t *testing.T) {
	for line, want := range map[string]string{
		"replicas equal":                               `bench replicas: unexpected argument "equal"`,
		"replicas --round 3":                           "flag provided but not defined: -round; see bench replicas --help",
		"replicas --workloads trickle":                 `--workloads: no workload "trickle": there are equal, anti-affinity`,
		"replicas --deciders 1":                        "--deciders 1: want 2 or more",
		"replicas --per-pod -1s":                       "--per-pod -1s: want no less than 0",
		"replicas --nodes 2":                           "--nodes 2: want at least 3",
		"replicas --nodes 10 --workloads full-95":      "10 nodes have room for 100",
		"takeover --rounds 0":                          "bench takeover: --rounds 0: want 1 or more",
		"takeover --pods 0":                            "--pods 0: want 1 or more",
		"takeover --pods 10 --after 10":                "--after 10: want 1 or more, and less than the 10 pods",
		"takeover --nodes 10 --pods 1000 --rounds 100": "10 nodes have room for 100",
	} {
		var out, mistakes bytes.Buffer
		if code := run(t.Context(), strings.Fields(line), &out, &mistakes); code != 2 || out.Len() > 0 {
			t.Errorf("bench %s: exit status %d, and printed %q", line, code, &out)
		}
		if !strings.Contains(mistakes.String(), want) || strings.Count(mistakes.String(), "\n") != 1 {
			t.Errorf("bench %s: %q, want one line with %q", line, &mistakes, want)
		}
	}
}

// Every flag is described.
func TestAsideHelp(t *testing.T) {
	for command, flags := range map[string][]string{
		"replicas": {"deciders", "per-pod", "rounds", "nodes", "pods", "workloads", "json", "dir", "bin"},
		"takeover": {"rounds", "nodes", "pods", "after", "json", "dir", "bin"},
	} {
		var out, mistakes bytes.Buffer
		if code := run(t.Context(), []string{command, "--help"}, &out, &mistakes); code != 0 || mistakes.Len() > 0 {
			t.Fatalf("%s: exit status %d: %s", command, code, &mistakes)
		}
		for _, f := range flags {
			if !strings.Contains(out.String(), "\n  --"+f+" ") {
				t.Errorf("%s: --%s is not described", command, f)
			}
		}
	}
}

func TestReplicaPlan(t *testing.T) {
	o, err := parseReplicas(strings.Fields("--rounds 2 --workloads equal,full-80 --pods 100"))
	if err != nil {
		t.Fatal(err)
	}
	want := []replicas.Run{
		{Workload: "equal", Deciders: 1, Round: 1, Pods: 100},
		{Workload: "equal", Deciders: 4, Round: 1, Pods: 100},
		{Workload: "equal", Deciders: 4, Round: 2, Pods: 100},
		{Workload: "equal", Deciders: 1, Round: 2, Pods: 100},
		{Workload: "full-80", Deciders: 4, Round: 1, Pods: 100},
	}
	if diff := cmp.Diff(want, o.plan()); diff != "" {
		t.Error(diff)
	}
}

func TestCount(t *testing.T) {
	before := scrape.Metrics{`berth_watcher_batch_pods_sum`: 8, `berth_watcher_binds_total{outcome="ok"}`: 8}
	after := scrape.Metrics{
		`berth_watcher_batch_pods_sum`: 30, `berth_watcher_binds_total{outcome="ok"}`: 18, `berth_watcher_binds_total{outcome="gone"}`: 1,
		`berth_watcher_conflicts_total{result="next"}`: 2, `berth_watcher_conflicts_total{result="again"}`: 3,
		`berth_watcher_stale_decisions_total`: 4, `berth_watcher_refusals_total{decider="d",reason="a"}`: 5,
		`berth_watcher_refusals_total{decider="d",reason="b"}`: 1, `berth_watcher_hedges_total{decider="d"}`: 7,
	}
	var r replicas.Run
	count(&r, before, after)
	if diff := cmp.Diff(replicas.Run{Decisions: 22, Placements: 10, Next: 2, Again: 3, Stale: 4, Refusals: 6, Hedges: 7}, r); diff != "" {
		t.Error(diff)
	}
}

func TestFinish(t *testing.T) {
	file := filepath.Join(t.TempDir(), "runs.json")
	for _, c := range []struct {
		json    string
		status  int
		failure error
		want    int
	}{
		{file, 0, nil, 0}, {"", 1, nil, 1}, {"", 2, nil, 2},
		{"", 0, errors.New("interrupted"), 2}, {"", 1, errors.New("interrupted"), 1},
		{filepath.Join(file, "no folder"), 0, nil, 2},
	} {
		var out, mistakes bytes.Buffer
		a := aside{json: c.json}
		if got := a.finish("bench", &out, &mistakes, "table\n", struct{}{}, c.status, c.failure); got != c.want || out.String() != "table\n" {
			t.Errorf("%+v: exit status %d, printed %q", c, got, &out)
		}
		if (mistakes.Len() > 0) != (c.failure != nil || c.json == filepath.Join(file, "no folder")) {
			t.Errorf("%+v: %q", c, &mistakes)
		}
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "{}\n" {
		t.Errorf("%q, %v", data, err)
	}
}

func TestProcessOf(t *testing.T) {
	for identity, want := range map[string]int{"host-1_4711_ab12": 4711, "host_x_ab12": 0, "host": 0, "": 0} {
		if got := processOf(identity); got != want {
			t.Errorf("%s: %d, want %d", identity, got, want)
		}
	}
}
