package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"github.com/berth-scheduler/berth/deploy/check/internal/history"
)

// source is where the objects of one kind come from.
type source struct {
	kind history.Kind
	// fields narrows what is recorded, in the API server's field selector syntax.
	fields string
	list   func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch  func(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// sources returns one source per kind, in the order of history.Kinds.
func sources(client kubernetes.Interface) []source {
	pods := client.CoreV1().Pods("")
	nodes := client.CoreV1().Nodes()
	leases := client.CoordinationV1().Leases("")
	namespaces := client.CoreV1().Namespaces()
	all := map[history.Kind]source{
		history.Pod: {
			list:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return pods.List(ctx, o) },
			watch: pods.Watch,
		},
		history.Node: {
			list:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return nodes.List(ctx, o) },
			watch: nodes.Watch,
		},
		history.Namespace: {
			list: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				return namespaces.List(ctx, o)
			},
			watch: namespaces.Watch,
		},
		history.Lease: {
			// Kubelets renew a lease per node every few seconds; no leader is
			// elected by those.
			fields: "metadata.namespace!=" + corev1.NamespaceNodeLease,
			list:   func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return leases.List(ctx, o) },
			watch:  leases.Watch,
		},
	}
	var out []source
	for _, kind := range history.Kinds {
		s := all[kind]
		s.kind = kind
		out = append(out, s)
	}
	return out
}

// record returns the record of obj, trimmed to what is judged. obj is what the
// source lists or watches; anything else is an error.
func record(typ history.Type, obj runtime.Object) (history.Record, error) {
	rec := history.Record{Type: typ}
	switch o := obj.(type) {
	case *corev1.Pod:
		rec.Kind, rec.Pod = history.Pod, history.TrimPod(o)
	case *corev1.Node:
		rec.Kind, rec.Node = history.Node, history.TrimNode(o)
	case *corev1.Namespace:
		rec.Kind, rec.Namespace = history.Namespace, history.TrimNamespace(o)
	case *coordinationv1.Lease:
		rec.Kind, rec.Lease = history.Lease, history.TrimLease(o)
	default:
		return rec, fmt.Errorf("unexpected object %T", obj)
	}
	var err error
	rec.ResourceVersion, err = parseVersion(rec.Object().GetResourceVersion())
	return rec, err
}

func parseVersion(s string) (uint64, error) {
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("resourceVersion %q is not a number: %w", s, err)
	}
	return v, nil
}

// key identifies the object of a record among those of its kind.
func key(rec history.Record) string {
	return rec.Object().GetNamespace() + "/" + rec.Object().GetName()
}

// same reports whether two records are about equal states of one object,
// whatever resourceVersion each was seen at.
func same(a, b history.Record) bool {
	strip := func(r history.Record) runtime.Object {
		var o runtime.Object
		switch {
		case r.Pod != nil:
			o = r.Pod.DeepCopy()
		case r.Node != nil:
			o = r.Node.DeepCopy()
		case r.Lease != nil:
			o = r.Lease.DeepCopy()
		case r.Namespace != nil:
			o = r.Namespace.DeepCopy()
		default:
			return nil
		}
		o.(metav1.Object).SetResourceVersion("")
		return o
	}
	return equality.Semantic.DeepEqual(strip(a), strip(b))
}

// snapshot lists the source at options.ResourceVersion (empty: now, by quorum)
// and returns the objects by key, as records of type Listed, and the
// resourceVersion they were listed at.
func (s source) snapshot(ctx context.Context, options metav1.ListOptions) (map[string]history.Record, uint64, error) {
	if options.FieldSelector == "" {
		options.FieldSelector = s.fields
	}
	list, err := s.list(ctx, options)
	if err != nil {
		return nil, 0, err
	}
	found := map[string]history.Record{}
	err = meta.EachListItem(list, func(obj runtime.Object) error {
		rec, err := record(history.Listed, obj)
		if err == nil {
			found[key(rec)] = rec
		}
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	m, err := meta.ListAccessor(list)
	if err != nil {
		return nil, 0, err
	}
	version, err := parseVersion(m.GetResourceVersion())
	return found, version, err
}

// A follower turns what happens to one kind of object into records. It is used
// by one goroutine at a time.
type follower struct {
	source
	// known is the last state of each object that exists at version.
	known   map[string]history.Record
	version uint64
	// timeout is how long one watch lasts; 0 leaves it to the API server.
	timeout time.Duration
	// emit takes each record. Its error ends following and is returned as it is.
	emit func(history.Record) error
}

// begin lists what exists and emits it, then Synced.
func (f *follower) begin(ctx context.Context, now time.Time) error {
	found, version, err := f.snapshot(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list kind %s: %w", f.kind, err)
	}
	f.known, f.version = found, version
	for _, rec := range sorted(found) {
		if err := f.emit(rec); err != nil {
			return err
		}
	}
	return f.emit(history.Record{Type: history.Synced, Kind: f.kind, ResourceVersion: version, Time: &metav1.MicroTime{Time: now}})
}

// bridgeReaders is how many objects are read at a time after errGone.
const bridgeReaders = 32

// errGone says that the API server no longer has the events after f.version.
var errGone = errors.New("too old resource version")

// watchOnce emits what happens after f.version until the watch ends: nil when
// the server ended it, errGone when it cannot be resumed.
func (f *follower) watchOnce(ctx context.Context) error {
	options := metav1.ListOptions{
		FieldSelector: f.fields, ResourceVersion: strconv.FormatUint(f.version, 10), AllowWatchBookmarks: true,
	}
	if f.timeout > 0 {
		seconds := int64(f.timeout / time.Second)
		options.TimeoutSeconds = &seconds
	}
	w, err := f.watch(ctx, options)
	if err != nil {
		return gone(err)
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case ev, ok := <-w.ResultChan():
			if !ok {
				return nil
			}
			if ev.Type == watch.Error {
				return gone(apierrors.FromObject(ev.Object))
			}
			if err := f.handle(ev); err != nil {
				return err
			}
		}
	}
}

// gone turns the API server's two ways of saying so into errGone.
func gone(err error) error {
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return errGone
	}
	return err
}

// handle emits the record of one event. An update that changes nothing which
// is recorded, as most of a kubelet's and a leader's do, only moves f.version.
func (f *follower) handle(ev watch.Event) error {
	types := map[watch.EventType]history.Type{watch.Added: history.Added, watch.Modified: history.Modified, watch.Deleted: history.Deleted, watch.Bookmark: history.Progress}
	rec, err := record(types[ev.Type], ev.Object)
	if err != nil {
		return err
	}
	f.version = rec.ResourceVersion
	if rec.Type == history.Progress {
		return f.emit(history.Record{Type: rec.Type, Kind: f.kind, ResourceVersion: rec.ResourceVersion})
	}
	old, exists := f.known[key(rec)]
	switch {
	case rec.Type == history.Deleted:
		delete(f.known, key(rec))
	case exists && same(old, rec):
		return nil
	default:
		f.known[key(rec)] = rec
	}
	return f.emit(rec)
}

// bridge emits, after errGone, what happened up to version, at which found was
// listed. The API server keeps no events that old, yet etcd keeps every version
// since its last compaction (five minutes), and a list at an exact
// resourceVersion reads it. So each object that is not as it was is read
// backwards, version by version; several are at a time, for what happens meanwhile may
// have to be bridged as well. When that fails, a Gap and the bare differences are
// emitted. What was created and deleted in between leaves no trace here; if
// it was bound, the audit log tells on it.
func (f *follower) bridge(ctx context.Context, found map[string]history.Record, version uint64) error {
	var keys []string
	for k, is := range found {
		if is.ResourceVersion > f.version {
			keys = append(keys, k)
		}
	}
	for k := range f.known {
		if _, exists := found[k]; !exists {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	work := make(chan int, len(keys))
	for i := range keys {
		work <- i
	}
	close(work)
	versions := make([][]history.Record, len(keys))
	errs := make([]error, len(keys))
	var readers sync.WaitGroup
	for range bridgeReaders {
		readers.Go(func() {
			for i := range work {
				versions[i], errs[i] = f.versions(ctx, f.known[keys[i]], found[keys[i]], version)
			}
		})
	}
	readers.Wait()
	whole := true
	for i, err := range errs {
		switch {
		case gone(err) == errGone:
			whole = false
			versions[i] = differences(f.known[keys[i]], found[keys[i]], version)
		case err != nil:
			return err
		}
	}
	records := slices.Concat(versions...)
	if !whole {
		gap := history.Record{Type: history.Gap, Kind: f.kind, Since: f.version, ResourceVersion: version}
		if err := f.emit(gap); err != nil {
			return err
		}
	}
	slices.SortStableFunc(records, byVersion)
	for _, rec := range records {
		if err := f.emit(rec); err != nil {
			return err
		}
	}
	f.known, f.version = found, version
	return f.emit(history.Record{Type: history.Progress, Kind: f.kind, ResourceVersion: version})
}

// differences is what can be said about an object when only its state before
// (was) and after (is) a gap is known; a zero record stands for no object. A
// deletion is dated to the end of the gap, or to just before its successor.
func differences(was, is history.Record, end uint64) []history.Record {
	var out []history.Record
	replaced := was.Kind != "" && is.Kind != "" && was.Object().GetUID() != is.Object().GetUID()
	if was.Kind != "" && (is.Kind == "" || replaced) {
		was.Type, was.ResourceVersion = history.Deleted, end
		if replaced {
			was.ResourceVersion = is.ResourceVersion - 1
		}
		out = append(out, was)
	}
	if is.Kind != "" {
		is.Type = history.Modified
		if was.Kind == "" || replaced {
			is.Type = history.Added
		}
		out = append(out, is)
	}
	return out
}

// versions returns every version of one object after f.version and up to end,
// newest first, given its first and last state as differences is.
func (f *follower) versions(ctx context.Context, was, is history.Record, end uint64) ([]history.Record, error) {
	if is.Kind == "" {
		return f.vanished(ctx, was, end)
	}
	var out []history.Record
	for {
		before, err := f.at(ctx, is, is.ResourceVersion-1)
		if err != nil {
			return nil, err
		}
		existed := before.Kind != "" && before.Object().GetUID() == is.Object().GetUID()
		is.Type = history.Modified
		if !existed {
			is.Type = history.Added
		}
		out = append(out, is)
		switch {
		case existed && before.ResourceVersion <= f.version:
			return out, nil
		case !existed && was.Kind == "":
			return out, nil
		case !existed:
			earlier, err := f.vanished(ctx, was, is.ResourceVersion-1)
			return append(out, earlier...), err
		}
		is = before
	}
}

// vanished returns every version of an object that existed at f.version (was)
// and did not, or not in this incarnation, at end: its deletion is found by
// halving, what led to it by reading backwards.
func (f *follower) vanished(ctx context.Context, was history.Record, end uint64) ([]history.Record, error) {
	last, lo, hi := was, f.version, end
	for lo+1 < hi {
		mid := lo + (hi-lo)/2
		rec, err := f.at(ctx, was, mid)
		if err != nil {
			return nil, err
		}
		if rec.Kind != "" && rec.Object().GetUID() == was.Object().GetUID() {
			last, lo = rec, mid
		} else {
			hi = mid
		}
	}
	deleted := last
	deleted.Type, deleted.ResourceVersion = history.Deleted, hi
	out := []history.Record{deleted}
	if last.ResourceVersion > f.version {
		earlier, err := f.versions(ctx, was, last, lo)
		return append(out, earlier...), err
	}
	return out, nil
}

// at returns the state at version of the object that rec is about, a zero
// record when there was none. An API server that does not answer is asked again for
// up to atPatience: without it, what was read of a gap would have to be read once more,
// and the gap be longer by then.
func (f *follower) at(ctx context.Context, rec history.Record, version uint64) (history.Record, error) {
	fields := "metadata.name=" + rec.Object().GetName()
	if ns := rec.Object().GetNamespace(); ns != "" {
		fields += ",metadata.namespace=" + ns
	}
	var found map[string]history.Record
	var refused error
	err := wait.PollUntilContextTimeout(ctx, retryAfter, atPatience, true, func(ctx context.Context) (bool, error) {
		found, _, refused = f.snapshot(ctx, metav1.ListOptions{
			FieldSelector:        fields,
			ResourceVersion:      strconv.FormatUint(version, 10),
			ResourceVersionMatch: metav1.ResourceVersionMatchExact,
		})
		var status apierrors.APIStatus
		final := errors.As(refused, &status) && status.Status().Code/100 == 4 && !apierrors.IsTooManyRequests(refused)
		return refused == nil || final, nil
	})
	return found[key(rec)], cmp.Or(refused, err)
}

// atPatience is how long one version of an object is asked for.
const atPatience = time.Minute

// byVersion orders records by resourceVersion.
func byVersion(a, b history.Record) int {
	switch {
	case a.ResourceVersion < b.ResourceVersion:
		return -1
	case a.ResourceVersion > b.ResourceVersion:
		return 1
	}
	return 0
}

// sorted returns the records of m in order of resourceVersion; no two objects
// share one.
func sorted(m map[string]history.Record) []history.Record {
	var out []history.Record
	for _, rec := range m {
		out = append(out, rec)
	}
	slices.SortFunc(out, byVersion)
	return out
}
