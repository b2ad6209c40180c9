//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// zooProgram compiles the deciders that misbehave, once.
var zooProgram = sync.OnceValues(func() (string, error) {
	path := filepath.Join(clusterDir, "zoo")
	if out, err := exec.Command("go", "build", "-o", path, "./zoo").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

// zoo starts a decider that misbehaves and returns it with its address.
func zoo(t testing.TB, kind string, args ...string) (*process, string) {
	t.Helper()
	program, err := zooProgram()
	if err != nil {
		t.Fatal(err)
	}
	p := run(t, program, append([]string{"--kind", kind}, args...)...)
	return p, p.logged(t, "Serving decisions", "address")
}

// The pods that every misbehaving decider gets; those that can be placed take all but a
// few cpus of the nodes that they may use.
const (
	zooFits    = 120
	zooTooBig  = 40
	zooNoNode  = 40
	zooChoosy  = 5 // with a constraint that not every decider understands
	zooNodes   = 6
	zooPerNode = 32 // cpus, one for each pod
)

// TestZoo gives the watcher a decider that misbehaves in front of a good one. Whatever
// it does, every pod that fits is bound, every other is refused, bin/check finds no
// violation, and what must not be carried out is counted under its name.
func TestZoo(t *testing.T) {
	for _, c := range []struct {
		kind    string
		watcher []string
		// after looks at what is left, address being that of the decider.
		after func(t *testing.T, address, metrics string)
	}{
		{kind: "late", watcher: []string{"--decide-timeout", "500ms"}, after: func(t *testing.T, address, metrics string) {
			if n := metric(t, metrics, "berth_watcher_decider_errors_total", address)["DeadlineExceeded"]; n == 0 {
				t.Error("no answer was late")
			}
		}},
		{kind: "older", after: func(t *testing.T, address, metrics string) {
			if n := metric(t, metrics, "berth_watcher_decide_duration_seconds_count", address)["OK"]; n == 0 {
				t.Error("it was not asked")
			}
		}},
		{kind: "newer", after: func(t *testing.T, address, metrics string) {
			if n := metric(t, metrics, "berth_watcher_decide_duration_seconds_count", address)["OK"]; n == 0 {
				t.Error("it was not asked")
			}
		}},
	} {
		t.Run(c.kind, func(t *testing.T) {
			z := newZooTest(t)
			_, bad := zoo(t, c.kind)
			_, good := decider(t)
			_, metrics := watcher(t, append([]string{"--decider", bad + "," + good}, c.watcher...)...)
			z.schedule(t, metrics)
			if n := metric(t, metrics, "berth_watcher_refusals_total", bad); len(n) > 0 {
				t.Errorf("answers were refused: %v", n)
			}
			c.after(t, bad, metrics)
		})
	}
}

// TestZooCrash is TestZoo for a decider that exits at every tenth request and is started
// again, but for the last time: a decider that comes may know what to do with pods that
// were refused, so that each return has all of them asked about again.
func TestZooCrash(t *testing.T) {
	const returns = 3
	z := newZooTest(t)
	first, address := zoo(t, "crash")
	var crashes atomic.Int32
	stop := make(chan struct{})
	var reviver sync.WaitGroup
	reviver.Go(func() {
		for p := first; ; {
			select {
			case <-stop:
				p.end(syscall.SIGKILL)
				return
			case <-p.done:
			}
			if crashes.Add(1) > returns {
				return
			}
			again := &process{name: "zoo", cmd: exec.Command(first.cmd.Path, "--kind", "crash", "--listen", address)}
			if err := again.start(); err != nil {
				t.Error(err)
				return
			}
			p = again
		}
	})
	t.Cleanup(func() { close(stop); reviver.Wait() })
	_, good := decider(t)
	_, metrics := watcher(t, "--decider", address+","+good, "--max-batch-pods", "5")
	z.schedule(t, metrics)
	if n := metric(t, metrics, "berth_watcher_refusals_total", address); len(n) > 0 {
		t.Errorf("answers were refused: %v", n)
	}
	if crashes.Load() == 0 {
		t.Error("it has not crashed")
	}
}

// TestZooRandom is TestZoo for a decider that places every pod anywhere. It records what
// it answers, and with it what is wrong with it, by rules of its own. That and what the
// watcher counts as refused agree to the last answer: one batch is in flight at a time,
// and nothing but bindings changes the nodes, where no kubelet is.
func TestZooRandom(t *testing.T) {
	z := newZooTest(t)
	record := filepath.Join(t.TempDir(), "answers")
	_, bad := zoo(t, "random", "--record", record)
	_, good := decider(t)
	_, metrics := watcher(t, "--decider", bad+","+good)
	z.schedule(t, metrics)

	refused, stale, answers := implied(t, record)
	if answers < zooFits+zooTooBig+zooNoNode {
		t.Errorf("it gave %d answers", answers)
	}
	got := metric(t, metrics, "berth_watcher_refusals_total", bad)
	if !maps.Equal(got, refused) {
		t.Errorf("the watcher refused %v, its answers imply %v", got, refused)
	}
	for _, reason := range []string{"cordoned", "taint", "affinity", "resources"} {
		if refused[reason] == 0 {
			t.Errorf("no answer was wrong about %s", reason)
		}
	}
	if got := metric(t, metrics, "berth_watcher_stale_decisions_total", "")[""]; got != stale {
		t.Errorf("%d answers were stale, its answers imply %d", got, stale)
	}
	if n := metric(t, metrics, "berth_watcher_refusals_total", good); len(n) > 0 {
		t.Errorf("answers of the good one were refused: %v", n)
	}
	t.Logf("REPORT: of %d random answers %v were refused and %d asked again", answers, refused, stale)
}

// implied is what a record of answers makes the watcher do: refuse each that breaks a
// rule, by that rule, and ask again about every later pod of the same request that was
// put on the same node, since it was decided on a state that never came to be.
func implied(t *testing.T, record string) (refused map[string]int, stale, answers int) {
	t.Helper()
	file, err := os.Open(record)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	refused = map[string]int{}
	request, dirty := 0, map[string]bool{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var a struct {
			Request int
			Node    string
			Against string
		}
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			t.Fatal(err)
		}
		answers++
		if a.Request != request {
			request, dirty = a.Request, map[string]bool{}
		}
		switch {
		case dirty[a.Node]:
			stale++
		case a.Against != "":
			refused[a.Against]++
			dirty[a.Node] = true
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return refused, stale, answers
}

// A zooTest is nodes and a recorder.
type zooTest struct{ record string }

// newZooTest creates nodes that are not simulated: nothing changes them or what is on
// them but the scheduler. One is cordoned and one is tainted.
func newZooTest(t *testing.T) *zooTest {
	t.Helper()
	namespace(t)
	i := -1
	names := nodes(t, zooNodes, func(n *corev1.Node) {
		i++
		delete(n.Annotations, "kwok.x-k8s.io/node")
		n.Spec.Unschedulable = i == 1
		if i == 2 {
			n.Spec.Taints = []corev1.Taint{{Key: "zoo", Effect: corev1.TaintEffectNoSchedule}}
		}
	})
	eventually(t, "the cordoned node is tainted, too", func() error {
		n, err := client.CoreV1().Nodes().Get(t.Context(), names[1], metav1.GetOptions{})
		if err == nil && len(n.Spec.Taints) == 0 {
			err = fmt.Errorf("it is not")
		}
		return err
	})
	z := &zooTest{record: filepath.Join(t.TempDir(), "record")}
	recorder := run(t, bin+"/check", "record", "--kubeconfig", adminKubeconfig(), "--out", z.record)
	eventually(t, "recording", func() error { return recorder.said("recording from resourceVersion") })
	return z
}

// schedule creates the pods and returns when every one is bound that fits, the others
// have been refused, the watcher has nothing to do, and bin/check has found nothing.
func (z *zooTest) schedule(t *testing.T, metrics string) {
	t.Helper()
	var all sync.WaitGroup
	set := func(n int, prefix, cpu string, edit func(*corev1.Pod)) {
		all.Go(func() {
			for i := range n {
				p := pod(t, fmt.Sprintf("%s-%03d", prefix, i), cpu)
				if edit != nil {
					edit(p)
				}
				if _, err := client.CoreV1().Pods(p.Namespace).Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
					t.Errorf("create pod: %v", err)
				}
			}
		})
	}
	set(zooFits-zooChoosy, "fits", "1", nil)
	set(zooChoosy, "choosy", "1", func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "test", Operator: corev1.NodeSelectorOpExists}}}}}}}
	})
	set(zooTooBig, "too-big", strconv.Itoa(zooPerNode+1), nil)
	set(zooNoNode, "no-node", "1", func(p *corev1.Pod) { p.Spec.NodeSelector["disk"] = "none" })
	all.Wait()
	eventually(t, "every pod is bound or refused", func() error {
		left := map[string]int{}
		for _, p := range pods(t, slug(t)) {
			fits := strings.HasPrefix(p.Name, "fits-") || strings.HasPrefix(p.Name, "choosy-")
			switch c := condition(&p); {
			case fits && p.Spec.NodeName == "":
				left["not bound: "+c.Reason]++
			case !fits && p.Spec.NodeName != "":
				t.Fatalf("%s is on %s", p.Name, p.Spec.NodeName)
			case !fits && c.Reason != corev1.PodReasonUnschedulable:
				left["not refused: "+c.Reason]++
			}
		}
		if len(left) > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
	eventually(t, "the watcher has nothing to do", func() error {
		if n := metric(t, metrics, "scheduler_pending_pods", ""); n["active"]+n["backoff"]+metric(t, metrics, "berth_watcher_binding_pods", "")[""] > 0 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
	out, err := exec.Command(bin+"/check", "--kubeconfig", adminKubeconfig(), "--record", z.record,
		"--audit-log", filepath.Join(clusterDir, "audit.log"), "--scheduler-name", "berth", "--pending-fit").CombinedOutput()
	if err != nil {
		t.Errorf("bin/check: %v\n%s", err, out)
	}
}

// metric returns a metric of a process: of the lines with the decider's name, or all if
// it is empty, each value by the value of the other label, "" if there is none.
func metric(t testing.TB, address, name, decider string) map[string]int {
	t.Helper()
	_, body := get(t, address, "/metrics")
	values := map[string]int{}
	for line := range strings.Lines(body) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		labels, number, _ := strings.Cut(strings.TrimSuffix(rest, "\n"), " ")
		value, err := strconv.ParseFloat(number, 64)
		if err != nil {
			t.Fatalf("metric %s: %v", line, err)
		}
		other, found := "", decider == ""
		for label := range strings.SplitSeq(strings.Trim(labels, "{}"), ",") {
			switch key, quoted, _ := strings.Cut(label, "="); {
			case key == "decider":
				found = found || strings.Trim(quoted, `"`) == decider
			default:
				other = strings.Trim(quoted, `"`)
			}
		}
		if found && value != 0 {
			values[other] += int(value)
		}
	}
	return values
}
