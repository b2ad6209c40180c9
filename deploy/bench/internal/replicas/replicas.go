// Package replicas is what came out of letting several replicas of one decider work side by
// side: as a table, and as JSON.
package replicas

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/berth-scheduler/berth/deploy/bench/internal/result"
)

// A Run is one workload, once. Its JSON is what programs read.
type Run struct {
	Workload string `json:"workload"`
	Deciders int    `json:"deciders"`
	Round    int    `json:"round"`
	Pods     int    `json:"pods"`
	// Bound is how many of them got a node, FirstToLast within how many seconds from the
	// first to the last of them, and Middle from the first tenth to nine tenths.
	Bound       int     `json:"bound"`
	FirstToLast float64 `json:"firstToLastSeconds"`
	Middle      float64 `json:"middleSeconds"`
	// Decisions are those that were asked for, a pod's every turn counted; Placements the
	// bindings that succeeded.
	Decisions  int `json:"decisions"`
	Placements int `json:"placements"`
	// Next and Again are conflicts: the room was promised out of another batch, and the
	// pod got the next node that the decider had named or was asked about again.
	Next  int `json:"conflictsNext"`
	Again int `json:"conflictsAgain"`
	// Stale are decisions that were asked again because the cluster had changed, those of
	// Again among them; Refusals those that would have been wrong.
	Stale    int `json:"stale"`
	Refusals int `json:"refusals"`
	// Hedges are batches that went to two replicas.
	Hedges int `json:"hedges"`
	// Shares are how many decisions each replica made, the least first.
	Shares []int `json:"shares"`
	result.Verdict
}

// perSecond is how many pods were bound a second from the first to the last bind.
func (r Run) perSecond() float64 { return ratio(float64(r.Bound), r.FirstToLast) }

// middlePerSecond is the same without the first and the last tenth.
func (r Run) middlePerSecond() float64 { return ratio(0.8*float64(r.Bound), r.Middle) }

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// Spread is the median of some numbers, and the least and the greatest.
type Spread struct {
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
}

func spread(of []float64) Spread {
	if len(of) == 0 {
		return Spread{}
	}
	of = slices.Sorted(slices.Values(of))
	return Spread{(of[(len(of)-1)/2] + of[len(of)/2]) / 2, of[0], of[len(of)-1]}
}

// String is the median, and the others behind it.
func (s Spread) String() string { return fmt.Sprintf("%.2f (%.2f to %.2f)", s.Median, s.Least, s.Most) }

// A Speedup is how many times as fast several deciders were as one, of the rounds in which
// both count.
type Speedup struct {
	Workload string `json:"workload"`
	Deciders int    `json:"deciders"`
	Rounds   int    `json:"rounds"`
	// FirstToLast compares pods a second from the first to the last bind, Middle those
	// between the first and the last tenth.
	FirstToLast Spread `json:"firstToLast"`
	Middle      Spread `json:"middle"`
}

// Speedups compares the runs of each workload with those of one decider in the same round.
func Speedups(runs []Run) []Speedup {
	var all []Speedup
	for _, r := range runs {
		if r.Deciders == 1 || slices.ContainsFunc(all, func(s Speedup) bool { return s.Workload == r.Workload && s.Deciders == r.Deciders }) {
			continue
		}
		var whole, middle []float64
		for _, several := range runs {
			if several.Workload != r.Workload || several.Deciders != r.Deciders || len(several.Problems) > 0 {
				continue
			}
			for _, one := range runs {
				if one.Workload == r.Workload && one.Deciders == 1 && one.Round == several.Round && len(one.Problems) == 0 {
					whole = append(whole, ratio(several.perSecond(), one.perSecond()))
					middle = append(middle, ratio(several.middlePerSecond(), one.middlePerSecond()))
				}
			}
		}
		if len(whole) > 0 {
			all = append(all, Speedup{r.Workload, r.Deciders, len(whole), spread(whole), spread(middle)})
		}
	}
	return all
}

// Table is the runs for people, and the speedups below them.
func Table(runs []Run) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "workload\tdeciders\tround\tpods\tfirst/s\tmiddle/s\tplaced\tdecisions/placed\tnext\tagain\tstale\trefused\thedged\tshares\t")
	for _, r := range runs {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%.1f\t%.1f\t%d\t%.3f\t%d\t%d\t%d\t%d\t%d\t%s\t\n",
			r.Workload, r.Deciders, r.Round, r.Pods, r.perSecond(), r.middlePerSecond(), r.Placements,
			ratio(float64(r.Decisions), float64(r.Placements)), r.Next, r.Again, r.Stale, r.Refusals, r.Hedges, shares(r.Shares))
	}
	w.Flush()
	for _, r := range runs {
		for _, p := range r.Problems {
			fmt.Fprintf(&b, "DOES NOT COUNT: %s, %d deciders, round %d: %s\n", r.Workload, r.Deciders, r.Round, p)
		}
	}
	for _, s := range Speedups(runs) {
		fmt.Fprintf(&b, "%s: %d deciders are %s times as fast as one from the first to the last bind, %s in the middle, in %d rounds\n",
			s.Workload, s.Deciders, s.FirstToLast, s.Middle, s.Rounds)
	}
	return b.String()
}

// shares are the least and the greatest part of the decisions that one replica made.
func shares(of []int) string {
	all := 0
	for _, n := range of {
		all += n
	}
	if all == 0 {
		return "-"
	}
	percent := func(n int) int { return (100*n + all/2) / all }
	return fmt.Sprintf("%d-%d%%", percent(slices.Min(of)), percent(slices.Max(of)))
}

// A Report is all runs. Its JSON is what programs read.
type Report struct {
	Runs     []Run     `json:"runs"`
	Speedups []Speedup `json:"speedups"`
}
