package oracle

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	policylisters "k8s.io/client-go/listers/policy/v1"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/defaultpreemption"
	"k8s.io/kubernetes/pkg/scheduler/framework/preemption"
)

// preempter is DefaultPreemption up to the point where it would evict: every node
// that an eviction could help on is tried, from the first, and the choice between
// them is told with its equals.
type preempter struct {
	*defaultpreemption.DefaultPreemption
	handle    fwk.Handle
	budgets   policylisters.PodDisruptionBudgetLister
	evaluator *preemption.Evaluator
	// found is what the last PostFilter saw.
	found preemptions
}

// preemptions is what evicting pods would do, by node.
type preemptions struct {
	victims   map[string]*extenderv1.Victims
	unhelpful map[string]*fwk.Status
	best      map[string]bool
}

func newPreempter(h fwk.Handle, p *defaultpreemption.DefaultPreemption) *preempter {
	return &preempter{
		DefaultPreemption: p,
		handle:            h,
		budgets:           h.SharedInformerFactory().Policy().V1().PodDisruptionBudgets().Lister(),
		evaluator:         preemption.NewEvaluator(defaultpreemption.Name, h, everyNode{p}, p.Executor),
	}
}

// everyNode lifts the limit on how many nodes are tried and starts at the first.
type everyNode struct {
	*defaultpreemption.DefaultPreemption
}

func (everyNode) GetOffsetAndNumCandidates(nodes int32) (offset, candidates int32) { return 0, nodes }

// PostFilter is DefaultPreemption's, with Evaluator.Preempt carried out but for
// the evictions.
func (p *preempter) PostFilter(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, statuses fwk.NodeToStatusReader) (*fwk.PostFilterResult, *fwk.Status) {
	result, status := p.preempt(ctx, state, pod, statuses)
	if message := status.Message(); message != "" {
		return result, fwk.NewStatus(status.Code(), "preemption: "+message)
	}
	return result, status
}

func (p *preempter) preempt(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, statuses fwk.NodeToStatusReader) (*fwk.PostFilterResult, *fwk.Status) {
	if ok, message := p.PodEligibleToPreemptOthers(ctx, pod, statuses.Get(pod.Status.NominatedNodeName)); !ok {
		return nil, fwk.NewStatus(fwk.Unschedulable, message)
	}
	nodes, err := p.handle.SnapshotSharedLister().NodeInfos().List()
	if err != nil {
		return nil, fwk.AsStatus(err)
	}
	candidates, unhelpful, err := p.candidates(ctx, state, pod, statuses)
	if err != nil && len(candidates) == 0 {
		return nil, fwk.AsStatus(err)
	}
	p.found = preemptions{victims: map[string]*extenderv1.Victims{}, unhelpful: map[string]*fwk.Status{}, best: map[string]bool{}}
	unhelpful.ForEachExplicitNode(func(name string, status *fwk.Status) { p.found.unhelpful[name] = status })
	if len(candidates) == 0 {
		fitError := &framework.FitError{Pod: pod, NumAllNodes: len(nodes), Diagnosis: framework.Diagnosis{NodeToStatus: unhelpful}}
		unhelpful.SetAbsentNodesStatus(fwk.NewStatus(fwk.UnschedulableAndUnresolvable, "Preemption is not helpful for scheduling"))
		return framework.NewPostFilterResultWithNominatedNode(""), fwk.NewStatus(fwk.Unschedulable, fitError.Error())
	}
	best := p.evaluator.SelectCandidate(ctx, candidates)
	for _, c := range candidates {
		p.found.victims[c.Name()] = c.Victims()
		p.found.best[c.Name()] = c.Name() == best.Name() || p.equal(ctx, best, c)
	}
	return framework.NewPostFilterResultWithNominatedNode(best.Name()), fwk.NewStatus(fwk.Success)
}

// candidates is Evaluator.findCandidates.
func (p *preempter) candidates(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, statuses fwk.NodeToStatusReader) ([]preemption.Candidate, *framework.NodeToStatus, error) {
	nodes, err := statuses.NodesForStatusCode(p.handle.SnapshotSharedLister().NodeInfos(), fwk.Unschedulable)
	if err != nil {
		return nil, nil, err
	}
	if len(nodes) == 0 {
		return nil, framework.NewDefaultNodeToStatus(), nil
	}
	var budgets []*policyv1.PodDisruptionBudget
	if budgets, err = p.budgets.List(labels.Everything()); err != nil {
		return nil, nil, err
	}
	offset, count := p.evaluator.GetOffsetAndNumCandidates(int32(len(nodes)))
	return p.evaluator.DryRunPreemption(ctx, state, pod, nodes, budgets, offset, count)
}

// equal says whether kube-scheduler likes other as much as best, which no candidate
// beats. Its last tie is broken by the order of a map: among many copies of other,
// best wins every time only if it is better.
func (p *preempter) equal(ctx context.Context, best, other preemption.Candidate) bool {
	candidates := []preemption.Candidate{best}
	for i := range 63 {
		candidates = append(candidates, &copied{Candidate: other, name: fmt.Sprintf("%s/%d", other.Name(), i)})
	}
	for range 12 {
		if p.evaluator.SelectCandidate(ctx, candidates).Name() != best.Name() {
			return true
		}
	}
	return false
}

// copied is a candidate under another name.
type copied struct {
	preemption.Candidate
	name string
}

func (c *copied) Name() string { return c.name }
