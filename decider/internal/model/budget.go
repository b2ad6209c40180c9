package model

import (
	"cmp"
	"fmt"
	"slices"

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

func (s *Snapshot) addBudgets(records []*berthv1.DisruptionBudget) *FieldError {
	type key struct{ namespace, name string }
	seen := make(map[key]bool, len(records))
	for i, r := range records {
		at := fmt.Sprintf("snapshot.disruption_budgets[%d]", i)
		k := key{r.GetNamespace(), r.GetName()}
		switch {
		case r.GetName() == "":
			return fieldError(at+".name", "a disruption budget needs one")
		case seen[k]:
			return fieldError(at+".name", "%q in %q is the name of an earlier disruption budget", r.GetName(), r.GetNamespace())
		}
		seen[k] = true
		selector, err := newLabelSelector(r.GetSelector())
		if err != nil || selector.SelectsAll() {
			// As in kube-scheduler, one that cannot be understood protects
			// nothing.
			selector = Nothing
		}
		s.Budgets = append(s.Budgets, &Budget{
			Namespace: r.GetNamespace(), Name: r.GetName(), Selector: selector,
			Allowed: r.GetDisruptionsAllowed(), Disrupted: r.GetDisruptedPods(),
		})
	}
	slices.SortFunc(s.Budgets, func(a, b *Budget) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return nil
}
