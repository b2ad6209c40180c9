package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-scheduler/berth/decider/internal/filter"
	"github.com/berth-scheduler/berth/decider/internal/score"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"

	// What is mutated, so that no result of before a change of it is taken for one
	// of now: go test does not see files that are read outside the module.
	_ "github.com/berth-scheduler/berth/decider/internal/solve"
	_ "github.com/berth-scheduler/berth/watcher/encode"
)

const root = "../../.."

func mutations(t *testing.T) []Mutation {
	t.Helper()
	mutations, err := Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	return mutations
}

func TestEveryMutationApplies(t *testing.T) {
	all := mutations(t)
	if len(all) < 80 {
		t.Errorf("there are %d mutations, fewer than 80", len(all))
	}
	for _, m := range all {
		source, err := os.ReadFile(filepath.Join(root, m.File))
		if err != nil {
			t.Error(err)
			continue
		}
		mutated, err := m.Apply(source)
		if err != nil {
			t.Error(err)
			continue
		}
		if string(mutated) == string(source) {
			t.Errorf("%s: changes nothing", m.Name)
		}
		file, err := parser.ParseFile(token.NewFileSet(), m.File, mutated, 0)
		if err != nil {
			t.Errorf("%s: %v", m.Name, err)
			continue
		}
		for _, name := range unused(file) {
			t.Errorf("%s: nothing uses the import %s any more", m.Name, name)
		}
	}
}

// unused are the imports of a file that nothing in it uses. The compiler does not see
// that of a mutation, because the function as it was is still there.
func unused(file *ast.File) []string {
	used := map[string]bool{}
	ast.Inspect(file, func(node ast.Node) bool {
		if selector, ok := node.(*ast.SelectorExpr); ok {
			if name, ok := selector.X.(*ast.Ident); ok {
				used[name.Name] = true
			}
		}
		return true
	})
	var names []string
	for _, spec := range file.Imports {
		name := path.Base(strings.Trim(spec.Path.Value, `"`))
		if spec.Name != nil {
			name = spec.Name.Name
		}
		if !used[name] {
			names = append(names, name)
		}
	}
	return names
}

// Every rule, operator and normalisation has one, as the names say.
func TestWhatIsMutated(t *testing.T) {
	want := []string{"Nominated pods: ", "Preemption ", "PodDisruptionBudget: ", "Encode requests: ", "Encode spread selector: "}
	for _, name := range filter.Names {
		want = append(want, name+": ")
	}
	for _, w := range score.Weights {
		want = append(want, w.Name)
	}
	for i, name := range berthv1.NodeSelectorOperator_name {
		if i != 0 {
			want = append(want, "NodeSelector "+strings.TrimPrefix(name, "NODE_SELECTOR_OPERATOR_")+": ")
		}
	}
	for i, name := range berthv1.LabelSelectorOperator_name {
		if i != 0 {
			want = append(want, "LabelSelector "+strings.TrimPrefix(name, "LABEL_SELECTOR_OPERATOR_")+": ")
		}
	}
	for i, name := range berthv1.TolerationOperator_name {
		if i != 0 {
			want = append(want, "Toleration "+strings.TrimPrefix(name, "TOLERATION_OPERATOR_")+": ")
		}
	}
	for _, name := range []string{"TaintToleration", "NodeAffinity", "PodTopologySpread", "InterPodAffinity"} {
		want = append(want, name+" normalisation: ")
	}
	all := mutations(t)
	for _, name := range want {
		found := false
		for _, m := range all {
			found = found || strings.HasPrefix(m.Name, name)
		}
		if !found {
			t.Errorf("no mutation's name begins with %q", name)
		}
	}
}

// Every text of a rejection has one that changes it: those of filters are in fields
// named Text.
func TestEveryTextIsMutated(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "decider/internal/filter/*.go"))
	if err != nil {
		t.Fatal(err)
	}
	all := mutations(t)
	texts := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || filepath.Base(name) == "understood.go" {
			continue // kube-scheduler has no records that it does not understand
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(node ast.Node) bool {
			pair, ok := node.(*ast.KeyValueExpr)
			if !ok {
				return true
			}
			if key, ok := pair.Key.(*ast.Ident); !ok || key.Name != "Text" {
				return true
			}
			ast.Inspect(pair.Value, func(node ast.Node) bool {
				literal, ok := node.(*ast.BasicLit)
				if !ok {
					return true
				}
				texts++
				changed := false
				for _, m := range all {
					changed = changed || strings.Contains(m.Old, literal.Value) && !strings.Contains(m.New, literal.Value)
				}
				if !changed {
					text, _ := strconv.Unquote(literal.Value)
					t.Errorf("no mutation changes the text %q", text)
				}
				return true
			})
			return true
		})
	}
	if texts < 15 {
		t.Errorf("found %d texts of rejections, fewer than there are rules", texts)
	}
}

func TestApply(t *testing.T) {
	const source = "func a() {\n\tx()\n}\n\nfunc b() {\n\tx()\n\ty()\n}\n"
	for _, test := range []struct{ declaration, old, want string }{
		{"", "y()", "func a() {\n\tx()\n}\n\nfunc b() {\n\tx()\n\tz()\n}\n"},
		{"func a", "x()", "func a() {\n\tz()\n}\n\nfunc b() {\n\tx()\n\ty()\n}\n"},
		{"", "x()", "m: lines 2 and 6 of f are both \"x()\""},
		{"func a", "y()", "m: f has no line \"y()\""},
	} {
		m := Mutation{Name: "m", File: "f", Declaration: test.declaration, Old: test.old, New: "z()"}
		got, err := m.Apply([]byte(source))
		if err != nil {
			got = []byte(err.Error())
		}
		if string(got) != test.want {
			t.Errorf("%q in %q: got %q, want %q", test.old, test.declaration, got, test.want)
		}
	}
}

func TestTogether(t *testing.T) {
	root := t.TempDir()
	const source = `package p

var x = 1

func a(_ int, n int) int {
	return n
}

func (t *T) b() {
	one()
}
`
	if err := os.WriteFile(filepath.Join(root, "p.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	m := &mutator{root: root}
	o, left, err := m.together([]Mutation{
		{Name: "0", File: "p.go", Old: "return n", New: "return 0"},
		{Name: "1", File: "p.go", Old: "var x = 1", New: "var x = 2"},
		{Name: "2", File: "p.go", Old: "one()", New: "two()"},
		{Name: "3", File: "p.go", Old: "return n", New: "return -n"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 1 || left[0] != 1 {
		t.Errorf("left: got %v, want the variable alone", left)
	}
	const want = `package p

var x = 1

func a(blank0 int, n int) int { switch mutation { case "0": return a_0(blank0, n); case "3": return a_3(blank0, n); }; 
	return n
}

func (t *T) b() { switch mutation { case "2": t.b_2(); return; }; 
	one()
}

func a_0(_ int, n int) int {
	return 0
}

func (t *T) b_2() {
	two()
}

func a_3(_ int, n int) int {
	return -n
}
`
	if got := string(o["p.go"]); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if o["mutation.go"] == nil {
		t.Error("nothing reads the number")
	}
}
