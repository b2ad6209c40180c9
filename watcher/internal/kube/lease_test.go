package kube

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

var leaseConfig = LeaseConfig{
	Namespace: "kube-system", Name: "berth-berth", Identity: "a",
	Duration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 500 * time.Millisecond, BindTimeout: 4 * time.Second,
}

func newLease(t *testing.T, set *fake.Clientset, identity string) *Lease {
	t.Helper()
	config := leaseConfig
	config.Identity = identity
	l, err := (&Client{lease: set}).NewLease(config)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func holder(t *testing.T, set *fake.Clientset) string {
	t.Helper()
	lease, err := set.CoordinationV1().Leases("kube-system").Get(context.Background(), "berth-berth", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// TestLeaseIsHeldUntilBindsEnd: told to stop, the leader keeps the Lease, and renews
// it, until its last bind has ended; the next one leads within two seconds.
func TestLeaseIsHeldUntilBindsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := fake.NewClientset()
		first, second := newLease(t, set, "a"), newLease(t, set, "b")
		firstCtx, stopFirst := context.WithCancel(t.Context())
		secondCtx, stopSecond := context.WithCancel(t.Context())
		if first.MayBind(time.Now()) {
			t.Error("may bind without having led")
		}
		ended, firstDone := make(chan struct{}), make(chan error, 1)
		go func() {
			firstDone <- first.Lead(firstCtx, func(ctx context.Context) {
				<-ctx.Done()
				time.Sleep(20 * time.Second) // binds in flight
				if !first.MayBind(time.Now()) || holder(t, set) != "a" {
					t.Errorf("the lease was not held until the end: holder %q", holder(t, set))
				}
				close(ended)
			})
		}()
		synctest.Wait()
		var leads atomic.Bool
		secondDone := make(chan error, 1)
		go func() {
			secondDone <- second.Lead(secondCtx, func(ctx context.Context) {
				leads.Store(true)
				<-ctx.Done()
			})
		}()
		time.Sleep(time.Minute)
		if !first.MayBind(time.Now()) || second.MayBind(time.Now()) || leads.Load() {
			t.Error("the second leads beside the first")
		}
		stopFirst()
		<-ended
		if err := <-firstDone; err != nil {
			t.Errorf("first: %v", err)
		}
		if first.MayBind(time.Now()) {
			t.Error("may bind after the release")
		}
		time.Sleep(2 * time.Second)
		if !leads.Load() || holder(t, set) != "b" {
			t.Errorf("two seconds after the release the holder is %q", holder(t, set))
		}
		stopSecond()
		if err := <-secondDone; err != nil {
			t.Errorf("second: %v", err)
		}
	})
}

// TestLeaseLost: no bind starts that could end after the renew deadline, counted
// from the last renewal that succeeded.
func TestLeaseLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := fake.NewClientset()
		var cut atomic.Bool
		set.PrependReactor("*", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
			return cut.Load(), nil, errors.New("no connection")
		})
		l := newLease(t, set, "a")
		done := make(chan error, 1)
		go func() { done <- l.Lead(t.Context(), func(ctx context.Context) { <-ctx.Done() }) }()
		time.Sleep(10 * time.Second)
		cut.Store(true)
		last := *l.renewed.Load()
		for _, test := range []struct {
			after time.Duration
			want  bool
		}{{0, true}, {6*time.Second - 1, true}, {6 * time.Second, false}, {time.Minute, false}} {
			if got := l.MayBind(last.Add(test.after)); got != test.want {
				t.Errorf("%v after the last renewal MayBind is %v", test.after, got)
			}
		}
		if err := <-done; !errors.Is(err, ErrLeaseLost) {
			t.Errorf("error %v", err)
		}
	})
}

func TestLeaseThatNobodyWants(t *testing.T) {
	var l *Lease
	led := false
	if err := l.Lead(t.Context(), func(context.Context) { led = true }); err != nil || !led || !l.MayBind(time.Now()) {
		t.Errorf("error %v, led %v", err, led)
	}
}

func TestLeaseDurationsMustFit(t *testing.T) {
	for _, change := range []func(*LeaseConfig){
		func(c *LeaseConfig) { c.BindTimeout = c.RenewDeadline },
		func(c *LeaseConfig) { c.RenewDeadline = c.Duration },
		func(c *LeaseConfig) { c.RetryPeriod = c.RenewDeadline },
		func(c *LeaseConfig) { c.Identity = "" },
	} {
		config := leaseConfig
		change(&config)
		if _, err := (&Client{lease: fake.NewClientset()}).NewLease(config); err == nil {
			t.Errorf("%+v is taken", config)
		}
	}
}
