// Package configtest holds proto/config to kube-scheduler's own loader,
// validation and framework: over generated and broken files they agree on what is
// accepted, on the plugins and their order, on weights and on arguments.
package configtest

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	schedconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/scheme"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/validation"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodevolumelimits"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/pkg/scheduler/metrics"
	"sigs.k8s.io/yaml"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/config"
)

var (
	cases = flag.Int("cases", 3000, "how many files to generate")
	seed  = flag.Uint64("seed", 1, "which ones")
)

func TestMain(m *testing.M) {
	flag.Parse()
	metrics.Register()
	klog.SetLogger(klog.Logger{}) // the plugins say of every file what they make of it
	os.Exit(m.Run())
}

// refusals are what Berth refuses and kube-scheduler does not, each with the reason
// (docs/configuration.md). One that no case runs into fails the test.
var refusals = []struct {
	complaint *regexp.Regexp
	why       string
	only      func(u *upstream, complaint string) bool // nil means always
	hits      int
}{
	{complaint: regexp.MustCompile(`^the file: it holds several YAML documents`), why: "kube-scheduler passes over all but the first"},
	{complaint: regexp.MustCompile(`^extenders: Forbidden: Berth calls none`), why: "Berth calls no extenders"},
	{complaint: regexp.MustCompile(`\.(disabled\[\d+\]|pluginConfig\[\d+\])\.name: .*there is no such plugin`), why: "a slip of the pen would leave a rule on"},
	{complaint: regexp.MustCompile(`enabled\[\d+\]\.name: .*alpha feature`), why: "kube-scheduler has the plugin, behind a gate that is off"},
	{complaint: regexp.MustCompile(`pluginConfig\[\d+\]\.name: .*alpha feature`), why: "likewise"},
	{complaint: regexp.MustCompile(`enabled\[\d+\]\.weight: .*must not be negative`), why: "a score that likes what is worse is a mistake"},
	{complaint: regexp.MustCompile(`it is enabled here and not for (preFilter|preScore)`), why: "kube-scheduler fails on pods later"},
	{complaint: regexp.MustCompile(`"NodeAffinity": it is enabled here and not for filter`), why: "half of a rule"},
	{complaint: regexp.MustCompile(`pluginConfig\[\d+\]\.name: .*takes no arguments`), why: "the arguments would have no effect"},
	{complaint: regexp.MustCompile(`preferredDuring\w+\[\d+\]\.weight: .*must be 1 to 100`), why: "as the API server refuses it in pods"},
	{complaint: regexp.MustCompile(`matchFields\[\d+\]\.key: Unsupported`), why: "as the API server refuses it in pods"},
	{complaint: regexp.MustCompile(`\.minDomains: .*must be more than 0`), why: "as the API server refuses it in pods"},
	{complaint: regexp.MustCompile(`\.node(Affinity|Taints)Policy: Unsupported`), why: "as the API server refuses it in pods"},
	{complaint: regexp.MustCompile(`\.args\.(ignoredResources|ignoredResourceGroups|scoringStrategy)`), why: "kube-scheduler validates the arguments of NodeResourcesFit only where it is enabled",
		only: func(u *upstream, complaint string) bool {
			profile, _ := u.at(complaint)
			return !slices.Contains(u.enabled(profile), "NodeResourcesFit")
		}},
	{complaint: regexp.MustCompile(`BackoffSeconds: .*must be 1 to 9223372036`), why: "292 years and more overflow kube-scheduler's own arithmetic"},
	{complaint: regexp.MustCompile(`NodeSignals is enabled and needs args\.signals`), why: "kube-scheduler has no NodeSignals"},
	{complaint: regexp.MustCompile(`pluginConfig\[\d+\]\.args`), why: "nor arguments for it",
		only: func(u *upstream, complaint string) bool { _, plugin := u.at(complaint); return plugin == "NodeSignals" }},
}

func TestFiles(t *testing.T) {
	g := &generator{rand.New(rand.NewPCG(*seed, 0))}
	accepted := 0
	for i := range *cases {
		data := g.file(i%2 == 0)
		if compare(t, data) {
			accepted++
		}
		if t.Failed() {
			t.Fatalf("case %d:\n%s", i, data)
		}
	}
	t.Logf("%d of %d files are accepted by both", accepted, *cases)
	if accepted < *cases/4 || accepted > *cases*9/10 {
		t.Errorf("%d of %d files are accepted: the generator says too little", accepted, *cases)
	}
	for _, r := range refusals {
		t.Logf("%6d  %s", r.hits, r.why)
		if r.hits == 0 && *cases >= 3000 {
			t.Errorf("no file is refused because of %q: the generator does not reach it, or the refusal is gone", r.why)
		}
	}
}

// The files of proto/config's own tests.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("../../../proto/config/testdata/files/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	const header = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for story := range strings.SplitSeq(string(content), "\n\n") {
			for strings.HasPrefix(story, "#") {
				_, story, _ = strings.Cut(story, "\n")
			}
			input, _, ok := strings.Cut(story, "\n----")
			if !ok {
				continue
			}
			command, data, _ := strings.Cut(input, "\n")
			switch command {
			case "read":
				data = header + data
			case "profile":
				data = header + "profiles:\n- " + strings.ReplaceAll(data, "\n", "\n  ") + "\n"
			}
			if compare(t, []byte(data)); t.Failed() {
				t.Fatalf("%s:\n%s", file, data)
			}
		}
	}
}

// compare reads a file in both ways. It returns whether both accept it.
func compare(t *testing.T, data []byte) bool {
	t.Helper()
	theirs, err := load(t, data)
	ours, ourErr := config.Read(data)
	switch {
	case ourErr != nil && err != nil:
		return false
	case err != nil:
		t.Errorf("kube-scheduler refuses what Berth accepts: %v", err)
		return false
	case ourErr != nil:
		for line := range strings.SplitSeq(ourErr.Error(), "\n") {
			if !known(line, theirs) {
				t.Errorf("kube-scheduler accepts what Berth refuses: %s", line)
			}
		}
		return false
	}
	equal := func(what string, got, want any) {
		t.Helper()
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	equal("podInitialBackoffSeconds", int64(ours.PodInitialBackoff/time.Second), theirs.config.PodInitialBackoffSeconds)
	equal("podMaxBackoffSeconds", int64(ours.PodMaxBackoff/time.Second), theirs.config.PodMaxBackoffSeconds)
	equal("leaderElection", defaulted(ours.LeaderElection), leaderElection(theirs.config))
	equal("clientConnection.kubeconfig", ours.ClientConnection.Kubeconfig, theirs.config.ClientConnection.Kubeconfig)
	if q := ours.ClientConnection.QPS; q != 0 {
		equal("clientConnection.qps", q, theirs.config.ClientConnection.QPS)
	}
	if b := ours.ClientConnection.Burst; b != 0 {
		equal("clientConnection.burst", b, theirs.config.ClientConnection.Burst)
	}
	equal("number of profiles", len(ours.Profiles), len(theirs.config.Profiles))
	for i, p := range ours.Profiles {
		want := theirs.plugins[i]
		equal("scheduler name", p.SchedulerName, theirs.config.Profiles[i].SchedulerName)
		equal("filters", p.Filters, names(want.Filter))
		equal("scores", p.Scores, scores(want.Score))
		equal("preempt", p.Preempt, slices.Contains(names(want.PostFilter), "DefaultPreemption"))
		for _, pc := range theirs.config.Profiles[i].PluginConfig {
			got, want := arguments(&p.Args, pc)
			equal("arguments of "+pc.Name, got, want)
		}
	}
	return true
}

// known says whether a complaint is one of refusals, and counts it.
func known(complaint string, theirs *upstream) bool {
	for i := range refusals {
		if r := &refusals[i]; r.complaint.MatchString(complaint) && (r.only == nil || r.only(theirs, complaint)) {
			r.hits++
			return true
		}
	}
	return false
}

// upstream is a file as kube-scheduler reads it.
type upstream struct {
	config  *schedconfig.KubeSchedulerConfiguration
	plugins []*schedconfig.Plugins // of each profile, expanded
}

// argsPath is the path of arguments.
var argsPath = regexp.MustCompile(`^profiles\[(\d+)\]\.pluginConfig\[(\d+)\]`)

// at returns the profile that a complaint is about, and the plugin whose arguments
// it is about.
func (u *upstream) at(complaint string) (profile int, plugin string) {
	indices := argsPath.FindStringSubmatch(complaint)
	profile, _ = strconv.Atoi(indices[1])
	index, _ := strconv.Atoi(indices[2])
	return profile, u.config.Profiles[profile].PluginConfig[index].Name
}

// enabled are the plugins of a profile, some several times.
func (u *upstream) enabled(profile int) []string {
	p := u.plugins[profile]
	return slices.Concat(names(p.PreFilter), names(p.Filter), names(p.PreScore), names(p.Score), names(p.PlacementScore))
}

// load reads a file as kube-scheduler does until it would start.
func load(t *testing.T, data []byte) (*upstream, error) {
	object, _, err := scheme.Codecs.UniversalDecoder().Decode(data, nil, nil)
	if err != nil {
		return nil, err
	}
	c, ok := object.(*schedconfig.KubeSchedulerConfiguration)
	if !ok {
		return nil, fmt.Errorf("a %T", object)
	}
	c.APIVersion = "kubescheduler.config.k8s.io/v1"
	if err := validation.ValidateKubeSchedulerConfiguration(c); err != nil {
		return nil, err
	}
	u := &upstream{config: c}
	for i := range c.Profiles {
		ctx, cancel := context.WithCancel(t.Context())
		f, err := frameworkruntime.NewFramework(ctx, registry, &c.Profiles[i], frameworkruntime.WithInformerFactory(factory), frameworkruntime.WithClientSet(client),
			frameworkruntime.WithSharedCSIManager(nodevolumelimits.NewCSIManager(factory.Storage().V1().CSINodes().Lister())),
			frameworkruntime.WithSnapshotSharedLister(lister{}), frameworkruntime.WithParallelism(1))
		cancel()
		if err != nil {
			return nil, err
		}
		u.plugins = append(u.plugins, f.ListPlugins())
	}
	return u, nil
}

var (
	client   = kubernetes.NewForConfigOrDie(&rest.Config{Host: "http://nobody.invalid"})
	factory  = informers.NewSharedInformerFactory(client, 0)
	registry = withSignals(plugins.NewInTreeRegistry())
)

// lister is a snapshot that nobody looks at.
type lister struct{ fwk.SharedLister }

func (lister) NodeInfos() fwk.NodeInfoLister { return nil }

// withSignals adds a score in the place of Berth's own.
func withSignals(r frameworkruntime.Registry) frameworkruntime.Registry {
	r["NodeSignals"] = func(context.Context, runtime.Object, fwk.Handle) (fwk.Plugin, error) { return signals{}, nil }
	return r
}

type signals struct{}

func (signals) Name() string { return "NodeSignals" }
func (signals) Score(context.Context, fwk.CycleState, *corev1.Pod, fwk.NodeInfo) (int64, *fwk.Status) {
	return 0, nil
}
func (signals) ScoreExtensions() fwk.ScoreExtensions { return nil }

func names(set schedconfig.PluginSet) []string {
	var all []string
	for _, p := range set.Enabled {
		all = append(all, p.Name)
	}
	return all
}

func scores(set schedconfig.PluginSet) []config.Score {
	var all []config.Score
	for _, p := range set.Enabled {
		all = append(all, config.Score{Name: p.Name, Weight: int64(p.Weight)})
	}
	return all
}

func leaderElection(c *schedconfig.KubeSchedulerConfiguration) config.LeaderElection {
	e := c.LeaderElection
	return config.LeaderElection{
		LeaderElect: &e.LeaderElect, ResourceNamespace: e.ResourceNamespace, ResourceName: e.ResourceName,
		LeaseDuration: e.LeaseDuration.Duration, RenewDeadline: e.RenewDeadline.Duration, RetryPeriod: e.RetryPeriod.Duration,
	}
}

// defaulted is what a file says, with kube-scheduler's defaults where it says
// nothing.
func defaulted(e config.LeaderElection) config.LeaderElection {
	yes := true
	base := reflect.ValueOf(config.LeaderElection{
		LeaderElect: &yes, ResourceNamespace: "kube-system", ResourceName: "kube-scheduler",
		LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
	})
	v := reflect.ValueOf(&e).Elem()
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			v.Field(i).Set(base.Field(i))
		}
	}
	return e
}

// arguments returns a plugin's arguments and what kube-scheduler's mean in the same
// form; nil of both if Berth has no use for them.
func arguments(got *config.Args, pc schedconfig.PluginConfig) (ours, theirs any) {
	switch args := pc.Args.(type) {
	case *schedconfig.DefaultPreemptionArgs:
		return got.DefaultPreemption, config.DefaultPreemptionArgs{
			MinCandidateNodesPercentage: args.MinCandidateNodesPercentage, MinCandidateNodesAbsolute: args.MinCandidateNodesAbsolute,
		}
	case *schedconfig.InterPodAffinityArgs:
		return got.InterPodAffinity, config.InterPodAffinityArgs{
			HardPodAffinityWeight: int64(args.HardPodAffinityWeight), IgnorePreferredTermsOfExistingPods: args.IgnorePreferredTermsOfExistingPods,
		}
	case *schedconfig.NodeResourcesBalancedAllocationArgs:
		return got.NodeResourcesBalancedAllocation, config.NodeResourcesBalancedAllocationArgs{Resources: resources(args.Resources)}
	case *schedconfig.NodeResourcesFitArgs:
		want := config.NodeResourcesFitArgs{
			IgnoredResources: args.IgnoredResources, IgnoredResourceGroups: args.IgnoredResourceGroups,
			Strategy: config.ScoringStrategy{Type: config.ScoringStrategyType(args.ScoringStrategy.Type), Resources: resources(args.ScoringStrategy.Resources)},
		}
		if ratio := args.ScoringStrategy.RequestedToCapacityRatio; ratio != nil {
			for _, p := range ratio.Shape {
				want.Strategy.Shape = append(want.Strategy.Shape, config.Point{Utilization: int64(p.Utilization), Score: int64(p.Score)})
			}
		}
		return got.NodeResourcesFit, want
	case *schedconfig.PodTopologySpreadArgs:
		want := config.PodTopologySpreadArgs{SystemDefaulted: args.DefaultingType == schedconfig.SystemDefaulting}
		for _, c := range args.DefaultConstraints {
			want.DefaultConstraints = append(want.DefaultConstraints, constraint(c))
		}
		if want.SystemDefaulted {
			return got.PodTopologySpread.SystemDefaulted, true
		}
		return got.PodTopologySpread, want
	case *schedconfig.NodeAffinityArgs:
		return got.NodeAffinity.AddedAffinity, affinity(args.AddedAffinity)
	}
	return nil, nil
}

func resources(in []schedconfig.ResourceSpec) (out []config.Resource) {
	for _, r := range in {
		out = append(out, config.Resource{Name: r.Name, Weight: r.Weight})
	}
	return out
}

func constraint(c corev1.TopologySpreadConstraint) *berthv1.TopologySpreadConstraint {
	policy := func(p *corev1.NodeInclusionPolicy) berthv1.NodeInclusionPolicy {
		if p == nil {
			return 0
		}
		return berthv1.NodeInclusionPolicy(berthv1.NodeInclusionPolicy_value["NODE_INCLUSION_POLICY_"+strings.ToUpper(string(*p))])
	}
	action := berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_DO_NOT_SCHEDULE
	if c.WhenUnsatisfiable == corev1.ScheduleAnyway {
		action = berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_SCHEDULE_ANYWAY
	}
	out := &berthv1.TopologySpreadConstraint{
		MaxSkew: c.MaxSkew, TopologyKey: c.TopologyKey, WhenUnsatisfiable: action, MatchLabelKeys: c.MatchLabelKeys,
		NodeAffinityPolicy: policy(c.NodeAffinityPolicy), NodeTaintsPolicy: policy(c.NodeTaintsPolicy),
	}
	if c.MinDomains != nil {
		out.MinDomains = *c.MinDomains
	}
	return out
}

func affinity(in *corev1.NodeAffinity) *berthv1.NodeAffinity {
	if in == nil {
		return nil
	}
	operators := map[corev1.NodeSelectorOperator]berthv1.NodeSelectorOperator{"In": 1, "NotIn": 2, "Exists": 3, "DoesNotExist": 4, "Gt": 5, "Lt": 6}
	requirements := func(in []corev1.NodeSelectorRequirement) (out []*berthv1.NodeSelectorRequirement) {
		for _, r := range in {
			out = append(out, &berthv1.NodeSelectorRequirement{Key: r.Key, Operator: operators[r.Operator], Values: r.Values})
		}
		return out
	}
	term := func(in corev1.NodeSelectorTerm) *berthv1.NodeSelectorTerm {
		return &berthv1.NodeSelectorTerm{MatchExpressions: requirements(in.MatchExpressions), MatchFields: requirements(in.MatchFields)}
	}
	out := &berthv1.NodeAffinity{}
	if required := in.RequiredDuringSchedulingIgnoredDuringExecution; required != nil {
		out.Required = &berthv1.NodeSelector{}
		for _, t := range required.NodeSelectorTerms {
			out.Required.Terms = append(out.Required.Terms, term(t))
		}
	}
	for _, p := range in.PreferredDuringSchedulingIgnoredDuringExecution {
		if p.Weight != 0 {
			out.Preferred = append(out.Preferred, &berthv1.PreferredNodeTerm{Weight: p.Weight, Term: term(p.Preference)})
		}
	}
	return out
}

// encode writes a file as JSON or YAML.
func encode(file any, asYAML bool) []byte {
	data, err := yaml.Marshal(file)
	if err == nil && !asYAML {
		data, err = yaml.YAMLToJSON(data)
	}
	if err != nil {
		panic(err)
	}
	return data
}
