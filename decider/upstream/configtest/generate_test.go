package configtest

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// generator makes files: most of what is in them is valid, and in half of them
// something is broken.
type generator struct{ *rand.Rand }

type object = map[string]any

func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

func pick[T any](g *generator, of ...T) T { return of[g.IntN(len(of))] }

// mostly returns a valid value, and now and then another.
func mostly[T any](g *generator, broken T, valid ...T) T {
	if g.chance(4) {
		return broken
	}
	return pick(g, valid...)
}

func (g *generator) file(asYAML bool) []byte {
	file := object{"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration"}
	g.maybe(file, 10, "parallelism", func() any { return mostly(g, pick(g, 0, -1), 1, 16, 64) })
	g.maybe(file, 10, "percentageOfNodesToScore", func() any { return mostly(g, pick(g, 101, -1), 0, 50, 100) })
	g.maybe(file, 10, "podInitialBackoffSeconds", func() any { return mostly(g, pick(g, 0, -1, 11), 1, 2, 10) })
	g.maybe(file, 10, "podMaxBackoffSeconds", func() any { return mostly(g, pick(g, 0, 1), 10, 60, 9223372037) })
	g.maybe(file, 5, "enableProfiling", func() any { return g.chance(50) })
	g.maybe(file, 5, "enableContentionProfiling", func() any { return g.chance(50) })
	g.maybe(file, 5, "delayCacheUntilActive", func() any { return g.chance(50) })
	g.maybe(file, 20, "leaderElection", g.leaderElection)
	g.maybe(file, 20, "clientConnection", g.clientConnection)
	g.maybe(file, 4, "extenders", func() any {
		return pick(g, []any{}, []any{object{"urlPrefix": "http://127.0.0.1:1/", "filterVerb": "filter"}})
	})
	g.maybe(file, 90, "profiles", func() any {
		var profiles []any
		for i := range pick(g, 1, 1, 1, 1, 2, 3, 0) {
			profiles = append(profiles, g.profile(i))
		}
		return profiles
	})
	if g.chance(15) {
		g.damage(file)
	}
	data := encode(file, asYAML)
	if asYAML && g.chance(1) {
		data = append(data, "---\nparallelism: 3\n"...)
	}
	return data
}

// maybe sets a field now and then.
func (g *generator) maybe(o object, percent int, field string, value func() any) {
	if g.chance(percent) {
		o[field] = value()
	}
}

func (g *generator) leaderElection() any {
	o := object{}
	duration := func() any { return mostly(g, "-1s", "1s", "9s", "12s", "20s", "60s", "0s") }
	g.maybe(o, 40, "leaderElect", func() any { return g.chance(50) })
	g.maybe(o, 30, "leaseDuration", duration)
	g.maybe(o, 30, "renewDeadline", duration)
	g.maybe(o, 30, "retryPeriod", duration)
	g.maybe(o, 20, "resourceLock", func() any { return mostly(g, "endpoints", "leases", "") })
	g.maybe(o, 20, "resourceName", func() any { return pick(g, "", "mine") })
	g.maybe(o, 20, "resourceNamespace", func() any { return pick(g, "", "there") })
	return o
}

func (g *generator) clientConnection() any {
	o := object{}
	g.maybe(o, 30, "kubeconfig", func() any { return pick(g, "", "/etc/kubernetes/scheduler.conf") })
	g.maybe(o, 30, "qps", func() any { return pick(g, 0, 50, 0.5, -1) })
	g.maybe(o, 30, "burst", func() any { return mostly(g, -1, 0, 100) })
	g.maybe(o, 10, "contentType", func() any { return "application/json" })
	g.maybe(o, 10, "acceptContentTypes", func() any { return "" })
	return o
}

func (g *generator) profile(index int) any {
	p := object{"schedulerName": []string{"one", "two", "three"}[index]}
	if g.chance(4) {
		p["schedulerName"] = pick(g, "", "one")
	}
	if g.chance(4) {
		delete(p, "schedulerName")
	}
	g.maybe(p, 5, "percentageOfNodesToScore", func() any { return pick(g, 0, 100, 101) })
	g.maybe(p, 70, "plugins", g.plugins)
	g.maybe(p, 60, "pluginConfig", g.pluginConfig)
	return p
}

// byPoint are the plugins that take part at each extension point.
var byPoint = map[string][]string{
	"preEnqueue": {"SchedulingGates", "DefaultPreemption", "DynamicResources"},
	"queueSort":  {"PrioritySort"},
	"preFilter":  {"NodeAffinity", "NodePorts", "NodeResourcesFit", "PodTopologySpread", "InterPodAffinity", "NodeDeclaredFeatures", "VolumeZone"},
	"filter":     {"NodeUnschedulable", "NodeName", "TaintToleration", "NodeAffinity", "NodePorts", "NodeResourcesFit", "PodTopologySpread", "InterPodAffinity", "VolumeBinding"},
	"postFilter": {"DefaultPreemption", "DynamicResources"},
	"preScore":   {"TaintToleration", "NodeAffinity", "NodeResourcesFit", "NodeResourcesBalancedAllocation", "PodTopologySpread", "InterPodAffinity", "VolumeBinding"},
	"score":      {"TaintToleration", "NodeAffinity", "NodeResourcesFit", "NodeResourcesBalancedAllocation", "PodTopologySpread", "InterPodAffinity", "ImageLocality", "DynamicResources", "NodeSignals"},
	"reserve":    {"VolumeBinding", "DynamicResources"},
	"preBind":    {"VolumeBinding", "DynamicResources"},
	"bind":       {"DefaultBinder"},
	"multiPoint": {
		"SchedulingGates", "NodeUnschedulable", "NodeName", "TaintToleration", "NodeAffinity", "NodePorts", "NodeResourcesFit",
		"VolumeRestrictions", "NodeVolumeLimits", "VolumeBinding", "VolumeZone", "PodTopologySpread", "InterPodAffinity", "DynamicResources",
		"DefaultPreemption", "NodeResourcesBalancedAllocation", "ImageLocality", "NodeDeclaredFeatures", "NodeSignals",
	},
	"permit":            nil,
	"postBind":          nil,
	"placementGenerate": nil,
	"placementScore":    {"NodeResourcesFit"},
}

// strangers are names of plugins that do not belong where they are put.
var strangers = []string{"NodePort", "Coscheduling", "GangScheduling", "PodGroupPodsCount", "EBSLimits", "ImageLocality", "PrioritySort", "NodeName", "*", ""}

func (g *generator) plugins() any {
	plugins := object{}
	for _, at := range slices.Sorted(maps.Keys(byPoint)) {
		percent := 12
		if at == "multiPoint" || at == "score" || at == "filter" {
			percent = 40
		}
		g.maybe(plugins, percent, at, func() any { return g.pluginSet(byPoint[at]) })
	}
	if g.chance(8) { // NodeResourcesFit is off, whatever its arguments
		plugins["multiPoint"] = object{"disabled": []any{object{"name": "NodeResourcesFit"}}}
		return plugins
	}
	if g.chance(1) {
		plugins["multiPoint"] = object{"enabled": []any{object{"name": pick(g, "GangScheduling", "PodGroupPodsCount")}}}
	}
	// Both halves of a rule, mostly.
	for _, pair := range [][2]string{{"filter", "preFilter"}, {"score", "preScore"}} {
		if set, ok := plugins[pair[0]].(object); ok && g.chance(60) {
			if _, own := plugins[pair[1]]; !own && set["disabled"] != nil {
				plugins[pair[1]] = object{"disabled": set["disabled"]}
			}
		}
	}
	return plugins
}

func (g *generator) pluginSet(of []string) any {
	name := func() any {
		if len(of) == 0 || g.chance(2) {
			return pick(g, strangers...)
		}
		return pick(g, of...)
	}
	set := object{}
	if g.chance(60) {
		var enabled []any
		for range g.IntN(3) {
			p := object{"name": name()}
			g.maybe(p, 40, "weight", func() any { return pick(g, 0, 1, 2, 100, 2147483647, -1) })
			enabled = append(enabled, p)
		}
		set["enabled"] = enabled
	}
	if g.chance(50) {
		var disabled []any
		if g.chance(10) {
			disabled = append(disabled, object{"name": "*"})
		}
		for range g.IntN(3) {
			disabled = append(disabled, object{"name": name()})
		}
		set["disabled"] = disabled
	}
	return set
}

func (g *generator) pluginConfig() any {
	kinds := map[string]func() object{
		"DefaultPreemption": func() object {
			o := object{}
			g.maybe(o, 60, "minCandidateNodesPercentage", func() any { return mostly(g, pick(g, 101, -1), 0, 10, 100) })
			g.maybe(o, 60, "minCandidateNodesAbsolute", func() any { return mostly(g, -1, 0, 1, 100) })
			return o
		},
		"InterPodAffinity": func() object {
			o := object{}
			g.maybe(o, 60, "hardPodAffinityWeight", func() any { return mostly(g, pick(g, 101, -1), 0, 1, 100) })
			g.maybe(o, 60, "ignorePreferredTermsOfExistingPods", func() any { return g.chance(50) })
			return o
		},
		"NodeAffinity": func() object {
			o := object{}
			g.maybe(o, 90, "addedAffinity", g.affinity)
			return o
		},
		"NodeResourcesFit": g.nodeResourcesFit,
		"NodeResourcesBalancedAllocation": func() object {
			o := object{}
			g.maybe(o, 90, "resources", func() any { return g.resources(0, 1, 1, 1, 1, 1, 2) })
			return o
		},
		"PodTopologySpread": g.podTopologySpread,
		"VolumeBinding": func() object {
			o := object{}
			g.maybe(o, 60, "bindTimeoutSeconds", func() any { return mostly(g, -1, 0, 60) })
			g.maybe(o, 10, "shape", func() any { return []any{} })
			return o
		},
		"DynamicResources": func() object {
			o := object{}
			g.maybe(o, 60, "filterTimeout", func() any { return mostly(g, "-5s", "0s", "5s") })
			g.maybe(o, 60, "bindingTimeout", func() any { return mostly(g, "1ms", "1s", "5s") })
			return o
		},
		"NodeSignals": func() object {
			return object{"signals": []any{object{"name": pick(g, "load", "power"), "better": pick(g, "Lower", "Higher", "Higher", "Best"), "weight": g.IntN(3)}}}
		},
	}
	names := slices.Sorted(maps.Keys(kinds))
	g.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	var configs []any
	for _, name := range names[:g.IntN(4)] {
		args := kinds[name]()
		g.maybe(args, 20, "kind", func() any { return name + "Args" })
		g.maybe(args, 20, "apiVersion", func() any { return "kubescheduler.config.k8s.io/v1" })
		g.maybe(args, 1, "kind", func() any { return "NodeNameArgs" })
		configs = append(configs, object{"name": name, "args": args})
	}
	if g.chance(8) {
		configs = append(configs, object{"name": pick(g, "NodeAffinity", "ImageLocality", "NodePort", "GangScheduling", "EBSLimits", "")})
	}
	return configs
}

func (g *generator) resources(weights ...int) any {
	var out []any
	for _, name := range []string{"cpu", "memory", "example.com/gpu"} {
		if !g.chance(70) {
			continue
		}
		r := object{"name": name}
		g.maybe(r, 70, "weight", func() any { return pick(g, weights...) })
		out = append(out, r)
		if g.chance(5) {
			out = append(out, r)
		}
	}
	return out
}

func (g *generator) nodeResourcesFit() object {
	o := object{}
	g.maybe(o, 30, "ignoredResources", func() any { return []any{mostly(g, "a b", "example.com/gpu", "gpu")} })
	g.maybe(o, 30, "ignoredResourceGroups", func() any { return []any{mostly(g, pick(g, "a b", "example.com/gpu"), "example.com", "example.org")} })
	g.maybe(o, 80, "scoringStrategy", func() any {
		s := object{"type": pick(g, "LeastAllocated", "MostAllocated", "RequestedToCapacityRatio")}
		if s["type"] == "RequestedToCapacityRatio" || g.chance(3) {
			s["requestedToCapacityRatio"] = object{"shape": g.shape()}
		}
		g.maybe(s, 60, "resources", func() any { return g.resources(0, 1, 5, 100, 1, 1, 1, 1, 101, -1) })
		if g.chance(3) {
			s["type"] = pick(g, "", "Best", "RequestedToCapacityRatio")
		}
		return s
	})
	return o
}

func (g *generator) shape() any {
	points := []any{}
	for u := pick(g, 0, 10); u <= 100; u += pick(g, 10, 50, 90) {
		points = append(points, object{"utilization": u, "score": g.IntN(11)})
	}
	if g.chance(10) {
		points = append(points, object{"utilization": pick(g, 50, 100, 101, -1), "score": pick(g, 0, 11, -1)})
	}
	if g.chance(5) {
		points = points[:0]
	}
	return points
}

func (g *generator) podTopologySpread() object {
	o := object{"defaultingType": pick(g, "List", "List", "List", "System")}
	if g.chance(10) {
		o["defaultingType"] = pick(g, "", "Mine")
	}
	var constraints []any
	for range g.IntN(3) {
		c := object{
			"maxSkew":           mostly(g, 0, 1, 2, 5),
			"topologyKey":       mostly(g, pick(g, "a b", ""), "zone", "topology.kubernetes.io/zone", "rack", "kubernetes.io/hostname", "a", "b"),
			"whenUnsatisfiable": mostly(g, "Sometimes", "DoNotSchedule", "ScheduleAnyway"),
		}
		g.maybe(c, 30, "minDomains", func() any { return pick(g, 1, 3, 0) })
		g.maybe(c, 20, "nodeAffinityPolicy", func() any { return pick(g, "Honor", "Ignore", "Honor", "Perhaps") })
		g.maybe(c, 20, "nodeTaintsPolicy", func() any { return pick(g, "Honor", "Ignore", "Honor", "Perhaps") })
		g.maybe(c, 10, "matchLabelKeys", func() any { return []any{"app"} })
		g.maybe(c, 3, "labelSelector", func() any { return object{} })
		constraints = append(constraints, c)
	}
	if o["defaultingType"] == "List" || g.chance(20) {
		o["defaultConstraints"] = constraints
	}
	return o
}

func (g *generator) affinity() any {
	o := object{}
	g.maybe(o, 70, "requiredDuringSchedulingIgnoredDuringExecution", func() any {
		var terms []any
		for range g.IntN(3) {
			terms = append(terms, g.term())
		}
		return object{"nodeSelectorTerms": terms}
	})
	g.maybe(o, 70, "preferredDuringSchedulingIgnoredDuringExecution", func() any {
		var terms []any
		for range g.IntN(3) {
			terms = append(terms, object{"weight": pick(g, 1, 10, 100, 1, 0, 5, 101, -1), "preference": g.term()})
		}
		return terms
	})
	return o
}

func (g *generator) term() any {
	o := object{}
	g.maybe(o, 70, "matchExpressions", func() any { return []any{g.requirement(mostly(g, "a b", "zone", "example.com/rack"))} })
	g.maybe(o, 35, "matchFields", func() any {
		return []any{object{"key": pick(g, "metadata.name", "metadata.name", "spec.name"), "operator": mostly(g, "Exists", "In", "NotIn"), "values": mostly(g, []any{"n1", "n2"}, []any{"n1"})}}
	})
	return o
}

func (g *generator) requirement(key string) any {
	r := object{"key": key, "operator": pick(g, "In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")}
	switch r["operator"] {
	case "In", "NotIn":
		r["values"] = pick(g, []any{"a"}, []any{"a", "b"}, []any{"", "a"})
	case "Gt", "Lt":
		r["values"] = []any{pick(g, "3", "0", "12345678901")}
	}
	if g.chance(5) {
		r["values"] = pick(g, []any{}, []any{"a", "b"}, []any{"-3"}, []any{"many"}, []any{"a b"})
	}
	if g.chance(2) {
		r["operator"] = pick(g, "", "Near", "in")
	}
	return r
}

// damage breaks one thing somewhere in a file: a field's name, or the type of its
// value, or leaves it out.
func (g *generator) damage(o object) {
	for {
		keys := slices.Sorted(maps.Keys(o))
		if len(keys) == 0 {
			o["stranger"] = 1
			return
		}
		key := pick(g, keys...)
		inner := o[key]
		if list, ok := inner.([]any); ok && len(list) > 0 {
			inner = list[g.IntN(len(list))]
		}
		if next, ok := inner.(object); ok && g.chance(85) {
			o = next
			continue
		}
		switch g.IntN(4) {
		case 0:
			delete(o, key)
		case 1:
			o[key+"x"] = o[key]
			delete(o, key)
		case 2:
			o[key] = pick[any](g, "text", 7, true, 1.5, nil, []any{"x"}, object{"x": 1})
		case 3:
			o["stranger"] = 1
		}
		return
	}
}
