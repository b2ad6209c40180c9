package model

import (
	"fmt"
	"maps"
	"slices"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// LabelSelector selects objects by their labels. The zero value selects every
// object.
type LabelSelector struct {
	requirements []labelRequirement
	nothing      bool
}

// Nothing is the selector that selects no object.
var Nothing = LabelSelector{nothing: true}

type labelRequirement struct {
	key      string
	operator berthv1.LabelSelectorOperator
	values   []string
}

// Matches says whether an object with these labels is selected.
func (s *LabelSelector) Matches(labels map[string]string) bool {
	if s.nothing {
		return false
	}
	for i := range s.requirements {
		r := &s.requirements[i]
		value, present := labels[r.key]
		matches := false
		switch r.operator {
		case berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_IN:
			matches = present && slices.Contains(r.values, value)
		case berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_NOT_IN:
			matches = !present || !slices.Contains(r.values, value)
		case berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_EXISTS:
			matches = present
		case berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_DOES_NOT_EXIST:
			matches = !present
		}
		if !matches {
			return false
		}
	}
	return true
}

// Keys calls yield with the keys of the labels that the selector reads.
func (s *LabelSelector) Keys(yield func(key string)) {
	for i := range s.requirements {
		yield(s.requirements[i].key)
	}
}

// SelectsAll says whether the selector has no requirements and selects every
// object.
func (s *LabelSelector) SelectsAll() bool { return !s.nothing && len(s.requirements) == 0 }

// SelectsNothing says whether the selector selects no object whatever its labels.
func (s *LabelSelector) SelectsNothing() bool { return s.nothing }

// require adds the requirement that the label key has this value.
func (s *LabelSelector) require(key, value string) {
	s.requirements = append(s.requirements, labelRequirement{
		key: key, operator: berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_IN, values: []string{value},
	})
}

// newStrictSelector is newLabelSelector for a pod that is to be decided: keys and
// values that no label can have are errors, as they are to kube-scheduler. In other
// records they mean what they say.
func newStrictSelector(record *berthv1.LabelSelector) (LabelSelector, *FieldError) {
	for _, key := range slices.Sorted(maps.Keys(record.GetMatchLabels())) {
		value := record.GetMatchLabels()[key]
		if err := labelError(key, []string{value}); err != nil {
			return Nothing, fieldError("match_labels["+key+"]", "%s", err.Message)
		}
	}
	for i, r := range record.GetMatchExpressions() {
		if err := labelError(r.GetKey(), r.GetValues()); err != nil && r.GetKey() != "" {
			return Nothing, err.under(fmt.Sprintf("match_expressions[%d]", i))
		}
	}
	return newLabelSelector(record)
}

// newLabelSelector decodes a selector; an absent one selects nothing. The error's
// path is relative to the selector.
func newLabelSelector(record *berthv1.LabelSelector) (LabelSelector, *FieldError) {
	if record == nil {
		return Nothing, nil
	}
	var s LabelSelector
	for _, key := range slices.Sorted(maps.Keys(record.GetMatchLabels())) {
		s.require(key, record.GetMatchLabels()[key])
	}
	for i, r := range record.GetMatchExpressions() {
		at := fmt.Sprintf("match_expressions[%d].", i)
		if r.GetKey() == "" {
			return s, fieldError(at+"key", "a requirement needs one")
		}
		switch r.GetOperator() {
		case berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_IN,
			berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_NOT_IN:
			if len(r.GetValues()) == 0 {
				return s, fieldError(at+"values", "%v needs at least one", r.GetOperator())
			}
		case berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_EXISTS,
			berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_DOES_NOT_EXIST:
			if len(r.GetValues()) != 0 {
				return s, fieldError(at+"values", "%v takes none", r.GetOperator())
			}
		default:
			return s, fieldError(at+"operator", "%v is not an operator", r.GetOperator())
		}
		s.requirements = append(s.requirements, labelRequirement{key: r.GetKey(), operator: r.GetOperator(), values: r.GetValues()})
	}
	return s, nil
}
