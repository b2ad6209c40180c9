package scenario

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// suffixes of quantities, largest first.
var suffixes = []struct {
	text  string
	value int64
}{{"Ti", 1 << 40}, {"Gi", 1 << 30}, {"Mi", 1 << 20}, {"Ki", 1 << 10}}

func parseQuantity(resource, text string) (int64, error) {
	if resource == "cpu" {
		return parseMilli(resource, text)
	}
	for _, s := range suffixes {
		if cut, ok := strings.CutSuffix(text, s.text); ok {
			return parseScaled(resource, text, cut, s.value)
		}
	}
	return parseScaled(resource, text, text, 1)
}

// parseMilli parses an amount in its unit, or in thousandths with m, into
// thousandths.
func parseMilli(what, text string) (int64, error) {
	if cut, ok := strings.CutSuffix(text, "m"); ok {
		return parseScaled(what, text, cut, 1)
	}
	return parseScaled(what, text, text, 1000)
}

func parseScaled(what, text, digits string, scale int64) (int64, error) {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > math.MaxInt64/scale || n < math.MinInt64/scale {
		return 0, fmt.Errorf("%q is not an amount of %s", text, what)
	}
	return n * scale, nil
}

func formatQuantity(resource string, n int64) string {
	if resource == "cpu" {
		return formatMilli(n)
	}
	for _, s := range suffixes {
		if n != 0 && n%s.value == 0 {
			return strconv.FormatInt(n/s.value, 10) + s.text
		}
	}
	return strconv.FormatInt(n, 10)
}

func formatMilli(n int64) string {
	if n%1000 == 0 {
		return strconv.FormatInt(n/1000, 10)
	}
	return strconv.FormatInt(n, 10) + "m"
}

func parseInt32(text string) (int32, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	return int32(n), err
}

// names maps the values of an enum to Kubernetes' words for them.
type names[E comparable] []struct {
	value E
	name  string
}

func (n names[E]) parse(text string) (E, error) {
	var known []string
	for _, entry := range n {
		if entry.name == text {
			return entry.value, nil
		}
		known = append(known, entry.name)
	}
	var zero E
	return zero, fmt.Errorf("%q is not one of %s", text, strings.Join(known, ", "))
}

func (n names[E]) format(value E) string {
	for _, entry := range n {
		if entry.value == value {
			return entry.name
		}
	}
	return fmt.Sprint(value)
}

var effects = names[berthv1.TaintEffect]{
	{berthv1.TaintEffect_TAINT_EFFECT_NO_SCHEDULE, "NoSchedule"},
	{berthv1.TaintEffect_TAINT_EFFECT_PREFER_NO_SCHEDULE, "PreferNoSchedule"},
	{berthv1.TaintEffect_TAINT_EFFECT_NO_EXECUTE, "NoExecute"},
}

var statuses = names[berthv1.ConditionStatus]{
	{berthv1.ConditionStatus_CONDITION_STATUS_TRUE, "True"},
	{berthv1.ConditionStatus_CONDITION_STATUS_FALSE, "False"},
	{berthv1.ConditionStatus_CONDITION_STATUS_UNKNOWN, "Unknown"},
}

var operators = names[berthv1.NodeSelectorOperator]{
	{berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_IN, "In"},
	{berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_NOT_IN, "NotIn"},
	{berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_EXISTS, "Exists"},
	{berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_DOES_NOT_EXIST, "DoesNotExist"},
	{berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_GT, "Gt"},
	{berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_LT, "Lt"},
}

// key[=value]:Effect
func parseTaint(text string) (*berthv1.Taint, error) {
	at := strings.LastIndex(text, ":")
	if at < 0 {
		return nil, fmt.Errorf("%q is not key[=value]:Effect", text)
	}
	t := &berthv1.Taint{}
	t.Key, t.Value, _ = strings.Cut(text[:at], "=")
	var err error
	t.Effect, err = effects.parse(text[at+1:])
	return t, err
}

// [key[=value]][:Effect]
func parseToleration(text string) (*berthv1.Toleration, error) {
	t := &berthv1.Toleration{Operator: berthv1.TolerationOperator_TOLERATION_OPERATOR_EXISTS}
	if at := strings.LastIndex(text, ":"); at >= 0 {
		var err error
		if t.Effect, err = effects.parse(text[at+1:]); err != nil {
			return nil, err
		}
		text = text[:at]
	}
	var hasValue bool
	if t.Key, t.Value, hasValue = strings.Cut(text, "="); hasValue {
		t.Operator = berthv1.TolerationOperator_TOLERATION_OPERATOR_EQUAL
	}
	return t, nil
}

// Type:Status
func parseCondition(text string) (*berthv1.NodeCondition, error) {
	kind, status, _ := strings.Cut(text, ":")
	s, err := statuses.parse(status)
	return &berthv1.NodeCondition{Type: kind, Status: s}, err
}

// [ip:]port[/protocol]
func appendPort(ports []*berthv1.HostPort, text string) ([]*berthv1.HostPort, error) {
	p := &berthv1.HostPort{}
	number, protocol, _ := strings.Cut(text, "/")
	p.Protocol = protocol
	if at := strings.LastIndex(number, ":"); at >= 0 {
		p.Ip, number = number[:at], number[at+1:]
	}
	var err error
	p.Port, err = parseInt32(number)
	return append(ports, p), err
}

// weight:term
func parsePreferred(text string) (*berthv1.PreferredNodeTerm, error) {
	weight, term, _ := strings.Cut(text, ":")
	w, err := parseInt32(weight)
	if err != nil {
		return nil, err
	}
	t, err := parseTerm(term)
	return &berthv1.PreferredNodeTerm{Weight: w, Term: t}, err
}

// term|term; nothing is a selector without terms.
func parseSelector(text string) (*berthv1.NodeSelector, error) {
	s := &berthv1.NodeSelector{}
	if text == "" {
		return s, nil
	}
	for _, part := range strings.Split(text, "|") {
		t, err := parseTerm(part)
		if err != nil {
			return nil, err
		}
		s.Terms = append(s.Terms, t)
	}
	return s, nil
}

// key:Operator[:value,value]&...
func parseTerm(text string) (*berthv1.NodeSelectorTerm, error) {
	t := &berthv1.NodeSelectorTerm{}
	for _, part := range strings.Split(text, "&") {
		words := strings.SplitN(part, ":", 3)
		if len(words) < 2 {
			return nil, fmt.Errorf("%q is not key:Operator[:value,value]", part)
		}
		operator, err := operators.parse(words[1])
		if err != nil {
			return nil, err
		}
		r := &berthv1.NodeSelectorRequirement{Key: words[0], Operator: operator}
		if len(words) == 3 {
			r.Values = strings.Split(words[2], ",")
		}
		if r.Key == "metadata.name" {
			t.MatchFields = append(t.MatchFields, r)
		} else {
			t.MatchExpressions = append(t.MatchExpressions, r)
		}
	}
	return t, nil
}

func formatTerm(t *berthv1.NodeSelectorTerm) string {
	var parts []string
	for _, r := range slices.Concat(t.GetMatchFields(), t.GetMatchExpressions()) {
		part := r.GetKey() + ":" + operators.format(r.GetOperator())
		if len(r.GetValues()) > 0 {
			part += ":" + strings.Join(r.GetValues(), ",")
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "&")
}
