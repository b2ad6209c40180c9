package simulation

// Fault is something that goes wrong, or that others do in between. Each run has some of
// them.
type Fault int

const (
	LostReply Fault = iota
	LateReply
	DuplicateReply
	ReorderedReply
	SlowDecider
	DeciderCrash
	DeciderError
	NotDecidedTail
	LieAnyNode
	LieUnknownNode
	LieUID
	LieVictims
	LieTooMany
	LieEpoch
	LieVersion
	FormerEpoch
	BindUnknownDone
	BindUnknownNotDone
	BindRefusal
	BindSlow
	ReadFailure
	ReadLate
	NominateFailure
	EvictUnknownDone
	EvictUnknownNotDone
	EvictRefusal
	WatchStall
	WatchGap
	GapHidesPod
	GapHidesNode
	NodeFlap
	NodeCordon
	NodeShrink
	NodeGone
	NodeRecreated
	PodDeleted
	PodRecreated
	PodUpdated
	PodGated
	ForeignBinding
	ForeignPod
	ForeignNomination
	BudgetChange
	ClockForward
	ClockBack
	LeaseCut
	LeaderSuspended
	LeaderKilled
	LeaderStopped
	PoisonPod
	faults
)

// faultNames are for tables and stories.
var faultNames = [faults]string{
	LostReply:           "decider: reply lost",
	LateReply:           "decider: reply after the deadline",
	DuplicateReply:      "decider: reply twice",
	ReorderedReply:      "decider: reply overtaken",
	SlowDecider:         "decider: slow",
	DeciderCrash:        "decider: crash",
	DeciderError:        "decider: error",
	NotDecidedTail:      "decider: tail not decided",
	LieAnyNode:          "lie: any node",
	LieUnknownNode:      "lie: unknown node",
	LieUID:              "lie: node's uid",
	LieVictims:          "lie: victims",
	LieTooMany:          "lie: too many decisions",
	LieEpoch:            "lie: epoch",
	LieVersion:          "lie: version",
	FormerEpoch:         "lie: state of the former leader",
	BindUnknownDone:     "bind: unknown, done",
	BindUnknownNotDone:  "bind: unknown, not done",
	BindRefusal:         "bind: refused",
	BindSlow:            "bind: slow",
	ReadFailure:         "read: fails",
	ReadLate:            "read: late",
	NominateFailure:     "nominate: fails",
	EvictUnknownDone:    "evict: unknown, done",
	EvictUnknownNotDone: "evict: unknown, not done",
	EvictRefusal:        "evict: refused",
	WatchStall:          "watch: stalls",
	WatchGap:            "watch: gap and relist",
	GapHidesPod:         "watch: gap hides that a pod was made anew",
	GapHidesNode:        "watch: gap hides that a node was made anew",
	NodeFlap:            "node: flaps",
	NodeCordon:          "node: cordoned",
	NodeShrink:          "node: shrinks",
	NodeGone:            "node: gone",
	NodeRecreated:       "node: made anew",
	PodDeleted:          "pod: deleted",
	PodRecreated:        "pod: made anew",
	PodUpdated:          "pod: updated",
	PodGated:            "pod: gated",
	ForeignBinding:      "others: bind a pod",
	ForeignPod:          "others: bring a pod",
	ForeignNomination:   "others: nominate a pod",
	BudgetChange:        "others: change a budget",
	ClockForward:        "clock: forward",
	ClockBack:           "clock: back",
	LeaseCut:            "leader: cut off from the lease",
	LeaderSuspended:     "leader: suspended",
	LeaderKilled:        "leader: killed",
	LeaderStopped:       "leader: stopped",
	PoisonPod:           "pod: always fails",
}

// String is the fault as tables print it.
func (f Fault) String() string { return faultNames[f] }

// needsEviction are the faults that only a driver that evicts can meet.
func (f Fault) needsEviction() bool {
	switch f {
	case LieVictims, NominateFailure, EvictUnknownDone, EvictUnknownNotDone, EvictRefusal:
		return true
	}
	return false
}

// Faults is a set of them.
type Faults uint64

// Has says whether the fault is in the set.
func (s Faults) Has(f Fault) bool { return s>>f&1 != 0 }

// Without is the set without the fault.
func (s Faults) Without(f Fault) Faults { return s &^ (1 << f) }
