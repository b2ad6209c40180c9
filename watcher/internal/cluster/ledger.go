// Package cluster is the ledger: which pods hold room on which nodes, and which
// are promised room there.
//
// It counts versions from 1: every change of the state that deciders are told
// of is one. Nothing in it does IO or knows the time; one caller at a time uses
// it. Kubernetes' objects that are handed in are shared and never changed.
package cluster

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/watcher/encode"
	"github.com/berth-scheduler/berth/watcher/internal/guard"
)

// Ledger is what is where. Use New.
type Ledger struct {
	epoch      string
	version    uint64
	room       uint64
	nodes      map[string]*node
	pods       map[types.UID]*holding
	namespaces map[string]*berthv1.Namespace
	// repelling are the required anti-affinities among pods. Replicas share one, so
	// that there are as many as workloads.
	repelling map[string]*repeller
	assumed   int // of pods
	existing  int // of nodes: those with an object
}

// node is one node name. The node itself may be unknown (object is nil) while
// pods are on it.
type node struct {
	object *corev1.Node
	record *berthv1.Node // with its signals
	usage  guard.Usage
	pods   int
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
}

// repeller is a required anti-affinity of count pods; pod is one of them.
type repeller struct {
	pod   *corev1.Pod
	count int
}

// New returns the ledger of one incarnation of one watcher.
func New(epoch string) *Ledger {
	return &Ledger{
		epoch:      epoch,
		nodes:      map[string]*node{},
		pods:       map[types.UID]*holding{},
		namespaces: map[string]*berthv1.Namespace{},
		repelling:  map[string]*repeller{},
	}
}

// Version is the version of the state as it stands.
func (l *Ledger) Version() uint64 { return l.version }

// RoomVersion is the version of the last change that may have made room for a
// pod that was rejected before: a node that was added or changed, a pod that
// went away, a promise that was taken back.
func (l *Ledger) RoomVersion() uint64 { return l.room }

// NodeVersion is the version of the last change, other than our own promises and
// their echoes, that a decision for the node may depend on; 0 for a node that
// was never seen.
func (l *Ledger) NodeVersion(name string) uint64 {
	if n := l.nodes[name]; n != nil {
		return n.changed
	}
	return 0
}

// Node returns the node and what is taken of it; nil if there is no such node.
func (l *Ledger) Node(name string) (*corev1.Node, *guard.Usage) {
	n := l.nodes[name]
	if n == nil || n.object == nil {
		return nil, nil
	}
	return n.object, &n.usage
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

// SetNode records a node as it now is and reports whether deciders would see a
// difference. A node whose UID changed was deleted and created again.
func (l *Ledger) SetNode(object *corev1.Node) bool {
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
		return false
	}
	l.version++
	n.changed, l.room = l.version, l.version
	return true
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
	n.record = encode.Node(n.object) // records that deciders may have been sent stay as they are
	n.record.Signals = signals
	l.version++
}

// RemoveNode records that a node is gone. Pods on it stay until they go
// themselves.
func (l *Ledger) RemoveNode(name string) {
	n := l.nodes[name]
	if n == nil || n.object == nil {
		return
	}
	l.version++
	l.existing--
	n.object, n.record, n.changed = nil, nil, l.version
	l.drop(name, n)
}

// SetNamespace records a namespace as it now is.
func (l *Ledger) SetNamespace(object *corev1.Namespace) {
	record := encode.Namespace(object)
	if old := l.namespaces[object.Name]; old == nil || !proto.Equal(old, record) {
		l.namespaces[object.Name] = record
		l.version++
	}
}

// RemoveNamespace records that a namespace is gone.
func (l *Ledger) RemoveNamespace(name string) {
	if l.namespaces[name] != nil {
		delete(l.namespaces, name)
		l.version++
	}
}

// Assume promises the pod room on the node. It panics if the pod holds room
// already: a pod is in exactly one place.
func (l *Ledger) Assume(pod *corev1.Pod, nodeName string) {
	if l.pods[pod.UID] != nil {
		panic("cluster: pod assumed twice: " + string(pod.UID))
	}
	l.hold(pod, encode.PlacedPod(pod, nodeName), true)
	l.version++
}

// Forget takes a promise back. It panics if there is none.
func (l *Ledger) Forget(uid types.UID) {
	if h := l.pods[uid]; h == nil || !h.assumed {
		panic("cluster: pod is not assumed: " + string(uid))
	}
	l.release(uid)
	l.version++
	l.room = l.version
}

// Place records a pod that is bound, as it now is. If it is the echo of our own
// promise the node does not count as changed.
func (l *Ledger) Place(pod *corev1.Pod) {
	record := encode.PlacedPod(pod, pod.Spec.NodeName)
	old := l.pods[pod.UID]
	if old != nil && !old.assumed && proto.Equal(old.record, record) {
		return
	}
	l.version++
	switch {
	case old == nil:
		// Somebody else bound it.
	case old.assumed && old.record.GetNodeName() == record.GetNodeName():
		l.release(pod.UID)
		l.hold(pod, record, false)
		return
	default:
		before := old.record
		l.release(pod.UID)
		if before.GetNodeName() != record.GetNodeName() || !maps.Equal(before.GetRequests(), record.GetRequests()) {
			l.room = l.version // it may have shrunk or been promised elsewhere
		} else if maps.Equal(before.GetLabels(), record.GetLabels()) {
			// It started or is terminating: no decision depends on that.
			l.hold(pod, record, false)
			return
		}
	}
	l.hold(pod, record, false)
	l.nodes[pod.Spec.NodeName].changed = l.version
}

// Remove records that a pod is gone and reports whether it held room.
func (l *Ledger) Remove(uid types.UID) bool {
	if l.pods[uid] == nil {
		return false
	}
	l.release(uid)
	l.version++
	l.room = l.version
	return true
}

// Repelled says whether a placed pod's required anti-affinity may keep the pod
// from some node.
func (l *Ledger) Repelled(pod *corev1.Pod) bool {
	for _, r := range l.repelling {
		if encode.MaySelect(r.pod, pod) {
			return true
		}
	}
	return false
}

// Snapshot is the state as deciders see it, records in the order of their keys.
// The records are shared with the ledger, which replaces and never changes
// them.
func (l *Ledger) Snapshot() *berthv1.Snapshot {
	s := &berthv1.Snapshot{
		Epoch:      l.epoch,
		Version:    l.version,
		Nodes:      make([]*berthv1.Node, 0, len(l.nodes)),
		PlacedPods: make([]*berthv1.PlacedPod, 0, len(l.pods)),
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
	for _, ns := range l.namespaces {
		s.Namespaces = append(s.Namespaces, ns)
	}
	slices.SortFunc(s.Nodes, func(a, b *berthv1.Node) int { return strings.Compare(a.GetName(), b.GetName()) })
	slices.SortFunc(s.PlacedPods, func(a, b *berthv1.PlacedPod) int { return strings.Compare(a.GetUid(), b.GetUid()) })
	slices.SortFunc(s.Namespaces, func(a, b *berthv1.Namespace) int { return strings.Compare(a.GetName(), b.GetName()) })
	return s
}

// hold and release are the only functions that change what is on a node.
func (l *Ledger) hold(pod *corev1.Pod, record *berthv1.PlacedPod, assumed bool) {
	h := &holding{record: record, footprint: guard.FootprintOf(pod), assumed: assumed}
	l.pods[pod.UID] = h
	n := l.at(record.GetNodeName())
	n.usage.Add(h.footprint)
	n.pods++
	if encode.AntiAffinity(pod) {
		h.repels = repels(pod)
		r := l.repelling[h.repels]
		if r == nil {
			r = &repeller{pod: pod}
			l.repelling[h.repels] = r
		}
		r.count++
	}
	if assumed {
		l.assumed++
	}
}

func (l *Ledger) release(uid types.UID) {
	h := l.pods[uid]
	delete(l.pods, uid)
	if r := l.repelling[h.repels]; r != nil {
		if r.count--; r.count == 0 {
			delete(l.repelling, h.repels)
		}
	}
	name := h.record.GetNodeName()
	n := l.nodes[name]
	n.usage.Remove(h.footprint)
	n.pods--
	if h.assumed {
		l.assumed--
	}
	l.drop(name, n)
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
		n = &node{}
		l.nodes[name] = n
	}
	return n
}

// drop lets go of a node that is gone and holds nothing.
func (l *Ledger) drop(name string, n *node) {
	if n.object == nil && n.pods == 0 {
		delete(l.nodes, name)
	}
}
