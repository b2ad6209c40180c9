package batch

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	fwk "k8s.io/kube-scheduler/framework"
	schedconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/latest"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"

	"github.com/berth-scheduler/berth/decider/upstream/oracle"
)

// The annotations by which a node says that it must not be used, and that
// evictions could change that.
const (
	unusable  = "unusable"
	evictable = "evictable"
)

// mark annotates the nodes that must not be used.
func (b *batch) mark() {
	for _, n := range b.cluster.Nodes {
		if reason, ok := b.request.Unusable[n.Name]; ok {
			n.Annotations = map[string]string{unusable: reason.Text}
			if reason.EvictionCouldHelp {
				n.Annotations[evictable] = ""
			}
		}
	}
}

// usable is a filter plugin that rejects the nodes that must not be used. It has
// the name of the rule that does so in Berth's own decider.
type usable struct{}

const usableName = "Snapshot"

func (usable) Name() string { return usableName }

func (usable) Filter(_ context.Context, _ fwk.CycleState, _ *corev1.Pod, node fwk.NodeInfo) *fwk.Status {
	text, ok := node.Node().Annotations[unusable]
	if !ok {
		return nil
	}
	if _, ok := node.Node().Annotations[evictable]; ok {
		return fwk.NewStatus(fwk.Unschedulable, text)
	}
	return fwk.NewStatus(fwk.UnschedulableAndUnresolvable, text)
}

// SignPod has nothing to add: the plugin looks at nodes alone. kube-scheduler
// complains of filters that do not say so.
func (usable) SignPod(context.Context, *corev1.Pod) ([]fwk.SignFragment, *fwk.Status) {
	return nil, nil
}

// withUsable is an oracle's configuration with that plugin before all others. Nil is
// kube-scheduler's default profile.
func withUsable(profile *schedconfig.KubeSchedulerProfile, plugins frameworkruntime.Registry) (oracle.Config, error) {
	if profile == nil {
		defaults, err := latest.Default()
		if err != nil {
			return oracle.Config{}, err
		}
		profile = &defaults.Profiles[0]
	}
	profile = profile.DeepCopy()
	first := []schedconfig.Plugin{{Name: usableName}}
	if slices.ContainsFunc(profile.Plugins.Filter.Disabled, func(p schedconfig.Plugin) bool { return p.Name == "*" }) {
		profile.Plugins.Filter.Enabled = append(first, profile.Plugins.Filter.Enabled...)
	} else {
		profile.Plugins.MultiPoint.Enabled = append(first, profile.Plugins.MultiPoint.Enabled...)
	}
	registry := frameworkruntime.Registry{usableName: func(context.Context, kruntime.Object, fwk.Handle) (fwk.Plugin, error) {
		return usable{}, nil
	}}
	if err := registry.Merge(plugins); err != nil {
		return oracle.Config{}, err
	}
	return oracle.Config{Profile: profile, Plugins: registry}, nil
}
