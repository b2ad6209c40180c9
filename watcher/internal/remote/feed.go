package remote

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/watcher/internal/cluster"
	"github.com/berth-scheduler/berth/watcher/internal/driver"
)

// maxBehind is how many records a replica may be behind before it is sent the whole
// state again: no more is kept for it.
const maxBehind = 1 << 15

// errBehind says that what a reader has not read yet is not kept any more.
var errBehind = errors.New("it could not keep up")

// feed is what replicas are fed: the state when they ask for it, and every change since,
// for as long as one of them has not read it.
type feed struct {
	state     func(context.Context) (driver.State, error)
	maxBehind int

	mu         sync.Mutex // guards everything below
	begin, end uint64     // the versions from which and to which the deltas lead
	deltas     []*delta
	records    int           // in the deltas
	more       chan struct{} // closed when end changes
	readers    map[*reader]struct{}
	full       *full // that some reader is sending; nil if none is
}

// delta leads from the version of the one before it to its own.
type delta struct {
	version uint64
	digest  cluster.Digest
	encodings
}

// records counts the records of changes, those that go included.
func records(c *berthv1.Changes) int {
	return len(c.GetNodes()) + len(c.GetPlacedPods()) + len(c.GetNamespaces()) + len(c.GetDisruptionBudgets()) +
		len(c.GetRemovedNodes()) + len(c.GetRemovedPlacedPods()) + len(c.GetRemovedNamespaces()) + len(c.GetRemovedDisruptionBudgets())
}

// full is the whole state.
type full struct {
	epoch   string
	version uint64
	digest  cluster.Digest
	encodings
	readers int // that send it
}

// reader is one replica's place in the feed.
type reader struct {
	feed *feed
	at   uint64 // the version that it has read
}

func newFeed(state func(context.Context) (driver.State, error)) *feed {
	return &feed{state: state, maxBehind: maxBehind, more: make(chan struct{}), readers: map[*reader]struct{}{}}
}

// add takes what has changed. It does not block: it is the driver that is here.
func (f *feed) add(change *driver.Feed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if change.From != f.end { // the first one
		f.deltas, f.records, f.begin = nil, 0, change.From
	}
	if change.Changes == nil || len(f.readers) == 0 {
		f.deltas, f.records, f.begin = nil, 0, change.Version
	} else {
		f.deltas = append(f.deltas, &delta{version: change.Version, digest: change.Digest, encodings: encodings{changes: change.Changes}})
		f.records += records(change.Changes)
	}
	f.end = change.Version
	for f.records > f.maxBehind {
		f.drop()
	}
	close(f.more)
	f.more = make(chan struct{})
}

// drop lets go of the first delta.
func (f *feed) drop() {
	f.begin = f.deltas[0].version
	f.records -= records(f.deltas[0].changes)
	f.deltas[0] = nil // the array outlives it
	f.deltas = f.deltas[1:]
}

// trim lets go of what every reader has read.
func (f *feed) trim() {
	read := f.end
	for r := range f.readers {
		read = min(read, r.at)
	}
	for len(f.deltas) > 0 && f.deltas[0].version <= read {
		f.drop()
	}
}

// last is the version that the feed leads to.
func (f *feed) last() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.end
}

// join adds a reader. It must load before it reads, and leave in the end.
func (f *feed) join() *reader {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := &reader{feed: f, at: f.end}
	f.readers[r] = struct{}{}
	return r
}

func (r *reader) leave() {
	r.feed.mu.Lock()
	defer r.feed.mu.Unlock()
	delete(r.feed.readers, r)
	r.feed.trim()
}

// load returns a whole state, at which the reader is then: the one that another reader
// is sending, if what has changed since is known, or else a new one. The caller hands it
// back with unload.
func (r *reader) load(ctx context.Context) (*full, error) {
	f := r.feed
	f.mu.Lock()
	if shared := f.full; shared != nil && shared.version >= f.begin {
		shared.readers++
		r.at = shared.version
		f.mu.Unlock()
		return shared, nil
	}
	r.at = f.end // no older than what is to come
	f.trim()
	f.mu.Unlock()

	state, err := f.state(ctx)
	if err != nil {
		return nil, err
	}
	s := state.Snapshot
	all := &full{epoch: s.GetEpoch(), version: s.GetVersion(), digest: state.Digest, readers: 1, encodings: encodings{changes: &berthv1.Changes{
		Nodes: s.GetNodes(), PlacedPods: s.GetPlacedPods(), Namespaces: s.GetNamespaces(), DisruptionBudgets: s.GetDisruptionBudgets()}}}
	f.mu.Lock()
	defer f.mu.Unlock()
	r.at, f.full = all.version, all
	return all, nil
}

func (r *reader) unload(all *full) {
	f := r.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if all.readers--; all.readers == 0 && f.full == all {
		f.full = nil
	}
}

// next waits for a delta that the reader has not read, or returns errBehind. It returns
// nil when interrupt has an element or is closed.
func (r *reader) next(ctx context.Context, interrupt <-chan struct{}) (*delta, error) {
	f := r.feed
	for {
		f.mu.Lock()
		switch {
		case r.at < f.begin:
			f.mu.Unlock()
			return nil, errBehind
		case r.at < f.end:
			i, _ := slices.BinarySearchFunc(f.deltas, r.at+1, func(d *delta, version uint64) int { return cmp.Compare(d.version, version) })
			d := f.deltas[i]
			r.at = d.version
			f.trim()
			f.mu.Unlock()
			return d, nil
		}
		more := f.more
		f.mu.Unlock()
		select {
		case <-more:
		case <-interrupt:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
