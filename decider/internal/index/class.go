package index

import (
	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/score"
	"github.com/berth-scheduler/berth/decider/internal/solve"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// class is what is remembered about pods of one key: for each node whether it can take
// them and how much it is liked, in groups of nodes that can differ only in what the
// node itself has.
type class struct {
	x   *Index
	key string
	pod *model.Pod // the first one; stands for all
	// profile and scores are how it is decided; without scores, by the profile's ranker.
	profile *solve.Profile
	scores  []score.Rule

	// seen is the number of the first change that is not in here yet; order and facts
	// are those of the index and the snapshot by then.
	seen         uint64
	order, facts uint64
	// nodes is how many nodes the scores were compiled for, if those depend on it; else 0.
	nodes int
	// lastUse is the decision that last asked for it.
	lastUse uint64
	bytes   int64
	// unfit is set if the class cannot be indexed.
	unfit bool

	checks []check
	free   map[string]int64
	spread []*spread
	// spreadBy are the constraints of spread.
	spreadBy []model.SpreadConstraint
	// affine is set if InterPodAffinity filters; terms if the pod has required terms.
	affine, terms               bool
	first                       bool
	wanted, unwanted, repelling nearby
	wantedTotal                 int64

	// locals are scores that depend on the node alone; ranked those of its record that
	// are normalised; constant is what every node has.
	locals   []local
	ranked   []ranked
	constant int64
	soft     *soft
	attract  *attraction
	signals  *score.Rule // NodeSignals; nil if it is not asked

	// reads are the labels of nodes that static checks and ranked scores read; nil if
	// they read more. looked is what came of it, recent of some of them.
	reads  []*domains
	looked map[lookKey]*looked
	recent [recents]struct {
		key    lookKey
		looked *looked
	}
	// shaped is what is known of empty nodes by their shape. ownChecks is set if a tally
	// is fine, so that checks depend on more.
	shaped    []shaped
	ownChecks bool
	unread    looked // of one node after the other, where reads is nil

	tallies  []*tally  // all of them
	verdicts []verdict // 0 is that the node can take the pod
	cells    []cell    // by slot
	groups   []*group
	byKey    map[groupKey]int32
	dyns     []dyn
	byDyn    map[dyn]int32
	// reasons is room for those of one node after the other.
	reasons []filter.Reason
	// rejection is what was said the last time that no node would do, until something
	// changes.
	rejection *berthv1.Rejection
	// evictable is on how many nodes nothing but pods was in the way then. helpless is
	// rejection with why nobody can be evicted: for pods that may not preempt, and for
	// those than which no placed pod has a lower priority; nil until it is asked for.
	evictable int
	helpless  [2]*berthv1.Rejection
}

// check is one rule, or one constraint of a rule, in the profile's order.
type check struct {
	rule string
	kind checkKind
	// reject is for static and dynamic ones.
	reject filter.Predicate
	spread *spread
}

type checkKind int

const (
	static  checkKind = iota // reads the node's record
	dynamic                  // reads what is on the node, too
	spreads                  // a hard spread constraint
	wants                    // required affinity
	avoids                   // required anti-affinity
	avoided                  // that of placed pods
)

type local struct {
	weight int64
	score  func(*model.Node) int64
}

type ranked struct {
	weight int64
	scorer score.Scorer
}

// soft is PodTopologySpread's score.
type soft struct {
	weight      int64
	constraints []model.SpreadConstraint
	allKeys     bool
	// tallies are by constraint, nil for those whose every node is a domain; for those
	// hosts has how many pods the node in each slot has.
	tallies []*tally
	hosts   [][]int32
	// domains are those of the constraints' topology keys.
	domains []*domains
}

// attraction is InterPodAffinity's score.
type attraction struct {
	weight   int64
	required int64
	own      bool
	nearby
}

// hostname is the label of which PodTopologySpread's score takes every node for a
// domain of its own.
const hostname = "kubernetes.io/hostname"

// verdict is why a node cannot take the pod: the place of the check and its reasons.
type verdict struct {
	place   int
	reasons []filter.Reason
	// evictable is set if nothing but pods is in the way.
	evictable bool
}

// cell is what is known of the node in one slot.
type cell struct {
	// verdict says whether it can take the pod; static is that of the static checks
	// alone. Both are absent where there is no node.
	verdict, static int32
	// local is the sum of the local scores, dyn what tells it from its group besides.
	local, dyn int32
	// group and place are where in which group it is.
	group, place int32
	// includes has a bit per spread constraint, hard ones first, that counts it.
	includes uint32
}

const absent int32 = -1

// maxParts is how many parts a group's key has at most, and how many constraints a pod.
const maxParts = 8

// groupKey is what nodes of one group have in common: the domain of each coarse tally,
// whether they carry the hostname, and the raw scores that depend on their record.
type groupKey [maxParts]int64

// dyn is what else tells nodes apart: the counts of soft spread constraints whose every
// node is a domain, and how much its fine domains attract the pod.
type dyn [4]int64

// group is nodes with one groupKey.
type group struct {
	key   groupKey
	slots []int32 // in name order
	ranks []int32 // their place in the name order of all nodes
	// having is how many nodes have each verdict.
	having []int32
	// trees has the local scores of the nodes that can take the pod, by dyn.
	trees []dynTree
}

type dynTree struct {
	dyn   int32
	nodes int32
	*tree
}

// counts says whether pods are counted for the class.
func (c *class) counts() bool {
	return len(c.spread) > 0 || c.soft != nil || c.terms || c.attract != nil && c.attract.own
}

// lookedBytes is what one of looked takes, about: its key, what came of it, and that a map
// is not full.
const lookedBytes = 160

// size is what the class takes in bytes, about.
func (c *class) size() int64 {
	bytes := int64(4096) + int64(len(c.cells))*cellBytes + int64(len(c.verdicts))*128 + int64(len(c.dyns))*96
	bytes += int64(len(c.looked))*lookedBytes + int64(cap(c.shaped))*12
	for _, g := range c.groups {
		bytes += 256 + int64(cap(g.slots)+cap(g.ranks))*4 + int64(len(g.trees))*(treeBytes(len(g.slots))+32)
	}
	for _, t := range c.tallies {
		bytes += int64(cap(t.counts)) * 8
	}
	for _, s := range c.spread {
		bytes += int64(cap(s.included)+cap(s.having)) * 4
	}
	if c.soft != nil {
		for _, hosts := range c.soft.hosts {
			bytes += int64(cap(hosts)) * 4
		}
	}
	return bytes
}
