package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/berth-scheduler/berth/deploy/bench/decide/internal/workload"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

type millionOptions struct {
	Run
	history, jsonTo string
}

func millionFlags(flags *flag.FlagSet) *millionOptions {
	o := &millionOptions{}
	flags.IntVar(&o.Nodes, "nodes", 1_000_000, "")
	flags.IntVar(&o.Pods, "pods", 1_000_000, "")
	flags.IntVar(&o.Batch, "batch", 4096, "")
	flags.IntVar(&o.Sample, "sample", 10_000, "")
	flags.StringVar(&o.history, "history", "bench-decide.history", "")
	flags.StringVar(&o.jsonTo, "json", "", "")
	return o
}

// A Run is so many pods onto so many empty nodes.
type Run struct {
	Nodes int `json:"nodes"`
	Pods  int `json:"pods"`
	// Batch is how many pods one request has.
	Batch int `json:"batch"`
	// Sample is how many decisions are kept.
	Sample int `json:"sample"`
}

// batches is how many requests the run has.
func (r Run) batches() int { return (r.Pods + r.Batch - 1) / r.Batch }

// pods are those of a batch: from first on, count of them.
func (r Run) pods(batch int) (first, count int) {
	first = batch * r.Batch
	return first, min(r.Batch, r.Pods-first)
}

// sampled are the pods of a batch whose decisions are kept: from offset within the batch
// on, count of them. All batches have about as many, somewhere.
func (r Run) sampled(batch int) (offset, count int) {
	_, pods := r.pods(batch)
	count = min(pods, r.Sample*(batch+1)/r.batches()-r.Sample*batch/r.batches())
	return int(random(batch, 1) % uint64(pods-count+1)), count
}

// seed breaks the ties of a batch.
func (r Run) seed(batch int) uint64 { return random(batch, 2) }

// random is a number that two numbers have drawn (splitmix64).
func random(a, b int) uint64 {
	z := uint64(a)<<8 + uint64(b)
	z *= 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Figures are what a run took.
type Figures struct {
	Run
	// Full is the transfer of the empty cluster.
	Full transfer `json:"full"`
	// Time is from the first request until the decider held the last placements; Decide
	// is the part of it in which a request was being answered.
	Time   time.Duration `json:"nanoseconds"`
	Decide time.Duration `json:"decideNanoseconds"`
	// Deltas brought the placements back.
	Deltas transfer `json:"deltas"`
	// Slowest is the longest request.
	Slowest time.Duration `json:"slowestNanoseconds"`
	// Placed of the pods got a node.
	Placed int `json:"placed"`
	// Processor time and most memory of both processes.
	DeciderCPU  time.Duration `json:"deciderCPUNanoseconds"`
	FeederCPU   time.Duration `json:"feederCPUNanoseconds"`
	DeciderPeak int64         `json:"deciderPeakBytes"`
	FeederPeak  int64         `json:"feederPeakBytes"`
}

// million has an indexed decider place many pods.
func million(ctx context.Context, start starter, o *millionOptions, out, progress io.Writer) error {
	if min(o.Nodes, o.Pods, o.Batch) < 1 || o.Sample < 0 {
		return usageError{fmt.Errorf("--nodes, --pods and --batch must be 1 or more, --sample 0 or more")}
	}
	h, err := createHistory(o.history, o.Run)
	if err != nil {
		return err
	}
	defer h.close()
	d, err := start(ctx, indexed)
	if err != nil {
		return err
	}
	defer d.stop()
	feed, err := newFeed(ctx, d)
	if err != nil {
		return err
	}
	cluster := &workload.Cluster{Nodes: o.Nodes}
	f := &Figures{Run: o.Run}
	if f.Full, err = feed.begin(cluster); err != nil {
		return err
	}
	fmt.Fprintf(progress, "fed %s nodes, %s, in %s; the decider has held %s\n", count(o.Nodes), size(f.Full.Bytes), seconds(f.Full.Time), size(d.peak()))
	cpu, own := d.cpu(), processorTime("self")
	if err := place(ctx, d, feed, cluster, f, h, progress); err != nil {
		return err
	}
	f.DeciderCPU, f.FeederCPU = d.cpu()-cpu, processorTime("self")-own
	f.DeciderPeak, f.FeederPeak = d.peak(), peakMemory("self")
	if err := h.close(); err != nil {
		return err
	}
	fmt.Fprint(out, f.table())
	if o.jsonTo != "" {
		return writeJSON(o.jsonTo, f)
	}
	return nil
}

// place sends one batch after another, each with the placements of those before.
func place(ctx context.Context, d *decider, feed *feed, cluster *workload.Cluster, f *Figures, h *history, progress io.Writer) error {
	classes := workload.Mixed()
	feed.sent = transfer{}
	began, cpu := time.Now(), d.cpu()
	next := f.request(classes, 0)
	for batch := range f.batches() {
		r := next
		r.version = feed.version
		type result struct {
			*reply
			error
		}
		answered := make(chan result, 1)
		go func() {
			reply, err := d.decide(ctx, r)
			answered <- result{reply, err}
		}()
		if batch+1 < f.batches() {
			next = f.request(classes, batch+1) // while the decider decides
		}
		a := <-answered
		if a.error != nil {
			return fmt.Errorf("batch %d: %w", batch, a.error)
		}
		f.Decide += a.time
		f.Slowest = max(f.Slowest, a.time)
		first, _ := f.pods(batch)
		nodes, err := placed(cluster, a.answers)
		if err != nil {
			return fmt.Errorf("batch %d: %w", batch, err)
		}
		if err := feed.place(classes, first, nodes); err != nil {
			return err
		}
		if err := feed.commit(); err != nil {
			return err
		}
		for _, node := range nodes {
			if node >= 0 {
				f.Placed++
			}
		}
		offset, count := f.sampled(batch)
		if err := h.append(batch, nodes, a.digest, a.answers[offset:offset+count]); err != nil {
			return err
		}
		if batch%16 == 15 {
			fmt.Fprintf(progress, "%s: %d of %d batches; the last took %s; the decider has used %s of processor time\n",
				seconds(time.Since(began)), batch+1, f.batches(), short(a.time), seconds(d.cpu()-cpu))
		}
	}
	err := feed.await()
	f.Time, f.Deltas = time.Since(began), feed.sent
	f.Deltas.Time = f.Time - f.Decide
	return err
}

// request is that of a batch.
func (r Run) request(classes []*workload.Class, batch int) *request {
	first, count := r.pods(batch)
	q := &request{seed: r.seed(batch), pods: make([]byte, 0, 400*count)}
	q.addPods(classes, first, count)
	return q
}

// addPods adds count pods from first on, each of one of the classes in a mixed order.
func (r *request) addPods(classes []*workload.Class, first, count int) {
	for i := first; i < first+count; i++ {
		r.add(func(b []byte) []byte { return classes[workload.ClassOf(i, len(classes))].AppendPod(b, i) })
	}
}

// placed returns the number of each pod's node, -1 for one that has none.
func placed(cluster *workload.Cluster, answers []answer) ([]int32, error) {
	nodes := make([]int32, len(answers))
	for i := range answers {
		nodes[i] = -1
		if answers[i].outcome == berthv1.Outcome_OUTCOME_PLACED {
			node, ok := cluster.NodeIndex(answers[i].node)
			if !ok {
				return nil, fmt.Errorf("decide: there is no node %q", answers[i].node)
			}
			nodes[i] = int32(node)
		}
	}
	return nodes, nil
}

// place adds the placements of the pods from first on, of mixed classes.
func (f *feed) place(classes []*workload.Class, first int, nodes []int32) error {
	for i, node := range nodes {
		if node < 0 {
			continue
		}
		pod := first + i
		if err := f.add(fieldPlaced, func(b []byte) []byte {
			return classes[workload.ClassOf(pod, len(classes))].AppendPlaced(b, pod, int(node))
		}); err != nil {
			return err
		}
	}
	return nil
}
