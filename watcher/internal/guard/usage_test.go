package guard

import (
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
	"pgregory.net/rapid"
)

// TestRequestsAreTheHelpers: what is left out of the sums for plain pods changes none.
func TestRequestsAreTheHelpers(t *testing.T) {
	plain := 0
	rapid.Check(t, func(t *rapid.T) {
		p := drawPod(t)
		if rapid.Bool().Draw(t, "plain") {
			p.Spec.Containers, p.Spec.InitContainers, p.Spec.Overhead, p.Spec.Resources = p.Spec.Containers[:1], nil, nil, nil
			plain++
		}
		if rapid.Bool().Draw(t, "resized") {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Resources: &corev1.ResourceRequirements{Requests: drawList(t)}}}
		}
		for _, options := range []resourcehelper.PodResourcesOptions{{}, {UseStatusResources: true, InPlacePodLevelResourcesVerticalScalingEnabled: true}} {
			if got, want := amounts(podRequests(p, options)), amounts(resourcehelper.PodRequests(p, options)); !maps.Equal(got, want) {
				t.Fatalf("with %+v: %v, want %v", options, got, want)
			}
		}
	})
	if plain == 0 {
		t.Error("no pod was one container and nothing else")
	}
}

func BenchmarkFootprintOf(b *testing.B) {
	pod, _ := benchmarked(b)
	b.ReportAllocs()
	for b.Loop() {
		FootprintOf(pod)
	}
}

// BenchmarkCheck is a pod that may go to a node with 100 pods.
func BenchmarkCheck(b *testing.B) {
	pod, node := benchmarked(b)
	var onNode Usage
	for range 100 {
		onNode.Add(FootprintOf(pod))
	}
	b.ReportAllocs()
	for b.Loop() {
		if refusal := Check(pod, node, onNode); refusal != nil {
			b.Fatal(refusal.Message)
		}
	}
}

func benchmarked(b *testing.B) (*corev1.Pod, *corev1.Node) {
	b.Helper()
	pod, node := &corev1.Pod{}, &corev1.Node{}
	parse(b, requests("cpu: 100m, memory: 128Mi"), pod)
	parse(b, `{metadata: {name: n1, labels: {zone: a}}, status: {allocatable: {cpu: "32", memory: 256Gi, pods: "110"}}}`, node)
	return pod, node
}
