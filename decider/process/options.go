package process

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc/credentials"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"
)

// serveOptions are the flags of a serving decider.
type serveOptions struct {
	listen          string
	metricsListen   string
	maxMessageBytes int
	maxPods         int
	maxConcurrent   int
	maxWaiting      int
	maxStateBytes   int64
	stateDigest     bool
	drainTimeout    time.Duration
	tlsCertFile     string
	tlsKeyFile      string
	tlsClientCAFile string
	insecure        bool
	loggingFormat   string
	verbosity       int
}

// serveUsage begins the help; the arguments are the purpose, the program's name and
// room to align what stands beside it.
const serveUsage = `%[1]s

Usage:
  %-[3]*[2]s serve until SIGTERM or SIGINT
  %-[3]*[4]s answer one saved request; see %[5]s decide --help

Flags:
`

func (p Program) serveUsage() string {
	serve, decide := p.Name+" [flags]", p.Name+" decide [flags] < request.json"
	return fmt.Sprintf(serveUsage, p.Purpose, serve, len(decide)+2, decide, p.Name)
}

// parseServeOptions returns nil options if --help or --version was all that was
// asked for.
func (p Program) parseServeOptions(args []string, stdout io.Writer) (*serveOptions, Configure, error) {
	o := &serveOptions{}
	flags := flag.NewFlagSet(p.Name, flag.ContinueOnError)
	configure := p.Flags(flags)
	flags.StringVar(&o.listen, "listen", "127.0.0.1:50051", "`address` to serve gRPC on: host:port, port 0 for any, or unix:///path")
	flags.StringVar(&o.metricsListen, "metrics-listen", "", "`address` to serve /metrics, /livez and /readyz on, port 0 for any; empty turns it off")
	flags.IntVar(&o.maxMessageBytes, "max-message-bytes", 64<<20, "largest message, in both directions")
	flags.IntVar(&o.maxPods, "max-pods", 0, "most pods in one request; 0 leaves it to the message size")
	flags.IntVar(&o.maxConcurrent, "max-concurrent", 0, "requests decided at once; 0 is one per processor")
	flags.IntVar(&o.maxWaiting, "max-waiting", 64, "requests that may wait for their turn; more are refused with RESOURCE_EXHAUSTED")
	flags.Int64Var(&o.maxStateBytes, "max-state-bytes", 4<<30, "most bytes of encoded records in the state that a watcher feeds; decoded they take about four times as much")
	flags.BoolVar(&o.stateDigest, "state-digest", true, "answer with a digest of the state, for comparing answers; false saves time on large clusters")
	flags.DurationVar(&o.drainTimeout, "drain-timeout", 10*time.Second, "how long requests in flight may take to end after SIGTERM")
	flags.StringVar(&o.tlsCertFile, "tls-cert-file", "", "`file` with the server's certificate chain (PEM); read again when it changes")
	flags.StringVar(&o.tlsKeyFile, "tls-key-file", "", "`file` with the certificate's private key (PEM); read again when it changes")
	flags.StringVar(&o.tlsClientCAFile, "tls-client-ca-file", "", "`file` with the authorities that clients' certificates must come from (PEM); empty admits clients without one")
	flags.BoolVar(&o.insecure, "insecure", false, "serve plaintext on an address that others can reach")
	flags.StringVar(&o.loggingFormat, "logging-format", "text", "text or json")
	flags.IntVar(&o.verbosity, "v", 0, "log `level`; 4 logs every request")
	if done, err := parse(flags, args, p.serveUsage(), stdout); done || err != nil {
		return nil, nil, err
	}
	if flags.NArg() > 0 {
		return nil, nil, UsageError{fmt.Errorf("unknown argument %q; see %s --help", flags.Arg(0), p.Name)}
	}
	return o, configure, o.validate()
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
		return false, UsageError{fmt.Errorf("%w; see %s --help", err, flags.Name())}
	case *showVersion:
		fmt.Fprintln(stdout, version())
		return true, nil
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
	if o.maxStateBytes <= 0 {
		complain("--max-state-bytes %d must be positive", o.maxStateBytes)
	}
	if o.drainTimeout <= 0 {
		complain("--drain-timeout %v must be positive", o.drainTimeout)
	}
	if o.maxWaiting == 0 {
		o.maxWaiting = -1 // as service.Config says none
	}
	if (o.tlsCertFile == "") != (o.tlsKeyFile == "") {
		complain("--tls-cert-file and --tls-key-file go together")
	}
	if o.tlsClientCAFile != "" && o.tlsCertFile == "" {
		complain("--tls-client-ca-file needs --tls-cert-file and --tls-key-file")
	}
	if o.insecure && o.tlsCertFile != "" {
		complain("--insecure and --tls-cert-file contradict each other")
	}
	if o.tlsCertFile == "" && !o.insecure && !isLocal(o.listen) {
		complain("--listen %s can be reached by others: give --tls-cert-file and --tls-key-file, or --insecure to serve plaintext there", o.listen)
	}
	if o.loggingFormat != "text" && o.loggingFormat != "json" {
		complain("--logging-format %q is neither text nor json", o.loggingFormat)
	}
	if len(complaints) > 0 {
		return UsageError{errors.New(strings.Join(complaints, "; "))}
	}
	return nil
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

// credentials returns nil for plaintext.
func (o *serveOptions) credentials() (credentials.TransportCredentials, error) {
	if o.tlsCertFile == "" {
		return nil, nil
	}
	files := &tlsFiles{certFile: o.tlsCertFile, keyFile: o.tlsKeyFile, clientCAFile: o.tlsClientCAFile}
	config, err := files.serverConfig()
	if err != nil {
		return nil, err
	}
	return credentials.NewTLS(config), nil
}

// setUpLogging makes klog write to stderr in the format and at the level that was
// asked for.
func (o *serveOptions) setUpLogging(stderr io.Writer) error {
	var level flag.FlagSet
	klog.InitFlags(&level)
	if err := level.Set("v", fmt.Sprint(o.verbosity)); err != nil {
		return UsageError{fmt.Errorf("-v %d: %w", o.verbosity, err)}
	}
	var logger logr.Logger
	if o.loggingFormat == "json" {
		// logr's V(n) is slog's level -n.
		logger = logr.FromSlogHandler(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: slog.Level(-o.verbosity)}))
	} else {
		logger = textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(stderr), textlogger.Verbosity(o.verbosity)))
	}
	klog.SetLoggerWithOptions(logger, klog.ContextualLogger(true))
	return nil
}
