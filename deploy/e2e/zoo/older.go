package main

import (
	"context"
	"net"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/berth-scheduler/berth/decider/service"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// serveOlder serves a decider from before Sync, candidates and most constraints.
func serveOlder(_ context.Context, listener net.Listener, _ options) error {
	s, err := good()
	if err != nil {
		return err
	}
	return serve(listener, &older{now: s})
}

type older struct {
	berthv1.UnimplementedDeciderServiceServer // of Sync
	now                                       *service.Service
}

func (s *older) Describe(context.Context, *berthv1.DescribeRequest) (*berthv1.DescribeResponse, error) {
	return &berthv1.DescribeResponse{Name: "older", Version: "v0.1.0", Constraints: []string{
		berthv1.ConstraintNodeResourcesFit, berthv1.ConstraintNodeUnschedulable,
		berthv1.ConstraintTaintToleration, berthv1.ConstraintNodeSelector,
	}}, nil
}

func (s *older) Decide(ctx context.Context, r *berthv1.DecideRequest) (*berthv1.DecideResponse, error) {
	if r.GetSnapshot() == nil {
		return nil, status.Error(codes.FailedPrecondition, "no state is held here")
	}
	full, err := s.now.Decide(ctx, &berthv1.DecideRequest{State: r.GetState(), Pods: r.GetPods(), Seed: r.GetSeed()})
	if err != nil {
		return nil, err
	}
	response := &berthv1.DecideResponse{Epoch: full.GetEpoch(), Version: full.GetVersion()}
	for _, d := range full.GetDecisions() {
		plain := &berthv1.Decision{PodUid: d.GetPodUid(), Outcome: d.GetOutcome(), Refusal: d.GetRefusal()}
		if c := d.GetCandidates(); len(c) > 0 {
			plain.Candidates = []*berthv1.Candidate{{NodeName: c[0].GetNodeName(), NodeUid: c[0].GetNodeUid()}}
		}
		if d.GetRejection() != nil {
			plain.Rejection = &berthv1.Rejection{Message: d.GetRejection().GetMessage()}
		}
		response.Decisions = append(response.Decisions, plain)
	}
	return response, nil
}
