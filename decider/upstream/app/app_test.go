package app_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	fwk "k8s.io/kube-scheduler/framework"

	"github.com/berth-scheduler/berth/decider/upstream/app"
	"github.com/berth-scheduler/berth/decider/upstream/convert"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// command runs the decider to its end.
func command(t *testing.T, stdin string, args []string, options ...app.Option) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = app.Program(options...).Run(t.Context(), args, strings.NewReader(stdin), &out, &errs)
	return status, out.String(), errs.String()
}

// file writes a configuration file.
func file(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

const request = `{
	"snapshot": {"nodes": [
		{"name": "four", "allocatable": {"cpu": 4000, "pods": 9}},
		{"name": "one", "allocatable": {"cpu": 1000, "pods": 9}}
	]},
	"pods": [{"uid": "p", "scheduler_name": "odd", "requests": {"cpu": 500}, "score_requests": {"cpu": 500}}]
}`

// odd is an out-of-tree plugin as it is written for kube-scheduler.
type odd struct{}

func newOdd(context.Context, kruntime.Object, fwk.Handle) (fwk.Plugin, error) { return odd{}, nil }

func (odd) Name() string { return "Odd" }

func (odd) Filter(_ context.Context, _ fwk.CycleState, _ *corev1.Pod, n fwk.NodeInfo) *fwk.Status {
	if len(n.Node().Name)%2 == 0 {
		return fwk.NewStatus(fwk.Unschedulable, "node(s) had an even name")
	}
	return nil
}

const oddProfile = `
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: odd
  plugins:
    filter:
      enabled: [{name: Odd}]
`

// ExampleWithPlugin is a main with a plugin of its own.
func ExampleWithPlugin() {
	app.Main(app.WithPlugin("Odd", newOdd))
}

func TestOutOfTreePlugin(t *testing.T) {
	args := []string{"decide", "--explain", "-o", "json", "--config", file(t, oddProfile)}
	status, stdout, stderr := command(t, request, args, app.WithPlugin("Odd", newOdd))
	if status != 0 || !strings.Contains(stdout, "node(s) had an even name") || !strings.Contains(stdout, `"nodeName": "one"`) {
		t.Errorf("status %d, %s%s", status, stdout, stderr)
	}
	if status, _, stderr := command(t, request, args); status != 2 || !strings.Contains(stderr, "Odd") {
		t.Errorf("without the plugin: status %d, %s", status, stderr)
	}
	if status, _, _ := command(t, request, args, app.WithPlugin("NodeName", newOdd)); status == 0 {
		t.Error("a plugin may have the name of one of kube-scheduler's own")
	}
}

func TestUsage(t *testing.T) {
	extended := file(t, "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nextenders: [{urlPrefix: \"http://localhost\", filterVerb: filter}]\n")
	for _, c := range []struct {
		args   string
		status int
		says   string
	}{
		{"--nonsense", 2, "upstream: flag provided but not defined: -nonsense; see upstream --help"},
		{"extra", 2, `upstream: unknown argument "extra"; see upstream --help`},
		{"--listen 0.0.0.0:0", 2, "can be reached by others"},
		{"--max-pods -1 --max-message-bytes 0", 2, "--max-pods -1 must not be negative; --max-message-bytes 0 must be positive"},
		{"--config /nonexistent", 1, "--config: open /nonexistent"},
		{"--config " + file(t, "kind: Nothing"), 2, "--config"},
		{"--config " + file(t, strings.Replace(oddProfile, "profiles", "profile", 1)), 2, "unknown field"},
		{"--config " + file(t, oddProfile+"percentageOfNodesToScore: 101\n"), 2, "percentageOfNodesToScore"},
		{"--config " + extended, 2, "extenders"},
		{"decide -x", 2, "see upstream decide --help"},
		{"decide", 1, "InvalidArgument: snapshot: there is no state to decide on"},
	} {
		status, stdout, stderr := command(t, "{}", strings.Fields(c.args))
		if status != c.status || stdout != "" || !strings.Contains(stderr, c.says) {
			t.Errorf("upstream %s: status %d, stdout %q, stderr %q, want %d %q", c.args, status, stdout, stderr, c.status, c.says)
		}
	}
	for args, want := range map[string]string{"--help": "-drain-timeout", "--version": "\n", "decide --help": "-explain"} {
		if status, stdout, _ := command(t, "", strings.Fields(args)); status != 0 || !strings.Contains(stdout, want) {
			t.Errorf("upstream %s: status %d, %q", args, status, stdout)
		}
	}
}

// TestServe has a client ask over a socket.
func TestServe(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	address := "unix://" + filepath.Join(t.TempDir(), "s")
	ended := make(chan int)
	go func() { ended <- app.Program().Run(ctx, []string{"--listen", address}, nil, io.Discard, io.Discard) }()
	defer func() {
		stop()
		if status := <-ended; status != 0 {
			t.Errorf("ended with status %d", status)
		}
	}()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	description, err := berthv1.NewDeciderServiceClient(conn).Describe(ctx, &berthv1.DescribeRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	if description.GetName() != "kube-scheduler" || len(description.GetConstraints()) != len(convert.Constraints()) {
		t.Errorf("described as %v", description)
	}
}

// TestDocumented checks that docs/upstream.md has every flag.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../../../docs/upstream.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--help"}, {"decide", "--help"}} {
		_, help, _ := command(t, "", args)
		flags := regexp.MustCompile(`(?m)^  -([a-z-]+)`).FindAllStringSubmatch(help, -1)
		if len(flags) < 5 {
			t.Errorf("upstream %v: %d flags in %q", args, len(flags), help)
		}
		for _, f := range flags {
			if !strings.Contains(string(page), "`--"+f[1]+"`") && !strings.Contains(string(page), "`-"+f[1]+"`") {
				t.Errorf("docs/upstream.md does not say what --%s does", f[1])
			}
		}
	}
}
