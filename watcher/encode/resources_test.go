package encode

import (
	"fmt"
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
)

// TestRequestsAreTheHelpers: what is left out of the sums for plain pods changes none.
func TestRequestsAreTheHelpers(t *testing.T) {
	lists := rapid.Custom(func(t *rapid.T) corev1.ResourceList {
		list := corev1.ResourceList{}
		for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom([]corev1.ResourceName{"cpu", "memory", "pods", "example.com/gpu", "odd"}), rapid.ID).Draw(t, "names") {
			list[name] = resource.MustParse(rapid.SampledFrom([]string{"0", "0.0005", "1m", "1500m", "2", "1Gi", "9223372036854775807", "1e30"}).Draw(t, "quantity"))
		}
		if len(list) == 0 {
			return nil
		}
		return list
	})
	plain := 0
	rapid.Check(t, func(t *rapid.T) {
		p := &corev1.Pod{}
		// Most are one container and nothing else: those are what differs.
		rarely := func(label string) bool { return rapid.IntRange(0, 7).Draw(t, label) == 0 }
		containers := 1
		if rarely("containers") {
			containers = rapid.IntRange(0, 3).Draw(t, "number")
		}
		for i := range containers {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: fmt.Sprint(i), Resources: corev1.ResourceRequirements{Requests: lists.Draw(t, "requests")}})
		}
		if rarely("init") {
			p.Spec.InitContainers = []corev1.Container{{Name: "init", Resources: corev1.ResourceRequirements{Requests: lists.Draw(t, "init requests")}}}
			if rarely("sidecar") {
				p.Spec.InitContainers[0].RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
			}
		}
		if rarely("overhead") {
			p.Spec.Overhead = lists.Draw(t, "overhead list")
		}
		if rarely("as a whole") {
			p.Spec.Resources = &corev1.ResourceRequirements{Requests: lists.Draw(t, "whole")}
		}
		if rarely("status") {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "0", Resources: &corev1.ResourceRequirements{Requests: lists.Draw(t, "actual")}}}
		}
		if containers == 1 && p.Spec.InitContainers == nil && p.Spec.Overhead == nil && p.Spec.Resources == nil {
			plain++
		}
		for _, opts := range []resourcehelper.PodResourcesOptions{
			{},
			{SkipPodLevelResources: true, NonMissingContainerRequests: scoreDefaults},
			placedOptions,
			{UseStatusResources: true, InPlacePodLevelResourcesVerticalScalingEnabled: true, NonMissingContainerRequests: scoreDefaults},
		} {
			if got, want := amounts(podRequests(p, opts)), amounts(resourcehelper.PodRequests(p, opts)); !maps.Equal(got, want) {
				t.Fatalf("with %+v: %v, want %v", opts, got, want)
			}
		}
	})
	if plain == 0 {
		t.Error("no pod was one container and nothing else")
	}
}

// benchmarked is a pod as a ReplicaSet makes them, and the same with a sidecar.
func benchmarked() map[string]*corev1.Pod {
	p := &corev1.Pod{}
	p.Namespace, p.Name, p.UID, p.Labels = "shop", "web-0", "u0", map[string]string{"app": "web", "pod-template-hash": "5d4f"}
	p.Spec.Containers = []corev1.Container{{Name: "c", Image: "registry.example/web:1", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("128Mi")}}}}
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute})
	}
	p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{}}}}
	sidecar := p.DeepCopy()
	sidecar.Spec.InitContainers = []corev1.Container{{Name: "s", Image: "proxy", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)}}
	return map[string]*corev1.Pod{"plain": p, "sidecar": sidecar}
}

func BenchmarkPod(b *testing.B) {
	for name, p := range benchmarked() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Pod(p)
			}
		})
	}
}

func BenchmarkPlacedPod(b *testing.B) {
	for name, p := range benchmarked() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				PlacedPod(p, "n1")
			}
		})
	}
}
