package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-scheduler/berth/deploy/chaos/internal/evictions"
	"github.com/berth-scheduler/berth/deploy/chaos/internal/plan"
	"github.com/berth-scheduler/berth/deploy/internal/child"
)

// progress is the time between two lines of progress.
const progress = 10 * time.Second

// A chaos is one run.
type chaos struct {
	options
	out     io.Writer
	spawner *child.Spawner
	cluster *cluster
	fleet   *fleet
	tracker *tracker
	breaker *breaker
	report  report
}

func (r *chaos) say(format string, args ...any) {
	fmt.Fprintf(r.out, "%s  %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}

// recording is where check record writes.
func (r *chaos) recording() string { return filepath.Join(r.dir, "recording.jsonl") }

// run is a run from beginning to end. It returns the exit status.
func run(ctx context.Context, o options, out io.Writer) (status int, err error) {
	r := &chaos{options: o, out: out, spawner: child.NewSpawner(o.bin)}
	r.report = report{Seed: o.seed, Minutes: o.length.Minutes(), Nodes: o.nodes, Deciders: o.deciders}
	faults := o.plan()
	r.say("seed %d: %d faults in %v, %d pods, %d nodes, %d deciders, %d watchers", o.seed, len(faults), o.length, o.pods, o.nodes, o.deciders, watchers)
	if err := require(o.bin, "local", "check", "watcher", "decider", "etcd", "kube-apiserver", "kube-controller-manager", "kwok"); err != nil {
		return exitCannotJudge, err
	}
	if err := r.clearFolder(); err != nil {
		return exitCannotJudge, fmt.Errorf("--dir: %w", err)
	}
	interrupted := ctx
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	defer func() {
		if err != nil && interrupted.Err() != nil {
			err = errors.New("interrupted")
		} else if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause // what made everything else fail
		}
	}()

	if r.cluster, err = startCluster(ctx, r.spawner, filepath.Join(o.dir, "cluster"), filepath.Join(o.dir, "local.log")); err != nil {
		return exitCannotJudge, err
	}
	defer r.cluster.local.Stop(stopGrace)
	go func() {
		<-r.cluster.local.Exited()
		fail(r.cluster.local.Failure())
	}()
	if err := r.cluster.prepare(ctx, o.nodes); err != nil {
		return exitCannotJudge, err
	}
	recorder, err := r.record(ctx)
	if err != nil {
		return exitCannotJudge, err
	}
	defer recorder.Stop(stopGrace)
	if r.fleet, err = startFleet(ctx, r.spawner, r.cluster, o.dir, o.deciders, fail); err != nil {
		return exitCannotJudge, err
	}
	defer r.fleet.end()
	r.tracker = newTracker()
	if err := r.tracker.watch(ctx, r.cluster); err != nil {
		return exitCannotJudge, err
	}
	r.breaker = &breaker{cluster: r.cluster, fleet: r.fleet}
	if err := r.await(ctx); err != nil {
		return exitCannotJudge, err
	}
	r.say("the cluster is there, kubeconfig %s, logs in %s", r.cluster.kubeconfig, o.dir)

	if err := r.wreck(ctx, faults); err != nil {
		return exitCannotJudge, err
	}
	r.report.print(out)
	if o.json != "" {
		if err := r.report.write(o.json); err != nil {
			return exitCannotJudge, fmt.Errorf("--json: %w", err)
		}
	}
	if o.keep {
		r.say("the cluster stays until Ctrl-C; kubeconfig %s", r.cluster.kubeconfig)
		<-ctx.Done()
	}
	return r.report.status(), nil
}

// require returns an error if one of the programs is missing.
func require(bin string, programs ...string) error {
	var missing []string
	for _, p := range programs {
		if _, err := os.Stat(filepath.Join(bin, p)); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, p)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s has no %s: run make tools build", bin, strings.Join(missing, ", "))
	}
	return nil
}

// clearFolder removes the logs of an earlier run, so that none is taken for one of this.
func (r *chaos) clearFolder() error {
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return err
	}
	for _, pattern := range []string{"watcher-*.log", "decider-*.log"} {
		old, err := filepath.Glob(filepath.Join(r.dir, pattern))
		if err != nil {
			return err
		}
		for _, file := range old {
			if err := os.Remove(file); err != nil {
				return err
			}
		}
	}
	return nil
}

// record starts the recorder.
func (r *chaos) record(ctx context.Context) (*child.Child, error) {
	recorder, err := r.spawner.Start("record", filepath.Join(r.dir, "record.log"),
		r.spawner.Command("check", "record", "--kubeconfig", r.cluster.kubeconfig, "--out", r.recording()))
	if err != nil {
		return nil, err
	}
	waiting, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	err = recorder.Await(waiting, pollInterval, func(context.Context) error {
		_, err := recorder.Said("recording from ")
		return err
	})
	if err != nil {
		recorder.Stop(stopGrace)
		return nil, err
	}
	return recorder, nil
}

// await waits until a watcher leads.
func (r *chaos) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return child.Poll(ctx, pollInterval, func(ctx context.Context) error {
		if r.breaker.leader(ctx) == nil {
			return errors.New("no watcher leads")
		}
		return nil
	})
}

// wreck lets pods come and go while things are broken, waits for rest, and judges.
func (r *chaos) wreck(ctx context.Context, faults []plan.Fault) error {
	began := time.Now()
	pods := newChurn(r.cluster, r.tracker, r.options)
	telling, stop := context.WithCancel(ctx)
	var teller, wg sync.WaitGroup
	teller.Go(func() { r.tell(telling, began) })
	wg.Go(func() { r.breaker.run(ctx, faults) })
	pods.run(ctx)
	wg.Wait()
	ended := time.Now()
	if ctx.Err() == nil {
		r.say("nothing is broken any more; waiting for rest")
		pods.shrink(ctx, quiet)
	}
	busy, err := r.rest(ctx)
	stop()
	teller.Wait()
	if err != nil {
		return err
	}
	r.report.Rest = time.Since(ended).Seconds()
	if busy != "" {
		r.violation(noRest, "", "after %.0f s: %s", r.report.Rest, busy)
	}
	r.say("judging")
	return r.judge(ctx, began, ended)
}

// tell prints a line of progress now and then until ctx ends.
func (r *chaos) tell(ctx context.Context, began time.Time) {
	for pause(ctx, progress); ctx.Err() == nil; pause(ctx, progress) {
		c := r.tracker.counts()
		faults := r.breaker.counts()
		var list []string
		for _, label := range slices.Sorted(maps.Keys(faults)) {
			list = append(list, fmt.Sprintf("%s %d", label, faults[label]))
		}
		r.say("%4.0f s  created %d  bound %d  pending %d  deleted %d  evicted %d  faults: %s", time.Since(began).Seconds(),
			c.Created, c.Bound, c.Pending, c.Deleted, c.Evicted, strings.Join(list, ", "))
	}
}

// unlogged is in what bin/check says about pods that were bound though the audit log has
// no bind.
const unlogged = "pods were bound in the replay without a bind in the audit log"

func (r *chaos) violation(rule, pod, format string, args ...any) {
	r.report.Violations = append(r.report.Violations, evictions.Finding{Rule: rule, Pod: pod, Detail: fmt.Sprintf(format, args...)})
}

// judge fills in the report.
func (r *chaos) judge(ctx context.Context, from, to time.Time) error {
	c := r.tracker.counts()
	r.report.Created, r.report.Deleted = c.Created, c.Deleted
	r.report.Faults = r.breaker.counts()
	for _, b := range r.breaker.history() {
		if b.Failed != "" {
			r.report.Failed = append(r.report.Failed, b.What+": "+b.Failed)
		}
	}
	r.report.Endings = r.fleet.unasked()
	for _, e := range r.report.Endings {
		if e.Crashed {
			r.violation(crashed, e.Name, "%s; see %s", e.How, e.Log)
		}
	}
	found, err := r.survivors(ctx)
	if err != nil {
		return err
	}
	r.report.Violations = append(r.report.Violations, found...)
	if r.report.Evictions, err = r.audit(ctx, from, to); err != nil {
		return err
	}
	r.report.Violations = append(r.report.Violations, r.report.Evictions.Violations...)
	v, err := r.check(ctx)
	if err != nil {
		return err
	}
	for _, f := range v.Violations {
		r.violation(f.Rule, f.Pod, "%s (node %q)", f.Detail, f.Node)
	}
	for _, text := range v.Incomplete {
		// An API server that is killed does not log what it has just written.
		if n := 0; r.report.Faults[string(plan.APIServer)] > 0 && strings.Contains(text, unlogged) {
			fmt.Sscan(text, &n)
			r.report.Unlogged += n
		} else {
			r.report.Incomplete = append(r.report.Incomplete, text)
		}
	}
	r.report.Takeovers = len(v.Takeovers)
	for _, f := range v.Refusals {
		r.report.Refusals = append(r.report.Refusals, refusal{fmt.Sprintf("%d %s: %s", f.Code, f.Reason, f.Message), f.Inside, f.Outside})
	}
	return nil
}
