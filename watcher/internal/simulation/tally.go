package simulation

// Tally counts what runs have done. Adding up in any order gives the same.
type Tally struct {
	Runs, Steps, Batches, Binds, Bound, Evictions, Leaders int
	// Occasions are what has happened, of any kind.
	Occasions int
	Faults    [faults]int
	// Moves are by where a driver had a pod before and after.
	Moves map[Move]int
	// Deleted and Updated are pods, by where the leader had them.
	Deleted, Updated map[Place]int
	Wakes            map[Cause]Wakes
	// Netted are pods that were woken by the net, Missed those that fitted then.
	Netted, Missed int
	// Passed is the most batches in a row that left out a pod that could have been in them,
	// without faults.
	Passed int
	// Rest is how long after the faults the last pod was bound, in milliseconds.
	Rest int64
}

// Move is a pod's way from one place to another.
type Move struct{ From, To Place }

// Wakes are those of one cause.
type Wakes struct {
	// All are pods woken, True those that were placed by their next decision, False those
	// that were rejected by it. The rest were not decided again, or not in vain.
	All, True, False int
}

// NewTally returns one that has counted nothing.
func NewTally() *Tally {
	return &Tally{Moves: map[Move]int{}, Deleted: map[Place]int{}, Updated: map[Place]int{}, Wakes: map[Cause]Wakes{}}
}

// Add adds another one.
func (t *Tally) Add(o *Tally) {
	t.Runs += o.Runs
	t.Steps += o.Steps
	t.Batches += o.Batches
	t.Binds += o.Binds
	t.Bound += o.Bound
	t.Evictions += o.Evictions
	t.Leaders += o.Leaders
	t.Occasions += o.Occasions
	for f, n := range o.Faults {
		t.Faults[f] += n
	}
	for m, n := range o.Moves {
		t.Moves[m] += n
	}
	for p, n := range o.Deleted {
		t.Deleted[p] += n
	}
	for p, n := range o.Updated {
		t.Updated[p] += n
	}
	for c, n := range o.Wakes {
		w := t.Wakes[c]
		t.Wakes[c] = Wakes{w.All + n.All, w.True + n.True, w.False + n.False}
	}
	t.Netted += o.Netted
	t.Missed += o.Missed
	t.Passed = max(t.Passed, o.Passed)
	t.Rest = max(t.Rest, o.Rest)
}

// woken counts a wake-up; trueOnes and falseOnes what came of it.
func (t *Tally) woken(c Cause, all, trueOnes, falseOnes int) {
	w := t.Wakes[c]
	t.Wakes[c] = Wakes{w.All + all, w.True + trueOnes, w.False + falseOnes}
}

// Missing are the faults, and the ways of a pod, that have not happened; enough seeds have
// all of them. What only a driver that evicts can meet is not missed if none does.
func (t *Tally) Missing() (out []string) {
	for f := range faults {
		if t.Faults[f] == 0 && (t.Evictions > 0 || !f.needsEviction()) {
			out = append(out, f.String())
		}
	}
	for _, m := range Ways {
		if t.Moves[m] == 0 {
			out = append(out, m.String())
		}
	}
	return out
}

// String is the move as tables print it.
func (m Move) String() string { return string(m.From) + " -> " + string(m.To) }
