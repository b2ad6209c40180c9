package service

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/berth-scheduler/berth/decider/policy"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/digest"
)

// FuzzSync: whatever becomes of the messages of a watcher on their way (lost, repeated,
// late, out of order, on an old stream), what a decider acknowledges is what the watcher
// had at that version, as a fresh snapshot of it would be; and a watcher that begins
// anew over a way that loses nothing is always heard.
func FuzzSync(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 8 {
		f.Add(randomScript(random))
	}
	f.Fuzz(func(t *testing.T, script []byte) { play(t, script) })
}

// TestSyncHistories plays what FuzzSync begins with and more, and sees to it that
// everything happens.
func TestSyncHistories(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	total := map[string]int{}
	for range 25 {
		for what, times := range play(t, randomScript(random)) {
			total[what] += times
		}
	}
	for _, what := range []string{"acknowledged", "resync", "superseded", "rejected records", "lost", "repeated", "late"} {
		if total[what] == 0 {
			t.Errorf("%s: never in %v", what, total)
		}
	}
	t.Log(total)
}

func randomScript(random *rand.Rand) []byte {
	script := make([]byte, 400+random.IntN(2000))
	for i := range script {
		script[i] = byte(random.Uint32())
	}
	return script
}

// player is a watcher with a cluster, its streams, and the ways of its messages.
type player struct {
	*testing.T
	script []byte
	tally  map[string]int

	service, fresh *Service
	nodes          map[string]*berthv1.Node
	pods           map[string]*berthv1.PlacedPod
	namespaces     map[string]*berthv1.Namespace
	budgets        map[string]*berthv1.DisruptionBudget
	version        uint64
	epochs         int
	// had is what the watcher had when it committed, by epoch and version.
	had map[string]*berthv1.Snapshot

	streams []*way
	pending *berthv1.Changes // for the last stream
}

// way is a stream and what is on its way there.
type way struct {
	feed     *feed
	epoch    string
	sequence uint64
	from     uint64
	messages []*berthv1.SyncRequest
	ended    bool
}

func play(t *testing.T, script []byte) map[string]int {
	p := &player{
		T: t, script: script, tally: map[string]int{},
		nodes: map[string]*berthv1.Node{}, pods: map[string]*berthv1.PlacedPod{},
		namespaces: map[string]*berthv1.Namespace{}, budgets: map[string]*berthv1.DisruptionBudget{},
		had: map[string]*berthv1.Snapshot{},
	}
	var err error
	if p.service, err = New(Config{Policy: policy.Default()}); err != nil {
		t.Fatal(err)
	}
	if p.fresh, err = New(Config{Policy: policy.Default(), PlainSolver: true}); err != nil {
		t.Fatal(err)
	}
	p.connect()
	for len(p.script) > 0 {
		p.step()
	}
	// In the end everything arrives.
	p.epochs++
	p.connect()
	w := p.last()
	for !w.ended && len(w.messages) > 0 {
		p.deliver(w, 0)
	}
	if s := p.service.held.state; s == nil || s.version != p.version || s.epoch != w.epoch {
		t.Fatalf("what was fed in order is not held: %v", s)
	}
	return p.tally
}

// draw returns the next number of the script, below n.
func (p *player) draw(n int) int {
	if len(p.script) == 0 {
		return 0
	}
	b := p.script[0]
	p.script = p.script[1:]
	return int(b) % n
}

func (p *player) last() *way { return p.streams[len(p.streams)-1] }

func (p *player) step() {
	switch what := p.draw(20); {
	case what < 8:
		p.change()
	case what < 10:
		p.flush()
	case what < 12:
		p.flush()
		p.commit()
	case what < 18:
		p.network()
	case what < 19:
		if p.draw(3) == 0 {
			p.epochs++
		}
		p.connect()
	default:
		p.begin(p.last())
	}
}

// connect opens a stream of the watcher's epoch and sends everything.
func (p *player) connect() {
	w := &way{feed: &feed{service: p.service, feeder: p.service.held.arrive()}, epoch: fmt.Sprintf("epoch-%03d", p.epochs)}
	p.streams = append(p.streams, w)
	p.begin(w)
}

func (p *player) send(w *way, m *berthv1.SyncRequest) {
	m.Sequence = w.sequence
	w.sequence++
	w.messages = append(w.messages, m)
}

func (p *player) begin(w *way) {
	w.sequence, w.from = 0, 0
	p.pending = nil
	p.send(w, &berthv1.SyncRequest{Step: &berthv1.SyncRequest_Begin{Begin: &berthv1.SyncBegin{Epoch: w.epoch}}})
	content := p.content(w.epoch)
	p.send(w, changesMessage(&berthv1.Changes{Nodes: content.Nodes, Namespaces: content.Namespaces}))
	p.send(w, changesMessage(&berthv1.Changes{PlacedPods: content.PlacedPods, DisruptionBudgets: content.DisruptionBudgets}))
	p.commit()
}

func changesMessage(c *berthv1.Changes) *berthv1.SyncRequest {
	return &berthv1.SyncRequest{Step: &berthv1.SyncRequest_Changes{Changes: c}}
}

func (p *player) flush() {
	if p.pending != nil {
		p.send(p.last(), changesMessage(p.pending))
		p.pending = nil
	}
}

func (p *player) commit() {
	w := p.last()
	content := p.content(w.epoch)
	p.had[fmt.Sprint(w.epoch, " ", p.version)] = content
	p.send(w, &berthv1.SyncRequest{Step: &berthv1.SyncRequest_Commit{Commit: &berthv1.SyncCommit{
		FromVersion: w.from, Version: p.version, StateDigest: digest.Of(content).String(),
	}}})
	w.from = p.version
}

// content is what the watcher has, in no particular order.
func (p *player) content(epoch string) *berthv1.Snapshot {
	return proto.CloneOf(&berthv1.Snapshot{
		Epoch: epoch, Version: p.version,
		Nodes: slices.Collect(maps.Values(p.nodes)), PlacedPods: slices.Collect(maps.Values(p.pods)),
		Namespaces: slices.Collect(maps.Values(p.namespaces)), DisruptionBudgets: slices.Collect(maps.Values(p.budgets)),
	})
}

// change changes the cluster, content that makes no sense included.
func (p *player) change() {
	if p.pending == nil {
		p.pending = &berthv1.Changes{}
	}
	// A message removes first, whatever the order in which things happened.
	c := p.pending
	p.version++
	name := fmt.Sprint("n", p.draw(5))
	uid := fmt.Sprint("u", p.draw(8))
	switch p.draw(8) {
	case 0, 1:
		n := &berthv1.Node{
			Name: name, Labels: map[string]string{"zone": fmt.Sprint("z", p.draw(2))},
			Allocatable: map[string]int64{"cpu": int64(p.draw(6)) - 1, "pods": 5, "x/y": int64(p.draw(2))},
		}
		switch p.draw(6) {
		case 0:
			n.Taints = []*berthv1.Taint{{Key: "t", Effect: berthv1.TaintEffect(p.draw(5))}}
		case 1:
			n.Constraints = []string{"Quantum"}
		case 2:
			n.Images = map[string]int64{"i": 1 << 30}
		}
		p.nodes[name] = n
		c.Nodes = append(c.Nodes, n)
	case 2:
		p.flushIf(slices.ContainsFunc(c.Nodes, func(n *berthv1.Node) bool { return n.Name == name }))
		delete(p.nodes, name)
		p.pending.RemovedNodes = append(p.pending.RemovedNodes, name)
	case 3, 4, 5:
		q := &berthv1.PlacedPod{
			Uid: uid, Name: uid, Namespace: "d", NodeName: name, Labels: map[string]string{"app": fmt.Sprint(p.draw(2))},
			Requests: map[string]int64{"cpu": int64(p.draw(3))}, Nominated: p.draw(8) == 0,
		}
		switch p.draw(6) {
		case 0:
			q.HostPorts = []*berthv1.HostPort{{Port: int32(p.draw(2))}}
		case 1:
			q.Constraints = []string{"Quantum"}
		case 2:
			q.PodAntiAffinity = &berthv1.PodAffinity{Required: []*berthv1.PodAffinityTerm{{
				TopologyKey: "zone", LabelSelector: &berthv1.LabelSelector{MatchLabels: map[string]string{"app": "0"}},
			}}}
		}
		p.pods[uid] = q
		c.PlacedPods = append(c.PlacedPods, q)
	case 6:
		p.flushIf(slices.ContainsFunc(c.PlacedPods, func(q *berthv1.PlacedPod) bool { return q.Uid == uid }))
		delete(p.pods, uid)
		p.pending.RemovedPlacedPods = append(p.pending.RemovedPlacedPods, uid)
	case 7:
		switch p.draw(4) {
		case 0:
			p.namespaces[name] = &berthv1.Namespace{Name: name, Labels: map[string]string{"team": uid}}
			c.Namespaces = append(c.Namespaces, p.namespaces[name])
		case 1:
			p.flushIf(len(c.Namespaces) > 0)
			delete(p.namespaces, name)
			p.pending.RemovedNamespaces = append(p.pending.RemovedNamespaces, name)
		case 2:
			p.budgets[name] = &berthv1.DisruptionBudget{Name: name, DisruptionsAllowed: int32(p.draw(3))}
			c.DisruptionBudgets = append(c.DisruptionBudgets, p.budgets[name])
		case 3: // what has no key is in nobody's state
			c.Nodes = append(c.Nodes, &berthv1.Node{Uid: uid})
		}
	}
}

// flushIf sends what there is, so that a removal comes after what it removes.
func (p *player) flushIf(yes bool) {
	if yes {
		p.flush()
		p.pending = &berthv1.Changes{}
	}
}

// network does something to the messages that are on their way.
func (p *player) network() {
	w := p.streams[len(p.streams)-1-min(p.draw(8)/6, len(p.streams)-1)]
	if len(w.messages) == 0 {
		return
	}
	at := 0
	switch p.draw(40) {
	case 0:
		p.tally["lost"]++
		w.messages = w.messages[1:]
		return
	case 1:
		p.tally["repeated"]++
		w.messages = append(w.messages, w.messages[p.draw(len(w.messages))])
	case 2:
		p.tally["late"]++
		at = p.draw(len(w.messages))
	}
	for range 1 + p.draw(6) {
		if at >= len(w.messages) {
			return
		}
		p.deliver(w, at)
	}
}

// deliver has a message arrive, and looks at what the decider makes of it.
func (p *player) deliver(w *way, at int) {
	m := proto.CloneOf(w.messages[at])
	w.messages = slices.Delete(w.messages, at, at+1)
	select {
	case <-w.feed.feeder.evicted:
		w.ended = true
	default:
	}
	if w.ended {
		return
	}
	response, err := w.feed.take(p.Context(), &syncRequest{SyncRequest: m})
	switch {
	case err != nil:
		p.tally["superseded"]++
		w.ended = true
		p.service.held.leave(w.feed.feeder)
		if w == p.last() {
			p.Fatalf("the watcher's last stream ended: %v", err)
		}
	case response.GetResync() != "":
		p.tally["resync"]++
		if w == p.last() {
			p.begin(w)
		}
	case response != nil:
		p.tally["acknowledged"]++
		p.tally["rejected records"] += len(response.GetRejectedRecords())
		p.compare(response)
	}
}

// compare compares what was acknowledged with what the watcher had.
func (p *player) compare(response *berthv1.SyncResponse) {
	had := p.had[fmt.Sprint(response.GetEpoch(), " ", response.GetVersion())]
	if had == nil {
		p.Fatalf("version %d of %s was never committed", response.GetVersion(), response.GetEpoch())
	}
	amounts := map[string]int64{"cpu": 1}
	pods := []*berthv1.Pod{
		{Uid: "1", Namespace: "d", Labels: map[string]string{"app": "0"}, Requests: amounts},
		{Uid: "2", Namespace: "d", Labels: map[string]string{"app": "1"}, Requests: map[string]int64{"x/y": 1}, Images: []string{"i"}},
		{Uid: "3", Namespace: "d", Labels: map[string]string{"app": "1"}, HostPorts: []*berthv1.HostPort{{Port: 1}}},
		{Uid: "4", Namespace: "d", Labels: map[string]string{"app": "0"}, Requests: map[string]int64{"cpu": 100}},
		{Uid: "u1", Namespace: "d", Priority: 1, Requests: amounts},
	}
	ask := func(s *Service, r *berthv1.DecideRequest) *berthv1.DecideResponse {
		r.Pods, r.Preempt, r.Candidates, r.Seed = pods, true, 2, response.GetVersion()
		answer, err := s.Decide(p.Context(), r)
		if err != nil {
			p.Fatal(err)
		}
		return answer
	}
	want := ask(p.fresh, &berthv1.DecideRequest{State: &berthv1.DecideRequest_Snapshot{Snapshot: had}})
	for name, r := range map[string]*berthv1.DecideRequest{
		"live":         {},
		"hypothetical": {Hypothetical: &berthv1.Changes{}},
	} {
		r.State = &berthv1.DecideRequest_Reference{Reference: &berthv1.StateReference{
			Epoch: response.GetEpoch(), ExactVersion: response.GetVersion(),
		}}
		if got := ask(p.service, r); !proto.Equal(got, want) {
			p.Fatalf("%s: %v\n\nanswers %v\n\nwant    %v", name, had, got, want)
		}
	}
	if got := response.GetStateDigest(); got != want.GetStateDigest() {
		p.Fatalf("the digest is %s, want %s", got, want.GetStateDigest())
	}
}
