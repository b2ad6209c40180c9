package batch_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	schedconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/latest"

	"github.com/berth-scheduler/berth/decider/policy"
	"github.com/berth-scheduler/berth/decider/service"
	"github.com/berth-scheduler/berth/decider/upstream/batch"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/scenario"
)

// decide answers a request given as text, explained.
func decide(t *testing.T, config service.Config, cluster, pods string, edit func(*berthv1.DecideRequest)) *berthv1.DecideResponse {
	t.Helper()
	snapshot, err := scenario.ParseCluster(cluster)
	if err != nil {
		t.Fatal(err)
	}
	records, err := scenario.ParsePods(pods)
	if err != nil {
		t.Fatal(err)
	}
	request := &berthv1.DecideRequest{
		State: &berthv1.DecideRequest_Snapshot{Snapshot: snapshot}, Pods: records,
		Explanation: berthv1.ExplanationLevel_EXPLANATION_LEVEL_NODES,
	}
	if edit != nil {
		edit(request)
	}
	s, err := service.New(config)
	if err != nil {
		t.Fatal(err)
	}
	before := proto.Clone(request)
	response, err := s.Decide(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(before, request) {
		t.Error("the request was changed")
	}
	return response
}

func solver(t *testing.T) *batch.Solver {
	t.Helper()
	s, err := batch.New(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// comparable takes away what only one of the two deciders says: what would be
// worth another try, and what kube-scheduler says of resource claims.
func comparable(r *berthv1.DecideResponse) []*berthv1.Decision {
	for _, d := range r.GetDecisions() {
		if rejection := d.GetRejection(); rejection != nil {
			rejection.WakeConditions = nil
			for _, text := range []*string{&rejection.Message, &rejection.Preemption} {
				*text = strings.Replace(strings.Replace(*text, "no new claims to deallocate, ", "", 1), "preemption: ", "", 1)
			}
		}
		for _, n := range d.GetExplanation().GetNodes() {
			n.Scores = slices.DeleteFunc(n.Scores, func(s *berthv1.Score) bool { return s.GetRule() == "DynamicResources" })
		}
	}
	return r.GetDecisions()
}

// TestAsBerth has kube-scheduler's plugins and Berth's own rules decide the same
// requests: several pods each, of which later ones see what became of earlier ones.
func TestAsBerth(t *testing.T) {
	for name, test := range map[string]struct{ cluster, pods string }{
		"resources": {`
a cpu=2 memory=4Gi
b cpu=3 memory=2Gi
c cpu=1 memory=8Gi example.com/gpu=1
held on=a cpu=500m
`, `
p cpu=1
q cpu=1 memory=1Gi
r cpu=1 score-cpu=300m
s example.com/gpu=1
t example.com/gpu=1
u cpu=100
v
`},
		"nodes": {`
a zone=z1 disk=5 taint=gpu=yes:NoSchedule
b zone=z2 disk=50 unschedulable
c zone=z2 taint=old:PreferNoSchedule image:app:1=500000000
d zone=z1 feature=UserNamespacesHostNetworkSupport
`, `
p selector=zone=z1
q affinity=disk:Gt:7 toleration=gpu
r affinity=metadata.name:In:a toleration=gpu=yes:NoSchedule
s prefer=10:zone:In:z2 prefer=5:zone:Exists image=app:1 image=side:2
t feature=UserNamespacesHostNetworkSupport
u port=80
v port=80
w port=1.2.3.4:80
y toleration= node=a
`},
		"pods": {`
a zone=z1 host=a
b zone=z1 host=b
c zone=z2 host=c
d host=d
namespace default team=x
namespace other team=y
w1 on=a app=web
w2 on=c app=web terminating
db on=b app=db namespace=other pod-anti-affinity=host:app=lonely;namespaces=,default
`, `
p app=web spread=zone:1:DoNotSchedule:app=web
q app=web spread=zone:1:DoNotSchedule:app=web;min=3
r app=web spread=host:1:ScheduleAnyway:app=web
s pod-affinity=zone:app=web
t pod-affinity=zone:app=none
u app=self pod-affinity=zone:app=self
v app=self pod-anti-affinity=host:app=self
w app=lonely prefer-pod=7:host:app=db;namespace-selector=team=y
x app=web spread-selector=app=web
`},
		"preemption": {`
a cpu=2
b cpu=2
c cpu=2
a1 on=a cpu=1 priority=1 start=100
a2 on=a cpu=1 priority=1 start=200 app=web
b1 on=b cpu=2 priority=2 start=100
c1 on=c cpu=2 priority=9 start=100
budget /web selector=app=web allowed=0
`, `
p cpu=1 priority=5
q cpu=1 priority=5
r cpu=2 priority=5
s cpu=2 priority=5 preemption=Never
t cpu=2 priority=1
u cpu=9 priority=5
v cpu=1 priority=4
`},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(4) {
				edit := func(r *berthv1.DecideRequest) {
					r.Seed, r.Candidates, r.Preempt = seed, 2, true
				}
				berth := decide(t, service.Config{Policy: policy.Default()}, test.cluster, test.pods, edit)
				upstream := decide(t, service.Config{Solver: solver(t)}, test.cluster, test.pods, edit)
				if diff := cmp.Diff(comparable(upstream), comparable(berth), protocmp.Transform()); diff != "" {
					t.Errorf("seed %d (-kube-scheduler +Berth):\n%s", seed, diff)
				}
			}
		})
	}
}

// TestUnusable checks that a node with a constraint that nobody understands is not
// used and keeps nobody from the others.
func TestUnusable(t *testing.T) {
	response := decide(t, service.Config{Solver: solver(t)}, "a constraint=Strange\nb cpu=1", "p cpu=1\nq cpu=1", nil)
	if got := response.GetDecisions()[0].GetCandidates(); len(got) != 1 || got[0].GetNodeName() != "b" {
		t.Errorf("candidates are %v, want b alone", got)
	}
	want := "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) with the constraint Strange, which this decider does not understand."
	if got := response.GetDecisions()[1].GetRejection().GetMessage(); got != want {
		t.Errorf("message is %q, want %q", got, want)
	}
}

// TestPreFilterMessage has what kube-scheduler adds where a pod is rejected before
// DynamicResources saw it: its PostFilter does not find what its PreFilter did not
// write, and preemption is not tried.
func TestPreFilterMessage(t *testing.T) {
	response := decide(t, service.Config{Solver: solver(t)}, "a\nb", "p affinity=metadata.name:In:a&metadata.name:In:b",
		func(r *berthv1.DecideRequest) { r.Preempt = true })
	rejection := response.GetDecisions()[0].GetRejection()
	if want := "0/2 nodes are available: pod affinity terms conflict. not found"; rejection.GetMessage() != want {
		t.Errorf("message is %q, want %q", rejection.GetMessage(), want)
	}
}

// TestProfiles checks that each profile decides for its scheduler name and that all
// see one cluster.
func TestProfiles(t *testing.T) {
	config, err := latest.Default()
	if err != nil {
		t.Fatal(err)
	}
	packed := config.Profiles[0].DeepCopy()
	packed.SchedulerName = "packed"
	packed.Plugins.MultiPoint.Enabled = slices.DeleteFunc(packed.Plugins.MultiPoint.Enabled, func(p schedconfig.Plugin) bool { return p.Name == "NodeUnschedulable" })
	s, err := batch.New(t.Context(), append(config.Profiles, *packed), nil)
	if err != nil {
		t.Fatal(err)
	}
	response := decide(t, service.Config{Solver: s}, "a cpu=1 unschedulable\nb cpu=1", "p cpu=1\nq cpu=1\nr cpu=1\ns", func(r *berthv1.DecideRequest) {
		for i, name := range []string{"packed", "default-scheduler", "packed", "berth"} {
			r.Pods[i].SchedulerName = name
		}
	})
	var got []string
	for _, d := range response.GetDecisions() {
		got = append(got, fmt.Sprint(d.GetOutcome(), " ", d.GetCandidates()))
	}
	for i, want := range []berthv1.Outcome{
		berthv1.Outcome_OUTCOME_PLACED, berthv1.Outcome_OUTCOME_PLACED, berthv1.Outcome_OUTCOME_REJECTED, berthv1.Outcome_OUTCOME_INVALID,
	} {
		if response.GetDecisions()[i].GetOutcome() != want {
			t.Fatalf("decisions are %v, want %v at %d", got, want, i)
		}
	}
}

// TestStop checks that a solver that is told to stop leaves the rest.
func TestStop(t *testing.T) {
	snapshot, err := scenario.ParseCluster("a")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	decisions := solver(t).Solve(t.Context(), &service.SolverRequest{
		Snapshot: snapshot,
		Pods:     []*berthv1.Pod{{Uid: "1"}, nil, {Uid: "2"}},
		Stop:     func() bool { asked++; return asked > 1 },
	})
	if decisions[0].GetOutcome() != berthv1.Outcome_OUTCOME_PLACED || decisions[1] != nil ||
		decisions[2].GetOutcome() != berthv1.Outcome_OUTCOME_NOT_DECIDED {
		t.Errorf("decisions are %v", decisions)
	}
}

// BenchmarkSolve decides 10 pods on 1,000 nodes with 5,000 pods.
func BenchmarkSolve(b *testing.B) {
	s, err := batch.New(b.Context(), nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	snapshot := &berthv1.Snapshot{}
	requests := map[string]int64{"cpu": 100, "memory": 200 << 20}
	for i := range 1000 {
		name := fmt.Sprint("node-", i)
		snapshot.Nodes = append(snapshot.Nodes, &berthv1.Node{Name: name, Allocatable: map[string]int64{"cpu": 4000, "memory": 8 << 30, "pods": 110}})
		for j := range 5 {
			snapshot.PlacedPods = append(snapshot.PlacedPods, &berthv1.PlacedPod{Uid: fmt.Sprint(name, "-", j), NodeName: name, Requests: requests, ScoreRequests: requests})
		}
	}
	r := &service.SolverRequest{Snapshot: snapshot}
	for i := range 10 {
		r.Pods = append(r.Pods, &berthv1.Pod{Uid: fmt.Sprint(i), Requests: requests, ScoreRequests: requests})
	}
	for b.Loop() {
		s.Solve(b.Context(), r)
	}
}
