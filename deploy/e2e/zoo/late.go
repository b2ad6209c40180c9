package main

import (
	"context"
	"encoding/json"
	"io"
	"net"

	"github.com/berth-scheduler/berth/decider/service"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// serveLate serves a decider whose answers come when nobody waits for them any more.
func serveLate(ctx context.Context, listener net.Listener, _ options) error {
	return serveSolver(ctx, listener, &late{random{out: json.NewEncoder(io.Discard)}})
}

type late struct{ random }

func (*late) Name() string { return "late" }

func (s *late) Solve(ctx context.Context, r *service.SolverRequest) []*berthv1.Decision {
	<-ctx.Done() // the request's deadline
	return s.random.Solve(ctx, r)
}
