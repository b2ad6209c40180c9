package model

import (
	"fmt"
	"slices"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// PodAffinity is what a pod wants of the pods near it, and what it does not want.
type PodAffinity struct {
	// Required and AntiRequired must hold.
	Required, AntiRequired []PodTerm
	// Preferred and AntiPreferred are preferences.
	Preferred, AntiPreferred []WeightedPodTerm
}

// Any says whether there are terms at all.
func (a *PodAffinity) Any() bool {
	return len(a.Required)+len(a.AntiRequired)+len(a.Preferred)+len(a.AntiPreferred) > 0
}

// WeightedPodTerm is a preferred term.
type WeightedPodTerm struct {
	PodTerm
	Weight int64
}

// PodTerm is about the pods that it selects, near a node: on the nodes with the
// same value of the label TopologyKey.
type PodTerm struct {
	// TopologyKey is not empty.
	TopologyKey string
	// Selector selects the pods by their labels.
	Selector LabelSelector
	// Namespaces are those of the pods, in addition to NamespaceSelector's.
	Namespaces []string
	// NamespaceSelector selects further namespaces by their labels.
	NamespaceSelector LabelSelector
}

// Selects says whether the term selects a pod with these labels, of a namespace
// with this name and these labels.
func (t *PodTerm) Selects(labels map[string]string, namespace string, namespaceLabels map[string]string) bool {
	return (slices.Contains(t.Namespaces, namespace) || t.NamespaceSelector.Matches(namespaceLabels)) &&
		t.Selector.Matches(labels)
}

// selectorDecoder is newLabelSelector or newStrictSelector.
type selectorDecoder func(*berthv1.LabelSelector) (LabelSelector, *FieldError)

// newPodAffinity decodes the terms of a pod in namespace. The error's path is
// relative to the pod.
func newPodAffinity(affinity, antiAffinity *berthv1.PodAffinity, namespace string, selector selectorDecoder) (PodAffinity, *FieldError) {
	var a PodAffinity
	for _, side := range []struct {
		field     string
		record    *berthv1.PodAffinity
		required  *[]PodTerm
		preferred *[]WeightedPodTerm
	}{
		{"pod_affinity", affinity, &a.Required, &a.Preferred},
		{"pod_anti_affinity", antiAffinity, &a.AntiRequired, &a.AntiPreferred},
	} {
		for i, record := range side.record.GetRequired() {
			term, err := newPodTerm(record, namespace, selector)
			if err != nil {
				return a, err.under(fmt.Sprintf("%s.required[%d]", side.field, i))
			}
			*side.required = append(*side.required, term)
		}
		for i, record := range side.record.GetPreferred() {
			at := fmt.Sprintf("%s.preferred[%d]", side.field, i)
			if record.GetWeight() < 0 || record.GetWeight() > 100 {
				return a, fieldError(at+".weight", "%d is not 0 to 100", record.GetWeight())
			}
			term, err := newPodTerm(record.GetTerm(), namespace, selector)
			if err != nil {
				return a, err.under(at + ".term")
			}
			*side.preferred = append(*side.preferred, WeightedPodTerm{PodTerm: term, Weight: int64(record.GetWeight())})
		}
	}
	return a, nil
}

func newPodTerm(record *berthv1.PodAffinityTerm, namespace string, selector selectorDecoder) (PodTerm, *FieldError) {
	t := PodTerm{TopologyKey: record.GetTopologyKey(), Namespaces: record.GetNamespaces()}
	if t.TopologyKey == "" {
		return t, fieldError("topology_key", "a term needs one")
	}
	var err *FieldError
	if t.Selector, err = selector(record.GetLabelSelector()); err != nil {
		return t, err.under("label_selector")
	}
	if t.NamespaceSelector, err = selector(record.GetNamespaceSelector()); err != nil {
		return t, err.under("namespace_selector")
	}
	if len(t.Namespaces) == 0 && record.GetNamespaceSelector() == nil {
		t.Namespaces = []string{namespace}
	}
	return t, nil
}
