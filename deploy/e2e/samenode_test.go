//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// kubeScheduler is kube-scheduler as people run it, but that it looks at every node
// and has no limit on its requests.
const kubeScheduler = `apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
percentageOfNodesToScore: 100
leaderElection: {leaderElect: false}
clientConnection: {kubeconfig: %q, qps: 1000, burst: 2000}
`

// TestSameNode creates pods one at a time, lets kube-scheduler place them, and asks
// the deciders about each on the state that it was placed on: where one node is
// best, they must name the node it got; where several are, it must be among them;
// where none will do, they must say so in its words. Pods that fit stay, so that
// every step begins with what kube-scheduler placed so far.
//
// BERTH_SAME_NODE_PODS is how many pods each workload has.
func TestSameNode(t *testing.T) {
	count := 12
	if value := os.Getenv("BERTH_SAME_NODE_PODS"); value != "" {
		var err error
		if count, err = strconv.Atoi(value); err != nil {
			t.Fatalf("BERTH_SAME_NODE_PODS: %v", err)
		}
	}
	deciders := map[string]berthv1.DeciderServiceClient{}
	for _, d := range []struct{ name, program string }{{"berth", "race/decider"}, {"upstream", "upstream"}} {
		p := run(t, filepath.Join(bin, d.program), "--listen", "127.0.0.1:0", "--metrics-listen", "")
		conn, err := grpc.NewClient(p.logged(t, "Serving decisions", "address"), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		deciders[d.name] = berthv1.NewDeciderServiceClient(conn)
	}
	config := filepath.Join(t.TempDir(), "kube-scheduler.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, kubeScheduler, adminKubeconfig()), 0o600); err != nil {
		t.Fatal(err)
	}

	steps, unique := 0, 0
	for _, w := range workloads {
		t.Run(w.name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, uint64(len(w.name))))
			namespace(t)
			i := -1
			nodes(t, w.nodes, func(n *corev1.Node) {
				i++
				n.Labels["kubernetes.io/hostname"] = n.Name
				n.Labels["topology.kubernetes.io/zone"] = fmt.Sprintf("z%d", i%3)
				n.Status.Allocatable = corev1.ResourceList{
					corev1.ResourceCPU: *resource.NewMilliQuantity(4000+random.Int64N(28000), resource.DecimalSI), corev1.ResourceMemory: *resource.NewQuantity((2+random.Int64N(60))<<30, resource.BinarySI),
					corev1.ResourcePods: *resource.NewQuantity(110, resource.DecimalSI),
				}
				n.Status.Capacity = n.Status.Allocatable
				if w.node != nil {
					w.node(random, i, n)
				}
			})
			if w.set != nil {
				w.set(t)
			}
			// It counts the nodes that have an image when it reads a node, and does not
			// count again when further nodes come: it has to begin with all of them.
			scheduler := run(t, bin+"/kube-scheduler", "--config", config, "--secure-port", "0")
			one, several, none := 0, 0, 0
			for i := range count {
				switch step(t, scheduler, deciders, w.pod(t, random, i)) {
				case 0:
					none++
				case 1:
					one++
				default:
					several++
				}
				if t.Failed() {
					t.FailNow()
				}
			}
			t.Logf("%d pods had one best node, %d several, %d none", one, several, none)
			steps, unique = steps+count, unique+one
		})
	}
	t.Logf("REPORT: %d workloads, %d steps, %d of them with one best node; kube-scheduler, decider/upstream and the decider agree in all", len(workloads), steps, unique)
}

// step creates a pod and compares; it returns how many nodes were best.
func step(t *testing.T, scheduler *process, deciders map[string]berthv1.DeciderServiceClient, p *corev1.Pod) int {
	t.Helper()
	// Stopped, kube-scheduler cannot place the pod before the state is read.
	scheduler.cmd.Process.Signal(syscall.SIGSTOP)
	eventually(t, "kube-scheduler stops", func() error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", scheduler.cmd.Process.Pid))
		if _, state, _ := strings.Cut(string(stat), ") "); err != nil || !strings.HasPrefix(state, "T") {
			return fmt.Errorf("%s: %w", stat, err)
		}
		return nil
	})
	defer scheduler.cmd.Process.Signal(syscall.SIGCONT)
	createPod(t, p)
	answers := map[string]*berthv1.Decision{}
	request := snapshot(t, p)
	for name, d := range deciders {
		response, err := d.Decide(context.Background(), request)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		answers[name] = response.GetDecisions()[0]
	}
	scheduler.cmd.Process.Signal(syscall.SIGCONT)
	var placed *corev1.Pod
	eventually(t, "kube-scheduler decides", func() (err error) {
		if placed, err = client.CoreV1().Pods(p.Namespace).Get(context.Background(), p.Name, metav1.GetOptions{}); err != nil {
			return err
		}
		if c := condition(placed); placed.Spec.NodeName == "" && c.Reason != corev1.PodReasonUnschedulable {
			return fmt.Errorf("condition %+v", c)
		}
		return nil
	})
	if placed.Spec.NodeName == "" {
		message := condition(placed).Message
		for name, d := range answers {
			if d.GetOutcome() != berthv1.Outcome_OUTCOME_REJECTED || !strings.HasPrefix(message, d.GetRejection().GetMessage()) {
				t.Errorf("%s: %s says %v %q, kube-scheduler %q\n%s", p.Name, name, d.GetOutcome(), d.GetRejection().GetMessage(), message, describe(request))
			}
		}
		zero := int64(0)
		if err := client.CoreV1().Pods(p.Namespace).Delete(context.Background(), p.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		return 0
	}
	count := 0
	for name, d := range answers {
		best := bestNodes(d)
		count = len(best)
		if d.GetOutcome() != berthv1.Outcome_OUTCOME_PLACED || !slices.Contains(best, placed.Spec.NodeName) ||
			!slices.Contains(best, d.GetCandidates()[0].GetNodeName()) {
			t.Errorf("%s: %s says %v %v (best %v), kube-scheduler %s\n%s", p.Name, name, d.GetOutcome(), d.GetCandidates(), best, placed.Spec.NodeName, describe(request))
		}
	}
	if berth, upstream := bestNodes(answers["berth"]), bestNodes(answers["upstream"]); !slices.Equal(berth, upstream) {
		t.Errorf("%s: best nodes are %v for berth, %v for upstream\n%s", p.Name, berth, upstream, describe(request))
	}
	return count
}

// bestNodes are the nodes of the highest total, in name order.
func bestNodes(d *berthv1.Decision) []string {
	var best []string
	var highest int64
	for _, n := range d.GetExplanation().GetNodes() {
		switch {
		case n.GetRule() != "" || len(best) > 0 && n.GetTotal() < highest:
			continue
		case len(best) == 0 || n.GetTotal() > highest:
			best, highest = nil, n.GetTotal()
		}
		best = append(best, n.GetNodeName())
	}
	return best
}

func describe(request *berthv1.DecideRequest) string {
	text, err := json.MarshalIndent(request.GetPods(), "", "  ")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// snapshot asks `watcher snapshot` for the cluster as it is, with a question about p.
func snapshot(t *testing.T, p *corev1.Pod) *berthv1.DecideRequest {
	t.Helper()
	cmd := exec.Command(bin+"/watcher", "snapshot", "--kubeconfig", adminKubeconfig(), "--pod", p.Namespace+"/"+p.Name, "--explain")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("watcher snapshot: %v\n%s", err, &stderr)
	}
	request := &berthv1.DecideRequest{}
	if err := protojson.Unmarshal(out, request); err != nil {
		t.Fatal(err)
	}
	return request
}

// A workload is nodes and a stream of pods.
type workload struct {
	name  string
	nodes int
	// node makes the i-th node special.
	node func(r *rand.Rand, i int, n *corev1.Node)
	// set makes what the workload needs besides nodes and pods.
	set func(t *testing.T)
	// edit makes the i-th pod special.
	edit func(r *rand.Rand, i int, p *corev1.Pod)
}

// pod is the i-th pod: for kube-scheduler, with a request of its own.
func (w *workload) pod(t *testing.T, r *rand.Rand, i int) *corev1.Pod {
	p := pod(t, fmt.Sprintf("p-%05d", i), fmt.Sprintf("%dm", 100+r.IntN(2500)))
	p.Spec.SchedulerName = "default-scheduler"
	p.Spec.Containers[0].Resources.Requests[corev1.ResourceMemory] = *resource.NewQuantity((100+r.Int64N(5000))<<20, resource.BinarySI)
	p.Labels = map[string]string{"app": one(r, "a", "b", "c")}
	w.edit(r, i, p)
	return p
}

func one[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// often says yes n times out of ten.
func often(r *rand.Rand, n int) bool { return r.IntN(10) < n }

func app(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
}

const (
	zone = "topology.kubernetes.io/zone"
	host = "kubernetes.io/hostname"
)

var workloads = []workload{
	{name: "resources", nodes: 40, edit: func(r *rand.Rand, i int, p *corev1.Pod) {
		if often(r, 3) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "bare", Image: "bare"})
		}
		if often(r, 2) {
			always := corev1.ContainerRestartPolicyAlways
			p.Spec.InitContainers = []corev1.Container{
				{Name: "sidecar", Image: "sidecar", RestartPolicy: &always, Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("200m")}}},
				{Name: "init", Image: "init", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"memory": resource.MustParse("3Gi")}}},
			}
		}
	}},
	{name: "node-affinity", nodes: 100,
		node: func(r *rand.Rand, i int, n *corev1.Node) {
			n.Labels["disk"], n.Labels["generation"] = one(r, "ssd", "hdd", "nvme"), strconv.Itoa(1+r.IntN(9))
		},
		edit: func(r *rand.Rand, i int, p *corev1.Pod) {
			term := func() corev1.NodeSelectorTerm {
				return corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{one(r,
					corev1.NodeSelectorRequirement{Key: "disk", Operator: corev1.NodeSelectorOpIn, Values: []string{"ssd", "nvme"}},
					corev1.NodeSelectorRequirement{Key: "disk", Operator: corev1.NodeSelectorOpNotIn, Values: []string{"hdd"}},
					corev1.NodeSelectorRequirement{Key: zone, Operator: corev1.NodeSelectorOpIn, Values: []string{one(r, "z0", "z1")}},
					corev1.NodeSelectorRequirement{Key: "generation", Operator: one(r, corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt), Values: []string{strconv.Itoa(2 + r.IntN(7))}},
					corev1.NodeSelectorRequirement{Key: one(r, "disk", "gpu"), Operator: one(r, corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist)},
				)}}
			}
			a := &corev1.NodeAffinity{}
			if often(r, 5) {
				a.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term(), term()}}
			}
			for range r.IntN(4) {
				a.PreferredDuringSchedulingIgnoredDuringExecution = append(a.PreferredDuringSchedulingIgnoredDuringExecution,
					corev1.PreferredSchedulingTerm{Weight: 1 + r.Int32N(100), Preference: term()})
			}
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: a}
		}},
	{name: "taints", nodes: 60,
		node: func(r *rand.Rand, i int, n *corev1.Node) {
			for _, key := range []string{"dedicated", "spot"} {
				if often(r, 4) {
					n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Value: one(r, "x", "y"),
						Effect: one(r, corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectPreferNoSchedule)})
				}
			}
			n.Spec.Unschedulable = often(r, 1)
		},
		edit: func(r *rand.Rand, i int, p *corev1.Pod) {
			for _, key := range []string{"dedicated", "spot", corev1.TaintNodeUnschedulable} {
				if often(r, 4) {
					toleration := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists}
					if often(r, 5) {
						toleration = corev1.Toleration{Key: key, Operator: corev1.TolerationOpEqual, Value: one(r, "x", "y"), Effect: one(r, corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule)}
					}
					p.Spec.Tolerations = append(p.Spec.Tolerations, toleration)
				}
			}
		}},
	{name: "hard-spread", nodes: 30, edit: func(r *rand.Rand, i int, p *corev1.Pod) {
		for _, key := range []string{zone, host} {
			if often(r, 7) {
				c := corev1.TopologySpreadConstraint{MaxSkew: 1 + r.Int32N(2), TopologyKey: key, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: app(p.Labels["app"])}
				if often(r, 3) {
					domains := 1 + r.Int32N(4)
					c.MinDomains = &domains
				}
				p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, c)
			}
		}
	}},
	{name: "soft-spread", nodes: 50,
		set: func(t *testing.T) {
			service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: corev1.ServiceSpec{
				Selector: map[string]string{"app": "a"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(80)}}}}
			if _, err := client.CoreV1().Services(slug(t)).Create(context.Background(), service, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		},
		edit: func(r *rand.Rand, i int, p *corev1.Pod) {
			if p.Labels["app"] == "a" {
				return // spread by default, as the Service's
			}
			for _, key := range []string{zone, host} {
				p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints,
					corev1.TopologySpreadConstraint{MaxSkew: 1 + r.Int32N(3), TopologyKey: key, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: app(p.Labels["app"])})
			}
		}},
	{name: "pod-affinity", nodes: 40, edit: func(r *rand.Rand, i int, p *corev1.Pod) {
		term := func() corev1.PodAffinityTerm {
			return corev1.PodAffinityTerm{TopologyKey: one(r, zone, host), LabelSelector: app(one(r, "a", "b", "c"))}
		}
		p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{}, PodAntiAffinity: &corev1.PodAntiAffinity{}}
		switch r.IntN(6) {
		case 0:
			own := corev1.PodAffinityTerm{TopologyKey: one(r, zone, host), LabelSelector: app(p.Labels["app"])}
			p.Spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution = []corev1.PodAffinityTerm{own}
		case 1:
			p.Spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution = []corev1.PodAffinityTerm{term()}
		case 2:
			t := term()
			t.TopologyKey = host
			p.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution = []corev1.PodAffinityTerm{t}
		}
		for range r.IntN(3) {
			p.Spec.Affinity.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution = append(p.Spec.Affinity.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution,
				corev1.WeightedPodAffinityTerm{Weight: 1 + r.Int32N(100), PodAffinityTerm: term()})
			p.Spec.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution = append(p.Spec.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution,
				corev1.WeightedPodAffinityTerm{Weight: 1 + r.Int32N(100), PodAffinityTerm: term()})
		}
	}},
	{name: "images", nodes: 40,
		node: func(r *rand.Rand, i int, n *corev1.Node) {
			for i, name := range []string{"a", "b", "c", "d"} {
				if often(r, 4) {
					n.Status.Images = append(n.Status.Images, corev1.ContainerImage{
						Names: []string{"registry.example/" + name + ":v1", "registry.example/" + name + ":latest"}, SizeBytes: int64(200*i+100) << 20})
				}
			}
		},
		edit: func(r *rand.Rand, i int, p *corev1.Pod) {
			p.Spec.Containers[0].Image = "registry.example/" + one(r, "a:v1", "b", "c:latest", "d:v2")
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "second", Image: "registry.example/" + one(r, "a", "b:v1", "e")})
		}},
	{name: "everything", nodes: 60,
		node: func(r *rand.Rand, i int, n *corev1.Node) {
			if often(r, 3) {
				n.Status.Allocatable["example.com/gpu"] = *resource.NewQuantity(1+r.Int64N(8), resource.DecimalSI)
				n.Status.Capacity = n.Status.Allocatable
			}
			if often(r, 3) {
				n.Spec.Taints = []corev1.Taint{{Key: "spot", Effect: corev1.TaintEffectPreferNoSchedule}}
			}
			if often(r, 5) {
				n.Status.Images = []corev1.ContainerImage{{Names: []string{"registry.example/a:latest"}, SizeBytes: 700 << 20}}
			}
		},
		edit: func(r *rand.Rand, i int, p *corev1.Pod) {
			p.Spec.Containers[0].Image = one(r, "registry.example/a", "registry.example/b")
			if often(r, 2) {
				gpus := corev1.ResourceList{"example.com/gpu": *resource.NewQuantity(1+r.Int64N(3), resource.DecimalSI)}
				p.Spec.Containers[0].Resources.Requests["example.com/gpu"], p.Spec.Containers[0].Resources.Limits = gpus["example.com/gpu"], gpus
			}
			if often(r, 2) {
				p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 8000 + r.Int32N(3), Protocol: one(r, corev1.ProtocolTCP, corev1.ProtocolUDP)}}
			}
			if often(r, 3) {
				p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 2, TopologyKey: zone, LabelSelector: app(p.Labels["app"]),
					WhenUnsatisfiable: one(r, corev1.DoNotSchedule, corev1.ScheduleAnyway)}}
			}
			if often(r, 3) {
				p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{
					{Weight: 1 + r.Int32N(100), PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: one(r, zone, host), LabelSelector: app(one(r, "a", "b", "c"))}}}}}
			}
			if often(r, 3) {
				p.Spec.Tolerations = []corev1.Toleration{{Key: "spot", Operator: corev1.TolerationOpExists}}
			}
		}},
}

// TestNoRuleBroken gives Berth the pods of a workload all at once, of those in which
// the place of one depends on another's and of the one with everything; bin/check, which
// knows Kubernetes' constraints and neither process, finds none that is broken, those
// between pods included. Nor does it find room for a pod that was left.
func TestNoRuleBroken(t *testing.T) {
	const count = 60
	_, address := decider(t)
	watcher(t, "--decider", address)
	for _, w := range workloads {
		if !slices.Contains([]string{"hard-spread", "pod-affinity", "everything"}, w.name) {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(2, uint64(len(w.name))))
			namespace(t)
			i := -1
			nodes(t, w.nodes/4, func(n *corev1.Node) {
				i++
				n.Labels[host], n.Labels[zone] = n.Name, fmt.Sprintf("z%d", i%3)
				if w.node != nil {
					w.node(random, i, n)
				}
			})
			if w.set != nil {
				w.set(t)
			}
			record := filepath.Join(t.TempDir(), "record.jsonl")
			recorder := run(t, bin+"/check", "record", "--kubeconfig", adminKubeconfig(), "--out", record)
			eventually(t, "recording", func() error { return recorder.said("recording from resourceVersion") })
			for i := range count {
				p := w.pod(t, random, i)
				p.Spec.SchedulerName = "berth"
				createPod(t, p)
			}
			bound := 0
			eventually(t, "decided", func() error {
				bound = 0
				for _, p := range pods(t, slug(t)) {
					if p.Spec.NodeName != "" {
						bound++
					} else if c := condition(&p); c.Reason != corev1.PodReasonUnschedulable {
						return fmt.Errorf("%s: %+v", p.Name, c)
					}
				}
				return nil
			})
			if bound < count/2 {
				t.Errorf("%d of %d pods are bound, want at least half", bound, count)
			}
			// A pod that was rejected before the last ones were placed may have room by
			// now; it gets it when its backoff ends. What is broken stays broken.
			eventually(t, "bin/check finds nothing", func() error {
				out, err := exec.Command(bin+"/check", "--kubeconfig", adminKubeconfig(), "--record", record,
					"--audit-log", filepath.Join(clusterDir, "audit.log"), "--scheduler-name", "berth", "--pending-fit").Output()
				if err != nil {
					return fmt.Errorf("%w\n%s", err, out)
				}
				return nil
			})
		})
	}
}
