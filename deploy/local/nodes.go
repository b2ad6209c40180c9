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

// simulatedNode returns the i-th simulated node, counted from 0. It is born
// Ready and with every label that the controller manager would add, because
// each later write to it costs the API server as much as its creation.
func simulatedNode(i int) node {
	name := fmt.Sprintf("node-%05d", i)
	capacity := map[string]string{"cpu": "32", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "110"}
	return node{
		APIVersion: "v1",
		Kind:       "Node",
		Metadata: nodeMeta{
			Name: name,
			Labels: map[string]string{
				"beta.kubernetes.io/arch":       "amd64",
				"beta.kubernetes.io/os":         "linux",
				"kubernetes.io/arch":            "amd64",
				"kubernetes.io/hostname":        name,
				"kubernetes.io/os":              "linux",
				"topology.kubernetes.io/region": "local",
				"topology.kubernetes.io/zone":   zones[i%len(zones)],
			},
			Annotations: map[string]string{"kwok.x-k8s.io/node": "fake"},
		},
		Status: nodeStatus{
			Capacity:    capacity,
			Allocatable: capacity,
			Conditions:  []condition{{Type: "Ready", Status: "True", Reason: "Simulated"}},
		},
	}
}

// usable says whether a pod without tolerations may be bound to n: it is Ready,
// and the controller manager has taken away the taint that admission gives to
// every new node.
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
func createNodes(ctx context.Context, server *api, count int) error {
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
				errs[w] = server.create(ctx, "/api/v1/nodes", simulatedNode(i))
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("creating nodes: %w", err)
	}

	return awaitNodes(ctx, server, count)
}

// awaitNodes waits until count nodes are usable. How long that takes depends on
// count and machine, so it gives up only after readyTimeout without progress.
func awaitNodes(ctx context.Context, server *api, count int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stuck := time.AfterFunc(readyTimeout, cancel)
	defer stuck.Stop()
	best := -1
	// A list costs in proportion to the nodes, so a large one is asked less often.
	interval := pollInterval + time.Duration(count)*time.Millisecond/5
	err := poll(ctx, interval, func(ctx context.Context) error {
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
		if ready > best {
			best = ready
			stuck.Reset(readyTimeout)
		}
		if ready < count {
			return fmt.Errorf("%d of %d nodes are Ready and untainted", ready, count)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("waiting for nodes: %w", err)
	}
	return nil
}
