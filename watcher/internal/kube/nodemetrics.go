package kube

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/berth-scheduler/berth/watcher/internal/signal"
)

// nodeMetricsPath is where the metrics API, which metrics-server serves, lists what
// nodes use.
const nodeMetricsPath = "/apis/metrics.k8s.io/v1beta1/nodes"

// nodeMetrics reads the metrics API: what each node uses by its name, and by the same
// name why an entry of the list cannot be used.
func (c *Client) nodeMetrics(ctx context.Context) (map[string]signal.Usage, map[string]error, error) {
	raw, err := c.main.Discovery().RESTClient().Get().AbsPath(nodeMetricsPath).SetHeader("Accept", "application/json").DoRaw(ctx)
	switch {
	case apierrors.IsNotFound(err), apierrors.IsServiceUnavailable(err):
		return nil, nil, fmt.Errorf("%w: install metrics-server or another metrics API, or set --signal-metrics-interval=0", err)
	case apierrors.IsForbidden(err):
		return nil, nil, fmt.Errorf("%w: apply deploy/base/access, which allows it", err)
	case err != nil:
		return nil, nil, err
	}
	return signal.ReadNodeMetrics(raw)
}
