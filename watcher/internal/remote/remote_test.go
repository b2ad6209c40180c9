package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/protobuf/proto"

	"github.com/berth-scheduler/berth/decider/policy"
	"github.com/berth-scheduler/berth/decider/service"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/digest"
	"github.com/berth-scheduler/berth/proto/scenario"
	"github.com/berth-scheduler/berth/watcher/internal/cluster"
	"github.com/berth-scheduler/berth/watcher/internal/driver"
)

// served is a real decider at a real address.
type served struct {
	net.Listener
	address string
	stop    context.CancelFunc
	ended   chan struct{}

	mu    sync.Mutex // guards conns
	conns []net.Conn
}

// serve starts a decider at an address, port 0 for any.
func serve(t *testing.T, address string, config service.Config) *served {
	t.Helper()
	s, err := service.New(config)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	d := &served{Listener: listener, address: listener.Addr().String(), stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(d.ended)
		s.Serve(ctx, d)
	}()
	t.Cleanup(d.kill)
	return d
}

// Accept notes the connection for kill.
func (d *served) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	if err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.conns = append(d.conns, conn)
	}
	return conn, err
}

// kill is as sudden as kill -9: connections break, nothing is drained.
func (d *served) kill() {
	d.Listener.Close()
	d.mu.Lock()
	for _, conn := range d.conns {
		conn.Close()
	}
	d.mu.Unlock()
	d.stop()
}

// blocking is a policy that waits for release, or for ever.
type blocking struct {
	policy.Policy
	entered, release chan struct{}
}

func newBlocking(t *testing.T) blocking {
	b := blocking{policy.First(), make(chan struct{}, 100), make(chan struct{})}
	t.Cleanup(func() { close(b.release) })
	return b
}

func (b blocking) Rank(t policy.Turn) []int64 {
	b.entered <- struct{}{}
	<-b.release
	return b.Policy.Rank(t)
}

// unused is an address at which nobody answers.
func unused(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// running is a pool that runs.
type running struct {
	*Pool
	changed chan struct{}
}

func run(t *testing.T, config Config) running {
	t.Helper()
	r := running{changed: make(chan struct{}, 1000)}
	config.Changed = func() { r.changed <- struct{}{} }
	if config.Capacity == nil {
		config.Capacity = func(map[string]int) {}
	}
	if config.State == nil {
		config.State = func(context.Context) (driver.State, error) { return state(t), nil }
	}
	if config.Timeout == 0 {
		config.Timeout = 10 * time.Second
	}
	if config.MaxMessageBytes == 0 {
		config.MaxMessageBytes = 1 << 20
	}
	var err error
	if r.Pool, err = New(config); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { r.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return r
}

// wait waits until the deciders that are reachable are exactly these.
func (r running) wait(t *testing.T, reachable ...string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		var got []string
		for _, s := range r.Status() {
			if s.Problem == "" {
				got = append(got, s.Target)
			}
		}
		slices.Sort(reachable)
		if slices.Equal(got, reachable) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("reachable are %v, want %v: %v", got, reachable, r.Status())
		}
		select {
		case <-r.changed:
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// state is two nodes with room for both pods of batch.
func state(t *testing.T) driver.State {
	t.Helper()
	snapshot, err := scenario.ParseCluster("a cpu=4\nb cpu=4")
	if err != nil {
		t.Fatal(err)
	}
	snapshot.Epoch, snapshot.Version = "e", 1
	return driver.State{Snapshot: snapshot, Digest: cluster.Digest{Nodes: digest.Of(snapshot)}}
}

// batch is two pods to be decided on that state.
func batch(t *testing.T) *driver.Batch {
	t.Helper()
	pods, err := scenario.ParsePods("web cpu=1\napi cpu=1")
	if err != nil {
		t.Fatal(err)
	}
	return &driver.Batch{ID: 1, SchedulerName: "berth", Epoch: "e", Version: 1, Request: &berthv1.DecideRequest{Pods: pods}}
}

// wantAnswer asks and wants a whole answer of one decider, after attempts that
// ended with these codes.
func (r running) wantAnswer(t *testing.T, b *driver.Batch, decider string, attempts ...codes.Code) {
	t.Helper()
	decided, made := r.Decide(t.Context(), b)
	if decided.Err != nil || decided.Decider != decider || decided.Batch != b.ID {
		t.Fatalf("got %+v, want an answer of %s", decided, decider)
	}
	for i, pod := range b.Request.GetPods() {
		if d := decided.Response.GetDecisions()[i]; d.GetPodUid() != pod.GetUid() || d.GetOutcome() != berthv1.Outcome_OUTCOME_PLACED {
			t.Errorf("%s: %v", pod.GetName(), d)
		}
	}
	wantCodes(t, made, attempts...)
}

func wantCodes(t *testing.T, made []Attempt, want ...codes.Code) {
	t.Helper()
	var got []codes.Code
	for _, a := range made {
		got = append(got, a.Code)
	}
	if !slices.Equal(got, want) {
		t.Errorf("attempts ended with %v, want %v", got, want)
	}
}

func names(targets ...string) map[string][]string { return map[string][]string{"berth": targets} }

func TestFallbackAndReturn(t *testing.T) {
	dead := unused(t)
	second := serve(t, "127.0.0.1:0", service.Config{Policy: policy.First()})
	r := run(t, Config{Deciders: names(dead, second.address)})
	r.wait(t, second.address)
	r.wantAnswer(t, batch(t), second.address, codes.OK)
	if got := r.Unreachable(); got != nil {
		t.Errorf("unreachable are %v, want none: one of its deciders is", got)
	}

	serve(t, dead, service.Config{Policy: policy.First()})
	r.wait(t, dead, second.address)
	r.wantAnswer(t, batch(t), dead, codes.OK)

	b := batch(t)
	b.Fallback = 1 // its answers were refused
	r.wantAnswer(t, b, second.address, codes.OK)
	second.kill()
	r.wait(t, dead)
	r.wantAnswer(t, b, dead, codes.OK)
}

func TestKilledInACall(t *testing.T) {
	policy1 := newBlocking(t)
	first := serve(t, "127.0.0.1:0", service.Config{Policy: policy1})
	second := serve(t, "127.0.0.1:0", service.Config{Policy: policy.First()})
	r := run(t, Config{Deciders: names(first.address, second.address)})
	r.wait(t, first.address, second.address)
	go func() {
		<-policy1.entered
		first.kill()
	}()
	r.wantAnswer(t, batch(t), second.address, codes.Unavailable, codes.OK)
}

func TestHangingDeciderTimesOut(t *testing.T) {
	first := serve(t, "127.0.0.1:0", service.Config{Policy: newBlocking(t)})
	second := serve(t, "127.0.0.1:0", service.Config{Policy: policy.First()})
	r := run(t, Config{Deciders: names(first.address, second.address), Timeout: 500 * time.Millisecond})
	r.wait(t, first.address, second.address)
	r.wantAnswer(t, batch(t), second.address, codes.DeadlineExceeded, codes.OK)
}

func TestNobodyAnswers(t *testing.T) {
	only := serve(t, "127.0.0.1:0", service.Config{Policy: policy.First()})
	r := run(t, Config{Deciders: names(only.address)})
	r.wait(t, only.address)
	only.kill()
	r.wait(t)
	decided, attempts := r.Decide(t.Context(), batch(t))
	if !errors.Is(decided.Err, driver.ErrNoDecider) || !strings.Contains(decided.Err.Error(), only.address) {
		t.Errorf("got %v, want %v that names the decider", decided.Err, driver.ErrNoDecider)
	}
	wantCodes(t, attempts)
	if got := r.Unreachable(); !slices.Equal(got, []string{"berth"}) {
		t.Errorf("unreachable are %v", got)
	}
	if s := r.Status(); len(s) != 1 || s[0].Target != only.address || s[0].Problem == "" {
		t.Errorf("status %v does not say what is wrong", s)
	}
}

// Another program takes over the address: it is asked who it is before it is
// asked anything else.
func TestTakenOver(t *testing.T) {
	old := serve(t, "127.0.0.1:0", service.Config{Policy: policy.First(), InstanceID: "old"})
	r := run(t, Config{Deciders: names(old.address)})
	r.wait(t, old.address)
	<-old.killed()
	r.wait(t)
	for len(r.changed) > 0 {
		<-r.changed
	}
	serve(t, old.address, service.Config{Policy: policy.Random(), InstanceID: "new", MaxPods: 1})
	select {
	case <-r.changed:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody was told that there is a decider again")
	}
	described, _ := r.targets[0].all()[0].get()
	if described.GetName() != "random" || described.GetInstanceId() != "new" {
		t.Errorf("it is still taken for %v", described)
	}
	// It takes one pod at a time, so that the other is left for later.
	decided, attempts := r.Decide(t.Context(), batch(t))
	var got []berthv1.Outcome
	for _, d := range decided.Response.GetDecisions() {
		got = append(got, d.GetOutcome())
	}
	if want := []berthv1.Outcome{berthv1.Outcome_OUTCOME_PLACED, berthv1.Outcome_OUTCOME_NOT_DECIDED}; !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, decided.Err, want)
	}
	wantCodes(t, attempts, codes.OK)
}

// Behind one name a new replica comes and the old one goes, as in a rolling
// upgrade, and there is always one that answers: what the new one understands is
// learnt all the same.
func TestReplicasBehindOneName(t *testing.T) {
	old := serve(t, "127.0.0.1:0", service.Config{Policy: policy.First(), InstanceID: "old"})
	next := serve(t, "127.0.0.1:0", service.Config{Policy: policy.Random(), InstanceID: "new"})
	name := manual.NewBuilderWithScheme("replicas")
	name.InitialState(resolver.State{Addresses: []resolver.Address{{Addr: old.address}}})
	r := run(t, Config{Deciders: names("replicas:///deciders"), Resolvers: []resolver.Builder{name}})
	r.wait(t, "replicas:///deciders")

	first, _ := r.Decide(t.Context(), batch(t))
	name.UpdateState(resolver.State{Addresses: []resolver.Address{{Addr: old.address}, {Addr: next.address}}})
	for i, answer := 0, first; answer.Response.GetConfigDigest() == first.Response.GetConfigDigest(); i++ {
		b := batch(t)
		b.Key = fmt.Sprint(i) // until one belongs to the new one, and that is there
		answer, _ = r.Decide(t.Context(), b)
	}
	name.UpdateState(resolver.State{Addresses: []resolver.Address{{Addr: next.address}}})
	for limit := time.Now().Add(20 * time.Second); len(r.targets[0].all()) != 1; {
		if time.Now().After(limit) {
			t.Fatal("the one that has gone from the name is still asked")
		}
	}
	if answer, _ := r.Decide(t.Context(), batch(t)); answer.Response.GetConfigDigest() == first.Response.GetConfigDigest() {
		t.Error("the one that has gone from the name has answered")
	}
}

// killed kills and says when it is over.
func (d *served) killed() <-chan struct{} {
	d.kill()
	return d.ended
}

func TestInvalidRequestGoesToNobodyElse(t *testing.T) {
	first := serve(t, "127.0.0.1:0", service.Config{Policy: policy.First()})
	second := serve(t, "127.0.0.1:0", service.Config{Policy: policy.First()})
	r := run(t, Config{Deciders: names(first.address, second.address)})
	r.wait(t, first.address, second.address)
	b := batch(t)
	b.Request.Candidates = -1
	decided, attempts := r.Decide(t.Context(), b)
	if decided.Err == nil || errors.Is(decided.Err, driver.ErrNoDecider) || !strings.Contains(decided.Err.Error(), "candidates") {
		t.Errorf("got %v, want an error about candidates", decided.Err)
	}
	wantCodes(t, attempts, codes.InvalidArgument)
}

func TestTooLarge(t *testing.T) {
	small := serve(t, "127.0.0.1:0", service.Config{Policy: policy.First(), MaxMessageBytes: 1 << 12})
	large := serve(t, "127.0.0.1:0", service.Config{Policy: policy.First()})
	b := batch(t)
	b.Request.Pods[0].Labels = map[string]string{"large": strings.Repeat("x", 1<<13)}
	for name, config := range map[string]Config{
		"for the decider": {Deciders: names(small.address)},
		"for the watcher": {Deciders: names(large.address), MaxMessageBytes: 1 << 12},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, config)
			r.wait(t, config.Deciders["berth"]...)
			decided, attempts := r.Decide(t.Context(), b)
			if decided.Err == nil || errors.Is(decided.Err, driver.ErrNoDecider) || !strings.Contains(decided.Err.Error(), "--max-message-bytes") {
				t.Errorf("got %v, want an error that names --max-message-bytes", decided.Err)
			}
			wantCodes(t, attempts, codes.ResourceExhausted)
		})
	}
	t.Run("for the first alone", func(t *testing.T) {
		r := run(t, Config{Deciders: names(small.address, large.address)})
		r.wait(t, small.address, large.address)
		r.wantAnswer(t, b, large.address, codes.ResourceExhausted, codes.OK)
	})
}

func TestSplitAndMerge(t *testing.T) {
	for _, test := range []struct {
		pods string // each with its constraints after a colon
		most int32
		sent string
		want string
	}{
		{pods: "a b:Known c", sent: "a b c", want: "a=1 b=1 c=1"},
		{pods: "a:Odd b c:Known,Odd", sent: "b", want: "a=3 b=1 c=3"},
		{pods: "a:Odd b:Odd", sent: "nothing", want: "a=3 b=3"},
		{pods: "a b:Odd c d", most: 2, sent: "a c", want: "a=1 b=3 c=1 d=5"},
	} {
		full := &berthv1.DecideRequest{Seed: 7, Candidates: 2, Explanation: 1,
			State: &berthv1.DecideRequest_Snapshot{Snapshot: &berthv1.Snapshot{Version: 9}}}
		for w := range strings.FieldsSeq(test.pods) {
			name, constraints, some := strings.Cut(w, ":")
			pod := &berthv1.Pod{Uid: name}
			if some {
				pod.Constraints = strings.Split(constraints, ",")
			}
			full.Pods = append(full.Pods, pod)
		}
		before := proto.CloneOf(full)
		request, instead := split(full, &berthv1.DescribeResponse{Constraints: []string{"Known"}, Limits: &berthv1.Limits{MaxPods: test.most}})
		sent := "nothing"
		var answers []*berthv1.Decision
		if request != nil {
			var uids []string
			for _, p := range request.GetPods() {
				uids = append(uids, p.GetUid())
				answers = append(answers, &berthv1.Decision{PodUid: p.GetUid(), Outcome: berthv1.Outcome_OUTCOME_PLACED})
			}
			sent = strings.Join(uids, " ")
			envelope := proto.CloneOf(full)
			envelope.Pods = request.GetPods()
			if !proto.Equal(request, envelope) {
				t.Errorf("%s: the rest of the request became %v", test.pods, request)
			}
		}
		var got []string
		for _, d := range merge(slices.Clone(instead), answers) {
			got = append(got, fmt.Sprintf("%s=%d", d.GetPodUid(), d.GetOutcome()))
		}
		if sent != test.sent || strings.Join(got, " ") != test.want {
			t.Errorf("%s: sent %s, got %s; want %s, %s", test.pods, sent, got, test.sent, test.want)
		}
		if !proto.Equal(before, full) {
			t.Errorf("%s: the request was changed", test.pods)
		}
		if instead != nil && len(answers) > 0 {
			if merge(slices.Clone(instead), answers[1:]) != nil || merge(slices.Clone(instead), append(answers, answers[0])) != nil {
				t.Errorf("%s: an answer too few or too many is taken", test.pods)
			}
		}
	}
}
