package cluster

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// nearness is what the required affinity of a relation's pods says: whom they must be near,
// and which of those are known to be bound, and where.
type nearness struct {
	terms []nearTerm
	// bound are pods that all terms select and that are known to be bound, one for each
	// domain in which there are any; none are domains in which there are none. What is in
	// neither was not looked for yet.
	bound map[domain]types.UID
	none  map[domain]bool
	// looked is the version at which looking began anew.
	looked uint64
}

// nearTerm is one required affinity term.
type nearTerm struct {
	key        string
	namespaces []string
	within     labels.Selector // of namespaces, besides; nil selects none
	selector   labels.Selector
}

// domain is the nodes that have one value of a label.
type domain struct{ key, value string }

func nearnessOf(namespace string, terms []corev1.PodAffinityTerm) nearness {
	n := nearness{bound: map[domain]types.UID{}, none: map[domain]bool{}}
	selector := func(s *metav1.LabelSelector) labels.Selector {
		compiled, err := metav1.LabelSelectorAsSelector(s)
		if err != nil {
			return labels.Nothing() // nobody could be near it
		}
		return compiled
	}
	for i := range terms {
		term := &terms[i]
		t := nearTerm{key: term.TopologyKey, namespaces: term.Namespaces, selector: selector(term.LabelSelector)}
		switch {
		case term.NamespaceSelector != nil:
			t.within = selector(term.NamespaceSelector)
		case len(t.namespaces) == 0:
			t.namespaces = []string{namespace}
		}
		n.terms = append(n.terms, t)
	}
	return n
}

// wants says whether all terms select the pod.
func (l *Ledger) wants(n *nearness, pod *berthv1.PlacedPod) bool {
	for i := range n.terms {
		t := &n.terms[i]
		if !slices.Contains(t.namespaces, pod.GetNamespace()) &&
			(t.within == nil || !t.within.Matches(labels.Set(l.namespaces[pod.GetNamespace()].GetLabels()))) ||
			!t.selector.Matches(labels.Set(pod.GetLabels())) {
			return false
		}
	}
	return true
}

// Awaits says whether the pod, which is promised room, rests on promises alone: whether its
// required affinity is to pods of which none near its node is known to be bound, and some
// were promised room before it. Should their bindings fail it would be near nobody. A pod
// that was the first of those that it must be near awaits nobody.
//
// Pods beyond maxRelations are not told apart and await nobody.
func (l *Ledger) Awaits(pod *corev1.Pod) bool {
	relation := l.relations.byKey[l.relations.of[pod.UID]]
	if relation == nil || len(relation.near.terms) == 0 {
		return false
	}
	n, own := &relation.near, l.pods[pod.UID]
	if n.looked < l.relations.topology {
		clear(n.bound)
		clear(n.none)
		n.looked = l.version
	}
	on := l.nodes[own.record.GetNodeName()].record.GetLabels()
	if !slices.ContainsFunc(n.terms, func(t nearTerm) bool { return !l.boundNear(n, domain{t.key, on[t.key]}) }) {
		return false
	}
	for _, h := range l.promised {
		if h.since < own.since && l.wants(n, h.record) {
			return true
		}
	}
	return false
}

// boundNear says whether a pod that all terms select is known to be bound in the domain.
func (l *Ledger) boundNear(n *nearness, in domain) bool {
	there := func(h *holding) bool {
		return h != nil && !h.promised() && l.nodes[h.record.GetNodeName()].record.GetLabels()[in.key] == in.value && l.wants(n, h.record)
	}
	if uid, ok := n.bound[in]; ok && there(l.pods[uid]) {
		return true
	}
	if n.none[in] {
		return false
	}
	for uid, h := range l.pods {
		if there(h) {
			n.bound[in] = uid
			return true
		}
	}
	delete(n.bound, in)
	n.none[in] = true
	return false
}

// Confirm notes that the API server has said that a promise was kept. Place says so, too.
func (l *Ledger) Confirm(uid types.UID) {
	if h := l.promised[uid]; h != nil {
		delete(l.promised, uid)
		h.since = 0
		l.confirms(uid, h)
	}
}

// confirms tells relations that the pod is known to be bound.
func (l *Ledger) confirms(uid types.UID, h *holding) {
	on := l.nodes[h.record.GetNodeName()].record.GetLabels()
	for _, r := range l.relations.byKey {
		if len(r.near.terms) == 0 || !l.wants(&r.near, h.record) {
			continue
		}
		for i := range r.near.terms {
			in := domain{r.near.terms[i].key, on[r.near.terms[i].key]}
			r.near.bound[in] = uid
			delete(r.near.none, in)
		}
	}
}
