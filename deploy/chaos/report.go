package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/berth-scheduler/berth/deploy/chaos/internal/evictions"
)

// A longPause is a time in which nothing was bound, and the faults in and shortly before
// it with when they began.
type longPause struct {
	From      time.Time `json:"from"`
	Seconds   float64   `json:"seconds"`
	Meanwhile []string  `json:"meanwhile"`
}

// A refusal is why bindings were refused, and how many.
type refusal struct {
	Reason string `json:"reason"`
	// InTakeover counts those while one watcher took over from another, Otherwise the
	// rest.
	InTakeover int `json:"inTakeover"`
	Otherwise  int `json:"otherwise"`
}

// A report is what is to be said about a run.
type report struct {
	Seed     uint64  `json:"seed"`
	Minutes  float64 `json:"minutes"`
	Nodes    int     `json:"nodes"`
	Deciders int     `json:"deciders"`

	Created int `json:"created"`
	// Bound is how many bindings the API server took.
	Bound int `json:"bound"`
	// Unlogged are bindings besides those, which an API server wrote and was killed
	// before it logged them.
	Unlogged int `json:"unlogged"`
	Deleted  int `json:"deleted"`
	// Surviving are there in the end; Waiting of them have no node.
	Surviving int `json:"surviving"`
	Waiting   int `json:"waiting"`

	Faults    map[string]int    `json:"faults"`
	Failed    []string          `json:"failedFaults"`
	Takeovers int               `json:"takeovers"`
	Endings   []ending          `json:"endings"`
	Refusals  []refusal         `json:"refusals"`
	Pause     longPause         `json:"longestPause"`
	Rest      float64           `json:"secondsToRest"`
	Evictions evictions.Verdict `json:"evictions"`

	Violations []evictions.Finding `json:"violations"`
	Incomplete []string            `json:"incomplete"`
}

// status is the exit status.
func (r *report) status() int {
	switch {
	case len(r.Violations) > 0:
		return exitViolated
	case len(r.Incomplete) > 0:
		return exitCannotJudge
	}
	return 0
}

// most is how many violations of one rule are printed.
const most = 20

// print prints it for people.
func (r *report) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name string, value any, notes ...string) {
		fmt.Fprintf(w, "%s\t%v\t%s\n", name, value, strings.Join(notes, "; "))
	}
	fmt.Fprintln(w)
	row("pods created", r.Created)
	row("bindings", r.Bound, fmt.Sprintf("and %d of an API server that was killed before it logged them", r.Unlogged))
	row("deleted", r.Deleted)
	row("evicted", r.Evictions.Evicted, fmt.Sprintf("preemptor known by Event %d, by nomination %d, unknown %d", r.Evictions.ByEvent, r.Evictions.ByNomination, r.Evictions.Unattributed),
		fmt.Sprintf("%d where the budget allowed none", r.Evictions.OverBudget))
	row("left in the end", r.Surviving, fmt.Sprintf("%d without a node", r.Waiting))
	for _, label := range slices.Sorted(maps.Keys(r.Faults)) {
		row("fault: "+label, r.Faults[label])
	}
	row("takeovers", r.Takeovers)
	for _, f := range r.Refusals {
		row("bindings refused", f.InTakeover+f.Otherwise, fmt.Sprintf("%d in takeovers", f.InTakeover), f.Reason)
	}
	for _, e := range r.Endings {
		row("ended by itself", e.Name, e.How, e.Log, cut(e.Last, 160))
	}
	row("longest without a bind", fmt.Sprintf("%.1f s", r.Pause.Seconds), "from "+r.Pause.From.Format("15:04:05"), strings.Join(r.Pause.Meanwhile, "; "))
	row("until at rest", fmt.Sprintf("%.1f s", r.Rest))
	w.Flush()
	for _, f := range r.Failed {
		fmt.Fprintln(out, "not as planned:", f)
	}
	for _, text := range r.Incomplete {
		fmt.Fprintln(out, "not judged:", text)
	}
	byRule := map[string]int{}
	for _, v := range r.Violations {
		if byRule[v.Rule]++; byRule[v.Rule] <= most {
			fmt.Fprintf(out, "VIOLATION %s %s: %s\n", v.Rule, v.Pod, v.Detail)
		}
	}
	for _, rule := range slices.Sorted(maps.Keys(byRule)) {
		if n := byRule[rule]; n > most {
			fmt.Fprintf(out, "VIOLATION %s: %d more\n", rule, n-most)
		}
	}
	fmt.Fprintf(out, "\n%d violations, seed %d\n", len(r.Violations), r.Seed)
}

func cut(s string, most int) string {
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// write writes it for programs.
func (r *report) write(file string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}
