package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-scheduler/berth/deploy/bench/internal/replicas"
	"github.com/berth-scheduler/berth/deploy/bench/internal/result"
	"github.com/berth-scheduler/berth/deploy/bench/internal/scrape"
	"github.com/berth-scheduler/berth/deploy/bench/internal/workload"
	"github.com/berth-scheduler/berth/deploy/internal/child"
)

const replicasUsage = `Usage: bench replicas [flags]

Lets several deciders that are slow by themselves work side by side, behind one
Service, and compares them with one of their kind. Then it schedules pods that
constrain each other, and pods that everybody wants to put on the same few nodes, and
says what that costs in conflicts and in decisions that are made again. bin/check
judges every run. docs/performance.md says what the columns mean.

  --deciders N     how many work side by side (default 4)
  --per-pod D      how long each sleeps for a pod (default 20ms)
  --rounds N       how often N deciders are compared with one, in turn (default 3)
  --nodes N        nodes (default 1000)
  --pods N         pods of each workload (default 1000)
  --workloads A,B  what is scheduled (default all:
                   %s)
  --json FILE      also write everything to FILE, for programs
  --dir DIR        where the cluster and all logs are (default .local/bench)
  --bin DIR        where the programs are (default: the folder of this program)

The deciders listen on an address of this machine that is not loopback, which
EndpointSlices do not allow, in plaintext.

Exit status 0 if every run counts; 1 if a rule was violated; 2 if none was seen to
be, but something could not be run or judged.
`

// compareWorkload is what several deciders are compared with one by; the others are for
// several alone.
const compareWorkload = "equal"

// replicaWorkloads are in the order in which they are scheduled.
var replicaWorkloads = []string{compareWorkload, "anti-affinity", "hard-spread", "pod-affinity", "full-50", "full-80", "full-95"}

type replicaOptions struct {
	aside
	deciders  int
	perPod    time.Duration
	workloads []string
}

func parseReplicas(args []string) (replicaOptions, error) {
	o := replicaOptions{aside: aside{nodes: 1000, pods: 1000, rounds: 3}}
	fs := o.flags("replicas")
	fs.IntVar(&o.deciders, "deciders", 4, "")
	fs.DurationVar(&o.perPod, "per-pod", 20*time.Millisecond, "")
	names := fs.String("workloads", strings.Join(replicaWorkloads, ","), "")
	if err := o.parse(fs, args); err != nil {
		return o, err
	}
	o.workloads = strings.Split(*names, ",")
	for _, name := range o.workloads {
		if !slices.Contains(replicaWorkloads, name) {
			return o, fmt.Errorf("--workloads: no workload %q: there are %s", name, strings.Join(replicaWorkloads, ", "))
		}
		w, err := replicaWorkload(name)
		if err == nil {
			_, err = w.Objects("berth", o.nodes, o.pods)
		}
		if err != nil {
			return o, err
		}
	}
	switch {
	case o.deciders < 2:
		return o, fmt.Errorf("--deciders %d: want 2 or more", o.deciders)
	case o.perPod < 0:
		return o, fmt.Errorf("--per-pod %v: want no less than 0", o.perPod)
	}
	return o, nil
}

func replicaWorkload(name string) (workload.Workload, error) {
	if percent, ok := strings.CutPrefix(name, "full-"); ok {
		n, err := strconv.Atoi(percent)
		return workload.Full(n), err
	}
	return workload.Find(name)
}

// runReplicas is the command; it returns the exit code.
func runReplicas(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseReplicas(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(stdout, replicasUsage, strings.Join(replicaWorkloads, ", "))
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench replicas:", err)
		return 2
	}
	runs, err := o.measure(ctx, stderr)
	text := ""
	if len(runs) > 0 {
		text = replicas.Table(runs)
	}
	var verdicts []result.Verdict
	for _, r := range runs {
		verdicts = append(verdicts, r.Verdict)
	}
	return o.finish("bench replicas", stdout, stderr, text, replicas.Report{Runs: runs, Speedups: replicas.Speedups(runs)}, result.Status(verdicts...), err)
}

// plan lists the runs: of the comparison every round with one decider and with all, every
// other round in reverse.
func (o replicaOptions) plan() []replicas.Run {
	var plan []replicas.Run
	for _, name := range o.workloads {
		if name != compareWorkload {
			plan = append(plan, replicas.Run{Workload: name, Deciders: o.deciders, Round: 1, Pods: o.pods})
			continue
		}
		sides := []int{1, o.deciders}
		for round := range o.rounds {
			for _, n := range sides {
				plan = append(plan, replicas.Run{Workload: name, Deciders: n, Round: round + 1, Pods: o.pods})
			}
			slices.Reverse(sides)
		}
	}
	return plan
}

// measure makes the runs. Those that were made are returned with an error, too.
func (o replicaOptions) measure(ctx context.Context, stderr io.Writer) ([]replicas.Run, error) {
	b, stop, err := o.begin(ctx, stderr)
	if err != nil {
		return nil, err
	}
	defer stop()
	var runs []replicas.Run
	plan := o.plan()
	for i, r := range plan {
		b.printf("run %d of %d: %s, deciders: %d, round %d", i+1, len(plan), r.Workload, r.Deciders, r.Round)
		if err := o.run(ctx, b, &r); err != nil {
			if ended := b.failed(ctx, err); ended != nil {
				return runs, ended
			}
			r.Problems = append(r.Problems, err.Error())
		}
		runs = append(runs, r)
		b.printf("%d pods bound in %.1f s%s", r.Bound, r.FirstToLast, strings.Join(append([]string{""}, r.Problems...), "; "))
	}
	return runs, nil
}

// run makes one run and fills in what came out of it.
func (o replicaOptions) run(ctx context.Context, b *bench, r *replicas.Run) error {
	w, err := replicaWorkload(r.Workload)
	if err != nil {
		return err
	}
	t, err := b.stage(ctx, w, sideBySide(r.Deciders, o.perPod), r.Pods)
	if err != nil {
		return err
	}
	var before scrape.Metrics
	var decided []scrape.Metrics // by the deciders until then
	t.warm = func(ctx context.Context) error {
		if err := t.acquaint(ctx, r.Deciders); err != nil {
			return err
		}
		watchers, err := t.scrape(ctx, "watcher")
		if err == nil {
			before = watchers[0]
			decided, err = t.scrape(ctx, "slowdecider")
		}
		return err
	}
	t.settled = func(ctx context.Context) error {
		watchers, err := t.scrape(ctx, "watcher")
		if err != nil {
			return err
		}
		deciders, err := t.scrape(ctx, "slowdecider")
		if err != nil {
			return err
		}
		count(r, before, watchers[0])
		for i, d := range deciders {
			r.Shares = append(r.Shares, d.Since(decided[i], "berth_decider_decisions_total"))
		}
		slices.Sort(r.Shares)
		return nil
	}
	res, err := t.measure(ctx)
	r.Bound, r.FirstToLast, r.Middle = res.Bound, res.FirstToLastBind, t.timeline.Figures().Middle.Seconds()
	r.Violated, r.Problems = t.violated, res.Problems
	return err
}

// count fills in what the watcher has counted from before to after.
func count(r *replicas.Run, before, after scrape.Metrics) {
	r.Decisions = after.Since(before, "berth_watcher_batch_pods_sum")
	r.Placements = after.Since(before, "berth_watcher_binds_total", `outcome="ok"`)
	r.Next = after.Since(before, "berth_watcher_conflicts_total", `result="next"`)
	r.Again = after.Since(before, "berth_watcher_conflicts_total", `result="again"`)
	r.Stale = after.Since(before, "berth_watcher_stale_decisions_total")
	r.Refusals = after.Since(before, "berth_watcher_refusals_total")
	r.Hedges = after.Since(before, "berth_watcher_hedges_total")
}

// acquaint returns when the watcher feeds all deciders and has had a few pods decided, so
// that it knows how many of them to put in a batch: as long as it does not, a batch is
// larger, and what is bound of the first ones would count as bound in no time.
func (t *trial) acquaint(ctx context.Context, deciders int) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	err := child.Poll(ctx, cleanInterval, func(ctx context.Context) error {
		watchers, err := t.scrape(ctx, "watcher")
		if err != nil {
			return err
		}
		if fed := watchers[0].Count("berth_watcher_sync_lag_versions"); fed != deciders {
			return fmt.Errorf("the watcher feeds %d deciders of %d", fed, deciders)
		}
		return nil
	})
	if err != nil {
		return err
	}
	const warming = 8
	for _, p := range workload.Warming(t.system.scheduler, warming) {
		if _, err := t.cluster.client.CoreV1().Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return child.Poll(ctx, cleanInterval, func(ctx context.Context) error {
		pods, err := t.cluster.client.CoreV1().Pods(workload.Namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		bound := len(slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return p.Spec.NodeName == "" }))
		if bound < warming {
			return fmt.Errorf("%d of the first %d pods are bound", bound, warming)
		}
		return nil
	})
}

// deciderService is the Service that deciders are found by, in the workloads' namespace.
const deciderService, deciderPort = "bench-deciders", "grpc"

// sideBySide is one watcher and so many slow deciders, which it finds as it does in a
// cluster.
func sideBySide(deciders int, perPod time.Duration) system {
	return system{name: fmt.Sprintf("berth-1x%d", deciders), scheduler: "berth", events: true, decides: true,
		programs: func(ctx context.Context, c *cluster) ([]program, error) {
			host, err := ownAddress()
			if err != nil {
				return nil, err
			}
			addresses, err := child.FreeAddresses(2*deciders + 1)
			if err != nil {
				return nil, err
			}
			var programs []program
			var ports []int32
			for i := range deciders {
				_, port, _ := net.SplitHostPort(addresses[i])
				n, err := strconv.Atoi(port)
				if err != nil {
					return nil, err
				}
				ports = append(ports, int32(n))
				metrics := addresses[deciders+i]
				programs = append(programs, program{
					name: "slowdecider",
					args: []string{"--listen=" + net.JoinHostPort(host, port), "--insecure", "--metrics-listen=" + metrics,
						"--per-pod=" + perPod.String()},
					ready: "http://" + metrics + "/readyz",
					grpc:  net.JoinHostPort(host, port),
				})
			}
			if err := c.publish(ctx, host, ports); err != nil {
				return nil, err
			}
			metrics := addresses[2*deciders]
			return append(programs, program{
				name: "watcher",
				args: append([]string{
					"--kubeconfig=" + c.kubeconfig, "--scheduler-name=berth", "--leader-elect=false", "--insecure",
					fmt.Sprintf("--decider=kubernetes:///%s/%s:%s", workload.Namespace, deciderService, deciderPort),
					"--metrics-listen=" + metrics, "-v=2",
				}, unlimited...),
				ready: "http://" + metrics + "/readyz",
			}), nil
		}}
}

// publish writes the EndpointSlices of deciders that listen on ports of host: one for each,
// for the endpoints of a slice have all the same port.
func (c *cluster) publish(ctx context.Context, host string, ports []int32) error {
	slices := c.client.DiscoveryV1().EndpointSlices(workload.Namespace)
	if err := slices.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		return fmt.Errorf("deleting the EndpointSlices before: %w", err)
	}
	name, family := deciderPort, discoveryv1.AddressTypeIPv4
	if net.ParseIP(host).To4() == nil {
		family = discoveryv1.AddressTypeIPv6
	}
	for _, port := range ports {
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", deciderService, port), Labels: map[string]string{discoveryv1.LabelServiceName: deciderService}},
			AddressType: family,
			Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{host}}},
		}
		if _, err := slices.Create(ctx, slice, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating EndpointSlice %s: %w", slice.Name, err)
		}
	}
	return nil
}

// ownAddress is an address of this machine that an EndpointSlice may have: the first, IPv4
// before IPv6.
func ownAddress() (string, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	found := ""
	for _, a := range addresses {
		n, ok := a.(*net.IPNet)
		switch {
		case !ok || !n.IP.IsGlobalUnicast():
		case n.IP.To4() != nil:
			return n.IP.String(), nil
		case found == "":
			found = n.IP.String()
		}
	}
	if found == "" {
		return "", errors.New("this machine has no address but loopback, which an EndpointSlice must not have")
	}
	return found, nil
}
