package driver

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// TestLaws runs the driver against a model of a cluster in which everything that
// can happen does, in any order: answers come late or not at all, deciders lie,
// others bind pods too. After each step the laws in check hold; when the faults
// end, every pod that fits is bound. A failure prints its shortest story.
func TestLaws(t *testing.T) {
	// A pod's life alone takes eight steps, and a run takes about a millisecond.
	for name, value := range map[string]string{"rapid.steps": "100", "rapid.checks": "2000"} {
		if f := flag.Lookup(name); f.Value.String() == f.DefValue {
			f.Value.Set(value)
			defer f.Value.Set(f.DefValue)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		t.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) { w.check() },
			"step": func(t *rapid.T) {
				actions := w.possible()
				actions[rapid.IntRange(0, len(actions)-1).Draw(t, "action")]()
			},
		})
		w.settle()
	})
}

// possible are the things that can happen next.
func (w *world) possible() (actions []func()) {
	when := func(possible bool, all ...func()) {
		if possible {
			actions = append(actions, all...)
		}
	}
	when(len(w.podWatch) > 0, w.showPods, w.showPods) // twice, so that it keeps up
	when(len(w.nodeWatch) > 0, w.showNode)
	when(len(w.otherWatch) > 0, w.showOther)
	when(len(w.batches) > 0, w.decideHonestly, w.decideBadly)
	when(w.driver.Unfed(), w.feed)
	when(len(w.binds) > 0, w.bindNow, w.bindWithFault)
	when(len(w.replies) > 0, w.replyNow)
	when(len(w.reads) > 0, w.readNow, w.readFails)
	when(len(w.nominates) > 0, w.nominateNow, w.nominateNow, w.nominateFails)
	when(len(w.evicts) > 0, w.evictNow, w.evictNow, w.evictWithFault)
	when(len(w.evicted) > 0, w.hearOfEviction)
	when(len(w.pods) < maxPods, w.createPod)
	when(len(w.pods) > 0, w.changePod, w.deletePod)
	when(len(w.nodes) < len(nodeNames), w.createNode)
	when(len(w.nodes) > 0, w.changeNode, w.deleteNode)
	when(true, w.changeService, w.changeNamespace, w.signal)
	when(len(w.nodes) > 0 && len(w.names(unassigned)) > 0, w.foreignBind)
	when(true, w.wait)
	return actions
}

const maxBatch, maxBinding, maxPods = 3, 2, 7

var nodeNames = []string{"a", "b", "c"}

// world is an API server, its watch, deciders, and a driver between them.
type world struct {
	t      *rapid.T
	story  []string
	driver *Driver
	now    time.Time
	uids   int

	// What is true. An object is replaced, never changed.
	pods  map[string]*corev1.Pod // by name
	nodes map[string]*corev1.Node
	// services are the values of the label app that they select, by name. The one
	// namespace is open if it exists and is labelled so.
	services map[string]string
	open     bool
	// touched are nodes whose room others took or shrank: there, and there alone, our
	// bindings may come to more than fits.
	touched map[string]bool

	// What the driver was told, and what it will be told, in order per kind.
	seen                map[types.UID]*corev1.Pod
	podWatch, nodeWatch []Event
	otherWatch          []Event             // of services and the namespace
	signals             map[string]reported // by node, of those announced

	// What the driver wants done.
	batches   []*Batch
	binds     []Bind     // not at the API server yet
	replies   []BindDone // of bindings that have had their effect or never will
	reads     []Read
	nominates []Nominate
	evicts    []Evict
	evicted   []EvictDone        // of evictions that have had their effect or never will
	ours      map[types.UID]bool // were bound by the driver, from an honest answer, and not relabelled since
	doomed    map[types.UID]bool // were evicted
	wake      time.Time
	odd       bool // a decider has placed pods where others repel them
	lied      bool // a pod was rejected that may fit
	// asked is the request that was answered last.
	asked map[string]*berthv1.Pod
	// fed is the state as a decider knows it that was fed: as of the last batch, or later.
	fed *berthv1.Snapshot
}

// reported are the signals of one incarnation of a node.
type reported struct {
	uid     types.UID
	signals map[string]int64
}

func newWorld(t *rapid.T) *world {
	w := &world{
		t:      t,
		driver: New(Config{Deciders: map[string]int{"berth": 2}, Seed: 1, MaxBatch: maxBatch, MaxBinding: maxBinding, MaxSent: 2}),
		now:    start, pods: map[string]*corev1.Pod{}, nodes: map[string]*corev1.Node{}, touched: map[string]bool{},
		seen: map[types.UID]*corev1.Pod{}, services: map[string]string{}, signals: map[string]reported{},
		fed: &berthv1.Snapshot{Epoch: "e"}, doomed: map[types.UID]bool{}, ours: map[types.UID]bool{}, asked: map[string]*berthv1.Pod{},
	}
	w.driver.Step(w.now, Leads{"e"})
	w.driver.Step(w.now, CapacityChanged{map[string]int{"berth": 2}})
	return w
}

// The API server.

func (w *world) uid(name string) string { w.uids++; return fmt.Sprintf("%s-%d", name, w.uids) }

func (w *world) setPod(p *corev1.Pod) {
	w.pods[p.Name] = p
	w.podWatch = append(w.podWatch, PodChanged{p})
}

func (w *world) createPod() {
	name := ""
	for i := 0; name == "" || w.pods[name] != nil; i++ {
		name = fmt.Sprintf("p%d", i) // the first free name, so that names are used again
	}
	p := newPod(name, w.uid(name), rapid.SampledFrom([]string{"1", "2", "3"}).Draw(w.t, "cpu"))
	if priority := rapid.SampledFrom([]int32{0, 0, 5, 9}).Draw(w.t, "priority"); priority > 0 {
		p.Spec.Priority = &priority
	}
	if rapid.IntRange(0, 4).Draw(w.t, "repels") == 0 {
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, TopologyKey: corev1.LabelHostname}}}}
	}
	if rapid.IntRange(0, 4).Draw(w.t, "gated") == 0 {
		p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "gate"}}
	}
	p.Labels = map[string]string{
		"app":   rapid.SampledFrom([]string{"web", "api"}).Draw(w.t, "app"),
		"wants": rapid.SampledFrom([]string{"", "", "service", "namespace"}).Draw(w.t, "wants"),
	}
	w.say("%s is created, gated=%v, labels=%v", p.UID, len(p.Spec.SchedulingGates) > 0, p.Labels)
	w.setPod(p)
}

func (w *world) changePod() {
	p := w.anyPod(everyPod).DeepCopy()
	if len(p.Spec.SchedulingGates) > 0 {
		p.Spec.SchedulingGates = nil
	} else if rapid.IntRange(0, 2).Draw(w.t, "nominated") == 0 {
		p.Status.NominatedNodeName = rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(w.t, "node")
	} else {
		p.Labels["changed"] = w.uid("")
		delete(w.ours, p.UID)
		p.Labels["app"] = rapid.SampledFrom([]string{"web", "api"}).Draw(w.t, "app")
	}
	w.say("%s is changed, labels=%v", p.UID, p.Labels)
	w.setPod(p)
}

// deletePod marks a pod for deletion, and removes it if it has no node or was
// marked before.
func (w *world) deletePod() {
	p := w.anyPod(everyPod)
	if p.DeletionTimestamp == nil && rapid.Bool().Draw(w.t, "gracefully") {
		p = p.DeepCopy()
		p.DeletionTimestamp = &metav1.Time{Time: w.now}
		w.say("%s is marked for deletion", p.UID)
		w.setPod(p)
		return
	}
	w.say("%s is gone", p.UID)
	delete(w.pods, p.Name)
	w.podWatch = append(w.podWatch, PodGone{p})
}

func (w *world) setNode(name, uid, cpu string, cordoned bool) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(uid)}}
	n.Spec.Unschedulable = cordoned
	n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourcePods: resource.MustParse("110")}
	w.nodes[name] = n
	w.nodeWatch = append(w.nodeWatch, NodeChanged{n})
}

func (w *world) createNode() {
	free := slices.DeleteFunc(slices.Clone(nodeNames), func(name string) bool { return w.nodes[name] != nil })
	name := rapid.SampledFrom(free).Draw(w.t, "name")
	uid := w.uid(name)
	w.say("node %s is created", uid)
	w.setNode(name, uid, rapid.SampledFrom([]string{"2", "4"}).Draw(w.t, "cpu"), false)
}

func (w *world) changeNode() {
	n := w.anyNode()
	cpu, cordoned := rapid.SampledFrom([]string{"1", "3", "5"}).Draw(w.t, "cpu"), rapid.Bool().Draw(w.t, "cordoned")
	w.say("node %s has cpu=%s cordoned=%v", n.UID, cpu, cordoned)
	w.touched[n.Name] = true
	w.setNode(n.Name, string(n.UID), cpu, cordoned)
}

func (w *world) deleteNode() {
	n := w.anyNode()
	w.say("node %s is gone", n.UID)
	w.touched[n.Name] = true
	delete(w.nodes, n.Name)
	w.nodeWatch = append(w.nodeWatch, NodeGone{n})
}

func (w *world) foreignBind() {
	p, n := w.anyPod(unassigned).DeepCopy(), w.anyNode()
	w.say("%s is bound to %s by somebody else", p.UID, n.Name)
	w.touched[n.Name] = true
	p.Spec.NodeName = n.Name
	w.setPod(p)
}

func (w *world) changeService() {
	name := rapid.SampledFrom([]string{"s0", "s1"}).Draw(w.t, "service")
	app := rapid.SampledFrom([]string{"", "web", "api"}).Draw(w.t, "app")
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	w.say("service %s selects %q", name, app)
	if app == "" {
		delete(w.services, name)
		w.otherWatch = append(w.otherWatch, WorkloadGone{s})
		return
	}
	s.Spec.Selector = map[string]string{"app": app}
	w.services[name] = app
	w.otherWatch = append(w.otherWatch, WorkloadChanged{s})
}

func (w *world) changeNamespace() {
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}}
	how := rapid.SampledFrom([]string{"gone", "closed", "open"}).Draw(w.t, "how")
	w.say("the namespace is %s", how)
	w.open = how == "open"
	if how == "gone" {
		w.otherWatch = append(w.otherWatch, NamespaceGone{n})
		return
	}
	n.Labels = map[string]string{"is": how}
	w.otherWatch = append(w.otherWatch, NamespaceChanged{n})
}

// bindAtServer is the API server's side of a Binding: any node will do, but the
// pod must be this very one, ungated, and without a node.
func (w *world) bindAtServer(b Bind) BindOutcome {
	p := w.pods[b.Pod.Name]
	switch {
	case p == nil:
		return BindGone
	case p.UID != b.Pod.UID, p.Spec.NodeName != "", !eligible(p):
		return BindConflict
	}
	p = p.DeepCopy()
	p.Spec.NodeName = b.Node
	w.setPod(p)
	return BindOK
}

// What happens to the driver's work.

func (w *world) bindNow() {
	b := pick(w.t, &w.binds)
	o := w.bindAtServer(b)
	w.say("binding %s to %s: %v", b.Pod.UID, b.Node, o)
	w.replies = append(w.replies, BindDone{UID: b.Pod.UID, Outcome: o})
}

func (w *world) bindWithFault() {
	b := pick(w.t, &w.binds)
	o := rapid.SampledFrom([]BindOutcome{BindUnknown, BindRefused, BindNotSent}).Draw(w.t, "outcome")
	happened := o == BindUnknown && rapid.Bool().Draw(w.t, "happened") && w.bindAtServer(b) == BindOK
	w.say("binding %s to %s: %v, happened=%v", b.Pod.UID, b.Node, o, happened)
	w.replies = append(w.replies, BindDone{UID: b.Pod.UID, Outcome: o, Message: o.String()})
}

func (w *world) replyNow() {
	r := pick(w.t, &w.replies)
	w.say("the driver hears that binding %s is %v", r.UID, r.Outcome)
	w.step(r)
}

func (w *world) readNow() {
	r := pick(w.t, &w.reads)
	done := ReadDone{UID: r.UID}
	if p := w.pods[r.Name]; p != nil && p.UID == r.UID {
		done.Pod = p
	}
	w.say("reading %s finds it: %v", r.UID, done.Pod != nil)
	w.step(done)
}

func (w *world) readFails() {
	r := pick(w.t, &w.reads)
	w.say("reading %s fails", r.UID)
	w.step(ReadDone{UID: r.UID, Err: errors.New("timeout")})
}

// nominateNow writes what the driver wants a pod to be nominated for.
func (w *world) nominateNow() {
	n := pick(w.t, &w.nominates)
	done := NominateDone{UID: n.Pod.UID}
	if p := w.pods[n.Pod.Name]; p == nil || p.UID != n.Pod.UID {
		done.Err = errors.New("not found")
	} else if p.Status.NominatedNodeName != n.Node {
		p = p.DeepCopy()
		p.Status.NominatedNodeName = n.Node
		w.setPod(p)
	}
	w.say("%s is nominated for %q: %v", n.Pod.UID, n.Node, done.Err)
	w.step(done)
}

func (w *world) nominateFails() {
	n := pick(w.t, &w.nominates)
	w.say("nominating %s for %q fails", n.Pod.UID, n.Node)
	w.step(NominateDone{UID: n.Pod.UID, Err: errors.New("timeout")})
}

// evictAtServer marks a pod for deletion.
func (w *world) evictAtServer(e Evict) EvictOutcome {
	p := w.pods[e.Victim.Name]
	if p == nil || p.UID != e.Victim.UID {
		return EvictGone
	}
	w.doomed[p.UID] = true
	if p.DeletionTimestamp == nil {
		p = p.DeepCopy()
		p.DeletionTimestamp = &metav1.Time{Time: w.now}
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler})
		w.setPod(p)
	}
	return EvictOK
}

func (w *world) evictNow() {
	e := pick(w.t, &w.evicts)
	o := w.evictAtServer(e)
	w.say("evicting %s for %s: %v", e.Victim.UID, e.By.UID, o)
	w.evicted = append(w.evicted, EvictDone{UID: e.Victim.UID, Outcome: o})
}

func (w *world) evictWithFault() {
	e := pick(w.t, &w.evicts)
	o := rapid.SampledFrom([]EvictOutcome{EvictUnknown, EvictRefused, EvictNotSent}).Draw(w.t, "outcome")
	happened := o == EvictUnknown && rapid.Bool().Draw(w.t, "happened") && w.evictAtServer(e) == EvictOK
	w.say("evicting %s for %s: %v, happened=%v", e.Victim.UID, e.By.UID, o, happened)
	w.evicted = append(w.evicted, EvictDone{UID: e.Victim.UID, Outcome: o})
}

func (w *world) hearOfEviction() {
	done := pick(w.t, &w.evicted)
	w.say("the driver hears that evicting %s is %v", done.UID, done.Outcome)
	w.step(done)
}

func (w *world) wait() {
	d := time.Duration(rapid.SampledFrom([]int{1, 100, 1000, 11000}).Draw(w.t, "ms")) * time.Millisecond
	w.now = w.now.Add(d)
	w.say("%v later", d)
	w.step(nil)
}

// showPods lets the watch show some changes before the driver is asked for work.
func (w *world) showPods() {
	for range rapid.IntRange(1, 3).Draw(w.t, "changes") {
		if len(w.podWatch) > 0 {
			w.driver.Step(w.now, w.nextOfPods())
		}
	}
	w.collect()
}

func (w *world) nextOfPods() Event {
	ev := w.podWatch[0]
	w.podWatch = w.podWatch[1:]
	switch ev := ev.(type) {
	case PodChanged:
		w.say("the watch shows %s on %q", ev.Pod.UID, ev.Pod.Spec.NodeName)
		w.seen[ev.Pod.UID] = ev.Pod
	case PodGone:
		w.say("the watch shows that %s is gone", ev.Pod.UID)
		delete(w.seen, ev.Pod.UID)
	}
	return ev
}

func (w *world) showNode() {
	ev := w.nodeWatch[0]
	w.nodeWatch = w.nodeWatch[1:]
	w.say("the watch shows node %T", ev)
	switch ev := ev.(type) {
	case NodeChanged:
		if w.signals[ev.Node.Name].uid != ev.Node.UID {
			w.signals[ev.Node.Name] = reported{uid: ev.Node.UID}
		}
	case NodeGone:
		delete(w.signals, ev.Node.Name)
	}
	w.step(ev)
}

func (w *world) showOther() {
	ev := w.otherWatch[0]
	w.otherWatch = w.otherWatch[1:]
	w.say("the watch shows %T", ev)
	w.step(ev)
}

// signal tells the driver of a node's signals, which no pod and no decision may notice.
func (w *world) signal() {
	ev := SignalsChanged{Node: rapid.SampledFrom(nodeNames).Draw(w.t, "node")}
	if load := rapid.Int64Range(0, 2).Draw(w.t, "load"); load > 0 {
		ev.Signals = map[string]int64{"load": load}
	}
	w.say("node %s has signals %v", ev.Node, ev.Signals)
	if r, ok := w.signals[ev.Node]; ok {
		w.signals[ev.Node] = reported{r.uid, ev.Signals}
	}
	before, version := w.driver.Stats(), w.driver.ledger.Version()
	w.driver.Step(w.now, ev)
	if after := w.driver.Stats(); !reflect.DeepEqual(before, after) {
		w.fail("signals changed what waits: %+v became %+v", before, after)
	}
	if w.driver.ledger.ChangedSince(ev.Node, version) {
		w.fail("signals outdate decisions for %s", ev.Node)
	}
	w.collect()
}

// feed tells the deciders that are fed what has changed, which then is all that is.
func (w *world) feed() {
	f := w.driver.Feed()
	if f.From != w.fed.GetVersion() {
		w.fail("deciders hold version %d and are told what changed since %d", w.fed.GetVersion(), f.From)
	}
	w.fed = changed(w.fed, f.Changes)
	w.fed.Version = f.Version
	w.say("deciders are fed version %d", f.Version)
	if now := w.driver.State().Snapshot; !proto.Equal(w.fed, now) {
		w.fail("the changes lead to %v; the state is %v", w.fed, now)
	}
}

// changed is a state after changes, records in the order of their keys.
func changed(s *berthv1.Snapshot, c *berthv1.Changes) *berthv1.Snapshot {
	var budgets []string
	for _, b := range c.GetRemovedDisruptionBudgets() {
		budgets = append(budgets, b.GetNamespace()+"/"+b.GetName())
	}
	return &berthv1.Snapshot{
		Epoch:             s.GetEpoch(),
		Nodes:             replaced(s.GetNodes(), c.GetNodes(), c.GetRemovedNodes(), (*berthv1.Node).GetName),
		PlacedPods:        replaced(s.GetPlacedPods(), c.GetPlacedPods(), c.GetRemovedPlacedPods(), (*berthv1.PlacedPod).GetUid),
		Namespaces:        replaced(s.GetNamespaces(), c.GetNamespaces(), c.GetRemovedNamespaces(), (*berthv1.Namespace).GetName),
		DisruptionBudgets: replaced(s.GetDisruptionBudgets(), c.GetDisruptionBudgets(), budgets, func(b *berthv1.DisruptionBudget) string { return b.GetNamespace() + "/" + b.GetName() }),
	}
}

func replaced[R any](records, now []R, removed []string, key func(R) string) []R {
	all := map[string]R{}
	for _, r := range records {
		all[key(r)] = r
	}
	for _, k := range removed {
		delete(all, k)
	}
	for _, r := range now {
		all[key(r)] = r
	}
	var out []R
	for _, k := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[k])
	}
	return out
}

// decideHonestly answers with the first node that has room.
func (w *world) decideHonestly() {
	b, r := w.outstanding()
	w.say("batch %d is decided at version %d", b.ID, r.GetSnapshot().GetVersion())
	w.step(Decided{Batch: b.ID, Decider: "honest", Response: firstFit(r)})
}

// firstFit does not touch the room that is set aside for others, and gives no room to a
// pod that does not have what it wants.
func firstFit(r *berthv1.DecideRequest) *berthv1.DecideResponse {
	used := map[string]int64{}
	aside := map[string]*berthv1.PlacedPod{}
	on := map[string][]*berthv1.PlacedPod{}
	for _, p := range r.GetSnapshot().GetPlacedPods() {
		used[p.GetNodeName()] += p.GetRequests()["cpu"]
		if p.GetNominated() {
			aside[p.GetUid()] = p
		}
		on[p.GetNodeName()] = append(on[p.GetNodeName()], p)
	}
	response := &berthv1.DecideResponse{Epoch: r.GetSnapshot().GetEpoch(), Version: r.GetSnapshot().GetVersion()}
	for _, p := range r.GetPods() {
		if !granted(r, p) {
			response.Decisions = append(response.Decisions, rejectUngranted(p))
			continue
		}
		if own := aside[p.GetUid()]; own != nil {
			used[own.GetNodeName()] -= own.GetRequests()["cpu"]
		}
		d := reject(r, p)
		for _, n := range r.GetSnapshot().GetNodes() {
			if want := p.GetRequests()["cpu"]; !n.GetUnschedulable() && used[n.GetName()]+want <= n.GetAllocatable()["cpu"] && !repels(p, on[n.GetName()]) {
				used[n.GetName()] += want
				if own := aside[p.GetUid()]; own != nil {
					on[own.GetNodeName()] = slices.DeleteFunc(on[own.GetNodeName()], func(q *berthv1.PlacedPod) bool { return q == own })
				}
				on[n.GetName()] = append(on[n.GetName()], &berthv1.PlacedPod{Labels: p.GetLabels(), PodAntiAffinity: p.GetPodAntiAffinity()})
				d = place(p, n.GetName(), n.GetUid())
				break
			}
		}
		if d.GetOutcome() == berthv1.Outcome_OUTCOME_REJECTED && r.GetPreempt() {
			preempt(r, p, d, on)
		}
		if own := aside[p.GetUid()]; own != nil && d.GetOutcome() == berthv1.Outcome_OUTCOME_REJECTED {
			used[own.GetNodeName()] += own.GetRequests()["cpu"]
		}
		response.Decisions = append(response.Decisions, d)
	}
	return response
}

// repels says whether the pod and one of those on a node must not be on one node.
func repels(p *berthv1.Pod, on []*berthv1.PlacedPod) bool {
	return slices.ContainsFunc(on, func(q *berthv1.PlacedPod) bool {
		return q.GetUid() != p.GetUid() && (len(p.GetPodAntiAffinity().GetRequired()) > 0 && q.GetLabels()["app"] == "web" ||
			len(q.GetPodAntiAffinity().GetRequired()) > 0 && p.GetLabels()["app"] == "web")
	})
}

// preempt adds to a rejection the first node that has room without the pods of lower
// priority, all of which are to leave; or says that there is none.
func preempt(r *berthv1.DecideRequest, p *berthv1.Pod, d *berthv1.Decision, on map[string][]*berthv1.PlacedPod) {
	for _, n := range r.GetSnapshot().GetNodes() {
		var kept []*berthv1.PlacedPod
		var victims []*berthv1.Victim
		room := n.GetAllocatable()["cpu"] - p.GetRequests()["cpu"]
		for _, q := range on[n.GetName()] {
			switch {
			case q.GetUid() == p.GetUid():
			case q.GetUid() != "" && !q.GetNominated() && q.GetPriority() < p.GetPriority():
				if q.GetTerminating() && p.GetNominatedNodeName() == n.GetName() {
					d.Rejection.Preemption = "not eligible due to a terminating pod on the nominated node."
					return
				}
				victims = append(victims, &berthv1.Victim{Uid: q.GetUid(), Namespace: q.GetNamespace(), Name: q.GetName()})
			default:
				kept = append(kept, q)
				room -= q.GetRequests()["cpu"]
			}
		}
		if len(victims) > 0 && room >= 0 && !n.GetUnschedulable() && !repels(p, kept) {
			d.Preemption = &berthv1.Preemption{NodeName: n.GetName(), NodeUid: n.GetUid(), Victims: victims}
			return
		}
	}
	d.Rejection.Preemption = "no preemption victims found"
}

// granted says whether the pod has what its label says that it wants: to belong to a
// service, or that its namespace is open.
func granted(r *berthv1.DecideRequest, p *berthv1.Pod) bool {
	switch p.GetLabels()["wants"] {
	case "service":
		return p.GetSpreadSelector() != nil
	case "namespace":
		return slices.ContainsFunc(r.GetSnapshot().GetNamespaces(), func(n *berthv1.Namespace) bool { return n.GetLabels()["is"] == "open" })
	}
	return true
}

// rejectUngranted waits for the namespace. No condition can name a service, which is
// part of the pod.
func rejectUngranted(p *berthv1.Pod) *berthv1.Decision {
	return &berthv1.Decision{PodUid: p.GetUid(), Outcome: berthv1.Outcome_OUTCOME_REJECTED,
		Rejection: &berthv1.Rejection{Message: "not granted", WakeConditions: []*berthv1.WakeCondition{{
			Object:  berthv1.ObjectKind_OBJECT_KIND_NAMESPACE,
			Changes: []berthv1.ChangeKind{berthv1.ChangeKind_CHANGE_KIND_ADDED, berthv1.ChangeKind_CHANGE_KIND_UPDATED},
		}}}}
}

// reject says no more than is worth another try: a node, or room on one that is not
// cordoned.
func reject(r *berthv1.DecideRequest, p *berthv1.Pod) *berthv1.Decision {
	room := &berthv1.WakeCondition{
		Object:  berthv1.ObjectKind_OBJECT_KIND_PLACED_POD,
		Changes: []berthv1.ChangeKind{berthv1.ChangeKind_CHANGE_KIND_UPDATED, berthv1.ChangeKind_CHANGE_KIND_DELETED},
		Free:    p.GetRequests(),
	}
	for _, n := range r.GetSnapshot().GetNodes() {
		if !n.GetUnschedulable() {
			room.NodeNames = append(room.NodeNames, n.GetName())
		}
	}
	conditions := []*berthv1.WakeCondition{{
		Object:  berthv1.ObjectKind_OBJECT_KIND_NODE,
		Changes: []berthv1.ChangeKind{berthv1.ChangeKind_CHANGE_KIND_ADDED, berthv1.ChangeKind_CHANGE_KIND_UPDATED},
	}}
	if len(room.NodeNames) > 0 { // no names are any node
		conditions = append(conditions, room)
	}
	return &berthv1.Decision{PodUid: p.GetUid(), Outcome: berthv1.Outcome_OUTCOME_REJECTED,
		Rejection: &berthv1.Rejection{Message: "full", WakeConditions: conditions}}
}

func place(p *berthv1.Pod, node, uid string) *berthv1.Decision {
	return &berthv1.Decision{PodUid: p.GetUid(), Outcome: berthv1.Outcome_OUTCOME_PLACED,
		Candidates: []*berthv1.Candidate{{NodeName: node, NodeUid: uid}}}
}

// decideBadly answers nothing, too little, or what is not so.
func (w *world) decideBadly() {
	b, r := w.outstanding()
	ev := Decided{Batch: b.ID, Decider: "bad", Response: firstFit(r)}
	how := rapid.SampledFrom([]string{"lost", "failed", "short", "empty", "lies", "epoch", "past", "future"}).Draw(w.t, "how")
	w.say("batch %d: the decider is bad: %s", b.ID, how)
	switch all := ev.Response.Decisions; how {
	case "lost":
		ev.Response, ev.Err = nil, ErrNoDecider
	case "failed":
		ev.Response, ev.Err = nil, errors.New("internal")
	case "short":
		ev.Response.Decisions = all[1:]
	case "empty":
		ev.Response = nil
	case "epoch":
		ev.Response.Epoch = "another"
	case "past":
		ev.Response.Version = b.Version - 1
	case "future":
		ev.Response.Version = w.driver.ledger.Version() + 1
	case "lies":
		nodes := r.GetSnapshot().GetNodes()
		for i, p := range b.Request.GetPods() {
			switch lie := rapid.SampledFrom([]string{"not decided", "unknown node", "any node", "no node", "unsupported", "victims", "honest"}).Draw(w.t, "lie"); lie {
			case "victims": // whoever it is
				w.lied = true
				all[i] = reject(r, p)
				var victims []*berthv1.Victim
				for _, q := range r.GetSnapshot().GetPlacedPods() {
					victims = append(victims, &berthv1.Victim{Uid: q.GetUid(), Namespace: q.GetNamespace(), Name: q.GetName()})
				}
				if len(nodes) > 0 {
					n := rapid.SampledFrom(nodes).Draw(w.t, "node")
					all[i].Preemption = &berthv1.Preemption{NodeName: n.GetName(), NodeUid: n.GetUid(), Victims: victims}
				}
			case "not decided":
				all[i] = &berthv1.Decision{PodUid: p.GetUid(), Outcome: berthv1.Outcome_OUTCOME_NOT_DECIDED}
			case "unknown node":
				all[i] = place(p, "z", "z-uid")
			case "any node": // full, cordoned or gone for all it knows
				if len(nodes) > 0 {
					w.odd = true
					n := rapid.SampledFrom(nodes).Draw(w.t, "node")
					all[i] = place(p, n.GetName(), n.GetUid())
				}
			case "no node":
				all[i] = &berthv1.Decision{PodUid: p.GetUid(), Outcome: berthv1.Outcome_OUTCOME_PLACED}
			case "unsupported":
				w.lied = true
				all[i] = &berthv1.Decision{PodUid: p.GetUid(), Outcome: berthv1.Outcome_OUTCOME_UNSUPPORTED, Refusal: &berthv1.Refusal{Constraint: "Odd"}}
			}
		}
	}
	w.step(ev)
}

// step tells the driver and takes its work.
func (w *world) step(ev Event) {
	before := len(w.driver.promised)
	w.driver.Step(w.now, ev)
	for _, b := range w.driver.promised[before:] {
		if !proto.Equal(w.asked[string(b.Pod.UID)].GetSpreadSelector(), w.driver.ledger.SpreadSelector(b.Pod)) {
			w.fail("%s is promised %s, and belongs to others than those it was decided with", b.Pod.UID, b.Node)
		}
	}
	w.collect()
}

// collect takes work and checks what holds at the moment it is handed out.
func (w *world) collect() {
	r := w.driver.Ready()
	w.wake = r.Wake
	for _, b := range r.Decide {
		w.batches = append(w.batches, b)
		if len(w.batches) > 2 {
			w.fail("batch %d is one too many", b.ID)
		}
		if w.driver.Unfed() {
			w.feed()
		}
		if w.fed.GetVersion() != b.Version || w.fed.GetEpoch() != b.Epoch {
			w.fail("batch %d is for version %d; deciders are fed %d", b.ID, b.Version, w.fed.GetVersion())
		}
		for _, n := range w.fed.GetNodes() {
			if want := w.signals[n.GetName()].signals; !maps.Equal(n.GetSignals(), want) {
				w.fail("node %s is sent with signals %v; they are %v", n.GetName(), n.GetSignals(), want)
			}
		}
		for _, p := range b.Request.GetPods() {
			w.asked[p.GetUid()] = p
			if seen := w.seen[types.UID(p.GetUid())]; seen == nil || !eligible(seen) {
				w.fail("%s is handed out for a decision although it is gone, gated or being deleted", p.GetUid())
			}
		}
	}
	if len(w.underWay())+len(w.evicts)+len(w.evicted) >= 2 && len(r.Bind) > 0 {
		w.fail("bindings are handed out beside %v", w.underWay())
	}
	for _, b := range r.Bind {
		w.say("the driver binds %s to %s", b.Pod.UID, b.Node)
		if node, assumed, _ := w.driver.ledger.Holds(b.Pod.UID); !assumed || node != b.Node {
			w.fail("%s is to be bound to %s, which is not promised to it", b.Pod.UID, b.Node)
		}
		if slices.Contains(w.underWay(), b.Pod.UID) {
			w.fail("%s is to be bound while a binding of it is under way", b.Pod.UID)
		}
		node, usage := w.driver.ledger.Node(b.Node)
		if node == nil || usage.Requested["cpu"] > node.Status.Allocatable.Cpu().MilliValue() {
			w.fail("%s is to be bound to %s, which has no room for it", b.Pod.UID, b.Node)
		}
		w.keepsApart(b)
		w.binds = append(w.binds, b)
	}
	w.reads = append(w.reads, r.Read...)
	for _, n := range r.Nominate {
		w.say("the driver nominates %s for %q", n.Pod.UID, n.Node)
		w.nominates = append(w.nominates, n)
	}
	evicting := map[string]types.UID{}
	for _, e := range r.Evict {
		w.say("the driver evicts %s from %s for %s", e.Victim.UID, e.Node, e.By.UID)
		record := w.driver.ledger.Record(e.Victim.UID)
		if record == nil || record.GetNodeName() != e.Node || record.GetPriority() >= *e.By.Spec.Priority {
			w.fail("%s, which is %v, is to be evicted from %s for %s of priority %d", e.Victim.UID, record, e.Node, e.By.UID, *e.By.Spec.Priority)
		}
		if w.doomed[e.Victim.UID] && record.GetTerminating() {
			w.fail("%s is to be evicted again", e.Victim.UID)
		}
		if by, ok := evicting[e.Node]; ok && by != e.By.UID {
			w.fail("two preemptions on %s, for %s and for %s", e.Node, by, e.By.UID)
		}
		evicting[e.Node] = e.By.UID
		w.evicts = append(w.evicts, e)
	}
}

// keepsApart checks that no pod is bound to where one repels it, as far as the ledger
// knows and the pods were not relabelled since.
func (w *world) keepsApart(b Bind) {
	record := w.driver.ledger.Record(b.Pod.UID)
	var on []*berthv1.PlacedPod
	for _, q := range w.driver.State().Snapshot.GetPlacedPods() {
		if q.GetNodeName() == b.Node && q.GetUid() != record.GetUid() && !q.GetNominated() && w.ours[types.UID(q.GetUid())] {
			on = append(on, q)
		}
	}
	if w.ours[b.Pod.UID] = !w.odd; !w.odd && repels(&berthv1.Pod{Uid: record.GetUid(), Labels: record.GetLabels(), PodAntiAffinity: record.GetPodAntiAffinity()}, on) {
		w.fail("%s is to be bound to %s, where a pod keeps it out", b.Pod.UID, b.Node)
	}
}

// underWay are the pods with a binding of which the driver has not heard.
func (w *world) underWay() (uids []types.UID) {
	for _, b := range w.binds {
		uids = append(uids, b.Pod.UID)
	}
	for _, r := range w.replies {
		uids = append(uids, r.UID)
	}
	return uids
}

// check is the laws.
func (w *world) check() {
	d := w.driver
	for uid, p := range d.pods {
		e := d.queue.Get(uid)
		if e == nil || (e.State().String() == "out") != (p.phase != queued) {
			w.fail("%s is %v, and in the queue: %v", uid, p.phase, e)
		}
		if _, assumed, holds := d.ledger.Holds(uid); holds != (p.phase >= binding) || assumed != holds {
			w.fail("%s is %v, and in the ledger: %v, assumed: %v", uid, p.phase, holds, assumed)
		}
		if !p.withdrawn && !proto.Equal(p.record.GetSpreadSelector(), d.ledger.SpreadSelector(p.object)) {
			w.fail("%s has the spread selector %v; it is %v by now", uid, p.record.GetSpreadSelector(), d.ledger.SpreadSelector(p.object))
		}
		if p.phase == deciding && (d.outstanding[p.batch.ID] != p.batch || !slices.ContainsFunc(p.batch.Request.GetPods(),
			func(r *berthv1.Pod) bool { return r.GetUid() == string(uid) })) {
			w.fail("%s waits for a decision that nobody was asked for", uid)
		}
		if p.phase == binding && p.promised == 0 && !slices.Contains(w.underWay(), uid) {
			w.fail("%s waits for a binding that nobody was asked for", uid)
		}
		if p.phase == queued && d.gated[uid] {
			w.fail("%s is queued and gated", uid)
		}
	}
	for uid, p := range w.seen {
		node, assumed, holds := d.ledger.Holds(uid)
		switch { // what an answer told before the watch is no loss
		case p.Spec.NodeName != "" && (node != p.Spec.NodeName || assumed || d.pods[uid] != nil):
			w.fail("%s was seen on %s; the ledger says %q, assumed: %v", uid, p.Spec.NodeName, node, assumed)
		case unassigned(p) && d.pods[uid] == nil && !holds && w.waits(p):
			w.fail("%s is lost", uid)
		}
	}
	if len(d.outstanding) != len(w.batches) {
		w.fail("the driver waits for %d decisions; %d were asked for", len(d.outstanding), len(w.batches))
	}
	if n := len(w.underWay()); n >= maxBinding+2*maxBatch {
		w.fail("%d bindings are under way, of at most %d", n, maxBinding+2*maxBatch-1)
	}
	w.checkPreemptions()
	if len(w.underWay()) > 0 && d.Settled() {
		w.fail("the driver is settled while bindings are under way: %v", w.underWay())
	}
	for name, n := range w.nodes {
		if used := w.used(name); used > n.Status.Allocatable.Cpu().MilliValue() && !w.touched[name] {
			w.fail("node %s holds %dm of %v, and nobody else touched it", name, used, n.Status.Allocatable.Cpu())
		}
	}
}

// checkPreemptions is what holds of those that are carried out.
func (w *world) checkPreemptions() {
	all := &w.driver.preemptions
	nodes := 0
	for uid, pr := range all.by {
		p := w.driver.pods[uid]
		if p == nil || p != pr.by || p.phase != queued && p.phase != deciding {
			w.fail("room is made for %s, which does not wait", uid)
		}
		if all.nodes[pr.node] != pr {
			w.fail("two preemptions on %s", pr.node)
		}
		nodes++
		if len(pr.victims) == 0 {
			w.fail("%s waits for nobody to leave", uid)
		}
		for victim := range pr.victims {
			if all.victims[victim] != pr {
				w.fail("%s is a victim of two", victim)
			}
			if w.driver.ledger.Record(victim) == nil {
				w.fail("%s waits for %s to leave, which has left", uid, victim)
			}
		}
	}
	if nodes != len(all.nodes) {
		w.fail("%d preemptions on %d nodes", nodes, len(all.nodes))
	}
	for uid, a := range all.asked {
		if !a.unheard && w.driver.ledger.Record(uid) == nil {
			w.fail("%s was asked to leave and has left, and is not forgotten", uid)
		}
	}
}

// settle ends the faults, and gives the driver a minute.
func (w *world) settle() {
	w.say("the faults end")
	if w.lied { // what was turned down for a lie waits for another decider
		w.step(DecidersChanged{})
	}
	for end := w.now.Add(time.Minute); ; {
		w.check()
		switch {
		case len(w.nodeWatch) > 0:
			w.showNode()
		case len(w.otherWatch) > 0:
			w.showOther()
		case len(w.podWatch) > 0:
			w.step(w.nextOfPods())
		case len(w.batches) > 0:
			w.decideHonestly()
		case len(w.binds) > 0:
			w.bindNow()
		case len(w.replies) > 0:
			w.replyNow()
		case len(w.reads) > 0:
			w.readNow()
		case len(w.nominates) > 0:
			w.nominateNow()
		case len(w.evicts) > 0:
			w.evictNow()
		case len(w.evicted) > 0:
			w.hearOfEviction()
		case w.anyDoomed() != nil: // has had its time
			p := w.anyDoomed()
			w.say("%s is gone", p.UID)
			delete(w.pods, p.Name)
			w.podWatch = append(w.podWatch, PodGone{p})
		case !w.wake.IsZero() && w.wake.Before(end):
			if !w.wake.After(w.now) {
				w.fail("the driver wants to be woken at %v, which is over", w.wake)
			}
			w.now = w.wake
			w.step(nil)
		default:
			w.checkSettled()
			return
		}
	}
}

// anyDoomed is a pod that is being deleted, or nil.
func (w *world) anyDoomed() *corev1.Pod {
	for _, name := range slices.Sorted(maps.Keys(w.pods)) {
		if w.pods[name].DeletionTimestamp != nil {
			return w.pods[name]
		}
	}
	return nil
}

func (w *world) checkSettled() {
	if s := w.driver.Stats(); s.Deciding+s.Binding+s.Assumed > 0 {
		w.fail("something is under way for ever: %+v", s)
	}
	for _, name := range slices.Sorted(maps.Keys(w.pods)) {
		p := w.pods[name]
		if p.Spec.NodeName != "" || !eligible(p) || !w.granted(p) {
			continue
		}
		for _, n := range w.nodes {
			if room := n.Status.Allocatable.Cpu().MilliValue() - w.used(n.Name) - w.setAside(n.Name, p); !n.Spec.Unschedulable && room >= cpuOf(p) && !w.keptOut(p, n.Name) {
				w.fail("%s waits although it fits on %s", p.UID, n.Name)
			}
		}
	}
}

// Small things.

func eligible(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && len(p.Spec.SchedulingGates) == 0
}

func cpuOf(p *corev1.Pod) int64 {
	return p.Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
}

func (w *world) used(node string) (sum int64) {
	for _, p := range w.pods {
		if p.Spec.NodeName == node {
			sum += cpuOf(p)
		}
	}
	return sum
}

// setAside is the room on the node that pods other than p are nominated for.
func (w *world) setAside(node string, p *corev1.Pod) (sum int64) {
	for _, other := range w.pods {
		if other != p && unassigned(other) && other.Status.NominatedNodeName == node {
			sum += cpuOf(other)
		}
	}
	return sum
}

// keptOut says whether a pod on the node, or nominated for it, keeps p out.
func (w *world) keptOut(p *corev1.Pod, node string) bool {
	anti := func(p *corev1.Pod) bool { return p.Spec.Affinity != nil }
	for _, q := range w.pods {
		if q != p && (q.Spec.NodeName == node || unassigned(q) && q.Status.NominatedNodeName == node) &&
			(anti(p) && q.Labels["app"] == "web" || anti(q) && p.Labels["app"] == "web") {
			return true
		}
	}
	return false
}

// granted is as deciders see it, of what is true.
func (w *world) granted(p *corev1.Pod) bool {
	switch p.Labels["wants"] {
	case "service":
		return slices.Contains(slices.Collect(maps.Values(w.services)), p.Labels["app"])
	case "namespace":
		return w.open
	}
	return true
}

func everyPod(*corev1.Pod) bool     { return true }
func unassigned(p *corev1.Pod) bool { return p.Spec.NodeName == "" && eligible(p) }

// waits says whether the pod, as it was seen, really exists and has no node.
func (w *world) waits(seen *corev1.Pod) bool {
	p := w.pods[seen.Name]
	return p != nil && p.UID == seen.UID && unassigned(p)
}

// names are the names of some of the pods, in order.
func (w *world) names(which func(*corev1.Pod) bool) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(w.pods)), func(name string) bool { return !which(w.pods[name]) })
}

func (w *world) anyPod(which func(*corev1.Pod) bool) *corev1.Pod {
	return w.pods[rapid.SampledFrom(w.names(which)).Draw(w.t, "pod")]
}

func (w *world) anyNode() *corev1.Node {
	return w.nodes[rapid.SampledFrom(slices.Sorted(maps.Keys(w.nodes))).Draw(w.t, "node")]
}

// outstanding returns the batch and what a decider is asked: with the state that it was
// fed, or with that of a snapshot that was taken after others had failed.
func (w *world) outstanding() (*Batch, *berthv1.DecideRequest) {
	b, state := pick(w.t, &w.batches), w.fed
	if rapid.Bool().Draw(w.t, "inline") {
		state = w.driver.State().Snapshot
	}
	return b, &berthv1.DecideRequest{State: &berthv1.DecideRequest_Snapshot{Snapshot: state}, Pods: b.Request.GetPods(), Seed: b.Request.GetSeed(), Preempt: b.Request.GetPreempt()}
}

// pick takes any element, most simply the first.
func pick[E any](t *rapid.T, list *[]E) E {
	i := rapid.IntRange(0, len(*list)-1).Draw(t, "which")
	e := (*list)[i]
	*list = slices.Delete(slices.Clone(*list), i, i+1)
	return e
}

func (w *world) say(format string, args ...any) {
	w.story = append(w.story, fmt.Sprintf(format, args...))
}

func (w *world) fail(format string, args ...any) {
	w.t.Fatalf("%s:\n  %s\n", fmt.Sprintf(format, args...), strings.Join(w.story, "\n  "))
}
