package loop

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/watcher/internal/driver"
	"github.com/berth-scheduler/berth/watcher/internal/remote"
)

// Metrics are the watcher's. Where kube-scheduler has a stable metric of the same
// meaning its name, labels and buckets are used, so that dashboards made for it
// work; the others begin with berth_watcher_. Use NewMetrics.
type Metrics struct {
	attempts        *prometheus.CounterVec
	attemptDuration *prometheus.HistogramVec
	podAttempts     prometheus.Histogram
	sli             *prometheus.HistogramVec
	decide          *prometheus.HistogramVec
	errors          *prometheus.CounterVec
	retries         prometheus.Counter
	binds           *prometheus.CounterVec
	bindDuration    prometheus.Histogram
	batchPods       prometheus.Histogram
	evictions       *prometheus.CounterVec
	preemptions     prometheus.Counter
	victims         prometheus.Histogram

	stats func() *driver.Stats // set by New
}

// kube-scheduler's buckets, pkg/scheduler/metrics/metrics.go.
var (
	attemptBuckets = prometheus.ExponentialBuckets(0.001, 2, 15)
	sliBuckets     = prometheus.ExponentialBuckets(0.01, 2, 20)
)

// NewMetrics returns metrics that are registered nowhere yet.
func NewMetrics() *Metrics {
	return &Metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scheduler_schedule_attempts_total",
			Help: "Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, while 'error' means an internal scheduler problem."},
			[]string{"result", "profile"}),
		attemptDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "scheduler_scheduling_attempt_duration_seconds", Buckets: attemptBuckets,
			Help: "Time from asking a decider about a pod to its answer; for scheduled pods, to the API server's answer to the binding."},
			[]string{"result", "profile"}),
		podAttempts: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "scheduler_pod_scheduling_attempts", Buckets: prometheus.ExponentialBuckets(1, 2, 5),
			Help: "Number of attempts to successfully schedule a pod."}),
		sli: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "scheduler_pod_scheduling_sli_duration_seconds", Buckets: sliBuckets,
			Help: "Time from a pod's creation to its binding; the API server gives creation times in whole seconds."},
			[]string{"attempts"}),
		decide: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "berth_watcher_decide_duration_seconds", Buckets: attemptBuckets,
			Help: "Time of one Decide call as the watcher sees it, by decider and gRPC code."},
			[]string{"decider", "code"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "berth_watcher_decider_errors_total",
			Help: "Decide calls that failed, by decider and gRPC code."},
			[]string{"decider", "code"}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "berth_watcher_decide_retries_total",
			Help: "Batches that were sent to another decider because one did not answer."}),
		binds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "berth_watcher_binds_total",
			Help: "Bindings by outcome: ok, gone (404), conflict (409), refused (other 4xx), unknown (the API server did not say), not-sent (this process may not bind any more)."},
			[]string{"outcome"}),
		bindDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "berth_watcher_bind_duration_seconds", Buckets: attemptBuckets,
			Help: "Time of one binding as the watcher sees it."}),
		batchPods: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "berth_watcher_batch_pods", Buckets: prometheus.ExponentialBuckets(1, 2, 12),
			Help: "Pods per batch."}),
		evictions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "berth_watcher_evictions_total",
			Help: "Evictions of pods to make room for others, by outcome: ok, gone (404), refused (other 4xx), unknown (the API server did not say), not-sent (this process may not evict any more)."},
			[]string{"outcome"}),
		preemptions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "scheduler_preemption_attempts_total",
			Help: "Total preemption attempts in the cluster till now."}),
		victims: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "scheduler_preemption_victims", Buckets: prometheus.ExponentialBuckets(1, 2, 7),
			Help: "Number of selected preemption victims."}),
		stats: func() *driver.Stats { return &driver.Stats{} },
	}
}

func (m *Metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.attempts, m.attemptDuration, m.podAttempts, m.sli, m.decide, m.errors, m.retries, m.binds, m.bindDuration, m.batchPods,
		m.evictions, m.preemptions, m.victims}
}

var (
	pendingPods = prometheus.NewDesc("scheduler_pending_pods",
		"Number of pending pods, by the queue type. 'active' includes pods that are being decided.", []string{"queue"}, nil)
	cacheSize = prometheus.NewDesc("scheduler_cache_size",
		"Number of nodes, pods, and assumed pods in the ledger.", []string{"type"}, nil)
	refusalsTotal = prometheus.NewDesc("berth_watcher_refusals_total",
		"Decisions that were not carried out because they would have been wrong, by decider and reason.", []string{"decider", "reason"}, nil)
	staleTotal = prometheus.NewDesc("berth_watcher_stale_decisions_total",
		"Decisions that were asked again because the cluster had changed in between.", nil, nil)
	nettedTotal = prometheus.NewDesc("berth_watcher_netted_pods_total",
		"Pods that were tried again only because they had waited five minutes: each is a missed wake-up.", nil, nil)
	conflictsTotal = prometheus.NewDesc("berth_watcher_conflicts_total",
		"Placements whose room was promised out of another batch meanwhile, by what became of the pod: next (it got the next node that the decider had named) or again (it was asked about again).", []string{"result"}, nil)
	racesTotal = prometheus.NewDesc("berth_watcher_races_total",
		"What came of others binding pods at the same time: pod (they bound one that was being decided about or bound), node (they put one where it and ours are more than fits).", []string{"kind"}, nil)
	preemptionsNow = prometheus.NewDesc("berth_watcher_preemptions",
		"Preemptions that are being carried out.", nil, nil)
	bindingPods = prometheus.NewDesc("berth_watcher_binding_pods",
		"Pods whose binding has no known outcome yet.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.collectors() {
		c.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{pendingPods, cacheSize, refusalsTotal, staleTotal, nettedTotal, bindingPods, conflictsTotal, preemptionsNow, racesTotal} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.collectors() {
		c.Collect(ch)
	}
	s := m.stats()
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	counter := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(pendingPods, s.Active+s.Deciding, "active")
	gauge(pendingPods, s.Backoff, "backoff")
	gauge(pendingPods, s.Unschedulable, "unschedulable")
	gauge(pendingPods, s.Gated, "gated")
	gauge(cacheSize, s.Nodes, "nodes")
	gauge(cacheSize, s.Placed, "pods")
	gauge(cacheSize, s.Assumed, "assumed_pods")
	gauge(bindingPods, s.Binding)
	for r, n := range s.Refusals {
		counter(refusalsTotal, n, r.Decider, r.Reason)
	}
	counter(staleTotal, s.Stale)
	counter(conflictsTotal, s.Conflicts.Next, "next")
	counter(conflictsTotal, s.Conflicts.Again, "again")
	counter(racesTotal, s.Races.Pods, "pod")
	counter(racesTotal, s.Races.Nodes, "node")
	gauge(preemptionsNow, s.Preempting)
	counter(nettedTotal, s.Netted)
}

// decided counts one batch's outcome.
func (m *Metrics) decided(b *driver.Batch, decided driver.Decided, attempts []remote.Attempt, took time.Duration) {
	m.batchPods.Observe(float64(len(b.Request.GetPods())))
	for i, a := range attempts {
		m.decide.WithLabelValues(a.Decider, a.Code.String()).Observe(a.Duration.Seconds())
		if i > 0 {
			m.retries.Inc()
		}
		if a.Code != 0 {
			m.errors.WithLabelValues(a.Decider, a.Code.String()).Inc()
		}
	}
	if decided.Err != nil {
		m.attempts.WithLabelValues("error", b.SchedulerName).Add(float64(len(b.Request.GetPods())))
		return
	}
	for _, decision := range decided.Response.GetDecisions() {
		var result string
		switch decision.GetOutcome() {
		case berthv1.Outcome_OUTCOME_PLACED, berthv1.Outcome_OUTCOME_NOT_DECIDED:
			continue // counted when it is bound; asked again
		case berthv1.Outcome_OUTCOME_REJECTED:
			result = "unschedulable"
			if preemption := decision.GetPreemption(); preemption != nil {
				m.victims.Observe(float64(len(preemption.GetVictims())))
			}
			if decision.GetPreemption() != nil || decision.GetRejection().GetPreemption() != "" {
				m.preemptions.Inc()
			}
		default:
			result = "error"
		}
		m.attempts.WithLabelValues(result, b.SchedulerName).Inc()
		m.attemptDuration.WithLabelValues(result, b.SchedulerName).Observe(took.Seconds())
	}
}

// bound counts one binding's outcome.
func (m *Metrics) bound(b driver.Bind, outcome driver.BindOutcome, began time.Time) {
	now := time.Now()
	m.binds.WithLabelValues(outcome.String()).Inc()
	m.bindDuration.Observe(now.Sub(began).Seconds())
	profile := b.Pod.Spec.SchedulerName
	if outcome != driver.BindOK {
		m.attempts.WithLabelValues("error", profile).Inc()
		return
	}
	m.attempts.WithLabelValues("scheduled", profile).Inc()
	m.attemptDuration.WithLabelValues("scheduled", profile).Observe(now.Sub(b.Asked).Seconds())
	m.podAttempts.Observe(float64(b.Attempt))
	m.sli.WithLabelValues(attemptsLabel(b.Attempt)).Observe(now.Sub(since(b.Pod)).Seconds())
}

// since is when a pod could first be scheduled: its creation. Lifted scheduling
// gates are not accounted for, as kube-scheduler's initial attempt is not known to
// a watcher that was restarted.
func since(p *corev1.Pod) time.Time { return p.CreationTimestamp.Time }

// attemptsLabel is kube-scheduler's: from 15 on it is "15+".
func attemptsLabel(n int) string {
	if n >= 15 {
		return "15+"
	}
	return strconv.Itoa(n)
}
