package scrape

import "testing"

const text = `# HELP berth_watcher_conflicts_total placements
# TYPE berth_watcher_conflicts_total counter
berth_watcher_conflicts_total{result="again"} 3
berth_watcher_conflicts_total{result="next"} 12
berth_watcher_sync_lag_versions{decider="kubernetes:///ns/d:grpc",replica="192.0.2.1:1"} 0
berth_watcher_sync_lag_versions{decider="kubernetes:///ns/d:grpc",replica="192.0.2.1:2"} 1.5e+01 1700000000000
berth_watcher_stale_decisions_total 7
odd{text="a } b, c=\"d\" 1"} NaN

`

func TestParse(t *testing.T) {
	m, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		pairs []string
		sum   float64
		count int
	}{
		{"berth_watcher_conflicts_total", nil, 15, 2},
		{"berth_watcher_conflicts_total", []string{`result="next"`}, 12, 1},
		{"berth_watcher_conflicts_total", []string{`result="nex"`}, 0, 0},
		{"berth_watcher_conflicts", nil, 0, 0},
		{"berth_watcher_stale_decisions_total", nil, 7, 1},
		{"berth_watcher_sync_lag_versions", []string{`decider="kubernetes:///ns/d:grpc"`}, 15, 2},
		{"berth_watcher_sync_lag_versions", []string{`decider="kubernetes:///ns/d:grpc"`, `replica="192.0.2.1:2"`}, 15, 1},
	} {
		if sum, count := m.Sum(c.name, c.pairs...), m.Count(c.name, c.pairs...); sum != c.sum || count != c.count {
			t.Errorf("%s%v: %v of %d, want %v of %d", c.name, c.pairs, sum, count, c.sum, c.count)
		}
	}
	if n := m.Count("odd"); n != 1 {
		t.Errorf("a label with braces and spaces: %d values", n)
	}
	before := Metrics{"berth_watcher_stale_decisions_total": 2}
	if n := m.Since(before, "berth_watcher_stale_decisions_total"); n != 5 {
		t.Errorf("5 were counted since, not %d", n)
	}
	if n := m.Since(before, "berth_watcher_conflicts_total", `result="next"`); n != 12 {
		t.Errorf("a counter that was not there before: %d, want 12", n)
	}
}

func TestParseErrors(t *testing.T) {
	for _, line := range []string{"name", "name x", "name{} 1 2 3", "{", "name{a=\"b\"}"} {
		if m, err := Parse(line); err == nil {
			t.Errorf("%s: no error but %v", line, m)
		}
	}
}
