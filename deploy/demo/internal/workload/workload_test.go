package workload

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"
)

func TestMixedIsDeterministic(t *testing.T) {
	a, err := Mixed("berth", 50, 500)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := Mixed("berth", 50, 500)
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("two calls differ:\n%s", diff)
	}
}

func TestMixedComposition(t *testing.T) {
	for _, size := range []struct{ nodes, pods int }{{MinNodes, MinPods}, {10, 50}, {50, 500}, {7, 3000}, {1000, 2000}} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			w, err := Mixed("berth", size.nodes, size.pods)
			if err != nil {
				t.Fatal(err)
			}
			if len(w.Nodes) != size.nodes || len(w.Pods) != size.pods {
				t.Errorf("%d nodes and %d pods", len(w.Nodes), len(w.Pods))
			}
			kinds, messages, names := map[string]int{}, map[string]int{}, map[string]bool{}
			for _, p := range w.Pods {
				kinds[p.Object.Labels["kind"]]++
				if p.Want.Fit == CannotFit {
					messages[p.Want.Message]++
				}
				if names[p.Object.Name] {
					t.Errorf("pod name %s is used twice", p.Object.Name)
				}
				names[p.Object.Name] = true
			}
			for _, kind := range []string{"service", "batch", "gpu", "impossible"} {
				if kinds[kind] == 0 {
					t.Errorf("no pod of kind %s", kind)
				}
			}
			if kinds["impossible"]*10 < size.pods {
				t.Errorf("%d of %d pods cannot fit, want at least a tenth", kinds["impossible"], size.pods)
			}
			if len(messages) != 3 {
				t.Errorf("reasons: %v, want 3", messages)
			}
		})
	}
}

func TestMixedTooSmall(t *testing.T) {
	for _, size := range []struct{ nodes, pods int }{{MinNodes - 1, 100}, {10, MinPods - 1}} {
		if _, err := Mixed("berth", size.nodes, size.pods); err == nil {
			t.Errorf("%v: no error", size)
		}
	}
}

// Whatever feasible node each pod gets, in whatever order they come, every pod
// that is said to fit does, and no other.
func TestMixedFitsWithAnyPlacement(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, err := Mixed("berth", rapid.IntRange(MinNodes, 25).Draw(t, "nodes"), rapid.IntRange(MinPods, 200).Draw(t, "pods"))
		if err != nil {
			t.Fatal(err)
		}
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		random.Shuffle(len(w.Pods), func(i, j int) { w.Pods[i], w.Pods[j] = w.Pods[j], w.Pods[i] })
		choose := rapid.SampledFrom([]string{"first", "last", "random", "fullest"}).Draw(t, "choice")
		if rapid.Bool().Draw(t, "unpinned first") {
			slices.SortStableFunc(w.Pods, func(a, b Pod) int {
				return len(a.Object.Spec.NodeSelector) - len(b.Object.Spec.NodeSelector)
			})
		}
		c := newCluster(w.Nodes)
		for _, p := range w.Pods {
			feasible, message := c.feasible(p.Object)
			switch p.Want.Fit {
			case CannotFit:
				if len(feasible) > 0 {
					t.Fatalf("%s fits on %s", p.Object.Name, c.nodes[feasible[0]].Name)
				}
				if message != p.Want.Message {
					t.Fatalf("%s: want %q, a scheduler says %q", p.Object.Name, p.Want.Message, message)
				}
				continue
			case Unknown:
				t.Fatalf("%s: nothing is expected of it", p.Object.Name)
			}
			if len(feasible) == 0 {
				t.Fatalf("%s does not fit: %s", p.Object.Name, message)
			}
			chosen := feasible[0]
			switch choose {
			case "last":
				chosen = feasible[len(feasible)-1]
			case "random":
				chosen = feasible[random.IntN(len(feasible))]
			case "fullest":
				for _, i := range feasible {
					if len(c.placed[i]) > len(c.placed[chosen]) {
						chosen = i
					}
				}
			}
			c.placed[chosen] = append(c.placed[chosen], p.Object)
		}
	})
}

// cluster is a scheduler's filter over the constraints that the mixed workload
// uses, written without knowledge of how the workload is made.
type cluster struct {
	nodes  []*corev1.Node
	placed [][]*corev1.Pod
}

func newCluster(nodes []*corev1.Node) *cluster {
	return &cluster{nodes, make([][]*corev1.Pod, len(nodes))}
}

// feasible returns the nodes that can take p, and the message if there are none.
func (c *cluster) feasible(p *corev1.Pod) ([]int, string) {
	var found []int
	counts := map[string]int{}
	for i, n := range c.nodes {
		reasons := c.reasons(p, n, c.placed[i])
		if len(reasons) == 0 {
			found = append(found, i)
		}
		for _, r := range reasons {
			counts[r]++
		}
	}
	var parts []string
	for r, n := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, r))
	}
	slices.Sort(parts)
	return found, fmt.Sprintf("0/%d nodes are available: %s.", len(c.nodes), strings.Join(parts, ", "))
}

func (c *cluster) reasons(p *corev1.Pod, n *corev1.Node, placed []*corev1.Pod) []string {
	for _, taint := range n.Spec.Taints {
		tolerated := slices.ContainsFunc(p.Spec.Tolerations, func(t corev1.Toleration) bool { return t.Key == taint.Key })
		if !tolerated {
			return []string{"node(s) had untolerated taint(s)"}
		}
	}
	for key, value := range p.Spec.NodeSelector {
		if n.Labels[key] != value {
			return []string{"node(s) didn't match Pod's node affinity/selector"}
		}
	}
	if a := p.Spec.Affinity; a != nil {
		e := a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0].MatchExpressions[0]
		if !slices.Contains(e.Values, n.Labels[e.Key]) {
			return []string{"node(s) didn't match Pod's node affinity/selector"}
		}
	}
	free := n.Status.Allocatable.DeepCopy()
	for _, other := range placed {
		if len(p.Spec.Containers[0].Ports) > 0 && len(other.Spec.Containers[0].Ports) > 0 {
			return []string{"node(s) didn't have free ports for the requested pod ports"}
		}
		for name, q := range other.Spec.Containers[0].Resources.Requests {
			left := free[name]
			left.Sub(q)
			free[name] = left
		}
	}
	var reasons []string
	if int64(len(placed)) >= free.Pods().Value() {
		reasons = append(reasons, "Too many pods")
	}
	for name, q := range p.Spec.Containers[0].Resources.Requests {
		if left := free[name]; q.Cmp(left) > 0 {
			reasons = append(reasons, "Insufficient "+string(name))
		}
	}
	return reasons
}

func TestModest(t *testing.T) {
	node := NewNode("a", "", Capacity(1000, 1024, 0, 10))
	tainted := node.DeepCopy()
	tainted.Name = "tainted"
	tainted.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoExecute}}
	placed := NewPod("other", "x", nil, Resources(100, 100, 0))
	placed.Spec.NodeName = "a"

	w, err := Modest("berth-demo", []*corev1.Node{node, tainted}, []*corev1.Pod{placed, placed}, 100)
	if err != nil {
		t.Fatal(err)
	}
	count := map[Fit]int{}
	for _, p := range w.Pods {
		count[p.Want.Fit]++
	}
	// Room for 8 more pods on one node, half of it used; three reasons.
	if want := map[Fit]int{Fits: 4, CannotFit: 3}; !cmp.Equal(count, want) {
		t.Errorf("pods by fit: %v, want %v", count, want)
	}

	if _, err := Modest("berth-demo", []*corev1.Node{tainted}, nil, 100); err == nil {
		t.Error("no error for a cluster without a usable node")
	}
	if _, err := Modest("berth-demo", []*corev1.Node{node}, nil, 3); err == nil {
		t.Error("no error for too few pods")
	}
}
