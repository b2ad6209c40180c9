package workload

import "testing"

// The nodes are as full as the workload says, and have room for half as many pods as there
// is room for on the whole.
func TestFull(t *testing.T) {
	const nodes = 1000
	for _, percent := range []int{50, 80, 95} {
		w := Full(percent)
		c := newCluster(nodes)
		taken := int64(0)
		for _, p := range w.Placed(nodes) {
			if why := c.bind(p, p.Spec.NodeName); why != "" {
				t.Fatalf("%s on %s: %s", p.Name, p.Spec.NodeName, why)
			}
			taken += p.Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
		}
		if full := float64(taken) / nodes / nodeMilli * 100; full < float64(percent)-1 || full > float64(percent)+1 {
			t.Errorf("%s: %.1f %% of the cpu is taken", w.Name, full)
		}
		o, err := w.Objects("berth", nodes, nodes)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range o.Pods {
			if !p.Fits() {
				t.Fatalf("%s: %s has no node", w.Name, p.Object.Name)
			}
			if why := c.bind(p.Object, p.Node); why != "" {
				t.Fatalf("%s: %s on %s: %s", w.Name, p.Object.Name, p.Node, why)
			}
		}
	}
}
