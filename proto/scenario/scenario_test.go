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
b uid=1 cpu=1500m nvidia.com/gpu=2 pods=3 unschedulable label:a/b=c condition=Ready:True
web on=a cpu=500m port=10.0.0.1:53/UDP terminating
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
		}},
		PlacedPods: []*berthv1.PlacedPod{{
			Uid: "web", Name: "web", NodeName: "a",
			Requests:      map[string]int64{"cpu": 500},
			ScoreRequests: map[string]int64{"cpu": 500, "memory": 200 << 20},
			HostPorts:     []*berthv1.HostPort{{Ip: "10.0.0.1", Port: 53, Protocol: "UDP"}},
			Terminating:   true,
		}},
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
		"web affinity= score-cpu=0 score-memory=5",
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
		"a cpu=x":                 `line 1: "a": cpu=x: "x" is not an amount of cpu`,
		"a taint=gpu":             `line 1: "a": taint=gpu: "gpu" is not key[=value]:Effect`,
		"a taint=gpu:Never":       `line 1: "a": taint=gpu:Never: "Never" is not one of NoSchedule, PreferNoSchedule, NoExecute`,
		"a foo":                   `line 1: "a": foo: not a word of this record`,
		"a unschedulable=yes":     `line 1: "a": unschedulable=yes: takes no value`,
		"a cpu=99999999999999999": `line 1: "a": cpu=99999999999999999: "99999999999999999" is not an amount of cpu`,
		"p on=":                   `line 1: placed pod "p": on= names its node`,
	} {
		if _, err := scenario.ParseCluster(line); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
}

// FuzzParse: no text makes a parser panic, and what is parsed prints as text that
// parses and prints the same.
func FuzzParse(f *testing.F) {
	f.Add("a zone=z1 cpu=4 taint=gpu=yes:NoSchedule condition=Ready:True\nweb on=a cpu=500m port=80")
	f.Add("web affinity=zone:In:z1,z2|metadata.name:In:a toleration=x=y:NoExecute prefer=1:a:Exists selector=a=b")
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
