package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"
	corev1 "k8s.io/api/core/v1"

	"github.com/berth-scheduler/berth/deploy/demo/internal/openb"
	"github.com/berth-scheduler/berth/deploy/demo/internal/outcome"
	"github.com/berth-scheduler/berth/deploy/demo/internal/workload"
	"github.com/berth-scheduler/berth/deploy/internal/child"
)

// readyTimeout is how long the watcher may take until it can schedule. After
// that the run goes on, and its own timeout decides.
const readyTimeout = 30 * time.Second

// A terminal is where a run talks to a person, or to a file.
type terminal struct {
	in  *os.File
	out io.Writer
}

// interactive says whether a person can answer.
func (t terminal) interactive() bool { return term.IsTerminal(int(t.in.Fd())) }

// rewritable says whether a line that was printed can be printed over.
func (t terminal) rewritable() bool {
	f, ok := t.out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// printf prints one line of a run's account, under a heading of its own.
func (t terminal) printf(heading, format string, args ...any) {
	fmt.Fprintf(t.out, "%-12s %s\n", heading, fmt.Sprintf(format, args...))
}

// errNotDone says that the workload did not become what it should.
var errNotDone = errors.New("not every pod became what was expected")

// A demo is one run.
type demo struct {
	options
	terminal
	family    *family
	cluster   *cluster
	scheduler string // spec.schedulerName of the pods
	local     bool   // the cluster is our own
	auditLog  string

	deciders  []decider
	watcherAt string // address of its metrics and health
	workload  workload.Workload
	nodes     []*corev1.Node
	tracker   *outcome.Tracker
}

// A decider is one that the watcher is told of; child is nil where none was
// started.
type decider struct {
	address string
	child   *child.Child
}

// run is a run from beginning to end. It returns nil if everything became what
// was expected or if it was interrupted after its summary.
func run(ctx context.Context, o options, t terminal) (err error) {
	d := &demo{options: o, terminal: t, local: o.cluster == ""}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	d.family = newFamily(o.bin, o.dir)
	programs := []string{"decider", "watcher", "check"}
	if d.local {
		programs = append(programs, "local", "etcd", "kube-apiserver", "kube-controller-manager", "kwok")
	}
	if err := d.family.require(programs...); err != nil {
		return err
	}

	interrupted := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer func() {
		switch cause := context.Cause(ctx); {
		case err == nil:
		case interrupted.Err() != nil:
			err = errors.New("interrupted")
		case cause != nil:
			err = cause // a child's end, which made everything else fail
		}
		cancel(nil)
		d.family.stop()
	}()
	if d.local {
		err = d.startCluster(ctx)
	} else {
		err = d.useCluster(ctx)
	}
	if err != nil {
		return err
	}
	if err := d.cluster.createNamespace(ctx); err != nil {
		return err
	}
	if !d.local {
		defer func() {
			t.printf("cluster", "removing namespace %s", namespace)
			// ctx may have ended; the namespace must go all the same.
			err = errors.Join(err, d.cluster.removeNamespace(context.WithoutCancel(ctx)))
		}()
	}
	if err := d.startScheduler(ctx); err != nil {
		return err
	}
	go d.mourn(ctx, cancel)

	settled, err := d.schedule(ctx)
	if err != nil {
		return err
	}
	if err := d.conclude(ctx, settled); err != nil && o.once {
		return err
	}
	if o.once {
		return nil
	}
	d.printHints()
	<-ctx.Done()
	if interrupted.Err() != nil {
		fmt.Fprintln(t.out, "\nending everything")
		return nil
	}
	return context.Cause(ctx)
}

// startCluster makes the workload, which may be wrong, before it starts a local
// cluster.
func (d *demo) startCluster(ctx context.Context) (err error) {
	d.scheduler = "berth"
	if d.trace != "" {
		d.workload, err = openb.Load(d.trace, d.tracePods, d.scheduler)
	} else {
		d.workload, err = workload.Mixed(d.scheduler, d.options.nodes, d.pods)
	}
	if err != nil {
		return err
	}
	dir := filepath.Join(d.dir, "cluster")
	d.printf("cluster", "starting etcd, kube-apiserver, kube-controller-manager and kwok in %s", dir)
	began := time.Now()
	local, err := d.family.start("local", "local", "up", "--dir", dir, "--bin", d.bin)
	if err != nil {
		return err
	}
	if _, err := awaitLine(ctx, local, "kubeconfig: "); err != nil {
		return err
	}
	d.auditLog = filepath.Join(dir, "audit.log")
	d.cluster, err = connect(filepath.Join(dir, "kubeconfig"))
	if err != nil {
		return err
	}
	d.printf("cluster", "%s is ready after %.1f s", d.cluster.server, time.Since(began).Seconds())
	return nil
}

// useCluster asks whether the given cluster may be used, and makes a workload
// that fits it.
func (d *demo) useCluster(ctx context.Context) (err error) {
	d.scheduler = "berth-demo" // so that a Berth which is installed there leaves the pods alone
	d.auditLog = os.DevNull    // the API server's is out of reach
	if d.cluster, err = connect(d.options.cluster); err != nil {
		return err
	}
	d.printf("cluster", "context %q, server %s", d.cluster.context, d.cluster.server)
	d.printf("", "creates namespace %s with up to %d small pods and some that cannot fit, and removes it at the end;", namespace, d.pods)
	d.printf("", "runs deciders and a watcher on this machine with the kubeconfig's rights. A cluster autoscaler may react.")
	if err := d.consent(); err != nil {
		return err
	}
	if d.nodes, err = d.cluster.nodes(ctx); err != nil {
		return err
	}
	placed, err := d.cluster.placed(ctx)
	if err != nil {
		return err
	}
	d.workload, err = workload.Modest(d.scheduler, d.nodes, placed, d.pods)
	return err
}

// consent returns nil if a person agrees, or did so on the command line.
func (d *demo) consent() error {
	if d.yes {
		return nil
	}
	if !d.interactive() {
		return errors.New("--cluster changes an existing cluster and nobody can be asked: add --yes (YES=1)")
	}
	fmt.Fprint(d.out, "Continue? [y/N] ")
	line, err := bufio.NewReader(d.in).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return errors.New("nothing was changed")
	}
	return nil
}

// recording is where check record writes.
func (d *demo) recording() string { return filepath.Join(d.dir, "recording.jsonl") }

// startScheduler starts the recorder, the deciders and the watcher.
func (d *demo) startScheduler(ctx context.Context) error {
	recorder, err := d.family.start("record", "check", "record", "--kubeconfig", d.cluster.kubeconfig, "--out", d.recording())
	if err != nil {
		return err
	}
	if _, err := awaitLine(ctx, recorder, "recording from "); err != nil {
		return err
	}

	free, err := child.FreeAddresses(1 + max(1, d.options.deciders))
	if err != nil {
		return err
	}
	d.watcherAt = free[0]
	for i, address := range free[1:] {
		decider := decider{address: address}
		if i < d.options.deciders {
			name := fmt.Sprintf("decider-%d", i+1)
			if decider.child, err = d.family.start(name, "decider", "--listen", address); err != nil {
				return err
			}
			d.printf(name, "%s, pid %d", address, decider.child.PID)
		} else {
			d.printf("deciders", "none; nobody listens on %s", address)
		}
		d.deciders = append(d.deciders, decider)
	}

	args := []string{"--kubeconfig", d.cluster.kubeconfig, "--scheduler-name", d.scheduler, "--metrics-listen", d.watcherAt}
	if !d.local {
		args = append(args, "--leader-elect=false") // the lease would be outside the namespace
	}
	for _, decider := range d.deciders {
		args = append(args, "--decider", decider.address)
	}
	watcher, err := d.family.start("watcher", "watcher", args...)
	if err != nil {
		return err
	}
	d.printf("watcher", "pid %d, metrics and health on http://%s", watcher.PID, d.watcherAt)
	return d.awaitWatcher(ctx, watcher)
}

// awaitWatcher waits until the watcher can schedule or, where it has no
// deciders, lives. One that takes long is told of, and no error.
func (d *demo) awaitWatcher(ctx context.Context, watcher *child.Child) error {
	path := "/readyz"
	if d.options.deciders == 0 {
		path = "/livez"
	}
	waiting, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	err := watcher.Await(waiting, pollInterval, func(ctx context.Context) error {
		return health(ctx, d.watcherAt, path)
	})
	if !watcher.Alive() {
		return watcher.Failure()
	}
	if err != nil && ctx.Err() == nil {
		d.printf("watcher", "still not ready: %v", err)
	}
	return context.Cause(ctx)
}

// mourn tells of deciders that ended, which the run survives, and ends the run
// when anything else did. It returns when ctx ends.
func (d *demo) mourn(ctx context.Context, cancel context.CancelCauseFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-d.family.ended:
			if !strings.HasPrefix(c.Name, "decider-") {
				cancel(c.Failure())
				return
			}
			d.note("%s ended (%s)", c.Name, c.How())
		}
	}
}

// schedule creates the workload and waits until it has become what it should
// (true), or the time is up (false).
func (d *demo) schedule(ctx context.Context) (settled bool, err error) {
	if d.local {
		if d.nodes, err = d.cluster.createNodes(ctx, d.workload.Nodes); err != nil {
			return false, err
		}
		d.printf("nodes", "%d are Ready", len(d.nodes))
	}
	if err := d.cluster.awaitServiceAccount(ctx); err != nil {
		return false, err
	}
	d.tracker = outcome.NewTracker(d.workload.Pods)
	if err := d.cluster.watch(ctx, d.tracker); err != nil {
		return false, err
	}
	d.printf("pods", "creating %d in namespace %s, up to %s to place them", len(d.workload.Pods), namespace, d.timeout)

	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	creating := make(chan error, 1)
	go func() { creating <- d.cluster.createPods(ctx, d.workload.Pods, d.tracker) }()
	settled, err = d.follow(ctx, creating)
	if errors.Is(err, context.DeadlineExceeded) {
		return false, nil
	}
	return settled, err
}

// conclude prints the summary and what check says, and returns an error unless
// both are as they should be.
func (d *demo) conclude(ctx context.Context, settled bool) error {
	fmt.Fprintln(d.out)
	summary := d.tracker.Summary(d.nodes)
	summary.Print(d.out)
	if d.trace != "" {
		d.printf("accounted", "%d = %d bound + %d pending, of %d rows", summary.Created, summary.Bound, summary.Created-summary.Bound, summary.Total)
	}
	checked := d.check(ctx, settled)
	if settled {
		return checked
	}

	missing := d.tracker.Missing()
	fmt.Fprintf(d.out, "\n%d of %d pods are not what they should be after %s:\n\n", len(missing), summary.Total, d.timeout)
	outcome.PrintMissing(d.out, missing)
	fmt.Fprintln(d.out)
	if len(missing) == 0 {
		d.printf("watcher", "still busy; see http://%s/metrics", d.watcherAt)
	}
	d.explain(ctx)
	return errors.Join(errNotDone, checked)
}

// explain prints what keeps pods from being placed, as far as the processes
// tell.
func (d *demo) explain(ctx context.Context) {
	alive := 0
	for _, decider := range d.deciders {
		if decider.child != nil && decider.child.Alive() {
			alive++
		}
	}
	if alive == 0 {
		d.printf("deciders", "none is running, so nothing is decided; pods are placed as soon as one is")
	}
	if err := health(ctx, d.watcherAt, "/readyz"); err != nil {
		d.printf("watcher", "not ready: %v", err)
	}
	d.printf("logs", "%s", filepath.Join(d.dir, "*.log"))
}

// check has bin/check judge the run. Where the run is settled it also looks for
// pending pods that a node has room for.
func (d *demo) check(ctx context.Context, settled bool) error {
	args := d.checkArgs()
	if settled {
		args = append(args, "--pending-fit")
	}
	report, err := d.family.output(ctx, "check", args...)
	lines := strings.Split(strings.TrimSpace(report), "\n")
	verdict := lines[len(lines)-1]
	d.printf("check", "%s", verdict)
	if err == nil {
		return nil
	}
	const cannotJudge = 2
	if exit := (*exec.ExitError)(nil); !d.local && errors.As(err, &exit) && exit.ExitCode() == cannotJudge {
		d.printf("", "who bound the pods was not judged: that needs the API server's audit log")
		return nil
	}
	fmt.Fprintf(d.out, "\n%s\n", strings.TrimSpace(report))
	return fmt.Errorf("check: %s", verdict)
}

func (d *demo) checkArgs() []string {
	return []string{"--kubeconfig", d.cluster.kubeconfig, "--record", d.recording(), "--audit-log", d.auditLog, "--scheduler-name", d.scheduler}
}
