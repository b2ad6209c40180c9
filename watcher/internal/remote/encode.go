package remote

import (
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers what codec wraps
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/digest"
)

// maxChunk is how long the encoded changes of one message are, unless one record alone is
// longer: 1 MiB less what is around them.
const maxChunk = 1<<20 - 64

// Field numbers of SyncRequest and Changes.
var (
	sequenceField = fieldOf(&berthv1.SyncRequest{}, "sequence")
	changesField  = fieldOf(&berthv1.SyncRequest{}, "changes")

	nodesField      = fieldOf(&berthv1.Changes{}, "nodes")
	podsField       = fieldOf(&berthv1.Changes{}, "placed_pods")
	namespacesField = fieldOf(&berthv1.Changes{}, "namespaces")
	budgetsField    = fieldOf(&berthv1.Changes{}, "disruption_budgets")

	goneNodesField      = fieldOf(&berthv1.Changes{}, "removed_nodes")
	gonePodsField       = fieldOf(&berthv1.Changes{}, "removed_placed_pods")
	goneNamespacesField = fieldOf(&berthv1.Changes{}, "removed_namespaces")
	goneBudgetsField    = fieldOf(&berthv1.Changes{}, "removed_disruption_budgets")
)

func fieldOf(m proto.Message, name protoreflect.Name) protowire.Number {
	return m.ProtoReflect().Descriptor().Fields().ByName(name).Number()
}

// needs is what a decider reads of the state. Deciders with the same key need the same.
type needs struct {
	key       string
	unread    []protoreflect.FieldNumber // of nodes
	noBudgets bool
}

// needsOf is DescribeResponse.unread_state turned round. What only a newer decider may
// say is sent to it.
func needsOf(unreadState []string) needs {
	var n needs
	var known []string
	for _, path := range unreadState {
		field, ofNodes := strings.CutPrefix(path, "nodes.")
		switch d := (&berthv1.Node{}).ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(field)); {
		case path == "disruption_budgets":
			n.noBudgets = true
		case ofNodes && d != nil && field != "name" && field != "uid":
			n.unread = append(n.unread, d.Number())
		default:
			continue
		}
		known = append(known, path)
	}
	slices.Sort(known)
	n.key = strings.Join(slices.Compact(known), ",")
	return n
}

// node is the record without what is not read. It shares the rest with the original.
func (n needs) node(record *berthv1.Node) *berthv1.Node {
	if len(n.unread) == 0 {
		return record
	}
	out := (&berthv1.Node{}).ProtoReflect()
	record.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if !slices.Contains(n.unread, field.Number()) {
			out.Set(field, value)
		}
		return true
	})
	out.SetUnknown(record.ProtoReflect().GetUnknown())
	return out.Interface().(*berthv1.Node)
}

// encodings are encoded Changes, cut into messages: once for each set of needs, whoever
// is sent them. Any number of goroutines may use them.
type encodings struct {
	changes *berthv1.Changes

	mu      sync.Mutex // guards byNeeds
	byNeeds map[string][][]byte
}

func (e *encodings) of(n needs) [][]byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	if encoded, ok := e.byNeeds[n.key]; ok {
		return encoded
	}
	if e.byNeeds == nil {
		e.byNeeds = map[string][][]byte{}
	}
	encoded := encode(e.changes, n)
	e.byNeeds[n.key] = encoded
	return encoded
}

// encode encodes what is needed of the changes: records as they are encoded to be hashed,
// which is protobuf without its reflection: BenchmarkWholeState took 1.1 s with it and
// takes 0.42 s without.
func encode(c *berthv1.Changes, n needs) [][]byte {
	var out chunks
	for _, name := range c.GetRemovedNodes() {
		out.add(goneNodesField, []byte(name))
	}
	for _, uid := range c.GetRemovedPlacedPods() {
		out.add(gonePodsField, []byte(uid))
	}
	for _, name := range c.GetRemovedNamespaces() {
		out.add(goneNamespacesField, []byte(name))
	}
	if !n.noBudgets {
		for _, key := range c.GetRemovedDisruptionBudgets() {
			// Encoding fails on strings alone that are not UTF-8, which nothing that came from
			// the API server has.
			encoded, _ := proto.Marshal(key)
			out.add(goneBudgetsField, encoded)
		}
		for _, b := range c.GetDisruptionBudgets() {
			out.add(budgetsField, out.encoder.DisruptionBudget(b)[1:])
		}
	}
	for _, ns := range c.GetNamespaces() {
		out.add(namespacesField, out.encoder.Namespace(ns)[1:])
	}
	for _, node := range c.GetNodes() {
		out.add(nodesField, out.encoder.Node(n.node(node))[1:])
	}
	for _, p := range c.GetPlacedPods() {
		out.add(podsField, out.encoder.PlacedPod(p)[1:])
	}
	return out.all()
}

// chunks are messages of which the last is being written.
type chunks struct {
	done    [][]byte
	last    []byte
	encoder digest.Encoder
}

func (c *chunks) all() [][]byte {
	if len(c.last) > 0 {
		c.done = append(c.done, c.last)
		c.last = nil
	}
	return c.done
}

// add adds a field, to another message if this one has no room for it.
func (c *chunks) add(field protowire.Number, encoded []byte) {
	if len(c.last) > 0 && len(c.last)+len(encoded)+2*maxVarint > maxChunk {
		c.done = append(c.done, c.last)
		c.last = make([]byte, 0, maxChunk)
	}
	c.last = protowire.AppendTag(c.last, field, protowire.BytesType)
	c.last = protowire.AppendBytes(c.last, encoded)
}

// maxVarint is the longest encoding of an integer.
const maxVarint = 10

// frame is a SyncRequest with changes that are encoded already.
type frame struct {
	sequence uint64
	changes  []byte
}

// codec is grpc's own, but for frames, which it passes on as they are.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(frame)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	head := protowire.AppendTag(make([]byte, 0, 4*maxVarint), sequenceField, protowire.VarintType)
	head = protowire.AppendVarint(head, f.sequence)
	head = protowire.AppendTag(head, changesField, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(len(f.changes)))
	return mem.BufferSlice{mem.SliceBuffer(head), mem.SliceBuffer(f.changes)}, nil
}
