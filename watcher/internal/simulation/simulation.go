// Package simulation runs the real driver, queue and ledger against a model of what is
// around them: an API server and its watches, a Lease, and deciders, in virtual time, with
// faults. One seed is one run, to the bit: nothing in here reads a clock, starts a
// goroutine or draws from anything but the seed.
//
// After each step the laws are checked (laws.go); when the faults end, the cluster has to
// come to rest with everything placed that fits. A run that breaks a law is made shorter
// until nothing can be left out, and told line by line.
//
// plan.go says what happens from outside, act.go does it; server.go, watch.go, process.go,
// hands.go and ask.go are the model, rules.go its deciders; tally.go counts.
package simulation

// Outcome is what came of one seed.
type Outcome struct {
	Seed uint64
	// Broken is the law that does not hold; nil if all do.
	Broken *Broken
	// Hash is the same for the same course of events.
	Hash uint64
}

// Run carries out the plan of a seed and adds to the tally.
func Run(seed uint64, tally *Tally) Outcome {
	tally.Runs++
	r := run(NewPlan(seed), tally, false, false)
	return Outcome{seed, r.broken, r.hash}
}

// Tell carries out the plan of a seed and tells what happens, one line each.
func Tell(seed uint64) ([]string, *Broken) {
	r := run(NewPlan(seed), NewTally(), true, false)
	return r.story, r.broken
}
