package main

import (
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
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
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
	// Refused is the outcome, and the field or constraint, with which the deciders
	// refuse a pod that no API server would hold. kube-scheduler's plugins, which
	// never see one, say something about it all the same, or fail.
	Refused string `json:"refused,omitempty"`

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
	for name, value := range map[string]string{"title": r.Title, "upstream": r.Upstream, "ungenerated": r.Ungenerated} {
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

// TestTables: on the rows of kube-scheduler's own table tests that Generate cannot
// make, the three answers agree. The input is a row and the output, which
// -rewrite writes, what kube-scheduler's plugins say of its objects.
func TestTables(t *testing.T) {
	judges := map[string]*Judges{}
	datadriven.Walk(t, filepath.Join("testdata", "tables"), func(t *testing.T, path string) {
		var differences []string // told at the end: the first error ends a file
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			r, err := readRow(d.Input)
			if err != nil {
				t.Fatalf("%s: %v", d.Pos, err)
			}
			configuration := r.configuration()
			if judges[configuration] == nil {
				// Oracles outlive the file that is the first to need them.
				if judges[configuration], err = newJudges(context.Background(), configuration); err != nil {
					t.Fatalf("%s: %v", d.Pos, err)
				}
			}
			want, err := r.judge(t.Context(), judges[configuration])
			if err != nil {
				differences = append(differences, fmt.Sprintf("%s: %s: %v", d.Pos, r.Title, err))
			}
			return want
		})
		for _, difference := range differences {
			t.Error(difference)
		}
	})
}

// judge returns what kube-scheduler's plugins say of the pending pod; an error
// says how another answer differs.
func (r *row) judge(ctx context.Context, j *Judges) (string, error) {
	if len(r.Pending) != 1 {
		return "", errors.New("a row has one pending pod")
	}
	verdict, failure := j.oracles[corev1.DefaultSchedulerName].Evaluate(ctx, r.Pending[0], cluster(&r.Case), r.Preempt)
	if failure != nil {
		return fmt.Sprintf("error: %v\n", failure), r.refusedByBoth(ctx, j)
	}
	want := scenario.FormatDecision(settled(&r.Case, verdict.Decision))
	if r.Refused != "" {
		return want, r.refusedByBoth(ctx, j)
	}
	_, difference, err := j.Run(ctx, &r.Case)
	if err == nil && difference != nil && exceptionOf(&r.Case, difference) == nil {
		err = errors.New(difference.String())
	}
	return want, err
}

// refusedByBoth returns an error unless both deciders refuse the pending pod as the
// row says.
func (r *row) refusedByBoth(ctx context.Context, j *Judges) error {
	for i, server := range []berthv1.DeciderServiceServer{j.berth, j.upstream} {
		name := []string{"berth", "upstream"}[i]
		response, err := server.Decide(ctx, request(&r.Case))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		d := response.GetDecisions()[0]
		got := strings.TrimPrefix(d.GetOutcome().String(), "OUTCOME_") + " " + d.GetRefusal().GetField() + d.GetRefusal().GetConstraint()
		if got != r.Refused {
			return fmt.Errorf("%s: want the refusal %q, got %q: %s", name, r.Refused, got, scenario.FormatDecision(d))
		}
	}
	return nil
}

// TestTablesIndex holds testdata/tables.md to kube-scheduler's source and to the
// rows: every table test of the rules is in it, each of its rows is here, generated
// or not applicable, and what a row says it is taken from is there.
func TestTablesIndex(t *testing.T) {
	upstream := upstreamTables(t)
	here := map[string]map[string]bool{}
	datadriven.Walk(t, filepath.Join("testdata", "tables"), func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			r, err := readRow(d.Input)
			if err != nil {
				t.Fatalf("%s: %v", d.Pos, err)
			}
			if !slices.Contains(upstream[r.Upstream], r.Row) {
				t.Fatalf("%s: %s has no row %q", d.Pos, r.Upstream, r.Row)
			}
			if here[r.Upstream] == nil {
				here[r.Upstream] = map[string]bool{}
			}
			if here[r.Upstream][r.Row] {
				t.Fatalf("%s: %s %q is here twice", d.Pos, r.Upstream, r.Row)
			}
			here[r.Upstream][r.Row] = true
			return d.Expected
		})
	})
	raw, err := os.ReadFile(filepath.Join("testdata", "tables.md"))
	if err != nil {
		t.Fatal(err)
	}
	indexed := map[string]bool{}
	for line := range strings.Lines(string(raw)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 6 || !strings.Contains(cells[0], "_test.go Test") {
			continue
		}
		name := strings.TrimSpace(cells[0])
		indexed[name] = true
		var counts [4]int // rows, here, generated, not applicable
		for i := range counts {
			if counts[i], err = strconv.Atoi(strings.TrimSpace(cells[i+1])); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if want := len(upstream[name]); counts[0] != want {
			t.Errorf("%s has %d rows, not %d", name, want, counts[0])
		}
		if want := len(here[name]); counts[1] != want {
			t.Errorf("%s: %d rows are here, not %d", name, want, counts[1])
		}
		if counts[0] != counts[1]+counts[2]+counts[3] {
			t.Errorf("%s: %d rows are not %d + %d + %d", name, counts[0], counts[1], counts[2], counts[3])
		}
		if counts[3] > 0 && strings.TrimSpace(cells[5]) == "" {
			t.Errorf("%s: say why %d rows are not applicable", name, counts[3])
		}
	}
	for name := range upstream {
		if !indexed[name] {
			t.Errorf("%s, of %d rows, is not in tables.md", name, len(upstream[name]))
		}
	}
}

// ruleFolders are the folders of kube-scheduler's plugins that are rules here.
var ruleFolders = []string{
	"defaultpreemption", "helper", "imagelocality", "interpodaffinity", "nodeaffinity", "nodedeclaredfeatures", "nodename", "nodeports",
	"noderesources", "nodeunschedulable", "podtopologyspread", "tainttoleration",
}

// upstreamTables returns the names of the rows of kube-scheduler's tests of the
// rules, by file and function. A test without a table is one row without a name, and
// rows that have none are called as Go calls them.
func upstreamTables(t *testing.T) map[string][]string {
	t.Helper()
	raw, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	scheduler := filepath.Join(strings.TrimSpace(string(raw)), "pkg", "scheduler")
	files := map[string]string{"schedule_one_test.go": filepath.Join(scheduler, "schedule_one_test.go")}
	for _, folder := range ruleFolders {
		paths, err := filepath.Glob(filepath.Join(scheduler, "framework", "plugins", folder, "*_test.go"))
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: no tests: %v", folder, err)
		}
		for _, path := range paths {
			files[folder+"/"+filepath.Base(path)] = path
		}
	}
	tables := map[string][]string{}
	for name, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		functions := map[string]*ast.FuncDecl{}
		for _, declaration := range file.Decls {
			if f, ok := declaration.(*ast.FuncDecl); ok {
				functions[f.Name.Name] = f
			}
		}
		for function, f := range functions {
			// TestX often is nothing but a call of testX.
			if rest, ok := strings.CutPrefix(function, "Test"); ok && functions["test"+rest] != nil {
				f = functions["test"+rest]
			} else if !ok {
				continue
			}
			tables[name+" "+function] = rowNames(f)
		}
	}
	return tables
}

// rowNames are the names in the longest list or map of structs in f that is in no
// other.
func rowNames(f *ast.FuncDecl) []string {
	names := []string{""}
	local := map[string]bool{} // struct types of f
	ast.Inspect(f, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok {
			_, local[spec.Name.Name] = spec.Type.(*ast.StructType)
		}
		table, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		var element ast.Expr
		switch of := table.Type.(type) {
		case *ast.ArrayType:
			element = of.Elt
		case *ast.MapType:
			element = of.Value
		}
		_, isStruct := element.(*ast.StructType)
		if named, ok := element.(*ast.Ident); ok && local[named.Name] {
			isStruct = true
		}
		if !isStruct {
			return true
		}
		if len(table.Elts) >= len(names) {
			names = nil
			for i, e := range table.Elts {
				names = append(names, rowName(e, i))
			}
		}
		return false
	})
	return names
}

// rowName is the name of the i-th element of a table.
func rowName(e ast.Expr, i int) string {
	if pair, ok := e.(*ast.KeyValueExpr); ok {
		return literal(pair.Key)
	}
	if row, ok := e.(*ast.CompositeLit); ok {
		for _, field := range row.Elts {
			if pair, ok := field.(*ast.KeyValueExpr); ok {
				switch pair.Key.(*ast.Ident).Name {
				case "name", "Name", "desc", "description":
					return literal(pair.Value)
				}
			}
		}
	}
	return fmt.Sprintf("case_%d", i)
}

// literal is the value of string literals that are added up.
func literal(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		if err != nil {
			return e.Value
		}
		return s
	case *ast.BinaryExpr:
		return literal(e.X) + literal(e.Y)
	}
	return ""
}
