package history

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// records are one of every type and kind.
func records() []Record {
	return []Record{
		{Type: Synced, Kind: Pod, ResourceVersion: 7, Time: &metav1.MicroTime{Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC).Local()}},
		{Type: Gap, Kind: Node, Since: 7, ResourceVersion: 9},
		{Type: Progress, Kind: Lease, ResourceVersion: 9},
		{Type: Listed, Kind: Pod, ResourceVersion: 3, Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}}},
		{Type: Added, Kind: Node, ResourceVersion: 10, Node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"},
			Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{"cpu": resource.MustParse("4")}}}},
		{Type: Deleted, Kind: Lease, ResourceVersion: 11, Lease: &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "l"}}},
	}
}

func TestWrittenIsRead(t *testing.T) {
	var file bytes.Buffer
	for _, r := range records() {
		if err := Write(&file, r); err != nil {
			t.Fatal(err)
		}
	}
	whole := file.String()
	got, err := Read(strings.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	if !equality.Semantic.DeepEqual(got, records()) {
		t.Errorf("read %+v, written %+v", got, records())
	}
	// Killed at any byte, all lines but the last are there.
	for cut := range whole {
		got, err := Read(strings.NewReader(whole[:cut]))
		if want := strings.Count(whole[:cut], "\n"); err != nil || len(got) != want {
			t.Fatalf("cut at %d: %d records, error %v, want %d records", cut, len(got), err, want)
		}
	}
}

func TestReadRejects(t *testing.T) {
	for line, want := range map[string]string{
		`{"type":"ADDED","kind":"Pod","resourceVersion":1}`:                                 "needs one object",
		`{"type":"ADDED","kind":"Pod","resourceVersion":1,"pod":{}}`:                        "metadata.name",
		`{"type":"ADDED","kind":"Pod","resourceVersion":1,"node":{}}`:                       "another kind",
		`{"type":"GAP","kind":"Pod","resourceVersion":1,"pod":{"metadata":{"name":"p"}}}`:   "has no object",
		`{"type":"ADDED","kind":"Pod","resourceVersion":0,"pod":{"metadata":{"name":"p"}}}`: "resourceVersion",
		`{"type":"SYNCED","kind":"Job","resourceVersion":1}`:                                "kind",
		`{"type":"SEEN","kind":"Pod","resourceVersion":1}`:                                  "type",
		`{"type":"SYNCED","kind":"Pod","resourceVersion":1,"extra":2}`:                      "extra",
		`{"type":`: "unexpected",
	} {
		_, err := Read(strings.NewReader("{\"type\":\"SYNCED\",\"kind\":\"Pod\",\"resourceVersion\":1}\n" + line + "\n"))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%s: got %v, want line 2 and %q", line, err, want)
		}
	}
}

// TestTrim: what is judged survives, what is not is left out.
func TestTrim(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	holder := "a"
	now := metav1.NowMicro()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u", ResourceVersion: "5", Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"a": "b"}},
		Spec: corev1.PodSpec{
			SchedulerName: "berth", NodeName: "n", NodeSelector: map[string]string{"a": "b"},
			Affinity: &corev1.Affinity{
				NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{}},
				PodAffinity: &corev1.PodAffinity{
					RequiredDuringSchedulingIgnoredDuringExecution:  []corev1.PodAffinityTerm{{TopologyKey: "zone"}},
					PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 1}},
				},
				PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: "host"}}},
			},
			TopologySpreadConstraints: []corev1.TopologySpreadConstraint{
				{TopologyKey: "zone", WhenUnsatisfiable: corev1.DoNotSchedule}, {TopologyKey: "zone", WhenUnsatisfiable: corev1.ScheduleAnyway},
			},
			InitContainers: []corev1.Container{{Name: "i", Image: "i", RestartPolicy: &always}},
			Containers:     []corev1.Container{{Name: "c", Image: "i", Ports: []corev1.ContainerPort{{ContainerPort: 1}, {HostPort: 2}}}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "10.0.0.1",
			Conditions:        []corev1.PodCondition{{Type: corev1.PodReady}, {Type: corev1.PodScheduled, Reason: "r", LastProbeTime: metav1.Now()}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "c", Image: "i"}, {Name: "d", Image: "i", AllocatedResources: corev1.ResourceList{"cpu": resource.MustParse("1")}}},
		},
	}
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"a": "b"}},
		Spec:       corev1.NodeSpec{Unschedulable: true, PodCIDR: "10.0.0.0/24", Taints: []corev1.Taint{{Key: "t"}}},
		Status:     corev1.NodeStatus{Allocatable: corev1.ResourceList{"cpu": resource.MustParse("1")}, Phase: corev1.NodeRunning},
	}
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "l"},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &holder, AcquireTime: &now, RenewTime: &now},
	}
	wantPod, wantNode, wantLease := pod.DeepCopy(), node.DeepCopy(), lease.DeepCopy()
	wantPod.Annotations, wantNode.Annotations = nil, nil
	wantPod.Spec.Affinity.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution = nil
	wantPod.Spec.TopologySpreadConstraints = wantPod.Spec.TopologySpreadConstraints[:1]
	wantPod.Spec.InitContainers[0].Image, wantPod.Spec.Containers[0].Image = "", ""
	wantPod.Spec.Containers[0].Ports = wantPod.Spec.Containers[0].Ports[1:]
	wantPod.Status.PodIP = ""
	wantPod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Reason: "r"}}
	wantPod.Status.ContainerStatuses = wantPod.Status.ContainerStatuses[1:]
	wantPod.Status.ContainerStatuses[0].Image = ""
	wantNode.Spec.PodCIDR, wantNode.Status.Phase = "", ""
	wantLease.Spec.RenewTime = nil

	namespace := &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: "ns", Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"a": "b"}},
		Status:     corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
	}
	wantNamespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", Labels: map[string]string{"a": "b"}}}
	if diff := cmp.Diff(wantNamespace, TrimNamespace(namespace)); diff != "" {
		t.Errorf("namespace (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantPod, TrimPod(pod)); diff != "" {
		t.Errorf("pod (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantNode, TrimNode(node)); diff != "" {
		t.Errorf("node (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantLease, TrimLease(lease)); diff != "" {
		t.Errorf("lease (-want +got):\n%s", diff)
	}
}

// FuzzRead: whatever the file holds, Read returns, and what it returns can be
// written and read again.
func FuzzRead(f *testing.F) {
	seed, err := os.ReadFile("testdata/recording.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(seed))
	f.Fuzz(func(t *testing.T, file string) {
		got, err := Read(strings.NewReader(file))
		if err != nil {
			return
		}
		var out bytes.Buffer
		for _, r := range got {
			if err := Write(&out, r); err != nil {
				t.Fatal(err)
			}
		}
		if again, err := Read(&out); err != nil || len(again) != len(got) {
			t.Errorf("%d records, read again: %d, error %v", len(got), len(again), err)
		}
	})
}
