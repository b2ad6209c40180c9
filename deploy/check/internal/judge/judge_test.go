package judge

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-scheduler/berth/deploy/check/internal/audit"
	"github.com/berth-scheduler/berth/deploy/check/internal/history"
)

// A run is a recording and an audit log in the making. Each step takes one
// resourceVersion and one second.
type run struct {
	Input
	version uint64
}

var midnight = time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)

// at is when step version happened, by every clock.
func at(version uint64) time.Time { return midnight.Add(time.Duration(version) * time.Second) }

// begin returns a run that records from resourceVersion 10 on.
func begin() *run {
	r := &run{version: 10, Input: Input{SchedulerNames: []string{"berth"}, Lease: "kube-system/berth-berth"}}
	for _, kind := range history.Kinds {
		r.Records = append(r.Records, history.Record{Type: history.Synced, Kind: kind, ResourceVersion: 10, Time: &metav1.MicroTime{Time: at(10)}})
	}
	return r
}

func (r *run) record(typ history.Type, obj any) *run {
	r.version++
	rec := history.Record{Type: typ, ResourceVersion: r.version}
	switch o := obj.(type) {
	case *corev1.Pod:
		rec.Kind, rec.Pod = history.Pod, o.DeepCopy()
	case *corev1.Node:
		rec.Kind, rec.Node = history.Node, o.DeepCopy()
	case *coordinationv1.Lease:
		rec.Kind, rec.Lease = history.Lease, o
	case *corev1.Namespace:
		rec.Kind, rec.Namespace = history.Namespace, o
	}
	r.Records = append(r.Records, rec)
	return r
}

func (r *run) add(objs ...any) *run {
	for _, o := range objs {
		r.record(history.Added, o)
	}
	return r
}

func (r *run) update(obj any) *run { return r.record(history.Modified, obj) }
func (r *run) remove(obj any) *run { return r.record(history.Deleted, obj) }

// answer logs a bind of p to node by identity, answered with code.
func (r *run) answer(p *corev1.Pod, node, identity string, code int) *run {
	r.version++
	r.Binds = append(r.Binds, audit.Bind{
		ID: fmt.Sprint(r.version), Namespace: p.Namespace, Pod: p.Name, UID: string(p.UID), Node: node,
		UserAgent: "berth-watcher/v1 (" + identity + ")", Received: at(r.version), Code: code,
	})
	return r
}

// bind binds p to node: in the log and in the history.
func (r *run) bind(p *corev1.Pod, node string) *run { return r.bindBy(p, node, "a") }

func (r *run) bindBy(p *corev1.Pod, node, identity string) *run {
	return r.answer(p, node, identity, 201).update(on(p, node))
}

// lead makes identity the holder of the lease.
func (r *run) lead(identity string) *run {
	acquired := metav1.NewMicroTime(at(r.version + 1))
	return r.update(&coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "berth-berth"},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &identity, AcquireTime: &acquired},
	})
}

func list(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for _, pair := range pairs {
		name, q, _ := strings.Cut(pair, "=")
		out[corev1.ResourceName(name)] = resource.MustParse(q)
	}
	return out
}

// newNode has cpu=4 memory=8Gi pods=3 and a UID of its own.
func newNode(name string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{"zone": "z1"}},
		Status:     corev1.NodeStatus{Allocatable: list("cpu=4", "memory=8Gi", "pods=3")},
	}
}

// newPod asks for our scheduler and for the given requests.
func newPod(name string, requests ...string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name)},
		Spec: corev1.PodSpec{SchedulerName: "berth", Containers: []corev1.Container{{
			Name: "c", Resources: corev1.ResourceRequirements{Requests: list(requests...)},
		}}},
	}
}

func on(p *corev1.Pod, node string) *corev1.Pod {
	p = p.DeepCopy()
	p.Spec.NodeName = node
	return p
}

func with[T any](obj T, change func(T)) T {
	change(obj)
	return obj
}

func hostPort(p *corev1.Pod) {
	p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: 80, Protocol: corev1.ProtocolTCP}}
}

func taint(effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "gpu", Effect: effect}} }
}

func waiting(p *corev1.Pod) {
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable"}}
}

func affinityTo(zone string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{zone}}},
			}}},
		}}
	}
}

// TestViolations plants one violation each and wants it, named by rule, pod
// and node, and nothing else.
func TestViolations(t *testing.T) {
	a := newNode("a")
	p, q := newPod("p", "cpu=1"), newPod("q", "cpu=1")
	tests := []struct {
		name string
		run  *run
		want string
	}{
		{"cpu", begin().add(a, p).add(newPod("big", "cpu=3500m")).
			bind(p, "a").bind(newPod("big", "cpu=3500m"), "a"), "Overcommitted ns/big a"},
		{"memory", begin().add(a, newPod("big", "memory=9Gi")).bind(newPod("big", "memory=9Gi"), "a"), "Overcommitted ns/big a"},
		{"ephemeral storage the node does not name", begin().add(a, newPod("big", "ephemeral-storage=1")).
			bind(newPod("big", "ephemeral-storage=1"), "a"), "Overcommitted ns/big a"},
		{"extended resource", begin().add(a, newPod("g", "nvidia.com/gpu=1")).bind(newPod("g", "nvidia.com/gpu=1"), "a"), "Overcommitted ns/g a"},
		{"number of pods", begin().add(a, newPod("1"), newPod("2"), newPod("3"), newPod("4")).
			bind(newPod("1"), "a").bind(newPod("2"), "a").bind(newPod("3"), "a").bind(newPod("4"), "a"), "Overcommitted ns/4 a"},
		{"pods of others count", begin().
			add(a, with(on(newPod("other", "cpu=4"), "a"), func(p *corev1.Pod) { p.Spec.SchedulerName = "default-scheduler" }), p).
			bind(p, "a"), "Overcommitted ns/p a"},
		{"terminating pods count", begin().add(a, newPod("old", "cpu=4"), p).bind(newPod("old", "cpu=4"), "a").
			update(with(on(newPod("old", "cpu=4"), "a"), func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: midnight} })).
			bind(p, "a"), "Overcommitted ns/p a"},
		{"pods from before the recording count", with(begin().add(a, p).bind(p, "a"), func(r *run) {
			listed := on(newPod("old", "cpu=4"), "a")
			r.Records = append(r.Records, history.Record{Type: history.Listed, Kind: history.Pod, ResourceVersion: 3, Pod: listed})
		}), "Overcommitted ns/p a"},

		{"node selector", begin().add(a, with(newPod("p"), func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"zone": "z2"} })).
			bind(with(newPod("p"), func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"zone": "z2"} }), "a"), "NodeSelector ns/p a"},
		{"node affinity", begin().add(a, with(newPod("p"), affinityTo("z2"))).bind(with(newPod("p"), affinityTo("z2")), "a"), "NodeAffinity ns/p a"},
		{"NoSchedule taint", begin().add(with(newNode("a"), taint(corev1.TaintEffectNoSchedule)), p).bind(p, "a"), "Taint ns/p a"},
		{"NoExecute taint", begin().add(with(newNode("a"), taint(corev1.TaintEffectNoExecute)), p).bind(p, "a"), "Taint ns/p a"},
		{"cordon, with the taint that follows it", begin().add(with(newNode("a"), func(n *corev1.Node) {
			n.Spec.Unschedulable = true
			n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}}
		}), p).bind(p, "a"), "Cordoned ns/p a"},
		{"host port", begin().add(a, with(newPod("p"), hostPort), with(newPod("q"), hostPort)).
			bind(with(newPod("p"), hostPort), "a").bind(with(newPod("q"), hostPort), "a"), "HostPort ns/q a"},
		{"host port of a sidecar", begin().add(a, with(newPod("p"), hostPort), with(newPod("q"), sidecarPort)).
			bind(with(newPod("p"), hostPort), "a").bind(with(newPod("q"), sidecarPort), "a"), "HostPort ns/q a"},

		{"node that never was", begin().add(a, p).bind(p, "b"), "NoSuchNode ns/p b"},
		{"node that was deleted", begin().add(a, p).remove(a).bind(p, "a"), "NoSuchNode ns/p a"},
		{"other incarnation", with(begin().add(a, p).bind(p, "a"), func(r *run) { r.Binds[0].NodeUID = "uid-older" }), "NoSuchNode ns/p a"},

		{"lost", begin().add(a, p), "Lost ns/p "},
		{"condition without a reason", begin().add(a, with(newPod("p"), func(p *corev1.Pod) {
			waiting(p)
			p.Status.Conditions[0].Reason = ""
		})), "Lost ns/p "},
		{"bind not kept", begin().add(a, with(newPod("p"), waiting)).answer(p, "a", "a", 201), "BindNotKept ns/p a"},
		{"bind kept elsewhere", begin().add(a, newNode("b"), p).answer(p, "b", "a", 201).update(on(p, "a")), "BindNotKept ns/p b"},
		{"bound twice", begin().add(a, p).bind(p, "a").answer(p, "a", "a", 201), "BoundTwice ns/p a"},

		{"old leader", begin().add(a, p, q, newPod("r", "cpu=1")).
			lead("a").bindBy(p, "a", "a").lead("b").bindBy(q, "a", "b").bindBy(newPod("r", "cpu=1"), "a", "a"), "OldLeader ns/r a"},
		{"old leader, refused", begin().add(a, p, q).
			lead("a").bindBy(p, "a", "a").lead("b").bindBy(q, "a", "b").answer(q, "a", "a", 409), "OldLeader ns/q a"},
		{"leader again, but before that", begin().add(a, p, q, newPod("r")).
			lead("a").bindBy(p, "a", "a").lead("b").bindBy(q, "a", "b").bindBy(newPod("r"), "a", "a").lead("a"), "OldLeader ns/r a"},
		{"never the leader", begin().add(a, p).lead("b").bindBy(p, "a", "a"), "NotLeader ns/p a"},

		{"room for a pending pod", with(begin().add(newNode("b"), a, with(newPod("p", "cpu=1"), waiting)), pendingFit), "NodeHasRoom ns/p a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			report := Judge(tt.run.Input)
			if diff := cmp.Diff([]string{tt.want}, brief(report.Violations)); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
			if len(report.Incomplete) > 0 {
				t.Errorf("incomplete: %q", report.Incomplete)
			}
			if got := report.ExitCode(); got != 1 {
				t.Errorf("exit code %d, want 1", got)
			}
		})
	}
}

func pendingFit(r *run) { r.PendingFit = true }

func sidecarPort(p *corev1.Pod) {
	always := corev1.ContainerRestartPolicyAlways
	p.Spec.InitContainers = []corev1.Container{{Name: "s", RestartPolicy: &always, Ports: []corev1.ContainerPort{{HostPort: 80}}}}
}

// brief is what a finding names.
func brief(findings []Finding) []string {
	out := []string{}
	for _, f := range findings {
		out = append(out, fmt.Sprintf("%s %s %s", f.Rule, f.Pod, f.Node))
	}
	return out
}

// TestNoViolation are runs that look suspicious and are none.
func TestNoViolation(t *testing.T) {
	a := newNode("a")
	p, q := newPod("p", "cpu=1"), newPod("q", "cpu=1")
	big := newPod("big", "cpu=4")
	tests := []struct {
		name string
		run  *run
	}{
		{"a full node", begin().add(a, p, q, newPod("r", "cpu=2")).bind(p, "a").bind(q, "a").bind(newPod("r", "cpu=2"), "a")},
		{"finished pods take nothing", begin().add(a, big, p).bind(big, "a").
			update(with(on(big, "a"), func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })).bind(p, "a")},
		{"deleted pods take nothing", begin().add(a, big, p).bind(big, "a").remove(on(big, "a")).bind(p, "a")},
		{"a resource not asked for may be short", begin().
			add(a, with(on(newPod("other", "cpu=9"), "a"), func(p *corev1.Pod) { p.Spec.SchedulerName = "x" }), newPod("p", "memory=1Gi")).
			bind(newPod("p", "memory=1Gi"), "a")},
		{"constraints of others", begin().add(a, with(newPod("x"), other)).bind(with(newPod("x"), other), "a").add(p).bind(p, "a")},
		{"node given at creation", begin().add(a, with(on(newPod("p"), "a"), affinityTo("z2")))},
		{"label, taint and cordon after the bind", begin().add(a, with(newPod("p"), affinityTo("z1"))).bind(with(newPod("p"), affinityTo("z1")), "a").
			update(with(newNode("a"), func(n *corev1.Node) {
				n.Labels = nil
				n.Spec.Unschedulable = true
				taint(corev1.TaintEffectNoSchedule)(n)
			}))},
		{"tolerated taint and cordon", begin().add(with(newNode("a"), func(n *corev1.Node) {
			n.Spec.Unschedulable = true
			taint(corev1.TaintEffectNoSchedule)(n)
		}), with(newPod("p"), tolerant)).bind(with(newPod("p"), tolerant), "a")},
		{"preference of a taint", begin().add(with(newNode("a"), taint(corev1.TaintEffectPreferNoSchedule)), p).bind(p, "a")},
		{"same host port, other address", begin().add(a, with(newPod("p"), portOn("10.0.0.1")), with(newPod("q"), portOn("10.0.0.2"))).
			bind(with(newPod("p"), portOn("10.0.0.1")), "a").bind(with(newPod("q"), portOn("10.0.0.2")), "a")},
		{"node deleted and created again", begin().add(a, p).remove(a).add(with(newNode("a"), func(n *corev1.Node) { n.UID = "uid-2" })).bind(p, "a")},
		{"pending with a reason", begin().add(a, with(newPod("p"), waiting))},
		{"deleted before it was bound", begin().add(a, p).remove(p)},
		{"being deleted at the end", begin().add(a, with(newPod("p"), func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: midnight} }))},
		{"answer lost, bind kept", begin().add(a, p).answer(p, "a", "a", 0).update(on(p, "a"))},
		{"request cut off as its client died, bound by the next", begin().add(a, p).answer(p, "", "a", 500).bind(p, "a")},
		{"bound again after it was deleted and created", begin().add(a, p).bind(p, "a").remove(on(p, "a")).
			add(again(p)).bind(again(p), "a")},
		{"takeover in order", begin().add(a, p, q).lead("a").bindBy(p, "a", "a").lead("b").bindBy(q, "a", "b")},
		{"leader again", begin().add(a, p, q, newPod("r")).
			lead("a").bindBy(p, "a", "a").lead("b").bindBy(q, "a", "b").lead("a").bindBy(newPod("r"), "a", "a")},
		{"binds before the successor's first", begin().add(a, p, q, newPod("r")).
			lead("a").bindBy(p, "a", "a").lead("b").bindBy(newPod("r"), "a", "a").bindBy(q, "a", "b")},
		{"no lease in use", begin().add(a, p, q).bindBy(p, "a", "a").bindBy(q, "a", "b")},
		{"pending and no room", with(begin().add(a, with(newPod("p", "cpu=5"), waiting), with(newPod("q"), func(p *corev1.Pod) {
			waiting(p)
			affinityTo("z2")(p)
		})), pendingFit)},
		{"pending and gated", with(begin().add(a, with(newPod("p"), func(p *corev1.Pod) {
			waiting(p)
			p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "later"}}
		})), pendingFit)},
		{"pending, room not looked for", begin().add(a, with(newPod("p"), waiting))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			report := Judge(tt.run.Input)
			if len(report.Violations) > 0 || len(report.Incomplete) > 0 || report.ExitCode() != 0 {
				t.Errorf("exit %d, violations %+v, incomplete %q", report.ExitCode(), report.Violations, report.Incomplete)
			}
		})
	}
}

func other(p *corev1.Pod) {
	p.Spec.SchedulerName = "other"
	affinityTo("z2")(p)
}

func tolerant(p *corev1.Pod) {
	p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
}

func portOn(ip string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		hostPort(p)
		p.Spec.Containers[0].Ports[0].HostIP = ip
	}
}

func again(p *corev1.Pod) *corev1.Pod {
	p = p.DeepCopy()
	p.UID += "-again"
	return p
}

// TestIncomplete are runs about which no verdict is possible.
func TestIncomplete(t *testing.T) {
	a, p := newNode("a"), newPod("p", "cpu=1")
	clean := func() *run { return begin().add(a, p).bind(p, "a") }
	tests := []struct {
		name string
		run  *run
		want string
	}{
		{"never synced", with(clean(), func(r *run) {
			r.Records = slices.DeleteFunc(r.Records, func(rec history.Record) bool { return rec.Type == history.Synced && rec.Kind == history.Node })
		}), "never synced for kind Node"},
		{"gap", with(clean(), func(r *run) {
			r.Records = append(r.Records, history.Record{Type: history.Gap, Kind: history.Pod, Since: 11, ResourceVersion: 12})
		}), "missing from the recording"},
		{"no judged pod", with(clean(), func(r *run) { r.SchedulerNames = []string{"bert"} }), "[bert]"},
		{"bind without a line in the log", with(clean(), func(r *run) { r.Binds = nil }), "1 pods were bound in the replay without"},
		{"pod without a line in the recording", clean().answer(newPod("q"), "a", "a", 201), "does not know the pod"},
		{"audit log without requests", with(clean(), func(r *run) { r.Binds[0].Node, r.Binds[0].Shallow = "", true }), "no request object of 1 binds"},
		{"the only bind was never read", with(clean(), func(r *run) { r.Binds[0].Node, r.Binds[0].Code = "", 500 }), "1 pods were bound in the replay without"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			report := Judge(tt.run.Input)
			if len(report.Incomplete) != 1 || !strings.Contains(report.Incomplete[0], tt.want) || report.ExitCode() != 2 {
				t.Errorf("exit %d, incomplete %q, want one with %q; violations %+v", report.ExitCode(), report.Incomplete, tt.want, report.Violations)
			}
		})
	}
	t.Run("the log's part before the recording", func(t *testing.T) {
		r := begin().add(a, p).lead("a").bind(p, "a").answer(newPod("q"), "a", "b", 201)
		r.Binds[1].Received = at(9)
		if report := Judge(r.Input); report.ExitCode() != 0 {
			t.Errorf("incomplete %q, violations %+v", report.Incomplete, report.Violations)
		}
	})
}

// TestObservations are nodes that others overcommitted.
func TestObservations(t *testing.T) {
	a := newNode("a")
	small := with(newNode("a"), func(n *corev1.Node) { n.Status.Allocatable = list("cpu=1", "pods=3") })
	p, q := newPod("p", "cpu=2"), newPod("q", "cpu=3")
	tests := []struct {
		name string
		run  *run
		want string
	}{
		{"placed by others", begin().add(a, p).bind(p, "a").add(on(q, "a")), "Overcommitted ns/q a"},
		{"node shrank", begin().add(a, p).bind(p, "a").update(small).update(small), "Overcommitted  a"},
		{"resized", begin().add(a, p).bind(p, "a").update(on(newPod("p", "cpu=5"), "a")), "Overcommitted ns/p a"},
		{"before the recording", with(begin().add(p), func(r *run) {
			r.Records = append(r.Records,
				history.Record{Type: history.Listed, Kind: history.Node, ResourceVersion: 1, Node: a},
				history.Record{Type: history.Listed, Kind: history.Pod, ResourceVersion: 2, Pod: on(newPod("r", "cpu=5"), "a")})
			r.update(with(newPod("p", "cpu=2"), waiting))
		}), "Overcommitted  a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			report := Judge(tt.run.Input)
			if diff := cmp.Diff([]string{tt.want}, brief(report.Observations)); diff != "" {
				t.Errorf("observations (-want +got):\n%s", diff)
			}
			if report.ExitCode() != 0 {
				t.Errorf("violations %+v, incomplete %q", report.Violations, report.Incomplete)
			}
		})
	}
}

// TestCounts are the numbers of a run with a takeover.
func TestCounts(t *testing.T) {
	a, p, q := newNode("a"), newPod("p"), newPod("q")
	r := begin().add(a, p, q, with(newPod("r"), waiting)).
		lead("a").answer(p, "a", "a", 409). // 16: before the takeover
		bindBy(p, "a", "a").                // 17: last bind of a
		lead("b").answer(p, "a", "b", 409). // 20: first bind of b
		bindBy(q, "a", "b").answer(q, "a", "b", 0)
	for i, message := range []string{0: `x is "a"`, 2: `Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "a"`} {
		r.Binds[i].Reason, r.Binds[i].Message = "Conflict", message
	}
	r.version = 40
	r.answer(newPod("gone"), "a", "b", 404) // 41: long after
	report := Judge(r.Input)
	if report.ExitCode() != 0 {
		t.Fatalf("violations %+v, incomplete %q", report.Violations, report.Incomplete)
	}
	want := Report{
		Violations: []Finding{}, Incomplete: []string{}, Observations: []Finding{},
		From: 10, To: 22, Pods: Counts{Judged: 3, Bound: 2, Pending: 1},
		Outcomes: []Count{{"bound", 2}, {"refused", 3}, {"unanswered", 1}},
		Binders:  []Count{{"berth-watcher/v1 (a)", 2}, {"berth-watcher/v1 (b)", 4}},
		Refusals: []Refusal{
			{Code: 404, Outside: 1},
			{Code: 409, Reason: "Conflict", Message: `Operation cannot be fulfilled on pods/binding "…": pod … is already assigned to node "…"`, Inside: 1},
			{Code: 409, Reason: "Conflict", Message: `x is "…"`, Outside: 1},
		},
		Takeovers: []Takeover{{From: "a", To: "b", LastBind: at(17), FirstBind: at(20)}},
	}
	if diff := cmp.Diff(want, report); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

// TestUntil leaves out what happened after the point that is judged.
func TestUntil(t *testing.T) {
	a, p, big := newNode("a"), newPod("p", "cpu=1"), newPod("big", "cpu=4")
	r := begin().add(a, p).bind(p, "a")
	r.Until = r.version
	r.add(big).bind(big, "a")
	r.Binds = r.Binds[:1]
	if report := Judge(r.Input); report.ExitCode() != 0 || report.Pods.Judged != 1 {
		t.Errorf("judged %d pods, violations %+v", report.Pods.Judged, report.Violations)
	}
}

// later lets enough time pass that the binds before cannot have been decided after
// those that follow.
func (r *run) later() *run {
	r.version += 10
	return r
}

// TestPodRules are rules about other pods: what breaks them, what keeps them, and
// what some order of simultaneous binds keeps.
func TestPodRules(t *testing.T) {
	zone := func(name, zone string) *corev1.Node {
		return with(newNode(name), func(n *corev1.Node) { n.Labels = map[string]string{"zone": zone} })
	}
	a, b, c := zone("a", "z1"), zone("b", "z1"), zone("c", "z2")
	bare := with(newNode("bare"), func(n *corev1.Node) { n.Labels = nil })
	app := func(name, app string, changes ...func(*corev1.Pod)) *corev1.Pod {
		p := with(newPod(name), func(p *corev1.Pod) { p.Labels = map[string]string{"app": app} })
		p.Spec.Affinity = &corev1.Affinity{}
		for _, change := range changes {
			change(p)
		}
		return p
	}
	elsewhere := func(namespace string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Namespace = namespace } }
	terminating := func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: midnight} }
	selector := func(app string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
	}
	anti := func(app string, changes ...func(*corev1.PodAffinityTerm)) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			term := corev1.PodAffinityTerm{LabelSelector: selector(app), TopologyKey: "zone"}
			for _, change := range changes {
				change(&term)
			}
			p.Spec.Affinity.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term}}
		}
	}
	near := func(apps ...string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Affinity.PodAffinity = &corev1.PodAffinity{}
			for _, app := range apps {
				p.Spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution = append(p.Spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution,
					corev1.PodAffinityTerm{LabelSelector: selector(app), TopologyKey: "zone"})
			}
		}
	}
	inTeam := func(term *corev1.PodAffinityTerm) {
		term.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "x"}}
	}
	spread := func(changes ...func(*corev1.TopologySpreadConstraint)) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			c := corev1.TopologySpreadConstraint{MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: selector("w")}
			for _, change := range changes {
				change(&c)
			}
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{c}
		}
	}
	minDomains := func(n int32) func(*corev1.TopologySpreadConstraint) {
		return func(c *corev1.TopologySpreadConstraint) { c.MinDomains = &n }
	}
	team := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "other", Labels: map[string]string{"team": "x"}}}
	w := func(name string, changes ...func(*corev1.Pod)) *corev1.Pod { return app(name, "w", changes...) }
	only := func(p *corev1.Pod) {
		p.Spec.Affinity.NodeAffinity = &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: corev1.NodeSelectorOpDoesNotExist}}}}}}
	}
	revision := func(p *corev1.Pod) { p.Labels["revision"] = "2" }
	byRevision := func(c *corev1.TopologySpreadConstraint) { c.MatchLabelKeys = []string{"revision"} }

	for _, tt := range []struct {
		name string
		run  *run
		want string // the violation, empty for none
	}{
		{"own anti-affinity", begin().add(a, b, app("1", "w"), app("2", "v", anti("w"))).
			bind(app("1", "w"), "a").later().bind(app("2", "v", anti("w")), "b"), "PodAntiAffinity ns/2 b"},
		{"anti-affinity of simultaneous binds", begin().add(a, b, w("1", anti("w")), w("2", anti("w"))).
			bind(w("1", anti("w")), "a").bind(w("2", anti("w")), "b"), "PodAntiAffinity ns/2 b PodAntiAffinity ns/2 b"},
		{"existing pod's anti-affinity", begin().add(a, b, app("1", "v", anti("w")), w("2")).
			bind(app("1", "v", anti("w")), "a").later().bind(w("2"), "b"), "PodAntiAffinity ns/2 b"},
		{"terminating pods keep others away", begin().add(a, on(w("1", terminating), "a"), app("2", "v", anti("w"))).
			bind(app("2", "v", anti("w")), "a"), "PodAntiAffinity ns/2 a"},
		{"anti-affinity in another zone", begin().add(a, c, w("1", anti("w")), w("2", anti("w"))).
			bind(w("1", anti("w")), "a").bind(w("2", anti("w")), "c"), ""},
		{"anti-affinity without the label", begin().add(bare, w("1", anti("w")), w("2", anti("w"))).
			bind(w("1", anti("w")), "bare").bind(w("2", anti("w")), "bare"), ""},
		{"anti-affinity is for its namespace", begin().add(a, app("1", "v", anti("w")), w("2", elsewhere("other"))).
			bind(app("1", "v", anti("w")), "a").bind(w("2", elsewhere("other")), "a"), ""},
		{"anti-affinity by the namespace's labels", begin().add(team, a, app("1", "v", anti("w", inTeam)), w("2", elsewhere("other"))).
			bind(app("1", "v", anti("w", inTeam)), "a").bind(w("2", elsewhere("other")), "a"), "PodAntiAffinity other/2 a"},
		{"after the pod is gone", begin().add(a, w("1"), app("2", "v", anti("w"))).
			bind(w("1"), "a").remove(on(w("1"), "a")).bind(app("2", "v", anti("w")), "a"), ""},

		{"affinity", begin().add(a, c, w("1"), app("2", "v", near("w"))).
			bind(w("1"), "a").later().bind(app("2", "v", near("w")), "c"), "PodAffinity ns/2 c"},
		{"affinity kept", begin().add(a, b, w("1"), app("2", "v", near("w"))).
			bind(w("1"), "a").later().bind(app("2", "v", near("w")), "b"), ""},
		{"affinity to nobody", begin().add(a, app("2", "v", near("w"))).bind(app("2", "v", near("w")), "a"), "PodAffinity ns/2 a"},
		{"first of its kind", begin().add(a, w("1", near("w"))).bind(w("1", near("w")), "a"), ""},
		{"no longer the first of its kind", begin().add(a, c, w("1", near("w")), w("2", near("w"))).
			bind(w("1", near("w")), "a").later().bind(w("2", near("w")), "c"), "PodAffinity ns/2 c"},
		{"one pod must match every term", begin().add(a, w("1"), app("2", "v"), app("3", "x", near("w", "v"))).
			bind(w("1"), "a").bind(app("2", "v"), "a").later().bind(app("3", "x", near("w", "v")), "a"), "PodAffinity ns/3 a"},
		{"affinity without the label", begin().add(bare, w("1", near("w"))).bind(w("1", near("w")), "bare"), "PodAffinity ns/1 bare"},
		{"affinity to a pod whose bind arrived after", begin().add(a, w("1"), app("2", "v", near("w"))).
			bind(app("2", "v", near("w")), "a").bind(w("1"), "a"), ""},
		{"affinity to a pod that was bound much later", begin().add(a, w("1"), app("2", "v", near("w"))).
			bind(app("2", "v", near("w")), "a").later().bind(w("1"), "a"), "PodAffinity ns/2 a"},

		{"spread", begin().add(a, c, w("1"), w("2", spread())).
			bind(w("1"), "a").later().bind(w("2", spread()), "a"), "TopologySpread ns/2 a"},
		{"spread kept", begin().add(a, c, w("1"), w("2", spread())).
			bind(w("1"), "a").later().bind(w("2", spread()), "c"), ""},
		{"spread of simultaneous binds", begin().add(a, c, w("1", spread()), w("2", spread()), w("3", spread())).
			bind(w("1", spread()), "a").bind(w("2", spread()), "a").bind(w("3", spread()), "c"), ""},
		{"spread of simultaneous binds of which nobody heard the answer", begin().add(a, c, w("1", spread()), w("2", spread()), w("3", spread())).
			answer(w("1", spread()), "a", "a", 504).answer(w("2", spread()), "a", "a", 504).answer(w("3", spread()), "c", "a", 504).
			update(on(w("1", spread()), "a")).update(on(w("2", spread()), "a")).update(on(w("3", spread()), "c")), ""},
		{"a bind of which nobody heard the answer and that came to nothing", begin().add(a, c, w("1", spread()), w("2", spread()), w("3", spread())).
			bind(w("1", spread()), "a").later().answer(w("3", spread()), "c", "a", 504).bind(w("2", spread()), "a"), "TopologySpread ns/2 a Lost ns/3 "},
		{"spread without the label", begin().add(bare, a, w("1", spread())).bind(w("1", spread()), "bare"), "TopologySpread ns/1 bare"},
		{"too few domains", begin().add(a, w("1"), w("2", spread(minDomains(2)))).
			bind(w("1"), "a").later().bind(w("2", spread(minDomains(2))), "a"), "TopologySpread ns/2 a"},
		{"terminating pods do not count", begin().add(a, c, on(w("1", terminating), "a"), w("2", spread())).
			bind(w("2", spread()), "a"), ""},
		{"pods of other namespaces do not count", begin().add(a, c, on(w("1", elsewhere("other")), "a"), w("2", spread())).
			bind(w("2", spread()), "a"), ""},
		{"a zone that the pod may not use does not count", begin().add(a, c, w("1"), w("2", spread(), func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"zone": "z1"} })).
			bind(w("1"), "a").later().bind(w("2", spread(), func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"zone": "z1"} }), "a"), ""},

		{"spread before others that need none came to its zone", begin().add(a, c, w("1"), w("2"), w("3", spread())).
			bind(w("1"), "a").bind(w("2"), "a").bind(w("3", spread()), "a"), ""},
		{"a node that the pod may not use does not count, in its zone either", begin().add(a, with(b, func(n *corev1.Node) { n.Labels["disk"] = "hdd" }), c, w("1"), w("2", spread(), only)).
			bind(w("1"), "b").later().bind(w("2", spread(), only), "a"), ""},
		{"an empty selector counts nobody", begin().add(a, c, w("1"), w("2", spread(func(c *corev1.TopologySpreadConstraint) { c.LabelSelector = &metav1.LabelSelector{} }))).
			bind(w("1"), "a").later().bind(w("2", spread(func(c *corev1.TopologySpreadConstraint) { c.LabelSelector = &metav1.LabelSelector{} })), "a"), ""},
		{"pods of another revision do not count", begin().add(a, c, w("1"), w("2", revision, spread(byRevision))).
			bind(w("1"), "a").later().bind(w("2", revision, spread(byRevision)), "a"), ""},
		{"anti-affinity to a pod that was bound after", begin().add(a, app("1", "v", near("v"), anti("w")), w("2")).
			bind(app("1", "v", near("v"), anti("w")), "a").bind(w("2"), "a"), "PodAntiAffinity ns/2 a"},

		{"no room for a pending pod because of another", with(begin().add(a, on(w("1"), "a"), with(app("2", "v", anti("w")), waiting)), pendingFit), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			report := Judge(tt.run.Input)
			if got := strings.Join(brief(report.Violations), " "); got != tt.want {
				t.Errorf("violations %q, want %q", got, tt.want)
			}
			if len(report.Incomplete) > 0 {
				t.Errorf("incomplete: %q", report.Incomplete)
			}
		})
	}
	t.Run("binds that were not logged count as simultaneous with the one before", func(t *testing.T) {
		report := Judge(begin().add(a, c, w("1", spread()), w("2", spread()), w("3", spread())).bind(w("1", spread()), "a").
			update(on(w("2", spread()), "a")).update(on(w("3", spread()), "c")).Input)
		if len(report.Violations) > 0 || len(report.Incomplete) != 1 {
			t.Errorf("violations %q, incomplete %q", brief(report.Violations), report.Incomplete)
		}
	})
}
