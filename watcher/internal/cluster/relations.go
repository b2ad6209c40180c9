package cluster

import (
	"encoding/json"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-scheduler/berth/watcher/encode"
)

// maxRelations is how many relations are told apart. What comes beyond is taken for
// related to every pod.
const maxRelations = 256

// A Relation is what the required rules between pods (affinity, anti-affinity and
// spreading that must hold) of a pod that waits say of others: whom they select. Pods of
// one template have one.
//
// Who is placed, leaves or is relabelled among those that it selects decides where its
// pods may go, so that what was decided for them before may be wrong.
type Relation struct {
	selectors []podSelector
	count     int // of the pods that have it
	// selected is the version at which a pod that it selects last changed: by others, and
	// by a promise to a pod that interacts.
	selected [2]uint64
	// deserted is the version at which a promise to a pod that it selects last came to
	// nothing.
	deserted uint64
	// near is whom its pods must be near.
	near nearness
}

// By whom a pod changed.
const (
	byOthers = iota
	byLane
)

// podSelector is whom one term selects.
type podSelector struct {
	// namespaces are where; nil means everywhere.
	namespaces []string
	selector   labels.Selector
	// keys are labels that a pod must have like the one whose term it is, besides.
	keys []string
}

// Selects says whether the relation may select the pod. It errs on the side of yes.
func (r *Relation) Selects(pod *corev1.Pod) bool { return r.selects(pod.Namespace, pod.Labels) }

func (r *Relation) selects(namespace string, of map[string]string) bool {
	return slices.ContainsFunc(r.selectors, func(s podSelector) bool {
		return (s.namespaces == nil || slices.Contains(s.namespaces, namespace)) && s.selector.Matches(labels.Set(of))
	})
}

// tells says whether one of the relation's selectors may tell a pod's labels from those that
// it had before.
func (r *Relation) tells(namespace string, before, now map[string]string) bool {
	return slices.ContainsFunc(r.selectors, func(s podSelector) bool {
		if s.namespaces != nil && !slices.Contains(s.namespaces, namespace) {
			return false
		}
		was, is := s.selector.Matches(labels.Set(before)), s.selector.Matches(labels.Set(now))
		return was != is || is && slices.ContainsFunc(s.keys, func(key string) bool { return before[key] != now[key] })
	})
}

// relations are those of the pods that wait.
type relations struct {
	byKey map[string]*Relation
	of    map[types.UID]string // a pod's key
	fresh []*Relation          // not taken yet
	// topology is the version at which nodes or namespaces last changed in what relations
	// depend on.
	topology uint64
	// repelled is the version at which a pod with a required anti-affinity last got room.
	repelled [2]uint64
}

// terms are a pod's required rules between pods.
type terms struct {
	Affinity, AntiAffinity []corev1.PodAffinityTerm
	Spread                 []corev1.TopologySpreadConstraint
}

func termsOf(pod *corev1.Pod) (t terms, any bool) {
	if a := pod.Spec.Affinity; a != nil {
		if a.PodAffinity != nil {
			t.Affinity = a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution
		}
		if a.PodAntiAffinity != nil {
			t.AntiAffinity = a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
		}
	}
	for i := range pod.Spec.TopologySpreadConstraints {
		if pod.Spec.TopologySpreadConstraints[i].WhenUnsatisfiable == corev1.DoNotSchedule {
			t.Spread = append(t.Spread, pod.Spec.TopologySpreadConstraints[i])
		}
	}
	return t, len(t.Affinity)+len(t.AntiAffinity)+len(t.Spread) > 0
}

// selectors are whom the terms select, of a pod in the namespace.
func (t terms) selectors(namespace string) (all []podSelector) {
	add := func(namespaces []string, selector *metav1.LabelSelector, keys ...string) {
		s, err := metav1.LabelSelectorAsSelector(selector)
		if err != nil {
			s = labels.Everything() // who knows
		}
		all = append(all, podSelector{namespaces, s, keys})
	}
	for _, of := range [][]corev1.PodAffinityTerm{t.Affinity, t.AntiAffinity} {
		for i := range of {
			switch term := &of[i]; {
			case term.NamespaceSelector != nil:
				add(nil, term.LabelSelector)
			case len(term.Namespaces) > 0:
				add(term.Namespaces, term.LabelSelector)
			default:
				add([]string{namespace}, term.LabelSelector)
			}
		}
	}
	for i := range t.Spread {
		add([]string{namespace}, t.Spread[i].LabelSelector, t.Spread[i].MatchLabelKeys...)
	}
	return all
}

// Expect notes whom a pod that waits is related to; Dismiss ends that. Expecting it again
// notes what it is now.
func (l *Ledger) Expect(pod *corev1.Pod) {
	r := &l.relations
	terms, any := termsOf(pod)
	if !any {
		l.Dismiss(pod.UID)
		return
	}
	text, err := json.Marshal(terms)
	if err != nil {
		text = []byte(pod.UID) // one of its own
	}
	key := pod.Namespace + "/" + string(text)
	if r.byKey[key] == nil && len(r.byKey) >= maxRelations {
		key = ""
	}
	if before, ok := r.of[pod.UID]; ok {
		if before == key {
			return
		}
		l.Dismiss(pod.UID)
	}
	relation := r.byKey[key]
	if relation == nil {
		relation = &Relation{selectors: []podSelector{{selector: labels.Everything()}}}
		if key != "" {
			relation.selectors = terms.selectors(pod.Namespace)
			relation.near = nearnessOf(pod.Namespace, terms.Affinity)
		}
		r.byKey[key] = relation
		r.fresh = append(r.fresh, relation)
	}
	relation.count++
	r.of[pod.UID] = key
}

// Dismiss ends what Expect noted, if it did.
func (l *Ledger) Dismiss(uid types.UID) {
	r := &l.relations
	key, ok := r.of[uid]
	if !ok {
		return
	}
	delete(r.of, uid)
	if relation := r.byKey[key]; relation.count > 1 {
		relation.count--
	} else {
		delete(r.byKey, key)
	}
}

// Interacts says whether where the pod goes may decide where another pod that waits may
// go, or the other way round: whether it is expected and has required rules between
// pods, or may be selected by those of another one. Such pods must not be decided about
// side by side.
func (l *Ledger) Interacts(pod *corev1.Pod) bool {
	if _, ok := l.relations.of[pod.UID]; ok {
		return true
	}
	for _, r := range l.relations.byKey {
		if r.Selects(pod) {
			return true
		}
	}
	return false
}

// TakeRelations returns the relations that nobody had before since it was last called:
// pods that they select interact from now on.
func (l *Ledger) TakeRelations() []*Relation {
	taken := l.relations.fresh
	l.relations.fresh = nil
	return taken
}

// Outdated says whether what was decided for a pod that waits, at a version, may be wrong
// because of the rules between pods: because others that matter to it were placed, left
// or changed since. together says that it was decided with the pods that interact, whose
// promises it therefore knows of.
func (l *Ledger) Outdated(pod *corev1.Pod, version uint64, together bool) bool {
	since := func(at [2]uint64) bool {
		return at[byOthers] > version || !together && at[byLane] > version
	}
	r := &l.relations
	if key, ok := r.of[pod.UID]; ok && (r.topology > version || since(r.byKey[key].selected)) {
		return true
	}
	if !since(r.repelled) {
		return false
	}
	own := l.nominated[pod.UID]
	for key, repeller := range l.repelling {
		if own != nil && own.repels == key && repeller.count == 1 {
			continue
		}
		if since(repeller.held) && encode.MaySelect(repeller.pod, pod) {
			return true
		}
	}
	return false
}

// Deserted says whether after a version a promise to one of those pods that matter to a pod
// that waits came to nothing, because it was taken back, the pod is gone, or others bound it
// elsewhere: it was placed near or away from one that is not there.
func (l *Ledger) Deserted(pod *corev1.Pod, version uint64) bool {
	key, ok := l.relations.of[pod.UID]
	return ok && l.relations.byKey[key].deserted > version
}

// deserts notes that a promise to a pod with these labels came to nothing, at the version
// that there is now.
func (l *Ledger) deserts(namespace string, of map[string]string) {
	for _, r := range l.relations.byKey {
		if r.selects(namespace, of) {
			r.deserted = l.version
		}
	}
}

// relabels notes that a placed pod has other labels than before, at the version that there is
// now. It matters only where a selector tells them apart: since 1.35 the API server gives
// each pod its node's zone and region when it is bound, so that every echo has other labels.
func (l *Ledger) relabels(namespace string, before, now map[string]string) {
	for _, r := range l.relations.byKey {
		if r.selected[byOthers] != l.version && r.tells(namespace, before, now) {
			r.selected[byOthers] = l.version
		}
	}
}

// concerns notes that a pod with these labels was placed, left or changed, at the version
// that there is now; repels is its key in repelling if it got room.
func (l *Ledger) concerns(namespace string, of map[string]string, repels string, by int) {
	for _, r := range l.relations.byKey {
		if r.selected[by] != l.version && r.selects(namespace, of) {
			r.selected[by] = l.version
		}
	}
	if repeller := l.repelling[repels]; repeller != nil {
		repeller.held[by] = l.version
		l.relations.repelled[by] = l.version
	}
}
