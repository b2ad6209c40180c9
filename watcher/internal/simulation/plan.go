package simulation

import (
	"slices"
	"time"
)

// Plan is a run that has not happened: its course depends on nothing else.
type Plan struct {
	Seed uint64
	// Faults are those that may happen.
	Faults Faults
	// Acts are what happens to the cluster and the processes from outside, in order.
	Acts []Act
	// End is when faults stop; the acts are over by then.
	End time.Duration
	// Standby says that there are two watchers and a Lease; otherwise there is one, which
	// always leads.
	Standby bool
	// Spared are faults that would happen by chance and do not.
	Spared map[uint64]bool
}

// Act is one thing that happens from outside.
type Act struct {
	At   time.Duration
	Kind ActKind
	// draw says to whom, and how.
	draw draw
}

// ActKind tells the acts apart.
type ActKind int

const (
	createNode ActKind = iota
	createPod
	deletePod
	recreatePod
	updatePod
	gatePod
	ungatePod
	foreignBind
	foreignPod
	nominatePod
	deleteNode
	recreateNode
	cordonNode
	flapNode
	resizeNode
	changeBudget
	gapInWatch
	stallWatch
	crashDecider
	moveClock
	cutLease
	suspendLeader
	killLeader
	stopLeader
	actKinds
)

// weights are how often each act is planned. The first four make the cluster.
var weights = [actKinds]int{
	createNode: 5, createPod: 30, deletePod: 14, recreatePod: 4, updatePod: 8, gatePod: 3, ungatePod: 8,
	foreignBind: 5, foreignPod: 4, nominatePod: 4, deleteNode: 3, recreateNode: 3, cordonNode: 6, flapNode: 4,
	resizeNode: 6, changeBudget: 3, gapInWatch: 6, stallWatch: 4, crashDecider: 3, moveClock: 3,
	cutLease: 3, suspendLeader: 2, killLeader: 2, stopLeader: 2,
}

// NewPlan is the plan of a seed.
func NewPlan(seed uint64) *Plan {
	d := source(mix(seed + 1)).at(0)
	p := &Plan{Seed: seed, Standby: d.in(350)}
	// Each run has some of the faults only, so that some of them come often in it and
	// others do not get in their way.
	density := of(&d, 250, 500, 750)
	for f := range faults {
		if d.in(density) {
			p.Faults |= 1 << f
		}
	}
	total := 0
	for _, w := range weights {
		total += w
	}
	act := func(kind ActKind) { p.Acts = append(p.Acts, Act{p.End, kind, draw(d.next())}) }
	for range 2 + d.below(4) {
		act(createNode)
	}
	for range 2 + d.below(5) {
		p.End += d.between(0, 20*time.Millisecond)
		act(createPod)
	}
	hurry := of(&d, 0, 300, 600)
	for range 15 + d.below(30) {
		if d.in(700) {
			p.End += d.between(time.Millisecond, 60*time.Millisecond)
		} else if d.in(hurry) {
			p.End += d.between(100*time.Millisecond, 2*time.Second)
		} else {
			p.End += d.between(time.Second, 9*time.Second)
		}
		n := d.below(total)
		kind := ActKind(slices.IndexFunc(weights[:], func(w int) bool { n -= w; return n < 0 }))
		act(kind)
	}
	p.End += d.between(10*time.Millisecond, 3*time.Second)
	return p
}
