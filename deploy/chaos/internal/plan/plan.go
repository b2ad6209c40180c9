// Package plan draws what is broken in a run, and when.
package plan

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// A Kind is what is broken.
type Kind string

// The kinds.
const (
	Decider   Kind = "decider"   // a decider is killed
	Watcher   Kind = "watcher"   // the watcher that leads is killed
	APIServer Kind = "apiserver" // kube-apiserver is killed
	Etcd      Kind = "etcd"      // etcd is killed
	Proxy     Kind = "proxy"     // connections of one link are broken
)

// Kinds are all of them.
var Kinds = []Kind{Decider, Watcher, APIServer, Etcd, Proxy}

// weights are how many faults of each kind there are for one of the rarest.
var weights = map[Kind]int{Decider: 3, Watcher: 1, APIServer: 1, Etcd: 1, Proxy: 6}

// A How says what is done to a link.
type How string

// The ways.
const (
	Drop      How = "drop"       // connections are reset
	Delay     How = "delay"      // everything arrives late
	Hold      How = "black-hole" // nothing arrives
	HalfClose How = "half-close" // connections end in one direction
)

var ways = []How{Drop, Delay, Hold, HalfClose}

// A Fault is one thing that is broken.
type Fault struct {
	At   time.Duration // since the beginning
	Kind Kind
	// For is how long a process stays dead or a link broken; 0 of Drop and HalfClose.
	For time.Duration
	// Target is which decider, from 0, or which link: first the deciders', then the
	// watchers' to the API server. 0 where there is only one.
	Target int
	How    How           // of Proxy alone
	Late   time.Duration // of Delay alone, in each direction
	Toward int           // of HalfClose alone: 0 or 1, the side that is told
}

// A Setting is what a plan is drawn for.
type Setting struct {
	Seed     uint64
	Kinds    []Kind
	Length   time.Duration
	Deciders int
	Watchers int
}

const (
	// gap is the time between two faults on average. A leader that is killed is
	// followed by the next after 15 s and more, so that faults come while one is still
	// felt; one watcher in a dozen faults leaves time to schedule in between.
	gap = 8 * time.Second
	// calm is the part of the run, at its end, in which no fault begins.
	calm = 0.1
)

// Draw returns the faults in the order of their time. Equal settings have equal plans.
// Every kind has one at least.
func Draw(s Setting) []Fault {
	if len(s.Kinds) == 0 {
		return nil
	}
	random := rand.New(rand.NewPCG(s.Seed, 1))
	span := time.Duration(float64(s.Length) * (1 - calm))
	n := max(len(s.Kinds), int(span/gap))
	kinds := draw(random, s.Kinds, n)
	var faults []Fault
	for i, kind := range kinds {
		slot := span / time.Duration(n)
		f := Fault{At: time.Duration(i)*slot + time.Duration(random.Int64N(int64(slot))), Kind: kind}
		switch kind {
		case Decider:
			f.Target, f.For = random.IntN(s.Deciders), between(random, 0, 5*time.Second)
		case Watcher:
			f.For = between(random, 0, 10*time.Second)
		case APIServer, Etcd:
			f.For = between(random, 0, 5*time.Second)
		case Proxy:
			f.Target, f.How = random.IntN(s.Deciders+s.Watchers), ways[random.IntN(len(ways))]
			switch f.How {
			case Delay:
				f.For, f.Late = between(random, 2*time.Second, 15*time.Second), between(random, 50*time.Millisecond, 2*time.Second)
			case Hold:
				f.For = between(random, time.Second, 20*time.Second)
			case HalfClose:
				f.Toward = random.IntN(2)
			}
		}
		faults = append(faults, f)
	}
	return faults
}

// draw returns n kinds: each of them once, and then by weight, in random order.
func draw(random *rand.Rand, of []Kind, n int) []Kind {
	shuffle := func(k []Kind) { random.Shuffle(len(k), func(i, j int) { k[i], k[j] = k[j], k[i] }) }
	kinds := slices.Clone(of)
	shuffle(kinds)
	for len(kinds) < n {
		var bag []Kind
		for _, k := range of {
			bag = append(bag, slices.Repeat([]Kind{k}, weights[k])...)
		}
		shuffle(bag)
		kinds = append(kinds, bag...)
	}
	return kinds[:n]
}

// between draws a duration, in whole milliseconds.
func between(random *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(random.Int64N(int64((high-low)/time.Millisecond)))*time.Millisecond
}

// Label is the kind and, of a link, what is done to it.
func (f Fault) Label() string {
	if f.Kind == Proxy {
		return string(f.Kind) + " " + string(f.How)
	}
	return string(f.Kind)
}

// String is a line for people.
func (f Fault) String() string {
	text := fmt.Sprintf("%6.1f s  %s", f.At.Seconds(), f.Label())
	switch {
	case f.Kind == Decider:
		text += fmt.Sprintf(" %d", f.Target+1)
	case f.Kind == Proxy:
		text += fmt.Sprintf(" link %d", f.Target+1)
	}
	if f.For > 0 {
		text += fmt.Sprintf(" for %.1f s", f.For.Seconds())
	}
	if f.Late > 0 {
		text += fmt.Sprintf(", %.2f s late", f.Late.Seconds())
	}
	if f.How == HalfClose {
		text += []string{" toward the watcher", " away from the watcher"}[f.Toward]
	}
	return text
}

// Parse reads kinds separated by commas.
func Parse(list string) ([]Kind, error) {
	var kinds []Kind
	for name := range strings.SplitSeq(list, ",") {
		kind := Kind(strings.TrimSpace(name))
		switch {
		case kind == "":
			continue
		case !slices.Contains(Kinds, kind):
			return nil, fmt.Errorf("no fault %q: there are %v", kind, Kinds)
		case slices.Contains(kinds, kind):
			return nil, fmt.Errorf("fault %q is there twice", kind)
		}
		kinds = append(kinds, kind)
	}
	return kinds, nil
}
