package kube

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	eventname "k8s.io/client-go/tools/record/util"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/lru"

	"github.com/berth-scheduler/berth/watcher/internal/driver"
)

// ReporterConfig bounds a Reporter. The zero value of a number is its default.
type ReporterConfig struct {
	// Identity of this process, for the Events' reportingInstance. Required.
	Identity string
	// Workers is how many conditions, and how many Events, are written at a time; 32 by
	// default. While the API server is busy with bindings and conditions, one of them
	// writes Events.
	Workers int
	// MaxPods is how many pods may wait for their reports, 100,000 by default.
	// Reports about further pods are dropped and counted.
	MaxPods int
	// MaxSeries is how many pods' last Events are remembered, so that the same
	// Event again becomes a count; 10,000 by default.
	MaxSeries int
	// Registerer takes the counters; nil means that nobody reads them.
	Registerer prometheus.Registerer
}

// Reporter tells pods' owners what became of them: the PodScheduled condition and
// Events, in kube-scheduler's words. It never holds anything up: a pod has one
// slot, in which the latest report replaces one that was not written yet.
//
// What a report has to say it says in order, each by workers of its own:
//
//	Report ─── FailedScheduling ───► condition ───► Event ───► (written)
//	   └────── Scheduled, Preempted ──────────────────┘
//
// Conditions are written at once. Events give way to bindings and conditions, for as
// long as there is room for more reports: see precedence.
type Reporter struct {
	client     kubernetes.Interface
	config     ReporterConfig
	precedence *precedence
	conditions workqueue.TypedRateLimitingInterface[types.UID]
	events     workqueue.TypedRateLimitingInterface[types.UID]
	series     *lru.Cache // of series, by pod's UID; added to by the pod's worker for Events alone
	reports    *prometheus.CounterVec

	mu      sync.Mutex
	slots   map[types.UID]*slot // what is not written yet
	drained chan struct{}       // closed when slots is empty; nil if nobody waits
}

// slot is one report on its way. It belongs to one worker at a time: as long as the
// condition needs writing to one for conditions, then to one for Events.
type slot struct {
	report driver.Report
	at     metav1.MicroTime // when it was reported
	// event is made at the first try, so that further tries write the same one.
	event *eventsv1.Event
	// told is set when the condition needs no more writing; guarded by Reporter.mu.
	told bool
}

// series is the last Event about a pod.
type series struct {
	name, note string
	count      int32
}

// What became of a report, as the counter's label.
const (
	resultWritten = "written"
	resultDropped = "dropped" // there was no room
	resultGone    = "gone"    // the pod is not there, or not waiting, any more
	resultFailed  = "failed"  // the API server refused it, or too many tries failed
)

// maxTries is how often a report is tried, for tryTimeout each, with up to
// maxBackoff in between.
const (
	maxTries   = 10
	tryTimeout = 30 * time.Second
	minBackoff = 50 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// noteLimit is the most bytes that the API server takes in an Event's note.
const noteLimit = 1024

// NewReporter returns a reporter that takes reports at once and writes them once
// it runs.
func NewReporter(client *Client, config ReporterConfig) *Reporter {
	return newReporter(client.reports, client.precedence, config)
}

func newReporter(client kubernetes.Interface, precedence *precedence, config ReporterConfig) *Reporter {
	setDefault(&config.Workers, 32)
	setDefault(&config.MaxPods, 100_000)
	setDefault(&config.MaxSeries, 10_000)
	queue := func() workqueue.TypedRateLimitingInterface[types.UID] {
		return workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[types.UID](minBackoff, maxBackoff))
	}
	r := &Reporter{
		client:     client,
		config:     config,
		precedence: precedence,
		conditions: queue(),
		events:     queue(),
		series:     lru.New(config.MaxSeries),
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "berth_watcher_reports_total",
			Help: "Reports about pods (their PodScheduled condition and Events) by kind and result: written, dropped for want of room, gone with their pod, or failed.",
		}, []string{"kind", "result"}),
		slots: map[types.UID]*slot{},
	}
	if config.Registerer != nil {
		config.Registerer.MustRegister(r.reports)
	}
	return r
}

func setDefault(n *int, value int) {
	if *n == 0 {
		*n = value
	}
}

// Report takes a report and returns at once. It may be called concurrently.
func (r *Reporter) Report(report driver.Report) {
	uid := report.Pod.UID
	s := &slot{report: report, at: metav1.NowMicro(), told: report.Kind != driver.FailedScheduling}
	r.mu.Lock()
	_, waiting := r.slots[uid]
	full := !waiting && len(r.slots) >= r.config.MaxPods
	if !full {
		r.slots[uid] = s
		r.crowded()
	}
	r.mu.Unlock()
	switch {
	case full:
		r.count(report, resultDropped)
	case s.told:
		r.events.Add(uid)
	default:
		r.conditions.Add(uid)
	}
}

// crowded lets Events wait no more while a fifth of the room for reports is taken: a
// late Event is better than one that is dropped. The caller holds mu.
func (r *Reporter) crowded() {
	r.precedence.suspend(len(r.slots) > r.config.MaxPods/5)
}

// Run writes reports until ctx ends. It may be called once.
func (r *Reporter) Run(ctx context.Context) {
	defer context.AfterFunc(ctx, func() {
		r.conditions.ShutDown()
		r.events.ShutDown()
		r.precedence.close()
	})()
	var wg sync.WaitGroup
	for i := range r.config.Workers {
		wg.Go(func() { r.work(ctx, r.conditions, r.tellCondition, func() {}) })
		giveWay := r.precedence.giveWay
		if i == 0 {
			// Events are late, and not missing, on an API server that is busy all the time.
			giveWay = func() {}
		}
		wg.Go(func() { r.work(ctx, r.events, r.tellEvent, giveWay) })
	}
	wg.Wait()
}

// Flush waits until every report has been written or given up. Call it before the
// context of Run ends.
func (r *Reporter) Flush(ctx context.Context) error {
	for {
		r.mu.Lock()
		if len(r.slots) == 0 {
			r.mu.Unlock()
			return nil
		}
		if r.drained == nil {
			r.drained = make(chan struct{})
		}
		drained := r.drained
		r.mu.Unlock()
		select {
		case <-drained:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// work takes pods from the queue and tells of each what tell tells, until the queue is
// shut down. What is left to tell then, tell has handed on; otherwise it returns what
// became of the report, or an error after which it may be tried again.
func (r *Reporter) work(ctx context.Context, queue workqueue.TypedRateLimitingInterface[types.UID],
	tell func(context.Context, types.UID, *slot) (result string, err error), giveWay func()) {
	for {
		giveWay()
		uid, shutdown := queue.Get()
		if shutdown {
			return
		}
		r.write(ctx, queue, uid, tell)
		// Only now may another worker of the queue get the pod, with a newer report.
		queue.Done(uid)
	}
}

func (r *Reporter) write(ctx context.Context, queue workqueue.TypedRateLimitingInterface[types.UID], uid types.UID,
	tell func(context.Context, types.UID, *slot) (result string, err error)) {
	r.mu.Lock()
	s := r.slots[uid]
	if s != nil && s.told != (queue == r.events) {
		s = nil // a newer report, which comes from the other queue first
	}
	r.mu.Unlock()
	if s == nil {
		queue.Forget(uid)
		return // written with the report before it in the queue
	}
	tryCtx, cancel := context.WithTimeout(ctx, tryTimeout)
	result, err := tell(tryCtx, uid, s)
	cancel()
	if err != nil && ctx.Err() == nil && queue.NumRequeues(uid) < maxTries && transient(err) {
		queue.AddRateLimited(uid)
		return
	}
	queue.Forget(uid)
	if err != nil {
		klog.FromContext(ctx).V(2).Info("Report not written", "pod", klog.KObj(s.report.Pod), "err", err)
		result = resultFailed
	}
	if result != "" {
		r.done(uid, s, result)
	}
}

// done counts a report that is over, and gives its room back.
func (r *Reporter) done(uid types.UID, s *slot, result string) {
	r.count(s.report, result)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slots[uid] == s {
		delete(r.slots, uid)
		r.crowded()
	}
	if len(r.slots) == 0 && r.drained != nil {
		close(r.drained)
		r.drained = nil
	}
}

// tellCondition writes the slot's condition and hands it on to those who write Events.
func (r *Reporter) tellCondition(ctx context.Context, uid types.UID, s *slot) (result string, err error) {
	r.precedence.begin()
	waiting, err := r.writeCondition(ctx, s.report)
	r.precedence.end()
	if err != nil {
		return "", err
	}
	if !waiting {
		r.series.Remove(uid)
		return resultGone, nil
	}
	r.mu.Lock()
	s.told = true
	r.mu.Unlock()
	r.events.Add(uid)
	return "", nil
}

// tellEvent writes the slot's Event.
func (r *Reporter) tellEvent(ctx context.Context, _ types.UID, s *slot) (result string, err error) {
	if err := r.writeEvent(ctx, s); err != nil {
		if apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return resultGone, nil // the namespace is going
		}
		return "", err
	}
	return resultWritten, nil
}

// writeCondition says PodScheduled=False on the pod, unless it says so already. It
// reports false if the pod is not waiting for a node any more. The version of the
// pod is a precondition, because a condition that arrives after the pod was bound
// would contradict the API server's own.
func (r *Reporter) writeCondition(ctx context.Context, report driver.Report) (waiting bool, err error) {
	for pod := report.Pod; ; {
		if pod.UID != report.Pod.UID || pod.Spec.NodeName != "" || pod.DeletionTimestamp != nil {
			return false, nil
		}
		patch, err := conditionPatch(pod, report)
		if err != nil {
			return false, err
		}
		if patch == nil {
			return true, nil
		}
		_, err = r.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		if err == nil {
			return true, nil
		}
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		if !apierrors.IsConflict(err) {
			return false, err
		}
		// The pod has changed since. Look at what it is now.
		switch pod, err = r.client.CoreV1().Pods(report.Pod.Namespace).Get(ctx, report.Pod.Name, metav1.GetOptions{}); {
		case apierrors.IsNotFound(err):
			return false, nil
		case err != nil:
			return false, err
		}
	}
}

// conditionPatch is nil if the pod has the condition already.
func conditionPatch(pod *corev1.Pod, report driver.Report) ([]byte, error) {
	condition := corev1.PodCondition{
		Type:               corev1.PodScheduled,
		ObservedGeneration: pod.Generation,
		Status:             corev1.ConditionFalse,
		LastTransitionTime: metav1.Now(),
		Reason:             report.Reason,
		Message:            report.Message,
	}
	for i := range pod.Status.Conditions {
		old := &pod.Status.Conditions[i]
		if old.Type != corev1.PodScheduled {
			continue
		}
		if old.Status == condition.Status {
			if old.Reason == condition.Reason && old.Message == condition.Message {
				return nil, nil
			}
			condition.LastTransitionTime = old.LastTransitionTime
		}
	}
	return json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID, "resourceVersion": pod.ResourceVersion},
		"status":   map[string]any{"conditions": []corev1.PodCondition{condition}},
	})
}

// writeEvent writes the slot's Event, or counts it if it is the pod's last one
// again.
func (r *Reporter) writeEvent(ctx context.Context, s *slot) error {
	if s.event == nil {
		s.event = r.newEvent(s.report, s.at)
	}
	uid := s.report.Pod.UID
	events := r.client.EventsV1().Events(s.event.Namespace)
	if last, ok := r.series.Get(uid); ok && s.report.Kind == driver.FailedScheduling && last.(series).note == s.event.Note {
		again := last.(series)
		again.count++
		patch, err := json.Marshal(map[string]any{
			"series": eventsv1.EventSeries{Count: again.count, LastObservedTime: s.event.EventTime},
		})
		if err != nil {
			return err
		}
		_, err = events.Patch(ctx, again.name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
		if err == nil {
			r.series.Add(uid, again)
			return nil
		}
		if !apierrors.IsNotFound(err) {
			return err
		}
		// The Event has expired: begin anew.
	}
	if _, err := events.Create(ctx, s.event, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	if s.report.Kind == driver.FailedScheduling {
		r.series.Add(uid, series{name: s.event.Name, note: s.event.Note, count: 1})
	} else {
		r.series.Remove(uid)
	}
	return nil
}

func (r *Reporter) newEvent(report driver.Report, now metav1.MicroTime) *eventsv1.Event {
	p := report.Pod
	e := &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{Name: eventname.GenerateEventName(p.Name, now.UnixNano()), Namespace: p.Namespace},
		EventTime:           now,
		ReportingController: p.Spec.SchedulerName,
		ReportingInstance:   truncate(p.Spec.SchedulerName+"-"+r.config.Identity, instanceLimit, ""),
		Regarding: corev1.ObjectReference{
			Kind: "Pod", APIVersion: "v1", Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion,
		},
	}
	switch report.Kind {
	case driver.Preempted:
		e.Type, e.Reason, e.Action = corev1.EventTypeNormal, "Preempted", "Preempting"
		e.Note = report.Message
		by := report.By
		e.ReportingController = by.Spec.SchedulerName
		e.ReportingInstance = truncate(by.Spec.SchedulerName+"-"+r.config.Identity, instanceLimit, "")
		e.Related = &corev1.ObjectReference{
			Kind: "Pod", APIVersion: "v1", Namespace: by.Namespace, Name: by.Name, UID: by.UID, ResourceVersion: by.ResourceVersion,
		}
	case driver.Scheduled:
		e.Type, e.Reason, e.Action = corev1.EventTypeNormal, "Scheduled", "Binding"
		e.Note = "Successfully assigned " + p.Namespace + "/" + p.Name + " to " + report.Node
	default:
		e.Type, e.Reason, e.Action = corev1.EventTypeWarning, "FailedScheduling", "Scheduling"
		e.Note = report.Message
	}
	e.Note = truncate(e.Note, noteLimit, " ...")
	return e
}

// instanceLimit is the most bytes that the API server takes as reportingInstance.
const instanceLimit = 128

// truncate cuts between characters, which are not always one byte.
func truncate(s string, limit int, suffix string) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit-len(suffix)], "") + suffix
}

// transient says whether another try may go better: always, unless the API server
// said no.
func transient(err error) bool {
	status, ok := err.(apierrors.APIStatus)
	if !ok {
		return true
	}
	code := status.Status().Code
	return code < 400 || code >= 500 || code == http.StatusConflict || code == http.StatusRequestTimeout || code == http.StatusTooManyRequests
}

func (r *Reporter) count(report driver.Report, result string) {
	kind := map[driver.ReportKind]string{driver.Scheduled: "scheduled", driver.FailedScheduling: "failed_scheduling", driver.Preempted: "preempted"}[report.Kind]
	r.reports.WithLabelValues(kind, result).Inc()
}
