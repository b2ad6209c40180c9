package service

import (
	"hash/maphash"
	"sync/atomic"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/digest"
)

// Most pods that are made differ from others in a few fields alone. Records that are
// encoded alike but for these are a kind, are decoded once, and share from then on what
// they have in common, which nobody changes.

// podKind is pods that differ in nothing but uid and name.
type podKind struct {
	rest   string // what they have in common, as it was sent
	record *berthv1.Pod
}

// placedKind is placed pods that differ in nothing but uid, name, node and start.
type placedKind struct {
	rest    string
	record  *berthv1.PlacedPod
	encoded *digest.Template
}

// kinds finds kinds by what their records have in common. It remembers the last of each
// hash, once it was met twice in a row, so that it takes no more memory the more it has
// seen. It may be used concurrently.
type kinds[K any] struct {
	seed  maphash.Seed
	slots [interned]struct {
		met  atomic.Uint64 // the last hash that was not known
		kind atomic.Pointer[K]
	}
}

func newKinds[K any]() *kinds[K] { return &kinds[K]{seed: maphash.MakeSeed()} }

// find returns what is remembered where rest belongs, which may be nil or another kind,
// and how to have something else remembered there, nil if it is not worth it yet.
func (k *kinds[K]) find(rest []byte, is func(*K) bool) (_ *K, remember func(*K)) {
	hash := maphash.Bytes(k.seed, rest)
	slot := &k.slots[hash%interned]
	if kind := slot.kind.Load(); kind != nil && is(kind) {
		return kind, nil
	}
	if slot.met.Swap(hash) != hash {
		return nil, nil
	}
	return nil, slot.kind.Store
}

// Fields that are a record's own. Pods have the first two.
const (
	fieldUID   protowire.Number = 1
	fieldName  protowire.Number = 3
	fieldNode  protowire.Number = 4
	fieldStart protowire.Number = 11
)

// own is what an encoded record has of its own.
type own struct {
	uid, name, node []byte
	start           int64
}

// strings returns uid, name and node in one piece of memory.
func (o *own) strings(scratch []byte) (uid, name, node string, _ []byte) {
	scratch = append(append(append(scratch[:0], o.uid...), o.name...), o.node...)
	all := string(scratch)
	end := len(o.uid) + len(o.name)
	return all[:len(o.uid)], all[len(o.uid):end], all[end:], scratch
}

// split appends to rest what an encoded pod, which may be placed, has in common with its
// kind. ok is false if it is not encoded as it should be.
func split(record, rest []byte, placed bool) (o own, _ []byte, ok bool) {
	for len(record) > 0 {
		field, wire, n := protowire.ConsumeTag(record)
		if n < 0 {
			return o, rest, false
		}
		size := protowire.ConsumeFieldValue(field, wire, record[n:])
		if size < 0 {
			return o, rest, false
		}
		var text *[]byte
		switch {
		case field == fieldUID:
			text = &o.uid
		case field == fieldName:
			text = &o.name
		case field == fieldNode && placed:
			text = &o.node
		case field == fieldStart && placed:
			if wire != protowire.VarintType {
				return o, rest, false
			}
			start, _ := protowire.ConsumeVarint(record[n:])
			o.start = int64(start)
		default:
			rest = append(rest, record[:n+size]...)
		}
		if text != nil {
			if wire != protowire.BytesType {
				return o, rest, false
			}
			if *text, _ = protowire.ConsumeBytes(record[n:]); !utf8.Valid(*text) {
				return o, rest, false
			}
		}
		record = record[n+size:]
	}
	return o, rest, true
}

// decoder decodes the records of one message.
type decoder struct {
	*codec
	rest, scratch []byte
}

// pod decodes a pod. The kind is nil if it is of none that is known.
func (d *decoder) pod(encoded []byte) (*berthv1.Pod, *podKind, error) {
	o, rest, ok := split(encoded, d.rest[:0], false)
	d.rest = rest
	var remember func(*podKind)
	if ok {
		var kind *podKind
		if kind, remember = d.pods.find(rest, func(k *podKind) bool { return k.rest == string(rest) }); kind != nil {
			record := podLike(kind.record)
			record.Uid, record.Name, _, d.scratch = o.strings(d.scratch)
			return record, kind, nil
		}
	}
	record := &berthv1.Pod{}
	if err := proto.Unmarshal(encoded, record); err != nil {
		return nil, nil, err
	}
	if remember != nil && len(record.ProtoReflect().GetUnknown()) == 0 {
		remember(&podKind{rest: string(rest), record: podLike(record)})
	}
	return record, nil, nil
}

// placedPod decodes a placed pod. The kind is nil if it is of none that is known.
func (d *decoder) placedPod(encoded []byte) (*berthv1.PlacedPod, *placedKind, error) {
	o, rest, ok := split(encoded, d.rest[:0], true)
	d.rest = rest
	var remember func(*placedKind)
	if ok {
		var kind *placedKind
		if kind, remember = d.placed.find(rest, func(k *placedKind) bool { return k.rest == string(rest) }); kind != nil {
			record := placedLike(kind.record)
			record.Uid, record.Name, record.NodeName, d.scratch = o.strings(d.scratch)
			record.StartTimeNanos = o.start
			return record, kind, nil
		}
	}
	record := &berthv1.PlacedPod{}
	if err := proto.Unmarshal(encoded, record); err != nil {
		return nil, nil, err
	}
	if remember != nil && len(record.ProtoReflect().GetUnknown()) == 0 {
		like := placedLike(record)
		remember(&placedKind{rest: string(rest), record: like, encoded: digest.NewTemplate(like)})
	}
	return record, nil, nil
}

// podLike returns a pod that has what p has in common with its kind.
func podLike(p *berthv1.Pod) *berthv1.Pod {
	return &berthv1.Pod{
		Namespace: p.Namespace, SchedulerName: p.SchedulerName, Labels: p.Labels, Constraints: p.Constraints,
		Requests: p.Requests, ScoreRequests: p.ScoreRequests, PlacedScoreRequests: p.PlacedScoreRequests,
		NodeName: p.NodeName, NodeSelector: p.NodeSelector, NodeAffinity: p.NodeAffinity, Tolerations: p.Tolerations,
		HostPorts: p.HostPorts, Priority: p.Priority, PreemptionPolicy: p.PreemptionPolicy,
		PodAffinity: p.PodAffinity, PodAntiAffinity: p.PodAntiAffinity,
		TopologySpreadConstraints: p.TopologySpreadConstraints, SpreadSelector: p.SpreadSelector,
		Images: p.Images, VolumeImages: p.VolumeImages, RequiredFeatures: p.RequiredFeatures,
		NominatedNodeName: p.NominatedNodeName,
	}
}

// placedLike returns a placed pod that has what p has in common with its kind.
func placedLike(p *berthv1.PlacedPod) *berthv1.PlacedPod {
	return &berthv1.PlacedPod{
		Namespace: p.Namespace, Labels: p.Labels, Requests: p.Requests, ScoreRequests: p.ScoreRequests,
		HostPorts: p.HostPorts, Priority: p.Priority, Terminating: p.Terminating, Nominated: p.Nominated,
		PodAffinity: p.PodAffinity, PodAntiAffinity: p.PodAntiAffinity, Preempted: p.Preempted, Constraints: p.Constraints,
	}
}

// decideRequest is a request with the kinds of its pods.
type decideRequest struct {
	*berthv1.DecideRequest
	// kinds are by pod, nil for one of none; or there are none.
	kinds []*podKind
}

// kind returns the kind of a pod of the request, or nil.
func (r *decideRequest) kind(pod int) *podKind {
	if r.kinds == nil {
		return nil
	}
	return r.kinds[pod]
}

// syncRequest is a message with the kinds of the placed pods among its changes.
type syncRequest struct {
	*berthv1.SyncRequest
	// kinds are by placed pod, nil for one of none; or there are none.
	kinds []*placedKind
}

// decide decodes a request.
func (d *decoder) decide(encoded []byte, r *decideRequest) error {
	const fieldPods = 3
	m := &berthv1.DecideRequest{}
	var kinds []*podKind
	ok, err := eachRecord(encoded, fieldPods, m, func(record []byte) error {
		pod, kind, err := d.pod(record)
		m.Pods, kinds = append(m.Pods, pod), append(kinds, kind)
		return err
	})
	if !ok {
		return proto.Unmarshal(encoded, r.DecideRequest)
	}
	r.DecideRequest, r.kinds = m, kinds
	return err
}

// sync decodes a message.
func (d *decoder) sync(encoded []byte, r *syncRequest) error {
	const fieldPlacedPods = 2
	sequence, changes, ok := loneChanges(encoded)
	if !ok {
		return proto.Unmarshal(encoded, r.SyncRequest)
	}
	m := &berthv1.Changes{}
	var kinds []*placedKind
	ok, err := eachRecord(changes, fieldPlacedPods, m, func(record []byte) error {
		pod, kind, err := d.placedPod(record)
		m.PlacedPods, kinds = append(m.PlacedPods, pod), append(kinds, kind)
		return err
	})
	if !ok {
		return proto.Unmarshal(encoded, r.SyncRequest)
	}
	r.kinds = kinds
	r.SyncRequest = &berthv1.SyncRequest{Sequence: sequence, Step: &berthv1.SyncRequest_Changes{Changes: m}}
	return err
}

// loneChanges returns the sequence number and the changes of an encoded SyncRequest that
// has nothing else; ok is false if it has.
func loneChanges(encoded []byte) (sequence uint64, changes []byte, ok bool) {
	const fieldSequence, fieldChanges = 1, 3
	for len(encoded) > 0 {
		field, wire, n := protowire.ConsumeTag(encoded)
		if n < 0 {
			return 0, nil, false
		}
		encoded = encoded[n:]
		switch {
		case field == fieldSequence && wire == protowire.VarintType:
			sequence, n = protowire.ConsumeVarint(encoded)
		case field == fieldChanges && wire == protowire.BytesType && changes == nil:
			changes, n = protowire.ConsumeBytes(encoded)
		default:
			return 0, nil, false
		}
		if n < 0 {
			return 0, nil, false
		}
		encoded = encoded[n:]
	}
	return sequence, changes, changes != nil
}

// eachRecord calls decode for each record in a field of an encoded message and merges
// the other fields into m. ok is false if it is not encoded as it should be.
func eachRecord(encoded []byte, field protowire.Number, m proto.Message, decode func(record []byte) error) (ok bool, _ error) {
	merge := func(fields []byte) error {
		if len(fields) == 0 {
			return nil
		}
		return proto.UnmarshalOptions{Merge: true}.Unmarshal(fields, m)
	}
	others := 0 // where fields begin that are not merged yet
	for at := 0; at < len(encoded); {
		number, wire, n := protowire.ConsumeTag(encoded[at:])
		if n < 0 {
			return false, nil
		}
		size := protowire.ConsumeFieldValue(number, wire, encoded[at+n:])
		if size < 0 {
			return false, nil
		}
		end := at + n + size
		if number == field {
			if wire != protowire.BytesType {
				return false, nil
			}
			record, _ := protowire.ConsumeBytes(encoded[at+n : end])
			if err := merge(encoded[others:at]); err != nil {
				return true, err
			}
			if err := decode(record); err != nil {
				return true, err
			}
			others = end
		}
		at = end
	}
	return true, merge(encoded[others:])
}
