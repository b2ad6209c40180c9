package driver

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/watcher/internal/queue"
)

// TestStories plays the orderings in testdata. Each file is one driver; its
// commands are
//
//	step [after=DURATION]   events, one a line, then everything Ready says and
//	                        where every pod is
//
// and the events
//
//	node NAME [cpu=N] [pods=N] [uid=U] [cordoned]
//	node-gone NAME
//	signals NODE [NAME=MILLI]…
//	pod NAME [cpu=N] [priority=N] [on=NODE] [uid=U] [label=V] [gated] [deleting] [repels] [follows=V]
//	         [nominated=NODE] [scheduler=NAME] [spreads] [owner=REPLICASET]
//	pod-gone NAME [uid=U]
//	namespace NAME [label=V], namespace-gone NAME
//	service NAME label=V, service-gone NAME
//	replicaset NAME label=V, replicaset-gone NAME
//	budget NAME [allowed=N] [selects], budget-gone NAME
//	decided #BATCH [@VERSION] [epoch=E] POD->NODE[/UID][,NODE[/UID]]… | POD:OUTCOME[:TEXT[~HELPLESS][|WAKE[;WAKE]…]][!NODE[/VIOLATIONS]<VICTIM[,VICTIM]…] …
//	         WAKE is OBJECT[+CHANGE]…[@NODE[,NODE]…][/cpu:MILLI]; what follows ! is a preemption
//	lost #BATCH          no decider was reachable
//	failed #BATCH TEXT   the decider could not answer
//	bind POD OUTCOME [TEXT]
//	read POD on=NODE | unbound [label=V] | none | error
//	nominate POD ok | error
//	evict POD OUTCOME
//	deciders-changed
//	capacity batches=N
//
// Rewrite the expectations with -rewrite and read the difference.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &story{now: start, pods: map[string]*corev1.Pod{}}
		s.driver = New(Config{Deciders: map[string]int{"berth": 2}, Seed: 7, MaxBatch: 10, MaxBinding: 10, MaxSent: 4})
		s.driver.Step(s.now, Leads{"e1"})
		datadriven.RunTest(t, path, func(t *testing.T, td *datadriven.TestData) string {
			if td.Cmd != "step" {
				td.Fatalf(t, "unknown command %q", td.Cmd)
			}
			if td.HasArg("after") {
				var after string
				td.ScanArgs(t, "after", &after)
				d, err := time.ParseDuration(after)
				if err != nil {
					td.Fatalf(t, "%v", err)
				}
				s.now = s.now.Add(d)
			}
			lines := strings.Split(strings.TrimSpace(td.Input), "\n")
			if td.Input == "" {
				s.driver.Step(s.now, nil)
				lines = nil
			}
			for _, line := range lines {
				ev, err := s.parse(line)
				if err != nil {
					td.Fatalf(t, "%s: %v", line, err)
				}
				s.driver.Step(s.now, ev)
			}
			return s.print()
		})
	})
}

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// story is a driver with what its text needs to be short: pods by name.
type story struct {
	now    time.Time
	driver *Driver
	pods   map[string]*corev1.Pod // by name, as last given
	// version is the last batch's, for answers that do not say otherwise.
	version uint64
}

// parse reads one event.
func (s *story) parse(line string) (Event, error) {
	words := strings.Fields(line)
	args, rest := map[string]string{}, []string{}
	for _, w := range words[1:] {
		if k, v, ok := strings.Cut(w, "="); ok {
			args[k] = v
		} else {
			rest = append(rest, w)
		}
	}
	has := func(w string) bool { return slices.Contains(rest, w) }
	switch words[0] {
	case "node":
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: rest[0], UID: types.UID(or(args["uid"], rest[0]+"-uid"))}}
		n.Spec.Unschedulable = has("cordoned")
		n.Status.Allocatable = corev1.ResourceList{
			corev1.ResourceCPU:  resource.MustParse(or(args["cpu"], "4")),
			corev1.ResourcePods: resource.MustParse(or(args["pods"], "110")),
		}
		return NodeChanged{n}, nil
	case "node-gone":
		return NodeGone{&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: rest[0]}}}, nil
	case "signals":
		signals := map[string]int64{}
		for name, milli := range args {
			var n int64
			if _, err := fmt.Sscan(milli, &n); err != nil {
				return nil, err
			}
			signals[name] = n
		}
		return SignalsChanged{rest[0], signals}, nil
	case "pod":
		p := newPod(rest[0], or(args["uid"], rest[0]+"-uid"), or(args["cpu"], "1"))
		p.Spec.NodeName = args["on"]
		if v, ok := args["priority"]; ok {
			var n int32
			fmt.Sscan(v, &n)
			p.Spec.Priority = &n
		}
		if v, ok := args["label"]; ok {
			p.Labels = map[string]string{"label": v}
		}
		if owner, ok := args["owner"]; ok {
			controller := true
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: owner, Controller: &controller}}
		}
		p.Status.NominatedNodeName = args["nominated"]
		p.Spec.SchedulerName = or(args["scheduler"], p.Spec.SchedulerName)
		if has("spreads") {
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
				MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: &metav1.LabelSelector{}}}
		}
		if has("never-preempts") {
			never := corev1.PreemptNever
			p.Spec.PreemptionPolicy = &never
		}
		if has("gated") {
			p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "gate"}}
		}
		if has("deleting") {
			p.DeletionTimestamp = &metav1.Time{Time: s.now}
		}
		if v, ok := args["follows"]; ok { // to the node of a pod with that label
			p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
				{LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"label": v}}, TopologyKey: corev1.LabelHostname}}}}
		}
		if has("repels") { // every pod of its namespace
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
				{LabelSelector: &metav1.LabelSelector{}, TopologyKey: corev1.LabelHostname}}}}
		}
		s.pods[p.Name] = p
		return PodChanged{p}, nil
	case "pod-gone":
		return PodGone{newPod(rest[0], or(args["uid"], string(s.pods[rest[0]].UID)), "1")}, nil
	case "namespace", "namespace-gone":
		n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: rest[0], Labels: map[string]string{"label": args["label"]}}}
		if words[0] == "namespace" {
			return NamespaceChanged{n}, nil
		}
		return NamespaceGone{n}, nil
	case "service", "service-gone":
		o := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: rest[0]}}
		o.Spec.Selector = map[string]string{"label": args["label"]}
		if words[0] == "service" {
			return WorkloadChanged{o}, nil
		}
		return WorkloadGone{o}, nil
	case "replicaset", "replicaset-gone":
		o := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: rest[0]}}
		o.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"label": args["label"]}}
		if words[0] == "replicaset" {
			return WorkloadChanged{o}, nil
		}
		return WorkloadGone{o}, nil
	case "budget", "budget-gone":
		b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: rest[0]}}
		fmt.Sscan(args["allowed"], &b.Status.DisruptionsAllowed)
		if has("selects") {
			b.Spec.Selector = &metav1.LabelSelector{} // whatever has labels
		}
		if words[0] == "budget" {
			return BudgetChanged{b}, nil
		}
		return BudgetGone{b}, nil
	case "deciders-changed":
		return DecidersChanged{}, nil
	case "capacity":
		var n int
		fmt.Sscan(args["batches"], &n)
		return CapacityChanged{map[string]int{"berth": n}}, nil
	case "nominate":
		if has("error") {
			return NominateDone{UID: s.pods[rest[0]].UID, Err: errors.New("timeout")}, nil
		}
		return NominateDone{UID: s.pods[rest[0]].UID}, nil
	case "evict":
		for o := EvictUnknown; o <= EvictNotSent; o++ {
			if o.String() == rest[1] {
				return EvictDone{UID: s.pods[rest[0]].UID, Outcome: o}, nil
			}
		}
	case "lost":
		return Decided{Batch: batchID(rest[0]), Err: fmt.Errorf("%w: a: connection refused", ErrNoDecider)}, nil
	case "failed":
		return Decided{Batch: batchID(rest[0]), Decider: "d", Err: errors.New(strings.Join(rest[1:], " "))}, nil
	case "decided":
		r := &berthv1.DecideResponse{Epoch: or(args["epoch"], "e1"), Version: s.version}
		for _, w := range rest[1:] {
			if version, ok := strings.CutPrefix(w, "@"); ok {
				if _, err := fmt.Sscan(version, &r.Version); err != nil {
					return nil, err
				}
				continue
			}
			r.Decisions = append(r.Decisions, s.decision(w))
		}
		return Decided{Batch: batchID(rest[0]), Decider: "d", Response: r}, nil
	case "bind":
		for o := BindUnknown; o <= BindNotSent; o++ {
			if o.String() == rest[1] {
				return BindDone{UID: s.pods[rest[0]].UID, Outcome: o, Message: strings.Join(rest[2:], " ")}, nil
			}
		}
	case "read":
		p := s.pods[rest[0]].DeepCopy()
		p.Spec.NodeName = args["on"]
		if v, ok := args["label"]; ok {
			p.Labels = map[string]string{"label": v}
		}
		switch {
		case has("none"):
			return ReadDone{UID: p.UID}, nil
		case has("error"):
			return ReadDone{UID: p.UID, Err: errors.New("timeout")}, nil
		case has("unbound"), args["on"] != "":
			return ReadDone{UID: p.UID, Pod: p}, nil
		}
	}
	return nil, errors.New("not an event")
}

func newPod(name, uid, cpu string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(uid)}}
	p.Spec.SchedulerName = "berth"
	p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}}}
	return p
}

func (s *story) decision(w string) *berthv1.Decision {
	if name, nodes, ok := strings.Cut(w, "->"); ok {
		d := &berthv1.Decision{PodUid: string(s.pods[name].UID), Outcome: berthv1.Outcome_OUTCOME_PLACED}
		for node := range strings.SplitSeq(nodes, ",") {
			node, uid, _ := strings.Cut(node, "/")
			d.Candidates = append(d.Candidates, &berthv1.Candidate{NodeName: node, NodeUid: or(uid, node+"-uid")})
		}
		return d
	}
	w, preemption, preempts := strings.Cut(w, "!")
	name, outcome, _ := strings.Cut(w, ":")
	outcome, text, _ := strings.Cut(outcome, ":")
	d := &berthv1.Decision{PodUid: string(s.pods[name].UID), Outcome: berthv1.Outcome(berthv1.Outcome_value["OUTCOME_"+outcome])}
	if preempts {
		node, names, _ := strings.Cut(preemption, "<")
		node, violations, _ := strings.Cut(node, "/")
		d.Preemption = &berthv1.Preemption{NodeName: node, NodeUid: node + "-uid"}
		fmt.Sscan(violations, &d.Preemption.BudgetViolations)
		for name := range strings.SplitSeq(names, ",") {
			uid := name + "-uid"
			if p := s.pods[name]; p != nil {
				uid = string(p.UID)
			}
			d.Preemption.Victims = append(d.Preemption.Victims, &berthv1.Victim{Uid: uid, Namespace: "ns", Name: name})
		}
	}
	switch d.Outcome {
	case berthv1.Outcome_OUTCOME_REJECTED:
		text, wakes, ok := strings.Cut(text, "|")
		text, helpless, _ := strings.Cut(text, "~")
		d.Rejection = &berthv1.Rejection{Message: text, Preemption: strings.ReplaceAll(helpless, "_", " ")}
		if ok {
			for _, wake := range strings.Split(wakes, ";") {
				d.Rejection.WakeConditions = append(d.Rejection.WakeConditions, wakeCondition(wake))
			}
		}
	case berthv1.Outcome_OUTCOME_UNSUPPORTED:
		d.Refusal = &berthv1.Refusal{Constraint: text}
	case berthv1.Outcome_OUTCOME_INVALID:
		d.Refusal = &berthv1.Refusal{Field: text, Message: "bad"}
	}
	return d
}

func wakeCondition(text string) *berthv1.WakeCondition {
	w := &berthv1.WakeCondition{}
	text, cpu, free := strings.Cut(text, "/cpu:")
	if free {
		var amount int64
		fmt.Sscan(cpu, &amount)
		w.Free = map[string]int64{"cpu": amount}
	}
	text, nodes, named := strings.Cut(text, "@")
	if named {
		w.NodeNames = strings.Split(nodes, ",")
	}
	words := strings.Split(text, "+")
	w.Object = berthv1.ObjectKind(berthv1.ObjectKind_value["OBJECT_KIND_"+words[0]])
	for _, change := range words[1:] {
		w.Changes = append(w.Changes, berthv1.ChangeKind(berthv1.ChangeKind_value["CHANGE_KIND_"+change]))
	}
	return w
}

// print says what Ready wants, and where every pod is.
func (s *story) print() string {
	var out strings.Builder
	r := s.driver.Ready()
	for _, b := range r.Decide {
		s.version = b.Version
		fmt.Fprintf(&out, "decide #%d", b.ID)
		if b.Fallback > 0 {
			fmt.Fprintf(&out, " fallback=%d", b.Fallback)
		}
		for _, p := range b.Request.GetPods() {
			fmt.Fprintf(&out, " %s", p.GetName())
			if slices.Contains(p.GetConstraints(), berthv1.ConstraintExistingAntiAffinity) {
				fmt.Fprintf(&out, "(repelled)")
			}
			if s := p.GetSpreadSelector(); s != nil {
				fmt.Fprintf(&out, "(spread %s)", s.GetMatchLabels()["label"])
			}
		}
		snapshot := s.driver.State().Snapshot
		fmt.Fprintf(&out, " version=%d nodes=[", b.Version)
		for i, n := range snapshot.GetNodes() {
			fmt.Fprintf(&out, "%s%s", sep(i), n.GetName())
			for _, signal := range slices.Sorted(maps.Keys(n.GetSignals())) {
				fmt.Fprintf(&out, ",%s=%d", signal, n.GetSignals()[signal])
			}
		}
		fmt.Fprintf(&out, "] placed=[")
		for i, p := range snapshot.GetPlacedPods() {
			fmt.Fprintf(&out, "%s%s@%s", sep(i), p.GetName(), p.GetNodeName())
			if p.GetNominated() {
				fmt.Fprintf(&out, "(nominated)")
			}
		}
		fmt.Fprintf(&out, "]")
		for _, b := range snapshot.GetDisruptionBudgets() {
			fmt.Fprintf(&out, " %s allows %d", b.GetName(), b.GetDisruptionsAllowed())
		}
		fmt.Fprintf(&out, "\n")
	}
	for _, b := range r.Bind {
		fmt.Fprintf(&out, "bind %s -> %s (attempt %d)\n", b.Pod.Name, b.Node, b.Attempt)
	}
	for _, n := range r.Nominate {
		fmt.Fprintf(&out, "nominate %s for %q\n", n.Pod.Name, n.Node)
	}
	for _, e := range r.Evict {
		fmt.Fprintf(&out, "evict %s from %s for %s\n", e.Victim.Name, e.Node, e.By.Name)
	}
	for _, b := range r.Read {
		fmt.Fprintf(&out, "read %s\n", b.Name)
	}
	for _, b := range r.Report {
		switch b.Kind {
		case Preempted:
			fmt.Fprintf(&out, "report %s: %s\n", b.Pod.Name, b.Message)
		case Scheduled:
			fmt.Fprintf(&out, "report %s: Scheduled on %s\n", b.Pod.Name, b.Node)
		case FailedScheduling:
			fmt.Fprintf(&out, "report %s: %s: %s\n", b.Pod.Name, b.Reason, b.Message)
		}
	}
	if !r.Wake.IsZero() {
		fmt.Fprintf(&out, "wake in %v\n", r.Wake.Sub(s.now))
	}
	out.WriteString(s.where())
	return out.String()
}

// where says in which one place every pod is.
func (s *story) where() string {
	var lines []string
	for uid, p := range s.driver.pods {
		e := s.driver.queue.Get(uid)
		line := fmt.Sprintf("%s: %v", p.object.Name, p.phase)
		if p.phase == queued {
			line = fmt.Sprintf("%s: %v", p.object.Name, e.State())
			if e.State() == queue.Backoff {
				line += fmt.Sprintf(" for %v", e.Until().Sub(s.now))
			}
		}
		if node, _, ok := s.driver.ledger.Holds(uid); ok {
			line += " on " + node
		}
		lines = append(lines, line+"\n")
	}
	for name, p := range s.pods {
		if s.driver.pods[p.UID] != nil {
			continue
		}
		switch node, _, ok := s.driver.ledger.Holds(p.UID); {
		case ok:
			lines = append(lines, fmt.Sprintf("%s: placed on %s\n", name, node))
		case s.driver.gated[p.UID]:
			lines = append(lines, fmt.Sprintf("%s: gated\n", name))
		case p.Spec.SchedulerName != "berth":
			lines = append(lines, fmt.Sprintf("%s: not ours\n", name))
		default:
			lines = append(lines, fmt.Sprintf("%s: gone\n", name))
		}
	}
	for r, n := range s.driver.refusals {
		lines = append(lines, fmt.Sprintf("refused: %s %s %d\n", r.Decider, r.Reason, n))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func sep(i int) string {
	if i == 0 {
		return ""
	}
	return " "
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func batchID(w string) (id uint64) {
	fmt.Sscanf(w, "#%d", &id)
	return id
}
