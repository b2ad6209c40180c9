// Package config is the configuration file that both processes read: a
// KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1), understood as
// kube-scheduler 1.36 understands it.
//
// Defaulting, validation and the order of plugins follow k8s.io/kubernetes
// v1.36.3, pkg/scheduler/apis/config/{v1,validation} and
// pkg/scheduler/framework/runtime. What kube-scheduler would do and Berth would
// not is refused by name, since to ignore it would misplace pods;
// docs/configuration.md lists the refusals.
package config

import (
	"time"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Configuration is a file that was read, defaulted and found valid.
type Configuration struct {
	// Profiles has at least one element. Their scheduler names are unique.
	Profiles []Profile
	// LeaderElection is what the file says about leader election.
	LeaderElection LeaderElection
	// ClientConnection is what the file says about the API server.
	ClientConnection ClientConnection
	// PodInitialBackoff is how long a pod that was rejected waits at first; more
	// than 0. It is 1 second where the file does not say.
	PodInitialBackoff time.Duration
	// PodMaxBackoff is how long it waits at most; at least PodInitialBackoff. It
	// is 10 seconds where the file does not say.
	PodMaxBackoff time.Duration
}

// SchedulerNames returns the names of the profiles, in the order of the file.
func (c *Configuration) SchedulerNames() []string {
	names := make([]string, len(c.Profiles))
	for i := range c.Profiles {
		names[i] = c.Profiles[i].SchedulerName
	}
	return names
}

// LeaderElection is the part of the file about leader election. The zero value of
// a field means that the file does not say: kube-scheduler's defaults are left
// out, so that whoever reads the file can have defaults of its own.
type LeaderElection struct {
	// LeaderElect says whether to schedule only while holding the Lease. Nil
	// means that the file does not say.
	LeaderElect *bool
	// ResourceNamespace and ResourceName name the Lease.
	ResourceNamespace, ResourceName string
	// LeaseDuration is how long others wait for a leader that does not renew.
	LeaseDuration time.Duration
	// RenewDeadline is how long a leader tries to renew before it gives up.
	RenewDeadline time.Duration
	// RetryPeriod is the time between two tries.
	RetryPeriod time.Duration
}

// ClientConnection is the part of the file about the API server. The zero value
// of a field means that the file does not say, as in LeaderElection.
type ClientConnection struct {
	// Kubeconfig is a file.
	Kubeconfig string
	// QPS is requests per second. A negative one means no limit.
	QPS float32
	// Burst is requests at once; not negative.
	Burst int32
}

// Profile is how the pods of one scheduler name are scheduled.
type Profile struct {
	// SchedulerName is the pods' spec.schedulerName. Not empty.
	SchedulerName string
	// Filters are the plugins that are enabled as filters, in the order in which
	// kube-scheduler asks them: the first that rejects a node says why. Those
	// about volumes and dynamic resources are among them.
	Filters []string
	// Scores are the plugins that are enabled as scores, in kube-scheduler's
	// order.
	Scores []Score
	// Preempt says whether DefaultPreemption is enabled after the filters.
	Preempt bool
	// Args are the plugins' arguments, of all that take any, enabled or not.
	Args Args
}

// Score is a plugin that is enabled as a score.
type Score struct {
	// Name is the plugin's.
	Name string
	// Weight is what the plugin's score is multiplied by; at least 1.
	Weight int64
}

// Args are the plugins' arguments, defaulted and valid.
type Args struct {
	NodeAffinity                    NodeAffinityArgs
	NodeResourcesFit                NodeResourcesFitArgs
	NodeResourcesBalancedAllocation NodeResourcesBalancedAllocationArgs
	PodTopologySpread               PodTopologySpreadArgs
	InterPodAffinity                InterPodAffinityArgs
	DefaultPreemption               DefaultPreemptionArgs
	NodeSignals                     NodeSignalsArgs
}

// NodeAffinityArgs are the arguments of NodeAffinity.
type NodeAffinityArgs struct {
	// AddedAffinity is required and preferred besides what each pod asks for.
	// Nil means nothing.
	AddedAffinity *berthv1.NodeAffinity
}

// NodeResourcesFitArgs are the arguments of NodeResourcesFit.
type NodeResourcesFitArgs struct {
	// IgnoredResources are the names of extended resources that the filter
	// passes over.
	IgnoredResources []string
	// IgnoredResourceGroups are what stands before the "/" in the names of
	// further ones.
	IgnoredResourceGroups []string
	// Strategy is how the score likes nodes.
	Strategy ScoringStrategy
}

// ScoringStrategyType is one of three ways to like nodes.
type ScoringStrategyType string

const (
	// LeastAllocated likes nodes of which little is taken.
	LeastAllocated ScoringStrategyType = "LeastAllocated"
	// MostAllocated likes nodes of which much is taken.
	MostAllocated ScoringStrategyType = "MostAllocated"
	// RequestedToCapacityRatio likes nodes as Shape says.
	RequestedToCapacityRatio ScoringStrategyType = "RequestedToCapacityRatio"
)

// ScoringStrategy is how NodeResourcesFit likes nodes.
type ScoringStrategy struct {
	// Type is one of the three.
	Type ScoringStrategyType
	// Resources are what is looked at; at least one.
	Resources []Resource
	// Shape is the function from utilization to score, by utilization; at least
	// one point with RequestedToCapacityRatio, else none.
	Shape []Point
}

// Resource is a resource that a score looks at.
type Resource struct {
	// Name is the resource's, such as "cpu".
	Name string
	// Weight is 1 to 100.
	Weight int64
}

// Point is a point of a function from utilization to score.
type Point struct {
	// Utilization is 0 to 100 percent.
	Utilization int64
	// Score is 0 to 10, as in the file: a tenth of what a score is.
	Score int64
}

// NodeResourcesBalancedAllocationArgs are the arguments of
// NodeResourcesBalancedAllocation.
type NodeResourcesBalancedAllocationArgs struct {
	// Resources are what is looked at; names are unique and weights 1.
	Resources []Resource
}

// PodTopologySpreadArgs are the arguments of PodTopologySpread.
type PodTopologySpreadArgs struct {
	// DefaultConstraints are for pods that have none of their own. They have no
	// label selector: it is Pod.spread_selector.
	DefaultConstraints []*berthv1.TopologySpreadConstraint
	// SystemDefaulted says that they are Kubernetes' own (defaultingType
	// System), for which nodes without one of the topology keys count too.
	SystemDefaulted bool
}

// InterPodAffinityArgs are the arguments of InterPodAffinity.
type InterPodAffinityArgs struct {
	// HardPodAffinityWeight is what a placed pod's required affinity to the pod
	// weighs in the score; 0 to 100.
	HardPodAffinityWeight int64
	// IgnorePreferredTermsOfExistingPods leaves what placed pods prefer out of
	// the score of pods that have no affinity of their own.
	IgnorePreferredTermsOfExistingPods bool
}

// DefaultPreemptionArgs are the arguments of DefaultPreemption. Not both are 0.
type DefaultPreemptionArgs struct {
	// MinCandidateNodesPercentage is how many of the nodes are candidates at
	// least; 0 to 100.
	MinCandidateNodesPercentage int32
	// MinCandidateNodesAbsolute is how many are candidates at least.
	MinCandidateNodesAbsolute int32
}

// NodeSignalsArgs are the arguments of NodeSignals, Berth's own score.
type NodeSignalsArgs struct {
	// Signals are what is looked at; names are unique. At least one where the
	// plugin is enabled.
	Signals []Signal
}

// Signal is a number about nodes, Node.signals in the contract, that a score looks
// at.
type Signal struct {
	// Name is its name.
	Name string
	// Weight is 1 to 100.
	Weight int64
	// Better says which values are liked.
	Better Better
}

// Better says which values of a signal are liked.
type Better string

const (
	// Higher values are liked.
	Higher Better = "Higher"
	// Lower values are liked.
	Lower Better = "Lower"
)
