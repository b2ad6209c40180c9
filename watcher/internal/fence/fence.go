// Package fence is the rule that keeps two leaders from binding at the same time: a
// binding starts only if it must end before another process can take the Lease over.
package fence

import "time"

// Terms are what a holder of the Lease keeps to.
type Terms struct {
	// RenewDeadline is how long after its last renewal it holds the Lease at most. Nobody
	// else takes the Lease earlier than that.
	RenewDeadline time.Duration
	// BindTimeout is the longest that one binding may take.
	BindTimeout time.Duration
}

// MayStart says whether a binding may start now if the last renewal that succeeded was
// sent at renewed. Both clocks of a time must allow it: the monotonic one stands still
// while the machine sleeps, the other one can be set back.
func (t Terms) MayStart(renewed, now time.Time) bool {
	deadline := renewed.Add(t.RenewDeadline - t.BindTimeout)
	return now.Before(deadline) && now.Round(0).Before(deadline.Round(0))
}
