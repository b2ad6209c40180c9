package main

import (
	"context"
	"net"
	"os"
	"sync/atomic"

	"github.com/berth-scheduler/berth/decider/service"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// crashAt is the request to decide that the process does not survive.
const crashAt = 10

// serveCrash serves a decider that exits again and again.
func serveCrash(_ context.Context, listener net.Listener, _ options) error {
	s, err := good()
	if err != nil {
		return err
	}
	return serve(listener, &crash{Service: s})
}

type crash struct {
	*service.Service
	requests atomic.Int64
}

func (s *crash) Decide(ctx context.Context, r *berthv1.DecideRequest) (*berthv1.DecideResponse, error) {
	if s.requests.Add(1) == crashAt {
		os.Exit(3)
	}
	return s.Service.Decide(ctx, r)
}
