package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/berth-scheduler/berth/deploy/bench/decide/internal/workload"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

const (
	// epoch names the state of every decider here: each is fed once.
	epoch = "bench"
	// maxChanges is from which size on a message of changes is sent: far below the 1 MiB
	// that it may have, so that the decider takes one while it decodes the next.
	maxChanges = 64 << 10
	// headroom is kept free before the changes of a message, for what stands there.
	headroom = 64
	// patience is how long an answer may take; a plain decider needs a second for each pod
	// on a million nodes.
	patience = 10 * time.Minute

	// Fields of Changes.
	fieldNodes, fieldPlaced, fieldRemovedPlaced protowire.Number = 1, 2, 6
)

// A transfer is what it took to bring a state to a decider.
type transfer struct {
	Records int           `json:"records"`
	Bytes   int64         `json:"bytes"`
	Time    time.Duration `json:"nanoseconds"` // until the decider held it
}

// A feed tells one decider the state, over Sync. Its methods are for one goroutine.
type feed struct {
	stream   grpc.ClientStream
	sequence uint64
	version  uint64 // of the last commit
	changes  []byte // the message of changes that grows, headroom first
	record   []byte // room for one record
	sent     transfer

	mu      sync.Mutex
	changed *sync.Cond
	held    uint64            // the version that the decider said last that it holds
	digests map[uint64]string // of the state, by version
	err     error             // why it holds no more than that
}

// newFeed opens a stream to d. It is broken when ctx ends.
func newFeed(ctx context.Context, d *decider) (*feed, error) {
	stream, err := d.conn.NewStream(ctx, &berthv1.DeciderService_ServiceDesc.Streams[0],
		berthv1.DeciderService_Sync_FullMethodName, grpc.ForceCodecV2(frames{}))
	if err != nil {
		return nil, err
	}
	f := &feed{stream: stream, digests: map[uint64]string{}}
	f.changed = sync.NewCond(&f.mu)
	go f.receive()
	return f, nil
}

// receive notes what the decider answers, until the stream ends.
func (f *feed) receive() {
	for {
		err := f.receiveOne()
		f.mu.Lock()
		f.err = err
		f.changed.Broadcast()
		f.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (f *feed) receiveOne() error {
	var frame []byte
	if err := f.stream.RecvMsg(&frame); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	r := &berthv1.SyncResponse{}
	if err := proto.Unmarshal(frame, r); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if r.GetResync() != "" {
		return fmt.Errorf("sync: the decider wants everything anew: %s", r.GetResync())
	}
	for _, rejected := range r.GetRejectedRecords() {
		return fmt.Errorf("sync: the decider refuses a record: %v", rejected)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = r.GetVersion()
	f.digests[f.held] = r.GetStateDigest()
	return nil
}

// send sends one step, an encoded field of SyncRequest that stands in b from headroom
// on.
func (f *feed) send(b []byte, field protowire.Number) error {
	var prefix [headroom]byte
	head := appendUint(prefix[:0], 1, f.sequence)
	head = protowire.AppendTag(head, field, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(len(b)-headroom))
	start := headroom - len(head)
	copy(b[start:], head)
	f.sequence++
	f.sent.Bytes += int64(len(b) - start)
	if err := f.stream.SendMsg(b[start:]); err != nil {
		return f.failure() // gRPC tells who receives
	}
	return nil
}

// failure waits for why the stream ended.
func (f *feed) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.err == nil {
		f.changed.Wait()
	}
	return f.err
}

// add adds a record, which fill appends, to the changes of the next version.
func (f *feed) add(field protowire.Number, fill func(b []byte) []byte) error {
	f.record = fill(f.record[:0])
	if f.changes == nil {
		f.changes = make([]byte, headroom, maxChanges+4096)
	}
	f.changes = appendBytes(f.changes, field, f.record)
	f.sent.Records++
	if len(f.changes) > maxChanges {
		return f.flush()
	}
	return nil
}

func (f *feed) flush() error {
	if f.changes == nil {
		return nil
	}
	b := f.changes
	f.changes = nil // gRPC keeps what it was given
	return f.send(b, 3)
}

// commit makes a version of what was added, without waiting for the decider.
func (f *feed) commit() error {
	if err := f.flush(); err != nil {
		return err
	}
	b := make([]byte, headroom)
	b = appendUint(b, 1, f.version)
	b = appendUint(b, 2, f.version+1)
	f.version++
	return f.send(b, 4)
}

// await blocks until the decider holds the last version.
func (f *feed) await() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.held < f.version && f.err == nil {
		f.changed.Wait()
	}
	return f.err
}

// begin brings a whole cluster to the decider.
func (f *feed) begin(c *workload.Cluster) (transfer, error) {
	start := time.Now()
	f.sent = transfer{}
	if err := f.send(appendBytes(make([]byte, headroom), 1, []byte(epoch)), 2); err != nil {
		return transfer{}, err
	}
	for i := range c.Nodes {
		if err := f.add(fieldNodes, func(b []byte) []byte { return c.AppendNode(b, i) }); err != nil {
			return transfer{}, err
		}
	}
	for i := range c.Nodes {
		if c.Full == 0 {
			break
		}
		if err := f.add(fieldPlaced, func(b []byte) []byte { return c.AppendFiller(b, i) }); err != nil {
			return transfer{}, err
		}
	}
	if err := f.commit(); err != nil {
		return transfer{}, err
	}
	err := f.await()
	f.sent.Time = time.Since(start)
	return f.sent, err
}

// snapshot is the cluster as the field of a DecideRequest that holds it inline.
func snapshot(c *workload.Cluster) []byte {
	var b, record []byte
	for i := range c.Nodes {
		record = c.AppendNode(record[:0], i)
		b = appendBytes(b, 3, record)
	}
	for i := range c.Nodes {
		if c.Full == 0 {
			break
		}
		record = c.AppendFiller(record[:0], i)
		b = appendBytes(b, 4, record)
	}
	return appendBytes(nil, 1, b)
}

// A request is one Decide.
type request struct {
	seed    uint64
	version uint64 // of the state, at least
	inline  []byte // the state itself, instead; see snapshot
	pods    []byte // the encoded fields of its pods
	count   int    // of the pods
	refused int    // of the first of them, which make no sense
}

// add adds the pod that fill appends.
func (r *request) add(fill func(b []byte) []byte) {
	r.pods = appendBytes(r.pods, 3, fill(nil))
	r.count++
}

// reply is what a decider answered.
type reply struct {
	answers []answer
	digest  string        // of the state
	time    time.Duration // from question to answer
}

// decide asks d.
func (d *decider) decide(ctx context.Context, r *request) (*reply, error) {
	b := make([]byte, 0, len(r.inline)+len(r.pods)+64)
	if r.inline != nil {
		b = append(b, r.inline...)
	} else {
		reference := appendBytes(nil, 1, []byte(epoch))
		b = appendBytes(b, 2, appendUint(reference, 2, r.version))
	}
	b = append(b, r.pods...)
	b = appendUint(b, 4, r.seed)

	// Without a deadline a decider does not wait for a version that is on its way.
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var response []byte
	start := time.Now()
	if err := d.conn.Invoke(ctx, berthv1.DeciderService_Decide_FullMethodName, b, &response, grpc.ForceCodecV2(frames{})); err != nil {
		return nil, fmt.Errorf("decide: %w", err)
	}
	out := &reply{time: time.Since(start), answers: make([]answer, r.count)}
	digest, err := readAnswers(response, out.answers)
	out.digest = digest
	if err != nil {
		return nil, fmt.Errorf("decide: %w", err)
	}
	for i := r.refused; i < r.count; i++ {
		if o := out.answers[i].outcome; o != berthv1.Outcome_OUTCOME_PLACED && o != berthv1.Outcome_OUTCOME_REJECTED {
			return nil, fmt.Errorf("decide: pod %d of %d was neither placed nor rejected: %s", i, r.count, describe(&out.answers[i]))
		}
	}
	return out, nil
}

// describe is a decision for people.
func describe(a *answer) string {
	d := &berthv1.Decision{}
	if err := proto.Unmarshal(a.raw, d); err != nil {
		return err.Error()
	}
	return d.String()
}
