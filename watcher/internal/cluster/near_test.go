package cluster

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
)

// TestAwaits holds Awaits to what it says, looking at all pods, over histories of all that
// it depends on.
func TestAwaits(t *testing.T) {
	var awaited, not int
	check := func(t *rapid.T) {
		l := New()
		names, zones, values := []string{"a", "b", "c"}, []string{"", "x", "x", "y"}, []string{"v", "v", "v", "w"}
		node := func(name string) {
			n := newNode(name, name, "100")
			if zone := rapid.SampledFrom(zones).Draw(t, "zone"); zone != "" {
				n.Labels = map[string]string{corev1.LabelTopologyZone: zone}
			}
			n.Labels = labels.Merge(n.Labels, labels.Set{corev1.LabelHostname: name})
			l.SetNode(n)
		}
		space := func(name string) {
			l.SetNamespace(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"s": rapid.SampledFrom(values).Draw(t, "space's label")}}})
		}
		for _, name := range names {
			node(name)
		}
		// What is known of each pod besides.
		type fact struct {
			pod   *corev1.Pod
			node  string
			order int  // of promises; 0 if it has none
			bound bool // is known to be
		}
		facts := map[types.UID]*fact{}
		order := 0
		term := func() corev1.PodAffinityTerm {
			term := corev1.PodAffinityTerm{
				TopologyKey:   rapid.SampledFrom([]string{corev1.LabelTopologyZone, corev1.LabelHostname}).Draw(t, "key"),
				LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"l": rapid.SampledFrom(values).Draw(t, "selects")}},
			}
			switch rapid.IntRange(0, 7).Draw(t, "where") {
			case 0:
				term.Namespaces = []string{"other"}
			case 1:
				term.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"s": "v"}}
			}
			return term
		}
		create := func() {
			p := newPod(fmt.Sprint("p", len(facts)), "", "1")
			p.Namespace = rapid.SampledFrom([]string{"default", "default", "default", "other"}).Draw(t, "namespace")
			p.Labels = map[string]string{"l": rapid.SampledFrom(values).Draw(t, "label")}
			if n := rapid.SampledFrom([]int{0, 1, 1, 2}).Draw(t, "terms"); n > 0 {
				affinity := &corev1.PodAffinity{}
				for range n {
					affinity.RequiredDuringSchedulingIgnoredDuringExecution = append(affinity.RequiredDuringSchedulingIgnoredDuringExecution, term())
				}
				p.Spec.Affinity = &corev1.Affinity{PodAffinity: affinity}
			}
			facts[p.UID] = &fact{pod: p}
			l.Expect(p)
		}
		bound := func(f *fact, label string) {
			p := f.pod.DeepCopy()
			p.Spec.NodeName, p.Labels["l"] = f.node, label
			f.pod, f.order, f.bound = p, 0, true
			l.Place(p)
			l.Dismiss(p.UID)
		}
		// wants is what the terms say of another pod.
		wants := func(p, q *fact) bool {
			for _, term := range p.pod.Spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
				in := q.pod.Namespace == p.pod.Namespace
				switch {
				case term.NamespaceSelector != nil:
					in = l.namespaces[q.pod.Namespace].GetLabels()["s"] == "v"
				case len(term.Namespaces) > 0:
					in = q.pod.Namespace == term.Namespaces[0]
				}
				if !in || q.pod.Labels["l"] != term.LabelSelector.MatchLabels["l"] {
					return false
				}
			}
			return true
		}
		want := func(p *fact) bool {
			if p.pod.Spec.Affinity == nil {
				return false
			}
			lacking, promised := false, false
			for _, term := range p.pod.Spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
				found := false
				for _, q := range facts {
					near := l.nodes[q.node] != nil && l.nodes[q.node].record.GetLabels()[term.TopologyKey] == l.nodes[p.node].record.GetLabels()[term.TopologyKey]
					found = found || q.bound && near && wants(p, q)
				}
				lacking = lacking || !found
			}
			for _, q := range facts {
				promised = promised || q.order > 0 && !q.bound && q.order < p.order && wants(p, q)
			}
			return lacking && promised
		}
		for range rapid.IntRange(20, 100).Draw(t, "steps") {
			if len(facts) == 0 || rapid.IntRange(0, 5).Draw(t, "create") == 0 {
				create()
			}
			uid := types.UID(fmt.Sprint("p", rapid.IntRange(0, len(facts)-1).Draw(t, "pod")))
			f := facts[uid]
			switch rapid.IntRange(0, 11).Draw(t, "what") {
			case 0, 1, 2, 3:
				if f.node == "" && !f.bound {
					order++
					f.node, f.order = rapid.SampledFrom(names).Draw(t, "node"), order
					l.Assume(f.pod, f.node, true)
				}
			case 4:
				if f.order > 0 {
					f.bound = true
					l.Confirm(uid)
				}
			case 5:
				if f.order > 0 {
					bound(f, f.pod.Labels["l"])
				}
			case 6:
				if f.order > 0 && !f.bound {
					f.node, f.order = "", 0
					l.Forget(uid)
				}
			case 7:
				if f.bound {
					l.Remove(uid)
					l.Dismiss(uid)
					f.bound, f.order, f.node = false, 0, "gone"
				}
			case 8:
				if f.bound && f.order == 0 {
					bound(f, rapid.SampledFrom(values).Draw(t, "new label"))
				}
			default:
				if rapid.Bool().Draw(t, "node or namespace") {
					node(rapid.SampledFrom(names).Draw(t, "changed node"))
				} else {
					space(rapid.SampledFrom([]string{"default", "other"}).Draw(t, "changed namespace"))
				}
			}
			for uid, f := range facts {
				if f.order == 0 || f.bound {
					continue
				}
				w := want(f)
				if w {
					awaited++
				} else if f.pod.Spec.Affinity != nil {
					not++
				}
				if got := l.Awaits(f.pod); got != w {
					t.Fatalf("%s awaits others: %v, want %v", uid, got, w)
				}
			}
		}
	}
	for range 20 { // the rarest way to be wrong needs some hundred histories
		rapid.Check(t, check)
	}
	if awaited == 0 || not == 0 {
		t.Errorf("pods awaited others %d times, and did not %d times", awaited, not)
	}
}
