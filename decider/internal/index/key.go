package index

import (
	"encoding/binary"
	"slices"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// key appends to b what rules and scores read of a pod, so that pods of one key are
// decided alike. Of its labels only those count that a selector of its own or of a
// placed pod reads: the index of a replica splits no class. b begins with how many
// labels those are.
func (x *Index) key(b []byte, p *berthv1.Pod) []byte {
	k := keyWriter{buffer: b}
	k.text(p.GetSchedulerName())
	k.text(p.GetNamespace())
	k.own = k.own[:0]
	for _, c := range p.GetTopologySpreadConstraints() {
		k.selector(c.GetLabelSelector())
		k.own = append(k.own, c.GetMatchLabelKeys()...)
	}
	k.selector(p.GetSpreadSelector())
	for _, a := range []*berthv1.PodAffinity{p.GetPodAffinity(), p.GetPodAntiAffinity()} {
		for _, t := range a.GetRequired() {
			k.selector(t.GetLabelSelector())
		}
		for _, t := range a.GetPreferred() {
			k.selector(t.GetTerm().GetLabelSelector())
		}
	}
	k.strings(p.GetLabels(), func(key string) bool { return x.read[key] || slices.Contains(k.own, key) })
	k.integers(p.GetRequests())
	k.integers(p.GetScoreRequests())
	k.integers(p.GetPlacedScoreRequests())
	k.strings(p.GetNodeSelector(), func(string) bool { return true })
	for _, t := range p.GetTolerations() {
		k.text(t.GetKey())
		k.text(t.GetValue())
		k.number(int64(t.GetOperator()))
		k.number(int64(t.GetEffect()))
	}
	k.number(int64(len(p.GetTolerations())))
	for _, h := range p.GetHostPorts() {
		k.text(h.GetProtocol())
		k.text(h.GetIp())
		k.number(int64(h.GetPort()))
	}
	k.number(int64(len(p.GetHostPorts())))
	k.texts(p.GetImages())
	k.texts(p.GetVolumeImages())
	k.texts(p.GetRequiredFeatures())
	if p.NodeAffinity != nil {
		k.message('n', p.NodeAffinity)
	}
	if p.PodAffinity != nil {
		k.message('a', p.PodAffinity)
	}
	if p.PodAntiAffinity != nil {
		k.message('r', p.PodAntiAffinity)
	}
	for _, c := range p.GetTopologySpreadConstraints() {
		k.message('t', c)
	}
	if p.SpreadSelector != nil {
		k.message('s', p.SpreadSelector)
	}
	return k.buffer
}

// keyWriter writes fields one after the other so that no two lists of them read alike.
type keyWriter struct {
	buffer []byte
	sorted []string
	own    []string // labels that the pod's own selectors read
}

func (k *keyWriter) selector(s *berthv1.LabelSelector) {
	for key := range s.GetMatchLabels() {
		k.own = append(k.own, key)
	}
	for _, r := range s.GetMatchExpressions() {
		k.own = append(k.own, r.GetKey())
	}
}

func (k *keyWriter) number(n int64) { k.buffer = binary.AppendVarint(k.buffer, n) }

func (k *keyWriter) text(s string) {
	k.buffer = binary.AppendUvarint(k.buffer, uint64(len(s)))
	k.buffer = append(k.buffer, s...)
}

func (k *keyWriter) texts(list []string) {
	k.number(int64(len(list)))
	for _, s := range list {
		k.text(s)
	}
}

func (k *keyWriter) strings(m map[string]string, counts func(key string) bool) {
	k.sorted = k.sorted[:0]
	for key := range m {
		if counts(key) {
			k.sorted = append(k.sorted, key)
		}
	}
	slices.Sort(k.sorted)
	k.number(int64(len(k.sorted)))
	for _, key := range k.sorted {
		k.text(key)
		k.text(m[key])
	}
}

func (k *keyWriter) integers(m map[string]int64) {
	k.sorted = k.sorted[:0]
	for key := range m {
		k.sorted = append(k.sorted, key)
	}
	slices.Sort(k.sorted)
	k.number(int64(len(k.sorted)))
	for _, key := range k.sorted {
		k.text(key)
		k.number(m[key])
	}
}

// message writes a message by its fields in order and its maps by key. It fails on text
// that is not UTF-8 alone, which no decoder lets in; what was written so far then stands
// for it.
func (k *keyWriter) message(kind byte, m proto.Message) {
	k.buffer = append(k.buffer, kind)
	k.number(int64(proto.Size(m)))
	k.buffer, _ = proto.MarshalOptions{Deterministic: true}.MarshalAppend(k.buffer, m)
}
