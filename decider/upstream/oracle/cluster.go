package oracle

import (
	"cmp"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	internalcache "k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"
)

// Cluster is what a pod is judged on. Nothing of it is changed. Pods on nodes that
// are not among Nodes take part in nothing.
type Cluster struct {
	Nodes []*corev1.Node
	// Pods are those with spec.nodeName, which hold room, and those without it and
	// with status.nominatedNodeName, for which room is set aside. Their order is
	// the order in which kube-scheduler came to know them.
	Pods []*corev1.Pod
	// Sums replaces what these pods, by uid, are counted with on their node. Others
	// are counted as kube-scheduler counts their spec and status.
	Sums                   map[types.UID]fwk.PodResource
	Namespaces             []*corev1.Namespace
	Services               []*corev1.Service
	ReplicationControllers []*corev1.ReplicationController
	ReplicaSets            []*appsv1.ReplicaSet
	StatefulSets           []*appsv1.StatefulSet
	DisruptionBudgets      []*policyv1.PodDisruptionBudget
}

// Load replaces the cluster that the oracle holds. An error names the object that
// cannot be.
func (o *Oracle) Load(c *Cluster) error {
	// The snapshot counts on how many nodes each image is.
	snapshot := internalcache.NewSnapshot(nil, c.Nodes)
	loaded := cluster{byName: make(map[string]*framework.NodeInfo, len(c.Nodes)), nominated: map[string][]fwk.PodInfo{}}
	for _, n := range c.Nodes {
		if loaded.byName[n.Name] != nil {
			return fmt.Errorf("oracle: two nodes have the name %q", n.Name)
		}
		info, err := snapshot.NodeInfos().Get(n.Name)
		if err != nil {
			return err
		}
		loaded.byName[n.Name] = info.(*framework.NodeInfo)
		loaded.nodes = append(loaded.nodes, info)
	}
	slices.SortFunc(loaded.nodes, func(a, b fwk.NodeInfo) int { return cmp.Compare(a.Node().Name, b.Node().Name) })
	for _, p := range c.Pods {
		loaded.add(podInfo(p, c.Sums))
	}
	*o.cluster = loaded
	return o.objects.replace(c)
}

// Place adds a pod to the cluster that the oracle holds, with its sums if it needs
// other than those of its spec. The nomination that the pod may have ends.
func (o *Oracle) Place(pod *corev1.Pod, sums map[types.UID]fwk.PodResource) {
	o.cluster.DeleteNominatedPodIfExists(pod)
	o.cluster.add(podInfo(pod, sums))
}

// Replace puts pod in the place of the pod of the same uid on the same node, with
// its sums as for Place. It does nothing if there is none.
func (o *Oracle) Replace(logger klog.Logger, pod *corev1.Pod, sums map[types.UID]fwk.PodResource) {
	node := o.cluster.byName[pod.Spec.NodeName]
	if node != nil && node.RemovePod(logger, pod) == nil {
		node.AddPodInfo(podInfo(pod, sums))
	}
}

// ReplaceDisruptionBudgets replaces the budgets that the oracle holds.
func (o *Oracle) ReplaceDisruptionBudgets(budgets []*policyv1.PodDisruptionBudget) error {
	return replace(o.objects.disruptionBudgets, budgets)
}

// podInfo is kube-scheduler's view of a pod. Affinity terms that it cannot read
// are left out, as it does.
func podInfo(pod *corev1.Pod, sums map[types.UID]fwk.PodResource) fwk.PodInfo {
	info, _ := framework.NewPodInfo(pod)
	if resource, ok := sums[pod.UID]; ok {
		return &summed{PodInfo: info, resource: resource}
	}
	return info
}

// summed is a pod that counts as it is told to.
type summed struct {
	*framework.PodInfo
	resource fwk.PodResource
}

// CalculateResource returns what NodeInfo adds up.
func (s *summed) CalculateResource() fwk.PodResource { return s.resource }

// cluster is what plugins see: kube-scheduler's snapshot and its nominator.
type cluster struct {
	nodes     []fwk.NodeInfo // by name
	byName    map[string]*framework.NodeInfo
	nominated map[string][]fwk.PodInfo
}

// add puts a pod where it belongs.
func (c *cluster) add(info fwk.PodInfo) {
	pod := info.GetPod()
	if pod.Spec.NodeName == "" {
		node := pod.Status.NominatedNodeName
		c.nominated[node] = append(c.nominated[node], info)
	} else if node := c.byName[pod.Spec.NodeName]; node != nil {
		node.AddPodInfo(info)
	}
}

func (c *cluster) NodeInfos() fwk.NodeInfoLister           { return c }
func (c *cluster) StorageInfos() fwk.StorageInfoLister     { return c }
func (c *cluster) PodGroupStates() fwk.PodGroupStateLister { return c.groups() }

// groups has no pod groups: their feature is off.
func (c *cluster) groups() fwk.PodGroupStateLister {
	return internalcache.NewEmptySnapshot().PodGroupStates()
}

func (c *cluster) List() ([]fwk.NodeInfo, error) { return c.nodes, nil }

func (c *cluster) HavePodsWithAffinityList() ([]fwk.NodeInfo, error) {
	return c.with(func(n fwk.NodeInfo) bool { return len(n.GetPodsWithAffinity()) > 0 }), nil
}

func (c *cluster) HavePodsWithRequiredAntiAffinityList() ([]fwk.NodeInfo, error) {
	return c.with(func(n fwk.NodeInfo) bool { return len(n.GetPodsWithRequiredAntiAffinity()) > 0 }), nil
}

func (c *cluster) with(condition func(fwk.NodeInfo) bool) []fwk.NodeInfo {
	var nodes []fwk.NodeInfo
	for _, n := range c.nodes {
		if condition(n) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

func (c *cluster) Get(name string) (fwk.NodeInfo, error) {
	if n := c.byName[name]; n != nil {
		return n, nil
	}
	return nil, fmt.Errorf("nodeinfo not found for node name %q", name)
}

func (c *cluster) IsPVCUsedByPods(key string) bool {
	return slices.ContainsFunc(c.nodes, func(n fwk.NodeInfo) bool { return n.GetPVCRefCounts()[key] > 0 })
}

func (c *cluster) NominatedPodsForNode(name string) []fwk.PodInfo { return c.nominated[name] }

func (c *cluster) AddNominatedPod(_ klog.Logger, info fwk.PodInfo, nominating *fwk.NominatingInfo) {
	c.DeleteNominatedPodIfExists(info.GetPod())
	node := info.GetPod().Status.NominatedNodeName
	if nominating != nil && nominating.Mode() == fwk.ModeOverride {
		node = nominating.NominatedNodeName
	}
	if node != "" {
		c.nominated[node] = append(c.nominated[node], info)
	}
}

func (c *cluster) DeleteNominatedPodIfExists(pod *corev1.Pod) {
	for node, pods := range c.nominated {
		c.nominated[node] = slices.DeleteFunc(pods, func(p fwk.PodInfo) bool { return p.GetPod().UID == pod.UID })
	}
}

func (c *cluster) UpdateNominatedPod(logger klog.Logger, _ *corev1.Pod, info fwk.PodInfo) {
	c.AddNominatedPod(logger, info, nil)
}

// objects are the stores behind the listers that plugins ask.
type objects struct {
	namespaces, services, replicationControllers, replicaSets, statefulSets, disruptionBudgets cache.Indexer
}

func newObjects(f informers.SharedInformerFactory) *objects {
	return &objects{
		namespaces:             f.Core().V1().Namespaces().Informer().GetIndexer(),
		services:               f.Core().V1().Services().Informer().GetIndexer(),
		replicationControllers: f.Core().V1().ReplicationControllers().Informer().GetIndexer(),
		replicaSets:            f.Apps().V1().ReplicaSets().Informer().GetIndexer(),
		statefulSets:           f.Apps().V1().StatefulSets().Informer().GetIndexer(),
		disruptionBudgets:      f.Policy().V1().PodDisruptionBudgets().Informer().GetIndexer(),
	}
}

func (o *objects) replace(c *Cluster) error {
	return cmp.Or(
		replace(o.namespaces, c.Namespaces),
		replace(o.services, c.Services),
		replace(o.replicationControllers, c.ReplicationControllers),
		replace(o.replicaSets, c.ReplicaSets),
		replace(o.statefulSets, c.StatefulSets),
		replace(o.disruptionBudgets, c.DisruptionBudgets),
	)
}

// replace fills a store with items alone.
func replace[T any](store cache.Indexer, items []T) error {
	if len(items) == 0 && len(store.ListKeys()) == 0 {
		return nil
	}
	list := make([]any, len(items))
	for i, item := range items {
		list[i] = item
	}
	return store.Replace(list, "")
}
