package service_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/berth-scheduler/berth/decider/policy"
	"github.com/berth-scheduler/berth/decider/service"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/config"
	"github.com/berth-scheduler/berth/proto/scenario"
)

const configHeader = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"

// Stories of profiles: `config` sets the configuration file, `cluster` the state,
// `decide` prints what becomes of pods. Arguments: profile=NAME, the pods'
// scheduler name; policy=NAME; explain; preempt.
func TestProfiles(t *testing.T) {
	var (
		profiles []config.Profile
		cluster  *berthv1.Snapshot
	)
	datadriven.RunTest(t, "testdata/profiles.txt", func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "config":
			c, err := config.Read([]byte(configHeader + d.Input))
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			profiles = c.Profiles
			return ""
		case "cluster":
			var err error
			if cluster, err = scenario.ParseCluster(d.Input); err != nil {
				d.Fatalf(t, "%v", err)
			}
			return ""
		case "decide":
			var profile string
			named := "default"
			d.ScanArgs(t, "profile", &profile)
			d.MaybeScanArgs(t, "policy", &named)
			p, err := policy.Named(named)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			s, err := service.New(service.Config{Policy: p, Profiles: profiles})
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			r := &berthv1.DecideRequest{State: &berthv1.DecideRequest_Snapshot{Snapshot: cluster}, Preempt: d.HasArg("preempt")}
			if r.Pods, err = scenario.ParsePods(d.Input); err != nil {
				d.Fatalf(t, "%v", err)
			}
			for _, pod := range r.Pods {
				pod.SchedulerName = profile
			}
			if d.HasArg("explain") {
				r.Explanation = berthv1.ExplanationLevel_EXPLANATION_LEVEL_NODES
			}
			response, err := s.Decide(t.Context(), r)
			if err != nil {
				return err.Error()
			}
			var out strings.Builder
			for _, decision := range response.Decisions {
				fmt.Fprint(&out, scenario.FormatDecision(decision))
			}
			return out.String()
		}
		d.Fatalf(t, "unknown command")
		return ""
	})
}

// Without profiles a decider decides for every scheduler name as the default file
// says for one.
func TestDefaultProfile(t *testing.T) {
	without, err := service.New(service.Config{Policy: policy.Default()})
	if err != nil {
		t.Fatal(err)
	}
	with, err := service.New(service.Config{Policy: policy.Default(), Profiles: config.Default().Profiles})
	if err != nil {
		t.Fatal(err)
	}
	r := request(t, strings.Join([]string{
		"a zone=z1 cpu=4 memory=8Gi label:kubernetes.io/hostname=a label:topology.kubernetes.io/zone=z1 image:nginx=300Mi",
		"b zone=z2 cpu=4 memory=8Gi label:kubernetes.io/hostname=b label:topology.kubernetes.io/zone=z2 taint=x:PreferNoSchedule",
		"c zone=z2 cpu=2 memory=8Gi label:kubernetes.io/hostname=c label:topology.kubernetes.io/zone=z2",
		"one on=a cpu=1 label:app=web",
	}, "\n"), strings.Join([]string{
		"p cpu=1 memory=1Gi image=nginx spread-selector=app=web label:app=web",
		"q cpu=500m prefer=50:zone:In:z2 prefer-pod=10:zone:app=web",
		"r cpu=3",
	}, "\n"))
	r.Explanation = berthv1.ExplanationLevel_EXPLANATION_LEVEL_NODES
	for _, p := range r.Pods {
		p.SchedulerName = "default-scheduler"
	}
	got, err := without.Decide(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	want, err := with.Decide(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if got.ConfigDigest == want.ConfigDigest {
		t.Error("the config digest does not cover the profiles")
	}
	if diff := cmp.Diff(want, got, protocmp.Transform(), protocmp.IgnoreFields(got, "config_digest")); diff != "" {
		t.Error(diff)
	}
}

// A configuration that was read builds; one that was made by hand is refused by
// what is wrong with it.
func TestProfileErrors(t *testing.T) {
	for want, change := range map[string]func(c *config.Configuration){
		`service: Config.Profiles[1]: "default-scheduler" is the scheduler name of an earlier one`: func(c *config.Configuration) {
			c.Profiles = append(c.Profiles, c.Profiles[0])
		},
		`service: Config.Profiles[0]: "Nonsense" is not a filter`: func(c *config.Configuration) {
			c.Profiles[0].Filters = []string{"Nonsense"}
		},
		`service: Config.Profiles[0]: "Nonsense" is not a score`: func(c *config.Configuration) {
			c.Profiles[0].Scores = []config.Score{{Name: "Nonsense", Weight: 1}}
		},
		`service: Config.Profiles[0]: PodTopologySpread: defaultConstraints[0].max_skew: 0 is less than 1`: func(c *config.Configuration) {
			c.Profiles[0].Args.PodTopologySpread.DefaultConstraints[0].MaxSkew = 0
		},
		`service: Config.Profiles[0]: NodeAffinity: addedAffinity.preferred[0].weight: -1 is not 0 to 100`: func(c *config.Configuration) {
			c.Profiles[0].Args.NodeAffinity.AddedAffinity = &berthv1.NodeAffinity{Preferred: []*berthv1.PreferredNodeTerm{{Weight: -1}}}
		},
	} {
		c := config.Default()
		change(c)
		if _, err := service.New(service.Config{Policy: policy.Default(), Profiles: c.Profiles}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v is not %q", err, want)
		}
	}
}
