package oracle

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	fwk "k8s.io/kube-scheduler/framework"
	schedconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/latest"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

func newOracle(t testing.TB, config Config) *Oracle {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	o, err := New(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func node(name, cpu string, edit ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name + "-uid"), Labels: map[string]string{"kubernetes.io/hostname": name}},
		Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse(cpu),
			corev1.ResourceMemory: resource.MustParse("4Gi"),
			corev1.ResourcePods:   resource.MustParse("10"),
		}},
	}
	for _, e := range edit {
		e(n)
	}
	return n
}

func pod(name, cpu string, edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name)},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("1Gi")},
		}}}},
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

func on(name string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = name } }

func priority(priority int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Priority = &priority }
}

func started(second int64) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.StartTime = &metav1.Time{Time: metav1.Unix(second, 0).Time} }
}

func evaluate(t *testing.T, o *Oracle, p *corev1.Pod, c *Cluster, preempt bool) *Verdict {
	t.Helper()
	v, err := o.Evaluate(t.Context(), p, c, preempt)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestRejectingRules has one node per way to be rejected.
func TestRejectingRules(t *testing.T) {
	o := newOracle(t, Config{})
	v := evaluate(t, o, pod("p", "2"), &Cluster{
		Nodes: []*corev1.Node{
			node("small", "1"),
			node("full", "3"),
			node("cordoned", "4", func(n *corev1.Node) { n.Spec.Unschedulable = true }),
			node("tainted", "4", func(n *corev1.Node) {
				n.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}}
			}),
		},
		Pods: []*corev1.Pod{pod("filler", "2", on("full")), pod("elsewhere", "1", on("gone"))},
	}, false)
	type want struct {
		Node, Rule, Reason string
		Eviction           bool
	}
	var got []want
	for _, n := range v.GetExplanation().GetNodes() {
		got = append(got, want{n.GetNodeName(), n.GetRule(), fmt.Sprint(n.GetReasons()), n.GetEvictionCouldHelp()})
	}
	if diff := cmp.Diff([]want{
		{"cordoned", "NodeUnschedulable", "[node(s) were unschedulable]", false},
		{"full", "NodeResourcesFit", "[Insufficient cpu]", true},
		{"small", "NodeResourcesFit", "[Insufficient cpu]", false},
		{"tainted", "TaintToleration", "[node(s) had untolerated taint(s)]", false},
	}, got); diff != "" {
		t.Errorf("explanation (-want +got):\n%s", diff)
	}
	if want := "0/4 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, 2 Insufficient cpu."; v.GetRejection().GetMessage() != want {
		t.Errorf("message is %q, want %q", v.GetRejection().GetMessage(), want)
	}
	if rules := v.GetRejection().GetRules(); len(rules) != 4 {
		t.Errorf("rules are %v, want 4 of them", rules)
	}
}

// TestPreFilter checks nodes that a plugin excludes before filtering.
func TestPreFilter(t *testing.T) {
	o := newOracle(t, Config{})
	c := &Cluster{Nodes: []*corev1.Node{node("a", "1"), node("b", "1")}}
	affinity := func(names ...string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			var fields []corev1.NodeSelectorRequirement
			for _, name := range names {
				fields = append(fields, corev1.NodeSelectorRequirement{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{name}})
			}
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: fields}},
			}}}
		}
	}
	for _, test := range []struct {
		name    string
		pod     *corev1.Pod
		message string
		rule    string
		reason  string
	}{
		{"one name", pod("p", "2", affinity("a")),
			"0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't satisfy plugin(s) [NodeAffinity].",
			"NodeAffinity", "node(s) didn't satisfy plugin(s) [NodeAffinity]"},
		{"two names", pod("p", "2", affinity("a", "b")),
			"0/2 nodes are available: pod affinity terms conflict.",
			"NodeAffinity", "pod affinity terms conflict"},
	} {
		v := evaluate(t, o, test.pod, c, false)
		if got := v.GetRejection().GetMessage(); got != test.message {
			t.Errorf("%s: message is %q, want %q", test.name, got, test.message)
		}
		b := v.GetExplanation().GetNodes()[1]
		if b.GetRule() != test.rule || b.GetReasons()[0] != test.reason {
			t.Errorf("%s: b is rejected by %s: %q; want %s: %q", test.name, b.GetRule(), b.GetReasons(), test.rule, test.reason)
		}
	}
	if got := evaluate(t, o, pod("p", "1"), &Cluster{}, true).GetRejection().GetMessage(); got != "no nodes available to schedule pods" {
		t.Errorf("without nodes the message is %q", got)
	}
}

// TestScores checks that raw scores are those before normalising, and ties.
func TestScores(t *testing.T) {
	o := newOracle(t, Config{})
	prefer := func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
			Weight: 7, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: corev1.NodeSelectorOpExists}}},
		}}}}
	}
	disk := func(n *corev1.Node) { n.Labels["disk"] = "ssd" }
	v := evaluate(t, o, pod("p", "1", prefer), &Cluster{
		Nodes: []*corev1.Node{node("c", "4", disk), node("a", "4"), node("b", "4", disk)},
	}, false)
	if diff := cmp.Diff([]string{"b", "c"}, v.Best); diff != "" {
		t.Errorf("best nodes (-want +got):\n%s", diff)
	}
	var got []string
	for _, n := range v.GetExplanation().GetNodes()[:2] {
		total := int64(0)
		for _, s := range n.GetScores() {
			got = append(got, fmt.Sprintf("%s %s %d %d %d", n.GetNodeName(), s.GetRule(), s.GetRaw(), s.GetNormalized(), s.GetWeight()))
			total += s.GetNormalized() * s.GetWeight()
		}
		if total != n.GetTotal() {
			t.Errorf("the total of %s is %d, want %d", n.GetNodeName(), n.GetTotal(), total)
		}
	}
	if diff := cmp.Diff([]string{
		"a DynamicResources 0 0 2",
		"a ImageLocality 0 0 1",
		"a NodeAffinity 0 0 2",
		"a NodeResourcesBalancedAllocation 75 75 1",
		"a NodeResourcesFit 75 75 1",
		"a TaintToleration 0 100 3",
		"b DynamicResources 0 0 2",
		"b ImageLocality 0 0 1",
		"b NodeAffinity 7 100 2",
		"b NodeResourcesBalancedAllocation 75 75 1",
		"b NodeResourcesFit 75 75 1",
		"b TaintToleration 0 100 3",
	}, got); diff != "" {
		t.Errorf("scores (-want +got):\n%s", diff)
	}
}

// TestNominated checks that a pod gets the node set aside for it, and that others
// count it there.
func TestNominated(t *testing.T) {
	o := newOracle(t, Config{})
	nominated := func(p *corev1.Pod) { p.Status.NominatedNodeName = "b" }
	c := &Cluster{Nodes: []*corev1.Node{node("a", "8"), node("b", "2")}}
	if v := evaluate(t, o, pod("p", "1", nominated), c, false); len(v.GetCandidates()) != 1 || v.Best[0] != "b" {
		t.Errorf("candidates are %v, want b alone", v.GetCandidates())
	}
	c.Pods = []*corev1.Pod{pod("other", "2", nominated, priority(5))}
	v := evaluate(t, o, pod("p", "1", priority(5)), c, false)
	if got := v.GetExplanation().GetNodes()[1].GetReasons(); len(got) != 1 || got[0] != "Insufficient cpu" {
		t.Errorf("b is rejected for %q, want that it is set aside", got)
	}
	if v := evaluate(t, o, pod("p", "1", priority(6)), c, false); len(v.GetCandidates()) != 2 {
		t.Errorf("candidates are %v: room set aside for less important pods is free", v.GetCandidates())
	}
}

// TestPreemption checks victims, budgets, the choice and its texts.
func TestPreemption(t *testing.T) {
	o := newOracle(t, Config{})
	labelled := func(p *corev1.Pod) { p.Labels = map[string]string{"app": "db"} }
	c := &Cluster{
		Nodes: []*corev1.Node{node("a", "2"), node("b", "2"), node("c", "2"), node("d", "2"), node("e", "1")},
		Pods: []*corev1.Pod{
			pod("a1", "1", on("a"), started(10)), pod("a2", "1", on("a"), started(20)),
			pod("b1", "2", on("b"), started(10)), pod("c1", "2", on("c"), started(10)),
			pod("d1", "2", on("d"), started(30), labelled),
		},
		DisruptionBudgets: []*policyv1.PodDisruptionBudget{{
			ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "default"},
			Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}},
		}},
	}
	v := evaluate(t, o, pod("p", "2", priority(1)), c, true)
	var got []string
	for _, p := range v.Preemptions {
		line := fmt.Sprint(p.GetNodeName(), " ", p.GetBudgetViolations())
		for _, victim := range p.GetVictims() {
			line += " " + victim.GetName()
		}
		got = append(got, line)
	}
	if diff := cmp.Diff([]string{"a 0 a1 a2", "b 0 b1", "c 0 c1", "d 1 d1"}, got); diff != "" {
		t.Errorf("preemptions (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"b", "c"}, v.PreemptionBest); diff != "" {
		t.Errorf("best preemptions (-want +got):\n%s", diff)
	}
	if got := v.GetPreemption().GetNodeName(); got != "b" {
		t.Errorf("the preemption is on %q, want b", got)
	}

	for _, test := range []struct {
		name string
		pod  *corev1.Pod
		want string
	}{
		{"no lower priority", pod("p", "2"),
			"no new claims to deallocate, preemption: 0/5 nodes are available: 1 Preemption is not helpful for scheduling, 4 No preemption victims found for incoming pod."},
		{"never", pod("p", "2", priority(1), func(p *corev1.Pod) {
			never := corev1.PreemptNever
			p.Spec.PreemptionPolicy = &never
		}), "no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never."},
	} {
		v := evaluate(t, o, test.pod, c, true)
		if got := v.GetRejection().GetPreemption(); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
		if v.GetPreemption() != nil {
			t.Errorf("%s: preemption on %v", test.name, v.GetPreemption())
		}
		if want := "0/5 nodes are available: 5 Insufficient cpu. " + test.want; v.GetRejection().GetMessage() != want {
			t.Errorf("%s: message is %q, want %q", test.name, v.GetRejection().GetMessage(), want)
		}
	}
}

// TestPlace checks that a pod that was placed, with sums of its own, takes room.
func TestPlace(t *testing.T) {
	o := newOracle(t, Config{})
	if err := o.Load(&Cluster{Nodes: []*corev1.Node{node("a", "2")}}); err != nil {
		t.Fatal(err)
	}
	o.Place(pod("first", "1", on("a")), map[types.UID]fwk.PodResource{"first": {Resource: &framework.Resource{MilliCPU: 1500}}})
	v, err := o.Decide(t.Context(), pod("second", "1"), false)
	if err != nil {
		t.Fatal(err)
	}
	if v.GetOutcome() != berthv1.Outcome_OUTCOME_REJECTED {
		t.Errorf("outcome is %v, want rejected", v.GetOutcome())
	}
}

// odd is an out-of-tree plugin.
type odd struct{}

func (odd) Name() string { return "Odd" }

func (odd) Filter(_ context.Context, _ fwk.CycleState, _ *corev1.Pod, n fwk.NodeInfo) *fwk.Status {
	if len(n.Node().Name)%2 == 0 {
		return fwk.NewStatus(fwk.Unschedulable, "node(s) had an even name")
	}
	return nil
}

// TestOutOfTree has a plugin that kube-scheduler does not know.
func TestOutOfTree(t *testing.T) {
	defaults, err := latest.Default()
	if err != nil {
		t.Fatal(err)
	}
	profile := &defaults.Profiles[0]
	profile.Plugins.Filter.Enabled = append(profile.Plugins.Filter.Enabled, schedconfig.Plugin{Name: "Odd"})
	registry := frameworkruntime.Registry{"Odd": func(context.Context, kruntime.Object, fwk.Handle) (fwk.Plugin, error) { return odd{}, nil }}
	o := newOracle(t, Config{Profile: profile, Plugins: registry})
	v := evaluate(t, o, pod("p", "1"), &Cluster{Nodes: []*corev1.Node{node("one", "2"), node("four", "2")}}, false)
	if diff := cmp.Diff([]string{"one"}, v.Best); diff != "" {
		t.Errorf("best nodes (-want +got):\n%s", diff)
	}
	if got := v.GetExplanation().GetNodes()[0]; got.GetRule() != "Odd" || !got.GetEvictionCouldHelp() {
		t.Errorf("four is explained as %v", got)
	}
	if _, err := New(t.Context(), Config{Profile: profile}); err == nil {
		t.Error("a profile that names an unknown plugin is accepted")
	}
}

func BenchmarkEvaluate(b *testing.B) {
	o := newOracle(b, Config{})
	c := &Cluster{}
	for i := range 8 {
		c.Nodes = append(c.Nodes, node(fmt.Sprint("n", i), "4"))
	}
	for i := range 16 {
		c.Pods = append(c.Pods, pod(fmt.Sprint("p", i), "1", on(fmt.Sprint("n", i%8))))
	}
	p := pod("p", "1")
	for b.Loop() {
		if _, err := o.Evaluate(b.Context(), p, c, false); err != nil {
			b.Fatal(err)
		}
	}
}
