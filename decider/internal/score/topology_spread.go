package score

import (
	"math"
	"slices"

	"github.com/berth-scheduler/berth/decider/internal/model"
)

// topologySpread likes nodes in domains with few of the pods that a soft spread
// constraint selects: one of the pod's own or, if it has none at all, hard ones
// included, one of defaults. Without any it has no preference.
func topologySpread(defaults []model.SpreadConstraint, systemDefaulted bool) func(*model.Turn) Scorer {
	defaults = soft(defaults)
	return func(t *model.Turn) Scorer {
		s := newSpread(t, defaults, systemDefaulted)
		if len(s.constraints) == 0 {
			return Scorer{}
		}
		return Scorer{Score: s.score, Normalize: s.normalize}
	}
}

// SoftSpread returns the soft constraints of p, each with its selector: its own or, if
// it has none at all, those of defaults. allKeys is set if nodes without one of the
// topology keys are ignored.
func SoftSpread(p *model.Pod, defaults []model.SpreadConstraint, systemDefaulted bool) (constraints []model.SpreadConstraint, allKeys bool) {
	switch {
	case len(p.Spread) > 0:
		return soft(p.Spread), true
	case !p.SpreadSelector.SelectsAll() && !p.SpreadSelector.SelectsNothing():
		constraints = soft(defaults)
		for i := range constraints {
			constraints[i].Selector = p.SpreadSelector
		}
	}
	return constraints, !systemDefaulted
}

// SpreadWeight makes up for small numbers of pods where there are many domains: size is
// how many, or how many nodes if every node is its own.
func SpreadWeight(size int) float64 { return math.Log(float64(size + 2)) }

// SpreadPart is what one constraint adds to the raw score of a node in a domain with so
// many pods, before it is rounded.
func SpreadPart(pods int64, weight float64, maxSkew int64) float64 {
	return float64(float64(pods)*weight) + float64(maxSkew-1)
}

// soft returns the constraints by which nodes are liked less rather than ruled out.
func soft(constraints []model.SpreadConstraint) []model.SpreadConstraint {
	return slices.DeleteFunc(slices.Clone(constraints), func(c model.SpreadConstraint) bool { return c.Hard })
}

// spread is the soft constraints of one pod's turn, in order.
type spread struct {
	turn        *model.Turn
	constraints []spreadCount
	// allKeys is set if nodes without one of the topology keys are left out: they
	// are not counted and get 0.
	allKeys bool
}

// spreadCount is a constraint and how many of its pods there are where.
type spreadCount struct {
	model.SpreadConstraint
	// onNode counts the selected pods of a node, for one constraint or, since
	// they all select the same, all defaults.
	onNode *podCount
	// domains are how many of the pods each domain with a feasible node has. Nil if
	// every node is its own domain.
	domains map[string]int64
	// weight makes up for small numbers of pods where there are many domains.
	weight float64
}

func newSpread(t *model.Turn, defaults []model.SpreadConstraint, systemDefaulted bool) *spread {
	p := t.Pod
	s := &spread{turn: t, allKeys: !systemDefaulted}
	switch {
	case len(p.Spread) > 0:
		s.allKeys = true
		for _, c := range soft(p.Spread) {
			s.constraints = append(s.constraints, spreadCount{SpreadConstraint: c, onNode: newPodCount(t, &c.Selector)})
		}
	case !p.SpreadSelector.SelectsAll() && !p.SpreadSelector.SelectsNothing():
		onNode := newPodCount(t, &p.SpreadSelector)
		for _, c := range defaults {
			s.constraints = append(s.constraints, spreadCount{SpreadConstraint: c, onNode: onNode})
		}
	}
	if len(s.constraints) == 0 {
		return s
	}
	s.addDomains()
	for _, n := range t.Snapshot.Nodes {
		s.count(n)
	}
	return s
}

// addDomains finds the domains that feasible nodes are in. With the system's
// defaults, the nodes without a topology key are one more; it adds to the weight
// and is never read.
func (s *spread) addDomains() {
	scored := 0
	for i := range s.constraints {
		if c := &s.constraints[i]; c.TopologyKey != hostname {
			c.domains = map[string]int64{}
		}
	}
	for _, n := range s.turn.Feasible {
		if s.ignores(n) {
			continue
		}
		scored++
		for i := range s.constraints {
			if c := &s.constraints[i]; c.domains != nil {
				c.domains[n.Labels[c.TopologyKey]] = 0
			}
		}
	}
	for i := range s.constraints {
		c := &s.constraints[i]
		size := scored
		if c.domains != nil {
			size = len(c.domains)
		}
		c.weight = SpreadWeight(size)
	}
}

// count adds the pods on n, feasible or not, to the domains.
func (s *spread) count(n *model.Node) {
	if s.ignores(n) {
		return
	}
	for i := range s.constraints {
		c := &s.constraints[i]
		domain := n.Labels[c.TopologyKey]
		if before, ok := c.domains[domain]; ok && c.Includes(s.turn.Pod, n) {
			c.domains[domain] = before + c.onNode.of(n)
		}
	}
}

// ignores says whether n is left out for want of a topology key.
func (s *spread) ignores(n *model.Node) bool {
	if !s.allKeys {
		return false
	}
	for i := range s.constraints {
		if _, ok := n.Labels[s.constraints[i].TopologyKey]; !ok {
			return true
		}
	}
	return false
}

// score is the higher, the more pods there are in the node's domains. The operations
// are kube-scheduler's, in its order, so that rounding is the same; the conversion
// is the one of balance.
func (s *spread) score(n *model.Node) int64 {
	if s.ignores(n) {
		return 0
	}
	var score float64
	for i := range s.constraints {
		c := &s.constraints[i]
		domain, ok := n.Labels[c.TopologyKey]
		if !ok {
			continue
		}
		pods := c.domains[domain]
		if c.domains == nil {
			pods = c.onNode.of(n)
		}
		score += SpreadPart(pods, c.weight, c.MaxSkew)
	}
	return int64(math.Round(score))
}

// normalize is NormalizeSpread for the feasible nodes.
func (s *spread) normalize(scores []int64) {
	NormalizeSpread(scores, func(i int) bool { return s.ignores(s.turn.Feasible[i]) })
}

// NormalizeSpread turns raw scores of PodTopologySpread round: the lowest becomes Max,
// the highest what the lowest is of it, and those that are ignored, by their place, 0.
func NormalizeSpread(scores []int64, ignored func(i int) bool) {
	lowest, highest := int64(math.MaxInt64), int64(0)
	for i := range scores {
		if !ignored(i) {
			lowest, highest = min(lowest, scores[i]), max(highest, scores[i])
		}
	}
	for i := range scores {
		switch {
		case ignored(i):
			scores[i] = 0
		case highest == 0:
			scores[i] = Max
		default:
			scores[i] = Max * (highest + lowest - scores[i]) / highest
		}
	}
}

// podCount counts, node by node, the pods of one namespace that a selector selects.
// Pods that are terminating do not count, and an empty selector, though it selects
// every pod, counts none.
type podCount struct {
	namespace string
	selector  *model.LabelSelector
	// nodes is how many nodes there are. known has one more than the count of each
	// that was asked about, by its index; it is nil until the first is: a pod may
	// have constraints without number whose keys no node has.
	nodes int
	known []int64
}

func newPodCount(t *model.Turn, selector *model.LabelSelector) *podCount {
	return &podCount{namespace: t.Pod.Namespace, selector: selector, nodes: len(t.Snapshot.Nodes)}
}

func (c *podCount) of(n *model.Node) int64 {
	if c.selector.SelectsAll() {
		return 0
	}
	if c.known == nil {
		c.known = make([]int64, c.nodes)
	}
	if known := c.known[n.Index]; known > 0 {
		return known - 1
	}
	var count int64
	for _, q := range n.Pods {
		if !q.Terminating && q.Namespace == c.namespace && c.selector.Matches(q.Labels) {
			count++
		}
	}
	c.known[n.Index] = count + 1
	return count
}
