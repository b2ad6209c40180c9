package service_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/berth-scheduler/berth/decider/service"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/digest"
)

// feeder is a watcher's end of a Sync stream.
type feeder struct {
	t        *testing.T
	stream   grpc.BidiStreamingClient[berthv1.SyncRequest, berthv1.SyncResponse]
	epoch    string
	sequence uint64
	version  uint64
}

// feed opens a stream and begins an epoch.
func (d *served) feed(t *testing.T, epoch string) *feeder {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	stream, err := d.client.Sync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f := &feeder{t: t, stream: stream}
	f.begin(epoch)
	return f
}

func (f *feeder) begin(epoch string) {
	f.epoch, f.sequence, f.version = epoch, 0, 0
	f.send(&berthv1.SyncRequest{Step: &berthv1.SyncRequest_Begin{Begin: &berthv1.SyncBegin{Epoch: epoch}}})
}

// send sends a message with the next sequence number.
func (f *feeder) send(m *berthv1.SyncRequest) {
	f.t.Helper()
	m.Sequence = f.sequence
	f.sequence++
	if err := f.stream.Send(m); err != nil {
		f.t.Fatal(err)
	}
}

func (f *feeder) change(c *berthv1.Changes) {
	f.t.Helper()
	f.send(&berthv1.SyncRequest{Step: &berthv1.SyncRequest_Changes{Changes: c}})
}

// commit makes the next version and returns what the decider says.
func (f *feeder) commit() *berthv1.SyncResponse {
	f.t.Helper()
	f.sendCommit(&berthv1.SyncCommit{FromVersion: f.version, Version: f.version + 1})
	f.version++
	return f.answer()
}

func (f *feeder) sendCommit(c *berthv1.SyncCommit) {
	f.t.Helper()
	f.send(&berthv1.SyncRequest{Step: &berthv1.SyncRequest_Commit{Commit: c}})
}

func (f *feeder) answer() *berthv1.SyncResponse {
	f.t.Helper()
	response, err := f.stream.Recv()
	if err != nil {
		f.t.Fatal(err)
	}
	return response
}

// cluster is the text form as changes.
func cluster(t testing.TB, text string) *berthv1.Changes {
	t.Helper()
	s := request(t, text, "").GetSnapshot()
	return &berthv1.Changes{Nodes: s.Nodes, PlacedPods: s.PlacedPods, Namespaces: s.Namespaces, DisruptionBudgets: s.DisruptionBudgets}
}

// referring is a request that refers to a state.
func referring(t testing.TB, pods string, r *berthv1.StateReference) *berthv1.DecideRequest {
	t.Helper()
	request := request(t, "", pods)
	request.State = &berthv1.DecideRequest_Reference{Reference: r}
	return request
}

// What is fed is decided on as if it had been sent inline.
func TestSync(t *testing.T) {
	d := serve(t, service.Config{})
	f := d.feed(t, "e1")
	f.change(cluster(t, "a cpu=2\nb cpu=4\nweb on=a cpu=1"))
	if r := f.commit(); r.Resync != "" || r.Version != 1 || r.Epoch != "e1" {
		t.Fatalf("the first commit is answered with %v", r)
	}
	f.change(&berthv1.Changes{RemovedNodes: []string{"b"}})
	f.change(cluster(t, "c cpu=3\ndb on=c cpu=1"))
	f.commit()

	inline := request(t, "a cpu=2\nweb on=a cpu=1\nc cpu=3\ndb on=c cpu=1", "one cpu=2\ntwo cpu=1\nthree cpu=5")
	inline.GetSnapshot().Epoch, inline.GetSnapshot().Version = "e1", 2
	want, err := d.client.Decide(t.Context(), inline)
	if err != nil {
		t.Fatal(err)
	}
	for name, reference := range map[string]*berthv1.StateReference{
		"empty":    {},
		"at least": {Epoch: "e1", AtLeastVersion: 1},
		"exactly":  {Epoch: "e1", ExactVersion: 2},
	} {
		got, err := d.client.Decide(t.Context(), referring(t, "one cpu=2\ntwo cpu=1\nthree cpu=5", reference))
		if err != nil || !proto.Equal(got, want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, want)
		}
	}
	if want.StateDigest != digest.Of(inline.GetSnapshot()).String() {
		t.Error("the digest is not the package's")
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = d.client.Decide(short, referring(t, "p", &berthv1.StateReference{Epoch: "e1", AtLeastVersion: 3}))
	wantCode(t, err, codes.FailedPrecondition, "reference: version 3 has not come: version 2")
}
