// Package takeover is when one watcher stopped binding and the next began: from the API
// server's audit log and the Lease.
package takeover

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/berth-scheduler/berth/deploy/bench/internal/result"
)

// A Bind is a binding that the API server answered with success.
type Bind struct {
	// Watcher is the identity that the user agent names.
	Watcher string
	// Received is when the API server had the request, Done when it had answered.
	Received, Done time.Time
}

// ReadBinds returns the watchers' successful bindings in an audit log of JSON lines.
func ReadBinds(r io.Reader) ([]Bind, error) {
	var binds []Bind
	in := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return binds, nil // a last line without its end is still being written
		}
		if err != nil {
			return nil, err
		}
		if !bytes.Contains(line, []byte("binding")) {
			continue
		}
		var ev struct {
			Stage, Verb, UserAgent string
			ObjectRef              struct{ Resource, Subresource string }
			ResponseStatus         struct{ Code int }
			Received               time.Time `json:"requestReceivedTimestamp"`
			Done                   time.Time `json:"stageTimestamp"`
		}
		if err := json.Unmarshal(line, &ev); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		_, identity, found := strings.Cut(ev.UserAgent, "(")
		if ev.Verb != "create" || ev.Stage != "ResponseComplete" || ev.ObjectRef.Resource != "pods" || ev.ObjectRef.Subresource != "binding" ||
			ev.ResponseStatus.Code/100 != 2 || !found || !strings.HasPrefix(ev.UserAgent, "berth-watcher/") {
			continue
		}
		binds = append(binds, Bind{strings.TrimSuffix(identity, ")"), ev.Received, ev.Done})
	}
}

// A Change is one change of the leader, as whoever killed the old one saw it.
type Change struct {
	Old, New string // identities
	// Killed is when the old one was gone, LeaseEnd when its Lease was over: the last
	// renewal and the Lease's duration. Acquired is when the new one says it got the Lease.
	Killed, LeaseEnd, Acquired time.Time
}

// A Run is one takeover in seconds. Its JSON is what programs read.
type Run struct {
	Round int `json:"round"`
	Nodes int `json:"nodes"`
	Pods  int `json:"pods"`
	// Before and After are how many pods the old and the new leader bound, Unheard how many
	// the API server bound for one of them that was not there any more to hear of it, and
	// OldAfter how many the old one bound that the API server received after the new one's
	// first.
	Before   int `json:"boundByOld"`
	After    int `json:"boundByNew"`
	Unheard  int `json:"boundUnheard"`
	OldAfter int `json:"boundByOldAfterFirstOfNew"`
	// To the new leader's first bind: from the kill, from the end of the Lease, and from
	// when it acquired it.
	FromKill     float64 `json:"killToBindSeconds"`
	FromLeaseEnd float64 `json:"leaseEndToBindSeconds"`
	FromAcquired float64 `json:"acquiredToBindSeconds"`
	// Gap is from the old leader's last bind to the new one's first.
	Gap float64 `json:"lastToFirstBindSeconds"`
	result.Verdict
}

// Measure fills in what the binds say of the change; bound is how many pods have a node.
func (r *Run) Measure(binds []Bind, c Change, bound int) {
	var first Bind
	var last time.Time
	for _, b := range binds {
		switch b.Watcher {
		case c.New:
			if r.After++; first.Done.IsZero() || b.Done.Before(first.Done) {
				first = b
			}
		case c.Old:
			if r.Before++; b.Done.After(last) {
				last = b.Done
			}
		}
	}
	r.Unheard = bound - len(binds)
	switch {
	case r.Before == 0:
		r.Problems = append(r.Problems, "the old leader bound no pod")
	case r.After == 0:
		r.Problems = append(r.Problems, "the new leader bound no pod")
	}
	if r.Before == 0 || r.After == 0 {
		return
	}
	for _, b := range binds {
		if b.Watcher == c.Old && b.Received.After(first.Received) {
			r.OldAfter++
		}
	}
	if r.OldAfter > 0 {
		r.Violated = true
		r.Problems = append(r.Problems, fmt.Sprintf("the old leader bound %d pods after the new one's first", r.OldAfter))
	}
	r.FromKill = first.Done.Sub(c.Killed).Seconds()
	r.FromLeaseEnd = first.Done.Sub(c.LeaseEnd).Seconds()
	r.FromAcquired = first.Done.Sub(c.Acquired).Seconds()
	r.Gap = first.Done.Sub(last).Seconds()
}

// Table is the runs for people.
func Table(runs []Run) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "round\tnodes\tpods\tkill to bind\tlease end to bind\tacquired to bind\tlast to first bind\tbound by old\tunheard\tby new\told after new\t")
	for _, r := range runs {
		fmt.Fprintf(w, "%d\t%d\t%d\t%.2f s\t%.2f s\t%.2f s\t%.2f s\t%d\t%d\t%d\t%d\t\n",
			r.Round, r.Nodes, r.Pods, r.FromKill, r.FromLeaseEnd, r.FromAcquired, r.Gap, r.Before, r.Unheard, r.After, r.OldAfter)
	}
	w.Flush()
	counted := slices.DeleteFunc(slices.Clone(runs), func(r Run) bool { return len(r.Problems) > 0 })
	if len(counted) > 1 {
		fmt.Fprintf(&b, "medians of %d rounds: kill to bind %.2f s, lease end to bind %.2f s, acquired to bind %.2f s\n", len(counted),
			median(counted, func(r Run) float64 { return r.FromKill }), median(counted, func(r Run) float64 { return r.FromLeaseEnd }),
			median(counted, func(r Run) float64 { return r.FromAcquired }))
	}
	for _, r := range runs {
		for _, p := range r.Problems {
			fmt.Fprintf(&b, "DOES NOT COUNT: round %d: %s\n", r.Round, p)
		}
	}
	return b.String()
}

func median(runs []Run, of func(Run) float64) float64 {
	var all []float64
	for _, r := range runs {
		all = append(all, of(r))
	}
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

// A Report is all runs. Its JSON is what programs read.
type Report struct {
	Runs []Run `json:"runs"`
}
