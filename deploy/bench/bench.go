package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/berth-scheduler/berth/deploy/bench/internal/result"
	"github.com/berth-scheduler/berth/deploy/bench/internal/workload"
	"github.com/berth-scheduler/berth/deploy/internal/child"
)

// run is main with its surroundings as arguments; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		switch args[0] {
		case "replicas":
			return runReplicas(ctx, args[1:], stdout, stderr)
		case "takeover":
			return runTakeover(ctx, args[1:], stdout, stderr)
		}
	}
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, help())
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	}
	b := &bench{options: o, stdout: stdout, stderr: stderr}
	if err := b.run(ctx); err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	return 0
}

// A bench is one benchmark.
type bench struct {
	options
	stdout, stderr io.Writer
	store          *result.Store
	digest         string
	spawner        *child.Spawner
	cluster        *cluster
}

// A cell is one run that is to be made.
type cell struct {
	workload workload.Workload
	system   system
	round    int
	objects  workload.Objects
}

func (b *bench) run(ctx context.Context) error {
	if err := os.MkdirAll(b.results, 0o755); err != nil {
		return fmt.Errorf("--results: %w", err)
	}
	var err error
	if b.store, err = result.Open(filepath.Join(b.results, "results.jsonl")); err != nil {
		return fmt.Errorf("--results: %w", err)
	}
	if b.report {
		results := b.store.Latest()
		if len(results) == 0 {
			return fmt.Errorf("--report: %s has no results yet", b.results)
		}
		return b.publish(results)
	}
	plan, err := b.plan()
	if err != nil {
		return err
	}
	if b.digest, err = digest(b.bin, b.nodes); err != nil {
		return fmt.Errorf("%w; run make build tools", err)
	}
	results, err := b.measure(ctx, plan)
	if err != nil {
		return err
	}
	if err := b.publish(results); err != nil {
		return err
	}
	wrong := 0
	for _, r := range results {
		if !r.Valid() {
			wrong++
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d of %d runs do not count", wrong, len(results))
	}
	return nil
}

// plan lists the runs: workload by workload, those together that are compared,
// round by round, and in every other round the systems in reverse, so that what
// changes over time (a machine that becomes warm, an etcd that fills up) falls on
// all of them alike.
func (b *bench) plan() ([]cell, error) {
	var plan []cell
	for _, together := range compared(b.workloads) {
		systems := slices.Clone(b.systems)
		for round := 1; round <= b.rounds; round++ {
			for _, w := range together {
				if b.pods > 0 {
					w.Pods = b.pods
				}
				for _, s := range systems {
					if !s.suits(w) || !b.named && s.only != "" && s.only != w.Name {
						continue
					}
					objects, err := w.Objects(s.scheduler, b.nodes, w.Pods)
					if err != nil {
						return nil, err
					}
					plan = append(plan, cell{w, s, round, objects})
				}
			}
			slices.Reverse(systems)
		}
	}
	if plan == nil {
		return nil, errors.New("--workloads, --systems: none of the systems is for any of the workloads; see bench --help")
	}
	return plan, nil
}

// compared puts those workloads together of which one is the baseline of others,
// behind it.
func compared(workloads []workload.Workload) [][]workload.Workload {
	var groups [][]workload.Workload
	place := map[string]int{} // of a workload in groups
	for _, w := range workloads {
		i, known := place[w.Baseline]
		if !known {
			i, groups = len(groups), append(groups, nil)
		}
		groups[i], place[w.Name] = append(groups[i], w), i
	}
	return groups
}

// digest stands for what results must share to be compared.
func digest(bin string, nodes int) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, nodes)
	for _, program := range []string{"etcd", "kube-apiserver", "kube-scheduler", "watcher", "decider", "check", "local"} {
		if err := hashFile(h, filepath.Join(bin, program)); err != nil {
			return "", err
		}
	}
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	if err := hashFile(h, exe); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil))[:16], nil
}

func hashFile(h io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(h, f)
	return err
}

// measure makes the runs of the plan that are not in the store, and returns the
// results of all of them, in the plan's order.
func (b *bench) measure(ctx context.Context, plan []cell) (results []result.Result, err error) {
	todo, placed := 0, 0
	var left time.Duration
	for _, c := range plan {
		if _, known := b.known(c); !known {
			todo++
			left += b.estimate(c)
			if n := b.blank(c).Placed; n != placed {
				left += time.Duration(n) * time.Second / assumedCreated
				placed = n
			}
		}
	}
	b.printf("%d runs, %d of them measured before; about %s on %d nodes, with all logs in %s",
		len(plan), len(plan)-todo, left.Round(time.Second), b.nodes, b.dir)
	if todo > 0 {
		stop, err := b.prepare(ctx)
		if err != nil {
			return nil, interrupted(ctx, err)
		}
		defer stop()
	}
	if !b.json {
		fmt.Fprintln(b.stdout, result.Header())
	}
	for _, c := range plan {
		r, known := b.known(c)
		if !known {
			r, err = b.trial(ctx, c)
			if ctx.Err() != nil {
				return nil, interrupted(ctx, err)
			}
			if !b.cluster.local.Alive() {
				return nil, b.cluster.local.Failure()
			}
			if err != nil {
				r.Problems = append(r.Problems, err.Error())
			}
			if err := b.store.Add(r); err != nil {
				return nil, err
			}
		}
		results = append(results, r)
		if b.json {
			err = result.WriteJSON(b.stdout, r)
		} else {
			_, err = fmt.Fprintln(b.stdout, result.Row(r))
		}
		if err != nil {
			return nil, err
		}
	}
	return results, nil
}

// interrupted is err, or says in one word that a person ended the benchmark.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errors.New("interrupted; the same command goes on from here")
	}
	return err
}

// blank is a result of c before it is measured.
func (b *bench) blank(c cell) result.Result {
	return result.Result{Digest: b.digest, Workload: c.workload.Name, System: c.system.name, Round: c.round, Nodes: b.nodes, Pods: len(c.objects.Pods), Rate: c.workload.Rate, Placed: b.nodes * c.workload.PlacedPerNode, Baseline: c.workload.Baseline}
}

// known is what the store has of c.
func (b *bench) known(c cell) (result.Result, bool) {
	if b.again {
		return result.Result{}, false
	}
	return b.store.Find(b.blank(c))
}

// What a run takes apart from scheduling, and how many pods a second are placed
// where nothing was measured before: for the estimate alone.
const (
	assumedSeconds = 10
	assumedCreated = 1000
	assumedPlaced  = 400
	assumedStock   = 80
)

// estimate is how long c may take: as long as it took before, whatever the
// programs were, or else a guess.
func (b *bench) estimate(c cell) time.Duration {
	if took, known := b.store.Took(b.blank(c)); known {
		return time.Duration(took * float64(time.Second))
	}
	pods := float64(len(c.objects.Pods))
	seconds := assumedSeconds + pods/assumedCreated
	switch {
	case c.workload.Rate > 0:
		seconds += pods / float64(c.workload.Rate)
	case c.system.name == "kube-scheduler":
		seconds += pods / assumedStock
	default:
		seconds += pods / assumedPlaced
	}
	return time.Duration(seconds * float64(time.Second))
}

// prepare starts the cluster. stop ends it.
func (b *bench) prepare(ctx context.Context) (stop func(), err error) {
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return nil, fmt.Errorf("--dir: %w", err)
	}
	b.spawner = child.NewSpawner(b.bin)
	began := time.Now()
	b.cluster, err = startCluster(ctx, b.spawner, filepath.Join(b.dir, "cluster"), filepath.Join(b.dir, "local.log"))
	if err != nil {
		return nil, err
	}
	if err := b.cluster.prepare(ctx, b.nodes); err != nil {
		b.cluster.local.Stop(stopGrace)
		return nil, err
	}
	b.printf("etcd, kube-apiserver and %d nodes are there after %.1f s", b.nodes, time.Since(began).Seconds())
	return func() { b.cluster.local.Stop(stopGrace) }, nil
}

// trial makes the run c.
func (b *bench) trial(ctx context.Context, c cell) (result.Result, error) {
	probe, err := prober(b.cluster)
	if err != nil {
		return b.blank(c), err
	}
	if err := b.cluster.occupy(ctx, c.workload, b.nodes, b.printf); err != nil {
		return b.blank(c), err
	}
	began := time.Now()
	t := &trial{spawner: b.spawner, cluster: b.cluster, probe: probe, dir: b.dir, workload: c.workload, system: c.system, objects: c.objects, blank: b.blank(c)}
	r, err := t.measure(ctx)
	r.Time, r.Took = time.Now().UTC().Truncate(time.Second), time.Since(began).Seconds()
	return r, err
}

// publish writes the report and its charts, and prints the report.
func (b *bench) publish(results []result.Result) error {
	summaries := result.Summarize(results)
	report := result.Markdown(summaries)
	files, err := result.Charts(summaries)
	if err != nil {
		return err
	}
	for _, f := range append(files, result.File{Name: "report.md", Data: []byte(report)}) {
		if err := os.WriteFile(filepath.Join(b.results, f.Name), f.Data, 0o644); err != nil {
			return fmt.Errorf("--results: %w", err)
		}
	}
	if b.json {
		return result.WriteSummaries(b.stdout, summaries)
	}
	b.printf("report and charts are in %s", b.results)
	_, err = fmt.Fprintf(b.stdout, "\n%s", report)
	return err
}

// printf says something that is no result.
func (b *bench) printf(format string, args ...any) {
	fmt.Fprintf(b.stderr, "bench: "+format+"\n", args...)
}
