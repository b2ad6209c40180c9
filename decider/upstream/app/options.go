package app

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"strings"
	"time"

	"k8s.io/component-base/version"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"
)

// serveOptions are the flags of a serving decider.
type serveOptions struct {
	listen          string
	metricsListen   string
	config          string
	maxMessageBytes int
	maxPods         int
	maxConcurrent   int
	maxWaiting      int
	stateDigest     bool
	drainTimeout    time.Duration
	insecure        bool
	verbosity       int
}

const serveUsage = `upstream answers over gRPC which node kube-scheduler's own plugins would give each pod.

Usage:
  upstream [flags]                         serve until SIGTERM or SIGINT
  upstream decide [flags] < request.json   answer one saved request; see upstream decide --help

Flags:
`

const decideUsage = `upstream decide answers the DecideRequest on standard input, as the server would.

Usage:
  upstream decide [flags] < request.json

Flags:
`

const configUsage = "`file` with a KubeSchedulerConfiguration, read by kube-scheduler's own loader; its profiles decide for their scheduler names; empty means the default profile for every one"

// serveFlags defines the flags of a serving decider.
func serveFlags(o *serveOptions) *flag.FlagSet {
	flags := flag.NewFlagSet("upstream", flag.ContinueOnError)
	flags.StringVar(&o.listen, "listen", "127.0.0.1:50051", "`address` to serve gRPC on: host:port, port 0 for any, or unix:///path")
	flags.StringVar(&o.metricsListen, "metrics-listen", "", "`address` to serve /metrics, /livez and /readyz on, port 0 for any; empty turns it off")
	flags.StringVar(&o.config, "config", "", configUsage)
	flags.IntVar(&o.maxMessageBytes, "max-message-bytes", 64<<20, "largest message, in both directions")
	flags.IntVar(&o.maxPods, "max-pods", 0, "most pods in one request; 0 leaves it to the message size")
	flags.IntVar(&o.maxConcurrent, "max-concurrent", 0, "requests decided at once; 0 is one per processor")
	flags.IntVar(&o.maxWaiting, "max-waiting", 64, "requests that may wait for their turn; more are refused with RESOURCE_EXHAUSTED")
	flags.BoolVar(&o.stateDigest, "state-digest", true, "answer with a digest of the state, for comparing answers; false saves time on large clusters")
	flags.DurationVar(&o.drainTimeout, "drain-timeout", 10*time.Second, "how long requests in flight may take to end after SIGTERM")
	flags.BoolVar(&o.insecure, "insecure", false, "serve plaintext on an address that others can reach")
	flags.IntVar(&o.verbosity, "v", 0, "log `level`; 4 logs every request and what plugins say")
	return flags
}

// parseServeOptions returns nil options if --help or --version was all that was
// asked for.
func parseServeOptions(args []string, stdout io.Writer) (*serveOptions, error) {
	o := &serveOptions{}
	if done, err := parse(serveFlags(o), args, serveUsage, stdout); done || err != nil {
		return nil, err
	}
	return o, o.validate()
}

// decideOptions are the flags of upstream decide.
type decideOptions struct {
	config  string
	explain bool
}

// decideFlags defines the flags of upstream decide.
func decideFlags(o *decideOptions) *flag.FlagSet {
	flags := flag.NewFlagSet("upstream decide", flag.ContinueOnError)
	flags.StringVar(&o.config, "config", "", configUsage)
	flags.BoolVar(&o.explain, "explain", false, "say of every node why it was rejected or how it scored")
	return flags
}

// parseDecideOptions returns as parseServeOptions does.
func parseDecideOptions(args []string, stdout io.Writer) (*decideOptions, error) {
	o := &decideOptions{}
	if done, err := parse(decideFlags(o), args, decideUsage, stdout); done || err != nil {
		return nil, err
	}
	return o, nil
}

// parse parses flags; done is set if --help or --version was asked for and
// answered.
func parse(flags *flag.FlagSet, args []string, usage string, stdout io.Writer) (done bool, _ error) {
	showVersion := flags.Bool("version", false, "print the version and exit")
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return true, nil
	case err != nil:
		return false, usageError{fmt.Errorf("%w; see %s --help", err, flags.Name())}
	case *showVersion:
		fmt.Fprintln(stdout, buildVersion())
		return true, nil
	case flags.NArg() > 0:
		return false, usageError{fmt.Errorf("unknown argument %q; see %s --help", flags.Arg(0), flags.Name())}
	}
	return false, nil
}

// validate returns all complaints at once.
func (o *serveOptions) validate() error {
	var complaints []string
	complain := func(format string, args ...any) { complaints = append(complaints, fmt.Sprintf(format, args...)) }
	for _, limit := range []struct {
		flag  string
		value int
	}{{"--max-pods", o.maxPods}, {"--max-concurrent", o.maxConcurrent}, {"--max-waiting", o.maxWaiting}} {
		if limit.value < 0 {
			complain("%s %d must not be negative", limit.flag, limit.value)
		}
	}
	if o.maxMessageBytes <= 0 {
		complain("--max-message-bytes %d must be positive", o.maxMessageBytes)
	}
	if o.drainTimeout <= 0 {
		complain("--drain-timeout %v must be positive", o.drainTimeout)
	}
	if o.maxWaiting == 0 {
		o.maxWaiting = -1 // as service.Config says none
	}
	if !o.insecure && !isLocal(o.listen) {
		complain("--listen %s can be reached by others: give --insecure to serve plaintext there", o.listen)
	}
	if len(complaints) > 0 {
		return usageError{errors.New(strings.Join(complaints, "; "))}
	}
	return nil
}

// unixScheme begins an address that is a socket's path.
const unixScheme = "unix://"

// network is the address to listen on as net.Listen takes it.
func (o *serveOptions) network() (network, address string) {
	if path, isSocket := strings.CutPrefix(o.listen, unixScheme); isSocket {
		return "unix", path
	}
	return "tcp", o.listen
}

// isLocal says whether only this machine can reach the address: a socket or a
// loopback address.
func isLocal(address string) bool {
	if strings.HasPrefix(address, unixScheme) {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// setUpLogging makes klog write to stderr at the level that was asked for.
func (o *serveOptions) setUpLogging(stderr io.Writer) error {
	var level flag.FlagSet
	klog.InitFlags(&level)
	if err := level.Set("v", fmt.Sprint(o.verbosity)); err != nil {
		return usageError{fmt.Errorf("-v %d: %w", o.verbosity, err)}
	}
	logger := textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(stderr), textlogger.Verbosity(o.verbosity)))
	klog.SetLoggerWithOptions(logger, klog.ContextualLogger(true))
	return nil
}

// buildVersion is what the linker was told (-X
// k8s.io/component-base/version.gitVersion=...), or else what Go knows of the
// module.
func buildVersion() string {
	stamped := version.Get().GitVersion
	if !strings.Contains(stamped, "$Format") {
		return stamped
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
