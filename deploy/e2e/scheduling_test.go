//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// TestLife follows pods as their owner sees them: bound, told why not, woken,
// left alone while gated.
func TestLife(t *testing.T) {
	namespace(t)
	names := nodes(t, 2, func(n *corev1.Node) { n.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse("2") })
	_, address := decider(t)
	watcher(t, "--decider", address)

	createPod(t, pod(t, "fits", "500m"))
	eventually(t, "bound and running", func() error {
		p, err := client.CoreV1().Pods(slug(t)).Get(context.Background(), "fits", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if p.Spec.NodeName == "" || p.Status.Phase != corev1.PodRunning {
			return fmt.Errorf("node %q, phase %s", p.Spec.NodeName, p.Status.Phase)
		}
		return event(t, "fits", "Scheduled", "Successfully assigned life/fits to "+p.Spec.NodeName)
	})

	createPod(t, pod(t, "big", "3"))
	gated := pod(t, "gated", "1")
	gated.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/wait"}}
	createPod(t, gated)
	others := ""
	if all, err := client.CoreV1().Nodes().List(context.Background(), metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	} else if n := len(all.Items) - len(names); n > 0 {
		others = fmt.Sprintf(", %d node(s) didn't match Pod's node affinity/selector", n)
	}
	all := 2 + count(others)
	text := fmt.Sprintf("0/%d nodes are available: 2 Insufficient cpu%s. preemption: 0/%d nodes are available: %d Preemption is not helpful for scheduling.", all, others, all, all)
	eventually(t, "told why", func() error {
		p, err := client.CoreV1().Pods(slug(t)).Get(context.Background(), "big", metav1.GetOptions{})
		if err != nil {
			return err
		}
		c := condition(p)
		if c.Status != corev1.ConditionFalse || c.Reason != corev1.PodReasonUnschedulable || c.Message != text {
			return fmt.Errorf("condition %+v, want message %q", c, text)
		}
		return event(t, "big", "FailedScheduling", text)
	})

	// A node grows: the pod is woken by the change, long before its five minutes.
	patch := []byte(`{"status":{"allocatable":{"cpu":"8"},"capacity":{"cpu":"8"}}}`)
	if _, err := client.CoreV1().Nodes().Patch(context.Background(), names[1], types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "woken", func() error { return on("life", "big", names[1]) })

	if err := on("life", "gated", names[0]); err == nil {
		t.Error("the gated pod was bound")
	}
	if _, err := client.CoreV1().Pods("life").Patch(context.Background(), "gated", types.JSONPatchType,
		[]byte(`[{"op":"remove","path":"/spec/schedulingGates/0"}]`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "bound without its gate", allBound(t, "life", 3))
}

func count(others string) (n int) {
	fmt.Sscanf(strings.TrimPrefix(others, ", "), "%d", &n)
	return n
}

// on is a condition for eventually: the pod is on the node.
func on(namespace, name, node string) error {
	p, err := client.CoreV1().Pods(namespace).Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if p.Spec.NodeName != node {
		return fmt.Errorf("%s is on %q, not on %s", name, p.Spec.NodeName, node)
	}
	return nil
}

// event is a condition for eventually: the pod has an Event of that reason and
// message.
func event(t testing.TB, pod, reason, message string) error {
	list, err := client.CoreV1().Events(slug(t)).List(context.Background(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod})
	if err != nil {
		return err
	}
	var seen []string
	for _, e := range list.Items {
		if e.Reason == reason && e.Message == message {
			return nil
		}
		seen = append(seen, e.Reason+": "+e.Message)
	}
	return fmt.Errorf("no Event %s: %s among %q", reason, message, seen)
}

// TestNoDecider has nobody to ask at first: pods wait, the watcher says so, and
// everything resumes by itself.
func TestNoDecider(t *testing.T) {
	namespace(t)
	nodes(t, 1, nil)
	address := freeAddress(t)
	_, metrics := watcher(t, "--decider", address)
	createPods(t, 3, "p", "1")
	eventually(t, "told why", func() error {
		for _, p := range pods(t, slug(t)) {
			if c := condition(&p); c.Reason != "SchedulerError" || !strings.Contains(c.Message, "no decider reachable: "+address) {
				return fmt.Errorf("%s: condition %+v", p.Name, c)
			}
		}
		return nil
	})
	if code, body := get(t, metrics, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, address) {
		t.Errorf("/readyz answers %d %q", code, body)
	}
	if code, _ := get(t, metrics, "/livez"); code != http.StatusOK {
		t.Errorf("/livez answers %d", code)
	}
	if _, body := get(t, metrics, "/metrics"); !strings.Contains(body, fmt.Sprintf("berth_watcher_decider_reachable{decider=%q} 0", address)) {
		t.Errorf("the metrics do not say that %s is not reachable", address)
	}

	run(t, bin+"/race/decider", "--listen", address)
	eventually(t, "resumed", allBound(t, slug(t), 3))
	eventually(t, "ready", func() error {
		if code, body := get(t, metrics, "/readyz"); code != http.StatusOK {
			return fmt.Errorf("/readyz answers %d %q", code, body)
		}
		return nil
	})
}

func get(t testing.TB, address, path string) (int, string) {
	t.Helper()
	r, err := http.Get("http://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

// freeAddress is a loopback address on which nobody listens.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestOwnPolicy replaces a decider that was killed by one with a policy of its
// own; the watcher goes on with it.
func TestOwnPolicy(t *testing.T) {
	namespace(t)
	names := nodes(t, 3, nil)
	own := filepath.Join(t.TempDir(), "ownpolicy")
	if out, err := exec.Command("go", "build", "-o", own, "./ownpolicy").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	old, address := decider(t, "--policy", "first")
	watcher(t, "--decider", address)
	createPods(t, 10, "before", "100m")
	eventually(t, "placed by the first policy", allBound(t, slug(t), 10))
	onEach := func(prefix string) map[string]int {
		counts := map[string]int{}
		for _, p := range pods(t, slug(t)) {
			if strings.HasPrefix(p.Name, prefix) {
				counts[p.Spec.NodeName]++
			}
		}
		return counts
	}
	if c := onEach("before"); c[names[0]] != 10 {
		t.Errorf("policy first put the pods on %v", c)
	}

	old.cmd.Process.Kill()
	<-old.done
	createPods(t, 100, "after", "100m")
	run(t, own, address)
	eventually(t, "placed by the new policy", allBound(t, slug(t), 110))
	if c := onEach("after"); c[names[2]] != 100 {
		t.Errorf("the new policy put the pods on %v, want all on %s", c, names[2])
	}
}

// liar answers every pod with a node that does not exist, and the next time with
// one that is full.
type liar struct {
	berthv1.UnimplementedDeciderServiceServer
	full string
}

func (l *liar) Describe(context.Context, *berthv1.DescribeRequest) (*berthv1.DescribeResponse, error) {
	return &berthv1.DescribeResponse{Name: "liar", Constraints: []string{berthv1.ConstraintNodeResourcesFit, berthv1.ConstraintNodeSelector}}, nil
}

func (l *liar) Decide(_ context.Context, r *berthv1.DecideRequest) (*berthv1.DecideResponse, error) {
	response := &berthv1.DecideResponse{}
	for i, p := range r.GetPods() {
		c := &berthv1.Candidate{NodeName: "nowhere"}
		for _, n := range r.GetSnapshot().GetNodes() {
			if n.GetName() == l.full && i%2 == 0 {
				c.NodeName, c.NodeUid = n.GetName(), n.GetUid()
			}
		}
		response.Decisions = append(response.Decisions, &berthv1.Decision{
			PodUid: p.GetUid(), Outcome: berthv1.Outcome_OUTCOME_PLACED, Candidates: []*berthv1.Candidate{c},
		})
	}
	return response, nil
}

// TestLyingDecider is answered with nodes that do not exist or are full: nothing
// is bound wrongly, the liar is counted by name, and the fallback gets its turn.
func TestLyingDecider(t *testing.T) {
	namespace(t)
	names := nodes(t, 2, nil)
	full := names[0]
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	berthv1.RegisterDeciderServiceServer(server, &liar{full: full})
	go server.Serve(listener)
	t.Cleanup(server.Stop)

	// The node is full before the watcher starts.
	filler := pod(t, "filler", "31500m")
	filler.Spec.NodeName = full
	createPod(t, filler)
	_, honest := decider(t)
	_, metrics := watcher(t, "--decider", listener.Addr().String()+","+honest)
	createPods(t, 4, "p", "1")
	eventually(t, "placed by the fallback", allBound(t, slug(t), 5))
	for _, p := range pods(t, slug(t)) {
		if p.Name != "filler" && p.Spec.NodeName != names[1] {
			t.Errorf("%s is on %s", p.Name, p.Spec.NodeName)
		}
	}
	_, body := get(t, metrics, "/metrics")
	for _, reason := range []string{"unknown-node", "resources"} {
		if want := fmt.Sprintf("berth_watcher_refusals_total{decider=%q,reason=%q}", listener.Addr(), reason); !strings.Contains(body, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}
