// Package queue is the waiting room: which pods wait for a node, in what order,
// and until when or until what.
//
// It is a value without clock or goroutines: time comes in as an argument, and
// one caller at a time uses it.
package queue

import (
	"cmp"
	"container/heap"
	"container/list"
	"math"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// MaxWait is how long a pod waits for a change that makes it worth another try
// before it is tried anyway. Each use is a missed wake-up: see Queue.Netted.
const MaxWait = 5 * time.Minute

// Backoffs are how long pods wait that failed. 0 means kube-scheduler's default.
type Backoffs struct {
	// Initial is how long a pod waits after its first failure; it doubles with each
	// further one. As kube-scheduler's podInitialBackoffSeconds, 1 second.
	Initial time.Duration
	// Max is the longest backoff. As kube-scheduler's podMaxBackoffSeconds, 10
	// seconds.
	Max time.Duration
}

// State is where in the queue a pod is.
//
//	          Add                    Pop
//	(none) ─────────► Active ──────────────────► (out)
//	                   ▲  ▲                        │ │ │
//	    backoff is over│  └────── Return ──────────┘ │ │
//	                   │                             │ │
//	                 Backoff ◄──────── Fail ─────────┘ │
//	                   ▲                               │
//	               Wake│ (Active if the backoff is over)
//	                   │                               │
//	                 Waiting ◄──────── Reject ─────────┘
type State int

const (
	// Active pods are taken by Pop.
	Active State = iota
	// Backoff pods become active by themselves when their backoff is over.
	Backoff
	// Waiting pods wait for Wake, MaxWait at most.
	Waiting
	// Out are pods that Pop has handed out.
	Out
	states
)

// String is the state as stories and metrics print it.
func (s State) String() string {
	return [...]string{"active", "backoff", "unschedulable", "out"}[s]
}

// Interest is which changes are worth another try of a waiting pod. Pods of one
// interest are asked about together.
type Interest struct {
	// Sorts has a bit for each sort of change that may be.
	Sorts uint16
	// Key tells interests in the same sorts apart.
	Key string
}

// All is what a change is worth to all pods.
const All = math.MaxInt

// Group tells apart pods that cannot share a batch.
type Group struct {
	SchedulerName string
	// Fallback is which of the scheduler name's deciders is asked.
	Fallback int
	// Most is the most pods in a batch; 0 means as many as may be.
	Most int
}

// Entry is a pod in the queue. Its fields are the queue's to change.
type Entry struct {
	UID      types.UID
	Group    Group
	Priority int32
	// Entered is when the pod last came into the queue: the order among equal
	// priorities. Pods that come back refresh it, as in kube-scheduler.
	Entered time.Time
	// Attempts counts Pops.
	Attempts int
	// Together says that the pod must not be handed out while others are out that
	// interact with it: see Queue.SetTogether.
	Together bool

	state    State
	class    *class        // Waiting: its equals
	place    *list.Element // Waiting: in the class
	turn     *turn         // taken when it was woken in place of its equals; nil if it was not
	order    uint64        // breaks ties of Entered: first come, first served
	failures int           // in a row, for the backoff
	until    time.Time     // Backoff: its end; Waiting: the backoff's end
	net      time.Time     // Waiting: when MaxWait is over
	index    int           // in the heap of its state
}

// State is where the entry is.
func (e *Entry) State() State { return e.state }

// Until is the end of the entry's backoff.
func (e *Entry) Until() time.Time { return e.until }

// Queue holds the pods that wait. Use New.
type Queue struct {
	entries map[types.UID]*Entry
	active  map[Group]*lanes
	backoff ordered
	waiting ordered
	// interested are the waiting pods again, by interest: about one for each workload.
	interested map[Interest]*interested
	// sorts counts, for each sort of change, the interests in it. Most changes are
	// bindings, which hardly anybody waits for.
	sorts   [16]int
	counts  [states]int
	entered uint64
	netted  int

	backoffs Backoffs
}

// New returns an empty queue.
func New(backoffs Backoffs) *Queue {
	if backoffs.Initial == 0 {
		backoffs.Initial = time.Second
	}
	if backoffs.Max == 0 {
		backoffs.Max = 10 * time.Second
	}
	return &Queue{
		backoffs: backoffs,
		entries:  map[types.UID]*Entry{},
		active:   map[Group]*lanes{},

		interested: map[Interest]*interested{},
		backoff: ordered{compare: func(a, b *Entry) int {
			return cmp.Or(a.until.Compare(b.until), -cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.order, b.order))
		}},
		waiting: ordered{compare: func(a, b *Entry) int {
			return cmp.Or(a.net.Compare(b.net), cmp.Compare(a.order, b.order))
		}},
	}
}

// Get returns the pod's entry, nil if it is not in the queue.
func (q *Queue) Get(uid types.UID) *Entry { return q.entries[uid] }

// Len counts the entries in one state.
func (q *Queue) Len(s State) int { return q.counts[s] }

// Netted counts the pods that were tried again only because MaxWait was over.
func (q *Queue) Netted() int { return q.netted }

// Add puts a pod that is not in the queue among the active ones.
func (q *Queue) Add(now time.Time, uid types.UID, group Group, priority int32) {
	if q.entries[uid] != nil {
		panic("queue: pod added twice: " + string(uid))
	}
	e := &Entry{UID: uid, Group: group, Priority: priority}
	q.entries[uid] = e
	q.enter(now, e)
	q.push(e, Active)
}

// Remove takes a pod out for good. It may be in any state, or not there. A turn that it
// took is lost: see PassOn.
func (q *Queue) Remove(uid types.UID) {
	e := q.entries[uid]
	if e == nil {
		return
	}
	q.take(e)
	delete(q.entries, uid)
}

// SetTogether says whether the pod interacts with others that wait. It may be in any
// state, or not there.
func (q *Queue) SetTogether(uid types.UID, together bool) {
	e := q.entries[uid]
	if e == nil || e.Together == together {
		return
	}
	s := e.state
	if s != Active { // the only state that tells them apart
		e.Together = together
		return
	}
	q.take(e)
	e.Together = together
	q.push(e, s)
}

// Pop hands out active pods of one group, highest priority first, then by time of
// entering. limitOf says how many of a group may go; of the groups with a limit
// above 0 the one with the first pod is taken. Pods that are Together are passed over
// unless together is set. The pods are Out until one of Return, Fail, Reject and Remove.
func (q *Queue) Pop(limitOf func(Group) int, together bool) []*Entry {
	var best *lanes
	limit := 0
	for g, l := range q.active {
		n := limitOf(g)
		if n <= 0 || l.first(together) == nil {
			continue
		}
		if best == nil || byPriority(l.first(together), best.first(together)) < 0 {
			best, limit = l, n
		}
	}
	if best == nil {
		return nil
	}
	popped := make([]*Entry, 0, min(limit, best.len()))
	for len(popped) < limit {
		e := best.first(together)
		if e == nil {
			break
		}
		q.take(e)
		e.Attempts++
		q.push(e, Out)
		popped = append(popped, e)
	}
	return popped
}

// Return makes a pod that is out active again, without a backoff: what happened
// says nothing about the pod.
func (q *Queue) Return(uid types.UID) {
	e := q.out(uid)
	q.take(e)
	q.push(e, Active)
}

// Fail lets a pod that is out back off and become active again by itself.
func (q *Queue) Fail(now time.Time, uid types.UID) {
	e := q.out(uid)
	q.take(e)
	q.punish(now, e)
	q.push(e, Backoff)
}

// Reject lets a pod that is out wait for Wake. interest is which changes concern it:
// see WakeWhere. Pods of one interest and one class are equal: what is no place for one of
// them is none for the others.
func (q *Queue) Reject(now time.Time, uid types.UID, interest Interest, class string) {
	e := q.out(uid)
	q.take(e)
	q.punish(now, e)
	e.turn = nil
	e.class = q.shared(interest, class)
	e.net = now.Add(MaxWait)
	q.push(e, Waiting)
}

// Wake makes one waiting pod active, or lets it finish its backoff first. Pods
// in other states stay as they are.
func (q *Queue) Wake(now time.Time, uid types.UID) {
	e := q.entries[uid]
	if e == nil || e.state != Waiting {
		return
	}
	q.take(e)
	if e.until.After(now) {
		q.push(e, Backoff)
	} else {
		q.push(e, Active)
	}
}

// WakeNow makes a pod active that waits or backs off, whatever is left of its backoff: it
// is known to fit now. Pods in other states stay as they are.
func (q *Queue) WakeNow(uid types.UID) {
	e := q.entries[uid]
	if e == nil || e.state != Waiting && e.state != Backoff {
		return
	}
	q.take(e)
	q.push(e, Active)
}

// WakeAll is Wake for every waiting pod.
func (q *Queue) WakeAll(now time.Time) {
	for len(q.waiting.list) > 0 {
		q.Wake(now, q.waiting.list[len(q.waiting.list)-1].UID)
	}
}

// WakeWhere is Wake for waiting pods whose interest has a bit of sort: for as many of
// each class as it is worth, All of them perhaps, which is asked once per interest, of any
// pod that has it. Those that have waited longest since they were rejected come first.
//
// The change is on the node, "" for none. Where it is not worth waking all, those that
// are woken take the turn of the others for that node: see PassOn.
func (q *Queue) WakeWhere(now time.Time, sort uint16, node string, worth func(*Entry) int) {
	if !q.concerns(sort) {
		return
	}
	for _, i := range q.interested {
		if i.interest.Sorts&sort == 0 {
			continue
		}
		n := worth(i.any())
		if n <= 0 {
			continue
		}
		for _, c := range i.classes {
			q.wake(now, c, node, n)
		}
	}
}

// wake wakes at most n of a class.
func (q *Queue) wake(now time.Time, c *class, node string, n int) {
	for ; n > 0 && c.waiting.Len() > 0; n-- {
		e := c.waiting.Front().Value.(*Entry)
		q.Wake(now, e.UID)
		if n != All && c.waiting.Len() > 0 {
			e.turn = &turn{c.of.interest, c.name, node}
		}
	}
}

// PassOn gives a turn that the pod took, but did not use, to the next of its equals: the
// pod is not there any more, is another one now, or got a place on another node than the
// one that was free. It does nothing to a pod without a turn.
func (q *Queue) PassOn(now time.Time, uid types.UID, placedOn string) {
	e := q.entries[uid]
	if e == nil || e.turn == nil {
		return
	}
	t := e.turn
	e.turn = nil
	if placedOn == t.node {
		return // that was its turn
	}
	if i := q.interested[t.interest]; i != nil && i.classes[t.class] != nil {
		q.wake(now, i.classes[t.class], t.node, 1)
	}
}

// turn is the try that a pod was woken for in place of others of a class, because there
// is room for so many on a node.
type turn struct {
	interest Interest
	class    string
	node     string
}

// interested are the waiting pods of one interest.
type interested struct {
	interest Interest
	classes  map[string]*class
}

// any is one of them.
func (i *interested) any() *Entry {
	for _, c := range i.classes {
		return c.waiting.Front().Value.(*Entry)
	}
	return nil
}

// class is waiting pods that are equal.
type class struct {
	of      *interested
	name    string
	waiting list.List // of *Entry, by when they were rejected
}

// shared is the class, which is new if there was none.
func (q *Queue) shared(interest Interest, name string) *class {
	i := q.interested[interest]
	if i == nil {
		i = &interested{interest: interest, classes: map[string]*class{}}
		q.interested[interest] = i
		q.count(interest, 1)
	}
	c := i.classes[name]
	if c == nil {
		c = &class{of: i, name: name}
		i.classes[name] = c
	}
	return c
}

// leave takes an entry out of its class.
func (q *Queue) leave(e *Entry) {
	c := e.class
	c.waiting.Remove(e.place)
	e.place = nil
	if c.waiting.Len() > 0 {
		return
	}
	delete(c.of.classes, c.name)
	if len(c.of.classes) == 0 {
		delete(q.interested, c.of.interest)
		q.count(c.of.interest, -1)
	}
}

func (q *Queue) count(interest Interest, by int) {
	for bit := range q.sorts {
		if interest.Sorts>>bit&1 != 0 {
			q.sorts[bit] += by
		}
	}
}

// concerns says whether a waiting pod has an interest in one of the sorts.
func (q *Queue) concerns(sorts uint16) bool {
	for bit, interests := range q.sorts {
		if sorts>>bit&1 != 0 && interests > 0 {
			return true
		}
	}
	return false
}

// Regroup moves a pod to another group.
func (q *Queue) Regroup(uid types.UID, g Group) {
	e := q.entries[uid]
	s := e.state
	q.take(e)
	e.Group = g
	q.push(e, s)
}

// Expire makes the pods active whose backoff or MaxWait is over.
func (q *Queue) Expire(now time.Time) {
	for len(q.backoff.list) > 0 && !q.backoff.list[0].until.After(now) {
		e := q.backoff.list[0]
		q.take(e)
		q.push(e, Active)
	}
	for len(q.waiting.list) > 0 && !q.waiting.list[0].net.After(now) {
		q.netted++
		q.Wake(now, q.waiting.list[0].UID)
	}
}

// Next is when Expire has something to do; zero means never.
func (q *Queue) Next() time.Time {
	var next time.Time
	if len(q.backoff.list) > 0 {
		next = q.backoff.list[0].until
	}
	if len(q.waiting.list) > 0 && (next.IsZero() || q.waiting.list[0].net.Before(next)) {
		next = q.waiting.list[0].net
	}
	return next
}

// punish notes one more failure in a row.
func (q *Queue) punish(now time.Time, e *Entry) {
	d := min(q.backoffs.Initial, q.backoffs.Max)
	for i := 0; i < e.failures && d < q.backoffs.Max; i++ {
		d += min(d, q.backoffs.Max-d)
	}
	e.failures++
	e.until = now.Add(d)
	q.enter(now, e)
}

// enter puts an entry behind those that are there.
func (q *Queue) enter(now time.Time, e *Entry) {
	q.entered++
	e.Entered, e.order = now, q.entered
}

func (q *Queue) out(uid types.UID) *Entry {
	e := q.entries[uid]
	if e == nil || e.state != Out {
		panic("queue: pod is not out: " + string(uid))
	}
	return e
}

// push and take are the only functions that move entries between states.
func (q *Queue) push(e *Entry, s State) {
	e.state = s
	q.counts[s]++
	switch s {
	case Active:
		l := q.active[e.Group]
		if l == nil {
			l = &lanes{alone: ordered{compare: byPriority}, together: ordered{compare: byPriority}}
			q.active[e.Group] = l
		}
		heap.Push(l.of(e), e)
	case Backoff:
		heap.Push(&q.backoff, e)
	case Waiting:
		heap.Push(&q.waiting, e)
		e.class = q.shared(e.class.of.interest, e.class.name) // nobody may have had it for a moment
		e.place = e.class.waiting.PushBack(e)
	}
}

func (q *Queue) take(e *Entry) {
	q.counts[e.state]--
	switch e.state {
	case Active:
		l := q.active[e.Group]
		heap.Remove(l.of(e), e.index)
		if l.len() == 0 {
			delete(q.active, e.Group)
		}
	case Backoff:
		heap.Remove(&q.backoff, e.index)
	case Waiting:
		heap.Remove(&q.waiting, e.index)
		q.leave(e)
	}
}

// lanes are the active pods of a group: those that interact with others, and the rest.
type lanes struct{ alone, together ordered }

func (l *lanes) of(e *Entry) *ordered {
	if e.Together {
		return &l.together
	}
	return &l.alone
}

func (l *lanes) len() int { return l.alone.Len() + l.together.Len() }

// first is the first pod, of those that are alone unless together is set; nil if there
// is none.
func (l *lanes) first(together bool) *Entry {
	var first *Entry
	if l.alone.Len() > 0 {
		first = l.alone.list[0]
	}
	if together && l.together.Len() > 0 && (first == nil || byPriority(l.together.list[0], first) < 0) {
		first = l.together.list[0]
	}
	return first
}

// byPriority is kube-scheduler's PrioritySort, made total.
func byPriority(a, b *Entry) int {
	return cmp.Or(-cmp.Compare(a.Priority, b.Priority), a.Entered.Compare(b.Entered), cmp.Compare(a.order, b.order))
}

// ordered is a heap of entries that know their place in it.
type ordered struct {
	list    []*Entry
	compare func(a, b *Entry) int
}

func (o *ordered) Len() int           { return len(o.list) }
func (o *ordered) Less(i, j int) bool { return o.compare(o.list[i], o.list[j]) < 0 }
func (o *ordered) Swap(i, j int) {
	o.list[i], o.list[j] = o.list[j], o.list[i]
	o.list[i].index, o.list[j].index = i, j
}
func (o *ordered) Push(x any) {
	e := x.(*Entry)
	e.index = len(o.list)
	o.list = append(o.list, e)
}
func (o *ordered) Pop() any {
	last := len(o.list) - 1
	e := o.list[last]
	o.list[last] = nil // the array outlives the entry
	o.list = o.list[:last]
	return e
}
