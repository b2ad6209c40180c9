package index_test

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/berth-scheduler/berth/decider/internal/index"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// Small domains make coincidences, where mistakes are, likely.
const (
	zone     = "topology.kubernetes.io/zone"
	hostname = "kubernetes.io/hostname"
	rack     = "rack" // only some nodes have one
	podIndex = "apps.kubernetes.io/pod-index"
	gpu      = "example.com/gpu"
	licence  = "example.org/licence"
)

// extended are resources that not every cluster has.
var extended = []string{gpu, gpu, licence, "example.com/fpga", "example.com/nic"}

var (
	zones          = []string{"z1", "z1", "z2", "z2", "z3", ""}
	namespaceNames = []string{"a", "a", "a", "b", "c", "ghost"}
	imageNames     = []string{"app:v1", "base:latest", "tools:latest"}
	featureNames   = []string{"RestartAllContainersOnContainerExits", "UserNamespacesHostNetworkSupport"}
)

// step is one thing that happens in a history. All that it says can be done to any
// cluster, so that a history stays one without some of its steps.
type step struct {
	// changes happen first; nil if there are none.
	changes *berthv1.Changes
	// resync makes the long-lived snapshot anew.
	resync bool
	// ask is then asked, without a state; nil asks nothing.
	ask *berthv1.DecideRequest
	// stopAfter ends the request before this pod; negative does not.
	stopAfter int
	// bind is which of the decisions are carried out: each bit stands for those of
	// every 64th pod.
	bind uint64
	// nominate is set if room is set aside for pods while their victims leave.
	nominate bool
	// undo takes the changes back in the end: they were a what-if.
	undo bool
	// order is that of the records of the snapshot that is decoded anew.
	order uint64
	// events are the kinds of changes.
	events []string
}

// themes are what a history is about. Constraints of every kind at once would leave
// no node.
type themes struct {
	taints, cordons, nodeAffinity, ports, extended, spread, defaultSpread, podAffinity bool
	images, signals, features, nominated, preempt, tight, broken, bareNodes, twins     bool
	// rare is set if few nodes have what is extended.
	rare bool
}

// generator draws one history.
type generator struct {
	*rand.Rand
	about  themes
	config index.Config
	// size is about how many nodes there are; steps is how many steps there are.
	size, steps int
	// rare is how likely it is, in percent, that a node has what is extended, where that is
	// rare.
	rare int
	// calm is set if little happens at once.
	calm bool
	// mostly is the profile of most pods.
	mostly string
	// classes are drawn from again and again.
	classes []*berthv1.Pod
	names   int
}

func newGenerator(seed, number uint64) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, number))}
	g.size, g.steps = 3+g.IntN(10), 40
	switch n := g.IntN(100); {
	case n < 4:
		g.size, g.steps = 60+g.IntN(240), 15
	case n < 16:
		g.size, g.steps = 13+g.IntN(30), 30
	}
	g.calm = g.percent(30)
	g.about = themes{
		taints: g.percent(35), cordons: g.percent(20), nodeAffinity: g.percent(40), ports: g.percent(25),
		extended: g.percent(25), spread: g.percent(50), defaultSpread: g.percent(35), podAffinity: g.percent(50),
		images: g.percent(30), signals: g.percent(25), features: g.percent(15), nominated: g.percent(20),
		preempt: g.percent(35), tight: g.percent(40), broken: g.percent(20), bareNodes: g.percent(30),
		twins: g.percent(30), rare: g.percent(40),
	}
	g.config.MinUses = pick(g, 0, 1, 1, 1, 2)
	g.config.Coarse = pick(g, 0, 1, 2, 3)
	g.config.MaxBytes = pick[int64](g, 0, 0, 0, 0, 0, 1, 6<<10, 12<<10, 20<<10, 40<<10)
	g.mostly = profileNames[0]
	if g.percent(50) {
		g.mostly = pick(g, profileNames...)
		g.about.signals = g.about.signals || g.mostly == "signals"
		g.about.defaultSpread = g.about.defaultSpread || g.mostly == "list-spreading" || g.mostly == "no-default-spreading"
		g.about.extended = g.about.extended || g.mostly == "ignored-resources"
	}
	for range pick(g, 1, 2, 4, 8) {
		g.classes = append(g.classes, g.class())
	}
	return g
}

func (g *generator) percent(p int) bool { return g.IntN(100) < p }

func pick[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

// some is each of from with a chance of p percent, in order.
func some[T any](g *generator, p int, from ...T) []T {
	var out []T
	for _, x := range from {
		if g.percent(p) {
			out = append(out, x)
		}
	}
	return out
}

// fresh is a name that was not there.
func (g *generator) fresh(prefix string) string {
	g.names++
	return fmt.Sprintf("%s%d", prefix, g.names)
}

// next draws the next step of a history whose cluster is c.
func (g *generator) next(c *cluster) *step {
	s := &step{stopAfter: -1, order: g.Uint64()}
	switch {
	case len(c.nodes) == 0 && g.percent(90):
		s.changes = g.begin()
		s.events = []string{"begin"}
	case g.percent(3):
		s.resync = true
		s.events = []string{"resync"}
	case g.percent(70):
		s.changes = &berthv1.Changes{}
		count := pick(g, 1, 1, 2, 4) * (1 + g.size/60)
		if g.calm {
			count = 1
		}
		for range count {
			e := g.event()
			if e.change(g, c, s.changes) {
				s.events = append(s.events, e.name)
			}
		}
		if g.percent(15) {
			s.undo = true
			s.events = append(s.events, "what-if")
		}
	}
	if s.undo || s.changes == nil || g.percent(60) {
		s.ask = g.request(c)
		s.bind = pick(g, 0, 0, math.MaxUint64, g.Uint64())
		if s.undo {
			s.bind = 0
		}
		s.nominate = g.about.nominated
		if !s.ask.Preempt && g.percent(3) {
			s.stopAfter = g.IntN(1 + len(s.ask.Pods))
		}
	}
	return s
}

// begin is a full state.
func (g *generator) begin() *berthv1.Changes {
	s := &berthv1.Changes{}
	g.rare = 1
	defer func() { g.rare = 15 }()
	for i := range g.size {
		s.Nodes = append(s.Nodes, g.node(nodeName(i)))
	}
	for range g.IntN(2 * g.size) {
		s.PlacedPods = append(s.PlacedPods, g.placed(g.fresh("p")))
	}
	for range 3 {
		if g.about.preempt {
			s.DisruptionBudgets = append(s.DisruptionBudgets, g.budget())
		}
	}
	for _, name := range []string{"a", "b", "c"} {
		if g.percent(90) {
			s.Namespaces = append(s.Namespaces, g.namespace(name))
		}
	}
	return s
}
