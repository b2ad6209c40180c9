package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-scheduler/berth/watcher/internal/signal"
)

// nodeMetricsPath is where the metrics API, which metrics-server serves, lists what
// nodes use.
const nodeMetricsPath = "/apis/metrics.k8s.io/v1beta1/nodes"

// usage is what a node used, in thousandths of cores and bytes, over some seconds
// before at.
type usage struct {
	cpu, memory int64
	at          time.Time
}

// nodeMetrics reads the metrics API: what each node uses by its name, and by the same
// name why an entry of the list cannot be used.
func (c *Client) nodeMetrics(ctx context.Context) (map[string]usage, map[string]error, error) {
	raw, err := c.main.Discovery().RESTClient().Get().AbsPath(nodeMetricsPath).SetHeader("Accept", "application/json").DoRaw(ctx)
	switch {
	case apierrors.IsNotFound(err), apierrors.IsServiceUnavailable(err):
		return nil, nil, fmt.Errorf("%w: install metrics-server or another metrics API, or set --signal-metrics-interval=0", err)
	case apierrors.IsForbidden(err):
		return nil, nil, fmt.Errorf("%w: apply deploy/base/access, which allows it", err)
	case err != nil:
		return nil, nil, err
	}
	return readNodeMetrics(raw)
}

// readNodeMetrics reads a NodeMetricsList. Its entries are read one by one, so that a
// bad one costs no other.
func readNodeMetrics(raw []byte) (map[string]usage, map[string]error, error) {
	var list struct {
		Kind  string
		Items []json.RawMessage
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, nil, fmt.Errorf("the metrics API's answer is not a NodeMetricsList: %w", err)
	}
	if list.Kind != "NodeMetricsList" {
		return nil, nil, fmt.Errorf("the metrics API's answer is of kind %q, want NodeMetricsList", list.Kind)
	}
	all, bad := map[string]usage{}, map[string]error{}
	for i, item := range list.Items {
		var named struct{ Metadata struct{ Name string } }
		if err := json.Unmarshal(item, &named); err != nil || named.Metadata.Name == "" {
			return nil, nil, fmt.Errorf("the metrics API's answer: items[%d] has no metadata.name", i)
		}
		used, err := readUsage(item)
		if err != nil {
			bad[named.Metadata.Name] = err
			continue
		}
		all[named.Metadata.Name] = used
	}
	return all, bad, nil
}

func readUsage(item []byte) (usage, error) {
	var entry struct {
		Timestamp metav1.Time
		Usage     map[corev1.ResourceName]string // text, since a quantity that cannot be read names no field
	}
	if err := json.Unmarshal(item, &entry); err != nil {
		return usage{}, err
	}
	out := usage{at: entry.Timestamp.Time}
	if out.at.IsZero() {
		return usage{}, fmt.Errorf("timestamp: required, since a value without one would never be too old")
	}
	for _, one := range []struct {
		name corev1.ResourceName
		into *int64
	}{{corev1.ResourceCPU, &out.cpu}, {corev1.ResourceMemory, &out.memory}} {
		value, err := signal.Parse(entry.Usage[one.name])
		if err != nil {
			return usage{}, fmt.Errorf("usage.%s: %w", one.name, err)
		}
		*one.into = value.Milli
	}
	return out, nil
}
