package filter_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/scenario"
)

func compile(t *testing.T, args filter.Args, cluster, pod string) (*filter.Filter, *model.Snapshot) {
	t.Helper()
	rules, err := filter.Rules(filter.Names, args)
	if err != nil {
		t.Fatal(err)
	}
	state, err := scenario.ParseCluster(cluster)
	if err != nil {
		t.Fatal(err)
	}
	record, err := scenario.ParsePod(pod)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, fault := model.NewSnapshot(state, filter.Constraints(rules))
	if fault != nil {
		t.Fatal(fault)
	}
	p, fault := snapshot.NewPod(record)
	if fault != nil {
		t.Fatal(fault)
	}
	return filter.Compile(rules, p, snapshot), snapshot
}

// verdicts says of every node why it cannot take the pod; a "*" marks reasons that
// eviction could remedy.
func verdicts(f *filter.Filter, s *model.Snapshot) string {
	var out strings.Builder
	for _, n := range s.Nodes {
		rule, reasons := f.Reject(n)
		fmt.Fprintf(&out, "%s: %s", n.Name, rule)
		for _, r := range reasons {
			fmt.Fprintf(&out, " (%s)", r.Text)
			if r.EvictionCouldHelp {
				out.WriteString("*")
			}
		}
		out.WriteString("\n")
	}
	return out.String()
}

func terms(t *testing.T, requirements ...*berthv1.NodeSelectorRequirement) []model.Term {
	t.Helper()
	selector := &berthv1.NodeSelector{}
	for _, r := range requirements {
		selector.Terms = append(selector.Terms, &berthv1.NodeSelectorTerm{MatchExpressions: []*berthv1.NodeSelectorRequirement{r}})
	}
	of, err := model.NewTerms("added", selector)
	if err != nil {
		t.Fatal(err)
	}
	return of
}

func constraint(t *testing.T, record *berthv1.TopologySpreadConstraint) model.SpreadConstraint {
	t.Helper()
	c, err := model.NewSpreadConstraint(record)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The expected texts are those of kube-scheduler's plugins.
func TestRejections(t *testing.T) {
	const hard, soft = berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_DO_NOT_SCHEDULE, berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_SCHEDULE_ANYWAY
	inZ1 := &berthv1.NodeSelectorRequirement{Key: "zone", Operator: berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_IN, Values: []string{"z1"}}
	byZone := filter.Args{DefaultSpread: []model.SpreadConstraint{
		constraint(t, &berthv1.TopologySpreadConstraint{MaxSkew: 1, TopologyKey: "rack", WhenUnsatisfiable: soft}),
		constraint(t, &berthv1.TopologySpreadConstraint{MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: hard}),
	}}
	const zones = "a zone=z1\nb zone=z2\nc\nweb on=a app=web"
	for _, c := range []struct {
		name         string
		args         filter.Args
		cluster, pod string
		want         string
	}{
		{
			name: "added affinity comes before the pod's own", args: filter.Args{AddedAffinity: terms(t, inZ1)},
			cluster: zones, pod: "p selector=disk=ssd",
			want: "a: NodeAffinity (node(s) didn't match Pod's node affinity/selector)\n" +
				"b: NodeAffinity (node(s) didn't match scheduler-enforced node affinity)\n" +
				"c: NodeAffinity (node(s) didn't match scheduler-enforced node affinity)\n",
		},
		{
			name: "added affinity holds for pods without their own", args: filter.Args{AddedAffinity: terms(t, inZ1)},
			cluster: zones, pod: "p",
			want: "a: \n" +
				"b: NodeAffinity (node(s) didn't match scheduler-enforced node affinity)\n" +
				"c: NodeAffinity (node(s) didn't match scheduler-enforced node affinity)\n",
		},
		{
			// b is counted as empty, though no pod of the profile can go there.
			name: "spreading does not ask added affinity", args: filter.Args{AddedAffinity: terms(t, inZ1)},
			cluster: zones, pod: "p app=web spread=zone:1:DoNotSchedule:app=web",
			want: "a: PodTopologySpread (node(s) didn't match pod topology spread constraints)*\n" +
				"b: NodeAffinity (node(s) didn't match scheduler-enforced node affinity)\n" +
				"c: NodeAffinity (node(s) didn't match scheduler-enforced node affinity)\n",
		},
		{
			name: "default constraints", args: byZone,
			cluster: zones, pod: "p app=web spread-selector=app=web",
			want: "a: PodTopologySpread (node(s) didn't match pod topology spread constraints)*\n" +
				"b: \n" +
				"c: PodTopologySpread (node(s) didn't match pod topology spread constraints (missing required label))\n",
		},
		{
			name: "default constraints are not for pods with any of their own", args: byZone,
			cluster: zones, pod: "p app=web spread-selector=app=web spread=zone:1:ScheduleAnyway:app=web",
			want: "a: \nb: \nc: \n",
		},
		{
			name: "default constraints need a selector", args: byZone,
			cluster: zones, pod: "p app=web",
			want: "a: \nb: \nc: \n",
		},
		{
			name: "default constraints need a selector with requirements", args: byZone,
			cluster: zones, pod: "p app=web spread-selector=",
			want: "a: \nb: \nc: \n",
		},
		{
			name: "affinity to pods", cluster: "a zone=z1 host=a\nb zone=z2 host=b\nc zone=z3 host=c\nd\ndb on=a app=db\nweb on=b app=web\nrecluse on=c pod-anti-affinity=zone:app=web",
			pod: "p app=web pod-affinity=zone:app:DoesNotExist pod-anti-affinity=host:app=web",
			want: "a: InterPodAffinity (node(s) didn't match pod affinity rules)\n" +
				"b: InterPodAffinity (node(s) didn't match pod affinity rules)\n" +
				"c: InterPodAffinity (node(s) didn't satisfy existing pods anti-affinity rules)*\n" +
				"d: InterPodAffinity (node(s) didn't match pod affinity rules)\n",
		},
		{
			name: "anti-affinity", cluster: zones, pod: "p pod-anti-affinity=zone:app=web",
			want: "a: InterPodAffinity (node(s) didn't match pod anti-affinity rules)*\nb: \nc: \n",
		},
		{
			name: "declared features", cluster: "a feature=F\nb", pod: "p feature=F",
			want: "a: \nb: NodeDeclaredFeatures (node(s) didn't match Pod's required features)\n",
		},
		{
			name:    "ignored resources",
			args:    filter.Args{IgnoredResources: []string{"example.com/gpu", "cpu"}, IgnoredResourceGroups: []string{"acme.io", "memory", "kubernetes.io"}},
			cluster: "a", pod: "p cpu=1 memory=1 example.com/gpu=1 example.com/nic=1 acme.io/x=1 kubernetes.io/y=1",
			want: "a: NodeResourcesFit (Insufficient cpu) (Insufficient memory) (Insufficient example.com/nic) (Insufficient kubernetes.io/y)\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := verdicts(compile(t, c.args, c.cluster, c.pod)); got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		})
	}
}

// What is waited for to become free is what the rules look at.
func TestFree(t *testing.T) {
	f, _ := compile(t, filter.Args{IgnoredResourceGroups: []string{"acme.io"}}, "a", "p cpu=1 acme.io/x=1")
	if got := fmt.Sprint(f.Free()); got != "map[cpu:1000 pods:1]" {
		t.Errorf("free is %s", got)
	}
	rules, err := filter.Rules([]string{"NodePorts"}, filter.Args{})
	if err != nil {
		t.Fatal(err)
	}
	if free := filter.Compile(rules, &model.Pod{}, &model.Snapshot{}).Free(); len(free) != 0 {
		t.Errorf("without NodeResourcesFit free is %v", free)
	}
}

// Removing counts as kube-scheduler's RemovePod does: a terminating pod, which was
// not counted, is taken off all the same.
func TestTerminatingPodIsTakenOff(t *testing.T) {
	f, s := compile(t, filter.Args{}, "a zone=z1\nb zone=z2\none on=a app=web\nold on=a app=web terminating",
		"p app=web spread=zone:1:DoNotSchedule:app=web")
	const skewed = "PodTopologySpread (node(s) didn't match pod topology spread constraints)*"
	if got, want := verdicts(f, s), "a: "+skewed+"\nb: \n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	a := s.Node("a")
	for _, q := range a.Pods {
		if q.Terminating {
			f.Remove(q, a)
			break
		}
	}
	if got, want := verdicts(f, s), "a: \nb: \n"; got != want {
		t.Errorf("after removal got\n%swant\n%s", got, want)
	}
}

// A pod on a node that the constraint leaves out was not counted and is not taken
// off.
func TestPodOnNodeLeftOutIsNotTakenOff(t *testing.T) {
	f, s := compile(t, filter.Args{}, "a zone=z1\nb zone=z1 taint=gpu:NoSchedule\nc zone=z2\none on=a app=web\ntwo on=b app=web",
		"p app=web spread=zone:1:DoNotSchedule:app=web;taints=Honor")
	const want = "a: PodTopologySpread (node(s) didn't match pod topology spread constraints)*\n" +
		"b: TaintToleration (node(s) had untolerated taint(s))\nc: \n"
	if got := verdicts(f, s); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	b := s.Node("b")
	f.Remove(b.Pods[0], b)
	if got := verdicts(f, s); got != want {
		t.Errorf("after removal got\n%swant\n%s", got, want)
	}
}

// Pods with affinity to pods are counted, so that no node is asked if there are none.
func TestAffine(t *testing.T) {
	f, s := compile(t, filter.Args{}, "a\nb\none on=a pod-affinity=zone:app=x\ntwo on=a\nthree on=b prefer-no-pod=1:zone:app=x\nnominee on=b pod-affinity=zone:app=x nominated", "p")
	if s.Affine != 2 {
		t.Errorf("%d pods have affinity, want 2", s.Affine)
	}
	a := s.Node("a")
	for _, q := range append([]*model.PlacedPod(nil), a.Pods...) {
		f.Remove(q, a)
	}
	if s.Affine != 1 {
		t.Errorf("%d pods have affinity after a was emptied, want 1", s.Affine)
	}
}

func TestRulesNamesWhatThereIsNot(t *testing.T) {
	_, err := filter.Rules([]string{"NodeName", "VolumeZone"}, filter.Args{})
	if err == nil || !strings.HasPrefix(err.Error(), `"VolumeZone" is not a filter; there are NodeUnschedulable, `) {
		t.Errorf("error is %v", err)
	}
}
