package convert_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-scheduler/berth/decider/upstream/convert"
	"github.com/berth-scheduler/berth/decider/upstream/oracle"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/watcher/encode"
)

// list is a resource list of pairs of names and quantities.
func list(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func container(name string, requests corev1.ResourceList) corev1.Container {
	return corev1.Container{Name: name, Image: name + ":1", Resources: corev1.ResourceRequirements{Requests: requests}}
}

func pod(name string, edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name), Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{container("main", nil)}},
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

func on(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }

// cluster has near-full nodes, placed pods of all shapes and what pods belong to.
func cluster() *encode.Objects {
	node := func(name, zone string, allocatable corev1.ResourceList) *corev1.Node {
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name + "-uid"), Labels: map[string]string{"zone": zone, "kubernetes.io/hostname": name}},
			Status: corev1.NodeStatus{
				Allocatable: allocatable,
				Images:      []corev1.ContainerImage{{Names: []string{"main:1", "main@sha256:0"}, SizeBytes: 700 << 20}, {Names: []string{"data:3"}, SizeBytes: 900 << 20}},
			},
		}
	}
	sidecar := corev1.ContainerRestartPolicyAlways
	priority := int32(-5)
	return &encode.Objects{
		Nodes: []*corev1.Node{
			node("a", "z1", list("cpu", "2", "memory", "4Gi", "pods", "10", "ephemeral-storage", "10Gi", "hugepages-2Mi", "64Mi")),
			node("b", "z1", list("cpu", "4", "memory", "2Gi", "pods", "10", "example.com/gpu", "2", "hugepages-2Mi", "128Mi")),
			node("c", "z2", list("cpu", "3", "memory", "3Gi", "pods", "3", "example.com/gpu", "1")),
		},
		Pods: []*corev1.Pod{
			pod("sidecars", on("a"), func(p *corev1.Pod) {
				side := container("side", list("cpu", "200m"))
				side.RestartPolicy, side.Ports = &sidecar, []corev1.ContainerPort{{HostPort: 80, HostIP: "10.0.0.1", Protocol: corev1.ProtocolTCP}}
				p.Spec.InitContainers = []corev1.Container{side, container("init", list("memory", "2Gi"))}
				p.Spec.Overhead = list("cpu", "37m")
			}),
			pod("whole", on("b"), func(p *corev1.Pod) {
				p.Spec.Resources = &corev1.ResourceRequirements{Requests: list("cpu", "1", "hugepages-2Mi", "64Mi")}
				p.Spec.Containers = append(p.Spec.Containers, container("more", list("memory", "100Mi")))
			}),
			pod("resized", on("c"), func(p *corev1.Pod) {
				p.Spec.Containers[0].Resources.Requests = list("cpu", "500m", "memory", "1Gi")
				p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", AllocatedResources: list("cpu", "1", "memory", "1Gi"),
					Resources: &corev1.ResourceRequirements{Requests: list("cpu", "1500m", "memory", "1Gi")}}}
				p.Spec.Priority = &priority
			}),
			pod("nominated", func(p *corev1.Pod) {
				p.Status.NominatedNodeName = "c"
				p.Spec.Containers[0].Resources.Requests = list("example.com/gpu", "1")
			}),
			pod("leaving", on("a"), func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }),
		},
		Namespaces: []*corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "default", Labels: map[string]string{"team": "x"}}}},
		Services: []*corev1.Service{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "web"}},
		}},
		ReplicaSets: []*appsv1.ReplicaSet{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
			Spec: appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
				{Key: "app", Operator: metav1.LabelSelectorOpIn, Values: []string{"web", "other"}},
			}}},
		}},
		DisruptionBudgets: []*policyv1.PodDisruptionBudget{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
			Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
		}},
	}
}

// TestAsObjects checks that kube-scheduler's plugins judge what became of objects in
// the contract and back as they judge the objects themselves.
func TestAsObjects(t *testing.T) {
	o, err := oracle.New(t.Context(), oracle.Config{})
	if err != nil {
		t.Fatal(err)
	}
	requests := func(pairs ...string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = list(pairs...) }
	}
	affinity := func(a corev1.Affinity) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.Affinity = &a } }
	web := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	controller := true
	for name, edit := range map[string]func(*corev1.Pod){
		"nothing":     func(*corev1.Pod) {},
		"requests":    requests("cpu", "300m", "memory", "300Mi"),
		"one request": requests("cpu", "1500m"),
		"devices":     requests("example.com/gpu", "1"),
		"storage":     requests("ephemeral-storage", "1Gi"),
		"too much":    requests("cpu", "50", "memory", "1Ti", "example.com/gpu", "7"),
		"several": func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, container("two", list("memory", "1Gi")), container("three", nil))
		},
		"init containers": func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{container("init", list("cpu", "1"))} },
		"overhead":        func(p *corev1.Pod) { p.Spec.Overhead = list("cpu", "250m", "memory", "120Mi") },
		"as a whole": func(p *corev1.Pod) {
			p.Spec.Resources = &corev1.ResourceRequirements{Requests: list("cpu", "1500m", "memory", "10Mi")}
			p.Spec.Containers[0].Resources.Requests = list("cpu", "100m")
		},
		"huge pages as a whole": func(p *corev1.Pod) {
			p.Spec.Resources = &corev1.ResourceRequirements{Requests: list("hugepages-2Mi", "64Mi", "cpu", "1")}
		},
		"huge pages": requests("hugepages-2Mi", "80Mi", "cpu", "1"),
		"ports":      func(p *corev1.Pod) { p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: 80}} },
		"owner": func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", Controller: &controller}}
		},
		"images": func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, container("main", nil))
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "data:3"}}}}
		},
		"features": func(p *corev1.Pod) {
			hostUsers := false
			p.Spec.HostNetwork, p.Spec.HostUsers = true, &hostUsers
		},
		"spread": func(p *corev1.Pod) {
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{
				{MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: web},
				{MaxSkew: 2, TopologyKey: "kubernetes.io/hostname", WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: web},
			}
		},
		"near pods": affinity(corev1.Affinity{
			PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: "zone", LabelSelector: web}}},
			PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{
				{Weight: 9, PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: "kubernetes.io/hostname", LabelSelector: web, NamespaceSelector: &metav1.LabelSelector{}}},
			}},
		}),
		"by name": affinity(corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"b"}}}}},
		}}}),
		"preempting": func(p *corev1.Pod) {
			priority := int32(10)
			p.Spec.Priority = &priority
			p.Spec.Containers[0].Resources.Requests = list("cpu", "2", "memory", "2Gi")
		},
		"set aside": func(p *corev1.Pod) { p.Status.NominatedNodeName = "b" },
	} {
		t.Run(name, func(t *testing.T) {
			objects, p := cluster(), pod("p", edit)
			want, err := o.Evaluate(t.Context(), p, &oracle.Cluster{
				Nodes: objects.Nodes, Pods: objects.Pods, Namespaces: objects.Namespaces, Services: objects.Services,
				ReplicaSets: objects.ReplicaSets, DisruptionBudgets: objects.DisruptionBudgets,
			}, true)
			if err != nil {
				t.Fatal(err)
			}
			records := objects.PendingPods([]*corev1.Pod{p})
			converted, err := convert.Pod(records[0])
			if err != nil {
				t.Fatal(err)
			}
			got, err := o.Evaluate(t.Context(), converted, convert.Cluster(objects.Snapshot(), records), true)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want.Decision, got.Decision, protocmp.Transform()); diff != "" {
				t.Errorf("decision (-objects +converted):\n%s", diff)
			}
			if diff := cmp.Diff([][]string{want.Best, want.PreemptionBest}, [][]string{got.Best, got.PreemptionBest}); diff != "" {
				t.Errorf("best nodes (-objects +converted):\n%s", diff)
			}
		})
	}
}

// TestUnknownFeature checks that a feature that cannot be asked for is named.
func TestUnknownFeature(t *testing.T) {
	if _, err := convert.Pod(&berthv1.Pod{RequiredFeatures: []string{"Levitation"}}); err == nil {
		t.Error("a pod that needs a feature that pods do not need is converted")
	}
}
