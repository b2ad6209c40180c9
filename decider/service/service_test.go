package service_test

import (
	"context"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/berth-scheduler/berth/decider/policy"
	"github.com/berth-scheduler/berth/decider/service"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/scenario"
)

// served is a decider on a real listener.
type served struct {
	service *service.Service
	conn    *grpc.ClientConn
	client  berthv1.DeciderServiceClient
	drain   context.CancelFunc
	ended   chan error
}

func serve(t *testing.T, config service.Config) *served {
	t.Helper()
	if config.Policy == nil && config.Solver == nil {
		config.Policy = policy.Default()
	}
	s, err := service.New(config)
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d := &served{service: s, drain: cancel, ended: make(chan error, 1)}
	go func() { d.ended <- s.Serve(ctx, lis); close(d.ended) }()
	d.conn, err = grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	d.client = berthv1.NewDeciderServiceClient(d.conn)
	t.Cleanup(func() { d.conn.Close(); cancel(); <-d.ended })
	return d
}

// request builds a request from the text form.
func request(t testing.TB, cluster, pods string) *berthv1.DecideRequest {
	t.Helper()
	snapshot, err := scenario.ParseCluster(cluster)
	if err != nil {
		t.Fatal(err)
	}
	records, err := scenario.ParsePods(pods)
	if err != nil {
		t.Fatal(err)
	}
	return &berthv1.DecideRequest{State: &berthv1.DecideRequest_Snapshot{Snapshot: snapshot}, Pods: records}
}

func wantCode(t *testing.T, err error, code codes.Code, parts ...string) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("got %v, want %v", err, code)
	}
	for _, part := range parts {
		if !strings.Contains(status.Convert(err).Message(), part) {
			t.Errorf("%q does not say %q", status.Convert(err).Message(), part)
		}
	}
}

// Whoever keeps hidden state says so, and is asked one request at a time.
func TestSerial(t *testing.T) {
	d := serve(t, service.Config{Serial: true})
	got, err := d.client.Describe(t.Context(), &berthv1.DescribeRequest{})
	if err != nil || !got.GetLimits().GetSerial() {
		t.Errorf("it says %v, %v", got.GetLimits(), err)
	}
	if _, err := service.New(service.Config{Policy: policy.First(), Serial: true, MaxConcurrent: 2}); err == nil || !strings.Contains(err.Error(), "Config.MaxConcurrent is 2") {
		t.Errorf("two at once are accepted: %v", err)
	}
}

func TestDescribe(t *testing.T) {
	d := serve(t, service.Config{Version: "v1.2.3", InstanceID: "me", MaxPods: 7, MaxMessageBytes: 5 << 20})
	got, err := d.client.Describe(t.Context(), &berthv1.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := &berthv1.DescribeResponse{
		Name: "default", Version: "v1.2.3", InstanceId: "me", ConfigDigest: got.ConfigDigest,
		Constraints: []string{
			berthv1.ConstraintPodAffinity,
			berthv1.ConstraintPodAntiAffinity,
			berthv1.ConstraintExistingAntiAffinity,
			berthv1.ConstraintNodeAffinityComparison,
			berthv1.ConstraintNodeAffinityFields,
			berthv1.ConstraintNodeSelector,
			berthv1.ConstraintNodeAffinity,
			berthv1.ConstraintNodeDeclaredFeatures,
			berthv1.ConstraintNodeName,
			berthv1.ConstraintNodePorts,
			berthv1.ConstraintNodeResourcesFit,
			berthv1.ConstraintNodeUnschedulable,
			berthv1.ConstraintPodTopologySpread,
			berthv1.ConstraintTaintToleration,
		},
		Limits:      &berthv1.Limits{MaxMessageBytes: 5 << 20, MaxPods: 7, MaxStateBytes: 4 << 30},
		UnreadState: []string{"nodes.conditions", "nodes.signals"},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if len(got.ConfigDigest) != 64 {
		t.Errorf("config digest %q is not a SHA-256", got.ConfigDigest)
	}
	other, err := service.New(service.Config{Policy: policy.First()})
	if err != nil {
		t.Fatal(err)
	}
	if first, _ := other.Describe(t.Context(), nil); first.GetConfigDigest() == got.ConfigDigest {
		t.Error("two policies have one config digest")
	}
}

func TestDecide(t *testing.T) {
	d := serve(t, service.Config{})
	r := request(t, "a uid=ua cpu=4 memory=4Gi\nb uid=ub cpu=8 memory=8Gi", "web cpu=2\nbig cpu=9")
	r.GetSnapshot().Epoch, r.GetSnapshot().Version = "e1", 42
	response, err := d.client.Decide(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if response.Epoch != "e1" || response.Version != 42 || len(response.StateDigest) != 64 || len(response.ConfigDigest) != 64 {
		t.Errorf("decided on %q %d %q by %q", response.Epoch, response.Version, response.StateDigest, response.ConfigDigest)
	}
	web, big := response.Decisions[0], response.Decisions[1]
	if diff := cmp.Diff([]*berthv1.Candidate{{NodeName: "b", NodeUid: "ub"}}, web.Candidates,
		protocmp.Transform(), protocmp.IgnoreFields(&berthv1.Candidate{}, "score")); diff != "" {
		t.Error(diff)
	}
	if want := "0/2 nodes are available: 2 Insufficient cpu."; big.GetRejection().GetMessage() != want {
		t.Errorf("big: %q, want %q", big.GetRejection().GetMessage(), want)
	}
	if web.Explanation != nil {
		t.Error("an explanation that nobody asked for")
	}
}

// A pod that cannot be understood is that pod's result.
func TestRefusals(t *testing.T) {
	d := serve(t, service.Config{})
	r := request(t, "a", "fine\nclaims constraint=NodeResourcesFit constraint=VolumeBinding constraint=X\nnegative cpu=-1\nfine\nlast\nclaims")
	r.Pods = append(r.Pods,
		&berthv1.Pod{},
		&berthv1.Pod{Uid: "op", NodeAffinity: &berthv1.NodeAffinity{Required: &berthv1.NodeSelector{Terms: []*berthv1.NodeSelectorTerm{{
			MatchExpressions: []*berthv1.NodeSelectorRequirement{{Key: "a", Operator: 99}},
		}}}}},
		&berthv1.Pod{Uid: "field", NodeAffinity: &berthv1.NodeAffinity{Required: &berthv1.NodeSelector{Terms: []*berthv1.NodeSelectorTerm{{
			MatchFields: []*berthv1.NodeSelectorRequirement{{Key: "spec.nodeName", Operator: 1, Values: []string{"a"}}},
		}}}}},
		&berthv1.Pod{Uid: "effect", Tolerations: []*berthv1.Toleration{{Effect: 9}}},
		&berthv1.Pod{Uid: "operator", Tolerations: []*berthv1.Toleration{{}, {Operator: 9}}},
		&berthv1.Pod{Uid: "port", HostPorts: []*berthv1.HostPort{{Port: 70000}}},
		&berthv1.Pod{Uid: "protocol", HostPorts: []*berthv1.HostPort{{Port: 1, Protocol: "tcp"}}},
		&berthv1.Pod{Uid: "pods", Requests: map[string]int64{"pods": 1}},
		&berthv1.Pod{Uid: "score", ScoreRequests: map[string]int64{"cpu": -1}},
	)
	response, err := d.client.Decide(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, decision := range response.Decisions {
		if decision.PodUid != r.Pods[i].Uid {
			t.Errorf("decision %d is for %q, want %q", i, decision.PodUid, r.Pods[i].Uid)
		}
		got = append(got, strings.TrimSpace(strings.TrimPrefix(decision.Outcome.String(), "OUTCOME_")+" "+
			decision.GetRefusal().GetField()+decision.GetRefusal().GetConstraint()))
		if decision.Refusal != nil && decision.Refusal.Message == "" {
			t.Errorf("decision %d: a refusal without a sentence", i)
		}
	}
	want := []string{
		"PLACED",
		"UNSUPPORTED VolumeBinding",
		"INVALID pods[2].requests[cpu]",
		"INVALID pods[3].uid",
		"PLACED",
		"INVALID pods[5].uid",
		"INVALID pods[6].uid",
		"INVALID pods[7].node_affinity.required.terms[0].match_expressions[0].operator",
		"INVALID pods[8].node_affinity.required.terms[0].match_fields[0].key",
		"INVALID pods[9].tolerations[0].effect",
		"INVALID pods[10].tolerations[1].operator",
		"INVALID pods[11].host_ports[0].port",
		"INVALID pods[12].host_ports[0].protocol",
		"INVALID pods[13].requests[pods]",
		"INVALID pods[14].score_requests[cpu]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEnvelope(t *testing.T) {
	d := serve(t, service.Config{MaxPods: 2})
	snapshot := func(change func(*berthv1.Snapshot)) *berthv1.DecideRequest {
		r := request(t, "a\nb\nweb on=a", "p")
		change(r.GetSnapshot())
		return r
	}
	for _, c := range []struct {
		name    string
		request *berthv1.DecideRequest
		code    codes.Code
		says    string
	}{
		{"no state", &berthv1.DecideRequest{}, codes.InvalidArgument, "snapshot: "},
		{"reference", &berthv1.DecideRequest{State: &berthv1.DecideRequest_Reference{}}, codes.FailedPrecondition, "this decider holds no state: send an inline snapshot"},
		{"node without a name", snapshot(func(s *berthv1.Snapshot) { s.Nodes[1].Name = "" }), codes.InvalidArgument, "snapshot.nodes[1].name: "},
		{"two nodes of one name", snapshot(func(s *berthv1.Snapshot) { s.Nodes[1].Name = "a" }), codes.InvalidArgument, "snapshot.nodes[1].name: "},
		{"placed pod without a uid", snapshot(func(s *berthv1.Snapshot) { s.PlacedPods[0].Uid = "" }), codes.InvalidArgument, "snapshot.placed_pods[0].uid: "},
		{"placed pod twice", snapshot(func(s *berthv1.Snapshot) { s.PlacedPods = append(s.PlacedPods, s.PlacedPods[0]) }), codes.InvalidArgument, "snapshot.placed_pods[1].uid: "},
		{"placed pod nowhere", snapshot(func(s *berthv1.Snapshot) { s.PlacedPods[0].NodeName = "" }), codes.InvalidArgument, "snapshot.placed_pods[0].node_name: "},
		{"namespace without a name", snapshot(func(s *berthv1.Snapshot) { s.Namespaces = []*berthv1.Namespace{{Name: "x"}, {}} }), codes.InvalidArgument, "snapshot.namespaces[1].name: "},
		{"namespace twice", snapshot(func(s *berthv1.Snapshot) { s.Namespaces = []*berthv1.Namespace{{Name: "x"}, {Name: "x"}} }), codes.InvalidArgument, "snapshot.namespaces[1].name: "},
		{"too many pods", request(t, "a", "p\nq\nr"), codes.ResourceExhausted, "3 are more than the 2"},
		{"negative candidates", &berthv1.DecideRequest{State: snapshot(func(*berthv1.Snapshot) {}).State, Candidates: -1}, codes.InvalidArgument, "candidates: "},
		{"unknown level", &berthv1.DecideRequest{State: snapshot(func(*berthv1.Snapshot) {}).State, Explanation: 9}, codes.InvalidArgument, "explanation: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := d.client.Decide(t.Context(), c.request)
			wantCode(t, err, c.code, c.says)
		})
	}
}

func TestMessageLimit(t *testing.T) {
	d := serve(t, service.Config{MaxMessageBytes: 1000})
	_, err := d.client.Decide(t.Context(), request(t, "a label:x="+strings.Repeat("x", 1000), "p"))
	wantCode(t, err, codes.ResourceExhausted, "larger than max")
}

// gate is a policy that tells when it is asked and waits until it may answer.
type gate struct{ asked, answer chan struct{} }

func (gate) Name() string { return "gate" }

func (g gate) Rank(t policy.Turn) []int64 {
	g.asked <- struct{}{}
	<-g.answer
	return make([]int64, len(t.Nodes))
}

// One request is decided, one waits, the third is refused; those that were let in
// are answered.
func TestConcurrencyIsBounded(t *testing.T) {
	g := gate{make(chan struct{}), make(chan struct{})}
	registry := prometheus.NewRegistry()
	d := serve(t, service.Config{Policy: g, MaxConcurrent: 1, MaxWaiting: 1, Registerer: registry})
	r := request(t, "a", "p")
	var let sync.WaitGroup
	errs := make(chan error, 2)
	ask := func() { _, err := d.client.Decide(context.Background(), r); errs <- err }
	let.Go(ask)
	<-g.asked
	let.Go(ask)
	eventually(t, func() bool { return gauge(t, registry, "berth_decider_requests_waiting") == 1 })
	_, err := d.client.Decide(t.Context(), r)
	wantCode(t, err, codes.ResourceExhausted, "too many requests wait")

	g.answer <- struct{}{}
	<-g.asked
	g.answer <- struct{}{}
	let.Wait()
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := gauge(t, registry, "berth_decider_requests_in_flight"); got != 0 {
		t.Errorf("%v requests in flight at the end", got)
	}
}

// Whoever gives up while waiting leaves no trace.
func TestWaitingEndsWithTheContext(t *testing.T) {
	g := gate{make(chan struct{}), make(chan struct{})}
	s, err := service.New(service.Config{Policy: g, MaxConcurrent: 1})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { _, err := s.Decide(context.Background(), request(t, "a", "p")); done <- err }()
	<-g.asked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Decide(ctx, request(t, "a", "p"))
	wantCode(t, err, codes.Canceled)
	g.answer <- struct{}{}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// leaver is a policy during whose second turn the caller goes away.
type leaver struct{ cancel context.CancelFunc }

func (leaver) Name() string { return "leaver" }

func (l leaver) Rank(t policy.Turn) []int64 {
	if t.Index == 1 {
		l.cancel()
	}
	return make([]int64, len(t.Nodes))
}

func TestCancelledLeavesTheTailUndecided(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := service.New(service.Config{Policy: leaver{cancel}})
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.Decide(ctx, request(t, "a", "one\ntwo\nthree\nfour"))
	if err != nil {
		t.Fatal(err)
	}
	var got []berthv1.Outcome
	for _, d := range response.Decisions {
		got = append(got, d.Outcome)
	}
	placed, left := berthv1.Outcome_OUTCOME_PLACED, berthv1.Outcome_OUTCOME_NOT_DECIDED
	if !slices.Equal(got, []berthv1.Outcome{placed, placed, left, left}) {
		t.Errorf("got %v", got)
	}
}

// sleeper takes its time.
type sleeper struct{ until <-chan struct{} }

func (sleeper) Name() string { return "sleeper" }

func (s sleeper) Rank(t policy.Turn) []int64 { <-s.until; return make([]int64, len(t.Nodes)) }

// A decider that is close to the deadline answers what it has, in time.
func TestDeadlineLeavesTheTailUndecided(t *testing.T) {
	deadline := time.Now().Add(time.Second)
	ctx, cancel := context.WithDeadline(t.Context(), deadline)
	defer cancel()
	// The first turn ends inside the tenth that is kept for the answer.
	late := make(chan struct{})
	time.AfterFunc(time.Until(deadline)-50*time.Millisecond, func() { close(late) })
	s, err := service.New(service.Config{Policy: sleeper{late}})
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.Decide(ctx, request(t, "a", "one\ntwo"))
	if err != nil {
		t.Fatal(err)
	}
	if got := response.Decisions[1].Outcome; got != berthv1.Outcome_OUTCOME_NOT_DECIDED {
		t.Errorf("got %v", got)
	}
}

// Draining: health says so, the request in flight is answered, Serve returns nil.
func TestDrain(t *testing.T) {
	g := gate{make(chan struct{}), make(chan struct{})}
	d := serve(t, service.Config{Policy: g})
	health := healthv1.NewHealthClient(d.conn)
	watch, err := health.Watch(t.Context(), &healthv1.HealthCheckRequest{Service: "berth.v1.DeciderService"})
	if err != nil {
		t.Fatal(err)
	}
	wantHealth := func(want healthv1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		if got, err := watch.Recv(); err != nil || got.Status != want {
			t.Fatalf("health is %v, %v, want %v", got, err, want)
		}
	}
	wantHealth(healthv1.HealthCheckResponse_SERVING)
	answered := make(chan error)
	go func() { _, err := d.client.Decide(context.Background(), request(t, "a", "p")); answered <- err }()
	<-g.asked
	d.drain()
	wantHealth(healthv1.HealthCheckResponse_NOT_SERVING)
	close(g.answer)
	if err := <-answered; err != nil {
		t.Errorf("the request in flight: %v", err)
	}
	watch.CloseSend()
	d.conn.Close()
	if err := <-d.ended; err != nil {
		t.Error(err)
	}
}

// What does not end in time is cut off.
func TestDrainIsBounded(t *testing.T) {
	g := gate{make(chan struct{}), make(chan struct{})}
	d := serve(t, service.Config{Policy: g, DrainTimeout: time.Millisecond})
	answered := make(chan error)
	go func() { _, err := d.client.Decide(context.Background(), request(t, "a", "p")); answered <- err }()
	<-g.asked
	d.drain()
	wantCode(t, <-answered, codes.Unavailable)
	close(g.answer)
	if err := <-d.ended; err != nil {
		t.Error(err)
	}
}

func TestReflection(t *testing.T) {
	d := serve(t, service.Config{})
	stream, err := reflectionv1.NewServerReflectionClient(d.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	got, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range got.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	for _, want := range []string{"berth.v1.DeciderService", "grpc.health.v1.Health"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not among %v", want, names)
		}
	}
	stream.CloseSend()
}

// broken is a policy that breaks its promise.
type broken struct{}

func (broken) Name() string             { return "broken" }
func (broken) Rank(policy.Turn) []int64 { return nil }

// A panic costs one request, not the process.
func TestPanic(t *testing.T) {
	d := serve(t, service.Config{Policy: broken{}})
	_, err := d.client.Decide(t.Context(), request(t, "a", "p"))
	wantCode(t, err, codes.Internal, `policy "broken" returned 0 scores for 1 nodes`)
	if _, err := d.client.Describe(t.Context(), &berthv1.DescribeRequest{}); err != nil {
		t.Error(err)
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	d := serve(t, service.Config{Registerer: registry})
	if _, err := d.client.Decide(t.Context(), request(t, "a", "one\ntwo\nbig cpu=1")); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "berth_decider_decisions_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	want := map[string]float64{"placed": 2, "rejected": 1, "unsupported": 0, "invalid": 0, "not_decided": 0}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The digest follows the content, not the order.
func TestStateDigest(t *testing.T) {
	s, err := service.New(service.Config{Policy: policy.Default()})
	if err != nil {
		t.Fatal(err)
	}
	digest := func(change func(*berthv1.Snapshot)) string {
		r := request(t, "a cpu=1 zone=z\nb cpu=2\nweb on=a\ndb on=b", "")
		change(r.GetSnapshot())
		response, err := s.Decide(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return response.StateDigest
	}
	base := digest(func(*berthv1.Snapshot) {})
	for name, change := range map[string]func(*berthv1.Snapshot){
		"order":   func(s *berthv1.Snapshot) { slices.Reverse(s.Nodes); slices.Reverse(s.PlacedPods) },
		"version": func(s *berthv1.Snapshot) { s.Epoch, s.Version = "e", 1 },
	} {
		if digest(change) != base {
			t.Errorf("the digest depends on the %s", name)
		}
	}
	for name, change := range map[string]func(*berthv1.Snapshot){
		"a label":     func(s *berthv1.Snapshot) { s.Nodes[0].Labels["zone"] = "y" },
		"a node":      func(s *berthv1.Snapshot) { s.Nodes = s.Nodes[:1] },
		"a placement": func(s *berthv1.Snapshot) { s.PlacedPods[0].NodeName = "b" },
		"a budget":    func(s *berthv1.Snapshot) { s.DisruptionBudgets = []*berthv1.DisruptionBudget{{Name: "x"}} },
		"a namespace": func(s *berthv1.Snapshot) { s.Namespaces = []*berthv1.Namespace{{Name: "x"}} },
	} {
		if digest(change) == base {
			t.Errorf("the digest does not depend on %s", name)
		}
	}
}

func TestStateDigestIsOmitted(t *testing.T) {
	s, err := service.New(service.Config{Policy: policy.Default(), OmitStateDigest: true})
	if err != nil {
		t.Fatal(err)
	}
	if response, err := s.Decide(t.Context(), request(t, "a", "p")); err != nil || response.StateDigest != "" {
		t.Errorf("digest %q, %v", response.GetStateDigest(), err)
	}
}

// Concurrent requests share nothing.
func TestConcurrentRequests(t *testing.T) {
	d := serve(t, service.Config{})
	r := request(t, "a cpu=4\nb cpu=4\nc cpu=4", "one cpu=1\ntwo cpu=2\nthree cpu=9")
	want, err := d.client.Decide(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if got, err := d.client.Decide(t.Context(), r); err != nil || !proto.Equal(got, want) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	all.Wait()
}

func TestConfigErrors(t *testing.T) {
	_, err := service.New(service.Config{MaxPods: -1, MaxConcurrent: -2, MaxMessageBytes: 1 << 32, MaxWaiting: math.MaxInt})
	for _, want := range []string{"Config.Policy", "Config.MaxPods is -1", "Config.MaxConcurrent is -2", "Config.MaxMessageBytes is 4294967296", "Config.MaxWaiting is"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

func gauge(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// eventually waits for a condition that another goroutine brings about.
func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	timeout := time.After(10 * time.Second)
	for !condition() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatal("the condition did not come about in 10 seconds")
		}
	}
}
