package encode

import (
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Workloads is what the objects that pods belong to select: Services,
// ReplicationControllers, ReplicaSets and StatefulSets. The zero value has none.
// One caller at a time.
type Workloads struct {
	services map[string]map[string]map[string]string // by namespace, then name
	owners   map[owner]*metav1.LabelSelector
}

// owner names a controller.
type owner struct {
	kind            schema.GroupVersionKind
	namespace, name string
}

var (
	replicationControllers = corev1.SchemeGroupVersion.WithKind("ReplicationController")
	replicaSets            = appsv1.SchemeGroupVersion.WithKind("ReplicaSet")
	statefulSets           = appsv1.SchemeGroupVersion.WithKind("StatefulSet")
)

// Set records an object as it now is and reports whether pods of its namespace may
// have another selector for that. Objects of other kinds mean nothing here.
func (w *Workloads) Set(object metav1.Object) bool {
	switch o := object.(type) {
	case *corev1.Service:
		return w.setService(o)
	case *corev1.ReplicationController:
		return w.setOwner(replicationControllers, o, &metav1.LabelSelector{MatchLabels: o.Spec.Selector})
	case *appsv1.ReplicaSet:
		return w.setOwner(replicaSets, o, o.Spec.Selector)
	case *appsv1.StatefulSet:
		return w.setOwner(statefulSets, o, o.Spec.Selector)
	}
	return false
}

// Remove records that an object is gone, and reports as Set does.
func (w *Workloads) Remove(object metav1.Object) bool {
	switch o := object.(type) {
	case *corev1.Service:
		return w.removeService(o.Namespace, o.Name)
	case *corev1.ReplicationController:
		return w.removeOwner(owner{replicationControllers, o.Namespace, o.Name})
	case *appsv1.ReplicaSet:
		return w.removeOwner(owner{replicaSets, o.Namespace, o.Name})
	case *appsv1.StatefulSet:
		return w.removeOwner(owner{statefulSets, o.Namespace, o.Name})
	}
	return false
}

func (w *Workloads) setService(s *corev1.Service) bool {
	if len(s.Spec.Selector) == 0 {
		// Without a selector it selects nothing; with an empty one every pod, and adds
		// nothing to what they are told by.
		return w.removeService(s.Namespace, s.Name)
	}
	if old, ok := w.services[s.Namespace][s.Name]; ok && maps.Equal(old, s.Spec.Selector) {
		return false
	}
	if w.services == nil {
		w.services = map[string]map[string]map[string]string{}
	}
	if w.services[s.Namespace] == nil {
		w.services[s.Namespace] = map[string]map[string]string{}
	}
	w.services[s.Namespace][s.Name] = s.Spec.Selector
	return true
}

func (w *Workloads) removeService(namespace, name string) bool {
	if _, ok := w.services[namespace][name]; !ok {
		return false
	}
	delete(w.services[namespace], name)
	if len(w.services[namespace]) == 0 {
		delete(w.services, namespace)
	}
	return true
}

func (w *Workloads) setOwner(kind schema.GroupVersionKind, o metav1.Object, selector *metav1.LabelSelector) bool {
	key := owner{kind, o.GetNamespace(), o.GetName()}
	if _, err := metav1.LabelSelectorAsSelector(selector); err != nil || selector == nil {
		return w.removeOwner(key) // kube-scheduler passes over it, too
	}
	if old, ok := w.owners[key]; ok && equalSelectors(old, selector) {
		return false
	}
	if w.owners == nil {
		w.owners = map[owner]*metav1.LabelSelector{}
	}
	w.owners[key] = selector
	return true
}

func (w *Workloads) removeOwner(key owner) bool {
	if _, ok := w.owners[key]; !ok {
		return false
	}
	delete(w.owners, key)
	return true
}

func equalSelectors(a, b *metav1.LabelSelector) bool {
	return maps.Equal(a.MatchLabels, b.MatchLabels) &&
		slices.EqualFunc(a.MatchExpressions, b.MatchExpressions, func(a, b metav1.LabelSelectorRequirement) bool {
			return a.Key == b.Key && a.Operator == b.Operator && slices.Equal(a.Values, b.Values)
		})
}

// SpreadSelector selects the pods that belong together with p: those of the Services
// that select p, and of the controller that owns it. It is what kube-scheduler's
// helper.DefaultSelector derives; nil where that is empty.
func (w *Workloads) SpreadSelector(p *corev1.Pod) *berthv1.LabelSelector {
	out := &berthv1.LabelSelector{}
	for _, selector := range w.services[p.Namespace] {
		// Those that select the pod agree on every label.
		if hasAll(p.Labels, selector) {
			require(out, selector)
		}
	}
	if kind, selector := w.ownerOf(p); selector != nil {
		if kind == replicationControllers {
			require(out, selector.MatchLabels) // where it does not select the pod, its labels win
		} else {
			and(out, selector)
		}
	}
	if len(out.MatchLabels) == 0 && len(out.MatchExpressions) == 0 {
		return nil
	}
	return out
}

// hasAll is labels.Set's own selector without the selector, which costs more to make
// than to use: every pod is asked of every Service of its namespace.
func hasAll(has, want map[string]string) bool {
	for key, value := range want {
		if got, ok := has[key]; !ok || got != value {
			return false
		}
	}
	return true
}

// ownerOf is the controller's kind and selector, nil if it is not known.
func (w *Workloads) ownerOf(p *corev1.Pod) (schema.GroupVersionKind, *metav1.LabelSelector) {
	ref := metav1.GetControllerOfNoCopy(p)
	if ref == nil {
		return schema.GroupVersionKind{}, nil
	}
	kind := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	return kind, w.owners[owner{kind, p.Namespace, ref.Name}]
}

// require adds labels to those that out requires. Its map is its own.
func require(out *berthv1.LabelSelector, set map[string]string) {
	if out.MatchLabels == nil {
		out.MatchLabels = make(map[string]string, len(set))
	}
	maps.Copy(out.MatchLabels, set)
}

// and adds the requirements of selector to those of out. A label that is required to
// have another value already cannot be required a second time by MatchLabels.
func and(out *berthv1.LabelSelector, selector *metav1.LabelSelector) {
	agreed := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(selector.MatchLabels)) {
		value := selector.MatchLabels[key]
		if other, ok := out.MatchLabels[key]; ok && other != value {
			out.MatchExpressions = append(out.MatchExpressions, &berthv1.LabelSelectorRequirement{
				Key: key, Operator: berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_IN, Values: []string{value},
			})
			continue
		}
		agreed[key] = value
	}
	require(out, agreed)
	more := labelSelector(&metav1.LabelSelector{MatchExpressions: selector.MatchExpressions}, "", &constraints{})
	out.MatchExpressions = append(out.MatchExpressions, more.GetMatchExpressions()...)
}
