package model

import (
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Budget is a disruption budget: how many of the pods that it selects may be
// evicted now.
type Budget struct {
	Namespace, Name string
	// Selector selects the pods of the namespace. A selector that is absent or
	// empty in the contract selects nothing.
	Selector LabelSelector
	// Allowed is how many may be evicted. It may be negative.
	Allowed int32
	// Disrupted are the names of pods whose eviction has been counted already.
	Disrupted []string
}

// newBudget decodes a budget. As in kube-scheduler, one that cannot be understood
// protects nothing; the error says why.
func newBudget(r *berthv1.DisruptionBudget) (*Budget, *FieldError) {
	selector, err := newLabelSelector(r.GetSelector())
	if err != nil || selector.SelectsAll() {
		selector = Nothing
	}
	if err != nil {
		err = err.under("selector")
	}
	return &Budget{
		Namespace: r.GetNamespace(), Name: r.GetName(), Selector: selector,
		Allowed: r.GetDisruptionsAllowed(), Disrupted: r.GetDisruptedPods(),
	}, err
}
