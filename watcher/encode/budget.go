package encode

import (
	"maps"
	"slices"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// DisruptionBudget is the pod disruption budget. A selector that cannot be parsed
// selects nothing, as in kube-scheduler's preemption, and is left out.
func DisruptionBudget(b *policyv1.PodDisruptionBudget) *berthv1.DisruptionBudget {
	out := &berthv1.DisruptionBudget{
		Namespace:          b.Namespace,
		Name:               b.Name,
		DisruptionsAllowed: b.Status.DisruptionsAllowed,
		DisruptedPods:      slices.Sorted(maps.Keys(b.Status.DisruptedPods)),
	}
	if _, err := metav1.LabelSelectorAsSelector(b.Spec.Selector); err == nil {
		out.Selector = labelSelector(b.Spec.Selector, "", &constraints{})
	}
	return out
}
