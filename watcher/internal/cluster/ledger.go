// Package cluster is the ledger: which pods hold room on which nodes, and which
// are promised room there.
//
// It counts versions from 1: every change of a record of the state that deciders are
// told of is one, and for a while it remembers which. What belongs together, by Services and owners, it knows as well; that
// is not state but part of the pods that ask. Nothing in it does IO or knows the
// time; one caller at a time uses it. Kubernetes' objects that are handed in are
// shared and never changed.
package cluster

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/digest"
	"github.com/berth-scheduler/berth/watcher/encode"
	"github.com/berth-scheduler/berth/watcher/internal/guard"
)

// Ledger is what is where. Use New.
type Ledger struct {
	version    uint64
	log        log
	digest     Digest
	encoder    digest.Encoder
	changes    []Change // not taken yet
	nodes      map[string]*node
	pods       map[types.UID]*holding
	nominated  map[types.UID]*nomination // some of them hold room by now
	namespaces map[string]*berthv1.Namespace
	budgets    map[string]*budget // by namespace/name
	workloads  encode.Workloads
	// repelling are the required anti-affinities among pods and nominated. Replicas share one, so
	// that there are as many as workloads.
	repelling map[string]*repeller
	relations relations
	// preempted are the pods that are leaving because they were evicted for others,
	// whoever evicted them.
	preempted map[types.UID]*holding
	assumed   int // of pods
	// promised are the assumed pods that are not known to be bound.
	promised map[types.UID]*holding
	existing int // of nodes: those with an object
}

// node is one node name. The node itself may be unknown (object is nil) while
// pods are on it.
type node struct {
	object *corev1.Node
	record *berthv1.Node // with its signals
	usage  guard.Usage
	pods   int
	// aside counts the nominations for it.
	aside int
	// changed is the version of the last change by others that a decision for this
	// node may depend on: of the node itself, or of the pods on it.
	changed uint64
}

// holding is a pod that holds room on a node.
type holding struct {
	record    *berthv1.PlacedPod
	footprint guard.Footprint
	repels    string // its key in repelling; empty if it repels nobody
	// assumed pods are promised: decided by us, and not yet seen bound by the watch.
	assumed bool
	// since is the version at which it was promised; 0 once it is known to be bound.
	since uint64
}

func (h *holding) promised() bool { return h.since > 0 }

// nomination is a pod without a node for which room is set aside on one.
type nomination struct {
	record    *berthv1.PlacedPod
	footprint guard.Footprint
	repels    string // as holding's
}

// budget is a pod disruption budget.
type budget struct {
	record   *berthv1.DisruptionBudget
	selector labels.Selector
}

// repeller is a required anti-affinity of count pods; pod is one of them.
type repeller struct {
	pod   *corev1.Pod
	count int
	// held is the version at which one of them last got room, as Relation.selected.
	held [2]uint64
}

// New returns the ledger of one incarnation of one watcher.
func New() *Ledger {
	return &Ledger{
		nodes:      map[string]*node{},
		pods:       map[types.UID]*holding{},
		nominated:  map[types.UID]*nomination{},
		namespaces: map[string]*berthv1.Namespace{},
		budgets:    map[string]*budget{},
		repelling:  map[string]*repeller{},
		preempted:  map[types.UID]*holding{},
		promised:   map[types.UID]*holding{},
		relations:  relations{byKey: map[string]*Relation{}, of: map[types.UID]string{}},
	}
}

// Version is the version of the state as it stands.
func (l *Ledger) Version() uint64 { return l.version }

// Change is a change of the state, in the words of a WakeCondition.
type Change struct {
	// Object is what changed; OBJECT_KIND_UNSPECIFIED for a kind that no condition can
	// name, which budgets are.
	Object berthv1.ObjectKind
	// Kind is how. A promise adds a pod, and taking it back deletes it; its echo is no
	// change.
	Kind berthv1.ChangeKind
	// Node is the node, or the node that the pod is or was on. Empty for others.
	Node string
}

const (
	added   = berthv1.ChangeKind_CHANGE_KIND_ADDED
	updated = berthv1.ChangeKind_CHANGE_KIND_UPDATED
	deleted = berthv1.ChangeKind_CHANGE_KIND_DELETED

	aNode      = berthv1.ObjectKind_OBJECT_KIND_NODE
	aPlacedPod = berthv1.ObjectKind_OBJECT_KIND_PLACED_POD
	aNamespace = berthv1.ObjectKind_OBJECT_KIND_NAMESPACE
	aBudget    = berthv1.ObjectKind_OBJECT_KIND_UNSPECIFIED
)

// TakeChanges returns the changes since it was last called, in order.
func (l *Ledger) TakeChanges() []Change {
	taken := l.changes
	l.changes = nil
	return taken
}

func (l *Ledger) changed(object berthv1.ObjectKind, kind berthv1.ChangeKind, node string) {
	l.changes = append(l.changes, Change{object, kind, node})
}

// ChangedSince says whether a decision for the node that was made at a version may be
// wrong by now: whether anything that it may depend on has changed, other than by our
// own promises and their echoes. Of a node that is not known it says whether it may
// have been at that version.
func (l *Ledger) ChangedSince(name string, version uint64) bool {
	if n := l.nodes[name]; n != nil {
		return n.changed > version
	}
	since, ok := l.log.since(version)
	return !ok || slices.Contains(since, entry{aNode, name})
}

// Node returns the node and what is taken of it; nil if there is no such node.
func (l *Ledger) Node(name string) (*corev1.Node, *guard.Usage) {
	n := l.nodes[name]
	if n == nil || n.object == nil {
		return nil, nil
	}
	return n.object, &n.usage
}

// Free is how many times the node has so much of each resource, pods included, that no
// pod on it holds; 0 if it does not exist, and maxFree at most. Room that is set aside
// counts as free.
func (l *Ledger) Free(name string, want map[string]int64) int {
	n := l.nodes[name]
	if n == nil || n.record == nil {
		return 0
	}
	times := int64(maxFree)
	for resource, amount := range want {
		held := n.usage.Requested[resource]
		if resource == string(corev1.ResourcePods) {
			held = int64(n.usage.Pods)
		}
		if amount > 0 {
			times = min(times, max(0, n.record.GetAllocatable()[resource]-held)/amount)
		}
	}
	return int(times)
}

// Overcommitted says whether the pods on a node take more than it offers.
func (l *Ledger) Overcommitted(name string) bool {
	n := l.nodes[name]
	if n == nil || n.record == nil {
		return false
	}
	if int64(n.usage.Pods) > n.record.GetAllocatable()[string(corev1.ResourcePods)] {
		return true
	}
	for resource, amount := range n.usage.Requested {
		if amount > n.record.GetAllocatable()[resource] {
			return true
		}
	}
	return false
}

// maxFree is more pods than a node takes.
const maxFree = 1 << 20

// CrowdsOut says whether the node has no room for the pod beside the pods for which room is
// set aside there and that have no lower priority.
func (l *Ledger) CrowdsOut(pod *corev1.Pod, name string) bool {
	n := l.nodes[name]
	if n == nil || n.object == nil || n.aside == 0 {
		return false
	}
	usage, any := n.usage.Clone(), false
	for uid, m := range l.nominated {
		if uid != pod.UID && m.record.GetNodeName() == name && l.pods[uid] == nil && m.record.GetPriority() >= priority(pod) {
			usage.Add(m.footprint)
			any = true
		}
	}
	return any && guard.Check(pod, n.object, usage) != nil
}

// Without is what is taken of the node without some of the pods on it and without those
// that are leaving. It costs what the cluster has.
func (l *Ledger) Without(name string, uids []types.UID) guard.Usage {
	usage := l.nodes[name].usage.Clone()
	for uid, h := range l.pods {
		if h.record.GetNodeName() == name && (h.record.GetTerminating() || slices.Contains(uids, uid)) {
			usage.Remove(h.footprint)
		}
	}
	return usage
}

// Beside is what is taken of a pod's node by the others there. The pod must hold room.
func (l *Ledger) Beside(uid types.UID) guard.Usage {
	h := l.pods[uid]
	usage := l.nodes[h.record.GetNodeName()].usage.Clone()
	usage.Remove(h.footprint)
	return usage
}

// Record is the record of a pod that holds room; nil if it holds none.
func (l *Ledger) Record(uid types.UID) *berthv1.PlacedPod {
	if h := l.pods[uid]; h != nil {
		return h.record
	}
	return nil
}

// PodChangedSince says whether a pod's record has changed after a version, or may have.
func (l *Ledger) PodChangedSince(uid types.UID, version uint64) bool {
	since, ok := l.log.since(version)
	return !ok || slices.Contains(since, entry{aPlacedPod, string(uid)})
}

// BudgetsChangedSince says whether a disruption budget has changed after a version, or may
// have.
func (l *Ledger) BudgetsChangedSince(version uint64) bool {
	since, ok := l.log.since(version)
	return !ok || slices.ContainsFunc(since, func(e entry) bool { return e.object == aBudget })
}

// NominatedOn are the pods without room for which room is set aside on the node, in the
// order of their uids.
func (l *Ledger) NominatedOn(name string) (uids []types.UID) {
	if n := l.nodes[name]; n == nil || n.aside == 0 {
		return nil
	}
	for uid, m := range l.nominated {
		if m.record.GetNodeName() == name && l.pods[uid] == nil {
			uids = append(uids, uid)
		}
	}
	slices.Sort(uids)
	return uids
}

// Protecting are the keys of the disruption budgets that evicting the pod uses up, in
// order, each with how many evictions it allows. A pod without labels is under no
// budget, and one that is leaving was counted before.
func (l *Ledger) Protecting(pod *berthv1.PlacedPod) map[string]int32 {
	if pod.GetTerminating() {
		return nil
	}
	var protecting map[string]int32
	for key, b := range l.budgets {
		if !b.selects(pod) || slices.Contains(b.record.GetDisruptedPods(), pod.GetName()) {
			continue
		}
		if protecting == nil {
			protecting = map[string]int32{}
		}
		protecting[key] = b.record.GetDisruptionsAllowed()
	}
	return protecting
}

// MakingRoom says whether a pod that was evicted for another is still leaving the node, or
// is one of those that a disruption budget selects, by its key.
func (l *Ledger) MakingRoom(node string, budgets []string) bool {
	for _, h := range l.preempted {
		if h.record.GetNodeName() == node ||
			slices.ContainsFunc(budgets, func(key string) bool { return l.budgets[key].selects(h.record) }) {
			return true
		}
	}
	return false
}

// Selected says whether a pod that holds room is selected by a disruption budget.
func (l *Ledger) Selected(key string, uid types.UID) bool {
	h := l.pods[uid]
	return h != nil && l.budgets[key].selects(h.record)
}

func (b *budget) selects(pod *berthv1.PlacedPod) bool {
	return b != nil && len(pod.GetLabels()) > 0 && b.record.GetNamespace() == pod.GetNamespace() && b.selector.Matches(labels.Set(pod.GetLabels()))
}

func priority(pod *corev1.Pod) int32 {
	if pod.Spec.Priority == nil {
		return 0
	}
	return *pod.Spec.Priority
}

// Nodes counts the nodes that exist.
func (l *Ledger) Nodes() int { return l.existing }

// Placed counts the pods that hold room, promised room included.
func (l *Ledger) Placed() int { return len(l.pods) }

// Assumed counts the pods that are promised room.
func (l *Ledger) Assumed() int { return l.assumed }

// Holds says whether the pod holds room, and on which node.
func (l *Ledger) Holds(uid types.UID) (node string, assumed, ok bool) {
	h := l.pods[uid]
	if h == nil {
		return "", false, false
	}
	return h.record.GetNodeName(), h.assumed, true
}

// SetNode records a node as it now is. A node whose UID changed was deleted and
// created again. Images are for scores alone, see SetSignals.
func (l *Ledger) SetNode(object *corev1.Node) {
	record := encode.Node(object)
	n := l.at(object.Name)
	old := n.record
	if old == nil {
		l.existing++
	}
	if old.GetUid() == record.GetUid() {
		record.Signals = old.GetSignals()
	}
	n.object, n.record = object, record
	if old != nil && proto.Equal(old, record) {
		return
	}
	l.note(aNode, object.Name, old, record)
	if old == nil || old.GetUid() != record.GetUid() || !maps.Equal(old.GetLabels(), record.GetLabels()) ||
		len(old.GetTaints())+len(record.GetTaints()) > 0 || old.GetUnschedulable() != record.GetUnschedulable() {
		l.relations.topology = l.version // taints and cordons: for spreading that honours them
	}
	switch {
	case old == nil:
		l.changed(aNode, added, object.Name)
	case old.GetUid() != record.GetUid():
		l.changed(aNode, deleted, object.Name)
		l.changed(aNode, added, object.Name)
	case onlyImages(old, record):
		return // as with signals
	default:
		l.changed(aNode, updated, object.Name)
	}
	n.changed = l.version
}

// onlyImages says whether a node changed in nothing but its images. Nobody else has
// now yet.
func onlyImages(before, now *berthv1.Node) bool {
	images := now.Images
	now.Images = before.Images
	defer func() { now.Images = images }()
	return proto.Equal(before, now)
}

// SetSignals records a node's signals, in thousandths by name; of a node that does
// not exist it knows none. Signals are for scores alone: no pod fits because of
// them, and no decision is wrong because they have changed since. The map is
// shared and not changed.
func (l *Ledger) SetSignals(name string, signals map[string]int64) {
	n := l.nodes[name]
	if n == nil || n.object == nil || maps.Equal(n.record.GetSignals(), signals) {
		return
	}
	old := n.record
	n.record = encode.Node(n.object) // records that deciders may have been sent stay as they are
	n.record.Signals = signals
	l.note(aNode, name, old, n.record)
}

// RemoveNode records that a node is gone. Pods on it stay until they go
// themselves.
func (l *Ledger) RemoveNode(name string) {
	n := l.nodes[name]
	if n == nil || n.object == nil {
		return
	}
	l.note(aNode, name, n.record, nil)
	l.relations.topology = l.version
	l.existing--
	n.object, n.record, n.changed = nil, nil, l.version
	l.changed(aNode, deleted, name)
	l.drop(name, n)
}

// SetNamespace records a namespace as it now is.
func (l *Ledger) SetNamespace(object *corev1.Namespace) {
	record := encode.Namespace(object)
	old := l.namespaces[object.Name]
	if old != nil && proto.Equal(old, record) {
		return
	}
	l.namespaces[object.Name] = record
	l.note(aNamespace, object.Name, old, record)
	l.relations.topology = l.version
	l.changed(aNamespace, addedOrUpdated(old != nil), "")
}

func addedOrUpdated(existed bool) berthv1.ChangeKind {
	if existed {
		return updated
	}
	return added
}

// RemoveNamespace records that a namespace is gone.
func (l *Ledger) RemoveNamespace(name string) {
	if old := l.namespaces[name]; old != nil {
		delete(l.namespaces, name)
		l.note(aNamespace, name, old, nil)
		l.relations.topology = l.version
		l.changed(aNamespace, deleted, "")
	}
}

// SetBudget records a pod disruption budget as it now is.
func (l *Ledger) SetBudget(object *policyv1.PodDisruptionBudget) {
	key := object.Namespace + "/" + object.Name
	record := encode.DisruptionBudget(object)
	old := l.budgets[key]
	if old != nil && proto.Equal(old.record, record) {
		return
	}
	selector, err := metav1.LabelSelectorAsSelector(object.Spec.Selector)
	if err != nil {
		selector = labels.Nothing() // as in the record
	}
	l.budgets[key] = &budget{record, selector}
	var before *berthv1.DisruptionBudget
	if old != nil {
		before = old.record
	}
	l.note(aBudget, key, before, record)
	l.changed(aBudget, addedOrUpdated(old != nil), "")
}

// RemoveBudget records that a pod disruption budget is gone.
func (l *Ledger) RemoveBudget(namespace, name string) {
	key := namespace + "/" + name
	if old := l.budgets[key]; old != nil {
		delete(l.budgets, key)
		l.note(aBudget, key, old.record, nil)
		l.changed(aBudget, deleted, "")
	}
}

// SetWorkload records an object that pods belong to as it now is (see
// encode.Workloads), and reports whether the spread selectors of pods in its
// namespace may be others for that. It is no change of the state.
func (l *Ledger) SetWorkload(object metav1.Object) bool { return l.workloads.Set(object) }

// RemoveWorkload records that such an object is gone, and reports as SetWorkload does.
func (l *Ledger) RemoveWorkload(object metav1.Object) bool { return l.workloads.Remove(object) }

// SpreadSelector selects the pods that belong together with pod; nil if there are
// none.
func (l *Ledger) SpreadSelector(pod *corev1.Pod) *berthv1.LabelSelector {
	return l.workloads.SpreadSelector(pod)
}

// Nominate records for which node, if any, a pod that has none is nominated. The
// nomination is not to be seen while the pod holds room.
func (l *Ledger) Nominate(pod *corev1.Pod) {
	old, record := l.nominated[pod.UID], encode.Nominated(pod)
	if record == nil {
		l.withdraw(pod.UID)
		return
	}
	if old != nil && proto.Equal(old.record, record) {
		return
	}
	if old != nil && old.record.GetNodeName() != record.GetNodeName() {
		l.withdraw(pod.UID)
		old = nil
	} else if old != nil {
		l.unrepel(old.repels)
	}
	before := l.placed(pod.UID)
	if old == nil {
		l.at(record.GetNodeName()).aside++
	}
	l.nominated[pod.UID] = &nomination{record: record, footprint: guard.FootprintOf(pod), repels: l.repel(pod)}
	l.notePod(pod.UID, before)
	if l.pods[pod.UID] != nil {
		return
	}
	l.setAside(l.nominated[pod.UID], addedOrUpdated(old != nil))
}

// setAside notes that a nomination is to be seen from this version on.
func (l *Ledger) setAside(of *nomination, kind berthv1.ChangeKind) {
	record := of.record
	l.changed(aPlacedPod, kind, record.GetNodeName())
	l.concerns(record.GetNamespace(), record.GetLabels(), of.repels, byOthers)
	if n := l.nodes[record.GetNodeName()]; n != nil {
		n.changed = l.version
	}
}

// withdraw ends a nomination if there is one.
func (l *Ledger) withdraw(uid types.UID) {
	n := l.nominated[uid]
	if n == nil {
		return
	}
	before := l.placed(uid)
	delete(l.nominated, uid)
	on := l.nodes[n.record.GetNodeName()]
	on.aside--
	l.drop(n.record.GetNodeName(), on)
	l.unrepel(n.repels)
	l.notePod(uid, before)
	if l.pods[uid] == nil {
		l.changed(aPlacedPod, deleted, n.record.GetNodeName())
		l.concerns(n.record.GetNamespace(), n.record.GetLabels(), "", byOthers)
	}
}

// Assume promises the pod room on the node. together is as in Outdated. It panics if the
// pod holds room already: a pod is in exactly one place.
func (l *Ledger) Assume(pod *corev1.Pod, nodeName string, together bool) {
	if l.pods[pod.UID] != nil {
		panic("cluster: pod assumed twice: " + string(pod.UID))
	}
	if n := l.nominated[pod.UID]; n != nil && n.record.GetNodeName() != nodeName {
		l.changed(aPlacedPod, deleted, n.record.GetNodeName())
	}
	before := l.placed(pod.UID)
	l.hold(pod, encode.PlacedPod(pod, nodeName), true)
	l.notePod(pod.UID, before)
	h := l.pods[pod.UID]
	h.since = l.version
	l.promised[pod.UID] = h
	l.changed(aPlacedPod, added, nodeName)
	by := byOthers
	if together {
		by = byLane
	}
	l.concerns(pod.Namespace, pod.Labels, l.pods[pod.UID].repels, by)
}

// Forget takes a promise back; a nomination of the pod is to be seen again. It panics
// if there is no promise.
func (l *Ledger) Forget(uid types.UID) {
	h := l.pods[uid]
	if h == nil || !h.assumed {
		panic("cluster: pod is not assumed: " + string(uid))
	}
	l.release(uid)
	l.notePod(uid, h.record)
	l.changed(aPlacedPod, deleted, h.record.GetNodeName())
	l.concerns(h.record.GetNamespace(), h.record.GetLabels(), "", byOthers)
	l.deserts(h.record.GetNamespace(), h.record.GetLabels())
	if n := l.nominated[uid]; n != nil && n.record.GetNodeName() != h.record.GetNodeName() {
		l.setAside(n, added)
	}
}

// Place records a pod that is bound, as it now is. If it is the echo of our own
// promise the node does not count as changed.
func (l *Ledger) Place(pod *corev1.Pod) {
	record := encode.PlacedPod(pod, pod.Spec.NodeName)
	node := record.GetNodeName()
	old := l.pods[pod.UID]
	if old != nil && !old.assumed && proto.Equal(old.record, record) {
		return
	}
	l.withdraw(pod.UID)
	before := l.placed(pod.UID)
	if old != nil {
		l.release(pod.UID)
	}
	l.hold(pod, record, false)
	l.notePod(pod.UID, before)
	l.confirms(pod.UID, l.pods[pod.UID])
	concerns := func(r *berthv1.PlacedPod) {
		l.concerns(r.GetNamespace(), r.GetLabels(), l.pods[pod.UID].repels, byOthers)
	}
	switch {
	case old == nil: // somebody else bound it
		concerns(record)
		l.changed(aPlacedPod, added, node)
		l.nodes[node].changed = l.version
	case old.record.GetNodeName() != node: // it was promised elsewhere
		concerns(record)
		l.deserts(old.record.GetNamespace(), old.record.GetLabels())
		l.changed(aPlacedPod, deleted, old.record.GetNodeName())
		l.changed(aPlacedPod, added, node)
		l.nodes[node].changed = l.version
	default:
		resized := !maps.Equal(old.record.GetRequests(), record.GetRequests())
		relabelled := !maps.Equal(old.record.GetLabels(), record.GetLabels())
		leaving := old.record.GetTerminating() != record.GetTerminating() || old.record.GetPreempted() != record.GetPreempted()
		if resized || relabelled || leaving { // and not just started
			l.changed(aPlacedPod, updated, node)
		}
		if leaving {
			concerns(old.record)
			concerns(record)
		} else if relabelled {
			l.relabels(record.GetNamespace(), old.record.GetLabels(), record.GetLabels())
		}
		if (resized || relabelled) && !old.assumed {
			l.nodes[node].changed = l.version
		}
	}
}

// Remove records that a pod is gone.
func (l *Ledger) Remove(uid types.UID) {
	l.withdraw(uid)
	h := l.pods[uid]
	if h == nil {
		return
	}
	l.release(uid)
	l.notePod(uid, h.record)
	l.changed(aPlacedPod, deleted, h.record.GetNodeName())
	l.concerns(h.record.GetNamespace(), h.record.GetLabels(), "", byOthers)
	if h.assumed {
		l.deserts(h.record.GetNamespace(), h.record.GetLabels())
	}
}

// Repelled says whether the required anti-affinity of a pod that holds room, or of
// another for which room is set aside, may keep the pod from some node.
func (l *Ledger) Repelled(pod *corev1.Pod) bool {
	own := l.nominated[pod.UID]
	for key, r := range l.repelling {
		if own != nil && own.repels == key && r.count == 1 {
			continue // a pod's own nomination is no other's
		}
		if encode.MaySelect(r.pod, pod) {
			return true
		}
	}
	return false
}

// Snapshot is the state as deciders see it, records in the order of their keys,
// without an epoch. It costs what the cluster has. The records are shared with the
// ledger, which replaces and never changes them.
func (l *Ledger) Snapshot() *berthv1.Snapshot {
	s := &berthv1.Snapshot{
		Version:    l.version,
		Nodes:      make([]*berthv1.Node, 0, len(l.nodes)),
		PlacedPods: make([]*berthv1.PlacedPod, 0, len(l.pods)+len(l.nominated)),
		Namespaces: make([]*berthv1.Namespace, 0, len(l.namespaces)),
	}
	for _, n := range l.nodes {
		if n.record != nil {
			s.Nodes = append(s.Nodes, n.record)
		}
	}
	for _, h := range l.pods {
		s.PlacedPods = append(s.PlacedPods, h.record)
	}
	for uid, n := range l.nominated {
		if l.pods[uid] == nil {
			s.PlacedPods = append(s.PlacedPods, n.record)
		}
	}
	for _, b := range l.budgets {
		s.DisruptionBudgets = append(s.DisruptionBudgets, b.record)
	}
	for _, ns := range l.namespaces {
		s.Namespaces = append(s.Namespaces, ns)
	}
	slices.SortFunc(s.Nodes, func(a, b *berthv1.Node) int { return strings.Compare(a.GetName(), b.GetName()) })
	slices.SortFunc(s.PlacedPods, func(a, b *berthv1.PlacedPod) int { return strings.Compare(a.GetUid(), b.GetUid()) })
	slices.SortFunc(s.Namespaces, func(a, b *berthv1.Namespace) int { return strings.Compare(a.GetName(), b.GetName()) })
	slices.SortFunc(s.DisruptionBudgets, func(a, b *berthv1.DisruptionBudget) int {
		return cmp.Or(strings.Compare(a.GetNamespace(), b.GetNamespace()), strings.Compare(a.GetName(), b.GetName()))
	})
	return s
}

// hold and release are the only functions that change what is on a node.
func (l *Ledger) hold(pod *corev1.Pod, record *berthv1.PlacedPod, assumed bool) {
	h := &holding{record: record, footprint: guard.FootprintOf(pod), repels: l.repel(pod), assumed: assumed}
	l.pods[pod.UID] = h
	n := l.at(record.GetNodeName())
	n.usage.Add(h.footprint)
	n.pods++
	if record.GetPreempted() {
		l.preempted[pod.UID] = h
	}
	if assumed {
		l.assumed++
	}
}

func (l *Ledger) release(uid types.UID) {
	h := l.pods[uid]
	delete(l.pods, uid)
	delete(l.preempted, uid)
	delete(l.promised, uid)
	l.unrepel(h.repels)
	name := h.record.GetNodeName()
	n := l.nodes[name]
	n.usage.Remove(h.footprint)
	n.pods--
	if h.assumed {
		l.assumed--
	}
	l.drop(name, n)
}

// repel counts the pod among those that repel others and returns its key there; empty
// if it repels nobody.
func (l *Ledger) repel(pod *corev1.Pod) string {
	if !encode.AntiAffinity(pod) {
		return ""
	}
	key := repels(pod)
	r := l.repelling[key]
	if r == nil {
		r = &repeller{pod: pod}
		l.repelling[key] = r
	}
	r.count++
	return key
}

func (l *Ledger) unrepel(key string) {
	if r := l.repelling[key]; r != nil {
		if r.count--; r.count == 0 {
			delete(l.repelling, key)
		}
	}
}

// repels is what tells required anti-affinities apart: the terms, and the namespace
// that they are relative to.
func repels(pod *corev1.Pod) string {
	terms, err := json.Marshal(pod.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
	if err != nil {
		return string(pod.UID) // one of its own
	}
	return pod.Namespace + "/" + string(terms)
}

func (l *Ledger) at(name string) *node {
	n := l.nodes[name]
	if n == nil {
		// It may have been there before, and a decision on its way to it.
		n = &node{changed: l.version}
		l.nodes[name] = n
	}
	return n
}

// drop lets go of a node that is gone and holds nothing.
func (l *Ledger) drop(name string, n *node) {
	if n.object == nil && n.pods == 0 && n.aside == 0 {
		delete(l.nodes, name)
	}
}
