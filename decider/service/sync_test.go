package service_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/berth-scheduler/berth/decider/policy"
	"github.com/berth-scheduler/berth/decider/service"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/digest"
)

// feeder is a watcher's end of a Sync stream.
type feeder struct {
	t        *testing.T
	stream   grpc.BidiStreamingClient[berthv1.SyncRequest, berthv1.SyncResponse]
	epoch    string
	sequence uint64
	version  uint64
}

// feed opens a stream and begins an epoch.
func (d *served) feed(t *testing.T, epoch string) *feeder {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	stream, err := d.client.Sync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f := &feeder{t: t, stream: stream}
	f.begin(epoch)
	return f
}

func (f *feeder) begin(epoch string) {
	f.epoch, f.sequence, f.version = epoch, 0, 0
	f.send(&berthv1.SyncRequest{Step: &berthv1.SyncRequest_Begin{Begin: &berthv1.SyncBegin{Epoch: epoch}}})
}

// send sends a message with the next sequence number.
func (f *feeder) send(m *berthv1.SyncRequest) {
	f.t.Helper()
	m.Sequence = f.sequence
	f.sequence++
	if err := f.stream.Send(m); err != nil {
		f.t.Fatal(err)
	}
}

func (f *feeder) change(c *berthv1.Changes) {
	f.t.Helper()
	f.send(&berthv1.SyncRequest{Step: &berthv1.SyncRequest_Changes{Changes: c}})
}

// commit makes the next version and returns what the decider says.
func (f *feeder) commit() *berthv1.SyncResponse {
	f.t.Helper()
	f.sendCommit(&berthv1.SyncCommit{FromVersion: f.version, Version: f.version + 1})
	f.version++
	return f.answer()
}

func (f *feeder) sendCommit(c *berthv1.SyncCommit) {
	f.t.Helper()
	f.send(&berthv1.SyncRequest{Step: &berthv1.SyncRequest_Commit{Commit: c}})
}

func (f *feeder) answer() *berthv1.SyncResponse {
	f.t.Helper()
	response, err := f.stream.Recv()
	if err != nil {
		f.t.Fatal(err)
	}
	return response
}

// cluster is the text form as changes.
func cluster(t testing.TB, text string) *berthv1.Changes {
	t.Helper()
	s := request(t, text, "").GetSnapshot()
	return &berthv1.Changes{Nodes: s.Nodes, PlacedPods: s.PlacedPods, Namespaces: s.Namespaces, DisruptionBudgets: s.DisruptionBudgets}
}

// referring is a request that refers to a state.
func referring(t testing.TB, pods string, r *berthv1.StateReference) *berthv1.DecideRequest {
	t.Helper()
	request := request(t, "", pods)
	request.State = &berthv1.DecideRequest_Reference{Reference: r}
	return request
}

// What is fed is decided on as if it had been sent inline.
func TestSync(t *testing.T) {
	d := serve(t, service.Config{})
	f := d.feed(t, "e1")
	f.change(cluster(t, "a cpu=2\nb cpu=4\nweb on=a cpu=1"))
	if r := f.commit(); r.Resync != "" || r.Version != 1 || r.Epoch != "e1" {
		t.Fatalf("the first commit is answered with %v", r)
	}
	f.change(&berthv1.Changes{RemovedNodes: []string{"b"}})
	f.change(cluster(t, "c cpu=3\ndb on=c cpu=1"))
	f.commit()

	inline := request(t, "a cpu=2\nweb on=a cpu=1\nc cpu=3\ndb on=c cpu=1", "one cpu=2\ntwo cpu=1\nthree cpu=5")
	inline.GetSnapshot().Epoch, inline.GetSnapshot().Version = "e1", 2
	want, err := d.client.Decide(t.Context(), inline)
	if err != nil {
		t.Fatal(err)
	}
	for name, reference := range map[string]*berthv1.StateReference{
		"empty":    {},
		"at least": {Epoch: "e1", AtLeastVersion: 1},
		"exactly":  {Epoch: "e1", ExactVersion: 2},
	} {
		got, err := d.client.Decide(t.Context(), referring(t, "one cpu=2\ntwo cpu=1\nthree cpu=5", reference))
		if err != nil || !proto.Equal(got, want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, want)
		}
	}
	if want.StateDigest != digest.Of(inline.GetSnapshot()).String() {
		t.Error("the digest is not the package's")
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err = d.service.Decide(short, referring(t, "p", &berthv1.StateReference{Epoch: "e1", AtLeastVersion: 3}))
	wantCode(t, err, codes.FailedPrecondition, "reference: version 3 has not come: version 2")
}

// Each way in which a state is not fed as the contract says.
func TestSyncResync(t *testing.T) {
	changes := func(sequence uint64) *berthv1.SyncRequest {
		return &berthv1.SyncRequest{Sequence: sequence, Step: &berthv1.SyncRequest_Changes{Changes: &berthv1.Changes{}}}
	}
	commit := func(sequence uint64, c *berthv1.SyncCommit) *berthv1.SyncRequest {
		return &berthv1.SyncRequest{Sequence: sequence, Step: &berthv1.SyncRequest_Commit{Commit: c}}
	}
	begin := func(sequence uint64) *berthv1.SyncRequest {
		return &berthv1.SyncRequest{Sequence: sequence, Step: &berthv1.SyncRequest_Begin{Begin: &berthv1.SyncBegin{Epoch: "e"}}}
	}
	for _, c := range []struct {
		name, reason, says string
		message            *berthv1.SyncRequest
	}{
		{"lost", "sequence", "message 4 came where 3 was due", changes(4)},
		{"repeated", "sequence", "message 2 came where 3 was due", commit(2, &berthv1.SyncCommit{Version: 1})},
		{"begin that is not the first", "sequence", "a begin is message 0, not 3", begin(3)},
		{"from another version", "version", "a commit from version 2 to 3 came where version 1 is held", commit(3, &berthv1.SyncCommit{FromVersion: 2, Version: 3})},
		{"back", "version", "a commit from version 1 to 0", commit(3, &berthv1.SyncCommit{FromVersion: 1})},
		{"digest", "digest", "the digest of version 2 is 0000", commit(3, &berthv1.SyncCommit{FromVersion: 1, Version: 2, StateDigest: "other"})},
	} {
		t.Run(c.name, func(t *testing.T) {
			registry := prometheus.NewRegistry()
			d := serve(t, service.Config{Registerer: registry})
			f := d.feed(t, "e")
			f.change(&berthv1.Changes{})
			f.commit()
			if err := f.stream.Send(c.message); err != nil {
				t.Fatal(err)
			}
			r := f.answer()
			if !strings.Contains(r.Resync, c.says) || r.Epoch != "e" || r.Version != 1 {
				t.Errorf("answered %v, want %q", r, c.says)
			}
			_, err := d.client.Decide(t.Context(), referring(t, "p", &berthv1.StateReference{}))
			wantCode(t, err, codes.FailedPrecondition, "reference: this decider holds no state")
			// What comes before the next begin is passed over.
			if err := f.stream.Send(changes(9)); err != nil {
				t.Fatal(err)
			}
			f.begin("e")
			f.change(cluster(t, "a"))
			if r := f.commit(); r.Resync != "" {
				t.Errorf("what was fed anew is answered with %v", r)
			}
			if got := counted(t, registry, "berth_decider_sync_resyncs_total", c.reason); got != 1 {
				t.Errorf("%v resyncs of reason %s are counted", got, c.reason)
			}
			if got := gauge(t, registry, "berth_decider_state_nodes"); got != 1 {
				t.Errorf("%v nodes are counted", got)
			}
		})
	}
}

// counted returns a counter by its one label's value.
func counted(t *testing.T, registry *prometheus.Registry, name, value string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && m.GetLabel()[0].GetValue() == value {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no metric %s with %s", name, value)
	return 0
}

// ends waits for the end of a stream.
func (f *feeder) ends(code codes.Code, parts ...string) {
	f.t.Helper()
	for {
		if _, err := f.stream.Recv(); err != nil {
			wantCode(f.t, err, code, parts...)
			return
		}
	}
}

func TestSyncStatuses(t *testing.T) {
	d := serve(t, service.Config{MaxStateBytes: 1000})
	none := d.feed(t, "e1")
	none.send(&berthv1.SyncRequest{})
	none.ends(codes.InvalidArgument, "step: ")
	d.feed(t, "").ends(codes.InvalidArgument, "begin.epoch: ")

	large := d.feed(t, "e1")
	large.change(cluster(t, "a"))
	large.commit()
	large.change(cluster(t, "b label:x="+strings.Repeat("x", 1000)))
	large.ends(codes.ResourceExhausted, "more than the 1000 bytes")
	large = d.feed(t, "e1")
	large.change(cluster(t, "a label:x="+strings.Repeat("x", 900)))
	large.commit()
	large.change(cluster(t, "b label:x="+strings.Repeat("x", 900)))
	large.sendCommit(&berthv1.SyncCommit{FromVersion: 1, Version: 2})
	large.ends(codes.ResourceExhausted, "more than the 1000 bytes")
	_, err := d.client.Decide(t.Context(), referring(t, "p", &berthv1.StateReference{}))
	wantCode(t, err, codes.FailedPrecondition)
}

// A later epoch supersedes an earlier one, and of one epoch the later stream the
// earlier; never the other way round.
func TestSyncSupersedes(t *testing.T) {
	d := serve(t, service.Config{})
	first := d.feed(t, "e2")
	first.change(cluster(t, "a"))
	first.commit()
	d.feed(t, "e1").ends(codes.Aborted, `epoch "e1" is superseded`)

	second := d.feed(t, "e2")
	first.ends(codes.Aborted, "superseded")
	second.change(cluster(t, "b"))
	second.commit()
	third := d.feed(t, "e3")
	second.ends(codes.Aborted, "superseded")
	third.change(cluster(t, "c"))
	third.commit()
	response, err := d.client.Decide(t.Context(), referring(t, "p", &berthv1.StateReference{}))
	if err != nil || response.GetDecisions()[0].GetCandidates()[0].GetNodeName() != "c" {
		t.Errorf("decided %v, %v, want c", response, err)
	}
	_, err = d.client.Decide(t.Context(), referring(t, "p", &berthv1.StateReference{Epoch: "e2"}))
	wantCode(t, err, codes.FailedPrecondition, `epoch "e2" is not held, but epoch "e3" at version 1`)
}

// The state goes with the stream that fed it.
func TestSyncEnds(t *testing.T) {
	registry := prometheus.NewRegistry()
	d := serve(t, service.Config{Registerer: registry})
	f := d.feed(t, "e2")
	f.change(cluster(t, "a"))
	f.commit()
	f.stream.CloseSend()
	f.ends(codes.Unknown, "EOF")
	eventually(t, func() bool { return gauge(t, registry, "berth_decider_state_version") == 0 })
	_, err := d.client.Decide(t.Context(), referring(t, "p", &berthv1.StateReference{}))
	wantCode(t, err, codes.FailedPrecondition)
	// The epoch is nobody's any more.
	f = d.feed(t, "e1")
	f.change(cluster(t, "a"))
	f.commit()
}

func TestSyncDrains(t *testing.T) {
	d := serve(t, service.Config{DrainTimeout: time.Minute})
	f := d.feed(t, "e")
	f.change(cluster(t, "a"))
	f.commit()
	waiting := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	go func() {
		_, err := d.client.Decide(ctx, referring(t, "p", &berthv1.StateReference{AtLeastVersion: 2}))
		waiting <- err
	}()
	d.drain()
	f.ends(codes.Unavailable, "draining")
	wantCode(t, <-waiting, codes.Unavailable)
	d.conn.Close()
	if err := <-d.ended; err != nil {
		t.Error(err)
	}
}

// What makes no sense costs its node, and is named.
func TestSyncRejectedRecords(t *testing.T) {
	registry := prometheus.NewRegistry()
	d := serve(t, service.Config{Registerer: registry})
	f := d.feed(t, "e")
	c := cluster(t, "a\nb\nc\nweb on=b")
	c.Nodes[0].Allocatable = map[string]int64{"cpu": -1}
	c.Nodes = append(c.Nodes, &berthv1.Node{})
	c.PlacedPods[0].HostPorts = []*berthv1.HostPort{{Port: -1}}
	c.PlacedPods = append(c.PlacedPods, &berthv1.PlacedPod{Uid: "nowhere"})
	c.Namespaces = append(c.Namespaces, &berthv1.Namespace{})
	c.DisruptionBudgets = append(c.DisruptionBudgets, &berthv1.DisruptionBudget{Namespace: "n", Name: "b", Selector: &berthv1.LabelSelector{
		MatchExpressions: []*berthv1.LabelSelectorRequirement{{}},
	}})
	f.change(c)
	var got []string
	for _, r := range f.commit().RejectedRecords {
		got = append(got, strings.TrimPrefix(r.Object.String(), "OBJECT_KIND_")+" "+r.Key+" "+r.Field)
	}
	want := []string{
		"NODE  name", "NODE a allocatable[cpu]", "PLACED_POD " + c.PlacedPods[0].Uid + " host_ports[0].port", "PLACED_POD nowhere node_name",
		"NAMESPACE  name", "UNSPECIFIED n/b selector.match_expressions[0].key",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	response, err := d.client.Decide(t.Context(), referring(t, "one\ntwo", &berthv1.StateReference{}))
	if err != nil || response.GetDecisions()[1].GetCandidates()[0].GetNodeName() != "c" {
		t.Errorf("decided %v, %v, want c", response, err)
	}
	f.change(cluster(t, "a"))
	if r := f.commit(); len(r.RejectedRecords) != 0 {
		t.Errorf("named again: %v", r)
	}
	response, err = d.client.Decide(t.Context(), referring(t, "one", &berthv1.StateReference{AtLeastVersion: 2}))
	if err != nil || response.GetDecisions()[0].GetCandidates()[0].GetNodeName() != "a" {
		t.Errorf("decided %v, %v, want a", response, err)
	}
	if got := gauge(t, registry, "berth_decider_state_bytes"); got == 0 {
		t.Error("the state takes no bytes")
	}
}

// A request with a deadline waits for the version it refers to, and is decided once that
// is there. Without a deadline it would wait forever for what never comes.
func TestReferenceWaits(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	registry := prometheus.NewRegistry()
	d := serve(t, service.Config{Registerer: registry})
	f := d.feed(t, "e")
	f.change(cluster(t, "a"))
	f.commit()
	decided := make(chan *berthv1.DecideResponse)
	for _, reference := range []*berthv1.StateReference{
		{Epoch: "e", AtLeastVersion: 2}, {AtLeastVersion: 2}, {Epoch: "f"}, {Epoch: "f", ExactVersion: 1},
	} {
		r := referring(t, "p", reference)
		_, err := d.client.Decide(t.Context(), r)
		wantCode(t, err, codes.FailedPrecondition, `epoch "e"`)
		go func() {
			response, err := d.client.Decide(ctx, r)
			if err != nil {
				t.Errorf("%v: %v", reference, err)
			}
			decided <- response
		}()
	}
	f.change(cluster(t, "b"))
	f.commit()
	for range 2 {
		if response := <-decided; response.GetVersion() != 2 {
			t.Errorf("decided %v, want version 2", response)
		}
	}
	f.begin("f")
	f.change(cluster(t, "c"))
	f.commit()
	for range 2 {
		if response := <-decided; response.GetEpoch() != "f" {
			t.Errorf("decided %v, want epoch f", response)
		}
	}
	f.change(cluster(t, "d"))
	f.commit()
	_, err := d.client.Decide(t.Context(), referring(t, "p", &berthv1.StateReference{Epoch: "f", ExactVersion: 1}))
	wantCode(t, err, codes.FailedPrecondition, "version 1 has passed: version 2")
}

func TestPlacedAlready(t *testing.T) {
	s, err := service.New(service.Config{Policy: policy.Default()})
	if err != nil {
		t.Fatal(err)
	}
	r := request(t, "a\nweb on=a\nnext on=a nominated", "web\nnext")
	for i, p := range r.GetSnapshot().GetPlacedPods() {
		r.Pods[i].Uid = p.Uid
	}
	response, err := s.Decide(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	web, next := response.Decisions[0], response.Decisions[1]
	if web.Outcome != berthv1.Outcome_OUTCOME_INVALID || web.Refusal.Field != "pods[0].uid" || next.Outcome != berthv1.Outcome_OUTCOME_PLACED {
		t.Errorf("decided %v", response.Decisions)
	}
}

// What would be the case with these changes is the same, whether they are made to a
// state that is held or to one that is sent, and nobody else sees it.
func TestHypothetical(t *testing.T) {
	text := "a cpu=1\nb cpu=9\nweb on=a cpu=1"
	d := serve(t, service.Config{})
	f := d.feed(t, "e")
	f.change(cluster(t, text))
	f.commit()
	inline := request(t, text, "p cpu=2")
	inline.GetSnapshot().Epoch, inline.GetSnapshot().Version = "e", 1
	held := referring(t, "p cpu=2", &berthv1.StateReference{})
	var before, after *berthv1.DecideResponse
	for _, r := range []*berthv1.DecideRequest{inline, held} {
		without, err := d.client.Decide(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		r.Hypothetical = cluster(t, "c cpu=2")
		r.Hypothetical.RemovedNodes = []string{"b"}
		with, err := d.client.Decide(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if before != nil && (!proto.Equal(without, before) || !proto.Equal(with, after)) {
			t.Errorf("%v\n%v\nwant\n%v\n%v", without, with, before, after)
		}
		before, after = without, with
		r.Hypothetical = nil
		if again, err := d.client.Decide(t.Context(), r); err != nil || !proto.Equal(again, without) {
			t.Errorf("afterwards: %v, %v", again, err)
		}
		r.Hypothetical = &berthv1.Changes{Nodes: []*berthv1.Node{{}}}
		_, err = d.client.Decide(t.Context(), r)
		wantCode(t, err, codes.InvalidArgument, "hypothetical.nodes[0].name: ")
	}
	if got := before.Decisions[0].Candidates[0].NodeName; got != "b" {
		t.Errorf("decided %s, want b", got)
	}
	if got := after.Decisions[0].Candidates[0].NodeName; got != "c" {
		t.Errorf("decided %s, want c", got)
	}
}

// A solver of one's own gets the records that were fed.
func TestSolverByReference(t *testing.T) {
	solver := &recorder{}
	d := serve(t, service.Config{Solver: solver})
	f := d.feed(t, "e")
	text := "a cpu=1\nb cpu=2\nweb on=a cpu=1\ndb on=b\nnamespace n team=x\nbudget n/b selector=app=w allowed=1"
	f.change(cluster(t, text))
	f.commit()
	for _, hypothetical := range []bool{false, true} {
		r := referring(t, "p", &berthv1.StateReference{})
		want := request(t, text, "").GetSnapshot()
		if hypothetical {
			r.Hypothetical = cluster(t, "c cpu=7")
			r.Hypothetical.RemovedPlacedPods = []string{want.PlacedPods[1].Uid}
			want = request(t, text+"\nc cpu=7", "").GetSnapshot()
			want.PlacedPods = want.PlacedPods[:1]
		}
		if _, err := d.client.Decide(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		sorted := protocmp.SortRepeated(func(a, b *berthv1.PlacedPod) bool { return a.Uid < b.Uid })
		if diff := cmp.Diff(want, solver.asked.Snapshot, protocmp.Transform(), sorted); diff != "" {
			t.Errorf("hypothetical %t: %s", hypothetical, diff)
		}
	}
}

// stuck is a policy that does not get over pods of one name.
type stuck struct {
	at            string
	asked, answer chan struct{}
}

func (stuck) Name() string { return "stuck" }

func (s stuck) Rank(t policy.Turn) []int64 {
	if t.Pod.GetName() == s.at {
		s.asked <- struct{}{}
		<-s.answer
	}
	return make([]int64, len(t.Nodes))
}

// A what-if that takes its time holds up neither decisions nor commits, nor the other way
// round does it go on before a pod that waits for its answer.
func TestWhatIfHoldsUpNobody(t *testing.T) {
	p := stuck{"one", make(chan struct{}), make(chan struct{})}
	d := serve(t, service.Config{Policy: p, MaxConcurrent: 1})
	f := d.feed(t, "e")
	f.change(cluster(t, "a"))
	f.commit()
	whatIf := referring(t, "one\ntwo", &berthv1.StateReference{})
	whatIf.Hypothetical = &berthv1.Changes{}
	for i := range 1000 {
		whatIf.Hypothetical.Nodes = append(whatIf.Hypothetical.Nodes, &berthv1.Node{Name: fmt.Sprint(i), Allocatable: map[string]int64{"pods": 1}})
	}
	answered := make(chan *berthv1.DecideResponse, 1)
	go func() {
		response, err := d.client.Decide(t.Context(), whatIf)
		if err != nil {
			t.Error(err)
		}
		answered <- response
	}()
	<-p.asked // it is at its first pod, and stays there
	for range 3 {
		f.change(cluster(t, "b"))
		f.commit()
		live, err := d.client.Decide(t.Context(), referring(t, "live", &berthv1.StateReference{AtLeastVersion: f.version}))
		if err != nil || live.GetVersion() != f.version {
			t.Fatalf("answered %v, %v, want version %d", live, err, f.version)
		}
	}
	p.answer <- struct{}{}
	if response := <-answered; response.GetVersion() != 1 || len(response.GetDecisions()) != 2 {
		t.Errorf("the what-if is answered with %v", response)
	}
}

// A what-if waits while a pod that waits for its answer is decided.
func TestWhatIfWaits(t *testing.T) {
	p := stuck{"live", make(chan struct{}), make(chan struct{})}
	registry := prometheus.NewRegistry()
	d := serve(t, service.Config{Policy: p, MaxConcurrent: 1, Registerer: registry})
	answered := make(chan string, 2)
	ask := func(r *berthv1.DecideRequest, name string) {
		if _, err := d.client.Decide(t.Context(), r); err != nil {
			t.Error(err)
		}
		answered <- name
	}
	go ask(request(t, "a", "live"), "live")
	<-p.asked
	whatIf := request(t, "a", "p")
	whatIf.Explanation = berthv1.ExplanationLevel_EXPLANATION_LEVEL_NODES
	go ask(whatIf, "what-if")
	eventually(t, func() bool { return gauge(t, registry, "berth_decider_requests_waiting") == 1 })
	select {
	case name := <-answered:
		t.Fatalf("the %s is answered", name)
	default:
	}
	p.answer <- struct{}{}
	<-answered
	<-answered
}

// stops is a policy that does not get over pods of some names: the channel of the name is
// received from once when it comes to one, and again to let it go on.
type stops map[string]chan struct{}

func (stops) Name() string { return "stops" }

func (s stops) Rank(t policy.Turn) []int64 {
	if c := s[t.Pod.GetName()]; c != nil {
		c <- struct{}{}
		c <- struct{}{}
	}
	return make([]int64, len(t.Nodes))
}

// A what-if that gives way until its time runs out answers what it has, in time.
func TestWhatIfGivesWayInTime(t *testing.T) {
	p := stops{"one": make(chan struct{}), "live": make(chan struct{})}
	d := serve(t, service.Config{Policy: p, MaxConcurrent: 1})
	whatIf := request(t, "a", "one\ntwo")
	whatIf.Explanation = berthv1.ExplanationLevel_EXPLANATION_LEVEL_NODES
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	answered := make(chan *berthv1.DecideResponse, 1)
	go func() {
		response, err := d.client.Decide(ctx, whatIf)
		if err != nil {
			t.Error(err)
		}
		answered <- response
	}()
	<-p["one"]
	live := make(chan error, 1)
	go func() { _, err := d.client.Decide(t.Context(), request(t, "a", "live")); live <- err }()
	<-p["live"]
	<-p["one"]
	response := <-answered
	<-p["live"]
	if err := <-live; err != nil {
		t.Error(err)
	}
	var got []berthv1.Outcome
	for _, decision := range response.GetDecisions() {
		got = append(got, decision.GetOutcome())
	}
	want := []berthv1.Outcome{berthv1.Outcome_OUTCOME_PLACED, berthv1.Outcome_OUTCOME_NOT_DECIDED}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Equal pods are decided by the index from the third on.
func TestIndexMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	d := serve(t, service.Config{Registerer: registry})
	f := d.feed(t, "e")
	f.change(cluster(t, "a cpu=9\nb cpu=9"))
	f.commit()
	for i := range 4 {
		if _, err := d.client.Decide(t.Context(), referring(t, fmt.Sprintf("p%d cpu=1", i), &berthv1.StateReference{})); err != nil {
			t.Fatal(err)
		}
	}
	for solver, want := range map[string]float64{"plain": 2, "indexed": 2} {
		if got := counted(t, registry, "berth_decider_index_decisions_total", solver); got != want {
			t.Errorf("%v decisions are %s, want %v", got, solver, want)
		}
	}
	if gauge(t, registry, "berth_decider_index_classes") != 1 || gauge(t, registry, "berth_decider_index_bytes") == 0 {
		t.Error("the class is not counted")
	}
}

// A panic in the middle of a decision costs the state, which is fed anew.
func TestPanicLosesTheState(t *testing.T) {
	registry := prometheus.NewRegistry()
	d := serve(t, service.Config{Policy: broken{}, Registerer: registry})
	f := d.feed(t, "e")
	f.change(cluster(t, "a"))
	f.commit()
	_, err := d.client.Decide(t.Context(), referring(t, "p", &berthv1.StateReference{}))
	wantCode(t, err, codes.Internal)
	if r := f.answer(); r.Resync != "the state was lost to an internal error" {
		t.Errorf("the feeder is told %v", r)
	}
	if got := counted(t, registry, "berth_decider_sync_resyncs_total", "failure"); got != 1 {
		t.Errorf("%v resyncs are counted", got)
	}
	f.begin("e")
	f.change(cluster(t, "b"))
	if r := f.commit(); r.Resync != "" {
		t.Errorf("what was fed anew is answered with %v", r)
	}
}
