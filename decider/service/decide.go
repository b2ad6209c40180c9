package service

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/berth-scheduler/berth/decider/internal/index"
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/solve"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/digest"
)

// Decide answers which node each pod of the request should get. Its errors are
// gRPC statuses, as the contract says.
func (s *Service) Decide(ctx context.Context, request *berthv1.DecideRequest) (*berthv1.DecideResponse, error) {
	return s.decideRequest(ctx, &decideRequest{DecideRequest: request})
}

// decideRequest is Decide for a request whose pods' kinds may be known.
func (s *Service) decideRequest(ctx context.Context, request *decideRequest) (*berthv1.DecideResponse, error) {
	start := time.Now()
	if limit := s.config.MaxPods; limit > 0 && len(request.GetPods()) > limit {
		return nil, status.Errorf(codes.ResourceExhausted,
			"pods: %d are more than the %d that this decider takes in one request: send fewer", len(request.GetPods()), limit)
	}
	if err := checkEnvelope(request); err != nil {
		return nil, err
	}
	leave, err := s.admission.enter(isWhatIf(request))
	if err != nil {
		return nil, err
	}
	defer leave()

	last := lastMoment(ctx, start)
	var response *berthv1.DecideResponse
	if request.GetReference() != nil {
		response, err = s.decideByReference(ctx, request, last)
	} else {
		response, err = s.decideInline(ctx, request, last)
	}
	if err != nil {
		return nil, err
	}
	s.metrics.observe(response, time.Since(start))
	return response, nil
}

// checkEnvelope says what a request's own fields get wrong, as a gRPC status.
func checkEnvelope(request *decideRequest) error {
	if request.GetState() == nil {
		return status.Error(codes.InvalidArgument, "snapshot: there is no state to decide on: send a snapshot or a reference")
	}
	if _, known := berthv1.ExplanationLevel_name[int32(request.GetExplanation())]; !known {
		return status.Errorf(codes.InvalidArgument, "explanation: %d is not a level", request.GetExplanation())
	}
	if request.GetCandidates() < 0 {
		return status.Errorf(codes.InvalidArgument, "candidates: %d is negative", request.GetCandidates())
	}
	if err := model.CheckKeys(request.GetHypothetical()); err != nil {
		return status.Errorf(codes.InvalidArgument, "hypothetical.%v", err)
	}
	return nil
}

// isWhatIf says whether a person asks, and no pod waits for the answer.
func isWhatIf(request *decideRequest) bool {
	return request.GetHypothetical() != nil ||
		request.GetExplanation() != berthv1.ExplanationLevel_EXPLANATION_LEVEL_UNSPECIFIED
}

// decideInline decides on the snapshot that the request brought.
func (s *Service) decideInline(ctx context.Context, request *decideRequest, last time.Time) (*berthv1.DecideResponse, error) {
	done, err := s.admission.turn(ctx, isWhatIf(request))
	if err != nil {
		return nil, err
	}
	defer done()
	state := request.GetSnapshot()
	snapshot, fieldErr := model.NewSnapshot(state, s.understood)
	if fieldErr != nil {
		return nil, status.Error(codes.InvalidArgument, fieldErr.Error())
	}
	response := &berthv1.DecideResponse{Epoch: state.GetEpoch(), Version: state.GetVersion(), ConfigDigest: s.digest}
	if !s.config.OmitStateDigest {
		response.StateDigest = digest.Of(state).String()
	}
	if c := request.GetHypothetical(); c != nil {
		snapshot.Apply(c)
		state = asSnapshot(changed(&berthv1.Changes{
			Nodes: state.GetNodes(), PlacedPods: state.GetPlacedPods(),
			Namespaces: state.GetNamespaces(), DisruptionBudgets: state.GetDisruptionBudgets(),
		}, c))
	}
	response.Decisions = s.decide(ctx, request, last, snapshot, state)
	return response, nil
}

// decideByReference decides on the state that is held.
func (s *Service) decideByReference(ctx context.Context, request *decideRequest, last time.Time) (*berthv1.DecideResponse, error) {
	waiting, cancel := context.WithCancel(ctx)
	if !last.IsZero() {
		waiting, cancel = context.WithDeadline(ctx, last)
	}
	defer cancel()
	defer context.AfterFunc(s.ending, cancel)()
	for {
		st, err := s.held.await(waiting, request.GetReference())
		switch {
		case err != nil && ctx.Err() == nil && s.ending.Err() != nil:
			return nil, errDraining
		case err != nil:
			return nil, err
		}
		response, err := s.decideOn(ctx, st, request, last)
		if response != nil || err != nil {
			return response, err
		}
	}
}

// decideOn decides on a state. The answer is nil if the state is not, any more, what the
// request refers to.
func (s *Service) decideOn(ctx context.Context, st *state, request *decideRequest, last time.Time) (*berthv1.DecideResponse, error) {
	done, err := s.admission.turn(ctx, isWhatIf(request))
	if err != nil {
		return nil, err
	}
	defer done()
	response, copied, err := s.decideOrCopy(ctx, st, request, last)
	if copied == nil || err != nil {
		return response, err
	}
	// Nothing that was copied is written to, and nobody waits for this.
	records := copied.records()
	if c := request.GetHypothetical(); c != nil {
		records = changed(records, c)
	}
	snapshot := model.New(s.understood)
	snapshot.Apply(records)
	response.Decisions = s.decide(ctx, request, last, snapshot, asSnapshot(records))
	return response, nil
}

// decideOrCopy takes the state's turn. It decides where a pod waits for the answer, and
// copies the state where somebody else decides or only a person does. The answer is nil
// if the state is not, any more, what the request refers to.
func (s *Service) decideOrCopy(ctx context.Context, st *state, request *decideRequest, last time.Time) (*berthv1.DecideResponse, *copied, error) {
	release, err := st.take(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	if why, _ := refers(request.GetReference(), st, st.version); why != "" || st.gone {
		return nil, nil, nil
	}
	response := &berthv1.DecideResponse{Epoch: st.epoch, Version: st.version, StateDigest: st.stateDigest(), ConfigDigest: s.digest}
	if isWhatIf(request) || s.config.Solver != nil {
		return response, st.copy(), nil
	}
	intact := false
	defer func() {
		if !intact { // a panic left it as it was in the middle of a decision
			st.gone = true
			s.held.lose(st)
		}
	}()
	pods, refused := s.decodePods(st.snapshot, request)
	r := solveRequest(request, st.snapshot, pods, stopper(ctx, last))
	if st.index != nil {
		before := st.index.Stats()
		response.Decisions = st.index.Decide(r)
		s.metrics.observeIndex(before, st.index.Stats())
	} else {
		response.Decisions = s.solver.Decide(r)
	}
	refuse(response.Decisions, refused)
	intact = true
	return response, nil, nil
}

// decide decides on a snapshot that is this request's alone; state is the same as
// records.
func (s *Service) decide(ctx context.Context, request *decideRequest, last time.Time, snapshot *model.Snapshot, state *berthv1.Snapshot) []*berthv1.Decision {
	pods, refused := s.decodePods(snapshot, request)
	stop := stopper(ctx, last)
	if isWhatIf(request) {
		late, waiting := stop, ctx
		if !last.IsZero() {
			var cancel context.CancelFunc
			waiting, cancel = context.WithDeadline(ctx, last)
			defer cancel()
		}
		stop = func() bool { return late() || s.admission.yield(waiting) != nil }
	}
	r := solveRequest(request, snapshot, pods, stop)
	var decisions []*berthv1.Decision
	switch {
	case s.config.Solver != nil:
		decisions = s.config.Solver.Solve(ctx, solverRequest(r, state))
	case s.config.PlainSolver || isWhatIf(request):
		decisions = s.solver.Decide(r)
	default:
		decisions = s.newIndex(snapshot).Decide(r)
	}
	refuse(decisions, refused)
	return decisions
}

// newIndex returns the index of a snapshot, or nil if there is to be none.
func (s *Service) newIndex(snapshot *model.Snapshot) *index.Index {
	if s.config.PlainSolver || s.config.Solver != nil {
		return nil
	}
	x := index.New(snapshot, &s.solver, index.Config{})
	x.Parallel = parallel
	return x
}

func solveRequest(request *decideRequest, snapshot *model.Snapshot, pods []*model.Pod, stop func() bool) *solve.Request {
	return &solve.Request{
		Snapshot:   snapshot,
		Pods:       pods,
		Seed:       request.GetSeed(),
		Candidates: int(request.GetCandidates()),
		Explain:    request.GetExplanation() == berthv1.ExplanationLevel_EXPLANATION_LEVEL_NODES,
		Preempt:    request.GetPreempt(),
		Stop:       stop,
	}
}

// refuse puts the pods that were refused into their places.
func refuse(decisions []*berthv1.Decision, refused map[int]*berthv1.Decision) {
	for i, refusal := range refused {
		decisions[i] = refusal
	}
}

// asSnapshot returns records as a snapshot, of no version.
func asSnapshot(records *berthv1.Changes) *berthv1.Snapshot {
	return &berthv1.Snapshot{
		Nodes: records.GetNodes(), PlacedPods: records.GetPlacedPods(),
		Namespaces: records.GetNamespaces(), DisruptionBudgets: records.GetDisruptionBudgets(),
	}
}

// changed returns records with changes made to them, in no particular order.
func changed(records, c *berthv1.Changes) *berthv1.Changes {
	return &berthv1.Changes{
		Nodes: changedRecords(records.GetNodes(), c.GetRemovedNodes(), c.GetNodes(), (*berthv1.Node).GetName),
		PlacedPods: changedRecords(records.GetPlacedPods(), c.GetRemovedPlacedPods(), c.GetPlacedPods(),
			(*berthv1.PlacedPod).GetUid),
		Namespaces: changedRecords(records.GetNamespaces(), c.GetRemovedNamespaces(), c.GetNamespaces(),
			(*berthv1.Namespace).GetName),
		DisruptionBudgets: changedRecords(records.GetDisruptionBudgets(), keysOf(c.GetRemovedDisruptionBudgets()), c.GetDisruptionBudgets(),
			func(b *berthv1.DisruptionBudget) budgetKey { return budgetKey{b.GetNamespace(), b.GetName()} }),
	}
}

func keysOf(keys []*berthv1.DisruptionBudgetKey) []budgetKey {
	var of []budgetKey
	for _, k := range keys {
		of = append(of, budgetKey{k.GetNamespace(), k.GetName()})
	}
	return of
}

func changedRecords[R any, K comparable](records []R, removed []K, set []R, key func(R) K) []R {
	if len(removed)+len(set) == 0 {
		return records
	}
	other := make(map[K]bool, len(removed)+len(set))
	for _, k := range removed {
		other[k] = true
	}
	last := map[K]R{}
	for _, r := range set {
		other[key(r)], last[key(r)] = true, r
	}
	var kept []R
	for _, r := range records {
		if !other[key(r)] {
			kept = append(kept, r)
		}
	}
	for _, r := range set {
		if k := key(r); other[k] { // the first of its records; the last one counts
			kept = append(kept, last[k])
			delete(other, k)
		}
	}
	return kept
}

// maxReserve is the most time that is kept for encoding and sending an answer.
const maxReserve = 500 * time.Millisecond

// lastMoment is when to stop so that the answer does not come too late: before the
// deadline by a tenth of the time there was. It is zero if there is no deadline.
func lastMoment(ctx context.Context, start time.Time) time.Time {
	deadline, ok := ctx.Deadline()
	if !ok {
		return time.Time{}
	}
	return deadline.Add(-min(deadline.Sub(start)/10, maxReserve))
}

// stopper says when to stop deciding: when nobody waits for the answer any more, or at
// the last moment.
func stopper(ctx context.Context, last time.Time) func() bool {
	return func() bool { return ctx.Err() != nil || !last.IsZero() && !time.Now().Before(last) }
}
