package cluster

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
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

// TestVersions says which changes count as which. Each starts with nodes a and b,
// "old" placed on a and "ours" promised to a.
func TestVersions(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Ledger)
		// Whether there is a new version, one that may have made room, and one that a
		// decision for node a, and for node b, may depend on.
		version, room, a, b bool
	}{
		{"a node as it was", func(l *Ledger) { l.SetNode(newNode("a", "a1", "4")) }, false, false, false, false},
		{"a node that changed", func(l *Ledger) { l.SetNode(newNode("a", "a1", "8")) }, true, true, true, false},
		{"a node created again", func(l *Ledger) { l.SetNode(newNode("a", "a2", "4")) }, true, true, true, false},
		{"another node", func(l *Ledger) { l.SetNode(newNode("c", "c1", "4")) }, true, true, false, false},
		{"a node that went", func(l *Ledger) { l.RemoveNode("a") }, true, false, true, false},
		{"a node that never was", func(l *Ledger) { l.RemoveNode("z") }, false, false, false, false},
		{"signals", func(l *Ledger) { l.SetSignals("a", map[string]int64{"load": 2}) }, true, false, false, false},
		{"signals as they were", func(l *Ledger) { l.SetSignals("a", map[string]int64{"load": 1}) }, false, false, false, false},
		{"signals of a node that never was", func(l *Ledger) { l.SetSignals("z", map[string]int64{"load": 2}) }, false, false, false, false},
		{"a promise", func(l *Ledger) { l.Assume(newPod("new", "", "1"), "a") }, true, false, false, false},
		{"its echo", func(l *Ledger) { l.Place(newPod("ours", "a", "1")) }, true, false, false, false},
		{"its echo, terminating", func(l *Ledger) { l.Place(terminating(newPod("ours", "a", "1"))) }, true, false, false, false},
		{"a promise taken back", func(l *Ledger) { l.Forget("ours") }, true, true, false, false},
		{"a promised pod that others bound elsewhere", func(l *Ledger) { l.Place(newPod("ours", "b", "1")) }, true, true, false, true},
		{"a pod that others bound", func(l *Ledger) { l.Place(newPod("new", "a", "1")) }, true, false, true, false},
		{"a pod bound to a node not seen yet", func(l *Ledger) { l.Place(newPod("new", "z", "1")) }, true, false, false, false},
		{"a placed pod as it was", func(l *Ledger) { l.Place(newPod("old", "a", "1")) }, false, false, false, false},
		{"a placed pod that is terminating", func(l *Ledger) { l.Place(terminating(newPod("old", "a", "1"))) }, true, false, false, false},
		{"a placed pod of another size", func(l *Ledger) { l.Place(newPod("old", "a", "2")) }, true, true, true, false},
		{"a placed pod with other labels", func(l *Ledger) { l.Place(labelled(newPod("old", "a", "1"), "x")) }, true, false, true, false},
		{"a placed pod that went", func(l *Ledger) { l.Remove("old") }, true, true, false, false},
		{"a promised pod that went", func(l *Ledger) { l.Remove("ours") }, true, true, false, false},
		{"a pod that never was", func(l *Ledger) { l.Remove("z") }, false, false, false, false},
		{"a namespace", func(l *Ledger) { l.SetNamespace(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}}) }, true, false, false, false},
		{"a namespace that never was", func(l *Ledger) { l.RemoveNamespace("ns") }, false, false, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := New("e")
			l.SetNode(newNode("a", "a1", "4"))
			l.SetNode(newNode("b", "b1", "4"))
			l.SetSignals("a", map[string]int64{"load": 1})
			l.Place(newPod("old", "a", "1"))
			l.Assume(newPod("ours", "", "1"), "a")
			before := l.Version()
			test.change(l)
			for _, one := range []struct {
				what    string
				version uint64
				changed bool
			}{{"Version", l.Version(), test.version}, {"RoomVersion", l.RoomVersion(), test.room},
				{"NodeVersion(a)", l.NodeVersion("a"), test.a}, {"NodeVersion(b)", l.NodeVersion("b"), test.b}} {
				if (one.version > before) != one.changed {
					t.Errorf("%s is %d after version %d", one.what, one.version, before)
				}
			}
		})
	}
}

// A node that is gone is remembered as long as pods are on it, no longer.
func TestNodeOutlivedByItsPods(t *testing.T) {
	l := New("e")
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
	l := New("e")
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
		"assumed twice": func(l *Ledger) { l.Assume(newPod("ours", "", "1"), "b") },
		"forgot placed": func(l *Ledger) { l.Forget("old") },
		"forgot none":   func(l *Ledger) { l.Forget("z") },
	} {
		t.Run(name, func(t *testing.T) {
			l := New("e")
			l.Place(newPod("old", "a", "1"))
			l.Assume(newPod("ours", "", "1"), "a")
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
		l := New("e")
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
				l.Assume(p, on)
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
				_, held := pods[id]
				delete(pods, id)
				if l.Remove(id) != held {
					t.Fatalf("Remove says that %s held room: %v", id, !held)
				}
			},
			"": func(t *rapid.T) {
				if l.Version() < last || l.RoomVersion() > l.Version() {
					t.Fatalf("version %d, room %d after %d", l.Version(), l.RoomVersion(), last)
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
