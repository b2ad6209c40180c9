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
//	  │                               not sent:  │  reading ─── it has a node ─────► (ledger)
//	  │                              forgotten   │   │
//	  ├──────────────────────────────────────────┘   │ it has none: forgotten
//	  └──────────────────────────────────────────────┘
//
// and from everywhere to nowhere when the pod is gone.
//
// From binding on the ledger holds the pod's room: it is assumed. It stays
// assumed until the API server has said what became of the Binding; nothing is
// forgotten because time passed.
package driver

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/watcher/encode"
	"github.com/berth-scheduler/berth/watcher/internal/cluster"
	"github.com/berth-scheduler/berth/watcher/internal/guard"
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
	// MaxBatch is the most pods in one batch.
	MaxBatch int
	// MaxBinding is how many bindings may be under way before no more batches are
	// handed out.
	MaxBinding int
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

	batch    *Batch                  // outstanding, nil if none
	since    map[cluster.Change]bool // what changed since it was handed out
	batches  uint64
	pauses   map[string]*pause // by scheduler name
	held     time.Time         // no batch is handed out before
	deciders uint64            // how often DecidersChanged came
	unheard  int               // bindings handed out without a BindDone yet
	reading  int               // pods in phase reading
	ready    Ready
	refusals map[Refusal]int
	stale    int
}

// pod is a pod of ours without a node that the watch has shown.
type pod struct {
	object *corev1.Pod
	record *berthv1.Pod
	phase  phase
	// sent is the record that the outstanding batch has of it.
	sent *berthv1.Pod
	// withdrawn pods were gated or deleted while a decision was in flight.
	withdrawn   bool
	waitsFor    []*berthv1.WakeCondition // since its last rejection
	refusals    int                      // answers refused in a row
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
		// One batch is outstanding at a time.
	case Decided:
		d.decided(ev)
	case BindDone:
		d.bindDone(ev)
	case ReadDone:
		d.readDone(ev)
	default:
		panic(fmt.Sprintf("driver: unknown event %T", ev))
	}
	d.notice()
	d.queue.Expire(d.now)
	d.retryReads()
}

// Ready returns work that was not handed out yet. The caller carries it out and
// reports each outcome with Step.
func (d *Driver) Ready() Ready {
	d.nextBatch()
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
	// Refusals counts decisions that the guard did not accept.
	Refusals map[Refusal]int
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
		Refusals:      maps.Clone(d.refusals),
	}
	if d.batch != nil {
		s.Deciding = len(d.batch.Request.GetPods())
	}
	return s
}

// Settled says that no binding is under way: the process may stop.
func (d *Driver) Settled() bool { return d.underWay() == 0 }

// underWay counts the bindings without a known outcome. A binding that was handed
// out counts until its BindDone, even if its pod is gone by then: whoever carries
// it out is still busy with it.
func (d *Driver) underWay() int { return d.unheard + d.reading }

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
			p.object, p.withdrawn = object, true
		}
		return
	}

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
	if p.phase == queued && asked {
		p.refusals, p.unsupported = 0, 0 // those were of another pod
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
}

// place records a pod that has a node, whoever bound it.
func (d *Driver) place(object *corev1.Pod) {
	node, assumed, _ := d.ledger.Holds(object.UID)
	if assumed && node == object.Spec.NodeName {
		d.reportScheduled(d.pods[object.UID], node)
	}
	delete(d.gated, object.UID)
	d.leave(object.UID)
	d.ledger.Place(object)
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
}

// leave takes a pod out of queue and phases; the ledger is not touched.
func (d *Driver) leave(uid types.UID) {
	p := d.pods[uid]
	if p == nil {
		return
	}
	d.queue.Remove(uid)
	d.setPhase(p, queued)
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
	p.phase, p.retry = to, time.Time{}
}

// nextBatch puts the next batch into Ready if one may be handed out.
func (d *Driver) nextBatch() {
	if d.batch != nil || d.underWay() >= d.config.MaxBinding || d.held.After(d.now) {
		return
	}
	entries := d.queue.Pop(func(g queue.Group) int {
		if p := d.pauses[g.SchedulerName]; p != nil && p.until.After(d.now) {
			return 0
		}
		if g.Most > 0 {
			return g.Most
		}
		return d.config.MaxBatch
	})
	if len(entries) == 0 {
		return
	}
	d.batches++
	d.seed++
	d.since = map[cluster.Change]bool{}
	request := &berthv1.DecideRequest{
		Pods: make([]*berthv1.Pod, 0, len(entries)),
		Seed: scramble(d.seed),
	}
	d.batch = &Batch{
		ID:            d.batches,
		SchedulerName: entries[0].Group.SchedulerName,
		Fallback:      entries[0].Group.Fallback,
		Epoch:         d.epoch,
		Version:       d.ledger.Version(),
		Request:       request,
		Asked:         d.now,
		deciders:      d.deciders,
	}
	for _, e := range entries {
		p := d.pods[e.UID]
		d.setPhase(p, deciding)
		p.sent = p.record
		record := p.record
		if d.ledger.Repelled(p.object) {
			record = proto.CloneOf(record)
			record.Constraints = append(record.Constraints, berthv1.ConstraintExistingAntiAffinity)
			slices.Sort(record.Constraints)
		}
		request.Pods = append(request.Pods, record)
	}
	d.ready.Decide = append(d.ready.Decide, d.batch)
}

// scramble is splitmix64's output function: neighbouring seeds become unrelated.
func scramble(x uint64) uint64 {
	x *= 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// decided commits the results of a batch in order.
func (d *Driver) decided(ev Decided) {
	b := d.batch
	if b == nil || ev.Batch != b.ID {
		return // nothing is outstanding under that name
	}
	d.batch = nil
	pods := b.Request.GetPods()
	if ev.Err == nil && !answers(ev.Response, pods) {
		ev.Err = fmt.Errorf("decider %s did not answer pod by pod: %d decisions for %d pods, or in another order",
			ev.Decider, len(ev.Response.GetDecisions()), len(pods))
		d.refusals[Refusal{ev.Decider, "malformed"}]++
	}
	if r := ev.Response; ev.Err == nil && (r.GetEpoch() != b.Epoch || r.GetVersion() < b.Version || r.GetVersion() > d.ledger.Version()) {
		ev.Err = fmt.Errorf("decider %s answered for version %d of epoch %q; it was asked for version %d of epoch %q, and that is now at %d",
			ev.Decider, r.GetVersion(), r.GetEpoch(), b.Version, b.Epoch, d.ledger.Version())
		d.refusals[Refusal{ev.Decider, "other-state"}]++
	}
	if ev.Err != nil {
		d.undecided(b, ev.Err)
		return
	}

	c := &commit{batch: b, version: ev.Response.GetVersion(), decider: ev.Decider, dirty: map[string]bool{}, since: d.since}
	undecided := 0
	for i, decision := range ev.Response.GetDecisions() {
		p := d.pods[types.UID(pods[i].GetUid())]
		switch {
		case p == nil || p.phase != deciding:
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
		d.pause(b.SchedulerName) // not at once: nothing would be different
	} else {
		delete(d.pauses, b.SchedulerName)
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

// undecided takes back a batch that nobody answered.
func (d *Driver) undecided(b *Batch, err error) {
	var outage *pause
	if errors.Is(err, ErrNoDecider) {
		outage = d.pause(b.SchedulerName)
	}
	for _, record := range b.Request.GetPods() {
		p := d.pods[types.UID(record.GetUid())]
		if p == nil || p.phase != deciding {
			continue
		}
		if p.withdrawn {
			d.leave(p.object.UID)
			continue
		}
		if outage == nil {
			d.reportFailed(p, corev1.PodReasonSchedulerError, err.Error())
			d.shareWith(p, max(len(b.Request.GetPods())/2, 1))
			d.fail(p)
			continue
		}
		if outage.failures >= silentFailures && p.told != outage {
			p.told = outage // once is enough
			d.reportFailed(p, corev1.PodReasonSchedulerError, err.Error())
		}
		d.again(p)
	}
}

// pause keeps the scheduler name's pods back for a while, longer each time in a
// row.
func (d *Driver) pause(schedulerName string) *pause {
	p := d.pauses[schedulerName]
	if p == nil {
		p = &pause{}
		d.pauses[schedulerName] = p
	}
	length := maxPause
	if p.failures < 6 { // 100 ms << 6 is past the maximum
		length = min(minPause<<p.failures, maxPause)
	}
	p.failures++
	p.until = d.now.Add(length)
	return p
}

// commit is the state of committing one batch.
type commit struct {
	batch   *Batch
	version uint64 // of the state that it was decided on
	decider string
	// dirty are the nodes on which an earlier pod of the batch was placed that is
	// not there after all: what was decided for them, or against the lack of room on
	// them, was decided on a state that never came to be.
	dirty map[string]bool
	since map[cluster.Change]bool // what changed while the decisions were in flight
}

// skip notes that a decision is not committed as decided.
func (c *commit) skip(decision *berthv1.Decision) {
	if decision.GetOutcome() == berthv1.Outcome_OUTCOME_PLACED && len(decision.GetCandidates()) > 0 {
		c.dirty[decision.GetCandidates()[0].GetNodeName()] = true
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
		if len(c.dirty) > 0 {
			d.stale++
			d.again(p)
			return
		}
		p.refusals = 0
		d.reportFailed(p, corev1.PodReasonUnschedulable, decision.GetRejection().GetMessage())
		d.reject(c, p, decision.GetRejection().GetWakeConditions())

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
// holds, promises the room and asks for the binding.
func (d *Driver) commitPlaced(c *commit, p *pod, asked *berthv1.Pod, decision *berthv1.Decision) {
	if len(decision.GetCandidates()) == 0 {
		d.refuse(c, p, decision, "malformed", "it placed the pod without naming a node")
		return
	}
	candidate := decision.GetCandidates()[0]
	name := candidate.GetNodeName()
	node, usage := d.ledger.Node(name)
	changed := d.ledger.ChangedSince(name, c.version)
	switch {
	case node == nil && !changed:
		d.refuse(c, p, decision, "unknown-node", fmt.Sprintf("node %q was not among those it was sent", name))
		return
	case !changed && candidate.GetNodeUid() != string(node.UID):
		d.refuse(c, p, decision, "unknown-node", fmt.Sprintf("node %q has uid %q, not %q", name, node.UID, candidate.GetNodeUid()))
		return
	case changed, c.dirty[name], len(c.dirty) > 0 && countsPods(asked):
		// The node changed, went away, or does not hold what the decider thought it
		// would, or pods that were counted on are not where they should be: the decider
		// is not at fault.
		c.skip(decision)
		d.stale++
		d.again(p)
		return
	}
	if refusal := guard.Check(p.object, node, *usage); refusal != nil {
		d.refuse(c, p, decision, refusal.Reason, refusal.Message)
		return
	}
	p.refusals = 0
	d.setPhase(p, binding)
	d.ledger.Assume(p.object, name)
	d.unheard++
	d.ready.Bind = append(d.ready.Bind, Bind{
		Pod: p.object, Node: name, Attempt: d.queue.Get(p.object.UID).Attempts, Asked: c.batch.Asked,
	})
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

// refuse turns down an answer that must not be carried out. The decider is
// counted by name; the pod backs off, and goes to the next decider after
// refusalsPerDecider of them.
func (d *Driver) refuse(c *commit, p *pod, decision *berthv1.Decision, reason, message string) {
	c.skip(decision)
	d.refusals[Refusal{c.decider, reason}]++
	d.reportFailed(p, corev1.PodReasonSchedulerError, fmt.Sprintf("refused the answer of decider %s: %s", c.decider, message))
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
	d.queue.Reject(d.now, p.object.UID, interestOf(waitsFor))
	came := d.deciders != c.batch.deciders
	for change := range c.since {
		came = came || d.worthATry(p, change)
	}
	if came { // what it waits for, while the decision was in flight
		d.queue.Wake(d.now, p.object.UID)
	}
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
		p.object, p.record = ev.Pod, d.encode(ev.Pod)
		p.withdrawn = ev.Pod.DeletionTimestamp != nil || len(ev.Pod.Spec.SchedulingGates) > 0
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
