// Package driver is the rules of the game between the queue, the ledger, the
// deciders and the API server: a state machine after etcd's raft.
//
// Step tells it what happened, Ready returns what to do next. It does no IO, has
// no clock and never blocks, so every ordering of events can be written down,
// replayed and read: see testdata.
//
// # Where a pod is
//
// A pod without a node is in exactly one phase, a pod with a node is in the
// ledger alone:
//
//	         Ready.Decide            committed              2xx           the watch shows it
//	queued ───────────────► deciding ─────────► binding ──────────► bound ─────────► (ledger)
//	  ▲  rejected, refused,   │                  │   │
//	  ├──stale, undecided─────┘                  │   │ 409, unknown
//	  │                           any other 4xx, │   ▼
//	  │                   not sent, taken back:  │  reading ─── it has a node ─────► (ledger)
//	  │                              forgotten   │   │
//	  ├──────────────────────────────────────────┘   │ it has none: forgotten
//	  └──────────────────────────────────────────────┘
//
// and from everywhere to nowhere when the pod is gone. Several batches may be
// outstanding; pods that interact (cluster.Ledger.Interacts) are in one of them only.
//
// From binding on the ledger holds the pod's room: it is assumed. It stays
// assumed until the API server has said what became of the Binding; nothing is
// forgotten because time passed.
//
// # Reading order
//
// This file (what happened, where pods are), event.go (all that comes in and goes out),
// batch.go (what is asked), commit.go (what becomes of answers), wake.go (who is tried
// again when), preempt.go (room that is made for a pod).
package driver

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/watcher/encode"
	"github.com/berth-scheduler/berth/watcher/internal/cluster"
	"github.com/berth-scheduler/berth/watcher/internal/queue"
)

const (
	// refusalsPerDecider is after how many refused answers in a row a pod goes to
	// the next decider.
	refusalsPerDecider = 3
	// The pause after a batch that no decider answered doubles between these.
	minPause, maxPause = 100 * time.Millisecond, 5 * time.Second
	// silentFailures is how many batches in a row may go unanswered before their
	// pods are told: a decider that restarts is not worth a condition.
	silentFailures = 3
	// readRetry is the pause after a failed read.
	readRetry = time.Second
	// notSentPause is the pause after a binding that was not sent: until the Lease is
	// renewed the next ones would not be either.
	notSentPause = 100 * time.Millisecond
)

// ErrNoDecider is what Decided.Err wraps if no decider could be asked. The pods
// are not at fault and wait without a backoff of their own.
var ErrNoDecider = errors.New("no decider reachable")

// Config is what a Driver needs to know. Every field is required.
type Config struct {
	// Deciders has an entry for each scheduler name that is ours: how many deciders,
	// fallbacks included, may be asked for its pods.
	Deciders map[string]int
	// Seed starts the sequence of the batches' seeds.
	Seed uint64
	// MaxBatch is the most pods in one batch. Where deciders are slow there are fewer: what
	// is decided within batchTime.
	MaxBatch int
	// MaxBinding is how many bindings may be under way before no more batches are
	// handed out.
	MaxBinding int
	// MaxSent is how many bindings, of those that are under way, are handed out before one
	// of them has an outcome; 0 means all. What is not handed out yet can be taken back.
	MaxSent int
	// OneAtATime has the scheduler names of which one batch is outstanding at a time,
	// however many replicas there are: those whose profile spreads pods by default as must
	// hold. No record tells which pods that makes interact.
	OneAtATime map[string]bool
	// Backoffs are how long pods wait that failed. The zero value is
	// kube-scheduler's.
	Backoffs queue.Backoffs
}

// Driver is the state machine. Use New. One caller at a time.
type Driver struct {
	config Config
	now    time.Time
	queue  *queue.Queue
	ledger *cluster.Ledger
	// pods are ours and have no node that the watch has shown. Each has an entry in
	// the queue, which is out unless the pod's phase is queued.
	pods   map[types.UID]*pod
	keys   map[types.NamespacedName]types.UID
	gated  map[types.UID]bool
	unread []unread // in the order in which they are due
	seed   uint64
	epoch  string
	fed    uint64 // the version up to which Feed has told

	outstanding map[uint64]*outstanding // batches, by ID
	together    *outstanding            // the one of them that has the pods that interact; nil if none has
	committing  *outstanding            // the one whose results are being committed; nil if none is
	batches     uint64
	side        map[string]int           // batches that may be outstanding, by scheduler name; absent is 1
	pace        map[string]time.Duration // what deciding on a pod takes, by scheduler name
	pauses      map[string]*pause        // by scheduler name
	held        time.Time                // no batch is handed out before
	deciders    uint64                   // how often DecidersChanged came
	promised    []Bind                   // not handed out yet, in order; some may be over by now
	unheard     int                      // bindings and evictions handed out without an outcome yet
	reading     int                      // pods in phase reading
	preemptions preemptions
	ready       Ready
	refusals    map[Refusal]int
	stale       int
	conflicts   Conflicts
	races       Races
}

// pod is a pod of ours without a node that the watch has shown.
type pod struct {
	object *corev1.Pod
	record *berthv1.Pod
	phase  phase
	// promised is the version at which it was promised room, until its binding is handed
	// out; 0 otherwise.
	promised uint64
	// batch is the outstanding one that it is in, and sent the record that this has of it.
	batch *outstanding
	sent  *berthv1.Pod
	// nomination is the node for which it is nominated, empty for none, though the watch
	// does not say so yet; nil if it does.
	nomination *string
	// writing is the nomination that is being written; nil if none is.
	writing *string
	// class names its equals, as of the record classed.
	class   string
	classed *berthv1.Pod
	// withdrawn pods were gated or deleted while a decision was in flight.
	withdrawn   bool
	waitsFor    []*berthv1.WakeCondition // since its last rejection
	refusals    int                      // answers refused in a row
	bans        map[ban]bool             // answers that were refused
	unsupported int                      // deciders in a row that do not understand it
	told        *pause                   // the outage of which its owner was told
	reported    bool                     // Scheduled has been reported
	why         string                   // reading: what the bind said
	retry       time.Time                // reading: when to read again; zero while a read is under way
}

// unread is a pod in phase reading, between two reads, if retry is still its own.
type unread struct {
	uid   types.UID
	retry time.Time
}

type phase int

const (
	queued phase = iota
	deciding
	binding
	bound
	reading
)

func (p phase) String() string {
	return [...]string{"queued", "deciding", "binding", "bound", "reading"}[p]
}

// pause keeps a scheduler name's pods from being handed out.
type pause struct {
	until    time.Time
	failures int // in a row
}

// Refusal is one kind of answer that the guard did not accept.
type Refusal struct {
	Decider string
	// Reason is one word, such as "resources" or "unknown-node".
	Reason string
}

// New returns a driver that knows of nothing yet.
func New(config Config) *Driver {
	return &Driver{
		config:   config,
		queue:    queue.New(config.Backoffs),
		ledger:   cluster.New(),
		pods:     map[types.UID]*pod{},
		keys:     map[types.NamespacedName]types.UID{},
		gated:    map[types.UID]bool{},
		seed:     config.Seed,
		pauses:   map[string]*pause{},
		refusals: map[Refusal]int{},

		outstanding: map[uint64]*outstanding{},
		side:        map[string]int{},
		pace:        map[string]time.Duration{},
		preemptions: newPreemptions(),
	}
}

// Step tells the driver that ev happened, and that it is now. A nil event only
// tells the time. It never blocks and does no IO.
func (d *Driver) Step(now time.Time, ev Event) {
	if now.After(d.now) {
		d.now = now // a clock that goes back stands still
	}
	switch ev := ev.(type) {
	case nil:
	case PodChanged:
		d.podChanged(ev.Pod)
	case PodGone:
		d.podGone(ev.Pod)
	case NodeChanged:
		d.ledger.SetNode(ev.Node)
	case NodeGone:
		d.ledger.RemoveNode(ev.Node.Name)
		d.nodeGone(ev.Node.Name)
	case SignalsChanged:
		d.ledger.SetSignals(ev.Node, ev.Signals)
	case NamespaceChanged:
		d.ledger.SetNamespace(ev.Namespace)
	case NamespaceGone:
		d.ledger.RemoveNamespace(ev.Namespace.Name)
	case WorkloadChanged:
		if d.ledger.SetWorkload(ev.Object) {
			d.respread(ev.Object)
		}
	case WorkloadGone:
		if d.ledger.RemoveWorkload(ev.Object) {
			d.respread(ev.Object)
		}
	case BudgetChanged:
		d.ledger.SetBudget(ev.Budget)
	case BudgetGone:
		d.ledger.RemoveBudget(ev.Budget.Namespace, ev.Budget.Name)
	case Leads:
		d.epoch, d.fed = ev.Epoch, d.ledger.Version()
	case DecidersChanged:
		d.deciders++
		d.pauses = map[string]*pause{}
		d.queue.WakeAll(d.now)
	case CapacityChanged:
		d.side = ev.Batches
	case Decided:
		d.decided(ev)
	case BindDone:
		d.bindDone(ev)
	case NominateDone:
		d.nominateDone(ev)
	case EvictDone:
		d.evictDone(ev)
	case ReadDone:
		d.readDone(ev)
	default:
		panic(fmt.Sprintf("driver: unknown event %T", ev))
	}
	d.notice()
	d.queue.Expire(d.now)
	d.retryReads()
	d.retryEvictions()
}

// Ready returns work that was not handed out yet. The caller carries it out and
// reports each outcome with Step.
func (d *Driver) Ready() Ready {
	d.bindNext()
	d.notice() // a promise that was taken back makes room
	d.nextBatches()
	r := d.ready
	d.ready = Ready{}
	r.Wake = d.wake()
	return r
}

// State returns the state of the cluster as it stands, for a decider that is not fed, or
// not yet. It costs what the cluster has.
func (d *Driver) State() State {
	s := State{d.ledger.Snapshot(), d.ledger.Digest()}
	s.Snapshot.Epoch = d.epoch
	return s
}

// Feed returns what changed of the state since it was last called, nil if nothing did.
// Deciders that are fed need it before they are asked about a batch.
func (d *Driver) Feed() *Feed {
	if !d.Unfed() {
		return nil
	}
	f := &Feed{From: d.fed, Version: d.ledger.Version(), Changes: d.ledger.Since(d.fed), Digest: d.ledger.Digest()}
	d.fed = f.Version
	return f
}

// Unfed says whether Feed has something to tell.
func (d *Driver) Unfed() bool { return d.fed < d.ledger.Version() }

// Stats is the driver's state in numbers.
type Stats struct {
	// Active, Backoff, Unschedulable and Gated count waiting pods.
	Active, Backoff, Unschedulable, Gated int
	// Deciding, Binding and Assumed count pods that are under way: Binding are those
	// whose binding has no known outcome, Assumed holds those and the ones that are bound
	// and were not yet seen by the watch.
	Deciding, Binding, Assumed int
	// Nodes and Placed count what the ledger knows.
	Nodes, Placed int
	// Netted counts pods tried again because nothing woke them for too long.
	Netted int
	// Stale counts decisions that were not committed because the cluster had moved
	// on; they were asked again.
	Stale int
	// Conflicts counts what deciders that work side by side came to do to each other.
	Conflicts Conflicts
	// Races counts what others who bind pods came to do to us.
	Races Races
	// Preempting counts the preemptions that are being carried out, Preempted the pods
	// that were evicted.
	Preempting, Preempted int
	// Refusals counts decisions that the guard did not accept.
	Refusals map[Refusal]int
}

// Races counts what came of others binding pods at the same time.
type Races struct {
	// Pods counts pods of ours that somebody else bound while they were decided about or
	// being bound.
	Pods int
	// Nodes counts pods that somebody else put where they and ours are more than fits.
	Nodes int
}

// Conflicts counts placements that did not hold because the room on the node was
// promised out of another batch meanwhile.
type Conflicts struct {
	// Next counts those pods that got the next node that the decider had named.
	Next int
	// Again counts those that were asked about again.
	Again int
}

// Stats returns the driver's state in numbers.
func (d *Driver) Stats() Stats {
	s := Stats{
		Active:        d.queue.Len(queue.Active),
		Backoff:       d.queue.Len(queue.Backoff),
		Unschedulable: d.queue.Len(queue.Waiting),
		Gated:         len(d.gated),
		Binding:       d.underWay(),
		Assumed:       d.ledger.Assumed(),
		Nodes:         d.ledger.Nodes(),
		Placed:        d.ledger.Placed(),
		Netted:        d.queue.Netted(),
		Stale:         d.stale,
		Conflicts:     d.conflicts,
		Races:         d.races,
		Preempting:    len(d.preemptions.by),
		Preempted:     d.preemptions.evicted,
		Refusals:      maps.Clone(d.refusals),
	}
	for _, o := range d.outstanding {
		s.Deciding += len(o.Request.GetPods())
	}
	return s
}

// Settled says that no binding and no eviction is under way: the process may stop.
func (d *Driver) Settled() bool { return d.underWay() == 0 }

// underWay counts the bindings and evictions without a known outcome. One that was
// handed out counts until its BindDone or EvictDone, even if its pod is gone by then:
// whoever carries it out is still busy with it.
func (d *Driver) underWay() int { return d.unheard + len(d.promised) + d.reading }

func (d *Driver) podChanged(object *corev1.Pod) {
	key := types.NamespacedName{Namespace: object.Namespace, Name: object.Name}
	if uid, ok := d.keys[key]; ok && uid != object.UID {
		d.gone(key, uid) // deleted and created again under its old name
	}
	if object.Spec.NodeName != "" {
		d.keys[key] = object.UID
		d.place(object)
		return
	}
	if _, assumed, holds := d.ledger.Holds(object.UID); holds && !assumed {
		return // older than what a read has told: pods do not lose their node
	}
	object = d.withNomination(object)
	// Whoever schedules the pod: room was made for it, and another's pod that takes it
	// first would have to be placed, or evicted for, all over again. kube-scheduler
	// knows of its own pods alone.
	d.ledger.Nominate(object)
	if _, ours := d.config.Deciders[object.Spec.SchedulerName]; !ours {
		return
	}
	d.keys[key] = object.UID

	p := d.pods[object.UID]
	eligible := object.DeletionTimestamp == nil && len(object.Spec.SchedulingGates) == 0
	delete(d.gated, object.UID)
	if !eligible {
		if object.DeletionTimestamp == nil {
			d.gated[object.UID] = true
		}
		switch {
		case p == nil:
		case p.phase == queued:
			d.leave(object.UID)
		default:
			d.ledger.Dismiss(object.UID)
			d.endPreemption(p)
			p.object, p.withdrawn = object, true
		}
		return
	}
	d.ledger.Expect(object)

	record := d.encode(object)
	if p == nil {
		d.pods[object.UID] = &pod{object: object, record: record}
		d.enqueue(object)
		return
	}
	p.object, p.withdrawn = object, false
	if proto.Equal(p.record, record) {
		return
	}
	asked := asksOtherwise(p.record, record)
	p.record = record
	if asked {
		d.endPreemption(p) // it was for another pod
	}
	if p.phase == queued && asked {
		p.refusals, p.unsupported, p.bans = 0, 0, nil // those were of another pod
		d.queue.PassOn(d.now, object.UID, "")
		d.queue.Remove(object.UID)
		d.enqueue(object)
	}
}

// encode is the pod as deciders are asked about it, but for what repels it.
func (d *Driver) encode(object *corev1.Pod) *berthv1.Pod {
	record := encode.Pod(object)
	record.SpreadSelector = d.ledger.SpreadSelector(object)
	return record
}

// asksOtherwise says whether the pod itself changed, not only the node for which it is
// nominated. Nobody else has now yet.
func asksOtherwise(before, now *berthv1.Pod) bool {
	nominated := now.NominatedNodeName
	now.NominatedNodeName = before.NominatedNodeName
	defer func() { now.NominatedNodeName = nominated }()
	return !proto.Equal(before, now)
}

// respread encodes anew the spread selectors of pods after something that they may
// belong to has changed: a Service any in its namespace, a controller its own. Only a
// pod whose selector is another now is concerned: if it waits it is worth another try,
// and a decision about it that is in flight was about another pod.
func (d *Driver) respread(workload metav1.Object) {
	_, service := workload.(*corev1.Service)
	for uid, p := range d.pods {
		if p.object.Namespace != workload.GetNamespace() {
			continue
		}
		if owner := metav1.GetControllerOfNoCopy(p.object); !service && (owner == nil || owner.Name != workload.GetName()) {
			continue
		}
		selector := d.ledger.SpreadSelector(p.object)
		if proto.Equal(selector, p.record.GetSpreadSelector()) {
			continue
		}
		p.record = proto.CloneOf(p.record) // a batch may have the old one
		p.record.SpreadSelector = selector
		d.queue.Wake(d.now, uid)
	}
}

func (d *Driver) enqueue(object *corev1.Pod) {
	var priority int32
	if object.Spec.Priority != nil {
		priority = *object.Spec.Priority
	}
	d.queue.Add(d.now, object.UID, queue.Group{SchedulerName: object.Spec.SchedulerName}, priority)
	d.queue.SetTogether(object.UID, d.ledger.Interacts(object))
}

// place records a pod that has a node, whoever bound it.
func (d *Driver) place(object *corev1.Pod) {
	node, assumed, holds := d.ledger.Holds(object.UID)
	switch p := d.pods[object.UID]; {
	case assumed && node == object.Spec.NodeName:
		d.reportScheduled(p, node)
	case p != nil && p.phase != queued && !(holds && !assumed):
		d.races.Pods++
	}
	delete(d.gated, object.UID)
	d.leave(object.UID)
	d.ledger.Place(object)
	if !holds && d.epoch != "" && d.ledger.Overcommitted(object.Spec.NodeName) {
		d.races.Nodes++
	}
}

func (d *Driver) podGone(object *corev1.Pod) {
	d.gone(types.NamespacedName{Namespace: object.Namespace, Name: object.Name}, object.UID)
}

// gone removes a pod that does not exist any more from wherever it is.
func (d *Driver) gone(key types.NamespacedName, uid types.UID) {
	if d.keys[key] == uid {
		delete(d.keys, key)
	}
	delete(d.gated, uid)
	d.leave(uid)
	d.ledger.Remove(uid)
	d.left(uid)
}

// leave takes a pod out of queue and phases; the ledger is not touched.
func (d *Driver) leave(uid types.UID) {
	p := d.pods[uid]
	if p == nil {
		return
	}
	node, _, _ := d.ledger.Holds(uid)
	d.queue.PassOn(d.now, uid, node)
	d.queue.Remove(uid)
	d.setPhase(p, queued)
	d.endPreemption(p)
	d.ledger.Dismiss(uid)
	delete(d.pods, uid)
}

// setPhase is the one function that changes a pod's phase.
func (d *Driver) setPhase(p *pod, to phase) {
	if p.phase == reading {
		d.reading--
	}
	if to == reading {
		d.reading++
	}
	p.phase, p.retry, p.batch, p.promised = to, time.Time{}, nil, 0
}

func (d *Driver) bindDone(ev BindDone) {
	d.unheard--
	p := d.pods[ev.UID]
	if p == nil || p.phase != binding {
		return // the watch was faster, or the pod is gone
	}
	switch ev.Outcome {
	case BindOK:
		d.setPhase(p, bound)
		d.ledger.Confirm(ev.UID)
		node, _, _ := d.ledger.Holds(ev.UID)
		d.reportScheduled(p, node)
	case BindGone:
		d.podGone(p.object)
	case BindConflict, BindUnknown:
		d.setPhase(p, reading)
		p.why = ev.Message
		d.read(p)
	case BindRefused:
		d.unbound(p, "the API server refused the binding: "+ev.Message)
	case BindNotSent:
		d.held = d.now.Add(notSentPause)
		d.forget(p)
		if p.withdrawn {
			d.leave(p.object.UID)
			return
		}
		d.again(p)
	default:
		panic("driver: unknown bind outcome " + ev.Outcome.String())
	}
}

func (d *Driver) readDone(ev ReadDone) {
	p := d.pods[ev.UID]
	if p == nil || p.phase != reading {
		return
	}
	switch {
	case ev.Err != nil:
		p.retry = d.now.Add(readRetry)
		d.unread = append(d.unread, unread{ev.UID, p.retry})
	case ev.Pod == nil || ev.Pod.UID != ev.UID:
		d.podGone(p.object)
	case ev.Pod.Spec.NodeName != "":
		d.place(ev.Pod)
	default:
		// The watch may have shown more than the read had seen.
		if order, err := resourceversion.CompareResourceVersion(ev.Pod.ResourceVersion, p.object.ResourceVersion); err != nil || order > 0 {
			object := d.withNomination(ev.Pod)
			p.object, p.record = object, d.encode(object)
		}
		p.withdrawn = p.withdrawn || ev.Pod.DeletionTimestamp != nil || len(ev.Pod.Spec.SchedulingGates) > 0
		d.unbound(p, "the binding failed: "+p.why)
	}
}

// unbound takes back the promise to a pod that certainly has no node, and lets
// it back off.
func (d *Driver) unbound(p *pod, message string) {
	d.forget(p)
	if p.withdrawn {
		d.leave(p.object.UID)
		return
	}
	d.reportFailed(p, corev1.PodReasonSchedulerError, message)
	d.fail(p)
}

// forget takes a promise back.
func (d *Driver) forget(p *pod) {
	d.ledger.Forget(p.object.UID)
}

func (d *Driver) read(p *pod) {
	d.ready.Read = append(d.ready.Read, Read{Namespace: p.object.Namespace, Name: p.object.Name, UID: p.object.UID})
}

// retryReads hands out again the reads that failed and have waited.
func (d *Driver) retryReads() {
	for len(d.unread) > 0 && !d.unread[0].retry.After(d.now) {
		due := d.unread[0]
		d.unread = d.unread[1:]
		if p := d.pods[due.uid]; p != nil && p.retry.Equal(due.retry) {
			p.retry = time.Time{}
			d.read(p)
		}
	}
}

// wake is when Step has something to do even if nothing happens.
func (d *Driver) wake() time.Time {
	next := d.queue.Next()
	consider := func(t time.Time) {
		if t.After(d.now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, p := range d.pauses {
		consider(p.until)
	}
	if len(d.unread) > 0 {
		consider(d.unread[0].retry)
	}
	if again := d.preemptions.again; len(again) > 0 {
		consider(again[0].at)
	}
	consider(d.held)
	return next
}

func (d *Driver) reportScheduled(p *pod, node string) {
	if !p.reported {
		p.reported = true
		d.ready.Report = append(d.ready.Report, Report{Kind: Scheduled, Pod: p.object, Node: node})
	}
}

func (d *Driver) reportFailed(p *pod, reason, message string) {
	d.ready.Report = append(d.ready.Report, Report{Kind: FailedScheduling, Pod: p.object, Reason: reason, Message: message})
}
