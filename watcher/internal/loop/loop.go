// Package loop runs the driver against the deciders and the API server: it owns
// the clock, the goroutines and the metrics.
//
// One goroutine owns the driver; everything else sends it events. Before it
// leads, the loop only follows the cluster, so that a standby knows everything
// when its turn comes.
package loop

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/berth-scheduler/berth/watcher/internal/driver"
	"github.com/berth-scheduler/berth/watcher/internal/remote"
)

// feedPause is the least time between two feeds without a batch: what people see who
// ask a decider about the cluster is no older.
const feedPause = 100 * time.Millisecond

// Deciders answer batches. Decide is called concurrently, for several batches.
type Deciders interface {
	Decide(ctx context.Context, b *driver.Batch) (driver.Decided, []remote.Attempt)
	// Feed tells the deciders that are fed what has changed. It is called before a batch
	// that depends on it, by the goroutine that owns the driver, and does not block.
	Feed(f *driver.Feed)
}

// Cluster carries work out at the API server. Its methods are called
// concurrently.
type Cluster interface {
	// Bind binds the pod and returns the outcome with the API server's message.
	Bind(ctx context.Context, b driver.Bind) (driver.BindOutcome, string)
	// Nominate writes for which node the pod is nominated.
	Nominate(ctx context.Context, n driver.Nominate) error
	// Evict marks and deletes the victim and returns the outcome with the API server's
	// message.
	Evict(ctx context.Context, e driver.Evict) (driver.EvictOutcome, string)
	// Read reads a pod by quorum; nil if no pod of that UID exists.
	Read(ctx context.Context, r driver.Read) (*corev1.Pod, error)
	// Report tells a pod's owners something. It does not block.
	Report(r driver.Report)
	// MayBind says whether a binding, a nomination or an eviction may still be started.
	MayBind(now time.Time) bool
}

// Config is what a Loop needs. Every field is required.
type Config struct {
	Driver   driver.Config
	Deciders Deciders
	Cluster  Cluster
	Metrics  *Metrics
	// Identity names this process; its epoch is this and when it began to lead.
	Identity string
	// Binders is how many bindings are sent at a time.
	Binders int
	// CallTimeout bounds one call to the API server.
	CallTimeout time.Duration
}

// Loop runs a driver. Use New.
type Loop struct {
	config Config
	driver *driver.Driver
	events chan driver.Event
	states chan chan<- driver.State // asked for by State
	stats  atomic.Pointer[driver.Stats]
	done   chan struct{} // closed when Run has returned
	// room has an element for each nomination and eviction that is under way.
	room chan struct{}
	// askers are the goroutines that ask about batches, and asking how many of these are
	// under way: there are as many goroutines as there ever were batches at a time.
	askers int
	asking atomic.Int64
}

// New returns a loop that has not started.
func New(config Config) *Loop {
	l := &Loop{config: config, driver: driver.New(config.Driver), events: make(chan driver.Event, 4096), states: make(chan chan<- driver.State), done: make(chan struct{}),
		room: make(chan struct{}, config.Binders)}
	l.stats.Store(&driver.Stats{})
	config.Metrics.stats = l.stats.Load
	return l
}

// Deliver hands the loop an event and waits until it has room for it. Events of
// one sender are taken in order. It may be called concurrently, before Run
// too, and returns early if ctx ends.
func (l *Loop) Deliver(ctx context.Context, ev driver.Event) {
	select {
	case l.events <- ev:
	case <-ctx.Done():
	}
}

// State waits until this process leads, and returns the state of the cluster: what Feed
// tells from then on follows on it. It may be called concurrently.
func (l *Loop) State(ctx context.Context) (driver.State, error) {
	answer := make(chan driver.State, 1)
	select {
	case l.states <- answer:
		return <-answer, nil
	case <-l.done:
		return driver.State{}, context.Canceled
	case <-ctx.Done():
		return driver.State{}, ctx.Err()
	}
}

// Stats returns the driver's state as of its last step. It may be called
// concurrently.
func (l *Loop) Stats() driver.Stats { return *l.stats.Load() }

// Run follows the cluster. From the moment lead is closed it schedules, until
// stop ends: then it starts no more bindings, waits until each one under way has
// an outcome, and returns. It returns at once when ctx ends. The caller closes
// lead after everything that this process must know before it leads was
// delivered.
func (l *Loop) Run(ctx, stop context.Context, lead <-chan struct{}) {
	work := make(chan driver.Bind, l.config.Driver.MaxBinding+l.config.Driver.MaxBatch)
	var calls sync.WaitGroup
	for range l.config.Binders {
		calls.Go(func() {
			for b := range work {
				l.send(l.bind(ctx, stop, b))
			}
		})
	}
	batches := make(chan *driver.Batch)
	defer calls.Wait()
	defer close(work)
	defer close(batches)
	defer close(l.done)

	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	leading, stopped := false, stop.Done()
	var states <-chan chan<- driver.State // l.states while leading
	var fed time.Time
	for {
		var ev driver.Event
		select {
		case ev = <-l.events:
		case answer := <-states:
			answer <- l.driver.State()
			continue
		case <-timer.C:
		case <-lead:
			l.drain() // what was delivered before is not told as changes
			ev = driver.Leads{Epoch: time.Now().UTC().Format("20060102T150405.000000000Z") + "-" + l.config.Identity}
			leading, lead, states = true, nil, l.states
		case <-stopped:
			stopped = nil
		case <-ctx.Done():
			return
		}
		l.driver.Step(time.Now(), ev)
		l.drain() // what was delivered before lead was closed, above all
		if leading {
			r := l.driver.Ready()
			if stop.Err() != nil {
				l.withhold(&r)
			}
			if l.driver.Unfed() {
				next := fed.Add(feedPause)
				if now := time.Now(); len(r.Decide) > 0 || !next.After(now) {
					l.config.Deciders.Feed(l.driver.Feed())
					fed = now
				} else if r.Wake.IsZero() || next.Before(r.Wake) {
					r.Wake = next
				}
			}
			l.ask(stop, r.Decide, batches, &calls)
			l.carryOut(ctx, stop, r, work, &calls, timer)
		}
		stats := l.driver.Stats()
		l.stats.Store(&stats)
		if stop.Err() != nil && l.driver.Settled() {
			return
		}
	}
}

// withhold keeps back the work that a process that is stopping must not start, and takes
// what there is to do instead.
func (l *Loop) withhold(r *driver.Ready) {
	if len(r.Bind)+len(r.Nominate)+len(r.Evict) == 0 {
		r.Decide = nil
		return
	}
	for _, b := range r.Bind {
		l.driver.Step(time.Now(), driver.BindDone{UID: b.Pod.UID, Outcome: driver.BindNotSent})
	}
	for _, n := range r.Nominate {
		l.driver.Step(time.Now(), driver.NominateDone{UID: n.Pod.UID, Err: errStopping})
	}
	for _, e := range r.Evict {
		l.driver.Step(time.Now(), driver.EvictDone{UID: e.Victim.UID, Outcome: driver.EvictNotSent})
	}
	next := l.driver.Ready()
	next.Report, next.Read = append(r.Report, next.Report...), append(r.Read, next.Read...)
	*r = next
	l.withhold(r)
}

var (
	errStopping = errors.New("this process is stopping")
	errFenced   = errors.New("the Lease is running out")
)

// ask has the batches asked about, each by a goroutine that has done so before if there is
// one: its stack has grown to what a call takes.
func (l *Loop) ask(stop context.Context, batches []*driver.Batch, work chan *driver.Batch, calls *sync.WaitGroup) {
	for _, b := range batches {
		if int(l.asking.Add(1)) > l.askers {
			l.askers++
			calls.Go(func() {
				for b := range work {
					decided := l.decide(stop, b)
					l.asking.Add(-1) // before anybody hears of it, and hands out the next
					l.send(decided)
				}
			})
		}
		work <- b
	}
}

// drain takes the events that are there, at most as many as the channel holds,
// so that one Ready serves them all.
func (l *Loop) drain() {
	for range cap(l.events) {
		select {
		case ev := <-l.events:
			l.driver.Step(time.Now(), ev)
		default:
			return
		}
	}
}

// send is Deliver for the outcomes of work: nothing but the loop's end excuses
// from it.
func (l *Loop) send(ev driver.Event) {
	select {
	case l.events <- ev:
	case <-l.done:
	}
}

// carryOut starts the work that the driver wants done.
func (l *Loop) carryOut(ctx, stop context.Context, r driver.Ready, work chan<- driver.Bind, calls *sync.WaitGroup, timer *time.Timer) {
	for _, b := range r.Bind {
		work <- b // never blocks: the driver keeps to MaxBinding and MaxBatch
	}
	for _, read := range r.Read {
		calls.Go(func() { l.send(l.read(ctx, read)) })
	}
	for _, report := range r.Report {
		l.config.Cluster.Report(report)
	}
	for _, n := range r.Nominate {
		calls.Go(func() { l.send(l.nominate(ctx, stop, n)) })
	}
	for _, e := range r.Evict {
		calls.Go(func() { l.send(l.evict(ctx, stop, e)) })
	}
	if !r.Wake.IsZero() {
		timer.Reset(time.Until(r.Wake))
	}
}

// bind sends one binding, unless this process may not any more.
func (l *Loop) bind(ctx, stop context.Context, b driver.Bind) driver.BindDone {
	began := time.Now()
	if stop.Err() != nil || !l.config.Cluster.MayBind(began) {
		l.config.Metrics.binds.WithLabelValues(driver.BindNotSent.String()).Inc()
		return driver.BindDone{UID: b.Pod.UID, Outcome: driver.BindNotSent}
	}
	ctx, cancel := context.WithTimeout(ctx, l.config.CallTimeout)
	defer cancel()
	outcome, message := l.config.Cluster.Bind(ctx, b)
	l.config.Metrics.bound(b, outcome, began)
	log := klog.FromContext(ctx)
	if outcome == driver.BindOK {
		log.V(2).Info("Bound", "pod", klog.KObj(b.Pod), "node", b.Node)
	} else {
		log.Info("Binding failed", "pod", klog.KObj(b.Pod), "node", b.Node, "outcome", outcome.String(), "message", message)
	}
	return driver.BindDone{UID: b.Pod.UID, Outcome: outcome, Message: message}
}

// nominate writes one nomination, unless this process may not any more.
func (l *Loop) nominate(ctx, stop context.Context, n driver.Nominate) driver.NominateDone {
	l.room <- struct{}{}
	defer func() { <-l.room }()
	if stop.Err() != nil || !l.config.Cluster.MayBind(time.Now()) {
		return driver.NominateDone{UID: n.Pod.UID, Err: errFenced}
	}
	ctx, cancel := context.WithTimeout(ctx, l.config.CallTimeout)
	defer cancel()
	err := l.config.Cluster.Nominate(ctx, n)
	log := klog.FromContext(ctx)
	if err != nil {
		log.Info("Nominating failed and will be tried again", "pod", klog.KObj(n.Pod), "node", n.Node, "err", err)
	} else {
		log.V(2).Info("Nominated", "pod", klog.KObj(n.Pod), "node", n.Node)
	}
	return driver.NominateDone{UID: n.Pod.UID, Err: err}
}

// evict sends one eviction, unless this process may not any more.
func (l *Loop) evict(ctx, stop context.Context, e driver.Evict) driver.EvictDone {
	l.room <- struct{}{}
	defer func() { <-l.room }()
	outcome, message := driver.EvictNotSent, ""
	if stop.Err() == nil && l.config.Cluster.MayBind(time.Now()) {
		ctx, cancel := context.WithTimeout(ctx, l.config.CallTimeout)
		defer cancel()
		outcome, message = l.config.Cluster.Evict(ctx, e)
	}
	l.config.Metrics.evictions.WithLabelValues(outcome.String()).Inc()
	log := klog.FromContext(ctx).WithValues("pod", klog.KObj(e.Victim), "node", e.Node, "by", klog.KObj(e.By))
	if message == "" {
		log.V(2).Info("Evicted", "outcome", outcome.String())
	} else {
		log.Info("Evicting failed", "outcome", outcome.String(), "message", message)
	}
	return driver.EvictDone{UID: e.Victim.UID, Outcome: outcome, Message: message}
}

// read reads one pod by quorum.
func (l *Loop) read(ctx context.Context, r driver.Read) driver.ReadDone {
	ctx, cancel := context.WithTimeout(ctx, l.config.CallTimeout)
	defer cancel()
	pod, err := l.config.Cluster.Read(ctx, r)
	if err != nil {
		klog.FromContext(ctx).Info("Reading a pod failed and will be tried again", "pod", klog.KRef(r.Namespace, r.Name), "err", err)
	}
	return driver.ReadDone{UID: r.UID, Pod: pod, Err: err}
}

// decide asks the deciders about one batch.
func (l *Loop) decide(ctx context.Context, b *driver.Batch) driver.Decided {
	began := time.Now()
	decided, attempts := l.config.Deciders.Decide(ctx, b)
	l.config.Metrics.decided(b, decided, attempts, time.Since(began))
	log := klog.FromContext(ctx)
	if decided.Err != nil {
		log.Info("No decision", "batch", b.ID, "pods", len(b.Request.GetPods()), "err", decided.Err)
	} else {
		log.V(2).Info("Decided", "batch", b.ID, "pods", len(b.Request.GetPods()), "seed", b.Request.GetSeed(),
			"version", decided.Response.GetVersion(), "decider", decided.Decider, "duration", time.Since(began))
	}
	return decided
}
