package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/berth-scheduler/berth/deploy/check/internal/judge"
)

// printTable writes the report for people: what was judged, the counts, and
// last, where it is seen, the verdict with every violation.
func printTable(w io.Writer, r judge.Report) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	p := func(format string, args ...any) { fmt.Fprintf(t, format, args...) }

	p("Replayed resourceVersions %d to %d\n", r.From, r.To)
	p("Pods judged: %d (bound %d, pending %d, placed by others or before %d, gone unbound %d)\n",
		r.Pods.Judged, r.Pods.Bound, r.Pods.Pending, r.Pods.Elsewhere, r.Pods.Gone)
	printCounts(p, "BINDS", r.Outcomes)
	printCounts(p, "BOUND BY", r.Binders)
	if len(r.Takeovers) > 0 {
		p("\nTAKEOVER FROM\tTO\tLAST BIND\tFIRST BIND\n")
		for _, o := range r.Takeovers {
			p("%s\t%s\t%s\t%s\n", o.From, o.To, clock(o.LastBind), clock(o.FirstBind))
		}
	}
	if len(r.Refusals) > 0 {
		p("\nREFUSED\tREASON\tIN TAKEOVER\tOUTSIDE\tMESSAGE\n")
		for _, f := range r.Refusals {
			p("%d\t%s\t%d\t%d\t%s\n", f.Code, f.Reason, f.Inside, f.Outside, f.Message)
		}
	}
	printFindings(p, "NOT OURS", r.Observations)
	printFindings(p, "VIOLATION", r.Violations)
	if len(r.Incomplete) > 0 {
		p("\nCANNOT JUDGE\n")
		for _, s := range r.Incomplete {
			p("%s\n", s)
		}
	}
	switch r.ExitCode() {
	case 0:
		p("\nNo violation.\n")
	case 1:
		p("\n%d violations.\n", len(r.Violations))
	default:
		p("\nNo violation was seen, but not everything could be judged.\n")
	}
	return t.Flush()
}

func printCounts(p func(string, ...any), title string, counts []judge.Count) {
	if len(counts) == 0 {
		return
	}
	p("\n%s\tCOUNT\n", title)
	for _, c := range counts {
		p("%s\t%d\n", c.Name, c.Count)
	}
}

func printFindings(p func(string, ...any), title string, findings []judge.Finding) {
	if len(findings) == 0 {
		return
	}
	p("\n%s\tPOD\tNODE\tAT\tDETAIL\n", title)
	for _, f := range findings {
		at := "-"
		if f.ResourceVersion > 0 {
			at = fmt.Sprint(f.ResourceVersion)
		}
		p("%s\t%s\t%s\t%s\t%s\n", f.Rule, or(f.Pod, "-"), or(f.Node, "-"), at, f.Detail)
	}
}

func or(s, instead string) string {
	if s == "" {
		return instead
	}
	return s
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }
