package remote

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"k8s.io/klog/v2"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// replica is one process of a decider, at one address.
type replica struct {
	target  *target
	address string
	conn    *grpc.ClientConn
	client  berthv1.DeciderServiceClient
	// changed has an element when its connection was made or has ended since it was last
	// asked who it is.
	changed connections
	// batches are those that it has. None is added once it is none of its target's replicas.
	batches sync.WaitGroup

	mu        sync.Mutex                // guards what follows
	described *berthv1.DescribeResponse // nil while it is not reachable
	problem   string                    // why it is not reachable
	fed       progress
	// expecting is set from when it has introduced itself until it has taken the whole
	// state, or turned out not to.
	expecting bool
}

// newReplica prepares the connection; it is made by run.
func (t *target) newReplica(address string, e resolver.Endpoint) (*replica, error) {
	config := t.pool.config
	changed := make(connections, 1)
	conn, err := grpc.NewClient(t.name, t.at(e),
		grpc.WithStatsHandler(changed),
		grpc.WithTransportCredentials(config.Credentials),
		grpc.WithDisableServiceConfig(),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(config.MaxMessageBytes), grpc.MaxCallSendMsgSize(config.MaxMessageBytes)),
	)
	if err != nil {
		return nil, fmt.Errorf("decider %q: %w", t.name, err)
	}
	return &replica{target: t, address: address, conn: conn, client: berthv1.NewDeciderServiceClient(conn), changed: changed, problem: "not connected yet"}, nil
}

// run introduces the replica to us each time it has become reachable, and keeps it fed,
// until ctx ends.
func (r *replica) run(ctx context.Context) {
	defer r.conn.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { r.keepFed(ctx) })
	log := klog.FromContext(ctx).WithValues("decider", r.target.name, "replica", r.address)
	for ctx.Err() == nil {
		state := r.conn.GetState()
		switch state {
		case connectivity.Idle:
			r.conn.Connect()
		case connectivity.Ready, connectivity.TransientFailure:
			// Without a connection the call fails at once, and says why there is none.
			described, err := r.describe(ctx)
			if err != nil {
				if problem := status.Convert(err).Message(); r.set(nil, problem) {
					log.Info("Decider is not reachable", "err", problem)
				}
				select {
				case r.target.lost <- struct{}{}: // it may be elsewhere by now
				default:
				}
				// A connection without an introduction is tried again after a while; one that
				// failed is when it is made again.
				if state == connectivity.Ready {
					wait, stop := context.WithTimeout(ctx, 2*time.Second)
					r.conn.WaitForStateChange(wait, state)
					stop()
					continue
				}
				break
			}
			if before, _ := r.get(); proto.Equal(before, described) {
				break // another connection, and nothing new
			}
			r.set(described, "")
			log.Info("Decider introduced itself", "name", described.GetName(), "version", described.GetVersion(), "instance", described.GetInstanceId())
			r.target.pool.config.Changed()
		}
		r.wait(ctx, state)
	}
	r.set(nil, "its address is not in use any more")
}

// describe asks the replica who it is.
func (r *replica) describe(ctx context.Context) (*berthv1.DescribeResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, r.target.pool.config.Timeout)
	defer cancel()
	return r.client.Describe(ctx, &berthv1.DescribeRequest{})
}

// wait returns when the state is another, when a connection was made or has ended, which
// may happen too fast to be seen, or when ctx ends.
func (r *replica) wait(ctx context.Context, state connectivity.State) {
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-r.changed:
			stop()
		case <-ctx.Done():
		}
	}()
	r.conn.WaitForStateChange(ctx, state)
	stop()
	<-done // or it might take what the next wait is for
}

// connections is a stats.Handler that tells of connections alone.
type connections chan struct{}

// HandleConn implements stats.Handler.
func (c connections) HandleConn(_ context.Context, s stats.ConnStats) {
	switch s.(type) {
	case *stats.ConnBegin, *stats.ConnEnd:
		select {
		case c <- struct{}{}:
		default: // it has been told and has not looked yet
		}
	}
}

// TagConn, TagRPC and HandleRPC implement stats.Handler.
func (connections) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (connections) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (connections) HandleRPC(context.Context, stats.RPCStats)                         {}

// set records whether the replica is reachable, and if not why, and reports whether that
// is news.
func (r *replica) set(described *berthv1.DescribeResponse, problem string) bool {
	r.mu.Lock()
	news := problem != r.problem
	r.expecting = described != nil && (r.described == nil || r.expecting)
	r.described, r.problem = described, problem
	r.mu.Unlock()
	r.target.pool.moved()
	return news
}

func (r *replica) get() (*berthv1.DescribeResponse, string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.described, r.problem
}
