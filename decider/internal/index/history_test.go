package index_test

import (
	"fmt"
	"runtime/debug"

	"google.golang.org/protobuf/proto"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/index"
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/solve"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// history is what happened to a cluster and what was asked about it.
type history struct {
	config index.Config
	steps  []*step
}

// The laws, as a violation names them.
const (
	lawState   = "the plain solver on the long-lived snapshot answers as on one that was decoded anew"
	lawIndex   = "the index answers as the plain solver does on a snapshot that was decoded anew"
	lawUndo    = "after a decision everything is as it was"
	lawContent = "what has a key can be decoded"
	lawPanic   = "nothing panics"
)

// violation is a law that does not hold.
type violation struct {
	law string
	// step is the place of the step in the history, pod that of the pod in its request.
	step, pod int
	// who answered, and how; or the panic.
	who       string
	want, got string
}

// run takes one history through the index.
type run struct {
	content *cluster
	long    *model.Snapshot
	index   *index.Index
	config  index.Config
	asked   int
	// classes counts the pods of each class that were asked about.
	classes map[string]int
	seen    tally
}

func newRun(config index.Config) *run {
	r := &run{content: newCluster(), config: config, seen: tally{}, classes: map[string]int{}}
	r.resync(0)
	return r
}

var understood = filter.Constraints(filter.Default())

// resync makes the long-lived snapshot anew.
func (r *run) resync(order uint64) *violation {
	s, err := model.NewSnapshot(r.content.snapshot(order), understood)
	if err != nil {
		return &violation{law: lawContent, got: err.Error()}
	}
	r.seen.indexed(r.index)
	r.long, r.index = s, index.New(s, plain, r.config)
	r.index.Parallel = atOnce
	return nil
}

// atOnce calls do with the numbers below n, all at once; a panic comes to its caller.
func atOnce(n int, do func(i int)) {
	var panicked any
	ended := make(chan any, n)
	for i := range n {
		go func() {
			defer func() { ended <- recover() }()
			do(i)
		}()
	}
	for range n {
		if p := <-ended; p != nil {
			panicked = p
		}
	}
	if panicked != nil {
		panic(panicked)
	}
}

// apply changes the long-lived snapshot and what it should be.
func (r *run) apply(changes *berthv1.Changes) {
	r.content.apply(changes)
	r.long.Apply(changes)
}

// do takes one step; nil means that all laws hold.
func (r *run) do(s *step) (v *violation) {
	defer func() {
		if p := recover(); p != nil {
			v = &violation{law: lawPanic, got: fmt.Sprintf("%v\n%s", p, debug.Stack())}
		}
	}()
	if s.resync {
		if v := r.resync(^s.order); v != nil {
			return v
		}
	}
	var back *berthv1.Changes
	if s.changes != nil {
		if s.undo {
			back = r.content.inverse(s.changes)
		}
		r.apply(s.changes)
	}
	if s.ask != nil {
		decisions, v := r.decide(s)
		if v != nil {
			return v
		}
		if s.bind != 0 {
			r.apply(carriedOut(r.content, s, decisions))
		}
	}
	if back != nil {
		r.apply(back)
	}
	return nil
}

// decide asks everybody and compares.
func (r *run) decide(s *step) ([]*berthv1.Decision, *violation) {
	anew, err := model.NewSnapshot(r.content.snapshot(s.order), understood)
	if err != nil {
		return nil, &violation{law: lawContent, got: err.Error()}
	}
	want := plain.Decide(request(anew, s))
	onState := func(who string) *violation {
		return differ(lawState, who, want, plain.Decide(request(r.long, s)))
	}
	onIndex := func(law, who string) *violation {
		return differ(law, who, want, r.index.Decide(request(r.long, s)))
	}
	// Each finds what the one before it left, and the next request what these left.
	var v *violation
	switch r.asked++; r.asked % 3 {
	case 0:
		if v = onState("the plain solver before the index"); v == nil {
			v = onIndex(lawIndex, "the index after the plain solver")
		}
	case 1:
		if v = onIndex(lawIndex, "the index before the plain solver"); v == nil {
			v = onState("the plain solver after the index")
		}
	case 2:
		if v = onIndex(lawIndex, "the index"); v == nil {
			v = onIndex(lawUndo, "the index, asked again")
		}
	}
	r.seen.decided(r, s, want)
	return want, v
}

// request is what a step asks, on a snapshot.
func request(on *model.Snapshot, s *step) *solve.Request {
	r := &solve.Request{
		Snapshot: on, Seed: s.ask.GetSeed(), Candidates: int(s.ask.GetCandidates()), Preempt: s.ask.GetPreempt(),
		Explain: s.ask.GetExplanation() == berthv1.ExplanationLevel_EXPLANATION_LEVEL_NODES,
	}
	for _, record := range s.ask.GetPods() {
		p, err := on.NewPod(record)
		if err != nil || profiles[record.GetSchedulerName()] == nil {
			p = nil // refused
		}
		r.Pods = append(r.Pods, p)
	}
	if left := s.stopAfter; left >= 0 {
		r.Stop = func() bool { left--; return left < 0 }
	}
	return r
}

// differ returns the first difference.
func differ(law, who string, want, got []*berthv1.Decision) *violation {
	if len(want) != len(got) {
		return &violation{law: law, who: who, want: fmt.Sprint(len(want)), got: fmt.Sprint(len(got))}
	}
	for i := range want {
		if !proto.Equal(want[i], got[i]) {
			return &violation{law: law, pod: i, who: who, want: decisionText(want[i]), got: decisionText(got[i])}
		}
	}
	return nil
}

// carriedOut is what becomes of a cluster when the decisions of a step that it says
// are carried out: pods hold room, or it is set aside for them while victims leave.
func carriedOut(c *cluster, s *step, decisions []*berthv1.Decision) *berthv1.Changes {
	changes := &berthv1.Changes{}
	for i, d := range decisions {
		if s.bind>>(i%64)&1 == 0 {
			continue
		}
		if nodes := d.GetCandidates(); len(nodes) > 0 {
			q := held(s.ask.GetPods()[i], nodes[0].GetNodeName(), false)
			switch (s.order + uint64(i)) % 16 { // most are as they were decided
			case 0:
				q.NodeName = nodes[len(nodes)-1].GetNodeName()
			case 1:
				q.Labels = map[string]string{"app": "db"}
			case 2:
				q.StartTimeNanos, q.Terminating = 1, true
			case 3:
				q.Requests, q.ScoreRequests = map[string]int64{"cpu": 300}, map[string]int64{"cpu": 300}
			case 4:
				q.PodAntiAffinity, q.HostPorts = nil, nil
			}
			changes.PlacedPods = append(changes.PlacedPods, q)
		}
		for j, victim := range d.GetPreemption().GetVictims() {
			q := c.pods[victim.GetUid()]
			switch {
			case q == nil: // placed before in this request
			case j%3 == 2:
				changes.RemovedPlacedPods = append(changes.RemovedPlacedPods, q.GetUid())
			default:
				q = proto.CloneOf(q)
				q.Terminating, q.Preempted = true, true
				changes.PlacedPods = append(changes.PlacedPods, q)
			}
		}
		if node := d.GetPreemption().GetNodeName(); node != "" && s.nominate {
			changes.PlacedPods = append(changes.PlacedPods, held(s.ask.GetPods()[i], node, true))
		}
	}
	return changes
}

// held is the placed pod that p becomes.
func held(p *berthv1.Pod, node string, nominated bool) *berthv1.PlacedPod {
	q := &berthv1.PlacedPod{
		Uid: p.GetUid(), Name: p.GetName(), Namespace: p.GetNamespace(), NodeName: node, Labels: p.GetLabels(),
		Requests: p.GetRequests(), ScoreRequests: p.GetScoreRequests(), HostPorts: p.GetHostPorts(), Priority: p.GetPriority(),
		PodAffinity: p.GetPodAffinity(), PodAntiAffinity: p.GetPodAntiAffinity(), Nominated: nominated,
	}
	if placed := p.GetPlacedScoreRequests(); len(placed) > 0 {
		q.ScoreRequests = placed
	}
	return q
}

// check takes a history from its beginning; nil means that all laws hold.
func (h *history) check() *violation {
	r := newRun(h.config)
	for i, s := range h.steps {
		if v := r.do(s); v != nil {
			v.step = i
			return v
		}
	}
	return nil
}
