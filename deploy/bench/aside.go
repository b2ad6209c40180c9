package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-scheduler/berth/deploy/bench/internal/result"
	"github.com/berth-scheduler/berth/deploy/bench/internal/scrape"
	"github.com/berth-scheduler/berth/deploy/bench/internal/workload"
)

// aside is what the commands beside the comparison have in common.
type aside struct {
	nodes, pods, rounds int
	json, dir, bin      string
}

// flags returns a flag set with those of a, of a command of that name. A default of a is
// the flag's.
func (a *aside) flags(command string) *flag.FlagSet {
	fs := flag.NewFlagSet("bench "+command, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are printed once
	fs.IntVar(&a.nodes, "nodes", a.nodes, "")
	fs.IntVar(&a.pods, "pods", a.pods, "")
	fs.IntVar(&a.rounds, "rounds", a.rounds, "")
	fs.StringVar(&a.json, "json", "", "")
	fs.StringVar(&a.dir, "dir", filepath.Join(".local", "bench"), "")
	fs.StringVar(&a.bin, "bin", programFolder(), "")
	return fs
}

// parse reads the command line, of which there are flags alone.
func (a *aside) parse(fs *flag.FlagSet, args []string) error {
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return fmt.Errorf("%w; see %s --help", err, fs.Name())
	case fs.NArg() > 0:
		return fmt.Errorf("unexpected argument %q: everything is a flag, see %s --help", fs.Arg(0), fs.Name())
	case a.nodes < workload.MinNodes:
		return fmt.Errorf("--nodes %d: want at least %d", a.nodes, workload.MinNodes)
	case a.pods < 1:
		return fmt.Errorf("--pods %d: want 1 or more", a.pods)
	case a.rounds < 1:
		return fmt.Errorf("--rounds %d: want 1 or more", a.rounds)
	}
	return nil
}

// finish ends a command of that name that has printed text: it writes the file that
// programs read, with report in it, and returns the exit status. failure is why there are
// no more runs.
func (a *aside) finish(name string, stdout, stderr io.Writer, text string, report any, status int, failure error) int {
	fmt.Fprint(stdout, text)
	if a.json != "" {
		data, err := json.MarshalIndent(report, "", "  ")
		if err == nil {
			err = os.WriteFile(a.json, append(data, '\n'), 0o644)
		}
		if err != nil {
			failure = errors.Join(failure, fmt.Errorf("--json: %w", err))
		}
	}
	if failure != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, failure)
		if status == 0 {
			return 2
		}
	}
	return status
}

// begin starts the cluster. stop ends it.
func (a *aside) begin(ctx context.Context, stderr io.Writer) (b *bench, stop func(), err error) {
	b = &bench{options: options{nodes: a.nodes, dir: a.dir, bin: a.bin}, stderr: stderr}
	stop, err = b.prepare(ctx)
	return b, stop, err
}

// stage prepares a run of s on w; what is on the nodes already is there when it returns.
func (b *bench) stage(ctx context.Context, w workload.Workload, s system, pods int) (*trial, error) {
	objects, err := w.Objects(s.scheduler, b.nodes, pods)
	if err != nil {
		return nil, err
	}
	probe, err := prober(b.cluster)
	if err != nil {
		return nil, err
	}
	if err := b.cluster.occupy(ctx, w, b.nodes, b.printf); err != nil {
		return nil, err
	}
	return &trial{spawner: b.spawner, cluster: b.cluster, probe: probe, dir: b.dir, workload: w, system: s, objects: objects,
		blank: result.Result{Workload: w.Name, System: s.name, Nodes: b.nodes, Pods: pods}}, nil
}

// failed says whether err, of a run, ends the command.
func (b *bench) failed(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case !b.cluster.local.Alive():
		return b.cluster.local.Failure()
	}
	return nil
}

// scrape returns what the programs of a name say on /metrics, in the order in which they
// were started. Those that are killed are left out.
func (t *trial) scrape(ctx context.Context, name string) ([]scrape.Metrics, error) {
	var all []scrape.Metrics
	for i, p := range t.programs {
		if p.name != name || int64(t.children[i].PID) == t.killed.Load() {
			continue
		}
		m, err := scrapeOne(ctx, t.probe, strings.TrimSuffix(p.ready, "/readyz")+"/metrics")
		if err != nil {
			return nil, fmt.Errorf("metrics of %s: %w", name, err)
		}
		all = append(all, m)
	}
	return all, nil
}

func scrapeOne(ctx context.Context, client *http.Client, url string) (scrape.Metrics, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return scrape.Parse(string(text))
}
