package kube

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// sharing makes equal parts of objects one. There are far fewer workloads than pods, and
// the parts that replicas have in common, their containers above all, are most of what
// a stripped pod takes: with one container 1.6 of 4.3 KB are left. There are fewer kinds
// of machines than nodes. One caller at a time, which an informer is.
//
// Parts are equal if they have the same encoding, which the API's is exact about: maps
// are in the order of their keys, and quantities in one form.
type sharing struct {
	specs  parts[corev1.PodSpec]    // but for those below, and for what is each pod's own
	places parts[corev1.PodSpec]    // affinity and volumes, which pods of DaemonSets and StatefulSets have of their own
	metas  parts[metav1.ObjectMeta] // namespace, labels and owners
	states parts[corev1.NodeStatus] // but for the images

	// What is being looked at, which would be allocated anew for each pod otherwise.
	spec, place corev1.PodSpec
	meta        metav1.ObjectMeta
	state       corev1.NodeStatus
	buffer      []byte
}

// pod replaces what the stripped pod has in common with earlier ones by theirs. Nothing
// that is shared is written to.
func (s *sharing) pod(p *corev1.Pod) {
	s.spec, s.place = p.Spec, corev1.PodSpec{Affinity: p.Spec.Affinity, Volumes: p.Spec.Volumes}
	s.spec.NodeName, s.spec.Affinity, s.spec.Volumes = "", nil, nil
	node := p.Spec.NodeName
	p.Spec = s.specs.like(s.key(&s.spec), s.spec)
	if s.place.Affinity != nil || s.place.Volumes != nil {
		s.place = s.places.like(s.key(&s.place), s.place)
	}
	p.Spec.NodeName, p.Spec.Affinity, p.Spec.Volumes = node, s.place.Affinity, s.place.Volumes

	s.meta = metav1.ObjectMeta{Namespace: p.Namespace, Labels: p.Labels, OwnerReferences: p.OwnerReferences}
	s.meta = s.metas.like(s.key(&s.meta), s.meta)
	p.Namespace, p.Labels, p.OwnerReferences = s.meta.Namespace, s.meta.Labels, s.meta.OwnerReferences
}

// node is pod for nodes.
func (s *sharing) node(n *corev1.Node) {
	images := n.Status.Images
	s.state = n.Status
	s.state.Images = nil
	n.Status = s.states.like(s.key(&s.state), s.state)
	n.Status.Images = images
}

// key is the part's encoding, until the next call.
func (s *sharing) key(part interface {
	Size() int
	MarshalToSizedBuffer([]byte) (int, error)
}) []byte {
	size := part.Size()
	if cap(s.buffer) < size {
		s.buffer = make([]byte, 2*size)
	}
	n, err := part.MarshalToSizedBuffer(s.buffer[:size])
	if err != nil {
		return nil // like nothing else
	}
	return s.buffer[size-n : size]
}

// mostParts is how many different parts are remembered at least, and half of how many at
// most: a few megabytes where every pod is one of its kind.
const mostParts = 1000

// parts are those of late, in two generations. The zero value has none.
type parts[T any] struct{ late, earlier map[string]T }

// like is the part that has the key already, or else the given one.
func (s *parts[T]) like(key []byte, part T) T {
	if key == nil {
		return part
	}
	if known, ok := s.late[string(key)]; ok {
		return known
	}
	if known, ok := s.earlier[string(key)]; ok {
		part = known
	}
	if s.late == nil || len(s.late) == mostParts {
		s.late, s.earlier = map[string]T{}, s.late
	}
	s.late[string(key)] = part
	return part
}
