package remote

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"k8s.io/klog/v2"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/digest"
	"github.com/berth-scheduler/berth/watcher/internal/cluster"
)

const (
	// The pause before a stream is made anew, or a state sent anew, doubles between these.
	minSyncPause, maxSyncPause = 100 * time.Millisecond, 30 * time.Second
	// maxSilence is how long a replica may leave what it was sent without an answer before
	// others, or a whole snapshot, are preferred to it.
	maxSilence = time.Second
	// maxLoading is how long a batch waits for a replica that is being sent the whole
	// state, which is what the batch would be sent with otherwise.
	maxLoading = 5 * time.Second
	// maxComplaints is how many rejected records are remembered, so that each is logged once.
	maxComplaints = 1000
)

// Why a whole state was sent, for the metric.
const (
	onConnect = "connected"
	onRequest = "requested"
	onBehind  = "behind"
)

// progress is how far a replica is with what it is fed.
//
//	       begin              the state's ack
//	none ─────────► loading ─────────────────► fed
//	 ▲  ▲              │  ▲                     │
//	 │  └──the stream ends┘ └──resync, behind───┤
//	 └──────────────────────the stream ends─────┘
type progress struct {
	epoch string
	// full is the version of the whole state that was begun last; 0 if none was.
	full uint64
	// sent and held are the versions that were sent and acknowledged since.
	sent, held uint64
	// since is when the replica was first silent: when the whole state was begun, or when
	// the first commit was sent of those without an answer.
	since time.Time
}

// loading says whether the whole state is on its way.
func (p progress) loading() bool { return p.full > 0 && p.held < p.full }

// has says whether a request may refer to a state of the epoch.
func (p progress) has(epoch string, now time.Time) bool {
	return p.full > 0 && p.held >= p.full && p.epoch == epoch && (p.sent == p.held || now.Sub(p.since) < maxSilence)
}

func (r *replica) progress() progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fed
}

// move changes the progress, and tells those who wait for that.
func (r *replica) move(change func(*progress)) {
	r.mu.Lock()
	change(&r.fed)
	if r.fed.full > 0 && !r.fed.loading() {
		r.expecting = false
	}
	r.mu.Unlock()
	r.target.pool.moved()
}

// expectNothing says that the replica will not take the state soon.
func (r *replica) expectNothing() {
	r.mu.Lock()
	expecting := r.expecting
	r.expecting = false
	r.mu.Unlock()
	if expecting {
		r.target.pool.moved()
	}
}

// prepared says whether it may be asked at no delay: it is reachable, and nobody would
// wait for it to take the state first.
func (r *replica) prepared(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.described != nil && (!r.expecting || r.fed.full > 0 && (!r.fed.loading() || now.Sub(r.fed.since) >= maxLoading))
}

// keepFed feeds the replica for as long as it takes it.
func (r *replica) keepFed(ctx context.Context) {
	log := klog.FromContext(ctx).WithValues("decider", r.target.name, "replica", r.address)
	var inline *berthv1.DescribeResponse // who takes snapshots inline alone
	pause := time.Duration(0)
	for {
		described := r.await(ctx, inline)
		if described == nil {
			return
		}
		err := r.sync(ctx, log)
		r.expectNothing()
		if r.progress().held > 0 {
			pause = 0 // it went well for a while
		}
		r.move(func(p *progress) { *p = progress{} })
		r.target.pool.release(r)
		if ctx.Err() != nil {
			return
		}
		pause = min(max(2*pause, minSyncPause), maxSyncPause)
		switch status.Code(err) {
		case codes.Unimplemented:
			log.Info("Decider takes snapshots with every request: it has no Sync")
			inline = described
			continue
		case codes.InvalidArgument:
			log.Error(err, "Decider does not understand Sync, and is sent snapshots with every request")
			inline = described
			continue
		case codes.Aborted:
			log.Error(err, "Decider is fed by a later watcher, and is sent snapshots with every request")
			inline = described
			continue
		case codes.ResourceExhausted:
			log.Error(err, "Decider has no room for the state, and is sent snapshots with every request", "again", maxSyncPause)
			pause = maxSyncPause
		default:
			log.V(2).Info("Sync ended", "err", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// await waits until the replica is reachable, is another than the one given, and is fed
// under no other address. It is nil when ctx ends.
func (r *replica) await(ctx context.Context, not *berthv1.DescribeResponse) *berthv1.DescribeResponse {
	for {
		moved := r.target.pool.motion()
		if described, _ := r.get(); described != nil {
			if (not == nil || !proto.Equal(described, not)) && r.target.pool.claim(r, described.GetInstanceId()) {
				return described
			}
			r.expectNothing()
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil
		}
	}
}

// sync feeds the replica by one stream, until that ends.
func (r *replica) sync(ctx context.Context, log klog.Logger) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	reader := r.target.pool.feed.join()
	defer reader.leave()
	// There is a state when this process leads. Before that nobody is to be fed.
	state, err := reader.load(ctx)
	if err != nil {
		return err
	}
	conn, err := r.conn.NewStream(ctx, &berthv1.DeciderService_ServiceDesc.Streams[0], berthv1.DeciderService_Sync_FullMethodName, grpc.ForceCodecV2(newCodec()))
	if err != nil {
		reader.unload(state)
		return err
	}
	s := &syncStream{replica: r, log: log, stream: conn, resync: make(chan struct{}, 1), complaints: map[string]bool{}}
	ended := make(chan error, 1)
	go func() {
		err := s.receive()
		cancel(err) // sending ends, too
		ended <- err
	}()
	defer func() { <-ended }()
	defer cancel(nil)
	// Asked now, and not when the connection was made: the answer is about whoever the
	// stream goes to.
	described, err := r.describe(ctx)
	if err == nil {
		s.needs = needsOf(described.GetUnreadState())
		err = s.feed(ctx, reader, state)
	} else {
		reader.unload(state)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// syncStream is one stream to a replica. One goroutine sends and one receives.
type syncStream struct {
	replica *replica
	log     klog.Logger
	stream  grpc.ClientStream
	needs   needs
	next    uint64        // sequence number; the sender's
	nodes   nodeDigest    // the sender's
	resync  chan struct{} // has an element when the replica wants everything anew

	complaints map[string]bool // that were logged; the receiver's
}

// feed sends the state, then every change of it, and the state again where it must.
func (s *syncStream) feed(ctx context.Context, reader *reader, state *full) error {
	counts := s.replica.target.pool.metrics
	target := s.replica.target.name
	reason, pause := onConnect, time.Duration(0)
	for {
		counts.states.WithLabelValues(target, reason).Inc()
		sent := time.Now()
		err := s.sendState(state)
		reader.unload(state)
		for err == nil {
			from := reader.at
			var d *delta
			if d, err = reader.next(ctx, s.resync); err != nil {
				break
			}
			if d == nil {
				err = errResync
				break
			}
			err = s.send(&d.encodings, from, d.version, d.digest)
		}
		switch {
		case errors.Is(err, errResync):
			reason = onRequest
		case errors.Is(err, errBehind):
			reason = onBehind
			s.log.Info("Decider is too far behind, and is sent the whole state again")
		default:
			return err
		}
		s.replica.move(func(p *progress) { *p = progress{} })
		if time.Since(sent) > maxSyncPause {
			pause = 0
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		pause = min(max(2*pause, minSyncPause), maxSyncPause)
		select {
		case <-s.resync: // asked for before this one
		default:
		}
		if state, err = reader.load(ctx); err != nil {
			return err
		}
	}
}

// errResync says that a replica wants everything anew.
var errResync = errors.New("it wants everything anew")

func (s *syncStream) sendState(state *full) error {
	s.next, s.nodes = 0, nodeDigest{}
	s.replica.move(func(p *progress) {
		*p = progress{epoch: state.epoch, full: state.version, since: time.Now()}
	})
	if err := s.step(&berthv1.SyncRequest{Step: &berthv1.SyncRequest_Begin{Begin: &berthv1.SyncBegin{Epoch: state.epoch}}}); err != nil {
		return err
	}
	return s.send(&state.encodings, 0, state.version, state.digest)
}

// send sends changes and makes a version of them.
func (s *syncStream) send(changes *encodings, from, to uint64, digest cluster.Digest) error {
	// Before it is sent: whoever does not read it is silent from now on.
	s.replica.move(func(p *progress) {
		if p.sent == p.held && !p.loading() {
			p.since = time.Now()
		}
		p.sent = to
	})
	counts, target := s.replica.target.pool.metrics, s.replica.target.name
	counts.records.WithLabelValues(target).Add(float64(records(changes.changes)))
	for _, encoded := range changes.of(s.needs) {
		counts.bytes.WithLabelValues(target).Add(float64(len(encoded)))
		if err := s.stream.SendMsg(frame{s.next, encoded}); err != nil {
			return err
		}
		s.next++
	}
	sum := s.nodes.of(s.needs, changes.changes, digest)
	return s.step(&berthv1.SyncRequest{Step: &berthv1.SyncRequest_Commit{Commit: &berthv1.SyncCommit{FromVersion: from, Version: to, StateDigest: sum.String()}}})
}

// step sends anything but changes.
func (s *syncStream) step(m *berthv1.SyncRequest) error {
	m.Sequence = s.next
	s.next++
	return s.stream.SendMsg(m)
}

// nodeDigest is the digest of nodes as a replica is sent them that does not read all of
// them. The zero value is that of none.
type nodeDigest struct {
	sum     digest.Sum
	nodes   map[string]digest.Sum
	encoder digest.Encoder
}

// of is the digest of the state as the replica is sent it: after the changes, whole.
func (d *nodeDigest) of(n needs, changes *berthv1.Changes, whole cluster.Digest) digest.Sum {
	sum := whole.Others
	if !n.noBudgets {
		sum.Add(whole.Budgets)
	}
	if len(n.unread) == 0 {
		sum.Add(whole.Nodes)
		return sum
	}
	if d.nodes == nil {
		d.nodes = map[string]digest.Sum{}
	}
	for _, name := range changes.GetRemovedNodes() {
		d.sum.Remove(d.nodes[name])
		delete(d.nodes, name)
	}
	for _, record := range changes.GetNodes() {
		now := digest.Hash(d.encoder.Node(n.node(record)))
		d.sum.Remove(d.nodes[record.GetName()])
		d.sum.Add(now)
		d.nodes[record.GetName()] = now
	}
	sum.Add(d.sum)
	return sum
}

// receive takes the replica's answers until the stream ends.
func (s *syncStream) receive() error {
	for {
		answer := &berthv1.SyncResponse{}
		if err := s.stream.RecvMsg(answer); err != nil {
			return err
		}
		s.complain(answer.GetRejectedRecords())
		if why := answer.GetResync(); why != "" {
			s.log.Info("Decider wants the whole state again", "why", why, "held", answer.GetVersion())
			s.replica.move(func(p *progress) { *p = progress{} })
			select {
			case s.resync <- struct{}{}:
			default:
			}
			continue
		}
		s.replica.move(func(p *progress) {
			// Of a state that was begun since, this says nothing.
			if version := answer.GetVersion(); answer.GetEpoch() == p.epoch && version >= p.full && version <= p.sent {
				p.held, p.since = version, time.Now()
			}
		})
	}
}

// complain logs each record that the replica rejected once.
func (s *syncStream) complain(rejected []*berthv1.RejectedRecord) {
	s.replica.target.pool.metrics.rejected.WithLabelValues(s.replica.target.name).Add(float64(len(rejected)))
	for _, r := range rejected {
		about := fmt.Sprintf("%v %s %s %s", r.GetObject(), r.GetKey(), r.GetField(), r.GetMessage())
		if s.complaints[about] || len(s.complaints) >= maxComplaints {
			continue
		}
		s.complaints[about] = true
		s.log.Info("Decider cannot use a record of the state", "object", r.GetObject().String(), "key", r.GetKey(), "field", r.GetField(), "err", r.GetMessage())
	}
}
