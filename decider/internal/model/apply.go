package model

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// New returns the snapshot of a cluster without nodes. understood are the constraint
// names that the decider's rules honour.
func New(understood map[string]bool) *Snapshot {
	return &Snapshot{
		Namespaces: map[string]map[string]string{}, understood: understood,
		resources: newResources(), images: map[string]int{}, byName: map[string]*Node{},
		placed: map[string]*PlacedPod{}, aside: map[string][]*PlacedPod{}, nominations: map[string]*Node{},
	}
}

// CheckKeys says which record of changes has no key. The error's path begins with the
// changes' field.
func CheckKeys(c *berthv1.Changes) *FieldError {
	return checkKeys("", &berthv1.Snapshot{
		Nodes: c.GetNodes(), PlacedPods: c.GetPlacedPods(), Namespaces: c.GetNamespaces(), DisruptionBudgets: c.GetDisruptionBudgets(),
	})
}

// Apply changes the snapshot as the contract says of Changes, and returns what is
// wrong with the records, in their order: those without a key are left out, of the
// others what is wrong is their node's Problem. What the snapshot answers from then on
// follows from its content alone, whatever led to it.
//
// It takes time for what changes, and for all nodes after the first by name that comes
// or goes.
func (s *Snapshot) Apply(c *berthv1.Changes) (rejected []*berthv1.RejectedRecord) {
	return s.ApplyLike(c, nil)
}

// ApplyLike is Apply for changes whose placed pod i differs in nothing but its uid, name,
// node and start from kinds[i], unless that is nil. kinds may be nil altogether. A kind is
// a record that is never changed.
func (s *Snapshot) ApplyLike(c *berthv1.Changes, kinds []*berthv1.PlacedPod) (rejected []*berthv1.RejectedRecord) {
	known := len(s.resources.names)
	reject := func(object berthv1.ObjectKind, key string, err *FieldError) {
		rejected = append(rejected, &berthv1.RejectedRecord{Object: object, Key: key, Field: err.Field, Message: err.Message})
	}
	for _, uid := range c.GetRemovedPlacedPods() {
		if q := s.placed[uid]; q != nil {
			s.takeOff(q)
		}
	}
	s.changeNodes(c.GetRemovedNodes(), c.GetNodes(), reject)
	for i, r := range c.GetPlacedPods() {
		var kind *berthv1.PlacedPod
		if kinds != nil {
			kind = kinds[i]
		}
		s.changePlaced(r, kind, reject)
	}
	s.changeNamespaces(c.GetRemovedNamespaces(), c.GetNamespaces(), reject)
	s.changeBudgets(c.GetRemovedDisruptionBudgets(), c.GetDisruptionBudgets(), reject)
	if len(s.resources.names) > known {
		s.Facts++
	}
	return rejected
}

// rejecter is told what is wrong with a record.
type rejecter func(object berthv1.ObjectKind, key string, err *FieldError)

// changeNodes takes the nodes that are gone out of the snapshot and puts those that
// come or change into it.
func (s *Snapshot) changeNodes(removed []string, records []*berthv1.Node, reject rejecter) {
	records = lastByName(records, reject)
	var gone []*Node
	for _, name := range removed {
		n := s.byName[name]
		if _, comes := slices.BinarySearchFunc(records, name, compareName); n == nil || comes {
			continue
		}
		s.empty(n)
		delete(s.byName, name)
		gone = append(gone, n)
	}
	var came []*Node
	for _, r := range records {
		n := s.newNode(r, reject)
		if old := s.byName[n.Name]; old != nil {
			s.replace(old, n)
			continue
		}
		s.byName[n.Name] = n
		came = append(came, n)
	}
	s.merge(gone, came)
	for _, n := range gone {
		s.tally(n, nil)
		s.freeSlots = append(s.freeSlots, n.Slot)
		if s.observer != nil {
			s.observer.NodeGone(n)
		}
	}
	for _, n := range came {
		s.arrive(n)
	}
}

// lastByName returns the last record of each name, in the order of names.
func lastByName(records []*berthv1.Node, reject rejecter) []*berthv1.Node {
	sorted := make([]*berthv1.Node, 0, len(records))
	for _, r := range records {
		if r.GetName() == "" {
			reject(berthv1.ObjectKind_OBJECT_KIND_NODE, "", fieldError("name", "a node needs one"))
			continue
		}
		sorted = append(sorted, r)
	}
	slices.SortStableFunc(sorted, func(a, b *berthv1.Node) int { return strings.Compare(a.GetName(), b.GetName()) })
	last := sorted[:0]
	for i, r := range sorted {
		if i+1 == len(sorted) || sorted[i+1].GetName() != r.GetName() {
			last = append(last, r)
		}
	}
	return last
}

func compareName(r *berthv1.Node, name string) int { return strings.Compare(r.GetName(), name) }

// newNode decodes a node, which is in the snapshot yet only by what it knows.
func (s *Snapshot) newNode(r *berthv1.Node, reject rejecter) *Node {
	n := &Node{Record: r, Name: r.GetName(), snapshot: s}
	if err := n.decode(r, s.resources); err != nil {
		n.Problem = err.Error()
		reject(berthv1.ObjectKind_OBJECT_KIND_NODE, n.Name, err)
	}
	return n
}

// arrive gives n, which is among the nodes, a slot and the pods that waited for it.
func (s *Snapshot) arrive(n *Node) {
	if last := len(s.freeSlots) - 1; last >= 0 {
		n.Slot, s.freeSlots = s.freeSlots[last], s.freeSlots[:last]
	} else {
		n.Slot = s.Slots
		s.Slots++
	}
	waiting := s.aside[n.Name]
	delete(s.aside, n.Name)
	for _, q := range waiting {
		if q.oddity != nil {
			n.odd = append(n.odd, q)
		}
	}
	n.judge()
	s.tally(nil, n)
	if s.observer != nil {
		s.observer.NodeCame(n)
	}
	for _, q := range waiting {
		s.settle(q, n)
	}
}

// empty takes the pods off n, which leaves the snapshot; they are kept aside.
func (s *Snapshot) empty(n *Node) {
	aside := slices.Clone(n.Pods)
	for _, q := range slices.Backward(aside) {
		n.Remove(q)
	}
	for _, q := range n.Nominated {
		delete(s.nominations, q.UID)
		aside = append(aside, q)
	}
	for _, q := range n.odd {
		if q.oddity.problem != "" {
			aside = append(aside, q)
		}
	}
	if len(aside) > 0 {
		s.aside[n.Name] = aside
	}
}

// replace puts n in the place of old, which has its name.
func (s *Snapshot) replace(old, n *Node) {
	pods := slices.Clone(old.Pods)
	for _, q := range slices.Backward(pods) {
		old.Remove(q)
	}
	n.Index, n.Slot = old.Index, old.Slot
	n.Nominated, n.odd = slices.Clone(old.Nominated), old.odd
	n.judge()
	for _, q := range n.Nominated {
		s.nominations[q.UID] = n
	}
	s.Nodes[n.Index], s.byName[n.Name] = n, n
	s.tally(old, n)
	if s.observer != nil {
		s.observer.NodeGone(old)
		s.observer.NodeCame(n)
	}
	for _, q := range pods {
		n.Add(q)
	}
}

// merge takes nodes out of Nodes and puts others, sorted by name, into it.
func (s *Snapshot) merge(gone, came []*Node) {
	if len(gone)+len(came) == 0 {
		return
	}
	first := len(s.Nodes) // the first whose Index may be another now
	if len(gone) > 0 {
		slices.SortFunc(gone, func(a, b *Node) int { return cmp.Compare(a.Index, b.Index) })
		first = gone[0].Index
		kept := s.Nodes[:first]
		for i, n := range gone {
			next := len(s.Nodes)
			if i+1 < len(gone) {
				next = gone[i+1].Index
			}
			kept = append(kept, s.Nodes[n.Index+1:next]...)
		}
		clear(s.Nodes[len(kept):])
		s.Nodes = kept
	}
	// From the back, so that every node is moved once.
	end := len(s.Nodes)
	s.Nodes = slices.Grow(s.Nodes, len(came))[:end+len(came)]
	for i, n := range slices.Backward(came) {
		at, _ := slices.BinarySearchFunc(s.Nodes[:end], n.Name, func(m *Node, name string) int { return strings.Compare(m.Name, name) })
		copy(s.Nodes[at+i+1:], s.Nodes[at:end])
		s.Nodes[at+i] = n
		end = at
	}
	for i := min(first, end); i < len(s.Nodes); i++ {
		s.Nodes[i].Index = i
	}
}

// maxImages bounds how many images' nodes are counted. An image that was asked about
// and forgotten is counted anew.
const maxImages = 1 << 14

// tally counts n in place of old; either may be nil.
func (s *Snapshot) tally(old, n *Node) {
	count := func(m *Node, by int) {
		if m == nil {
			return
		}
		if len(m.Record.GetSignals()) > 0 {
			s.Signals += by
		}
		if len(m.Discouraging) > 0 {
			s.discouraging += by
		}
	}
	count(old, -1)
	count(n, 1)
	if discouraging := s.discouraging > 0; discouraging != s.Discouraging {
		s.Discouraging = discouraging
		s.Facts++
	}
	if len(s.images) == 0 {
		return
	}
	countImages := func(m, other *Node, by int) {
		if m == nil {
			return
		}
		for name := range m.Record.GetImages() {
			if other != nil {
				if _, too := other.Record.GetImages()[name]; too {
					continue
				}
			}
			if nodes, known := s.images[name]; known {
				s.images[name] = nodes + by
				s.Facts++
			}
		}
	}
	countImages(old, n, -1)
	countImages(n, old, 1)
}

// changePlaced puts a pod where its record says. kind is a record that it is like, or nil.
func (s *Snapshot) changePlaced(r, kind *berthv1.PlacedPod, reject rejecter) {
	uid := r.GetUid()
	if uid == "" {
		reject(berthv1.ObjectKind_OBJECT_KIND_PLACED_POD, "", fieldError("uid", "a placed pod needs one"))
		return
	}
	if old := s.placed[uid]; old != nil {
		s.takeOff(old)
	}
	q, err := s.decoded.placedPod(r, kind, s.resources)
	if err == nil && r.GetNodeName() == "" {
		err = fieldError("node_name", "a placed pod is on a node")
	}
	unknown := firstUnknown(r.GetConstraints(), s.understood)
	if err != nil {
		reject(berthv1.ObjectKind_OBJECT_KIND_PLACED_POD, uid, err)
		q = &PlacedPod{UID: uid, nominated: r.GetNominated(), oddity: &oddity{
			problem: err.under("placed pod " + r.GetNamespace() + "/" + r.GetName()).Error(), unknown: unknown,
		}}
	} else if unknown != "" {
		q.oddity = &oddity{unknown: unknown}
	}
	q.nodeName = r.GetNodeName()
	s.placed[uid] = q
	n := s.byName[q.nodeName]
	if n == nil {
		s.aside[q.nodeName] = append(s.aside[q.nodeName], q)
		return
	}
	q.nodeName = n.Name // the same bytes for all pods of the node
	s.settle(q, n)
	if q.oddity != nil {
		s.rejudge(n, append(slices.Clone(n.odd), q))
	}
}

// settle puts a pod on its node, as far as it makes sense.
func (s *Snapshot) settle(q *PlacedPod, n *Node) {
	switch {
	case q.oddity != nil && q.oddity.problem != "":
	case q.nominated:
		at, _ := slices.BinarySearchFunc(n.Nominated, q.UID, compareUID)
		n.Nominated = slices.Insert(n.Nominated, at, q)
		s.nominations[q.UID] = n
	default:
		n.Add(q)
	}
}

func compareUID(q *PlacedPod, uid string) int { return strings.Compare(q.UID, uid) }

// takeOff takes a pod out of the snapshot.
func (s *Snapshot) takeOff(q *PlacedPod) {
	delete(s.placed, q.UID)
	n := s.byName[q.nodeName]
	if n == nil {
		aside := s.aside[q.nodeName]
		if aside = without(aside, q); len(aside) == 0 {
			delete(s.aside, q.nodeName)
		} else {
			s.aside[q.nodeName] = aside
		}
		return
	}
	switch {
	case q.oddity != nil && q.oddity.problem != "":
	case q.nominated:
		at, _ := slices.BinarySearchFunc(n.Nominated, q.UID, compareUID)
		n.Nominated = slices.Delete(n.Nominated, at, at+1)
		delete(s.nominations, q.UID)
	default:
		n.Remove(q)
	}
	if q.oddity != nil {
		s.rejudge(n, without(slices.Clone(n.odd), q))
	}
}

// without takes q, which is among pods, out of them. Their order changes.
func without(pods []*PlacedPod, q *PlacedPod) []*PlacedPod {
	i, last := slices.Index(pods, q), len(pods)-1
	pods[i], pods[last] = pods[last], nil
	return pods[:last]
}

// rejudge gives n other odd pods. If that makes a difference to what may be placed on
// it, it is another node to whoever observes.
func (s *Snapshot) rejudge(n *Node, odd []*PlacedPod) {
	m := &Node{Record: n.Record, Name: n.Name, snapshot: s, odd: odd}
	if err := m.decode(n.Record, s.resources); err != nil {
		m.Problem = err.Error()
	}
	m.judge()
	if m.Problem == n.Problem && m.Unknown == n.Unknown && m.UnknownOfPod == n.UnknownOfPod && m.ProblemOfPod == n.ProblemOfPod {
		n.odd = odd
		return
	}
	n.odd = odd
	s.replace(n, m)
}

func (s *Snapshot) changeNamespaces(removed []string, records []*berthv1.Namespace, reject rejecter) {
	set := func(name string, labels map[string]string) {
		if !maps.Equal(s.Namespaces[name], labels) {
			s.Facts++
		}
	}
	for _, name := range removed {
		set(name, nil)
		delete(s.Namespaces, name)
	}
	for _, r := range records {
		if r.GetName() == "" {
			reject(berthv1.ObjectKind_OBJECT_KIND_NAMESPACE, "", fieldError("name", "a namespace needs one"))
			continue
		}
		set(r.GetName(), r.GetLabels())
		s.Namespaces[r.GetName()] = r.GetLabels()
	}
}

func (s *Snapshot) changeBudgets(removed []*berthv1.DisruptionBudgetKey, records []*berthv1.DisruptionBudget, reject rejecter) {
	if len(removed)+len(records) == 0 {
		return
	}
	type key struct{ namespace, name string }
	changed := make(map[key]*Budget, len(removed)+len(records))
	for _, k := range removed {
		changed[key{k.GetNamespace(), k.GetName()}] = nil
	}
	for _, r := range records {
		if r.GetName() == "" {
			reject(berthv1.ObjectKind_OBJECT_KIND_UNSPECIFIED, "", fieldError("name", "a disruption budget needs one"))
			continue
		}
		b, err := newBudget(r)
		if err != nil {
			reject(berthv1.ObjectKind_OBJECT_KIND_UNSPECIFIED, b.Namespace+"/"+b.Name, err)
		}
		changed[key{b.Namespace, b.Name}] = b
	}
	s.Budgets = slices.DeleteFunc(s.Budgets, func(b *Budget) bool {
		_, other := changed[key{b.Namespace, b.Name}]
		return other
	})
	for _, b := range changed {
		if b != nil {
			s.Budgets = append(s.Budgets, b)
		}
	}
	slices.SortFunc(s.Budgets, func(a, b *Budget) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
}
