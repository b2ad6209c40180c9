//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// placedLow is a pod that runs before somebody of higher priority comes.
type placedLow struct {
	name     string
	cpu      string
	priority string // its class
	node     int
	labels   map[string]string
}

// preemptions are scenarios in which one choice of victims is the best.
var preemptions = []struct {
	name string
	low  []placedLow
	set  func(t *testing.T) // what else there is
	high func(p *corev1.Pod)
	// victims are whom kube-scheduler evicts, too.
	victims []string
}{
	{name: "basic", // the lowest priority of the most important victim, then the fewest
		low: []placedLow{
			{name: "a-two", cpu: "2", priority: "two", node: 0}, {name: "a-one", cpu: "2", priority: "one", node: 0},
			{name: "b-one", cpu: "2", priority: "one", node: 1}, {name: "b-one-too", cpu: "2", priority: "one", node: 1},
			{name: "c-two", cpu: "4", priority: "two", node: 2},
		},
		high:    func(p *corev1.Pod) { request(p, "4") },
		victims: []string{"b-one", "b-one-too"}},
	{name: "reprieved", // who can stay stays
		low: []placedLow{
			{name: "a-small", cpu: "1", priority: "two", node: 0}, {name: "a-large", cpu: "3", priority: "one", node: 0},
			{name: "b-whole", cpu: "4", priority: "two", node: 1}, {name: "c-whole", cpu: "4", priority: "two", node: 2},
		},
		high:    func(p *corev1.Pod) { request(p, "2") },
		victims: []string{"a-large"}},
	{name: "critical", // a pod of the system's own class evicts, and is not evicted
		low: []placedLow{
			{name: "a-critical", cpu: "4", priority: "system-cluster-critical", node: 0},
			{name: "b-high", cpu: "4", priority: "high", node: 1},
			{name: "c-critical", cpu: "4", priority: "system-node-critical", node: 2},
		},
		high:    func(p *corev1.Pod) { request(p, "3"); p.Spec.PriorityClassName = "system-cluster-critical" },
		victims: []string{"b-high"}},
	{name: "budget", // a victim that its budget protects is the last choice
		low: []placedLow{
			{name: "a-guarded", cpu: "4", priority: "one", node: 0, labels: map[string]string{"guarded": "yes"}},
			{name: "b-free", cpu: "4", priority: "two", node: 1},
			{name: "c-guarded", cpu: "4", priority: "one", node: 2, labels: map[string]string{"guarded": "yes"}},
		},
		set: func(t *testing.T) {
			all := intstr.FromString("100%")
			budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: slug(t), Name: "guard"},
				Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: &all, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"guarded": "yes"}}}}
			if _, err := client.PolicyV1().PodDisruptionBudgets(slug(t)).Create(context.Background(), budget, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the controller has counted the budget's pods", func() error {
				b, err := client.PolicyV1().PodDisruptionBudgets(slug(t)).Get(context.Background(), "guard", metav1.GetOptions{})
				if err == nil && b.Status.ObservedGeneration != b.Generation {
					err = fmt.Errorf("status %+v", b.Status)
				}
				return err
			})
		},
		high:    func(p *corev1.Pod) { request(p, "3") },
		victims: []string{"b-free"}},
	{name: "spread", // only where its own spreading lets it go afterwards
		low: []placedLow{
			{name: "a-web", cpu: "1", priority: "high", node: 0, labels: map[string]string{"app": "web"}},
			{name: "a-one", cpu: "3", priority: "one", node: 0},
			{name: "b-web", cpu: "1", priority: "high", node: 1, labels: map[string]string{"app": "web"}},
			{name: "b-one", cpu: "3", priority: "one", node: 1},
			{name: "c-two", cpu: "4", priority: "two", node: 2},
		},
		high: func(p *corev1.Pod) {
			request(p, "2")
			p.Labels = map[string]string{"app": "web"}
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: "zone",
				WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: &metav1.LabelSelector{MatchLabels: p.Labels}}}
		},
		victims: []string{"c-two"}},
}

func request(p *corev1.Pod, cpu string) {
	p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse(cpu)
}

// priorityClasses creates those of the tests.
func priorityClasses(t *testing.T) {
	for name, value := range map[string]int32{"one": 1, "two": 2, "high": 1000, "higher": 2000} {
		class := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value}
		if _, err := client.SchedulingV1().PriorityClasses().Create(context.Background(), class, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
}

// TestPreemption lets kube-scheduler and Berth make room for a pod in the same situations,
// one after the other, with the real controllers: both evict the same pods, mark them, say
// so by an Event, and the pod gets the node that it was nominated for.
func TestPreemption(t *testing.T) {
	priorityClasses(t)
	config := filepath.Join(t.TempDir(), "kube-scheduler.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, kubeScheduler, adminKubeconfig()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, scheduler := range []string{"default-scheduler", "berth"} {
		t.Run(scheduler, func(t *testing.T) {
			if scheduler == "berth" {
				_, address := decider(t)
				watcher(t, "--decider", address)
			} else {
				run(t, bin+"/kube-scheduler", "--config", config, "--secure-port", "0")
			}
			for _, s := range preemptions {
				t.Run(s.name, func(t *testing.T) {
					namespace(t)
					i := -1
					names := nodes(t, 3, func(n *corev1.Node) {
						i++
						n.Labels["zone"] = fmt.Sprint("z", i)
						n.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse("4")
						n.Status.Capacity = n.Status.Allocatable
					})
					for _, low := range s.low {
						p := pod(t, low.name, low.cpu)
						p.Spec.SchedulerName = scheduler
						p.Spec.PriorityClassName = low.priority
						p.Labels = low.labels
						p.Spec.NodeName = names[low.node]
						createPod(t, p)
					}
					eventually(t, "all run", func() error {
						for _, p := range pods(t, slug(t)) {
							if p.Status.Phase != corev1.PodRunning {
								return fmt.Errorf("%s is %s", p.Name, p.Status.Phase)
							}
						}
						return nil
					})
					if s.set != nil {
						s.set(t)
					}
					p := pod(t, "preemptor", "1")
					p.Spec.SchedulerName = scheduler
					p.Spec.PriorityClassName = "high"
					s.high(p)
					createPod(t, p)
					var node string
					eventually(t, "the pod runs", func() error {
						p, err := client.CoreV1().Pods(slug(t)).Get(context.Background(), "preemptor", metav1.GetOptions{})
						if err == nil && p.Status.Phase != corev1.PodRunning {
							err = fmt.Errorf("%s, nominated for %q, %s", p.Status.Phase, p.Status.NominatedNodeName, condition(p).Message)
						}
						if err == nil {
							node = p.Spec.NodeName
						}
						return err
					})
					var gone []string
					left := pods(t, slug(t))
					for _, low := range s.low {
						if !slices.ContainsFunc(left, func(p corev1.Pod) bool { return p.Name == low.name && p.DeletionTimestamp == nil }) {
							gone = append(gone, low.name)
						}
					}
					if !slices.Equal(gone, s.victims) {
						t.Errorf("evicted %v, want %v", gone, s.victims)
					}
					for _, victim := range gone {
						eventually(t, "the Event about "+victim, func() error { return preempted(t, victim, "preemptor", node) })
					}
				})
			}
		})
	}
}

// preempted says whether there is the Event of a victim.
func preempted(t *testing.T, victim, by, node string) error {
	list, err := client.EventsV1().Events(slug(t)).List(context.Background(), metav1.ListOptions{FieldSelector: "reason=Preempted,regarding.name=" + victim})
	if err != nil {
		return err
	}
	if len(list.Items) != 1 {
		return fmt.Errorf("%d of them", len(list.Items))
	}
	e := list.Items[0]
	p, err := client.CoreV1().Pods(slug(t)).Get(context.Background(), by, metav1.GetOptions{})
	if err != nil {
		return err
	}
	want := eventsv1.Event{Type: corev1.EventTypeNormal, Action: "Preempting", Note: fmt.Sprintf("Preempted by pod %s on node %s", p.UID, node)}
	if e.Type != want.Type || e.Action != want.Action || e.Note != want.Note {
		return fmt.Errorf("%s %s %q, want %s %s %q", e.Type, e.Action, e.Note, want.Type, want.Action, want.Note)
	}
	// kube-scheduler 1.36 means to say for whom it was, and does not.
	if e.ReportingController == "berth" && (e.Related == nil || e.Related.Name != by) {
		return fmt.Errorf("related to %v, want %s", e.Related, by)
	}
	return nil
}

// TestPreemptionOfReplicas has ReplicaSets of three priorities want more than there is.
// In the end those of higher priority run to the last pod, nobody of equal or higher
// priority was evicted, nobody twice, and what is rejected says so.
func TestPreemptionOfReplicas(t *testing.T) {
	priorityClasses(t)
	namespace(t)
	nodes(t, 4, func(n *corev1.Node) {
		n.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse("4")
		n.Status.Capacity = n.Status.Allocatable
	})
	_, address := decider(t)
	_, second := decider(t)
	watcher(t, "--decider", address+","+second)
	replicas := func(name, class string, n int32) {
		p := pod(t, "", "1")
		rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: slug(t), Name: name}}
		rs.Spec.Replicas = &n
		rs.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"rs": name}}
		rs.Spec.Template.Labels = rs.Spec.Selector.MatchLabels
		rs.Spec.Template.Spec = p.Spec
		rs.Spec.Template.Spec.PriorityClassName = class
		if _, err := client.AppsV1().ReplicaSets(slug(t)).Create(context.Background(), rs, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	running := func(want map[string]int) func() error {
		return func() error {
			have := map[string]int{}
			for _, p := range pods(t, slug(t)) {
				if p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil {
					have[p.Labels["rs"]]++
				}
			}
			for name, n := range want {
				if have[name] != n {
					return fmt.Errorf("running %v, want %v", have, want)
				}
			}
			return nil
		}
	}
	t.Cleanup(func() { // or else they would replace the pods that the namespace's end deletes
		background := metav1.DeletePropagationBackground
		if err := client.AppsV1().ReplicaSets(slug(t)).DeleteCollection(context.Background(), metav1.DeleteOptions{PropagationPolicy: &background}, metav1.ListOptions{}); err != nil {
			t.Errorf("delete replica sets: %v", err)
		}
	})
	replicas("low", "one", 16)
	eventually(t, "the cluster is full", running(map[string]int{"low": 16}))
	replicas("middle", "two", 8)
	eventually(t, "half of it is the middle's", running(map[string]int{"low": 8, "middle": 8}))
	replicas("top", "high", 10)
	eventually(t, "the top has its part", running(map[string]int{"low": 0, "middle": 6, "top": 10}))
	list, err := client.EventsV1().Events(slug(t)).List(context.Background(), metav1.ListOptions{FieldSelector: "reason=Preempted"})
	if err != nil {
		t.Fatal(err)
	}
	victims := map[string]int{}
	for _, e := range list.Items {
		victims[strings.Split(e.Regarding.Name, "-")[0]]++
		if victim, by := strings.Split(e.Regarding.Name, "-")[0], strings.Split(e.Related.Name, "-")[0]; victim == by || victim == "top" || victim == "middle" && by == "low" {
			t.Errorf("%s was evicted for %s", e.Regarding.Name, e.Related.Name)
		}
	}
	if victims["low"] != 16 || victims["middle"] != 2 {
		t.Errorf("evicted %v, want 16 of low and 2 of middle", victims)
	}
	eventually(t, "who waits is told why", func() error {
		for _, p := range pods(t, slug(t)) {
			if c := condition(&p); p.Spec.NodeName == "" && (c.Reason != corev1.PodReasonUnschedulable || !strings.Contains(c.Message, "preemption: ")) {
				return fmt.Errorf("%s: %+v", p.Name, c)
			}
		}
		return nil
	})
}
