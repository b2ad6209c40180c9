package simulation

import (
	"container/heap"
	"time"
)

// occasion is something that will happen.
type occasion struct {
	at    time.Duration
	order uint64 // first come, first served
	// of is the process that it happens in; nil for what happens whoever is alive. It
	// does not happen in a process that is dead, and waits while one is suspended.
	of *process
	// idle occasions come round for ever and are no reason to go on.
	idle bool
	do   func()
}

// agenda is what will happen, in order. Nothing else makes time pass.
type agenda struct {
	list  []*occasion
	order uint64
	busy  int // occasions that are not idle
}

func (a *agenda) add(o *occasion) {
	a.order++
	o.order = a.order
	a.put(o)
}

func (a *agenda) put(o *occasion) {
	if !o.idle {
		a.busy++
	}
	heap.Push(a, o)
}

// take returns the next occasion, nil if there is none.
func (a *agenda) take() *occasion {
	if len(a.list) == 0 {
		return nil
	}
	o := heap.Pop(a).(*occasion)
	if !o.idle {
		a.busy--
	}
	return o
}

func (a *agenda) Len() int { return len(a.list) }
func (a *agenda) Less(i, j int) bool {
	x, y := a.list[i], a.list[j]
	return x.at < y.at || x.at == y.at && x.order < y.order
}
func (a *agenda) Swap(i, j int) { a.list[i], a.list[j] = a.list[j], a.list[i] }
func (a *agenda) Push(x any)    { a.list = append(a.list, x.(*occasion)) }
func (a *agenda) Pop() any {
	last := len(a.list) - 1
	o := a.list[last]
	a.list[last] = nil
	a.list = a.list[:last]
	return o
}
