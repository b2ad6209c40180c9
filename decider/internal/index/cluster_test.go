package index_test

import (
	"maps"
	"math/rand/v2"
	"slices"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// cluster is the content of a state: its records, which are not changed, by key.
type cluster struct {
	nodes      map[string]*berthv1.Node
	pods       map[string]*berthv1.PlacedPod
	namespaces map[string]*berthv1.Namespace
	budgets    map[string]*berthv1.DisruptionBudget
}

func newCluster() *cluster {
	return &cluster{
		nodes: map[string]*berthv1.Node{}, pods: map[string]*berthv1.PlacedPod{},
		namespaces: map[string]*berthv1.Namespace{}, budgets: map[string]*berthv1.DisruptionBudget{},
	}
}

// budgetKey is the key of a budget, or of what names one.
func budgetKey(b interface {
	GetNamespace() string
	GetName() string
}) string {
	return b.GetNamespace() + "/" + b.GetName()
}

// apply does what the contract says of changes, word for word.
func (c *cluster) apply(changes *berthv1.Changes) {
	for _, name := range changes.GetRemovedNodes() {
		delete(c.nodes, name)
	}
	for _, uid := range changes.GetRemovedPlacedPods() {
		delete(c.pods, uid)
	}
	for _, name := range changes.GetRemovedNamespaces() {
		delete(c.namespaces, name)
	}
	for _, key := range changes.GetRemovedDisruptionBudgets() {
		delete(c.budgets, budgetKey(key))
	}
	for _, n := range changes.GetNodes() {
		c.nodes[n.GetName()] = n
	}
	for _, q := range changes.GetPlacedPods() {
		c.pods[q.GetUid()] = q
	}
	for _, n := range changes.GetNamespaces() {
		c.namespaces[n.GetName()] = n
	}
	for _, b := range changes.GetDisruptionBudgets() {
		c.budgets[budgetKey(b)] = b
	}
}

// inverse are the changes that take back what changes would do to c.
func (c *cluster) inverse(changes *berthv1.Changes) *berthv1.Changes {
	back := &berthv1.Changes{}
	restore(c.nodes, changes.GetNodes(), changes.GetRemovedNodes(), (*berthv1.Node).GetName, &back.Nodes, &back.RemovedNodes)
	restore(c.pods, changes.GetPlacedPods(), changes.GetRemovedPlacedPods(), (*berthv1.PlacedPod).GetUid, &back.PlacedPods, &back.RemovedPlacedPods)
	restore(c.namespaces, changes.GetNamespaces(), changes.GetRemovedNamespaces(), (*berthv1.Namespace).GetName, &back.Namespaces, &back.RemovedNamespaces)
	keys := map[string]*berthv1.DisruptionBudgetKey{}
	var removed, gone []string
	for _, key := range changes.GetRemovedDisruptionBudgets() {
		removed, keys[budgetKey(key)] = append(removed, budgetKey(key)), key
	}
	for _, b := range changes.GetDisruptionBudgets() {
		keys[budgetKey(b)] = &berthv1.DisruptionBudgetKey{Namespace: b.GetNamespace(), Name: b.GetName()}
	}
	restore(c.budgets, changes.GetDisruptionBudgets(), removed, func(b *berthv1.DisruptionBudget) string { return budgetKey(b) }, &back.DisruptionBudgets, &gone)
	for _, key := range gone {
		back.RemovedDisruptionBudgets = append(back.RemovedDisruptionBudgets, keys[key])
	}
	return back
}

// restore says of the records that are set and removed which ones are to be set and
// removed to have those of before.
func restore[R any](before map[string]R, set []R, removed []string, key func(R) string, again *[]R, gone *[]string) {
	seen := map[string]bool{}
	for _, r := range set {
		removed = append(slices.Clip(removed), key(r))
	}
	for _, k := range removed {
		if seen[k] {
			continue
		}
		seen[k] = true
		if old, ok := before[k]; ok {
			*again = append(*again, old)
		} else {
			*gone = append(*gone, k)
		}
	}
}

// snapshot is the content in the order that a number stands for.
func (c *cluster) snapshot(order uint64) *berthv1.Snapshot {
	r := rand.New(rand.NewPCG(order, 0))
	return &berthv1.Snapshot{
		Nodes: shuffled(r, c.nodes), PlacedPods: shuffled(r, c.pods),
		Namespaces: shuffled(r, c.namespaces), DisruptionBudgets: shuffled(r, c.budgets),
	}
}

func shuffled[R any](r *rand.Rand, records map[string]R) []R {
	out := make([]R, 0, len(records))
	for _, key := range sortedKeys(records) {
		out = append(out, records[key])
	}
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func sortedKeys[R any](records map[string]R) []string {
	return slices.Sorted(maps.Keys(records))
}
