package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/berth-scheduler/berth/deploy/bench/decide/internal/workload"
)

type replayOptions struct {
	history, solver string
	limit           time.Duration
}

func replayFlags(flags *flag.FlagSet) *replayOptions {
	o := &replayOptions{}
	flags.StringVar(&o.history, "history", "bench-decide.history", "")
	flags.StringVar(&o.solver, "solver", plain, "")
	flags.DurationVar(&o.limit, "for", 0, "")
	return o
}

// passes are the strides in which a history is walked through: a replay that is stopped
// early has looked everywhere.
var passes = []int{64, 32, 16, 8, 4, 2, 1}

// replay compares the kept decisions of a run with those of another decider.
func replay(ctx context.Context, start starter, o *replayOptions, out, progress io.Writer) error {
	if _, ok := solvers[o.solver]; !ok {
		return usageError{fmt.Errorf("--solver %q: want plain, indexed or upstream", o.solver)}
	}
	run, batches, err := readHistory(o.history)
	if err != nil {
		return err
	}
	compared, err := readCompared(comparedPath(o.history))
	if err != nil {
		return err
	}
	if o.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.limit)
		defer cancel()
	}
	for _, stride := range passes {
		todo := remaining(run, compared, stride)
		if len(todo) == 0 {
			continue
		}
		p := &pass{Run: run, batches: batches, compared: compared, options: o, progress: progress}
		err := p.walk(ctx, start, todo)
		if ctx.Err() != nil {
			fmt.Fprintln(progress, "stopped; start again for the rest")
			break
		} else if err != nil {
			return err
		}
	}
	fmt.Fprint(out, comparedTable(run, o.solver, compared))
	for batch := range batches {
		if difference := compared[batch].Difference; difference != "" {
			return fmt.Errorf("answers differ: batch %d: %s", batch, difference)
		}
	}
	return nil
}

// remaining are the batches of a pass that have sampled pods and were not compared.
func remaining(r Run, compared map[int]comparedBatch, stride int) []int {
	var todo []int
	for batch := 0; batch < r.batches(); batch += stride {
		_, done := compared[batch]
		if _, count := r.sampled(batch); count > 0 && !done {
			todo = append(todo, batch)
		}
	}
	return todo
}

// A pass leads one decider through a history.
type pass struct {
	Run
	batches  []*decidedBatch
	compared map[int]comparedBatch
	options  *replayOptions
	progress io.Writer
}

// walk compares the batches of todo, which ascend.
func (p *pass) walk(ctx context.Context, start starter, todo []int) error {
	d, err := start(ctx, p.options.solver)
	if err != nil {
		return err
	}
	defer d.stop()
	feed, err := newFeed(ctx, d)
	if err != nil {
		return err
	}
	if _, err := feed.begin(&workload.Cluster{Nodes: p.Nodes}); err != nil {
		return err
	}
	classes := workload.Mixed()
	from := 0 // the first pod that the decider was not told of
	for _, batch := range todo {
		first, _ := p.pods(batch)
		offset, _ := p.sampled(batch)
		if err := p.advance(feed, classes, from, first+offset); err != nil {
			return err
		}
		from = first + offset
		c, err := p.compare(ctx, d, feed.version, classes, batch)
		if err != nil {
			return err
		}
		p.compared[batch] = c
		if err := appendCompared(comparedPath(p.options.history), c); err != nil {
			return err
		}
		verdict := "equal"
		if c.Difference != "" {
			verdict = c.Difference
		}
		fmt.Fprintf(p.progress, "batch %d of %d: %d decisions in %s: %s\n", batch, p.Run.batches(), c.Pods, seconds(time.Duration(c.Nanoseconds)), verdict)
	}
	return nil
}

// advance tells the decider where the pods from from to before to went, as many at a
// time as in the run.
func (p *pass) advance(feed *feed, classes []*workload.Class, from, to int) error {
	for from < to {
		batch := from / p.Batch
		first, count := p.pods(batch)
		end := min(to, first+count)
		if err := feed.place(classes, from, p.batches[batch].nodes()[from-first:end-first]); err != nil {
			return err
		}
		if err := feed.commit(); err != nil {
			return err
		}
		from = end
	}
	return feed.await()
}

// compare asks the decider, which knows of all pods before them, about a batch's sampled
// pods. Pods that are refused stand for those before them in the batch, so that each has
// the index that breaks its ties.
func (p *pass) compare(ctx context.Context, d *decider, version uint64, classes []*workload.Class, batch int) (comparedBatch, error) {
	first, _ := p.pods(batch)
	offset, count := p.sampled(batch)
	r := &request{seed: p.seed(batch), version: version}
	for range offset {
		r.add(func(b []byte) []byte { return b }) // a pod without a uid is refused
	}
	r.refused = offset
	r.addPods(classes, first+offset, count)
	reply, err := d.decide(ctx, r)
	if err != nil {
		return comparedBatch{}, err
	}
	want, err := decisions(p.batches[batch].Decisions)
	if err != nil {
		return comparedBatch{}, fmt.Errorf("%s: %w", p.options.history, err)
	}
	have, err := reply.decisions()
	if err != nil {
		return comparedBatch{}, err
	}
	c := comparedBatch{Batch: batch, Pods: count, Nanoseconds: reply.time.Nanoseconds()}
	if answer, why := compare(want, have[offset:]); answer == Differs || answer == SameNodes && p.options.solver != upstream {
		c.Difference = why
	}
	return c, nil
}
