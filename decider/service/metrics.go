package service

import (
	"strings"
	"time"

	grpcprometheus "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-scheduler/berth/decider/internal/index"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// metrics are the decider's own and those of its gRPC server.
type metrics struct {
	decisions *prometheus.CounterVec
	duration  prometheus.Histogram
	pods      prometheus.Histogram
	inFlight  prometheus.Gauge
	waiting   prometheus.Gauge

	commits, rejectedRecords prometheus.Counter
	resyncs                  *prometheus.CounterVec

	indexDecisions           *prometheus.CounterVec
	indexClasses, indexBytes prometheus.Gauge

	grpc *grpcprometheus.ServerMetrics
}

func newMetrics() *metrics {
	m := &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "berth_decider_decisions_total",
			Help: "Decisions, one per pod of a request, by outcome.",
		}, []string{"outcome"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "berth_decider_decide_duration_seconds",
			Help:    "Time from the arrival of a request to its answer, waiting included.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}),
		pods: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "berth_decider_request_pods",
			Help:    "Pods per request.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 14),
		}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "berth_decider_requests_in_flight",
			Help: "Requests that are being decided.",
		}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "berth_decider_requests_waiting",
			Help: "Requests that wait for their turn.",
		}),
		commits: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "berth_decider_sync_commits_total",
			Help: "Versions of the state that were taken.",
		}),
		rejectedRecords: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "berth_decider_sync_rejected_records_total",
			Help: "Records of the state that made no sense.",
		}),
		resyncs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "berth_decider_sync_resyncs_total",
			Help: "States that had to be fed anew, by reason: messages out of order (sequence), a commit from another version (version), another digest (digest), an internal error (failure).",
		}, []string{"reason"}),
		indexDecisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "berth_decider_index_decisions_total",
			Help: "Decisions on the state that is held, by what made them: the index (indexed), or a look at every node (plain) where that cannot or need not be.",
		}, []string{"solver"}),
		indexClasses: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "berth_decider_index_classes",
			Help: "Classes of equal pods that the index knew at the last decision.",
		}),
		indexBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "berth_decider_index_bytes",
			Help: "Bytes that those classes took, about.",
		}),
		grpc: grpcprometheus.NewServerMetrics(),
	}
	for _, reason := range resyncReasons {
		m.resyncs.WithLabelValues(reason)
	}
	// A series that is there from the start can be alerted on.
	for number := range berthv1.Outcome_name {
		if outcome := berthv1.Outcome(number); outcome != berthv1.Outcome_OUTCOME_UNSPECIFIED {
			m.decisions.WithLabelValues(outcomeLabel(outcome))
		}
	}
	return m
}

// register registers the metrics, with those of what is held.
func (m *metrics) register(r prometheus.Registerer, h *held) error {
	gauge := func(name, help string, value func(size) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(h.now()) })
	}
	for _, c := range []prometheus.Collector{
		m.decisions, m.duration, m.pods, m.inFlight, m.waiting, m.commits, m.rejectedRecords, m.resyncs,
		m.indexDecisions, m.indexClasses, m.indexBytes, m.grpc,
		gauge("berth_decider_state_version", "Version of the state that is held; 0 if there is none.",
			func(s size) float64 { return float64(s.version) }),
		gauge("berth_decider_state_nodes", "Nodes in the state that is held.",
			func(s size) float64 { return float64(s.nodes) }),
		gauge("berth_decider_state_placed_pods", "Placed pods in the state that is held.",
			func(s size) float64 { return float64(s.placedPods) }),
		gauge("berth_decider_state_bytes", "Bytes of encoded records in the state that is held.",
			func(s size) float64 { return float64(s.bytes) }),
	} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// observe counts an answered request.
func (m *metrics) observe(response *berthv1.DecideResponse, took time.Duration) {
	m.duration.Observe(took.Seconds())
	m.pods.Observe(float64(len(response.GetDecisions())))
	for _, d := range response.GetDecisions() {
		m.decisions.WithLabelValues(outcomeLabel(d.GetOutcome())).Inc()
	}
}

// observeIndex counts what the index did between before and after.
func (m *metrics) observeIndex(before, after index.Stats) {
	m.indexDecisions.WithLabelValues("indexed").Add(float64(after.Indexed - before.Indexed))
	m.indexDecisions.WithLabelValues("plain").Add(float64(after.Plain - before.Plain))
	m.indexClasses.Set(float64(after.Classes))
	m.indexBytes.Set(float64(after.Bytes))
}

// outcomeLabel turns OUTCOME_NOT_DECIDED into "not_decided".
func outcomeLabel(o berthv1.Outcome) string {
	return strings.ToLower(strings.TrimPrefix(o.String(), "OUTCOME_"))
}
