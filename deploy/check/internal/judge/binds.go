package judge

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/berth-scheduler/berth/deploy/check/internal/audit"
	"github.com/berth-scheduler/berth/deploy/check/internal/history"
)

// term is one holder's time with the lease.
type term struct {
	identity string
	version  uint64    // of the lease when the holder got it
	acquired time.Time // by the holder's clock; zero when the lease does not say
	first    *audit.Bind
	last     *audit.Bind // before the next term's first bind
}

// applyLease begins a term when the lease got another holder. A lease that is
// released has none; the same holder may then come back.
func (r *replay) applyLease(rec *history.Record) {
	spec := rec.Lease.Spec
	if spec.HolderIdentity == nil || *spec.HolderIdentity == "" {
		return
	}
	if n := len(r.terms); n > 0 && r.terms[n-1].identity == *spec.HolderIdentity {
		return
	}
	t := term{identity: *spec.HolderIdentity, version: rec.ResourceVersion}
	if spec.AcquireTime != nil {
		t.acquired = spec.AcquireTime.Time
	}
	r.terms = append(r.terms, t)
}

// judgeBinds lays the audit log beside the history.
func (r *replay) judgeBinds(binds []audit.Bind) {
	var ours []*audit.Bind
	kept := map[*pod]*audit.Bind{} // first bind answered 2xx
	tried := map[*pod]bool{}       // pods with an attempt that may have bound them
	shallow := 0                   // binds whose target the log does not tell
	for i := range binds {
		b := &binds[i]
		p := r.target(b)
		switch {
		case p == nil && b.OK() && !b.Received.Before(r.began):
			r.report.incomplete("the audit log has a bind of pod %s/%s (%s) answered %d, but the recording does not know the pod",
				b.Namespace, b.Pod, b.UID, b.Code)
			continue
		case p == nil && b.Identity() == "", p != nil && !p.judged:
			continue
		case b.Received.Before(r.began) && (p == nil || !p.bound):
			continue // from before the recording, which does not know who led then
		}
		ours = append(ours, b)
		if p == nil {
			continue
		}
		tried[p] = tried[p] || !b.Refused()
		if b.Shallow {
			shallow++
		}
		if b.OK() {
			r.judgeAnswer(p, b, kept)
		}
	}
	if shallow > 0 {
		r.report.incomplete("the audit log keeps no request object of %d binds: let the audit policy record pods/binding at level Request or RequestResponse", shallow)
	}
	unlogged := 0
	for _, p := range r.pods {
		if p.bound && !tried[p] {
			unlogged++
		}
	}
	if unlogged > 0 {
		r.report.incomplete("%d pods were bound in the replay without a bind in the audit log: pass every file of the log with --audit-log", unlogged)
	}
	slices.SortStableFunc(ours, func(a, b *audit.Bind) int { return a.Received.Compare(b.Received) })
	r.judgeLeaders(ours)
	r.countBinds(ours)
}

// target returns the pod that b was about, nil when the recording has none.
// Without a UID in the log it is the incarnation that is, or was, on the
// node, else the newest.
func (r *replay) target(b *audit.Bind) *pod {
	pods := r.byName[b.Namespace+"/"+b.Pod]
	if b.UID != "" {
		i := slices.IndexFunc(pods, func(p *pod) bool { return string(p.UID) == b.UID })
		if i < 0 {
			return nil
		}
		return pods[i]
	}
	if i := slices.IndexFunc(pods, func(p *pod) bool { return slices.Contains(p.nodes, b.Node) }); i >= 0 {
		return pods[i]
	}
	if len(pods) == 0 {
		return nil
	}
	return pods[len(pods)-1]
}

// judgeAnswer judges a bind of p that was answered 2xx.
func (r *replay) judgeAnswer(p *pod, b *audit.Bind, kept map[*pod]*audit.Bind) {
	finding := Finding{Pod: p.name(), UID: string(p.UID), Node: b.Node}
	if first := kept[p]; first != nil {
		finding.Rule = BoundTwice
		finding.Detail = fmt.Sprintf("answered %d for node %s at %s and again at %s", first.Code, first.Node, stamp(first.Received), stamp(b.Received))
		r.report.Violations = append(r.report.Violations, finding)
	} else {
		kept[p] = b
	}
	assigned := slices.Contains(p.nodes, b.Node) || b.Node == "" && len(p.nodes) > 0
	if !assigned && !p.blurred {
		finding.Rule = BindNotKept
		finding.Detail = fmt.Sprintf("answered %d at %s, but the pod was never on this node", b.Code, stamp(b.Received))
		if len(p.nodes) > 0 {
			finding.Detail += " (it was on " + strings.Join(p.nodes, ", ") + ")"
		}
		r.report.Violations = append(r.report.Violations, finding)
	}
}

// judgeLeaders reports the binds of watchers that were no longer, or never,
// the leader. ours are in order of time; all of them by the API server's
// clock, so leaders' clocks decide only which of several terms of the same
// holder a bind belongs to.
func (r *replay) judgeLeaders(ours []*audit.Bind) {
	if len(r.terms) == 0 {
		return // no lease in use, hence no order of leaders
	}
	for _, b := range ours {
		if i := r.termOf(b); i >= 0 && r.terms[i].first == nil {
			r.terms[i].first = b
		}
	}
	for _, b := range ours {
		identity := b.Identity()
		if identity == "" {
			continue
		}
		finding := Finding{Pod: b.Namespace + "/" + b.Pod, UID: b.UID, Node: b.Node}
		mine := r.termOf(b)
		if mine < 0 {
			finding.Rule = NotLeader
			finding.Detail = fmt.Sprintf("bind by %s at %s (answer %d), which never held the lease %s", identity, stamp(b.Received), b.Code, r.lease)
			r.report.Violations = append(r.report.Violations, finding)
			continue
		}
		late := slices.IndexFunc(r.terms[mine+1:], func(t term) bool {
			return t.identity != identity && t.first != nil && t.first.Received.Before(b.Received)
		})
		if late < 0 {
			r.terms[mine].last = b
			continue
		}
		successor := r.terms[mine+1+late]
		finding.Rule = OldLeader
		finding.Detail = fmt.Sprintf("bind by %s at %s (answer %d), after %s had taken over the lease at resourceVersion %d and bound first at %s",
			identity, stamp(b.Received), b.Code, successor.identity, successor.version, stamp(successor.first.Received))
		r.report.Violations = append(r.report.Violations, finding)
	}
}

// termOf returns the index of the last term of b's sender that had begun when
// b was received, -1 when it had none ever. A holder's first term counts
// whatever its clock says.
func (r *replay) termOf(b *audit.Bind) int {
	found := -1
	for i, t := range r.terms {
		if t.identity == b.Identity() && (found < 0 || !t.acquired.After(b.Received)) {
			found = i
		}
	}
	return found
}

// countBinds fills the report's counts. ours are in order of time.
func (r *replay) countBinds(ours []*audit.Bind) {
	var prev *term
	for i := range r.terms {
		t := &r.terms[i]
		if t.first == nil {
			continue // held the lease and bound nothing: nobody could notice
		}
		if prev != nil {
			r.report.Takeovers = append(r.report.Takeovers, Takeover{
				From: prev.identity, To: t.identity, LastBind: lastBefore(prev, t), FirstBind: t.first.Received,
			})
		}
		prev = t
	}
	outcomes, binders := map[string]int{}, map[string]int{}
	refusals := map[Refusal]*Refusal{}
	for _, b := range ours {
		outcomes[outcome(b)]++
		binders[b.UserAgent]++
		if !b.Refused() {
			continue
		}
		key := Refusal{Code: b.Code, Reason: b.Reason, Message: anonymous(b)}
		if refusals[key] == nil {
			refusals[key] = &Refusal{Code: key.Code, Reason: key.Reason, Message: key.Message}
		}
		if slices.ContainsFunc(r.report.Takeovers, func(t Takeover) bool { return t.contains(b.Received) }) {
			refusals[key].Inside++
		} else {
			refusals[key].Outside++
		}
	}
	r.report.Outcomes, r.report.Binders = counts(outcomes), counts(binders)
	for _, ref := range refusals {
		r.report.Refusals = append(r.report.Refusals, *ref)
	}
	slices.SortFunc(r.report.Refusals, func(a, b Refusal) int {
		return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Message, b.Message))
	})
}

// lastBefore is when the takeover from prev to next begins.
func lastBefore(prev, next *term) time.Time {
	if prev.last != nil && prev.last.Received.Before(next.first.Received) {
		return prev.last.Received
	}
	return next.first.Received
}

func outcome(b *audit.Bind) string {
	switch {
	case b.OK():
		return "bound"
	case b.Refused():
		return "refused"
	case b.Code == 0:
		return "unanswered"
	}
	return "failed"
}

func counts(m map[string]int) []Count {
	out := []Count{}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, Count{name, m[name]})
	}
	return out
}

var (
	quoted = regexp.MustCompile(`"[^"]*"`)
	uids   = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
)

// anonymous returns the message of b without names and UIDs.
func anonymous(b *audit.Bind) string {
	msg := quoted.ReplaceAllString(b.Message, `"…"`)
	msg = uids.ReplaceAllString(msg, "UID")
	if b.Pod == "" {
		return msg
	}
	// The pod's name stands unquoted in "pod NAME is already assigned".
	return strings.ReplaceAll(msg, "pod "+b.Pod+" ", "pod … ")
}

func stamp(t time.Time) string { return t.UTC().Format("15:04:05.000000Z") }
