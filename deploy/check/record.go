package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/berth-scheduler/berth/deploy/check/internal/history"
)

// retryAfter is how long the recorder waits before it asks an API server
// again that ended a watch or did not answer.
const retryAfter = 200 * time.Millisecond

// runRecord records what happens to pods, leases and nodes into out until ctx
// ends. It calls synced once, with the resourceVersion from which everything
// is recorded. An API server that is away later is waited for; one that does
// not answer at the beginning is an error.
func runRecord(ctx context.Context, client kubernetes.Interface, out io.Writer, synced func(version uint64)) error {
	var mu sync.Mutex // guards out: a line is written whole
	emit := func(rec history.Record) error {
		mu.Lock()
		defer mu.Unlock()
		if err := history.Write(out, rec); err != nil {
			return writeError{err}
		}
		return nil
	}
	var followers []*follower
	var from uint64
	for _, s := range sources(client) {
		f := &follower{source: s, emit: emit}
		if err := f.begin(ctx, time.Now()); err != nil {
			return err
		}
		from = max(from, f.version)
		followers = append(followers, f)
	}
	synced(from)

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, f := range followers {
		wg.Go(func() {
			if err := f.follow(ctx); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); errors.As(err, &writeError{}) {
		return err
	}
	return nil
}

// writeError is the one failure that a recorder does not survive: it cannot
// write what it saw.
type writeError struct{ err error }

func (e writeError) Error() string { return fmt.Sprintf("write the recording: %v", e.err) }
func (e writeError) Unwrap() error { return e.err }

// follow watches until ctx ends, again and again, and bridges what the API
// server no longer has. It returns only a writeError, or nil when ctx ended.
func (f *follower) follow(ctx context.Context) error {
	for {
		err := f.watchOnce(ctx)
		if errors.Is(err, errGone) {
			err = f.listAgain(ctx)
		}
		if errors.As(err, &writeError{}) {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryAfter):
		}
	}
}

// listAgain resumes after errGone: from what exists now, with what led to it.
func (f *follower) listAgain(ctx context.Context) error {
	found, version, err := f.snapshot(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	return f.bridge(ctx, found, version)
}
