package config_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/berth-scheduler/berth/proto/config"
)

const header = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"

// Files and what they are read as. "file" is a whole one, "read" one without the
// lines that every file begins with, "profile" the only profile of such a file.
// What is printed is what differs from the default.
func TestFiles(t *testing.T) {
	datadriven.Walk(t, "testdata/files", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			c, err := config.Read(file(d.Cmd, d.Input))
			if err != nil {
				if c != nil {
					t.Error("there is both a configuration and an error")
				}
				return "error:\n" + err.Error()
			}
			return printed(c)
		})
	})
}

// file returns the file that a story is about.
func file(command, input string) []byte {
	switch command {
	case "file":
	case "read":
		input = header + input
	case "profile":
		input = header + "profiles:\n- " + strings.ReplaceAll(input, "\n", "\n  ") + "\n"
	default:
		panic("unknown command " + command)
	}
	return []byte(input)
}

// printed is a configuration without what is as in the default.
func printed(c *config.Configuration) string {
	var out strings.Builder
	base := config.Default()
	for _, f := range []struct {
		name      string
		got, base any
	}{
		{"leader election", c.LeaderElection, base.LeaderElection},
		{"client connection", c.ClientConnection, base.ClientConnection},
		{"pod initial backoff", c.PodInitialBackoff.String(), base.PodInitialBackoff.String()},
		{"pod max backoff", c.PodMaxBackoff.String(), base.PodMaxBackoff.String()},
	} {
		if !reflect.DeepEqual(f.got, f.base) {
			fmt.Fprintf(&out, "%s: %s\n", f.name, asJSON(f.got))
		}
	}
	for _, p := range c.Profiles {
		fmt.Fprintf(&out, "profile %s\n", p.SchedulerName)
		base := base.Profiles[0]
		if !reflect.DeepEqual(p.Filters, base.Filters) {
			fmt.Fprintf(&out, "  filters %s\n", strings.Join(p.Filters, " "))
		}
		if !reflect.DeepEqual(p.Scores, base.Scores) {
			fmt.Fprintf(&out, "  scores %s\n", scores(p.Scores))
		}
		if !p.Preempt {
			fmt.Fprintln(&out, "  does not preempt")
		}
		got, was := reflect.ValueOf(p.Args), reflect.ValueOf(base.Args)
		for i := range got.NumField() {
			if !cmp.Equal(got.Field(i).Interface(), was.Field(i).Interface(), protocmp.Transform()) {
				fmt.Fprintf(&out, "  %s %s\n", got.Type().Field(i).Name, asJSON(got.Field(i).Interface()))
			}
		}
	}
	return out.String()
}

func scores(all []config.Score) string {
	var words []string
	for _, s := range all {
		words = append(words, fmt.Sprintf("%s=%d", s.Name, s.Weight))
	}
	return strings.Join(words, " ")
}

func asJSON(v any) string {
	encoded, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(encoded)
}

// The default profile is kube-scheduler's: the list in its
// pkg/scheduler/apis/config/v1/default_plugins.go, expanded.
func TestDefault(t *testing.T) {
	c := config.Default()
	p := c.Profiles[0]
	got := fmt.Sprintf("%s\n%s\n%s\n%v %v %v", strings.Join(c.SchedulerNames(), " "), strings.Join(p.Filters, " "), scores(p.Scores),
		p.Preempt, c.PodInitialBackoff, c.PodMaxBackoff)
	want := strings.Join([]string{
		"default-scheduler",
		"NodeUnschedulable NodeName TaintToleration NodeAffinity NodePorts NodeResourcesFit VolumeRestrictions NodeVolumeLimits VolumeBinding VolumeZone PodTopologySpread InterPodAffinity DynamicResources NodeDeclaredFeatures",
		"TaintToleration=3 NodeAffinity=2 NodeResourcesFit=1 VolumeBinding=1 PodTopologySpread=2 InterPodAffinity=2 DynamicResources=2 NodeResourcesBalancedAllocation=1 ImageLocality=1",
		"true 1s 10s",
	}, "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	args := asJSON(p.Args)
	want = `{"NodeAffinity":{"AddedAffinity":null},` +
		`"NodeResourcesFit":{"IgnoredResources":null,"IgnoredResourceGroups":null,"Strategy":{"Type":"LeastAllocated","Resources":[{"Name":"cpu","Weight":1},{"Name":"memory","Weight":1}],"Shape":null}},` +
		`"NodeResourcesBalancedAllocation":{"Resources":[{"Name":"cpu","Weight":1},{"Name":"memory","Weight":1}]},` +
		`"PodTopologySpread":{"DefaultConstraints":[{"max_skew":3,"topology_key":"kubernetes.io/hostname","when_unsatisfiable":2},{"max_skew":5,"topology_key":"topology.kubernetes.io/zone","when_unsatisfiable":2}],"SystemDefaulted":true},` +
		`"InterPodAffinity":{"HardPodAffinityWeight":1,"IgnorePreferredTermsOfExistingPods":false},` +
		`"DefaultPreemption":{"MinCandidateNodesPercentage":10,"MinCandidateNodesAbsolute":100},` +
		`"NodeSignals":{"Signals":null}}`
	if diff := cmp.Diff(want, args); diff != "" {
		t.Error(diff)
	}
}

// Whatever a file holds, it is read or refused with complaints, always alike.
func FuzzRead(f *testing.F) {
	files, err := filepath.Glob("testdata/files/*")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for story := range strings.SplitSeq(string(content), "\n\n") {
			for strings.HasPrefix(story, "#") {
				_, story, _ = strings.Cut(story, "\n")
			}
			if story, _, ok := strings.Cut(story, "\n----"); ok {
				command, input, _ := strings.Cut(story, "\n")
				f.Add(file(command, input))
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Read(data)
		again, errAgain := config.Read(data)
		if fmt.Sprint(err) != fmt.Sprint(errAgain) || !cmp.Equal(c, again, protocmp.Transform()) {
			t.Fatalf("read twice: %v and %v", err, errAgain)
		}
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if line == "" {
					t.Fatalf("a complaint without a word in %q", err)
				}
			}
			return
		}
		valid(t, c)
	})
}

// valid holds a configuration to what its doc comments promise.
func valid(t *testing.T, c *config.Configuration) {
	t.Helper()
	if len(c.Profiles) == 0 || c.PodInitialBackoff <= 0 || c.PodMaxBackoff < c.PodInitialBackoff || c.ClientConnection.Burst < 0 {
		t.Fatalf("not valid: %+v", c)
	}
	names := map[string]bool{}
	for _, p := range c.Profiles {
		if p.SchedulerName == "" || names[p.SchedulerName] {
			t.Fatalf("scheduler name %q", p.SchedulerName)
		}
		names[p.SchedulerName] = true
		for _, s := range p.Scores {
			if s.Weight < 1 {
				t.Fatalf("weight %+v", s)
			}
			if s.Name == "NodeSignals" && len(p.Args.NodeSignals.Signals) == 0 {
				t.Fatal("NodeSignals without signals")
			}
		}
		fit := p.Args.NodeResourcesFit.Strategy
		if (fit.Type == config.RequestedToCapacityRatio) != (len(fit.Shape) > 0) || len(fit.Resources) == 0 {
			t.Fatalf("strategy %+v", fit)
		}
		for _, d := range p.Args.PodTopologySpread.DefaultConstraints {
			if d.GetMaxSkew() < 1 || d.GetTopologyKey() == "" || d.GetWhenUnsatisfiable() == 0 || d.GetLabelSelector() != nil {
				t.Fatalf("default constraint %v", d)
			}
		}
		for _, preferred := range p.Args.NodeAffinity.AddedAffinity.GetPreferred() {
			if preferred.GetWeight() < 1 || preferred.GetWeight() > 100 {
				t.Fatalf("preferred %v", preferred)
			}
		}
	}
}
