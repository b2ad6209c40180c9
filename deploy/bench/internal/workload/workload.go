// Package workload is what a benchmark schedules: nodes, pods and what else the
// pods refer to, after the shapes of Kubernetes' own scheduler_perf. It is pure:
// the same arguments give the same objects.
package workload

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// Namespace is where everything that has a namespace is created, but for
	// pods that are placed already.
	Namespace = "bench"
	// PlacedNamespace is where those are.
	PlacedNamespace = "bench-placed"
)

// A Workload is one shape of pods.
type Workload struct {
	// Name is one word, as on the command line.
	Name string
	// Description says in one line what the pods have in common.
	Description string
	// Pods is how many there are unless somebody asks for another number.
	Pods int
	// Rate is how many pods are created a second while the scheduler runs; 0
	// means that all of them exist before it starts.
	Rate int
	// PlacedPerNode is how many pods each node has, on average, when the
	// scheduler starts; see Placed.
	PlacedPerNode int
	// Full is how many percent of the nodes' cpu is taken when the scheduler starts,
	// where PlacedPerNode is 0; see Placed.
	Full int
	// Questions is how many a second a decider is asked beside its work; see
	// Question. 0 means none.
	Questions int
	// Baseline names the workload that is the same but for the questions. The two
	// are measured in the same rounds and compared.
	Baseline string
	// Churn says that other objects come and go while the pods are scheduled;
	// see Turn.
	Churn bool

	// pod completes the i-th of the pods, for a cluster of so many nodes, and
	// returns the index of a node that it may be bound to, fitsNowhere if there
	// is none. It may rely on all pods before it being on the nodes it named.
	pod      func(p *corev1.Pod, i, nodes int) int
	services []string // names of the Services, each selecting the pods labelled app=NAME
}

// A Pod is one to schedule.
type Pod struct {
	Object *corev1.Pod
	// Node is a node that the pod may be bound to when every pod is bound to
	// its Node, in order; empty if no node can take it, however empty.
	Node string
}

// Fits says whether an empty cluster has room for the pod.
func (p Pod) Fits() bool { return p.Node != "" }

// Objects is a workload in full.
type Objects struct {
	Pods     []Pod
	Services []*corev1.Service // to be created before the pods
}

// Objects returns the first pods of the workload for the nodes of
// Nodes(nodes), in the order in which they are to be created. scheduler is their
// spec.schedulerName. A workload with more pods than it has room for is an error.
func (w Workload) Objects(scheduler string, nodes, pods int) (Objects, error) {
	if nodes < MinNodes {
		return Objects{}, fmt.Errorf("workload %s: %d nodes: want at least %d, one per zone", w.Name, nodes, MinNodes)
	}
	if most := nodes * podsPerNode(w.Name); pods > most {
		return Objects{}, fmt.Errorf("workload %s: %d pods: %d nodes have room for %d", w.Name, pods, nodes, most)
	}
	var o Objects
	for _, name := range w.services {
		o.Services = append(o.Services, service(name))
	}
	for i := range pods {
		p := newPod(fmt.Sprintf("%s-%05d", w.Name, i), scheduler)
		pod := Pod{Object: p}
		if n := w.pod(p, i, nodes); n != fitsNowhere {
			pod.Node = nodeName(n)
		}
		o.Pods = append(o.Pods, pod)
	}
	return o, nil
}

// Placed returns the pods that are on the nodes of Nodes(nodes) when the
// scheduler starts, with the node that each is on. They are of the classes of
// "mixed"; or where Full is set, one to a node with what it takes of its cpu.
// Workloads with the same PlacedPerNode and Full have the same.
func (w Workload) Placed(nodes int) []*corev1.Pod {
	if w.Full > 0 {
		return fillers(nodes, w.Full)
	}
	pods := make([]*corev1.Pod, nodes*w.PlacedPerNode)
	for i := range pods {
		p := newPod(fmt.Sprintf("placed-%06d", i), "nobody")
		p.Namespace = PlacedNamespace
		p.Spec.NodeName = nodeName(mixed(p, i, nodes))
		pods[i] = p
	}
	return pods
}

// podsPerNode is how many pods of a workload a node has room for at the least,
// on average over the cluster.
func podsPerNode(workload string) int {
	switch workload {
	case "anti-affinity", "daemonset":
		return 1
	}
	return 10 // of a zone's nodes, each 30; the largest pods ask for a tenth of a node
}

// newPod returns a pod of scheduler_perf's default size that any node takes.
func newPod(name, scheduler string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: Namespace, Labels: map[string]string{}},
		Spec: corev1.PodSpec{
			SchedulerName: scheduler,
			Containers: []corev1.Container{{
				Name:      "pause",
				Image:     "pause",
				Resources: corev1.ResourceRequirements{Requests: requests(100, 500)},
			}},
		},
	}
}

// service is a headless Service of the pods labelled app=name.
func service(name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: Namespace},
		Spec: corev1.ServiceSpec{
			ClusterIP: corev1.ClusterIPNone,
			Selector:  map[string]string{appLabel: name},
		},
	}
}
