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

	resources *resources
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
	s := &Snapshot{resources: newResources(), nominations: map[string]*Node{}}
	byName := make(map[string]*Node, len(record.GetNodes()))
	// One array each keeps the scan over all nodes in order in memory.
	nodes := make([]Node, len(record.GetNodes()))
	sums := make(Amounts, 2*int(others)*len(nodes))
	for i, r := range record.GetNodes() {
		n := &nodes[i]
		n.Record, n.Name = r, r.GetName()
		n.Allocatable, n.Requested, sums = sums[:others:others], sums[others:2*others:2*others], sums[2*others:]
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
		for _, name := range r.GetConstraints() {
			if !understood[name] && (n.Unknown == "" || name < n.Unknown) {
				n.Unknown = name
			}
		}
	}
	slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	s.Nodes = make([]*Node, len(nodes))
	for i := range nodes {
		nodes[i].Index = i
		s.Nodes[i] = &nodes[i]
		byName[nodes[i].Name] = &nodes[i]
	}
	if err := s.addPlaced(record.GetPlacedPods(), byName); err != nil {
		return nil, err
	}
	if err := checkNamespaces(record.GetNamespaces()); err != nil {
		return nil, err
	}
	return s, nil
}

// checkNamespaces refuses namespaces that cannot be told apart. No rule reads them
// yet.
func checkNamespaces(records []*berthv1.Namespace) *FieldError {
	seen := make(map[string]bool, len(records))
	for i, r := range records {
		switch {
		case r.GetName() == "":
			return fieldError(fmt.Sprintf("snapshot.namespaces[%d].name", i), "a namespace needs one")
		case seen[r.GetName()]:
			return fieldError(fmt.Sprintf("snapshot.namespaces[%d].name", i), "%q is the name of an earlier namespace", r.GetName())
		}
		seen[r.GetName()] = true
	}
	return nil
}

// addPlaced adds the pods that hold room to their nodes.
func (s *Snapshot) addPlaced(records []*berthv1.PlacedPod, byName map[string]*Node) *FieldError {
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
		slices.SortFunc(n.Nominated, func(a, b *Nominated) int { return cmp.Compare(a.UID, b.UID) })
	}
	return nil
}

func (s *Snapshot) addPlacedTo(n *Node, r *berthv1.PlacedPod) *FieldError {
	requests, err := s.resources.requests("requests", r.GetRequests())
	if err != nil {
		return err
	}
	score, err := newScoreAmounts(r.GetScoreRequests())
	if err != nil {
		return err
	}
	ports, err := newPorts(r.GetHostPorts())
	if err != nil {
		return err
	}
	if r.GetNominated() {
		n.Nominated = append(n.Nominated, &Nominated{UID: r.GetUid(), Priority: r.GetPriority(), Requests: requests, Ports: ports})
		s.nominations[r.GetUid()] = n
		return nil
	}
	n.take(requests, score, ports)
	return nil
}

// Resource returns the number of the resource of this name; ok is false if
// nothing in the snapshot has it.
func (s *Snapshot) Resource(name string) (_ Resource, ok bool) {
	r, ok := s.resources.numbers[name]
	return r, ok
}

// Place puts p on n, where the pods after it see it, and ends p's nomination.
// undo takes it back; placements are undone in reverse order.
func (s *Snapshot) Place(p *Pod, n *Node) (undo func()) {
	requested, score, ports := slices.Clone(n.Requested), n.ScoreRequested, len(n.Ports)
	n.take(p.Requests, p.ScoreRequests, p.Ports)

	on := s.nominations[p.UID]
	var nominated []*Nominated
	if on != nil {
		nominated = on.Nominated
		on.Nominated = slices.DeleteFunc(slices.Clone(nominated), func(m *Nominated) bool { return m.UID == p.UID })
		delete(s.nominations, p.UID)
	}
	return func() {
		n.Requested, n.ScoreRequested, n.Ports = requested, score, n.Ports[:ports]
		if on != nil {
			on.Nominated = nominated
			s.nominations[p.UID] = on
		}
	}
}
