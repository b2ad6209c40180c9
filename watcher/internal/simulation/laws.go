package simulation

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/watcher/encode"
	"github.com/berth-scheduler/berth/watcher/internal/driver"
	"github.com/berth-scheduler/berth/watcher/internal/guard"
)

// The laws, by the names that stories and lists of bugs use.
const (
	lawOnePlace   = "one place"         // a pod is in exactly one place
	lawNotLost    = "not lost"          // a pod that waits is known to wait
	lawPath       = "path"              // a pod takes no way that is not drawn
	lawPromise    = "promise"           // a promise ends with what the API server says
	lawWithdrawn  = "withdrawn"         // nothing is done for a pod that is gone, gated or being deleted
	lawOnce       = "bound once"        // one binding of a pod is under way at most
	lawRoom       = "room"              // nothing is committed onto a node that the ledger shows full
	lawOvercommit = "overcommit"        // our bindings alone fit on the node
	lawApart      = "between pods"      // our commits together break no constraint between pods
	lawAside      = "nominated space"   // room set aside for the more important is not given away
	lawFence      = "one leader"        // no binding arrives when another process has the Lease
	lawInherited  = "inherited"         // a new leader knows what was bound before it
	lawState      = "state"             // no decision about another state is committed
	lawBlame      = "blame"             // no decider is blamed for an honest answer
	lawVictims    = "victims"           // only the less important are evicted, once
	lawOnePreempt = "one preemption"    // one is outstanding per node and per budget
	lawMissed     = "missed wake-up"    // nobody is woken by the net alone
	lawStarved    = "starvation"        // nobody is passed over for ever
	lawPlaced     = "placed in the end" // without faults, whatever fits is bound
	lawRest       = "rest"              // without faults, the work ends
	lawTruth      = "truth"             // in the end the ledger is what the API server has
	lawFeed       = "feed"              // what deciders are told follows on what they were told
	lawTimer      = "timer"             // time to be woken is to come
	lawNoPanic    = "no panic"
)

// Laws are the names of all laws.
var Laws = []string{lawOnePlace, lawNotLost, lawPath, lawPromise, lawWithdrawn, lawOnce, lawRoom, lawOvercommit, lawApart, lawAside,
	lawFence, lawInherited, lawState, lawBlame, lawVictims, lawOnePreempt, lawMissed, lawStarved, lawPlaced, lawRest, lawTruth, lawFeed, lawTimer, lawNoPanic}

// mostPassed is how many batches in a row may leave out a pod that could be in them:
// there are no more than a dozen pods, and all but those that fail leave the queue.
const mostPassed = 30

// look sees where the driver has each pod after an event, or, without one, after it has
// handed out work.
func (p *process) look(ev driver.Event) {
	w := p.w
	kept := p.pods[:0]
	for _, s := range p.pods {
		at := p.driver.Where(s.uid)
		to := placeOf(at)
		p.checkPlace(s, at, to)
		if to != s.place {
			from := s.place
			s.place = to
			p.moved(s, from, ev)
		}
		if s.object == nil && to == nowhere {
			delete(p.byUID, s.uid)
			continue
		}
		kept = append(kept, s)
	}
	clear(p.pods[len(kept):])
	p.pods = kept
	if stats := p.driver.Stats(); stats.Netted != p.netted || len(stats.Refusals) > 0 {
		w.tally.Netted += stats.Netted - p.netted
		p.netted = stats.Netted
		for r := range stats.Refusals {
			if r.Decider != "liar" && r.Decider != "former" {
				w.fail(lawBlame, "%s has refused an honest answer of %s: %s", p, r.Decider, r.Reason)
			}
		}
	}
}

// checkPlace is the laws of one pod at one moment.
func (p *process) checkPlace(s *sighting, at driver.Where, to Place) {
	w := p.w
	inQueue, holds := at.Queue != "", at.Node != ""
	switch {
	case to == out:
		w.fail(lawNotLost, "%s has %s out of the queue for nobody", p, s.uid)
	case inQueue != (at.Phase != ""):
		w.fail(lawOnePlace, "%s has %s in phase %q, and in the queue: %q", p, s.uid, at.Phase, at.Queue)
	case inQueue && (at.Queue == "out") == (to == active || to == backoff || to == waiting):
		w.fail(lawOnePlace, "%s has %s in phase %s, and in the queue: %q", p, s.uid, at.Phase, at.Queue)
	case at.Phase != "" && holds != to.promised(), at.Phase != "" && holds && !at.Assumed, at.Phase == "" && at.Assumed:
		w.fail(lawOnePlace, "%s has %s in phase %q, and on node %q, promised: %v", p, s.uid, at.Phase, at.Node, at.Assumed)
	case at.Gated && to != gated && !at.Withdrawn:
		w.fail(lawOnePlace, "%s has %s gated and in phase %s", p, s.uid, at.Phase)
	case to == deciding && !p.asked(s.uid):
		w.fail(lawNotLost, "%s has %s waiting for a decision that nobody was asked for", p, s.uid)
	case to == binding && p.underWay[s.uid] == 0 && p.collecting && (p.maxSent == 0 || p.sent() < p.maxSent):
		w.fail(lawNotLost, "%s has %s waiting for a binding that nobody was asked for", p, s.uid)
	}
	if o := s.object; o != nil {
		switch {
		case o.Spec.NodeName != "" && (to != onNode || at.Node != o.Spec.NodeName):
			w.fail(lawOnePlace, "%s was shown %s on %s and has it %s, on %q", p, s.uid, o.Spec.NodeName, to, at.Node)
		case waits(o) && o.Spec.SchedulerName == schedulerName && to == nowhere:
			// What a read has told before the watch is no loss.
			if now := w.server.pod(o.Name); now != nil && now.UID == o.UID && waits(now) {
				w.fail(lawNotLost, "%s does not know that %s waits", p, s.uid)
			}
		}
	} else if to != nowhere {
		w.fail(lawOnePlace, "%s was shown that %s is gone and has it %s", p, s.uid, to)
	}
}

// sent is how many bindings and evictions have no outcome yet.
func (p *process) sent() int {
	n := p.evicting
	for _, one := range p.underWay {
		n += one
	}
	return n
}

// asked says whether a batch with the pod has no outcome.
func (p *process) asked(uid types.UID) bool {
	for _, q := range p.questions {
		if !q.heard && slices.ContainsFunc(q.batch.Request.GetPods(), func(r *berthv1.Pod) bool { return r.GetUid() == string(uid) }) {
			return true
		}
	}
	return false
}

// moved notes a pod's way, and checks that there is one.
func (p *process) moved(s *sighting, from Place, ev driver.Event) {
	w, to := p.w, s.place
	w.trace(string(to), serial(s.uid))
	w.tally.Moves[Move{from, to}]++
	if !slices.Contains(ways[from], to) {
		w.fail(lawPath, "%s has moved %s from %s to %s", p, s.uid, from, to)
	}
	takenBack := from == binding && p.underWay[s.uid] == 0 // its binding was not handed out
	if from.promised() && !s.concerns(ev) && !takenBack {
		w.fail(lawPromise, "%s has moved %s from %s to %s on %T, which is not about it", p, s.uid, from, to, ev)
	}
	if from.promised() && !to.promised() && to != onNode {
		delete(p.ours, s.uid)
	}
	switch {
	case from == waiting && (to == active || to == backoff || to == deciding):
		s.woken = causeOf(ev, s)
		if p.collecting {
			s.woken = byForgotten // a promise whose binding was not handed out
		}
		w.tally.woken(s.woken, 1, 0, 0)
		if s.woken == byNet && !s.lied && p.fits(s) {
			w.tally.Missed++
			w.fail(lawMissed, "%s has %s woken by the net alone, and it fits", p, s.uid)
		}
	case from == deciding && to == binding:
		if s.woken != "" {
			w.tally.woken(s.woken, 0, 1, 0)
		}
		s.woken = ""
		p.calledOff[s.uid] = p.evictions // no room needs to be made for it
	case from == deciding && to == waiting:
		p.rejected(s)
	case to == deciding:
		s.passed = 0
	}
}

// rejected notes that a pod was rejected.
func (p *process) rejected(s *sighting) {
	if s.woken != "" {
		p.w.tally.woken(s.woken, 0, 0, 1)
	}
	s.woken = ""
}

// fits says whether an honest decider would place the pod now.
func (p *process) fits(s *sighting) bool {
	if s.object == nil || s.object.Labels[poisonLabel] != "" {
		return false
	}
	return roomsOf(p.driver.State().Snapshot).choose(encode.Pod(s.object), 0) != nil
}

// Ways are the moves that every campaign has to see: those that are drawn above the
// driver, and from everywhere to nowhere. (Gates come with a pod alone.)
var Ways = []Move{
	{nowhere, active}, {nowhere, gated}, {nowhere, onNode}, {gated, active},
	{active, deciding}, {backoff, active}, {waiting, active}, {waiting, backoff},
	{deciding, active}, {deciding, backoff}, {deciding, waiting}, {deciding, binding},
	{binding, bound}, {binding, reading}, {binding, active}, {binding, backoff}, {bound, onNode},
	{reading, backoff}, {reading, onNode},
	{active, onNode}, {backoff, onNode}, {waiting, onNode}, {deciding, onNode}, {binding, onNode},
	{gated, nowhere}, {active, nowhere}, {backoff, nowhere}, {waiting, nowhere}, {deciding, nowhere},
	{binding, nowhere}, {bound, nowhere}, {reading, nowhere}, {onNode, nowhere},
}

// ways are where a pod may go from where, which are drawn above the driver. A place that
// is passed through within one step is left out.
var ways = map[Place][]Place{
	nowhere:  {active, gated, onNode},
	gated:    {active, onNode, nowhere},
	active:   {deciding, gated, onNode, nowhere},
	backoff:  {active, gated, onNode, nowhere},
	waiting:  {active, backoff, deciding, gated, onNode, nowhere},
	deciding: {active, backoff, waiting, binding, gated, onNode, nowhere},
	binding:  {bound, reading, active, deciding, backoff, gated, onNode, nowhere},
	bound:    {onNode, nowhere},
	reading:  {backoff, gated, onNode, nowhere},
	onNode:   {nowhere},
}

// checkWork is the laws of what the driver wants done.
func (p *process) checkWork(r *driver.Ready) {
	w := p.w
	for _, b := range r.Decide {
		for _, record := range b.Request.GetPods() {
			if s := p.byUID[types.UID(record.GetUid())]; s == nil || s.object == nil || !waits(s.object) {
				w.fail(lawWithdrawn, "%s asks about %s, which it knows not to wait", p, record.GetUid())
			}
		}
		if b.Epoch != p.epoch {
			w.fail(lawState, "%s asks about epoch %q in %q", p, b.Epoch, p.epoch)
		}
		for _, s := range p.pods {
			if s.place != active || !w.calmed() || !p.mayStart() {
				s.passed = 0
				continue
			}
			s.passed++
			w.tally.Passed = max(w.tally.Passed, s.passed)
			if s.passed > mostPassed {
				w.fail(lawStarved, "%s has passed over %s in %d batches", p, s.uid, s.passed)
			}
		}
	}
	if len(r.Bind) > 0 {
		p.checkCommits(r.Bind)
	}
}

// checkCommits is the laws of bindings, at the moment at which they are handed out.
func (p *process) checkCommits(binds []driver.Bind) {
	w := p.w
	now := p.driver.State().Snapshot
	all := roomsOf(now)
	for _, b := range binds {
		s := p.byUID[b.Pod.UID]
		switch at := p.driver.Where(b.Pod.UID); {
		case s == nil || s.object == nil || s.object.DeletionTimestamp != nil || len(s.object.Spec.SchedulingGates) > 0:
			w.fail(lawWithdrawn, "%s binds %s, which it knows to be gone, gated or being deleted", p, b.Pod.UID)
		case p.underWay[b.Pod.UID] > 1, s.object.Spec.NodeName != "":
			w.fail(lawOnce, "%s binds %s to %s again", p, b.Pod.UID, b.Node)
		case placeOf(at) != binding || at.Node != b.Node:
			w.fail(lawOnePlace, "%s binds %s to %s and has it %s, on %q", p, b.Pod.UID, b.Node, placeOf(at), at.Node)
		}
		r := all.find(b.Node)
		nobody := func(*berthv1.PlacedPod) bool { return false }
		if r == nil || !r.open() || r.free(nobody) < 0 {
			w.fail(lawRoom, "%s binds %s to %s, which has no room for it or is closed", p, b.Pod.UID, b.Node)
		}
	}
}

// checkAside holds commits to the nominations that there are: one that comes later knows
// of them.
func (p *process) checkAside(now *berthv1.Snapshot, binds []driver.Bind) {
	all := roomsOf(now)
	for _, b := range binds {
		r := all.find(b.Node)
		important := func(m *berthv1.PlacedPod) bool {
			return m.GetUid() != string(b.Pod.UID) && m.GetPriority() > priority(b.Pod)
		}
		nobody := func(*berthv1.PlacedPod) bool { return false }
		if r != nil && r.free(important) < 0 && r.free(nobody) < r.node.GetAllocatable()["cpu"] {
			p.w.fail(lawAside, "%s commits %s to %s into room that is set aside for a more important pod", p, b.Pod.UID, b.Node)
		}
	}
}

// checkTogether holds our commits together to the constraints between pods: in the state
// that was decided on, with what we have committed since. binds are those that an answer
// has led to just now.
func (p *process) checkTogether(q *question, now *berthv1.Snapshot, binds []driver.Bind) {
	all := roomsOf(q.state)
	isNew := func(uid string) bool {
		return slices.ContainsFunc(binds, func(b driver.Bind) bool { return string(b.Pod.UID) == uid })
	}
	known := map[string]bool{}
	for _, m := range q.state.GetPlacedPods() {
		known[m.GetUid()] = !m.GetNominated()
	}
	for _, m := range now.GetPlacedPods() {
		if at, ok := p.ours[types.UID(m.GetUid())]; ok && at == m.GetNodeName() && !known[m.GetUid()] && !m.GetNominated() && !isNew(m.GetUid()) {
			if r := all.find(at); r != nil {
				all.withdraw(m.GetUid())
				r.pods = append(r.pods, m)
			}
		}
	}
	for _, b := range binds {
		i := slices.IndexFunc(q.batch.Request.GetPods(), func(r *berthv1.Pod) bool { return r.GetUid() == string(b.Pod.UID) })
		r := all.find(b.Node)
		if i < 0 || r == nil {
			p.w.fail(lawState, "%s binds %s to %s, which was not decided", p, b.Pod.UID, b.Node)
		}
		for _, earlier := range q.response.GetDecisions()[:i] { // the contract: who is evicted counts as leaving
			for _, v := range earlier.GetPreemption().GetVictims() {
				all.terminate(v.GetUid())
			}
		}
		pod := q.batch.Request.GetPods()[i]
		if why := all.admits(pod, r); why == apart || why == skewed {
			p.w.fail(lawApart, "%s binds %s to %s, which a constraint between our own pods forbids", p, b.Pod.UID, b.Node)
		}
		all.withdraw(pod.GetUid())
		r.place(pod, false)
		p.ours[b.Pod.UID] = b.Node
	}
}

// checkHeard tells the driver of an answer, and holds it to what it may make of it.
func (p *process) checkHeard(q *question, again bool, ev driver.Decided) {
	w := p.w
	before := map[types.UID]Place{}
	for _, r := range q.batch.Request.GetPods() {
		if s := p.byUID[types.UID(r.GetUid())]; s != nil {
			before[s.uid] = s.place
		}
	}
	version := p.driver.Version()
	p.step(ev)
	var committed []driver.Bind
	for i, r := range q.batch.Request.GetPods() {
		s := p.byUID[types.UID(r.GetUid())]
		if s == nil || before[s.uid] != deciding {
			continue
		}
		if again && s.place != deciding {
			w.fail(lawState, "%s has carried out an answer to batch %d, which had an outcome, for %s", p, q.batch.ID, s.uid)
		}
		if ev.Response == nil || i >= len(ev.Response.GetDecisions()) {
			continue
		}
		rejected := ev.Response.GetDecisions()[i].GetOutcome() == berthv1.Outcome_OUTCOME_REJECTED
		if rejected && (s.place == waiting || s.place == backoff) {
			s.lied = !q.honest
			w.lied = w.lied || s.lied
		}
		if rejected && q.honest && s.place == backoff {
			p.rejected(s)
			s.woken = inFlight
			w.tally.woken(inFlight, 1, 0, 0)
		}
		if r := ev.Response; s.place == binding && (r.GetEpoch() != q.batch.Epoch || r.GetVersion() < q.batch.Version || r.GetVersion() > version) {
			w.fail(lawState, "%s has committed a decision for %s about version %d of %q; it asked about version %d of %q",
				p, s.uid, r.GetVersion(), r.GetEpoch(), q.batch.Version, q.batch.Epoch)
		}
		if s.place == binding {
			committed = append(committed, driver.Bind{Pod: s.object, Node: p.driver.Where(s.uid).Node})
		}
	}
	if len(committed) > 0 {
		now := p.driver.State().Snapshot
		p.checkAside(now, committed)
		if q.honest {
			p.checkTogether(q, now, committed)
		}
	}
}

// checkInherited is the law of a leader that begins.
func (p *process) checkInherited() {
	for _, q := range p.inherited {
		now := p.w.server.pod(q.Name)
		if now != nil && now.UID == q.UID && p.driver.Where(q.UID).Node == "" {
			p.w.fail(lawInherited, "%s begins to lead and does not know that %s is on %s", p, q.UID, q.Spec.NodeName)
		}
	}
}

// checkFence is the law of a binding that arrives: another process that has the Lease by
// then may have looked already what is where.
func (w *world) checkFence(p *process, b driver.Bind) {
	if other := w.server.lease.holder; w.plan.Standby && other != p && other != nil {
		w.fail(lawFence, "the binding of %s by %s arrives when %s has the Lease", b.Pod.UID, p, other)
	}
}

// checkBound is the laws of a binding that was carried out.
func (w *world) checkBound(p *process, b driver.Bind) {
	w.placedAt = w.now
	n := w.server.node(b.Node)
	if used := w.used(b.Node); n != nil && used > n.Status.Allocatable.Cpu().MilliValue() && !w.touched[b.Node] {
		w.fail(lawOvercommit, "%s holds %dm of %v with %s, and nobody else has touched it", b.Node, used, n.Status.Allocatable.Cpu(), b.Pod.UID)
	}
}

// eviction is a victim that is under way out.
type eviction struct {
	process *process
	by      *corev1.Pod
	node    string
	budgets []string
	number  int // among the process's evictions
}

// goesOn says whether the pod still waits for the room.
func (w *world) goesOn(e eviction) bool {
	by := w.server.pod(e.by.Name)
	return e.number > e.process.calledOff[e.by.UID] && by != nil && by.UID == e.by.UID && waits(by)
}

// checkEvicted is the laws of an eviction that is carried out.
func (w *world) checkEvicted(p *process, e driver.Evict, number int) {
	v := w.server.pod(e.Victim.Name)
	if v == nil || v.UID != e.Victim.UID {
		return
	}
	if before, ok := w.evicted[v.UID]; ok && before.process == p && before.by.UID != e.By.UID {
		w.fail(lawVictims, "%s evicts %s for %s, which was evicted for %s", p, v.UID, e.By.UID, before.by.UID)
	}
	if priority(v) >= priority(e.By) {
		w.fail(lawVictims, "%s evicts %s, which is not less important than %s", p, v.UID, e.By.UID)
	}
	if v.Spec.NodeName != e.Node {
		w.fail(lawVictims, "%s evicts %s from %s, which is on %s", p, v.UID, e.Node, v.Spec.NodeName)
	}
	mine := eviction{process: p, by: e.By, node: e.Node, number: number}
	for _, b := range p.knew[e.By.UID] {
		if selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector); err == nil && selector.Matches(labels.Set(v.Labels)) {
			mine.budgets = append(mine.budgets, b.Name)
		}
	}
	for _, uid := range slices.Sorted(maps.Keys(w.evicted)) {
		other := w.evicted[uid]
		if other.by.UID == mine.by.UID || !w.goesOn(mine) || other.process != p || !w.goesOn(other) {
			continue
		}
		shared := slices.ContainsFunc(other.budgets, func(b string) bool { return slices.Contains(mine.budgets, b) })
		if other.node == mine.node || shared {
			w.fail(lawOnePreempt, "%s evicts %s from %s for %s while %s is being evicted for %s", p, v.UID, e.Node, e.By.UID, uid, other.by.UID)
		}
	}
	w.evicted[v.UID] = mine
}

// checkRest is the laws of a cluster that has come to rest.
func (w *world) checkRest() {
	w.tally.Rest = max(w.tally.Rest, (w.placedAt - w.plan.End).Milliseconds())
	p := w.leader()
	if p == nil {
		w.fail(lawRest, "nobody leads in the end")
	}
	for _, s := range p.pods {
		if (s.place.promised() || s.place == deciding) && (s.object == nil || s.object.Labels[poisonLabel] == "") {
			w.fail(lawRest, "%s has %s %s for ever", p, s.uid, s.place)
		}
	}
	all := roomsOf(p.driver.State().Snapshot)
	for _, pod := range w.server.pods(func(*corev1.Pod) bool { return true }) {
		at := p.driver.Where(pod.UID)
		if at.Node != pod.Spec.NodeName || at.Assumed {
			w.fail(lawTruth, "%s has %s on %q in the end; it is on %q", p, pod.UID, at.Node, pod.Spec.NodeName)
		}
		if !waits(pod) || pod.Spec.SchedulerName != schedulerName || pod.Labels[poisonLabel] != "" {
			continue
		}
		record := encode.Pod(pod)
		if r := all.choose(record, 0); r != nil {
			w.fail(lawPlaced, "%s waits although it fits on %s; %s has it %s", pod.UID, r.node.GetName(), p, placeOf(at))
		}
	}
	if s := p.driver.Stats(); s.Placed != len(w.server.pods(func(p *corev1.Pod) bool { return p.Spec.NodeName != "" })) {
		w.fail(lawTruth, "%s has %d pods on nodes in the end", p, s.Placed)
	}
	for _, n := range w.server.nodes() {
		r := all.find(n.Name)
		if r == nil || r.node.GetUid() != string(n.UID) || guard.Check(&corev1.Pod{}, n, guard.Usage{}) == nil != r.open() {
			w.fail(lawTruth, "%s has node %s otherwise than it is in the end", p, n.Name)
		}
	}
	if len(all) != len(w.server.nodes()) {
		w.fail(lawTruth, "%s has %d nodes in the end", p, len(all))
	}
}

// leave lets a pod go that is being deleted: its kubelet needs a while.
func (w *world) leave(name string, uid types.UID) {
	d := w.source.at(keyLeave, serial(uid))
	w.in(d.between(20*time.Millisecond, 3*time.Second), nil, func() { w.vanish(name, uid) })
}

// vanish removes a pod if it is still that one.
func (w *world) vanish(name string, uid types.UID) {
	if p := w.server.pod(name); p != nil && p.UID == uid {
		w.say("%s is gone", uid)
		delete(w.evicted, uid)
		w.server.remove(podKind, name)
	}
}
