package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	podutil "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/apps"
	_ "k8s.io/kubernetes/pkg/apis/apps/install" // adds the kinds to legacyscheme
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/policy"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	policyvalidation "k8s.io/kubernetes/pkg/apis/policy/validation"
	"k8s.io/kubernetes/pkg/registry/core/pod"
	"sigs.k8s.io/yaml"
)

// Case is a cluster and the pods that want nodes of it, as people submit them. See
// admit.
type Case struct {
	// Preempt is whether victims are looked for.
	Preempt bool `json:"preempt,omitempty"`
	// Seed breaks ties.
	Seed uint64 `json:"seed,omitempty"`

	Nodes      []*corev1.Node      `json:"nodes,omitempty"`
	Namespaces []*corev1.Namespace `json:"namespaces,omitempty"`
	// Placed pods have spec.nodeName.
	Placed []*corev1.Pod `json:"placed,omitempty"`
	// Nominated pods have status.nominatedNodeName and wait for their victims to
	// end.
	Nominated []*corev1.Pod `json:"nominated,omitempty"`
	// Pending pods are decided, in this order.
	Pending []*corev1.Pod `json:"pending,omitempty"`

	Services               []*corev1.Service               `json:"services,omitempty"`
	ReplicationControllers []*corev1.ReplicationController `json:"replicationControllers,omitempty"`
	ReplicaSets            []*appsv1.ReplicaSet            `json:"replicaSets,omitempty"`
	StatefulSets           []*appsv1.StatefulSet           `json:"statefulSets,omitempty"`
	Budgets                []*policyv1.PodDisruptionBudget `json:"budgets,omitempty"`
}

// String is the case in YAML, which ParseCase reads, without what is empty.
func (c *Case) String() string {
	raw, err := yaml.Marshal(c)
	if err != nil {
		panic(err)
	}
	var tree any
	if err := yaml.Unmarshal(raw, &tree); err != nil {
		panic(err)
	}
	if raw, err = yaml.Marshal(pruned(tree)); err != nil {
		panic(err)
	}
	return string(raw)
}

// pruned is tree without the parts of node and pod that Go cannot leave out.
// Selectors may be empty and still mean something.
func pruned(tree any) any {
	switch t := tree.(type) {
	case map[string]any:
		for key, value := range t {
			switch key {
			case "daemonEndpoints", "nodeInfo", "loadBalancer":
				delete(t, key)
				continue
			}
			value = pruned(value)
			if m, ok := value.(map[string]any); ok && len(m) == 0 && !strings.HasSuffix(key, "elector") || value == nil {
				delete(t, key)
			}
		}
	case []any:
		for i := range t {
			t[i] = pruned(t[i])
		}
	}
	return tree
}

// ParseCase reads what String prints.
func ParseCase(text []byte) (*Case, error) {
	c := &Case{}
	if err := yaml.UnmarshalStrict(text, c); err != nil {
		return nil, err
	}
	return c, nil
}

// deepCopy is a copy that shares nothing with c.
func (c *Case) deepCopy() *Case {
	return &Case{
		Preempt:                c.Preempt,
		Seed:                   c.Seed,
		Nodes:                  copies(c.Nodes),
		Namespaces:             copies(c.Namespaces),
		Placed:                 copies(c.Placed),
		Nominated:              copies(c.Nominated),
		Pending:                copies(c.Pending),
		Services:               copies(c.Services),
		ReplicationControllers: copies(c.ReplicationControllers),
		ReplicaSets:            copies(c.ReplicaSets),
		StatefulSets:           copies(c.StatefulSets),
		Budgets:                copies(c.Budgets),
	}
}

func copies[T interface{ DeepCopy() T }](in []T) []T {
	var out []T
	for _, object := range in {
		out = append(out, object.DeepCopy())
	}
	return out
}

// admit is the case as the API server holds its objects: defaulted and validated.
// The error names the first object that is refused.
func (c *Case) admit() (*Case, error) {
	c = c.deepCopy()
	for _, list := range [][]*corev1.Pod{c.Placed, c.Nominated, c.Pending} {
		for i := range list {
			p, err := admitPod(list[i])
			if err != nil {
				return nil, err
			}
			list[i] = p
		}
	}
	for _, s := range c.Services {
		legacyscheme.Scheme.Default(s)
	}
	if err := errors.Join(
		admitAll(c.Nodes, &core.Node{}, func(n *core.Node) error { return corevalidation.ValidateNode(n).ToAggregate() }),
		admitAll(c.Namespaces, &core.Namespace{}, func(n *core.Namespace) error {
			return corevalidation.ValidateNamespace(n).ToAggregate()
		}),
		admitAll(c.Budgets, &policy.PodDisruptionBudget{}, func(b *policy.PodDisruptionBudget) error {
			return policyvalidation.ValidatePodDisruptionBudget(b, policyvalidation.PodDisruptionBudgetValidationOptions{}).ToAggregate()
		}),
		admitAll(c.ReplicaSets, &apps.ReplicaSet{}, func(rs *apps.ReplicaSet) error {
			return appsvalidation.ValidateReplicaSet(rs, corevalidation.PodValidationOptions{}).ToAggregate()
		}),
		admitAll(c.StatefulSets, &apps.StatefulSet{}, func(ss *apps.StatefulSet) error {
			return appsvalidation.ValidateStatefulSet(ss, corevalidation.PodValidationOptions{}).ToAggregate()
		}),
		admitAll(c.ReplicationControllers, &core.ReplicationController{}, func(rc *core.ReplicationController) error {
			return corevalidation.ValidateReplicationController(rc, corevalidation.PodValidationOptions{}).ToAggregate()
		}),
		c.unique(),
	); err != nil {
		return nil, err
	}
	return c, nil
}

// admitAll defaults and validates objects of one kind; internal is what they are
// converted into for that.
func admitAll[T, I runtime.Object](objects []T, internal I, validate func(I) error) error {
	for _, o := range objects {
		legacyscheme.Scheme.Default(o)
		into := internal.DeepCopyObject().(I)
		if err := legacyscheme.Scheme.Convert(o, into, nil); err != nil {
			return err
		}
		if err := validate(into); err != nil {
			return fmt.Errorf("%T: %w", o, err)
		}
	}
	return nil
}

// unique refuses two objects of one name or uid, which no API server holds.
func (c *Case) unique() error {
	seen := map[string]bool{}
	once := func(kind string, o metav1.Object) error {
		for _, key := range []string{kind + "/" + o.GetNamespace() + "/" + o.GetName(), "uid " + string(o.GetUID())} {
			if seen[key] {
				return fmt.Errorf("%s is there twice", key)
			}
			seen[key] = true
		}
		if o.GetUID() == "" {
			return fmt.Errorf("%s %s has no uid", kind, o.GetName())
		}
		return nil
	}
	var errs []error
	for _, o := range c.Nodes {
		errs = append(errs, once("Node", o))
	}
	for _, list := range [][]*corev1.Pod{c.Placed, c.Nominated, c.Pending} {
		for _, o := range list {
			errs = append(errs, once("Pod", o))
		}
	}
	return errors.Join(errs...)
}

// oldAnnotation marks a pod that an API server before 1.34 created: it did not
// merge the label keys of spread constraints into their selectors.
const oldAnnotation = "differential/created-before-1.34"

// admitPod is the pod as the API server stores it on creation, with the status and
// the deletion that came later.
func admitPod(in *corev1.Pod) (*corev1.Pod, error) {
	p := in.DeepCopy()
	legacyscheme.Scheme.Default(p)
	internal := &core.Pod{}
	// What is converted shares memory with what it is made from.
	if err := legacyscheme.Scheme.Convert(p.DeepCopy(), internal, nil); err != nil {
		return nil, err
	}
	pod.Strategy.PrepareForCreate(context.Background(), internal)
	opts := podutil.GetValidationOptionsFromPodSpecAndMeta(&internal.Spec, nil, &internal.ObjectMeta, nil)
	opts.ResourceIsPod = true
	// The gate is off by default, yet kube-scheduler's rule for it is on.
	opts.AllowUserNamespacesHostNetworkSupport = true
	if err := corevalidation.ValidatePodCreate(internal, opts).ToAggregate(); err != nil {
		return nil, fmt.Errorf("pod %s: %w", in.Name, err)
	}
	out := &corev1.Pod{}
	if err := legacyscheme.Scheme.Convert(internal, out, nil); err != nil {
		return nil, err
	}
	if p.Annotations[oldAnnotation] != "" {
		out.Spec.TopologySpreadConstraints = p.Spec.TopologySpreadConstraints
	}
	out.Status = p.Status
	out.DeletionTimestamp, out.DeletionGracePeriodSeconds = p.DeletionTimestamp, p.DeletionGracePeriodSeconds
	return out, nil
}
