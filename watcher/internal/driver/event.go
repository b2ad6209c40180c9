package driver

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/watcher/internal/cluster"
)

// An Event is something that happened outside the driver: a change of the
// cluster, or the outcome of work that Ready handed out. Objects in events are
// shared with the informers and are never changed.
type Event interface{ event() }

type (
	// PodChanged says that a pod was added or is now as given.
	PodChanged struct{ Pod *corev1.Pod }
	// PodGone says that a pod does not exist any more; Pod is its last known form.
	PodGone struct{ Pod *corev1.Pod }
	// NodeChanged says that a node was added or is now as given.
	NodeChanged struct{ Node *corev1.Node }
	// NodeGone says that a node does not exist any more.
	NodeGone struct{ Node *corev1.Node }
	// SignalsChanged says that a node's signals are now as given, in thousandths by
	// name. It wakes no pod and outdates no decision: signals are for scores alone. Of a
	// node that was not announced it says nothing.
	SignalsChanged struct {
		Node    string
		Signals map[string]int64
	}
	// NamespaceChanged says that a namespace was added or is now as given.
	NamespaceChanged struct{ Namespace *corev1.Namespace }
	// NamespaceGone says that a namespace does not exist any more.
	NamespaceGone struct{ Namespace *corev1.Namespace }

	// WorkloadChanged says that a Service, ReplicationController, ReplicaSet or
	// StatefulSet was added or is now as given.
	WorkloadChanged struct{ Object metav1.Object }
	// WorkloadGone says that one of these does not exist any more.
	WorkloadGone struct{ Object metav1.Object }
	// BudgetChanged says that a pod disruption budget was added or is now as given.
	BudgetChanged struct {
		Budget *policyv1.PodDisruptionBudget
	}
	// BudgetGone says that a pod disruption budget does not exist any more.
	BudgetGone struct {
		Budget *policyv1.PodDisruptionBudget
	}

	// Leads says that this process schedules from now on, and what its epoch is called:
	// see berthv1.Snapshot. It comes once, before the first Ready.
	Leads struct{ Epoch string }

	// DecidersChanged says that a decider was reached that was not before, so that
	// pods that waited for one, or for one that understands them, may try.
	DecidersChanged struct{}
	// CapacityChanged says that there are more or fewer replicas of deciders to share the
	// work. It wakes no pod.
	CapacityChanged struct {
		// Batches is, by scheduler name, how many batches may be outstanding: as many as
		// there are replicas to decide them side by side. Without an entry it is 1. It
		// does not change.
		Batches map[string]int
	}

	// Decided is the outcome of a Batch. Exactly one of Response and Err is set.
	Decided struct {
		Batch uint64
		// Decider names who answered, for messages and metrics.
		Decider string
		// Response says by its epoch and version which state it was decided on: the
		// batch's, or a later one.
		Response *berthv1.DecideResponse
		// Err says why there is no answer. The pods of the batch are asked again.
		Err error
		// Took is how long the decider that answered took for it; 0 if nobody knows.
		Took time.Duration
	}

	// BindDone is the outcome of a Bind. There must be exactly one for each.
	BindDone struct {
		UID     types.UID
		Outcome BindOutcome
		// Message is the API server's, for people; empty for BindOK.
		Message string
	}

	// NominateDone is the outcome of a Nominate: Err is nil if the pod says so now. There
	// must be exactly one for each.
	NominateDone struct {
		UID types.UID
		Err error
	}

	// EvictDone is the outcome of an Evict. There must be exactly one for each.
	EvictDone struct {
		UID     types.UID // the victim's
		Outcome EvictOutcome
		// Message is the API server's, for people; empty for EvictOK and EvictGone.
		Message string
	}

	// ReadDone is the outcome of a Read: the pod as a quorum read found it, nil if
	// no pod of that UID exists. Err is set if the read failed; it is then tried
	// again.
	ReadDone struct {
		UID types.UID
		Pod *corev1.Pod
		Err error
	}
)

func (PodChanged) event()       {}
func (PodGone) event()          {}
func (NodeChanged) event()      {}
func (NodeGone) event()         {}
func (SignalsChanged) event()   {}
func (NamespaceChanged) event() {}
func (NamespaceGone) event()    {}
func (WorkloadChanged) event()  {}
func (WorkloadGone) event()     {}
func (BudgetChanged) event()    {}
func (BudgetGone) event()       {}
func (Leads) event()            {}
func (DecidersChanged) event()  {}
func (CapacityChanged) event()  {}
func (Decided) event()          {}
func (BindDone) event()         {}
func (NominateDone) event()     {}
func (EvictDone) event()        {}
func (ReadDone) event()         {}

// BindOutcome is what the API server said of a Binding.
type BindOutcome int

const (
	// BindUnknown: nobody knows whether the pod was bound: a timeout, a lost
	// connection, a 5xx. The promise stays until a read settles it.
	BindUnknown BindOutcome = iota
	// BindOK: 2xx. The pod is bound; the watch will show it.
	BindOK
	// BindGone: 404. The pod does not exist any more.
	BindGone
	// BindConflict: 409. The pod is bound already, is being deleted, or is another
	// pod of the same name; a read tells which.
	BindConflict
	// BindRefused: any other 4xx. The pod was certainly not bound.
	BindRefused
	// BindNotSent: the binding was not sent, because this process may no longer
	// lead or is stopping.
	BindNotSent
)

// String is the outcome as metrics and stories print it.
func (o BindOutcome) String() string {
	return [...]string{"unknown", "ok", "gone", "conflict", "refused", "not-sent"}[o]
}

// EvictOutcome is what the API server said of an eviction.
type EvictOutcome int

const (
	// EvictUnknown: nobody knows whether the victim is being deleted: a timeout, a lost
	// connection, a 5xx. It is asked for again.
	EvictUnknown EvictOutcome = iota
	// EvictOK: 2xx. The victim is being deleted, or gone.
	EvictOK
	// EvictGone: 404, or another pod of the same name. The victim is not there any more.
	EvictGone
	// EvictRefused: any other 4xx. The victim stays.
	EvictRefused
	// EvictNotSent: the eviction was not sent, because this process may no longer lead or
	// is stopping.
	EvictNotSent
)

// String is the outcome as metrics and stories print it.
func (o EvictOutcome) String() string {
	return [...]string{"unknown", "ok", "gone", "refused", "not-sent"}[o]
}

// Ready is work that the driver wants done. The caller carries it out in any
// order and reports each outcome with Step.
type Ready struct {
	// Decide are batches to ask deciders about, each of which may be answered by another
	// replica. See CapacityChanged.Batches for how many are outstanding at most.
	Decide []*Batch
	// Bind are pods to bind. Their room is already taken in the ledger.
	Bind []Bind
	// Nominate are pods to tell for which node they are nominated.
	Nominate []Nominate
	// Evict are pods to evict so that another fits. Nobody else is asked before.
	Evict []Evict
	// Read are pods to read by quorum.
	Read []Read
	// Report are facts about pods to tell their owners. Nothing comes back.
	Report []Report
	// Wake is when Step must be called again even if nothing happens; zero means
	// never.
	Wake time.Time
}

// A State is the state of the cluster.
type State struct {
	// Snapshot has the records, in the order of their keys. They are shared and do not
	// change.
	Snapshot *berthv1.Snapshot
	// Digest is theirs.
	Digest cluster.Digest
}

// A Feed is what changed of the state since the one before it, or since Leads.
type Feed struct {
	// From is the version of the Feed before, Version the one that it leads to.
	From, Version uint64
	// Changes turn the state at From, or at any version between the two, into that at
	// Version; nil if so much has changed that nobody remembers all of it. Its records
	// are shared and do not change.
	Changes *berthv1.Changes
	// Digest is that of the state at Version.
	Digest cluster.Digest
}

// A Batch is one DecideRequest. Its outcome is a Decided.
type Batch struct {
	// ID names the batch; it counts from 1.
	ID uint64
	// SchedulerName says which deciders may answer.
	SchedulerName string
	// Key is what the pods of the batch have in common, such as the controller that they
	// belong to: batches with equal keys go to the same replica, which remembers what it
	// found out about such pods. Empty means nothing; any replica will do then.
	Key string
	// Fallback is how many of the scheduler name's deciders to pass over because
	// their answers for these pods were refused; it counts from 0 and wraps.
	Fallback int
	// Epoch and Version name the state to decide on; a later version will do.
	Epoch   string
	Version uint64
	// Request is what to decide: pods and seed. Whoever asks adds the state, to a copy.
	Request *berthv1.DecideRequest
	// Asked is when the batch was handed out.
	Asked time.Time
}

// A Bind asks for a Binding with the pod's UID as precondition. Its outcome is a
// BindDone.
type Bind struct {
	Pod  *corev1.Pod
	Node string
	// Attempt is which attempt to schedule the pod this is, from 1.
	Attempt int
	// Asked is when the batch that decided it was handed out.
	Asked time.Time

	nodeUID types.UID
}

// A Nominate asks to write a pod's status.nominatedNodeName, with its UID as
// precondition. Its outcome is a NominateDone.
type Nominate struct {
	Pod *corev1.Pod
	// Node is where room is made for the pod; empty takes the nomination back.
	Node string
}

// An Evict asks to evict a pod: to write its DisruptionTarget condition and then to
// delete it, both with its UID as precondition. Its outcome is an EvictDone.
type Evict struct {
	// Victim is the pod to evict; of its status and spec nothing is known.
	Victim *corev1.Pod
	// Node is where it is, and where By is nominated.
	Node string
	// By is the pod that it makes room for.
	By *corev1.Pod
}

// A Read asks for a quorum read of a pod. Its outcome is a ReadDone; a pod of
// another UID counts as none.
type Read struct {
	Namespace, Name string
	UID             types.UID
}

// Report is a fact about a pod.
type Report struct {
	Kind ReportKind
	// Pod is the pod as the driver knows it.
	Pod *corev1.Pod
	// Node is where it was bound, for Scheduled, or is evicted from, for Preempted.
	Node string
	// By is the pod that it makes room for, for Preempted.
	By *corev1.Pod
	// Reason is the reason of the PodScheduled condition: "Unschedulable" or
	// "SchedulerError". Empty for others than FailedScheduling.
	Reason string
	// Message is the condition's message and the Event's note, in kube-scheduler's
	// words.
	Message string
}

// ReportKind tells the reports apart.
type ReportKind int

const (
	// Scheduled: the pod was bound. Event only; the API server writes the condition.
	Scheduled ReportKind = iota + 1
	// FailedScheduling: the pod found no node, or could not be decided or bound.
	FailedScheduling
	// Preempted: the pod is being evicted. Event only; whoever evicts it writes the
	// condition.
	Preempted
)
