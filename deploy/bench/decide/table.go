package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/berth-scheduler/berth/deploy/bench/internal/plot"
)

// String is one line for people.
func (m *Measurement) String() string {
	if m.Skipped != "" {
		return fmt.Sprintf("%v: skipped: %s", m.Case, m.Skipped)
	}
	s := fmt.Sprintf("%v: %s per decision, %s of it processor; %d of %d placed; batches of %d; the first took %s",
		m.Case, short(m.PerDecision()), short(m.CPU/time.Duration(m.Pods)), m.Placed, m.Pods, m.Batch, short(m.First))
	if m.Answer != NotCompared {
		s += "; " + string(m.Answer)
	}
	if m.Answer == Differs {
		s += ": " + m.Why
	}
	return s
}

// short prints a time with three digits.
func short(d time.Duration) string {
	for _, unit := range []struct {
		of   time.Duration
		name string
	}{{time.Second, "s"}, {time.Millisecond, "ms"}, {time.Microsecond, "µs"}} {
		if d >= unit.of {
			return fmt.Sprintf("%.3g %s", float64(d)/float64(unit.of), unit.name)
		}
	}
	return fmt.Sprintf("%d ns", d.Nanoseconds())
}

// table prints all that was measured as two Markdown tables. Beside what a decision took
// stands the processor time of the decider, which other programs on the machine disturb
// less.
func (a *Costs) table() string {
	var b strings.Builder
	feedings := newTable(&b, "nodes", "full", "solver", "state", "fed in", "pods come and go", "bytes each", "time each", "empty request", "peak memory")
	for _, f := range a.Feedings {
		cells := []string{count(f.Nodes), percent(f.Full), f.Solver}
		switch {
		case f.Skipped != "":
			cells = append(cells, "skipped: "+f.Skipped, "", "", "", "", "", "")
		case f.Inline:
			cells = append(cells, size(f.Bytes), "inline", "", "", "", short(f.Empty), size(f.Peak))
		default:
			cells = append(cells, size(f.Bytes), short(f.FullTime), count(f.DeltaPods), fmt.Sprint(f.DeltaBytes/int64(max(1, f.DeltaPods))),
				short(f.DeltaTime/time.Duration(max(1, f.DeltaPods))), short(f.Empty), size(f.Peak))
		}
		feedings.row(cells...)
	}
	feedings.end()
	b.WriteByte('\n')

	names := a.solvers()
	header := []string{"nodes", "full", "pods"}
	for _, name := range names {
		header = append(header, name+": a decision, processor", "a second")
	}
	if slices.Contains(names, plain) {
		for _, name := range names {
			if name != plain {
				header = append(header, name+" answers", "plain / "+name)
			}
		}
	}
	measured := newTable(&b, header...)
	for _, first := range a.firsts() {
		cells := []string{count(first.Nodes), percent(first.Full), first.Case.String()}
		for _, name := range names {
			cells = append(cells, a.cost(first, name)...)
		}
		reference := a.find(first.State, first.Case, plain)
		for _, name := range names {
			if name == plain || reference == nil {
				continue
			}
			m := a.find(first.State, first.Case, name)
			if m == nil || m.Pods == 0 || reference.Pods == 0 {
				cells = append(cells, "", "")
				continue
			}
			ratio := ""
			if m.PerDecision() > 0 && reference.PerDecision() > 0 {
				ratio = fmt.Sprintf("%.3g", float64(reference.PerDecision())/float64(m.PerDecision()))
			}
			cells = append(cells, string(m.Answer), ratio)
		}
		measured.row(cells...)
	}
	measured.end()
	return b.String()
}

// solvers are those that there is something about.
func (a *Costs) solvers() []string {
	var names []string
	for _, m := range a.Measurements {
		if !slices.Contains(names, m.Solver) {
			names = append(names, m.Solver)
		}
	}
	return names
}

// firsts are the first measurements of each state and case.
func (a *Costs) firsts() []*Measurement {
	var firsts []*Measurement
	for _, m := range a.Measurements {
		if !slices.ContainsFunc(firsts, func(o *Measurement) bool { return o.State == m.State && o.Case == m.Case }) {
			firsts = append(firsts, m)
		}
	}
	return firsts
}

// cost is what a decision of the solver took, and how many it took in a second.
func (a *Costs) cost(of *Measurement, solver string) []string {
	m := a.find(of.State, of.Case, solver)
	switch {
	case m == nil:
		return []string{"", ""}
	case m.Skipped != "":
		return []string{"skipped: " + m.Skipped, ""}
	}
	cell := "too little to tell"
	if d := m.PerDecision(); d > 0 {
		cell = short(d)
	}
	if m.CPU > 0 {
		cell += ", " + short(m.CPU/time.Duration(m.Pods))
	}
	return []string{cell, count(m.PerSecond())}
}

// count prints a number with commas.
func count(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func percent(part float64) string { return fmt.Sprintf("%.0f %%", 100*part) }

// size prints a number of bytes with three digits.
func size(bytes int64) string {
	if bytes >= 1e9 {
		return fmt.Sprintf("%.3g GB", float64(bytes)/1e9)
	}
	return fmt.Sprintf("%.3g MB", float64(bytes)/1e6)
}

// A table is one in Markdown with aligned columns.
type table struct{ w *tabwriter.Writer }

func newTable(b *strings.Builder, header ...string) table {
	t := table{tabwriter.NewWriter(b, 0, 1, 1, ' ', 0)}
	t.row(header...)
	t.row(slices.Repeat([]string{"---"}, len(header))...)
	return t
}

func (t table) row(cells ...string) {
	fmt.Fprintln(t.w, "| "+strings.Join(cells, "\t| ")+"\t|")
}

func (t table) end() { t.w.Flush() }

// draw draws what a decision costs against the number of nodes.
func (a *Costs) draw(path string) error {
	picture := plot.Lines{Title: "Cost of a decision", X: "nodes", Y: "nanoseconds per decision"}
	for _, s := range []struct {
		solver string
		of     Case
	}{
		{indexed, Case{Kind: "plain", Classes: 1}},
		{indexed, Case{Kind: "plain", Classes: 1, TooBig: true}},
		{indexed, Case{Kind: "preferred-node", Classes: 1}},
		{indexed, Case{Kind: "hard-spread", InterPod: true, Classes: 1}},
		{indexed, Case{Kind: "pod-affinity", InterPod: true, Classes: 1}},
		{indexed, Case{Kind: "anti-affinity", InterPod: true, Classes: 1}},
		{plain, Case{Kind: "plain", Classes: 1}},
		{upstream, Case{Kind: "plain", Classes: 1}},
	} {
		line := plot.Series{Name: s.solver + ": " + s.of.String()}
		full := a.drawnFull(s.of)
		for _, m := range a.Measurements {
			// What a decision costs beyond its request may be too little to tell.
			if m.Solver == s.solver && m.Case == s.of && m.Full == full && m.PerDecision() > 0 {
				line.Points = append(line.Points, plot.Point{X: float64(m.Nodes), Y: float64(m.PerDecision())})
			}
		}
		if len(line.Points) > 0 {
			picture.Series = append(picture.Series, line)
		}
	}
	if len(picture.Series) == 0 {
		return nil // nothing that would be drawn was measured
	}
	svg, err := picture.SVG()
	if err != nil {
		return fmt.Errorf("--plot: %w", err)
	}
	return os.WriteFile(path, svg, 0o666)
}

// drawnFull is how full the nodes are whose costs are drawn: half, or as full as those
// where the case was measured first.
func (a *Costs) drawnFull(c Case) float64 {
	full := -1.0
	for _, m := range a.Measurements {
		if m.Case == c && (full < 0 || m.Full == 0.5) {
			full = m.Full
		}
	}
	return full
}

// table prints a run.
func (f *Figures) table() string {
	var b strings.Builder
	t := newTable(&b, count(f.Pods)+" pods onto "+count(f.Nodes)+" nodes", "")
	t.row("decisions, placements returned", seconds(f.Time))
	t.row("pods a second", count(int(float64(f.Pods)/f.Time.Seconds())))
	t.row("of it, requests being answered", seconds(f.Decide))
	t.row("longest request, of "+count(f.Batch)+" pods", short(f.Slowest))
	t.row("placed", count(f.Placed))
	t.row("processor time of the decider, of the feeder", seconds(f.DeciderCPU)+", "+seconds(f.FeederCPU))
	t.row("transfer of the empty cluster", size(f.Full.Bytes)+" in "+seconds(f.Full.Time))
	t.row("transfer of the placements", size(f.Deltas.Bytes)+" in "+seconds(f.Deltas.Time)+" outside of requests")
	t.row("peak memory of the decider, of the feeder", size(f.DeciderPeak)+", "+size(f.FeederPeak))
	t.end()
	return b.String()
}

// comparedTable prints what was compared.
func comparedTable(r Run, solver string, compared map[int]comparedBatch) string {
	var b strings.Builder
	t := newTable(&b, "compared with "+solver, "")
	var pods, different int
	var took time.Duration
	for _, c := range compared {
		pods += c.Pods
		took += time.Duration(c.Nanoseconds)
		if c.Difference != "" {
			different++
		}
	}
	t.row("decisions", count(pods)+" of "+count(r.Sample)+" that were kept")
	t.row("from batches", count(len(compared))+" of "+count(r.batches()))
	t.row("batches with a difference", count(different))
	t.row("time that "+solver+" took", seconds(took)+", "+short(took/time.Duration(max(1, pods)))+" per decision")
	t.end()
	return b.String()
}
