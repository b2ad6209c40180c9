package model

import (
	"cmp"
	"fmt"
	"slices"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Snapshot is a cluster at one version.
type Snapshot struct {
	// Nodes are sorted by name.
	Nodes []*Node
	// Namespaces has the labels of each namespace by its name.
	Namespaces map[string]map[string]string
	// Budgets are the disruption budgets, by namespace and name.
	Budgets []*Budget
	// Affine is how many of the pods that hold room have affinity or anti-affinity
	// to pods. With none, no node need be asked.
	Affine int
	// Discouraging is set if a node has taints that new pods avoid where they can.
	// Where none has, no node need be asked.
	Discouraging bool

	// Slots is one more than the highest Slot of a node, of those that are gone too.
	Slots int
	// Signals is how many nodes have signals.
	Signals int
	// Facts counts the changes of what a pod's rules and scores look up once for all
	// nodes: which resources there are, how many nodes have an image, whether a node is
	// Discouraging, which labels namespaces have.
	Facts uint64

	observer   Observer
	understood map[string]bool
	resources  *resources
	// discouraging is how many nodes are.
	discouraging int
	// freeSlots are those below Slots that no node has.
	freeSlots []int
	// images counts the nodes that have an image, of those asked about so far.
	images map[string]int
	// byName finds nodes.
	byName map[string]*Node
	// placed finds the pods of the contract's placed pods by uid: those on nodes, the
	// nominated ones, and those that take part in nothing.
	placed map[string]*PlacedPod
	// aside are the pods on nodes that are not there, by the node's name.
	aside map[string][]*PlacedPod
	// nominations finds a pod's nomination by its uid.
	nominations map[string]*Node
	// decoded are the pods that others are like.
	decoded decoded
}

// NewSnapshot decodes a snapshot. understood are the constraint names that the
// decider's rules honour.
//
// An error means that the records cannot be told apart: a key is missing or
// appears twice. Its path begins with "snapshot". What else is wrong with a
// record is its node's Problem and nobody else's.
func NewSnapshot(record *berthv1.Snapshot, understood map[string]bool) (*Snapshot, *FieldError) {
	if err := checkKeys("snapshot.", record); err != nil {
		return nil, err
	}
	s := New(understood)
	s.byName = make(map[string]*Node, len(record.GetNodes()))
	s.placed = make(map[string]*PlacedPod, len(record.GetPlacedPods()))
	s.Apply(&berthv1.Changes{
		Nodes: record.GetNodes(), PlacedPods: record.GetPlacedPods(),
		Namespaces: record.GetNamespaces(), DisruptionBudgets: record.GetDisruptionBudgets(),
	})
	if len(s.Nodes) != len(record.GetNodes()) || len(s.placed) != len(record.GetPlacedPods()) ||
		len(s.Namespaces) != len(record.GetNamespaces()) || len(s.Budgets) != len(record.GetDisruptionBudgets()) {
		return nil, repeatedKey(record)
	}
	return s, nil
}

// checkKeys says which record has no key. The error's path begins with prefix.
func checkKeys(prefix string, record *berthv1.Snapshot) *FieldError {
	for i, r := range record.GetNodes() {
		if r.GetName() == "" {
			return fieldError(fmt.Sprintf(prefix+"nodes[%d].name", i), "a node needs one")
		}
	}
	for i, r := range record.GetPlacedPods() {
		switch {
		case r.GetUid() == "":
			return fieldError(fmt.Sprintf(prefix+"placed_pods[%d].uid", i), "a placed pod needs one")
		case r.GetNodeName() == "":
			return fieldError(fmt.Sprintf(prefix+"placed_pods[%d].node_name", i), "a placed pod is on a node")
		}
	}
	for i, r := range record.GetNamespaces() {
		if r.GetName() == "" {
			return fieldError(fmt.Sprintf(prefix+"namespaces[%d].name", i), "a namespace needs one")
		}
	}
	for i, r := range record.GetDisruptionBudgets() {
		if r.GetName() == "" {
			return fieldError(fmt.Sprintf(prefix+"disruption_budgets[%d].name", i), "a disruption budget needs one")
		}
	}
	return nil
}

// repeatedKey says which record of a snapshot has the key of an earlier one.
func repeatedKey(record *berthv1.Snapshot) *FieldError {
	type key struct{ namespace, name string }
	seen := map[key]bool{}
	again := func(k key) bool {
		there := seen[k]
		seen[k] = true
		return there
	}
	for i, r := range record.GetNodes() {
		if again(key{name: r.GetName()}) {
			return fieldError(fmt.Sprintf("snapshot.nodes[%d].name", i), "%q is the name of an earlier node", r.GetName())
		}
	}
	clear(seen)
	for i, r := range record.GetPlacedPods() {
		if again(key{name: r.GetUid()}) {
			return fieldError(fmt.Sprintf("snapshot.placed_pods[%d].uid", i), "%q is the uid of an earlier placed pod", r.GetUid())
		}
	}
	clear(seen)
	for i, r := range record.GetNamespaces() {
		if again(key{name: r.GetName()}) {
			return fieldError(fmt.Sprintf("snapshot.namespaces[%d].name", i), "%q is the name of an earlier namespace", r.GetName())
		}
	}
	clear(seen)
	for i, r := range record.GetDisruptionBudgets() {
		if again(key{r.GetNamespace(), r.GetName()}) {
			return fieldError(fmt.Sprintf("snapshot.disruption_budgets[%d].name", i),
				"%q in %q is the name of an earlier disruption budget", r.GetName(), r.GetNamespace())
		}
	}
	panic("model: a record is missing, and none is repeated")
}

// Observer is told what happens to a snapshot, in order, each time after it has
// happened. A node comes and goes without pods: those on it are moved to and from it
// one by one. One whose record is replaced goes and another one comes, which has its
// Slot. A pod that changes is removed and another one added. What is nominated is not
// moved.
type Observer interface {
	// NodeCame says that n is in the snapshot. Other nodes may have another Index now.
	NodeCame(n *Node)
	// NodeGone says that n is not in the snapshot any more; n stays as it is. Other nodes
	// may have another Index now.
	NodeGone(n *Node)
	// PodMoved says that q was added to n (by is 1) or removed from it (by is -1).
	PodMoved(q *PlacedPod, n *Node, by int64)
}

// Observe has o told of every change from now on; nil has nobody told.
func (s *Snapshot) Observe(o Observer) { s.observer = o }

// Nominations returns for how many pods room is set aside on nodes.
func (s *Snapshot) Nominations() int { return len(s.nominations) }

// Respected returns the nodes on which room is set aside that p must respect, in no
// particular order.
func (s *Snapshot) Respected(p *Pod) []*Node {
	var nodes []*Node
	for _, n := range s.nominations {
		if !slices.Contains(nodes, n) && slices.ContainsFunc(n.Nominated, p.Respects) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// Node returns the node of this name, nil if there is none.
func (s *Snapshot) Node(name string) *Node { return s.byName[name] }

// Placed says whether a pod with this uid holds room: it is among the placed pods and
// not nominated.
func (s *Snapshot) Placed(uid string) bool {
	q := s.placed[uid]
	return q != nil && !q.nominated
}

// Selects says whether a term of a pod that wants a node selects a pod with these
// labels in the namespace of this name.
//
// A namespace selector that also matches a namespace without labels, such as one
// of NotIn or DoesNotExist alone, selects every namespace: kube-scheduler since
// 1.34 adds the names of the namespaces that match, and then, meaning to have
// replaced the selector (mergeAffinityTermNamespacesIfNotEmpty changes a copy),
// still asks it without labels. Terms of placed pods are free of this: see
// PodTerm.Selects.
func (s *Snapshot) Selects(t *PodTerm, labels map[string]string, namespace string) bool {
	there := slices.Contains(t.Namespaces, namespace) ||
		!t.NamespaceSelector.SelectsNothing() &&
			(t.NamespaceSelector.Matches(s.Namespaces[namespace]) || t.NamespaceSelector.Matches(nil))
	return there && t.Selector.Matches(labels)
}

// Resource returns the number of the resource of this name; ok is false if
// no node and no placed pod has ever had it.
func (s *Snapshot) Resource(name string) (_ Resource, ok bool) {
	r, ok := s.resources.numbers[name]
	return r, ok
}

// NodesWithImage returns how many nodes have the container image of this name. The
// first question about an image asks every node.
func (s *Snapshot) NodesWithImage(name string) int {
	count, known := s.images[name]
	if !known {
		for _, n := range s.Nodes {
			if _, ok := n.Record.GetImages()[name]; ok {
				count++
			}
		}
		if len(s.images) >= maxImages {
			clear(s.images)
			s.Facts++
		}
		s.images[name] = count
	}
	return count
}

// Place puts p on n, where the pods after it see it, and ends p's nomination.
// undo takes it back.
func (s *Snapshot) Place(p *Pod, n *Node) (undo func()) {
	q := p.placed()
	n.Add(q)
	renominate := s.endNomination(p.UID)
	return func() {
		renominate()
		n.Remove(q)
	}
}

// Nominate sets room aside for p on n and ends its nomination elsewhere. undo takes
// it back.
func (s *Snapshot) Nominate(p *Pod, n *Node) (undo func()) {
	renominate := s.endNomination(p.UID)
	before := n.Nominated
	n.Nominated = append(slices.Clip(before), p.placed())
	slices.SortFunc(n.Nominated, func(a, b *PlacedPod) int { return cmp.Compare(a.UID, b.UID) })
	s.nominations[p.UID] = n
	return func() {
		n.Nominated = before
		delete(s.nominations, p.UID)
		renominate()
	}
}

func (s *Snapshot) endNomination(uid string) (undo func()) {
	on := s.nominations[uid]
	if on == nil {
		return func() {}
	}
	before := on.Nominated
	on.Nominated = slices.DeleteFunc(slices.Clone(before), func(m *PlacedPod) bool { return m.UID == uid })
	delete(s.nominations, uid)
	return func() {
		on.Nominated = before
		s.nominations[uid] = on
	}
}
