package kube

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"
)

// listRetry is the time between two tries to list.
const listRetry = time.Second

// listPage is how many objects are read at a time.
const listPage = 1000

// CaughtUp waits until everything has been delivered that had happened to pods and
// nodes when it was called, and whatever else existed at the start. A new leader calls
// it before it decides anything: otherwise it could give away room that the old one's
// last binds took, which informers, being fed from a cache, may not have shown yet.
//
// It reads by quorum what exists, then waits for each object to have been
// delivered in that form or a later one, and for each object that does not exist
// any more to have been delivered as gone. A read that fails is tried again; the
// error says that ctx ended first.
func (w *Watch) CaughtUp(ctx context.Context) error {
	for _, kind := range []struct {
		resource, selector string
		delivered          *delivered
	}{{"nodes", "", w.nodes}, {"pods", podSelector, w.pods}} {
		// Deletions are noted from before the list on, so that an object that is in
		// the list and never delivered again is not waited for.
		kind.delivered.noteDeletions(true)
		defer kind.delivered.noteDeletions(false)
		var want map[types.UID]string
		var at string
		err := wait.PollUntilContextCancel(ctx, listRetry, true, func(ctx context.Context) (bool, error) {
			var err error
			want, at, err = w.existing(ctx, kind.resource, kind.selector)
			if err != nil {
				klog.FromContext(ctx).Info("Listing failed; trying again", "resource", kind.resource, "err", err)
			}
			return err == nil, nil
		})
		if err != nil {
			return fmt.Errorf("list %s: %w", kind.resource, err)
		}
		err = wait.PollUntilContextCancel(ctx, pollInterval, true, func(context.Context) (bool, error) {
			return kind.delivered.reached(want, at), nil
		})
		if err != nil {
			return fmt.Errorf("wait for the informer of %s to reach resourceVersion %s: %w", kind.resource, at, err)
		}
	}
	if missing := w.Missing(); len(missing) > 0 {
		klog.FromContext(ctx).Info("Waiting for the first list; see deploy/base/access for what a watcher must be allowed to read", "resources", missing)
	}
	if err := wait.PollUntilContextCancel(ctx, pollInterval, true, func(context.Context) (bool, error) { return w.Synced(), nil }); err != nil {
		return fmt.Errorf("wait for the first list of %s: %w", strings.Join(w.Missing(), ", "), err)
	}
	return nil
}

// existing reads by quorum which objects exist, with their versions, and the version of
// the list.
func (w *Watch) existing(ctx context.Context, resource, selector string) (versions map[types.UID]string, at string, err error) {
	versions = map[types.UID]string{}
	// No resourceVersion: by quorum. In pages, of one moment, because the objects'
	// metadata is large and only this little of it is kept.
	options := metav1.ListOptions{FieldSelector: selector, Limit: listPage}
	for {
		list, err := w.client.metadata.Resource(corev1.SchemeGroupVersion.WithResource(resource)).List(ctx, options)
		if err != nil {
			return nil, "", err
		}
		for i := range list.Items {
			versions[list.Items[i].UID] = list.Items[i].ResourceVersion
		}
		if options.Continue = list.Continue; options.Continue == "" {
			return versions, list.ResourceVersion, nil
		}
	}
}

// delivered is what has been handed to the receiver of the events, which is later
// than what is in the informer's store.
type delivered struct {
	mu sync.Mutex
	// versions has the resourceVersion in which each object that exists was last
	// delivered. Keyed by UID: an object made anew under its old name is another.
	versions map[types.UID]string
	// deleted are the objects that were delivered as gone; nil unless noted.
	deleted map[types.UID]bool
}

func newDelivered() *delivered {
	return &delivered{versions: map[types.UID]string{}}
}

func (d *delivered) changed(o metav1.Object) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.versions[o.GetUID()] = o.GetResourceVersion()
}

func (d *delivered) gone(o metav1.Object) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.versions, o.GetUID())
	if d.deleted != nil {
		d.deleted[o.GetUID()] = true
	}
}

func (d *delivered) noteDeletions(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deleted = nil
	if on {
		d.deleted = map[types.UID]bool{}
	}
}

// reached says whether what was delivered is at least as new as a list with these
// objects, made at version at.
func (d *delivered) reached(want map[types.UID]string, at string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for uid, version := range want {
		have, ok := d.versions[uid]
		if !(ok && notOlder(have, version)) && !d.deleted[uid] {
			return false
		}
	}
	for uid, version := range d.versions {
		// An object that is not in the list is either gone, and its deletion not
		// delivered yet, or newer than the list.
		if _, listed := want[uid]; !listed && notOlder(at, version) {
			return false
		}
	}
	return true
}

// notOlder says whether version a is b or later. Versions that are not numbers,
// which no API server of Kubernetes has, can only be told apart.
func notOlder(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	if err != nil {
		return a == b
	}
	return order >= 0
}
