package main

import (
	"context"
	"net"
	"slices"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/berth-scheduler/berth/decider/service"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Of the decisions of a newer decider every fifth is an outcome that this version of the
// contract does not have.
const (
	unknownAt      = 5
	unknownOutcome = berthv1.Outcome(99)
)

// serveNewer serves a decider that says more than is understood.
func serveNewer(_ context.Context, listener net.Listener, _ options) error {
	s, err := good()
	if err != nil {
		return err
	}
	return serve(listener, &newer{Service: s})
}

type newer struct {
	*service.Service
	decisions atomic.Int64
}

// more adds fields that nobody knows yet to a message.
func more(m proto.Message) {
	var b []byte
	b = protowire.AppendTag(b, 1001, protowire.BytesType)
	b = protowire.AppendString(b, "from the future")
	b = protowire.AppendTag(b, 1002, protowire.VarintType)
	b = protowire.AppendVarint(b, 7)
	m.ProtoReflect().SetUnknown(b)
}

func (s *newer) Describe(ctx context.Context, r *berthv1.DescribeRequest) (*berthv1.DescribeResponse, error) {
	response, err := s.Service.Describe(ctx, r)
	if err != nil {
		return nil, err
	}
	response.Constraints = append(slices.Clone(response.GetConstraints()), "Zodiac/Sign")
	response.UnreadState = append(slices.Clone(response.GetUnreadState()), "nodes.zodiac")
	more(response)
	more(response.GetLimits())
	return response, nil
}

func (s *newer) Decide(ctx context.Context, r *berthv1.DecideRequest) (*berthv1.DecideResponse, error) {
	response, err := s.Service.Decide(ctx, r)
	if err != nil {
		return nil, err
	}
	more(response)
	for i, d := range response.GetDecisions() {
		d = proto.CloneOf(d) // its parts may be other decisions', too
		response.Decisions[i] = d
		more(d)
		for _, c := range d.GetCandidates() {
			more(c)
		}
		if rejection := d.GetRejection(); rejection != nil {
			more(rejection)
		}
		if s.decisions.Add(1)%unknownAt == 0 {
			later := &berthv1.Decision{PodUid: d.GetPodUid(), Outcome: unknownOutcome}
			more(later)
			response.Decisions[i] = later
		}
	}
	return response, nil
}

func (s *newer) Sync(stream berthv1.DeciderService_SyncServer) error {
	return s.Service.Sync(newerStream{stream})
}

type newerStream struct {
	berthv1.DeciderService_SyncServer
}

func (s newerStream) Send(r *berthv1.SyncResponse) error {
	more(r)
	return s.DeciderService_SyncServer.Send(r)
}
