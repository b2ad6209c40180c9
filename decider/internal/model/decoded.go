package model

import berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"

// decoded remembers pods by their kind: a record, never changed, that others are like but
// for what is their own. The zero value remembers none.
type decoded struct {
	pods   map[*berthv1.Pod]*Pod
	placed map[*berthv1.PlacedPod]*PlacedPod
	// resources is how many there were when pods were decoded.
	resources int
}

// maxDecoded is how many of either are remembered.
const maxDecoded = 1 << 12

// NewPodLike returns the pod of a record that differs in nothing but its uid, which is not
// empty, and its name from kind, of which a pod is remembered; nil if none is.
func (s *Snapshot) NewPodLike(record, kind *berthv1.Pod) *Pod {
	if s.decoded.resources != len(s.resources.names) { // a pod numbers those that there are
		clear(s.decoded.pods)
		s.decoded.resources = len(s.resources.names)
	}
	like := s.decoded.pods[kind]
	if like == nil || record.GetUid() == "" {
		return nil
	}
	p := *like
	p.Record, p.UID = record, record.GetUid()
	return &p
}

// Remember keeps p, of this kind, for NewPodLike.
func (s *Snapshot) Remember(p *Pod, kind *berthv1.Pod) {
	if s.decoded.pods == nil {
		s.decoded.pods = map[*berthv1.Pod]*Pod{}
	}
	if len(s.decoded.pods) >= maxDecoded {
		clear(s.decoded.pods)
	}
	s.decoded.pods[kind] = p
}

// placedPod is newPlacedPod for a record of this kind; nil is none.
func (d *decoded) placedPod(record, kind *berthv1.PlacedPod, r *resources) (*PlacedPod, *FieldError) {
	if kind == nil {
		return newPlacedPod(record, r)
	}
	like := d.placed[kind]
	if like == nil {
		q, err := newPlacedPod(record, r)
		if err != nil {
			return nil, err
		}
		if d.placed == nil {
			d.placed = map[*berthv1.PlacedPod]*PlacedPod{}
		}
		if len(d.placed) >= maxDecoded {
			clear(d.placed)
		}
		like = new(PlacedPod)
		*like = *q // as it is before it is on a node
		d.placed[kind] = like
		return q, nil
	}
	q := *like
	q.UID, q.Name, q.Start = record.GetUid(), record.GetName(), record.GetStartTimeNanos()
	return &q, nil
}
