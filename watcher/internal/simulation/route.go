package simulation

import "time"

// Router says which replica of a decider gets a batch, and learns what came of it.
type Router interface {
	// Pick is the replica to ask about a batch, among n of which up says whether each is
	// there; -1 if none is.
	Pick(now time.Time, n int, up func(int) bool) int
	// Began says that a batch was sent to the replica.
	Began(now time.Time, replica int)
	// Done says that the replica has answered it, or that it has failed.
	Done(now time.Time, replica int, failed bool)
}

// turns is a Router that lets all have their turn.
type turns struct{ last int }

func (t *turns) Pick(_ time.Time, n int, up func(int) bool) int {
	for range n {
		if t.last = (t.last + 1) % n; up(t.last) {
			return t.last
		}
	}
	return -1
}

func (t *turns) Began(time.Time, int) {}

func (t *turns) Done(time.Time, int, bool) {}
