package simulation

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

const (
	// settling is how long a cluster without faults may take to come to rest: the net
	// under missed wake-ups has no part in it.
	settling = 150 * time.Second
	// schedulerName is ours.
	schedulerName = "berth"
)

// epoch is when virtual time begins.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// world is one run: an API server, watchers, deciders, and time.
type world struct {
	plan    *Plan
	source  source
	now     time.Duration
	horizon time.Duration // when everything must be at rest
	agenda  agenda
	server  server

	processes []*process    // alive
	started   int           // processes, the dead ones too
	terms     int           // how often one began to lead
	placedAt  time.Duration // the last binding
	former    *berthv1.Snapshot
	replicas  []*replica
	uids      int
	// touched are nodes whose room others took or shrank: there, and there alone, our
	// bindings may come to more than fits.
	touched map[string]bool
	lied    bool // a pod was rejected that may fit
	// evicted are the victims that are under way out, and for whom.
	evicted map[types.UID]eviction

	tally    *Tally
	hash     uint64 // of everything that has happened
	telling  bool
	story    []string
	note     bool // whether to fill injected
	injected []uint64
}

// Broken says that a law does not hold.
type Broken struct {
	// Law is one of the laws' names.
	Law string
	// What happened, in one sentence.
	What string
	// At is when.
	At time.Duration
}

func (b *Broken) String() string { return b.Law + ": " + b.What }

// result is what came of a run.
type result struct {
	broken   *Broken
	hash     uint64
	story    []string
	injected []uint64
}

// run carries the plan out.
func run(plan *Plan, tally *Tally, telling, note bool) (r result) {
	w := &world{
		plan: plan, source: source(mix(plan.Seed + 1)), horizon: plan.End + settling, tally: tally, telling: telling, note: note,
		touched: map[string]bool{}, evicted: map[types.UID]eviction{}, hash: 14695981039346656037,
	}
	defer func() {
		if p := recover(); p != nil {
			b, ok := p.(*Broken)
			if !ok {
				b = &Broken{Law: lawNoPanic, What: fmt.Sprint(p), At: w.now}
			}
			w.say("%s", b)
			r.broken = b
		}
		r.hash, r.story, r.injected = w.hash, w.story, w.injected
	}()
	w.server.changed = w.announce
	w.setUp()
	w.live()
	w.checkRest()
	return r
}

func (w *world) setUp() {
	d := w.source.at(keySetUp)
	for i := range 1 + d.below(3) {
		w.replicas = append(w.replicas, &replica{name: fmt.Sprintf("replica-%d", i)})
	}
	w.start()
	if w.plan.Standby {
		w.start()
	}
	for _, a := range w.plan.Acts {
		w.agenda.add(&occasion{at: a.At, do: func() { w.act(a) }})
	}
	w.agenda.add(&occasion{at: w.plan.End, do: w.calm})
}

// live lets time pass until nothing is left to happen.
func (w *world) live() {
	for !w.atRest() {
		o := w.agenda.take()
		if o == nil || o.at > w.horizon {
			return // the laws of rest say what is wrong, if anything
		}
		if o.of != nil && o.of.phase == dead {
			continue
		}
		if o.of != nil && o.of.suspended > o.at {
			o.at = o.of.suspended
			w.agenda.put(o)
			continue
		}
		w.now = o.at
		w.tally.Occasions++
		o.do()
	}
}

// atRest says whether nothing is left to happen: one process leads, the others know it,
// and nobody waits for anything.
func (w *world) atRest() bool {
	if w.agenda.busy > 0 {
		return false
	}
	leaders := 0
	for _, p := range w.processes {
		if p.phase == leading {
			leaders++
		}
		if p.suspended > w.now || p.phase == stopping || p.phase == catchingUp {
			return false
		}
	}
	return leaders == 1
}

// in lets something happen in a process, or, if that is nil, anywhere.
func (w *world) in(delay time.Duration, of *process, do func()) {
	w.agenda.add(&occasion{at: w.now + delay, of: of, do: do})
}

// calm ends the faults.
func (w *world) calm() {
	w.say("the faults end")
	for _, p := range w.processes {
		p.cut = 0
		for _, i := range p.informers {
			i.stalled = 0
		}
	}
	back := w.lied // what was turned down for a lie waits for another decider
	for _, r := range w.replicas {
		back = back || r.down
		r.down = false
	}
	if back {
		w.decidersChanged(true)
	}
}

// calmed says whether faults are over.
func (w *world) calmed() bool { return w.now >= w.plan.End }

// inject says whether a fault happens to what the keys name, permille times in a
// thousand in runs that have it.
func (w *world) inject(f Fault, permille uint64, keys ...uint64) bool {
	if w.calmed() || !w.plan.Faults.Has(f) {
		return false
	}
	id := uint64(w.source.at(append(keys, keyFault, uint64(f))...))
	if id%1000 >= permille || w.plan.Spared[id] {
		return false
	}
	w.tally.Faults[f]++
	if w.note {
		w.injected = append(w.injected, id)
	}
	return true
}

// What numbers are drawn for.
const (
	keySetUp uint64 = iota + 1
	keyFault
	keyStart
	keyWatch
	keyAsk
	keyBind
	keyRead
	keyNominate
	keyEvict
	keyLeave
	keyList
)

// announce tells every watch of that kind that there is something new.
func (w *world) announce(k kind) {
	for _, p := range w.processes {
		p.informers[k].wake()
	}
}

// leader is the process that holds the Lease, nil if none does.
func (w *world) leader() *process {
	for _, p := range w.processes {
		if p.phase == leading {
			return p
		}
	}
	return nil
}

// fail ends the run.
func (w *world) fail(law, format string, args ...any) {
	panic(&Broken{Law: law, What: fmt.Sprintf(format, args...), At: w.now})
}

// say adds a line to the story.
func (w *world) say(format string, args ...any) {
	if w.telling {
		w.story = append(w.story, fmt.Sprintf("%11.6fs  %s", w.now.Seconds(), fmt.Sprintf(format, args...)))
	}
}

// trace makes something part of the run's hash.
func (w *world) trace(what string, n uint64) {
	h := w.hash ^ mix(uint64(w.now)^n<<32)
	for i := range len(what) {
		h = (h ^ uint64(what[i])) * 1099511628211
	}
	w.hash = h
}

// used is the cpu of the pods on a node.
func (w *world) used(node string) (sum int64) {
	for _, p := range w.server.pods(func(p *corev1.Pod) bool { return p.Spec.NodeName == node }) {
		sum += cpu(p)
	}
	return sum
}

// drop forgets a process that is dead.
func (w *world) drop(p *process) {
	w.processes = slices.DeleteFunc(w.processes, func(q *process) bool { return q == p })
}
