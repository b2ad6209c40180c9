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
	// digest is that of all records, unless it is omitted; bytes is what they take
	// encoded.
	digest     digest.Sum
	bytes      int64
	omitDigest bool

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

// apply changes the state and says what is wrong with the records, which belong to it
// from then on.
func (s *state) apply(c *berthv1.Changes) []*berthv1.RejectedRecord {
	for _, uid := range c.GetRemovedPlacedPods() {
		s.forgetPlaced(uid)
	}
	for _, r := range c.GetPlacedPods() {
		if r.GetUid() == "" {
			continue
		}
		s.forgetPlaced(r.GetUid())
		encoded := s.encoder.PlacedPod(r)
		s.account(encoded, 1)
		s.encoded[r.GetUid()] = string(encoded)
		s.interner.placedPod(r)
	}
	for _, name := range c.GetRemovedNamespaces() {
		s.forgetNamespace(name)
	}
	for _, r := range c.GetNamespaces() {
		if r.GetName() == "" {
			continue
		}
		s.forgetNamespace(r.GetName())
		s.account(s.encoder.Namespace(r), 1)
		s.namespaces[r.GetName()] = r
	}
	for _, k := range c.GetRemovedDisruptionBudgets() {
		s.forgetBudget(budgetKey{k.GetNamespace(), k.GetName()})
	}
	for _, r := range c.GetDisruptionBudgets() {
		if r.GetName() == "" {
			continue
		}
		k := budgetKey{r.GetNamespace(), r.GetName()}
		s.forgetBudget(k)
		s.account(s.encoder.DisruptionBudget(r), 1)
		s.budgets[k] = r
	}
	// The snapshot has the nodes' records: those that change are taken away before and
	// added after.
	changed := make(map[string]struct{}, len(c.GetRemovedNodes())+len(c.GetNodes()))
	accountNodes := func(by int64) {
		for name := range changed {
			if n := s.snapshot.Node(name); n != nil {
				s.account(s.encoder.Node(n.Record), by)
			}
		}
	}
	for _, name := range c.GetRemovedNodes() {
		changed[name] = struct{}{}
	}
	for _, r := range c.GetNodes() {
		s.interner.node(r)
		changed[r.GetName()] = struct{}{}
	}
	accountNodes(-1)
	rejected := s.snapshot.Apply(c)
	accountNodes(1)
	return rejected
}

// account adds a record to the digest and to the bytes (by is 1) or takes it away (by
// is -1).
func (s *state) account(encoded []byte, by int64) {
	s.bytes += by * int64(len(encoded))
	switch {
	case s.omitDigest:
	case by > 0:
		s.digest.Add(digest.Hash(encoded))
	default:
		s.digest.Remove(digest.Hash(encoded))
	}
}

func (s *state) forgetPlaced(uid string) {
	if encoded, ok := s.encoded[uid]; ok {
		s.account([]byte(encoded), -1)
		delete(s.encoded, uid)
	}
}

func (s *state) forgetNamespace(name string) {
	if r := s.namespaces[name]; r != nil {
		s.account(s.encoder.Namespace(r), -1)
		delete(s.namespaces, name)
	}
}

func (s *state) forgetBudget(k budgetKey) {
	if r := s.budgets[k]; r != nil {
		s.account(s.encoder.DisruptionBudget(r), -1)
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
