package remote

import "github.com/prometheus/client_golang/prometheus"

// metrics count what replicas are fed, by decider: the target.
type metrics struct {
	bytes, records, rejected *prometheus.CounterVec
	states                   *prometheus.CounterVec // and by reason
}

func newMetrics() *metrics {
	byDecider := func(name, help string, more ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"decider"}, more...))
	}
	return &metrics{
		bytes:    byDecider("berth_watcher_sync_bytes_total", "Encoded records that were fed to deciders, in bytes."),
		records:  byDecider("berth_watcher_sync_records_total", "Records that were fed to deciders, those that were removed included."),
		rejected: byDecider("berth_watcher_sync_rejected_records_total", "Records that a decider could not use."),
		states: byDecider("berth_watcher_sync_states_total", "Whole states that were fed to deciders, by reason: connected, requested (the decider asked for it), behind (it could not keep up).",
			"reason"),
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
