package service

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// admission lets in as many requests as can be decided at once and makes as many
// wait as may. What waits holds its decoded message, so that both bounds bound
// memory.
type admission struct {
	// deciding has one element per request that is being decided; entered one
	// per request that is being decided or waits.
	deciding, entered chan struct{}
	metrics           *metrics
}

func newAdmission(concurrent, waiting int, m *metrics) *admission {
	return &admission{
		deciding: make(chan struct{}, concurrent),
		entered:  make(chan struct{}, concurrent+max(0, waiting)),
		metrics:  m,
	}
}

// enter waits for the request's turn. release must be called at its end. The
// error is a gRPC status: too many wait, or ctx ended first.
func (a *admission) enter(ctx context.Context) (release func(), err error) {
	select {
	case a.entered <- struct{}{}:
	default:
		return nil, status.Error(codes.ResourceExhausted, "too many requests wait for this decider: use another replica or ask again later")
	}
	a.metrics.waiting.Inc()
	defer a.metrics.waiting.Dec()
	select {
	case a.deciding <- struct{}{}:
	case <-ctx.Done():
		<-a.entered
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	a.metrics.inFlight.Inc()
	return func() {
		a.metrics.inFlight.Dec()
		<-a.deciding
		<-a.entered
	}, nil
}
