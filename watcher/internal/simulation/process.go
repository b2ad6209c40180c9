package simulation

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-scheduler/berth/watcher/internal/driver"
	"github.com/berth-scheduler/berth/watcher/internal/fence"
	"github.com/berth-scheduler/berth/watcher/internal/route"
)

// The terms of the Lease. Others wait hardly longer than the holder renews, so that a
// binding that starts too late is one too late.
const (
	leaseDuration = 12 * time.Second
	retryPeriod   = 2 * time.Second
)

var terms = fence.Terms{RenewDeadline: 11 * time.Second, BindTimeout: 4 * time.Second}

// The limits of a driver: small, so that they are reached.
const (
	maxBatch   = 4
	maxBinding = 3
	binders    = 2
)

// processPhase is what a process is doing.
//
//	          has the Lease           has caught up            told to stop
//	following ───────────► catchingUp ───────────► leading ────────► stopping
//
// and from everywhere to dead.
type processPhase int

const (
	following processPhase = iota
	catchingUp
	leading
	stopping
	dead
)

// process is one watcher: the real driver, and models of what is around it.
type process struct {
	w         *world
	number    int
	driver    *driver.Driver
	maxSent   int // bindings that the driver hands out before it hears of one; 0: all
	router    *route.Router
	informers [kinds]*informer
	phase     processPhase

	// The Lease.
	holds              bool
	renewedBy          [2]time.Time // when the last renewal was sent, by both clocks
	seen               uint64       // lease.written as it was last seen
	seenAt             time.Duration
	caught             uint64        // the revision to catch up with
	inherited          []*corev1.Pod // those on nodes by then
	term               int           // which leader it is, counted from 1
	epoch              string
	cut                time.Duration // it does not reach the Lease before
	suspended          time.Duration // it does nothing before
	slept              time.Duration // for how long it was suspended in all
	ahead              time.Duration // how much its clock is ahead
	setBack            bool          // its clock was set back
	latest             time.Time     // its clock, without going back
	timer              time.Duration // when it is woken; 0 if not
	timers             int
	fed                uint64
	questions          map[uint64]*question
	underWay           map[types.UID]int // bindings without a BindDone
	binds              []driver.Bind     // that wait for a binder
	busy               int               // binders
	evictions, nominal int
	evicting           int // evictions without an EvictDone
	reads              int
	// knew are the budgets that were known when room began to be made for a pod.
	knew       map[types.UID][]*policyv1.PodDisruptionBudget
	calledOff  map[types.UID]int // how many evictions there were when the room for a pod was given up
	pods       []*sighting
	byUID      map[types.UID]*sighting
	netted     int
	collecting bool                 // its work is being looked at
	ours       map[types.UID]string // the nodes of our commits
}

func (p *process) String() string { return fmt.Sprintf("watcher-%d", p.number) }

// start starts a process.
func (w *world) start() *process {
	w.started++
	d := w.source.at(keyStart, uint64(w.started), 101)
	maxSent := of(&d, 0, 1, 2)
	p := &process{
		w: w, number: w.started, maxSent: maxSent, questions: map[uint64]*question{}, underWay: map[types.UID]int{}, byUID: map[types.UID]*sighting{}, ours: map[types.UID]string{},
		driver: driver.New(driver.Config{
			Deciders: map[string]int{schedulerName: 2}, Seed: uint64(w.source.at(keyStart, uint64(w.started))),
			MaxBatch: maxBatch, MaxBinding: maxBinding, MaxSent: maxSent,
		}),
		seen: ^uint64(0), router: route.New(route.Config{}), calledOff: map[types.UID]int{}, knew: map[types.UID][]*policyv1.PodDisruptionBudget{},
	}
	var replicas []string
	for _, r := range w.replicas {
		replicas = append(replicas, r.name)
	}
	p.router.Set(replicas)
	w.processes = append(w.processes, p)
	w.say("%s starts", p)
	for k := range kinds {
		p.informers[k] = &informer{p: p, kind: k, known: map[string]metaObject{}, away: true}
		d := w.source.at(keyStart, uint64(p.number), uint64(k))
		w.in(d.between(time.Millisecond, 50*time.Millisecond), p, p.informers[k].list)
	}
	if w.plan.Standby {
		w.agenda.add(&occasion{at: w.now + time.Duration(p.number%2)*time.Millisecond, of: p, idle: true, do: p.tick})
	} else {
		p.catchUp()
	}
	return p
}

// wall is its clock; steady is the one that stands still while it is suspended.
func (p *process) wall() time.Time   { return epoch.Add(p.w.now + p.ahead) }
func (p *process) steady() time.Time { return epoch.Add(p.w.now - p.slept) }

// tick is one round of the elector: it renews the Lease, or looks whether it can be had.
func (p *process) tick() {
	w, l := p.w, &p.w.server.lease
	reachable := w.now >= p.cut
	switch {
	case p.holds:
		if reachable && l.holder == p {
			l.written++
			p.renewedBy = [2]time.Time{p.steady(), p.wall()}
		} else if p.steady().Sub(p.renewedBy[0]) >= terms.RenewDeadline {
			w.say("%s has not renewed the Lease in time and ends", p)
			p.die()
			return
		}
	case reachable:
		if l.written != p.seen {
			p.seen, p.seenAt = l.written, w.now-p.slept
		}
		if l.holder == nil || w.now-p.slept-p.seenAt > leaseDuration {
			l.holder = p
			l.written++
			p.holds = true
			p.renewedBy = [2]time.Time{p.steady(), p.wall()}
			w.say("%s has the Lease", p)
			p.catchUp()
		}
	}
	w.agenda.add(&occasion{at: w.now + retryPeriod, of: p, idle: true, do: p.tick})
}

// catchUp begins to lead when everything was shown that has happened so far.
func (p *process) catchUp() {
	p.phase, p.caught = catchingUp, p.w.server.revision
	p.inherited = p.w.server.pods(func(q *corev1.Pod) bool { return q.Spec.NodeName != "" })
	p.shown()
}

// shown is called when the informers have shown something.
func (p *process) shown() {
	if p.phase == catchingUp && p.hasCaughtUp() {
		p.lead()
	}
	p.collect()
}

func (p *process) hasCaughtUp() bool {
	for _, i := range p.informers {
		if !i.reached(p.caught) {
			return false
		}
	}
	return true
}

func (p *process) lead() {
	w := p.w
	w.terms++
	p.phase, p.term = leading, w.terms
	p.epoch = fmt.Sprintf("epoch-%03d", p.term)
	w.tally.Leaders++
	w.say("%s leads, in %s", p, p.epoch)
	p.step(driver.Leads{Epoch: p.epoch})
	p.fed = p.driver.Version()
	p.step(p.capacity())
	p.checkInherited()
}

// mayStart says whether a binding may start.
func (p *process) mayStart() bool {
	if p.phase != leading {
		return false
	}
	return !p.w.plan.Standby || terms.MayStart(p.renewedBy[0], p.steady()) && terms.MayStart(p.renewedBy[1], p.wall())
}

// die ends the process at once; another one starts in its place. What it has sent is
// under way all the same.
func (p *process) die() {
	w := p.w
	if p.term > 0 {
		w.former = p.driver.State().Snapshot
	}
	p.phase = dead
	w.drop(p)
	d := w.source.at(keyStart, uint64(p.number), 100)
	w.in(d.between(5*time.Millisecond, 3*time.Second), nil, func() { w.start() })
}

// step tells the driver that something happened.
func (p *process) step(ev driver.Event) {
	p.w.tally.Steps++
	if now := p.wall(); now.After(p.latest) {
		p.latest = now
	}
	p.sight(ev)
	p.driver.Step(p.wall(), ev)
	p.look(ev)
}

// collect takes the driver's work and starts it.
func (p *process) collect() {
	if p.phase != leading && p.phase != stopping {
		return
	}
	w := p.w
	r := p.driver.Ready()
	for _, b := range r.Decide {
		p.questions[b.ID] = &question{batch: b}
	}
	for _, b := range r.Bind {
		p.underWay[b.Pod.UID]++
	}
	p.evicting += len(r.Evict)
	p.collecting = true
	p.look(nil)
	p.checkWork(&r)
	p.collecting = false
	if p.phase == stopping {
		for _, b := range r.Bind {
			p.underWay[b.Pod.UID]--
			p.step(driver.BindDone{UID: b.Pod.UID, Outcome: driver.BindNotSent})
		}
		if len(r.Bind) > 0 {
			defer p.collect() // the next ones, where not all are handed out
		}
		r.Bind, r.Decide = nil, nil
	}
	if len(r.Decide) > 0 && p.driver.Unfed() {
		f := p.driver.Feed()
		if f.From != p.fed {
			w.fail(lawFeed, "%s tells deciders that hold version %d what has changed since %d", p, p.fed, f.From)
		}
		p.fed = f.Version
	}
	for _, b := range r.Decide {
		p.ask(b)
	}
	p.binds = append(p.binds, r.Bind...)
	p.startBinds()
	for _, n := range r.Nominate {
		p.nominate(n)
	}
	for _, e := range r.Evict {
		p.evict(e)
	}
	for _, read := range r.Read {
		p.read(read)
	}
	p.setTimer(r.Wake)
	if p.phase == stopping && p.driver.Settled() {
		w.say("%s has stopped", p)
		if l := &w.server.lease; l.holder == p {
			l.holder = nil
			l.written++
		}
		p.die()
	}
}

// setTimer has the driver woken.
func (p *process) setTimer(wake time.Time) {
	if wake.IsZero() {
		return
	}
	if !wake.After(p.latest) {
		p.w.fail(lawTimer, "%s wants to be woken at a time that is over", p)
	}
	at := p.w.now + max(wake.Sub(p.wall()), time.Microsecond)
	if at == p.timer {
		return
	}
	p.timer = at
	p.timers++
	number := p.timers
	p.w.agenda.add(&occasion{at: at, of: p, idle: at > p.w.horizon, do: func() {
		if number != p.timers {
			return
		}
		p.timer = 0
		p.step(nil)
		p.collect()
	}})
}
