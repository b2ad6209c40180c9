package score_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/score"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/scenario"
)

// fataler is what testing.T, testing.B and rapid.T share.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// turn returns the turn of a pod on state. Nodes whose name begins with "x" are not
// feasible.
func turn(t fataler, state *berthv1.Snapshot, pod *berthv1.Pod) *model.Turn {
	t.Helper()
	snapshot, refused := model.NewSnapshot(state, filter.Constraints(filter.Default()))
	if refused != nil {
		t.Fatalf("%v", refused)
	}
	p, refused := snapshot.NewPod(pod)
	if refused != nil {
		t.Fatalf("%v", refused)
	}
	feasible := slices.DeleteFunc(slices.Clone(snapshot.Nodes), func(n *model.Node) bool { return n.Name[0] == 'x' })
	return &model.Turn{Pod: p, Snapshot: snapshot, Feasible: feasible}
}

// printed asks one rule about a pod, as text: "node=raw->normalised ...", with "->"
// only if they differ, or "no preference".
func printed(t fataler, rule string, args score.Args, cluster, pod string) string {
	t.Helper()
	state, err := scenario.ParseCluster(cluster)
	if err != nil {
		t.Fatalf("%v", err)
	}
	pods, err := scenario.ParsePods(pod)
	if err != nil {
		t.Fatalf("%v", err)
	}
	for name, value := range pods[0].Requests { // as the watcher does it
		if name != "cpu" && name != "memory" {
			pods[0].ScoreRequests[name] = value
		}
	}
	rules, err := score.Rules([]score.Weight{{Name: rule, Weight: 1}}, args)
	if err != nil {
		t.Fatalf("%v", err)
	}
	turn := turn(t, state, pods[0])
	columns := score.Columns(rules, turn)
	if len(columns) == 0 {
		return "no preference"
	}
	var nodes []string
	for i, n := range turn.Feasible {
		raw, normalized := columns[0].Raw[i], columns[0].Normalized[i]
		word := fmt.Sprintf("%s=%d", n.Name, raw)
		if raw != normalized {
			word += fmt.Sprintf("->%d", normalized)
		}
		nodes = append(nodes, word)
	}
	return strings.Join(nodes, " ")
}

// example is what a rule says of the nodes of a cluster, with kube-scheduler's
// arguments unless args changes them. Expectations are kube-scheduler's own test
// tables' where a name says "upstream", else computed by hand from its formulas.
type example struct {
	name         string
	args         func(*score.Args)
	cluster, pod string
	want         string
}

func check(t *testing.T, rule string, examples []example) {
	t.Helper()
	for _, e := range examples {
		args := score.DefaultArgs()
		if e.args != nil {
			e.args(&args)
		}
		if got := printed(t, rule, args, e.cluster, e.pod); got != e.want {
			t.Errorf("%s: %s, want %s", e.name, got, e.want)
		}
	}
}

func TestTaintToleration(t *testing.T) {
	const cluster = `a
b taint=foo=1:PreferNoSchedule
c taint=foo=1:PreferNoSchedule taint=bar=2:PreferNoSchedule
d taint=foo=1:PreferNoSchedule taint=bar=2:PreferNoSchedule taint=baz=3:PreferNoSchedule
e taint=foo=1:NoSchedule taint=bar=2:NoExecute`
	check(t, "TaintToleration", []example{
		{"nothing is tolerated", nil, cluster, "p", "a=0->100 b=1->67 c=2->34 d=3->0 e=0->100"},
		{"some are", nil, cluster, "p toleration=foo=1:PreferNoSchedule toleration=bar", "a=0->100 b=0->100 c=0->100 d=1->0 e=0->100"},
		{"an effect that is another", nil, cluster, "p toleration=foo=1:NoSchedule", "a=0->100 b=1->67 c=2->34 d=3->0 e=0->100"},
		{"a value that is another", nil, cluster, "p toleration=foo=2", "a=0->100 b=1->67 c=2->34 d=3->0 e=0->100"},
		{"everything is", nil, cluster, "p toleration=", "a=0->100 b=0->100 c=0->100 d=0->100 e=0->100"},
		{"there are none", nil, "a\nb", "p", "a=0->100 b=0->100"},
	})
}

func TestNodeAffinity(t *testing.T) {
	const cluster = "a zone=z1 disk=ssd\nb zone=z2\nc"
	added := func(a *score.Args) {
		absent := &berthv1.NodeSelectorRequirement{Key: "disk", Operator: berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_DOES_NOT_EXIST}
		terms, err := model.NewWeightedTerms("", []*berthv1.PreferredNodeTerm{
			{Weight: 8, Term: &berthv1.NodeSelectorTerm{MatchExpressions: []*berthv1.NodeSelectorRequirement{absent}}},
			{Weight: 50, Term: &berthv1.NodeSelectorTerm{}}, // an empty term matches nothing
		})
		if err != nil {
			t.Fatal(err)
		}
		a.AddedPreferred = terms
	}
	check(t, "NodeAffinity", []example{
		{"nothing preferred", nil, cluster, "p", "no preference"},
		{"terms add up", nil, cluster, "p prefer=2:zone:In:z1 prefer=3:disk:Exists prefer=1:zone:In:z2,z3", "a=5->100 b=1->20 c=0"},
		{"nothing matches", nil, cluster, "p prefer=2:zone:In:z9", "a=0 b=0 c=0"},
		{"rounded down", nil, cluster, "p prefer=1:zone:Exists prefer=2:disk:Exists", "a=3->100 b=1->33 c=0"},
		{"a term of weight 0", nil, cluster, "p prefer=0:zone:Exists", "a=0 b=0 c=0"},
		{"by name", nil, cluster, "p prefer=7:metadata.name:In:b", "a=0 b=7->100 c=0"},
		{"added alone", added, cluster, "p", "a=0 b=8->100 c=8->100"},
		{"added and own", added, cluster, "p prefer=2:zone:Exists", "a=2->20 b=10->100 c=8->80"},
	})
}

func TestNodeResourcesFit(t *testing.T) {
	resources := func(names ...string) func(*score.Args) {
		return func(a *score.Args) {
			a.Fit.Resources = nil
			for i, name := range names {
				a.Fit.Resources = append(a.Fit.Resources, score.Resource{Name: name, Weight: int64(i + 1)})
			}
		}
	}
	most := func(a *score.Args) { a.Fit.Type = score.MostAllocated }
	ratio := func(points ...score.Point) func(*score.Args) {
		return func(a *score.Args) { a.Fit.Type, a.Fit.Shape = score.RequestedToCapacityRatio, points }
	}
	rising := ratio(score.Point{Utilization: 0, Score: 0}, score.Point{Utilization: 100, Score: 10})
	falling := ratio(score.Point{Utilization: 0, Score: 10}, score.Point{Utilization: 100, Score: 0})
	const sized = "a cpu=4 memory=10000\nb cpu=6 memory=10000"
	const largest = "9223372036854775807"
	check(t, "NodeResourcesFit", []example{
		// LeastAllocated.
		{"upstream: differently sized nodes", nil, sized, "p cpu=3 memory=5000", "a=37 b=50"},
		{"upstream: no resources requested, pods scheduled", nil,
			"a cpu=10 memory=20000\nb cpu=10 memory=20000\nq on=a cpu=6 memory=0 score-memory=0\nr on=b cpu=6 memory=5000",
			"p cpu=0 score-cpu=0 score-memory=0", "a=70 b=57"},
		{"more than is there", nil, "a cpu=4 memory=10000\nq on=a cpu=3 memory=0 score-memory=0", "p cpu=2 memory=5000", "a=25"},
		{"without memory", nil, "a cpu=4", "p cpu=1 memory=5000", "a=75"},
		{"without anything", nil, "a", "p cpu=1 memory=5000", "a=0"},
		{"defaults of containers without requests", nil, "a cpu=1 memory=1000Mi", "p", "a=85"},
		{"rounded down, each and the mean", nil, "a cpu=3m memory=3", "p cpu=1m memory=2", "a=49"},
		{"weights", resources("cpu", "memory"), sized, "p cpu=3 memory=2000", "a=61 b=70"},
		{"a device that is not asked for", resources("cpu", "example.com/gpu"), "a cpu=4 example.com/gpu=8\nb cpu=4", "p cpu=1 memory=5", "a=75 b=75"},
		{"a device that is", resources("cpu", "example.com/gpu"),
			"a cpu=4 example.com/gpu=8\nb cpu=4\nq on=a example.com/gpu=4 score-cpu=0", "p cpu=1 memory=5 example.com/gpu=2", "a=41 b=75"},
		{"storage counts although it is not asked for", resources("cpu", "ephemeral-storage"),
			"a cpu=4 ephemeral-storage=100\nb cpu=4 ephemeral-storage=100\nq on=a ephemeral-storage=50 score-cpu=0", "p cpu=1 memory=5", "a=58 b=91"},
		{"what no node counts", resources("cpu", "pods"), "a cpu=4", "p cpu=1 memory=5", "a=75"},
		{"what is no device", resources("cpu", "requests.example.com/gpu"), "a cpu=4 requests.example.com/gpu=8", "p cpu=1 memory=5 requests.example.com/gpu=1", "a=75"},
		{"no overflow", nil, "a cpu=" + largest + "m memory=" + largest + "\nq on=a cpu=4611686018427387904m memory=" + largest, "p cpu=1m memory=" + largest, "a=24"},
		// MostAllocated.
		{"upstream: most, differently sized nodes", most, sized, "p cpu=3 memory=5000", "a=62 b=50"},
		{"most, more than is there", most, "a cpu=4 memory=10000\nq on=a cpu=3 memory=0 score-memory=0", "p cpu=2 memory=5000", "a=75"},
		{"most, no overflow", most, "a cpu=" + largest + "m memory=" + largest + "\nq on=a cpu=" + largest + "m memory=0 score-memory=0", "p cpu=1m memory=" + largest, "a=100"},
		// RequestedToCapacityRatio.
		{"upstream: ratio, falling", falling, sized, "p cpu=3 memory=5000", "a=38 b=50"},
		{"upstream: ratio, falling, nothing requested", falling, sized, "p cpu=0 score-cpu=0 memory=0 score-memory=0", "a=100 b=100"},
		{"ratio, rising, more than is there", rising, sized, "p cpu=5 memory=5000", "a=75 b=67"},
		{"ratio, what gets nothing does not count", rising, sized, "p cpu=0 score-cpu=0 memory=5000", "a=50 b=50"},
		{"ratio, nothing counts", rising, sized, "p cpu=0 score-cpu=0 memory=0 score-memory=0", "a=0 b=0"},
		{"ratio, level beyond the points", ratio(score.Point{Utilization: 40, Score: 3}, score.Point{Utilization: 60, Score: 8}),
			"a cpu=10 memory=10\nb cpu=100 memory=100\nc cpu=20 memory=20", "p cpu=10 memory=10", "a=80 b=30 c=55"},
		{"ratio, falling between points, rounded towards zero", ratio(score.Point{Utilization: 0, Score: 10}, score.Point{Utilization: 30, Score: 3}),
			"a cpu=100m memory=100", "p cpu=10m memory=10", "a=77"},
	})
}

func TestNodeResourcesBalancedAllocation(t *testing.T) {
	gpu := func(a *score.Args) { a.Balanced = []string{"cpu", "memory", "nvidia.com/gpu"} }
	check(t, "NodeResourcesBalancedAllocation", []example{
		{"upstream: nothing requested", nil, "a cpu=4 memory=10000", "p", "no preference"},
		{"upstream: differently sized nodes", nil, "a cpu=4 memory=10000\nb cpu=6 memory=10000", "p cpu=3 memory=5000", "a=68 b=75"},
		{"upstream: pods scheduled", nil, "a cpu=10 memory=20000\nb cpu=10 memory=20000\nq on=a cpu=3\nr on=b cpu=3 memory=5000",
			"p cpu=3 memory=5000", "a=73 b=74"},
		{"upstream: pods scheduled, differently sized nodes", nil, "a cpu=10 memory=20000\nb cpu=10 memory=50000\nq on=a cpu=3\nr on=b cpu=3 memory=5000",
			"p cpu=3 memory=5000", "a=73 b=70"},
		{"upstream: lowest and highest", nil, "a cpu=3 memory=5000\nb cpu=3 memory=5000\nq on=a cpu=3", "p memory=5000", "a=100 b=50"},
		{"upstream: at capacity", nil, "a cpu=6 memory=10000\nb cpu=6 memory=10000\nq on=a cpu=3\nr on=b cpu=3 memory=5000", "p cpu=3", "a=62 b=62"},
		{"upstream: a device that is asked for", gpu,
			"a cpu=3500m memory=40000 nvidia.com/gpu=8\nb cpu=3500m memory=40000 nvidia.com/gpu=8\nq on=a cpu=3 memory=5000 nvidia.com/gpu=3\nr on=b cpu=3 memory=5000",
			"p nvidia.com/gpu=1", "a=75 b=76"},
		{"upstream: a device that is not", gpu, "a cpu=3500m memory=40000 nvidia.com/gpu=8\nb cpu=3500m memory=40000", "p cpu=3 memory=5000", "a=56 b=56"},
		{"one resource is always even", nil, "a cpu=4", "p cpu=3", "a=75"},
		{"overcommitted", nil, "a cpu=1 memory=100\nq on=a cpu=5 memory=50", "p cpu=1 memory=50", "a=87"},
		{"no overflow", nil, "a cpu=1 memory=9223372036854775807\nq on=a memory=9223372036854775807", "p cpu=1 memory=9223372036854775807", "a=100"},
	})
}

func TestPodTopologySpread(t *testing.T) {
	const nodes = "a label:kubernetes.io/hostname=a\nb label:kubernetes.io/hostname=b\nc label:kubernetes.io/hostname=c\nd label:kubernetes.io/hostname=d\n"
	const spread2103 = nodes + "a1 on=a foo=1\na2 on=a foo=1\nb1 on=b foo=1\nd1 on=d foo=1\nd2 on=d foo=1\nd3 on=d foo=1\n"
	const spread4321 = nodes + `a1 on=a foo=1
a2 on=a foo=1
a3 on=a foo=1
a4 on=a foo=1
b1 on=b foo=1
b2 on=b foo=1
b3 on=b foo=1
c1 on=c foo=1
c2 on=c foo=1
d1 on=d foo=1
`
	const pods4213 = `a1 on=a foo=1
a2 on=a foo=1
a3 on=a foo=1
a4 on=a foo=1
b1 on=b foo=1
b2 on=b foo=1
c1 on=c foo=1
y1 on=xd foo=1
y2 on=xd foo=1
y3 on=xd foo=1
`
	const onNode, onZone = "p foo=1 spread=kubernetes.io/hostname:1:ScheduleAnyway:", "p foo=1 spread=zone:1:ScheduleAnyway:"
	list := func(a *score.Args) { a.SystemDefaulted = false }
	check(t, "PodTopologySpread", []example{
		{"nothing to spread", nil, nodes, "p foo=1", "no preference"},
		{"hard constraints alone", nil, nodes, "p foo=1 spread=kubernetes.io/hostname:1:DoNotSchedule:foo=1 spread-selector=foo=1", "no preference"},
		{"upstream: no pods", nil, nodes, onNode + "foo:Exists", "a=0->100 b=0->100 c=0->100 d=0->100"},
		// log(4+2) is 1.79.
		{"upstream: 2/1/0/3", nil, spread2103, onNode + "foo:Exists", "a=4->20 b=2->60 c=0->100 d=5->0"},
		{"upstream: 2/1/0/3, no selector", nil, spread2103, onNode + "!", "a=0->100 b=0->100 c=0->100 d=0->100"},
		{"an empty selector counts nobody", nil, spread2103, onNode, "a=0->100 b=0->100 c=0->100 d=0->100"},
		{"upstream: 2/1/0/3, skew 2", nil, spread2103, "p foo=1 spread=kubernetes.io/hostname:2:ScheduleAnyway:foo:Exists", "a=5->33 b=3->66 c=1->100 d=6->16"},
		{"upstream: 4/3/2/1, skew 3", nil, spread4321, "p foo=1 spread=kubernetes.io/hostname:3:ScheduleAnyway:foo:Exists", "a=9->44 b=7->66 c=6->77 d=4->100"},
		{"upstream: system defaults without zones", nil, spread4321, "p foo=1 spread-selector=foo=1", "a=9->44 b=7->66 c=6->77 d=4->100"},
		{"the same defaults as a list leave nodes without zones out", list, spread4321, "p foo=1 spread-selector=foo=1", "a=0 b=0 c=0 d=0"},
		{"upstream: a node that is not feasible", nil,
			"a label:kubernetes.io/hostname=a\nb label:kubernetes.io/hostname=b\nc label:kubernetes.io/hostname=c\nxd label:kubernetes.io/hostname=d\n" + pods4213,
			onNode + "foo:Exists", "a=6->33 b=3->83 c=2->100"},
		{"upstream: a node without the key", nil,
			"a label:kubernetes.io/hostname=a\nb n=b\nc label:kubernetes.io/hostname=c\nxd label:kubernetes.io/hostname=d\n" + pods4213,
			onNode + "foo:Exists", "a=6->16 b=0 c=1->100"},
		{"upstream: zones count nodes that are not feasible", nil,
			"a zone=zone1\nb zone=zone1\nc zone=zone2\nxd zone=zone2\n" + pods4213, onZone + "foo:Exists", "a=8->75 b=8->75 c=6->100"},
		{"upstream: two constraints on zone and node", nil, `a zone=zone1 label:kubernetes.io/hostname=a
c zone=zone2 label:kubernetes.io/hostname=c
xb zone=zone1 label:kubernetes.io/hostname=b
xd zone=zone2 label:kubernetes.io/hostname=d
a1 on=a foo=1
a2 on=a foo=1
b1 on=xb foo=1
c1 on=c foo=1
c2 on=c foo=1
y1 on=xd foo=1
y2 on=xd foo=1
y3 on=xd foo=1
y4 on=xd foo=1`, onZone + "foo:Exists spread=kubernetes.io/hostname:1:ScheduleAnyway:foo:Exists", "a=7->100 c=11->63"},
		{"upstream: two selectors", nil, `a zone=zone1 label:kubernetes.io/hostname=a
b zone=zone1 label:kubernetes.io/hostname=b
c zone=zone2 label:kubernetes.io/hostname=c
d zone=zone2 label:kubernetes.io/hostname=d
a1 on=a foo=1
b1 on=b foo=1 bar=1
d1 on=d foo=1
d2 on=d bar=1`, onZone + "foo:Exists spread=kubernetes.io/hostname:1:ScheduleAnyway:bar:Exists", "a=3->60 b=5->20 c=1->100 d=3->60"},
		{"terminating pods and other namespaces do not count", nil,
			nodes + "a1 on=a foo=1 terminating\nb1 on=b foo=1 namespace=other\nc1 on=c foo=1 nominated", onNode + "foo:Exists", "a=0->100 b=0->100 c=0->100 d=0->100"},
		{"match label keys", nil, "a label:kubernetes.io/hostname=a\nb label:kubernetes.io/hostname=b\nq on=a foo=1 v=1\nr on=b foo=1 v=2",
			"p foo=1 v=1 spread=kubernetes.io/hostname:1:ScheduleAnyway:foo:Exists;keys=v,w", "a=1->0 b=0->100"},
		{"pods where the pod's selector does not let it go", nil, "a zone=z1 d=1\nb zone=z2 d=1\nxc zone=z1 d=2\nq on=xc foo=1",
			onZone + "foo:Exists selector=d=1", "a=0->100 b=0->100"},
		{"unless that is ignored", nil, "a zone=z1 d=1\nb zone=z2 d=1\nxc zone=z1 d=2\nq on=xc foo=1",
			onZone + "foo:Exists;affinity=Ignore selector=d=1", "a=1->0 b=0->100"},
		{"pods behind taints", nil, "a zone=z1\nb zone=z2\nxc zone=z1 taint=k:NoSchedule\nq on=xc foo=1",
			onZone + "foo:Exists", "a=1->0 b=0->100"},
		{"unless taints are honoured", nil, "a zone=z1\nb zone=z2\nxc zone=z1 taint=k:NoSchedule\nq on=xc foo=1",
			onZone + "foo:Exists;taints=Honor", "a=0->100 b=0->100"},
		// Nodes without a zone are a domain that adds to the weight of zones:
		// log(2+2) * 1 + 4 for the zone, log(2+2) * 1 + 2 for the node.
		{"system defaults, one node without a zone", nil,
			"a label:kubernetes.io/hostname=a label:topology.kubernetes.io/zone=z\nb label:kubernetes.io/hostname=b\nq on=a foo=1\nr on=b foo=1", "p foo=1 spread-selector=foo=1", "a=9->33 b=3->100"},
	})
}

func TestInterPodAffinity(t *testing.T) {
	const regions = "a region=china\nb region=india\nc az=az1\n"
	ignore := func(a *score.Args) { a.IgnorePreferredTermsOfExistingPods = true }
	weigh := func(w int64) func(*score.Args) { return func(a *score.Args) { a.HardPodAffinityWeight = w } }
	const prefersS1 = "p security=S1 prefer-pod=5:region:security=S1"
	check(t, "InterPodAffinity", []example{
		{"upstream: no terms", nil, regions, "p security=S1", "no preference"},
		{"upstream: same region as S1", nil, regions + "q on=a security=S1\nr on=b security=S2", prefersS1, "a=5->100 b=0 c=0"},
		{"upstream: one region counts on all its nodes", nil, "a region=china\nb region=china\nc region=india\nq on=a security=S1", prefersS1, "a=5->100 b=5->100 c=0"},
		{"upstream: more in one region", nil,
			"a region=china\nb region=india\nc region=china\nd region=china\ne region=india\nq1 on=a security=S2\nq2 on=a security=S2\nq3 on=b security=S2\nq4 on=c security=S2\nq5 on=d security=S2\nq6 on=e security=S2",
			"p security=S1 prefer-pod=6:region:security=S2", "a=24->100 b=12->0 c=24->100 d=24->100 e=12->0"},
		{"rounded down", nil, "a r=1\nb r=2\nc r=3\nq on=a s=1\nq2 on=b s=1\nq3 on=b s=1\nq4 on=b s=1", "p prefer-pod=1:r:s=1", "a=1->33 b=3->100 c=0"},
		// 100 * (float64(29) / float64(100)) is 28.999999999999996.
		{"truncated, as floats are", nil, "a r=1\nb r=2\nc r=3\nq on=a s=1\nq2 on=b s=2", "p prefer-pod=29:r:s=1 prefer-pod=100:r:s=2", "a=29->28 b=100 c=0"},
		{"upstream: existing pods prefer it", nil, regions + "q on=a security=S1 prefer-pod=6:region:security=S2\nr on=b security=S2 prefer-pod=5:region:security=S1",
			"p security=S2", "a=6->100 b=0 c=0"},
		{"existing pods, ignored", ignore, regions + "q on=a prefer-pod=6:region:security=S2", "p security=S2", "no preference"},
		{"existing pods, ignored only for pods without preferences", ignore, regions + "q on=a prefer-pod=6:region:security=S2",
			"p security=S2 prefer-pod=1:region:x=y", "a=6->100 b=0 c=0"},
		{"upstream: existing pods require it", nil, regions + "q on=a pod-affinity=region:security:In:S1,value2\nr on=b security=S2", "p security=S1", "a=1->100 b=0 c=0"},
		{"required affinity weighs more", weigh(7), regions + "q on=a pod-affinity=region:security=S1\nr on=b prefer-pod=3:region:security=S1", "p security=S1", "a=7->100 b=3->42 c=0"},
		{"required affinity weighs nothing", weigh(0), regions + "q on=a pod-affinity=region:security=S1", "p security=S1", "no preference"},
		{"required terms of its own are no preference", nil, regions + "q on=a security=S1", "p pod-affinity=region:security=S1 pod-anti-affinity=az:security=S1", "no preference"},
		{"required anti-affinity of others is none either", nil, regions + "q on=a pod-anti-affinity=region:security=S1", "p security=S1", "no preference"},
		{"upstream: away from S1", nil, "a az=az1\nb az=az2\nq on=a security=S1\nr on=b security=S2", "p security=S1 prefer-no-pod=5:az:security=S1", "a=-5->0 b=0->100"},
		{"upstream: existing pods want it away", nil, "a az=az1\nb az=az2\nq on=a prefer-no-pod=5:az:security=S2\nr on=b security=S2 prefer-no-pod=5:az:security=S1",
			"p security=S2", "a=-5->0 b=0->100"},
		{"what cancels out is still a score", nil, "a r=1\nb r=2\nq on=a s=1", "p prefer-pod=5:r:s=1 prefer-no-pod=5:r:s=1", "a=0 b=0"},
		{"nobody is selected", nil, regions + "q on=a security=S9", prefersS1, "no preference"},
		{"somebody is, on a node without the key", nil, regions + "q on=c security=S1", prefersS1, "no preference"},
		{"several keys", nil, "a region=china az=az1\nb region=china\nc az=az1\nq on=a s=1", "p prefer-pod=5:region:s=1 prefer-pod=3:az:s=1", "a=8->100 b=5->40 c=3->0"},
		{"nodes that are not feasible have neighbours", nil, "a r=1\nb r=2\nxc r=2\nq on=xc s=1", "p prefer-pod=5:r:s=1", "a=0 b=5->100"},
		{"terminating pods count", nil, "a r=1\nb r=2\nq on=a s=1 terminating", "p prefer-pod=5:r:s=1", "a=5->100 b=0"},
		{"nominated pods do not", nil, "a r=1\nb r=2\nq on=a s=1 nominated", "p prefer-pod=5:r:s=1", "no preference"},
		{"its own namespace", nil, "a r=1\nb r=2\nq on=a s=1 namespace=x\nr on=b s=1 namespace=y", "p namespace=y prefer-pod=5:r:s=1", "a=0 b=5->100"},
		{"upstream: namespaces by name and label", nil,
			"a r=1\nb r=2\nc r=3\nnamespace t1 team=team1\nnamespace t2 team=team2\nnamespace t3 team=team3\nq on=a s=1 namespace=t1\nr on=b s=1 namespace=t2\nu on=c s=1 namespace=t3",
			"p namespace=t1 prefer-pod=5:r:s=1;namespaces=t2;namespace-selector=team:In:team1", "a=5->100 b=5->100 c=0"},
		// Snapshot.Selects says why.
		{"namespaces that lack a label are every namespace", nil,
			"a r=1\nb r=2\nnamespace t1 team=team1\nnamespace t2\nq on=a s=1 namespace=t1\nq2 on=b s=1 namespace=t2",
			"p namespace=t1 prefer-pod=5:r:s=1;namespace-selector=team:DoesNotExist", "a=5->0 b=5->0"},
		{"but not for terms of placed pods", nil,
			"a r=1\nb r=2\nnamespace t1 team=team1\nq on=a prefer-pod=5:r:s=1;namespace-selector=team:DoesNotExist",
			"p namespace=t1 s=1", "no preference"},
	})
}

func TestImageLocality(t *testing.T) {
	const images = `n1 image:40=40Mi image:300=300Mi image:2000=2000Mi
n2 image:250=250Mi image:10=10Mi`
	check(t, "ImageLocality", []example{
		{"no images", nil, images, "p", "n1=0 n2=0"},
		{"upstream: prefer the larger", nil, images, "p image=40 image=250", "n1=0 n2=5"},
		{"upstream: two on one node", nil, images, "p image=40 image=300", "n1=7 n2=0"},
		{"upstream: beyond the limit", nil, "n1 image:4000=4000Mi\nn2 image:10=10Mi", "p image=4000 image=10", "n1=100 n2=0"},
		{"upstream: and with a node without images", nil, "n1 image:4000=4000Mi\nn2 image:10=10Mi\nn3", "p image=4000 image=10", "n1=66 n2=0 n3=0"},
		{"upstream: large ones", nil, "n1 image:600=600Mi image:900=900Mi\nn2 image:300=300Mi image:600=600Mi image:900=900Mi\nn3",
			"p image=300 image=600 image=900", "n1=32 n2=36 n3=0"},
		{"upstream: small ones", nil, "n1 image:20=20Mi image:30=30Mi image:40=40Mi\nn2 image:4000=4000Mi image:30=30Mi", "p image=30 image=40", "n1=1 n2=0"},
		{"upstream: a volume", nil, "n1 image:300=300Mi\nn2 image:30=30Mi", "p image=30 volume-image=300", "n1=12 n2=0"},
		{"an image of two containers counts twice", nil, "n1 image:300=300Mi\nn2", "p image=300 image=300", "n1=14 n2=0"},
		{"nodes that are not feasible count", nil, "n1 image:300=300Mi\nx1 image:300=300Mi\nx2", "p image=300", "n1=18"},
		{"no overflow", nil, "n1 image:a=9223372036854775807 image:b=9223372036854775807 image:c=9223372036854775807", "p image=a image=b image=c", "n1=100"},
	})
}

func TestNodeSignals(t *testing.T) {
	signals := func(s ...score.Signal) func(*score.Args) { return func(a *score.Args) { a.Signals = s } }
	load, speed := score.Signal{Name: "load", Weight: 3}, score.Signal{Name: "speed", Weight: 1, HigherIsBetter: true}
	const cluster = "a signal:load=500m signal:speed=7\nb signal:load=1\nc signal:load=3500m signal:speed=9\nd"
	check(t, "NodeSignals", []example{
		{"none configured", nil, cluster, "p", "no preference"},
		{"none there", signals(score.Signal{Name: "power", Weight: 1}), cluster, "p", "no preference"},
		{"lower is better", signals(load), cluster, "p", "a=100 b=83 c=0 d=0"},
		{"higher is better", signals(speed), cluster, "p", "a=0 b=0 c=100 d=0"},
		{"the weighted mean", signals(load, speed), cluster, "p", "a=75 b=62 c=25 d=0"},
		{"one that no node has is left out", signals(load, score.Signal{Name: "power", Weight: 100}), cluster, "p", "a=100 b=83 c=0 d=0"},
		{"all equal", signals(load, speed), "a signal:load=2 signal:speed=1\nb signal:load=2\nc", "p", "a=100 b=75 c=0"},
		{"only feasible nodes are compared", signals(load), "a signal:load=1\nb signal:load=3\nxc signal:load=100", "p", "a=100 b=0"},
		{"negative and far apart", signals(load), "a signal:load=-9223372036854775808m\nb signal:load=0\nc signal:load=9223372036854775807m", "p", "a=100 b=49 c=0"},
	})
}

func TestRules(t *testing.T) {
	for _, c := range []struct {
		weights []score.Weight
		args    func(*score.Args)
		want    string
	}{
		{[]score.Weight{{"Best", 1}}, nil, `"Best" is not a score`},
		{[]score.Weight{{"NodeAffinity", 0}}, nil, "the weight of NodeAffinity is 0; it must be 1 to 2147483647"},
		{[]score.Weight{{"NodeAffinity", 1 << 31}}, nil, "the weight of NodeAffinity is 2147483648; it must be 1 to 2147483647"},
		{nil, func(a *score.Args) { a.Fit.Type = "Best" },
			`NodeResourcesFit: "Best" is not a strategy; there are LeastAllocated, MostAllocated and RequestedToCapacityRatio`},
		{nil, func(a *score.Args) { a.Fit.Type = score.RequestedToCapacityRatio }, "NodeResourcesFit: RequestedToCapacityRatio needs a shape"},
		{nil, func(a *score.Args) { a.Fit.Shape = []score.Point{{10, 1}, {10, 2}} },
			"NodeResourcesFit: shape[1].utilization is 10; it must be 0 to 100 and more than the one before"},
		{nil, func(a *score.Args) { a.Fit.Shape = []score.Point{{101, 1}} },
			"NodeResourcesFit: shape[0].utilization is 101; it must be 0 to 100 and more than the one before"},
		{nil, func(a *score.Args) { a.Fit.Shape = []score.Point{{10, 11}} }, "NodeResourcesFit: shape[0].score is 11; it must be 0 to 10"},
		{nil, func(a *score.Args) { a.Fit.Resources[0].Weight = 101 }, `NodeResourcesFit: the weight of "cpu" is 101; it must be 1 to 100`},
		{nil, func(a *score.Args) { a.Signals = []score.Signal{{Name: "load"}} }, `NodeSignals: the weight of "load" is 0; it must be 1 to 100`},
		{nil, func(a *score.Args) { a.HardPodAffinityWeight = -1 }, "InterPodAffinity: the weight of required affinity is -1; it must be 0 to 100"},
	} {
		args := score.DefaultArgs()
		if c.args != nil {
			c.args(&args)
		}
		if _, err := score.Rules(c.weights, args); err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

// Constraints that no node has the key of take memory by their number alone, not by
// that of the nodes, too.
func TestManyConstraints(t *testing.T) {
	const constraints, nodes = 2000, 2000
	state := &berthv1.Snapshot{}
	for i := range nodes {
		state.Nodes = append(state.Nodes, &berthv1.Node{Name: fmt.Sprint("n", i)})
	}
	pod := &berthv1.Pod{Uid: "p"}
	for i := range constraints {
		pod.TopologySpreadConstraints = append(pod.TopologySpreadConstraints, &berthv1.TopologySpreadConstraint{
			MaxSkew: 1, TopologyKey: fmt.Sprint("k", i),
			WhenUnsatisfiable: berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_SCHEDULE_ANYWAY,
			LabelSelector:     &berthv1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
		})
	}
	turn := turn(t, state, pod)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	score.Rank(score.Default(), turn)
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / constraints; each > 4<<10 {
		t.Errorf("%d bytes for each constraint", each)
	}
}
