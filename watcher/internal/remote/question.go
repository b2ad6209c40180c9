package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/watcher/internal/driver"
	"github.com/berth-scheduler/berth/watcher/internal/route"
)

// question is one batch on its way from one decider to the next. One goroutine asks it;
// only send is called by another.
type question struct {
	pool     *Pool
	batch    *driver.Batch
	attempts []Attempt
	problems []string
	unfit    error // of a batch that a decider which is there could not answer
	snapshot *berthv1.Snapshot
}

// pods is how many the batch has.
func (q *question) pods() int { return len(q.batch.Request.GetPods()) }

// ask asks one decider's replicas. It is nil if another decider may be asked.
func (q *question) ask(ctx context.Context, t *target) *driver.Decided {
	reachable := t.reachable()
	if len(reachable) == 0 {
		q.problems = append(q.problems, t.name+": "+t.status())
		return nil
	}
	a := &asking{question: q, target: t, serial: serial(reachable), failed: map[*replica]bool{},
		key: cmp.Or(q.batch.Key, strconv.FormatUint(q.batch.ID, 10))}
	if a.serial {
		a.key = "" // what it remembers is in the replica that was asked before
		select {
		case t.turn <- struct{}{}:
			defer func() { <-t.turn }()
		case <-ctx.Done():
			q.problems = append(q.problems, t.name+": its turn did not come")
			return nil
		}
	}
	decided, late := a.byReference(ctx, q.fed(ctx, reachable))
	if decided != nil || late {
		return decided
	}
	return a.inline(ctx, reachable)
}

// asking is a question at one decider.
type asking struct {
	*question
	target *target
	key    string // for the router
	serial bool
	failed map[*replica]bool // which are not to be asked again
}

// byReference asks those that are fed until one answers. It also returns whether there was
// no time for an answer, which another replica would not have either.
func (a *asking) byReference(ctx context.Context, fed []*replica) (decided *driver.Decided, late bool) {
	with := &berthv1.DecideRequest{State: &berthv1.DecideRequest_Reference{
		Reference: &berthv1.StateReference{Epoch: a.batch.Epoch, AtLeastVersion: a.batch.Version}}}
	asked := map[*replica]bool{}
	for {
		r := a.target.begin(a.key, a.pods(), func(r *replica) bool { return slices.Contains(fed, r) && !asked[r] })
		if r == nil {
			return nil, false
		}
		asked[r] = true
		// Of the others, those that are fed when it comes to that.
		calls := a.hedged(ctx, r, with, func(other *replica) bool {
			return !asked[other] && other.progress().has(a.batch.Epoch, time.Now())
		})
		for _, c := range calls {
			asked[c.replica] = true
			switch decided, err := a.take(c); {
			case decided != nil:
				return decided, false
			case status.Code(err) == codes.DeadlineExceeded:
				late = true
			case status.Code(err) != codes.FailedPrecondition: // else it is there, and has another state
				a.failed[c.replica] = true
			}
		}
		if late {
			return nil, true
		}
	}
}

// inline asks with the whole state, until one answers.
func (a *asking) inline(ctx context.Context, reachable []*replica) *driver.Decided {
	for {
		r := a.target.begin(a.key, a.pods(), func(r *replica) bool { return slices.Contains(reachable, r) && !a.failed[r] })
		if r == nil {
			return nil
		}
		if a.snapshot == nil {
			state, err := a.pool.config.State(ctx)
			if err != nil {
				a.target.done(r, a.pods(), 0, route.Void)
				a.problems = append(a.problems, err.Error())
				return nil
			}
			a.snapshot = state.Snapshot
		}
		decided, err := a.take(a.send(ctx, r, &berthv1.DecideRequest{State: &berthv1.DecideRequest_Snapshot{Snapshot: a.snapshot}}))
		if decided != nil || status.Code(err) == codes.DeadlineExceeded {
			return decided
		}
		a.failed[r] = true
	}
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

// call is one replica that was asked, which the router was told began.
type call struct {
	replica  *replica
	inline   bool
	sent     bool // or there was no need to, or nobody to send to
	response *berthv1.DecideResponse
	err      error
	took     time.Duration
}

// hedged asks a replica and, if it takes longer than nearly all batches did, another one
// that has nothing to do and may be asked. It returns those calls whose outcomes count, in
// the order in which they do: whoever answers first is the only one.
func (a *asking) hedged(ctx context.Context, r *replica, with *berthv1.DecideRequest, may func(*replica) bool) []*call {
	after, ok := a.target.hedgeAfter(a.pods())
	if a.serial || !ok {
		return []*call{a.send(ctx, r, with)}
	}
	ctxFirst, giveUpFirst := context.WithCancel(ctx)
	defer giveUpFirst()
	ctxSecond, giveUpSecond := context.WithCancel(ctx)
	defer giveUpSecond()
	counts, seconds := a.pool.metrics, make(chan *call, 1) // nil if there is nobody
	hedge := time.AfterFunc(after, func() {
		other := a.target.beginFree(a.key, a.pods(), func(other *replica) bool { return other != r && may(other) })
		if other == nil {
			seconds <- nil
			return
		}
		counts.hedges.WithLabelValues(a.target.name).Inc()
		second := a.send(ctxSecond, other, with)
		if second.err == nil {
			giveUpFirst()
		}
		seconds <- second
	})
	first := a.send(ctxFirst, r, with)
	if hedge.Stop() {
		return []*call{first}
	}
	if first.err == nil || final(first.err) {
		giveUpSecond()
	}
	second := <-seconds
	switch {
	case second == nil:
		return []*call{first}
	case first.err == nil || final(first.err):
		a.drop(second, route.Void)
		return []*call{first}
	case second.err == nil && status.Code(first.err) == codes.Canceled:
		counts.hedgesWon.WithLabelValues(a.target.name).Inc()
		a.drop(first, route.Late)
		return []*call{second}
	case second.err == nil:
		counts.hedgesWon.WithLabelValues(a.target.name).Inc()
	}
	return []*call{first, second}
}

// send asks one replica with one state.
func (q *question) send(ctx context.Context, r *replica, with *berthv1.DecideRequest) *call {
	c := &call{replica: r, inline: with.GetSnapshot() != nil}
	described, problem := r.get()
	if described == nil {
		c.err = status.Error(codes.Unavailable, problem)
		return c
	}
	b := q.batch.Request
	full := &berthv1.DecideRequest{State: with.GetState(), Pods: b.GetPods(), Seed: b.GetSeed(),
		Candidates: b.GetCandidates(), Explanation: b.GetExplanation(), Preempt: b.GetPreempt()}
	request, instead := split(full, described)
	if request == nil {
		c.response = &berthv1.DecideResponse{Epoch: full.GetSnapshot().GetEpoch(), Version: full.GetSnapshot().GetVersion(), Decisions: instead}
		if r := full.GetReference(); r != nil {
			c.response.Epoch, c.response.Version = r.GetEpoch(), r.GetAtLeastVersion()
		}
		return c
	}
	ctx, cancel := context.WithTimeout(ctx, q.pool.config.Timeout)
	defer cancel()
	c.sent = true
	began := time.Now()
	c.response, c.err = r.client.Decide(ctx, request)
	c.took = time.Since(began)
	if c.err != nil {
		return c
	}
	merged := merge(instead, c.response.GetDecisions())
	if merged == nil {
		c.err = errors.New("it did not answer pod by pod")
		return c
	}
	c.response.Decisions = merged
	if s := request.GetSnapshot(); s != nil && c.response.GetEpoch() == "" && c.response.GetVersion() == 0 {
		c.response.Epoch, c.response.Version = s.GetEpoch(), s.GetVersion() // what else could it be about
	}
	return c
}

// drop is take for a call by reference that nobody waits for any more: ended says what it
// means that it was given up, if it was.
func (q *question) drop(c *call, ended route.Result) {
	if status.Code(c.err) != codes.Canceled {
		ended = result(c)
	}
	c.replica.target.done(c.replica, q.pods(), c.took, ended)
}

// take makes an outcome of a call. It returns one that is final, or why another replica
// may be asked.
func (q *question) take(c *call) (*driver.Decided, error) {
	name := c.replica.target.name
	took := c.took
	if c.inline {
		took = 0 // the state was on its way for most of it
	}
	c.replica.target.done(c.replica, q.pods(), took, result(c))
	if c.sent {
		q.attempts = append(q.attempts, Attempt{name, status.Code(c.err), c.took})
	}
	if c.err == nil {
		return &driver.Decided{Batch: q.batch.ID, Decider: name, Response: c.response, Took: c.took}, nil
	}
	q.problems = append(q.problems, fmt.Sprintf("%s: %s", name, status.Convert(c.err).Message()))
	if final(c.err) {
		return &driver.Decided{Batch: q.batch.ID, Decider: name, Err: fmt.Errorf("decider %s: %w", name, c.err)}, nil
	}
	switch status.Code(c.err) {
	case codes.DeadlineExceeded:
		q.unfit = fmt.Errorf("decider %s did not answer %d pods within %v", name, q.pods(), q.pool.config.Timeout)
	case codes.ResourceExhausted:
		if tooLarge(c.err) {
			q.unfit = fmt.Errorf("decider %s: %s: raise --max-message-bytes of the watcher and of the decider", name, status.Convert(c.err).Message())
		}
	}
	return nil, c.err
}

// final says whether nobody else is to be asked: another replica may be of another build,
// but the same request rarely becomes better. The pods back off.
func final(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.Internal, codes.Unknown, codes.DataLoss:
		return true
	}
	return false
}

// tooLarge tells a message that is too large from a decider that is too busy: it is grpc's
// own limit, which it words alike at both ends.
func tooLarge(err error) bool {
	return strings.Contains(status.Convert(err).Message(), "larger than max")
}

// result is what a call that was waited for says about the replica.
func result(c *call) route.Result {
	if !c.sent {
		return route.Void
	}
	switch status.Code(c.err) {
	case codes.OK, codes.InvalidArgument, codes.FailedPrecondition:
		return route.OK
	case codes.DeadlineExceeded:
		return route.Late
	case codes.Canceled:
		return route.Void
	case codes.ResourceExhausted:
		if tooLarge(c.err) {
			return route.Void
		}
	}
	return route.Failed
}
