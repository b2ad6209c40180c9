//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// A decider that runs knows the live cluster, and answers whoever asks about it without
// sending it; one that was killed knows it again when it is back.
func TestSync(t *testing.T) {
	namespace(t)
	names := nodes(t, 2, nil)
	first, address := decider(t)
	_, metrics := watcher(t, "--decider", address)
	const perRound = 5
	createPods(t, perRound, "first", "1")
	eventually(t, "bound", allBound(t, slug(t), perRound))
	epoch := wantLive(t, address, "", names, perRound)
	if _, body := get(t, metrics, "/metrics"); !strings.Contains(body, fmt.Sprintf("berth_watcher_sync_states_total{decider=%q,reason=\"connected\"} 1\n", address)) {
		t.Errorf("the whole state was not fed once:\n%s", body)
	}

	first.end(syscall.SIGKILL)
	createPods(t, perRound, "second", "1")
	decider(t, "--listen", address)
	eventually(t, "bound with another decider", allBound(t, slug(t), 2*perRound))
	wantLive(t, address, epoch, names, 2*perRound)
}

// wantLive asks a decider by a reference without an epoch where one pod more would go,
// until it knows of so many pods on the test's nodes, and returns the epoch of its state,
// which must be the one given unless that is empty.
func wantLive(t *testing.T, address, epoch string, names []string, placed int) string {
	t.Helper()
	client := dial(t, address)
	big := &berthv1.Pod{Uid: "what-if", Namespace: slug(t), Name: "what-if", SchedulerName: "berth", Requests: map[string]int64{"cpu": 1000},
		NodeSelector: map[string]string{"test": slug(t)}, Constraints: []string{berthv1.ConstraintNodeAffinity}}
	eventually(t, "the decider knows the cluster", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		r, err := client.Decide(ctx, &berthv1.DecideRequest{State: &berthv1.DecideRequest_Reference{Reference: &berthv1.StateReference{}},
			Pods: []*berthv1.Pod{big}, Candidates: 2, Explanation: berthv1.ExplanationLevel_EXPLANATION_LEVEL_NODES})
		if err != nil {
			return err
		}
		d := r.GetDecisions()[0]
		if d.GetOutcome() != berthv1.Outcome_OUTCOME_PLACED || !slices.Contains(names, d.GetCandidates()[0].GetNodeName()) {
			return fmt.Errorf("it answers %v", d)
		}
		if r.GetVersion() == 0 || epoch != "" && r.GetEpoch() != epoch {
			return fmt.Errorf("it holds version %d of epoch %q, want epoch %q", r.GetVersion(), r.GetEpoch(), epoch)
		}
		epoch = r.GetEpoch()
		// Both nodes have 32 CPUs: pods that ask for the rest of one fit on none.
		rest := &berthv1.DecideRequest{State: &berthv1.DecideRequest_Reference{Reference: &berthv1.StateReference{Epoch: epoch}}}
		for i := range 64 - placed + 1 {
			rest.Pods = append(rest.Pods, &berthv1.Pod{Uid: fmt.Sprint("what-if-", i), Namespace: slug(t), Name: fmt.Sprint("what-if-", i), SchedulerName: "berth",
				Requests: map[string]int64{"cpu": 1000}, NodeSelector: big.NodeSelector, Constraints: big.Constraints})
		}
		if r, err = client.Decide(ctx, rest); err != nil {
			return err
		}
		fit := 0
		for _, d := range r.GetDecisions() {
			if d.GetOutcome() == berthv1.Outcome_OUTCOME_PLACED {
				fit++
			}
		}
		if fit != 64-placed {
			return fmt.Errorf("it finds room for %d pods more, want %d", fit, 64-placed)
		}
		return nil
	})
	return epoch
}

func dial(t *testing.T, address string) berthv1.DeciderServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return berthv1.NewDeciderServiceClient(conn)
}

// withoutSync is a decider without Sync, that has another decide.
type withoutSync struct {
	berthv1.UnimplementedDeciderServiceServer
	other berthv1.DeciderServiceClient

	mu      sync.Mutex // guards what follows
	inline  int        // requests with a snapshot
	without int        // and others
}

func (d *withoutSync) Describe(ctx context.Context, r *berthv1.DescribeRequest) (*berthv1.DescribeResponse, error) {
	return d.other.Describe(ctx, r)
}

func (d *withoutSync) Decide(ctx context.Context, r *berthv1.DecideRequest) (*berthv1.DecideResponse, error) {
	d.mu.Lock()
	if r.GetSnapshot() != nil {
		d.inline++
	} else {
		d.without++
	}
	d.mu.Unlock()
	return d.other.Decide(ctx, r)
}

// A decider without Sync is sent the cluster with every request.
func TestWithoutSync(t *testing.T) {
	namespace(t)
	nodes(t, 2, nil)
	_, address := decider(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &withoutSync{other: dial(t, address)}
	server := grpc.NewServer()
	berthv1.RegisterDeciderServiceServer(server, d)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	watching, _ := watcher(t, "--decider", listener.Addr().String())
	for round := range 3 {
		createPods(t, 3, fmt.Sprint("round-", round), "1")
		eventually(t, "bound", allBound(t, slug(t), 3*(round+1)))
	}
	if err := watching.said("it has no Sync"); err != nil {
		t.Error(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inline < 3 || d.without > 0 {
		t.Errorf("%d requests had a snapshot, and %d had none", d.inline, d.without)
	}
}
