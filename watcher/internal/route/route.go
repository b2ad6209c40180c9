// Package route decides which replica of a decider gets a batch. It does no IO, reads no
// clock and starts nothing: what it is told, in which order, is all that counts.
package route

import (
	"cmp"
	"math/bits"
	"slices"
	"time"
)

// Config says when a replica is avoided and when a batch is hedged. The zero value of each
// field means its default.
type Config struct {
	// Failures in a row open a replica's breaker. Default 3.
	Failures int
	// MinPause is how long a breaker stays open the first time; after every probe that
	// fails twice as long as before, up to MaxPause. Defaults 1 s and 30 s.
	MinPause, MaxPause time.Duration
	// MinHedge is the least that HedgeAfter returns. Default 50 ms.
	MinHedge time.Duration
}

// Router knows how the replicas of one decider are. Use New. Of its methods those that
// return something change nothing; none may be called concurrently with one that does.
//
// Each replica has a breaker:
//
//	          Failures in a row              the pause is over
//	closed ─────────────────────► open ─────────────────────────► half-open
//	 ▲ ▲                           │ ▲                              │  │
//	 │ └───────────an answer───────┘ └─a failure, the pause doubles─┘  │
//	 └──────────────────────────an answer──────────────────────────────┘
//
// A half-open one lets one batch through at a time, the probe. A breaker says whom to
// prefer and never that a batch must wait: where all are open, one of them is picked.
type Router struct {
	config   Config
	replicas map[string]*replica
	times    times
}

// replica is one that is known, or was and has batches outstanding.
type replica struct {
	known         bool
	batches, pods int           // outstanding
	failures      int           // in a row
	pause         time.Duration // the last one of the breaker; 0 while it is closed
	until         time.Time     // when it is over
}

// Result is what became of a batch at one replica.
type Result int

const (
	// OK: the replica answered, if only that it cannot decide this batch.
	OK Result = iota
	// Failed: it could not be reached, or failed.
	Failed
	// Late: it had not answered by the deadline, or not by the time that another one had
	// that was asked after it.
	Late
	// Void: the outcome says nothing about the replica, as where nobody waits for its
	// answer any more.
	Void
)

// State is a breaker's.
type State int

// The states are drawn above Router.
const (
	Closed State = iota
	HalfOpen
	Open
)

// String is the state as people read it.
func (s State) String() string { return [...]string{"closed", "half-open", "open"}[s] }

// New returns a router that knows of no replica.
func New(config Config) *Router {
	config.Failures = cmp.Or(config.Failures, 3)
	config.MinPause = cmp.Or(config.MinPause, time.Second)
	config.MaxPause = cmp.Or(config.MaxPause, 30*time.Second)
	config.MinHedge = cmp.Or(config.MinHedge, 50*time.Millisecond)
	return &Router{config: config, replicas: map[string]*replica{}}
}

// Set says which replicas there are, by address. What is known of those that stay is kept.
func (r *Router) Set(replicas []string) {
	for _, known := range r.replicas {
		known.known = false
	}
	for _, address := range replicas {
		if r.replicas[address] == nil {
			r.replicas[address] = &replica{}
		}
		r.replicas[address].known = true
	}
	for address := range r.replicas {
		r.forget(address)
	}
}

// forget drops a replica that is not known any more, unless a Done is still to come: of
// what was outstanding when it comes back, it knows then.
func (r *Router) forget(address string) {
	if one := r.replicas[address]; !one.known && one.batches == 0 {
		delete(r.replicas, address)
	}
}

// Pick returns the replica that is to get a batch, of those that are known and that not,
// which may be nil, does not exclude. It is false if there is none.
//
// Equal keys get the same replica, whichever others come and go (rendezvous hashing). It
// is passed over while its breaker is open, while the probe of a half-open one is
// outstanding, and while it has a batch and another one has none, for the key's next.
func (r *Router) Pick(now time.Time, key string, not func(replica string) bool) (string, bool) {
	best, found := choice{}, false
	for address, one := range r.replicas {
		if !one.known || not != nil && not(address) {
			continue
		}
		c := choice{address: address, weight: weigh(key, address), pods: one.pods, batches: one.batches}
		if one.avoided(now) {
			c.avoided, c.until = true, one.until
		}
		if !found || compare(c, best) < 0 {
			best, found = c, true
		}
	}
	return best.address, found
}

// choice is a replica that may get the batch.
type choice struct {
	avoided       bool
	until         time.Time // zero unless it is avoided
	batches, pods int
	weight        uint64
	address       string
}

// compare orders choices, the better first. It is a total order, so that the map's order
// does not show.
func compare(a, b choice) int {
	return cmp.Or(
		compareBool(a.avoided, b.avoided),
		compareBool(a.batches > 0, b.batches > 0),
		a.until.Compare(b.until),
		cmp.Compare(a.pods, b.pods),
		cmp.Compare(b.weight, a.weight),
		cmp.Compare(a.address, b.address),
	)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// avoided says whether any other is better.
func (one *replica) avoided(now time.Time) bool {
	switch one.state(now) {
	case Open:
		return true
	case HalfOpen:
		return one.batches > 0
	}
	return false
}

func (one *replica) state(now time.Time) State {
	switch {
	case one.pause == 0:
		return Closed
	case now.Before(one.until):
		return Open
	}
	return HalfOpen
}

// Free says whether the replica has nothing to do and its breaker is closed: whether it
// may be given more than it must.
func (r *Router) Free(now time.Time, replica string) bool {
	one := r.replicas[replica]
	return one != nil && one.known && one.batches == 0 && one.state(now) == Closed
}

// Breaker returns the state of the replica's; Closed if it is not known.
func (r *Router) Breaker(now time.Time, replica string) State {
	if one := r.replicas[replica]; one != nil {
		return one.state(now)
	}
	return Closed
}

// Began says that the replica was sent a batch. There must be one Done for each. Of a
// replica that is not known it says nothing, and neither does its Done.
func (r *Router) Began(replica string, pods int) {
	if one := r.replicas[replica]; one != nil {
		one.batches++
		one.pods += pods
	}
}

// Done says what became of a batch. took is how long it took to answer; 0 means that this
// says nothing about other batches, and is no measure for HedgeAfter.
func (r *Router) Done(now time.Time, replica string, pods int, took time.Duration, result Result) {
	if result == OK && took > 0 {
		r.times.add(pods, took)
	}
	one := r.replicas[replica]
	if one == nil || one.batches == 0 {
		return
	}
	one.batches--
	one.pods -= pods
	switch result {
	case OK:
		one.failures, one.pause, one.until = 0, 0, time.Time{}
	case Failed, Late:
		one.failures++
		r.failed(one, now)
	}
	r.forget(replica)
}

// failed opens the breaker, if it was one failure too many. One that is open stays as it
// is: of several batches that were lost at once the first ones have opened it.
func (r *Router) failed(one *replica, now time.Time) {
	switch one.state(now) {
	case Closed:
		if one.failures < r.config.Failures {
			return
		}
		one.pause = r.config.MinPause
	case HalfOpen:
		one.pause = min(2*one.pause, r.config.MaxPause)
	case Open:
		return
	}
	one.until = now.Add(one.pause)
}

// HedgeAfter returns how long a batch of so many pods may take before it is sent to
// another replica as well: what 99 of 100 took of late, at whichever replica. It is false
// if too few were measured.
func (r *Router) HedgeAfter(pods int) (time.Duration, bool) {
	after, ok := r.times.most(pods)
	return max(after, r.config.MinHedge), ok
}

// weigh is how much a key is for a replica: 64 bits that look random.
func weigh(key, address string) uint64 {
	return mix(hash(key) ^ bits.RotateLeft64(mix(hash(address)), 32))
}

// hash is FNV-1a.
func hash(s string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return h
}

// mix is the end of splitmix64: FNV's high bits depend little on a string's last bytes.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

const (
	// keptTimes is how many batches are remembered, and minTimes how many it takes to say
	// anything.
	keptTimes, minTimes = 100, 20
)

// times are how long the last batches took. The zero value has none.
type times struct {
	ring [keptTimes]timed
	n    int // were added
}

type timed struct{ pods, took float64 }

func (t *times) add(pods int, took time.Duration) {
	t.ring[t.n%keptTimes] = timed{float64(pods), float64(took)}
	t.n++
}

// most is what 99 of 100 batches of so many pods take at most. A batch is taken to have a
// part of its own and one for each pod, which are fitted to those that were measured; by
// how many times most exceed that is what most can take. Of more pods than were ever
// measured nothing is known but that each takes no longer than those before it.
func (t *times) most(pods int) (time.Duration, bool) {
	all := t.ring[:min(t.n, keptTimes)]
	if len(all) < minTimes {
		return 0, false
	}
	usual, largest := fit(all)
	excess := make([]float64, len(all))
	for i, one := range all {
		excess[i] = one.took / usual(one.pods)
	}
	slices.Sort(excess)
	times := excess[(99*len(excess)+99)/100-1]
	expected := usual(min(float64(pods), largest))
	if n := float64(pods); n > largest {
		expected *= n / largest
	}
	return time.Duration(times * expected), true
}

// fit returns how long a batch takes by the number of its pods, a line by least squares
// that rises or is level, and the largest number that was measured. It is never 0.
func fit(all []timed) (usual func(pods float64) float64, largest float64) {
	var sumPods, sumTook, squares, products float64
	largest = 1
	for _, one := range all {
		sumPods += one.pods
		sumTook += one.took
		largest = max(largest, one.pods)
	}
	n := float64(len(all))
	meanPods, meanTook := sumPods/n, sumTook/n
	for _, one := range all {
		squares += (one.pods - meanPods) * (one.pods - meanPods)
		products += (one.pods - meanPods) * (one.took - meanTook)
	}
	perPod := 0.0
	if squares > 0 {
		perPod = max(products/squares, 0)
	}
	if perPod*meanPods > meanTook { // nothing left for the batch itself
		perPod = meanTook / meanPods
	}
	base := meanTook - perPod*meanPods
	return func(pods float64) float64 { return max(base+perPod*pods, 1) }, largest
}
