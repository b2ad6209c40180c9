// Package queue is the waiting room: which pods wait for a node, in what order,
// and until when or until what.
//
// It is a value without clock or goroutines: time comes in as an argument, and
// one caller at a time uses it.
package queue

import (
	"cmp"
	"container/heap"
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
// interest are woken together.
type Interest struct {
	// Sorts has a bit for each sort of change that may be.
	Sorts uint16
	// Key tells interests in the same sorts apart.
	Key string
}

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

	state    State
	interest *interested // Waiting
	place    int         // among those of the interest
	order    uint64      // breaks ties of Entered: first come, first served
	failures int         // in a row, for the backoff
	until    time.Time   // Backoff: its end; Waiting: the backoff's end
	net      time.Time   // Waiting: when MaxWait is over
	index    int         // in the heap of its state
}

// State is where the entry is.
func (e *Entry) State() State { return e.state }

// Until is the end of the entry's backoff.
func (e *Entry) Until() time.Time { return e.until }

// Queue holds the pods that wait. Use New.
type Queue struct {
	entries map[types.UID]*Entry
	active  map[Group]*ordered
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
		active:   map[Group]*ordered{},

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

// Remove takes a pod out for good. It may be in any state, or not there.
func (q *Queue) Remove(uid types.UID) {
	e := q.entries[uid]
	if e == nil {
		return
	}
	q.take(e)
	delete(q.entries, uid)
}

// Pop hands out active pods of one group, highest priority first, then by time of
// entering. limitOf says how many of a group may go; of the groups with a limit
// above 0 the one with the first pod is taken. The pods are Out until one of
// Return, Fail, Reject and Remove.
func (q *Queue) Pop(limitOf func(Group) int) []*Entry {
	var best *ordered
	limit := 0
	for g, h := range q.active {
		if n := limitOf(g); n > 0 && (best == nil || h.compare(h.list[0], best.list[0]) < 0) {
			best, limit = h, n
		}
	}
	if best == nil {
		return nil
	}
	popped := make([]*Entry, 0, min(limit, len(best.list)))
	for len(popped) < limit && len(best.list) > 0 {
		e := best.list[0]
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
// see WakeWhere.
func (q *Queue) Reject(now time.Time, uid types.UID, interest Interest) {
	e := q.out(uid)
	q.take(e)
	q.punish(now, e)
	e.interest = q.shared(interest)
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

// WakeAll is Wake for every waiting pod.
func (q *Queue) WakeAll(now time.Time) {
	for len(q.waiting.list) > 0 {
		q.Wake(now, q.waiting.list[len(q.waiting.list)-1].UID)
	}
}

// WakeWhere is Wake for every waiting pod whose interest has a bit of sort and is worth
// it, which is asked once per interest, of any pod that has it.
func (q *Queue) WakeWhere(now time.Time, sort uint16, worth func(*Entry) bool) {
	if !q.concerns(sort) {
		return
	}
	for _, i := range q.interested {
		if i.interest.Sorts&sort == 0 {
			continue
		}
		for asked := false; len(i.entries) > 0; asked = true {
			e := i.entries[len(i.entries)-1]
			if !asked && !worth(e) {
				break
			}
			q.Wake(now, e.UID)
		}
	}
}

// interested are the waiting pods of one interest.
type interested struct {
	interest Interest
	entries  []*Entry // in no order
}

// shared is what pods have that have the interest.
func (q *Queue) shared(interest Interest) *interested {
	i := q.interested[interest]
	if i == nil {
		i = &interested{interest: interest}
		q.interested[interest] = i
		q.count(interest, 1)
	}
	return i
}

// leave takes an entry out of those of its interest.
func (q *Queue) leave(e *Entry) {
	i := e.interest
	last := len(i.entries) - 1
	i.entries[e.place] = i.entries[last]
	i.entries[e.place].place = e.place
	i.entries[last] = nil // the array outlives the entry
	i.entries = i.entries[:last]
	if last == 0 {
		delete(q.interested, i.interest)
		q.count(i.interest, -1)
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
		h := q.active[e.Group]
		if h == nil {
			h = &ordered{compare: byPriority}
			q.active[e.Group] = h
		}
		heap.Push(h, e)
	case Backoff:
		heap.Push(&q.backoff, e)
	case Waiting:
		heap.Push(&q.waiting, e)
		e.interest = q.shared(e.interest.interest) // nobody may have had it for a moment
		e.place = len(e.interest.entries)
		e.interest.entries = append(e.interest.entries, e)
	}
}

func (q *Queue) take(e *Entry) {
	q.counts[e.state]--
	switch e.state {
	case Active:
		h := q.active[e.Group]
		heap.Remove(h, e.index)
		if len(h.list) == 0 {
			delete(q.active, e.Group)
		}
	case Backoff:
		heap.Remove(&q.backoff, e.index)
	case Waiting:
		heap.Remove(&q.waiting, e.index)
		q.leave(e)
	}
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
