package solve_test

import (
	"slices"
	"strconv"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// oracle judges one node by the contract's records alone: slow, dumb, and written
// without a look at the rules. It returns the rejecting rule and its reasons.
//
// Where pods of the same or a higher priority are nominated to the node, it must do
// with them and without.
func oracle(s *berthv1.Snapshot, p *berthv1.Pod, nodeName string) (rule string, reasons []string) {
	var node *berthv1.Node
	for _, n := range s.Nodes {
		if n.Name == nodeName {
			node = n
		}
	}
	var placed, nominated []*berthv1.PlacedPod
	for _, q := range s.PlacedPods {
		if !q.Nominated {
			placed = append(placed, q)
		} else if q.NodeName == nodeName && q.Priority >= p.Priority && q.Uid != p.Uid {
			nominated = append(nominated, q)
		}
	}
	if rule, reasons = oracleWith(s, p, node, placed, nominated); rule == "" {
		rule, reasons = oracleWith(s, p, node, placed, nil)
	}
	return rule, reasons
}

func oracleWith(s *berthv1.Snapshot, p *berthv1.Pod, node *berthv1.Node, placed, nominated []*berthv1.PlacedPod) (rule string, reasons []string) {
	nodeName := node.Name
	required := p.GetNodeAffinity().GetRequired()
	if required != nil && len(required.Terms) > 0 {
		allNamed, named := true, false
		for _, term := range required.Terms {
			termNamed := false
			for _, f := range term.MatchFields {
				if f.Operator == berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_IN {
					termNamed = true
					named = named || f.Values[0] == nodeName
				}
			}
			allNamed = allNamed && termNamed
		}
		if allNamed && !named {
			return "NodeAffinity", []string{"node(s) didn't satisfy plugin(s) [NodeAffinity]"}
		}
	}
	if node.Unschedulable && !oracleTolerates(p, &berthv1.Taint{Key: "node.kubernetes.io/unschedulable", Effect: berthv1.TaintEffect_TAINT_EFFECT_NO_SCHEDULE}) {
		return "NodeUnschedulable", []string{"node(s) were unschedulable"}
	}
	if p.NodeName != "" && p.NodeName != nodeName {
		return "NodeName", []string{"node(s) didn't match the requested node name"}
	}
	for _, taint := range node.Taints {
		if taint.Effect != berthv1.TaintEffect_TAINT_EFFECT_PREFER_NO_SCHEDULE && !oracleTolerates(p, taint) {
			return "TaintToleration", []string{"node(s) had untolerated taint(s)"}
		}
	}
	if !oracleWants(p, node) {
		return "NodeAffinity", []string{"node(s) didn't match Pod's node affinity/selector"}
	}
	there := slices.Clone(nominated)
	for _, q := range placed {
		if q.NodeName == nodeName {
			there = append(there, q)
		}
	}
	for _, q := range there {
		for _, held := range q.HostPorts {
			for _, wanted := range p.HostPorts {
				if oracleClash(held, wanted) {
					return "NodePorts", []string{"node(s) didn't have free ports for the requested pod ports"}
				}
			}
		}
	}
	if int64(len(there))+1 > node.Allocatable["pods"] {
		reasons = append(reasons, "Too many pods")
	}
	for _, name := range []string{"cpu", "memory", "ephemeral-storage", "example.com/gpu"} {
		total := p.Requests[name]
		for _, q := range there {
			total += q.Requests[name]
		}
		if p.Requests[name] > 0 && total > node.Allocatable[name] {
			reasons = append(reasons, "Insufficient "+name)
		}
	}
	if reasons != nil {
		return "NodeResourcesFit", reasons
	}
	if text := oracleSpread(s, p, node, placed, nominated); text != "" {
		return "PodTopologySpread", []string{text}
	}
	if text := oracleNear(s, p, node, placed, nominated); text != "" {
		return "InterPodAffinity", []string{text}
	}
	for _, feature := range p.RequiredFeatures {
		if !slices.Contains(node.DeclaredFeatures, feature) {
			return "NodeDeclaredFeatures", []string{"node(s) didn't match Pod's required features"}
		}
	}
	return "", nil
}

func oracleWants(p *berthv1.Pod, node *berthv1.Node) bool {
	for key, value := range p.NodeSelector {
		if actual, ok := node.Labels[key]; !ok || actual != value {
			return false
		}
	}
	required := p.GetNodeAffinity().GetRequired()
	return required == nil || slices.ContainsFunc(required.Terms, func(t *berthv1.NodeSelectorTerm) bool { return oracleMatches(t, node) })
}

// oracleSelects reads a selector; what an absent one means is the caller's.
func oracleSelects(s *berthv1.LabelSelector, labels map[string]string) bool {
	for key, value := range s.MatchLabels {
		if actual, ok := labels[key]; !ok || actual != value {
			return false
		}
	}
	for _, r := range s.MatchExpressions {
		value, ok := labels[r.Key]
		in := ok && slices.Contains(r.Values, value)
		holds := map[berthv1.LabelSelectorOperator]bool{
			berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_IN:             in,
			berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_NOT_IN:         !in,
			berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_EXISTS:         ok,
			berthv1.LabelSelectorOperator_LABEL_SELECTOR_OPERATOR_DOES_NOT_EXIST: !ok,
		}
		if !holds[r.Operator] {
			return false
		}
	}
	return true
}

// oracleSpread counts, for each hard constraint in turn, the pods of every domain.
func oracleSpread(s *berthv1.Snapshot, p *berthv1.Pod, node *berthv1.Node, placed, nominated []*berthv1.PlacedPod) string {
	var hard []*berthv1.TopologySpreadConstraint
	for _, c := range p.TopologySpreadConstraints {
		if c.WhenUnsatisfiable == berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_DO_NOT_SCHEDULE {
			hard = append(hard, c)
		}
	}
	for _, c := range hard {
		domain, ok := node.Labels[c.TopologyKey]
		if !ok {
			return "node(s) didn't match pod topology spread constraints (missing required label)"
		}
		selects := func(labels map[string]string) bool {
			if c.LabelSelector == nil || !oracleSelects(c.LabelSelector, labels) {
				return false
			}
			for _, key := range c.MatchLabelKeys {
				if mine, ok := p.Labels[key]; ok {
					if value, ok := labels[key]; !ok || value != mine {
						return false
					}
				}
			}
			return true
		}
		// kube-scheduler finds no pods for a selector without requirements.
		asks := c.LabelSelector != nil && len(c.LabelSelector.MatchLabels)+len(c.LabelSelector.MatchExpressions) > 0
		for _, key := range c.MatchLabelKeys {
			if _, ok := p.Labels[key]; ok {
				asks = true
			}
		}
		domains := map[string]int{}
		for _, n := range s.Nodes {
			counted := true
			for _, other := range hard {
				if _, ok := n.Labels[other.TopologyKey]; !ok {
					counted = false
				}
			}
			if c.NodeAffinityPolicy != berthv1.NodeInclusionPolicy_NODE_INCLUSION_POLICY_IGNORE && !oracleWants(p, n) {
				counted = false
			}
			if c.NodeTaintsPolicy == berthv1.NodeInclusionPolicy_NODE_INCLUSION_POLICY_HONOR {
				for _, taint := range n.Taints {
					if taint.Effect != berthv1.TaintEffect_TAINT_EFFECT_PREFER_NO_SCHEDULE && !oracleTolerates(p, taint) {
						counted = false
					}
				}
			}
			if !counted {
				continue
			}
			domains[n.Labels[c.TopologyKey]] += 0
			for _, q := range placed {
				if asks && q.NodeName == n.Name && q.Namespace == p.Namespace && !q.Terminating && selects(q.Labels) {
					domains[n.Labels[c.TopologyKey]]++
				}
			}
			// Of nominated pods it asks less.
			for _, q := range nominated {
				if q.NodeName == n.Name && q.Namespace == p.Namespace && selects(q.Labels) {
					domains[n.Labels[c.TopologyKey]]++
				}
			}
		}
		least := 0
		if len(domains) > 0 && len(domains) >= int(c.MinDomains) {
			least = 1000
			for _, pods := range domains {
				least = min(least, pods)
			}
		}
		skew := domains[domain] - least
		if selects(p.Labels) {
			skew++
		}
		if skew > int(c.MaxSkew) {
			return "node(s) didn't match pod topology spread constraints"
		}
	}
	return ""
}

// oracleNear looks for the pods near a node, term by term.
func oracleNear(s *berthv1.Snapshot, p *berthv1.Pod, node *berthv1.Node, placed, nominated []*berthv1.PlacedPod) string {
	labelsOf := func(namespace string) map[string]string {
		for _, n := range s.Namespaces {
			if n.Name == namespace {
				return n.Labels
			}
		}
		return nil
	}
	// pending is set for terms of p: kube-scheduler also asks their namespace
	// selectors about a namespace without labels.
	selects := func(t *berthv1.PodAffinityTerm, owner, namespace string, labels map[string]string, pending bool) bool {
		there := slices.Contains(t.Namespaces, namespace)
		if t.NamespaceSelector != nil {
			there = there || oracleSelects(t.NamespaceSelector, labelsOf(namespace)) || pending && oracleSelects(t.NamespaceSelector, nil)
		} else if len(t.Namespaces) == 0 {
			there = namespace == owner
		}
		return there && t.LabelSelector != nil && oracleSelects(t.LabelSelector, labels)
	}
	// value is the label of the node that q is on.
	value := func(q *berthv1.PlacedPod, key string) (string, bool) {
		for _, n := range s.Nodes {
			if n.Name == q.NodeName {
				value, ok := n.Labels[key]
				return value, ok
			}
		}
		return "", false
	}
	near := func(q *berthv1.PlacedPod, key string) bool {
		here, ok := node.Labels[key]
		there, same := value(q, key)
		return ok && same && here == there
	}
	wanted, unwanted := p.GetPodAffinity().GetRequired(), p.GetPodAntiAffinity().GetRequired()
	all := func(namespace string, labels map[string]string) bool {
		for _, t := range wanted {
			if !selects(t, p.Namespace, namespace, labels, true) {
				return false
			}
		}
		return true
	}
	if len(wanted)+len(unwanted) == 0 {
		// With nobody placed who might be against it, nominated pods are not asked.
		against := false
		for _, q := range placed {
			for _, t := range q.GetPodAntiAffinity().GetRequired() {
				if _, ok := value(q, t.TopologyKey); ok && selects(t, q.Namespace, p.Namespace, p.Labels, false) {
					against = true
				}
			}
		}
		if !against {
			return ""
		}
	}
	pods := append(slices.Clone(placed), nominated...)
	satisfied, somebody := true, false
	for _, t := range wanted {
		if _, ok := node.Labels[t.TopologyKey]; !ok {
			return "node(s) didn't match pod affinity rules"
		}
		found := false
		for _, q := range pods {
			if !all(q.Namespace, q.Labels) {
				continue
			}
			found = found || near(q, t.TopologyKey)
			_, ok := value(q, t.TopologyKey)
			somebody = somebody || ok
		}
		satisfied = satisfied && found
	}
	if !satisfied && (somebody || !all(p.Namespace, p.Labels)) {
		return "node(s) didn't match pod affinity rules"
	}
	for _, t := range unwanted {
		for _, q := range pods {
			if selects(t, p.Namespace, q.Namespace, q.Labels, true) && near(q, t.TopologyKey) {
				return "node(s) didn't match pod anti-affinity rules"
			}
		}
	}
	for _, q := range pods {
		for _, t := range q.GetPodAntiAffinity().GetRequired() {
			if selects(t, q.Namespace, p.Namespace, p.Labels, false) && near(q, t.TopologyKey) {
				return "node(s) didn't satisfy existing pods anti-affinity rules"
			}
		}
	}
	return ""
}

func oracleTolerates(p *berthv1.Pod, taint *berthv1.Taint) bool {
	for _, t := range p.Tolerations {
		keyed := t.Key == "" || t.Key == taint.Key
		valued := t.Operator == berthv1.TolerationOperator_TOLERATION_OPERATOR_EXISTS || t.Value == taint.Value
		effective := t.Effect == 0 || t.Effect == taint.Effect
		if keyed && valued && effective {
			return true
		}
	}
	return false
}

func oracleMatches(term *berthv1.NodeSelectorTerm, node *berthv1.Node) bool {
	if len(term.MatchExpressions)+len(term.MatchFields) == 0 {
		return false
	}
	for _, r := range term.MatchExpressions {
		value, ok := node.Labels[r.Key]
		holds := false
		switch r.Operator {
		case berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_IN:
			holds = ok && slices.Contains(r.Values, value)
		case berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_NOT_IN:
			holds = !ok || !slices.Contains(r.Values, value)
		case berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_EXISTS:
			holds = ok
		case berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_DOES_NOT_EXIST:
			holds = !ok
		default:
			have, err1 := strconv.Atoi(value)
			want, err2 := strconv.Atoi(r.Values[0])
			if err2 != nil {
				return false
			}
			if r.Operator == berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_GT {
				holds = err1 == nil && have > want
			} else {
				holds = err1 == nil && have < want
			}
		}
		if !holds {
			return false
		}
	}
	for _, r := range term.MatchFields {
		if (r.Operator == berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_IN) != (r.Values[0] == node.Name) {
			return false
		}
	}
	return true
}

func oracleClash(a, b *berthv1.HostPort) bool {
	proto := func(p *berthv1.HostPort) string {
		if p.Protocol == "" {
			return "TCP"
		}
		return p.Protocol
	}
	every := func(p *berthv1.HostPort) bool { return p.Ip == "" || p.Ip == "0.0.0.0" }
	return a.Port == b.Port && proto(a) == proto(b) && (every(a) || every(b) || a.Ip == b.Ip)
}
