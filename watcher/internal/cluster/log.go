package cluster

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/digest"
)

// maxLog is how many versions the log goes back at least: more than are made while a
// decision is in flight. What has changed more often is better sent whole.
const maxLog = 1 << 15

// log says for each of the last versions which record it changed.
type log struct {
	start   uint64 // the version before the first entry
	entries []entry
}

// entry names a record as berthv1.RejectedRecord does.
type entry struct {
	object berthv1.ObjectKind
	key    string
}

func (l *log) append(e entry) {
	if len(l.entries) == 2*maxLog {
		l.start += maxLog
		l.entries = l.entries[:copy(l.entries, l.entries[maxLog:])]
	}
	l.entries = append(l.entries, e)
}

// since returns the entries of the versions after one; false if the log does not go
// back so far.
func (l *log) since(version uint64) ([]entry, bool) {
	if version < l.start {
		return nil, false
	}
	return l.entries[min(version-l.start, uint64(len(l.entries))):], true
}

// note makes a version of the change of one record from what it was to what it is now;
// nil is none.
func (l *Ledger) note(object berthv1.ObjectKind, key string, before, now proto.Message) {
	l.version++
	l.log.append(entry{object, key})
	if sum, of := l.hash(before); of != nil {
		of.Remove(sum)
	}
	if sum, of := l.hash(now); of != nil {
		of.Add(sum)
	}
}

// hash returns the hash of a record, and the digest that it is part of; nil if there is
// no record.
func (l *Ledger) hash(record proto.Message) (digest.Sum, *digest.Sum) {
	switch r := record.(type) {
	case *berthv1.Node:
		if r != nil {
			return digest.Hash(l.encoder.Node(r)), &l.digest.Nodes
		}
	case *berthv1.PlacedPod:
		if r != nil {
			return digest.Hash(l.encoder.PlacedPod(r)), &l.digest.Others
		}
	case *berthv1.Namespace:
		if r != nil {
			return digest.Hash(l.encoder.Namespace(r)), &l.digest.Others
		}
	case *berthv1.DisruptionBudget:
		if r != nil {
			return digest.Hash(l.encoder.DisruptionBudget(r)), &l.digest.Budgets
		}
	}
	return digest.Sum{}, nil
}

// Digest is the digest of the state, in parts: of nodes and budgets a decider may leave
// some unread.
type Digest struct{ Nodes, Budgets, Others digest.Sum }

// Digest returns the digest of the state as it stands.
func (l *Ledger) Digest() Digest { return l.digest }

// notePod is note for a placed pod that was before.
func (l *Ledger) notePod(uid types.UID, before *berthv1.PlacedPod) {
	l.note(aPlacedPod, string(uid), before, l.placed(uid))
}

// placed is the record of a pod that holds room, or for which room is set aside; nil
// for others.
func (l *Ledger) placed(uid types.UID) *berthv1.PlacedPod {
	if h := l.pods[uid]; h != nil {
		return h.record
	}
	if n := l.nominated[uid]; n != nil {
		return n.record
	}
	return nil
}

// Since returns what turns the state at a version, or at any between it and now, into
// the state as it stands. It costs what has changed, and is nil if so much has that
// the ledger does not remember all of it. The records are shared as Snapshot's are.
func (l *Ledger) Since(version uint64) *berthv1.Changes {
	since, ok := l.log.since(version)
	if !ok {
		return nil
	}
	changes := &berthv1.Changes{}
	seen := make(map[entry]struct{}, len(since))
	for _, e := range since {
		if _, again := seen[e]; again {
			continue
		}
		seen[e] = struct{}{}
		switch e.object {
		case aNode:
			if n := l.nodes[e.key]; n != nil && n.record != nil {
				changes.Nodes = append(changes.Nodes, n.record)
			} else {
				changes.RemovedNodes = append(changes.RemovedNodes, e.key)
			}
		case aPlacedPod:
			if p := l.placed(types.UID(e.key)); p != nil {
				changes.PlacedPods = append(changes.PlacedPods, p)
			} else {
				changes.RemovedPlacedPods = append(changes.RemovedPlacedPods, e.key)
			}
		case aNamespace:
			if n := l.namespaces[e.key]; n != nil {
				changes.Namespaces = append(changes.Namespaces, n)
			} else {
				changes.RemovedNamespaces = append(changes.RemovedNamespaces, e.key)
			}
		case aBudget:
			if b := l.budgets[e.key]; b != nil {
				changes.DisruptionBudgets = append(changes.DisruptionBudgets, b.record)
			} else {
				changes.RemovedDisruptionBudgets = append(changes.RemovedDisruptionBudgets, budgetKey(e.key))
			}
		}
	}
	return changes
}

func budgetKey(key string) *berthv1.DisruptionBudgetKey {
	namespace, name, _ := strings.Cut(key, "/")
	return &berthv1.DisruptionBudgetKey{Namespace: namespace, Name: name}
}
