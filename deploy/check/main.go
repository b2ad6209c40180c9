// Check is the judge of a run: it says whether a scheduler did anything to a
// cluster that a scheduler must never do.
//
// It believes no scheduler's word. What it reads is the API server's: a
// recording of pods, nodes, leases and namespaces that "check record" made while the run
// went on, the audit log, and what the API server has at the end. It shares no
// code with the watcher, the decider or their contract, so that a mistake of
// theirs is not repeated here.
//
// Reading order: internal/history is the recording, internal/audit the audit
// log, internal/judge the verdict over both and pure; follow.go talks to the
// API server, record.go and live.go are the two commands around it.
//
// A recorder is needed because the API server keeps no history to ask for: its
// watch cache reaches back a minute or so, and a watch from before is answered
// 410 Gone.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/berth-scheduler/berth/deploy/check/internal/judge"
)

// exitCannotJudge is the exit code for everything that is no verdict: bad
// flags, unreadable files, an unreachable API server, an incomplete recording.
const exitCannotJudge = 2

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

const usage = `Usage:
  check record --kubeconfig FILE --out FILE
        Records pods, nodes, leases and namespaces until it is ended. Start it before the
        workload and wait for its line "recording from resourceVersion N".
  check --kubeconfig FILE --record FILE --audit-log FILE [flags]
        Judges the run up to now. The recorder may go on or have been ended.
  check replay --record FILE --audit-log FILE [flags]
        Judges a recording as it stands, without an API server.

Exit code: 0 nothing was violated, 1 something was, 2 it cannot be judged.

Flags:
`

// run is main with its surroundings as arguments; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	command := "check"
	if len(args) > 0 && (args[0] == "record" || args[0] == "replay") {
		command, args = args[0], args[1:]
	}
	o, err := parse(command, args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err == nil:
		var code int
		if code, err = o.run(ctx, command, stdout); err == nil {
			return code
		}
	}
	fmt.Fprintf(stderr, "check: %v\n", err)
	return exitCannotJudge
}

// options are the flags of all three commands.
type options struct {
	kubeconfig, out, output string
	files                   files
	in                      judge.Input
}

// list is a flag that can be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func parse(command string, args []string, stderr io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("check", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are printed once, by run
	if command != "replay" {
		fs.StringVar(&o.kubeconfig, "kubeconfig", "", "`FILE` that says how to reach the API server; required, no other place is looked at")
	}
	if command == "record" {
		fs.StringVar(&o.out, "out", "", "`FILE` to record to; what it held before is lost")
	} else {
		fs.StringVar(&o.files.recording, "record", "", "`FILE` that check record wrote")
		fs.Var((*list)(&o.files.audit), "audit-log", "`FILE` of the API server's audit log; repeat it for rotated files, oldest first")
		fs.Var((*list)(&o.in.SchedulerNames), "scheduler-name", "judge the pods of this scheduler `NAME`; can be repeated (default berth)")
		fs.StringVar(&o.in.Lease, "lease", "", "`NAMESPACE/NAME` of the watchers' lease (default kube-system/berth-FIRST-SCHEDULER-NAME)")
		fs.BoolVar(&o.in.PendingFit, "pending-fit", false, "also report every pod that is pending at the end though a node has room for it")
		fs.StringVar(&o.output, "output", "table", "`FORMAT` of the report: table or json")
	}
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stderr, usage)
		fs.SetOutput(stderr)
		fs.PrintDefaults()
	}
	if err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q: the commands are record and replay, everything else is a flag", fs.Arg(0))
	}
	return o, o.complete(command)
}

// complete sets the defaults that depend on other flags and reports every flag
// that is missing or wrong.
func (o *options) complete(command string) error {
	var errs []error
	require := func(name, value string) {
		if value == "" {
			errs = append(errs, fmt.Errorf("--%s is required", name))
		}
	}
	if command != "replay" {
		require("kubeconfig", o.kubeconfig)
	}
	if command == "record" {
		require("out", o.out)
		return joined(errs)
	}
	require("record", o.files.recording)
	require("audit-log", strings.Join(o.files.audit, ""))
	if len(o.in.SchedulerNames) == 0 {
		o.in.SchedulerNames = []string{"berth"}
	}
	if o.in.Lease == "" {
		o.in.Lease = "kube-system/berth-" + o.in.SchedulerNames[0]
	}
	if strings.Count(o.in.Lease, "/") != 1 {
		errs = append(errs, fmt.Errorf("--lease %q: want NAMESPACE/NAME", o.in.Lease))
	}
	if o.output != "table" && o.output != "json" {
		errs = append(errs, fmt.Errorf("--output %q: want table or json", o.output))
	}
	return joined(errs)
}

// joined is all of errs as one line, nil when there is none.
func joined(errs []error) error {
	var texts []string
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	if len(texts) == 0 {
		return nil
	}
	return errors.New(strings.Join(texts, "; "))
}

func (o *options) run(ctx context.Context, command string, stdout io.Writer) (int, error) {
	var client kubernetes.Interface
	if command != "replay" {
		var err error
		if client, err = connect(o.kubeconfig); err != nil {
			return 0, err
		}
	}
	if command == "record" {
		return 0, o.record(ctx, client, stdout)
	}
	var report judge.Report
	var err error
	if command == "replay" {
		report, err = o.replay()
	} else {
		report, err = judgeLive(ctx, client, o.files, o.in)
	}
	if err != nil {
		return 0, err
	}
	if o.output == "json" {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(report)
	} else {
		err = printTable(stdout, report)
	}
	return report.ExitCode(), err
}

func (o *options) record(ctx context.Context, client kubernetes.Interface, stdout io.Writer) error {
	out, err := os.Create(o.out)
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	err = runRecord(ctx, client, out, func(version uint64) {
		fmt.Fprintf(stdout, "recording from resourceVersion %d\n", version)
	})
	return errors.Join(err, out.Close())
}

// replay judges the files alone: where the recording ends the run ends.
func (o *options) replay() (judge.Report, error) {
	in := o.in
	var err error
	if in.Records, err = readRecording(o.files.recording); err != nil {
		return judge.Report{}, err
	}
	if in.Binds, err = readAudit(o.files.audit); err != nil {
		return judge.Report{}, err
	}
	return judge.Judge(in), nil
}

// connect returns a client of the cluster that a kubeconfig file names. It
// does not limit itself: the judge asks little, and late.
func connect(path string) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig %s: %w", path, err)
	}
	config.UserAgent = "berth-check"
	config.QPS = -1
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = config.ContentType
	return kubernetes.NewForConfig(config)
}
