package driver

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/watcher/internal/cluster"
	"github.com/berth-scheduler/berth/watcher/internal/guard"
)

// evictRetry is the pause after a nomination or an eviction that failed, or may have.
const evictRetry = time.Second

// preemption is room being made for a pod, which waits in the queue meanwhile.
//
//	           the pod says so             every victim is gone
//	nominated ─────────────────► evicting ──────────────────────► over
//	    │                            │
//	    └──────────┬─────────────────┘
//	               ▼ the pod is gone, or another pod now, or got a node; the node is gone;
//	                 an eviction was refused
//	          called off: who was not asked to leave yet may stay
//
// The nomination comes first, so that whoever comes after this process knows for whom the
// room is. It stays when the preemption is over, until the pod has a node.
type preemption struct {
	by       *pod
	node     string
	evicting bool
	victims  map[types.UID]bool // that are still there
	budgets  []string           // that the victims use up
}

// preemptions are those that are carried out: one at a time for each pod, each node and
// each disruption budget.
type preemptions struct {
	by      map[types.UID]*preemption
	nodes   map[string]*preemption
	budgets map[string]*preemption
	victims map[types.UID]*preemption
	// asked are the pods that were asked to leave and are still there, or have not
	// answered. Nobody is asked twice, but for an answer that never came.
	asked   map[types.UID]*asking
	again   []again // in the order in which they are due
	evicted int
}

// asking is a pod that was asked to leave.
type asking struct {
	Evict
	unheard bool // there is no EvictDone yet
	gone    bool
}

// again is a nomination to be written again, or an eviction to be asked for again.
type again struct {
	at  time.Time
	uid types.UID // the pod's, or the victim's
}

// busy says whether another preemption is under way on the node, or for one of the budgets
// or victims. One that was called off is, too, until those have left who were asked to, by
// this process or by the one that led before.
func (d *Driver) busy(node string, budgets []string, victims []types.UID) bool {
	ps := &d.preemptions
	if ps.nodes[node] != nil ||
		slices.ContainsFunc(budgets, func(key string) bool { return ps.budgets[key] != nil }) ||
		slices.ContainsFunc(victims, func(uid types.UID) bool { return ps.victims[uid] != nil }) {
		return true
	}
	for _, a := range ps.asked {
		if a.Node == node {
			return true
		}
	}
	return slices.ContainsFunc(budgets, func(key string) bool { return d.usedUp(key, nil) }) || d.ledger.MakingRoom(node, budgets)
}

// usedUp says whether a pod was asked to leave, for another than pr, that the budget
// selects.
func (d *Driver) usedUp(key string, pr *preemption) bool {
	for uid := range d.preemptions.asked {
		if d.preemptions.victims[uid] != pr && d.ledger.Selected(key, uid) {
			return true
		}
	}
	return false
}

func newPreemptions() preemptions {
	return preemptions{
		by: map[types.UID]*preemption{}, nodes: map[string]*preemption{}, budgets: map[string]*preemption{},
		victims: map[types.UID]*preemption{}, asked: map[types.UID]*asking{},
	}
}

// preempt makes room for a pod that was rejected as the decision says, if that holds
// against the ledger as it is now. It is false if the pod was put back into the queue
// because it does not, or cannot be done yet.
func (d *Driver) preempt(c *commit, p *pod, decision *berthv1.Decision) bool {
	if d.preemptions.by[p.object.UID] != nil {
		c.skip(decision)
		return true // it waits for the one that is under way
	}
	preemption := decision.GetPreemption()
	name := preemption.GetNodeName()
	refuse := func(reason, format string, args ...any) bool {
		d.refuse(c, p, decision, name, reason, fmt.Sprintf(format, args...))
		return false
	}
	stale := func() bool {
		c.skip(decision)
		d.stale++
		d.again(p)
		return false
	}
	node, _ := d.ledger.Node(name)
	changed := d.ledger.ChangedSince(name, c.version)
	switch {
	case node == nil && !changed:
		return refuse("unknown-node", "node %q was not among those it was sent", name)
	case !changed && preemption.GetNodeUid() != string(node.UID):
		return refuse("unknown-node", "node %q has uid %q, not %q", name, node.UID, preemption.GetNodeUid())
	case changed, c.batch.taken[name], d.ledger.Outdated(p.object, c.version, c.batch.together):
		return stale()
	case len(preemption.GetVictims()) == 0:
		return refuse("malformed", "it preempts nobody on node %q", name)
	case p.object.Spec.PreemptionPolicy != nil && *p.object.Spec.PreemptionPolicy == corev1.PreemptNever:
		return refuse("victim", "the pod may not preempt others")
	}
	var uids []types.UID
	for _, victim := range preemption.GetVictims() {
		uid := types.UID(victim.GetUid())
		on, assumed, holds := d.ledger.Holds(uid)
		switch record := d.ledger.Record(uid); {
		case assumed:
			// Whether it is there at all, the API server has yet to say.
			c.skip(decision)
			d.holdBack(p, decision)
			return false
		case !holds || on != name:
			if d.ledger.PodChangedSince(uid, c.version) {
				return stale()
			}
			return refuse("victim", "pod %s/%s, uid %q, is not on node %q", victim.GetNamespace(), victim.GetName(), uid, name)
		case record.GetPriority() >= p.record.GetPriority():
			return refuse("victim", "pod %s/%s has priority %d, which is not less than %d",
				victim.GetNamespace(), victim.GetName(), record.GetPriority(), p.record.GetPriority())
		}
		uids = append(uids, uid)
	}
	if refusal := guard.Check(p.object, node, d.ledger.Without(name, uids)); refusal != nil {
		return refuse(refusal.Reason, "without its victims, %s", refusal.Message)
	}
	budgets, violations := d.protecting(uids)
	if violations > int(preemption.GetBudgetViolations()) {
		if d.ledger.BudgetsChangedSince(c.version) {
			return stale()
		}
		return refuse("budget", "it says that %d of its victims are beyond what disruption budgets allow; %d are", preemption.GetBudgetViolations(), violations)
	}
	if d.busy(name, budgets, uids) {
		// One at a time: what the other one leaves is not known yet.
		c.skip(decision)
		d.holdBack(p, decision)
		return false
	}
	d.start(p, name, uids, budgets)
	c.leaving = true
	return true
}

// holdBack lets a pod back off for which room could be made, but not yet.
func (d *Driver) holdBack(p *pod, decision *berthv1.Decision) {
	p.refusals = 0
	d.reportFailed(p, corev1.PodReasonUnschedulable, decision.GetRejection().GetMessage())
	d.fail(p)
}

// protecting are the disruption budgets that evicting the pods uses up, sorted, and how
// many of these are beyond what a budget allows.
func (d *Driver) protecting(uids []types.UID) (budgets []string, violations int) {
	allowed := map[string]int32{}
	for _, uid := range uids {
		violates := false
		for key, left := range d.ledger.Protecting(d.ledger.Record(uid)) {
			if _, seen := allowed[key]; !seen {
				allowed[key] = left
			}
			allowed[key]--
			violates = violates || allowed[key] < 0
		}
		if violates {
			violations++
		}
	}
	return slices.Sorted(maps.Keys(allowed)), violations
}

// start begins a preemption.
func (d *Driver) start(p *pod, node string, victims []types.UID, budgets []string) {
	pr := &preemption{by: p, node: node, victims: map[types.UID]bool{}, budgets: budgets}
	d.preemptions.by[p.object.UID], d.preemptions.nodes[node] = pr, pr
	for _, key := range budgets {
		d.preemptions.budgets[key] = pr
	}
	for _, uid := range victims {
		pr.victims[uid] = true
		d.preemptions.victims[uid] = pr
	}
	// Pods of lower priority may not fit any more where room was made for them, and find
	// another place the sooner the earlier they are told.
	for _, uid := range d.ledger.NominatedOn(node) {
		if q := d.pods[uid]; q != nil && q != p && q.record.GetPriority() < p.record.GetPriority() {
			d.unnominate(q)
			d.queue.Wake(d.now, uid)
		}
	}
	d.nominate(p, node)
}

// nominate has the pod nominated for the node, "" for none, in the ledger at once.
func (d *Driver) nominate(p *pod, node string) {
	p.nomination = &node
	p.object = nominated(p.object, node)
	p.record = proto.CloneOf(p.record) // a batch may have the old one
	p.record.NominatedNodeName = node
	d.ledger.Nominate(p.object)
	d.write(p)
}

// write has the pod's nomination written, after the one that is being written: one at a
// time, or they might arrive in another order.
func (d *Driver) write(p *pod) {
	if p.writing == nil {
		p.writing = p.nomination
		d.ready.Nominate = append(d.ready.Nominate, Nominate{Pod: p.object, Node: *p.nomination})
	}
}

// unnominate takes a pod's nomination back, if it has one.
func (d *Driver) unnominate(p *pod) {
	node := p.record.GetNominatedNodeName()
	if node == "" {
		return
	}
	if o := d.committing; o != nil { // who decided about the pods after it did not know
		o.since[cluster.Change{Object: berthv1.ObjectKind_OBJECT_KIND_PLACED_POD, Kind: berthv1.ChangeKind_CHANGE_KIND_DELETED, Node: node}] = true
	}
	d.endPreemption(p)
	d.nominate(p, "")
}

// givesUp says whether nobody can be evicted for a rejected pod, so that a nomination that
// it has is for nothing. It is kept while the pod must not preempt again because what it
// preempted is still leaving.
func givesUp(r *berthv1.Rejection) bool {
	return r.GetPreemption() != "" && !strings.HasPrefix(r.GetPreemption(), "not eligible")
}

// nominated is the pod with that nomination.
func nominated(object *corev1.Pod, node string) *corev1.Pod {
	if object.Status.NominatedNodeName == node {
		return object
	}
	o := *object
	o.Status.NominatedNodeName = node
	return &o
}

// withNomination is a pod, as the API server has it, with the nomination that it will
// have once the API server has heard of it.
func (d *Driver) withNomination(object *corev1.Pod) *corev1.Pod {
	p := d.pods[object.UID]
	if p == nil || p.nomination == nil {
		return object
	}
	if object.Status.NominatedNodeName == *p.nomination {
		p.nomination = nil
		return object
	}
	return nominated(object, *p.nomination)
}

func (d *Driver) nominateDone(ev NominateDone) {
	p := d.pods[ev.UID]
	if p == nil {
		return
	}
	wrote := p.writing
	p.writing = nil
	switch {
	case p.nomination != nil && *p.nomination != *wrote:
		d.write(p) // it is another one by now
		return
	case ev.Err != nil:
		d.preemptions.again = append(d.preemptions.again, again{d.now.Add(evictRetry), ev.UID})
		return
	}
	if pr := d.preemptions.by[ev.UID]; pr != nil && !pr.evicting && p.record.GetNominatedNodeName() == pr.node {
		d.evict(pr)
	}
}

// evict asks the victims to leave that were not asked before. A disruption budget that has
// come meanwhile, and that another preemption uses up, ends this one.
func (d *Driver) evict(pr *preemption) {
	budgets, _ := d.protecting(slices.Sorted(maps.Keys(pr.victims)))
	for _, key := range budgets {
		if other := d.preemptions.budgets[key]; other != nil && other != pr || d.usedUp(key, pr) {
			d.unnominate(pr.by)
			d.queue.Wake(d.now, pr.by.object.UID)
			return
		}
	}
	for _, key := range budgets {
		if d.preemptions.budgets[key] == nil {
			d.preemptions.budgets[key] = pr
			pr.budgets = append(pr.budgets, key)
		}
	}
	pr.evicting = true
	for _, uid := range slices.Sorted(maps.Keys(pr.victims)) {
		record := d.ledger.Record(uid)
		if d.preemptions.asked[uid] != nil || record.GetTerminating() {
			continue
		}
		a := &asking{Evict: Evict{
			Victim: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: record.GetNamespace(), Name: record.GetName(), UID: uid}},
			Node:   pr.node, By: pr.by.object,
		}}
		d.preemptions.asked[uid] = a
		d.ask(a)
	}
}

func (d *Driver) ask(a *asking) {
	a.unheard = true
	d.unheard++
	d.ready.Evict = append(d.ready.Evict, a.Evict)
}

func (d *Driver) evictDone(ev EvictDone) {
	d.unheard--
	a := d.preemptions.asked[ev.UID]
	a.unheard = false
	if a.gone { // the watch was faster
		delete(d.preemptions.asked, ev.UID)
	}
	pr := d.preemptions.victims[ev.UID]
	switch ev.Outcome {
	case EvictOK:
		d.preemptions.evicted++
		d.ready.Report = append(d.ready.Report, Report{Kind: Preempted, Pod: a.Victim, Node: a.Node, By: a.By,
			Message: fmt.Sprintf("Preempted by pod %s on node %s", a.By.UID, a.Node)})
	case EvictGone: // the watch will show it
	case EvictUnknown:
		// Asked again even if the pod does not need the room any more: whether this one
		// leaves must be known.
		d.preemptions.again = append(d.preemptions.again, again{d.now.Add(evictRetry), ev.UID})
	case EvictNotSent:
		delete(d.preemptions.asked, ev.UID)
		d.preemptions.again = append(d.preemptions.again, again{d.now.Add(evictRetry), ev.UID})
	case EvictRefused:
		delete(d.preemptions.asked, ev.UID)
		if pr != nil {
			p := pr.by
			d.unnominate(p)
			d.queue.Wake(d.now, p.object.UID)
		}
	default:
		panic("driver: unknown eviction outcome " + ev.Outcome.String())
	}
}

// retryEvictions hands out again what has failed and has waited.
func (d *Driver) retryEvictions() {
	for list := &d.preemptions.again; len(*list) > 0 && !(*list)[0].at.After(d.now); {
		uid := (*list)[0].uid
		*list = (*list)[1:]
		if p := d.pods[uid]; p != nil && p.nomination != nil {
			d.write(p)
			continue
		}
		if a := d.preemptions.asked[uid]; a != nil {
			if record := d.ledger.Record(uid); !a.unheard && record != nil && !record.GetTerminating() {
				d.ask(a)
			}
		} else if pr := d.preemptions.victims[uid]; pr != nil && pr.evicting {
			d.evict(pr)
		}
	}
}

// left notes that a pod does not exist any more. When the last victim is gone the pod
// that it made room for is worth a try.
func (d *Driver) left(uid types.UID) {
	if a := d.preemptions.asked[uid]; a != nil {
		a.gone = true
		if !a.unheard {
			delete(d.preemptions.asked, uid)
		}
	}
	pr := d.preemptions.victims[uid]
	if pr == nil {
		return
	}
	delete(d.preemptions.victims, uid)
	delete(pr.victims, uid)
	if len(pr.victims) == 0 {
		d.endPreemption(pr.by)
		d.queue.WakeNow(pr.by.object.UID)
	}
}

// nodeGone calls off what makes room on a node that is not there any more.
func (d *Driver) nodeGone(name string) {
	for _, uid := range d.ledger.NominatedOn(name) {
		if p := d.pods[uid]; p != nil {
			d.unnominate(p)
			d.queue.Wake(d.now, uid)
		}
	}
}

// endPreemption ends the one for a pod, if there is one. Whoever was not asked to leave
// yet is not any more.
func (d *Driver) endPreemption(p *pod) {
	pr := d.preemptions.by[p.object.UID]
	if pr == nil {
		return
	}
	delete(d.preemptions.by, p.object.UID)
	delete(d.preemptions.nodes, pr.node)
	for _, key := range pr.budgets {
		delete(d.preemptions.budgets, key)
	}
	for uid := range pr.victims {
		delete(d.preemptions.victims, uid)
	}
}
