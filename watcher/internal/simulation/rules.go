package simulation

import (
	"cmp"
	"maps"
	"slices"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// rooms are the nodes of a state with what is on them, in name order: what the model's
// deciders, and the laws, see of it. Of the rules they know those that the model's pods
// use: cordons, taints, cpu, hostname anti-affinity, zone spread, and nominations.
type rooms []*room

type room struct {
	node *berthv1.Node
	zone string
	// pods are those on the node and, nominated, those that it is set aside for.
	pods []*berthv1.PlacedPod
}

func roomsOf(s *berthv1.Snapshot) rooms {
	all := make(rooms, len(s.GetNodes()))
	for i, n := range s.GetNodes() {
		all[i] = &room{node: n, zone: n.GetLabels()[zoneLabel]}
	}
	for _, p := range s.GetPlacedPods() {
		if r := all.find(p.GetNodeName()); r != nil {
			r.pods = append(r.pods, p)
		}
	}
	return all
}

func (all rooms) find(name string) *room {
	for _, r := range all {
		if r.node.GetName() == name {
			return r
		}
	}
	return nil
}

// withdraw ends the nomination of a pod.
func (all rooms) withdraw(uid string) {
	for _, r := range all {
		r.pods = slices.DeleteFunc(r.pods, func(p *berthv1.PlacedPod) bool { return p.GetUid() == uid && p.GetNominated() })
	}
}

func (r *room) open() bool { return !r.node.GetUnschedulable() && len(r.node.GetTaints()) == 0 }

// free is the cpu that nobody on the node holds; aside says whether a nomination counts.
func (r *room) free(aside func(*berthv1.PlacedPod) bool) int64 {
	free := r.node.GetAllocatable()["cpu"]
	for _, p := range r.pods {
		if !p.GetNominated() || aside(p) {
			free -= p.GetRequests()["cpu"]
		}
	}
	return free
}

// reason is why a node does not take a pod.
type reason int

const (
	fits reason = iota
	closed
	full
	apart  // an anti-affinity, of the pod or of one on the node
	skewed // a spread constraint
)

// admits says why the node does not take the pod: with the pods for which room is set
// aside there before it, and without them.
func (all rooms) admits(p *berthv1.Pod, r *room) reason {
	if !r.open() {
		return closed
	}
	none := func(*berthv1.PlacedPod) bool { return false }
	respected := func(m *berthv1.PlacedPod) bool {
		return m.GetUid() != p.GetUid() && m.GetPriority() >= p.GetPriority()
	}
	if p.GetRequests()["cpu"] > r.free(respected) {
		return full
	}
	for _, other := range r.pods {
		if other.GetUid() == p.GetUid() || other.GetNominated() && !respected(other) {
			continue
		}
		if selects(p.GetPodAntiAffinity(), other.GetLabels()) || selects(other.GetPodAntiAffinity(), p.GetLabels()) {
			return apart
		}
	}
	if all.skews(p, r, none) || all.skews(p, r, respected) {
		return skewed
	}
	return fits
}

// selects says whether one of the required terms selects a pod with these labels.
func selects(a *berthv1.PodAffinity, labels map[string]string) bool {
	return slices.ContainsFunc(a.GetRequired(), func(t *berthv1.PodAffinityTerm) bool {
		return matches(t.GetLabelSelector(), labels)
	})
}

func matches(s *berthv1.LabelSelector, labels map[string]string) bool {
	for k, v := range s.GetMatchLabels() {
		if labels[k] != v {
			return false
		}
	}
	return s != nil
}

// skews says whether the pod on the node would break its zone spread.
func (all rooms) skews(p *berthv1.Pod, r *room, aside func(*berthv1.PlacedPod) bool) bool {
	for _, c := range p.GetTopologySpreadConstraints() {
		if r.zone == "" {
			return true
		}
		counts := map[string]int32{}
		for _, other := range all {
			if other.zone == "" {
				continue
			}
			counts[other.zone] += 0
			for _, q := range other.pods {
				if q.GetUid() != p.GetUid() && !q.GetTerminating() && (!q.GetNominated() || aside(q)) &&
					matches(c.GetLabelSelector(), q.GetLabels()) {
					counts[other.zone]++
				}
			}
		}
		least := slices.Min(slices.Collect(maps.Values(counts)))
		if counts[r.zone]+1-least > c.GetMaxSkew() {
			return true
		}
	}
	return false
}

// place puts the pod on the node, or sets the node aside for it.
func (r *room) place(p *berthv1.Pod, nominated bool) {
	r.pods = append(r.pods, &berthv1.PlacedPod{
		Uid: p.GetUid(), Namespace: p.GetNamespace(), Name: p.GetName(), NodeName: r.node.GetName(), Labels: p.GetLabels(),
		Requests: p.GetRequests(), Priority: p.GetPriority(), PodAntiAffinity: p.GetPodAntiAffinity(), Nominated: nominated,
	})
}

// decide answers a request about a state as an honest decider does.
func decide(s *berthv1.Snapshot, r *berthv1.DecideRequest) *berthv1.DecideResponse {
	all := roomsOf(s)
	out := &berthv1.DecideResponse{Epoch: s.GetEpoch(), Version: s.GetVersion()}
	for i, p := range r.GetPods() {
		if at := all.choose(p, r.GetSeed()+uint64(i)); at != nil {
			d := placed(p, at.node.GetName(), at.node.GetUid())
			for _, other := range all { // further candidates
				if len(d.Candidates) < int(r.GetCandidates()) && other != at && all.admits(p, other) == fits {
					d.Candidates = append(d.Candidates, &berthv1.Candidate{NodeName: other.node.GetName(), NodeUid: other.node.GetUid()})
				}
			}
			all.withdraw(p.GetUid())
			at.place(p, false)
			out.Decisions = append(out.Decisions, d)
			continue
		}
		d := all.reject(p)
		if r.GetPreempt() {
			d.Preemption = all.preempt(p, s.GetDisruptionBudgets())
		}
		if d.Preemption != nil {
			for _, v := range d.Preemption.GetVictims() {
				all.terminate(v.GetUid())
			}
			all.withdraw(p.GetUid())
			all.find(d.Preemption.GetNodeName()).place(p, true)
		}
		out.Decisions = append(out.Decisions, d)
	}
	return out
}

// choose is the node for the pod, nil if none will do: the one that it is nominated for,
// otherwise the first from a position on.
func (all rooms) choose(p *berthv1.Pod, position uint64) *room {
	if r := all.find(p.GetNominatedNodeName()); r != nil && all.admits(p, r) == fits {
		return r
	}
	for i := range all {
		if r := all[(uint64(i)+position)%uint64(len(all))]; all.admits(p, r) == fits {
			return r
		}
	}
	return nil
}

func placed(p *berthv1.Pod, node, uid string) *berthv1.Decision {
	return &berthv1.Decision{PodUid: p.GetUid(), Outcome: berthv1.Outcome_OUTCOME_PLACED,
		Candidates: []*berthv1.Candidate{{NodeName: node, NodeUid: uid}}}
}

// reject says what could make room: no more than is worth another try.
func (all rooms) reject(p *berthv1.Pod) *berthv1.Decision {
	var room, others []string // nodes that lack room alone, and those where other pods are in the way
	skew, near := false, false
	for _, r := range all {
		switch all.admits(p, r) {
		case full:
			room = append(room, r.node.GetName())
			others = append(others, r.node.GetName()) // there may be more in the way than room
		case apart:
			near = true
			others = append(others, r.node.GetName())
		case skewed:
			skew = true
		}
	}
	conditions := []*berthv1.WakeCondition{{
		Object:  berthv1.ObjectKind_OBJECT_KIND_NODE,
		Changes: []berthv1.ChangeKind{berthv1.ChangeKind_CHANGE_KIND_ADDED, berthv1.ChangeKind_CHANGE_KIND_UPDATED},
	}}
	leaves := []berthv1.ChangeKind{berthv1.ChangeKind_CHANGE_KIND_UPDATED, berthv1.ChangeKind_CHANGE_KIND_DELETED}
	pods := func(c *berthv1.WakeCondition) {
		c.Object = berthv1.ObjectKind_OBJECT_KIND_PLACED_POD
		conditions = append(conditions, c)
	}
	switch {
	case skew, len(p.GetTopologySpreadConstraints()) > 0: // a pod anywhere may even things out
		pods(&berthv1.WakeCondition{})
		if skew { // so may a zone that is no more
			conditions[0].Changes = nil
		}
	case near || len(p.GetPodAntiAffinity().GetRequired()) > 0 || slices.Contains(p.GetConstraints(), berthv1.ConstraintExistingAntiAffinity):
		if len(others) > 0 { // no names are any node
			pods(&berthv1.WakeCondition{Changes: leaves, NodeNames: others})
		}
	case len(room) > 0:
		pods(&berthv1.WakeCondition{Changes: leaves, NodeNames: room, Free: p.GetRequests()})
	}
	return &berthv1.Decision{PodUid: p.GetUid(), Outcome: berthv1.Outcome_OUTCOME_REJECTED,
		Rejection: &berthv1.Rejection{Message: "no node will do", WakeConditions: conditions}}
}

// terminate marks a pod as leaving.
func (all rooms) terminate(uid string) {
	for _, r := range all {
		for i, q := range r.pods {
			if q.GetUid() == uid {
				r.pods[i] = &berthv1.PlacedPod{Uid: uid, Namespace: q.GetNamespace(), Name: q.GetName(), NodeName: q.GetNodeName(),
					Labels: q.GetLabels(), Requests: q.GetRequests(), Priority: q.GetPriority(), PodAntiAffinity: q.GetPodAntiAffinity(),
					Terminating: true, Preempted: true}
			}
		}
	}
}

// preempt is whom to evict for the pod, nil if that does not help: on the node where it
// violates the fewest budgets, hurts the least important, and takes the fewest.
func (all rooms) preempt(p *berthv1.Pod, budgets []*berthv1.DisruptionBudget) *berthv1.Preemption {
	if p.GetPreemptionPolicy() == berthv1.PreemptionPolicy_PREEMPTION_POLICY_NEVER {
		return nil
	}
	var best *berthv1.Preemption
	var bestHighest int32
	for _, r := range all {
		mine := func(q *berthv1.PlacedPod) bool { return !q.GetNominated() && q.GetPriority() < p.GetPriority() }
		if r.node.GetName() == p.GetNominatedNodeName() && slices.ContainsFunc(r.pods, func(q *berthv1.PlacedPod) bool {
			return mine(q) && q.GetPreempted()
		}) {
			return nil // room is being made already
		}
		before := r.pods
		victims := slices.DeleteFunc(slices.Clone(r.pods), func(q *berthv1.PlacedPod) bool { return !mine(q) })
		r.pods = slices.DeleteFunc(slices.Clone(r.pods), mine)
		if len(victims) == 0 || all.admits(p, r) != fits {
			r.pods = before
			continue
		}
		slices.SortStableFunc(victims, func(a, b *berthv1.PlacedPod) int {
			return cmp.Or(-cmp.Compare(a.GetPriority(), b.GetPriority()), cmp.Compare(a.GetUid(), b.GetUid()))
		})
		protected := map[string]bool{} // whose eviction a budget does not allow
		for _, b := range budgets {
			allowed := b.GetDisruptionsAllowed()
			for _, v := range victims {
				if v.GetNamespace() == b.GetNamespace() && matches(b.GetSelector(), v.GetLabels()) {
					if allowed--; allowed < 0 {
						protected[v.GetUid()] = true
					}
				}
			}
		}
		slices.SortStableFunc(victims, func(a, b *berthv1.PlacedPod) int {
			return -cmp.Compare(btoi(protected[a.GetUid()]), btoi(protected[b.GetUid()]))
		})
		preemption := &berthv1.Preemption{NodeName: r.node.GetName(), NodeUid: r.node.GetUid()}
		var highest int32
		for _, v := range victims {
			r.pods = append(r.pods, v)
			if all.admits(p, r) == fits {
				continue // it may stay
			}
			r.pods = r.pods[:len(r.pods)-1]
			preemption.Victims = append(preemption.Victims, &berthv1.Victim{Uid: v.GetUid(), Namespace: v.GetNamespace(), Name: v.GetName()})
			highest = max(highest, v.GetPriority())
			if protected[v.GetUid()] {
				preemption.BudgetViolations++
			}
		}
		r.pods = before
		if len(preemption.Victims) == 0 {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(preemption.BudgetViolations, best.BudgetViolations),
			cmp.Compare(highest, bestHighest), cmp.Compare(len(preemption.Victims), len(best.Victims))) < 0 {
			best, bestHighest = preemption, highest
		}
	}
	return best
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
