package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/berth-scheduler/berth/deploy/bench/decide/internal/workload"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// A Case is pods that are decided on: classes of one kind, in turn.
type Case struct {
	Kind     string `json:"kind"`
	InterPod bool   `json:"interPod"`
	Classes  int    `json:"classes"`
	// TooBig is set if the pods fit on no node.
	TooBig bool `json:"tooBig"`
}

func (c Case) String() string {
	s := c.Kind
	if c.Classes > 1 {
		s = fmt.Sprintf("%s, %d classes", s, c.Classes)
	}
	if c.TooBig {
		s += ", rejected"
	}
	return s
}

// classes are those of the case on a cluster.
func (c Case) classes(cluster *workload.Cluster) []*workload.Class {
	if c.Kind == mixed {
		return workload.Mixed()
	}
	return workload.KindNamed(cluster, c.Kind).Classes(c.Classes, c.TooBig)
}

// mixed names the classes of workload.Mixed, which are of several kinds.
const mixed = "mixed"

// A State is a cluster that a decider was fed.
type State struct {
	Nodes int     `json:"nodes"`
	Full  float64 `json:"full"`
}

// A Feeding is what it cost that a decider had a state.
type Feeding struct {
	State
	Solver string `json:"solver"`
	// Skipped is why nothing was measured.
	Skipped string `json:"skipped,omitempty"`
	// Inline is set if the decider has no Sync: each request brought the state.
	Inline bool `json:"inline,omitempty"`
	// Bytes and FullTime are of the state as a whole.
	Bytes    int64         `json:"bytes"`
	FullTime time.Duration `json:"fullNanoseconds"`
	// DeltaPods placed pods came or went in DeltaBytes and DeltaTime.
	DeltaPods  int           `json:"deltaPods"`
	DeltaBytes int64         `json:"deltaBytes"`
	DeltaTime  time.Duration `json:"deltaNanoseconds"`
	// Empty is what a request without pods took, the median of several.
	Empty time.Duration `json:"emptyRequestNanoseconds"`
	// Peak is the most memory that the decider held, in bytes.
	Peak int64 `json:"peakBytes"`
}

// A Measurement is one case decided by one decider.
type Measurement struct {
	State
	Case
	Solver string `json:"solver"`
	// Skipped is why nothing was measured.
	Skipped string `json:"skipped,omitempty"`
	// Pods were decided while it was measured, in batches of Batch, in Time as the
	// client sees it and with so much processor time of the decider; Empty is what
	// as many requests without pods take of that Time.
	Pods  int           `json:"pods"`
	Batch int           `json:"batch"`
	Time  time.Duration `json:"nanoseconds"`
	Empty time.Duration `json:"emptyNanoseconds"`
	CPU   time.Duration `json:"cpuNanoseconds"`
	// Placed of them got a node.
	Placed int `json:"placed"`
	// First is what the first request took, of FirstPods pods.
	First     time.Duration `json:"firstNanoseconds"`
	FirstPods int           `json:"firstPods"`
	// Answer says how the first answer compares with the plain solver's.
	Answer Answer `json:"answer"`
	// Why is the first difference between the answers.
	Why string `json:"why,omitempty"`

	first []*berthv1.Decision
}

// PerDecision is what one decision took beyond what the request took without it; 0 if
// nothing was measured, or the decisions took no longer than requests without them.
func (m *Measurement) PerDecision() time.Duration {
	if m.Pods == 0 {
		return 0
	}
	return max(0, m.Time-m.Empty) / time.Duration(m.Pods)
}

// PerSecond is how many decisions a second has room for, whole requests.
func (m *Measurement) PerSecond() int {
	if m.Pods == 0 {
		return 0
	}
	return int(float64(m.Pods) / m.Time.Seconds())
}

// An Answer compares the answers of two deciders.
type Answer string

const (
	// NotCompared: there was nothing to compare with.
	NotCompared Answer = ""
	// Equal: the messages are equal.
	Equal Answer = "equal"
	// SameNodes: the messages differ in words or hints alone: outcomes, nodes, scores
	// and rejections' messages are equal.
	SameNodes Answer = "same nodes"
	// Differs: the decisions differ.
	Differs Answer = "differs"
)

// limits bound what one case may take.
type limits struct {
	seconds  time.Duration // of decisions that are measured
	decision time.Duration // of a single decision, or the case is skipped
	batch    int           // pods in one request
}

// A session is a decider with a state.
type session struct {
	*decider
	cluster *workload.Cluster
	feed    *feed  // nil without Sync
	inline  []byte // the state, without Sync
}

// open feeds d.
func open(ctx context.Context, d *decider, c *workload.Cluster) (*session, *Feeding, error) {
	s := &session{decider: d, cluster: c}
	f := &Feeding{State: State{c.Nodes, c.Full}, Solver: d.solver}
	var err error
	if s.feed, err = newFeed(ctx, d); err != nil {
		return nil, nil, err
	}
	full, err := s.feed.begin(c)
	if status.Code(err) == codes.Unimplemented {
		s.feed, s.inline, f.Inline = nil, snapshot(c), true
		full, err = transfer{Bytes: int64(len(s.inline))}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	f.Bytes, f.FullTime = full.Bytes, full.Time
	f.Empty, err = s.empty(ctx)
	return s, f, err
}

// empty is what a request without pods takes.
func (s *session) empty(ctx context.Context) (time.Duration, error) {
	times := make([]time.Duration, 5)
	for i := range times {
		r, err := s.ask(ctx, nil, 0, 0, 0)
		if err != nil {
			return 0, err
		}
		times[i] = r.time
	}
	return median(times), nil
}

// ask has the decider decide on count pods from first on, of the classes in turn.
func (s *session) ask(ctx context.Context, classes []*workload.Class, first, count int, seed uint64) (*reply, error) {
	r := &request{seed: seed, inline: s.inline}
	if s.feed != nil {
		r.version = s.feed.version
	}
	for i := first; i < first+count; i++ {
		r.add(func(b []byte) []byte { return classes[i%len(classes)].AppendPod(b, i) })
	}
	return s.decide(ctx, r)
}

// measure measures one case and leaves the state as it was.
func (s *session) measure(ctx context.Context, c Case, l limits, f *Feeding) (*Measurement, error) {
	m := &Measurement{State: f.State, Case: c, Solver: s.solver, FirstPods: 8}
	if s.cluster.Nodes > 100_000 {
		m.FirstPods = 3
	}
	classes := c.classes(s.cluster)
	one, err := s.ask(ctx, classes, 0, 1, firstSeed)
	if err != nil {
		return nil, err
	}
	if one.time-f.Empty > l.decision {
		m.Skipped = fmt.Sprintf("one decision took %s", (one.time - f.Empty).Round(time.Second/10))
		return m, nil
	}
	first, err := s.ask(ctx, classes, 0, m.FirstPods, firstSeed)
	if err != nil {
		return nil, err
	}
	m.First = one.time
	if m.first, err = first.decisions(); err != nil {
		return nil, err
	}
	if err := s.steady(ctx, m, classes, l, f.Empty, first.time); err != nil {
		return nil, err
	}
	if m.Time > 2*l.seconds {
		return m, nil // asking again takes too long
	}
	again, err := s.ask(ctx, classes, 0, m.FirstPods, firstSeed)
	if err != nil {
		return nil, err
	}
	repeated, err := again.decisions()
	if err != nil {
		return nil, err
	}
	if answer, why := compare(m.first, repeated); answer != Equal {
		m.Answer, m.Why = Differs, "the same question on the same state, later: "+why
	}
	return m, nil
}

// firstSeed breaks ties where answers are compared.
const firstSeed = 7

// steady decides batch after batch, in which the pods of the last one take the place of
// those of the one before; empty is what a request without pods takes, took what
// FirstPods pods took. Batches grow until one takes a good part of the time that there
// is; an indexed decider, which learns, sees pods of each class first; then it is measured.
func (s *session) steady(ctx context.Context, m *Measurement, classes []*workload.Class, l limits, empty, took time.Duration) error {
	p := &placements{session: s}
	next, batch := m.FirstPods, m.FirstPods
	learnt, patience := next, 1
	if s.solver == indexed {
		learnt, patience = learnt+4*len(classes), 2 // what it learns takes time once
	}
	for warmedUp := time.Duration(0); warmedUp < 10*l.seconds; warmedUp += took {
		if took-empty < l.seconds/8 && batch < l.batch {
			batch = min(8*batch, l.batch)
		} else {
			patience--
		}
		if patience <= 0 && next >= learnt {
			break
		}
		r, err := s.ask(ctx, classes, next, batch, uint64(next))
		if err != nil {
			return err
		}
		if err := p.replace(classes, next, r.answers); err != nil {
			return err
		}
		next, took = next+batch, r.time
	}
	m.Batch = batch
	for m.Time < l.seconds {
		cpu := s.cpu()
		r, err := s.ask(ctx, classes, next, batch, uint64(next))
		if err != nil {
			return err
		}
		m.CPU += s.cpu() - cpu
		m.Time += r.time
		m.Empty += empty
		m.Pods += batch
		for i := range r.answers {
			if r.answers[i].outcome == berthv1.Outcome_OUTCOME_PLACED {
				m.Placed++
			}
		}
		if err := p.replace(classes, next, r.answers); err != nil {
			return err
		}
		next += batch
	}
	return p.replace(classes, next, nil)
}

// placements are the pods that were placed last and stand in the decider's state.
type placements struct {
	*session
	pods []int
}

// replace takes the pods that stand there away and puts those of answers in their place,
// the first of which is pod first.
func (p *placements) replace(classes []*workload.Class, first int, answers []answer) error {
	if p.feed == nil {
		return nil // each request brings the same state
	}
	for _, i := range p.pods {
		if err := p.feed.add(fieldRemovedPlaced, func(b []byte) []byte { return append(b, workload.UID(i)...) }); err != nil {
			return err
		}
	}
	p.pods = p.pods[:0]
	for i := range answers {
		if answers[i].outcome != berthv1.Outcome_OUTCOME_PLACED {
			continue
		}
		node, ok := p.cluster.NodeIndex(answers[i].node)
		if !ok {
			return fmt.Errorf("decide: there is no node %q", answers[i].node)
		}
		pod := first + i
		if err := p.feed.add(fieldPlaced, func(b []byte) []byte {
			return classes[pod%len(classes)].AppendPlaced(b, pod, node)
		}); err != nil {
			return err
		}
		p.pods = append(p.pods, pod)
	}
	if err := p.feed.commit(); err != nil {
		return err
	}
	return p.feed.await()
}

// delta measures what it takes that so many pods come and go.
func (s *session) delta(f *Feeding, count int) error {
	if s.feed == nil {
		return nil
	}
	classes := workload.KindNamed(s.cluster, "plain").Classes(1, false)
	answers := make([]answer, count)
	for i := range answers {
		answers[i] = answer{outcome: berthv1.Outcome_OUTCOME_PLACED, node: []byte(workload.NodeName(i % s.cluster.Nodes))}
	}
	p := &placements{session: s}
	s.feed.sent = transfer{}
	start := time.Now()
	if err := p.replace(classes, 0, answers); err != nil {
		return err
	}
	f.DeltaPods, f.DeltaBytes, f.DeltaTime = s.feed.sent.Records, s.feed.sent.Bytes, time.Since(start)
	return p.replace(classes, 0, nil)
}

// decisions decodes what was decided.
func (r *reply) decisions() ([]*berthv1.Decision, error) {
	encoded := make([][]byte, len(r.answers))
	for i := range encoded {
		encoded[i] = r.answers[i].raw
	}
	return decisions(encoded)
}

func decisions(encoded [][]byte) ([]*berthv1.Decision, error) {
	out := make([]*berthv1.Decision, len(encoded))
	for i := range out {
		out[i] = &berthv1.Decision{}
		if err := proto.Unmarshal(encoded[i], out[i]); err != nil {
			return nil, fmt.Errorf("a decision cannot be decoded: %w", err)
		}
	}
	return out, nil
}

// compare compares the answers to one question; why is the first difference.
func compare(want, have []*berthv1.Decision) (_ Answer, why string) {
	answer := Equal
	for i := range want {
		if proto.Equal(want[i], have[i]) {
			continue
		}
		if !sameDecision(want[i], have[i]) {
			return Differs, fmt.Sprintf("pod %d: %v instead of %v", i, have[i], want[i])
		}
		if answer == Equal {
			answer, why = SameNodes, fmt.Sprintf("pod %d: %v instead of %v", i, have[i], want[i])
		}
	}
	return answer, why
}

// sameDecision says whether two decisions are equal but for words and hints.
func sameDecision(a, b *berthv1.Decision) bool {
	if a.GetOutcome() != b.GetOutcome() || len(a.GetCandidates()) != len(b.GetCandidates()) {
		return false
	}
	for i := range a.GetCandidates() {
		if !proto.Equal(a.GetCandidates()[i], b.GetCandidates()[i]) {
			return false
		}
	}
	return a.GetRejection().GetMessage() == b.GetRejection().GetMessage()
}
