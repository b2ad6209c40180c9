package simulation

import (
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-scheduler/berth/watcher/internal/driver"
)

// kind is a kind of object. Each has a watch of its own.
type kind int

const (
	podKind kind = iota
	nodeKind
	budgetKind
	kinds
)

func (k kind) String() string { return [...]string{"pods", "nodes", "budgets"}[k] }

// server is the API server and its etcd: what is true. Objects are replaced and never
// changed; each change is a revision.
type server struct {
	revision uint64
	objects  [kinds][]metav1.Object // in the order of their creation
	history  [kinds][]revision
	lease    lease
	// changed is called after each revision.
	changed func(kind)
}

// revision is one change of one object.
type revision struct {
	number uint64
	object metav1.Object
	gone   bool // object is its last form
}

// lease is the Lease object: whose it is, and a number that every write changes.
type lease struct {
	holder  *process
	written uint64
}

func (s *server) find(k kind, name string) (metav1.Object, int) {
	for i, o := range s.objects[k] {
		if o.GetName() == name {
			return o, i
		}
	}
	return nil, -1
}

// pod returns the pod of that name, nil if there is none.
func (s *server) pod(name string) *corev1.Pod {
	o, _ := s.find(podKind, name)
	p, _ := o.(*corev1.Pod)
	return p
}

// node returns the node of that name, nil if there is none.
func (s *server) node(name string) *corev1.Node {
	o, _ := s.find(nodeKind, name)
	n, _ := o.(*corev1.Node)
	return n
}

// pods are the pods for which which is true.
func (s *server) pods(which func(*corev1.Pod) bool) (out []*corev1.Pod) {
	for _, o := range s.objects[podKind] {
		if p := o.(*corev1.Pod); which(p) {
			out = append(out, p)
		}
	}
	return out
}

// nodes are all nodes.
func (s *server) nodes() (out []*corev1.Node) {
	for _, o := range s.objects[nodeKind] {
		out = append(out, o.(*corev1.Node))
	}
	return out
}

// put makes the object, which is the server's from now on, what its name stands for.
func (s *server) put(k kind, o metav1.Object) {
	s.revision++
	o.SetResourceVersion(strconv.FormatUint(s.revision, 10))
	if _, i := s.find(k, o.GetName()); i >= 0 {
		s.objects[k][i] = o
	} else {
		s.objects[k] = append(s.objects[k], o)
	}
	s.history[k] = append(s.history[k], revision{s.revision, o, false})
	s.changed(k)
}

// remove removes the object of that name.
func (s *server) remove(k kind, name string) {
	o, i := s.find(k, name)
	s.revision++
	s.objects[k] = append(s.objects[k][:i:i], s.objects[k][i+1:]...)
	s.history[k] = append(s.history[k], revision{s.revision, o, true})
	s.changed(k)
}

// bind is the Binding subresource: any node will do, but the pod must be this very one,
// ungated, not being deleted, and without a node.
func (s *server) bind(uid types.UID, name, node string) driver.BindOutcome {
	p := s.pod(name)
	switch {
	case p == nil:
		return driver.BindGone
	case p.UID != uid, p.Spec.NodeName != "", !wantsNode(p):
		return driver.BindConflict
	}
	q := *p
	q.Spec.NodeName = node
	q.Status.NominatedNodeName = ""
	s.put(podKind, &q)
	return driver.BindOK
}

// nominate writes status.nominatedNodeName of the pod; false if it is not there.
func (s *server) nominate(uid types.UID, name, node string) bool {
	p := s.pod(name)
	if p == nil || p.UID != uid {
		return false
	}
	if p.Status.NominatedNodeName != node {
		q := *p
		q.Status.NominatedNodeName = node
		s.put(podKind, &q)
	}
	return true
}

// evict writes the DisruptionTarget condition and marks the pod as being deleted. Its
// kubelet needs a while to let it go.
func (s *server) evict(uid types.UID, name string, now time.Time) driver.EvictOutcome {
	p := s.pod(name)
	if p == nil || p.UID != uid {
		return driver.EvictGone
	}
	if p.DeletionTimestamp != nil {
		return driver.EvictOK
	}
	q := *p
	q.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler,
	}}
	s.put(podKind, &q)
	r := q
	r.DeletionTimestamp = &metav1.Time{Time: now}
	s.put(podKind, &r)
	return driver.EvictOK
}

// wantsNode says whether the pod may be scheduled, if it has no node.
func wantsNode(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && len(p.Spec.SchedulingGates) == 0
}

// waits says whether the pod is to be scheduled.
func waits(p *corev1.Pod) bool { return p.Spec.NodeName == "" && wantsNode(p) }

// cpu is what the pod requests, in millicores.
func cpu(p *corev1.Pod) int64 {
	return p.Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
}

func priority(p *corev1.Pod) int32 {
	if p.Spec.Priority == nil {
		return 0
	}
	return *p.Spec.Priority
}
