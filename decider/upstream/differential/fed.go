package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/berth-scheduler/berth/decider/service"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/scenario"
)

// fed is a decider that holds one state for case after case: each is made of the one
// before by changes, and decided by reference, so that its index lives through all of
// them. It is asked without explanations, which the index leaves to the plain solver,
// and again, since it is worth indexing only what comes back.
type fed struct {
	decider *service.Service
	stream  *stream
	ended   chan error
	// epoch and cases count the full states and the cases since the last one.
	epoch, cases int
	sequence     uint64
	version      uint64
	state        *berthv1.Snapshot
	// decisions counts what was compared.
	decisions int
}

// newFed begins to feed a decider; it ends with ctx.
func newFed(ctx context.Context, decider *service.Service) *fed {
	f := &fed{
		decider: decider, ended: make(chan error, 1),
		stream: &stream{ctx: ctx, requests: make(chan *berthv1.SyncRequest), responses: make(chan *berthv1.SyncResponse, 1)},
	}
	go func() { f.ended <- decider.Sync(f.stream) }()
	return f
}

// byIndex is the kind of difference between what Berth answers by its index and without.
const byIndex = "berth: by index"

// casesPerEpoch is after how many cases a full state is sent.
const casesPerEpoch = 200

// compare asks what explained answers, by reference, and returns the first difference.
func (f *fed) compare(ctx context.Context, r *berthv1.DecideRequest, explained []*berthv1.Decision) (*Difference, error) {
	if err := f.feed(ctx, r.GetSnapshot()); err != nil {
		return nil, err
	}
	// A class is indexed from the third of its pods on at the latest, and one candidate
	// is found in another way than several.
	for _, candidates := range []int32{r.GetCandidates(), 1, r.GetCandidates()} {
		response, err := f.decider.Decide(ctx, &berthv1.DecideRequest{
			State: &berthv1.DecideRequest_Reference{Reference: &berthv1.StateReference{
				Epoch: f.name(), AtLeastVersion: f.version, ExactVersion: f.version,
			}},
			Pods: r.GetPods(), Seed: r.GetSeed(), Candidates: candidates, Preempt: r.GetPreempt(),
		})
		if err != nil {
			return nil, fmt.Errorf("decide by reference: %w", err)
		}
		for i, got := range response.GetDecisions() {
			f.decisions++
			want := proto.CloneOf(explained[i])
			want.Explanation = nil
			want.Candidates = want.Candidates[:min(len(want.Candidates), int(max(1, candidates)))]
			if !proto.Equal(want, got) {
				return &Difference{Pod: i, Kind: byIndex, Want: scenario.FormatDecision(want), Got: scenario.FormatDecision(got)}, nil
			}
		}
	}
	return nil, nil
}

// forget has the next case begin anew, so that none before it matters.
func (f *fed) forget() {
	if f != nil {
		f.cases = casesPerEpoch - 1
	}
}

// feed makes next the state that is held.
func (f *fed) feed(ctx context.Context, next *berthv1.Snapshot) error {
	from := f.version
	if f.cases++; f.epoch == 0 || f.cases == casesPerEpoch {
		f.epoch++
		f.cases, f.sequence, f.version, f.state, from = 0, 0, 0, nil, 0
		if err := f.send(ctx, &berthv1.SyncRequest{Step: &berthv1.SyncRequest_Begin{Begin: &berthv1.SyncBegin{Epoch: f.name()}}}); err != nil {
			return err
		}
	}
	f.version++
	if err := f.send(ctx, &berthv1.SyncRequest{Step: &berthv1.SyncRequest_Changes{Changes: changes(f.state, next)}}); err != nil {
		return err
	}
	if err := f.send(ctx, &berthv1.SyncRequest{Step: &berthv1.SyncRequest_Commit{Commit: &berthv1.SyncCommit{FromVersion: from, Version: f.version}}}); err != nil {
		return err
	}
	f.state = next
	select {
	case response := <-f.stream.responses:
		if response.GetResync() != "" || response.GetVersion() != f.version {
			return fmt.Errorf("version %d of epoch %s was not taken: %v", f.version, f.name(), response)
		}
		return nil
	case err := <-f.ended:
		return fmt.Errorf("sync ended: %w", err)
	}
}

func (f *fed) name() string { return fmt.Sprintf("%08d", f.epoch) }

func (f *fed) send(ctx context.Context, m *berthv1.SyncRequest) error {
	m.Sequence = f.sequence
	f.sequence++
	select {
	case f.stream.requests <- m:
		return nil
	case err := <-f.ended:
		return fmt.Errorf("sync ended: %w", err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// changes turns one state into another; nil is an empty one.
func changes(from, to *berthv1.Snapshot) *berthv1.Changes {
	c := &berthv1.Changes{}
	c.Nodes, c.RemovedNodes = changed(from.GetNodes(), to.GetNodes(), (*berthv1.Node).GetName)
	c.PlacedPods, c.RemovedPlacedPods = changed(from.GetPlacedPods(), to.GetPlacedPods(), (*berthv1.PlacedPod).GetUid)
	c.Namespaces, c.RemovedNamespaces = changed(from.GetNamespaces(), to.GetNamespaces(), (*berthv1.Namespace).GetName)
	var budgets []string
	c.DisruptionBudgets, budgets = changed(from.GetDisruptionBudgets(), to.GetDisruptionBudgets(), func(b *berthv1.DisruptionBudget) string {
		return b.GetNamespace() + "/" + b.GetName()
	})
	for _, key := range budgets {
		namespace, name, _ := strings.Cut(key, "/")
		c.RemovedDisruptionBudgets = append(c.RemovedDisruptionBudgets, &berthv1.DisruptionBudgetKey{Namespace: namespace, Name: name})
	}
	return c
}

// changed returns the records that are new or different, and the keys of those that are
// gone.
func changed[R proto.Message](from, to []R, key func(R) string) (set []R, removed []string) {
	for _, r := range to {
		at := slices.IndexFunc(from, func(old R) bool { return key(old) == key(r) })
		if at < 0 || !proto.Equal(from[at], r) {
			set = append(set, r)
		}
	}
	for _, old := range from {
		if !slices.ContainsFunc(to, func(r R) bool { return key(r) == key(old) }) {
			removed = append(removed, key(old))
		}
	}
	return set, removed
}

// stream is the decider's end of a Sync stream in memory.
type stream struct {
	grpc.ServerStream
	ctx       context.Context
	requests  chan *berthv1.SyncRequest
	responses chan *berthv1.SyncResponse
}

func (s *stream) Context() context.Context { return s.ctx }

func (s *stream) Recv() (*berthv1.SyncRequest, error) {
	select {
	case m := <-s.requests:
		return m, nil
	case <-s.ctx.Done():
		return nil, io.EOF
	}
}

func (s *stream) Send(m *berthv1.SyncResponse) error {
	select {
	case s.responses <- m:
		return nil
	case <-s.ctx.Done():
		return errors.New("nobody listens")
	}
}
