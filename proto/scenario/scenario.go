// Package scenario is the contract as text that people write and read, for tests
// and for documentation.
//
// A record is a line: its name, then words. Lines that are empty or begin with #
// mean nothing. In a cluster a line that begins with namespace or budget is one of
// these, a line with the word on= is a placed pod, any other a node:
//
//	a zone=z1 cpu=4 memory=8Gi taint=gpu=yes:NoSchedule
//	b zone=z2 cpu=4 nvidia.com/gpu=2 unschedulable
//	web on=a cpu=500m priority=10
//	namespace prod team=a
//	budget prod/web selector=app=web allowed=1
//
// Words of every node and pod:
//
//	cpu=500m memory=1Gi        a resource; one with a / in its name is an extended
//	                           resource; cpu in cores or with m, others with Ki,
//	                           Mi, Gi, Ti or none
//	zone=z1 label:a/b=v        a label; label: is needed for names with a / and
//	                           for names that mean something here
//	uid=x constraint=Name      a node's uid is empty and a pod's is its name
//	                           unless given
//	feature=Name               what a node declares, and what a pod that wants a
//	                           node requires
//
// Words of nodes: taint=key[=value]:Effect, unschedulable, condition=Ready:True,
// image:name=size, signal:name=1500m (in its unit or with m). A node has room for
// 110 pods unless it says pods=.
//
// Words of all pods: namespace=, priority=, port=[ip:]8080[/UDP], score-cpu= and
// score-memory= (what scores count, if not the request or kube-scheduler's
// default of 100m and 200Mi), and
//
//	pod-affinity=topologyKey:selector       required; of pods of its own namespace
//	pod-anti-affinity=topologyKey:selector  unless ;namespaces=a,b or
//	prefer-pod=weight:topologyKey:selector  ;namespace-selector=selector follows
//	prefer-no-pod=weight:topologyKey:selector
//
// A selector of labels is requirements separated by &, each key=value (one of
// matchLabels) or key:Operator[:value,value] (one of matchExpressions); nothing at
// all is the empty selector, and ! is one that is absent.
//
// Pods that want a node also have node= (its only node), selector=key=value,
// toleration=[key[=value]][:Effect] (without =value, any value; an empty one is
// key=), affinity= (terms separated by |, requirements by &, each
// key:Operator[:value,value], the key metadata.name is the field),
// prefer=weight:term, placed-score-cpu= and placed-score-memory= (what scores count
// once it is placed, if that differs), preemption=Never, nominated-node=, image=,
// volume-image=, spread-selector=selector and
//
//	spread=topologyKey:maxSkew:DoNotSchedule:selector   or ScheduleAnyway; ;min=2
//	                           ;affinity=Ignore ;taints=Honor ;keys=a,b may follow
//
// Placed pods have on=, terminating, preempted, nominated and start=. Namespaces
// have labels. Budgets have selector=selector, allowed= and disrupted=name,name;
// without namespace/ before its name a budget is of the empty namespace, as pods
// without namespace= are.
package scenario

import (
	"fmt"
	"strconv"
	"strings"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// kube-scheduler's defaults for containers without requests, as scores count
// them.
const (
	defaultScoreCPU    = 100
	defaultScoreMemory = 200 << 20
)

// defaultPods is how many pods a node takes unless it says otherwise: kubelet's
// default.
const defaultPods = 110

// ParseCluster parses nodes, placed pods, namespaces and budgets. Errors name the
// line.
func ParseCluster(text string) (*berthv1.Snapshot, error) {
	s := &berthv1.Snapshot{}
	err := eachLine(text, func(line string) error {
		switch keyword := strings.Fields(line)[0]; {
		case keyword == "namespace":
			ns, err := parseNamespace(line)
			s.Namespaces = append(s.Namespaces, ns)
			return err
		case keyword == "budget":
			b, err := parseBudget(line)
			s.DisruptionBudgets = append(s.DisruptionBudgets, b)
			return err
		case isPlaced(line):
			p, err := ParsePlacedPod(line)
			s.PlacedPods = append(s.PlacedPods, p)
			return err
		}
		n, err := ParseNode(line)
		s.Nodes = append(s.Nodes, n)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// ParsePods parses pods that want a node, one a line. Errors name the line.
func ParsePods(text string) ([]*berthv1.Pod, error) {
	var pods []*berthv1.Pod
	err := eachLine(text, func(line string) error {
		p, err := ParsePod(line)
		pods = append(pods, p)
		return err
	})
	if err != nil {
		return nil, err
	}
	return pods, nil
}

func eachLine(text string, parse func(line string) error) error {
	for i, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if err := parse(line); err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return nil
}

func isPlaced(line string) bool {
	for _, word := range strings.Fields(line) {
		if strings.HasPrefix(word, "on=") {
			return true
		}
	}
	return false
}

// ParseNode parses a node.
func ParseNode(line string) (*berthv1.Node, error) {
	n := &berthv1.Node{Labels: map[string]string{}, Allocatable: map[string]int64{"pods": defaultPods}}
	var err error
	n.Name, err = parseWords(line, func(key, value string) (known bool, err error) {
		switch key {
		case "uid":
			n.Uid = value
		case "constraint":
			n.Constraints = append(n.Constraints, value)
		case "unschedulable":
			n.Unschedulable = true
			return true, none(value)
		case "taint":
			var t *berthv1.Taint
			t, err = parseTaint(value)
			n.Taints = append(n.Taints, t)
		case "condition":
			var c *berthv1.NodeCondition
			c, err = parseCondition(value)
			n.Conditions = append(n.Conditions, c)
		case "feature":
			n.DeclaredFeatures = append(n.DeclaredFeatures, value)
		default:
			if image, ok := strings.CutPrefix(key, "image:"); ok {
				if n.Images == nil {
					n.Images = map[string]int64{}
				}
				n.Images[image], err = parseQuantity("image", value)
				return true, err
			}
			if signal, ok := strings.CutPrefix(key, "signal:"); ok {
				if n.Signals == nil {
					n.Signals = map[string]int64{}
				}
				n.Signals[signal], err = parseMilli("signal", value)
				return true, err
			}
			return parseShared(key, value, n.Labels, n.Allocatable)
		}
		return true, err
	})
	if err != nil {
		return nil, err
	}
	return n, nil
}

// ParsePlacedPod parses a pod that holds room on a node.
func ParsePlacedPod(line string) (*berthv1.PlacedPod, error) {
	p := &berthv1.PlacedPod{Labels: map[string]string{}, Requests: map[string]int64{}, ScoreRequests: map[string]int64{}}
	var near podAffinities
	var err error
	p.Name, err = parseWords(line, func(key, value string) (known bool, err error) {
		switch key {
		case "uid":
			p.Uid = value
		case "namespace":
			p.Namespace = value
		case "on":
			p.NodeName = value
		case "priority":
			p.Priority, err = parseInt32(value)
		case "port":
			p.HostPorts, err = appendPort(p.HostPorts, value)
		case "terminating":
			p.Terminating = true
			return true, none(value)
		case "preempted":
			p.Preempted = true
			return true, none(value)
		case "constraint":
			p.Constraints = append(p.Constraints, value)
		case "nominated":
			p.Nominated = true
			return true, none(value)
		case "start":
			p.StartTimeNanos, err = strconv.ParseInt(value, 10, 64)
		case "score-cpu":
			p.ScoreRequests["cpu"], err = parseQuantity("cpu", value)
		case "score-memory":
			p.ScoreRequests["memory"], err = parseQuantity("memory", value)
		default:
			if known, err := near.parse(key, value); known || err != nil {
				return known, err
			}
			return parseShared(key, value, p.Labels, p.Requests)
		}
		return true, err
	})
	if err != nil {
		return nil, err
	}
	if p.NodeName == "" {
		return nil, fmt.Errorf("placed pod %q: on= names its node", p.Name)
	}
	if p.Uid == "" {
		p.Uid = p.Name
	}
	p.PodAffinity, p.PodAntiAffinity = near.affinity, near.anti
	addScoreDefaults(p.ScoreRequests, p.Requests)
	return p, nil
}

// ParsePod parses a pod that wants a node.
func ParsePod(line string) (*berthv1.Pod, error) {
	p := &berthv1.Pod{Labels: map[string]string{}, Requests: map[string]int64{}, ScoreRequests: map[string]int64{}}
	affinity := &berthv1.NodeAffinity{}
	var near podAffinities
	var err error
	p.Name, err = parseWords(line, func(key, value string) (known bool, err error) {
		switch key {
		case "uid":
			p.Uid = value
		case "namespace":
			p.Namespace = value
		case "constraint":
			p.Constraints = append(p.Constraints, value)
		case "node":
			p.NodeName = value
		case "priority":
			p.Priority, err = parseInt32(value)
		case "port":
			p.HostPorts, err = appendPort(p.HostPorts, value)
		case "selector":
			label, wanted, ok := strings.Cut(value, "=")
			if !ok {
				return true, fmt.Errorf("%q is not key=value", value)
			}
			if p.NodeSelector == nil {
				p.NodeSelector = map[string]string{}
			}
			p.NodeSelector[label] = wanted
		case "toleration":
			var t *berthv1.Toleration
			t, err = parseToleration(value)
			p.Tolerations = append(p.Tolerations, t)
		case "affinity":
			affinity.Required, err = parseSelector(value)
		case "prefer":
			var preferred *berthv1.PreferredNodeTerm
			preferred, err = parsePreferred(value)
			affinity.Preferred = append(affinity.Preferred, preferred)
		case "preemption":
			if value != "Never" {
				return true, fmt.Errorf("%q is not Never", value)
			}
			p.PreemptionPolicy = berthv1.PreemptionPolicy_PREEMPTION_POLICY_NEVER
		case "spread":
			var c *berthv1.TopologySpreadConstraint
			c, err = parseSpread(value)
			p.TopologySpreadConstraints = append(p.TopologySpreadConstraints, c)
		case "spread-selector":
			p.SpreadSelector, err = parseLabelSelector(value)
		case "image":
			p.Images = append(p.Images, value)
		case "volume-image":
			p.VolumeImages = append(p.VolumeImages, value)
		case "feature":
			p.RequiredFeatures = append(p.RequiredFeatures, value)
		case "nominated-node":
			p.NominatedNodeName = value
		case "score-cpu":
			p.ScoreRequests["cpu"], err = parseQuantity("cpu", value)
		case "score-memory":
			p.ScoreRequests["memory"], err = parseQuantity("memory", value)
		case "placed-score-cpu":
			p.PlacedScoreRequests, err = withQuantity(p.PlacedScoreRequests, "cpu", value)
		case "placed-score-memory":
			p.PlacedScoreRequests, err = withQuantity(p.PlacedScoreRequests, "memory", value)
		default:
			if known, err := near.parse(key, value); known || err != nil {
				return known, err
			}
			return parseShared(key, value, p.Labels, p.Requests)
		}
		return true, err
	})
	if err != nil {
		return nil, err
	}
	if affinity.Required != nil || affinity.Preferred != nil {
		p.NodeAffinity = affinity
	}
	if p.Uid == "" {
		p.Uid = p.Name
	}
	p.PodAffinity, p.PodAntiAffinity = near.affinity, near.anti
	addScoreDefaults(p.ScoreRequests, p.Requests)
	return p, nil
}

// withQuantity adds a resource to amounts, which may be nil.
func withQuantity(amounts map[string]int64, name, value string) (map[string]int64, error) {
	if amounts == nil {
		amounts = map[string]int64{}
	}
	var err error
	amounts[name], err = parseQuantity(name, value)
	return amounts, err
}

// namespace NAME words
func parseNamespace(line string) (*berthv1.Namespace, error) {
	ns := &berthv1.Namespace{Labels: map[string]string{}}
	var err error
	ns.Name, err = parseWords(strings.TrimPrefix(line, "namespace"), func(key, value string) (known bool, err error) {
		return parseLabel(key, value, ns.Labels), nil
	})
	if err != nil {
		return nil, err
	}
	return ns, nil
}

// budget [NAMESPACE/]NAME words
func parseBudget(line string) (*berthv1.DisruptionBudget, error) {
	b := &berthv1.DisruptionBudget{}
	name, err := parseWords(strings.TrimPrefix(line, "budget"), func(key, value string) (known bool, err error) {
		switch key {
		case "selector":
			b.Selector, err = parseLabelSelector(value)
		case "allowed":
			b.DisruptionsAllowed, err = parseInt32(value)
		case "disrupted":
			b.DisruptedPods = strings.Split(value, ",")
		default:
			return false, nil
		}
		return true, err
	})
	if err != nil {
		return nil, err
	}
	b.Name = name
	if namespace, rest, ok := strings.Cut(name, "/"); ok {
		b.Namespace, b.Name = namespace, rest
	}
	if b.Name == "" {
		return nil, fmt.Errorf("%q: a budget needs a name after its namespace/", name)
	}
	return b, nil
}

// addScoreDefaults fills in what scores count where the line does not say it.
func addScoreDefaults(score, requests map[string]int64) {
	for _, d := range []struct {
		name  string
		value int64
	}{{"cpu", defaultScoreCPU}, {"memory", defaultScoreMemory}} {
		if _, given := score[d.name]; given {
			continue
		}
		score[d.name] = d.value
		if requests[d.name] != 0 {
			score[d.name] = requests[d.name]
		}
	}
}

// parseWords splits a line into its name and words and hands each word to parse.
func parseWords(line string, parse func(key, value string) (known bool, err error)) (name string, _ error) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return "", fmt.Errorf("a record begins with its name")
	}
	name = words[0]
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		known, err := parse(key, value)
		if err != nil {
			return "", fmt.Errorf("%q: %s: %w", name, word, err)
		}
		if !known {
			return "", fmt.Errorf("%q: %s: not a word of this record", name, word)
		}
	}
	return name, nil
}

// none refuses the value of a word that stands alone.
func none(value string) error {
	if value != "" {
		return fmt.Errorf("takes no value")
	}
	return nil
}

// resourceNames are the resources that are known without a / in their name.
var resourceNames = map[string]bool{"cpu": true, "memory": true, "ephemeral-storage": true, "pods": true}

// parseShared parses a resource or a label.
func parseShared(key, value string, labels map[string]string, resources map[string]int64) (known bool, err error) {
	if resourceNames[key] || strings.Contains(key, "/") && !strings.HasPrefix(key, "label:") {
		resources[key], err = parseQuantity(key, value)
		return true, err
	}
	return parseLabel(key, value, labels), nil
}

func parseLabel(key, value string, labels map[string]string) (known bool) {
	if label, ok := strings.CutPrefix(key, "label:"); ok {
		labels[label] = value
		return label != ""
	}
	if key == "" || value == "" {
		return false
	}
	labels[key] = value
	return true
}
