package main

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/scenario"
)

// cases is as many as a minute of CI allows; `make differential` runs more.
var cases = flag.Int("cases", 6000, "how many cases TestDifferential runs")

func TestMain(m *testing.M) {
	klog.LogToStderr(false)
	klog.SetOutput(nothing{})
	os.Exit(m.Run())
}

// TestDifferential: no difference that is not known, and everything exercised.
func TestDifferential(t *testing.T) {
	report, err := Run(t.Context(), 1, *cases, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	judges, err := NewJudges(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Failures[:min(3, len(report.Failures))] {
		if err := f.Shrink(t.Context(), judges); err != nil {
			t.Error(err)
		}
		t.Errorf("%s", f)
	}
	if missing := report.Coverage.Missing(); len(missing) > 0 {
		t.Errorf("not exercised by %d cases: %q", report.Cases, missing)
	}
	if report.Indexed < report.Cases {
		t.Errorf("%d decisions were asked of the index", report.Indexed)
	}
	t.Logf("%d cases, %d decisions asked of the index", report.Cases, report.Indexed)
	if report.Refused > report.Cases/100 {
		t.Errorf("%d of %d cases refused by validation: the generator makes up what cannot be", report.Refused, report.Cases)
	}
}

// TestStories are cases that once differed. The input is a case, as --save writes
// it; the output is what kube-scheduler's plugins say, and never what Berth says.
func TestStories(t *testing.T) {
	judges, err := NewJudges(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			want, difference := answer(t, judges, d.Input)
			if difference != nil {
				t.Errorf("%s: %s", d.Pos, difference)
			}
			return text(want)
		})
	})
}

// TestExceptions: each known difference has a story in which it shows, and the
// exception takes in no more than its story's kind of difference.
func TestExceptions(t *testing.T) {
	judges, err := NewJudges(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range exceptions {
		t.Run(e.Name, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join("testdata", "exceptions", e.Name+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			_, difference := answer(t, judges, string(raw))
			if difference == nil {
				t.Fatal("the answers agree: take the exception away")
			}
			c, err := ParseCase(raw)
			if err != nil {
				t.Fatal(err)
			}
			if c, err = c.admit(); err != nil {
				t.Fatal(err)
			}
			if known := exceptionOf(c, difference); known == nil || known.Name != e.Name {
				t.Errorf("the exception does not take in %s", difference)
			}
			c.Preempt, c.Placed, c.Nominated, c.Pending = false, nil, nil, c.Pending[:1]
			c.Pending[0].Spec = corev1.PodSpec{}
			if e.Applies(c, difference) {
				t.Error("the exception takes in a cluster without its cause")
			}
		})
	}
}

func answer(t *testing.T, judges *Judges, input string) ([]*berthv1.Decision, *Difference) {
	t.Helper()
	c, err := ParseCase([]byte(input))
	if err != nil {
		t.Fatal(err)
	}
	if c, err = c.admit(); err != nil {
		t.Fatal(err)
	}
	want, difference, err := judges.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return want, difference
}

func text(decisions []*berthv1.Decision) string {
	var b strings.Builder
	for _, d := range decisions {
		b.WriteString(scenario.FormatDecision(d))
	}
	return b.String()
}

// TestGenerateIsAFunction: a case is found again by its seed and number, and reads
// back as what was printed.
func TestGenerateIsAFunction(t *testing.T) {
	for number := range uint64(50) {
		c := Generate(7, number)
		if c.String() != Generate(7, number).String() {
			t.Fatalf("case %d is not the same twice", number)
		}
		again, err := ParseCase([]byte(c.String()))
		if err != nil {
			t.Fatal(err)
		}
		if again.String() != c.String() {
			t.Errorf("case %d is not read back", number)
		}
	}
}

// TestAdmit: pods are defaulted as by the API server, label keys are merged into
// selectors unless an old API server stored the pod, and what is invalid is refused.
func TestAdmit(t *testing.T) {
	c, err := ParseCase([]byte(`
nodes: [{metadata: {name: n1, uid: n1}}]
pending:
- metadata: {name: q, namespace: default, uid: q, labels: {app: a}}
  spec:
    containers: [{name: c, image: app, resources: {limits: {cpu: 1}}}]
    topologySpreadConstraints:
    - {maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {}, matchLabelKeys: [app]}
`))
	if err != nil {
		t.Fatal(err)
	}
	admitted, err := c.admit()
	if err != nil {
		t.Fatal(err)
	}
	p := admitted.Pending[0]
	if got := p.Spec.Containers[0].Resources.Requests.Cpu().String(); got != "1" {
		t.Errorf("cpu request is %s, want the limit", got)
	}
	if p.Spec.SchedulerName != corev1.DefaultSchedulerName {
		t.Errorf("schedulerName is %q", p.Spec.SchedulerName)
	}
	if got := len(p.Spec.TopologySpreadConstraints[0].LabelSelector.MatchExpressions); got != 1 {
		t.Errorf("%d requirements were merged into the selector, want 1", got)
	}
	c.Pending[0].Annotations = map[string]string{oldAnnotation: "true"}
	if admitted, err = c.admit(); err != nil {
		t.Fatal(err)
	}
	if got := len(admitted.Pending[0].Spec.TopologySpreadConstraints[0].LabelSelector.MatchExpressions); got != 0 {
		t.Errorf("%d requirements were merged into an old pod's selector", got)
	}
	c.Pending[0].Spec.TopologySpreadConstraints[0].MaxSkew = 0
	if _, err := c.admit(); err == nil || !strings.Contains(err.Error(), "maxSkew") {
		t.Errorf("maxSkew 0: %v", err)
	}
}

// TestShrink: what does not matter goes, what matters stays.
func TestShrink(t *testing.T) {
	hasPort := func(c *Case) bool {
		return slices.ContainsFunc(c.Placed, func(p *corev1.Pod) bool {
			return slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool { return len(c.Ports) > 0 })
		})
	}
	for number := uint64(0); ; number++ {
		c := Generate(1, number)
		if _, err := c.admit(); err != nil || !hasPort(c) {
			continue
		}
		small := shrink(c, hasPort)
		if len(small.Nodes) != 1 || len(small.Placed) != 1 || len(small.Pending) != 1 || len(small.Nominated)+len(small.Budgets) != 0 {
			t.Errorf("left of case %d:\n%s", number, small)
		}
		if !hasPort(small) || hasPort(&Case{}) {
			t.Errorf("case %d: what matters is gone", number)
		}
		return
	}
}

// TestComparison: every part of an answer is compared.
func TestComparison(t *testing.T) {
	judges, err := NewJudges(context.Background(), false)
	if err != nil {
		t.Fatal(err)
	}
	changes := map[string]func(*berthv1.Decision) bool{
		"outcome": func(d *berthv1.Decision) bool { d.Outcome = berthv1.Outcome_OUTCOME_INVALID; return true },
		"candidate": func(d *berthv1.Decision) bool {
			d.Candidates = d.GetCandidates()[:max(0, len(d.GetCandidates())-1)]
			return len(d.GetCandidates()) > 0
		},
		"best": func(d *berthv1.Decision) bool {
			cs := d.GetCandidates()
			if len(cs) < 2 || cs[0].GetScore() == cs[len(cs)-1].GetScore() {
				return false
			}
			slices.Reverse(cs)
			return true
		},
		"message": func(d *berthv1.Decision) bool {
			if d.GetRejection() != nil {
				d.Rejection.Message += "."
			}
			return d.GetRejection() != nil
		},
		"reason": func(d *berthv1.Decision) bool {
			return anyNode(d, func(n *berthv1.NodeExplanation) bool {
				if n.GetRule() != "" {
					n.Reasons = append(n.GetReasons(), "x")
				}
				return n.GetRule() != ""
			})
		},
		"eviction": func(d *berthv1.Decision) bool {
			return anyNode(d, func(n *berthv1.NodeExplanation) bool { n.EvictionCouldHelp = !n.GetEvictionCouldHelp(); return true })
		},
		"raw":        func(d *berthv1.Decision) bool { return anyScore(d, func(s *berthv1.Score) { s.Raw++ }) },
		"normalized": func(d *berthv1.Decision) bool { return anyScore(d, func(s *berthv1.Score) { s.Normalized++ }) },
		"weight":     func(d *berthv1.Decision) bool { return anyScore(d, func(s *berthv1.Score) { s.Weight++ }) },
		"total": func(d *berthv1.Decision) bool {
			return anyNode(d, func(n *berthv1.NodeExplanation) bool { n.Total++; return true })
		},
		"victim": func(d *berthv1.Decision) bool {
			if d.GetPreemption() == nil {
				return false
			}
			d.Preemption.Victims[0].Uid += "x"
			return true
		},
		"preemption": func(d *berthv1.Decision) bool {
			found := d.GetPreemption() != nil
			d.Preemption = nil
			return found
		},
		"violations": func(d *berthv1.Decision) bool {
			ps := d.GetExplanation().GetPreemptions()
			if len(ps) > 0 {
				ps[0].BudgetViolations++
			}
			return len(ps) > 0
		},
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			for number := range uint64(500) {
				c, err := Generate(3, number).admit()
				if err != nil {
					continue
				}
				r := request(c)
				berth, err := judges.berth.Decide(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				upstream, err := judges.upstream.Decide(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				if _, difference, err := judges.judge(t.Context(), c, berth.GetDecisions(), upstream.GetDecisions()); err != nil || difference != nil {
					continue
				}
				kept := proto.Clone(berth).(*berthv1.DecideResponse)
				if !change(berth.GetDecisions()[0]) {
					continue
				}
				if _, difference, err := judges.judge(t.Context(), c, berth.GetDecisions(), upstream.GetDecisions()); err != nil || difference == nil {
					t.Errorf("case %d: berth's changed %s passes (%v)", number, name, err)
				}
				change(upstream.GetDecisions()[0])
				if _, difference, err := judges.judge(t.Context(), c, kept.GetDecisions(), upstream.GetDecisions()); err != nil || difference == nil {
					t.Errorf("case %d: upstream's changed %s passes (%v)", number, name, err)
				}
				return
			}
			t.Error("no case has it")
		})
	}
}

func anyNode(d *berthv1.Decision, change func(*berthv1.NodeExplanation) bool) bool {
	return slices.ContainsFunc(d.GetExplanation().GetNodes(), change)
}

func anyScore(d *berthv1.Decision, change func(*berthv1.Score)) bool {
	return anyNode(d, func(n *berthv1.NodeExplanation) bool {
		for _, s := range n.GetScores() {
			change(s)
		}
		return len(n.GetScores()) > 0
	})
}
