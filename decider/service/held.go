package service

import (
	"cmp"
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// held is the one state that a decider holds, and who feeds it.
//
//	nobody --begin--> fed, nothing held --commit--> fed, held
//	                          ^                        |  commit
//	                          +--- resync, begin ------+
//
// The end of the stream, or the begin of another one that supersedes it, leads back to
// nobody.
type held struct {
	mu sync.Mutex
	// What is below is guarded by mu.

	streams uint64 // that there have been
	feeder  *feeder
	state   *state        // nil before the first commit and after a resync
	size    size          // of state
	changed chan struct{} // closed when any of these changes
}

// size is a version of a state in numbers; the zero value is that of none.
type size struct {
	version           uint64
	nodes, placedPods int
	bytes             int64
}

// feeder is a stream that began to feed.
type feeder struct {
	// number is later the later the stream came.
	number uint64
	epoch  string
	// evicted is closed when another one supersedes it, lost gets a value when the
	// state was given up by somebody else.
	evicted chan struct{}
	lost    chan struct{}
}

func newHeld() *held { return &held{changed: make(chan struct{})} }

// now returns what is held in numbers.
func (h *held) now() size {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.size
}

// arrive returns a feeder for a stream that has not begun yet.
func (h *held) arrive() *feeder {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.streams++
	return &feeder{number: h.streams, evicted: make(chan struct{}), lost: make(chan struct{}, 1)}
}

// set changes what is held and wakes those that wait for it. h.mu is held, and the turn
// of s.
func (h *held) set(f *feeder, s *state) {
	h.feeder, h.state, h.size = f, s, size{}
	if s != nil {
		h.size = size{s.version, len(s.snapshot.Nodes), len(s.encoded), s.bytes}
	}
	close(h.changed)
	h.changed = make(chan struct{})
}

// begin makes f the one that feeds. A later epoch supersedes an earlier one, and of one
// epoch the later stream supersedes the earlier: the watcher came back. The error is a
// gRPC status: f itself is superseded.
func (h *held) begin(f *feeder, epoch string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-f.evicted: // and about to hear of it
		return superseded(f)
	default:
	}
	if other := h.feeder; other != nil && other != f {
		if cmp.Or(cmp.Compare(epoch, other.epoch), cmp.Compare(f.number, other.number)) < 0 {
			return status.Errorf(codes.Aborted, "epoch %q is superseded: another stream feeds epoch %q here", epoch, other.epoch)
		}
		close(other.evicted)
	}
	f.epoch = epoch
	h.set(f, nil)
	return nil
}

// publish shows a state at its version to those that refer to it. false means that f
// does not feed any more.
func (h *held) publish(f *feeder, s *state) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.feeder != f {
		return false
	}
	h.set(f, s)
	return true
}

// drop gives up the state of f, which still feeds.
func (h *held) drop(f *feeder) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.feeder == f {
		h.set(f, nil)
	}
}

// lose gives up a state that is not what was fed any more, and has it fed anew.
func (h *held) lose(s *state) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state == s {
		select {
		case h.feeder.lost <- struct{}{}:
		default: // it has not heard of the one before
		}
		h.set(h.feeder, nil)
	}
}

// leave is the end of a stream.
func (h *held) leave(f *feeder) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.feeder == f {
		h.set(nil, nil)
	}
}

// await waits until a state that r refers to is held, and returns it. It waits within
// ctx's deadline; without one it does not, since what r refers to may never come. The
// error is a gRPC status: ctx ended first, or there is no use in waiting.
func (h *held) await(ctx context.Context, r *berthv1.StateReference) (*state, error) {
	for {
		h.mu.Lock()
		s, version, changed := h.state, h.size.version, h.changed
		h.mu.Unlock()
		why, hope := refers(r, s, version)
		if why == "" {
			return s, nil
		}
		refused := status.Error(codes.FailedPrecondition, "reference: "+why)
		if _, limited := ctx.Deadline(); !hope || !limited {
			return nil, refused
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if ctx.Err() == context.Canceled {
				return nil, status.FromContextError(ctx.Err()).Err()
			}
			return nil, refused
		}
	}
}

// refers says why r does not refer to s at version, or "" if it does; hope is set if
// what it refers to may still come.
func refers(r *berthv1.StateReference, s *state, version uint64) (why string, hope bool) {
	exact := r.GetExactVersion()
	switch {
	case s == nil && r.GetEpoch() == "":
		return "this decider holds no state: send an inline snapshot", false
	case s == nil:
		return fmt.Sprintf("epoch %q is not held, nor is another: send an inline snapshot", r.GetEpoch()), true
	case r.GetEpoch() != "" && r.GetEpoch() != s.epoch:
		return fmt.Sprintf("epoch %q is not held, but epoch %q at version %d", r.GetEpoch(), s.epoch, version), r.GetEpoch() > s.epoch
	case exact > 0 && version > exact:
		return fmt.Sprintf("version %d has passed: version %d of epoch %q is held", exact, version, s.epoch), false
	case version < max(exact, r.GetAtLeastVersion()):
		return fmt.Sprintf("version %d has not come: version %d of epoch %q is held", max(exact, r.GetAtLeastVersion()), version, s.epoch), true
	}
	return "", false
}
