package kube

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/berth-scheduler/berth/watcher/encode"
)

// List reads by quorum everything that is watched, each kind at a version of its
// own.
func (c *Client) List(ctx context.Context) (*encode.Objects, error) {
	const everywhere = metav1.NamespaceAll
	core, apps, policy := c.main.CoreV1(), c.main.AppsV1(), c.main.PolicyV1()
	var options metav1.ListOptions
	out := &encode.Objects{}
	for _, kind := range []struct {
		name string
		list func() (runtime.Object, error)
	}{
		{"nodes", func() (runtime.Object, error) { return core.Nodes().List(ctx, options) }},
		{"pods", func() (runtime.Object, error) { return core.Pods(everywhere).List(ctx, options) }},
		{"namespaces", func() (runtime.Object, error) { return core.Namespaces().List(ctx, options) }},
		{"services", func() (runtime.Object, error) { return core.Services(everywhere).List(ctx, options) }},
		{"replicationcontrollers", func() (runtime.Object, error) { return core.ReplicationControllers(everywhere).List(ctx, options) }},
		{"replicasets", func() (runtime.Object, error) { return apps.ReplicaSets(everywhere).List(ctx, options) }},
		{"statefulsets", func() (runtime.Object, error) { return apps.StatefulSets(everywhere).List(ctx, options) }},
		{"poddisruptionbudgets", func() (runtime.Object, error) { return policy.PodDisruptionBudgets(everywhere).List(ctx, options) }},
	} {
		list, err := kind.list()
		if err == nil {
			err = meta.EachListItem(list, func(o runtime.Object) error { out.Add(o); return nil })
		}
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", kind.name, err)
		}
	}
	return out, nil
}
