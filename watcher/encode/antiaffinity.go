package encode

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// AntiAffinity says whether the pod has a required anti-affinity to pods, and so
// restricts the nodes of others.
func AntiAffinity(p *corev1.Pod) bool {
	return len(antiAffinityTerms(p)) > 0
}

// MaySelect says whether a required anti-affinity of placed may select pod, which
// then bears ConstraintExistingAntiAffinity. It errs on the side of yes: namespaces
// that are chosen by a selector count as chosen, and a selector that cannot be
// parsed counts as selecting.
func MaySelect(placed, pod *corev1.Pod) bool {
	terms := antiAffinityTerms(placed)
	for i := range terms {
		term := &terms[i]
		if !mayBeIn(term, placed.Namespace, pod.Namespace) {
			continue
		}
		// A nil selector selects nothing, an empty one everything.
		selector, err := metav1.LabelSelectorAsSelector(term.LabelSelector)
		if err != nil || selector.Matches(labels.Set(pod.Labels)) {
			return true
		}
	}
	return false
}

// mayBeIn says whether the term, of a pod in own, may reach pods in namespace. A
// term that names no namespaces reaches its pod's own.
func mayBeIn(term *corev1.PodAffinityTerm, own, namespace string) bool {
	if term.NamespaceSelector != nil {
		return true
	}
	if len(term.Namespaces) == 0 {
		return namespace == own
	}
	return slices.Contains(term.Namespaces, namespace)
}

func antiAffinityTerms(p *corev1.Pod) []corev1.PodAffinityTerm {
	if p.Spec.Affinity == nil || p.Spec.Affinity.PodAntiAffinity == nil {
		return nil
	}
	return p.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
}
