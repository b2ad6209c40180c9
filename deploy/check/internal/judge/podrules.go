package judge

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/berth-scheduler/berth/deploy/check/internal/audit"
)

// overlap is how far apart the API server receives two binds at most whose order
// may differ from that of their decisions. A scheduler sends many binds at once,
// and what each depends on may arrive after it.
const overlap = 5 * time.Second

// A podTerm is about the pods that it selects, near a node: on nodes with the same
// value of the label key.
type podTerm struct {
	key      string
	selector labels.Selector
	// namespaces are those of the pods, besides the ones that the selector
	// selects; a selector of nil selects none.
	namespaces        []string
	namespaceSelector labels.Selector
}

func affinityTerms(p *corev1.Pod) []podTerm {
	if p.Spec.Affinity == nil || p.Spec.Affinity.PodAffinity == nil {
		return nil
	}
	return podTerms(p, p.Spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
}

func antiAffinityTerms(p *corev1.Pod) []podTerm {
	if p.Spec.Affinity == nil || p.Spec.Affinity.PodAntiAffinity == nil {
		return nil
	}
	return podTerms(p, p.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
}

func podTerms(p *corev1.Pod, terms []corev1.PodAffinityTerm) []podTerm {
	var out []podTerm
	for i := range terms {
		t := podTerm{key: terms[i].TopologyKey, selector: selectorOf(terms[i].LabelSelector), namespaces: terms[i].Namespaces}
		if terms[i].NamespaceSelector != nil {
			t.namespaceSelector = selectorOf(terms[i].NamespaceSelector)
		} else if len(t.namespaces) == 0 {
			t.namespaces = []string{p.Namespace}
		}
		out = append(out, t)
	}
	return out
}

// selectorOf compiles s; the API server has validated it. Nil selects nothing.
func selectorOf(s *metav1.LabelSelector) labels.Selector {
	out, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return out
}

// selects reports whether t selects p.
func (r *replay) selects(t *podTerm, p *pod) bool {
	return (slices.Contains(t.namespaces, p.Namespace) ||
		t.namespaceSelector != nil && t.namespaceSelector.Matches(r.labelsOf(p.Namespace))) &&
		t.selector.Matches(labels.Set(p.Labels))
}

func (r *replay) labelsOf(namespace string) labels.Set {
	if n := r.namespaces[namespace]; n != nil {
		return n.Labels
	}
	return nil
}

// A placement is a pod on a node.
type placement struct {
	pod  *pod
	node *corev1.Node
	// movable is set if the bind that put it there overlaps the judged one, so
	// that it may have been decided before or after it.
	movable bool
}

// simultaneous returns the pods that were bound at about the time of p, by the
// clock of the API server, with their nodes.
func (r *replay) simultaneous(p *pod) map[*pod]string {
	if len(p.demand.podAffinity)+len(p.demand.spread) == 0 {
		return nil // nothing that is judged of p depends on order
	}
	b := r.answer(p)
	if b == nil {
		return nil
	}
	from, _ := slices.BinarySearchFunc(r.binds, b.Received.Add(-overlap), func(b *audit.Bind, t time.Time) int { return b.Received.Compare(t) })
	out := map[*pod]string{}
	for _, other := range r.binds[from:] {
		if other.Received.After(b.Received.Add(overlap)) {
			break
		}
		q := r.byUID[types.UID(other.UID)]
		if q == nil && other.UID == "" {
			if same := r.byName[other.Namespace+"/"+other.Pod]; len(same) > 0 {
				q = same[len(same)-1]
			}
		}
		if q != nil && q != p && !q.deleted {
			out[q] = other.Node
		}
	}
	return out
}

// placements returns the pods on nodes other than p, and those of simultaneous
// that will be, in order of the nodes' names and then of binding.
func (r *replay) placements(p *pod, simultaneous map[*pod]string) []placement {
	var out []placement
	for _, name := range slices.Sorted(maps.Keys(r.on)) {
		n := r.nodes[name]
		if n == nil {
			continue
		}
		for _, q := range r.on[name] {
			if q != p {
				_, movable := simultaneous[q]
				out = append(out, placement{q, n, movable})
			}
		}
	}
	var later []placement
	for q, name := range simultaneous {
		if n := r.nodes[name]; n != nil && !q.takes() {
			later = append(later, placement{q, n, true})
		}
	}
	slices.SortFunc(later, func(a, b placement) int { return cmp.Compare(a.pod.name(), b.pod.name()) })
	return append(out, later...)
}

// podBreaches returns the rules about other pods that p on n breaks. A rule counts
// as broken if no order of the simultaneous binds would have kept it.
func (r *replay) podBreaches(p *pod, n *corev1.Node, simultaneous map[*pod]string) []breach {
	d := &p.demand
	if len(d.podAffinity)+len(d.antiAffinity)+len(d.spread)+len(r.averse) == 0 {
		return nil
	}
	var out []breach
	if b, broken := r.judgeExisting(p, n); broken {
		out = append(out, b)
	}
	if len(d.podAffinity)+len(d.antiAffinity)+len(d.spread) == 0 {
		return out
	}
	others := r.placements(p, simultaneous)
	for i := range d.antiAffinity {
		t := &d.antiAffinity[i]
		at := slices.IndexFunc(others, func(o placement) bool {
			// A later bind is judged when it comes.
			return o.pod.takes() && near(t.key, n, o.node) && r.selects(t, o.pod)
		})
		if at >= 0 {
			out = append(out, breach{PodAntiAffinity, fmt.Sprintf("required anti-affinity: %s is near by %s", others[at].pod.name(), t.key)})
		}
	}
	if detail := r.judgeAffinity(p, n, others); detail != "" {
		out = append(out, breach{PodAffinity, detail})
	}
	for i := range d.spread {
		if detail := r.judgeSpread(p, n, &d.spread[i], others); detail != "" {
			out = append(out, breach{TopologySpread, detail})
		}
	}
	return out
}

// near reports whether two nodes carry the same value of the label key.
func near(key string, a, b *corev1.Node) bool {
	va, oka := a.Labels[key]
	vb, okb := b.Labels[key]
	return oka && okb && va == vb
}

// judgeExisting finds a pod near n whose anti-affinity selects p.
func (r *replay) judgeExisting(p *pod, n *corev1.Node) (_ breach, broken bool) {
	var found []string
	for q := range r.averse {
		on := r.nodes[q.Spec.NodeName]
		if q == p || on == nil {
			continue
		}
		for i := range q.demand.antiAffinity {
			if t := &q.demand.antiAffinity[i]; near(t.key, n, on) && r.selects(t, p) {
				found = append(found, fmt.Sprintf("%s is near by %s and has a required anti-affinity to the pod", q.name(), t.key))
				break
			}
		}
	}
	if len(found) == 0 {
		return breach{}, false
	}
	return breach{PodAntiAffinity, slices.Min(found)}, true
}

// judgeAffinity says how p on n breaks its required affinity to pods, or "".
// Only pods that all terms select count; where there is none at all, a pod that
// its own terms select may be the first.
func (r *replay) judgeAffinity(p *pod, n *corev1.Node, others []placement) string {
	terms := p.demand.podAffinity
	if len(terms) == 0 {
		return ""
	}
	all := func(q *pod) bool {
		return !slices.ContainsFunc(terms, func(t podTerm) bool { return !r.selects(&t, q) })
	}
	var wanted []placement
	certain := false // one was surely there when p was decided
	for _, o := range others {
		if all(o.pod) {
			wanted = append(wanted, o)
			certain = certain || !o.movable
		}
	}
	for _, t := range terms {
		if _, ok := n.Labels[t.key]; !ok {
			return fmt.Sprintf("required affinity: the node has no label %s", t.key)
		}
		if !slices.ContainsFunc(wanted, func(o placement) bool { return near(t.key, n, o.node) }) {
			if all(p) && !certain {
				continue
			}
			return fmt.Sprintf("required affinity: no pod that it selects is near by %s", t.key)
		}
	}
	return ""
}

// A spreadTerm keeps the pods that it selects, of the pod's namespace, even.
type spreadTerm struct {
	key                 string
	maxSkew, minDomains int
	selector            labels.Selector
	// counts reports whether a node's pods and domain count.
	counts func(d *demand, n *corev1.Node) bool
}

func spreadTerms(p *corev1.Pod) []spreadTerm {
	var keys []string
	for _, c := range p.Spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable == corev1.DoNotSchedule {
			keys = append(keys, c.TopologyKey)
		}
	}
	required := nodeaffinity.GetRequiredNodeAffinity(p)
	var out []spreadTerm
	for _, c := range p.Spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable != corev1.DoNotSchedule {
			continue
		}
		t := spreadTerm{key: c.TopologyKey, maxSkew: int(c.MaxSkew), minDomains: 1, selector: selectorOf(c.LabelSelector)}
		if c.MinDomains != nil {
			t.minDomains = int(*c.MinDomains)
		}
		for _, key := range c.MatchLabelKeys {
			if value, ok := p.Labels[key]; ok {
				same, _ := labels.SelectorFromSet(labels.Set{key: value}).Requirements()
				t.selector = t.selector.Add(same...)
			}
		}
		honorAffinity := c.NodeAffinityPolicy == nil || *c.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor
		honorTaints := c.NodeTaintsPolicy != nil && *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor
		t.counts = func(d *demand, n *corev1.Node) bool {
			for _, key := range keys {
				if _, ok := n.Labels[key]; !ok {
					return false
				}
			}
			if honorAffinity {
				if ok, _ := required.Match(n); !ok {
					return false
				}
			}
			return !honorTaints || !slices.ContainsFunc(n.Spec.Taints, func(taint corev1.Taint) bool {
				return taint.Effect != corev1.TaintEffectPreferNoSchedule && !d.tolerates(&taint)
			})
		}
		out = append(out, t)
	}
	return out
}

// judgeSpread says how p on n breaks t, or "". Where binds are simultaneous, the
// order that speaks best for p counts: those in its own domain after it, all
// others before.
func (r *replay) judgeSpread(p *pod, n *corev1.Node, t *spreadTerm, others []placement) string {
	own, ok := n.Labels[t.key]
	if !ok {
		return fmt.Sprintf("topology spread: the node has no label %s", t.key)
	}
	domains, counts := map[string]int{}, map[string]bool{} // by node
	for name, node := range r.nodes {
		if counts[name] = t.counts(&p.demand, node); counts[name] {
			domains[node.Labels[t.key]] += 0
		}
	}
	// An empty selector selects everything, but kube-scheduler counts no pod by it.
	if !t.selector.Empty() {
		for _, o := range others {
			domain := o.node.Labels[t.key]
			if !counts[o.node.Name] || o.pod.DeletionTimestamp != nil || o.pod.Namespace != p.Namespace ||
				o.movable && domain == own || !t.selector.Matches(labels.Set(o.pod.Labels)) {
				continue
			}
			domains[domain]++
		}
	}
	least := 0
	if len(domains) >= t.minDomains && len(domains) > 0 {
		least = slices.Min(slices.Collect(maps.Values(domains)))
	}
	self := 0
	if t.selector.Matches(labels.Set(p.Labels)) {
		self = 1
	}
	if skew := domains[own] + self - least; skew > t.maxSkew {
		return fmt.Sprintf("topology spread: skew %d over %s, at most %d is allowed", skew, t.key, t.maxSkew)
	}
	return ""
}
