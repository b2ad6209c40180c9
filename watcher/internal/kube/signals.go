package kube

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/berth-scheduler/berth/watcher/internal/driver"
	"github.com/berth-scheduler/berth/watcher/internal/signal"
)

// The signals made from the metrics API: used of allocatable, as `kubectl top nodes`
// shows it. A share compares nodes of different sizes, which cores and bytes do not.
const (
	CPUUtilization    = "cpu-utilization"
	MemoryUtilization = "memory-utilization"
)

// SignalsConfig says where nodes' signals come from and which are worth telling.
type SignalsConfig struct {
	// AnnotationPrefix is what the keys of annotations that are signals begin with;
	// empty means that none are. The watch has to be told too: see Config.
	AnnotationPrefix string
	// MetricsInterval is how often the metrics API is read; 0 means never.
	MetricsInterval time.Duration
	// Signal says when a value is too old and when a change is too small.
	Signal signal.Config
	// Registerer takes the metrics; nil means that nobody reads them.
	Registerer prometheus.Registerer
}

// Signals turns nodes' annotations and the metrics API into driver.SignalsChanged.
// Use NewSignals.
type Signals struct {
	client  *Client
	config  SignalsConfig
	deliver func(driver.Event)

	values    prometheus.Gauge
	withdrawn prometheus.Counter
	errors    *prometheus.CounterVec

	mu      sync.Mutex // held during deliver, so that changes arrive in order
	store   *signal.Store
	nodes   map[string]*signalled   // those that exist
	usage   map[string]signal.Usage // what the metrics API said last
	counted int                     // of the values withdrawn for their age
	next    time.Time               // when the next one will be
	moved   chan struct{}           // says that next is another
}

// signalled is a node with what its signals are made from.
type signalled struct {
	cpu, memory float64           // allocatable, in thousandths of cores and bytes
	annotations map[string]string // under the prefix
	unreadable  map[string]bool   // the keys of those that cannot be read
}

// The sources of signals, as the label of the errors' counter.
const (
	sourceAnnotation = "annotation"
	sourceMetrics    = "metrics"
)

// metricsTimeout bounds one read of the metrics API.
const metricsTimeout = 30 * time.Second

// NewSignals returns signals of no node. deliver is called with every change worth
// telling, one at a time.
func NewSignals(client *Client, config SignalsConfig, deliver func(driver.Event)) *Signals {
	s := &Signals{
		client:  client,
		config:  config,
		deliver: deliver,
		values: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "berth_watcher_signals",
			Help: "Values of nodes' signals that are known and not too old."}),
		withdrawn: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "berth_watcher_signals_withdrawn_total",
			Help: "Values of nodes' signals that became too old before a new one came."}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "berth_watcher_signal_errors_total",
			Help: "What could not be read as a signal, by source: annotation (one value), metrics (the metrics API as a whole, or one node of it)."},
			[]string{"source"}),
		store: signal.New(config.Signal),
		nodes: map[string]*signalled{},
		moved: make(chan struct{}, 1),
	}
	for _, source := range []string{sourceAnnotation, sourceMetrics} {
		s.errors.WithLabelValues(source) // there from the start, for alerts
	}
	if config.Registerer != nil {
		config.Registerer.MustRegister(s.values, s.withdrawn, s.errors)
	}
	return s
}

// Observe takes what the watch has delivered, after the receiver of SignalsChanged
// has been given it: signals are told of nodes that were announced. It may be called
// concurrently.
func (s *Signals) Observe(ev driver.Event) {
	switch ev := ev.(type) {
	case driver.NodeChanged:
		s.nodeChanged(time.Now(), ev.Node)
	case driver.NodeGone:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.store.Forget(ev.Node.Name)
		delete(s.nodes, ev.Node.Name)
	}
}

// Run reads the metrics API, if it is to be read, and withdraws what becomes too old,
// until ctx ends. It may be called once.
func (s *Signals) Run(ctx context.Context) {
	var polling sync.WaitGroup
	defer polling.Wait()
	if s.config.MetricsInterval > 0 {
		polling.Go(func() { s.poll(ctx) })
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.moved:
		case <-timer.C:
		}
		s.mu.Lock()
		s.tell(time.Now())
		next := s.next
		s.mu.Unlock()
		timer.Stop()
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

func (s *Signals) nodeChanged(now time.Time, node *corev1.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[node.Name]
	if n == nil {
		n = &signalled{unreadable: map[string]bool{}}
		s.nodes[node.Name] = n
	}
	n.cpu = node.Status.Allocatable.Cpu().AsApproximateFloat64() * 1000
	n.memory = node.Status.Allocatable.Memory().AsApproximateFloat64() * 1000
	s.annotated(now, node, n)
	s.utilized(now, node.Name, n)
	s.tell(now)
}

// annotated observes the annotations that are not as they were. One that cannot be
// read is counted each time it changes, and complained about until it can be.
func (s *Signals) annotated(now time.Time, node *corev1.Node, n *signalled) {
	before := n.annotations
	n.annotations = withPrefix(node.Annotations, s.config.AnnotationPrefix)
	for _, a := range signal.Annotations(s.config.AnnotationPrefix, n.annotations) {
		if text, ok := before[a.Key]; ok && text == n.annotations[a.Key] {
			continue
		}
		if a.Err == nil {
			delete(n.unreadable, a.Key)
			s.store.Observe(now, node.Name, a.Name, a.Value)
			continue
		}
		s.store.Withdraw(node.Name, a.Name)
		s.errors.WithLabelValues(sourceAnnotation).Inc()
		if !n.unreadable[a.Key] {
			n.unreadable[a.Key] = true
			klog.Background().Info("Node has no such signal until its annotation can be read", "node", node.Name, "annotation", a.Key, "err", a.Err)
		}
	}
	for key := range before {
		if _, ok := n.annotations[key]; !ok {
			delete(n.unreadable, key)
			s.store.Withdraw(node.Name, strings.TrimPrefix(key, s.config.AnnotationPrefix))
		}
	}
}

// utilized observes what the metrics API has said of a node. An annotation that is
// the same signal stands, so that people can overrule it.
func (s *Signals) utilized(now time.Time, name string, n *signalled) {
	used, ok := s.usage[name]
	if !ok {
		return
	}
	for _, one := range []struct {
		signal    string
		used, all float64
	}{{CPUUtilization, float64(used.CPU), n.cpu}, {MemoryUtilization, float64(used.Memory), n.memory}} {
		if _, overruled := n.annotations[s.config.AnnotationPrefix+one.signal]; overruled {
			continue
		}
		if share, ok := signal.Share(one.used, one.all); ok {
			s.store.Observe(now, name, one.signal, signal.Value{Milli: share, At: used.At})
		} else {
			s.store.Withdraw(name, one.signal) // the node has none to have a share of
		}
	}
}

// tell delivers what is worth telling and withdraws what is too old.
func (s *Signals) tell(now time.Time) {
	changes, next := s.store.Step(now)
	for _, change := range changes {
		s.deliver(driver.SignalsChanged{Node: change.Node, Signals: change.Signals})
	}
	s.values.Set(float64(s.store.Live()))
	s.withdrawn.Add(float64(s.store.Withdrawn() - s.counted))
	s.counted = s.store.Withdrawn()
	if !next.Equal(s.next) {
		s.next = next
		select {
		case s.moved <- struct{}{}:
		default: // it is said already
		}
	}
}

// poll reads the metrics API again and again. A fault is complained about when it
// begins, when it becomes another, and when it is over.
func (s *Signals) poll(ctx context.Context) {
	log := klog.FromContext(ctx)
	ticker := time.NewTicker(s.config.MetricsInterval)
	defer ticker.Stop()
	failing, reason, unusable := false, metav1.StatusReasonUnknown, map[string]error{}
	for {
		all, bad, err := s.read(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.errors.WithLabelValues(sourceMetrics).Inc()
			if now := apierrors.ReasonForError(err); !failing || now != reason {
				failing, reason = true, now
				log.Info("Reading the metrics API failed and will be tried again", "interval", s.config.MetricsInterval, "err", err)
			}
		default:
			if failing {
				failing = false
				log.Info("Reading the metrics API works again")
			}
			for _, node := range slices.Sorted(maps.Keys(bad)) {
				s.errors.WithLabelValues(sourceMetrics).Inc()
				if unusable[node] == nil {
					log.Info("The metrics API's entry for a node cannot be used", "node", node, "err", bad[node])
				}
			}
			unusable = bad
			s.used(time.Now(), all)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (s *Signals) read(ctx context.Context) (map[string]signal.Usage, map[string]error, error) {
	ctx, cancel := context.WithTimeout(ctx, metricsTimeout)
	defer cancel()
	return s.client.nodeMetrics(ctx)
}

// used takes a list of the metrics API. Nodes that are not in it keep what was said
// of them until that is too old, and nodes that do not exist yet get it when they do.
func (s *Signals) used(now time.Time, all map[string]signal.Usage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.usage = all
	for name, n := range s.nodes {
		s.utilized(now, name, n)
	}
	s.tell(now)
}

// withPrefix are the annotations whose keys begin with the prefix; nil for none, and
// for an empty prefix.
func withPrefix(annotations map[string]string, prefix string) map[string]string {
	var out map[string]string
	for key, text := range annotations {
		if prefix != "" && strings.HasPrefix(key, prefix) {
			if out == nil {
				out = map[string]string{}
			}
			out[key] = text
		}
	}
	return out
}
