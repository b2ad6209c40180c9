package scenario

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

var labelOperators = names[berthv1.LabelSelectorOperator]{
	{berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_IN, "In"},
	{berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_NOT_IN, "NotIn"},
	{berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_EXISTS, "Exists"},
	{berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_DOES_NOT_EXIST, "DoesNotExist"},
}

var actions = names[berthv1.UnsatisfiableAction]{
	{berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_DO_NOT_SCHEDULE, "DoNotSchedule"},
	{berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_SCHEDULE_ANYWAY, "ScheduleAnyway"},
}

var policies = names[berthv1.NodeInclusionPolicy]{
	{berthv1.NodeInclusionPolicy_NODE_INCLUSION_POLICY_IGNORE, "Ignore"},
	{berthv1.NodeInclusionPolicy_NODE_INCLUSION_POLICY_HONOR, "Honor"},
}

// absent is the label selector that is not there, unlike the empty one.
const absent = "!"

// key=value&key:Operator[:value,value]&...; nothing is a selector without
// requirements.
func parseLabelSelector(text string) (*berthv1.LabelSelector, error) {
	if text == absent {
		return nil, nil
	}
	s := &berthv1.LabelSelector{}
	if text == "" {
		return s, nil
	}
	for _, part := range strings.Split(text, "&") {
		at := strings.IndexAny(part, "=:")
		if at < 0 {
			return nil, fmt.Errorf("%q is neither key=value nor key:Operator[:value,value]", part)
		}
		key, rest := part[:at], part[at+1:]
		if part[at] == '=' {
			if s.MatchLabels == nil {
				s.MatchLabels = map[string]string{}
			}
			s.MatchLabels[key] = rest
			continue
		}
		name, values, hasValues := strings.Cut(rest, ":")
		operator, err := labelOperators.parse(name)
		if err != nil {
			return nil, err
		}
		r := &berthv1.LabelSelectorRequirement{Key: key, Operator: operator}
		if hasValues {
			r.Values = strings.Split(values, ",")
		}
		s.MatchExpressions = append(s.MatchExpressions, r)
	}
	return s, nil
}

func formatLabelSelector(s *berthv1.LabelSelector) string {
	if s == nil {
		return absent
	}
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(s.GetMatchLabels())) {
		parts = append(parts, key+"="+s.GetMatchLabels()[key])
	}
	for _, r := range s.GetMatchExpressions() {
		part := r.GetKey() + ":" + labelOperators.format(r.GetOperator())
		if len(r.GetValues()) > 0 {
			part += ":" + strings.Join(r.GetValues(), ",")
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "&")
}

// cutOptions splits what follows a selector from it and hands each option to
// parse.
func cutOptions(text string, parse func(key, value string) (known bool, err error)) (rest string, _ error) {
	parts := strings.Split(text, ";")
	for _, option := range parts[1:] {
		key, value, _ := strings.Cut(option, "=")
		known, err := parse(key, value)
		if err != nil {
			return "", err
		}
		if !known {
			return "", fmt.Errorf("%q is not an option here", option)
		}
	}
	return parts[0], nil
}

// podAffinities are the affinities to pods that are read from a record.
type podAffinities struct{ affinity, anti *berthv1.PodAffinity }

// parse reads a word if it is about affinity to pods.
func (a *podAffinities) parse(key, value string) (known bool, err error) {
	into := &a.affinity
	switch key {
	case "pod-affinity", "prefer-pod":
	case "pod-anti-affinity", "prefer-no-pod":
		into = &a.anti
	default:
		return false, nil
	}
	if *into == nil {
		*into = &berthv1.PodAffinity{}
	}
	if key == "pod-affinity" || key == "pod-anti-affinity" {
		t, err := parsePodTerm(value)
		(*into).Required = append((*into).Required, t)
		return true, err
	}
	weight, term, _ := strings.Cut(value, ":")
	w, err := parseInt32(weight)
	if err != nil {
		return true, err
	}
	t, err := parsePodTerm(term)
	(*into).Preferred = append((*into).Preferred, &berthv1.PreferredPodTerm{Weight: w, Term: t})
	return true, err
}

// topologyKey:selector[;namespaces=a,b][;namespace-selector=selector]
func parsePodTerm(text string) (*berthv1.PodAffinityTerm, error) {
	t := &berthv1.PodAffinityTerm{}
	rest, err := cutOptions(text, func(key, value string) (known bool, err error) {
		switch key {
		case "namespaces":
			t.Namespaces = strings.Split(value, ",")
		case "namespace-selector":
			t.NamespaceSelector, err = parseLabelSelector(value)
		default:
			return false, nil
		}
		return true, err
	})
	if err != nil {
		return nil, err
	}
	key, selector, ok := strings.Cut(rest, ":")
	if !ok {
		return nil, fmt.Errorf("%q is not topologyKey:selector", rest)
	}
	t.TopologyKey = key
	t.LabelSelector, err = parseLabelSelector(selector)
	return t, err
}

func formatPodTerm(t *berthv1.PodAffinityTerm) string {
	text := t.GetTopologyKey() + ":" + formatLabelSelector(t.GetLabelSelector())
	if len(t.GetNamespaces()) > 0 {
		text += ";namespaces=" + strings.Join(t.GetNamespaces(), ",")
	}
	if t.GetNamespaceSelector() != nil {
		text += ";namespace-selector=" + formatLabelSelector(t.GetNamespaceSelector())
	}
	return text
}

// topologyKey:maxSkew:action:selector[;min=n][;affinity=policy][;taints=policy][;keys=a,b]
func parseSpread(text string) (*berthv1.TopologySpreadConstraint, error) {
	c := &berthv1.TopologySpreadConstraint{}
	rest, err := cutOptions(text, func(key, value string) (known bool, err error) {
		switch key {
		case "min":
			c.MinDomains, err = parseInt32(value)
		case "affinity":
			c.NodeAffinityPolicy, err = policies.parse(value)
		case "taints":
			c.NodeTaintsPolicy, err = policies.parse(value)
		case "keys":
			c.MatchLabelKeys = strings.Split(value, ",")
		default:
			return false, nil
		}
		return true, err
	})
	if err != nil {
		return nil, err
	}
	parts := strings.SplitN(rest, ":", 4)
	if len(parts) < 4 {
		return nil, fmt.Errorf("%q is not topologyKey:maxSkew:action:selector", rest)
	}
	c.TopologyKey = parts[0]
	if c.MaxSkew, err = parseInt32(parts[1]); err != nil {
		return nil, err
	}
	if c.WhenUnsatisfiable, err = actions.parse(parts[2]); err != nil {
		return nil, err
	}
	c.LabelSelector, err = parseLabelSelector(parts[3])
	return c, err
}

func formatSpread(c *berthv1.TopologySpreadConstraint) string {
	text := strings.Join([]string{
		c.GetTopologyKey(), strconv.Itoa(int(c.GetMaxSkew())), actions.format(c.GetWhenUnsatisfiable()),
		formatLabelSelector(c.GetLabelSelector()),
	}, ":")
	if c.GetMinDomains() != 0 {
		text += fmt.Sprintf(";min=%d", c.GetMinDomains())
	}
	for _, p := range []struct {
		option string
		value  berthv1.NodeInclusionPolicy
	}{{"affinity", c.GetNodeAffinityPolicy()}, {"taints", c.GetNodeTaintsPolicy()}} {
		if p.value != berthv1.NodeInclusionPolicy_NODE_INCLUSION_POLICY_UNSPECIFIED {
			text += ";" + p.option + "=" + policies.format(p.value)
		}
	}
	if len(c.GetMatchLabelKeys()) > 0 {
		text += ";keys=" + strings.Join(c.GetMatchLabelKeys(), ",")
	}
	return text
}
