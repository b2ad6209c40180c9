package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/berth-scheduler/berth/decider/policy"
	"github.com/berth-scheduler/berth/decider/service"
	"github.com/berth-scheduler/berth/decider/upstream/batch"
	"github.com/berth-scheduler/berth/decider/upstream/oracle"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/config"
	"github.com/berth-scheduler/berth/watcher/encode"
)

// Judges answer cases. They serve one goroutine.
type Judges struct {
	oracles         map[string]*oracle.Oracle // by schedulerName
	berth, upstream berthv1.DeciderServiceServer
	// fed is Berth with its index; nil is not asked.
	fed *fed
}

// NewJudges returns judges that decide by profiles. With indexed, Berth also answers by
// its index, on a state that is fed to it, until ctx ends.
func NewJudges(ctx context.Context, indexed bool) (*Judges, error) {
	j, err := newJudges(ctx, profiles)
	if err != nil || !indexed {
		return j, err
	}
	read, err := config.Read([]byte(profiles))
	if err != nil {
		return nil, err
	}
	decider, err := service.New(service.Config{Policy: policy.Default(), Profiles: read.Profiles, OmitStateDigest: true})
	if err != nil {
		return nil, err
	}
	j.fed = newFed(ctx, decider)
	return j, nil
}

// newJudges returns judges that decide by a scheduler configuration.
func newJudges(ctx context.Context, configuration string) (*Judges, error) {
	j := &Judges{oracles: map[string]*oracle.Oracle{}}
	ctx = klog.NewContext(ctx, klog.Logger{})
	loaded, err := loadProfiles(configuration)
	if err != nil {
		return nil, err
	}
	for i := range loaded {
		o, err := oracle.New(ctx, oracle.Config{Profile: &loaded[i]})
		if err != nil {
			return nil, fmt.Errorf("profile %s: %w", loaded[i].SchedulerName, err)
		}
		j.oracles[loaded[i].SchedulerName] = o
	}
	read, err := config.Read([]byte(configuration))
	if err != nil {
		return nil, err
	}
	j.berth, err = service.New(service.Config{Policy: policy.Default(), Profiles: read.Profiles, OmitStateDigest: true, PlainSolver: true})
	if err != nil {
		return nil, err
	}
	solver, err := batch.New(ctx, loaded, nil)
	if err != nil {
		return nil, err
	}
	j.upstream, err = service.New(service.Config{Solver: solver, OmitStateDigest: true})
	return j, err
}

// objects is what the watcher knows of the case. The pods to decide are among them:
// they may have room set aside.
func objects(c *Case) *encode.Objects {
	return &encode.Objects{
		Nodes: c.Nodes, Namespaces: c.Namespaces,
		Pods:     slices.Concat(c.Placed, c.Nominated, waiting(c)),
		Services: c.Services, ReplicationControllers: c.ReplicationControllers, ReplicaSets: c.ReplicaSets, StatefulSets: c.StatefulSets,
		DisruptionBudgets: c.Budgets,
	}
}

// waiting are the pending pods without those that have a node already, which no
// scheduler is asked about: one of them stands for every pod of which NodeName has
// something to say.
func waiting(c *Case) []*corev1.Pod {
	return slices.DeleteFunc(slices.Clone(c.Pending), func(p *corev1.Pod) bool { return p.Spec.NodeName != "" })
}

// request is the case in the watcher's words.
func request(c *Case) *berthv1.DecideRequest {
	o := objects(c)
	return &berthv1.DecideRequest{
		State:       &berthv1.DecideRequest_Snapshot{Snapshot: o.Snapshot()},
		Pods:        o.PendingPods(c.Pending),
		Seed:        c.Seed,
		Candidates:  int32(len(c.Nodes)),
		Explanation: berthv1.ExplanationLevel_EXPLANATION_LEVEL_NODES,
		Preempt:     c.Preempt,
	}
}

// cluster is the case as kube-scheduler's informers show it.
func cluster(c *Case) *oracle.Cluster {
	out := &oracle.Cluster{
		Nodes: c.Nodes, Namespaces: c.Namespaces,
		Pods:     slices.Concat(c.Placed, c.Nominated, waiting(c)),
		Services: c.Services, ReplicationControllers: c.ReplicationControllers, ReplicaSets: c.ReplicaSets, StatefulSets: c.StatefulSets,
		DisruptionBudgets: c.Budgets,
	}
	out.Pods = slices.DeleteFunc(out.Pods, func(p *corev1.Pod) bool {
		finished := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed // not listed
		return finished || p.Spec.NodeName == "" && p.Status.NominatedNodeName == ""
	})
	sortPods(out.Pods)
	return out
}

// sortPods puts pods in the order of the contract's snapshot: kube-scheduler's is
// that in which it came to know them, and breaks ties between victims.
func sortPods(pods []*corev1.Pod) {
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return cmp.Compare(a.UID, b.UID) })
}

// Run answers c, which is admitted, three times over and compares. Its decisions are
// kube-scheduler's, as far as they were compared; its error is one of
// kube-scheduler's plugins.
func (j *Judges) Run(ctx context.Context, c *Case) ([]*berthv1.Decision, *Difference, error) {
	berth, err := j.berth.Decide(ctx, request(c))
	if err != nil {
		return nil, &Difference{Kind: "berth: Decide", Got: err.Error()}, nil
	}
	if j.fed != nil {
		difference, err := j.fed.compare(ctx, request(c), berth.GetDecisions())
		if err != nil || difference != nil {
			return nil, difference, err
		}
	}
	upstream, err := j.upstream.Decide(ctx, request(c))
	if err != nil {
		return nil, &Difference{Kind: "upstream: Decide", Got: err.Error()}, nil
	}
	return j.judge(ctx, c, berth.GetDecisions(), upstream.GetDecisions())
}

// schedulerError is the kind of difference in which kube-scheduler's plugins fail.
const schedulerError = "scheduler error"

// judge lets kube-scheduler's plugins decide pod by pod, each after the pods before
// it got the nodes that berth says, and returns the first difference.
func (j *Judges) judge(ctx context.Context, c *Case, berth, upstream []*berthv1.Decision) ([]*berthv1.Decision, *Difference, error) {
	if len(berth) != len(c.Pending) || len(upstream) != len(c.Pending) {
		return nil, &Difference{Kind: "decisions", Want: fmt.Sprint(len(c.Pending)), Got: fmt.Sprint(len(berth), " ", len(upstream))}, nil
	}
	state := cluster(c)
	judged := true // false once victims were found: what a batch does about them is the contract's
	var want []*berthv1.Decision
	for _, d := range upstream {
		settled(c, d)
	}
	for i, p := range c.Pending {
		type pair struct {
			name string
			want *oracle.Verdict
			got  *berthv1.Decision
		}
		pairs := []pair{{"berth by upstream", verdictOf(upstream[i]), berth[i]}}
		if judged {
			verdict, err := j.oracles[p.Spec.SchedulerName].Evaluate(ctx, p, state, c.Preempt)
			if err != nil {
				return want, &Difference{Pod: i, Kind: schedulerError, Want: err.Error(), Got: berth[i].GetOutcome().String() + refusal(berth[i])}, nil
			}
			want = append(want, settled(c, verdict.Decision))
			pairs = []pair{{"berth", verdict, berth[i]}, {"upstream", verdict, upstream[i]}, pairs[0]}
		}
		for _, pair := range pairs {
			if difference := compare(pair.want, pair.got); difference != nil {
				difference.Pod, difference.Kind = i, pair.name+": "+difference.Kind
				return want, difference, nil
			}
		}
		judged = judged && berth[i].GetPreemption() == nil
		if placed := berth[i].GetCandidates(); len(placed) > 0 {
			bound := p.DeepCopy()
			bound.Spec.NodeName = placed[0].GetNodeName()
			bound.Status.NominatedNodeName = ""
			state.Pods = slices.DeleteFunc(slices.Clone(state.Pods), func(q *corev1.Pod) bool { return q.UID == p.UID })
			state.Pods = append(state.Pods, bound)
			sortPods(state.Pods)
		}
	}
	return want, nil, nil
}

// verdictOf is a decision as a verdict that leaves nothing to chance.
func verdictOf(d *berthv1.Decision) *oracle.Verdict {
	v := &oracle.Verdict{Decision: d}
	if cs := d.GetCandidates(); len(cs) > 0 {
		v.Best = []string{cs[0].GetNodeName()}
	}
	if p := d.GetPreemption(); p != nil {
		v.Preemptions, v.PreemptionBest = []*berthv1.Preemption{p}, []string{p.GetNodeName()}
	}
	return v
}
