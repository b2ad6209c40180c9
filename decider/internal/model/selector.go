package model

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// FieldName is the one field that a node selector term can match.
const FieldName = "metadata.name"

// Requirement compares one label of a node, or its name.
type Requirement struct {
	// Key is the label's key, or FieldName in Term.Fields.
	Key string
	// Operator is a known one.
	Operator berthv1.NodeSelectorOperator
	// Values are those of the contract.
	Values []string
	// number is the value of GT and LT.
	number int64
}

// matches compares a label's value; present says whether there is one.
func (r *Requirement) matches(value string, present bool) bool {
	switch r.Operator {
	case berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_IN:
		return present && slices.Contains(r.Values, value)
	case berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_NOT_IN:
		return !present || !slices.Contains(r.Values, value)
	case berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_EXISTS:
		return present
	case berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_DOES_NOT_EXIST:
		return !present
	}
	if !present {
		return false
	}
	number, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return false
	}
	if r.Operator == berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_GT {
		return number > r.number
	}
	return number < r.number
}

// Term matches a node if all its requirements do.
type Term struct {
	// Labels are requirements on labels.
	Labels []Requirement
	// Fields are requirements on the node's name.
	Fields []Requirement
	// never is set if the term matches no node: it has no requirements, or
	// compares with a value that no label can have. kube-scheduler passes over
	// such a term and still honours the others.
	never bool
}

// Matches says whether the term matches n.
func (t *Term) Matches(n *Node) bool {
	if t.never {
		return false
	}
	for i := range t.Labels {
		value, present := n.Labels[t.Labels[i].Key]
		if !t.Labels[i].matches(value, present) {
			return false
		}
	}
	for i := range t.Fields {
		if !t.Fields[i].matches(n.Name, true) {
			return false
		}
	}
	return true
}

// MatchesAny says whether one of the alternatives matches n.
func MatchesAny(terms []Term, n *Node) bool {
	for i := range terms {
		if terms[i].Matches(n) {
			return true
		}
	}
	return false
}

// selectorRequirements turns a nodeSelector into requirements, sorted by key.
func selectorRequirements(selector map[string]string) []Requirement {
	var requirements []Requirement
	for _, key := range slices.Sorted(maps.Keys(selector)) {
		requirements = append(requirements, Requirement{
			Key:      key,
			Operator: berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_IN,
			Values:   []string{selector[key]},
		})
	}
	return requirements
}

// WeightedTerm is a preferred term.
type WeightedTerm struct {
	Term
	Weight int64
}

// NewTerms decodes the alternatives of a node selector. No alternatives match no
// node. The error's path begins with field.
func NewTerms(field string, selector *berthv1.NodeSelector) ([]Term, *FieldError) {
	terms := make([]Term, 0, len(selector.GetTerms()))
	for i, record := range selector.GetTerms() {
		term, err := newTerm(record)
		if err != nil {
			return nil, err.under(fmt.Sprintf("%s.terms[%d]", field, i))
		}
		terms = append(terms, term)
	}
	return terms, nil
}

// NewWeightedTerms decodes preferences. The error's path begins with field.
func NewWeightedTerms(field string, records []*berthv1.PreferredNodeTerm) ([]WeightedTerm, *FieldError) {
	var terms []WeightedTerm
	for i, record := range records {
		at := fmt.Sprintf("%s[%d]", field, i)
		if record.GetWeight() < 0 || record.GetWeight() > 100 {
			return nil, fieldError(at+".weight", "%d is not 0 to 100", record.GetWeight())
		}
		term, err := newTerm(record.GetTerm())
		if err != nil {
			return nil, err.under(at + ".term")
		}
		terms = append(terms, WeightedTerm{Term: term, Weight: int64(record.GetWeight())})
	}
	return terms, nil
}

// newTerm decodes a term. The error's path is relative to it.
func newTerm(record *berthv1.NodeSelectorTerm) (Term, *FieldError) {
	term := Term{never: len(record.GetMatchExpressions()) == 0 && len(record.GetMatchFields()) == 0}
	for j, expression := range record.GetMatchExpressions() {
		requirement, never, err := newLabelRequirement(expression)
		if err != nil {
			return term, err.under(fmt.Sprintf("match_expressions[%d]", j))
		}
		term.never = term.never || never
		term.Labels = append(term.Labels, requirement)
	}
	for j, expression := range record.GetMatchFields() {
		requirement, err := newFieldRequirement(expression)
		if err != nil {
			return term, err.under(fmt.Sprintf("match_fields[%d]", j))
		}
		term.Fields = append(term.Fields, requirement)
	}
	return term, nil
}

// newLabelRequirement decodes a requirement on a label. never is set if its
// values are such that kube-scheduler lets the whole term match nothing.
func newLabelRequirement(record *berthv1.NodeSelectorRequirement) (_ Requirement, never bool, _ *FieldError) {
	r := Requirement{Key: record.GetKey(), Operator: record.GetOperator(), Values: record.GetValues()}
	switch r.Operator {
	case berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_IN,
		berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_NOT_IN:
		if len(r.Values) == 0 {
			return r, false, fieldError("values", "%v needs at least one", r.Operator)
		}
		never = slices.ContainsFunc(r.Values, func(v string) bool { return !isLabelValue(v) })
	case berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_EXISTS,
		berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_DOES_NOT_EXIST:
		if len(r.Values) != 0 {
			return r, false, fieldError("values", "%v takes none", r.Operator)
		}
	case berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_GT,
		berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_LT:
		if len(r.Values) != 1 {
			return r, false, fieldError("values", "%v takes exactly one", r.Operator)
		}
		number, err := strconv.ParseInt(r.Values[0], 10, 64)
		r.number, never = number, err != nil || !isLabelValue(r.Values[0])
	default:
		return r, false, fieldError("operator", "%v is not an operator", r.Operator)
	}
	return r, never, nil
}

// newFieldRequirement decodes a requirement on a field.
func newFieldRequirement(record *berthv1.NodeSelectorRequirement) (Requirement, *FieldError) {
	r := Requirement{Key: record.GetKey(), Operator: record.GetOperator(), Values: record.GetValues()}
	switch {
	case r.Key != FieldName:
		return r, fieldError("key", "%q is not a field that can be matched; %s is the only one", r.Key, FieldName)
	case r.Operator != berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_IN &&
		r.Operator != berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_NOT_IN:
		return r, fieldError("operator", "%v is not IN or NOT_IN", r.Operator)
	case len(r.Values) != 1:
		return r, fieldError("values", "a field is compared with exactly one, not %d", len(r.Values))
	}
	return r, nil
}

// isLabelValue says whether a label can have the value v: up to 63 letters,
// digits, '-', '_' and '.', beginning and ending with a letter or digit.
func isLabelValue(v string) bool {
	if len(v) > 63 {
		return false
	}
	for i := range len(v) {
		switch c := v[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '_', c == '.':
			if i == 0 || i == len(v)-1 {
				return false
			}
		default:
			return false
		}
	}
	return true
}
