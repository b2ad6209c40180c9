package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/berth-scheduler/berth/deploy/bench/decide/internal/workload"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

func TestHistoryThatDidNotEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	h, err := createHistory(path, Run{Nodes: 1, Pods: 10, Batch: 5})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.append(0, []int32{1, -1, 0, 0, 0}, "", nil), h.close()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := readHistory(path); err == nil || !strings.Contains(err.Error(), "1 batches of 2") {
		t.Errorf("error is %v", err)
	}
}

// What was cut off while it was written is compared again.
func TestComparedIsReadUpToACut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "compared")
	for batch := range 3 {
		if err := appendCompared(path, comparedBatch{Batch: batch, Pods: 41}); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()-3); err != nil {
		t.Fatal(err)
	}
	compared, err := readCompared(path)
	want := map[int]comparedBatch{0: {Batch: 0, Pods: 41}, 1: {Batch: 1, Pods: 41}}
	if err != nil || !reflect.DeepEqual(compared, want) {
		t.Errorf("compared %v (%v), want %v", compared, err, want)
	}
	r := Run{Pods: 100, Batch: 10, Sample: 50}
	if todo := remaining(r, compared, 4); !reflect.DeepEqual(todo, []int{4, 8}) {
		t.Errorf("left in strides of 4: %v", todo)
	}
}

// The kept decisions are as many as were asked for, each within its batch.
func TestSampled(t *testing.T) {
	for _, r := range []Run{
		{Pods: 1_000_000, Batch: 4096, Sample: 10_000}, {Pods: 10, Batch: 3, Sample: 4}, {Pods: 100, Batch: 7, Sample: 0},
	} {
		total := 0
		for batch := range r.batches() {
			_, pods := r.pods(batch)
			offset, count := r.sampled(batch)
			if offset < 0 || offset+count > pods {
				t.Errorf("%+v: pods %d to %d of batch %d, which has %d", r, offset, offset+count, batch, pods)
			}
			total += count
		}
		if total != r.Sample {
			t.Errorf("%+v: %d decisions are kept", r, total)
		}
	}
}

func TestReadAnswers(t *testing.T) {
	encoded, err := proto.Marshal(&berthv1.DecideResponse{
		Epoch: "e", Version: 3, StateDigest: "abc", ConfigDigest: "def",
		Decisions: []*berthv1.Decision{
			{PodUid: "1", Outcome: berthv1.Outcome_OUTCOME_PLACED, Candidates: []*berthv1.Candidate{
				{NodeName: "node-0000007", NodeUid: "u", Score: 300}, {NodeName: "node-0000001"},
			}},
			{PodUid: "2", Outcome: berthv1.Outcome_OUTCOME_REJECTED, Rejection: &berthv1.Rejection{Message: "no"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	answers := make([]answer, 2)
	digest, err := readAnswers(encoded, answers)
	if err != nil || digest != "abc" {
		t.Fatalf("digest %q, error %v", digest, err)
	}
	if string(answers[0].node) != "node-0000007" || answers[0].outcome != berthv1.Outcome_OUTCOME_PLACED ||
		answers[1].node != nil || answers[1].outcome != berthv1.Outcome_OUTCOME_REJECTED {
		t.Errorf("answers are %+v", answers)
	}
	for _, wrong := range []struct {
		response []byte
		answers  int
	}{{encoded, 1}, {encoded, 3}, {encoded[:len(encoded)-2], 2}, {[]byte{0xff}, 0}} {
		if _, err := readAnswers(wrong.response, make([]answer, wrong.answers)); err == nil {
			t.Errorf("%d answers in %d bytes are no error", wrong.answers, len(wrong.response))
		}
	}
}

func TestCompare(t *testing.T) {
	placed := func(node string, score int64) *berthv1.Decision {
		return &berthv1.Decision{Outcome: berthv1.Outcome_OUTCOME_PLACED, Candidates: []*berthv1.Candidate{{NodeName: node, Score: score}}}
	}
	rejected := func(message string, hints ...*berthv1.WakeCondition) *berthv1.Decision {
		return &berthv1.Decision{Outcome: berthv1.Outcome_OUTCOME_REJECTED, Rejection: &berthv1.Rejection{Message: message, WakeConditions: hints}}
	}
	for _, c := range []struct {
		a, b *berthv1.Decision
		want Answer
	}{
		{placed("a", 1), placed("a", 1), Equal},
		{placed("a", 1), placed("b", 1), Differs},
		{placed("a", 1), placed("a", 2), Differs},
		{placed("a", 1), rejected("no"), Differs},
		{rejected("no"), rejected("never"), Differs},
		{rejected("no"), rejected("no", &berthv1.WakeCondition{Object: berthv1.ObjectKind_OBJECT_KIND_NODE}), SameNodes},
	} {
		got, why := compare([]*berthv1.Decision{c.a}, []*berthv1.Decision{c.b})
		if got != c.want || (why == "") != (got == Equal) {
			t.Errorf("%v and %v: %q, %q, want %q", c.a, c.b, got, why, c.want)
		}
	}
}

// The kinds are measured once, where there are several degrees of fullness.
func TestCases(t *testing.T) {
	o := &costsOptions{classes: []int{1, 100}, kinds: []string{"plain", "daemon", mixed}, full: []float64{0, 0.5}}
	if cases := o.cases(&workload.Cluster{Nodes: 1, Full: 0}); len(cases) != 4 {
		t.Errorf("on empty nodes: %v", cases)
	}
	if cases := o.cases(&workload.Cluster{Nodes: 1, Full: 0.5}); len(cases) != 7 {
		t.Errorf("on half-full nodes: %v", cases)
	}
}

func TestTables(t *testing.T) {
	state := State{Nodes: 5000, Full: 0.5}
	pods := Case{Kind: "plain", Classes: 1}
	spread := Case{Kind: "hard-spread", InterPod: true, Classes: 1}
	rejected := Case{Kind: "plain", Classes: 100, TooBig: true}
	all := &Costs{
		Feedings: []*Feeding{
			{State: state, Solver: plain, Bytes: 2_400_000, FullTime: 80 * time.Millisecond, DeltaPods: 1000, DeltaBytes: 250_000, DeltaTime: 3 * time.Millisecond, Empty: 150 * time.Microsecond, Peak: 64e6},
			{State: state, Solver: upstream, Inline: true, Bytes: 2_400_000, Empty: 20 * time.Millisecond, Peak: 164e6},
			{State: State{Nodes: 1_000_000}, Solver: upstream, Skipped: "more than --upstream-nodes 50000"},
		},
		Measurements: []*Measurement{
			{State: state, Case: pods, Solver: plain, Pods: 1000, Batch: 100, Time: time.Second, Empty: time.Millisecond},
			{State: state, Case: pods, Solver: indexed, Pods: 100_000, Batch: 1000, Time: time.Second, CPU: 900 * time.Millisecond, Answer: Equal},
			{State: state, Case: rejected, Solver: plain, Pods: 10, Batch: 1, Time: 2 * time.Second},
			{State: state, Case: rejected, Solver: indexed, Skipped: "one decision took 21.0s"},
			// Faster than as many requests without pods: too little to tell.
			{State: state, Case: spread, Solver: plain, Pods: 10, Batch: 1, Time: time.Millisecond, Empty: 2 * time.Millisecond},
			{State: state, Case: spread, Solver: indexed, Pods: 10, Batch: 1, Time: time.Millisecond, Empty: time.Millisecond, Answer: Equal},
		},
	}
	want, err := os.ReadFile("testdata/tables")
	if err != nil {
		t.Fatal(err)
	}
	figures := &Figures{
		Run: Run{Nodes: 1_000_000, Pods: 1_000_000, Batch: 4096, Sample: 10_000}, Full: transfer{Records: 1_000_000, Bytes: 350e6, Time: 9 * time.Second},
		Time: 55 * time.Second, Decide: 50 * time.Second, Deltas: transfer{Records: 1_000_000, Bytes: 200e6, Time: 5 * time.Second},
		Slowest: 400 * time.Millisecond, Placed: 999_999, DeciderCPU: 60 * time.Second, FeederCPU: 6 * time.Second, DeciderPeak: 4e9, FeederPeak: 50e6,
	}
	got := all.table() + "\n" + figures.table() + "\n" +
		comparedTable(figures.Run, plain, map[int]comparedBatch{0: {Batch: 0, Pods: 40, Nanoseconds: 20e9}, 9: {Batch: 9, Pods: 41, Nanoseconds: 21e9, Difference: "x"}})
	if got != string(want) {
		t.Errorf("printed\n%s\nwant testdata/tables\n%s", got, want)
	}
	if err := all.draw(filepath.Join(t.TempDir(), "svg")); err != nil {
		t.Errorf("drawn: %v", err)
	}
}

func TestCommandLine(t *testing.T) {
	for _, args := range []string{"--nodes 0", "--nodes x", "--full 1.5", "--solvers fast", "--kinds odd", "nonsense", "million --batch 0", "replay --solver x", "million 7"} {
		if err := run(t.Context(), strings.Fields(args), io.Discard, io.Discard); !errors.As(err, new(usageError)) {
			t.Errorf("%s: error is %v", args, err)
		}
	}
}
