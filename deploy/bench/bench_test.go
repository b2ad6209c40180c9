package main

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-scheduler/berth/deploy/bench/internal/result"
	"github.com/berth-scheduler/berth/deploy/bench/internal/workload"
)

func TestUsageErrors(t *testing.T) {
	for line, want := range map[string]string{
		"equal":               `unexpected argument "equal"`,
		"--round 3":           "flag provided but not defined: -round",
		"--workloads even":    `--workloads: no workload "even": there are equal, mixed`,
		"--systems berth,own": `--systems: no system "own": there are bare, bare-events, kube-scheduler, berth, berth-2x2`,
		"--rounds 0":          "--rounds 0: want 1 or more",
		"--nodes 2":           "--nodes 2: want at least 3",
		"--pods 0":            "--pods 0: want 1 or more",
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

// Every flag, workload and system is described.
func TestHelp(t *testing.T) {
	var out, mistakes bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &out, &mistakes); code != 0 || mistakes.Len() > 0 {
		t.Fatalf("exit status %d: %s", code, &mistakes)
	}
	text := out.String()
	for _, f := range []string{"workloads", "systems", "rounds", "quick", "nodes", "pods", "again", "report", "json", "results", "dir", "bin"} {
		if !strings.Contains(text, "\n  --"+f+" ") {
			t.Errorf("--%s is not described", f)
		}
		// A flag that does not exist is an error even before --help.
		if _, err := parse([]string{"--" + f + "=1", "--help"}); !errors.Is(err, flag.ErrHelp) {
			t.Errorf("--%s: %v", f, err)
		}
	}
	for _, w := range workload.All() {
		if !strings.Contains(text, "\n  "+w.Name+" ") {
			t.Errorf("workload %s is not described", w.Name)
		}
	}
	for _, s := range systems() {
		if !strings.Contains(text, "\n  "+s.name+" ") {
			t.Errorf("system %s is not described", s.name)
		}
	}
}

// Reports know the systems by the same names.
func TestSystems(t *testing.T) {
	var names []string
	for _, s := range systems() {
		names = append(names, s.name)
	}
	if !slices.Equal(names, result.Systems) {
		t.Errorf("systems %v, in reports %v", names, result.Systems)
	}
}

func TestQuick(t *testing.T) {
	for line, want := range map[string][3]int{
		"":                   {3, 5000, 0},
		"--quick":            {1, 500, 300},
		"--quick --rounds=2": {2, 500, 300},
		"--nodes 7 --quick":  {1, 7, 300},
	} {
		o, err := parse(strings.Fields(line))
		if got := [3]int{o.rounds, o.nodes, o.pods}; err != nil || got != want {
			t.Errorf("bench %s: rounds, nodes and pods %v, want %v; %v", line, got, want, err)
		}
	}
}

func plan(t *testing.T, line string) []string {
	t.Helper()
	o, err := parse(strings.Fields(line))
	if err != nil {
		t.Fatal(err)
	}
	cells, err := (&bench{options: o}).plan()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range cells {
		names = append(names, c.workload.Name+"/"+c.system.name)
	}
	return names
}

func TestPlan(t *testing.T) {
	got := plan(t, "--quick --rounds 2 --workloads mixed,equal --systems bare,berth")
	want := []string{"mixed/bare", "mixed/berth", "mixed/berth", "mixed/bare", "equal/bare", "equal/berth", "equal/berth", "equal/bare"}
	if !slices.Equal(got, want) {
		t.Errorf("plan %v, want %v", got, want)
	}
	// Two watchers and two deciders are compared on one workload, or where asked for.
	if got := plan(t, "--quick --workloads equal,mixed"); len(got) != 9 || !slices.Contains(got, "equal/berth-2x2") {
		t.Errorf("plan %v", got)
	}
	// Workloads that are compared take turns, whatever stands between them; only
	// deciders can be asked.
	got = plan(t, "--quick --rounds 2 --workloads trickle,equal,what-if --systems bare,berth")
	want = []string{"trickle/bare", "trickle/berth", "what-if/berth", "trickle/berth", "trickle/bare", "what-if/berth", "equal/bare", "equal/berth", "equal/berth", "equal/bare"}
	if !slices.Equal(got, want) {
		t.Errorf("plan %v, want %v", got, want)
	}
	if got := plan(t, "--quick --workloads what-if"); !slices.Equal(got, []string{"what-if/berth"}) {
		t.Errorf("plan %v", got)
	}
	// Where a start is measured, something has to be started.
	if got := plan(t, "--quick --workloads restart"); !slices.Equal(got, []string{"restart/kube-scheduler", "restart/berth"}) {
		t.Errorf("plan %v", got)
	}
	if got := plan(t, "--quick --workloads mixed --systems berth-2x2"); !slices.Equal(got, []string{"mixed/berth-2x2"}) {
		t.Errorf("plan %v", got)
	}
}

func TestPlanOfNothing(t *testing.T) {
	o, err := parse(strings.Fields("--workloads restart --systems bare"))
	if err != nil {
		t.Fatal(err)
	}
	if cells, err := (&bench{options: o}).plan(); err == nil {
		t.Errorf("no error, and the plan %v", cells)
	}
}

func TestEstimate(t *testing.T) {
	o, err := parse([]string{"--quick", "--workloads", "equal,trickle"})
	if err != nil {
		t.Fatal(err)
	}
	store, err := result.Open(filepath.Join(t.TempDir(), "results.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{options: o, store: store, digest: "new"}
	cells, err := b.plan()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cells {
		if e := b.estimate(c); e < assumedSeconds*time.Second || c.workload.Rate > 0 && e < (assumedSeconds+6)*time.Second {
			t.Errorf("%s, %s: %v", c.workload.Name, c.system.name, e)
		}
	}
	before := b.blank(cells[0])
	before.Digest, before.Took = "old", 7
	if err := store.Add(before); err != nil {
		t.Fatal(err)
	}
	if e := b.estimate(cells[0]); e != 7*time.Second {
		t.Errorf("it took 7 s and is estimated to take %v", e)
	}
}

// A result is only used again for the programs that it was measured with.
func TestDigest(t *testing.T) {
	bin := t.TempDir()
	programs := []string{"etcd", "kube-apiserver", "kube-scheduler", "watcher", "decider", "check", "local"}
	write := func(program, content string) {
		if err := os.WriteFile(filepath.Join(bin, program), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range programs {
		if _, err := digest(bin, 5); err == nil {
			t.Fatalf("no error without %s", p)
		}
		write(p, "1")
	}
	seen := map[string]string{}
	add := func(what string, nodes int) {
		t.Helper()
		d, err := digest(bin, nodes)
		if err != nil {
			t.Fatal(err)
		}
		if other, known := seen[d]; known {
			t.Errorf("%s: the same digest as %s", what, other)
		}
		seen[d] = what
	}
	add("five nodes", 5)
	add("six nodes", 6)
	for _, p := range programs {
		write(p, "2")
		add("another "+p, 5)
	}
}

func TestReportWithoutResults(t *testing.T) {
	var out, mistakes bytes.Buffer
	if code := run(t.Context(), []string{"--report", "--results", t.TempDir()}, &out, &mistakes); code != 1 || !strings.Contains(mistakes.String(), "no results yet") {
		t.Errorf("exit status %d: %s", code, &mistakes)
	}
}

func TestReport(t *testing.T) {
	dir := t.TempDir()
	store, err := result.Open(filepath.Join(dir, "results.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	r := result.Result{Digest: "d", Workload: "equal", System: "berth", Round: 1, Nodes: 5, Pods: 10, Bound: 10, ReadyToLastBind: 2, FirstToLastBind: 1}
	if err := store.Add(r); err != nil {
		t.Fatal(err)
	}
	var out, mistakes bytes.Buffer
	if code := run(t.Context(), []string{"--report", "--results", dir}, &out, &mistakes); code != 0 {
		t.Fatalf("exit status %d: %s", code, &mistakes)
	}
	report, err := os.ReadFile(filepath.Join(dir, "report.md"))
	if err != nil || !strings.Contains(out.String(), string(report)) || !strings.Contains(string(report), "| equal | berth | 10 | 5 | 10 |") {
		t.Errorf("%v: kept\n%s\nprinted\n%s", err, report, &out)
	}
	if _, err := os.Stat(filepath.Join(dir, "throughput.svg")); err != nil {
		t.Error(err)
	}
	out.Reset()
	if code := run(t.Context(), []string{"--report", "--json", "--results", dir}, &out, &mistakes); code != 0 || !strings.HasPrefix(out.String(), `{"workload":"equal","system":"berth"`) {
		t.Errorf("exit status %d, printed %s", code, &out)
	}
}

func TestVerdict(t *testing.T) {
	failed := errors.New("exit status 1")
	for _, c := range []struct {
		stdout, stderr string
		exit           error
		want           []string
	}{
		{"{}", "", nil, nil},
		{`{"violations":[{"rule":"Lost","pod":"bench/a","detail":"pending"},{"rule":"Lost","pod":"bench/b"}]}`, "", failed,
			[]string{"check: 2 violations, the first: Lost bench/a  pending"}},
		{`{"violations":[],"incomplete":["no log","no nodes"]}`, "", failed, []string{"check: no log", "check: no nodes"}},
		{"", "check: no such file\n", failed, []string{"check: exit status 1: check: no such file"}},
		{`{"violations":[]}`, "", failed, []string{"check: exit status 1"}},
	} {
		if violated, got := verdict([]byte(c.stdout), []byte(c.stderr), c.exit); !slices.Equal(got, c.want) || violated != strings.Contains(c.stdout, "Lost") {
			t.Errorf("%s: %q, want %q", c.stdout, got, c.want)
		}
	}
}

func TestFollower(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	f := follower{path: path, text: []byte("the end")}
	if err := f.look(); err == nil {
		t.Error("a file that does not exist has the text")
	}
	content := ""
	for _, c := range []struct {
		more  string
		found bool
	}{{"a line\nand the e", false}, {"n", false}, {"d\n", true}} {
		content += c.more
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := f.look(); (err == nil) != c.found {
			t.Errorf("%q: %v", content, err)
		}
	}
}

func TestCopyFrom(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	if err := os.WriteFile(from, []byte("before\nafter\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := copyFrom(from, 7, to); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to); err != nil || string(got) != "after\n" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestInOrder(t *testing.T) {
	var items []int
	for i := range 200 {
		items = append(items, i)
	}
	done := make([]bool, len(items))
	if err := inOrder(t.Context(), items, func(i, item int) error { done[item] = i == item; return nil }); err != nil || slices.Contains(done, false) {
		t.Errorf("%v, %v", err, done)
	}
	wrong := errors.New("no")
	if err := inOrder(t.Context(), items, func(i, _ int) error {
		if i == 5 {
			return wrong
		}
		return nil
	}); !errors.Is(err, wrong) {
		t.Errorf("%v, want %v", err, wrong)
	}
}

func TestParseUsage(t *testing.T) {
	const stat = "6702 (a (b) c) R 6698 6698 838 0 -1 4194304 102 0 0 0 150 25 0 0 20 0 1 0 2662477 3133440"
	if got, err := parseCPU([]byte(stat)); err != nil || got != 1.75 {
		t.Errorf("%v, %v, want 1.75 s", got, err)
	}
	for _, bad := range []string{"", "1 (x) R 1 2", strings.Replace(stat, "150", "much", 1)} {
		if got, err := parseCPU([]byte(bad)); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
	if got, err := parsePeak("Name:\tcat\nVmHWM:\t    1612 kB\nVmRSS:\t 12 kB\n"); err != nil || got != 1612<<10 {
		t.Errorf("%v, %v, want 1612 KiB", got, err)
	}
	for _, bad := range []string{"", "VmHWM:\t 12 MB\n", "VmHWM:\t x kB\n"} {
		if got, err := parsePeak(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

// What this process used until now is more than nothing, where it can be told.
func TestUsage(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc")
	}
	if peak, err := peakBytes(os.Getpid()); err != nil || peak < 1<<20 {
		t.Errorf("peak memory %d, %v", peak, err)
	}
	if cpu, err := cpuSeconds(os.Getpid()); err != nil || cpu < 0 {
		t.Errorf("CPU %v s, %v", cpu, err)
	}
}
