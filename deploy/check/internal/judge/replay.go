// Package judge is the verdict on a recorded run: it replays a recording in
// resourceVersion order, lays the audit log beside it, and reports what a
// scheduler must never have done. It is pure: the same input gives the same
// report.
package judge

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-scheduler/berth/deploy/check/internal/audit"
	"github.com/berth-scheduler/berth/deploy/check/internal/history"
)

// Input is everything a judgement depends on.
type Input struct {
	Records []history.Record
	Binds   []audit.Bind
	// Until is the last resourceVersion to replay; 0 means all of them.
	Until uint64
	// SchedulerNames are those whose pods are judged. The pods of others
	// count for what they take from nodes and for nothing else.
	SchedulerNames []string
	// Lease is namespace/name of the lease that the watchers elect by.
	Lease string
	// PendingFit also reports each pending pod that a node has room for at
	// the end.
	PendingFit bool
}

// Judge replays in and reports on it. It does not change its input.
func Judge(in Input) Report {
	r := &replay{
		names: map[string]bool{},
		nodes: map[string]*corev1.Node{}, gone: map[string]bool{},
		byUID: map[types.UID]*pod{}, byName: map[string][]*pod{},
		on: map[string][]*pod{}, averse: map[*pod]bool{}, namespaces: map[string]*corev1.Namespace{}, effective: map[string][]*audit.Bind{},
		lease: in.Lease,
		// Empty lists, not absent ones: the report is read by scripts as JSON.
		report: Report{
			Violations: []Finding{}, Incomplete: []string{}, Observations: []Finding{},
			Outcomes: []Count{}, Binders: []Count{}, Refusals: []Refusal{}, Takeovers: []Takeover{},
		},
	}
	for _, name := range in.SchedulerNames {
		r.names[name] = true
	}
	records := inOrder(in.Records)
	r.binds = landed(in, records)
	for _, b := range r.binds {
		r.effective[b.Namespace+"/"+b.Pod] = append(r.effective[b.Namespace+"/"+b.Pod], b)
	}
	r.run(records, in.Until)
	r.judgeEnd(in.PendingFit)
	r.judgeBinds(in.Binds)
	return r.report
}

// replay is the cluster at one point of its history.
type replay struct {
	report Report
	names  map[string]bool // scheduler names that are judged
	lease  string

	nodes map[string]*corev1.Node // that exist now
	gone  map[string]bool         // names that existed before and do not now

	pods   []*pod // every incarnation, in the order of its first record
	byUID  map[types.UID]*pod
	byName map[string][]*pod // incarnations of namespace/name, oldest first
	on     map[string][]*pod // by node name: the pods that take resources there
	averse map[*pod]bool     // those of them that have a required anti-affinity to pods

	namespaces map[string]*corev1.Namespace // that exist now

	terms []term
	gaps  []history.Record
	// effective are the binds that took effect, by namespace/name of the pod.
	effective map[string][]*audit.Bind
	binds     []*audit.Bind // the same in order of time
	began     time.Time     // when the recorder had synced, zero when it did not say
}

// pod is one incarnation of a pod: its last state and what happened to it.
type pod struct {
	*corev1.Pod
	version  uint64 // of the last record applied
	judged   bool   // asks for one of our schedulers
	deleted  bool
	blurred  bool     // vanished in a gap: what happened to it last is not known
	bound    bool     // got its node by a bind in the replay
	nodes    []string // every node it was ever assigned to
	requests corev1.ResourceList
	demand   demand
}

func (p *pod) name() string { return p.Namespace + "/" + p.Name }

// takes reports whether the pod takes resources of its node: until it is in a
// terminal phase or gone, terminating or not.
func (p *pod) takes() bool {
	return !p.deleted && p.Spec.NodeName != "" && !p.finished()
}

func (p *pod) finished() bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// pending reports whether a scheduler still has to find the pod a node.
func (p *pod) pending() bool {
	return !p.deleted && p.Spec.NodeName == "" && p.DeletionTimestamp == nil && !p.finished()
}

// run applies the records, which are in order of resourceVersion. What was so before
// every kind was synced is where the replay begins: it is not judged.
func (r *replay) run(records []history.Record, until uint64) {
	for _, kind := range history.Kinds {
		i := slices.IndexFunc(records, func(rec history.Record) bool {
			return rec.Type == history.Synced && rec.Kind == kind
		})
		if i < 0 {
			r.report.incomplete("the recording was never synced for kind %s: start the recorder before the workload and wait for its first line", kind)
			continue
		}
		r.report.From = max(r.report.From, records[i].ResourceVersion)
		if t := records[i].Time; t != nil && t.After(r.began) {
			r.began = t.Time
		}
	}
	begun := false
	for i := range records {
		rec := &records[i]
		if until > 0 && rec.ResourceVersion > until {
			break
		}
		if !begun && rec.ResourceVersion > r.report.From {
			begun = true
			r.observeAll()
		}
		r.report.To = rec.ResourceVersion
		r.apply(rec)
	}
	if !begun {
		r.observeAll()
	}
}

func (r *replay) apply(rec *history.Record) {
	switch {
	case rec.Type == history.Gap:
		r.gaps = append(r.gaps, *rec)
		r.report.incomplete("events of kind %s between resourceVersion %d and %d are missing from the recording: the API server no longer had them",
			rec.Kind, rec.Since, rec.ResourceVersion)
	case rec.Node != nil:
		r.applyNode(rec)
	case rec.Namespace != nil:
		if rec.Type == history.Deleted {
			delete(r.namespaces, rec.Namespace.Name)
		} else {
			r.namespaces[rec.Namespace.Name] = rec.Namespace
		}
	case rec.Pod != nil:
		r.applyPod(rec)
	case rec.Lease != nil && rec.Type != history.Deleted:
		if rec.Lease.Namespace+"/"+rec.Lease.Name == r.lease {
			r.applyLease(rec)
		}
	}
}

func (r *replay) applyNode(rec *history.Record) {
	n := rec.Node
	old := r.nodes[n.Name]
	if rec.Type == history.Deleted {
		if old != nil && old.UID == n.UID {
			delete(r.nodes, n.Name)
			r.gone[n.Name] = true
		}
		return
	}
	r.nodes[n.Name] = n
	delete(r.gone, n.Name)
	if rec.ResourceVersion > r.report.From {
		r.observe(n.Name, rec.ResourceVersion, "node changed", old)
	}
}

func (r *replay) applyPod(rec *history.Record) {
	p, first := r.incarnation(rec.Pod)
	if rec.ResourceVersion <= p.version {
		return // two recorders' worth of the same event, or a listed object's echo
	}
	var was string
	var had corev1.ResourceList
	if p.Pod != nil {
		was, had = p.Spec.NodeName, p.requests
		r.remove(p)
	}
	p.Pod, p.version = rec.Pod, rec.ResourceVersion
	p.requests, p.demand = requestsOf(rec.Pod), demandOf(rec.Pod)
	if rec.Type == history.Deleted {
		p.deleted = true
		p.blurred = slices.ContainsFunc(r.gaps, func(g history.Record) bool {
			return g.Kind == history.Pod && rec.ResourceVersion > g.Since && rec.ResourceVersion <= g.ResourceVersion
		})
		return
	}
	node := p.Spec.NodeName
	if node == "" {
		return
	}
	others := slices.Clone(r.on[node])
	if p.takes() {
		r.on[node] = append(r.on[node], p)
		if len(p.demand.antiAffinity) > 0 {
			r.averse[p] = true
		}
	}
	live := rec.ResourceVersion > r.report.From
	switch {
	case node != was:
		p.nodes = append(p.nodes, node)
		// A pod that has a node in its first record was created with it,
		// unless the audit log knows of a bind that fell into a gap.
		p.bound = live && p.judged && (!first || r.answer(p) != nil)
		switch {
		case p.bound:
			r.judgeBind(p, others)
		case live && p.takes():
			r.observePod(p, "placed by others")
		}
	case live && p.takes() && grew(had, p.requests):
		r.observePod(p, "requests grew")
	}
}

// incarnation returns the pod that obj is a state of, and whether it is new.
// A new incarnation ends one of the same name that a gap kept alive.
func (r *replay) incarnation(obj *corev1.Pod) (p *pod, first bool) {
	if p := r.byUID[obj.UID]; p != nil && p.Namespace == obj.Namespace && p.Name == obj.Name {
		return p, false
	}
	p = &pod{judged: r.names[obj.Spec.SchedulerName]}
	name := obj.Namespace + "/" + obj.Name
	for _, old := range r.byName[name] {
		if !old.deleted {
			r.remove(old)
			old.deleted, old.blurred = true, true
		}
	}
	r.pods = append(r.pods, p)
	r.byUID[obj.UID] = p
	r.byName[name] = append(r.byName[name], p)
	return p, true
}

func (r *replay) remove(p *pod) {
	delete(r.averse, p)
	r.on[p.Spec.NodeName] = slices.DeleteFunc(r.on[p.Spec.NodeName], func(o *pod) bool { return o == p })
}

// answer returns the bind of p to its node that took effect, nil when the log has
// none.
func (r *replay) answer(p *pod) *audit.Bind {
	for _, b := range r.effective[p.name()] {
		if (b.UID == "" || b.UID == string(p.UID)) && (b.Node == "" || b.Node == p.Spec.NodeName) {
			return b
		}
	}
	return nil
}

// judgeBind judges the bind that put p on its node, where others were already.
func (r *replay) judgeBind(p *pod, others []*pod) {
	n := r.nodes[p.Spec.NodeName]
	if n == nil {
		detail := "no node of this name"
		if r.gone[p.Spec.NodeName] {
			detail = "the node was deleted before"
		}
		r.violate(NoSuchNode, p, detail)
		return
	}
	if b := r.answer(p); b != nil && b.NodeUID != "" && b.NodeUID != string(n.UID) {
		r.violate(NoSuchNode, p, fmt.Sprintf("bound to the incarnation %s, the node is %s", b.NodeUID, n.UID))
	}
	for _, b := range append(p.demand.breaches(n, others), r.podBreaches(p, n, r.simultaneous(p))...) {
		r.violate(b.rule, p, b.detail)
	}
	if !p.takes() {
		return
	}
	if over := exceeded(n, sum(r.on[n.Name]), p.requests); over != "" {
		r.violate(Overcommitted, p, over)
	}
}

func (r *replay) violate(rule Rule, p *pod, detail string) {
	r.report.Violations = append(r.report.Violations, Finding{
		Rule: rule, Pod: p.name(), UID: string(p.UID), Node: p.Spec.NodeName, ResourceVersion: p.version, Detail: detail,
	})
}

// observePod notes that p, which no judged scheduler put there just now,
// overcommits its node.
func (r *replay) observePod(p *pod, why string) {
	n := r.nodes[p.Spec.NodeName]
	if n == nil {
		return
	}
	if over := exceeded(n, sum(r.on[n.Name]), p.requests); over != "" {
		r.report.Observations = append(r.report.Observations, Finding{
			Rule: Overcommitted, Pod: p.name(), UID: string(p.UID), Node: n.Name, ResourceVersion: p.version, Detail: over + " (" + why + ")",
		})
	}
}

// observe notes that a node became overcommitted without a pod; old is the
// node as it was before, nil when there was none.
func (r *replay) observe(name string, version uint64, why string, old *corev1.Node) {
	total := sum(r.on[name])
	over := exceeded(r.nodes[name], total, nil)
	if over == "" || old != nil && exceeded(old, total, nil) == over {
		return
	}
	r.report.Observations = append(r.report.Observations, Finding{
		Rule: Overcommitted, Node: name, ResourceVersion: version, Detail: over + " (" + why + ")",
	})
}

// observeAll notes the nodes that are overcommitted when the replay begins.
func (r *replay) observeAll() {
	for _, name := range slices.Sorted(maps.Keys(r.nodes)) {
		r.observe(name, r.report.From, "before the recording", nil)
	}
}

// grew reports whether some request in now is larger than in before.
func grew(before, now corev1.ResourceList) bool {
	for name, q := range now {
		if q.Cmp(before[name]) > 0 {
			return true
		}
	}
	return false
}

// judgeEnd judges the state in which the replay ends.
func (r *replay) judgeEnd(pendingFit bool) {
	counts := &r.report.Pods
	for _, p := range r.pods {
		if !p.judged {
			continue
		}
		counts.Judged++
		switch {
		case p.bound:
			counts.Bound++
		case len(p.nodes) > 0:
			counts.Elsewhere++
		case !p.pending():
			counts.Gone++
		default:
			counts.Pending++
			if !explained(p.Pod) {
				r.violate(Lost, p, "pending without a PodScheduled=False condition that says why")
			}
		}
	}
	if counts.Judged == 0 {
		r.report.incomplete("no pod of the scheduler names %v is in the recording: check --scheduler-name", slices.Sorted(maps.Keys(r.names)))
	}
	if pendingFit {
		r.judgePending()
	}
}

// explained reports whether the pod's status says why it waits.
func explained(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason != ""
	})
}

// judgePending reports each pending pod that a node has room for: the first
// such node in order of names, and how many there are.
func (r *replay) judgePending() {
	names := slices.Sorted(maps.Keys(r.nodes))
	totals := map[string]corev1.ResourceList{}
	for _, name := range names {
		totals[name] = sum(r.on[name])
	}
	for _, p := range r.pods {
		if !p.judged || !p.pending() || len(p.Spec.SchedulingGates) > 0 {
			continue
		}
		var room []string
		for _, name := range names {
			if r.hasRoom(r.nodes[name], totals[name], p) {
				room = append(room, name)
			}
		}
		if len(room) > 0 {
			r.report.Violations = append(r.report.Violations, Finding{
				Rule: NodeHasRoom, Pod: p.name(), UID: string(p.UID), Node: room[0],
				Detail: fmt.Sprintf("node %s has room at the end (%d of %d nodes have)", room[0], len(room), len(names)),
			})
		}
	}
}

// hasRoom reports whether n, of which taken is in use, would take p.
// Resources come first: they rule out the most nodes at the least cost.
func (r *replay) hasRoom(n *corev1.Node, taken corev1.ResourceList, p *pod) bool {
	for name, want := range p.requests {
		if want.Sign() <= 0 {
			continue
		}
		left := n.Status.Allocatable[name].DeepCopy()
		left.Sub(taken[name])
		if want.Cmp(left) > 0 {
			return false
		}
	}
	return len(p.demand.breaches(n, r.on[n.Name])) == 0 && len(r.podBreaches(p, n, nil)) == 0
}
