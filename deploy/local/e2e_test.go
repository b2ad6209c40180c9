//go:build e2e

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The programs under test: local as it is now, the others as compiled by
// make tools.
var localProgram, toolsFolder string

// deadline bounds every wait; it is reached only by a failure.
const deadline = 2 * time.Minute

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if toolsFolder, err = filepath.Abs("../../bin"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		for _, p := range programs {
			if _, err := os.Stat(filepath.Join(toolsFolder, p.name)); err != nil {
				fmt.Fprintf(os.Stderr, "%s is not compiled; run make tools first\n", p.name)
				return 1
			}
		}
		dir, err := os.MkdirTemp("", "local")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		localProgram = filepath.Join(dir, "local")
		build := exec.Command("go", "build", "-o", localProgram, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s%v\n", out, err)
			return 1
		}
		return m.Run()
	}())
}

// A testCluster is a cluster run by a child of the test.
type testCluster struct {
	t      *testing.T
	dir    string
	cmd    *exec.Cmd
	stderr *watchedBuffer
}

// up starts a cluster in dir and returns when it printed its kubeconfig.
func up(t *testing.T, dir string, flags ...string) *testCluster {
	t.Helper()
	c := &testCluster{t: t, dir: dir, stderr: newWatchedBuffer()}
	c.cmd = exec.Command(localProgram, append([]string{"up", "--dir", dir, "--bin", toolsFolder}, flags...)...)
	c.cmd.Stderr = c.stderr
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.cmd.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if want := "kubeconfig: " + filepath.Join(dir, "kubeconfig") + "\n"; err != nil || line != want {
		t.Fatalf("up printed %q, want %q (%v); stderr:\n%s", line, want, err, c.stderr)
	}
	return c
}

// local runs another subcommand on the cluster's folder and returns its output.
func (c *testCluster) local(verb string, args ...string) string {
	c.t.Helper()
	out, err := exec.Command(localProgram, append([]string{verb, "--dir", c.dir}, args...)...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("local %s %v: %v\n%s", verb, args, err, out)
	}
	return string(out)
}

// kubectl runs kubectl as administrator with input as its standard input.
func (c *testCluster) kubectl(input string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(toolsFolder, "kubectl"), append([]string{"--kubeconfig", filepath.Join(c.dir, "kubeconfig")}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (c *testCluster) mustKubectl(input string, args ...string) string {
	c.t.Helper()
	out, err := c.kubectl(input, args...)
	if err != nil {
		c.t.Fatalf("kubectl %v: %v\n%s", args, err, out)
	}
	return out
}

// pids are those of the components that run, by name.
func (c *testCluster) pids() map[string]int {
	c.t.Helper()
	files, err := filepath.Glob(filepath.Join(c.dir, "*.pid"))
	if err != nil {
		c.t.Fatal(err)
	}
	pids := map[string]int{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			c.t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || !alive(pid) {
			c.t.Fatalf("%s: %q is not the pid of a process (%v)", f, text, err)
		}
		pids[strings.TrimSuffix(filepath.Base(f), ".pid")] = pid
	}
	return pids
}

// alive says whether a process runs. A zombie, which stays where nobody reaps
// orphans, does not; the kernel's process table is asked where there is one.
func alive(pid int) bool {
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		_, state, _ := strings.Cut(string(stat), ") ")
		return !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
	}
	return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// eventually waits until f is true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !f(); {
		if time.Now().After(end) {
			t.Fatalf("after %s still not: %s", deadline, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

const aNode = `
apiVersion: v1
kind: Node
metadata:
  name: late
  annotations: {kwok.x-k8s.io/node: fake}
status:
  capacity: {cpu: "4", memory: 8Gi, pods: "20"}
`

// pod is a manifest; node may be empty.
func pod(name, node string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  nodeName: %q
  terminationGracePeriodSeconds: 30
  schedulerName: nobody
  containers: [{name: main, image: none}]
`, name, node)
}

func TestCluster(t *testing.T) {
	began := time.Now()
	c := up(t, t.TempDir(), "--nodes", "5", "--scheduler")
	t.Logf("up after %s", time.Since(began).Round(time.Millisecond))
	pids := c.pids()
	if len(pids) != 5 {
		t.Errorf("pid files %v, want those of 5 components", pids)
	}

	t.Run("nodes", func(t *testing.T) {
		out := c.mustKubectl("", "get", "nodes", "-o", `jsonpath={range .items[*]}{.metadata.name} {.metadata.labels.topology\.kubernetes\.io/zone} {.status.allocatable.cpu} {.spec.taints}{"\n"}{end}`)
		want := "node-00000 zone-a 32 \nnode-00001 zone-b 32 \nnode-00002 zone-c 32 \nnode-00003 zone-a 32 \nnode-00004 zone-b 32"
		if out != want {
			t.Errorf("got\n%s\nwant\n%s", out, want)
		}
	})

	t.Run("pod runs on a node made later", func(t *testing.T) {
		c.mustKubectl(aNode, "create", "-f", "-")
		c.mustKubectl("", "wait", "node/late", "--for=condition=Ready", "--timeout", deadline.String())
		if got := c.mustKubectl("", "get", "node", "late", "-o", "jsonpath={.status.allocatable.cpu}"); got != "4" {
			t.Errorf("its allocatable cpu became %s, want the 4 of its creator", got)
		}
		c.mustKubectl(pod("direct", "late"), "create", "-f", "-")
		c.mustKubectl("", "wait", "pod/direct", "--for=condition=Ready", "--timeout", deadline.String())
	})

	t.Run("pod bound through the API runs", func(t *testing.T) {
		c.mustKubectl(pod("bound", ""), "create", "-f", "-")
		c.mustKubectl(`{"apiVersion":"v1","kind":"Binding","metadata":{"name":"bound"},"target":{"kind":"Node","name":"node-00003"}}`,
			"create", "--raw", "/api/v1/namespaces/default/pods/bound/binding", "-f", "-")
		c.mustKubectl("", "wait", "pod/bound", "--for=jsonpath={.status.phase}=Running", "--timeout", deadline.String())
		// kwok must not overwrite what the scheduler's side wrote.
		got := c.mustKubectl("", "get", "pod", "bound", "-o", `jsonpath={.status.conditions[?(@.type=="PodScheduled")].status}`)
		if got != "True" {
			t.Errorf("condition PodScheduled is %q once the pod runs, want True", got)
		}
	})

	t.Run("kube-scheduler schedules", func(t *testing.T) {
		c.mustKubectl(strings.Replace(pod("scheduled", ""), "nobody", "default-scheduler", 1), "create", "-f", "-")
		c.mustKubectl("", "wait", "pod/scheduled", "--for=condition=Ready", "--timeout", deadline.String())
	})

	t.Run("deleted pod goes", func(t *testing.T) {
		c.mustKubectl("", "delete", "pod", "bound", "--wait", "--timeout", deadline.String())
	})

	t.Run("rights", func(t *testing.T) {
		for _, q := range []struct{ user, verb, resource, want string }{
			{"berth:kwok", "patch", "nodes/status", "yes"},
			{"berth:kwok", "create", "pods/binding", "no"},
			{"system:kube-scheduler", "create", "pods/binding", "yes"},
			{"system:kube-scheduler", "delete", "nodes", "no"},
		} {
			resource, sub, _ := strings.Cut(q.resource, "/")
			got, err := c.kubectl("", "auth", "can-i", q.verb, resource, "--subresource="+sub, "--as", q.user)
			if last := got[strings.LastIndex(got, "\n")+1:]; last != q.want {
				t.Errorf("may %s %s %s? %q (%v), want %s", q.user, q.verb, q.resource, got, err, q.want)
			}
		}
	})

	t.Run("audit log", func(t *testing.T) { checkAudit(t, filepath.Join(c.dir, "audit.log")) })

	t.Run("kill and restart kube-apiserver", func(t *testing.T) {
		c.local("kill", "kube-apiserver")
		if alive(pids["kube-apiserver"]) {
			t.Error("the killed process is alive")
		}
		if out, err := c.kubectl("", "get", "pods"); err == nil {
			t.Errorf("kubectl succeeds without an API server: %s", out)
		}
		c.local("restart", "kube-apiserver")
		if got := c.mustKubectl("", "get", "pod", "direct", "-o", "jsonpath={.status.phase}"); got != "Running" {
			t.Errorf("the pod is %q after the restart, want Running", got)
		}
		// The other components find the API server again.
		c.mustKubectl(pod("after", "late"), "create", "-f", "-")
		c.mustKubectl("", "wait", "pod/after", "--for=condition=Ready", "--timeout", deadline.String())
	})

	t.Run("restart etcd and kwok", func(t *testing.T) {
		c.local("kill", "etcd")
		c.local("restart", "etcd")
		c.local("restart", "kwok")
		eventually(t, "the API server is ready", func() bool {
			_, err := c.kubectl("", "get", "--raw", "/readyz")
			return err == nil
		})
		c.mustKubectl(pod("again", "node-00001"), "create", "-f", "-")
		c.mustKubectl("", "wait", "pod/again", "--for=condition=Ready", "--timeout", deadline.String())
	})

	t.Run("a death nobody asked for is told", func(t *testing.T) {
		if err := syscall.Kill(c.pids()["kwok"], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		c.stderr.await(t, "kwok died (signal: killed); local restart kwok starts it again")
	})

	pids = c.pids()
	began = time.Now()
	c.local("down")
	t.Logf("down after %s", time.Since(began).Round(time.Millisecond))
	for name, pid := range pids {
		if alive(pid) {
			t.Errorf("%s is alive after down", name)
		}
	}
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("up ended with %v after down, want success", err)
	}
}

// checkAudit asserts that the log holds finished writes only, and the bindings
// with what was asked and answered.
func checkAudit(t *testing.T, path string) {
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	type event struct {
		Stage, Verb    string
		ObjectRef      struct{ Resource, Subresource, Name string }
		ResponseStatus struct{ Code int }
		RequestObject  struct{ Target struct{ Name string } }
	}
	bindings := 0
	for d := json.NewDecoder(file); ; {
		var e event
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if e.Stage != "ResponseComplete" || slices.Contains([]string{"get", "list", "watch"}, e.Verb) {
			t.Fatalf("unwanted: %+v", e)
		}
		if e.Verb == "create" && e.ObjectRef.Subresource == "binding" && e.ObjectRef.Name == "bound" {
			bindings++
			if e.ResponseStatus.Code != 201 || e.RequestObject.Target.Name != "node-00003" {
				t.Errorf("binding %+v: want code 201, target node-00003", e)
			}
		}
	}
	if bindings != 1 {
		t.Errorf("%d bindings of the pod \"bound\", want 1", bindings)
	}
}

// Two clusters run side by side; the end of one supervisor, whichever way,
// takes its own processes and no others.
func TestSideBySide(t *testing.T) {
	deep := filepath.Join(t.TempDir(), strings.Repeat("a-long-name-", 8)) // longer than a socket's path may be
	a := up(t, deep, "--bare", "--nodes", "3")
	b := up(t, t.TempDir(), "--bare")
	if got := a.mustKubectl("", "get", "nodes", "-o", "name"); got != "node/node-00000\nnode/node-00001\nnode/node-00002" {
		t.Errorf("nodes of a bare cluster: %q", got)
	}
	if _, err := a.kubectl(pod("bare", "node-00001"), "create", "-f", "-"); err != nil {
		t.Errorf("a bare cluster rejects a pod: %v", err)
	}
	if got := b.mustKubectl("", "get", "nodes", "-o", "name"); got != "" {
		t.Errorf("nodes of the other cluster: %q", got)
	}

	pids := a.pids()
	if err := a.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	a.cmd.Wait()
	for name, pid := range pids {
		eventually(t, name+" is gone after kill -9 of its supervisor", func() bool { return !alive(pid) })
	}
	b.mustKubectl("", "get", "namespaces")

	// What the killed one left behind is not in the way of the next.
	if out := a.local("down"); !strings.HasPrefix(out, "no cluster is running in "+deep) {
		t.Errorf("down after kill -9: %q", out)
	}
	a = up(t, deep, "--bare")
	if got := a.mustKubectl("", "get", "nodes", "-o", "name"); got != "" {
		t.Errorf("nodes of the cluster before: %q", got)
	}
	for _, c := range []*testCluster{a, b} {
		pids := c.pids()
		if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if err := c.cmd.Wait(); err != nil {
			t.Errorf("after SIGINT up ended with %v, want success", err)
		}
		for name, pid := range pids {
			if alive(pid) {
				t.Errorf("%s is alive after its supervisor ended", name)
			}
		}
	}
}

func TestDetach(t *testing.T) {
	c := &testCluster{t: t, dir: t.TempDir()}
	began := time.Now()
	out := c.local("up", "--bare", "--detach", "--bin", toolsFolder)
	t.Cleanup(func() { c.local("down") })
	t.Logf("up --bare --detach after %s", time.Since(began).Round(time.Millisecond))
	if want := "kubeconfig: " + filepath.Join(c.dir, "kubeconfig") + "\n"; out != want {
		t.Errorf("up --detach printed %q, want %q", out, want)
	}
	c.mustKubectl("", "get", "namespaces")
	second, err := exec.Command(localProgram, "up", "--dir", c.dir, "--bin", toolsFolder, "--detach").CombinedOutput()
	if err == nil || !strings.Contains(string(second), "a cluster is running in "+c.dir) {
		t.Errorf("a second cluster in the same folder: %v\n%s", err, second)
	}
	c.mustKubectl("", "get", "namespaces") // the first one did not notice
	pids := c.pids()
	c.local("down")
	for name, pid := range pids {
		if alive(pid) {
			t.Errorf("%s is alive after down", name)
		}
	}
	if out := c.local("down"); !strings.HasPrefix(out, "no cluster is running in") {
		t.Errorf("a second down: %q", out)
	}
}

// A watchedBuffer collects what is written and lets a test wait for a text.
type watchedBuffer struct {
	mu      sync.Mutex
	changed *sync.Cond
	text    bytes.Buffer
}

func newWatchedBuffer() *watchedBuffer {
	b := new(watchedBuffer)
	b.changed = sync.NewCond(&b.mu)
	return b
}

func (b *watchedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changed.Broadcast()
	return b.text.Write(p)
}

func (b *watchedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *watchedBuffer) await(t *testing.T, text string) {
	t.Helper()
	late := false
	timer := time.AfterFunc(deadline, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		late = true
		b.changed.Broadcast()
	})
	defer timer.Stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	for !strings.Contains(b.text.String(), text) {
		if late {
			t.Fatalf("after %s not written: %q; but:\n%s", deadline, text, b.text.String())
		}
		b.changed.Wait()
	}
}
