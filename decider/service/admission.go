package service

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// admission lets in as many requests as can be decided at once and makes as many
// wait as may. What waits holds its decoded message, so that both bounds bound
// memory.
//
// What-ifs (explanations, hypothetical changes) have a door of their own: one at a
// time, with a processor that no other request wants.
type admission struct {
	// deciding has one element per request that is being decided; live and whatIfs one
	// per request that is being decided or waits; whatIf one while a what-if is let in.
	deciding, live, whatIfs, whatIf chan struct{}
	metrics                         *metrics
}

func newAdmission(concurrent, waiting int, m *metrics) *admission {
	waiting = max(0, waiting)
	return &admission{
		deciding: make(chan struct{}, concurrent),
		live:     make(chan struct{}, concurrent+waiting),
		whatIfs:  make(chan struct{}, 1+waiting),
		whatIf:   make(chan struct{}, 1),
		metrics:  m,
	}
}

// enter lets a request in, to wait for what it needs. leave must be called at its end.
// The error is a gRPC status: too many are here.
func (a *admission) enter(whatIf bool) (leave func(), err error) {
	door := a.live
	if whatIf {
		door = a.whatIfs
	}
	select {
	case door <- struct{}{}:
		return func() { <-door }, nil
	default:
		return nil, status.Error(codes.ResourceExhausted, "too many requests wait for this decider: use another replica or ask again later")
	}
}

// turn waits until the request may be decided. done must be called at its end. The
// error is a gRPC status: ctx ended first.
func (a *admission) turn(ctx context.Context, whatIf bool) (done func(), err error) {
	a.metrics.waiting.Inc()
	defer a.metrics.waiting.Dec()
	places := a.deciding
	if whatIf {
		places = a.whatIf
	}
	if err := acquire(ctx, places); err != nil {
		return nil, err
	}
	if whatIf {
		if err := a.yield(ctx); err != nil {
			<-places
			return nil, err
		}
	}
	a.metrics.inFlight.Inc()
	return func() {
		a.metrics.inFlight.Dec()
		<-places
	}, nil
}

// yield waits until a processor is left. The error is a gRPC status: ctx ended first.
func (a *admission) yield(ctx context.Context) error {
	if err := acquire(ctx, a.deciding); err != nil {
		return err
	}
	<-a.deciding
	return nil
}

// acquire takes a place, which is given back by receiving from places.
func acquire(ctx context.Context, places chan struct{}) error {
	select {
	case places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}
