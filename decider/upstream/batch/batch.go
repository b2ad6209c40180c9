// Package batch decides requests of the contract with kube-scheduler's plugins: each
// pod sees what became of the pods before it, and ties are broken as the contract
// says.
package batch

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	schedconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"

	"github.com/berth-scheduler/berth/decider/internal/solve"
	"github.com/berth-scheduler/berth/decider/service"
	"github.com/berth-scheduler/berth/decider/upstream/convert"
	"github.com/berth-scheduler/berth/decider/upstream/oracle"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Solver decides with kube-scheduler's plugins. It may be used concurrently.
type Solver struct {
	configuration string
	// only is the one profile that decides for every scheduler name; nil if each
	// decides for its own.
	only   *profile
	byName map[string]*profile
}

var _ service.Solver = &Solver{}

// profile has oracles of one profile that nobody uses at the moment.
type profile struct {
	make func() (*oracle.Oracle, error)
	idle chan *oracle.Oracle
}

// idleOracles is how many oracles of a profile are kept for the next requests.
const idleOracles = 64

// New returns a solver for profiles that kube-scheduler's loader has read, each for
// the pods of its scheduler name, or for kube-scheduler's default profile and every
// scheduler name if there are none. plugins are out-of-tree ones, which profiles may
// name. It runs goroutines until ctx ends.
func New(ctx context.Context, profiles []schedconfig.KubeSchedulerProfile, plugins frameworkruntime.Registry) (*Solver, error) {
	configuration, err := json.Marshal(profiles)
	if err != nil {
		return nil, fmt.Errorf("batch: describe the profiles: %w", err)
	}
	s := &Solver{configuration: string(configuration), byName: map[string]*profile{}}
	if len(profiles) == 0 {
		s.only, err = newProfile(ctx, nil, plugins)
		return s, err
	}
	for i := range profiles {
		if s.byName[profiles[i].SchedulerName], err = newProfile(ctx, &profiles[i], plugins); err != nil {
			return nil, fmt.Errorf("profiles[%d] %q: %w", i, profiles[i].SchedulerName, err)
		}
	}
	return s, nil
}

func newProfile(ctx context.Context, configured *schedconfig.KubeSchedulerProfile, plugins frameworkruntime.Registry) (*profile, error) {
	config, err := withUsable(configured, plugins)
	if err != nil {
		return nil, err
	}
	p := &profile{
		make: func() (*oracle.Oracle, error) { return oracle.New(ctx, config) },
		idle: make(chan *oracle.Oracle, idleOracles),
	}
	first, err := p.make()
	if err != nil {
		return nil, err
	}
	p.idle <- first
	return p, nil
}

// take returns an oracle that nobody else uses until it is put back.
func (p *profile) take() (*oracle.Oracle, error) {
	select {
	case o := <-p.idle:
		return o, nil
	default:
		return p.make()
	}
}

func (p *profile) put(o *oracle.Oracle) {
	select {
	case p.idle <- o:
	default:
	}
}

// Name is what people know it by.
func (*Solver) Name() string { return "kube-scheduler" }

// Configuration is the profiles, completely and in one form.
func (s *Solver) Configuration() string { return s.configuration }

// Constraints are the names of what the contract's messages can be said to
// kube-scheduler's plugins with.
func (*Solver) Constraints() []string { return convert.Constraints() }

// Profiles are the scheduler names that there are profiles for, nil if every name
// will do.
func (s *Solver) Profiles() []string {
	var names []string
	for name := range s.byName {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (s *Solver) profile(schedulerName string) *profile {
	if s.only != nil {
		return s.only
	}
	return s.byName[schedulerName]
}

// Solve decides the request's pods in order.
func (s *Solver) Solve(ctx context.Context, r *service.SolverRequest) []*berthv1.Decision {
	b := &batch{request: r, oracles: map[*profile]*oracle.Oracle{}, cluster: convert.Cluster(r.Snapshot, r.Pods), pods: map[types.UID]*corev1.Pod{}}
	b.mark()
	for _, p := range b.cluster.Pods {
		b.pods[p.UID] = p
	}
	b.nodes = make(map[string]int, len(b.cluster.Nodes))
	names := make([]string, 0, len(b.cluster.Nodes))
	for _, n := range b.cluster.Nodes {
		names = append(names, n.Name)
	}
	slices.Sort(names)
	for i, name := range names {
		b.nodes[name] = i
	}
	defer b.release()
	loadErr := b.load(s)

	decisions := make([]*berthv1.Decision, len(r.Pods))
	stopped := false
	for i, p := range r.Pods {
		if p == nil {
			continue
		}
		stopped = stopped || r.Stop != nil && r.Stop()
		if stopped {
			decisions[i] = &berthv1.Decision{PodUid: p.GetUid(), Outcome: berthv1.Outcome_OUTCOME_NOT_DECIDED}
			continue
		}
		decision, err := b.decide(ctx, s.profile(p.GetSchedulerName()), i, p)
		if err = cmp.Or(loadErr, err); err != nil {
			decision = &berthv1.Decision{
				PodUid: p.GetUid(), Outcome: berthv1.Outcome_OUTCOME_INVALID,
				Refusal: &berthv1.Refusal{Field: fmt.Sprintf("pods[%d]", i), Message: err.Error()},
			}
		}
		decisions[i] = decision
	}
	return decisions
}

// batch is one request while it is decided.
type batch struct {
	request *service.SolverRequest
	cluster *oracle.Cluster
	// oracles are those of the profiles of the request's pods. Each holds the
	// cluster with what became of the pods so far.
	oracles map[*profile]*oracle.Oracle
	// pods are those that hold room or have it set aside, by uid.
	pods map[types.UID]*corev1.Pod
	// nodes has every node's place in name order.
	nodes map[string]int
}

// load takes an oracle for each profile that the request's pods have.
func (b *batch) load(s *Solver) error {
	for _, p := range b.request.Pods {
		if p == nil {
			continue
		}
		profile := s.profile(p.GetSchedulerName())
		if profile == nil || b.oracles[profile] != nil {
			continue
		}
		o, err := profile.take()
		if err != nil {
			return err
		}
		b.oracles[profile] = o
		if err := o.Load(b.cluster); err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) release() {
	for profile, o := range b.oracles {
		profile.put(o)
	}
}

// decide decides about one pod and lets the pods after it see what became of it.
func (b *batch) decide(ctx context.Context, profile *profile, index int, record *berthv1.Pod) (*berthv1.Decision, error) {
	o := b.oracles[profile]
	if o == nil {
		return nil, fmt.Errorf("there is no profile for the scheduler name %q", record.GetSchedulerName())
	}
	pod, err := convert.Pod(record)
	if err != nil {
		return nil, err
	}
	v, err := o.Decide(ctx, pod, b.request.Preempt)
	if err != nil {
		return nil, err
	}
	decision := v.Decision
	position := solve.Position(b.request.Seed, index, len(b.nodes))
	if len(v.Candidates) > 0 {
		slices.SortFunc(decision.Candidates, func(a, c *berthv1.Candidate) int {
			return cmp.Or(cmp.Compare(c.GetScore(), a.GetScore()), cmp.Compare(b.distance(a.GetNodeName(), position), b.distance(c.GetNodeName(), position)))
		})
		decision.Candidates = decision.Candidates[:min(len(decision.Candidates), max(1, b.request.Candidates))]
		b.place(record, convert.Placed(pod, decision.Candidates[0].GetNodeName()))
	}
	if len(v.PreemptionBest) > 0 {
		best := slices.MinFunc(v.PreemptionBest, func(a, c string) int {
			return cmp.Compare(b.distance(a, position), b.distance(c, position))
		})
		for _, p := range v.Preemptions {
			if p.GetNodeName() == best {
				decision.Preemption = p
			}
		}
		b.place(record, convert.Nominated(pod, best))
		if err := b.evict(ctx, decision.GetPreemption().GetVictims()); err != nil {
			return nil, err
		}
	}
	if !b.request.Explain {
		decision.Explanation = nil
	}
	return decision, nil
}

// distance is how far after position, wrapping round, a node is in name order.
func (b *batch) distance(name string, position int) int {
	if d := b.nodes[name] - position; d >= 0 {
		return d
	}
	return b.nodes[name] - position + len(b.nodes)
}

// place shows a decided pod, which has a node or a nomination now, to the pods after
// it.
func (b *batch) place(record *berthv1.Pod, pod *corev1.Pod) {
	scored := record.GetPlacedScoreRequests()
	if len(scored) == 0 {
		scored = record.GetScoreRequests()
	}
	b.pods[pod.UID] = pod
	b.cluster.Sums[pod.UID] = convert.Sums(record.GetRequests(), scored)
	for _, o := range b.oracles {
		o.Place(pod, b.cluster.Sums)
	}
}

// evict shows victims as terminating and their budgets as used to the pods after
// the one that they make room for. Who was terminating before has been counted.
func (b *batch) evict(ctx context.Context, victims []*berthv1.Victim) error {
	for _, victim := range victims {
		pod := b.pods[types.UID(victim.GetUid())]
		if pod.DeletionTimestamp != nil {
			continue
		}
		pod = convert.Preempted(pod)
		b.pods[pod.UID] = pod
		for _, o := range b.oracles {
			o.Replace(klog.FromContext(ctx), pod, b.cluster.Sums)
		}
		b.use(pod)
	}
	for _, o := range b.oracles {
		if err := o.ReplaceDisruptionBudgets(b.cluster.DisruptionBudgets); err != nil {
			return err
		}
	}
	return nil
}

// use takes an eviction of pod from each of its budgets that has one left.
func (b *batch) use(pod *corev1.Pod) {
	for i, budget := range b.cluster.DisruptionBudgets {
		selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
		_, disrupted := budget.Status.DisruptedPods[pod.Name]
		if err != nil || disrupted || budget.Status.DisruptionsAllowed <= 0 || budget.Namespace != pod.Namespace ||
			selector.Empty() || len(pod.Labels) == 0 || !selector.Matches(labels.Set(pod.Labels)) {
			continue
		}
		used := *budget
		used.Status.DisruptionsAllowed--
		b.cluster.DisruptionBudgets[i] = &used
	}
}
