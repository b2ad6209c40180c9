package kube

import (
	"fmt"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// replica is the i-th pod of a workload, as the API server sends it.
func replica(i int) *corev1.Pod {
	p := &corev1.Pod{}
	p.Namespace, p.Name, p.GenerateName, p.UID = "shop", fmt.Sprint("web-", i), "web-", types.UID(fmt.Sprint(i))
	p.Labels = map[string]string{"app": "web"}
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", Controller: ptr.To(true)}}
	p.Spec.NodeName = fmt.Sprint("n", i)
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: "web:1", Env: []corev1.EnvVar{{Name: "POD", Value: fmt.Sprint(i)}},
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": quantity("1"), "memory": quantity("1Gi")}}}}
	p.Spec.Volumes = []corev1.Volume{{Name: fmt.Sprint("token-", i), VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{}}}}
	p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
		TopologyKey: "zone", LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}}}}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}}
	return p
}

// TestReplicasShare: of two replicas nothing large is kept twice, and stripping one
// again, which informers may do, writes to nothing that another has.
func TestReplicasShare(t *testing.T) {
	strip := podStripper()
	a, b := replica(0), replica(1)
	strip(a)
	kept := a.DeepCopy()
	for range 2 {
		strip(b)
		if &a.Spec.Containers[0] != &b.Spec.Containers[0] || a.Spec.Affinity != b.Spec.Affinity || &a.Spec.Volumes[0] != &b.Spec.Volumes[0] || &a.OwnerReferences[0] != &b.OwnerReferences[0] {
			t.Error("the replicas do not share their parts")
		}
		if b.Labels["app"] = "x"; a.Labels["app"] != "x" {
			t.Error("the replicas do not share their labels")
		}
		b.Labels["app"] = "web"
	}
	if a.Spec.NodeName != "n0" || b.Spec.NodeName != "n1" || b.Name != "web-1" || len(b.Status.Conditions) != 0 {
		t.Errorf("the second replica is %s on %s with conditions %v", b.Name, b.Spec.NodeName, b.Status.Conditions)
	}
	if !reflect.DeepEqual(a, kept) {
		t.Errorf("the first replica became\n%v\nfrom\n%v", a, kept)
	}
}

// TestSharingKeepsPodsApart: pods that differ in anything that is encoded stay as they
// are, each seen after all the others and many more.
func TestSharingKeepsPodsApart(t *testing.T) {
	strip := podStripper()
	odd := []func(p *corev1.Pod){
		func(*corev1.Pod) {},
		func(p *corev1.Pod) { p.Namespace = "other" },
		func(p *corev1.Pod) { p.Labels["index"] = "1" },
		func(p *corev1.Pod) { p.Labels = nil },
		func(p *corev1.Pod) { p.Spec.Containers[0].Image = "web:2" },
		func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests["cpu"] = quantity("1001m") },
		func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests["memory"] = quantity("1G") },
		func(p *corev1.Pod) { delete(p.Spec.Containers[0].Resources.Requests, "memory") },
		func(p *corev1.Pod) { p.Spec.InitContainers, p.Spec.Containers = p.Spec.Containers, nil },
		func(p *corev1.Pod) { p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: 80}} },
		func(p *corev1.Pod) { p.Spec.Affinity = nil },
		func(p *corev1.Pod) { p.Spec.Affinity = &corev1.Affinity{} },
		func(p *corev1.Pod) {
			p.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0].LabelSelector = nil
		},
		func(p *corev1.Pod) {
			p.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0].NamespaceSelector = &metav1.LabelSelector{}
		},
		func(p *corev1.Pod) { p.Spec.Volumes = nil },
		func(p *corev1.Pod) { p.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{} },
		func(p *corev1.Pod) { p.Spec.NodeName = "" },
		func(p *corev1.Pod) { p.Spec.SchedulerName = "berth" },
		func(p *corev1.Pod) { p.Spec.Priority = ptr.To[int32](0) },
		func(p *corev1.Pod) { p.Spec.Priority = ptr.To[int32](7) },
		func(p *corev1.Pod) { p.Spec.PreemptionPolicy = ptr.To(corev1.PreemptNever) },
		func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} },
		func(p *corev1.Pod) { p.Spec.Overhead = corev1.ResourceList{"cpu": quantity("1")} },
		func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Key: "a"}} },
		func(p *corev1.Pod) {
			p.Spec.Tolerations = []corev1.Toleration{{Key: "a", Operator: corev1.TolerationOpExists}}
		},
		func(p *corev1.Pod) {
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{TopologyKey: "zone", MaxSkew: 1}}
		},
	}
	for round := range 2 {
		for i, change := range odd {
			pod := replica(i)
			change(pod)
			stripped := pod.DeepCopy()
			strip(stripped)
			compare(t, pod, stripped)
			if t.Failed() {
				t.Fatalf("in round %d, pod %d", round, i)
			}
		}
		for i := range 3 * mostParts {
			p := replica(i)
			p.Labels["index"], p.Spec.Containers[0].Image = fmt.Sprint(i), fmt.Sprint("web:", i)
			strip(p)
			if p.Labels["index"] != fmt.Sprint(i) || p.Spec.Containers[0].Image != fmt.Sprint("web:", i) {
				t.Fatalf("pod %d has labels %v and image %s", i, p.Labels, p.Spec.Containers[0].Image)
			}
		}
	}
}

// TestSharingIsBounded where every pod is one of its kind, and keeps what is in use.
func TestSharingIsBounded(t *testing.T) {
	var s sharing
	first := replica(0)
	s.pod(first)
	for i := range 5 * mostParts {
		p := replica(i)
		p.Labels["index"], p.Spec.Containers[0].Image = fmt.Sprint(i), fmt.Sprint("web:", i)
		s.pod(p)
		if i%(mostParts/2) == 0 {
			again := replica(0)
			if s.pod(again); &again.Spec.Containers[0] != &first.Spec.Containers[0] {
				t.Fatalf("forgotten after %d others", i)
			}
		}
	}
	if n := len(s.specs.late) + len(s.specs.earlier); n > 2*mostParts {
		t.Errorf("%d specs", n)
	}
	if n := len(s.metas.late) + len(s.metas.earlier); n > 2*mostParts {
		t.Errorf("%d metas", n)
	}
}

func BenchmarkStripPod(b *testing.B) {
	strip := podStripper()
	pods := make([]*corev1.Pod, 1000)
	for i := range pods {
		pods[i] = replica(i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p := *pods[i%len(pods)]
		strip(&p)
	}
}
