package driver

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/watcher/internal/guard"
)

// decided commits the results of a batch in order.
func (d *Driver) decided(ev Decided) {
	o := d.take(ev.Batch)
	if o == nil {
		return // nothing is outstanding under that name
	}
	pods := o.Request.GetPods()
	if ev.Err == nil && !answers(ev.Response, pods) {
		ev.Err = fmt.Errorf("decider %s did not answer pod by pod: %d decisions for %d pods, or in another order",
			ev.Decider, len(ev.Response.GetDecisions()), len(pods))
		d.refusals[Refusal{ev.Decider, "malformed"}]++
	}
	if r := ev.Response; ev.Err == nil && (r.GetEpoch() != o.Epoch || r.GetVersion() < o.Version || r.GetVersion() > d.ledger.Version()) {
		ev.Err = fmt.Errorf("decider %s answered for version %d of epoch %q; it was asked for version %d of epoch %q, and that is now at %d",
			ev.Decider, r.GetVersion(), r.GetEpoch(), o.Version, o.Epoch, d.ledger.Version())
		d.refusals[Refusal{ev.Decider, "other-state"}]++
	}
	if ev.Err != nil {
		d.undecided(o, ev.Err)
		return
	}
	d.measure(o, ev.Took)

	c := &commit{batch: o, version: ev.Response.GetVersion(), decider: ev.Decider, dirty: map[string]bool{}}
	d.committing = o
	defer func() { d.committing = nil }()
	undecided := 0
	for i, decision := range ev.Response.GetDecisions() {
		p := d.decidedIn(o, pods[i].GetUid())
		switch {
		case p == nil:
			c.skip(decision) // it went away, or somebody else bound it
		case p.withdrawn:
			c.skip(decision)
			d.leave(p.object.UID)
		case p.sent != p.record:
			c.skip(decision)
			d.again(p) // it is not the pod that was decided about
		case !decides(decision):
			undecided++
			d.again(p)
		default:
			d.shareWith(p, 0)
			d.commit(c, p, pods[i], decision)
		}
		d.notice() // those before it in the batch did not know of it
	}
	if undecided == len(pods) {
		d.pause(o.SchedulerName) // not at once: nothing would be different
	} else {
		delete(d.pauses, o.SchedulerName)
	}
}

// decides is false for NOT_DECIDED and for what only a newer decider may say.
func decides(decision *berthv1.Decision) bool {
	switch decision.GetOutcome() {
	case berthv1.Outcome_OUTCOME_PLACED, berthv1.Outcome_OUTCOME_REJECTED,
		berthv1.Outcome_OUTCOME_UNSUPPORTED, berthv1.Outcome_OUTCOME_INVALID:
		return true
	}
	return false
}

// answers says whether a response has one decision per pod, in order.
func answers(r *berthv1.DecideResponse, pods []*berthv1.Pod) bool {
	return slices.EqualFunc(r.GetDecisions(), pods, func(d *berthv1.Decision, p *berthv1.Pod) bool {
		return d.GetPodUid() == p.GetUid()
	})
}

// commit is the state of committing one batch.
type commit struct {
	batch   *outstanding
	version uint64 // of the state that it was decided on
	decider string
	// dirty are the nodes on which an earlier pod of the batch was placed that is
	// not there after all: what was decided for them, or against the lack of room on
	// them, was decided on a state that never came to be.
	dirty map[string]bool
	// leaving says that pods were evicted for an earlier one: for rules between pods they
	// count as gone to the decider, and are there until they are.
	leaving bool
}

// skip notes that a decision is not committed as decided.
func (c *commit) skip(decision *berthv1.Decision) {
	if decision.GetOutcome() == berthv1.Outcome_OUTCOME_PLACED && len(decision.GetCandidates()) > 0 {
		c.dirty[decision.GetCandidates()[0].GetNodeName()] = true
	}
	if preemption := decision.GetPreemption(); preemption != nil {
		c.dirty[preemption.GetNodeName()] = true
	}
}

// commit carries one decision out; asked is the pod as it was asked about.
func (d *Driver) commit(c *commit, p *pod, asked *berthv1.Pod, decision *berthv1.Decision) {
	if decision.GetOutcome() != berthv1.Outcome_OUTCOME_UNSUPPORTED {
		p.unsupported = 0
	}
	switch decision.GetOutcome() {
	case berthv1.Outcome_OUTCOME_PLACED:
		d.commitPlaced(c, p, asked, decision)

	case berthv1.Outcome_OUTCOME_REJECTED:
		d.commitRejected(c, p, decision)

	case berthv1.Outcome_OUTCOME_UNSUPPORTED:
		d.nextDecider(p)
		if p.unsupported++; p.unsupported < d.config.Deciders[p.object.Spec.SchedulerName] {
			d.again(p)
			return
		}
		p.unsupported = 0
		d.reportFailed(p, corev1.PodReasonSchedulerError, fmt.Sprintf("no decider of %q understands the constraint %s; %s does not",
			p.object.Spec.SchedulerName, decision.GetRefusal().GetConstraint(), c.decider))
		d.reject(c, p, whateverMakesRoom)

	case berthv1.Outcome_OUTCOME_INVALID:
		d.reportFailed(p, corev1.PodReasonSchedulerError, fmt.Sprintf("decider %s cannot read the pod: %s: %s",
			c.decider, decision.GetRefusal().GetField(), decision.GetRefusal().GetMessage()))
		d.reject(c, p, whateverMakesRoom)
	}
}

// commitPlaced checks a placement against the ledger as it is now and, if it
// holds, promises the room and asks for the binding. A pod that does not interact with
// others gets the next node that the decider named where the first one is taken.
func (d *Driver) commitPlaced(c *commit, p *pod, asked *berthv1.Pod, decision *berthv1.Decision) {
	candidates := decision.GetCandidates()
	if len(candidates) == 0 {
		d.refuse(c, p, decision, "", "malformed", "it placed the pod without naming a node")
		return
	}
	// Pods that are counted on are not where they should be, or others have come or gone:
	// whatever node it is, the decider is not at fault.
	interacts := countsPods(asked)
	outdated := d.ledger.Outdated(p.object, c.version, c.batch.together)
	if interacts {
		candidates = candidates[:1]
	}
	var banned *verdict
	for i, candidate := range candidates {
		v := d.examine(c, p, candidate)
		if v.refusal != nil && p.bans[ban{c.decider, v.node}] && i+1 < len(candidates) {
			banned = &v
			continue
		}
		if v.refusal != nil {
			d.refuse(c, p, decision, v.node, v.refusal.Reason, v.refusal.Message)
			return
		}
		if outdated || interacts && (len(c.dirty) > 0 || c.leaving) {
			break
		}
		if v.fits {
			if i > 0 {
				c.skip(decision)
				c.batch.taken[v.node] = true // the pods after it do not know
			}
			if i > 0 && banned == nil {
				d.conflicts.Next++
			}
			d.promise(c, p, v.node)
			return
		}
	}
	c.skip(decision)
	d.stale++
	d.again(p)
	switch {
	case outdated: // the fewer are decided at a time, the less happens meanwhile
		d.shareWith(p, max(len(c.batch.Request.GetPods())/2, 1))
	case slices.ContainsFunc(candidates, func(candidate *berthv1.Candidate) bool { return c.batch.taken[candidate.GetNodeName()] }):
		d.conflicts.Again++
	}
}

// verdict is what becomes of a candidate: it fits, or is refused, or else the decider
// could not know that it would not do.
type verdict struct {
	node    string
	fits    bool
	refusal *guard.Refusal
}

// examine looks at one node that a decider named.
func (d *Driver) examine(c *commit, p *pod, candidate *berthv1.Candidate) verdict {
	name := candidate.GetNodeName()
	v := verdict{node: name}
	node, usage := d.ledger.Node(name)
	changed := d.ledger.ChangedSince(name, c.version)
	switch {
	case node == nil && !changed:
		v.refusal = &guard.Refusal{Reason: "unknown-node", Message: fmt.Sprintf("node %q was not among those it was sent", name)}
		return v
	case !changed && candidate.GetNodeUid() != string(node.UID):
		v.refusal = &guard.Refusal{Reason: "unknown-node", Message: fmt.Sprintf("node %q has uid %q, not %q", name, node.UID, candidate.GetNodeUid())}
		return v
	case changed, c.dirty[name]:
		// It changed, went away, or does not hold what the decider thought it would.
		return v
	}
	refusal := guard.Check(p.object, node, *usage)
	if refusal == nil && d.ledger.CrowdsOut(p.object, name) {
		if len(c.dirty) > 0 {
			return v // a pod before it may have been meant to leave that room
		}
		refusal = &guard.Refusal{Reason: "nominated", Message: "the room on the node is set aside for pods of no lower priority"}
	}
	switch {
	case refusal == nil:
		v.fits = true
	case !c.batch.taken[name]: // else another batch was faster
		v.refusal = refusal
	}
	return v
}

// promise gives the pod room on the node and asks for the binding.
func (d *Driver) promise(c *commit, p *pod, node string) {
	object, _ := d.ledger.Node(node)
	uid := object.UID
	p.refusals = 0
	d.endPreemption(p) // what was to make room is not needed, or has made it
	d.setPhase(p, binding)
	d.ledger.Assume(p.object, node, c.batch.together)
	for _, o := range d.outstanding {
		o.taken[node] = true
	}
	d.queue.PassOn(d.now, p.object.UID, node)
	p.promised = d.ledger.Version()
	d.promised = append(d.promised, Bind{
		Pod: p.object, Node: node, Attempt: d.queue.Get(p.object.UID).Attempts, Asked: c.batch.Asked, nodeUID: uid,
	})
}

// bindNext puts into Ready the bindings that may be sent, in the order of their promises.
// A pod that its node does not take any more, or that was placed near or away from others who were
// not bound after all, is decided about again. One that must be near others waits until
// one of them is bound: by itself it would be where it must not be.
func (d *Driver) bindNext() {
	var waiting []Bind
	i := 0
	for ; i < len(d.promised); i++ {
		if d.config.MaxSent > 0 && d.unheard >= d.config.MaxSent {
			break
		}
		b := d.promised[i]
		p := d.pods[b.Pod.UID]
		switch {
		case p == nil || p.phase != binding || p.promised == 0:
			continue // it is gone, or somebody else bound it
		case p.withdrawn:
			d.forget(p)
			d.leave(p.object.UID)
			continue
		case d.ledger.Deserted(p.object, p.promised), d.ledger.ChangedSince(b.Node, p.promised) && !d.takes(b, p):
			d.stale++
			d.forget(p)
			d.again(p)
			continue
		case d.ledger.Awaits(p.object):
			waiting = append(waiting, b)
			continue
		}
		p.promised = 0
		d.unheard++
		d.ready.Bind = append(d.ready.Bind, b)
	}
	left := d.promised[i-len(waiting):]
	copy(left, waiting)
	if d.promised = left; len(left) == 0 {
		d.promised = nil
	}
}

// takes says whether the node of a promise is still the one that it was and takes the pod.
func (d *Driver) takes(b Bind, p *pod) bool {
	node, _ := d.ledger.Node(b.Node)
	return node != nil && node.UID == b.nodeUID && guard.Check(p.object, node, d.ledger.Beside(p.object.UID)) == nil
}

// commitRejected lets the pod wait for what it was rejected for, and makes room for it
// if the decider says where.
func (d *Driver) commitRejected(c *commit, p *pod, decision *berthv1.Decision) {
	if len(c.dirty) > 0 {
		c.skip(decision)
		d.stale++
		d.again(p)
		return
	}
	rejection := decision.GetRejection()
	if preemption := decision.GetPreemption(); preemption != nil && !d.preempt(c, p, decision) {
		return
	} else if preemption == nil && givesUp(rejection) {
		d.unnominate(p)
	}
	p.refusals = 0
	d.reportFailed(p, corev1.PodReasonUnschedulable, rejection.GetMessage())
	d.reject(c, p, rejection.GetWakeConditions())
}

// countsPods says whether the pod's node depends on which pods are on others. Of a
// profile's default spread constraints no name tells, nor whether they are hard: they
// may hold for every pod that belongs to others and has no constraints of its own.
func countsPods(p *berthv1.Pod) bool {
	if p.GetSpreadSelector() != nil && len(p.GetTopologySpreadConstraints()) == 0 {
		return true
	}
	return slices.ContainsFunc(p.GetConstraints(), func(name string) bool {
		switch name {
		case berthv1.ConstraintPodTopologySpread, berthv1.ConstraintPodAffinity,
			berthv1.ConstraintPodAntiAffinity, berthv1.ConstraintExistingAntiAffinity:
			return true
		}
		return false
	})
}

// ban is an answer that was refused. Where a decider names the node again, and it would be
// refused again, the next one that it names is taken.
type ban struct{ decider, node string }

// maxBans is how many are remembered of a pod.
const maxBans = 16

// refuse turns down an answer that must not be carried out. The decider is
// counted by name; the pod backs off, and goes to the next decider after
// refusalsPerDecider of them. node is the one that was named, if any.
func (d *Driver) refuse(c *commit, p *pod, decision *berthv1.Decision, node, reason, message string) {
	c.skip(decision)
	d.refusals[Refusal{c.decider, reason}]++
	d.reportFailed(p, corev1.PodReasonSchedulerError, fmt.Sprintf("refused the answer of decider %s: %s", c.decider, message))
	if node != "" {
		if p.bans == nil || len(p.bans) >= maxBans {
			p.bans = map[ban]bool{}
		}
		p.bans[ban{c.decider, node}] = true
	}
	p.refusals++
	if p.refusals >= refusalsPerDecider {
		d.nextDecider(p)
		p.refusals = 0
	}
	d.fail(p)
}

// nextDecider moves a pod to its scheduler name's next decider; after the last
// comes the first.
func (d *Driver) nextDecider(p *pod) {
	e := d.queue.Get(p.object.UID)
	g := e.Group
	g.Fallback = (g.Fallback + 1) % max(d.config.Deciders[g.SchedulerName], 1)
	d.queue.Regroup(e.UID, g)
}

// shareWith sets the most pods in the pod's next batch, itself included; 0 is as
// usual. Where a whole batch fails its pods go on in halves, so that one that fails
// whatever batch it is in is alone with its fault in the end.
func (d *Driver) shareWith(p *pod, most int) {
	if e := d.queue.Get(p.object.UID); e.Group.Most != most {
		g := e.Group
		g.Most = most
		d.queue.Regroup(e.UID, g)
	}
}

// again, fail and reject put a pod whose decision has come back to the queue: to
// be asked again at once, after its backoff, or when something has changed.
func (d *Driver) again(p *pod) {
	d.setPhase(p, queued)
	d.queue.Return(p.object.UID)
}

func (d *Driver) fail(p *pod) {
	d.setPhase(p, queued)
	d.queue.Fail(d.now, p.object.UID)
}

func (d *Driver) reject(c *commit, p *pod, waitsFor []*berthv1.WakeCondition) {
	d.setPhase(p, queued)
	p.waitsFor = waitsFor
	d.queue.Reject(d.now, p.object.UID, interestOf(waitsFor), d.classOf(p))
	came := d.deciders != c.batch.deciders
	for change := range c.batch.since {
		came = came || d.worth(p, change) > 0
	}
	if came { // what it waits for, while the decision was in flight
		d.queue.Wake(d.now, p.object.UID)
	}
}
