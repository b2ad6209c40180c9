package workload

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// nodeMilli is the cpu of a node, and podMilli what a pod asks for unless it is there to
// differ.
const nodeMilli, podMilli = 4000, 100

// Full returns a workload of pods alike on nodes of whose cpu so many percent are taken. It
// is none of All.
func Full(percent int) Workload {
	return Workload{
		Name:        fmt.Sprintf("full-%d", percent),
		Description: fmt.Sprintf("pods alike, on nodes whose cpu is %d %% full", percent),
		Full:        percent,
		pod: func(_ *corev1.Pod, i, nodes int) int {
			rooms := 0
			for n := range nodes {
				if rooms += room(n, percent); i < rooms {
					return n
				}
			}
			return fitsNowhere
		},
	}
}

// room is how many pods of the usual size the n-th node takes when so many percent of the
// cluster's cpu are taken. It goes from none to twice the mean, so that everybody wants the
// same few nodes.
func room(n, percent int) int {
	mean := nodeMilli / podMilli * (100 - percent) / 100
	return n / len(zones) % (2*mean + 1)
}

// fillers are what leaves each of the nodes its room.
func fillers(nodes, percent int) []*corev1.Pod {
	pods := make([]*corev1.Pod, nodes)
	for i := range pods {
		p := newPod(fmt.Sprintf("full-%06d", i), "nobody")
		p.Namespace = PlacedNamespace
		p.Spec.NodeName = nodeName(i)
		p.Spec.Containers[0].Resources.Requests = requests(int64(nodeMilli-podMilli*room(i, percent)), 500)
		pods[i] = p
	}
	return pods
}

// Warming returns pods alike that are not of any workload: for a scheduler to learn what
// deciding takes.
func Warming(scheduler string, pods int) []*corev1.Pod {
	all := make([]*corev1.Pod, pods)
	for i := range all {
		all[i] = newPod(fmt.Sprintf("warming-%03d", i), scheduler)
	}
	return all
}
