package config

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	schedulerv1 "k8s.io/kube-scheduler/config/v1"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// nodeSignalsArgs is NodeSignalsArgs as it is written in the file.
type nodeSignalsArgs struct {
	metav1.TypeMeta `json:",inline"`
	Signals         []struct {
		Name   string `json:"name"`
		Weight int64  `json:"weight"`
		Better Better `json:"better"`
	} `json:"signals"`
}

// readers read the arguments of each plugin that takes any. An empty document
// gives the defaults.
var readers = map[string]func(*field.Path, []byte, *Args, *complaints){
	"DefaultPreemption": reader(func(path *field.Path, in *schedulerv1.DefaultPreemptionArgs, out *Args, c *complaints) {
		out.DefaultPreemption = readDefaultPreemption(path, in, c)
	}),
	"DynamicResources": reader(func(path *field.Path, in *schedulerv1.DynamicResourcesArgs, _ *Args, c *complaints) {
		checkDynamicResources(path, in, c)
	}),
	"InterPodAffinity": reader(func(path *field.Path, in *schedulerv1.InterPodAffinityArgs, out *Args, c *complaints) {
		out.InterPodAffinity = readInterPodAffinity(path, in, c)
	}),
	"NodeAffinity": reader(func(path *field.Path, in *schedulerv1.NodeAffinityArgs, out *Args, c *complaints) {
		out.NodeAffinity.AddedAffinity = readAddedAffinity(path.Child("addedAffinity"), in.AddedAffinity, c)
	}),
	"NodeResourcesBalancedAllocation": reader(func(path *field.Path, in *schedulerv1.NodeResourcesBalancedAllocationArgs, out *Args, c *complaints) {
		out.NodeResourcesBalancedAllocation = readBalancedAllocation(path, in, c)
	}),
	"NodeResourcesFit": reader(func(path *field.Path, in *schedulerv1.NodeResourcesFitArgs, out *Args, c *complaints) {
		out.NodeResourcesFit = readNodeResourcesFit(path, in, c)
	}),
	nodeSignals: reader(func(path *field.Path, in *nodeSignalsArgs, out *Args, c *complaints) {
		out.NodeSignals = readNodeSignals(path, in, c)
	}),
	"PodTopologySpread": reader(func(path *field.Path, in *schedulerv1.PodTopologySpreadArgs, out *Args, c *complaints) {
		out.PodTopologySpread = readPodTopologySpread(path, in, c)
	}),
	"VolumeBinding": reader(func(path *field.Path, in *schedulerv1.VolumeBindingArgs, _ *Args, c *complaints) {
		checkVolumeBinding(path, in, c)
	}),
}

// reader returns a function that decodes arguments before it reads them.
func reader[T any](read func(*field.Path, *T, *Args, *complaints)) func(*field.Path, []byte, *Args, *complaints) {
	return func(path *field.Path, data []byte, out *Args, c *complaints) {
		in := new(T)
		if len(data) == 0 || decode(path, data, in, c) {
			read(path, in, out, c)
		}
	}
}

// readPluginConfig reads the arguments of all plugins; those that the file does
// not give are defaults.
func readPluginConfig(path *field.Path, configs []schedulerv1.PluginConfig, c *complaints) Args {
	var args Args
	given := map[string]bool{}
	for i, config := range configs {
		path := path.Index(i)
		read := readers[config.Name]
		switch {
		case given[config.Name]:
			c.add(field.Duplicate(path, config.Name))
		case read != nil:
			path = path.Child("args")
			if len(config.Args.Raw) == 0 || checkKind(path, config.Args.Raw, config.Name+"Args", false, c) {
				read(path, config.Args.Raw, &args, c)
			}
		case extends[config.Name] != nil:
			c.add(field.Invalid(path.Child("name"), config.Name, "the plugin takes no arguments: remove it"))
		case absent[config.Name] != "":
			c.add(field.Invalid(path.Child("name"), config.Name, absent[config.Name]))
		default:
			c.add(field.Invalid(path.Child("name"), config.Name, "there is no such plugin: correct the name or remove it"))
		}
		given[config.Name] = true
	}
	for name, read := range readers {
		if !given[name] {
			// Defaults are valid.
			read(nil, nil, &args, c)
		}
	}
	return args
}

func readDefaultPreemption(path *field.Path, in *schedulerv1.DefaultPreemptionArgs, c *complaints) DefaultPreemptionArgs {
	out := DefaultPreemptionArgs{
		MinCandidateNodesPercentage: valueOr(in.MinCandidateNodesPercentage, 10),
		MinCandidateNodesAbsolute:   valueOr(in.MinCandidateNodesAbsolute, 100),
	}
	percentage, absolute := path.Child("minCandidateNodesPercentage"), path.Child("minCandidateNodesAbsolute")
	checkRange(percentage, int64(out.MinCandidateNodesPercentage), 0, 100, c)
	if out.MinCandidateNodesAbsolute < 0 {
		c.add(field.Invalid(absolute, out.MinCandidateNodesAbsolute, "must not be negative"))
	}
	if out == (DefaultPreemptionArgs{}) {
		c.add(field.Invalid(percentage, 0, "cannot be 0 at the same time as minCandidateNodesAbsolute"))
	}
	return out
}

func readInterPodAffinity(path *field.Path, in *schedulerv1.InterPodAffinityArgs, c *complaints) InterPodAffinityArgs {
	out := InterPodAffinityArgs{
		HardPodAffinityWeight:              int64(valueOr(in.HardPodAffinityWeight, 1)),
		IgnorePreferredTermsOfExistingPods: in.IgnorePreferredTermsOfExistingPods,
	}
	checkRange(path.Child("hardPodAffinityWeight"), out.HardPodAffinityWeight, 0, 100, c)
	return out
}

// defaultResources are what scores look at where the file does not say.
var defaultResources = []schedulerv1.ResourceSpec{{Name: "cpu", Weight: 1}, {Name: "memory", Weight: 1}}

// readResources reads what a score looks at.
func readResources(path *field.Path, in []schedulerv1.ResourceSpec, c *complaints) []Resource {
	if len(in) == 0 {
		in = defaultResources
	}
	out := make([]Resource, len(in))
	for i, r := range in {
		out[i] = Resource{Name: r.Name, Weight: r.Weight}
		if r.Weight == 0 {
			out[i].Weight = 1
		}
		checkRange(path.Index(i).Child("weight"), out[i].Weight, 1, 100, c)
	}
	return out
}

func readBalancedAllocation(path *field.Path, in *schedulerv1.NodeResourcesBalancedAllocationArgs, c *complaints) NodeResourcesBalancedAllocationArgs {
	path = path.Child("resources")
	out := NodeResourcesBalancedAllocationArgs{Resources: readResources(path, in.Resources, c)}
	seen := map[string]bool{}
	for i, r := range out.Resources {
		if seen[r.Name] {
			c.add(field.Duplicate(path.Index(i).Child("name"), r.Name))
		}
		seen[r.Name] = true
		if 1 < r.Weight && r.Weight <= 100 {
			c.add(field.Invalid(path.Index(i).Child("weight"), r.Weight, "must be 1"))
		}
	}
	return out
}

func readNodeResourcesFit(path *field.Path, in *schedulerv1.NodeResourcesFitArgs, c *complaints) NodeResourcesFitArgs {
	out := NodeResourcesFitArgs{IgnoredResources: in.IgnoredResources, IgnoredResourceGroups: in.IgnoredResourceGroups}
	for i, name := range in.IgnoredResources {
		c.addList(metav1validation.ValidateLabelName(name, path.Child("ignoredResources").Index(i)))
	}
	for i, group := range in.IgnoredResourceGroups {
		path := path.Child("ignoredResourceGroups").Index(i)
		if strings.Contains(group, "/") {
			c.add(field.Invalid(path, group, "must not contain '/'"))
		} else {
			c.addList(metav1validation.ValidateLabelName(group, path))
		}
	}
	strategy := in.ScoringStrategy
	if strategy == nil {
		strategy = &schedulerv1.ScoringStrategy{Type: schedulerv1.LeastAllocated}
	}
	path = path.Child("scoringStrategy")
	out.Strategy = ScoringStrategy{
		Type:      ScoringStrategyType(strategy.Type),
		Resources: readResources(path.Child("resources"), strategy.Resources, c),
	}
	ratio := path.Child("requestedToCapacityRatio")
	switch out.Strategy.Type {
	case LeastAllocated, MostAllocated:
		if strategy.RequestedToCapacityRatio != nil {
			c.add(field.Forbidden(ratio, "must be absent when type is not RequestedToCapacityRatio"))
		}
	case RequestedToCapacityRatio:
		if strategy.RequestedToCapacityRatio == nil {
			c.add(field.Required(ratio, "must be given when type is RequestedToCapacityRatio"))
		} else {
			out.Strategy.Shape = readShape(ratio.Child("shape"), strategy.RequestedToCapacityRatio.Shape, c)
		}
	default:
		c.add(field.NotSupported(path.Child("type"), out.Strategy.Type, []ScoringStrategyType{LeastAllocated, MostAllocated, RequestedToCapacityRatio}))
	}
	return out
}

func readShape(path *field.Path, in []schedulerv1.UtilizationShapePoint, c *complaints) []Point {
	if len(in) == 0 {
		c.add(field.Required(path, "at least one point must be given"))
	}
	out := make([]Point, len(in))
	for i, p := range in {
		out[i] = Point{Utilization: int64(p.Utilization), Score: int64(p.Score)}
		checkRange(path.Index(i).Child("utilization"), out[i].Utilization, 0, 100, c)
		checkRange(path.Index(i).Child("score"), out[i].Score, 0, 10, c)
		if i > 0 && out[i-1].Utilization >= out[i].Utilization {
			c.add(field.Invalid(path.Index(i).Child("utilization"), p.Utilization, "must be more than that of the point before it"))
		}
	}
	return out
}

// systemConstraints are Kubernetes' own default constraints.
var systemConstraints = []corev1.TopologySpreadConstraint{
	{MaxSkew: 3, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway},
	{MaxSkew: 5, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.ScheduleAnyway},
}

func readPodTopologySpread(path *field.Path, in *schedulerv1.PodTopologySpreadArgs, c *complaints) PodTopologySpreadArgs {
	constraints, defaulting := in.DefaultConstraints, in.DefaultingType
	switch defaulting {
	case "", schedulerv1.SystemDefaulting:
		if len(constraints) > 0 {
			c.add(field.Invalid(path.Child("defaultingType"), schedulerv1.SystemDefaulting, "must be List where there are defaultConstraints"))
		} else {
			constraints = systemConstraints
		}
		defaulting = schedulerv1.SystemDefaulting
	case schedulerv1.ListDefaulting:
	default:
		c.add(field.NotSupported(path.Child("defaultingType"), defaulting, []schedulerv1.PodTopologySpreadConstraintsDefaulting{schedulerv1.SystemDefaulting, schedulerv1.ListDefaulting}))
	}
	out := PodTopologySpreadArgs{SystemDefaulted: defaulting == schedulerv1.SystemDefaulting}
	type key struct {
		topologyKey string
		action      corev1.UnsatisfiableConstraintAction
	}
	seen := map[key]bool{}
	for i := range constraints {
		path := path.Child("defaultConstraints").Index(i)
		out.DefaultConstraints = append(out.DefaultConstraints, readConstraint(path, &constraints[i], c))
		k := key{constraints[i].TopologyKey, constraints[i].WhenUnsatisfiable}
		if seen[k] {
			c.add(field.Duplicate(path, fmt.Sprintf("{%s, %s}", k.topologyKey, k.action)))
		}
		seen[k] = true
	}
	return out
}

// readConstraint reads a default spread constraint.
func readConstraint(path *field.Path, in *corev1.TopologySpreadConstraint, c *complaints) *berthv1.TopologySpreadConstraint {
	if in.MaxSkew <= 0 {
		c.add(field.Invalid(path.Child("maxSkew"), in.MaxSkew, "must be more than 0"))
	}
	if in.TopologyKey == "" {
		c.add(field.Required(path.Child("topologyKey"), "must not be empty"))
	} else {
		c.addList(metav1validation.ValidateLabelName(in.TopologyKey, path.Child("topologyKey")))
	}
	if in.LabelSelector != nil {
		c.add(field.Forbidden(path.Child("labelSelector"), "must be absent: it follows from each pod's Services and owner"))
	}
	if in.MinDomains != nil && *in.MinDomains < 1 {
		c.add(field.Invalid(path.Child("minDomains"), *in.MinDomains, "must be more than 0"))
	}
	return &berthv1.TopologySpreadConstraint{
		MaxSkew:            in.MaxSkew,
		TopologyKey:        in.TopologyKey,
		WhenUnsatisfiable:  readAction(path.Child("whenUnsatisfiable"), in.WhenUnsatisfiable, c),
		MinDomains:         valueOr(in.MinDomains, 0),
		NodeAffinityPolicy: readPolicy(path.Child("nodeAffinityPolicy"), in.NodeAffinityPolicy, c),
		NodeTaintsPolicy:   readPolicy(path.Child("nodeTaintsPolicy"), in.NodeTaintsPolicy, c),
		MatchLabelKeys:     in.MatchLabelKeys,
	}
}

func readAction(path *field.Path, in corev1.UnsatisfiableConstraintAction, c *complaints) berthv1.UnsatisfiableAction {
	switch in {
	case corev1.DoNotSchedule:
		return berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_DO_NOT_SCHEDULE
	case corev1.ScheduleAnyway:
		return berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_SCHEDULE_ANYWAY
	case "":
		c.add(field.Required(path, "must not be empty"))
	default:
		c.add(field.NotSupported(path, in, []corev1.UnsatisfiableConstraintAction{corev1.DoNotSchedule, corev1.ScheduleAnyway}))
	}
	return berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_UNSPECIFIED
}

func readPolicy(path *field.Path, in *corev1.NodeInclusionPolicy, c *complaints) berthv1.NodeInclusionPolicy {
	if in == nil {
		return berthv1.NodeInclusionPolicy_NODE_INCLUSION_POLICY_UNSPECIFIED
	}
	switch *in {
	case corev1.NodeInclusionPolicyIgnore:
		return berthv1.NodeInclusionPolicy_NODE_INCLUSION_POLICY_IGNORE
	case corev1.NodeInclusionPolicyHonor:
		return berthv1.NodeInclusionPolicy_NODE_INCLUSION_POLICY_HONOR
	}
	c.add(field.NotSupported(path, *in, []corev1.NodeInclusionPolicy{corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore}))
	return berthv1.NodeInclusionPolicy_NODE_INCLUSION_POLICY_UNSPECIFIED
}

// readAddedAffinity reads what is required and preferred of nodes for every pod.
func readAddedAffinity(path *field.Path, in *corev1.NodeAffinity, c *complaints) *berthv1.NodeAffinity {
	if in == nil {
		return nil
	}
	out := &berthv1.NodeAffinity{}
	if required := in.RequiredDuringSchedulingIgnoredDuringExecution; required != nil {
		path := path.Child("requiredDuringSchedulingIgnoredDuringExecution")
		_, err := nodeaffinity.NewNodeSelector(required, field.WithPath(path))
		c.addAll(err)
		out.Required = &berthv1.NodeSelector{}
		for i := range required.NodeSelectorTerms {
			term := readTerm(path.Child("nodeSelectorTerms").Index(i), &required.NodeSelectorTerms[i], c)
			out.Required.Terms = append(out.Required.Terms, term)
		}
	}
	if preferred := in.PreferredDuringSchedulingIgnoredDuringExecution; len(preferred) > 0 {
		path := path.Child("preferredDuringSchedulingIgnoredDuringExecution")
		_, err := nodeaffinity.NewPreferredSchedulingTerms(preferred, field.WithPath(path))
		c.addAll(err)
		for i := range preferred {
			if preferred[i].Weight == 0 {
				continue
			}
			checkRange(path.Index(i).Child("weight"), int64(preferred[i].Weight), 1, 100, c)
			out.Preferred = append(out.Preferred, &berthv1.PreferredNodeTerm{
				Weight: preferred[i].Weight,
				Term:   readTerm(path.Index(i).Child("preference"), &preferred[i].Preference, c),
			})
		}
	}
	return out
}

func readTerm(path *field.Path, in *corev1.NodeSelectorTerm, c *complaints) *berthv1.NodeSelectorTerm {
	out := &berthv1.NodeSelectorTerm{}
	for i := range in.MatchExpressions {
		out.MatchExpressions = append(out.MatchExpressions, readRequirement(&in.MatchExpressions[i]))
	}
	for i := range in.MatchFields {
		if key := in.MatchFields[i].Key; key != metav1.ObjectNameField {
			c.add(field.NotSupported(path.Child("matchFields").Index(i).Child("key"), key, []string{metav1.ObjectNameField}))
		}
		out.MatchFields = append(out.MatchFields, readRequirement(&in.MatchFields[i]))
	}
	return out
}

// operators are those of the contract. What is not among them was complained about
// when the selector was compiled.
var operators = map[corev1.NodeSelectorOperator]berthv1.NodeSelectorOperator{
	corev1.NodeSelectorOpIn:           berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_IN,
	corev1.NodeSelectorOpNotIn:        berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_NOT_IN,
	corev1.NodeSelectorOpExists:       berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_EXISTS,
	corev1.NodeSelectorOpDoesNotExist: berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_DOES_NOT_EXIST,
	corev1.NodeSelectorOpGt:           berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_GT,
	corev1.NodeSelectorOpLt:           berthv1.NodeSelectorOperator_NODE_SELECTOR_OPERATOR_LT,
}

func readRequirement(in *corev1.NodeSelectorRequirement) *berthv1.NodeSelectorRequirement {
	return &berthv1.NodeSelectorRequirement{Key: in.Key, Operator: operators[in.Operator], Values: in.Values}
}

func readNodeSignals(path *field.Path, in *nodeSignalsArgs, c *complaints) NodeSignalsArgs {
	path = path.Child("signals")
	var out NodeSignalsArgs
	seen := map[string]bool{}
	for i, s := range in.Signals {
		path := path.Index(i)
		for _, message := range validation.IsQualifiedName(s.Name) {
			c.add(field.Invalid(path.Child("name"), s.Name, message))
		}
		if seen[s.Name] {
			c.add(field.Duplicate(path.Child("name"), s.Name))
		}
		seen[s.Name] = true
		if s.Weight == 0 {
			s.Weight = 1
		}
		checkRange(path.Child("weight"), s.Weight, 1, 100, c)
		if s.Better != Higher && s.Better != Lower {
			c.add(field.NotSupported(path.Child("better"), s.Better, []Better{Higher, Lower}))
		}
		out.Signals = append(out.Signals, Signal(s))
	}
	return out
}

func checkVolumeBinding(path *field.Path, in *schedulerv1.VolumeBindingArgs, c *complaints) {
	if valueOr(in.BindTimeoutSeconds, 0) < 0 {
		c.add(field.Invalid(path.Child("bindTimeoutSeconds"), *in.BindTimeoutSeconds, "must not be negative"))
	}
	if in.Shape != nil {
		c.add(field.Forbidden(path.Child("shape"), "it belongs to an alpha feature of kube-scheduler, StorageCapacityScoring: remove it"))
	}
}

func checkDynamicResources(path *field.Path, in *schedulerv1.DynamicResourcesArgs, c *complaints) {
	if in.FilterTimeout != nil && in.FilterTimeout.Duration < 0 {
		c.add(field.Invalid(path.Child("filterTimeout"), in.FilterTimeout.Duration.String(), "must not be negative"))
	}
	if in.BindingTimeout != nil && in.BindingTimeout.Duration < time.Second {
		c.add(field.Invalid(path.Child("bindingTimeout"), in.BindingTimeout.Duration.String(), "must be at least 1 second"))
	}
}

func checkRange(path *field.Path, value, least, most int64, c *complaints) {
	if value < least || value > most {
		c.add(field.Invalid(path, value, fmt.Sprintf("must be %d to %d", least, most)))
	}
}

func valueOr[T any](p *T, value T) T {
	if p == nil {
		return value
	}
	return *p
}

// flatten returns the errors of an aggregate.
func flatten(err error) []error {
	if aggregate, ok := err.(errors.Aggregate); ok {
		return errors.Flatten(aggregate).Errors()
	}
	return []error{err}
}
