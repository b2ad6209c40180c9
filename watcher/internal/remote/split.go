package remote

import (
	"slices"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// split leaves in the request the pods whose every constraint the decider
// understands, as many as it takes at a time, and returns for the others a
// decision in its place: UNSUPPORTED, or NOT_DECIDED for those beyond. In
// instead, nil stands for the pods that are left; it is nil if all are. The
// request is nil if none is left.
func split(full *berthv1.DecideRequest, described *berthv1.DescribeResponse) (request *berthv1.DecideRequest, instead []*berthv1.Decision) {
	left, most := 0, int(described.GetLimits().GetMaxPods())
	decisions := make([]*berthv1.Decision, len(full.GetPods()))
	for i, pod := range full.GetPods() {
		for _, name := range pod.GetConstraints() {
			if !slices.Contains(described.GetConstraints(), name) {
				decisions[i] = &berthv1.Decision{
					PodUid:  pod.GetUid(),
					Outcome: berthv1.Outcome_OUTCOME_UNSUPPORTED,
					Refusal: &berthv1.Refusal{Constraint: name, Message: "the decider did not declare this constraint"},
				}
				break
			}
		}
		switch {
		case decisions[i] != nil:
		case most > 0 && left == most:
			decisions[i] = &berthv1.Decision{PodUid: pod.GetUid(), Outcome: berthv1.Outcome_OUTCOME_NOT_DECIDED}
		default:
			left++
		}
	}
	switch left {
	case len(decisions):
		return full, nil
	case 0:
		return nil, decisions
	}
	request = &berthv1.DecideRequest{State: full.GetState(), Seed: full.GetSeed(), Candidates: full.GetCandidates(), Explanation: full.GetExplanation(), Preempt: full.GetPreempt()}
	for i, pod := range full.GetPods() {
		if decisions[i] == nil {
			request.Pods = append(request.Pods, pod)
		}
	}
	return request, decisions
}

// merge puts the answers where instead has nil. It returns nil if there are not
// as many answers as gaps.
func merge(instead, answers []*berthv1.Decision) []*berthv1.Decision {
	if instead == nil {
		return answers
	}
	for i := range instead {
		if instead[i] == nil {
			if len(answers) == 0 {
				return nil
			}
			instead[i], answers = answers[0], answers[1:]
		}
	}
	if len(answers) > 0 {
		return nil
	}
	return instead
}
