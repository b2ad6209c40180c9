package solve

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/model"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// MaxNamed is how many nodes a wake condition names at most. With more, any node
// will do: what must be free tells the watcher enough.
const MaxNamed = 16

// reject sums up why no node can take p. A reason that eviction could remedy on
// some nodes and not on others is counted once for each. evictable are the nodes on
// which nothing but pods is in the way.
//
// A node that spreading or affinity to pods rules out can become good by any change
// of any node or pod. Spreading: another domain gets a pod, loses its last node or
// appears (the least rises, or there are domains enough), the node's own domain
// loses a pod or a node with pods, a pod there gets other labels or is terminating,
// a node gets other labels or taints and so is counted or not. Affinity: a wanted
// pod appears near the node, the only wanted pod goes (the pod may be the first),
// an unwanted or repelling one goes, with its node perhaps, or its labels or terms
// change, or a node's labels make it near or far. Whom terms select and who is
// repelled depends on the labels of namespaces, too.
//
// A node that another rule ruled out before those were asked is waited for as ever:
// once that rule takes it, the next rejection waits for these.
func reject(s *model.Snapshot, p *model.Pod, rules *filter.Filter) (_ *berthv1.Rejection, evictable []*model.Node) {
	counts := map[Because]*int32{}
	// Neighbours mostly have the same reason; last saves looking it up.
	var last Because
	var lastCount *int32
	count := func(k Because) {
		if lastCount == nil || k != last {
			if counts[k] == nil {
				counts[k] = new(int32)
			}
			last, lastCount = k, counts[k]
		}
		*lastCount++
	}
	for _, n := range s.Nodes {
		rule, reasons := rules.Reject(n)
		couldHelp := true
		for _, reason := range reasons {
			count(Because{rule, reason})
			couldHelp = couldHelp && reason.EvictionCouldHelp
		}
		if couldHelp {
			evictable = append(evictable, n)
		}
	}
	return NewRejection(p, len(s.Nodes), counts, rules.Free(), len(evictable), evictable), evictable
}

// Because is why a rule rules a node out.
type Because struct {
	Rule   string
	Reason filter.Reason
}

// NewRejection says that none of so many nodes takes p: counts are how many are ruled
// out because of what, free is what must be free on one, and evictable is on how many
// nothing but pods is in the way; those are in named if they are not more than MaxNamed.
func NewRejection(p *model.Pod, nodes int, counts map[Because]*int32, free map[string]int64, evictable int, named []*model.Node) *berthv1.Rejection {
	rejection := &berthv1.Rejection{}
	texts := map[string]int32{}
	by := map[string]bool{}
	whole := ""
	for k, nodes := range counts {
		rejection.Rules = append(rejection.Rules, &berthv1.RuleRejection{
			Rule: k.Rule, Text: k.Reason.Text, Nodes: *nodes, EvictionCouldHelp: k.Reason.EvictionCouldHelp,
		})
		texts[k.Reason.Text] += *nodes
		by[k.Rule] = true
		if k.Reason.WholePod {
			whole = k.Reason.Text
		}
	}
	slices.SortFunc(rejection.Rules, func(a, b *berthv1.RuleRejection) int {
		return cmp.Or(cmp.Compare(a.GetRule(), b.GetRule()), cmp.Compare(a.GetText(), b.GetText()),
			byEviction(a.GetEvictionCouldHelp(), b.GetEvictionCouldHelp()))
	})
	rejection.Message = message(nodes, whole, texts)
	switch {
	case by[filter.InterPodAffinity]:
		rejection.WakeConditions = []*berthv1.WakeCondition{
			{Object: berthv1.ObjectKind_OBJECT_KIND_NODE},
			{Object: berthv1.ObjectKind_OBJECT_KIND_PLACED_POD},
			{Object: berthv1.ObjectKind_OBJECT_KIND_NAMESPACE},
		}
	case by[filter.PodTopologySpread]:
		rejection.WakeConditions = []*berthv1.WakeCondition{
			{Object: berthv1.ObjectKind_OBJECT_KIND_NODE},
			{Object: berthv1.ObjectKind_OBJECT_KIND_PLACED_POD},
		}
	default:
		rejection.WakeConditions = wakeConditions(p, free, evictable, named)
	}
	return rejection
}

// byEviction puts false before true.
func byEviction(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// message is what kube-scheduler says. Its counts are sorted as strings, so that
// "10 ..." comes before "2 ...".
func message(nodes int, whole string, texts map[string]int32) string {
	if nodes == 0 {
		return "no nodes available to schedule pods"
	}
	if whole != "" {
		return fmt.Sprintf("0/%d nodes are available: %s.", nodes, whole)
	}
	var counted []string
	for text, n := range texts {
		counted = append(counted, fmt.Sprintf("%d %s", n, text))
	}
	slices.Sort(counted)
	return fmt.Sprintf("0/%d nodes are available: %s.", nodes, strings.Join(counted, ", "))
}

// wakeConditions says what could make room for p: a node that appears or
// changes, and a pod that goes away from a node where only pods are in the way.
//
// What p needs must be free after a pod went away. It is not asked of a node that
// changed: a node that loses a taint while it is full has to be looked at, so
// that the next rejection waits for its pods.
func wakeConditions(p *model.Pod, free map[string]int64, evictable int, named []*model.Node) []*berthv1.WakeCondition {
	node := &berthv1.WakeCondition{
		Object:  berthv1.ObjectKind_OBJECT_KIND_NODE,
		Changes: []berthv1.ChangeKind{berthv1.ChangeKind_CHANGE_KIND_ADDED, berthv1.ChangeKind_CHANGE_KIND_UPDATED},
	}
	if p.NodeName != "" {
		node.NodeNames = []string{p.NodeName}
	}
	if evictable == 0 {
		return []*berthv1.WakeCondition{node}
	}
	placed := &berthv1.WakeCondition{
		Object:  berthv1.ObjectKind_OBJECT_KIND_PLACED_POD,
		Changes: []berthv1.ChangeKind{berthv1.ChangeKind_CHANGE_KIND_UPDATED, berthv1.ChangeKind_CHANGE_KIND_DELETED},
		Free:    free,
	}
	if evictable <= MaxNamed {
		for _, n := range named {
			placed.NodeNames = append(placed.NodeNames, n.Name)
		}
	}
	return []*berthv1.WakeCondition{node, placed}
}
