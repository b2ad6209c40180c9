package service

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// maxRejected is how many records one answer names at most.
const maxRejected = 1000

// syncStream is a stream of Sync.
type syncStream = grpc.BidiStreamingServer[berthv1.SyncRequest, berthv1.SyncResponse]

// Sync feeds the state that requests refer to. Its errors are gRPC statuses, as the
// contract says.
func (s *Service) Sync(stream syncStream) error {
	return s.sync(stream, func() (*syncRequest, error) {
		m, err := stream.Recv()
		return &syncRequest{SyncRequest: m}, err
	})
}

// sync is Sync with messages from receive.
func (s *Service) sync(stream syncStream, receive func() (*syncRequest, error)) error {
	ctx := stream.Context()
	f := &feed{service: s, feeder: s.held.arrive()}
	defer s.held.leave(f.feeder)
	// What comes next is decoded while this one is applied.
	messages, ended := make(chan *syncRequest), make(chan error, 1)
	go func() {
		for {
			m, err := receive()
			if err != nil {
				ended <- err
				return
			}
			select {
			case messages <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		var response *berthv1.SyncResponse
		var err error
		select {
		case m := <-messages:
			response, err = f.take(ctx, m)
		case <-f.feeder.lost:
			response = f.resync(lost, stateLost)
		case <-f.feeder.evicted:
			err = superseded(f.feeder)
		case <-s.ending.Done():
			err = errDraining
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err != nil {
			return err
		}
		if response != nil {
			if err := stream.Send(response); err != nil {
				return err
			}
		}
	}
}

var errDraining = status.Error(codes.Unavailable, "this decider is draining: use another replica")

func superseded(f *feeder) error {
	return status.Errorf(codes.Aborted, "epoch %q is superseded: another stream feeds this decider", f.epoch)
}

const stateLost = "the state was lost to an internal error"

// Why a state has to be fed anew, for metrics.
const (
	outOfOrder   = "sequence"
	wrongVersion = "version"
	wrongDigest  = "digest"
	lost         = "failure"
)

var resyncReasons = []string{outOfOrder, wrongVersion, wrongDigest, lost}

// feed takes the messages of one stream, one after the other.
type feed struct {
	service *Service
	feeder  *feeder
	// next is the sequence number of the next message.
	next uint64
	// state is what was fed since the last begin; nil if messages are passed over until
	// the next. committed is set if others see it, asked if everything was asked for
	// anew.
	state            *state
	committed, asked bool
	// staged are changes that are not in the state yet, stagedBytes what they take.
	// Before the first commit they are nodes alone, so that those are put in order once.
	staged      []*staged
	stagedBytes int64
	// rejected are the first records since the last commit that make no sense.
	rejected []*berthv1.RejectedRecord
}

// take carries out one message and returns the answer, if there is one. The error is
// the gRPC status that ends the stream.
func (f *feed) take(ctx context.Context, m *syncRequest) (*berthv1.SyncResponse, error) {
	begin := m.GetBegin()
	switch {
	case m.GetStep() == nil:
		return nil, status.Error(codes.InvalidArgument, "step: it is none of begin, changes and commit")
	case begin != nil && m.GetSequence() == 0:
		return nil, f.begin(begin)
	case begin != nil:
		return f.resync(outOfOrder, fmt.Sprintf("a begin is message 0, not %d", m.GetSequence())), nil
	case f.state == nil && f.asked:
		return nil, nil
	case f.state == nil:
		return f.resync(outOfOrder, "nothing has begun"), nil
	case m.GetSequence() != f.next:
		return f.resync(outOfOrder, fmt.Sprintf("message %d came where %d was due", m.GetSequence(), f.next)), nil
	}
	f.next++
	if c := m.GetChanges(); c != nil {
		return nil, f.change(c, m.kinds)
	}
	return f.commit(ctx, m.GetCommit())
}

func (f *feed) begin(m *berthv1.SyncBegin) error {
	if m.GetEpoch() == "" {
		return status.Error(codes.InvalidArgument, "begin.epoch: a begin needs one")
	}
	s := f.service
	if err := s.held.begin(f.feeder, m.GetEpoch()); err != nil {
		return err
	}
	f.forget()
	f.next, f.asked = 1, false
	f.state = newState(m.GetEpoch(), s.understood, s.config.OmitStateDigest)
	return nil
}

// forget leaves the stream without a state.
func (f *feed) forget() {
	f.state, f.committed = nil, false
	f.staged, f.stagedBytes, f.rejected = nil, 0, nil
}

// resync gives up the state and asks for everything anew.
func (f *feed) resync(reason, why string) *berthv1.SyncResponse {
	response := &berthv1.SyncResponse{Epoch: f.feeder.epoch, Resync: why}
	if f.state != nil {
		response.Version = f.state.version
	}
	f.service.held.drop(f.feeder)
	f.service.metrics.resyncs.WithLabelValues(reason).Inc()
	f.forget()
	f.asked = true
	return response
}

// change stages changes, whose placed pods have these kinds, if any. A state that nobody sees yet is changed at once, so that its
// records are not held twice.
func (f *feed) change(c *berthv1.Changes, kinds []*placedKind) error {
	// Changes that remove nothing are one with those before them.
	next := f.state.stage(c, kinds)
	if last := len(f.staged) - 1; last >= 0 && !removes(c) {
		f.staged[last].append(next)
	} else {
		f.staged = append(f.staged, next)
	}
	f.stagedBytes += next.bytes
	if !f.committed && !nodesAlone(c) {
		f.apply()
	}
	bytes := f.stagedBytes
	if !f.committed {
		bytes += f.state.bytes
	}
	return f.bound(bytes)
}

// bound is the status that ends the stream if the state takes too many bytes.
func (f *feed) bound(bytes int64) error {
	if limit := f.service.config.MaxStateBytes; bytes > limit {
		return status.Errorf(codes.ResourceExhausted, "the state takes more than the %d bytes that this decider holds", limit)
	}
	return nil
}

// nodesAlone says whether changes are of nodes that come or change and nothing else.
func nodesAlone(c *berthv1.Changes) bool {
	return len(c.GetPlacedPods())+len(c.GetNamespaces())+len(c.GetDisruptionBudgets()) == 0 && !removes(c)
}

// removes says whether changes remove anything.
func removes(c *berthv1.Changes) bool {
	return len(c.GetRemovedNodes())+len(c.GetRemovedPlacedPods())+
		len(c.GetRemovedNamespaces())+len(c.GetRemovedDisruptionBudgets()) > 0
}

// apply puts what is staged into the state.
func (f *feed) apply() {
	for _, c := range f.staged {
		rejected := f.state.apply(c)
		f.service.metrics.rejectedRecords.Add(float64(len(rejected)))
		f.rejected = append(f.rejected, rejected[:min(len(rejected), maxRejected-len(f.rejected))]...)
	}
	f.staged, f.stagedBytes = nil, 0
}

// commit shows what was fed.
func (f *feed) commit(ctx context.Context, c *berthv1.SyncCommit) (*berthv1.SyncResponse, error) {
	s, st := f.service, f.state
	if c.GetFromVersion() != st.version || c.GetVersion() < c.GetFromVersion() {
		return f.resync(wrongVersion, fmt.Sprintf("a commit from version %d to %d came where version %d is held",
			c.GetFromVersion(), c.GetVersion(), st.version)), nil
	}
	select {
	case st.turn <- struct{}{}:
	case <-f.feeder.evicted:
		return nil, superseded(f.feeder)
	case <-s.ending.Done():
		return nil, errDraining
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	defer func() { <-st.turn }()
	f.apply()
	if st.gone {
		return f.resync(lost, stateLost), nil
	}
	if want, have := c.GetStateDigest(), st.stateDigest(); want != "" && have != "" && want != have {
		st.gone = true
		return f.resync(wrongDigest, fmt.Sprintf("the digest of version %d is %s here, not %s", c.GetVersion(), have, want)), nil
	}
	if err := f.bound(st.bytes); err != nil {
		st.gone = true
		s.held.drop(f.feeder)
		return nil, err
	}
	st.version = c.GetVersion()
	if !f.committed {
		f.committed = true
		st.index = s.newIndex(st.snapshot)
	}
	if !s.held.publish(f.feeder, st) {
		return nil, superseded(f.feeder)
	}
	s.metrics.commits.Inc()
	response := &berthv1.SyncResponse{
		Epoch: st.epoch, Version: st.version, RejectedRecords: f.rejected, StateDigest: st.stateDigest(),
	}
	f.rejected = nil
	return response, nil
}
