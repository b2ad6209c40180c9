package encode

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// TestEncode prints the messages of the objects in testdata. Commands: pod, placed
// [node=NAME], nominated, node, namespace, budget; the input is the object in YAML.
// constraints prints the names alone.
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
			case "nominated":
				out := Nominated(object[corev1.Pod](t, d))
				if out == nil {
					return "nothing"
				}
				return text(t, out)
			case "budget":
				return text(t, DisruptionBudget(object[policyv1.PodDisruptionBudget](t, d)))
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

// TestSpreadSelector: the input is a pod and the objects that it may belong to, each
// of which is tried in both orders of arrival and then taken away again.
func TestSpreadSelector(t *testing.T) {
	datadriven.RunTest(t, "testdata/spreadselector", func(t *testing.T, d *datadriven.TestData) string {
		docs := strings.Split(d.Input, "\n--\n")
		p := &corev1.Pod{}
		if err := yaml.UnmarshalStrict([]byte(docs[0]), p); err != nil {
			d.Fatalf(t, "%v", err)
		}
		var objects []metav1.Object
		for _, doc := range docs[1:] {
			objects = append(objects, workload(t, d, doc))
		}
		var w, backwards Workloads
		for i := range objects {
			w.Set(objects[i])
			backwards.Set(objects[len(objects)-1-i])
			if w.Set(objects[i]) {
				t.Errorf("%s: the same again counts as a change", objects[i].GetName())
			}
		}
		selector := w.SpreadSelector(p)
		if !proto.Equal(selector, backwards.SpreadSelector(p)) {
			t.Error("the order of the objects matters")
		}
		for _, o := range objects {
			w.Remove(o)
			if w.Remove(o) {
				t.Errorf("%s: going twice counts as a change", o.GetName())
			}
		}
		if left := w.SpreadSelector(p); left != nil || len(w.services)+len(w.owners) > 0 {
			t.Errorf("left over: %v", left)
		}
		if selector == nil {
			return "nothing"
		}
		return text(t, selector)
	})
}

func workload(t *testing.T, d *datadriven.TestData, doc string) metav1.Object {
	t.Helper()
	var head metav1.TypeMeta
	if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
		d.Fatalf(t, "%v", err)
	}
	all := map[string]metav1.Object{
		"Service": &corev1.Service{}, "ReplicationController": &corev1.ReplicationController{},
		"ReplicaSet": &appsv1.ReplicaSet{}, "StatefulSet": &appsv1.StatefulSet{},
	}
	o, ok := all[head.Kind]
	if !ok {
		d.Fatalf(t, "unknown kind %q", head.Kind)
	}
	if err := yaml.UnmarshalStrict([]byte(doc), o); err != nil {
		d.Fatalf(t, "%v", err)
	}
	return o
}

// A selector that changed is noticed, one that did not is not.
func TestWorkloadsNoticeChanges(t *testing.T) {
	service := func(selector map[string]string) *corev1.Service {
		s := &corev1.Service{}
		s.Name, s.Spec.Selector = "s", selector
		return s
	}
	set := func(selector *metav1.LabelSelector) *appsv1.ReplicaSet {
		r := &appsv1.ReplicaSet{}
		r.Name, r.Spec.Selector = "r", selector
		return r
	}
	a, b := map[string]string{"app": "a"}, map[string]string{"app": "b"}
	in := func(value string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpIn, Values: []string{value}}}}
	}
	var w Workloads
	for i, step := range []struct {
		object metav1.Object
		want   bool
	}{
		{service(nil), false}, {service(a), true}, {service(a), false}, {service(b), true}, {service(map[string]string{}), true}, {service(nil), false},
		{set(nil), false}, {set(in("a")), true}, {set(in("a")), false}, {set(in("b")), true},
		{set(&metav1.LabelSelector{MatchLabels: a}), true}, {set(&metav1.LabelSelector{MatchLabels: map[string]string{"-": "?"}}), true}, {set(nil), false},
		{&corev1.Pod{}, false},
	} {
		if got := w.Set(step.object); got != step.want {
			t.Errorf("step %d: changed is %v", i, got)
		}
	}
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
	budget := func(namespace, name string) *policyv1.PodDisruptionBudget {
		b := &policyv1.PodDisruptionBudget{}
		b.Namespace, b.Name = namespace, name
		return b
	}
	nominated := pod("6", "", corev1.PodPending)
	nominated.Status.NominatedNodeName = "b"
	s := (&Objects{
		Nodes: []*corev1.Node{node("b"), node("a")},
		Pods: []*corev1.Pod{
			nominated,
			pod("5", "a", corev1.PodRunning),
			pod("4", "", corev1.PodPending),
			pod("3", "a", corev1.PodSucceeded),
			pod("2", "a", corev1.PodFailed),
			pod("1", "b", corev1.PodPending),
		},
		DisruptionBudgets: []*policyv1.PodDisruptionBudget{budget("y", "a"), budget("x", "b"), budget("x", "a")},
	}).Snapshot()
	var got []string
	for _, n := range s.Nodes {
		got = append(got, n.Name)
	}
	for _, p := range s.PlacedPods {
		got = append(got, p.Uid+"@"+p.NodeName)
	}
	for _, b := range s.DisruptionBudgets {
		got = append(got, b.Namespace+"/"+b.Name)
	}
	if want := "a b 1@b 5@a 6@b x/a x/b y/a"; strings.Join(got, " ") != want {
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
	f.Add([]byte(`{"spec":{"affinity":{"podAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":-1,"podAffinityTerm":{"namespaceSelector":{},"labelSelector":{"matchExpressions":[{"operator":"?"}]}}}]}},"topologySpreadConstraints":[{"maxSkew":-1,"nodeTaintsPolicy":"?","whenUnsatisfiable":"?"}],"containers":[{"image":"a/b@sha256:0"}]},"status":{"nominatedNodeName":"n"}}`))
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
		Nominated(p)
		MaySelect(p, p)
	})
}

// FuzzNode is FuzzPod for nodes.
func FuzzNode(f *testing.F) {
	f.Add([]byte(`{"status":{"images":[{"names":["a","a"],"sizeBytes":-1},{"names":["a"]}],"declaredFeatures":["b","a"]}}`))
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
