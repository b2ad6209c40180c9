// Package remote is the line to the deciders: connections, deadlines, and which
// of them answers.
package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"k8s.io/klog/v2"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/watcher/internal/driver"
)

// serviceConfig spreads calls over all addresses behind a name and, where one of
// them is gone, asks another at once.
const serviceConfig = `{
  "loadBalancingConfig": [{"round_robin": {}}],
  "methodConfig": [{
    "name": [{"service": "berth.v1.DeciderService", "method": "Decide"}],
    "retryPolicy": {
      "maxAttempts": 3, "initialBackoff": "0.02s", "maxBackoff": "0.2s", "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE"]
    }
  }]
}`

// Config says which deciders there are and how to reach them.
type Config struct {
	// Deciders are gRPC targets by scheduler name, the preferred one first: a
	// host:port, unix://PATH, or dns:///NAME:PORT, behind which several replicas
	// may be. Required.
	Deciders map[string][]string
	// Credentials secure the connections; nil means plaintext.
	Credentials credentials.TransportCredentials
	// MaxMessageBytes bounds requests and answers. Required.
	MaxMessageBytes int
	// Timeout bounds one attempt at one decider. Required.
	Timeout time.Duration
	// Changed is called, by a goroutine of the pool, whenever a decider has
	// introduced itself that was not reachable before. Required.
	Changed func()
}

// Pool holds a connection to every decider. Use New, then Run; Decide may be
// called concurrently.
type Pool struct {
	config  Config
	names   map[string][]*decider // by scheduler name, in order of preference
	targets []*decider            // each once, by target
}

// decider is one target.
type decider struct {
	target string
	conn   *grpc.ClientConn
	client berthv1.DeciderServiceClient
	// changed has an element when a connection to one of the replicas behind the
	// target was made or has ended since they were last asked who they are.
	changed connections

	mu        sync.Mutex                // guards described and problem
	described *berthv1.DescribeResponse // nil while it is not reachable
	problem   string                    // why it is not reachable
}

// New prepares the connections; none is made before Run.
func New(config Config) (*Pool, error) {
	p := &Pool{config: config, names: map[string][]*decider{}}
	creds := config.Credentials
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	byTarget := map[string]*decider{}
	for name, targets := range config.Deciders {
		for _, target := range targets {
			d := byTarget[target]
			if d == nil {
				changed := make(connections, 1)
				conn, err := grpc.NewClient(target,
					grpc.WithStatsHandler(changed),
					grpc.WithTransportCredentials(creds),
					grpc.WithDefaultServiceConfig(serviceConfig),
					grpc.WithDisableServiceConfig(),
					grpc.WithIdleTimeout(0),
					grpc.WithConnectParams(grpc.ConnectParams{
						Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
						MinConnectTimeout: 5 * time.Second,
					}),
					grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}),
					grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(config.MaxMessageBytes), grpc.MaxCallSendMsgSize(config.MaxMessageBytes),
						// A request must be kept whole to be sent to another replica.
						grpc.MaxRetryRPCBufferSize(config.MaxMessageBytes)),
				)
				if err != nil {
					return nil, fmt.Errorf("decider %q: %w", target, err)
				}
				d = &decider{target: target, conn: conn, client: berthv1.NewDeciderServiceClient(conn), changed: changed, problem: "not connected yet"}
				byTarget[target] = d
				p.targets = append(p.targets, d)
			}
			p.names[name] = append(p.names[name], d)
		}
	}
	slices.SortFunc(p.targets, func(a, b *decider) int { return strings.Compare(a.target, b.target) })
	return p, nil
}

// Run keeps the connections up until ctx ends, and closes them.
func (p *Pool) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, d := range p.targets {
		wg.Go(func() { d.run(ctx, p.config) })
	}
	wg.Wait()
	return nil
}

// run introduces the decider to us each time it has become reachable.
func (d *decider) run(ctx context.Context, config Config) {
	defer d.conn.Close()
	log := klog.FromContext(ctx).WithValues("decider", d.target)
	for ctx.Err() == nil {
		state := d.conn.GetState()
		switch state {
		case connectivity.Idle:
			d.conn.Connect()
		case connectivity.Ready, connectivity.TransientFailure:
			// Without a connection the call fails at once, and says why there is none.
			call, cancel := context.WithTimeout(ctx, config.Timeout)
			described, err := d.client.Describe(call, &berthv1.DescribeRequest{})
			cancel()
			if err != nil {
				if problem := status.Convert(err).Message(); d.set(nil, problem) {
					log.Info("Decider is not reachable", "err", problem)
				}
				// A connection without an introduction is tried again after a while; one that
				// failed is when it is made again.
				if state == connectivity.Ready {
					wait, stop := context.WithTimeout(ctx, 2*time.Second)
					d.conn.WaitForStateChange(wait, state)
					stop()
					continue
				}
				break
			}
			if before, _ := d.get(); proto.Equal(before, described) {
				break // another connection, and nothing new
			}
			d.set(described, "")
			log.Info("Decider introduced itself", "name", described.GetName(), "version", described.GetVersion(), "instance", described.GetInstanceId())
			config.Changed()
		}
		d.wait(ctx, state)
	}
}

// wait returns when the state is another, when a connection was made or has ended
// (behind a name with several replicas that need not change the state, and those
// that are there now may understand more), or when ctx ends.
func (d *decider) wait(ctx context.Context, state connectivity.State) {
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-d.changed:
			stop()
		case <-ctx.Done():
		}
	}()
	d.conn.WaitForStateChange(ctx, state)
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

// set records whether the decider is reachable, and if not why, and reports
// whether that is news.
func (d *decider) set(described *berthv1.DescribeResponse, problem string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	news := problem != d.problem
	d.described, d.problem = described, problem
	return news
}

func (d *decider) get() (*berthv1.DescribeResponse, string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.described, d.problem
}

// Status is how one decider is.
type Status struct {
	Target string
	// Problem says why it is not reachable; empty means that it is.
	Problem string
}

// Status returns how every decider is, by target.
func (p *Pool) Status() []Status {
	all := make([]Status, 0, len(p.targets))
	for _, d := range p.targets {
		_, problem := d.get()
		all = append(all, Status{d.target, problem})
	}
	return all
}

// Unreachable returns the scheduler names of which no decider is reachable,
// sorted.
func (p *Pool) Unreachable() []string {
	var names []string
	for name, deciders := range p.names {
		if !slices.ContainsFunc(deciders, func(d *decider) bool { r, _ := d.get(); return r != nil }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Attempt is one call of one decider.
type Attempt struct {
	Decider  string
	Code     codes.Code
	Duration time.Duration
}

// Decide asks the scheduler name's deciders in turn, from the batch's fallback
// on, until one answers. Pods that a decider does not understand are not sent
// to it; their decision is UNSUPPORTED. The attempts that were made are
// returned with the outcome.
func (p *Pool) Decide(ctx context.Context, b *driver.Batch) (driver.Decided, []Attempt) {
	deciders := p.names[b.SchedulerName]
	var attempts []Attempt
	var problems []string
	var unfit error // of a batch that a decider which is there could not answer
	for i := range deciders {
		d := deciders[(b.Fallback+i)%len(deciders)]
		described, problem := d.get()
		if described == nil {
			problems = append(problems, d.target+": "+problem)
			continue
		}
		began := time.Now()
		response, err := d.decide(ctx, p.config.Timeout, described, b.Request)
		attempts = append(attempts, Attempt{d.target, status.Code(err), time.Since(began)})
		if err == nil {
			return driver.Decided{Batch: b.ID, Decider: d.target, Response: response}, attempts
		}
		problems = append(problems, fmt.Sprintf("%s: %s", d.target, status.Convert(err).Message()))
		switch status.Code(err) {
		case codes.InvalidArgument, codes.Internal, codes.Unknown, codes.DataLoss:
			// Another replica may be of another build, but the same request rarely
			// becomes better: the pods back off.
			return driver.Decided{Batch: b.ID, Decider: d.target, Err: fmt.Errorf("decider %s: %w", d.target, err)}, attempts
		case codes.DeadlineExceeded:
			unfit = fmt.Errorf("decider %s did not answer %d pods within %v", d.target, len(b.Request.GetPods()), p.config.Timeout)
		case codes.ResourceExhausted:
			// Too busy, or grpc's own limit, which it words alike at both ends.
			if message := status.Convert(err).Message(); strings.Contains(message, "larger than max") {
				unfit = fmt.Errorf("decider %s: %s: raise --max-message-bytes of the watcher and of the decider", d.target, message)
			}
		}
	}
	if unfit != nil {
		return driver.Decided{Batch: b.ID, Err: unfit}, attempts // waiting for a decider would not help
	}
	return driver.Decided{Batch: b.ID, Err: fmt.Errorf("%w: %s", driver.ErrNoDecider, strings.Join(problems, "; "))}, attempts
}

// decide asks one decider about the pods that it understands, as many as it takes
// at a time.
func (d *decider) decide(ctx context.Context, timeout time.Duration, described *berthv1.DescribeResponse, full *berthv1.DecideRequest) (*berthv1.DecideResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, instead := split(full, described)
	if request == nil {
		return &berthv1.DecideResponse{Decisions: instead}, nil
	}
	response, err := d.client.Decide(ctx, request)
	if err != nil {
		return nil, err
	}
	if merged := merge(instead, response.GetDecisions()); merged != nil {
		response.Decisions = merged
		return response, nil
	}
	return nil, errors.New("it did not answer pod by pod")
}

// split leaves in the request the pods whose every constraint the decider
// understands, as many as it takes at a time, and returns for the others a
// decision in its place: UNSUPPORTED, or NOT_DECIDED for those beyond. In
// instead, nil stands for the pods that are left; it is nil if all are. The
// request is nil if none is left.
func split(full *berthv1.DecideRequest, described *berthv1.DescribeResponse) (request *berthv1.DecideRequest, instead []*berthv1.Decision) {
	left, most := 0, int(described.GetLimits().GetMaxPods())
	decisions := make([]*berthv1.Decision, len(full.GetPods()))
	for i, pod := range full.GetPods() {
		for _, name := range pod.GetConstraints() {
			if !slices.Contains(described.GetConstraints(), name) {
				decisions[i] = &berthv1.Decision{
					PodUid:  pod.GetUid(),
					Outcome: berthv1.Outcome_OUTCOME_UNSUPPORTED,
					Refusal: &berthv1.Refusal{Constraint: name, Message: "the decider did not declare this constraint"},
				}
				break
			}
		}
		switch {
		case decisions[i] != nil:
		case most > 0 && left == most:
			decisions[i] = &berthv1.Decision{PodUid: pod.GetUid(), Outcome: berthv1.Outcome_OUTCOME_NOT_DECIDED}
		default:
			left++
		}
	}
	switch left {
	case len(decisions):
		return full, nil
	case 0:
		return nil, decisions
	}
	request = &berthv1.DecideRequest{State: full.GetState(), Seed: full.GetSeed(), Candidates: full.GetCandidates(), Explanation: full.GetExplanation()}
	for i, pod := range full.GetPods() {
		if decisions[i] == nil {
			request.Pods = append(request.Pods, pod)
		}
	}
	return request, decisions
}

// merge puts the answers where instead has nil. It returns nil if there are not
// as many answers as gaps.
func merge(instead, answers []*berthv1.Decision) []*berthv1.Decision {
	if instead == nil {
		return answers
	}
	for i := range instead {
		if instead[i] == nil {
			if len(answers) == 0 {
				return nil
			}
			instead[i], answers = answers[0], answers[1:]
		}
	}
	if len(answers) > 0 {
		return nil
	}
	return instead
}
