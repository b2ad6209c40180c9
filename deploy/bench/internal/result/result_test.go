package result

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"
)

// What is printed of the results in testdata, or of one that follows the command.
func TestPrinted(t *testing.T) {
	datadriven.RunTest(t, "testdata/printed", func(t *testing.T, d *datadriven.TestData) string {
		path := "testdata/results.jsonl"
		if d.Input != "" {
			path = filepath.Join(t.TempDir(), "results.jsonl")
			if err := os.WriteFile(path, []byte(d.Input+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		switch d.Cmd {
		case "rows":
			lines := []string{Header()}
			for _, r := range s.Latest() {
				lines = append(lines, Row(r))
			}
			return strings.Join(lines, "\n")
		case "markdown":
			return Markdown(Summarize(s.Latest()))
		case "json":
			var b strings.Builder
			if err := WriteSummaries(&b, Summarize(s.Latest())[:1]); err != nil {
				t.Fatal(err)
			}
			return b.String()
		}
		d.Fatalf(t, "unknown command %s", d.Cmd)
		return ""
	})
}

func TestStat(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   Stat
	}{
		{nil, Stat{}},
		{[]float64{0, 0}, Stat{}},
		{[]float64{3}, Stat{3, 3, 3}},
		{[]float64{4, 0, 1}, Stat{2.5, 1, 4}},
		{[]float64{9, 1, 2}, Stat{2, 1, 9}},
	} {
		if got := stat(c.values); got != c.want {
			t.Errorf("%v: %v, want %v", c.values, got, c.want)
		}
	}
}

func TestStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.jsonl")
	open := func() *Store {
		t.Helper()
		s, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	good := Result{Digest: "d", Workload: "equal", System: Bare, Round: 1, Nodes: 5, Pods: 10, Took: 3}
	bad := good
	bad.Round, bad.Problems = 2, []string{"check: exit status 1"}
	s := open()
	if s.Latest() != nil {
		t.Error("a store without a file has results")
	}
	for _, r := range []Result{good, bad} {
		if err := s.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []*Store{s, open()} {
		if diff := cmp.Diff([]Result{good, bad}, s.Latest()); diff != "" {
			t.Error(diff)
		}
		if got, ok := s.Find(Result{Digest: "d", Workload: "equal", System: Bare, Round: 1, Pods: 10}); !ok || !cmp.Equal(got, good) {
			t.Errorf("found %v, %v", got, ok)
		}
		for name, other := range map[string]Result{
			"one that does not count":   bad,
			"other programs":            {Digest: "e", Workload: "equal", System: Bare, Round: 1, Pods: 10},
			"another number of pods":    {Digest: "d", Workload: "equal", System: Bare, Round: 1, Pods: 11},
			"a round that was not made": {Digest: "d", Workload: "equal", System: Bare, Round: 3, Pods: 10},
		} {
			if _, ok := s.Find(other); ok {
				t.Errorf("found %s", name)
			}
		}
		if took, known := s.Took(Result{Digest: "e", Workload: "equal", System: Bare, Nodes: 5, Pods: 10}); took != 3 || !known {
			t.Errorf("took %v, %v", took, known)
		}
		if _, known := s.Took(Result{Workload: "equal", System: Bare, Nodes: 6, Pods: 10}); known {
			t.Error("it is known how long a run on other nodes takes")
		}
	}

	// The same run again, and a program that is killed in the middle of the next.
	again := bad
	again.Problems = nil
	if err := s.Add(again); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"digest":"d","workl`)
	f.Close()
	s = open()
	if diff := cmp.Diff([]Result{good, again}, s.Latest()); diff != "" {
		t.Error(diff)
	}
	other := Result{Digest: "e", Workload: "mixed", System: Bare, Round: 1}
	if err := s.Add(other); err != nil {
		t.Fatal(err)
	}
	// Results of other programs are not reported beside these.
	if diff := cmp.Diff([]Result{other}, open().Latest()); diff != "" {
		t.Error(diff)
	}

	if err := os.WriteFile(path, []byte("{}\nno JSON\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a file with no JSON in it: %v", err)
	}
}

func TestCharts(t *testing.T) {
	s, err := Open("testdata/results.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	files, err := Charts(Summarize(s.Latest()))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name)
		text := string(f.Data)
		for d := xml.NewDecoder(strings.NewReader(text)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", f.Name, err)
			}
		}
		if strings.Contains(text, "trickle") != (f.Name != "throughput.svg" && f.Name != "events.svg" && f.Name != "start.svg") {
			t.Errorf("%s: a trickle has no throughput, and everything else", f.Name)
		}
		if strings.Contains(text, "restart") != (f.Name == "memory.svg" || f.Name == "start.svg") {
			t.Errorf("%s: of a restart, memory and the start count", f.Name)
		}
		if strings.HasPrefix(f.Name, "cpu") && strings.Contains(text, Bare) {
			t.Errorf("%s: binding without a scheduler has no scheduler's CPU", f.Name)
		}
	}
	want := []string{"throughput.svg", "events.svg", "cpu.svg", "memory.svg", "latency-p50.svg", "latency-p99.svg", "start.svg"}
	if !slices.Equal(names, want) {
		t.Errorf("charts %v, want %v", names, want)
	}
	if files, err := Charts(nil); err != nil || files != nil {
		t.Errorf("charts of nothing: %v, %v", files, err)
	}
}
