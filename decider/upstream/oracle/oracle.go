// Package oracle is kube-scheduler's own judgement: its plugins, its framework and
// its texts, run on one pod and one cluster that are given as Kubernetes objects.
//
// It follows kube-scheduler's scheduling cycle (pkg/scheduler/schedule_one.go) with
// everything left out that is arbitrary there: all nodes are filtered, in name
// order and one after the other, and ties are reported instead of broken. Feature
// gates are at their defaults.
package oracle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/dynamic-resource-allocation/resourceslice/tracker"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	schedconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/latest"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/defaultpreemption"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/dynamicresources"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodevolumelimits"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/pkg/scheduler/metrics"
	"k8s.io/kubernetes/pkg/scheduler/util/assumecache"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Config is what an oracle is made of. The zero value is kube-scheduler's default
// profile.
type Config struct {
	// Profile is the profile to decide by, with defaults filled in as
	// kube-scheduler's loader does. Nil means kube-scheduler's default profile.
	Profile *schedconfig.KubeSchedulerProfile
	// Plugins are further plugins, which the profile may name. A name of
	// kube-scheduler's own is an error.
	Plugins frameworkruntime.Registry
	// Replace are plugins that take the place of kube-scheduler's own of the same
	// name.
	Replace frameworkruntime.Registry
}

// Oracle judges by one profile. It holds one cluster at a time and is not safe for
// concurrent use.
type Oracle struct {
	framework  framework.Framework
	cluster    *cluster
	objects    *objects
	preemption *preempter
	scorers    []fwk.ScorePlugin
	weights    map[string]int64
}

// New returns an oracle that holds an empty cluster. It runs goroutines until ctx
// ends. An error says what kube-scheduler has against the profile.
func New(ctx context.Context, config Config) (*Oracle, error) {
	metrics.Register()
	profile := config.Profile
	if profile == nil {
		defaults, err := latest.Default()
		if err != nil {
			return nil, err
		}
		profile = &defaults.Profiles[0]
	}
	o := &Oracle{cluster: &cluster{}, weights: map[string]int64{}}
	registry := plugins.NewInTreeRegistry()
	for name, factory := range config.Replace {
		registry[name] = factory
	}
	if err := registry.Merge(config.Plugins); err != nil {
		return nil, err
	}
	instances := map[string]fwk.Plugin{}
	for name, factory := range registry {
		registry[name] = o.observed(factory, instances)
	}
	// Nothing asks this client: informers are filled by hand and never started.
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "http://oracle.invalid"})
	if err != nil {
		return nil, err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	o.objects = newObjects(factory)
	resourceSlices, err := tracker.StartTracker(ctx, tracker.Options{
		SliceInformer: factory.Resource().V1().ResourceSlices(), KubeClient: client,
	})
	if err != nil {
		return nil, err
	}
	claims := assumecache.NewAssumeCache(klog.FromContext(ctx), factory.Resource().V1().ResourceClaims().Informer(), "ResourceClaim", "", nil)
	o.framework, err = frameworkruntime.NewFramework(ctx, registry, profile,
		frameworkruntime.WithClientSet(client),
		frameworkruntime.WithInformerFactory(factory),
		frameworkruntime.WithSharedDRAManager(dynamicresources.NewDRAManager(ctx, claims, resourceSlices, factory)),
		frameworkruntime.WithSharedCSIManager(nodevolumelimits.NewCSIManager(factory.Storage().V1().CSINodes().Lister())),
		frameworkruntime.WithSnapshotSharedLister(o.cluster),
		frameworkruntime.WithPodNominator(o.cluster),
		frameworkruntime.WithParallelism(1),
		frameworkruntime.WithWaitingPods(frameworkruntime.NewWaitingPodsMap()),
		frameworkruntime.WithPodsInPreBind(frameworkruntime.NewPodsInPreBindMap()),
	)
	if err != nil {
		return nil, err
	}
	for _, plugin := range o.framework.ListPlugins().Score.Enabled {
		scorer, ok := instances[plugin.Name].(fwk.ScorePlugin)
		if !ok {
			return nil, fmt.Errorf("oracle: score plugin %q gives itself another name", plugin.Name)
		}
		o.scorers = append(o.scorers, scorer)
		o.weights[plugin.Name] = int64(plugin.Weight)
	}
	return o, nil
}

// observed is factory, with what it makes remembered by name. In place of
// DefaultPreemption it makes one that evicts nobody.
func (o *Oracle) observed(factory frameworkruntime.PluginFactory, instances map[string]fwk.Plugin) frameworkruntime.PluginFactory {
	return func(ctx context.Context, args kruntime.Object, h fwk.Handle) (fwk.Plugin, error) {
		plugin, err := factory(ctx, args, h)
		if err != nil {
			return nil, err
		}
		if preemption, ok := plugin.(*defaultpreemption.DefaultPreemption); ok {
			o.preemption = newPreempter(h, preemption)
			plugin = o.preemption
		}
		instances[plugin.Name()] = plugin
		return plugin, nil
	}
}

// Verdict is a decision with what kube-scheduler leaves to chance.
type Verdict struct {
	// Decision is the answer, explained, in the contract's words. Its candidates
	// are all feasible nodes, by score and then by name, and its preemption is that
	// on the first of PreemptionBest. Node uids are those of the objects.
	*berthv1.Decision
	// Best are the feasible nodes of the highest score, in name order.
	// kube-scheduler chooses one of them at random.
	Best []string
	// Preemptions are the nodes on which evictions make room, in name order.
	Preemptions []*berthv1.Preemption
	// PreemptionBest are those of Preemptions between which kube-scheduler chooses
	// at random, in name order.
	PreemptionBest []string
}

// Evaluate decides about pod on c, which the oracle then holds.
func (o *Oracle) Evaluate(ctx context.Context, pod *corev1.Pod, c *Cluster, preempt bool) (*Verdict, error) {
	if err := o.Load(c); err != nil {
		return nil, err
	}
	return o.Decide(ctx, pod, preempt)
}

// Decide decides about pod on the cluster that the oracle holds, which stays as it
// is. An error is what kube-scheduler calls a scheduler error, such as a pod that
// one of its plugins cannot read.
func (o *Oracle) Decide(ctx context.Context, pod *corev1.Pod, preempt bool) (*Verdict, error) {
	v := &Verdict{Decision: &berthv1.Decision{PodUid: string(pod.UID), Explanation: &berthv1.Explanation{}}}
	if len(o.cluster.nodes) == 0 {
		v.Outcome = berthv1.Outcome_OUTCOME_REJECTED
		v.Rejection = &berthv1.Rejection{Message: errNoNodes.Error()}
		return v, nil
	}
	state := framework.NewCycleState()
	found, err := o.filter(ctx, state, pod)
	if err != nil {
		return nil, err
	}
	scores, err := o.score(ctx, state, pod, found.feasible)
	if err != nil {
		return nil, err
	}
	v.Explanation.Nodes = found.explain(o.cluster.nodes, scores)
	if len(found.feasible) > 0 {
		o.place(v, found.feasible, scores)
		return v, nil
	}
	v.Outcome = berthv1.Outcome_OUTCOME_REJECTED
	v.Rejection = &berthv1.Rejection{Rules: rules(v.Explanation.Nodes)}
	if preempt && o.framework.HasPostFilterPlugins() {
		o.preempt(ctx, state, pod, found, v)
	}
	v.Rejection.Message = (&framework.FitError{
		Pod: pod, NumAllNodes: len(o.cluster.nodes), Diagnosis: found.diagnosis,
	}).Error()
	return v, nil
}

// errNoNodes is kube-scheduler's ErrNoNodesAvailable.
var errNoNodes = errors.New("no nodes available to schedule pods")

// filtered is what the filters made of the nodes.
type filtered struct {
	feasible  []fwk.NodeInfo
	diagnosis framework.Diagnosis
	// passedBy are nodes that could take the pod as well, were it not for the one
	// that is set aside for it.
	passedBy map[string]bool
	// preFilter names the plugin that rejected the nodes that are not in
	// diagnosis one by one.
	preFilter string
}

// filter is kube-scheduler's findNodesThatFitPod, with every node looked at.
func (o *Oracle) filter(ctx context.Context, state fwk.CycleState, pod *corev1.Pod) (*filtered, error) {
	found := &filtered{
		diagnosis: framework.Diagnosis{NodeToStatus: framework.NewDefaultNodeToStatus()},
		passedBy:  map[string]bool{},
	}
	result, status, unscheduled := o.framework.RunPreFilterPlugins(ctx, state, pod)
	if !status.IsSuccess() {
		if !status.IsRejected() {
			return nil, status.AsError()
		}
		found.diagnosis.NodeToStatus.SetAbsentNodesStatus(status)
		found.diagnosis.PreFilterMsg = status.Message()
		found.preFilter = status.Plugin()
		if found.preFilter == "" {
			found.preFilter = strings.Join(sets.List(unscheduled), ",")
		}
		return found, nil
	}
	nominated := o.cluster.byName[pod.Status.NominatedNodeName]
	if nominated != nil {
		status := o.framework.RunFilterPluginsWithNominatedPods(ctx, state, pod, nominated)
		switch {
		case status.Code() == fwk.Error:
			// kube-scheduler logs this and goes on with all nodes.
			nominated = nil
		case status.IsSuccess():
			found.feasible = []fwk.NodeInfo{nominated}
		default:
			found.diagnosis.NodeToStatus.Set(nominated.Node().Name, status)
			nominated = nil
		}
	}
	nodes := o.cluster.nodes
	if !result.AllNodes() {
		nodes = slices.DeleteFunc(slices.Clone(nodes), func(n fwk.NodeInfo) bool { return !result.NodeNames.Has(n.Node().Name) })
		found.preFilter = strings.Join(sets.List(unscheduled), ",")
		found.diagnosis.NodeToStatus.SetAbsentNodesStatus(fwk.NewStatus(fwk.UnschedulableAndUnresolvable,
			fmt.Sprintf("node(s) didn't satisfy plugin(s) %v", sets.List(unscheduled))))
	}
	for _, n := range nodes {
		if n == fwk.NodeInfo(nominated) {
			continue
		}
		status := o.framework.RunFilterPluginsWithNominatedPods(ctx, state, pod, n)
		switch {
		case status.Code() == fwk.Error && nominated == nil:
			return nil, status.AsError()
		case !status.IsSuccess():
			found.diagnosis.NodeToStatus.Set(n.Node().Name, status)
		case nominated != nil:
			found.passedBy[n.Node().Name] = true
		default:
			found.feasible = append(found.feasible, n)
		}
	}
	return found, nil
}

// explain says of every node what became of it; scores are those of the feasible
// ones, in their order.
func (f *filtered) explain(nodes []fwk.NodeInfo, scores []nodeScores) []*berthv1.NodeExplanation {
	explanations := make([]*berthv1.NodeExplanation, 0, len(nodes))
	feasible := 0 // the next of f.feasible
	for _, n := range nodes {
		name := n.Node().Name
		e := &berthv1.NodeExplanation{NodeName: name}
		explanations = append(explanations, e)
		if feasible < len(f.feasible) && f.feasible[feasible] == n {
			e.Scores, e.Total = scores[feasible].parts, scores[feasible].total
			feasible++
			continue
		}
		if f.passedBy[name] {
			continue
		}
		status := f.diagnosis.NodeToStatus.Get(name)
		e.Rule = cmp.Or(status.Plugin(), f.preFilter)
		e.Reasons = settled(status.Reasons())
		e.EvictionCouldHelp = status.Code() == fwk.Unschedulable
	}
	return explanations
}

// rules counts the reasons of nodes that were rejected.
func rules(nodes []*berthv1.NodeExplanation) []*berthv1.RuleRejection {
	type key struct {
		rule, text string
		eviction   bool
	}
	counts := map[key]int32{}
	for _, n := range nodes {
		for _, reason := range n.GetReasons() {
			counts[key{n.GetRule(), reason, n.GetEvictionCouldHelp()}]++
		}
	}
	rejections := make([]*berthv1.RuleRejection, 0, len(counts))
	for k, n := range counts {
		rejections = append(rejections, &berthv1.RuleRejection{Rule: k.rule, Text: k.text, Nodes: n, EvictionCouldHelp: k.eviction})
	}
	slices.SortFunc(rejections, func(a, b *berthv1.RuleRejection) int {
		if order := cmp.Or(cmp.Compare(a.GetRule(), b.GetRule()), cmp.Compare(a.GetText(), b.GetText())); order != 0 {
			return order
		}
		if a.GetEvictionCouldHelp() {
			return 1
		}
		return -1
	})
	return rejections
}

// nodeScores are the scores of one node.
type nodeScores struct {
	parts []*berthv1.Score
	total int64
}

// score is kube-scheduler's prioritizeNodes. It scores a single node too, which
// kube-scheduler takes without looking.
func (o *Oracle) score(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, nodes []fwk.NodeInfo) ([]nodeScores, error) {
	scores := make([]nodeScores, len(nodes))
	if len(nodes) == 0 {
		return nil, nil
	}
	if !o.framework.HasScorePlugins() {
		for i := range scores {
			scores[i].total = 1
		}
		return scores, nil
	}
	if status := o.framework.RunPreScorePlugins(ctx, state, pod, nodes); !status.IsSuccess() {
		return nil, status.AsError()
	}
	weighted, status := o.framework.RunScorePlugins(ctx, state, pod, nodes)
	if !status.IsSuccess() {
		return nil, status.AsError()
	}
	scorers := map[string]fwk.ScorePlugin{}
	for _, scorer := range o.scorers {
		scorers[scorer.Name()] = scorer
	}
	for i, n := range nodes {
		scores[i].total = weighted[i].TotalScore
		for _, part := range weighted[i].Scores {
			// The framework normalises in place; the raw score is asked for again.
			raw, status := scorers[part.Name].Score(ctx, state, pod, n)
			if !status.IsSuccess() {
				return nil, status.AsError()
			}
			weight := o.weights[part.Name]
			scores[i].parts = append(scores[i].parts, &berthv1.Score{
				Rule: part.Name, Raw: raw, Normalized: part.Score / weight, Weight: weight,
			})
		}
		slices.SortFunc(scores[i].parts, func(a, b *berthv1.Score) int { return cmp.Compare(a.GetRule(), b.GetRule()) })
	}
	return scores, nil
}

// place fills in v for a pod that some nodes can take.
func (o *Oracle) place(v *Verdict, feasible []fwk.NodeInfo, scores []nodeScores) {
	v.Outcome = berthv1.Outcome_OUTCOME_PLACED
	for i, n := range feasible {
		v.Candidates = append(v.Candidates, &berthv1.Candidate{
			NodeName: n.Node().Name, NodeUid: string(n.Node().UID), Score: scores[i].total,
		})
	}
	slices.SortStableFunc(v.Candidates, func(a, b *berthv1.Candidate) int { return cmp.Compare(b.GetScore(), a.GetScore()) })
	for _, c := range v.Candidates {
		if c.GetScore() == v.Candidates[0].GetScore() {
			v.Best = append(v.Best, c.GetNodeName())
		}
	}
}

// preempt runs the PostFilter plugins and fills in what came of it.
func (o *Oracle) preempt(ctx context.Context, state fwk.CycleState, pod *corev1.Pod, found *filtered, v *Verdict) {
	if o.preemption != nil {
		o.preemption.found = preemptions{}
	}
	_, status := o.framework.RunPostFilterPlugins(ctx, state, pod, found.diagnosis.NodeToStatus)
	v.Rejection.Preemption = status.Message()
	found.diagnosis.PostFilterMsg = status.Message()
	if o.preemption == nil {
		return
	}
	candidates := o.preemption.found
	for _, n := range o.cluster.nodes {
		name := n.Node().Name
		if status, ok := candidates.unhelpful[name]; ok {
			v.Explanation.Preemptions = append(v.Explanation.Preemptions, &berthv1.PreemptionExplanation{NodeName: name, Reasons: settled(status.Reasons())})
		}
		victims, ok := candidates.victims[name]
		if !ok {
			continue
		}
		p := &berthv1.Preemption{NodeName: name, NodeUid: string(n.Node().UID), BudgetViolations: int32(victims.NumPDBViolations)}
		for _, victim := range victims.Pods {
			p.Victims = append(p.Victims, &berthv1.Victim{Uid: string(victim.UID), Namespace: victim.Namespace, Name: victim.Name})
		}
		v.Preemptions = append(v.Preemptions, p)
		v.Explanation.Preemptions = append(v.Explanation.Preemptions, &berthv1.PreemptionExplanation{
			NodeName: name, Victims: p.GetVictims(), BudgetViolations: p.GetBudgetViolations(),
		})
		if candidates.best[name] {
			v.PreemptionBest = append(v.PreemptionBest, name)
			if v.Preemption == nil {
				v.Preemption = p
			}
		}
	}
}

// settled puts the reasons of NodeResourcesFit in one order: cpu, memory and ephemeral
// storage as they come, then the others, which kube-scheduler takes from a map, by
// name.
func settled(reasons []string) []string {
	reasons = slices.Clone(reasons)
	others := slices.IndexFunc(reasons, func(text string) bool {
		name, ok := strings.CutPrefix(text, "Insufficient ")
		return ok && name != "cpu" && name != "memory" && name != "ephemeral-storage"
	})
	if others >= 0 {
		slices.Sort(reasons[others:])
	}
	return reasons
}
