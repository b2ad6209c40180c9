package kube

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/berth-scheduler/berth/watcher/internal/fence"
)

// LeaseConfig says which Lease to hold, and how.
type LeaseConfig struct {
	// Namespace and Name of the Lease.
	Namespace, Name string
	// Identity of this process among those that want the Lease.
	Identity string
	// Duration is how long others wait for a holder that does not renew.
	Duration time.Duration
	// RenewDeadline is how long the holder tries to renew before it gives up. It
	// must be shorter than Duration.
	RenewDeadline time.Duration
	// RetryPeriod is the time between two tries to get or renew the Lease: after a
	// release, the longest time without a holder.
	RetryPeriod time.Duration
	// BindTimeout is the longest that one bind may take. It must be shorter than
	// RenewDeadline.
	BindTimeout time.Duration
}

// Lease is held by at most one process, which alone may bind. A nil *Lease is one
// that nobody else wants.
//
//	waiting ── acquired ──► leading ── ctx ends ──► stopping ── lead returns ──► released
//	                           └── not renewed in time ──► lead's ctx ends: ErrLeaseLost
type Lease struct {
	config LeaseConfig
	lock   resourcelock.Interface
	// renewed is when the last successful renewal was sent; nil while not holding.
	// The API server's own time does not matter: others count from when they see a
	// renewal, which is later than when it was sent.
	renewed atomic.Pointer[time.Time]
}

// ErrLeaseLost says that the Lease could not be renewed in time.
var ErrLeaseLost = errors.New("lease lost")

// NewLease returns a Lease that is not held yet.
func (c *Client) NewLease(config LeaseConfig) (*Lease, error) {
	if config.BindTimeout >= config.RenewDeadline {
		return nil, fmt.Errorf("renew deadline %v must be longer than the timeout of a bind, %v", config.RenewDeadline, config.BindTimeout)
	}
	l := &Lease{config: config, lock: &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: config.Namespace, Name: config.Name},
		Client:     c.lease.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: config.Identity},
	}}
	// The elector itself checks the durations; ask it now, not when it is needed.
	if _, err := l.elector(leaderelection.LeaderCallbacks{OnStartedLeading: func(context.Context) {}, OnStoppedLeading: func() {}}); err != nil {
		return nil, fmt.Errorf("lease %s/%s: %w", config.Namespace, config.Name, err)
	}
	return l, nil
}

func (l *Lease) elector(callbacks leaderelection.LeaderCallbacks) (*leaderelection.LeaderElector, error) {
	return leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:            (*notedLock)(l),
		LeaseDuration:   l.config.Duration,
		RenewDeadline:   l.config.RenewDeadline,
		RetryPeriod:     l.config.RetryPeriod,
		Callbacks:       callbacks,
		ReleaseOnCancel: true,
		Name:            l.config.Name,
	})
}

// Lead waits for the Lease and calls lead while holding it. lead's context ends
// when ctx does or when the Lease is lost, and lead returns when the last bind in
// flight has ended; the Lease is renewed until then and released afterwards. The
// error is ErrLeaseLost if it was lost, and nil if ctx ended first. It may be
// called once.
func (l *Lease) Lead(ctx context.Context, lead func(context.Context)) error {
	if l == nil {
		lead(ctx)
		return nil
	}
	// The elector's context outlives ctx, for it releases the Lease when that ends.
	holdCtx, release := context.WithCancel(context.WithoutCancel(ctx))
	acquired, stopped := make(chan context.Context, 1), make(chan struct{})
	elector, err := l.elector(leaderelection.LeaderCallbacks{
		OnStartedLeading: func(held context.Context) { acquired <- held },
		OnStoppedLeading: func() {},
	})
	if err != nil {
		release()
		return err
	}
	go func() {
		defer close(stopped)
		elector.Run(holdCtx)
	}()
	defer func() {
		release()
		<-stopped
	}()

	select {
	case <-ctx.Done(): // a Lease that was acquired in this moment is released unused
		return nil
	case held := <-acquired:
		leadCtx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(held, cancel)()
		lead(leadCtx)
		if ctx.Err() == nil && held.Err() != nil {
			return ErrLeaseLost
		}
		return nil
	}
}

// MayBind says whether a bind may be started at now: one that takes its full
// timeout must end before another process can take the Lease over. A nil Lease
// always may. It may be called concurrently.
func (l *Lease) MayBind(now time.Time) bool {
	if l == nil {
		return true
	}
	renewed := l.renewed.Load()
	if renewed == nil {
		return false
	}
	terms := fence.Terms{RenewDeadline: l.config.RenewDeadline, BindTimeout: l.config.BindTimeout}
	return terms.MayStart(*renewed, now)
}

// notedLock is the Lease's lock; it notes when successful renewals were sent.
type notedLock Lease

func (l *notedLock) write(record resourcelock.LeaderElectionRecord, send func() error) error {
	sent := time.Now()
	if record.HolderIdentity != l.lock.Identity() {
		l.renewed.Store(nil) // a release: nothing may be bound even if it fails
		return send()
	}
	if err := send(); err != nil {
		return err
	}
	l.renewed.Store(&sent)
	return nil
}

func (l *notedLock) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.write(r, func() error { return l.lock.Create(ctx, r) })
}

func (l *notedLock) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.write(r, func() error { return l.lock.Update(ctx, r) })
}

func (l *notedLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	return l.lock.Get(ctx)
}
func (l *notedLock) RecordEvent(s string) { l.lock.RecordEvent(s) }
func (l *notedLock) Identity() string     { return l.lock.Identity() }
func (l *notedLock) Describe() string     { return l.lock.Describe() }
