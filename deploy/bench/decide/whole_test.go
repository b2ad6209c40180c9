package main

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/berth-scheduler/berth/decider/policy"
	"github.com/berth-scheduler/berth/decider/service"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// inProcess starts real deciders, in this process.
func inProcess(t *testing.T) starter {
	return func(ctx context.Context, solver string) (*decider, error) {
		s, err := service.New(service.Config{Policy: policy.Default(), PlainSolver: solver == plain})
		if err != nil {
			return nil, err
		}
		socket := filepath.Join(t.TempDir(), "s")
		listener, err := net.Listen("unix", socket)
		if err != nil {
			return nil, err
		}
		conn, err := dial("unix://" + socket)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithCancel(ctx)
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx, listener) }()
		return &decider{solver: solver, conn: conn, pid: "self", stop: func() {
			conn.Close()
			cancel()
			if err := <-served; err != nil {
				t.Error(err)
			}
		}}, nil
	}
}

// A run is decided, replayed in part, and replayed to its end; what was compared is not
// compared again.
func TestMillionAndReplay(t *testing.T) {
	history := filepath.Join(t.TempDir(), "history")
	var out strings.Builder
	o := &millionOptions{Run: Run{Nodes: 60, Pods: 300, Batch: 32, Sample: 60}, history: history}
	if err := million(t.Context(), inProcess(t), o, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "300 pods onto 60 nodes") {
		t.Errorf("printed:\n%s", out.String())
	}

	ctx, cancel := context.WithCancel(t.Context())
	progress := &lines{after: 2, do: cancel}
	if err := replay(ctx, inProcess(t), &replayOptions{history: history, solver: plain}, io.Discard, progress); err != nil {
		t.Fatal(err)
	}
	compared, err := readCompared(comparedPath(history))
	if err != nil || len(compared) < 2 || len(compared) == o.batches() {
		t.Fatalf("compared %d of %d batches (%v) when it was stopped after two", len(compared), o.batches(), err)
	}
	out.Reset()
	if err := replay(t.Context(), inProcess(t), &replayOptions{history: history, solver: plain}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "60 of 60 that were kept") {
		t.Errorf("printed:\n%s", out.String())
	}
	lines, err := os.ReadFile(comparedPath(history))
	if err != nil || strings.Count(string(lines), "\n") != o.batches() {
		t.Errorf("%d lines for %d batches (%v)", strings.Count(string(lines), "\n"), o.batches(), err)
	}
}

// lines calls do when so many lines were written.
type lines struct {
	after int
	do    func()
}

func (l *lines) Write(b []byte) (int, error) {
	if l.after--; l.after == 0 {
		l.do()
	}
	return len(b), nil
}

// An answer that is not the kept one is found.
func TestReplayFindsADifference(t *testing.T) {
	history := filepath.Join(t.TempDir(), "history")
	o := &millionOptions{Run: Run{Nodes: 20, Pods: 40, Batch: 16, Sample: 6}, history: history}
	if err := million(t.Context(), inProcess(t), o, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	run, batches, err := readHistory(history)
	if err != nil {
		t.Fatal(err)
	}
	wrong := &berthv1.Decision{}
	if err := proto.Unmarshal(batches[1].Decisions[0], wrong); err != nil {
		t.Fatal(err)
	}
	wrong.Candidates[0].Score++
	if batches[1].Decisions[0], err = proto.Marshal(wrong); err != nil {
		t.Fatal(err)
	}
	h, err := createHistory(history, run)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range batches {
		var sampled []answer
		for _, raw := range b.Decisions {
			sampled = append(sampled, answer{raw: raw})
		}
		if err := h.append(b.Batch, b.nodes(), b.StateDigest, sampled); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.close(); err != nil {
		t.Fatal(err)
	}
	err = replay(t.Context(), inProcess(t), &replayOptions{history: history, solver: plain}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "batch 1") {
		t.Errorf("error is %v", err)
	}
}

func TestCosts(t *testing.T) {
	o := &costsOptions{
		limits:  limits{seconds: time.Millisecond, decision: time.Minute, batch: 20},
		solvers: []string{indexed, plain}, kinds: kindNames(), nodes: []int{50}, classes: []int{1, 3}, full: []float64{0.5},
		jsonTo: filepath.Join(t.TempDir(), "json"), drawnTo: filepath.Join(t.TempDir(), "svg"),
	}
	var out strings.Builder
	if err := costs(t.Context(), inProcess(t), o, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, name := range kindNames() {
		if !strings.Contains(out.String(), name) {
			t.Errorf("nothing about %s in\n%s", name, out.String())
		}
	}
	if strings.Contains(out.String(), string(Differs)) || !strings.Contains(out.String(), string(Equal)) {
		t.Errorf("printed:\n%s", out.String())
	}
	for _, path := range []string{o.jsonTo, o.drawnTo} {
		if info, err := os.Stat(path); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", path, err)
		}
	}
}
