package simulation

import (
	"github.com/berth-scheduler/berth/watcher/internal/driver"
)

// Cause is the kind of change that woke a waiting pod.
type Cause string

const (
	byNode      Cause = "a node comes or changes"
	byNodeGone  Cause = "a node goes"
	byBinding   Cause = "a pod is bound"
	byLeaving   Cause = "a pod changes or begins to leave"
	byPodGone   Cause = "a pod goes"
	byNominated Cause = "a nomination comes or goes"
	byItself    Cause = "the pod itself changes"
	byPromise   Cause = "a promise is made"
	byForgotten Cause = "a promise is taken back"
	byBudget    Cause = "a budget changes"
	byDeciders  Cause = "a decider is reached"
	byEvictions Cause = "a nomination or an eviction ends"
	inFlight    Cause = "something while it was decided about"
	byNet       Cause = "the net"
)

// Causes are all of them.
var Causes = []Cause{byNode, byNodeGone, byBinding, byLeaving, byPodGone, byNominated, byItself, byPromise, byForgotten, byBudget,
	byDeciders, byEvictions, inFlight, byNet}

// causeOf is what an event is to a pod that waits.
func causeOf(ev driver.Event, s *sighting) Cause {
	switch ev := ev.(type) {
	case driver.NodeChanged:
		return byNode
	case driver.NodeGone:
		return byNodeGone
	case driver.PodChanged:
		switch {
		case ev.Pod.UID == s.uid:
			return byItself
		case ev.Pod.Spec.NodeName == "":
			return byNominated
		case ev.Pod.DeletionTimestamp != nil || ev.Pod.Labels[changedLabel] != "":
			return byLeaving
		}
		return byBinding
	case driver.PodGone:
		return byPodGone
	case driver.Decided:
		return byPromise
	case driver.BindDone, driver.ReadDone:
		return byForgotten
	case driver.BudgetChanged, driver.BudgetGone:
		return byBudget
	case driver.DecidersChanged, driver.CapacityChanged:
		return byDeciders
	case driver.NominateDone, driver.EvictDone:
		return byEvictions
	}
	return byNet
}
