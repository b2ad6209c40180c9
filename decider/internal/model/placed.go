package model

import berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"

// PlacedPod is a pod that holds room on a node, or for which room is set aside.
type PlacedPod struct {
	UID, Namespace, Name string
	// Labels are metadata.labels.
	Labels map[string]string
	// Priority is compared with that of pods that want its room.
	Priority int32
	// Terminating is set if the pod is leaving.
	Terminating bool
	// Preempted is set if it is leaving because it was evicted for another pod.
	Preempted bool
	// nominated is set if room is set aside for it.
	nominated bool
	// Start is when it started, in nanoseconds since 1970; 0 if it has not.
	Start int64
	// Requests is what it takes; ScoreRequests is what it takes as scores count
	// it.
	Requests      []Amount
	ScoreRequests ScoreAmounts
	// Ports are those that it holds.
	Ports []Port
	// Affinity is what it wants of the pods near it.
	Affinity PodAffinity

	// nodeName is the node that it is on, or for which it is kept aside.
	nodeName string
	// oddity is why its node cannot be used; nil for nearly all.
	oddity *oddity
}

// oddity is what a decider cannot do with a placed pod's record.
type oddity struct {
	// problem says what makes no sense, or is empty. A pod with one is on its node only
	// among the odd.
	problem string
	// unknown is the first constraint that is not understood, or empty.
	unknown string
}

// newPlacedPod decodes a placed pod. The error's path is relative to it.
func newPlacedPod(record *berthv1.PlacedPod, r *resources) (*PlacedPod, *FieldError) {
	q := &PlacedPod{
		UID:         record.GetUid(),
		Namespace:   record.GetNamespace(),
		Name:        record.GetName(),
		Labels:      record.GetLabels(),
		Priority:    record.GetPriority(),
		Terminating: record.GetTerminating(),
		Preempted:   record.GetPreempted(),
		Start:       record.GetStartTimeNanos(),
		nominated:   record.GetNominated(),
	}
	err := checkConstraints(record.GetConstraints())
	if err != nil {
		return nil, err
	}
	if q.Requests, err = r.requests("requests", record.GetRequests(), r.number); err != nil {
		return nil, err
	}
	q.Requests = r.share(q.Requests)
	if q.ScoreRequests, err = newScoreAmounts("score_requests", record.GetScoreRequests()); err != nil {
		return nil, err
	}
	if q.Ports, err = newPorts(record.GetHostPorts()); err != nil {
		return nil, err
	}
	if q.Affinity, err = newPodAffinity(record.GetPodAffinity(), record.GetPodAntiAffinity(), q.Namespace, newLabelSelector); err != nil {
		return nil, err
	}
	return q, nil
}

// placed returns p as a pod that holds room.
func (p *Pod) placed() *PlacedPod {
	return &PlacedPod{
		UID:           p.UID,
		Namespace:     p.Namespace,
		Name:          p.Record.GetName(),
		Labels:        p.Labels,
		Priority:      p.Priority,
		Requests:      p.Requests,
		ScoreRequests: p.PlacedScoreRequests,
		Ports:         p.Ports,
		Affinity:      p.Affinity,
	}
}
