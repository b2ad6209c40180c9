package solve_test

import (
	"slices"
	"strconv"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// oracle judges one node by the contract's records alone: slow, dumb, and written
// without a look at the rules. It returns the rejecting rule and its reasons.
func oracle(s *berthv1.Snapshot, p *berthv1.Pod, nodeName string) (rule string, reasons []string) {
	var node *berthv1.Node
	for _, n := range s.Nodes {
		if n.Name == nodeName {
			node = n
		}
	}
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
	for key, value := range p.NodeSelector {
		if actual, ok := node.Labels[key]; !ok || actual != value {
			return "NodeAffinity", []string{"node(s) didn't match Pod's node affinity/selector"}
		}
	}
	if required != nil && !slices.ContainsFunc(required.Terms, func(t *berthv1.NodeSelectorTerm) bool { return oracleMatches(t, node) }) {
		return "NodeAffinity", []string{"node(s) didn't match Pod's node affinity/selector"}
	}
	var there []*berthv1.PlacedPod
	for _, q := range s.PlacedPods {
		if q.NodeName == nodeName && (!q.Nominated || q.Priority >= p.Priority && q.Uid != p.Uid) {
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
	return "", nil
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
