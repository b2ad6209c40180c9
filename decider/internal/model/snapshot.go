package model

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

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

	observer  Observer
	resources *resources
	// images counts the nodes that have an image, of those asked about so far.
	images map[string]int
	// byName finds nodes.
	byName map[string]*Node
	// nominations finds a pod's nomination by its uid.
	nominations map[string]*Node
}

// NewSnapshot decodes a snapshot. understood are the constraint names that the
// decider's rules honour.
//
// An error means that the records cannot be told apart: a key is missing or
// appears twice. Its path begins with "snapshot". What else is wrong with a
// record is its node's Problem and nobody else's.
func NewSnapshot(record *berthv1.Snapshot, understood map[string]bool) (*Snapshot, *FieldError) {
	byName := make(map[string]*Node, len(record.GetNodes()))
	s := &Snapshot{
		resources: newResources(), byName: byName,
		nominations: map[string]*Node{}, images: map[string]int{},
	}
	// One array keeps the scan over all nodes in order in memory.
	nodes := make([]Node, len(record.GetNodes()))
	for i, r := range record.GetNodes() {
		n := &nodes[i]
		n.Record, n.Name, n.snapshot = r, r.GetName(), s
		switch {
		case n.Name == "":
			return nil, fieldError(fmt.Sprintf("snapshot.nodes[%d].name", i), "a node needs one")
		case byName[n.Name] != nil:
			return nil, fieldError(fmt.Sprintf("snapshot.nodes[%d].name", i), "%q is the name of an earlier node", n.Name)
		}
		byName[n.Name] = n
		if err := n.decode(r, s.resources); err != nil {
			n.Problem = err.Error()
		}
		s.Discouraging = s.Discouraging || len(n.Discouraging) > 0
		if len(r.GetSignals()) > 0 {
			s.Signals++
		}
		for _, name := range r.GetConstraints() {
			if !understood[name] && (n.Unknown == "" || name < n.Unknown) {
				n.Unknown = name
			}
		}
	}
	slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	s.Nodes, s.Slots = make([]*Node, len(nodes)), len(nodes)
	for i := range nodes {
		nodes[i].Index, nodes[i].Slot = i, i
		s.Nodes[i] = &nodes[i]
		byName[nodes[i].Name] = &nodes[i]
	}
	if err := s.addPlaced(record.GetPlacedPods(), byName, understood); err != nil {
		return nil, err
	}
	if err := s.addNamespaces(record.GetNamespaces()); err != nil {
		return nil, err
	}
	if err := s.addBudgets(record.GetDisruptionBudgets()); err != nil {
		return nil, err
	}
	return s, nil
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

// Node returns the node of this name, nil if there is none.
func (s *Snapshot) Node(name string) *Node { return s.byName[name] }

func (s *Snapshot) addNamespaces(records []*berthv1.Namespace) *FieldError {
	s.Namespaces = make(map[string]map[string]string, len(records))
	for i, r := range records {
		switch {
		case r.GetName() == "":
			return fieldError(fmt.Sprintf("snapshot.namespaces[%d].name", i), "a namespace needs one")
		case s.hasNamespace(r.GetName()):
			return fieldError(fmt.Sprintf("snapshot.namespaces[%d].name", i), "%q is the name of an earlier namespace", r.GetName())
		}
		s.Namespaces[r.GetName()] = r.GetLabels()
	}
	return nil
}

// addPlaced adds the pods that hold room to their nodes.
func (s *Snapshot) addPlaced(records []*berthv1.PlacedPod, byName map[string]*Node, understood map[string]bool) *FieldError {
	seen := make(map[string]struct{}, len(records))
	// The problem that is shown is that of the first uid, whatever the order
	// of the records.
	problems := map[*Node]*berthv1.PlacedPod{}
	for i, r := range records {
		if r.GetUid() == "" {
			return fieldError(fmt.Sprintf("snapshot.placed_pods[%d].uid", i), "a placed pod needs one")
		}
		if _, twice := seen[r.GetUid()]; twice {
			return fieldError(fmt.Sprintf("snapshot.placed_pods[%d].uid", i), "%q is the uid of an earlier placed pod", r.GetUid())
		}
		seen[r.GetUid()] = struct{}{}
		if r.GetNodeName() == "" {
			return fieldError(fmt.Sprintf("snapshot.placed_pods[%d].node_name", i), "a placed pod is on a node")
		}
		n := byName[r.GetNodeName()]
		if n == nil {
			continue
		}
		for _, name := range r.GetConstraints() {
			if !understood[name] {
				n.UnknownOfPod = n.UnknownOfPod || n.Unknown == ""
				if n.Unknown == "" || name < n.Unknown {
					n.Unknown = name
				}
			}
		}
		if err := s.addPlacedTo(n, r); err != nil {
			if other := problems[n]; n.Problem == "" || other != nil && r.GetUid() < other.GetUid() {
				problems[n] = r
				n.ProblemOfPod = true
				n.Problem = err.under("placed pod " + r.GetNamespace() + "/" + r.GetName()).Error()
			}
		}
	}
	for _, n := range s.Nodes {
		n.Understood = n.Problem == "" && n.Unknown == ""
		slices.SortFunc(n.Nominated, func(a, b *PlacedPod) int { return cmp.Compare(a.UID, b.UID) })
	}
	return nil
}

func (s *Snapshot) addPlacedTo(n *Node, r *berthv1.PlacedPod) *FieldError {
	q, err := newPlacedPod(r, s.resources)
	if err != nil {
		return err
	}
	if r.GetNominated() {
		n.Nominated = append(n.Nominated, q)
		s.nominations[q.UID] = n
		return nil
	}
	n.Add(q)
	return nil
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

func (s *Snapshot) hasNamespace(name string) bool {
	_, ok := s.Namespaces[name]
	return ok
}

// Resource returns the number of the resource of this name; ok is false if
// nothing in the snapshot has it.
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
