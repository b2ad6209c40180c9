package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-scheduler/berth/deploy/bench/internal/result"
	"github.com/berth-scheduler/berth/deploy/bench/internal/takeover"
	"github.com/berth-scheduler/berth/deploy/bench/internal/workload"
	"github.com/berth-scheduler/berth/deploy/internal/child"
)

const takeoverUsage = `Usage: bench takeover [flags]

Kills the leading one of two watchers (SIGKILL) while pods are scheduled, and says how
long it takes until the other one binds: from the kill, from the end of the dead
leader's Lease, and from when the other one acquired it. bin/check judges that nothing
was bound by the old leader after that, and everything else. docs/performance.md says
what the columns mean.

  --rounds N       how often (default 1)
  --nodes N        nodes (default 5000)
  --pods N         pods (default 20000)
  --after N        the leader is killed when so many of them are bound (default a quarter)
  --json FILE      also write everything to FILE, for programs
  --dir DIR        where the cluster and all logs are (default .local/bench)
  --bin DIR        where the programs are (default: the folder of this program)

Exit status 0 if every round counts; 1 if a rule was violated; 2 if none was seen to
be, but something could not be run or judged.
`

// leasePause is how often the Lease is looked at.
const leasePause = 20 * time.Millisecond

type takeoverOptions struct {
	aside
	after int
}

func parseTakeover(args []string) (takeoverOptions, error) {
	o := takeoverOptions{aside: aside{nodes: defaultNodes, pods: 20000, rounds: 1}}
	fs := o.flags("takeover")
	fs.IntVar(&o.after, "after", 0, "")
	if err := o.parse(fs, args); err != nil {
		return o, err
	}
	given := false
	fs.Visit(func(f *flag.Flag) { given = given || f.Name == "after" })
	if !given {
		o.after = max(1, o.pods/4)
	}
	if o.after < 1 || o.after >= o.pods {
		return o, fmt.Errorf("--after %d: want 1 or more, and less than the %d pods", o.after, o.pods)
	}
	w, err := workload.Find("equal")
	if err == nil {
		_, err = w.Objects("berth", o.nodes, o.pods)
	}
	return o, err
}

// runTakeover is the command; it returns the exit code.
func runTakeover(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseTakeover(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, takeoverUsage)
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench takeover:", err)
		return 2
	}
	runs, err := o.measure(ctx, stderr)
	text := ""
	if len(runs) > 0 {
		text = takeover.Table(runs)
	}
	var verdicts []result.Verdict
	for _, r := range runs {
		verdicts = append(verdicts, r.Verdict)
	}
	return o.finish("bench takeover", stdout, stderr, text, takeover.Report{Runs: runs}, result.Status(verdicts...), err)
}

// measure makes the rounds. Those that were made are returned with an error, too.
func (o takeoverOptions) measure(ctx context.Context, stderr io.Writer) ([]takeover.Run, error) {
	b, stop, err := o.begin(ctx, stderr)
	if err != nil {
		return nil, err
	}
	defer stop()
	var runs []takeover.Run
	for round := range o.rounds {
		b.printf("round %d of %d: creating %d pods", round+1, o.rounds, o.pods)
		r := takeover.Run{Round: round + 1, Nodes: o.nodes, Pods: o.pods}
		if err := o.run(ctx, b, &r); err != nil {
			if ended := b.failed(ctx, err); ended != nil {
				return runs, ended
			}
			r.Problems = append(r.Problems, err.Error())
		}
		runs = append(runs, r)
	}
	return runs, nil
}

// run makes one round and fills in what came out of it.
func (o takeoverOptions) run(ctx context.Context, b *bench, r *takeover.Run) error {
	w, err := workload.Find("equal")
	if err != nil {
		return err
	}
	s, err := findSystem("berth-2x2")
	if err != nil {
		return err
	}
	s.events = false // what the leader had bound and not told of yet, nobody tells of
	t, err := b.stage(ctx, w, s, o.pods)
	if err != nil {
		return err
	}
	var change takeover.Change
	t.beside = func(ctx context.Context) (err error) {
		change, err = t.kill(ctx, o.after, b.printf)
		return err
	}
	res, err := t.measure(ctx)
	r.Violated, r.Problems = t.violated, append(r.Problems, res.Problems...)
	if err != nil {
		return err
	}
	log, err := os.Open(t.audit())
	if err != nil {
		return err
	}
	defer log.Close()
	binds, err := takeover.ReadBinds(log)
	if err != nil {
		return fmt.Errorf("%s: %w", t.audit(), err)
	}
	r.Measure(binds, change, res.Bound)
	return nil
}

// kill kills the watcher that leads once so many pods are bound, and returns when another
// one leads.
func (t *trial) kill(ctx context.Context, after int, say func(format string, args ...any)) (takeover.Change, error) {
	var c takeover.Change
	err := child.Poll(ctx, leasePause, func(context.Context) error {
		if undone, _, _ := t.timeline.Progress(); len(t.objects.Pods)-undone < after {
			return fmt.Errorf("%d pods are not bound", undone)
		}
		return nil
	})
	if err != nil {
		return c, err
	}
	lease, err := t.cluster.lease(ctx)
	if err != nil {
		return c, err
	}
	leader := slices.IndexFunc(t.children, func(c *child.Child) bool { return c.PID == processOf(*lease.Spec.HolderIdentity) })
	if leader < 0 {
		return c, fmt.Errorf("the Lease's holder %s is none of the watchers", *lease.Spec.HolderIdentity)
	}
	t.killed.Store(int64(t.children[leader].PID))
	t.children[leader].Kill()
	c.Old, c.Killed = *lease.Spec.HolderIdentity, time.Now()
	undone, _, _ := t.timeline.Progress()
	say("the leader is killed, with %d pods of %d bound", len(t.objects.Pods)-undone, len(t.objects.Pods))
	err = child.Poll(ctx, leasePause, func(ctx context.Context) error {
		lease, err := t.cluster.lease(ctx)
		if err != nil {
			return err
		}
		if c.New = *lease.Spec.HolderIdentity; c.New == c.Old {
			c.LeaseEnd = lease.Spec.RenewTime.Add(time.Duration(*lease.Spec.LeaseDurationSeconds) * time.Second)
			return fmt.Errorf("%s still holds the Lease", c.Old)
		}
		c.Acquired = lease.Spec.AcquireTime.Time
		return nil
	})
	if err == nil {
		say("the other watcher leads, %.1f s after the kill", time.Since(c.Killed).Seconds())
	}
	return c, err
}

// lease is the watchers' Lease, which somebody holds.
func (c *cluster) lease(ctx context.Context) (*coordinationv1.Lease, error) {
	lease, err := c.client.CoordinationV1().Leases(leaseNamespace).Get(ctx, leaseName, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if s := lease.Spec; s.HolderIdentity == nil || *s.HolderIdentity == "" || s.RenewTime == nil || s.AcquireTime == nil || s.LeaseDurationSeconds == nil {
		return nil, errors.New("nobody leads")
	}
	return lease, nil
}

// processOf is the PID in a watcher's identity, HOST_PID_RANDOM; a host name has no
// underscore. It is 0 if there is none.
func processOf(identity string) int {
	parts := strings.Split(identity, "_")
	if len(parts) != 3 {
		return 0
	}
	pid, err := strconv.Atoi(parts[1])
	if err != nil {
		return 0
	}
	return pid
}
