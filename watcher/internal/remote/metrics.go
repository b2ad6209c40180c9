package remote

import "github.com/prometheus/client_golang/prometheus"

// metrics count what replicas are fed and how batches are hedged, by decider: the target.
type metrics struct {
	bytes, records, rejected *prometheus.CounterVec
	states                   *prometheus.CounterVec // and by reason
	hedges, hedgesWon        *prometheus.CounterVec
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.bytes, m.records, m.rejected, m.states, m.hedges, m.hedgesWon}
}

func newMetrics() *metrics {
	return &metrics{
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "berth_watcher_sync_bytes_total",
			Help: "Encoded records that were fed to deciders, in bytes."},
			[]string{"decider"}),
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "berth_watcher_sync_records_total",
			Help: "Records that were fed to deciders, those that were removed included."},
			[]string{"decider"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "berth_watcher_sync_rejected_records_total",
			Help: "Records that a decider could not use."},
			[]string{"decider"}),
		states: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "berth_watcher_sync_states_total",
			Help: "Whole states that were fed to deciders, by reason: connected, requested (the decider asked for it), behind (it could not keep up)."},
			[]string{"decider", "reason"}),
		hedges: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "berth_watcher_hedges_total",
			Help: "Batches that were sent to a second replica of a decider because the first one took longer than 99 of 100 batches did of late."},
			[]string{"decider"}),
		hedgesWon: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "berth_watcher_hedges_won_total",
			Help: "Those of them that the second replica answered and the first one did not."},
			[]string{"decider"}),
	}
}

var syncLag = prometheus.NewDesc("berth_watcher_sync_lag_versions",
	"How many versions of the state a replica of a decider is behind; absent while it is not fed.", []string{"decider", "replica"}, nil)

var breakerState = prometheus.NewDesc("berth_watcher_breaker_state",
	"Whether a replica of a decider is avoided because it failed: 0 no (closed), 1 it is tried with one batch (half-open), 2 yes (open).",
	[]string{"decider", "replica"}, nil)

// Describe implements prometheus.Collector.
func (p *Pool) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range p.metrics.all() {
		c.Describe(ch)
	}
	ch <- syncLag
	ch <- breakerState
}

// Collect implements prometheus.Collector.
func (p *Pool) Collect(ch chan<- prometheus.Metric) {
	for _, c := range p.metrics.all() {
		c.Collect(ch)
	}
	for _, t := range p.targets {
		for _, r := range t.all() {
			ch <- prometheus.MustNewConstMetric(breakerState, prometheus.GaugeValue, float64(t.breaker(r)), t.name, r.address)
			if fed := r.progress(); fed.held > 0 {
				ch <- prometheus.MustNewConstMetric(syncLag, prometheus.GaugeValue, float64(max(p.feed.last(), fed.held)-fed.held), t.name, r.address)
			}
		}
	}
}
