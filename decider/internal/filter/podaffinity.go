package filter

import "github.com/berth-scheduler/berth/decider/internal/model"

// Why affinity between pods rules a node out: wanted pods are not near, unwanted ones
// are, or such that do not want the pod.
var (
	AffinityUnmet = Reason{Text: "node(s) didn't match pod affinity rules"}
	Repelled      = Reason{Text: "node(s) didn't match pod anti-affinity rules", EvictionCouldHelp: true}
	Repelling     = Reason{Text: "node(s) didn't satisfy existing pods anti-affinity rules", EvictionCouldHelp: true}
)

// podAffinity rejects nodes that are not near the pods that the pod needs, that are
// near pods that it must not be near, or that are near pods that must not be near
// it. A node without a term's topology key is near nobody.
//
// Terminating pods count until they are gone.
func podAffinity(p *model.Pod, s *model.Snapshot) Check {
	c := &nearby{pod: p, snapshot: s}
	if !c.terms() && s.Affine == 0 {
		return Check{}
	}
	for _, n := range s.Nodes {
		for _, q := range n.Affine {
			c.countRepelling(q, n, 1)
		}
		if c.terms() {
			for _, q := range n.Pods {
				c.countSelected(q, n, 1)
			}
		}
	}
	// With nothing to check now, kube-scheduler does not look at nominated pods
	// either.
	if !c.terms() && c.repelling.total == 0 {
		return Check{}
	}
	first := c.selects(p.Affinity.Required, p.Labels, p.Namespace)
	return Check{
		Reject: func(n *model.Node, reasons []Reason) []Reason {
			switch {
			case !c.wants(n, first):
				return append(reasons, AffinityUnmet)
			case c.unwanted.near(n):
				return append(reasons, Repelled)
			case c.repelling.near(n):
				return append(reasons, Repelling)
			}
			return reasons
		},
		Moved: func(q *model.PlacedPod, n *model.Node, by int64) {
			c.countRepelling(q, n, by)
			c.countSelected(q, n, by)
		},
	}
}

// nearby counts the pods that matter to one pod by where they are.
type nearby struct {
	pod      *model.Pod
	snapshot *model.Snapshot
	// wanted are the pods that all of the required affinity's terms select, under
	// every term's topology key; unwanted those that a term of the anti-affinity
	// selects, under its key; repelling those with an anti-affinity term that
	// selects the pod, under its key.
	wanted, unwanted, repelling topology
}

// terms says whether the pod has required terms of its own.
func (c *nearby) terms() bool {
	return len(c.pod.Affinity.Required)+len(c.pod.Affinity.AntiRequired) > 0
}

// countRepelling counts q on n if the pod must not be near it.
func (c *nearby) countRepelling(q *model.PlacedPod, n *model.Node, by int64) {
	for i := range q.Affinity.AntiRequired {
		t := &q.Affinity.AntiRequired[i]
		if t.Selects(c.pod.Labels, c.pod.Namespace, c.snapshot.Namespaces[c.pod.Namespace]) {
			c.repelling.add(t.TopologyKey, n, by)
		}
	}
}

// countSelected counts q on n if the pod's terms select it.
func (c *nearby) countSelected(q *model.PlacedPod, n *model.Node, by int64) {
	if required := c.pod.Affinity.Required; c.selects(required, q.Labels, q.Namespace) {
		for i := range required {
			c.wanted.add(required[i].TopologyKey, n, by)
		}
	}
	for i := range c.pod.Affinity.AntiRequired {
		if t := &c.pod.Affinity.AntiRequired[i]; c.snapshot.Selects(t, q.Labels, q.Namespace) {
			c.unwanted.add(t.TopologyKey, n, by)
		}
	}
}

// selects says whether all terms, at least one, select a pod with these labels.
func (c *nearby) selects(terms []model.PodTerm, labels map[string]string, namespace string) bool {
	for i := range terms {
		if !c.snapshot.Selects(&terms[i], labels, namespace) {
			return false
		}
	}
	return len(terms) > 0
}

// wants says whether n is near the pods that the pod needs. The first of a group
// of pods that need each other would wait for ever: where nobody in the cluster is
// wanted, a pod that wants itself gets any node that carries the topology keys.
func (c *nearby) wants(n *model.Node, first bool) bool {
	near := true
	for i := range c.pod.Affinity.Required {
		key := c.pod.Affinity.Required[i].TopologyKey
		value, ok := n.Labels[key]
		if !ok {
			return false
		}
		near = near && c.wanted.pods[key][value] > 0
	}
	return near || first && c.wanted.total == 0
}

// topology counts pods by topology key and value.
type topology struct {
	pods map[string]map[string]int64
	// total is the sum of the counts, none of which is negative.
	total int64
}

// add counts a pod on n, unless n does not carry the key.
func (t *topology) add(key string, n *model.Node, by int64) {
	value, ok := n.Labels[key]
	if !ok {
		return
	}
	pods := t.pods[key]
	if pods == nil {
		if t.pods == nil {
			t.pods = map[string]map[string]int64{}
		}
		pods = map[string]int64{}
		t.pods[key] = pods
	}
	pods[value] += by
	t.total += by
}

// near says whether one of the pods is near n.
func (t *topology) near(n *model.Node) bool {
	if t.total == 0 {
		return false
	}
	for key, pods := range t.pods {
		if value, ok := n.Labels[key]; ok && pods[value] > 0 {
			return true
		}
	}
	return false
}
