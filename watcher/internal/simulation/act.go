package simulation

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	namespace    = "ns"
	appLabel     = "app"
	poisonLabel  = "poison"  // no decider survives such a pod
	changedLabel = "changed" // a pod that was updated
	zoneLabel    = corev1.LabelTopologyZone
	// mostPods are there at a time.
	mostPods = 12
)

var nodeNames = []string{"n1", "n2", "n3", "n4", "n5"}

// act lets one thing happen, if it can and the plan has it.
func (w *world) act(a Act) {
	d := a.draw
	f, isFault := faultOf[a.Kind]
	if isFault && !w.plan.Faults.Has(f) || !actions[a.Kind](w, &d) || !isFault {
		return
	}
	w.tally.Faults[f]++
}

// faultOf are the faults that acts are.
var faultOf = map[ActKind]Fault{
	deletePod: PodDeleted, recreatePod: PodRecreated, updatePod: PodUpdated, gatePod: PodGated,
	foreignBind: ForeignBinding, foreignPod: ForeignPod, nominatePod: ForeignNomination,
	deleteNode: NodeGone, recreateNode: NodeRecreated, cordonNode: NodeCordon, flapNode: NodeFlap, resizeNode: NodeShrink,
	changeBudget: BudgetChange, gapInWatch: WatchGap, stallWatch: WatchStall, crashDecider: DeciderCrash,
	cutLease: LeaseCut, suspendLeader: LeaderSuspended, killLeader: LeaderKilled, stopLeader: LeaderStopped,
}

// actions do what acts are called; they report whether they could.
var actions = [actKinds]func(w *world, d *draw) bool{
	createNode:    (*world).createNode,
	createPod:     (*world).createPod,
	deletePod:     (*world).deletePod,
	recreatePod:   (*world).recreatePod,
	updatePod:     (*world).updatePod,
	gatePod:       func(w *world, d *draw) bool { return w.newPod(d, true, false) },
	ungatePod:     (*world).ungatePod,
	foreignBind:   (*world).foreignBind,
	foreignPod:    func(w *world, d *draw) bool { return w.newPod(d, false, true) },
	nominatePod:   (*world).nominatePod,
	deleteNode:    (*world).deleteNode,
	recreateNode:  (*world).recreateNode,
	cordonNode:    (*world).cordonNode,
	flapNode:      (*world).flapNode,
	resizeNode:    (*world).resizeNode,
	changeBudget:  (*world).changeBudget,
	gapInWatch:    (*world).gapInWatch,
	stallWatch:    (*world).stallWatch,
	crashDecider:  (*world).crashDecider,
	moveClock:     (*world).moveClock,
	cutLease:      (*world).cutLease,
	suspendLeader: (*world).suspendLeader,
	killLeader:    (*world).killLeader,
	stopLeader:    (*world).stopLeader,
}

func (w *world) uid(name string) types.UID {
	w.uids++
	return types.UID(fmt.Sprintf("%s-%d", name, w.uids))
}

// pick is one of the elements; false if there is none.
func pick[E any](d *draw, all []E) (e E, ok bool) {
	if len(all) == 0 {
		return e, false
	}
	return all[d.below(len(all))], true
}

func anyPod(*corev1.Pod) bool { return true }

// The pods.

func (w *world) createPod(d *draw) bool { return w.newPod(d, false, false) }

func (w *world) newPod(d *draw, isGated, foreign bool) bool {
	if len(w.server.objects[podKind]) >= mostPods {
		return false
	}
	name := ""
	for i := 0; name == "" || w.server.pod(name) != nil; i++ {
		name = fmt.Sprintf("p%d", i) // the first free name, so that names are used again
	}
	return w.makePod(name, d, isGated, foreign)
}

func (w *world) makePod(name string, d *draw, isGated, foreign bool) bool {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: w.uid(name)}}
	p.Spec.SchedulerName = schedulerName
	size := of(d, int64(500), 1000, 1000, 1500, 2000)
	p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(size, resource.DecimalSI)}}}}
	app := of(d, "web", "api", "db")
	p.Labels = map[string]string{appLabel: app}
	if importance := of(d, int32(0), 0, 0, 10, 10, 100); importance > 0 {
		p.Spec.Priority = &importance
	}
	if isGated {
		p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "gate"}}
	}
	rule := ""
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{appLabel: app}}
	switch n := d.below(10); {
	case n < 2:
		rule = ", alone on its node"
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			TopologyKey: corev1.LabelHostname, LabelSelector: selector}}}}
	case n < 4:
		rule = ", spread over zones"
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: zoneLabel, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: selector}}
	}
	if !foreign && d.in(60) && w.plan.Faults.Has(PoisonPod) {
		rule += ", which no decider survives"
		p.Labels[poisonLabel] = "true"
		w.tally.Faults[PoisonPod]++
	}
	if d.in(200) {
		p.Finalizers = []string{"model/finalizer"}
	}
	if foreign {
		p.Spec.SchedulerName = "other"
		n, ok := pick(d, w.server.nodes())
		if !ok {
			return false
		}
		if d.in(800) {
			p.Spec.NodeName = n.Name
			w.touched[n.Name] = true
		}
	}
	w.say("%s is created: %s, %dm, priority %d%s; scheduler %s, node %q, gates %d", p.UID, app, size, priority(p), rule, p.Spec.SchedulerName, p.Spec.NodeName, len(p.Spec.SchedulingGates))
	w.server.put(podKind, p)
	return true
}

// place is where the leader has the pod.
func (w *world) place(p *corev1.Pod) Place {
	if l := w.leader(); l != nil {
		return placeOf(l.driver.Where(p.UID))
	}
	return nowhere
}

// pickPod is any pod; rather one with which something is going on.
func (w *world) pickPod(d *draw) (*corev1.Pod, bool) {
	if d.in(300) {
		p, ok := pick(d, w.server.pods(func(p *corev1.Pod) bool {
			at := w.place(p)
			return at == deciding || at.promised()
		}))
		if ok {
			return p, true
		}
	}
	return pick(d, w.server.pods(anyPod))
}

// deletePod deletes a pod: one without a node is gone at once unless somebody finalizes
// it, another one when its kubelet has let it go.
func (w *world) deletePod(d *draw) bool {
	p, ok := w.pickPod(d)
	if !ok {
		return false
	}
	w.tally.Deleted[w.place(p)]++
	w.deleted(p, d)
	return true
}

func (w *world) deleted(p *corev1.Pod, d *draw) {
	if p.DeletionTimestamp != nil || p.Spec.NodeName == "" && len(p.Finalizers) == 0 || d.in(200) {
		w.vanish(p.Name, p.UID)
		return
	}
	q := *p
	q.DeletionTimestamp = &metav1.Time{Time: epoch.Add(w.now)}
	w.say("%s is marked for deletion", p.UID)
	w.server.put(podKind, &q)
	w.leave(p.Name, p.UID)
}

// recreatePod removes a pod and creates another one of its name at once, as a StatefulSet
// does.
func (w *world) recreatePod(d *draw) bool {
	p, ok := w.pickPod(d)
	if !ok {
		return false
	}
	w.tally.Deleted[w.place(p)]++
	w.vanish(p.Name, p.UID)
	delay := d.between(0, 5*time.Millisecond)
	again := *d
	w.in(delay, nil, func() {
		if w.server.pod(p.Name) == nil {
			w.makePod(p.Name, &again, false, false)
		}
	})
	return true
}

func (w *world) updatePod(d *draw) bool {
	p, ok := w.pickPod(d)
	if !ok {
		return false
	}
	w.tally.Updated[w.place(p)]++
	q := *p
	q.Labels = map[string]string{appLabel: p.Labels[appLabel], changedLabel: fmt.Sprint(w.server.revision)}
	if d.in(500) {
		q.Labels[appLabel] = of(d, "web", "api", "db")
	}
	if v := p.Labels[poisonLabel]; v != "" {
		q.Labels[poisonLabel] = v
	}
	w.say("%s is updated: %s", q.UID, q.Labels[appLabel])
	w.server.put(podKind, &q)
	return true
}

func (w *world) ungatePod(d *draw) bool {
	p, ok := pick(d, w.server.pods(func(p *corev1.Pod) bool { return len(p.Spec.SchedulingGates) > 0 }))
	if !ok {
		return false
	}
	q := *p
	q.Spec.SchedulingGates = nil
	w.say("%s has no gates any more", q.UID)
	w.server.put(podKind, &q)
	return true
}

// foreignBind lets another scheduler bind a pod.
func (w *world) foreignBind(d *draw) bool {
	p, ok := pick(d, w.server.pods(waits))
	n, there := pick(d, w.server.nodes())
	if !ok || !there {
		return false
	}
	w.touched[n.Name] = true
	w.say("%s is bound to %s by another scheduler", p.UID, n.Name)
	w.server.bind(p.UID, p.Name, n.Name)
	return true
}

// nominatePod lets somebody else nominate a pod, or take that back.
func (w *world) nominatePod(d *draw) bool {
	p, ok := pick(d, w.server.pods(waits))
	n, there := pick(d, w.server.nodes())
	if !ok || !there {
		return false
	}
	node := n.Name
	if p.Status.NominatedNodeName != "" && d.in(500) {
		node = ""
	}
	w.say("%s is nominated for %q", p.UID, node)
	w.server.nominate(p.UID, p.Name, node)
	return true
}

// The nodes.

func (w *world) createNode(d *draw) bool {
	for _, i := range []int{0, 1, 2, 3, 4} {
		if w.server.node(nodeNames[i]) == nil {
			w.makeNode(nodeNames[i], d)
			return true
		}
	}
	return false
}

func (w *world) makeNode(name string, d *draw) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: w.uid(name)}}
	n.Labels = map[string]string{corev1.LabelHostname: name, zoneLabel: of(d, "a", "b")}
	setSize(n, of(d, int64(2000), 3000, 4000))
	w.say("node %s is created: %v, zone %s", n.UID, n.Status.Allocatable.Cpu(), n.Labels[zoneLabel])
	w.server.put(nodeKind, n)
}

func setSize(n *corev1.Node, size int64) {
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU:  *resource.NewMilliQuantity(size, resource.DecimalSI),
		corev1.ResourcePods: *resource.NewQuantity(110, resource.DecimalSI),
	}
}

// deleteNode removes a node; its pods go later, if at all.
func (w *world) deleteNode(d *draw) bool {
	n, ok := pick(d, w.server.nodes())
	if !ok || len(w.server.nodes()) < 2 {
		return false
	}
	w.say("node %s is gone", n.UID)
	w.touched[n.Name] = true
	w.server.remove(nodeKind, n.Name)
	for _, p := range w.server.pods(func(p *corev1.Pod) bool { return p.Spec.NodeName == n.Name }) {
		if d.in(700) {
			w.in(d.between(time.Second, 5*time.Second), nil, func() { w.vanish(p.Name, p.UID) })
		}
	}
	return true
}

// recreateNode replaces a node by another one of its name.
func (w *world) recreateNode(d *draw) bool {
	n, ok := pick(d, w.server.nodes())
	if !ok {
		return false
	}
	w.say("node %s is gone", n.UID)
	w.touched[n.Name] = true
	w.server.remove(nodeKind, n.Name)
	again := draw(d.next())
	w.in(d.between(0, 100*time.Millisecond), nil, func() {
		if w.server.node(n.Name) == nil {
			w.makeNode(n.Name, &again)
		}
	})
	return true
}

// changeNode replaces a node by what change makes of it.
func (w *world) changeNode(d *draw, change func(n *corev1.Node) string) bool {
	n, ok := pick(d, w.server.nodes())
	if !ok {
		return false
	}
	m := *n
	w.say("node %s is %s", m.UID, change(&m))
	w.server.put(nodeKind, &m)
	return true
}

func (w *world) cordonNode(d *draw) bool {
	return w.changeNode(d, func(n *corev1.Node) string {
		n.Spec.Unschedulable = !n.Spec.Unschedulable
		return fmt.Sprintf("cordoned: %v", n.Spec.Unschedulable)
	})
}

// flapNode makes a node not ready, and ready again.
func (w *world) flapNode(d *draw) bool {
	return w.changeNode(d, func(n *corev1.Node) string {
		n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}}
		uid := n.UID
		w.in(d.between(5*time.Millisecond, 8*time.Second), nil, func() {
			if now := w.server.node(n.Name); now != nil && now.UID == uid && len(now.Spec.Taints) > 0 {
				m := *now
				m.Spec.Taints = nil
				w.say("node %s is ready", uid)
				w.server.put(nodeKind, &m)
			}
		})
		return "not ready"
	})
}

func (w *world) resizeNode(d *draw) bool {
	return w.changeNode(d, func(n *corev1.Node) string {
		w.touched[n.Name] = true
		setSize(n, of(d, int64(1000), 2000, 3000, 5000))
		return fmt.Sprintf("of size %v", n.Status.Allocatable.Cpu())
	})
}

func (w *world) changeBudget(d *draw) bool {
	app := of(d, "web", "api", "db")
	if o, _ := w.server.find(budgetKind, app); o != nil && d.in(300) {
		w.say("budget %s is gone", app)
		w.server.remove(budgetKind, app)
		return true
	}
	b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: app}}
	b.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{appLabel: app}}
	b.Status.DisruptionsAllowed = int32(d.below(3))
	w.say("budget %s allows %d", app, b.Status.DisruptionsAllowed)
	w.server.put(budgetKind, b)
	return true
}

// The processes.

func (w *world) gapInWatch(d *draw) bool {
	p, ok := pick(d, w.processes)
	if !ok {
		return false
	}
	i := p.informers[of(d, podKind, podKind, nodeKind, budgetKind)]
	length := d.between(10*time.Millisecond, 3*time.Second)
	w.say("the watch of %s by %s has a gap of %v", i.kind, p, length)
	i.gap(length)
	if i.kind == podKind && d.in(400) && w.plan.Faults.Has(PodDeleted) { // which hides something
		hidden := draw(d.next())
		w.in(d.between(0, min(length, 100*time.Millisecond)), nil, func() { w.deletePod(&hidden) })
	}
	return true
}

func (w *world) stallWatch(d *draw) bool {
	p, ok := pick(d, w.processes)
	if !ok {
		return false
	}
	i := p.informers[d.below(int(kinds))]
	i.stalled = w.now + d.between(100*time.Millisecond, 5*time.Second)
	w.say("the watch of %s by %s stalls until %v", i.kind, p, i.stalled)
	return true
}

func (w *world) crashDecider(d *draw) bool {
	r, _ := pick(d, w.replicas)
	if r.down {
		return false
	}
	w.say("%s crashes", r.name)
	r.down = true
	r.crashes++
	w.decidersChanged(false)
	w.in(d.between(20*time.Millisecond, 4*time.Second), nil, func() {
		if r.down {
			w.say("%s is back", r.name)
			r.down = false
			w.decidersChanged(true)
		}
	})
	return true
}

func (w *world) moveClock(d *draw) bool {
	p, ok := pick(d, w.processes)
	if !ok {
		return false
	}
	f, by := ClockForward, d.between(time.Second, 30*time.Second)
	if d.in(100) {
		by = d.between(time.Minute, 10*time.Minute)
	}
	if d.in(500) {
		f, by = ClockBack, -d.between(time.Second, 20*time.Second)
	}
	// The fence relies on one of two clocks: a machine that sleeps, and whose time is set
	// back as far, has neither.
	if !w.plan.Faults.Has(f) || f == ClockBack && p.slept > 0 {
		return false
	}
	p.setBack = p.setBack || f == ClockBack
	w.tally.Faults[f]++
	w.say("the clock of %s goes %v forward", p, by)
	p.ahead += by
	return true
}

// holder is who has the Lease in a run in which there is one.
func (w *world) holder() *process {
	if p := w.server.lease.holder; p != nil && p.phase != dead {
		return p
	}
	return nil
}

func (w *world) cutLease(d *draw) bool {
	p := w.holder()
	if p == nil {
		return false
	}
	p.cut = w.now + of(d, d.between(time.Second, 10*time.Second), d.between(13*time.Second, 25*time.Second))
	w.say("%s does not reach the Lease until %v", p, p.cut)
	for range 2 { // it is busy when the Lease ends, and so is its successor
		busy := draw(d.next())
		w.in(d.between(6*time.Second, 11*time.Second), nil, func() { w.createPod(&busy) })
		later := draw(d.next())
		w.in(d.between(11*time.Second, 14*time.Second), nil, func() { w.createPod(&later) })
	}
	return true
}

func (w *world) suspendLeader(d *draw) bool {
	p := w.holder()
	if p == nil || p.suspended > w.now || p.setBack {
		return false
	}
	length := d.between(time.Second, 30*time.Second)
	w.say("%s is suspended for %v", p, length)
	p.suspended = w.now + length
	p.slept += length
	return true
}

func (w *world) killLeader(*draw) bool {
	p := w.holder()
	if p == nil {
		return false
	}
	w.say("%s is killed", p)
	p.die()
	return true
}

func (w *world) stopLeader(*draw) bool {
	p := w.holder()
	if p == nil || p.phase != leading {
		return false
	}
	w.say("%s is told to stop", p)
	p.phase = stopping
	p.collect()
	return true
}
