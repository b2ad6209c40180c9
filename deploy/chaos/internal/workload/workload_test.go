package workload

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// Of some thousand groups every kind of constraint has its share, names are used once,
// and a second stream of the same seed is the same.
func TestStream(t *testing.T) {
	s, again := NewStream(7), NewStream(7)
	names := map[string]bool{}
	kinds := map[string]int{}
	cpu := int64(0)
	for range 4000 {
		g := s.Next()
		if !equality.Semantic.DeepEqual(g, again.Next()) {
			t.Fatalf("group %s of two streams differs", g.Name)
		}
		if g.Budget != nil {
			kinds["budget"]++
		}
		for _, p := range g.Pods {
			if names[p.Name] {
				t.Errorf("two pods are named %s", p.Name)
			}
			names[p.Name] = true
			if p.Labels[GroupLabel] != g.Name {
				t.Errorf("pod %s of group %s has the label %s", p.Name, g.Name, p.Labels[GroupLabel])
			}
			if Priority(p) == 0 {
				t.Errorf("pod %s has no priority", p.Name)
			}
			kinds[p.Spec.PriorityClassName]++
			a := p.Spec.Affinity
			between := false
			switch {
			case len(p.Spec.TopologySpreadConstraints) > 0:
				kinds["spread"]++
				between = true
			case a != nil && a.PodAffinity != nil:
				kinds["near"]++
				between = true
			case a != nil && a.PodAntiAffinity != nil:
				kinds["apart"]++
			case a != nil && a.NodeAffinity != nil:
				kinds["disk"]++
			case len(p.Spec.Tolerations) > 0:
				kinds["tolerating"]++
			case CPU(p) > NodeCPU:
				kinds["impossible"]++
			default:
				kinds["plain"]++
			}
			if between && !g.Whole {
				t.Errorf("pod %s depends on others that may go before it is bound", p.Name)
			}
			if CPU(p) <= NodeCPU {
				cpu += CPU(p)
			}
		}
	}
	for _, kind := range []string{"budget", "spread", "near", "apart", "disk", "tolerating", "impossible", "plain", low, mid, high, patient, steady} {
		if kinds[kind] < 10 {
			t.Errorf("%d of %d pods are %s", kinds[kind], len(names), kind)
		}
	}
	if mean := cpu / int64(len(names)); mean < 400 || mean > 800 {
		t.Errorf("a pod asks for %d millicores on average", mean)
	}
}

func TestNodes(t *testing.T) {
	zone, tainted := map[string]int{}, 0
	for _, n := range Nodes(30) {
		zone[n.Labels[corev1.LabelTopologyZone]]++
		tainted += len(n.Spec.Taints)
	}
	if len(zone) != zones || zone["zone-0"] != 10 || tainted != 3 {
		t.Errorf("zones %v, %d tainted", zone, tainted)
	}
}
