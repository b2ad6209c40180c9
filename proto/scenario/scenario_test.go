package scenario_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/scenario"
)

func TestParseCluster(t *testing.T) {
	got, err := scenario.ParseCluster(`
# two nodes
a zone=z1 cpu=4 memory=8Gi taint=gpu=yes:NoSchedule
b uid=1 cpu=1500m nvidia.com/gpu=2 pods=3 unschedulable label:a/b=c condition=Ready:True image:r.io/web:1=10Mi feature=F signal:load=1500m
web on=a cpu=500m port=10.0.0.1:53/UDP terminating preempted pod-anti-affinity=zone:app=web constraint=X
namespace prod team=a label:a/b=c
budget prod/web selector=app:In:web,api allowed=1 disrupted=x,y
budget none
`)
	if err != nil {
		t.Fatal(err)
	}
	want := &berthv1.Snapshot{
		Nodes: []*berthv1.Node{{
			Name:        "a",
			Labels:      map[string]string{"zone": "z1"},
			Allocatable: map[string]int64{"cpu": 4000, "memory": 8 << 30, "pods": 110},
			Taints:      []*berthv1.Taint{{Key: "gpu", Value: "yes", Effect: berthv1.TaintEffect_TAINT_EFFECT_NO_SCHEDULE}},
		}, {
			Name:          "b",
			Uid:           "1",
			Labels:        map[string]string{"a/b": "c"},
			Allocatable:   map[string]int64{"cpu": 1500, "nvidia.com/gpu": 2, "pods": 3},
			Unschedulable: true,
			Conditions:    []*berthv1.NodeCondition{{Type: "Ready", Status: berthv1.ConditionStatus_CONDITION_STATUS_TRUE}},

			Images:           map[string]int64{"r.io/web:1": 10 << 20},
			DeclaredFeatures: []string{"F"},
			Signals:          map[string]int64{"load": 1500},
		}},
		PlacedPods: []*berthv1.PlacedPod{{
			Uid: "web", Name: "web", NodeName: "a",
			Requests:      map[string]int64{"cpu": 500},
			ScoreRequests: map[string]int64{"cpu": 500, "memory": 200 << 20},
			HostPorts:     []*berthv1.HostPort{{Ip: "10.0.0.1", Port: 53, Protocol: "UDP"}},
			Terminating:   true,
			Preempted:     true,
			PodAntiAffinity: &berthv1.PodAffinity{Required: []*berthv1.PodAffinityTerm{{
				TopologyKey: "zone", LabelSelector: &berthv1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			}}},
			Constraints: []string{"X"},
		}},
		Namespaces: []*berthv1.Namespace{{Name: "prod", Labels: map[string]string{"team": "a", "a/b": "c"}}},
		DisruptionBudgets: []*berthv1.DisruptionBudget{{
			Namespace: "prod", Name: "web", DisruptionsAllowed: 1, DisruptedPods: []string{"x", "y"},
			Selector: &berthv1.LabelSelector{MatchExpressions: []*berthv1.LabelSelectorRequirement{{
				Key: "app", Operator: berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_IN, Values: []string{"web", "api"},
			}}},
		}, {Name: "none"}},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestParsePodsNearPods(t *testing.T) {
	got, err := scenario.ParsePod("web pod-affinity=zone:app=web&tier:Exists;namespaces=a,b;namespace-selector=" +
		" prefer-no-pod=7:host:! spread=zone:2:DoNotSchedule:;min=3;affinity=Ignore;taints=Honor;keys=a,b" +
		" spread-selector=app=web image=web:1 volume-image=data:1 feature=F nominated-node=a")
	if err != nil {
		t.Fatal(err)
	}
	web := &berthv1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	want := &berthv1.Pod{
		Uid: "web", Name: "web", ScoreRequests: map[string]int64{"cpu": 100, "memory": 200 << 20},
		PodAffinity: &berthv1.PodAffinity{Required: []*berthv1.PodAffinityTerm{{
			TopologyKey: "zone",
			LabelSelector: &berthv1.LabelSelector{
				MatchLabels: map[string]string{"app": "web"},
				MatchExpressions: []*berthv1.LabelSelectorRequirement{{
					Key: "tier", Operator: berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_EXISTS,
				}},
			},
			Namespaces:        []string{"a", "b"},
			NamespaceSelector: &berthv1.LabelSelector{},
		}}},
		PodAntiAffinity: &berthv1.PodAffinity{Preferred: []*berthv1.PreferredPodTerm{{
			Weight: 7, Term: &berthv1.PodAffinityTerm{TopologyKey: "host"},
		}}},
		TopologySpreadConstraints: []*berthv1.TopologySpreadConstraint{{
			MaxSkew: 2, TopologyKey: "zone",
			WhenUnsatisfiable:  berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_DO_NOT_SCHEDULE,
			LabelSelector:      &berthv1.LabelSelector{},
			MinDomains:         3,
			NodeAffinityPolicy: berthv1.NodeInclusionPolicy_NODE_INCLUSION_POLICY_IGNORE,
			NodeTaintsPolicy:   berthv1.NodeInclusionPolicy_NODE_INCLUSION_POLICY_HONOR,
			MatchLabelKeys:     []string{"a", "b"},
		}},
		SpreadSelector:    web,
		Images:            []string{"web:1"},
		VolumeImages:      []string{"data:1"},
		RequiredFeatures:  []string{"F"},
		NominatedNodeName: "a",
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// What is printed is parsed to the same message.
func TestFormatParses(t *testing.T) {
	for _, line := range []string{
		"web cpu=1 memory=1Mi zone=z node=a selector=a/b=c priority=-3 namespace=x uid=y port=80",
		"web affinity=zone:In:z1,z2&disk:Exists|metadata.name:In:a prefer=10:zone:NotIn:z1 preemption=Never",
		"web toleration= toleration=a toleration=a= toleration=a=b:NoExecute toleration=:NoSchedule constraint=X",
		"web affinity= score-cpu=0 score-memory=5 placed-score-cpu=1500m placed-score-memory=0",
		"web pod-affinity=zone:! pod-affinity=zone: pod-anti-affinity=a/b:c=d&e=f&g:NotIn:h,i;namespaces=x prefer-pod=1:z:q:DoesNotExist",
		"web spread=zone:1:ScheduleAnyway:! spread=zone:-1:DoNotSchedule:a=b;keys=c;min=2 spread-selector= image=a image=b volume-image=c",
	} {
		pod, err := scenario.ParsePod(line)
		if err != nil {
			t.Fatal(err)
		}
		printed := scenario.FormatPod(pod)
		again, err := scenario.ParsePod(printed)
		if err != nil {
			t.Fatalf("%s: %v", printed, err)
		}
		if diff := cmp.Diff(pod, again, protocmp.Transform(), protocmp.IgnoreEmptyMessages()); diff != "" {
			t.Errorf("%s: %s", printed, diff)
		}
	}
}

func TestErrorsNameTheWord(t *testing.T) {
	for line, want := range map[string]string{
		"a cpu=x":                  `line 1: "a": cpu=x: "x" is not an amount of cpu`,
		"a taint=gpu":              `line 1: "a": taint=gpu: "gpu" is not key[=value]:Effect`,
		"a taint=gpu:Never":        `line 1: "a": taint=gpu:Never: "Never" is not one of NoSchedule, PreferNoSchedule, NoExecute`,
		"a foo":                    `line 1: "a": foo: not a word of this record`,
		"a unschedulable=yes":      `line 1: "a": unschedulable=yes: takes no value`,
		"a cpu=99999999999999999":  `line 1: "a": cpu=99999999999999999: "99999999999999999" is not an amount of cpu`,
		"p on=":                    `line 1: placed pod "p": on= names its node`,
		"namespace":                `line 1: a record begins with its name`,
		"budget b allowed=many":    `line 1: "b": allowed=many: strconv.ParseInt: parsing "many": invalid syntax`,
		"p on=a pod-affinity=z":    `line 1: "p": pod-affinity=z: "z" is not topologyKey:selector`,
		"p on=a pod-affinity=z:a":  `line 1: "p": pod-affinity=z:a: "a" is neither key=value nor key:Operator[:value,value]`,
		"p on=a prefer-pod=1:z:;x": `line 1: "p": prefer-pod=1:z:;x: "x" is not an option here`,
	} {
		if _, err := scenario.ParseCluster(line); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
}

func TestFormatDecision(t *testing.T) {
	d := &berthv1.Decision{
		PodUid: "web", Outcome: berthv1.Outcome_OUTCOME_REJECTED,
		Rejection: &berthv1.Rejection{Message: "0/2 nodes are available."},
		Preemption: &berthv1.Preemption{
			NodeName: "a", Victims: []*berthv1.Victim{{Namespace: "prod", Name: "x"}, {Name: "y"}}, BudgetViolations: 1,
		},
		Explanation: &berthv1.Explanation{
			Nodes: []*berthv1.NodeExplanation{{NodeName: "a", Total: 130, Scores: []*berthv1.Score{
				{Rule: "A", Raw: 100, Normalized: 100, Weight: 1}, {Rule: "B", Raw: 3, Normalized: 10, Weight: 3},
			}}},
			Preemptions: []*berthv1.PreemptionExplanation{
				{NodeName: "a", Victims: []*berthv1.Victim{{Name: "y"}}, BudgetViolations: 2},
				{NodeName: "b", Reasons: []string{"No preemption victims found for incoming pod"}},
			},
		},
	}
	const want = `web rejected: 0/2 nodes are available.
  preempt a: prod/x, y (1 budget violation)
  a: 130 A=100*1 B=3->10*3
  eviction on a: y (2 budget violations)
  eviction on b: no help: No preemption victims found for incoming pod
`
	if got := scenario.FormatDecision(d); got != want {
		t.Errorf("printed\n%swant\n%s", got, want)
	}
}

// FuzzParse: no text makes a parser panic, and what is parsed prints as text that
// parses and prints the same.
func FuzzParse(f *testing.F) {
	f.Add("a zone=z1 cpu=4 taint=gpu=yes:NoSchedule condition=Ready:True\nweb on=a cpu=500m port=80")
	f.Add("web affinity=zone:In:z1,z2|metadata.name:In:a toleration=x=y:NoExecute prefer=1:a:Exists selector=a=b")
	f.Add("web pod-affinity=z:a=b;namespaces=x;namespace-selector=! spread=z:1:DoNotSchedule:a:In:b;min=2;keys=c feature=F spread-selector=")
	f.Add("a image:x/y=1Gi signal:load=2 feature=F\nnamespace x a=b\nbudget x/y selector=a:Exists allowed=1 disrupted=z\nw on=a preempted prefer-pod=1:z:")
	f.Fuzz(func(t *testing.T, text string) {
		if cluster, err := scenario.ParseCluster(text); err == nil {
			printed := scenario.FormatCluster(cluster)
			again, err := scenario.ParseCluster(printed)
			if err != nil {
				t.Fatalf("printed %q does not parse: %v", printed, err)
			}
			if reprinted := scenario.FormatCluster(again); printed != reprinted {
				t.Fatalf("printed %q, then %q", printed, reprinted)
			}
		}
		pods, err := scenario.ParsePods(text)
		if err != nil {
			return
		}
		for _, pod := range pods {
			printed := scenario.FormatPod(pod)
			again, err := scenario.ParsePod(printed)
			if err != nil {
				t.Fatalf("printed %q does not parse: %v", printed, err)
			}
			if reprinted := scenario.FormatPod(again); printed != reprinted {
				t.Fatalf("printed %q, then %q", printed, reprinted)
			}
		}
	})
}
