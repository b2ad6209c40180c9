package simulation

import (
	"github.com/berth-scheduler/berth/watcher/internal/driver"
)

// cause is the kind of change that woke a waiting pod.
type cause string

const (
	byNode      cause = "a node comes or changes"
	byNodeGone  cause = "a node goes"
	byBinding   cause = "a pod is bound"
	byLeaving   cause = "a pod changes or begins to leave"
	byPodGone   cause = "a pod goes"
	byNominated cause = "a nomination comes or goes"
	byItself    cause = "the pod itself changes"
	byPromise   cause = "a promise is made"
	byForgotten cause = "a promise is taken back"
	byBudget    cause = "a budget changes"
	byDeciders  cause = "a decider is reached"
	byEvictions cause = "a nomination or an eviction ends"
	inFlight    cause = "something while it was decided about"
	byNet       cause = "the net"
)

var causes = []cause{byNode, byNodeGone, byBinding, byLeaving, byPodGone, byNominated, byItself, byPromise, byForgotten, byBudget,
	byDeciders, byEvictions, inFlight, byNet}

// causeOf is what an event is to a pod that waits.
func causeOf(ev driver.Event, s *sighting) cause {
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
	case driver.DecidersChanged:
		return byDeciders
	case driver.NominateDone, driver.EvictDone:
		return byEvictions
	}
	return byNet
}
