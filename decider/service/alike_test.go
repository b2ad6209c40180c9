package service

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/digest"
)

// filled sets every field of a message, whose own messages go so many levels down.
func filled[M proto.Message](m M, levels int) M {
	fill(m.ProtoReflect(), levels)
	return m
}

func fill(m protoreflect.Message, levels int) {
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		value := func(f protoreflect.FieldDescriptor, message func() protoreflect.Value) protoreflect.Value {
			switch f.Kind() {
			case protoreflect.MessageKind:
				v := message()
				if levels > 0 {
					fill(v.Message(), levels-1)
				}
				return v
			case protoreflect.StringKind:
				return protoreflect.ValueOfString("some " + string(f.Name()))
			case protoreflect.EnumKind:
				return protoreflect.ValueOfEnum(1)
			case protoreflect.BoolKind:
				return protoreflect.ValueOfBool(true)
			case protoreflect.Int32Kind:
				return protoreflect.ValueOfInt32(32)
			case protoreflect.Uint64Kind:
				return protoreflect.ValueOfUint64(64)
			}
			return protoreflect.ValueOfInt64(64)
		}
		switch {
		case f.IsMap():
			entries := m.Mutable(f).Map()
			entries.Set(value(f.MapKey(), nil).MapKey(), value(f.MapValue(), entries.NewValue))
		case f.IsList():
			list := m.Mutable(f).List()
			list.Append(value(f, list.NewElement))
		default:
			m.Set(f, value(f, func() protoreflect.Value { return m.NewField(f) }))
		}
	}
}

func encoded(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A field that is added to the contract and forgotten in what records of a kind share
// fails here.
func TestKindsShareEveryField(t *testing.T) {
	d := &decoder{codec: newCodec()}
	pod, placed := filled(&berthv1.Pod{}, 5), filled(&berthv1.PlacedPod{}, 5)
	for i, name := range []string{"a", "b", "c", "d"} {
		pod.Uid, pod.Name = "u"+name, name
		gotPod, podKind, err := d.pod(encoded(t, pod))
		if err != nil || !proto.Equal(gotPod, pod) {
			t.Errorf("%v: %v, want %v", err, gotPod, pod)
		}
		placed.Uid, placed.Name, placed.NodeName, placed.StartTimeNanos = "u"+name, name, "n"+name, int64(-i)
		gotPlaced, placedKind, err := d.placedPod(encoded(t, placed))
		if err != nil || !proto.Equal(gotPlaced, placed) {
			t.Errorf("%v: %v, want %v", err, gotPlaced, placed)
		}
		if known := i >= 2; (podKind != nil) != known || (placedKind != nil) != known {
			t.Fatalf("record %d is of a known kind is %t and %t, want %t", i, podKind != nil, placedKind != nil, known)
		}
		if placedKind != nil {
			var e digest.Encoder
			if got, want := string(e.PlacedPodLike(placed, placedKind.encoded)), string(new(digest.Encoder).PlacedPod(placed)); got != want {
				t.Errorf("encoded %x, want %x", got, want)
			}
		}
	}
}

// A record with a field that this build does not know shares nothing, since nobody knows
// whose that is.
func TestUnknownFieldsAreNotShared(t *testing.T) {
	d := &decoder{codec: newCodec()}
	b := append(encoded(t, &berthv1.Pod{Uid: "u"}), 0xfa, 0x3e, 1, 'x') // field 1007
	for range 4 {
		p, kind, err := d.pod(b)
		if err != nil || kind != nil || len(p.ProtoReflect().GetUnknown()) == 0 {
			t.Errorf("%v %v %v", p, kind, err)
		}
	}
}

// FuzzDecode holds the decoding by kind to protobuf's: the same messages and the same
// errors, however often a record has come.
func FuzzDecode(f *testing.F) {
	request := &berthv1.DecideRequest{
		State: &berthv1.DecideRequest_Reference{Reference: &berthv1.StateReference{Epoch: "e"}},
		Pods:  []*berthv1.Pod{filled(&berthv1.Pod{}, 1), {Uid: "b"}, {Uid: "c"}}, Seed: 7,
	}
	changes := &berthv1.SyncRequest{Sequence: 3, Step: &berthv1.SyncRequest_Changes{Changes: &berthv1.Changes{
		PlacedPods: []*berthv1.PlacedPod{filled(&berthv1.PlacedPod{}, 1), {Uid: "b", NodeName: "n"}, {Uid: "c", StartTimeNanos: 1}},
		Nodes:      []*berthv1.Node{{Name: "n"}}, RemovedNodes: []string{"m"},
	}}}
	f.Add(encoded(f, request))
	f.Add(encoded(f, changes))
	f.Add(append(encoded(f, changes), encoded(f, changes)...))
	f.Add(encoded(f, &berthv1.SyncRequest{Sequence: 1, Step: &berthv1.SyncRequest_Commit{Commit: &berthv1.SyncCommit{Version: 2}}}))
	f.Add([]byte{0x1a, 3, 0x0a, 1, 0xff}) // a uid that is not UTF-8
	f.Fuzz(func(t *testing.T, b []byte) {
		d := &decoder{codec: newCodec()}
		for range 3 {
			wantDecide, decide := &berthv1.DecideRequest{}, &decideRequest{DecideRequest: &berthv1.DecideRequest{}}
			check(t, d.decide(b, decide), proto.Unmarshal(b, wantDecide), decide.DecideRequest, wantDecide)
			wantSync, sync := &berthv1.SyncRequest{}, &syncRequest{SyncRequest: &berthv1.SyncRequest{}}
			check(t, d.sync(b, sync), proto.Unmarshal(b, wantSync), sync.SyncRequest, wantSync)
		}
	})
}

func check(t *testing.T, err, wantErr error, got, want proto.Message) {
	t.Helper()
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("error %v, want %v", err, wantErr)
	}
	if err == nil && !proto.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
}

// A field of another wire type than its own is one that is not known, to protobuf: the
// pods before it and after it are decoded all the same, each of no kind.
func TestKindsAreOfAllPodsOrNone(t *testing.T) {
	field := func(b []byte, number protowire.Number, record []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), record)
	}
	odd := func(b []byte, number protowire.Number) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), 1)
	}
	d := &decoder{codec: newCodec()}
	pod := encoded(t, &berthv1.Pod{Uid: "p"})
	r := &decideRequest{DecideRequest: &berthv1.DecideRequest{}}
	if err := d.decide(field(odd(field(nil, 3, pod), 3), 3, pod), r); err != nil || len(r.GetPods()) != 2 {
		t.Fatalf("%v: %v, want two pods", err, r.GetPods())
	}
	if r.kind(0) != nil || r.kind(1) != nil {
		t.Errorf("kinds %v, want none", r.kinds)
	}
	placed := encoded(t, &berthv1.PlacedPod{Uid: "p", NodeName: "n"})
	changes := field(odd(field(nil, 2, placed), 2), 2, placed)
	m := &syncRequest{SyncRequest: &berthv1.SyncRequest{}}
	if err := d.sync(field(nil, 3, changes), m); err != nil || len(m.GetChanges().GetPlacedPods()) != 2 {
		t.Fatalf("%v: %v, want two placed pods", err, m.GetChanges())
	}
	newState("e", nil, false).stage(m.GetChanges(), m.kinds)
}
