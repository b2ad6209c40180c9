package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/berth-scheduler/berth/watcher/internal/queue"
)

// configFile writes a configuration file and returns its name.
func configFile(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "config.yaml")
	content = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n" + content
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// A file that says nothing changes nothing but the scheduler name and the Lease
// that is called after it; what it says holds unless a flag says otherwise.
func TestConfig(t *testing.T) {
	const decider = " --decider 127.0.0.1:1"
	nothing := configFile(t, "")
	everything := configFile(t, `
profiles:
- schedulerName: one
- schedulerName: two
leaderElection:
  leaderElect: false
  resourceNamespace: there
  resourceName: mine
  leaseDuration: 60s
  renewDeadline: 40s
  retryPeriod: 5s
clientConnection:
  kubeconfig: /etc/kubeconfig
  qps: -1
  burst: 7
podInitialBackoffSeconds: 2
podMaxBackoffSeconds: 20
`)
	parse := func(args string) *options {
		t.Helper()
		o, err := parseOptions(strings.Fields(args), io.Discard, noLogging)
		if err != nil {
			t.Fatalf("%s: %v", args, err)
		}
		// What was typed is not compared.
		o.config, o.rawSchedulerNames, o.rawDeciders = "", nil, nil
		return o
	}
	oneSecond := queue.Backoffs{Initial: time.Second, Max: 10 * time.Second}
	for _, c := range []struct {
		args string
		want func(*options) // changes what the flags' defaults give
	}{
		{"--config " + nothing, func(o *options) {
			o.schedulerNames, o.leaseName, o.backoffs = []string{"default-scheduler"}, "berth-default-scheduler", oneSecond
			o.deciders = map[string][]string{"default-scheduler": {"127.0.0.1:1"}}
		}},
		{"--config " + everything, func(o *options) {
			o.schedulerNames, o.deciders = []string{"one", "two"}, map[string][]string{"one": {"127.0.0.1:1"}, "two": {"127.0.0.1:1"}}
			o.leaderElect, o.leaseNamespace, o.leaseName = false, "there", "mine"
			o.leaseDuration, o.renewDeadline, o.retryTime = time.Minute, 40*time.Second, 5*time.Second
			o.kubeconfig, o.kubeAPIQPS, o.kubeAPIBurst = "/etc/kubeconfig", -1, 7
			o.backoffs = queue.Backoffs{Initial: 2 * time.Second, Max: 20 * time.Second}
		}},
		{"--config " + everything + " --scheduler-name two --leader-elect --leader-elect-resource-namespace n --leader-elect-resource-name l" +
			" --leader-elect-lease-duration 15s --leader-elect-renew-deadline 10s --leader-elect-retry-period 500ms" +
			" --kubeconfig= --kube-api-qps 1000 --kube-api-burst 2000", func(o *options) {
			o.schedulerNames, o.deciders = []string{"two"}, map[string][]string{"two": {"127.0.0.1:1"}}
			o.leaseNamespace, o.leaseName = "n", "l"
			o.backoffs = queue.Backoffs{Initial: 2 * time.Second, Max: 20 * time.Second}
		}},
	} {
		want := parse(decider)
		c.want(want)
		if got := parse(c.args + decider); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", c.args, got, want)
		}
	}
}

func TestBadConfig(t *testing.T) {
	one := configFile(t, "profiles: [{schedulerName: one}]")
	broken := configFile(t, "profile: []\nextenders: [{urlPrefix: x}]")
	short := configFile(t, "leaderElection: {renewDeadline: 5s}")
	for _, c := range []struct{ args, want string }{
		{"--config " + one + " --scheduler-name two", "--scheduler-name two: " + one + " has no profile of that name; there are one"},
		{"--config " + broken, broken + ": profile: unknown field\n" + broken + ": extenders: Forbidden: Berth calls none"},
		{"--config " + one + "x", one + "x: no such file or directory"},
		{"--config " + short, "--leader-elect-renew-deadline must be more than the 5s that a binding may take"},
	} {
		_, err := parseOptions(strings.Fields(c.args+" --decider 127.0.0.1:1"), io.Discard, noLogging)
		if got := fmt.Sprint(err); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s:\ngot  %s\nwant %s", c.args, got, c.want)
		}
	}
}
