package encode

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// TestEncode prints the messages of the objects in testdata. Commands: pod, placed
// [node=NAME], node, namespace; the input is the object in YAML. constraints
// prints the names alone.
func TestEncode(t *testing.T) {
	datadriven.Walk(t, "testdata/objects", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "pod":
				return text(t, Pod(object[corev1.Pod](t, d)))
			case "constraints":
				return strings.Join(Pod(object[corev1.Pod](t, d)).Constraints, "\n")
			case "placed":
				node := "n1"
				d.MaybeScanArgs(t, "node", &node)
				return text(t, PlacedPod(object[corev1.Pod](t, d), node))
			case "node":
				return text(t, Node(object[corev1.Node](t, d)))
			case "namespace":
				return text(t, Namespace(object[corev1.Namespace](t, d)))
			}
			d.Fatalf(t, "unknown command %q", d.Cmd)
			return ""
		})
	})
}

// TestMaySelect: the input is two pods, the placed one first.
func TestMaySelect(t *testing.T) {
	datadriven.RunTest(t, "testdata/mayselect", func(t *testing.T, d *datadriven.TestData) string {
		docs := strings.Split(d.Input, "\n--\n")
		if len(docs) != 2 {
			d.Fatalf(t, "want two pods, have %d", len(docs))
		}
		var placed, pod corev1.Pod
		for i, into := range []*corev1.Pod{&placed, &pod} {
			if err := yaml.UnmarshalStrict([]byte(docs[i]), into); err != nil {
				d.Fatalf(t, "%v", err)
			}
		}
		return fmt.Sprint(MaySelect(&placed, &pod))
	})
}

func object[T any](t *testing.T, d *datadriven.TestData) *T {
	t.Helper()
	out := new(T)
	if err := yaml.UnmarshalStrict([]byte(d.Input), out); err != nil {
		d.Fatalf(t, "%v", err)
	}
	return out
}

func text(t *testing.T, m proto.Message) string {
	t.Helper()
	raw, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	out, err := yaml.JSONToYAML(raw)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestSnapshotLeavesOutWhatHoldsNothing(t *testing.T) {
	pod := func(uid, node string, phase corev1.PodPhase) *corev1.Pod {
		p := &corev1.Pod{}
		p.UID, p.Spec.NodeName, p.Status.Phase = types.UID(uid), node, phase
		return p
	}
	node := func(name string) *corev1.Node {
		n := &corev1.Node{}
		n.Name = name
		return n
	}
	s := Snapshot(
		[]*corev1.Node{node("b"), node("a")},
		[]*corev1.Pod{
			pod("5", "a", corev1.PodRunning),
			pod("4", "", corev1.PodPending),
			pod("3", "a", corev1.PodSucceeded),
			pod("2", "a", corev1.PodFailed),
			pod("1", "b", corev1.PodPending),
		},
		nil)
	var got []string
	for _, n := range s.Nodes {
		got = append(got, n.Name)
	}
	for _, p := range s.PlacedPods {
		got = append(got, p.Uid+"@"+p.NodeName)
	}
	if want := "a b 1@b 5@a"; strings.Join(got, " ") != want {
		t.Errorf("snapshot has %v, want %s", got, want)
	}
}

// FuzzPod: no pod that the API can carry makes encoding panic, lose the pod's key,
// or print differently the second time.
func FuzzPod(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"spec":{"affinity":{"podAntiAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"labelSelector":{"matchExpressions":[{"operator":"?"}]}}]}}}}`))
	f.Add([]byte(`{"spec":{"containers":[{"resources":{"requests":{"cpu":"9e999","memory":"-1","x/y":"1n"}},"ports":[{"hostPort":-1}]}],"volumes":[{}],"tolerations":[{"operator":"Lt"}]},"status":{"startTime":"0001-01-01T00:00:00Z"}}`))
	f.Add([]byte(`{"spec":{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchFields":[{"key":"a"}]},{}]}}},"resources":{"requests":{"cpu":"1"}},"schedulingGroup":{}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p := &corev1.Pod{}
		if json.Unmarshal(data, p) != nil && p.Unmarshal(data) != nil {
			return
		}
		out := Pod(p)
		if out.Uid != string(p.UID) || len(out.Constraints) == 0 {
			t.Errorf("uid %q, constraints %v", out.Uid, out.Constraints)
		}
		if !proto.Equal(out, Pod(p)) {
			t.Error("two encodings of one pod differ")
		}
		PlacedPod(p, "n")
		MaySelect(p, p)
	})
}

// FuzzNode is FuzzPod for nodes.
func FuzzNode(f *testing.F) {
	f.Add([]byte(`{"spec":{"taints":[{"effect":"?"}]},"status":{"allocatable":{"cpu":"1","pods":"1e30"},"conditions":[{}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		n := &corev1.Node{}
		if json.Unmarshal(data, n) != nil && n.Unmarshal(data) != nil {
			return
		}
		if out := Node(n); out.Name != n.Name || !proto.Equal(out, Node(n)) {
			t.Error("the node's name is lost or two encodings differ")
		}
	})
}
