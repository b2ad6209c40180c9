package workload

import (
	"fmt"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

const someNodes, somePods = 500, 300

func objects(t *testing.T, name string, nodes, pods int) Objects {
	t.Helper()
	w, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	o, err := w.Objects("berth", nodes, pods)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for _, w := range All() {
		if !regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`).MatchString(w.Name) || seen[w.Name] {
			t.Errorf("%q is no name of its own", w.Name)
		}
		seen[w.Name] = true
		if w.Description == "" || w.Pods <= 0 {
			t.Errorf("%s: %d pods, %q", w.Name, w.Pods, w.Description)
		}
		if (w.Questions > 0) != (w.Baseline != "") {
			t.Errorf("%s: %d questions, and compared with %q", w.Name, w.Questions, w.Baseline)
		}
		if found, err := Find(w.Name); err != nil || found.Name != w.Name {
			t.Errorf("Find(%s): %v, %v", w.Name, found.Name, err)
		}
	}
	if _, err := Find("nothing"); err == nil {
		t.Error("there is a workload called nothing")
	}
}

func TestObjectsAreDeterministic(t *testing.T) {
	for _, w := range All() {
		a, b := objects(t, w.Name, someNodes, somePods), objects(t, w.Name, someNodes, somePods)
		if diff := cmp.Diff(a, b); diff != "" {
			t.Errorf("%s: two calls differ:\n%s", w.Name, diff)
		}
		// A smaller workload is the beginning of a larger one.
		if diff := cmp.Diff(a.Pods[:10], objects(t, w.Name, someNodes, 10).Pods); diff != "" {
			t.Errorf("%s: of 10 pods:\n%s", w.Name, diff)
		}
	}
}

func TestObjectsWithoutRoom(t *testing.T) {
	for _, c := range []struct {
		workload    string
		nodes, pods int
	}{{"equal", MinNodes - 1, 1}, {"anti-affinity", 10, 11}, {"equal", 10, 1000}} {
		w, _ := Find(c.workload)
		if _, err := w.Objects("berth", c.nodes, c.pods); err == nil {
			t.Errorf("%v: no error", c)
		}
	}
}

// What a workload is called, every pod of it has.
func TestShapes(t *testing.T) {
	affinity := func(p *corev1.Pod) *corev1.Affinity {
		if p.Spec.Affinity == nil {
			return &corev1.Affinity{}
		}
		return p.Spec.Affinity
	}
	spreads := func(p *corev1.Pod, how corev1.UnsatisfiableConstraintAction) bool {
		c := p.Spec.TopologySpreadConstraints
		return len(c) == 1 && c[0].WhenUnsatisfiable == how && c[0].TopologyKey == corev1.LabelTopologyZone && selects(c[0].LabelSelector, p)
	}
	shapes := map[string]func(i int, p Pod) bool{
		"equal": func(_ int, p Pod) bool { return plain(p.Object) },
		"churn": func(_ int, p Pod) bool { return plain(p.Object) },
		"trickle": func(_ int, p Pod) bool {
			return plain(p.Object)
		},
		"what-if": func(_ int, p Pod) bool { return plain(p.Object) },
		"restart": func(_ int, p Pod) bool { return plain(p.Object) },
		"node-affinity": func(_ int, p Pod) bool {
			a := affinity(p.Object).NodeAffinity
			return a != nil && a.RequiredDuringSchedulingIgnoredDuringExecution != nil
		},
		"hard-spread":    func(_ int, p Pod) bool { return spreads(p.Object, corev1.DoNotSchedule) },
		"soft-spread":    func(_ int, p Pod) bool { return spreads(p.Object, corev1.ScheduleAnyway) },
		"default-spread": func(_ int, p Pod) bool { return len(p.Object.Spec.TopologySpreadConstraints) == 0 },
		"anti-affinity": func(_ int, p Pod) bool {
			a := affinity(p.Object).PodAntiAffinity
			return a != nil && repels(a.RequiredDuringSchedulingIgnoredDuringExecution, p.Object, corev1.LabelHostname)
		},
		"pod-affinity": func(_ int, p Pod) bool {
			a := affinity(p.Object).PodAffinity
			return a != nil && repels(a.RequiredDuringSchedulingIgnoredDuringExecution, p.Object, corev1.LabelTopologyZone)
		},
		"preferred": func(i int, p Pod) bool {
			if a := affinity(p.Object); i%2 == 0 {
				return a.PodAffinity != nil && len(a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution) == 1
			} else {
				return a.PodAntiAffinity != nil && len(a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution) == 1
			}
		},
		"half-too-big": func(i int, p Pod) bool { return p.Fits() == (i%2 == 0) },
		"daemonset": func(i int, p Pod) bool {
			a := affinity(p.Object).NodeAffinity
			terms := a.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
			return len(terms) == 1 && len(terms[0].MatchFields) == 1 && slices.Equal(terms[0].MatchFields[0].Values, []string{p.Node})
		},
		"statefulset": func(_ int, p Pod) bool { return len(p.Object.Labels) == 3 },
		"mixed":       func(_ int, p Pod) bool { return p.Fits() },
	}
	for _, w := range All() {
		claim := shapes[w.Name]
		if claim == nil {
			t.Errorf("%s: nobody says what its pods have in common", w.Name)
			continue
		}
		for i, p := range objects(t, w.Name, someNodes, somePods).Pods {
			if p.Object.Spec.SchedulerName != "berth" || !claim(i, p) {
				t.Fatalf("%s: pod %d is not of its shape: %v", w.Name, i, p.Object)
			}
		}
	}
}

// plain says whether nothing keeps p from any node.
func plain(p *corev1.Pod) bool {
	return p.Spec.Affinity == nil && p.Spec.TopologySpreadConstraints == nil && p.Spec.NodeSelector == nil && len(p.Labels) == 0
}

func repels(terms []corev1.PodAffinityTerm, p *corev1.Pod, key string) bool {
	return len(terms) == 1 && terms[0].TopologyKey == key && selects(terms[0].LabelSelector, p)
}

func selects(s *metav1.LabelSelector, p *corev1.Pod) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && selector.Matches(labels.Set(p.Labels))
}

// Nodes differ in name and zone alone.
func TestNodes(t *testing.T) {
	zones := map[string]int{}
	for i, n := range Nodes(10) {
		zones[n.Labels[corev1.LabelTopologyZone]]++
		if n.Name != nodeName(i) || n.Labels[corev1.LabelHostname] != n.Name {
			t.Errorf("node %d is called %s, on host %s", i, n.Name, n.Labels[corev1.LabelHostname])
		}
		if diff := cmp.Diff(Nodes(1)[0].Status, n.Status); diff != "" {
			t.Errorf("%s is not like the first:\n%s", n.Name, diff)
		}
	}
	if want := map[string]int{"zone-a": 4, "zone-b": 3, "zone-c": 3}; !cmp.Equal(zones, want) {
		t.Errorf("nodes by zone: %v, want %v", zones, want)
	}
}

func TestMixedClasses(t *testing.T) {
	classes := map[string]int{}
	for _, p := range objects(t, "mixed", someNodes, somePods).Pods {
		classes[fmt.Sprint(p.Object.Labels, p.Object.Spec)]++
	}
	if len(classes) != Classes {
		t.Errorf("%d classes, want %d", len(classes), Classes)
	}
}

// Their labels are all that tells the pods of one set apart, and each is
// selected by the Service of its set.
func TestStatefulSetLabels(t *testing.T) {
	o := objects(t, "statefulset", someNodes, somePods)
	seen := map[string]bool{}
	for _, p := range o.Pods {
		seen[fmt.Sprint(p.Object.Labels)] = true
		if !plainSpec(p.Object) {
			t.Fatalf("%s has a constraint", p.Object.Name)
		}
		selected := 0
		for _, s := range o.Services {
			if labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(p.Object.Labels)) {
				selected++
			}
		}
		if selected != 1 {
			t.Fatalf("%s: %d Services select it, want 1", p.Object.Name, selected)
		}
	}
	if len(seen) != somePods || len(o.Services) != sets {
		t.Errorf("%d different sets of labels and %d Services, want %d and %d", len(seen), len(o.Services), somePods, sets)
	}
}

func plainSpec(p *corev1.Pod) bool {
	bare := p.DeepCopy()
	bare.Labels = nil
	return plain(bare)
}

// Binding every pod to its node, in order, breaks no rule, and a pod without a
// node fits on none.
func TestNodesTakeTheirPods(t *testing.T) {
	for _, w := range All() {
		for _, size := range []struct{ nodes, pods int }{{someNodes, somePods}, {60, 60}, {5000, w.Pods}} {
			t.Run(fmt.Sprintf("%s/%d", w.Name, size.nodes), func(t *testing.T) {
				c := newCluster(size.nodes)
				for _, p := range w.Placed(size.nodes) {
					if why := c.bind(p, p.Spec.NodeName); why != "" {
						t.Fatalf("%s on %s: %s", p.Name, p.Spec.NodeName, why)
					}
				}
				for _, p := range objects(t, w.Name, size.nodes, size.pods).Pods {
					if p.Fits() {
						if why := c.bind(p.Object, p.Node); why != "" {
							t.Fatalf("%s on %s: %s", p.Object.Name, p.Node, why)
						}
						continue
					}
					if fits(p.Object, c.nodes["node-00000"].Status.Allocatable) {
						t.Fatalf("%s fits on a node", p.Object.Name)
					}
				}
			})
		}
	}
}

// A workload with questions is its baseline in everything else, so that what
// differs is due to them.
func TestBaseline(t *testing.T) {
	for _, w := range All() {
		if w.Baseline == "" {
			continue
		}
		base, err := Find(w.Baseline)
		if err != nil {
			t.Fatal(err)
		}
		if base.Questions != 0 || w.Pods != base.Pods || w.Rate != base.Rate || w.Churn != base.Churn || w.PlacedPerNode != base.PlacedPerNode {
			t.Errorf("%s is not %s with questions", w.Name, base.Name)
		}
		pods := objects(t, base.Name, someNodes, somePods).Pods
		for i, p := range objects(t, w.Name, someNodes, somePods).Pods {
			p.Object.Name = pods[i].Object.Name
			if diff := cmp.Diff(pods[i], p); diff != "" {
				t.Fatalf("%s: pod %d is another than that of %s:\n%s", w.Name, i, base.Name, diff)
			}
		}
	}
}

// Placed pods are as many to each node as the workload says, on average, and
// nobody's to schedule.
func TestPlaced(t *testing.T) {
	for _, w := range All() {
		names, nodes := map[string]bool{}, map[string]bool{}
		for _, p := range w.Placed(someNodes) {
			names[p.Name], nodes[p.Spec.NodeName] = true, true
			if p.Namespace != PlacedNamespace || p.Spec.SchedulerName == "berth" {
				t.Fatalf("%s: %s/%s is for scheduler %s", w.Name, p.Namespace, p.Name, p.Spec.SchedulerName)
			}
		}
		if len(names) != someNodes*w.PlacedPerNode || w.PlacedPerNode > 0 && len(nodes) != someNodes {
			t.Errorf("%s: %d pods on %d of %d nodes, want %d to a node", w.Name, len(names), len(nodes), someNodes, w.PlacedPerNode)
		}
	}
}

func TestTurn(t *testing.T) {
	a, b := NewTurn(1, "berth"), NewTurn(2, "berth")
	room := a.Node.Status.Allocatable
	if !fits(a.Pods[0], room) || fits(a.Pods[1], room) {
		t.Error("want one pod that fits and one that does not")
	}
	if a.Node.Name == b.Node.Name || a.Service.Name == b.Service.Name || a.Pods[0].Name == b.Pods[0].Name || a.Pods[0].Name == a.Pods[1].Name {
		t.Error("names of two turns, or of one, are the same")
	}
	if _, marked := a.Node.Labels[ChurnLabel]; !marked || len(a.Node.Spec.Taints) != 1 {
		t.Errorf("node without its label or taint: %v", a.Node)
	}
	for _, n := range Nodes(MinNodes) {
		if _, marked := n.Labels[ChurnLabel]; marked {
			t.Errorf("%s would be deleted with the churn's nodes", n.Name)
		}
	}
}

// cluster is the rules that the workloads use, written without knowledge of how
// they are made.
type cluster struct {
	nodes  map[string]*corev1.Node
	free   map[string]corev1.ResourceList
	zones  map[string]int // of pods with a color, by color and zone
	colors map[string]int // by color and node
}

func newCluster(n int) *cluster {
	c := &cluster{map[string]*corev1.Node{}, map[string]corev1.ResourceList{}, map[string]int{}, map[string]int{}}
	for _, node := range Nodes(n) {
		c.nodes[node.Name], c.free[node.Name] = node, node.Status.Allocatable.DeepCopy()
	}
	return c
}

// bind says why p must not be on the node, or puts it there.
func (c *cluster) bind(p *corev1.Pod, name string) string {
	node := c.nodes[name]
	if node == nil {
		return "no such node"
	}
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(p).Match(node); !ok || err != nil {
		return fmt.Sprintf("node affinity: %v", err)
	}
	if !fits(p, c.free[name]) {
		return "no room"
	}
	zone, color := node.Labels[corev1.LabelTopologyZone], p.Labels[colorLabel]
	if color != "" {
		if why := c.near(p, name, zone, color); why != "" {
			return why
		}
		c.zones[color+zone]++
		c.colors[color+name]++
	}
	for kind, q := range requestsOf(p) {
		left := c.free[name][kind]
		left.Sub(q)
		c.free[name][kind] = left
	}
	return ""
}

func (c *cluster) near(p *corev1.Pod, node, zone, color string) string {
	for _, constraint := range p.Spec.TopologySpreadConstraints {
		least := c.zones[color+zones[0]]
		for _, z := range zones {
			least = min(least, c.zones[color+z])
		}
		if constraint.WhenUnsatisfiable == corev1.DoNotSchedule && c.zones[color+zone]+1-least > int(constraint.MaxSkew) {
			return "zone spread"
		}
	}
	if a := p.Spec.Affinity; a != nil && a.PodAntiAffinity != nil && a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil && c.colors[color+node] > 0 {
		return "anti-affinity"
	}
	if a := p.Spec.Affinity; a != nil && a.PodAffinity != nil && a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		elsewhere := 0
		for _, z := range zones {
			elsewhere += c.zones[color+z]
		}
		if elsewhere > 0 && c.zones[color+zone] == 0 {
			return "pod affinity"
		}
	}
	return ""
}

func requestsOf(p *corev1.Pod) corev1.ResourceList {
	list := resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{})
	list[corev1.ResourcePods] = *resource.NewQuantity(1, resource.DecimalSI)
	return list
}

func fits(p *corev1.Pod, free corev1.ResourceList) bool {
	for name, q := range requestsOf(p) {
		left := free[name]
		if q.Cmp(left) > 0 {
			return false
		}
	}
	return true
}
