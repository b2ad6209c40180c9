package policy_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-scheduler/berth/decider/policy"
	"github.com/berth-scheduler/berth/decider/service"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/scenario"
)

// decide asks a decider with policy p and returns its decisions as text.
func decide(t *testing.T, p policy.Policy, seed uint64, cluster, pods string) []string {
	t.Helper()
	state, err := scenario.ParseCluster(cluster)
	if err != nil {
		t.Fatal(err)
	}
	records, err := scenario.ParsePods(pods)
	if err != nil {
		t.Fatal(err)
	}
	s, err := service.New(service.Config{Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.Decide(context.Background(), &berthv1.DecideRequest{
		State: &berthv1.DecideRequest_Snapshot{Snapshot: state}, Pods: records, Seed: seed,
	})
	if err != nil {
		t.Fatal(err)
	}
	var nodes []string
	for _, d := range response.Decisions {
		nodes = append(nodes, d.GetCandidates()[0].GetNodeName())
	}
	return nodes
}

const three = "a cpu=2 memory=1Gi\nb cpu=8 memory=8Gi\nc cpu=4 memory=4Gi"

func TestFirst(t *testing.T) {
	for seed := range uint64(5) {
		got := decide(t, policy.First(), seed, three, "one cpu=1\ntwo cpu=1\nthree cpu=1")
		if diff := cmp.Diff([]string{"a", "a", "b"}, got); diff != "" {
			t.Errorf("seed %d: %s", seed, diff)
		}
	}
}

func TestDefaultSpreads(t *testing.T) {
	got := decide(t, policy.Default(), 0, three, "one cpu=1 memory=1Gi\ntwo cpu=4 memory=4Gi\nthree cpu=1")
	if diff := cmp.Diff([]string{"b", "b", "c"}, got); diff != "" {
		t.Error(diff)
	}
}

// Random answers alike when it is asked again and takes every node at times.
func TestRandom(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(50) {
		pods := "p\nq\nr\ns"
		first, again := decide(t, policy.Random(), seed, three, pods), decide(t, policy.Random(), seed, three, pods)
		if diff := cmp.Diff(first, again); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
		for _, node := range first {
			seen[node]++
		}
	}
	for _, node := range []string{"a", "b", "c"} {
		// 200 draws from three nodes: fewer than 30 for one of them is beyond
		// five standard deviations.
		if seen[node] < 30 {
			t.Errorf("%s was taken %d times out of 200", node, seen[node])
		}
	}
}

func TestNamed(t *testing.T) {
	for _, name := range []string{"default", "first", "random"} {
		if p, err := policy.Named(name); err != nil || p.Name() != name {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	if _, err := policy.Named("best"); err == nil || err.Error() != `unknown policy "best": it is one of default, first, random` {
		t.Error(err)
	}
}
