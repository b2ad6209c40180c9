package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"

	"github.com/berth-scheduler/berth/watcher/encode"
	"github.com/berth-scheduler/berth/watcher/internal/driver"
)

// log collects events as text; it blocks deliveries while held is locked.
type log struct {
	mu   sync.Mutex
	held sync.Mutex
	all  []string
}

func (l *log) deliver(ev driver.Event) {
	l.held.Lock()
	defer l.held.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	var o metav1.Object
	switch ev := ev.(type) {
	case driver.PodChanged:
		o = ev.Pod
	case driver.PodGone:
		o = ev.Pod
	case driver.NodeChanged:
		o = ev.Node
	case driver.NodeGone:
		o = ev.Node
	case driver.NamespaceChanged:
		o = ev.Namespace
	case driver.NamespaceGone:
		o = ev.Namespace
	case driver.WorkloadChanged:
		o = ev.Object
	case driver.WorkloadGone:
		o = ev.Object
	case driver.BudgetChanged:
		o = ev.Budget
	case driver.BudgetGone:
		o = ev.Budget
	}
	l.all = append(l.all, fmt.Sprintf("%s %s/%s", strings.TrimPrefix(fmt.Sprintf("%T", ev), "driver."), o.GetName(), o.GetUID()))
}

func (l *log) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), time.Millisecond, time.Minute, true, func(context.Context) (bool, error) { return condition(), nil })
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func TestWatchDelivers(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "un"}}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "us"}}
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("u-" + name)}
	}
	set := fake.NewClientset(node, namespace,
		&corev1.Service{ObjectMeta: meta("service")}, &corev1.ReplicationController{ObjectMeta: meta("controller")},
		&appsv1.ReplicaSet{ObjectMeta: meta("replicaset")}, &appsv1.StatefulSet{ObjectMeta: meta("statefulset")},
		&policyv1.PodDisruptionBudget{ObjectMeta: meta("budget")})
	var l log
	w, err := NewWatch(&Client{main: set}, l.deliver)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { w.Run(ctx); close(done) }()
	eventually(t, "sync", w.Synced)

	pods := set.CoreV1().Pods("shop")
	pod := testPod()
	pod.ResourceVersion = "1"
	if _, err := pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pod", func() bool { return strings.Contains(l.text(), "PodChanged web/u1") })
	pod = pod.DeepCopy()
	pod.ResourceVersion, pod.Status.Phase = "2", corev1.PodSucceeded
	if _, err := pods.Update(ctx, pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "finished pod", func() bool { return strings.Contains(l.text(), "PodGone web/u1") })
	if err := set.AppsV1().ReplicaSets("shop").Delete(ctx, "replicaset", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ReplicaSet", func() bool { return strings.Contains(l.text(), "WorkloadGone replicaset/u-replicaset") })
	if err := set.PolicyV1().PodDisruptionBudgets("shop").Delete(ctx, "budget", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "budget", func() bool { return strings.Contains(l.text(), "BudgetGone budget/u-budget") })
	if err := set.CoreV1().Nodes().Delete(ctx, "n1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "node", func() bool { return strings.Contains(l.text(), "NodeGone n1/un") })
	stop()
	<-done
	for _, want := range []string{"NodeChanged n1/un", "NamespaceChanged shop/us", "WorkloadChanged service/u-service", "WorkloadChanged controller/u-controller",
		"WorkloadChanged replicaset/u-replicaset", "WorkloadChanged statefulset/u-statefulset", "BudgetChanged budget/u-budget"} {
		if !strings.Contains(l.text(), want) {
			t.Errorf("%s is not among\n%s", want, l.text())
		}
	}
}

// TestForbiddenResourceIsNamed: a watcher with the role of an older one says what it
// may not list.
func TestForbiddenResourceIsNamed(t *testing.T) {
	set := fake.NewClientset()
	set.PrependReactor("list", "replicasets", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(appsv1.Resource("replicasets"), "", errors.New("not by this role"))
	})
	w, err := NewWatch(&Client{main: set}, func(driver.Event) {})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { w.Run(ctx); close(done) }()
	defer func() { stop(); <-done }()
	eventually(t, "all others", func() bool { return slices.Equal(w.Missing(), []string{"replicasets"}) })
	if w.Synced() {
		t.Error("synced without ReplicaSets")
	}
}

// TestHandlerOddities calls the handler as informers do when the watch was away.
func TestHandlerOddities(t *testing.T) {
	var l log
	track := newDelivered()
	h := handler(track, l.deliver,
		func(p *corev1.Pod) driver.Event { return driver.PodChanged{Pod: p} },
		func(p *corev1.Pod) driver.Event { return driver.PodGone{Pod: p} })
	pod := func(uid, version string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", UID: types.UID(uid), ResourceVersion: version}}
	}
	h.OnAdd(pod("u1", "1"), false)
	h.OnUpdate(pod("u1", "1"), pod("u1", "1")) // a list again, nothing new
	h.OnUpdate(pod("u1", "1"), pod("u2", "5"))
	h.OnDelete(cache.DeletedFinalStateUnknown{Key: "web", Obj: pod("u2", "5")})
	if want := "PodChanged web/u1\nPodGone web/u1\nPodChanged web/u2\nPodGone web/u2"; l.text() != want {
		t.Errorf("delivered\n%s\nwant\n%s", l.text(), want)
	}
	if len(track.versions) != 0 {
		t.Errorf("left over: %v", track.versions)
	}
}

func TestReached(t *testing.T) {
	object := func(uid, version string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), ResourceVersion: version}}
	}
	for _, test := range []struct {
		name          string
		have, deleted []string // uid@version
		want          []string
		at            string
		reached       bool
	}{
		{name: "nothing", at: "9", reached: true},
		{name: "not there yet", want: []string{"a@3"}, at: "9"},
		{name: "older", have: []string{"a@3"}, want: []string{"a@10"}, at: "11"},
		{name: "the same", have: []string{"a@10"}, want: []string{"a@10"}, at: "11", reached: true},
		{name: "newer", have: []string{"a@100"}, want: []string{"a@20"}, at: "21", reached: true},
		{name: "deleted after the list", deleted: []string{"a@12"}, want: []string{"a@10"}, at: "11", reached: true},
		{name: "deleted before the list", have: []string{"a@3"}, at: "9"},
		{name: "made after the list", have: []string{"a@12"}, at: "11", reached: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDelivered()
			d.noteDeletions(true)
			each := func(list []string, f func(uid, version string)) {
				for _, s := range list {
					uid, version, _ := strings.Cut(s, "@")
					f(uid, version)
				}
			}
			each(test.have, func(uid, version string) { d.changed(object(uid, version)) })
			each(test.deleted, func(uid, version string) { d.changed(object(uid, "1")); d.gone(object(uid, version)) })
			want := map[types.UID]string{}
			each(test.want, func(uid, version string) { want[types.UID(uid)] = version })
			if got := d.reached(want, test.at); got != test.reached {
				t.Errorf("reached is %v", got)
			}
		})
	}
}

// TestCaughtUpWaitsForDelivery: what is in the store but not delivered does not
// count.
func TestCaughtUpWaitsForDelivery(t *testing.T) {
	pod := testPod()
	set := fake.NewClientset(pod)
	scheme := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	listed := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: pod.ObjectMeta}
	var l log
	w, err := NewWatch(&Client{main: set, metadata: metadatafake.NewSimpleMetadataClient(scheme, listed)}, l.deliver)
	if err != nil {
		t.Fatal(err)
	}
	l.held.Lock() // deliveries block
	ctx, stop := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() { w.Run(ctx); close(watched) }()
	eventually(t, "store", func() bool { return len(w.informers[0].GetStore().List()) == 1 })

	short, cancel := context.WithTimeout(ctx, 5*pollInterval)
	defer cancel()
	if err := w.CaughtUp(short); err == nil || !strings.Contains(err.Error(), "pods") {
		t.Errorf("caught up before the pod was delivered: %v", err)
	}
	l.held.Unlock()
	if err := w.CaughtUp(ctx); err != nil {
		t.Error(err)
	}
	if !slices.Contains(strings.Split(l.text(), "\n"), "PodChanged web/u1") {
		t.Errorf("delivered %s", l.text())
	}
	stop()
	<-watched
}

// TestStripChangesNoMessage: a pod with everything set is encoded the same with
// and without what the informers drop.
func TestStripChangesNoMessage(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	pod := testPod()
	pod.Annotations = map[string]string{"a": "b"}
	pod.ManagedFields = []metav1.ManagedFieldsEntry{{}}
	pod.Spec.InitContainers = []corev1.Container{{Name: "s", RestartPolicy: &always, Ports: []corev1.ContainerPort{{HostPort: 1}}, Env: []corev1.EnvVar{{Name: "x"}}}}
	pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "i", TerminationMessagePath: "/x", RestartPolicyRules: []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestartAllContainers}}}}
	pod.Spec.Volumes = []corev1.Volume{
		{VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{Items: []corev1.KeyToPath{{Key: "k"}}}}},
		{VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "data"}}},
		{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "x"}}},
	}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", Resources: &corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": quantity("2")}}, Image: "i"}}
	pod.Status.NominatedNodeName = "n2"
	now := metav1.Now()
	pod.DeletionTimestamp = &now
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler}}
	pod.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{TopologyKey: "zone", MaxSkew: 1}}
	pod.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: "zone"}}}}
	stripped := pod.DeepCopy()
	podStripper()(stripped)
	if stripped.Annotations != nil || stripped.ManagedFields != nil || stripped.Spec.Containers[0].TerminationMessagePath != "" || stripped.Spec.InitContainers[0].Env != nil {
		t.Error("bulk is left")
	}
	compare(t, pod, stripped)

	// What it counts for on its node depends on the conditions, too.
	resized := pod.DeepCopy()
	resized.Spec.NodeName, resized.DeletionTimestamp = "n1", nil
	resized.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": quantity("5")}
	resized.Status.Conditions = []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
		{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: corev1.PodReasonInfeasible},
	}
	stripped = resized.DeepCopy()
	podStripper()(stripped)
	compare(t, resized, stripped)
	if got := encode.PlacedPod(stripped, "n1").GetRequests()["cpu"]; got != 2000 || len(stripped.Status.Conditions) != 1 {
		t.Errorf("a resize that is infeasible counts for %dm; %d conditions are left", got, len(stripped.Status.Conditions))
	}
}

// The same for the other kinds.
func TestStripChangesNoOtherMessage(t *testing.T) {
	meta := metav1.ObjectMeta{Namespace: "shop", Name: "web", Annotations: map[string]string{"a": "b"}, ManagedFields: []metav1.ManagedFieldsEntry{{}}}
	app := map[string]string{"app": "web"}
	selector := &metav1.LabelSelector{MatchLabels: app}
	node := &corev1.Node{ObjectMeta: meta}
	node.Status.Images = []corev1.ContainerImage{{Names: []string{"web:1"}, SizeBytes: 5}}
	node.Status.DeclaredFeatures = []string{"F"}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}}
	node.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse("4"), "pods": resource.MustParse("110")}
	node.Spec = corev1.NodeSpec{Unschedulable: true, ProviderID: "x", Taints: []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoExecute}}}
	strip := nodeStripper("")
	var first *corev1.Node
	for name, change := range map[string]func(*corev1.Node){
		"as it is":        func(*corev1.Node) {},
		"other images":    func(n *corev1.Node) { n.Status.Images[0].SizeBytes++ },
		"more cpu":        func(n *corev1.Node) { n.Status.Allocatable["cpu"] = resource.MustParse("5") },
		"less pods":       func(n *corev1.Node) { n.Status.Allocatable["pods"] = resource.MustParse("109") },
		"not ready":       func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse },
		"no features":     func(n *corev1.Node) { n.Status.DeclaredFeatures = nil },
		"no taint":        func(n *corev1.Node) { n.Spec.Taints = nil },
		"as it is, later": func(n *corev1.Node) { n.Status.Conditions[0].LastHeartbeatTime = metav1.Time{} },
	} {
		full := node.DeepCopy()
		change(full)
		bare := full.DeepCopy()
		strip(bare)
		if a, b := encode.Node(full), encode.Node(bare); !proto.Equal(a, b) || bare.Annotations != nil {
			t.Errorf("the node, %s:\n%v\n%v", name, a, b)
		}
		if !strings.HasPrefix(name, "as it is") {
			continue
		}
		if first == nil {
			first = bare
		} else if &first.Status.Conditions[0] != &bare.Status.Conditions[0] {
			t.Error("equal nodes have conditions of their own")
		}
	}
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: meta, Spec: policyv1.PodDisruptionBudgetSpec{Selector: selector}}
	budget.Status = policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: 2, ExpectedPods: 3, DisruptedPods: map[string]metav1.Time{"x": {}}}
	stripped := budget.DeepCopy()
	stripBudget(stripped)
	if a, b := encode.DisruptionBudget(budget), encode.DisruptionBudget(stripped); !proto.Equal(a, b) || stripped.Status.ExpectedPods != 0 {
		t.Errorf("the budget:\n%v\n%v", a, b)
	}
	for kind, test := range map[string]struct {
		object metav1.Object
		strip  func(any)
	}{
		"ReplicationController": {&corev1.ReplicationController{ObjectMeta: meta, Spec: corev1.ReplicationControllerSpec{Selector: app, MinReadySeconds: 1}}, stripReplicationController},
		"ReplicaSet":            {&appsv1.ReplicaSet{ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{Selector: selector, MinReadySeconds: 1}}, stripReplicaSet},
		"StatefulSet":           {&appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Selector: selector, MinReadySeconds: 1}}, stripStatefulSet},
		"Service":               {&corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Selector: app, ClusterIP: "10.0.0.1"}}, stripService},
	} {
		test.strip(test.object)
		version, controller := "v1", true
		if strings.HasSuffix(kind, "Set") {
			version = "apps/v1"
		}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Labels: app,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: version, Kind: kind, Name: "web", Controller: &controller}}}}
		var w encode.Workloads
		w.Set(test.object)
		if got := w.SpreadSelector(pod).GetMatchLabels()["app"]; got != "web" || test.object.GetAnnotations() != nil {
			t.Errorf("%s: the selector wants app %q", kind, got)
		}
	}
}

func quantity(s string) resource.Quantity { return resource.MustParse(s) }

func compare(t *testing.T, pod, stripped *corev1.Pod) {
	t.Helper()
	if a, b := encode.Pod(pod), encode.Pod(stripped); !proto.Equal(a, b) {
		t.Errorf("as a pod that waits:\n%v\n%v", a, b)
	}
	if a, b := encode.PlacedPod(pod, "n1"), encode.PlacedPod(stripped, "n1"); !proto.Equal(a, b) {
		t.Errorf("as a pod that is placed:\n%v\n%v", a, b)
	}
}
