// Package model is the decider's picture of one cluster and of the pods that
// want a node: values that are valid by construction, decoded once from the
// contract, so that no rule checks its input again.
//
// A Snapshot and what it holds belong to one goroutine.
package model

import "fmt"

// FieldError is a record that cannot be understood.
type FieldError struct {
	// Field is the path of the offending field, such as
	// "snapshot.nodes[7].name".
	Field string
	// Message is one sentence for people, without the path.
	Message string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Message }

// under returns the error as seen from the record that holds the field's record
// at prefix.
func (e *FieldError) under(prefix string) *FieldError {
	return &FieldError{Field: prefix + "." + e.Field, Message: e.Message}
}

func fieldError(field, format string, args ...any) *FieldError {
	return &FieldError{Field: field, Message: fmt.Sprintf(format, args...)}
}

// checkConstraints says which name of a constraint is empty: nobody can say whether
// it is understood.
func checkConstraints(names []string) *FieldError {
	for i, name := range names {
		if name == "" {
			return fieldError(fmt.Sprintf("constraints[%d]", i), "a constraint needs a name")
		}
	}
	return nil
}

// firstUnknown returns the first name by name of a constraint that is not understood,
// or "".
func firstUnknown(names []string, understood map[string]bool) string {
	first := ""
	for _, name := range names {
		if !understood[name] && (first == "" || name < first) {
			first = name
		}
	}
	return first
}
