package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	schedconfig "k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/scheme"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/validation"
	"sigs.k8s.io/yaml"

	"github.com/berth-scheduler/berth/decider/policy"
	"github.com/berth-scheduler/berth/decider/service"
	"github.com/berth-scheduler/berth/decider/upstream/batch"
	"github.com/berth-scheduler/berth/decider/upstream/oracle"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/config"
	"github.com/berth-scheduler/berth/proto/scenario"
)

// row is one row of one of kube-scheduler's own table tests, whose input Generate
// cannot make.
type row struct {
	// Title says what is shown.
	Title string `json:"title"`
	// Upstream is the file below pkg/scheduler/framework/plugins, or
	// schedule_one_test.go, and the test function in it.
	Upstream string `json:"upstream"`
	// Row is the row's name in that function's table.
	Row string `json:"row"`
	// Ungenerated says why Generate cannot make this input.
	Ungenerated string `json:"ungenerated"`
	// Profile is the profile that decides, without its schedulerName; the default
	// profile if empty.
	Profile map[string]any `json:"profile,omitempty"`

	Case `json:",inline"`
}

// readRow reads a row and completes its objects with what no object is without.
// Nothing is defaulted or validated: kube-scheduler's tables hold objects that no
// API server would, and its plugins answer for them.
func readRow(text string) (*row, error) {
	r := &row{}
	if err := yaml.UnmarshalStrict([]byte(text), r); err != nil {
		return nil, err
	}
	for name, value := range map[string]string{"title": r.Title, "upstream": r.Upstream, "row": r.Row, "ungenerated": r.Ungenerated} {
		if value == "" {
			return nil, fmt.Errorf("%s is missing", name)
		}
	}
	for _, n := range r.Nodes {
		n.UID = types.UID("node-" + n.Name)
	}
	for _, n := range r.Namespaces {
		n.UID = types.UID("namespace-" + n.Name)
	}
	for _, list := range [][]*corev1.Pod{r.Placed, r.Nominated, r.Pending} {
		for _, p := range list {
			if p.Namespace == "" {
				p.Namespace = "default"
			}
			if p.UID == "" {
				p.UID = types.UID(p.Name)
			}
			p.Spec.SchedulerName = corev1.DefaultSchedulerName
		}
	}
	for _, b := range r.Budgets {
		if b.Namespace == "" {
			b.Namespace = "default"
		}
	}
	return r, r.unique()
}

// configuration is that of a scheduler with the row's profile alone.
func (r *row) configuration() string {
	profile := map[string]any{"schedulerName": corev1.DefaultSchedulerName}
	for key, value := range r.Profile {
		profile[key] = value
	}
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
		"percentageOfNodesToScore": 100, "profiles": []any{profile},
	})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// newJudgesOf returns judges that decide by a scheduler configuration.
func newJudgesOf(ctx context.Context, configuration string) (*Judges, error) {
	ctx = klog.NewContext(ctx, klog.Logger{})
	loaded := &schedconfig.KubeSchedulerConfiguration{}
	if err := runtime.DecodeInto(scheme.Codecs.UniversalDecoder(), []byte(configuration), loaded); err != nil {
		return nil, err
	}
	if err := validation.ValidateKubeSchedulerConfiguration(loaded); err != nil {
		return nil, err
	}
	j := &Judges{oracles: map[string]*oracle.Oracle{}}
	for i := range loaded.Profiles {
		o, err := oracle.New(ctx, oracle.Config{Profile: &loaded.Profiles[i]})
		if err != nil {
			return nil, err
		}
		j.oracles[loaded.Profiles[i].SchedulerName] = o
	}
	read, err := config.Read([]byte(configuration))
	if err != nil {
		return nil, err
	}
	if j.berth, err = service.New(service.Config{Policy: policy.Default(), Profiles: read.Profiles, OmitStateDigest: true}); err != nil {
		return nil, err
	}
	solver, err := batch.New(ctx, loaded.Profiles, nil)
	if err != nil {
		return nil, err
	}
	j.upstream, err = service.New(service.Config{Solver: solver, OmitStateDigest: true})
	return j, err
}

// TestTables: on the rows of kube-scheduler's own table tests that Generate cannot
// make, the three answers agree. The input is a row and the output, which
// -rewrite writes, what kube-scheduler's plugins say of its objects.
func TestTables(t *testing.T) {
	judges := map[string]*Judges{}
	datadriven.Walk(t, filepath.Join("testdata", "tables"), func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			r, err := readRow(d.Input)
			if err != nil {
				t.Fatalf("%s: %v", d.Pos, err)
			}
			configuration := r.configuration()
			if judges[configuration] == nil {
				if judges[configuration], err = newJudgesOf(context.Background(), configuration); err != nil {
					t.Fatalf("%s: %v", d.Pos, err)
				}
			}
			want, err := judgeRow(t.Context(), judges[configuration], &r.Case)
			if err != nil {
				t.Errorf("%s: %s: %v", d.Pos, r.Row, err)
			}
			return want
		})
	})
}

// judgeRow returns what kube-scheduler's plugins say of the pending pod; an error
// says how another answer differs.
func judgeRow(ctx context.Context, j *Judges, c *Case) (string, error) {
	if len(c.Pending) != 1 {
		return "", errors.New("a row has one pending pod")
	}
	verdict, unreadable := j.oracles[corev1.DefaultSchedulerName].Evaluate(ctx, c.Pending[0], cluster(c), c.Preempt)
	if unreadable != nil {
		return fmt.Sprintf("error: %v\n", unreadable), bothRefuse(ctx, j, c)
	}
	want := scenario.FormatDecision(settled(c, verdict.Decision))
	_, difference, err := j.Run(ctx, c)
	switch {
	case err != nil:
		return want, err
	case difference == nil:
		return want, nil
	}
	if known := exceptionOf(c, difference); known != nil {
		return want, nil
	}
	return want, errors.New(difference.String())
}

// bothRefuse holds the deciders to a refusal of a pod on which one of kube-scheduler's
// plugins fails: its text is an error's and not compared.
func bothRefuse(ctx context.Context, j *Judges, c *Case) error {
	for name, server := range map[string]berthv1.DeciderServiceServer{"berth": j.berth, "upstream": j.upstream} {
		got, err := server.Decide(ctx, request(c))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if d := got.GetDecisions()[0]; d.GetOutcome() != berthv1.Outcome_OUTCOME_INVALID || d.GetRefusal().GetField() == "" {
			return fmt.Errorf("%s: want a refusal that names the field, got %s", name, scenario.FormatDecision(d))
		}
	}
	return nil
}
