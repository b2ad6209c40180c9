// Package index decides as the plain solver does, without looking at every node for
// every pod.
//
// Pods that rules and scores cannot tell apart are a class. Of a class it is
// remembered for each node whether the node can take its pods and how much it is
// liked; a log of what happened to the snapshot says which nodes to look at again
// when the class is next asked for. What depends on pods elsewhere (spreading,
// affinity) is counted by domain and never kept by node: nodes fall into groups that
// differ in nothing but what is on the node itself, a group is asked once, and a tree
// of maxima knows the best of each and the first in name order among equals. So a
// decision costs as much as has changed since the class was last used, and a little for
// each group, whatever the number of nodes.
//
// Pods that differ in nothing but the nodes that they name are one class, too, of which
// those nodes are asked (named.go).
//
// What a score cannot be grouped by (signals, policies of other kinds) is asked of the
// nodes that can take the pod alone (each.go); nodes on which room is set aside are
// looked at each time (aside.go). Explanations, and preemption where somebody has a lower
// priority (priorities.go), are the plain solver's, on the same snapshot. Reading order: Index.decide, class.go, build.go, compile.go, judge.go,
// group.go (repair), place.go, counts.go, tree.go.
package index

import (
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"strings"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
	"github.com/berth-scheduler/berth/decider/internal/score"
	"github.com/berth-scheduler/berth/decider/internal/solve"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Scored is a solve.Ranker that adds up scores, so that they can be added up in another
// order.
type Scored interface {
	// Scores are what is added up. The second result is false if it is something else.
	Scores() ([]score.Rule, bool)
}

// Config bounds an Index. The zero value is useful.
type Config struct {
	// MaxBytes bounds what is remembered about classes. 0 means 1 GiB.
	MaxBytes int64
	// MinUses is how many pods of a class there must be, in one request or so far, for it
	// to be indexed; 2 are enough where others are counted for them, for that is most of
	// the work. 0 means 3.
	MinUses int
	// Coarse is how many domains a topology key may have for nodes to be grouped by
	// them, however few nodes there are. 0 means 32.
	Coarse int
}

// Index decides on one snapshot. One caller at a time.
type Index struct {
	// Parallel calls do with the numbers below n, several at a time, and returns when all
	// calls have. Nil has everything done by the caller of Decide.
	Parallel func(n int, do func(i int))

	snapshot *model.Snapshot
	plain    *solve.Solver
	config   Config

	// log is what happened since the change numbered logStart.
	log      []change
	logStart uint64
	// removed is where in the log a pod was removed, of what no class has read yet.
	removed map[string]uint64
	// at and names are the node in each slot, leaving those that are gone and whose
	// name may come back; order counts changes of the order of nodes.
	at      []*model.Node
	names   []string
	leaving map[int]bool
	order   uint64
	// slotsOf are the slots of the nodes in name order, as of slotsOrder.
	slotsOf    []int32
	slotsOrder uint64
	domains    map[string]*domains
	looks      looks
	shapes     shapes
	// read are the labels that placed pods' terms read, readVersion how many.
	read        map[string]bool
	readVersion uint64

	classes map[string]*class
	// uses is how often classes that are not there were asked for, announced how many
	// pods of a class the request has; by the hash of the key, since mistaking one for
	// another changes nothing but what is indexed when.
	uses      map[uint64]use
	announced map[uint64]int
	// firsts are the first pods of each class of the request, but of those that were built.
	firsts []*model.Pod
	seed   maphash.Seed

	// priorities are those of the pods on nodes.
	priorities priorities

	bytes int64
	clock uint64 // counts decisions
	stats Stats
	// preempted is set from the first pod of a request on for which others are to be
	// evicted: these are leaving then, which nobody is told.
	preempted bool

	// Room for one decision after the other.
	buffer     []byte
	dirty      []int32
	marks      []uint32
	marked     uint32
	candidates []candidate
	raw        []int64
	sizes      map[int32]bool
}

// use is how often a class that is not there was asked for, and when last.
type use struct {
	count int
	last  uint64
}

// Stats counts what an Index did.
type Stats struct {
	// Indexed and Plain are how many decisions were made this way and that.
	Indexed, Plain uint64
	// Built, Repaired and Evicted are how often classes were.
	Built, Repaired, Evicted uint64
	// Classes and Bytes are how many there are and what they take, about.
	Classes int
	Bytes   int64
}

// New returns the index of s, which it observes from now on.
func New(s *model.Snapshot, plain *solve.Solver, config Config) *Index {
	config.MaxBytes = cmp.Or(config.MaxBytes, 1<<30)
	config.MinUses = cmp.Or(config.MinUses, 3)
	config.Coarse = cmp.Or(config.Coarse, 32)
	x := &Index{
		snapshot: s, plain: plain, config: config,
		at: make([]*model.Node, s.Slots), names: make([]string, s.Slots), marks: make([]uint32, s.Slots),
		removed: map[string]uint64{}, leaving: map[int]bool{}, domains: map[string]*domains{}, read: map[string]bool{},
		classes: map[string]*class{}, uses: map[uint64]use{}, sizes: map[int32]bool{},
		looks: looks{ids: map[string]int32{}}, shapes: shapes{ids: map[[model.Others]int64]int32{}}, announced: map[uint64]int{}, seed: maphash.MakeSeed(),
	}
	for _, n := range s.Nodes {
		x.at[n.Slot], x.names[n.Slot] = n, n.Name
		x.looks.came(n)
		x.shapes.came(n)
		for _, q := range n.Affine {
			x.learn(&q.Affinity)
		}
		for _, q := range n.Pods {
			x.priorities.move(q.Priority, 1)
		}
	}
	s.Observe(x)
	return x
}

// Decide answers what the plain solver would. r.Snapshot is the index's.
func (x *Index) Decide(r *solve.Request) []*berthv1.Decision {
	x.announce(r.Pods)
	defer func() { x.preempted = false }()
	return r.Each(x.one)
}

// announce counts the pods of each class in a request, so that those which are many are
// indexed from the first on.
func (x *Index) announce(pods []*model.Pod) {
	clear(x.announced)
	x.firsts = nil
	if len(pods) < x.config.MinUses {
		return
	}
	for _, p := range pods {
		if p != nil && p.Affinity.Any() {
			x.learn(&p.Affinity)
		}
	}
	for _, p := range pods {
		if p != nil {
			hash := maphash.String(x.seed, x.keyOf(p))
			if x.announced[hash]++; x.announced[hash] == 1 {
				x.firsts = append(x.firsts, p)
			}
		}
	}
}

// keyOf returns the pod's key. Pods of one class share it.
func (x *Index) keyOf(p *model.Pod) string {
	if x.buffer = binary.AppendUvarint(x.buffer[:0], x.readVersion); strings.HasPrefix(p.Key, string(x.buffer)) {
		return p.Key
	}
	x.buffer = x.key(x.buffer, p.Record)
	if c := x.classes[string(x.buffer)]; c != nil {
		p.Key = c.key
	} else {
		p.Key = string(x.buffer)
	}
	return p.Key
}

// Stats returns what the index did so far.
func (x *Index) Stats() Stats {
	s := x.stats
	s.Classes, s.Bytes = len(x.classes), x.bytes
	return s
}

// one decides on one pod as Solver.One does.
func (x *Index) one(r *solve.Request, index int, p *model.Pod) (_ *berthv1.Decision, undo func()) {
	x.clock++
	if decision, undo, ok := x.decide(r, index, p); ok {
		x.stats.Indexed++
		return decision, undo
	}
	x.stats.Plain++
	decision, undo := x.plain.One(r, index, p)
	x.preempted = x.preempted || decision.GetPreemption() != nil
	return decision, undo
}

// decide decides on one pod; ok is false if the plain solver is to.
func (x *Index) decide(r *solve.Request, index int, p *model.Pod) (_ *berthv1.Decision, undo func(), ok bool) {
	s := x.snapshot
	if r.Explain || len(s.Nodes) == 0 || x.preempted || p.NodeName != "" || s.Node(p.NominatedNode) != nil {
		return nil, nil, false
	}
	profile, scores := x.profile(p)
	if names, limited := filter.NamedNodes(p); limited {
		if scores == nil || s.Nominations() > 0 || s.Signals > 0 && hasSignals(scores) {
			return nil, nil, false
		}
		return x.decideNamed(r, index, p, names, profile, scores)
	}
	c := x.classFor(p, profile, scores)
	if c == nil {
		return nil, nil, false
	}
	if s.Nominations() > 0 {
		if nodes := s.Respected(p); len(nodes) > 0 {
			restore, ok := c.setAside(p, nodes)
			if !ok {
				return nil, nil, false
			}
			defer restore()
		}
	}
	return c.decide(r, index, p)
}

// profile returns how p is decided; without scores, the profile's ranker is to be asked.
func (x *Index) profile(p *model.Pod) (_ *solve.Profile, scores []score.Rule) {
	profile := x.plain.Profile(p.Record.GetSchedulerName())
	if ranker, ok := profile.Ranker.(Scored); ok {
		if sums, ok := ranker.Scores(); ok {
			scores = sums
		}
	}
	return profile, scores
}

// outdated says whether a class has to be built anew: what was compiled is another now, or
// more has happened than can be made up for.
func (x *Index) outdated(c *class) bool {
	nodes := len(x.snapshot.Nodes)
	return c.facts != x.snapshot.Facts || c.nodes > 0 && c.nodes != nodes || x.now()-c.seen > 2*uint64(nodes)
}

// classFor returns the pod's class, up to date, or nil if there is none.
func (x *Index) classFor(p *model.Pod, profile *solve.Profile, scores []score.Rule) *class {
	s := x.snapshot
	c := x.classes[x.keyOf(p)]
	if len(x.firsts) > 0 && (c == nil || !c.unfit && x.outdated(c)) {
		x.buildAhead()
		c = x.classes[p.Key]
	}
	if c != nil {
		gap := x.clock - c.lastUse
		c.lastUse = x.clock
		behind := x.now() - c.seen
		nodes := uint64(len(s.Nodes))
		if c.unfit && gap < nodes && behind < nodes {
			return nil
		}
		if !c.counts() && behind > nodes/2 && gap > nodes/2 {
			// More has changed than there is to look at, and it will have changed again by
			// the time that the class is asked for next.
			return nil
		}
		if c.unfit || x.outdated(c) {
			c.pod = p // it knows the resources that there are now
			c.rebuild()
		} else {
			c.repair()
			x.stats.Repaired++
		}
	} else if c = x.newClass(p, profile, scores); c == nil {
		return nil
	}
	x.account(c)
	if c.unfit {
		return nil
	}
	return c
}

func hasSignals(scores []score.Rule) bool {
	for i := range scores {
		if scores[i].Name == "NodeSignals" {
			return true
		}
	}
	return false
}

// maxUses is how many keys of classes that are not there are remembered.
const maxUses = 1 << 16

// newClass makes a class for the pod, or returns nil if it is not worth it yet.
func (x *Index) newClass(p *model.Pod, profile *solve.Profile, scores []score.Rule) *class {
	hash := maphash.String(x.seed, p.Key)
	u := x.uses[hash]
	gap := x.clock - u.last
	u = use{u.count + 1, x.clock}
	if max(u.count, x.announced[hash]) < x.minUses(p) || !x.makeRoom(u.count, gap) {
		if len(x.uses) >= maxUses {
			clear(x.uses)
		}
		x.uses[hash] = u
		return nil
	}
	delete(x.uses, hash)
	x.forget()
	c := &class{x: x, key: p.Key, pod: p, profile: profile, scores: scores, lastUse: x.clock}
	x.classes[c.key] = c
	c.rebuild()
	return c
}

// minUses is how many pods of p's class there must be for it to be indexed.
func (x *Index) minUses(p *model.Pod) int {
	if countsOthers(p) {
		return min(x.config.MinUses, 2)
	}
	return x.config.MinUses
}

// countsOthers says whether the plain solver counts other pods for p.
func countsOthers(p *model.Pod) bool {
	return p.Affinity.Any() || len(p.Spread) > 0 || !p.SpreadSelector.SelectsNothing() && !p.SpreadSelector.SelectsAll()
}

// makeRoom evicts classes until one more fits. It does not if those were used more
// recently than the class that asks, which was gap decisions ago: classes in turn that
// do not all fit would evict each other for ever.
func (x *Index) makeRoom(count int, gap uint64) bool {
	need := x.classBytes()
	if need > x.config.MaxBytes {
		return false
	}
	for x.bytes+need > x.config.MaxBytes {
		var oldest *class
		for _, c := range x.classes {
			if oldest == nil || c.lastUse < oldest.lastUse {
				oldest = c
			}
		}
		if oldest == nil || count > 1 && x.clock-oldest.lastUse < gap {
			return false
		}
		x.evict(oldest)
	}
	return true
}

// classBytes is what a class of one group takes, about.
func (x *Index) classBytes() int64 {
	return int64(len(x.at))*(cellBytes+8) + treeBytes(len(x.snapshot.Nodes)) + 4096
}

// cellBytes is the size of a cell.
const cellBytes = 28

func (x *Index) evict(c *class) {
	x.stats.Evicted++
	x.bytes -= c.bytes
	delete(x.classes, c.key)
}

// account keeps the sum of what classes take.
func (x *Index) account(c *class) {
	x.bytes -= c.bytes
	c.bytes = c.size()
	x.bytes += c.bytes
}

// domainsOf returns the domains of a topology key.
func (x *Index) domainsOf(key string) *domains {
	d := x.domains[key]
	if d == nil {
		d = newDomains(key, x.snapshot)
		d.grow(len(x.at))
		x.domains[key] = d
	}
	return d
}

// maxDomains is of how many labels the values are kept.
const maxDomains = 64

// forget lets go of all classes and labels, if there are more labels than that.
func (x *Index) forget() {
	if len(x.domains) <= maxDomains {
		return
	}
	for _, c := range x.classes {
		x.evict(c)
	}
	clear(x.domains)
}

// fine says whether a topology key has too many domains for nodes to be grouped by them:
// then each has few nodes, and those are looked at one by one when a pod comes or goes.
func (x *Index) fine(d *domains) bool {
	return d.present > max(x.config.Coarse, min(len(x.snapshot.Nodes)/16, 1024))
}

// mostGroups is how many groups are worth it.
func (x *Index) mostGroups() int { return max(64, len(x.snapshot.Nodes)/4) }

// markSlot has the node in a slot looked at again.
func (x *Index) markSlot(slot int32) {
	if x.marks[slot] != x.marked {
		x.marks[slot] = x.marked
		x.dirty = append(x.dirty, slot)
	}
}

// unmark forgets what was marked.
func (x *Index) unmark() {
	x.dirty = x.dirty[:0]
	if x.marked++; x.marked == 0 {
		clear(x.marks)
		x.marked = 1
	}
}
