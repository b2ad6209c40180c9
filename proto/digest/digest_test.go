package digest

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// The encoding by hand is protobuf's own deterministic one, for every field that
// a record has: a field that is added to the contract and forgotten here fails.
func TestDigestEncodesEveryField(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var e Encoder
		record := rapid.SampledFrom([]proto.Message{&berthv1.Node{}, &berthv1.PlacedPod{}, &berthv1.Namespace{}, &berthv1.DisruptionBudget{}}).Draw(t, "record")
		record = record.ProtoReflect().New().Interface()
		fill(t, record.ProtoReflect())
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		var kind byte
		var got []byte
		switch r := record.(type) {
		case *berthv1.Node:
			kind, got = 1, e.Node(r)
		case *berthv1.PlacedPod:
			kind, got = 2, e.PlacedPod(r)
		case *berthv1.Namespace:
			kind, got = 3, e.Namespace(r)
		case *berthv1.DisruptionBudget:
			kind, got = 4, e.DisruptionBudget(r)
		}
		if got[0] != kind || !bytes.Equal(got[1:], want) {
			t.Fatalf("%v: encoded %x, want %x", record, got, want)
		}
	})
}

// fill sets any of a message's fields.
func fill(t *rapid.T, m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !rapid.Bool().Draw(t, string(f.Name())) {
			continue
		}
		switch {
		case f.IsMap():
			for range rapid.IntRange(0, 3).Draw(t, "entries") {
				m.Mutable(f).Map().Set(draw(t, f.MapKey()).MapKey(), draw(t, f.MapValue()))
			}
		case f.IsList():
			list := m.Mutable(f).List()
			for range rapid.IntRange(0, 3).Draw(t, "elements") {
				if f.Message() != nil {
					element := list.NewElement()
					fill(t, element.Message())
					list.Append(element)
				} else {
					list.Append(draw(t, f))
				}
			}
		case f.Message() != nil:
			fill(t, m.Mutable(f).Message())
		default:
			m.Set(f, draw(t, f))
		}
	}
}

func draw(t *rapid.T, f protoreflect.FieldDescriptor) protoreflect.Value {
	name := string(f.Name())
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(rapid.SampledFrom([]string{"", "a", "b", "ab", "ä"}).Draw(t, name))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(rapid.Bool().Draw(t, name))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(rapid.Int32().Draw(t, name))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(rapid.Int64().Draw(t, name))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(rapid.Uint64().Draw(t, name))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(rapid.Int32Range(0, 4).Draw(t, name)))
	}
	t.Fatalf("%s: a kind of field that this test cannot fill: %v", f.FullName(), f.Kind())
	return protoreflect.Value{}
}

// The digest is of what is there, whatever came and went before, in any order.
func TestSum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state := &berthv1.Snapshot{}
		fill(t, state.ProtoReflect())
		want := Of(state)
		hashes := []Sum{}
		var e Encoder
		for _, r := range state.Nodes {
			hashes = append(hashes, Hash(e.Node(r)))
		}
		for _, r := range state.PlacedPods {
			hashes = append(hashes, Hash(e.PlacedPod(r)))
		}
		for _, r := range state.Namespaces {
			hashes = append(hashes, Hash(e.Namespace(r)))
		}
		for _, r := range state.DisruptionBudgets {
			hashes = append(hashes, Hash(e.DisruptionBudget(r)))
		}
		guest := Hash([]byte("guest"))
		var got Sum
		got.Add(guest)
		for _, hash := range rapid.Permutation(hashes).Draw(t, "order") {
			got.Add(hash)
		}
		if got == want {
			t.Fatal("one record more makes no difference")
		}
		got.Remove(guest)
		if got != want {
			t.Fatalf("%v, want %v", got, want)
		}
	})
}
