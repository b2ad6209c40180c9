// Package berthv1 is the contract between Berth's two processes, generated from
// the .proto files beside it, and the names of its constraints. It is the only
// thing that the processes share.
package berthv1

// Names of the constraints of Kubernetes' own rules, as they stand in
// Pod.constraints, Node.constraints and DescribeResponse.constraints: a
// kube-scheduler plugin's name, followed by "/" and the behaviour where the
// plugin has several. A name says that the object cannot be placed rightly
// without understanding it; it is never given to something that restricts no
// node.
const (
	// ConstraintNodeName: the pod names its only node.
	ConstraintNodeName = "NodeName"
	// ConstraintNodeUnschedulable: the node is cordoned.
	ConstraintNodeUnschedulable = "NodeUnschedulable"
	// ConstraintTaintToleration: the node has a NoSchedule or NoExecute taint.
	ConstraintTaintToleration = "TaintToleration"
	// ConstraintTolerationComparison: the pod has a toleration with Lt or Gt.
	ConstraintTolerationComparison = "TaintToleration/Comparison"
	// ConstraintNodeSelector: the pod has a nodeSelector.
	ConstraintNodeSelector = "NodeAffinity/NodeSelector"
	// ConstraintNodeAffinity: the pod has a required node affinity with In, NotIn,
	// Exists or DoesNotExist on labels.
	ConstraintNodeAffinity = "NodeAffinity/Required"
	// ConstraintNodeAffinityComparison: its required node affinity has Gt or Lt.
	ConstraintNodeAffinityComparison = "NodeAffinity/Comparison"
	// ConstraintNodeAffinityFields: its required node affinity has matchFields.
	ConstraintNodeAffinityFields = "NodeAffinity/MatchFields"
	// ConstraintNodePorts: the pod takes ports of the node.
	ConstraintNodePorts = "NodePorts"
	// ConstraintNodeResourcesFit: every pod has it, for it takes at least its place
	// among the node's pods.
	ConstraintNodeResourcesFit = "NodeResourcesFit"
	// ConstraintPodTopologySpread: the pod has a topology spread constraint with
	// DoNotSchedule.
	ConstraintPodTopologySpread = "PodTopologySpread"
	// ConstraintPodAffinity: the pod has a required affinity to pods.
	ConstraintPodAffinity = "InterPodAffinity/Affinity"
	// ConstraintPodAntiAffinity: the pod has a required anti-affinity to pods.
	ConstraintPodAntiAffinity = "InterPodAffinity/AntiAffinity"
	// ConstraintExistingAntiAffinity: a placed pod's required anti-affinity may
	// select the pod.
	ConstraintExistingAntiAffinity = "InterPodAffinity/ExistingAntiAffinity"
	// ConstraintVolumeClaims: the pod mounts a persistent volume claim, or a
	// generic ephemeral volume, which becomes one.
	ConstraintVolumeClaims = "VolumeBinding"
	// ConstraintVolumeRestrictions: the pod mounts a disk by name that only so many
	// pods or nodes may mount (GCE PD, AWS EBS, iSCSI, RBD), or that counts
	// against a node's limit of attached volumes (Azure disk, Cinder, vSphere).
	ConstraintVolumeRestrictions = "VolumeRestrictions"
	// ConstraintDynamicResources: the pod has resource claims.
	ConstraintDynamicResources = "DynamicResources"
	// ConstraintNodeDeclaredFeatures: the pod needs features that a node must
	// declare.
	ConstraintNodeDeclaredFeatures = "NodeDeclaredFeatures"
	// ConstraintGangScheduling: the pod belongs to a scheduling group.
	ConstraintGangScheduling = "GangScheduling"
)
