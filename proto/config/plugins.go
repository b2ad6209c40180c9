package config

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
	schedulerv1 "k8s.io/kube-scheduler/config/v1"
)

// nodeSignals is the plugin that Berth has and kube-scheduler has not.
const nodeSignals = "NodeSignals"

// extends says at which extension points a plugin takes part.
var extends = map[string][]string{
	"DefaultBinder":                   {"bind"},
	"DefaultPreemption":               {"postFilter", "preEnqueue"},
	"DynamicResources":                {"preEnqueue", "preFilter", "filter", "postFilter", "score", "reserve", "preBind"},
	"ImageLocality":                   {"score"},
	"InterPodAffinity":                {"preFilter", "filter", "preScore", "score"},
	"NodeAffinity":                    {"preFilter", "filter", "preScore", "score"},
	"NodeDeclaredFeatures":            {"preFilter", "filter"},
	"NodeName":                        {"filter"},
	"NodePorts":                       {"preFilter", "filter"},
	"NodeResourcesBalancedAllocation": {"preScore", "score"},
	"NodeResourcesFit":                {"preFilter", "filter", "preScore", "score", "placementScore"},
	nodeSignals:                       {"score"},
	"NodeUnschedulable":               {"filter"},
	"NodeVolumeLimits":                {"preFilter", "filter"},
	"PodTopologySpread":               {"preFilter", "filter", "preScore", "score"},
	"PrioritySort":                    {"queueSort"},
	"SchedulingGates":                 {"preEnqueue"},
	"TaintToleration":                 {"filter", "preScore", "score"},
	"VolumeBinding":                   {"preFilter", "filter", "preScore", "score", "reserve", "preBind"},
	"VolumeRestrictions":              {"preFilter", "filter"},
	"VolumeZone":                      {"preFilter", "filter"},
}

// absent says of plugins that kube-scheduler has, or had, why they cannot be
// enabled.
var absent = map[string]string{
	"AzureDiskLimits":            "kube-scheduler has it no longer: remove it; NodeVolumeLimits took its place",
	"CinderLimits":               "kube-scheduler has it no longer: remove it; NodeVolumeLimits took its place",
	"EBSLimits":                  "kube-scheduler has it no longer: remove it; NodeVolumeLimits took its place",
	"GCEPDLimits":                "kube-scheduler has it no longer: remove it; NodeVolumeLimits took its place",
	"GangScheduling":             "it belongs to an alpha feature of kube-scheduler that Berth does not have: remove it",
	"PodGroupPodsCount":          "it belongs to an alpha feature of kube-scheduler that Berth does not have: remove it",
	"TopologyPlacementGenerator": "it belongs to an alpha feature of kube-scheduler that Berth does not have: remove it",
}

// carriedOut are the extension points at which the watcher does what
// kube-scheduler's own plugins do, and nothing else.
var carriedOut = []string{"queueSort", "reserve", "permit", "preBind", "bind", "postBind"}

// defaultPlugins are enabled where the file does not say otherwise, with their
// weights: getDefaultPlugins with the feature gates' defaults of 1.36.
var defaultPlugins = []schedulerv1.Plugin{
	plugin("SchedulingGates", 0),
	plugin("PrioritySort", 0),
	plugin("NodeUnschedulable", 0),
	plugin("NodeName", 0),
	plugin("TaintToleration", 3),
	plugin("NodeAffinity", 2),
	plugin("NodePorts", 0),
	plugin("NodeResourcesFit", 1),
	plugin("VolumeRestrictions", 0),
	plugin("NodeVolumeLimits", 0),
	plugin("VolumeBinding", 0),
	plugin("VolumeZone", 0),
	plugin("PodTopologySpread", 2),
	plugin("InterPodAffinity", 2),
	plugin("DynamicResources", 2),
	plugin("DefaultPreemption", 0),
	plugin("NodeResourcesBalancedAllocation", 1),
	plugin("ImageLocality", 1),
	plugin("DefaultBinder", 0),
	plugin("NodeDeclaredFeatures", 0),
}

func plugin(name string, weight int32) schedulerv1.Plugin {
	return schedulerv1.Plugin{Name: name, Weight: &weight}
}

// point is what a file says about one extension point.
type point struct {
	name string
	schedulerv1.PluginSet
}

// points returns the extension points, in the order in which kube-scheduler sets
// them up, without multiPoint.
func points(p *schedulerv1.Plugins) []point {
	return []point{
		{"preFilter", p.PreFilter},
		{"filter", p.Filter},
		{"postFilter", p.PostFilter},
		{"reserve", p.Reserve},
		{"preScore", p.PreScore},
		{"score", p.Score},
		{"preBind", p.PreBind},
		{"bind", p.Bind},
		{"postBind", p.PostBind},
		{"permit", p.Permit},
		{"preEnqueue", p.PreEnqueue},
		{"queueSort", p.QueueSort},
		{"placementGenerate", p.PlacementGenerate},
		{"placementScore", p.PlacementScore},
	}
}

// enabled are the plugins that a profile enables, by extension point, in the
// order in which they are asked.
type enabled map[string][]string

func (e enabled) has(point, name string) bool { return slices.Contains(e[point], name) }

// readPlugins works out which plugins a profile enables and how much each score
// weighs.
func readPlugins(path *field.Path, p *schedulerv1.Plugins, c *complaints) (enabled, []Score) {
	if p == nil {
		p = &schedulerv1.Plugins{}
	}
	multiPoint := merge(defaultPlugins, known(path, point{"multiPoint", p.MultiPoint}, c))
	effective := enabled{}
	var ownScores []schedulerv1.Plugin
	for _, at := range points(p) {
		at.Enabled = known(path, at, c).Enabled
		effective[at.name] = expand(path, at, multiPoint, c)
		if at.name == "score" {
			ownScores = at.Enabled
		}
	}
	checkEnabled(path, effective, c)

	// A weight at the extension point itself takes precedence.
	weights := map[string]int64{}
	for _, p := range slices.Concat(ownScores, multiPoint) {
		if _, ok := weights[p.Name]; !ok {
			weights[p.Name] = max(1, weight(p))
		}
	}
	var scores []Score
	for _, name := range effective["score"] {
		scores = append(scores, Score{Name: name, Weight: weights[name]})
	}
	return effective, scores
}

func weight(p schedulerv1.Plugin) int64 {
	if p.Weight == nil {
		return 0
	}
	return int64(*p.Weight)
}

// known returns what the file says about an extension point without the plugins
// that there are none of, which it complains about.
func known(path *field.Path, at point, c *complaints) schedulerv1.PluginSet {
	path = path.Child(at.name)
	set := schedulerv1.PluginSet{Disabled: at.Disabled}
	for i, p := range at.Enabled {
		path := path.Child("enabled").Index(i)
		if why := missing(p.Name, at.name); why != "" {
			c.add(field.Invalid(path.Child("name"), p.Name, why))
			continue
		}
		if weight(p) < 0 {
			c.add(field.Invalid(path.Child("weight"), *p.Weight, "must not be negative: to like nodes less, give the other plugins more weight"))
		}
		set.Enabled = append(set.Enabled, p)
	}
	for i, p := range at.Disabled {
		if extends[p.Name] == nil && absent[p.Name] == "" && p.Name != "*" {
			c.add(field.Invalid(path.Child("disabled").Index(i).Child("name"), p.Name, "there is no such plugin: correct the name or remove it"))
		}
	}
	return set
}

// missing says why a plugin cannot be enabled at an extension point, or "".
func missing(name, at string) string {
	points := extends[name]
	switch {
	case absent[name] != "":
		return absent[name]
	case points == nil && slices.Contains(carriedOut, at):
		return "there is no such plugin: the watcher does at " + at + " what kube-scheduler's own plugins do, and takes no others: remove it"
	case points == nil:
		return "there is no such plugin: correct the name, or use a decider that is built with it (decider/upstream)"
	case at != "multiPoint" && !slices.Contains(points, at):
		return fmt.Sprintf("it takes no part in %s, only in %s", at, strings.Join(points, ", "))
	}
	return ""
}

// merge applies what a file says about multiPoint to the default plugins:
// mergePluginSet of kube-scheduler.
func merge(defaults []schedulerv1.Plugin, custom schedulerv1.PluginSet) []schedulerv1.Plugin {
	disabled := map[string]bool{}
	for _, p := range custom.Disabled {
		disabled[p.Name] = true
	}
	// Of several with one name the last replaces the default.
	own := map[string]int{}
	for i, p := range custom.Enabled {
		own[p.Name] = i
	}
	replaced := map[int]bool{}
	var merged []schedulerv1.Plugin
	for _, p := range defaults {
		if disabled["*"] || disabled[p.Name] {
			continue
		}
		if i, ok := own[p.Name]; ok {
			p = custom.Enabled[i]
			replaced[i] = true
		}
		merged = append(merged, p)
	}
	for i, p := range custom.Enabled {
		if !replaced[i] {
			merged = append(merged, p)
		}
	}
	return merged
}

// expand returns the plugins of an extension point in order: updatePluginList and
// expandMultiPointPlugins of kube-scheduler. First come those that the point
// enables and multiPoint too, then those of multiPoint, then the point's others.
func expand(path *field.Path, at point, multiPoint []schedulerv1.Plugin, c *complaints) []string {
	own := map[string]bool{}
	for i, p := range at.Enabled {
		if own[p.Name] {
			c.add(field.Duplicate(path.Child(at.name, "enabled").Index(i).Child("name"), p.Name))
		}
		own[p.Name] = true
	}
	disabled := map[string]bool{}
	for _, p := range at.Disabled {
		disabled[p.Name] = true
	}
	var inherited []string
	overridden := map[string]bool{}
	for _, p := range multiPoint {
		switch {
		case disabled["*"] || disabled[p.Name] || !slices.Contains(extends[p.Name], at.name):
		case own[p.Name]:
			overridden[p.Name] = true
		case slices.Contains(inherited, p.Name):
			c.add(field.Duplicate(path.Child("multiPoint", "enabled"), p.Name))
		default:
			inherited = append(inherited, p.Name)
		}
	}
	var first, last []string
	for _, p := range at.Enabled {
		if overridden[p.Name] {
			first = append(first, p.Name)
		} else {
			last = append(last, p.Name)
		}
	}
	return slices.Concat(first, inherited, last)
}

// checkEnabled complains about combinations with which kube-scheduler does not
// start, with which it fails on pods, or which Berth does not have.
func checkEnabled(path *field.Path, e enabled, c *complaints) {
	for _, only := range []struct{ point, plugin, does string }{
		{"queueSort", "PrioritySort", "orders the pods that wait"},
		{"bind", "DefaultBinder", "binds"},
	} {
		if !e.has(only.point, only.plugin) {
			c.add(field.Required(path.Child(only.point), fmt.Sprintf("%s cannot be disabled: that is how the watcher %s; enable it", only.plugin, only.does)))
		}
	}
	for _, pair := range []struct{ before, point string }{{"preFilter", "filter"}, {"preScore", "score"}} {
		for _, name := range e[pair.point] {
			if slices.Contains(extends[name], pair.before) && !e.has(pair.before, name) {
				c.add(field.Invalid(path.Child(pair.point), name, fmt.Sprintf("it is enabled here and not for %s, without which it cannot do its work: enable or disable both", pair.before)))
			}
		}
	}
	if e.has("preFilter", "NodeAffinity") && !e.has("filter", "NodeAffinity") {
		c.add(field.Invalid(path.Child("preFilter"), "NodeAffinity", "it is enabled here and not for filter, so that only a part of it would be honoured: enable or disable both"))
	}
}
