package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/component-base/version"
)

func noLogging(*flag.FlagSet) {}

func TestBadCommandLines(t *testing.T) {
	const ok = "--decider=127.0.0.1:1"
	for _, test := range []struct {
		args []string
		want string // one line for each complaint
	}{
		{[]string{"--no-such"}, "flag provided but not defined: -no-such (watcher --help lists the flags)"},
		{[]string{ok, "--kube-api-qps=many"}, `invalid value "many" for flag -kube-api-qps: parse error (watcher --help lists the flags)`},
		{[]string{ok, "--scheduler-name="}, `invalid value "" for flag -scheduler-name: must not be empty (watcher --help lists the flags)`},
		{[]string{ok, "run"}, `unknown argument "run"`},
		{nil, `no decider for scheduler name "berth": give --decider ADDR or --decider berth=ADDR`},
		{[]string{"--scheduler-name=x", "--scheduler-name=y", "--decider=x=127.0.0.1:1"},
			`no decider for scheduler name "y": give --decider ADDR or --decider y=ADDR`},
		{[]string{ok, "--decider=other=127.0.0.1:1"},
			`--decider other=127.0.0.1:1: scheduler name "other" is not among --scheduler-name berth`},
		{[]string{"--decider=127.0.0.1:1,"}, "--decider 127.0.0.1:1,: an address is empty"},
		{[]string{"--decider=127.0.0.1:1,10.0.0.1:2"},
			"--decider 127.0.0.1:1,10.0.0.1:2: 10.0.0.1:2 is not on loopback or a unix socket: give --decider-ca-file for TLS, or --insecure"},
		{[]string{"--decider=dns:///decider.berth:50051"},
			"--decider dns:///decider.berth:50051: dns:///decider.berth:50051 is not on loopback or a unix socket: give --decider-ca-file for TLS, or --insecure"},
		{[]string{"--insecure", "--decider=kubernetes:///berth-decider:grpc"},
			"--decider kubernetes:///berth-decider:grpc: kubernetes:///berth-decider:grpc names no port of a Service: " +
				"write kubernetes:///NAMESPACE/SERVICE:PORT, such as kubernetes:///berth-system/berth-decider:grpc\n" +
				`no decider for scheduler name "berth": give --decider ADDR or --decider berth=ADDR`},
		{[]string{"--decider=kubernetes:///n/d:grpc"},
			"--decider kubernetes:///n/d:grpc: kubernetes:///n/d:grpc is not on loopback or a unix socket: give --decider-ca-file for TLS, or --insecure"},
		{[]string{ok, "--insecure", "--decider-ca-file=ca"}, "--insecure and --decider-ca-file exclude each other"},
		{[]string{ok, "--decider-server-name=n"}, "--decider-cert-file, --decider-key-file and --decider-server-name need --decider-ca-file"},
		{[]string{ok, "--decider-ca-file=ca", "--decider-cert-file=c"}, "--decider-cert-file and --decider-key-file go together"},
		{[]string{ok, "--max-batch-pods=0", "--parallel-binds=-1"}, "--max-batch-pods must be more than 0\n--parallel-binds must be more than 0"},
		{[]string{ok, "--signal-annotation-prefix=signals"},
			"--signal-annotation-prefix signals: want what annotations' keys begin with, a domain and a slash, such as signals.example.com/"},
		{[]string{ok, "--signal-annotation-prefix=a/b/"},
			"--signal-annotation-prefix a/b/: want what annotations' keys begin with, a domain and a slash, such as signals.example.com/"},
		{[]string{ok, "--signal-annotation-prefix=/x"},
			"--signal-annotation-prefix /x: want what annotations' keys begin with, a domain and a slash, such as signals.example.com/"},
		{[]string{ok, "--signal-metrics-interval=-1s"}, "--signal-metrics-interval must not be less than 0"},
		{[]string{ok, "--signal-metrics-interval=5m"},
			"--signal-max-age must be more than --signal-metrics-interval, or values would be too old before the next come"},
		{[]string{ok, "--signal-max-age=-1s", "--signal-min-change=NaN"},
			"--signal-max-age must be more than 0\n--signal-min-change must be at least 0 and less than 1"},
		{[]string{ok, "--signal-min-change=1"}, "--signal-min-change must be at least 0 and less than 1"},
		{[]string{ok, "--leader-elect-lease-duration=10s"}, "--leader-elect-lease-duration must be more than --leader-elect-renew-deadline"},
		{[]string{ok, "--leader-elect-renew-deadline=5s"}, "--leader-elect-renew-deadline must be more than the 5s that a binding may take"},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			_, err := parseOptions(test.args, io.Discard, noLogging)
			if got := fmt.Sprint(err); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), test.args, nil, &stdout, &stderr); code != 2 || stdout.Len() > 0 {
				t.Errorf("exit status %d, printed %q; want 2 and nothing", code, stdout.String())
			}
			want := "watcher: " + strings.ReplaceAll(test.want, "\n", "\nwatcher: ") + "\n"
			if stderr.String() != want {
				t.Errorf("printed %q, want %q", stderr.String(), want)
			}
		})
	}
}

func TestGoodCommandLines(t *testing.T) {
	for _, test := range []struct {
		args     string
		deciders map[string][]string
		lease    string
	}{
		{"--decider 127.0.0.1:1", map[string][]string{"berth": {"127.0.0.1:1"}}, "berth-berth"},
		{"--decider unix:///run/d.sock,[::1]:1 --decider localhost:2", map[string][]string{"berth": {"unix:///run/d.sock", "[::1]:1", "localhost:2"}}, "berth-berth"},
		{"--scheduler-name x --scheduler-name y --decider x=127.0.0.1:1 --decider 127.0.0.1:2",
			map[string][]string{"x": {"127.0.0.1:1", "127.0.0.1:2"}, "y": {"127.0.0.1:2"}}, "berth-x"},
		{"--scheduler-name x --scheduler-name y --scheduler-name x --decider 127.0.0.1:1",
			map[string][]string{"x": {"127.0.0.1:1"}, "y": {"127.0.0.1:1"}}, "berth-x"},
		{"--insecure --decider kubernetes:///n/d:grpc,dns:///d:1", map[string][]string{"berth": {"kubernetes:///n/d:grpc", "dns:///d:1"}}, "berth-berth"},
		{"--insecure --decider 10.0.0.1:1", map[string][]string{"berth": {"10.0.0.1:1"}}, "berth-berth"},
		{"--decider-ca-file ca --decider dns:///d:1 --leader-elect-resource-name l", map[string][]string{"berth": {"dns:///d:1"}}, "l"},
		{"--signal-annotation-prefix example.com/signal- --signal-metrics-interval 30s --signal-min-change 0 --decider 127.0.0.1:1", map[string][]string{"berth": {"127.0.0.1:1"}}, "berth-berth"},
		{"--leader-elect=false --leader-elect-renew-deadline 1s --decider 127.0.0.1:1", map[string][]string{"berth": {"127.0.0.1:1"}}, "berth-berth"},
	} {
		o, err := parseOptions(strings.Fields(test.args), io.Discard, noLogging)
		if err != nil {
			t.Errorf("%s: %v", test.args, err)
			continue
		}
		if !reflect.DeepEqual(o.deciders, test.deciders) || o.leaseName != test.lease {
			t.Errorf("%s: deciders %v, lease %s; want %v, %s", test.args, o.deciders, o.leaseName, test.deciders, test.lease)
		}
	}
}

func TestHelpListsEveryFlag(t *testing.T) {
	var out bytes.Buffer
	var flags *flag.FlagSet
	_, err := parseOptions([]string{"--help"}, &out, func(fs *flag.FlagSet) { flags = fs })
	if !errors.Is(err, flag.ErrHelp) {
		t.Fatal(err)
	}
	flags.VisitAll(func(f *flag.Flag) {
		if !strings.Contains(out.String(), "\n  -"+f.Name) || f.Usage == "" {
			t.Errorf("--%s is not explained", f.Name)
		}
	})
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, nil, &stdout, &stderr); code != 0 || stderr.Len() > 0 {
		t.Errorf("--help: exit status %d, complained %q", code, stderr.String())
	}
	for _, want := range []string{"watcher snapshot", "  -decider ", "  -logging-format "} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("--help does not say %q", want)
		}
	}
}

func TestVersion(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"--version"}, nil, &stdout, &stderr); code != 0 || stderr.Len() > 0 {
		t.Errorf("exit status %d, complained %q", code, stderr.String())
	}
	if got, want := stdout.String(), version.Get().GitVersion+"\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

// What is wrong outside the command line: one line that names it, exit status 1.
func TestStartFails(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := listener.Addr().String()
	listener.Close() // nobody answers there
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	content := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c",
		"clusters":[{"name":"c","cluster":{"server":"http://%s"}}],
		"contexts":[{"name":"c","context":{"cluster":"c","user":""}}]}`, closed)
	if err := os.WriteFile(kubeconfig, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ kubeconfig, want string }{
		{kubeconfig, closed},
		{kubeconfig + ".missing", "kubeconfig.missing"},
		{"", "--kubeconfig"},
	} {
		t.Run(test.want, func(t *testing.T) {
			if err := logsapi.ResetForTest(nil); err != nil {
				t.Fatal(err)
			}
			t.Setenv("KUBERNETES_SERVICE_HOST", "")
			var stdout, stderr bytes.Buffer
			began := time.Now()
			code := run(t.Context(), []string{"--decider=127.0.0.1:1", "--kubeconfig=" + test.kubeconfig}, nil, &stdout, &stderr)
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("it took %v", took)
			}
			if code != 1 || strings.Count(stderr.String(), "\n") != 1 || !strings.Contains(stderr.String(), test.want) {
				t.Errorf("exit status %d, printed %q; want 1 and one line with %q", code, stderr.String(), test.want)
			}
		})
	}
}

func TestCredentials(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		o    options
		want string
	}{
		{options{}, ""},
		{options{caFile: missing}, "--decider-ca-file: open " + missing + ": no such file or directory"},
		{options{caFile: empty}, "--decider-ca-file " + empty + ": no certificate in it"},
	} {
		credentials, err := test.o.credentials()
		if credentials != nil || err == nil && test.want != "" || err != nil && err.Error() != test.want {
			t.Errorf("got %v, %v; want %q", credentials, err, test.want)
		}
	}
}
