// Package encode writes Kubernetes' objects in the words of the contract: sums
// are done here, everything that restricts a pod's nodes gets a constraint name,
// and what cannot be expressed gets a name that no decider declares.
//
// Messages share maps and slices of strings with the objects they were made
// from; neither may be changed afterwards. Equal objects give equal messages, and
// a node's heartbeat does not change its message.
package encode

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Pod is the pod as one that wants a node. What comes from other objects is not in
// it: ConstraintExistingAntiAffinity, see MaySelect, and its spread selector, see
// Workloads.
func Pod(p *corev1.Pod) *berthv1.Pod {
	names := make(constraints, 0, 4)
	out := &berthv1.Pod{
		Uid:              string(p.UID),
		Namespace:        p.Namespace,
		Name:             p.Name,
		SchedulerName:    p.Spec.SchedulerName,
		Labels:           p.Labels,
		NodeName:         p.Spec.NodeName,
		NodeSelector:     p.Spec.NodeSelector,
		NodeAffinity:     nodeAffinity(p, &names),
		Tolerations:      tolerations(p.Spec.Tolerations, &names),
		HostPorts:        hostPorts(p),
		Priority:         priority(p),
		PreemptionPolicy: preemptionPolicy(p, &names),

		TopologySpreadConstraints: topologySpreadConstraints(p, &names),
		RequiredFeatures:          requiredFeatures(p, &names),
		NominatedNodeName:         p.Status.NominatedNodeName,
	}
	out.Requests, out.ScoreRequests = requests(pendingRequests(p), pendingScoreRequests(p))
	if resourcehelper.IsPodLevelRequestsSet(p) {
		out.PlacedScoreRequests = amounts(placedScoreRequests(p))
		if out.PlacedScoreRequests == nil {
			// Nothing at all, which an empty map would not say.
			out.PlacedScoreRequests = map[string]int64{string(corev1.ResourceCPU): 0}
		}
	}
	out.PodAffinity, out.PodAntiAffinity = affinitiesToPods(p, &names)
	images(p, out)
	out.Constraints = podConstraints(p, out, names)
	return out
}

// PlacedPod is the pod as one that holds room on nodeName, which is not its
// spec.nodeName while the pod is only promised to the node.
func PlacedPod(p *corev1.Pod, nodeName string) *berthv1.PlacedPod {
	out := &berthv1.PlacedPod{
		Uid:         string(p.UID),
		Namespace:   p.Namespace,
		Name:        p.Name,
		NodeName:    nodeName,
		Labels:      p.Labels,
		HostPorts:   hostPorts(p),
		Priority:    priority(p),
		Terminating: p.DeletionTimestamp != nil,
		Preempted:   preempted(p),
	}
	out.Requests, out.ScoreRequests = requests(placedRequests(p), placedScoreRequests(p))
	var names constraints
	out.PodAffinity, out.PodAntiAffinity = placedAffinitiesToPods(p, &names)
	out.Constraints = names.sorted()
	if t := p.Status.StartTime; t != nil && !t.IsZero() {
		out.StartTimeNanos = t.UnixNano()
	}
	return out
}

// Nominated is the pod as one for which room is set aside; nil if there is none set
// aside, or if the pod will not take it because it has a node, is being deleted or
// is gated.
func Nominated(p *corev1.Pod) *berthv1.PlacedPod {
	if p.Status.NominatedNodeName == "" || p.Spec.NodeName != "" || !Holds(p) ||
		p.DeletionTimestamp != nil || len(p.Spec.SchedulingGates) > 0 {
		return nil
	}
	out := PlacedPod(p, p.Status.NominatedNodeName)
	out.Nominated = true
	return out
}

// preempted is as kube-scheduler's preemption tells it: by the first condition of
// that type.
func preempted(p *corev1.Pod) bool {
	if p.DeletionTimestamp == nil {
		return false
	}
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == corev1.DisruptionTarget {
			return c.Status == corev1.ConditionTrue && c.Reason == corev1.PodReasonPreemptionByScheduler
		}
	}
	return false
}

// Node is the node, without anything that a heartbeat changes.
func Node(n *corev1.Node) *berthv1.Node {
	var names constraints
	out := &berthv1.Node{
		Name:          n.Name,
		Uid:           string(n.UID),
		Labels:        n.Labels,
		Unschedulable: n.Spec.Unschedulable,
		Allocatable:   allocatable(n),
		Conditions:    conditions(n.Status.Conditions),
		Images:        nodeImages(n),
	}
	if len(n.Status.DeclaredFeatures) > 0 {
		out.DeclaredFeatures = slices.Sorted(slices.Values(n.Status.DeclaredFeatures))
	}
	for i := range n.Spec.Taints {
		t := &n.Spec.Taints[i]
		effect, ok := taintEffects[t.Effect]
		if !ok || t.Effect == "" {
			// A decider would find the taint invalid; without it the node would
			// look free. The name keeps pods away from the node, and only from it.
			names.unknown("spec.taints.effect")
			continue
		}
		if effect != berthv1.TaintEffect_TAINT_EFFECT_PREFER_NO_SCHEDULE {
			names.add(berthv1.ConstraintTaintToleration)
		}
		out.Taints = append(out.Taints, &berthv1.Taint{Key: t.Key, Value: t.Value, Effect: effect})
	}
	if n.Spec.Unschedulable {
		names.add(berthv1.ConstraintNodeUnschedulable)
	}
	out.Constraints = names.sorted()
	return out
}

// Namespace is the namespace with what selectors read of it.
func Namespace(n *corev1.Namespace) *berthv1.Namespace {
	return &berthv1.Namespace{Name: n.Name, Labels: n.Labels}
}

// Holds says whether the pod, once on a node, holds room there. A finished pod
// does not; one that is being deleted does, until it is gone.
func Holds(p *corev1.Pod) bool {
	return p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed
}

func priority(p *corev1.Pod) int32 {
	if p.Spec.Priority == nil {
		return 0
	}
	return *p.Spec.Priority
}

func preemptionPolicy(p *corev1.Pod, names *constraints) berthv1.PreemptionPolicy {
	if p.Spec.PreemptionPolicy == nil {
		return berthv1.PreemptionPolicy_PREEMPTION_POLICY_UNSPECIFIED
	}
	switch *p.Spec.PreemptionPolicy {
	case corev1.PreemptLowerPriority:
		return berthv1.PreemptionPolicy_PREEMPTION_POLICY_PREEMPT_LOWER_PRIORITY
	case corev1.PreemptNever:
		return berthv1.PreemptionPolicy_PREEMPTION_POLICY_NEVER
	default:
		names.unknown("spec.preemptionPolicy")
		return berthv1.PreemptionPolicy_PREEMPTION_POLICY_UNSPECIFIED
	}
}

// conditions keeps type and status. The times, and the messages that some kubelets
// write amounts into, change with every heartbeat.
func conditions(in []corev1.NodeCondition) []*berthv1.NodeCondition {
	var out []*berthv1.NodeCondition
	for i := range in {
		out = append(out, &berthv1.NodeCondition{Type: string(in[i].Type), Status: conditionStatuses[in[i].Status]})
	}
	slices.SortStableFunc(out, func(a, b *berthv1.NodeCondition) int { return cmp.Compare(a.Type, b.Type) })
	return out
}

// conditionStatuses has UNSPECIFIED for a status that it does not know: no rule
// reads conditions, so nothing is placed wrongly by it.
var conditionStatuses = map[corev1.ConditionStatus]berthv1.ConditionStatus{
	corev1.ConditionTrue:    berthv1.ConditionStatus_CONDITION_STATUS_TRUE,
	corev1.ConditionFalse:   berthv1.ConditionStatus_CONDITION_STATUS_FALSE,
	corev1.ConditionUnknown: berthv1.ConditionStatus_CONDITION_STATUS_UNKNOWN,
}
