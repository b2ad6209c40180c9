// Package convert writes the contract's messages as Kubernetes objects that
// kube-scheduler's plugins judge as the messages say.
//
// The contract carries sums where Kubernetes has containers, so that the objects
// are not those that the messages were made from: they only give every plugin the
// same amounts. What a placed pod takes goes beside its object, see
// oracle.Cluster.Sums.
package convert

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/nodedeclaredfeatures/features/restartallcontainers"
	"k8s.io/component-helpers/nodedeclaredfeatures/features/usernamespaceshostnetwork"
	resourcehelper "k8s.io/component-helpers/resource"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	"github.com/berth-scheduler/berth/decider/upstream/oracle"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Constraints are the names of what the objects express, sorted: those of Berth's
// default policy.
func Constraints() []string {
	return slices.Sorted(slices.Values([]string{
		berthv1.ConstraintNodeName,
		berthv1.ConstraintNodeUnschedulable,
		berthv1.ConstraintTaintToleration,
		berthv1.ConstraintNodeSelector,
		berthv1.ConstraintNodeAffinity,
		berthv1.ConstraintNodeAffinityComparison,
		berthv1.ConstraintNodeAffinityFields,
		berthv1.ConstraintNodePorts,
		berthv1.ConstraintNodeResourcesFit,
		berthv1.ConstraintPodTopologySpread,
		berthv1.ConstraintPodAffinity,
		berthv1.ConstraintPodAntiAffinity,
		berthv1.ConstraintExistingAntiAffinity,
		berthv1.ConstraintNodeDeclaredFeatures,
	}))
}

// Cluster is the snapshot as objects, and with it the owners of pods that will be
// decided on it. Placed pods come in the order of their uids.
func Cluster(s *berthv1.Snapshot, pods []*berthv1.Pod) *oracle.Cluster {
	c := &oracle.Cluster{Sums: map[types.UID]fwk.PodResource{}}
	for _, n := range s.GetNodes() {
		c.Nodes = append(c.Nodes, Node(n))
	}
	for _, p := range s.GetPlacedPods() {
		c.Pods = append(c.Pods, PlacedPod(p))
		c.Sums[types.UID(p.GetUid())] = Sums(p.GetRequests(), p.GetScoreRequests())
	}
	slices.SortStableFunc(c.Pods, func(a, b *corev1.Pod) int { return compare(a.UID, b.UID) })
	for _, n := range s.GetNamespaces() {
		c.Namespaces = append(c.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.GetName(), Labels: n.GetLabels()}})
	}
	for _, b := range s.GetDisruptionBudgets() {
		c.DisruptionBudgets = append(c.DisruptionBudgets, disruptionBudget(b))
	}
	for _, p := range pods {
		if p.GetSpreadSelector() != nil {
			c.ReplicaSets = append(c.ReplicaSets, owner(p))
		}
	}
	return c
}

func compare(a, b types.UID) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Node is the node as an object.
func Node(n *berthv1.Node) *corev1.Node {
	out := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.GetName(), UID: types.UID(n.GetUid()), Labels: n.GetLabels()},
		Spec:       corev1.NodeSpec{Unschedulable: n.GetUnschedulable()},
		Status: corev1.NodeStatus{
			Allocatable:      quantities(n.GetAllocatable()),
			DeclaredFeatures: slices.Sorted(slices.Values(n.GetDeclaredFeatures())),
		},
	}
	for _, t := range n.GetTaints() {
		out.Spec.Taints = append(out.Spec.Taints, corev1.Taint{Key: t.GetKey(), Value: t.GetValue(), Effect: effects[t.GetEffect()]})
	}
	for _, name := range slices.Sorted(maps.Keys(n.GetImages())) {
		out.Status.Images = append(out.Status.Images, corev1.ContainerImage{Names: []string{name}, SizeBytes: n.GetImages()[name]})
	}
	return out
}

var effects = map[berthv1.TaintEffect]corev1.TaintEffect{
	berthv1.TaintEffect_TAINT_EFFECT_NO_SCHEDULE:        corev1.TaintEffectNoSchedule,
	berthv1.TaintEffect_TAINT_EFFECT_PREFER_NO_SCHEDULE: corev1.TaintEffectPreferNoSchedule,
	berthv1.TaintEffect_TAINT_EFFECT_NO_EXECUTE:         corev1.TaintEffectNoExecute,
}

// Pod is the pod to be decided as an object. Its score requests count where they
// are of cpu, memory and huge pages; other resources are scored by its requests, as
// kube-scheduler does. An error names a feature that no pod needs of a node.
func Pod(p *berthv1.Pod) (*corev1.Pod, error) {
	out := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.GetNamespace(), Name: p.GetName(), UID: types.UID(p.GetUid()), Labels: p.GetLabels(),
		},
		Spec: corev1.PodSpec{
			SchedulerName: p.GetSchedulerName(),
			NodeName:      p.GetNodeName(),
			NodeSelector:  p.GetNodeSelector(),
			Affinity:      affinity(p.GetNodeAffinity(), p.GetPodAffinity(), p.GetPodAntiAffinity()),
			Priority:      &p.Priority,
			Resources:     &corev1.ResourceRequirements{Requests: podLevel(p.GetRequests())},
			Containers:    containers(p),
		},
		Status: corev1.PodStatus{NominatedNodeName: p.GetNominatedNodeName()},
	}
	switch p.GetPreemptionPolicy() {
	case berthv1.PreemptionPolicy_PREEMPTION_POLICY_NEVER:
		never := corev1.PreemptNever
		out.Spec.PreemptionPolicy = &never
	case berthv1.PreemptionPolicy_PREEMPTION_POLICY_PREEMPT_LOWER_PRIORITY:
		lower := corev1.PreemptLowerPriority
		out.Spec.PreemptionPolicy = &lower
	}
	for _, t := range p.GetTolerations() {
		out.Spec.Tolerations = append(out.Spec.Tolerations, corev1.Toleration{
			Key: t.GetKey(), Operator: tolerationOperators[t.GetOperator()], Value: t.GetValue(), Effect: effects[t.GetEffect()],
		})
	}
	for _, c := range p.GetTopologySpreadConstraints() {
		out.Spec.TopologySpreadConstraints = append(out.Spec.TopologySpreadConstraints, spreadConstraint(c))
	}
	for i, image := range p.GetVolumeImages() {
		out.Spec.Volumes = append(out.Spec.Volumes, corev1.Volume{
			Name: fmt.Sprint("image-", i), VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: image}},
		})
	}
	if p.GetSpreadSelector() != nil {
		out.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(owner(p), appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))}
	}
	for i, feature := range p.GetRequiredFeatures() {
		require, ok := features[feature]
		if !ok {
			return nil, fmt.Errorf("required_features[%d]: %q is not a feature that Kubernetes 1.36 knows pods to need", i, feature)
		}
		require(&out.Spec)
	}
	return out, nil
}

var tolerationOperators = map[berthv1.TolerationOperator]corev1.TolerationOperator{
	berthv1.TolerationOperator_TOLERATION_OPERATOR_EQUAL:  corev1.TolerationOpEqual,
	berthv1.TolerationOperator_TOLERATION_OPERATOR_EXISTS: corev1.TolerationOpExists,
}

// features make a pod need what a node has to declare. Pods are not told which
// features they need: kube-scheduler derives that from their spec.
var features = map[string]func(*corev1.PodSpec){
	restartallcontainers.RestartAllContainersOnContainerExits: func(spec *corev1.PodSpec) {
		spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestartAllContainers}}
	},
	usernamespaceshostnetwork.UserNamespacesHostNetworkSupport: func(spec *corev1.PodSpec) {
		own := false
		spec.HostNetwork, spec.HostUsers = true, &own
	},
}

// containers is one container per image, and one at least. The first asks for all
// that the pod asks for, as scores count it; none is left without a request for
// which scores have a default.
func containers(p *berthv1.Pod) []corev1.Container {
	out := make([]corev1.Container, max(1, len(p.GetImages())))
	for i := range out {
		out[i].Name = fmt.Sprint("container-", i)
		out[i].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.Quantity{}, corev1.ResourceMemory: resource.Quantity{}}
		if i < len(p.GetImages()) {
			out[i].Image = p.GetImages()[i]
		}
	}
	for name, quantity := range quantities(p.GetRequests()) {
		if !resourcehelper.IsSupportedPodLevelResource(name) {
			out[0].Resources.Requests[name] = quantity
		}
	}
	for name, quantity := range quantities(p.GetScoreRequests()) {
		if resourcehelper.IsSupportedPodLevelResource(name) {
			out[0].Resources.Requests[name] = quantity
		}
	}
	out[0].Ports = ports(p.GetHostPorts())
	return out
}

// podLevel is what the pod as a whole asks for: all that the filter counts of what a
// pod can ask for as a whole. Scores of the pod that is decided do not read it.
func podLevel(requests map[string]int64) corev1.ResourceList {
	out := corev1.ResourceList{corev1.ResourceCPU: resource.Quantity{}, corev1.ResourceMemory: resource.Quantity{}}
	for name, quantity := range quantities(requests) {
		if resourcehelper.IsSupportedPodLevelResource(name) {
			out[name] = quantity
		}
	}
	return out
}

// owner is the ReplicaSet that makes the profile's default spread constraints count
// the pods of the spread selector.
func owner(p *berthv1.Pod) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.GetNamespace(), Name: "owner-of-" + p.GetUid()},
		Spec:       appsv1.ReplicaSetSpec{Selector: labelSelector(p.GetSpreadSelector())},
	}
}

// Placed is a pod that was decided, on the node it was given.
func Placed(p *corev1.Pod, nodeName string) *corev1.Pod {
	out := p.DeepCopy()
	out.Spec.NodeName = nodeName
	out.Status.NominatedNodeName = ""
	return out
}

// Nominated is a pod that was decided, with room set aside for it on a node.
func Nominated(p *corev1.Pod, nodeName string) *corev1.Pod {
	out := p.DeepCopy()
	out.Spec.NodeName = ""
	out.Status.NominatedNodeName = nodeName
	return out
}

// Preempted is a pod that was evicted to make room and is terminating.
func Preempted(p *corev1.Pod) *corev1.Pod {
	out := p.DeepCopy()
	preempted(out)
	return out
}

func preempted(p *corev1.Pod) {
	p.DeletionTimestamp = &terminating
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler,
	})
}

var (
	// terminating is when pods that are terminating were deleted. Nobody reads it.
	terminating = metav1.Time{Time: time.Unix(0, 0)}
	// notStarted is when a pod that has not started will start. kube-scheduler takes
	// the present for it, by which no two looks agree; later than every other is
	// what comes of it.
	notStarted = metav1.Time{Time: time.Unix(0, math.MaxInt64)}
)

// PlacedPod is the placed or nominated pod as an object. What it takes is not in it,
// see Sums.
func PlacedPod(p *berthv1.PlacedPod) *corev1.Pod {
	out := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.GetNamespace(), Name: p.GetName(), UID: types.UID(p.GetUid()), Labels: p.GetLabels(),
		},
		Spec: corev1.PodSpec{
			Affinity:   affinity(nil, p.GetPodAffinity(), p.GetPodAntiAffinity()),
			Priority:   &p.Priority,
			Containers: []corev1.Container{{Name: "container-0", Ports: ports(p.GetHostPorts())}},
		},
		Status: corev1.PodStatus{StartTime: &notStarted},
	}
	if p.GetNominated() {
		out.Status.NominatedNodeName = p.GetNodeName()
	} else {
		out.Spec.NodeName = p.GetNodeName()
	}
	if nanos := p.GetStartTimeNanos(); nanos != 0 {
		out.Status.StartTime = &metav1.Time{Time: time.Unix(0, nanos)}
	}
	switch {
	case p.GetPreempted():
		preempted(out)
	case p.GetTerminating():
		out.DeletionTimestamp = &terminating
	}
	return out
}

// Sums is what a pod is counted with on its node.
func Sums(requests, scoreRequests map[string]int64) fwk.PodResource {
	sums := &framework.Resource{}
	sums.Add(quantities(requests))
	return fwk.PodResource{Resource: sums, Non0CPU: scoreRequests[string(corev1.ResourceCPU)], Non0Mem: scoreRequests[string(corev1.ResourceMemory)]}
}

// quantities are amounts in the contract's units.
func quantities(amounts map[string]int64) corev1.ResourceList {
	out := make(corev1.ResourceList, len(amounts))
	for name, amount := range amounts {
		if name == string(corev1.ResourceCPU) {
			out[corev1.ResourceCPU] = *resource.NewMilliQuantity(amount, resource.DecimalSI)
			continue
		}
		out[corev1.ResourceName(name)] = *resource.NewQuantity(amount, resource.DecimalSI)
	}
	return out
}

func ports(records []*berthv1.HostPort) []corev1.ContainerPort {
	var out []corev1.ContainerPort
	for _, p := range records {
		out = append(out, corev1.ContainerPort{HostPort: p.GetPort(), HostIP: p.GetIp(), Protocol: corev1.Protocol(p.GetProtocol())})
	}
	return out
}

func disruptionBudget(b *berthv1.DisruptionBudget) *policyv1.PodDisruptionBudget {
	out := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.GetNamespace(), Name: b.GetName()},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: labelSelector(b.GetSelector())},
		Status: policyv1.PodDisruptionBudgetStatus{
			DisruptionsAllowed: b.GetDisruptionsAllowed(), DisruptedPods: map[string]metav1.Time{},
		},
	}
	for _, name := range b.GetDisruptedPods() {
		out.Status.DisruptedPods[name] = terminating
	}
	return out
}
