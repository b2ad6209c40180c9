package model

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

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
		term, _, err := newTerm(record)
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
		term, impossible, err := newTerm(record.GetTerm())
		if err == nil && record.GetWeight() != 0 {
			err = impossible // kube-scheduler fails such a pod, too
		}
		if err != nil {
			return nil, err.under(at + ".term")
		}
		terms = append(terms, WeightedTerm{Term: term, Weight: int64(record.GetWeight())})
	}
	return terms, nil
}

// newTerm decodes a term. The errors' paths are relative to it. impossible says why
// no label can meet one of its requirements, or is nil: kube-scheduler lets a
// required term that has one match nothing, and still honours the others.
func newTerm(record *berthv1.NodeSelectorTerm) (_ Term, impossible, _ *FieldError) {
	term := Term{never: len(record.GetMatchExpressions()) == 0 && len(record.GetMatchFields()) == 0}
	for j, expression := range record.GetMatchExpressions() {
		requirement, cannot, err := newLabelRequirement(expression)
		at := fmt.Sprintf("match_expressions[%d]", j)
		if err != nil {
			return term, nil, err.under(at)
		}
		if cannot != nil {
			term.never = true
			impossible = cmp.Or(impossible, cannot.under(at))
		}
		term.Labels = append(term.Labels, requirement)
	}
	for j, expression := range record.GetMatchFields() {
		requirement, err := newFieldRequirement(expression)
		if err != nil {
			return term, nil, err.under(fmt.Sprintf("match_fields[%d]", j))
		}
		term.Fields = append(term.Fields, requirement)
	}
	return term, impossible, nil
}

// newLabelRequirement decodes a requirement on a label. impossible says why no label
// can meet it, or is nil.
func newLabelRequirement(record *berthv1.NodeSelectorRequirement) (_ Requirement, impossible, _ *FieldError) {
	r := Requirement{Key: record.GetKey(), Operator: record.GetOperator(), Values: record.GetValues()}
	impossible = labelError(r.Key, r.Values)
	switch r.Operator {
	case berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_IN,
		berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_NOT_IN:
		if len(r.Values) == 0 {
			return r, nil, fieldError("values", "%v needs at least one", r.Operator)
		}
	case berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_EXISTS,
		berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_DOES_NOT_EXIST:
		if len(r.Values) != 0 {
			return r, nil, fieldError("values", "%v takes none", r.Operator)
		}
	case berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_GT,
		berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_LT:
		if len(r.Values) != 1 {
			return r, nil, fieldError("values", "%v takes exactly one", r.Operator)
		}
		number, err := strconv.ParseInt(r.Values[0], 10, 64)
		if r.number = number; err != nil {
			impossible = cmp.Or(impossible, fieldError("values[0]", "%q is not an integer", r.Values[0]))
		}
	default:
		return r, nil, fieldError("operator", "%v is not an operator", r.Operator)
	}
	return r, impossible, nil
}

// labelError says why no label can have this key or one of these values, or is nil.
func labelError(key string, values []string) *FieldError {
	if !isLabelKey(key) {
		return fieldError("key", "%q is no label's: [domain/]name, the name of up to 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit", key)
	}
	for i, v := range values {
		if !isLabelValue(v) {
			return fieldError(fmt.Sprintf("values[%d]", i), "%q is no label's: up to 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit", v)
		}
	}
	return nil
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
func isLabelValue(v string) bool { return v == "" || len(v) <= 63 && isWord(v, "-_.", true) }

// isLabelKey says whether a label can have the key: a value that is not empty, and
// before it, followed by a slash, a domain or nothing.
func isLabelKey(key string) bool {
	domain, name, ok := strings.Cut(key, "/")
	if !ok {
		return key != "" && isLabelValue(key)
	}
	if name == "" || !isLabelValue(name) || len(domain) > 253 {
		return false
	}
	for part := range strings.SplitSeq(domain, ".") {
		if !isWord(part, "-", false) {
			return false
		}
	}
	return true
}

// isWord says whether s is letters, capitals only if they are allowed, digits and
// between them the bytes of within; it is not empty.
func isWord(s, within string, capitals bool) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', capitals && 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && i < len(s)-1 && strings.IndexByte(within, c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}
