package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Coverage counts the cases that exercised something. Rows are what there is to
// exercise; anything else that cases count is a row too.
type Coverage map[string]int

// rows is everything that a run must have exercised, by section.
var rows = map[string][]string{
	"filter": {"NodeUnschedulable", "NodeName", "TaintToleration", "NodeAffinity", "NodePorts", "NodeResourcesFit", "PodTopologySpread", "InterPodAffinity", "NodeDeclaredFeatures"},
	"score":  {"TaintToleration", "NodeAffinity", "NodeResourcesFit", "PodTopologySpread", "InterPodAffinity", "NodeResourcesBalancedAllocation", "ImageLocality"},
	"text": {
		"node(s) were unschedulable",
		"node(s) didn't match the requested node name",
		"node(s) had untolerated taint(s)",
		"node(s) didn't match Pod's node affinity/selector",
		"node(s) didn't match scheduler-enforced node affinity",
		"node(s) didn't satisfy plugin(s) [NodeAffinity]",
		"pod affinity terms conflict",
		"node(s) didn't have free ports for the requested pod ports",
		"Too many pods",
		"Insufficient cpu",
		"Insufficient memory",
		"Insufficient ephemeral-storage",
		"Insufficient example.com/gpu",
		"Insufficient hugepages-2Mi",
		"node(s) didn't match pod topology spread constraints",
		"node(s) didn't match pod topology spread constraints (missing required label)",
		"node(s) didn't match pod affinity rules",
		"node(s) didn't match pod anti-affinity rules",
		"node(s) didn't satisfy existing pods anti-affinity rules",
		"node(s) didn't match Pod's required features",
		"no nodes available to schedule pods",
		"preemption: No preemption victims found for incoming pod",
		"preemption: Preemption is not helpful for scheduling",
		"preemption: not eligible due to preemptionPolicy=Never.",
		"preemption: not eligible due to a terminating pod on the nominated node.",
	},
	"node selector": product([]string{"In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "metadata.name In", "metadata.name NotIn"}, "required", "preferred"),
	"label selector": append(product([]string{"In", "NotIn", "Exists", "DoesNotExist", "matchLabels"}, "affinity", "spread", "namespaces", "budget"),
		"nil affinity", "nil spread", "empty affinity", "empty spread", "empty namespaces", "nil budget", "empty budget"),
	"toleration":     product([]string{"Equal", "Exists"}, "NoSchedule", "PreferNoSchedule", "NoExecute", "every effect"),
	"score strategy": {"LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"},
	"normalization": {
		"TaintToleration all 0", "TaintToleration all equal", "TaintToleration differ",
		"NodeAffinity all 0", "NodeAffinity all equal", "NodeAffinity differ",
		"PodTopologySpread all 0", "PodTopologySpread all equal", "PodTopologySpread differ",
		"InterPodAffinity all 0", "InterPodAffinity all equal", "InterPodAffinity differ", "InterPodAffinity below 0",
	},
	"preemption": {
		"budget violations", "highest priority", "sum of priorities", "number of victims", "start time", "tie",
		"several victims", "reprieved", "a victim beyond its budget", "terminating victim",
	},
	"spread": {
		"required", "preferred", "minDomains", "matchLabelKeys", "matchLabelKeys not in the selector",
		"nodeAffinityPolicy Honor", "nodeAffinityPolicy Ignore", "nodeTaintsPolicy Honor", "nodeTaintsPolicy Ignore",
	},
	"affinity to pods": append(product([]string{"affinity", "anti-affinity"}, "required", "preferred", "a placed pod's required", "a placed pod's preferred"),
		"namespaces", "matchLabelKeys", "mismatchLabelKeys"),
	// A profile counts where a pod of its own is answered otherwise than by the
	// rule's default arguments.
	"argument": {
		"NodeResourcesFit scoringStrategy", "NodeResourcesFit ignoredResources", "NodeResourcesBalancedAllocation resources",
		"NodeAffinity addedAffinity required", "NodeAffinity addedAffinity preferred",
		"PodTopologySpread defaultConstraints required", "PodTopologySpread defaultConstraints preferred", "PodTopologySpread no defaults",
		"InterPodAffinity hardPodAffinityWeight", "InterPodAffinity ignorePreferredTermsOfExistingPods",
		"weight", "disabled filter", "disabled score", "disabled preemption",
	},
	"profile": profileNames,
	"pod":     {"nominated, other node", "nominated, that node", "nominated pods respected", "several pending", "resize", "init containers", "sidecars", "pod-level resources", "overhead", "image volumes", "default spreading"},
}

// product is each of a with each of b.
func product(a []string, b ...string) []string {
	var out []string
	for _, y := range b {
		for _, x := range a {
			out = append(out, y+" "+x)
		}
	}
	return out
}

// NewCoverage has every row, at 0.
func NewCoverage() Coverage {
	out := Coverage{}
	for section, names := range rows {
		for _, name := range names {
			out[section+": "+name] = 0
		}
	}
	return out
}

// Add adds another count.
func (v Coverage) Add(other Coverage) {
	for name, n := range other {
		v[name] += n
	}
}

// Missing are the rows at 0, sorted.
func (v Coverage) Missing() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(v)) {
		if v[name] == 0 {
			out = append(out, name)
		}
	}
	return out
}

// Print writes the table.
func (v Coverage) Print(w io.Writer) {
	for _, name := range slices.Sorted(maps.Keys(v)) {
		fmt.Fprintf(w, "%8d  %s\n", v[name], name)
	}
}

// seen are the rows that one case exercised.
type seen map[string]bool

func (s seen) row(section, name string) { s[section+": "+name] = true }

// Observe counts what c, which is admitted, and kube-scheduler's answers exercised.
func (v Coverage) Observe(c *Case, want []*berthv1.Decision) {
	s := seen{}
	for i, d := range want {
		s.explanation(c.Pending[i], d)
		s.preemption(c, d)
		s.pod(c, c.Pending[i], d)
		s.arguments(c, c.Pending[i], d)
	}
	if len(want) > 1 {
		s.row("pod", "several pending")
	}
	for _, list := range [][]*corev1.Pod{c.Placed, c.Nominated} {
		for _, p := range list {
			s.podAffinity(c, p, "a placed pod's ")
			if p.Status.AllocatedResources != nil || len(p.Status.ContainerStatuses) > 0 {
				s.row("pod", "resize")
			}
		}
	}
	if c.Preempt {
		for _, b := range c.Budgets {
			s.labelSelector("budget", b.Spec.Selector, c.podLabels())
		}
	}
	for name := range s {
		v[name]++
	}
}

func (s seen) explanation(p *corev1.Pod, d *berthv1.Decision) {
	columns := map[string][]*berthv1.Score{}
	if len(d.GetExplanation().GetNodes()) == 0 {
		s.row("text", d.GetRejection().GetMessage())
	}
	for _, n := range d.GetExplanation().GetNodes() {
		if n.GetRule() != "" {
			s.row("filter", n.GetRule())
		}
		for _, text := range n.GetReasons() {
			s.row("text", text)
		}
		for _, score := range n.GetScores() {
			columns[score.GetRule()] = append(columns[score.GetRule()], score)
		}
	}
	for rule, scores := range columns {
		least, most := int64(math.MaxInt64), int64(math.MinInt64)
		for _, score := range scores {
			least, most = min(least, score.GetRaw()), max(most, score.GetRaw())
		}
		if least != most {
			s.row("score", rule)
		}
		if rule == "NodeResourcesFit" && least != most {
			strategy := "LeastAllocated"
			switch p.Spec.SchedulerName {
			case "most-allocated":
				strategy = "MostAllocated"
			case "requested-to-capacity":
				strategy = "RequestedToCapacityRatio"
			}
			s.row("score strategy", strategy)
		}
		if !slices.Contains(rows["normalization"], rule+" differ") || len(scores) < 2 {
			continue
		}
		switch {
		case least == 0 && most == 0:
			s.row("normalization", rule+" all 0")
		case least == most:
			s.row("normalization", rule+" all equal")
		default:
			s.row("normalization", rule+" differ")
		}
		if least < 0 {
			s.row("normalization", rule+" below 0")
		}
	}
}

func (s seen) preemption(c *Case, d *berthv1.Decision) {
	for _, text := range rows["text"] {
		if cause, ok := strings.CutPrefix(text, "preemption: "); ok && strings.Contains(d.GetRejection().GetPreemption(), cause) {
			s.row("text", text)
		}
	}
	equals, decided := bestPreemptions(c, d.GetExplanation().GetPreemptions())
	for _, criterion := range decided {
		s.row("preemption", criterion)
	}
	if len(equals) > 1 {
		s.row("preemption", "tie")
	}
	for _, e := range d.GetExplanation().GetPreemptions() {
		if len(e.GetVictims()) == 0 {
			continue
		}
		if e.GetBudgetViolations() > 0 {
			s.row("preemption", "a victim beyond its budget")
		}
		if len(e.GetVictims()) > 1 {
			s.row("preemption", "several victims")
		}
		lower := 0
		for _, p := range c.Placed {
			if p.Spec.NodeName != e.GetNodeName() {
				continue
			}
			if slices.ContainsFunc(c.Pending, func(q *corev1.Pod) bool { return string(q.UID) == d.GetPodUid() && priority(p) < priority(q) }) {
				lower++
			}
			if p.DeletionTimestamp != nil && slices.ContainsFunc(e.GetVictims(), func(v *berthv1.Victim) bool { return v.GetUid() == string(p.UID) }) {
				s.row("preemption", "terminating victim")
			}
		}
		if lower > len(e.GetVictims()) {
			s.row("preemption", "reprieved")
		}
	}
}

func (s seen) pod(c *Case, p *corev1.Pod, d *berthv1.Decision) {
	s.row("profile", p.Spec.SchedulerName)
	if name := p.Status.NominatedNodeName; name != "" && len(d.GetCandidates()) > 0 {
		if d.GetCandidates()[0].GetNodeName() == name {
			s.row("pod", "nominated, that node")
		} else {
			s.row("pod", "nominated, other node")
		}
	}
	for _, m := range c.Nominated {
		if priority(m) >= priority(p) {
			s.row("pod", "nominated pods respected")
		}
	}
	for _, i := range p.Spec.InitContainers {
		if i.RestartPolicy != nil {
			s.row("pod", "sidecars")
		} else {
			s.row("pod", "init containers")
		}
	}
	if p.Spec.Resources != nil {
		s.row("pod", "pod-level resources")
	}
	if len(p.Spec.Overhead) > 0 {
		s.row("pod", "overhead")
	}
	if len(p.Spec.Volumes) > 0 {
		s.row("pod", "image volumes")
	}
	if len(p.Spec.TopologySpreadConstraints) == 0 && slices.ContainsFunc(d.GetExplanation().GetNodes(), func(n *berthv1.NodeExplanation) bool {
		return slices.ContainsFunc(n.GetScores(), func(x *berthv1.Score) bool { return x.GetRule() == "PodTopologySpread" })
	}) {
		s.row("pod", "default spreading")
	}
	s.nodeAffinity(c, p)
	s.tolerations(c, p)
	s.podAffinity(c, p, "")
	for _, constraint := range p.Spec.TopologySpreadConstraints {
		s.labelSelector("spread", constraint.LabelSelector, c.podLabels())
		s.spread(p, constraint)
	}
}

func (s seen) spread(p *corev1.Pod, constraint corev1.TopologySpreadConstraint) {
	if constraint.WhenUnsatisfiable == corev1.DoNotSchedule {
		s.row("spread", "required")
	} else {
		s.row("spread", "preferred")
	}
	if constraint.MinDomains != nil && *constraint.MinDomains > 1 {
		s.row("spread", "minDomains")
	}
	if policy := constraint.NodeAffinityPolicy; policy != nil {
		s.row("spread", "nodeAffinityPolicy "+string(*policy))
	}
	if policy := constraint.NodeTaintsPolicy; policy != nil {
		s.row("spread", "nodeTaintsPolicy "+string(*policy))
	}
	for _, key := range constraint.MatchLabelKeys {
		if _, ok := p.Labels[key]; !ok {
			continue
		}
		s.row("spread", "matchLabelKeys")
		if p.Annotations[oldAnnotation] != "" {
			s.row("spread", "matchLabelKeys not in the selector")
		}
	}
}

// arguments counts the arguments of p's profile that its answer depends on.
func (s seen) arguments(c *Case, p *corev1.Pod, d *berthv1.Decision) {
	reasons, columns := map[string]bool{}, map[string][]int64{}
	for _, n := range d.GetExplanation().GetNodes() {
		for _, reason := range n.GetReasons() {
			reasons[reason] = true
		}
		for _, score := range n.GetScores() {
			columns[score.GetRule()] = append(columns[score.GetRule()], score.GetRaw())
		}
	}
	differ := func(rule string) bool { return len(slices.Compact(slices.Sorted(slices.Values(columns[rule])))) > 1 }
	row := func(name string, exercised bool) {
		if exercised {
			s.row("argument", name)
		}
	}
	asksFor := func(names ...corev1.ResourceName) bool {
		return slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool {
			return slices.ContainsFunc(names, func(name corev1.ResourceName) bool { q := c.Resources.Requests[name]; return !q.IsZero() })
		})
	}
	placedTerms := func(of func(*corev1.PodAffinity) int) bool {
		return slices.ContainsFunc(c.Placed, func(q *corev1.Pod) bool {
			return q.Spec.Affinity != nil && q.Spec.Affinity.PodAffinity != nil && of(q.Spec.Affinity.PodAffinity) > 0
		})
	}
	required := func(a *corev1.PodAffinity) int { return len(a.RequiredDuringSchedulingIgnoredDuringExecution) }
	preferred := func(a *corev1.PodAffinity) int { return len(a.PreferredDuringSchedulingIgnoredDuringExecution) }
	switch p.Spec.SchedulerName {
	case "most-allocated":
		row("NodeResourcesFit scoringStrategy", differ("NodeResourcesFit"))
		row("InterPodAffinity hardPodAffinityWeight", differ("InterPodAffinity") && placedTerms(required))
	case "requested-to-capacity":
		row("NodeResourcesFit scoringStrategy", differ("NodeResourcesFit"))
	case "least-allocated":
		row("NodeResourcesBalancedAllocation resources", differ("NodeResourcesBalancedAllocation") && asksFor(gpu))
	case "ignored-resources":
		row("NodeResourcesFit ignoredResources", len(d.GetCandidates()) > 0 && asksFor(foo, licence))
	case "added-affinity":
		row("NodeAffinity addedAffinity required", reasons["node(s) didn't match scheduler-enforced node affinity"])
		row("NodeAffinity addedAffinity preferred", differ("NodeAffinity"))
	case "list-spreading":
		row("PodTopologySpread defaultConstraints required", len(p.Spec.TopologySpreadConstraints) == 0 && reasons["node(s) didn't match pod topology spread constraints"])
		row("PodTopologySpread defaultConstraints preferred", len(p.Spec.TopologySpreadConstraints) == 0 && differ("PodTopologySpread"))
	case "no-default-spreading":
		row("PodTopologySpread no defaults", len(p.Spec.TopologySpreadConstraints) == 0 && len(c.Services) > 0)
	case "own-terms-only":
		row("InterPodAffinity ignorePreferredTermsOfExistingPods", len(d.GetCandidates()) > 1 && placedTerms(preferred))
	case "other-plugins":
		row("weight", differ("TaintToleration"))
		row("disabled filter", slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool { return len(c.Ports) > 0 }))
		row("disabled score", len(d.GetCandidates()) > 1)
		row("disabled preemption", c.Preempt && d.GetRejection() != nil)
	}
}

// nodeAffinity counts operators that tell the case's nodes apart.
func (s seen) nodeAffinity(c *Case, p *corev1.Pod) {
	if p.Spec.Affinity == nil || p.Spec.Affinity.NodeAffinity == nil {
		return
	}
	a := p.Spec.Affinity.NodeAffinity
	count := func(where string, term corev1.NodeSelectorTerm) {
		for _, r := range term.MatchExpressions {
			if c.splitsNodes(corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{r}}) {
				s.row("node selector", where+" "+string(r.Operator))
			}
		}
		for _, r := range term.MatchFields {
			if c.splitsNodes(corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{r}}) {
				s.row("node selector", where+" metadata.name "+string(r.Operator))
			}
		}
	}
	if required := a.RequiredDuringSchedulingIgnoredDuringExecution; required != nil {
		for _, term := range required.NodeSelectorTerms {
			count("required", term)
		}
	}
	for _, preferred := range a.PreferredDuringSchedulingIgnoredDuringExecution {
		count("preferred", preferred.Preference)
	}
}

// splitsNodes says whether the term matches some of the nodes and not others.
func (c *Case) splitsNodes(term corev1.NodeSelectorTerm) bool {
	selector, err := nodeaffinity.NewNodeSelector(&corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term}})
	if err != nil {
		return false
	}
	matched := 0
	for _, n := range c.Nodes {
		if selector.Match(n) {
			matched++
		}
	}
	return 0 < matched && matched < len(c.Nodes)
}

// tolerations counts those that tolerate a taint of the case and not another.
func (s seen) tolerations(c *Case, p *corev1.Pod) {
	for i := range p.Spec.Tolerations {
		t := &p.Spec.Tolerations[i]
		tolerated, not := false, false
		for _, n := range c.Nodes {
			for j := range n.Spec.Taints {
				if t.ToleratesTaint(klog.Logger{}, &n.Spec.Taints[j], false) {
					tolerated = true
				} else {
					not = true
				}
			}
		}
		if tolerated && not {
			effect, operator := string(t.Effect), string(t.Operator)
			if effect == "" {
				effect = "every effect"
			}
			if operator == "" {
				operator = "Equal"
			}
			s.row("toleration", effect+" "+operator)
		}
	}
}

func (s seen) podAffinity(c *Case, p *corev1.Pod, whose string) {
	if p.Spec.Affinity == nil {
		return
	}
	count := func(kind string, terms []corev1.PodAffinityTerm) {
		for i := range terms {
			s.row("affinity to pods", kind)
			s.labelSelector("affinity", terms[i].LabelSelector, c.podLabels())
			if terms[i].NamespaceSelector != nil {
				s.labelSelector("namespaces", terms[i].NamespaceSelector, c.namespaceLabels())
			}
			if len(terms[i].Namespaces) > 0 {
				s.row("affinity to pods", "namespaces")
			}
			if len(terms[i].MatchLabelKeys) > 0 {
				s.row("affinity to pods", "matchLabelKeys")
			}
			if len(terms[i].MismatchLabelKeys) > 0 {
				s.row("affinity to pods", "mismatchLabelKeys")
			}
		}
	}
	if a := p.Spec.Affinity.PodAffinity; a != nil {
		count(whose+"required affinity", a.RequiredDuringSchedulingIgnoredDuringExecution)
		count(whose+"preferred affinity", terms(a.PreferredDuringSchedulingIgnoredDuringExecution))
	}
	if a := p.Spec.Affinity.PodAntiAffinity; a != nil {
		count(whose+"required anti-affinity", a.RequiredDuringSchedulingIgnoredDuringExecution)
		count(whose+"preferred anti-affinity", terms(a.PreferredDuringSchedulingIgnoredDuringExecution))
	}
}

func terms(preferred []corev1.WeightedPodAffinityTerm) []corev1.PodAffinityTerm {
	var out []corev1.PodAffinityTerm
	for i := range preferred {
		out = append(out, preferred[i].PodAffinityTerm)
	}
	return out
}

// labelSelector counts operators that tell objects apart.
func (s seen) labelSelector(where string, selector *metav1.LabelSelector, objects []labels.Set) {
	switch {
	case selector == nil:
		s.row("label selector", "nil "+where)
		return
	case len(selector.MatchLabels)+len(selector.MatchExpressions) == 0:
		s.row("label selector", "empty "+where)
		return
	}
	splits := func(selector *metav1.LabelSelector) bool {
		parsed, err := metav1.LabelSelectorAsSelector(selector)
		if err != nil {
			return false
		}
		matched := 0
		for _, o := range objects {
			if parsed.Matches(o) {
				matched++
			}
		}
		return 0 < matched && matched < len(objects)
	}
	for key, value := range selector.MatchLabels {
		if splits(&metav1.LabelSelector{MatchLabels: map[string]string{key: value}}) {
			s.row("label selector", where+" matchLabels")
		}
	}
	for _, r := range selector.MatchExpressions {
		if splits(&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{r}}) {
			s.row("label selector", where+" "+string(r.Operator))
		}
	}
}

func (c *Case) podLabels() []labels.Set {
	var out []labels.Set
	for _, list := range [][]*corev1.Pod{c.Placed, c.Pending} {
		for _, p := range list {
			out = append(out, p.Labels)
		}
	}
	return out
}

func (c *Case) namespaceLabels() []labels.Set {
	var out []labels.Set
	for _, n := range c.Namespaces {
		out = append(out, n.Labels)
	}
	return out
}

// criteria are how kube-scheduler chooses between nodes to preempt on, the most
// important first; smaller is better.
var criteria = []struct {
	name string
	of   func(violations int32, victims []*corev1.Pod) int64
}{
	{"budget violations", func(violations int32, _ []*corev1.Pod) int64 { return int64(violations) }},
	{"highest priority", func(_ int32, victims []*corev1.Pod) int64 { return int64(priority(victims[0])) }},
	{"sum of priorities", func(_ int32, victims []*corev1.Pod) int64 {
		var sum int64
		for _, v := range victims {
			sum += int64(priority(v)) + math.MaxInt32 + 1
		}
		return sum
	}},
	{"number of victims", func(_ int32, victims []*corev1.Pod) int64 { return int64(len(victims)) }},
	{"start time", func(_ int32, victims []*corev1.Pod) int64 {
		earliest := int64(math.MaxInt64)
		for _, v := range victims {
			if priority(v) == priority(victims[0]) {
				earliest = min(earliest, started(v))
			}
		}
		return -earliest
	}},
}

// byUID has the pods that may be victims.
func (c *Case) byUID() map[string]*corev1.Pod {
	out := map[string]*corev1.Pod{}
	for _, list := range [][]*corev1.Pod{c.Placed, c.Pending} {
		for _, p := range list {
			out[string(p.UID)] = p
		}
	}
	return out
}

func priority(p *corev1.Pod) int32 {
	if p.Spec.Priority == nil {
		return 0
	}
	return *p.Spec.Priority
}

// bestPreemptions are the nodes that kube-scheduler may choose, and the criteria
// that left others out.
func bestPreemptions(c *Case, all []*berthv1.PreemptionExplanation) (best []*berthv1.PreemptionExplanation, decided []string) {
	byUID := c.byUID()
	pods := map[string][]*corev1.Pod{}
	for _, p := range all {
		if len(p.GetVictims()) == 0 {
			continue
		}
		best = append(best, p)
		for _, v := range p.GetVictims() {
			pods[p.GetNodeName()] = append(pods[p.GetNodeName()], byUID[v.GetUid()])
		}
	}
	for _, criterion := range criteria {
		if len(best) < 2 {
			break
		}
		least := int64(math.MaxInt64)
		value := func(p *berthv1.PreemptionExplanation) int64 {
			return criterion.of(p.GetBudgetViolations(), pods[p.GetNodeName()])
		}
		for _, p := range best {
			least = min(least, value(p))
		}
		before := len(best)
		best = slices.DeleteFunc(best, func(p *berthv1.PreemptionExplanation) bool { return value(p) > least })
		if len(best) < before {
			decided = append(decided, criterion.name)
		}
	}
	return best, decided
}
