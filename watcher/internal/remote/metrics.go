package remote

import "github.com/prometheus/client_golang/prometheus"

// metrics count what replicas are fed, by decider: the target.
type metrics struct {
	bytes, records, rejected *prometheus.CounterVec
	states                   *prometheus.CounterVec // and by reason
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
	}
}

var syncLag = prometheus.NewDesc("berth_watcher_sync_lag_versions",
	"How many versions of the state a replica of a decider is behind; absent while it is not fed.", []string{"decider", "replica"}, nil)

// Describe implements prometheus.Collector.
func (p *Pool) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range []prometheus.Collector{p.metrics.bytes, p.metrics.records, p.metrics.rejected, p.metrics.states} {
		c.Describe(ch)
	}
	ch <- syncLag
}

// Collect implements prometheus.Collector.
func (p *Pool) Collect(ch chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{p.metrics.bytes, p.metrics.records, p.metrics.rejected, p.metrics.states} {
		c.Collect(ch)
	}
	for _, t := range p.targets {
		for _, r := range t.all() {
			if fed := r.progress(); fed.held > 0 {
				ch <- prometheus.MustNewConstMetric(syncLag, prometheus.GaugeValue, float64(max(p.feed.last(), fed.held)-fed.held), t.name, r.address)
			}
		}
	}
}
