// Package snapshot is the watcher's snapshot command: a DecideRequest as JSON, made
// from a live cluster or from manifests, for a decider that is asked by hand.
package snapshot

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/watcher/encode"
	"github.com/berth-scheduler/berth/watcher/internal/kube"
	nodesignal "github.com/berth-scheduler/berth/watcher/internal/signal"
)

const usage = `Prints a DecideRequest as JSON: the nodes, the pods on them or nominated for them, the
namespaces, the pod disruption budgets, and the pods that wait for a node, in the
order in which the watcher would ask about them. The same objects give the same bytes.

Usage:
  watcher snapshot --kubeconfig FILE [flags]
  watcher snapshot -f FILE [-f FILE...] [flags]

  watcher snapshot -f cluster.yaml --explain | decider decide --explain

Manifests are YAML or JSON, of one or more documents; lists are taken apart, and
kinds other than Pod, Node, Namespace, Service, ReplicationController, ReplicaSet,
StatefulSet and PodDisruptionBudget take no part. No API server has seen them, so
these defaults are applied here: namespace default, a pod's scheduler
(default-scheduler), requests from limits, a host port for every port under
hostNetwork, protocol TCP, toleration operator Equal, an emptyDir for a volume
without a source, label keys of affinity terms merged into their selectors, a node's
allocatable from its capacity, a namespace's name as its label, a
ReplicationController's selector from its template, and a uid made from the name
where there is none. Nothing that admission plugins or controllers do is done:
priority classes, runtime classes, limit ranges, the pods of a ReplicaSet, the
disruptions that a budget allows.

Flags:
`

// listTimeout bounds the reads of a live cluster.
const listTimeout = time.Minute

type options struct {
	kubeconfig     string
	files          []string
	schedulerNames []string
	pods           []string
	seed           uint64
	explain        bool
	signalPrefix   string
}

// Run runs the command and returns the process's exit code: 0, 1 if the request
// could not be made, 2 if the command line is wrong.
func Run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	o, err := parse(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "watcher snapshot: %v (see --help)\n", err)
		return 2
	}
	out, err := o.run(stdin, stderr)
	if err == nil {
		_, err = stdout.Write(out)
	}
	if err != nil {
		fmt.Fprintf(stderr, "watcher snapshot: %v\n", err)
		return 1
	}
	return 0
}

func parse(args []string, out io.Writer) (*options, error) {
	o := &options{}
	fs := flag.NewFlagSet("watcher snapshot", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	into := func(list *[]string) func(string) error {
		return func(s string) error {
			*list = append(*list, s)
			return nil
		}
	}
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "read the live cluster that `FILE` points at")
	fs.Func("f", "read manifests from `FILE`, - for standard input; repeatable", into(&o.files))
	fs.Func("scheduler-name", "ask about waiting pods with this spec.schedulerName (default berth); repeatable", into(&o.schedulerNames))
	fs.Func("pod", "ask about the waiting pod `NAMESPACE/NAME` alone, whatever its scheduler; repeatable", into(&o.pods))
	fs.Uint64Var(&o.seed, "seed", 0, "breaks ties; 0 starts at the first node name")
	fs.BoolVar(&o.explain, "explain", false, "ask for an explanation of every node")
	fs.StringVar(&o.signalPrefix, "signal-annotation-prefix", "", "nodes' annotations whose keys begin with `prefix`, for example signals.example.com/, are signals, whatever their age; empty means that none are")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(out, usage)
			fs.SetOutput(out)
			fs.PrintDefaults()
		}
		return nil, err
	}
	switch {
	case fs.NArg() > 0:
		return nil, fmt.Errorf("unknown argument %q", fs.Arg(0))
	case (o.kubeconfig == "") == (len(o.files) == 0):
		return nil, errors.New("give either --kubeconfig FILE or -f FILE")
	}
	for _, pod := range o.pods {
		if namespace, name, ok := strings.Cut(pod, "/"); !ok || namespace == "" || name == "" {
			return nil, fmt.Errorf("--pod %s: want NAMESPACE/NAME", pod)
		}
	}
	if o.signalPrefix != "" {
		if err := nodesignal.CheckPrefix(o.signalPrefix); err != nil {
			return nil, fmt.Errorf("--signal-annotation-prefix %w", err)
		}
	}
	if len(o.schedulerNames) == 0 {
		o.schedulerNames = []string{"berth"}
	}
	return o, nil
}

func (o *options) run(stdin io.Reader, stderr io.Writer) ([]byte, error) {
	var cluster *encode.Objects
	var err error
	if o.kubeconfig != "" {
		cluster, err = readCluster(o.kubeconfig)
	} else {
		cluster, err = readManifests(o.files, stdin, stderr)
	}
	if err != nil {
		return nil, err
	}
	waiting, err := o.choose(cluster.Pods)
	if err != nil {
		return nil, err
	}
	if len(waiting) == 0 {
		fmt.Fprintf(stderr, "watcher snapshot: no pod waits for a node under scheduler name %s\n", strings.Join(o.schedulerNames, ", "))
	}
	request := o.request(cluster, waiting)
	if o.signalPrefix != "" {
		o.addSignals(request.GetSnapshot(), cluster.Nodes, stderr)
	}
	return canonical(request)
}

func readCluster(kubeconfig string) (*encode.Objects, error) {
	// A person at the terminal may give up.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	client, err := kube.NewClient(kube.Config{Kubeconfig: kubeconfig, Version: "snapshot", Identity: "snapshot"})
	if err != nil {
		return nil, err
	}
	if err := client.Ping(ctx); err != nil {
		return nil, err
	}
	return client.List(ctx)
}

// choose returns the pods to ask about: the watcher's order is by priority, then by
// time of entering, for which the time of creation stands here.
func (o *options) choose(pods []*corev1.Pod) ([]*corev1.Pod, error) {
	var out []*corev1.Pod
	if len(o.pods) > 0 {
		for _, key := range o.pods {
			i := slices.IndexFunc(pods, func(p *corev1.Pod) bool { return p.Namespace+"/"+p.Name == key })
			if i < 0 {
				return nil, fmt.Errorf("--pod %s: there is no such pod", key)
			}
			if why := notWaiting(pods[i]); why != "" {
				return nil, fmt.Errorf("--pod %s: the pod does not wait for a node: %s", key, why)
			}
			if !slices.Contains(out, pods[i]) {
				out = append(out, pods[i])
			}
		}
	} else {
		for _, p := range pods {
			if notWaiting(p) == "" && slices.Contains(o.schedulerNames, p.Spec.SchedulerName) {
				out = append(out, p)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b *corev1.Pod) int {
		return cmp.Or(
			-cmp.Compare(priority(a), priority(b)),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
		)
	})
	return out, nil
}

func priority(p *corev1.Pod) int32 {
	if p.Spec.Priority == nil {
		return 0
	}
	return *p.Spec.Priority
}

// notWaiting says why the pod does not wait for a node; empty if it does.
func notWaiting(p *corev1.Pod) string {
	switch {
	case p.Spec.NodeName != "":
		return "it is on node " + p.Spec.NodeName
	case !encode.Holds(p):
		return "it has finished"
	case p.DeletionTimestamp != nil:
		return "it is being deleted"
	case len(p.Spec.SchedulingGates) > 0:
		return "it has scheduling gates"
	}
	return ""
}

func (o *options) request(c *encode.Objects, waiting []*corev1.Pod) *berthv1.DecideRequest {
	out := &berthv1.DecideRequest{
		State: &berthv1.DecideRequest_Snapshot{Snapshot: c.Snapshot()},
		Pods:  c.PendingPods(waiting),
		Seed:  o.seed,
	}
	if o.explain {
		out.Explanation = berthv1.ExplanationLevel_EXPLANATION_LEVEL_NODES
	}
	return out
}

// addSignals gives nodes the signals that their annotations have, and notes those that
// cannot be read.
func (o *options) addSignals(s *berthv1.Snapshot, nodes []*corev1.Node, notes io.Writer) {
	signals := map[string]map[string]int64{}
	for _, n := range nodes {
		for _, a := range nodesignal.Annotations(o.signalPrefix, n.Annotations) {
			if a.Err != nil {
				fmt.Fprintf(notes, "watcher snapshot: node %s: annotation %s: %v\n", n.Name, a.Key, a.Err)
				continue
			}
			if signals[n.Name] == nil {
				signals[n.Name] = map[string]int64{}
			}
			signals[n.Name][a.Name] = a.Value.Milli
		}
	}
	for _, n := range s.GetNodes() {
		n.Signals = signals[n.GetName()]
	}
}

// canonical is the message as JSON. protojson varies its spaces on purpose;
// indenting anew makes equal messages equal bytes.
func canonical(m proto.Message) ([]byte, error) {
	raw, err := protojson.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write the request as JSON: %w", err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return nil, fmt.Errorf("write the request as JSON: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}
