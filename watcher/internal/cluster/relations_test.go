package cluster

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// spreading is a pod that waits and spreads over hosts among those with a label.
func spreading(uid, value string, keys ...string) *corev1.Pod {
	p := labelled(newPod(uid, "", "1"), value)
	p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: corev1.LabelHostname,
		WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"l": value}}, MatchLabelKeys: keys}}
	return p
}

func repelling(p *corev1.Pod, value string) *corev1.Pod {
	p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
		{LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"l": value}}, TopologyKey: corev1.LabelHostname}}}}
	return p
}

// TestOutdated has two pods that wait, one that spreads among pods with the label x and a
// plain one with it, and says for which of them a decision made before may be wrong after
// something has happened.
func TestOutdated(t *testing.T) {
	zoned := func(p *corev1.Pod) *corev1.Pod { p.Labels["zone"] = "z"; return p }
	for _, test := range []struct {
		what             string
		do               func(l *Ledger)
		together         bool // the decision was made with those that interact
		spreading, plain bool
	}{
		{what: "nothing", do: func(l *Ledger) {}},
		{what: "another's pod", do: func(l *Ledger) { l.Place(labelled(newPod("new", "a", "1"), "x")) }, spreading: true},
		{what: "another's pod that nobody selects", do: func(l *Ledger) { l.Place(labelled(newPod("new", "a", "1"), "y")) }},
		{what: "a promise out of another batch", do: func(l *Ledger) { l.Assume(labelled(newPod("new", "", "1"), "x"), "a", true) }, spreading: true},
		{what: "a promise that was known", do: func(l *Ledger) { l.Assume(labelled(newPod("new", "", "1"), "x"), "a", true) }, together: true},
		{what: "a promise to one that does not interact", do: func(l *Ledger) { l.Assume(labelled(newPod("new", "", "1"), "x"), "a", false) }, together: true, spreading: true},
		{what: "one leaves", do: func(l *Ledger) { l.Remove("placed") }, spreading: true},
		{what: "one is leaving", do: func(l *Ledger) { l.Place(terminating(labelled(newPod("placed", "a", "1"), "x"))) }, spreading: true},
		{what: "one is relabelled", do: func(l *Ledger) { l.Place(labelled(newPod("placed", "a", "1"), "y")) }, spreading: true},
		{what: "one gets its zone", do: func(l *Ledger) { l.Place(zoned(labelled(newPod("placed", "a", "1"), "x"))) }},
		{what: "the echo of a promise, with its zone", do: func(l *Ledger) { l.Place(zoned(labelled(newPod("ours", "a", "1"), "x"))) }},
		{what: "a promise is taken back", do: func(l *Ledger) { l.Forget("ours") }, spreading: true},
		{what: "a node comes", do: func(l *Ledger) { l.SetNode(newNode("b", "b", "4")) }, spreading: true},
		{what: "a pod that repels them is placed", do: func(l *Ledger) { l.Place(repelling(labelled(newPod("new", "a", "1"), "y"), "x")) }, spreading: true, plain: true},
		{what: "one that repels others is placed", do: func(l *Ledger) { l.Place(repelling(labelled(newPod("new", "a", "1"), "y"), "z")) }},
	} {
		l := New()
		l.SetNode(newNode("a", "a", "9"))
		spread, plain := spreading("spread", "x"), labelled(newPod("plain", "", "1"), "x")
		l.Expect(spread)
		l.Expect(plain)
		l.Place(labelled(newPod("placed", "a", "1"), "x"))
		l.Assume(labelled(newPod("ours", "", "1"), "x"), "a", false)
		version := l.Version()
		test.do(l)
		if got := l.Outdated(spread, version, test.together); got != test.spreading {
			t.Errorf("%s: the spreading pod's decision is outdated: %v", test.what, got)
		}
		// Whoever repels it concerns the plain pod alone; those of the spreading one are its own.
		if got := l.Outdated(plain, version, test.together); got != test.plain {
			t.Errorf("%s: the plain pod's decision is outdated: %v", test.what, got)
		}
	}
}

// TestInteracts says which pods must not be decided about side by side.
func TestInteracts(t *testing.T) {
	l := New()
	plain := labelled(newPod("plain", "", "1"), "x")
	if l.Interacts(plain) {
		t.Error("a pod interacts with nobody")
	}
	l.Expect(spreading("s1", "x"))
	l.Expect(spreading("s2", "x"))
	if n := len(l.TakeRelations()); n != 1 {
		t.Errorf("equal pods have %d relations", n)
	}
	if !l.Interacts(plain) || !l.Interacts(spreading("s1", "x")) || l.Interacts(labelled(newPod("other", "", "1"), "y")) {
		t.Error("who is selected interacts, and nobody else")
	}
	l.Dismiss("s1")
	if !l.Interacts(plain) {
		t.Error("one of the two is left")
	}
	l.Dismiss("s2")
	if l.Interacts(plain) {
		t.Error("nobody is left")
	}
	// Beyond a number of them nobody is told apart.
	for i := range maxRelations + 1 {
		l.Expect(spreading(string(rune('a'+i)), string(rune('a'+i))))
	}
	if !l.Interacts(labelled(newPod("any", "", "1"), "none of them")) {
		t.Error("with too many relations everybody interacts")
	}
}

// TestMakingRoom says where a pod that was evicted for another is still leaving.
func TestMakingRoom(t *testing.T) {
	l := New()
	l.SetNode(newNode("a", "a", "9"))
	victim := terminating(labelled(newPod("victim", "a", "1"), "x"))
	victim.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler}}
	l.Place(victim)
	if !l.MakingRoom("a", nil) || l.MakingRoom("b", nil) {
		t.Error("it is leaving node a")
	}
	l.Remove("victim")
	if l.MakingRoom("a", nil) {
		t.Error("it has left")
	}
}
