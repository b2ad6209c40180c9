package simulation

import (
	"errors"
	"time"

	policyv1 "k8s.io/api/policy/v1"

	"github.com/berth-scheduler/berth/watcher/internal/driver"
)

var errTimeout = errors.New("timeout")

// startBinds gives waiting bindings to the binders.
func (p *process) startBinds() {
	for p.busy < binders && len(p.binds) > 0 {
		b := p.binds[0]
		p.binds = p.binds[1:]
		p.busy++
		p.bind(b)
	}
}

// bind carries out one binding. It is over within the timeout, whatever it does.
func (p *process) bind(b driver.Bind) {
	w := p.w
	w.tally.Binds++
	uid := serial(b.Pod.UID)
	d := w.source.at(keyBind, uid, uint64(p.number), uint64(b.Attempt))
	if !p.mayStart() {
		w.say("%s does not send the binding of %s to %s", p, b.Pod.UID, b.Node)
		p.bound(b, driver.BindNotSent, time.Microsecond)
		return
	}
	keys := []uint64{uid, uint64(p.number), uint64(b.Attempt)}
	arrives := d.between(500*time.Microsecond, 30*time.Millisecond)
	if w.inject(BindSlow, 250, keys...) {
		arrives = terms.BindTimeout - d.between(time.Millisecond, 3*time.Second)
	}
	replies := min(d.between(500*time.Microsecond, 20*time.Millisecond), terms.BindTimeout-arrives)
	switch {
	case w.inject(BindRefusal, 120, keys...):
		w.say("%s sends the binding of %s to %s, which is refused", p, b.Pod.UID, b.Node)
		p.bound(b, driver.BindRefused, arrives+replies)
	case w.inject(BindUnknownNotDone, 120, keys...):
		w.say("%s sends the binding of %s to %s, which is lost", p, b.Pod.UID, b.Node)
		p.bound(b, driver.BindUnknown, arrives+replies)
	case w.inject(BindUnknownDone, 120, keys...):
		w.say("%s sends the binding of %s to %s, whose outcome is lost", p, b.Pod.UID, b.Node)
		w.in(arrives, nil, func() { p.land(b) })
		p.bound(b, driver.BindUnknown, arrives+replies)
	default:
		w.say("%s sends the binding of %s to %s", p, b.Pod.UID, b.Node)
		w.in(arrives, nil, func() {
			o := p.land(b)
			p.bound(b, o, replies)
		})
	}
}

// land is the moment at which a binding is carried out.
func (p *process) land(b driver.Bind) driver.BindOutcome {
	w := p.w
	w.checkFence(p, b)
	o := w.server.bind(b.Pod.UID, b.Pod.Name, b.Node)
	w.say("the API server answers the binding of %s to %s by %s: %v", b.Pod.UID, b.Node, p, o)
	w.trace(b.Node, serial(b.Pod.UID)<<8|uint64(o))
	if o == driver.BindOK {
		w.tally.Bound++
		w.checkBound(p, b)
	}
	return o
}

// bound reports the outcome of a binding to the driver.
func (p *process) bound(b driver.Bind, o driver.BindOutcome, delay time.Duration) {
	p.w.in(delay, p, func() {
		p.busy--
		p.underWay[b.Pod.UID]--
		p.w.say("%s hears that the binding of %s is %v", p, b.Pod.UID, o)
		p.step(driver.BindDone{UID: b.Pod.UID, Outcome: o, Message: o.String()})
		p.collect()
		p.startBinds()
	})
}

// read carries out one quorum read.
func (p *process) read(r driver.Read) {
	w := p.w
	p.reads++
	keys := []uint64{serial(r.UID), uint64(p.number), uint64(p.reads)}
	d := w.source.at(append(keys, keyRead)...)
	served, replies := d.between(time.Millisecond, 20*time.Millisecond), d.between(time.Millisecond, 20*time.Millisecond)
	if w.inject(ReadFailure, 300, keys...) {
		w.in(served+replies, p, func() {
			w.say("%s cannot read %s", p, r.UID)
			p.step(driver.ReadDone{UID: r.UID, Err: errTimeout})
			p.collect()
		})
		return
	}
	if w.inject(ReadLate, 300, keys...) {
		replies = d.between(100*time.Millisecond, 2*time.Second)
	}
	w.in(served, nil, func() {
		done := driver.ReadDone{UID: r.UID}
		if q := w.server.pod(r.Name); q != nil && q.UID == r.UID {
			done.Pod = q
		}
		w.in(replies, p, func() {
			w.say("%s reads %s: found %v", p, r.UID, done.Pod != nil)
			p.step(done)
			p.collect()
		})
	})
}

// nominate writes the nomination of a pod.
func (p *process) nominate(n driver.Nominate) {
	w := p.w
	p.nominal++
	p.knew[n.Pod.UID] = nil
	for _, o := range p.informers[budgetKind].known {
		p.knew[n.Pod.UID] = append(p.knew[n.Pod.UID], o.(*policyv1.PodDisruptionBudget))
	}
	if n.Node == "" { // who was asked to leave by then does so
		p.calledOff[n.Pod.UID] = p.evictions
	}
	d := w.source.at(keyNominate, serial(n.Pod.UID), uint64(p.number), uint64(p.nominal))
	err := error(nil)
	if !p.mayStart() || w.inject(NominateFailure, 200, serial(n.Pod.UID), uint64(p.nominal)) {
		err = errTimeout
	}
	done := err == nil || p.mayStart() && d.in(300)
	w.say("%s nominates %s for %q: %v", p, n.Pod.UID, n.Node, err)
	w.in(d.between(time.Millisecond, 40*time.Millisecond), nil, func() {
		if done && !w.server.nominate(n.Pod.UID, n.Pod.Name, n.Node) && err == nil {
			err = errors.New("not found")
		}
		w.in(d.between(time.Millisecond, 20*time.Millisecond), p, func() {
			p.step(driver.NominateDone{UID: n.Pod.UID, Err: err})
			p.collect()
		})
	})
}

// evict carries out one eviction.
func (p *process) evict(e driver.Evict) {
	w := p.w
	p.evictions++
	number := p.evictions
	w.tally.Evictions++
	uid := serial(e.Victim.UID)
	d := w.source.at(keyEvict, uid, uint64(p.number), uint64(p.evictions))
	keys := []uint64{uid, uint64(p.number), uint64(p.evictions)}
	done := func(o driver.EvictOutcome, delay time.Duration) {
		w.in(delay, p, func() {
			w.say("%s hears that evicting %s is %v", p, e.Victim.UID, o)
			p.evicting--
			p.step(driver.EvictDone{UID: e.Victim.UID, Outcome: o, Message: o.String()})
			p.collect()
		})
	}
	arrives, replies := d.between(time.Millisecond, 30*time.Millisecond), d.between(time.Millisecond, 20*time.Millisecond)
	switch {
	case !p.mayStart():
		done(driver.EvictNotSent, time.Microsecond)
	case w.inject(EvictRefusal, 100, keys...):
		done(driver.EvictRefused, arrives+replies)
	case w.inject(EvictUnknownNotDone, 100, keys...):
		done(driver.EvictUnknown, arrives+replies)
	case w.inject(EvictUnknownDone, 100, keys...):
		w.in(arrives, nil, func() { p.evicts(e, number) })
		done(driver.EvictUnknown, arrives+replies)
	default:
		w.in(arrives, nil, func() { done(p.evicts(e, number), replies) })
	}
}

// evicts is the moment at which an eviction is carried out.
func (p *process) evicts(e driver.Evict, number int) driver.EvictOutcome {
	w := p.w
	w.checkEvicted(p, e, number)
	o := w.server.evict(e.Victim.UID, e.Victim.Name, epoch.Add(w.now))
	w.say("the API server answers the eviction of %s from %s for %s: %v", e.Victim.UID, e.Node, e.By.UID, o)
	if o == driver.EvictOK {
		w.leave(e.Victim.Name, e.Victim.UID)
	}
	return o
}
