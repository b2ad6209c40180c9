package simulation

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/watcher/internal/driver"
	"github.com/berth-scheduler/berth/watcher/internal/route"
)

// deadline is how long a decider may take.
const deadline = 5 * time.Second

// replica is one process of a decider.
type replica struct {
	name    string
	down    bool
	crashes int
}

// question is a batch that was asked about.
type question struct {
	batch *driver.Batch
	heard bool // the driver has an outcome
	// honest says that the answer is what the state calls for. state is that.
	honest   bool
	state    *berthv1.Snapshot
	response *berthv1.DecideResponse
}

// capacity says how many replicas can decide side by side.
func (p *process) capacity() driver.Event {
	up := 0
	for _, r := range p.w.replicas {
		if !r.down {
			up++
		}
	}
	return driver.CapacityChanged{Batches: map[string]int{schedulerName: max(up, 1)}}
}

// decidersChanged tells those that lead that a replica came or went.
func (w *world) decidersChanged(reached bool) {
	for _, p := range w.processes {
		if p.phase == leading || p.phase == stopping {
			p.step(p.capacity())
			if reached {
				p.step(driver.DecidersChanged{})
			}
			p.collect()
		}
	}
}

// ask asks the deciders about a batch.
func (p *process) ask(b *driver.Batch) {
	p.w.tally.Batches++
	if p.w.telling {
		p.w.say("%s asks about batch %d at version %d: %s", p, b.ID, b.Version, names(b.Request.GetPods()))
	}
	p.askNext(p.questions[b.ID], p.w.source.at(keyAsk, uint64(p.number), b.ID), map[string]bool{})
}

// askNext asks a replica that was not asked before.
func (p *process) askNext(q *question, d draw, tried map[string]bool) {
	w, b := p.w, q.batch
	keys := []uint64{uint64(p.number), b.ID}
	name, ok := p.router.Pick(p.steady(), b.Key, func(replica string) bool { return tried[replica] })
	if !ok {
		p.hear(q, d.between(time.Millisecond, 5*time.Millisecond), "nobody", nil, driver.ErrNoDecider)
		return
	}
	tried[name] = true
	pods, began := len(b.Request.GetPods()), p.steady()
	p.router.Began(name, pods)
	done := func(result route.Result) { p.router.Done(p.steady(), name, pods, p.steady().Sub(began), result) }
	r := w.replicas[slices.IndexFunc(w.replicas, func(r *replica) bool { return r.name == name })]
	crashes := r.crashes
	there, back := d.between(time.Millisecond, 15*time.Millisecond), d.between(time.Millisecond, 15*time.Millisecond)
	if w.inject(SlowDecider, 150, keys...) {
		there = d.between(200*time.Millisecond, 4*time.Second)
	}
	var state *berthv1.Snapshot
	if d.in(500) { // otherwise as it is when the question arrives
		state = p.driver.State().Snapshot
	}
	w.in(there, p, func() {
		if r.down || r.crashes != crashes {
			done(route.Failed)
			p.askNext(q, d, tried)
			return
		}
		if state == nil {
			state = p.driver.State().Snapshot
		}
		decider := fmt.Sprintf("decider-%d", b.Fallback)
		answer, err := p.answer(q, state, &decider, d)
		p.reply(q, d, back, decider, answer, err, done)
	})
}

// answer is what a replica has to say to a question.
func (p *process) answer(q *question, state *berthv1.Snapshot, decider *string, d draw) (*berthv1.DecideResponse, error) {
	w, b := p.w, q.batch
	keys := []uint64{uint64(p.number), b.ID}
	for _, pod := range b.Request.GetPods() {
		if pod.GetLabels()[poisonLabel] != "" {
			return nil, errors.New("the decider fails")
		}
	}
	if w.inject(DeciderError, 120, keys...) {
		return nil, errors.New("the decider fails")
	}
	if w.former != nil && w.former.GetEpoch() < b.Epoch && w.inject(FormerEpoch, 300, keys...) {
		*decider = "former"
		return decide(w.former, b.Request), nil
	}
	answer := decide(state, b.Request)
	q.state, q.response, q.honest = state, answer, true
	if w.inject(NotDecidedTail, 150, keys...) {
		for i := d.below(len(answer.Decisions)); i < len(answer.Decisions); i++ {
			answer.Decisions[i] = &berthv1.Decision{PodUid: answer.Decisions[i].GetPodUid(), Outcome: berthv1.Outcome_OUTCOME_NOT_DECIDED}
		}
	}
	if b.Fallback == 0 { // the other decider does not lie
		if p.lie(q, answer, state, d) {
			q.honest = false
			*decider = "liar"
		}
	}
	return answer, nil
}

// lie makes an answer wrong, and reports whether it did.
func (p *process) lie(q *question, answer *berthv1.DecideResponse, state *berthv1.Snapshot, d draw) (lied bool) {
	w, b := p.w, q.batch
	for i, pod := range b.Request.GetPods() {
		keys := []uint64{uint64(p.number), b.ID, uint64(i)}
		nodes := state.GetNodes()
		switch {
		case len(nodes) > 0 && w.inject(LieAnyNode, 150, keys...):
			n := nodes[d.below(len(nodes))]
			answer.Decisions[i] = placed(pod, n.GetName(), n.GetUid())
		case w.inject(LieUnknownNode, 80, keys...):
			answer.Decisions[i] = placed(pod, "nowhere", "nowhere")
		case len(nodes) > 0 && w.inject(LieUID, 80, keys...):
			answer.Decisions[i] = placed(pod, nodes[d.below(len(nodes))].GetName(), "another")
		case b.Request.GetPreempt() && len(nodes) > 0 && w.inject(LieVictims, 150, keys...):
			n := nodes[d.below(len(nodes))]
			r := &berthv1.Decision{PodUid: pod.GetUid(), Outcome: berthv1.Outcome_OUTCOME_REJECTED,
				Rejection:  &berthv1.Rejection{Message: "full"},
				Preemption: &berthv1.Preemption{NodeName: n.GetName(), NodeUid: n.GetUid()}}
			for _, v := range state.GetPlacedPods() {
				if d.in(400) {
					r.Preemption.Victims = append(r.Preemption.Victims, &berthv1.Victim{Uid: v.GetUid(), Namespace: v.GetNamespace(), Name: v.GetName()})
				}
			}
			answer.Decisions[i] = r
		default:
			continue
		}
		lied = true
	}
	keys := []uint64{uint64(p.number), b.ID}
	if w.inject(LieTooMany, 60, keys...) {
		answer.Decisions = append(answer.Decisions, proto.CloneOf(answer.Decisions[0]))
		lied = true
	}
	if w.inject(LieEpoch, 60, keys...) {
		answer.Epoch = of(&d, "", "epoch-999", "another")
		lied = true
	}
	if w.inject(LieVersion, 60, keys...) {
		answer.Version = of(&d, b.Version-1, p.driver.Version()+1+uint64(d.below(3)), 0)
		lied = true
	}
	return lied
}

// reply takes an answer back, in one of many ways.
func (p *process) reply(q *question, d draw, back time.Duration, decider string, answer *berthv1.DecideResponse, err error, done func(route.Result)) {
	w := p.w
	keys := []uint64{uint64(p.number), q.batch.ID}
	late := errors.New("no answer in time")
	switch {
	case w.inject(LostReply, 100, keys...):
		w.in(deadline, p, func() { done(route.Late) })
		p.hear(q, deadline, decider, nil, late)
		return
	case w.inject(LateReply, 100, keys...):
		w.in(deadline, p, func() { done(route.Late) })
		p.hear(q, deadline, decider, nil, late)
		p.hear(q, deadline+d.between(time.Millisecond, 2*time.Second), decider, answer, err)
		return
	case w.inject(ReorderedReply, 100, keys...):
		back += d.between(50*time.Millisecond, time.Second)
	}
	w.in(back, p, func() { done(route.OK) })
	p.hear(q, back, decider, answer, err)
	if w.inject(DuplicateReply, 150, keys...) {
		p.hear(q, back+d.between(time.Microsecond, time.Second), decider, answer, err)
	}
}

// hear tells the driver of an answer.
func (p *process) hear(q *question, delay time.Duration, decider string, answer *berthv1.DecideResponse, err error) {
	p.w.in(delay, p, func() {
		if p.w.telling {
			p.w.say("%s hears of batch %d from %s: %s", p, q.batch.ID, decider, told(answer, err))
		}
		again := q.heard
		q.heard = true
		ev := driver.Decided{Batch: q.batch.ID, Decider: decider, Response: answer, Err: err}
		if answer != nil {
			ev.Err = nil
		}
		p.checkHeard(q, again, ev)
		p.collect()
	})
}
