package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// The few fields of a Node that the simulated ones have, in the API's JSON.
type (
	node struct {
		APIVersion string     `json:"apiVersion"`
		Kind       string     `json:"kind"`
		Metadata   nodeMeta   `json:"metadata"`
		Spec       nodeSpec   `json:"spec"`
		Status     nodeStatus `json:"status"`
	}
	nodeMeta struct {
		Name        string            `json:"name"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	nodeSpec struct {
		Taints []taint `json:"taints,omitempty"`
	}
	taint struct {
		Key string `json:"key"`
	}
	nodeStatus struct {
		Capacity    map[string]string `json:"capacity"`
		Allocatable map[string]string `json:"allocatable"`
		Conditions  []condition       `json:"conditions,omitempty"`
	}
	condition struct {
		Type   string `json:"type"`
		Status string `json:"status"`
		Reason string `json:"reason"`
	}
)

// zones are taken in turn by the simulated nodes.
var zones = []string{"zone-a", "zone-b", "zone-c"}

// simulatedNode returns the i-th simulated node, counted from 0. A bare cluster
// has nobody who would make it Ready, so there it is born so.
func simulatedNode(i int, bare bool) node {
	name := fmt.Sprintf("node-%05d", i)
	capacity := map[string]string{"cpu": "32", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "110"}
	n := node{
		APIVersion: "v1",
		Kind:       "Node",
		Metadata: nodeMeta{
			Name: name,
			Labels: map[string]string{
				"kubernetes.io/arch":            "amd64",
				"kubernetes.io/hostname":        name,
				"kubernetes.io/os":              "linux",
				"topology.kubernetes.io/region": "local",
				"topology.kubernetes.io/zone":   zones[i%len(zones)],
			},
			Annotations: map[string]string{"kwok.x-k8s.io/node": "fake"},
		},
		Status: nodeStatus{Capacity: capacity, Allocatable: capacity},
	}
	if bare {
		n.Status.Conditions = []condition{{Type: "Ready", Status: "True", Reason: "Simulated"}}
	}
	return n
}

// usable says whether a pod without tolerations may be bound to n: it is Ready,
// and the controller manager has taken away the taint that a node is born with.
func (n node) usable() bool {
	if len(n.Spec.Taints) > 0 {
		return false
	}
	for _, c := range n.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}

// createNodes creates count simulated nodes and waits until all are usable.
func createNodes(ctx context.Context, server *api, count int, bare bool) error {
	const workers = 16
	var (
		next atomic.Int64
		wg   sync.WaitGroup
		errs [workers]error
	)
	for w := range workers {
		wg.Go(func() {
			for errs[w] == nil {
				i := int(next.Add(1)) - 1
				if i >= count {
					return
				}
				errs[w] = server.create(ctx, "/api/v1/nodes", simulatedNode(i, bare))
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("creating nodes: %w", err)
	}

	// A list costs in proportion to the nodes, so a large one is asked less often.
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	interval := pollInterval + time.Duration(count)*time.Millisecond/5
	return poll(ctx, interval, func(ctx context.Context) error {
		var list struct{ Items []node }
		if err := server.get(ctx, "/api/v1/nodes?resourceVersion=0", &list); err != nil {
			return err
		}
		ready := 0
		for _, n := range list.Items {
			if n.usable() {
				ready++
			}
		}
		if ready < count {
			return fmt.Errorf("%d of %d nodes are Ready and untainted", ready, count)
		}
		return nil
	})
}
