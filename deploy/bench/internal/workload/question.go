package workload

import (
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// HypotheticalNodes is how many more nodes a Question is about.
const HypotheticalNodes = 1000

// hypothetical is what their names begin with.
const hypothetical = "what-if-"

// Question asks a decider, about the state that it is fed, where a pod would go if
// there were HypotheticalNodes more nodes, twice the size of those of Nodes. As
// they are empty and larger, the pod would go to one of them.
func Question() *berthv1.DecideRequest {
	p := newPod("what-if", "nobody")
	needs := amounts(p.Spec.Containers[0].Resources.Requests)
	more := make([]*berthv1.Node, HypotheticalNodes)
	for i := range more {
		n := newNode(fmt.Sprintf("%s%05d", hypothetical, i), zones[i%len(zones)])
		room := amounts(n.Status.Allocatable)
		room[string(corev1.ResourceCPU)] *= 2
		room[string(corev1.ResourceMemory)] *= 2
		more[i] = &berthv1.Node{Name: n.Name, Labels: n.Labels, Allocatable: room}
	}
	return &berthv1.DecideRequest{
		State:        &berthv1.DecideRequest_Reference{Reference: &berthv1.StateReference{}},
		Pods:         []*berthv1.Pod{{Uid: p.Name, Namespace: p.Namespace, Name: p.Name, Requests: needs, ScoreRequests: needs}},
		Hypothetical: &berthv1.Changes{Nodes: more},
	}
}

// CheckAnswer returns an error unless answer says what a Question is known to have
// for an answer.
func CheckAnswer(answer *berthv1.DecideResponse) error {
	if answer.GetEpoch() == "" {
		return errors.New("the answer is about no state that was fed")
	}
	if n := len(answer.GetDecisions()); n != 1 {
		return fmt.Errorf("%d decisions about one pod", n)
	}
	d := answer.GetDecisions()[0]
	if d.GetOutcome() != berthv1.Outcome_OUTCOME_PLACED {
		return fmt.Errorf("the pod has no node: %v", d)
	}
	for _, c := range d.GetCandidates() {
		if !strings.HasPrefix(c.GetNodeName(), hypothetical) {
			return fmt.Errorf("the pod would go to %s, which is smaller and no emptier than what might be there", c.GetNodeName())
		}
	}
	return nil
}

// amounts is list in the contract's units.
func amounts(list corev1.ResourceList) map[string]int64 {
	m := map[string]int64{}
	for name, q := range list {
		m[string(name)] = q.Value()
	}
	cpu := list[corev1.ResourceCPU]
	m[string(corev1.ResourceCPU)] = cpu.MilliValue()
	return m
}
