package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
)

func newNode(name, uid, cpu string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(uid)}}
	n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
	return n
}

// newPod is a pod on a node, "" for none.
func newPod(uid, node, cpu string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: uid, UID: types.UID(uid)}}
	p.Spec.NodeName = node
	p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}}}
	return p
}

func terminating(p *corev1.Pod) *corev1.Pod {
	p.DeletionTimestamp = &metav1.Time{}
	return p
}

func labelled(p *corev1.Pod, value string) *corev1.Pod {
	p.Labels = map[string]string{"l": value}
	return p
}

func started(p *corev1.Pod) *corev1.Pod {
	p.Status.StartTime = &metav1.Time{Time: time.Unix(1, 0)}
	return p
}

func nominated(p *corev1.Pod, node string) *corev1.Pod {
	p.Status.NominatedNodeName = node
	return p
}

func withImage(n *corev1.Node, name string) *corev1.Node {
	n.Status.Images = []corev1.ContainerImage{{Names: []string{name}, SizeBytes: 1}}
	return n
}

func newNamespace(name, label string) *corev1.Namespace {
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if label != "" {
		n.Labels = map[string]string{"l": label}
	}
	return n
}

func newBudget(name string, allowed int32) *policyv1.PodDisruptionBudget {
	b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	b.Status.DisruptionsAllowed = allowed
	return b
}

// TestVersions says which changes count as which. Each starts with nodes a and b,
// "old" placed on a, "ours" promised to a and "next" nominated for b.
func TestVersions(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Ledger)
		// The changes, empty if there is no new version, "-" if it is none that anybody
		// waits for; and whether a decision for node a, and for node b, depends on it.
		changes string
		a, b    bool
	}{
		{"a node as it was", func(l *Ledger) { l.SetNode(newNode("a", "a1", "4")) }, "", false, false},
		{"a node that changed", func(l *Ledger) { l.SetNode(newNode("a", "a1", "8")) }, "NODE UPDATED a", true, false},
		{"a node created again", func(l *Ledger) { l.SetNode(newNode("a", "a2", "4")) }, "NODE DELETED a, NODE ADDED a", true, false},
		{"a node with another image", func(l *Ledger) { l.SetNode(withImage(newNode("a", "a1", "4"), "i")) }, "-", false, false},
		{"another node", func(l *Ledger) { l.SetNode(newNode("c", "c1", "4")) }, "NODE ADDED c", false, false},
		{"a node that went", func(l *Ledger) { l.RemoveNode("a") }, "NODE DELETED a", true, false},
		{"a node that never was", func(l *Ledger) { l.RemoveNode("z") }, "", false, false},
		{"signals", func(l *Ledger) { l.SetSignals("a", map[string]int64{"load": 2}) }, "-", false, false},
		{"signals as they were", func(l *Ledger) { l.SetSignals("a", map[string]int64{"load": 1}) }, "", false, false},
		{"signals of a node that never was", func(l *Ledger) { l.SetSignals("z", map[string]int64{"load": 2}) }, "", false, false},
		{"a promise", func(l *Ledger) { l.Assume(newPod("new", "", "1"), "a", false) }, "PLACED_POD ADDED a", false, false},
		{"its echo", func(l *Ledger) { l.Place(newPod("ours", "a", "1")) }, "-", false, false},
		{"its echo, terminating", func(l *Ledger) { l.Place(terminating(newPod("ours", "a", "1"))) }, "PLACED_POD UPDATED a", false, false},
		{"its echo, with other labels", func(l *Ledger) { l.Place(labelled(newPod("ours", "a", "1"), "x")) }, "PLACED_POD UPDATED a", false, false},
		{"a promise taken back", func(l *Ledger) { l.Forget("ours") }, "PLACED_POD DELETED a", false, false},
		{"a promised pod that others bound elsewhere", func(l *Ledger) { l.Place(newPod("ours", "b", "1")) }, "PLACED_POD DELETED a, PLACED_POD ADDED b", false, true},
		{"a pod that others bound", func(l *Ledger) { l.Place(newPod("new", "a", "1")) }, "PLACED_POD ADDED a", true, false},
		{"a pod bound to a node not seen yet", func(l *Ledger) { l.Place(newPod("new", "z", "1")) }, "PLACED_POD ADDED z", false, false},
		{"a placed pod as it was", func(l *Ledger) { l.Place(newPod("old", "a", "1")) }, "", false, false},
		{"a placed pod that started", func(l *Ledger) { l.Place(started(newPod("old", "a", "1"))) }, "-", false, false},
		{"a placed pod that is terminating", func(l *Ledger) { l.Place(terminating(newPod("old", "a", "1"))) }, "PLACED_POD UPDATED a", false, false},
		{"a placed pod of another size", func(l *Ledger) { l.Place(newPod("old", "a", "2")) }, "PLACED_POD UPDATED a", true, false},
		{"a placed pod with other labels", func(l *Ledger) { l.Place(labelled(newPod("old", "a", "1"), "x")) }, "PLACED_POD UPDATED a", true, false},
		{"a placed pod that went", func(l *Ledger) { l.Remove("old") }, "PLACED_POD DELETED a", false, false},
		{"a promised pod that went", func(l *Ledger) { l.Remove("ours") }, "PLACED_POD DELETED a", false, false},
		{"a pod that never was", func(l *Ledger) { l.Remove("z") }, "", false, false},
		{"a nomination", func(l *Ledger) { l.Nominate(nominated(newPod("new", "", "1"), "a")) }, "PLACED_POD ADDED a", true, false},
		{"a nomination as it was", func(l *Ledger) { l.Nominate(nominated(newPod("next", "", "1"), "b")) }, "", false, false},
		{"a nominated pod of another size", func(l *Ledger) { l.Nominate(nominated(newPod("next", "", "2"), "b")) }, "PLACED_POD UPDATED b", false, true},
		{"a nomination elsewhere", func(l *Ledger) { l.Nominate(nominated(newPod("next", "", "1"), "a")) }, "PLACED_POD DELETED b, PLACED_POD ADDED a", true, false},
		{"a nomination taken back", func(l *Ledger) { l.Nominate(newPod("next", "", "1")) }, "PLACED_POD DELETED b", false, false},
		{"a nominated pod that went", func(l *Ledger) { l.Remove("next") }, "PLACED_POD DELETED b", false, false},
		{"a nominated pod that others bound", func(l *Ledger) { l.Place(newPod("next", "b", "1")) }, "PLACED_POD DELETED b, PLACED_POD ADDED b", false, true},
		{"a promise to a nominated pod", func(l *Ledger) { l.Assume(newPod("next", "", "1"), "b", false) }, "PLACED_POD ADDED b", false, false},
		{"one elsewhere", func(l *Ledger) { l.Assume(newPod("next", "", "1"), "a", false) }, "PLACED_POD DELETED b, PLACED_POD ADDED a", false, false},
		{"a nomination of a pod that is promised room", func(l *Ledger) { l.Nominate(nominated(newPod("ours", "", "1"), "b")) }, "-", false, false},
		{"a namespace", func(l *Ledger) { l.SetNamespace(newNamespace("other", "")) }, "NAMESPACE ADDED", false, false},
		{"a namespace with other labels", func(l *Ledger) { l.SetNamespace(newNamespace("ns", "x")) }, "NAMESPACE UPDATED", false, false},
		{"a namespace as it was", func(l *Ledger) { l.SetNamespace(newNamespace("ns", "")) }, "", false, false},
		{"a namespace that went", func(l *Ledger) { l.RemoveNamespace("ns") }, "NAMESPACE DELETED", false, false},
		{"a namespace that never was", func(l *Ledger) { l.RemoveNamespace("z") }, "", false, false},
		{"a budget", func(l *Ledger) { l.SetBudget(newBudget("other", 0)) }, "UNSPECIFIED ADDED", false, false},
		{"a budget that is used", func(l *Ledger) { l.SetBudget(newBudget("budget", 0)) }, "UNSPECIFIED UPDATED", false, false},
		{"a budget as it was", func(l *Ledger) { l.SetBudget(newBudget("budget", 1)) }, "", false, false},
		{"a budget that went", func(l *Ledger) { l.RemoveBudget("ns", "budget") }, "UNSPECIFIED DELETED", false, false},
		{"a budget that never was", func(l *Ledger) { l.RemoveBudget("ns", "z") }, "", false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := New()
			l.SetNode(newNode("a", "a1", "4"))
			l.SetNode(newNode("b", "b1", "4"))
			l.SetSignals("a", map[string]int64{"load": 1})
			l.Place(newPod("old", "a", "1"))
			l.Assume(newPod("ours", "", "1"), "a", false)
			l.Nominate(nominated(newPod("next", "", "1"), "b"))
			l.SetNamespace(newNamespace("ns", ""))
			l.SetBudget(newBudget("budget", 1))
			before := l.Version()
			l.TakeChanges()
			test.change(l)
			var changes []string
			for _, c := range l.TakeChanges() {
				changes = append(changes, strings.TrimSpace(fmt.Sprintf("%s %s %s", strings.TrimPrefix(c.Object.String(), "OBJECT_KIND_"),
					strings.TrimPrefix(c.Kind.String(), "CHANGE_KIND_"), c.Node)))
			}
			got := strings.Join(changes, ", ")
			if got == "" && l.Version() > before {
				got = "-"
			}
			if got != test.changes || (got != "") != (l.Version() > before) {
				t.Errorf("changes are %q with version %d after %d, want %q", got, l.Version(), before, test.changes)
			}
			for node, changed := range map[string]bool{"a": test.a, "b": test.b} {
				if l.ChangedSince(node, before) != changed {
					t.Errorf("a decision for node %s may be wrong: %v", node, !changed)
				}
			}
		})
	}
}

// A nomination is in the snapshot until the pod holds room, and again when that is
// taken back.
func TestNominationsGiveWayToRoom(t *testing.T) {
	l := New()
	placed := func() string {
		var all []string
		for _, p := range l.Snapshot().GetPlacedPods() {
			all = append(all, fmt.Sprintf("%s@%s %v", p.GetUid(), p.GetNodeName(), p.GetNominated()))
		}
		return strings.Join(all, ", ")
	}
	for i, step := range []struct {
		do   func()
		want string
	}{
		{func() { l.Nominate(nominated(newPod("p", "", "1"), "a")) }, "p@a true"},
		{func() { l.Assume(newPod("p", "", "1"), "b", false) }, "p@b false"},
		{func() { l.Forget("p") }, "p@a true"},
		{func() { l.Place(newPod("p", "b", "1")) }, "p@b false"},
		{func() { l.Remove("p") }, ""},
	} {
		step.do()
		if got := placed(); got != step.want {
			t.Errorf("step %d: %q, want %q", i, got, step.want)
		}
	}
	if len(l.nominated) > 0 {
		t.Error("a nomination is left")
	}
}

// A nominated pod repels others, and not itself.
func TestNominatedPodsRepel(t *testing.T) {
	repelling := func(uid string) *corev1.Pod {
		p := newPod(uid, "", "1")
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
			{TopologyKey: "zone", LabelSelector: &metav1.LabelSelector{}}}}}
		return nominated(p, "a")
	}
	l := New()
	one, two := repelling("one"), repelling("two")
	l.Nominate(one)
	if l.Repelled(one) || !l.Repelled(two) {
		t.Errorf("alone: repels itself: %v, another: %v", l.Repelled(one), l.Repelled(two))
	}
	l.Nominate(two)
	if !l.Repelled(one) {
		t.Error("a replica's nomination does not repel")
	}
	resized := repelling("two")
	resized.Labels = map[string]string{"l": "x"}
	l.Nominate(resized)
	l.Nominate(newPod("two", "", "1"))
	l.Remove("one")
	if len(l.repelling) > 0 {
		t.Errorf("%d anti-affinities are left", len(l.repelling))
	}
}

func TestFree(t *testing.T) {
	l := New()
	n := newNode("a", "a1", "4")
	n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("2")
	l.SetNode(n)
	l.Place(newPod("p", "a", "1500m"))
	l.Nominate(nominated(newPod("q", "", "4"), "a"))
	for _, test := range []struct {
		node string
		want map[string]int64
		free bool
	}{
		{"a", nil, true}, {"a", map[string]int64{"cpu": 2500, "pods": 1}, true}, {"a", map[string]int64{"cpu": 2501}, false},
		{"a", map[string]int64{"pods": 2}, false}, {"a", map[string]int64{"example.com/gpu": 1}, false}, {"a", map[string]int64{"example.com/gpu": 0}, true},
		{"z", nil, false},
	} {
		if got := l.Free(test.node, test.want) > 0; got != test.free {
			t.Errorf("%v on %s is free: %v", test.want, test.node, got)
		}
	}
}

// A node that is gone is remembered as long as pods are on it, no longer.
func TestNodeOutlivedByItsPods(t *testing.T) {
	l := New()
	l.SetNode(newNode("a", "a1", "4"))
	l.Place(newPod("p", "a", "1"))
	l.RemoveNode("a")
	if n, _ := l.Node("a"); n != nil || l.Nodes() != 0 || l.Placed() != 1 {
		t.Errorf("node %v, %d nodes, %d pods; want none, 0, 1", n, l.Nodes(), l.Placed())
	}
	l.SetNode(newNode("a", "a2", "4"))
	if _, usage := l.Node("a"); usage.Requested["cpu"] != 1000 {
		t.Errorf("the new node has %v taken, want the pod's 1000", usage.Requested)
	}
	l.RemoveNode("a")
	l.Remove("p")
	if len(l.nodes) != 0 {
		t.Errorf("%d nodes are remembered", len(l.nodes))
	}
}

// A node keeps its signals through every change but that into another node.
func TestSignalsBelongToTheNode(t *testing.T) {
	l := New()
	signals := func() map[string]int64 { return l.Snapshot().GetNodes()[0].GetSignals() }
	load := map[string]int64{"load": 1}
	l.SetNode(newNode("a", "a1", "4"))
	l.SetSignals("a", load)
	sent := l.Snapshot().GetNodes()[0]
	l.SetNode(newNode("a", "a1", "8"))
	if !maps.Equal(signals(), load) {
		t.Errorf("after a change: %v", signals())
	}
	l.SetSignals("a", nil)
	if signals() != nil || !maps.Equal(sent.GetSignals(), load) {
		t.Errorf("withdrawn, they are %v; what was sent became %v", signals(), sent.GetSignals())
	}
	l.SetSignals("a", load)
	l.SetNode(newNode("a", "a2", "8"))
	if signals() != nil {
		t.Errorf("created again: %v", signals())
	}
	l.SetSignals("a", load)
	l.Place(newPod("p", "a", "1")) // remembers the name
	l.RemoveNode("a")
	l.SetSignals("a", load)
	l.SetNode(newNode("a", "a2", "8"))
	if signals() != nil {
		t.Errorf("gone and back: %v", signals())
	}
}

func TestBrokenPromisesPanic(t *testing.T) {
	for name, broken := range map[string]func(*Ledger){
		"assumed twice": func(l *Ledger) { l.Assume(newPod("ours", "", "1"), "b", false) },
		"forgot placed": func(l *Ledger) { l.Forget("old") },
		"forgot none":   func(l *Ledger) { l.Forget("z") },
	} {
		t.Run(name, func(t *testing.T) {
			l := New()
			l.Place(newPod("old", "a", "1"))
			l.Assume(newPod("ours", "", "1"), "a", false)
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			broken(l)
		})
	}
}

// TestAgainstModel compares the ledger with two maps that are counted from
// scratch each time.
func TestAgainstModel(t *testing.T) {
	type place struct {
		pod     *corev1.Pod
		node    string
		assumed bool
	}
	rapid.Check(t, func(t *rapid.T) {
		l := New()
		nodes, pods := map[string]*corev1.Node{}, map[types.UID]place{}
		last := uint64(0)
		name := rapid.SampledFrom([]string{"a", "b", "c"})
		uid := rapid.SampledFrom([]string{"p", "q", "r", "s", "t"})
		cpu := rapid.SampledFrom([]string{"1", "1500m", "2"})
		t.Repeat(map[string]func(*rapid.T){
			"set node": func(t *rapid.T) {
				n := newNode(name.Draw(t, "name"), uid.Draw(t, "uid"), cpu.Draw(t, "cpu"))
				nodes[n.Name] = n
				l.SetNode(n)
			},
			"remove node": func(t *rapid.T) {
				n := name.Draw(t, "name")
				delete(nodes, n)
				l.RemoveNode(n)
			},
			"assume": func(t *rapid.T) {
				p, on := newPod(uid.Draw(t, "pod"), "", cpu.Draw(t, "cpu")), name.Draw(t, "node")
				if _, holds := pods[p.UID]; holds {
					t.Skip("it holds room")
				}
				pods[p.UID] = place{p, on, true}
				l.Assume(p, on, false)
			},
			"place": func(t *rapid.T) {
				p := newPod(uid.Draw(t, "pod"), name.Draw(t, "node"), cpu.Draw(t, "cpu"))
				pods[p.UID] = place{p, p.Spec.NodeName, false}
				l.Place(p)
			},
			"forget": func(t *rapid.T) {
				id := types.UID(uid.Draw(t, "pod"))
				if !pods[id].assumed {
					t.Skip("it is not assumed")
				}
				delete(pods, id)
				l.Forget(id)
			},
			"remove": func(t *rapid.T) {
				id := types.UID(uid.Draw(t, "pod"))
				delete(pods, id)
				l.Remove(id)
			},
			"": func(t *rapid.T) {
				if changes := l.TakeChanges(); l.Version() < last || len(changes) > 0 && l.Version() == last {
					t.Fatalf("version %d after %d, with changes %v", l.Version(), last, changes)
				}
				last = l.Version()
				assumed := 0
				cpus, counts := map[string]int64{}, map[string]int{}
				var wantPods []string
				for _, id := range slices.Sorted(maps.Keys(pods)) {
					p := pods[id]
					wantPods = append(wantPods, fmt.Sprintf("%s@%s", id, p.node))
					cpus[p.node] += p.pod.Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
					counts[p.node]++
					if p.assumed {
						assumed++
					}
					if node, as, ok := l.Holds(id); !ok || node != p.node || as != p.assumed {
						t.Fatalf("%s: node %s, assumed %v, held %v; want %+v", id, node, as, ok, p)
					}
				}
				if l.Nodes() != len(nodes) || l.Placed() != len(pods) || l.Assumed() != assumed {
					t.Fatalf("%d nodes, %d pods, %d assumed; want %d, %d, %d", l.Nodes(), l.Placed(), l.Assumed(), len(nodes), len(pods), assumed)
				}
				s := l.Snapshot()
				var gotNodes, gotPods, wantNodes []string
				for _, n := range s.GetNodes() {
					gotNodes = append(gotNodes, n.GetName()+"/"+n.GetUid())
				}
				for _, p := range s.GetPlacedPods() {
					gotPods = append(gotPods, p.GetUid()+"@"+p.GetNodeName())
				}
				for _, n := range slices.Sorted(maps.Keys(nodes)) {
					wantNodes = append(wantNodes, n+"/"+string(nodes[n].UID))
					if object, usage := l.Node(n); object != nodes[n] || usage.Requested["cpu"] != cpus[n] || usage.Pods != counts[n] {
						t.Fatalf("node %s has %v, %d pods; want %d, %d", n, usage.Requested, usage.Pods, cpus[n], counts[n])
					}
				}
				if s.GetVersion() != l.Version() || !slices.Equal(gotNodes, wantNodes) || !slices.Equal(gotPods, wantPods) {
					t.Fatalf("the snapshot has %v, %v at %d; want %v, %v at %d", gotNodes, gotPods, s.GetVersion(), wantNodes, wantPods, l.Version())
				}
			},
		})
	})
}
