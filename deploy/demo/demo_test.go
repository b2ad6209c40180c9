package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"", ""},
		{"--once --nodes 10 --pods 50 --timeout 1m --deciders 0", ""},
		{"--cluster f --yes --pods 20", ""},
		{"--trace d --trace-pods gpuspec33", ""},
		{"now", `unexpected argument "now"`},
		{"--node 3", "flag provided but not defined: -node; see demo --help"},
		{"--deciders -1", "--deciders -1: want 0 or more"},
		{"--timeout 0s", "--timeout 0s: want more than 0"},
		{"--trace-pods x", "--trace-pods needs --trace"},
		{"--trace d --nodes 3", "--trace and --nodes exclude each other"},
		{"--trace d --cluster f", "--trace and --cluster exclude each other"},
		{"--cluster f --nodes 3", "--cluster and --nodes exclude each other"},
	} {
		_, err := parse(strings.Fields(test.args))
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%q: error %v, want %q", test.args, err, test.want)
		}
	}
	if _, err := parse([]string{"--help"}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help: error %v", err)
	}
}

// Every flag is in the help text.
func TestUsage(t *testing.T) {
	for _, name := range []string{"once", "yes", "nodes", "pods", "deciders", "timeout", "trace", "trace-pods", "cluster", "dir", "bin"} {
		if !strings.Contains(usage, "\n  --"+name+" ") {
			t.Errorf("--%s is not in the help text", name)
		}
	}
}

func TestMissingPrograms(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "decider"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	err := newFamily(bin, bin).require("decider", "watcher", "check")
	if err == nil || !strings.HasSuffix(err.Error(), "has no watcher, check: run make tools build") {
		t.Errorf("error %v", err)
	}
}

// An existing cluster is not touched unless somebody agreed.
func TestConsent(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	fmt.Fprintln(write, "yes") // a pipe is nobody
	write.Close()
	d := &demo{terminal: terminal{in: read, out: new(strings.Builder)}}
	if err := d.consent(); err == nil || !strings.Contains(err.Error(), "--yes") {
		t.Errorf("without a terminal: %v", err)
	}
	d.yes = true
	if err := d.consent(); err != nil {
		t.Errorf("with --yes: %v", err)
	}
}

func TestAtRest(t *testing.T) {
	const quiet = `# HELP scheduler_pending_pods Number of pending pods.
scheduler_pending_pods{queue="active"} 0
scheduler_pending_pods{queue="backoff"} 0
scheduler_pending_pods{queue="unschedulable"} 7
berth_watcher_binding_pods 0
`
	replaced := func(old, new string) string { return strings.Replace(quiet, old, new, 1) }
	for _, test := range []struct {
		metrics string
		want    bool
	}{
		{quiet, true},
		{replaced(`"active"} 0`, `"active"} 1`), false},
		{replaced(`"backoff"} 0`, `"backoff"} 2`), false},
		{replaced(`binding_pods 0`, `binding_pods 3`), false},
		{replaced(`berth_watcher_binding_pods 0`, ""), false},
		{"", false},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, test.metrics) }))
		if got := atRest(t.Context(), server.Listener.Addr().String()); got != test.want {
			t.Errorf("%v, want %v, with\n%s", got, test.want, test.metrics)
		}
		server.Close()
	}
	if atRest(t.Context(), "127.0.0.1:1") {
		t.Error("a watcher that nobody reaches is at rest")
	}
}

func TestHealth(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/livez" {
			http.Error(w, "no decider\nis reachable", http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	at := server.Listener.Addr().String()
	if err := health(t.Context(), at, "/livez"); err != nil {
		t.Error(err)
	}
	want := "503 Service Unavailable: no decider is reachable"
	if err := health(t.Context(), at, "/readyz"); err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestInOrder(t *testing.T) {
	var items []int
	for i := range 100 {
		items = append(items, i)
	}
	var mu sync.Mutex
	done := map[int]bool{}
	err := inOrder(t.Context(), items, func(i int) error {
		mu.Lock()
		defer mu.Unlock()
		done[i] = true
		return nil
	})
	if err != nil || len(done) != len(items) {
		t.Errorf("%d of %d done, error %v", len(done), len(items), err)
	}

	bad := errors.New("bad")
	if err := inOrder(t.Context(), items, func(i int) error { return bad }); !errors.Is(err, bad) {
		t.Errorf("error %v, want %v", err, bad)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := inOrder(ended, items, func(int) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

func TestFamily(t *testing.T) {
	sh, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	f := newFamily(filepath.Dir(sh), t.TempDir())
	defer f.stop()

	says, err := f.start("says", filepath.Base(sh), "-c", "echo noise; echo kubeconfig: here; read forever < /dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := awaitLine(t.Context(), says, "kubeconfig: "); err != nil || got != "here" {
		t.Errorf("said %q, error %v; want here", got, err)
	}

	fails, err := f.start("fails", filepath.Base(sh), "-c", "echo the reason; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	_, err = awaitLine(t.Context(), fails, "kubeconfig: ")
	want := fmt.Sprintf("fails ended (exit status 3); end of %s:\n  the reason", filepath.Join(f.dir, "fails.log"))
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	if c := <-f.ended; c != fails || c.Alive() {
		t.Errorf("%s is told to have ended, alive %v", c.Name, c.Alive())
	}

	if out, err := f.output(t.Context(), filepath.Base(sh), "-c", "echo said; echo wrong >&2; exit 2"); out != "said\nwrong\n" || err == nil {
		t.Errorf("output %q, error %v", out, err)
	}
	f.stop()
	if says.Alive() {
		t.Error("it lives after stop")
	}
}

func TestShell(t *testing.T) {
	got := shell("bin/kubectl", "--kubeconfig", "a b", "it's", "", "x=1")
	if diff := cmp.Diff(`bin/kubectl --kubeconfig 'a b' 'it'\''s' '' x=1`, got); diff != "" {
		t.Error(diff)
	}
}
