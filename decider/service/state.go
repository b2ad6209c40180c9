package service

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/berth-scheduler/berth/decider/internal/index"
	"github.com/berth-scheduler/berth/decider/internal/model"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/digest"
)

// state is what one stream has fed since its last begin, up to its last commit.
//
// Before its first commit it belongs to the stream. From then on, whoever reads or
// changes anything below turn has taken the turn.
type state struct {
	epoch string
	// turn has one element while somebody has taken it.
	turn chan struct{}

	version  uint64
	snapshot *model.Snapshot
	// index decides on the snapshot; nil means that the plain solver does.
	index *index.Index
	// gone is set if the content is not what was fed any more.
	gone bool

	// encoded are the placed pods by uid, as digest.Encoder encodes them: a tenth of
	// what their messages take. The other records are kept as they were sent; those of
	// nodes are in the snapshot.
	encoded    map[string]string
	namespaces map[string]*berthv1.Namespace
	budgets    map[budgetKey]*berthv1.DisruptionBudget
	// weight is that of all records.
	weight
	omitDigest bool

	// encoder and interner are the stream's, whoever has the turn.
	encoder  digest.Encoder
	interner interner
}

type budgetKey struct{ namespace, name string }

func newState(epoch string, understood map[string]bool, omitDigest bool) *state {
	return &state{
		epoch: epoch, turn: make(chan struct{}, 1), snapshot: model.New(understood),
		encoded: map[string]string{}, namespaces: map[string]*berthv1.Namespace{},
		budgets: map[budgetKey]*berthv1.DisruptionBudget{}, omitDigest: omitDigest,
	}
}

// take waits for the turn; done must be called at its end. The error is a gRPC status:
// ctx ended first.
func (s *state) take(ctx context.Context) (done func(), err error) {
	if err := acquire(ctx, s.turn); err != nil {
		return nil, err
	}
	return func() { <-s.turn }, nil
}

// weight is what a record, or several, count for in a state: bytes encoded, and the
// digest unless it is omitted.
type weight struct {
	bytes  int64
	digest digest.Sum
}

func (s *state) weigh(encoded []byte) weight {
	w := weight{bytes: int64(len(encoded))}
	if !s.omitDigest {
		w.digest = digest.Hash(encoded)
	}
	return w
}

func (s *state) add(w weight) {
	s.bytes += w.bytes
	s.digest.Add(w.digest)
}

func (s *state) remove(w weight) {
	s.bytes -= w.bytes
	s.digest.Remove(w.digest)
}

// staged are changes and what can be made of them without the state's turn.
type staged struct {
	*berthv1.Changes
	// nodes and pods are what those records count for, encoded the pods' encodings.
	nodes, pods []weight
	encoded     []string
	// kinds are those of the placed pods, nil for one of none.
	kinds []*berthv1.PlacedPod
	bytes int64
}

// stage prepares changes, whose records belong to the state from then on. kinds are those
// of the placed pods, or none.
func (s *state) stage(c *berthv1.Changes, kinds []*placedKind) *staged {
	st := &staged{
		Changes: c, nodes: make([]weight, len(c.GetNodes())), pods: make([]weight, len(c.GetPlacedPods())),
		encoded: make([]string, len(c.GetPlacedPods())), kinds: make([]*berthv1.PlacedPod, len(c.GetPlacedPods())),
	}
	for i, r := range c.GetNodes() {
		st.nodes[i] = s.weigh(s.encoder.Node(r))
		st.bytes += st.nodes[i].bytes
		s.interner.node(r)
	}
	for i, r := range c.GetPlacedPods() {
		var encoded []byte
		if kinds != nil && kinds[i] != nil {
			encoded, st.kinds[i] = s.encoder.PlacedPodLike(r, kinds[i].encoded), kinds[i].record
		} else {
			encoded = s.encoder.PlacedPod(r)
			s.interner.placedPod(r)
		}
		st.pods[i], st.encoded[i] = s.weigh(encoded), string(encoded)
		st.bytes += st.pods[i].bytes
		// What is kept of these as it is need not be kept twice.
		r.Uid, r.Name = within(st.encoded[i], r.GetUid()), within(st.encoded[i], r.GetName())
	}
	// The rest is little, and counted only to be bounded.
	st.bytes += int64(proto.Size(&berthv1.Changes{
		Namespaces: c.GetNamespaces(), DisruptionBudgets: c.GetDisruptionBudgets(),
		RemovedNodes: c.GetRemovedNodes(), RemovedPlacedPods: c.GetRemovedPlacedPods(),
		RemovedNamespaces: c.GetRemovedNamespaces(), RemovedDisruptionBudgets: c.GetRemovedDisruptionBudgets(),
	}))
	return st
}

// within returns a string that is equal to part, and is a part of whole if it can be.
func within(whole, part string) string {
	if i := strings.Index(whole, part); i >= 0 {
		return whole[i : i+len(part)]
	}
	return part
}

// append makes of c, which removes nothing, one with what was staged before.
func (s *staged) append(c *staged) {
	s.Nodes, s.nodes = append(s.Nodes, c.Nodes...), append(s.nodes, c.nodes...)
	s.PlacedPods, s.pods, s.encoded = append(s.PlacedPods, c.PlacedPods...), append(s.pods, c.pods...), append(s.encoded, c.encoded...)
	s.kinds = append(s.kinds, c.kinds...)
	s.Namespaces = append(s.Namespaces, c.Namespaces...)
	s.DisruptionBudgets = append(s.DisruptionBudgets, c.DisruptionBudgets...)
}

// apply changes the state and says what is wrong with the records.
func (s *state) apply(c *staged) []*berthv1.RejectedRecord {
	for _, uid := range c.GetRemovedPlacedPods() {
		s.forgetPlaced(uid)
	}
	for i, r := range c.GetPlacedPods() {
		if r.GetUid() != "" {
			s.forgetPlaced(r.GetUid())
			s.encoded[r.GetUid()] = c.encoded[i]
			s.add(c.pods[i])
		}
	}
	for _, name := range c.GetRemovedNamespaces() {
		s.forgetNamespace(name)
	}
	for _, r := range c.GetNamespaces() {
		if r.GetName() != "" {
			s.forgetNamespace(r.GetName())
			s.namespaces[r.GetName()] = r
			s.add(s.weigh(s.encoder.Namespace(r)))
		}
	}
	for _, k := range c.GetRemovedDisruptionBudgets() {
		s.forgetBudget(budgetKey{k.GetNamespace(), k.GetName()})
	}
	for _, r := range c.GetDisruptionBudgets() {
		if r.GetName() != "" {
			k := budgetKey{r.GetNamespace(), r.GetName()}
			s.forgetBudget(k)
			s.budgets[k] = r
			s.add(s.weigh(s.encoder.DisruptionBudget(r)))
		}
	}
	// The snapshot has the nodes' records. Of each name, what comes last counts.
	come := make(map[string]weight, len(c.GetNodes())+len(c.GetRemovedNodes()))
	for i, r := range c.GetNodes() {
		if r.GetName() != "" {
			come[r.GetName()] = c.nodes[i]
		}
	}
	for _, name := range c.GetRemovedNodes() {
		if _, replaced := come[name]; !replaced {
			come[name] = weight{}
		}
	}
	for name, w := range come {
		s.add(w)
		if n := s.snapshot.Node(name); n != nil {
			s.remove(s.weigh(s.encoder.Node(n.Record)))
		}
	}
	return s.snapshot.ApplyLike(c.Changes, c.kinds)
}

func (s *state) forgetPlaced(uid string) {
	if encoded, ok := s.encoded[uid]; ok {
		s.remove(s.weigh([]byte(encoded)))
		delete(s.encoded, uid)
	}
}

func (s *state) forgetNamespace(name string) {
	if r := s.namespaces[name]; r != nil {
		s.remove(s.weigh(s.encoder.Namespace(r)))
		delete(s.namespaces, name)
	}
}

func (s *state) forgetBudget(k budgetKey) {
	if r := s.budgets[k]; r != nil {
		s.remove(s.weigh(s.encoder.DisruptionBudget(r)))
		delete(s.budgets, k)
	}
}

// stateDigest returns the digest as a message has it.
func (s *state) stateDigest() string {
	if s.omitDigest {
		return ""
	}
	return s.digest.String()
}

// copied is a state's content, to be used without its turn.
type copied struct {
	nodes      []*berthv1.Node
	encoded    []string
	namespaces []*berthv1.Namespace
	budgets    []*berthv1.DisruptionBudget
}

// copy copies pointers alone: it takes a moment.
func (s *state) copy() *copied {
	c := &copied{
		nodes:      make([]*berthv1.Node, len(s.snapshot.Nodes)),
		encoded:    make([]string, 0, len(s.encoded)),
		namespaces: slices.Collect(maps.Values(s.namespaces)),
		budgets:    slices.Collect(maps.Values(s.budgets)),
	}
	for i, n := range s.snapshot.Nodes {
		c.nodes[i] = n.Record
	}
	for _, encoded := range s.encoded {
		c.encoded = append(c.encoded, encoded)
	}
	return c
}

// records returns the content in the order of keys.
func (c *copied) records() *berthv1.Changes {
	records := &berthv1.Changes{Nodes: c.nodes, Namespaces: c.namespaces, DisruptionBudgets: c.budgets}
	slices.Sort(c.encoded)
	for _, encoded := range c.encoded {
		r := &berthv1.PlacedPod{}
		if err := proto.Unmarshal([]byte(encoded[1:]), r); err != nil {
			panic(fmt.Sprintf("service: a record that was decoded and encoded cannot be decoded: %v", err))
		}
		records.PlacedPods = append(records.PlacedPods, r)
	}
	slices.SortFunc(records.Namespaces, func(a, b *berthv1.Namespace) int { return strings.Compare(a.GetName(), b.GetName()) })
	slices.SortFunc(records.DisruptionBudgets, func(a, b *berthv1.DisruptionBudget) int {
		return cmp.Or(strings.Compare(a.GetNamespace(), b.GetNamespace()), strings.Compare(a.GetName(), b.GetName()))
	})
	return records
}
