package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/berth-scheduler/berth/watcher/internal/kube"
	"github.com/berth-scheduler/berth/watcher/internal/queue"
	"github.com/berth-scheduler/berth/watcher/internal/signal"
)

// options are the watcher's flags.
type options struct {
	config   string
	backoffs queue.Backoffs // from the configuration file alone
	// oneAtATime are the scheduler names whose default spread constraints must hold.
	oneAtATime     map[string]bool
	kubeconfig     string
	schedulerNames []string
	deciders       map[string][]string // by scheduler name, the preferred first

	kubeAPIQPS   float64
	kubeAPIBurst int

	leaderElect                             bool
	leaseNamespace, leaseName               string
	leaseDuration, renewDeadline, retryTime time.Duration

	signalPrefix    string
	signalMetrics   time.Duration
	signalMaxAge    time.Duration
	signalMinChange float64

	metricsListen   string
	profiling       bool
	maxMessageBytes int
	decideTimeout   time.Duration
	maxBatchPods    int
	parallelBinds   int

	insecure                              bool
	caFile, certFile, keyFile, serverName string
	seed                                  uint64
	version                               bool
	rawSchedulerNames, rawDeciders        []string
}

const usage = `The watcher watches a Kubernetes cluster, keeps the queue of pods that wait for
a node, asks deciders where to put them, and binds.

Usage:
  watcher --decider ADDR [flags]
  watcher snapshot [flags]        print a DecideRequest for a cluster or manifests
                                  (watcher snapshot --help)

Flags:
`

// parseOptions reads the command line. Its error is one for the person who typed
// it; flag.ErrHelp if help was asked for and has been printed.
func parseOptions(args []string, out io.Writer, addLogging func(*flag.FlagSet)) (*options, error) {
	o := &options{}
	fs := flag.NewFlagSet("watcher", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.config, "config", "", "`file` with a KubeSchedulerConfiguration, the one that deciders get: its profiles are the scheduler names, and what it says about leader election, the API server and backoff holds where no flag is given")
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "`file` that says how to reach the API server; empty means the cluster that this process runs in")
	fs.Func("scheduler-name", "schedule pods whose spec.schedulerName is `name` (default berth, or every profile of --config); repeatable", appendTo(&o.rawSchedulerNames))
	fs.Func("decider", "`[SCHEDULER_NAME=]ADDR[,FALLBACK...]`: ask the decider at ADDR, a gRPC target such as 127.0.0.1:50051, kubernetes:///NAMESPACE/SERVICE:PORT, dns:///NAME:PORT or unix://PATH, and each fallback if those before it do not answer; without a scheduler name it is for all of them; repeatable, later ones are further fallbacks", appendTo(&o.rawDeciders))
	fs.Float64Var(&o.kubeAPIQPS, "kube-api-qps", 1000, "requests per second to the API server; a negative number means no limit")
	fs.IntVar(&o.kubeAPIBurst, "kube-api-burst", 2000, "requests to the API server at once")
	fs.BoolVar(&o.leaderElect, "leader-elect", true, "schedule only while holding the Lease, so that several watchers can run")
	fs.StringVar(&o.leaseNamespace, "leader-elect-resource-namespace", "kube-system", "`namespace` of the Lease")
	fs.StringVar(&o.leaseName, "leader-elect-resource-name", "", "`name` of the Lease (default berth-<first scheduler name>)")
	fs.DurationVar(&o.leaseDuration, "leader-elect-lease-duration", 15*time.Second, "how long others wait for a leader that does not renew its Lease")
	fs.DurationVar(&o.renewDeadline, "leader-elect-renew-deadline", 10*time.Second, "how long a leader tries to renew its Lease before it gives up")
	fs.DurationVar(&o.retryTime, "leader-elect-retry-period", 500*time.Millisecond, "how long to wait between two tries to get or renew the Lease")
	fs.StringVar(&o.signalPrefix, "signal-annotation-prefix", "", "nodes' annotations whose keys begin with `prefix`, for example signals.example.com/, are signals; empty means that none are")
	fs.DurationVar(&o.signalMetrics, "signal-metrics-interval", 0, "how often to read nodes' use of cpu and memory from the metrics API, as signals; 0 means never")
	fs.DurationVar(&o.signalMaxAge, "signal-max-age", 5*time.Minute, "how long after its time a signal's value holds")
	fs.Float64Var(&o.signalMinChange, "signal-min-change", 0.05, "part of a signal's value that it has to change by for deciders to be told; 0 means every change")
	fs.StringVar(&o.metricsListen, "metrics-listen", "127.0.0.1:0", "`address` that serves /metrics, /livez and /readyz; port 0 means any, which is logged; empty means off")
	fs.BoolVar(&o.profiling, "profiling", false, "serve Go's profiles, at /debug/pprof, on --metrics-listen")
	fs.IntVar(&o.maxMessageBytes, "max-message-bytes", 64<<20, "largest message to and from deciders")
	fs.DurationVar(&o.decideTimeout, "decide-timeout", 15*time.Second, "how long one decider may take to answer")
	fs.IntVar(&o.maxBatchPods, "max-batch-pods", 500, "most pods in one request to a decider")
	fs.IntVar(&o.parallelBinds, "parallel-binds", 64, "bindings that are sent at a time")
	fs.BoolVar(&o.insecure, "insecure", false, "talk to deciders without TLS even where they are not on loopback or a unix socket")
	fs.StringVar(&o.caFile, "decider-ca-file", "", "`file` with the CA certificates that deciders' certificates are checked against; turns TLS on")
	fs.StringVar(&o.certFile, "decider-cert-file", "", "`file` with the certificate that is shown to deciders")
	fs.StringVar(&o.keyFile, "decider-key-file", "", "`file` with the key of --decider-cert-file")
	fs.StringVar(&o.serverName, "decider-server-name", "", "`name` that deciders' certificates must carry (default: the host in their address)")
	fs.Uint64Var(&o.seed, "seed", 0, "start of the sequence of seeds that break ties; 0 means any")
	fs.BoolVar(&o.version, "version", false, "print the version and exit")
	addLogging(fs)

	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(out, usage)
			fs.SetOutput(out)
			fs.PrintDefaults()
			return nil, err
		}
		return nil, fmt.Errorf("%w (watcher --help lists the flags)", err)
	}
	if o.version {
		return o, nil
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unknown argument %q", fs.Arg(0))
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if err := o.configure(given); err != nil {
		return nil, err
	}
	return o, o.complete()
}

func appendTo(list *[]string) func(string) error {
	return func(s string) error {
		if s == "" {
			return errors.New("must not be empty")
		}
		*list = append(*list, s)
		return nil
	}
}

// complete fills in what is derived, and returns every complaint at once.
func (o *options) complete() error {
	var errs []error
	complain := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	for _, name := range o.rawSchedulerNames {
		if !slices.Contains(o.schedulerNames, name) {
			o.schedulerNames = append(o.schedulerNames, name)
		}
	}
	if len(o.schedulerNames) == 0 {
		o.schedulerNames = []string{"berth"}
	}
	if o.leaseName == "" {
		o.leaseName = "berth-" + o.schedulerNames[0]
	}
	o.deciders = map[string][]string{}
	for _, raw := range o.rawDeciders {
		names, addresses := o.schedulerNames, raw
		if name, rest, ok := strings.Cut(raw, "="); ok {
			if !slices.Contains(o.schedulerNames, name) {
				complain("--decider %s: scheduler name %q is not among --scheduler-name %s", raw, name, strings.Join(o.schedulerNames, ", "))
			}
			names, addresses = []string{name}, rest
		}
		for address := range strings.SplitSeq(addresses, ",") {
			if address == "" {
				complain("--decider %s: an address is empty", raw)
				continue
			}
			if _, _, err := kube.ParseServicePort(address); err != nil {
				complain("--decider %s: %w", raw, err)
				continue
			}
			if o.caFile == "" && !o.insecure && !local(address) {
				complain("--decider %s: %s is not on loopback or a unix socket: give --decider-ca-file for TLS, or --insecure", raw, address)
			}
			for _, name := range names {
				o.deciders[name] = append(o.deciders[name], address)
			}
		}
	}
	for _, name := range o.schedulerNames {
		if len(o.deciders[name]) == 0 {
			complain("no decider for scheduler name %q: give --decider ADDR or --decider %s=ADDR", name, name)
		}
	}
	if o.caFile != "" && o.insecure {
		complain("--insecure and --decider-ca-file exclude each other")
	}
	if o.caFile == "" && (o.certFile != "" || o.keyFile != "" || o.serverName != "") {
		complain("--decider-cert-file, --decider-key-file and --decider-server-name need --decider-ca-file")
	}
	if (o.certFile == "") != (o.keyFile == "") {
		complain("--decider-cert-file and --decider-key-file go together")
	}
	for _, positive := range []struct {
		flag  string
		value float64
	}{
		{"--kube-api-burst", float64(o.kubeAPIBurst)},
		{"--max-message-bytes", float64(o.maxMessageBytes)}, {"--decide-timeout", float64(o.decideTimeout)},
		{"--max-batch-pods", float64(o.maxBatchPods)}, {"--parallel-binds", float64(o.parallelBinds)},
		{"--leader-elect-retry-period", float64(o.retryTime)},
		{"--signal-max-age", float64(o.signalMaxAge)},
	} {
		if positive.value <= 0 {
			complain("%s must be more than 0", positive.flag)
		}
	}
	if o.signalPrefix != "" {
		if err := signal.CheckPrefix(o.signalPrefix); err != nil {
			complain("--signal-annotation-prefix %w", err)
		}
	}
	if o.signalMetrics < 0 {
		complain("--signal-metrics-interval must not be less than 0")
	}
	if o.signalMaxAge > 0 && o.signalMaxAge <= o.signalMetrics {
		complain("--signal-max-age must be more than --signal-metrics-interval, or values would be too old before the next come")
	}
	if !(o.signalMinChange >= 0 && o.signalMinChange < 1) {
		complain("--signal-min-change must be at least 0 and less than 1")
	}
	if o.kubeAPIQPS == 0 {
		complain("--kube-api-qps must not be 0")
	}
	if o.leaderElect {
		if o.leaseDuration <= o.renewDeadline {
			complain("--leader-elect-lease-duration must be more than --leader-elect-renew-deadline")
		}
		if o.renewDeadline <= bindTimeout {
			complain("--leader-elect-renew-deadline must be more than the %v that a binding may take", bindTimeout)
		}
	}
	return errors.Join(errs...)
}

// local says whether a gRPC target is on this machine for certain.
func local(target string) bool {
	if strings.HasPrefix(target, "unix:") || strings.HasPrefix(target, "unix-abstract:") {
		return true
	}
	target = strings.TrimPrefix(strings.TrimPrefix(target, "passthrough:///"), "dns:///")
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		host = target
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
