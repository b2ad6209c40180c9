// Package remote is the line to the deciders: connections, what they are fed, deadlines,
// and which of them answers.
package remote

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/watcher/internal/driver"
)

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
	// State returns the state of the cluster. It waits until there is one to decide on,
	// and what is given to Feed from then on follows on it. It is called concurrently.
	// Required.
	State func(context.Context) (driver.State, error)
	// Changed is called, by a goroutine of the pool, whenever a decider has
	// introduced itself that was not reachable before. Required.
	Changed func()
}

// Pool holds a connection to every replica of every decider, and feeds those that take
// it. It is a prometheus.Collector. Use New, then Run; the other methods may be called
// concurrently.
type Pool struct {
	config  Config
	feed    *feed
	metrics *metrics
	names   map[string][]*target // by scheduler name, in order of preference
	targets []*target            // each once, by name

	mu     sync.Mutex          // guards what follows
	moves  chan struct{}       // closed when a replica's state changes
	claims map[string]*replica // which one is fed, by the instance that it is
}

// New prepares the pool; no connection is made before Run.
func New(config Config) (*Pool, error) {
	if config.Credentials == nil {
		config.Credentials = insecure.NewCredentials()
	}
	p := &Pool{
		config: config, feed: newFeed(config.State), metrics: newMetrics(), names: map[string][]*target{},
		moves: make(chan struct{}), claims: map[string]*replica{},
	}
	byName := map[string]*target{}
	for name, targets := range config.Deciders {
		for _, target := range targets {
			t := byName[target]
			if t == nil {
				var err error
				if t, err = newTarget(p, target); err != nil {
					return nil, err
				}
				byName[target] = t
				p.targets = append(p.targets, t)
			}
			p.names[name] = append(p.names[name], t)
		}
	}
	slices.SortFunc(p.targets, func(a, b *target) int { return strings.Compare(a.name, b.name) })
	return p, nil
}

// Run keeps the connections up until ctx ends, and closes them.
func (p *Pool) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, t := range p.targets {
		wg.Go(func() { t.run(ctx) })
	}
	wg.Wait()
	return nil
}

// Feed takes what has changed of the state, for the deciders that are fed. It does not
// block.
func (p *Pool) Feed(f *driver.Feed) { p.feed.add(f) }

// motion returns a channel that is closed when a replica's state changes next.
func (p *Pool) motion() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.moves
}

// moved says that a replica's state has changed.
func (p *Pool) moved() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.moves)
	p.moves = make(chan struct{})
}

// claim says whether the replica may be fed as this instance: a process that is known
// under several addresses is fed under one.
func (p *Pool) claim(r *replica, instance string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if instance == "" {
		return true
	}
	if holder := p.claims[instance]; holder != nil {
		return holder == r
	}
	p.claims[instance] = r
	return true
}

// release takes back what the replica has claimed.
func (p *Pool) release(r *replica) {
	p.mu.Lock()
	maps.DeleteFunc(p.claims, func(_ string, holder *replica) bool { return holder == r })
	p.mu.Unlock()
	p.moved()
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
	for _, t := range p.targets {
		all = append(all, Status{t.name, t.status()})
	}
	return all
}

// Unreachable returns the scheduler names of which no decider is reachable,
// sorted.
func (p *Pool) Unreachable() []string {
	var names []string
	for name, targets := range p.names {
		if !slices.ContainsFunc(targets, func(t *target) bool { return t.status() == "" }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Unprepared returns the scheduler names whose deciders, as many as are reachable, do not
// have the state of the cluster yet, sorted. A decider that is not fed, or takes too long,
// is not waited for. Before this process leads, that is every name with a decider that
// takes Sync.
func (p *Pool) Unprepared() []string {
	now := time.Now()
	var names []string
	for name, targets := range p.names {
		reachable, prepared := false, false
		for _, t := range targets {
			reachable = reachable || t.status() == ""
			prepared = prepared || slices.ContainsFunc(t.all(), func(r *replica) bool { return r.prepared(now) })
		}
		if reachable && !prepared {
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
// on, until one answers: first those of its replicas that are fed, which take turns, then
// the others, with the whole state. Pods that a decider does not understand are not sent
// to it; their decision is UNSUPPORTED. The attempts that were made are returned with the
// outcome.
func (p *Pool) Decide(ctx context.Context, b *driver.Batch) (driver.Decided, []Attempt) {
	q := &question{pool: p, batch: b}
	targets := p.names[b.SchedulerName]
	for i := range targets {
		t := targets[(b.Fallback+i)%len(targets)]
		if decided := q.ask(ctx, t); decided != nil {
			return *decided, q.attempts
		}
	}
	if q.unfit != nil {
		return driver.Decided{Batch: b.ID, Err: q.unfit}, q.attempts // waiting for a decider would not help
	}
	return driver.Decided{Batch: b.ID, Err: fmt.Errorf("%w: %s", driver.ErrNoDecider, strings.Join(q.problems, "; "))}, q.attempts
}

// question is one batch on its way from one decider to the next.
type question struct {
	pool     *Pool
	batch    *driver.Batch
	attempts []Attempt
	problems []string
	unfit    error // of a batch that a decider which is there could not answer
	snapshot *berthv1.Snapshot
}

// ask asks one decider's replicas. It is nil if another decider may be asked.
func (q *question) ask(ctx context.Context, t *target) *driver.Decided {
	replicas := t.all()
	if n := len(replicas); n > 0 {
		first := int(t.turn.Add(1) % uint64(n))
		replicas = append(replicas[first:], replicas[:first]...)
	}
	reachable := slices.DeleteFunc(replicas, func(r *replica) bool { described, _ := r.get(); return described == nil })
	if len(reachable) == 0 {
		q.problems = append(q.problems, t.name+": "+t.status())
		return nil
	}
	fed := q.fed(ctx, reachable)
	reference := &berthv1.DecideRequest_Reference{Reference: &berthv1.StateReference{Epoch: q.batch.Epoch, AtLeastVersion: q.batch.Version}}
	failed := map[*replica]bool{}
	for _, r := range fed {
		decided, err := q.try(ctx, r, &berthv1.DecideRequest{State: reference})
		if decided != nil || status.Code(err) == codes.DeadlineExceeded {
			return decided
		}
		failed[r] = status.Code(err) != codes.FailedPrecondition // then it is there, and has another state
	}
	for _, r := range reachable {
		if failed[r] {
			continue
		}
		if q.snapshot == nil {
			state, err := q.pool.config.State(ctx)
			if err != nil {
				q.problems = append(q.problems, err.Error())
				return nil
			}
			q.snapshot = state.Snapshot
		}
		decided, err := q.try(ctx, r, &berthv1.DecideRequest{State: &berthv1.DecideRequest_Snapshot{Snapshot: q.snapshot}})
		if decided != nil || status.Code(err) == codes.DeadlineExceeded {
			return decided
		}
	}
	return nil
}

// fed returns those of the replicas that are fed. If there is none, and one is being sent
// the whole state, it waits for that.
func (q *question) fed(ctx context.Context, replicas []*replica) []*replica {
	var deadline time.Time
	for {
		moved, now := q.pool.motion(), time.Now()
		var fed []*replica
		loading := false
		for _, r := range replicas {
			p := r.progress()
			if p.has(q.batch.Epoch, now) {
				fed = append(fed, r)
			}
			loading = loading || p.loading() && p.epoch == q.batch.Epoch && now.Sub(p.since) < maxLoading
		}
		if deadline.IsZero() {
			deadline = now.Add(min(maxLoading, q.pool.config.Timeout))
		}
		if len(fed) > 0 || !loading || !deadline.After(now) {
			return fed
		}
		wait := time.NewTimer(deadline.Sub(now))
		select {
		case <-moved:
		case <-wait.C:
		case <-ctx.Done():
		}
		wait.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// try asks one replica with one state. It returns an outcome that is final, or why
// another may be asked.
func (q *question) try(ctx context.Context, r *replica, with *berthv1.DecideRequest) (*driver.Decided, error) {
	b, name := q.batch, r.target.name
	described, problem := r.get()
	if described == nil {
		q.problems = append(q.problems, name+": "+problem)
		return nil, status.Error(codes.Unavailable, problem)
	}
	full := b.Request
	request := &berthv1.DecideRequest{State: with.GetState(), Pods: full.GetPods(), Seed: full.GetSeed(),
		Candidates: full.GetCandidates(), Explanation: full.GetExplanation(), Preempt: full.GetPreempt()}
	began := time.Now()
	response, err := r.decide(ctx, described, request)
	q.attempts = append(q.attempts, Attempt{name, status.Code(err), time.Since(began)})
	if err == nil {
		if s := request.GetSnapshot(); s != nil && response.GetEpoch() == "" && response.GetVersion() == 0 {
			response.Epoch, response.Version = s.GetEpoch(), s.GetVersion() // what else could it be about
		}
		return &driver.Decided{Batch: b.ID, Decider: name, Response: response}, nil
	}
	q.problems = append(q.problems, fmt.Sprintf("%s: %s", name, status.Convert(err).Message()))
	switch status.Code(err) {
	case codes.InvalidArgument, codes.Internal, codes.Unknown, codes.DataLoss:
		// Another replica may be of another build, but the same request rarely
		// becomes better: the pods back off.
		return &driver.Decided{Batch: b.ID, Decider: name, Err: fmt.Errorf("decider %s: %w", name, err)}, nil
	case codes.DeadlineExceeded:
		q.unfit = fmt.Errorf("decider %s did not answer %d pods within %v", name, len(full.GetPods()), q.pool.config.Timeout)
	case codes.ResourceExhausted:
		// Too busy, or grpc's own limit, which it words alike at both ends.
		if message := status.Convert(err).Message(); strings.Contains(message, "larger than max") {
			q.unfit = fmt.Errorf("decider %s: %s: raise --max-message-bytes of the watcher and of the decider", name, message)
		}
	}
	return nil, err
}

// decide asks the replica about the pods that it understands, as many as it takes at a
// time.
func (r *replica) decide(ctx context.Context, described *berthv1.DescribeResponse, full *berthv1.DecideRequest) (*berthv1.DecideResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, r.target.pool.config.Timeout)
	defer cancel()
	request, instead := split(full, described)
	if request == nil {
		response := &berthv1.DecideResponse{Epoch: full.GetSnapshot().GetEpoch(), Version: full.GetSnapshot().GetVersion(), Decisions: instead}
		if r := full.GetReference(); r != nil {
			response.Epoch, response.Version = r.GetEpoch(), r.GetAtLeastVersion()
		}
		return response, nil
	}
	response, err := r.client.Decide(ctx, request)
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
	request = &berthv1.DecideRequest{State: full.GetState(), Seed: full.GetSeed(), Candidates: full.GetCandidates(), Explanation: full.GetExplanation(), Preempt: full.GetPreempt()}
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
