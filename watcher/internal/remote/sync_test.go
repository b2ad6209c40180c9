package remote

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/berth-scheduler/berth/decider/policy"
	"github.com/berth-scheduler/berth/decider/service"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/digest"
	"github.com/berth-scheduler/berth/watcher/internal/cluster"
	"github.com/berth-scheduler/berth/watcher/internal/driver"
)

// scripted is a decider that holds what it is fed and says what it was asked. Its
// functions, where set, come first.
type scripted struct {
	berthv1.UnimplementedDeciderServiceServer
	instance string
	unread   []string
	serial   bool
	// decides may wait, or refuse to decide.
	decides func(context.Context) error
	// commit answers the nth commit, from 1; nil is as it should be. A message with a
	// resync makes it pass over everything until the next begin.
	commit func(n int, c *berthv1.SyncCommit) (*berthv1.SyncResponse, error)
	// refuses refuses the stream.
	refuses func() error
	// describes, with the number of the question from 1, refuses to say who it is.
	describes func(n int) error

	mu      sync.Mutex // guards what follows
	held    *berthv1.Snapshot
	asks    int // who it is
	begins  int
	commits int
	largest int      // message
	asked   []string // "reference" or "inline" and the version
	wrong   []string // what was not as the contract says
	moved   chan struct{}
}

func (s *scripted) Describe(context.Context, *berthv1.DescribeRequest) (*berthv1.DescribeResponse, error) {
	if s.describes != nil {
		n := 0
		s.note(func() { s.asks++; n = s.asks })
		if err := s.describes(n); err != nil {
			return nil, err
		}
	}
	return &berthv1.DescribeResponse{Name: "scripted", InstanceId: s.instance, UnreadState: s.unread,
		Limits: &berthv1.Limits{Serial: s.serial}}, nil
}

// note changes what is guarded, and tells those who wait.
func (s *scripted) note(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.moved)
	s.moved = make(chan struct{})
}

// until waits until something is so.
func (s *scripted) until(t *testing.T, what string, so func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		s.mu.Lock()
		is, moved := so(), s.moved
		s.mu.Unlock()
		if is {
			return
		}
		select {
		case <-moved:
		case <-limit:
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

func (s *scripted) Sync(stream berthv1.DeciderService_SyncServer) error {
	if s.refuses != nil {
		if err := s.refuses(); err != nil {
			return err
		}
	}
	defer s.note(func() { s.held = nil })
	var next uint64
	var staged *berthv1.Snapshot // nil until the begin, and after a resync was asked for
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if m.GetBegin() != nil {
			s.note(func() { s.begins++; s.held = nil })
			staged, next = &berthv1.Snapshot{Epoch: m.GetBegin().GetEpoch()}, 0
		}
		if staged == nil {
			continue
		}
		s.note(func() {
			if m.GetSequence() != next {
				s.wrong = append(s.wrong, fmt.Sprintf("message %d comes in place of %d", m.GetSequence(), next))
			}
			s.largest = max(s.largest, proto.Size(m))
		})
		next++
		if m.GetChanges() != nil {
			version := staged.GetVersion()
			staged = changed(staged, m.GetChanges())
			staged.Version = version
		}
		c := m.GetCommit()
		if c == nil {
			continue
		}
		answer := &berthv1.SyncResponse{Epoch: staged.GetEpoch(), Version: c.GetVersion()}
		n := 0
		s.note(func() {
			if c.GetFromVersion() != staged.GetVersion() || c.GetVersion() < c.GetFromVersion() {
				s.wrong = append(s.wrong, fmt.Sprintf("commit %v of what is at version %d", c, staged.GetVersion()))
			}
			if got := digest.Of(staged).String(); got != c.GetStateDigest() {
				s.wrong = append(s.wrong, fmt.Sprintf("digest of version %d is %s, not %s", c.GetVersion(), got, c.GetStateDigest()))
			}
			s.commits++
			n = s.commits
		})
		staged.Version = c.GetVersion()
		if s.commit != nil {
			other, err := s.commit(n, c)
			if err != nil {
				return err
			}
			if other != nil {
				answer = other
			}
		}
		if answer.GetResync() != "" {
			staged = nil
		} else {
			s.note(func() { s.held = proto.CloneOf(staged) })
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

func (s *scripted) Decide(ctx context.Context, r *berthv1.DecideRequest) (*berthv1.DecideResponse, error) {
	if s.decides != nil {
		if err := s.decides(ctx); err != nil {
			return nil, err
		}
	}
	state := r.GetSnapshot()
	if reference := r.GetReference(); reference != nil {
		for waiting := true; waiting; { // for the version
			s.mu.Lock()
			state = s.held
			moved := s.moved
			s.mu.Unlock()
			if waiting = state != nil && state.GetVersion() < reference.GetAtLeastVersion() && ctx.Err() == nil; waiting {
				select {
				case <-moved:
				case <-ctx.Done():
				}
			}
		}
		if state == nil || state.GetEpoch() != reference.GetEpoch() || state.GetVersion() < reference.GetAtLeastVersion() {
			s.note(func() { s.asked = append(s.asked, "in vain") })
			return nil, status.Error(codes.FailedPrecondition, "another state is held")
		}
		s.note(func() { s.asked = append(s.asked, fmt.Sprint("reference ", state.GetVersion())) })
	} else {
		s.note(func() { s.asked = append(s.asked, fmt.Sprint("inline ", state.GetVersion())) })
	}
	response := &berthv1.DecideResponse{Epoch: state.GetEpoch(), Version: state.GetVersion(), ConfigDigest: s.instance}
	for _, p := range r.GetPods() {
		response.Decisions = append(response.Decisions, &berthv1.Decision{PodUid: p.GetUid(), Outcome: berthv1.Outcome_OUTCOME_PLACED})
	}
	return response, nil
}

// start serves the decider.
func (s *scripted) start(t *testing.T) *served { return s.startAt(t, "127.0.0.1:0") }

func (s *scripted) startAt(t *testing.T, address string) *served {
	t.Helper()
	if s.moved == nil {
		s.moved = make(chan struct{})
	}
	if s.instance == "" {
		s.instance = t.Name()
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	berthv1.RegisterDeciderServiceServer(server, s)
	d := &served{Listener: listener, address: listener.Addr().String(), stop: server.Stop, ended: make(chan struct{})}
	go func() {
		defer close(d.ended)
		server.Serve(d)
	}()
	t.Cleanup(func() {
		d.kill()
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, wrong := range s.wrong {
			t.Error(wrong)
		}
	})
	return d
}

// source is a cluster that changes.
type source struct {
	mu    sync.Mutex // guards state
	state driver.State
}

func newSource(records ...proto.Message) *source {
	s := &source{state: driver.State{Snapshot: &berthv1.Snapshot{Epoch: "e"}}}
	s.change(nil, changes(records...))
	return s
}

func (s *source) get(context.Context) (driver.State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, nil
}

// change changes the cluster and tells the pool, which may be nil.
func (s *source) change(p *Pool, c *berthv1.Changes) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := s.state.Snapshot.GetVersion()
	now := changed(s.state.Snapshot, c)
	now.Version = from + 1
	s.state = driver.State{Snapshot: now, Digest: cluster.Digest{
		Nodes:   digest.Of(&berthv1.Snapshot{Nodes: now.GetNodes()}),
		Budgets: digest.Of(&berthv1.Snapshot{DisruptionBudgets: now.GetDisruptionBudgets()}),
		Others:  digest.Of(&berthv1.Snapshot{PlacedPods: now.GetPlacedPods(), Namespaces: now.GetNamespaces()}),
	}}
	if p != nil {
		p.Feed(&driver.Feed{From: from, Version: now.Version, Changes: c, Digest: s.state.Digest})
	}
	return now.Version
}

// changes are records that are new or different.
func changes(records ...proto.Message) *berthv1.Changes {
	c := &berthv1.Changes{}
	for _, r := range records {
		switch r := r.(type) {
		case *berthv1.Node:
			c.Nodes = append(c.Nodes, r)
		case *berthv1.PlacedPod:
			c.PlacedPods = append(c.PlacedPods, r)
		case *berthv1.Namespace:
			c.Namespaces = append(c.Namespaces, r)
		case *berthv1.DisruptionBudget:
			c.DisruptionBudgets = append(c.DisruptionBudgets, r)
		}
	}
	return c
}

// changed is a state after changes.
func changed(s *berthv1.Snapshot, c *berthv1.Changes) *berthv1.Snapshot {
	var budgets []string
	for _, b := range c.GetRemovedDisruptionBudgets() {
		budgets = append(budgets, b.GetNamespace()+"/"+b.GetName())
	}
	return &berthv1.Snapshot{
		Epoch:             s.GetEpoch(),
		Nodes:             replaced(s.GetNodes(), c.GetNodes(), c.GetRemovedNodes(), (*berthv1.Node).GetName),
		PlacedPods:        replaced(s.GetPlacedPods(), c.GetPlacedPods(), c.GetRemovedPlacedPods(), (*berthv1.PlacedPod).GetUid),
		Namespaces:        replaced(s.GetNamespaces(), c.GetNamespaces(), c.GetRemovedNamespaces(), (*berthv1.Namespace).GetName),
		DisruptionBudgets: replaced(s.GetDisruptionBudgets(), c.GetDisruptionBudgets(), budgets, func(b *berthv1.DisruptionBudget) string { return b.GetNamespace() + "/" + b.GetName() }),
	}
}

func replaced[R any](records, now []R, removed []string, key func(R) string) []R {
	out := slices.DeleteFunc(slices.Clone(records), func(r R) bool {
		return slices.Contains(removed, key(r)) || slices.ContainsFunc(now, func(n R) bool { return key(n) == key(r) })
	})
	return append(out, now...)
}

// ask asks about one pod at the source's version, and says how it was answered.
func (r running) ask(t *testing.T, s *source) (driver.Decided, string) {
	t.Helper()
	return r.askAbout(t, s, "")
}

// askAbout is ask with a key for the batch.
func (r running) askAbout(t *testing.T, s *source, key string) (driver.Decided, string) {
	t.Helper()
	now, _ := s.get(t.Context())
	b := &driver.Batch{ID: 1, SchedulerName: "berth", Key: key, Epoch: "e", Version: now.Snapshot.GetVersion(),
		Request: &berthv1.DecideRequest{Pods: []*berthv1.Pod{{Uid: "web"}}}}
	decided, attempts := r.Decide(t.Context(), b)
	var ended []string
	for _, a := range attempts {
		ended = append(ended, a.Code.String())
	}
	if decided.Err == nil && (decided.Response.GetEpoch() != "e" || decided.Response.GetVersion() < b.Version) {
		t.Errorf("the answer is for version %d of %q", decided.Response.GetVersion(), decided.Response.GetEpoch())
	}
	return decided, strings.Join(ended, " ")
}

func node(name string) *berthv1.Node { return &berthv1.Node{Name: name, Uid: name + "-uid"} }
func pod(uid, node string) *berthv1.PlacedPod {
	return &berthv1.PlacedPod{Uid: uid, Name: uid, NodeName: node}
}

// synced waits until the decider holds what the source has.
func (s *scripted) synced(t *testing.T, from *source) {
	t.Helper()
	want, _ := from.get(t.Context())
	s.until(t, fmt.Sprintf("version %d is held", want.Snapshot.GetVersion()), func() bool { return s.held.GetVersion() == want.Snapshot.GetVersion() })
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := digest.Of(s.held); len(s.unread) == 0 && got != digest.Of(want.Snapshot) {
		t.Errorf("held is %v, want %v", s.held, want.Snapshot)
	}
}

// settled waits until the pool knows that every replica holds the version.
func (r running) settled(t *testing.T, version uint64) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		moved, settled := r.motion(), true
		for _, t := range r.targets {
			for _, replica := range t.all() {
				settled = settled && replica.progress().held == version
			}
			settled = settled && len(t.all()) > 0
		}
		if settled {
			return
		}
		select {
		case <-moved:
		case <-limit:
			t.Fatalf("no answer for version %d", version)
		}
	}
}

// prepared waits until no decider is waited for.
func (r running) prepared(t *testing.T) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		moved := r.motion()
		if len(r.Unprepared()) == 0 {
			return
		}
		select {
		case <-moved:
		case <-limit:
			t.Fatalf("%v are waited for", r.Unprepared())
		}
	}
}

func TestFed(t *testing.T) {
	d := &scripted{}
	cluster := newSource(node("a"), node("b"), pod("p", "a"), &berthv1.Namespace{Name: "ns"}, &berthv1.DisruptionBudget{Namespace: "ns", Name: "b"})
	r := run(t, Config{Deciders: names(d.start(t).address), State: cluster.get})
	r.settled(t, 1)
	d.synced(t, cluster)
	for _, c := range []*berthv1.Changes{
		changes(pod("q", "b")), changes(pod("p", "b"), node("c")),
		{RemovedNodes: []string{"a"}, RemovedPlacedPods: []string{"p", "nobody"}, RemovedNamespaces: []string{"ns"},
			RemovedDisruptionBudgets: []*berthv1.DisruptionBudgetKey{{Namespace: "ns", Name: "b"}}},
	} {
		version := cluster.change(r.Pool, c)
		if _, attempts := r.ask(t, cluster); attempts != "OK" {
			t.Errorf("version %d: %s", version, attempts)
		}
		d.synced(t, cluster)
		r.settled(t, version)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.begins != 1 || d.commits != 4 {
		t.Errorf("%d states and %d versions were sent, want 1 and 4", d.begins, d.commits)
	}
	for _, asked := range d.asked {
		if !strings.HasPrefix(asked, "reference") {
			t.Errorf("asked %q, want only by reference", asked)
		}
	}
}

// A state that is larger than a message comes in several.
func TestChunks(t *testing.T) {
	var records []proto.Message
	for i := range 300 {
		n := node(fmt.Sprint("n", i))
		n.Labels = map[string]string{"long": strings.Repeat("x", 10_000)}
		records = append(records, n)
	}
	d := &scripted{}
	cluster := newSource(records...)
	r := run(t, Config{Deciders: names(d.start(t).address), State: cluster.get, MaxMessageBytes: 4 << 20})
	r.settled(t, 1)
	d.synced(t, cluster)
	if d.largest > 1<<20 || d.largest < 1<<19 {
		t.Errorf("the largest message has %d bytes, want less than 1 MiB, and not by much", d.largest)
	}
}

// What a decider does not read it is not sent, and the digest is of what it is sent.
func TestUnreadState(t *testing.T) {
	d := &scripted{unread: []string{"disruption_budgets", "nodes.images", "nodes.made_up"}}
	n := node("a")
	n.Images, n.Labels = map[string]int64{"i": 1}, map[string]string{"l": "v"}
	cluster := newSource(n, &berthv1.DisruptionBudget{Namespace: "ns", Name: "b"})
	r := run(t, Config{Deciders: names(d.start(t).address), State: cluster.get})
	r.settled(t, 1)
	again := proto.CloneOf(n)
	again.Images = map[string]int64{"j": 1}
	r.settled(t, cluster.change(r.Pool, changes(again, node("b"))))
	r.settled(t, cluster.change(r.Pool, &berthv1.Changes{RemovedNodes: []string{"b"}}))
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.held.GetDisruptionBudgets()) > 0 || d.held.GetNodes()[0].GetImages() != nil || d.held.GetNodes()[0].GetLabels()["l"] != "v" {
		t.Errorf("it holds %v", d.held)
	}
	if n.GetImages() == nil {
		t.Error("the record itself was changed")
	}
}

func TestResync(t *testing.T) {
	d := &scripted{commit: func(n int, c *berthv1.SyncCommit) (*berthv1.SyncResponse, error) {
		if n == 2 {
			return &berthv1.SyncResponse{Epoch: "e", Version: 1, Resync: "a digest differs"}, nil
		}
		return nil, nil
	}}
	cluster := newSource(node("a"))
	r := run(t, Config{Deciders: names(d.start(t).address), State: cluster.get})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(r.Pool)
	r.settled(t, 1)
	cluster.change(r.Pool, changes(pod("p", "a")))
	r.settled(t, 2)
	d.synced(t, cluster)
	if d.begins != 2 {
		t.Errorf("%d states were sent, want 2", d.begins)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var states []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "berth_watcher_sync_states_total" {
				states = append(states, fmt.Sprint(m.GetLabel()[1].GetValue(), " ", m.GetCounter().GetValue()))
			}
		}
	}
	if want := []string{"connected 1", "requested 1"}; !slices.Equal(states, want) {
		t.Errorf("counted %v, want %v", states, want)
	}
}

// A stream that breaks is made again, with the whole state.
func TestLostStream(t *testing.T) {
	d := &scripted{commit: func(n int, _ *berthv1.SyncCommit) (*berthv1.SyncResponse, error) {
		if n == 2 {
			return nil, status.Error(codes.Unavailable, "going")
		}
		return nil, nil
	}}
	cluster := newSource(node("a"))
	r := run(t, Config{Deciders: names(d.start(t).address), State: cluster.get})
	r.settled(t, 1)
	cluster.change(r.Pool, changes(pod("p", "a")))
	r.settled(t, 2)
	d.synced(t, cluster)
	if d.begins != 2 {
		t.Errorf("%d states were sent, want 2", d.begins)
	}
}

// Whoever does not take Sync, or not now, or not from us, is sent snapshots.
func TestNotFed(t *testing.T) {
	for _, code := range []codes.Code{codes.Unimplemented, codes.InvalidArgument, codes.Aborted, codes.ResourceExhausted} {
		t.Run(code.String(), func(t *testing.T) {
			refused := make(chan struct{}, 100)
			d := &scripted{refuses: func() error { refused <- struct{}{}; return status.Error(code, "no") }}
			cluster := newSource(node("a"))
			r := run(t, Config{Deciders: names(d.start(t).address), State: cluster.get})
			<-refused
			for range 3 {
				cluster.change(r.Pool, changes(pod("p", "a")))
				if _, attempts := r.ask(t, cluster); attempts != "OK" {
					t.Errorf("attempts ended with %s", attempts)
				}
			}
			if want := []string{"inline 2", "inline 3", "inline 4"}; !slices.Equal(d.asked, want) {
				t.Errorf("asked %v, want %v", d.asked, want)
			}
			if len(refused) > 0 {
				t.Errorf("it was tried %d times more", len(refused))
			}
			r.prepared(t) // nobody waits for it
		})
	}
}

// A decider that a later watcher feeds is left to it, until another process is there.
func TestFedByALaterWatcher(t *testing.T) {
	refused := make(chan struct{}, 100)
	first := &scripted{instance: "first", refuses: func() error { refused <- struct{}{}; return status.Error(codes.Aborted, "a later epoch") }}
	old := first.start(t)
	cluster := newSource(node("a"))
	r := run(t, Config{Deciders: names(old.address), State: cluster.get})
	<-refused
	r.prepared(t) // the refusal is known
	<-old.killed()
	r.wait(t)
	second := &scripted{instance: "second"}
	second.startAt(t, old.address)
	r.settled(t, 1)
	second.synced(t, cluster)
	if got := r.Unprepared(); got != nil {
		t.Errorf("unprepared are %v, though it holds the state", got)
	}
}

// That a question who it is went unanswered does not make a replica that is fed one that
// is not.
func TestFedBeforeItIsIntroduced(t *testing.T) {
	fed := make(chan struct{})
	d := &scripted{describes: func(n int) error {
		if n == 3 { // after the connection broke
			<-fed
			return status.Error(codes.Unavailable, "not now")
		}
		return nil
	}}
	served := d.start(t)
	cluster := newSource(node("a"))
	r := run(t, Config{Deciders: names(served.address), State: cluster.get})
	r.settled(t, 1)
	served.mu.Lock()
	for _, conn := range served.conns {
		conn.Close()
	}
	served.mu.Unlock()
	d.until(t, "it is fed again", func() bool { return d.begins == 2 && d.held != nil })
	r.settled(t, 1)
	close(fed)
	r.wait(t)
	r.wait(t, served.address)
	if got := r.Unprepared(); got != nil {
		t.Errorf("unprepared are %v, though it holds the state", got)
	}
}

// Two replicas behind one name are fed the same, and do without each other.
func TestTwoReplicas(t *testing.T) {
	one, two := &scripted{instance: "one"}, &scripted{instance: "two"}
	first, second := one.start(t), two.start(t)
	cluster := newSource(node("a"))
	r := run(t, Config{Deciders: names("two:///deciders"), Resolvers: behind("two", first, second), State: cluster.get})
	r.settled(t, 1)
	r.settled(t, cluster.change(r.Pool, changes(pod("p", "a"))))
	for i := range 20 {
		r.askAbout(t, cluster, fmt.Sprint(i))
	}
	one.mu.Lock()
	two.mu.Lock()
	for _, d := range []*scripted{one, two} {
		if len(d.asked) == 0 || slices.ContainsFunc(d.asked, func(asked string) bool { return asked != "reference 2" }) {
			t.Errorf("%s was asked %v, want only by reference, and not never", d.instance, d.asked)
		}
	}
	one.mu.Unlock()
	two.mu.Unlock()
	first.kill()
	for i := range 2 {
		if decided, attempts := r.askAbout(t, cluster, fmt.Sprint(i)); decided.Response.GetConfigDigest() != "two" {
			t.Errorf("answered by %q, %v after %s", decided.Response.GetConfigDigest(), decided.Err, attempts)
		}
	}
}

// behind looks up a name of the scheme, behind which are these.
func behind(scheme string, deciders ...*served) []resolver.Builder {
	name := manual.NewBuilderWithScheme(scheme)
	var addresses []resolver.Address
	for _, d := range deciders {
		addresses = append(addresses, resolver.Address{Addr: d.address})
	}
	name.InitialState(resolver.State{Addresses: addresses})
	return []resolver.Builder{name}
}

// A replica that has lost its state between the delta and the question is asked again
// with a snapshot, if nobody else has it.
func TestStateLost(t *testing.T) {
	d := &scripted{}
	cluster := newSource(node("a"))
	r := run(t, Config{Deciders: names(d.start(t).address), State: cluster.get})
	r.settled(t, 1)
	d.note(func() { d.held = nil })
	if decided, attempts := r.ask(t, cluster); decided.Err != nil || attempts != "FailedPrecondition OK" {
		t.Errorf("%v after %s", decided.Err, attempts)
	}
	if want := []string{"in vain", "inline 1"}; !slices.Equal(d.asked, want) {
		t.Errorf("asked %v, want %v", d.asked, want)
	}
}

// A batch that comes while the whole state is on its way waits for that.
func TestWaitsForTheState(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	d := &scripted{commit: func(n int, _ *berthv1.SyncCommit) (*berthv1.SyncResponse, error) {
		if n == 1 {
			close(arrived)
			<-release
		}
		return nil, nil
	}}
	cluster := newSource(node("a"))
	r := run(t, Config{Deciders: names(d.start(t).address), State: cluster.get})
	<-arrived
	r.wait(t, r.targets[0].name)
	if got := r.Unprepared(); !slices.Equal(got, []string{"berth"}) {
		t.Errorf("unprepared are %v while the state is on its way", got)
	}
	go close(release)
	r.ask(t, cluster)
	if got := r.Unprepared(); got != nil {
		t.Errorf("unprepared are %v, though it was asked", got)
	}
	if want := []string{"reference 1"}; !slices.Equal(d.asked, want) {
		t.Errorf("asked %v, want %v", d.asked, want)
	}
}

// A replica that does not keep up holds up nobody: the others are fed, the feed does not
// block, and it is sent the whole state in the end.
func TestSlowReplica(t *testing.T) {
	stuck, release := make(chan struct{}), make(chan struct{})
	slow := &scripted{instance: "slow", commit: func(n int, _ *berthv1.SyncCommit) (*berthv1.SyncResponse, error) {
		if n == 2 {
			close(stuck)
			<-release
		}
		return nil, nil
	}}
	quick := &scripted{instance: "quick"}
	first, second := slow.start(t), quick.start(t)
	cluster := newSource(node("a"))
	r := run(t, Config{Deciders: names(first.address, second.address), State: cluster.get})
	r.settled(t, 1)
	cluster.change(r.Pool, changes(pod("p", "a")))
	<-stuck
	const perChange, kept = 100, 1000
	r.feed.mu.Lock()
	r.feed.maxBehind = kept
	r.feed.mu.Unlock()
	var last uint64
	for i := range 4 * kept / perChange { // more than is kept, and than a connection takes
		var records []proto.Message
		for j := range perChange {
			p := pod(fmt.Sprint("p", j), "a")
			p.Labels = map[string]string{"i": fmt.Sprint(i), "long": strings.Repeat("x", 1000)}
			records = append(records, p)
		}
		last = cluster.change(r.Pool, changes(records...))
		quick.until(t, "the other is fed", func() bool { return quick.held.GetVersion() == last })
	}
	close(release)
	r.settled(t, last)
	slow.synced(t, cluster)
	if slow.begins != 2 || quick.begins != 1 {
		t.Errorf("%d and %d states were sent, want 2 and 1", slow.begins, quick.begins)
	}
	r.feed.mu.Lock()
	defer r.feed.mu.Unlock()
	if len(r.feed.deltas) > 0 || r.feed.full != nil {
		t.Errorf("%d deltas and the state %v are kept for nobody", len(r.feed.deltas), r.feed.full)
	}
}

// A standby feeds nobody: there is no state before it leads.
func TestStandby(t *testing.T) {
	d := &scripted{}
	cluster := newSource(node("a"))
	leads := make(chan struct{})
	r := run(t, Config{Deciders: names(d.start(t).address), State: func(ctx context.Context) (driver.State, error) {
		select {
		case <-leads:
			return cluster.get(ctx)
		case <-ctx.Done():
			return driver.State{}, ctx.Err()
		}
	}})
	r.wait(t, r.targets[0].name)
	if p := r.targets[0].all()[0].progress(); p.full != 0 || d.begins != 0 {
		t.Errorf("it is fed: %+v", p)
	}
	if got := r.Unprepared(); !slices.Equal(got, []string{"berth"}) {
		t.Errorf("unprepared are %v before there is a state", got)
	}
	close(leads)
	r.settled(t, 1)
	if got := r.Unprepared(); got != nil {
		t.Errorf("unprepared are %v, though it holds the state", got)
	}
}

// A real decider that is fed anything, over connections that break, answers for the very
// state that the cluster is in.
func TestDeciderHoldsTheSame(t *testing.T) {
	const steps, breaks = 300, 25
	d := serve(t, "127.0.0.1:0", service.Config{Policy: policy.First()})
	cluster := newSource(node("n0"))
	r := run(t, Config{Deciders: names(d.address), State: cluster.get})
	r.wait(t, d.address)
	random := rand.New(rand.NewPCG(1, 2))
	name := func(kind string) string { return fmt.Sprint(kind, random.IntN(8)) }
	referred := 0
	for i := range steps {
		if i%breaks == breaks-1 {
			d.mu.Lock()
			for _, conn := range d.conns {
				conn.Close()
			}
			d.conns = nil
			d.mu.Unlock()
		}
		if i%breaks == 5 { // until then it is not known which way it is asked
			now, _ := cluster.get(t.Context())
			r.settled(t, now.Snapshot.GetVersion())
		}
		labels := map[string]string{"step": fmt.Sprint(i)}
		n, p := node(name("n")), pod(name("p"), name("n"))
		n.Labels, p.Labels = labels, labels
		cluster.change(r.Pool, []*berthv1.Changes{
			changes(n), changes(p), changes(p, n), changes(pod("odd", "")), // no node is a fault
			changes(&berthv1.Namespace{Name: name("ns"), Labels: labels}), changes(&berthv1.DisruptionBudget{Namespace: "ns", Name: name("b"), DisruptionsAllowed: int32(i)}),
			{RemovedNodes: []string{name("n")}}, {RemovedPlacedPods: []string{name("p"), "odd"}}, {RemovedNamespaces: []string{name("ns")}},
			{RemovedDisruptionBudgets: []*berthv1.DisruptionBudgetKey{{Namespace: "ns", Name: name("b")}}},
		}[random.IntN(10)])
		decided, attempts := r.ask(t, cluster)
		if decided.Err != nil {
			continue // the connection is being made again
		}
		now, _ := cluster.get(t.Context())
		want := digest.Of(now.Snapshot).String()
		if got := decided.Response; got.GetVersion() != now.Snapshot.GetVersion() || got.GetStateDigest() != want {
			t.Fatalf("step %d, %s: it decided on version %d with digest %s; the state is version %d with digest %s",
				i, attempts, got.GetVersion(), got.GetStateDigest(), now.Snapshot.GetVersion(), want)
		}
		if r.targets[0].all()[0].progress().held > 0 {
			referred++
		}
	}
	if referred < steps/2 {
		t.Errorf("it was fed for %d of %d questions", referred, steps)
	}
}
