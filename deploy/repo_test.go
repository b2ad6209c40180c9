// Package deploy_test holds the repository to the rules that cross its packages:
// its layout, its package comments, and what may depend on what.
package deploy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/berth-scheduler/berth"

// root is where the root module's files are, seen from this package.
var root = os.DirFS("..")

// The top level is a reader's table of contents.
func TestTopLevel(t *testing.T) {
	allowed := []string{
		"proto", "decider", "watcher", "deploy", "docs",
		"Makefile", "buf.yaml", "go.mod", "go.sum", "README.md", "LICENSE",
		"bin", // built, never committed
	}
	entries, err := fs.ReadDir(root, ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(allowed, e.Name()) && !strings.HasPrefix(e.Name(), ".") {
			t.Errorf("%s: not at the top level, which holds %s and dotfiles only", e.Name(), strings.Join(allowed, " "))
		}
	}
}

// A package says once what it is for, in one place. That of a package with
// nothing but tests is in its tests, that of the contract in its .proto files.
func TestPackageComments(t *testing.T) {
	files := map[string][]string{}    // of each package, its tests apart
	comments := map[string][]string{} // those of them with a package comment
	parsed := goFiles(t, ".")
	for _, file := range slices.Sorted(maps.Keys(parsed)) {
		f := parsed[file]
		pkg := path.Dir(file)
		if strings.HasSuffix(file, "_test.go") {
			pkg += " (tests)"
		}
		if ast.IsGenerated(f) {
			continue
		}
		files[pkg] = append(files[pkg], file)
		if f.Doc != nil {
			comments[pkg] = append(comments[pkg], file)
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(files)) {
		if tested, ok := strings.CutSuffix(pkg, " (tests)"); ok && files[tested] != nil {
			continue
		}
		if n := len(comments[pkg]); n != 1 {
			t.Errorf("%s: %d package comments %v, want one", pkg, n, comments[pkg])
		}
	}
}

// dependencies says what must never be linked together, however indirectly.
// Tests may: the watcher's talk to a real decider through decider/service.
var dependencies = []struct{ from, to, reason string }{
	{"decider/...", "k8s.io/client-go/...", "a decider holds no credentials and never talks to the API server"},
	{"decider/...", module + "/watcher/...", "the contract is all that the two processes share"},
	{"watcher/...", module + "/decider/...", "the contract is all that the two processes share"},
	{"proto/...", module + "/decider/...", "the contract knows neither of its sides"},
	{"proto/...", module + "/watcher/...", "the contract knows neither of its sides"},
	{"deploy/check/...", module + "/decider/...", "a check that shares code with what it checks shares its mistakes"},
	{"deploy/check/...", module + "/watcher/...", "a check that shares code with what it checks shares its mistakes"},
	{"deploy/check/...", module + "/proto/...", "the check believes the API server and its audit log, not the processes"},
}

func TestDependencies(t *testing.T) {
	list := exec.Command("go", "list", "-json=ImportPath,Deps", "./...")
	list.Dir = ".."
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("%s: %v", list, err)
	}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var pkg struct {
			ImportPath string
			Deps       []string
		}
		if err := dec.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		for _, rule := range dependencies {
			if !match(module+"/"+rule.from, pkg.ImportPath) {
				continue
			}
			for _, dep := range pkg.Deps {
				if match(rule.to, dep) {
					t.Errorf("%s depends on %s: %s", pkg.ImportPath, dep, rule.reason)
				}
			}
		}
	}
}

// pure packages compute their answer from their arguments alone: the same calls
// give the same results, and a test needs no fake but values.
var pure = []string{
	"decider/internal/model", "decider/internal/filter", "decider/internal/score", "decider/internal/preempt", "decider/internal/solve",
	"watcher/internal/cluster", "watcher/internal/queue", "watcher/internal/driver", "watcher/internal/route", "watcher/internal/signal",
	"watcher/internal/fence", "watcher/internal/simulation",
}

// impure is what a pure package must not import.
var impure = []struct{ path, reason string }{
	{"context", "it does nothing that could be cancelled"},
	{"log/...", "it returns facts; the rim logs them"},
	{"k8s.io/klog/v2/...", "it returns facts; the rim logs them"},
	{"math/rand/...", "ties are broken by a seed that is an argument"},
	{"crypto/rand", "ties are broken by a seed that is an argument"},
	{"sync/...", "one goroutine owns its state and calls it"},
	{"os/...", "it reads no file, environment or clock"},
	{"net", "it talks to nobody"},
	{"net/http/...", "it talks to nobody"},
	{"google.golang.org/grpc/...", "codes and connections belong to the edge"},
}

// clock is what of package time a pure package must not use: now is an argument.
var clock = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

func TestPurity(t *testing.T) {
	for _, dir := range pure {
		files := goFiles(t, dir)
		for _, file := range slices.Sorted(maps.Keys(files)) {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, broken := range impurities(files[file]) {
				t.Errorf("%s: %s", file, broken)
			}
		}
	}
}

// The table above would pass just as well if nothing were ever found.
func TestImpuritiesAreFound(t *testing.T) {
	const source = `package p
import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	clock "time"
	"google.golang.org/grpc/codes"
)
func f() { go f(); _ = clock.Now(); _ = clock.Second; _ = clock.Until }
`
	f, err := parser.ParseFile(token.NewFileSet(), "p.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"imports context", "imports log/slog", "imports net:", "imports google.golang.org/grpc/codes",
		"starts a goroutine", "uses time.Now", "uses time.Until"}
	got := impurities(f)
	if len(got) != len(want) {
		t.Fatalf("found %q, want %q", got, want)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("found %q, want %q", got[i], want[i])
		}
	}
}

// impurities returns what keeps the file from being pure, in the file's order.
func impurities(f *ast.File) []string {
	var found []string
	timeName := "" // what the file calls package time
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has accepted it
		}
		for _, rule := range impure {
			if match(rule.path, imported) {
				found = append(found, fmt.Sprintf("imports %s: %s", imported, rule.reason))
			}
		}
		if imported == "time" {
			timeName = "time"
			if spec.Name != nil {
				timeName = spec.Name.Name
			}
		}
	}
	for n := range ast.Preorder(f) {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = append(found, "starts a goroutine: its caller owns all of them")
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == timeName && slices.Contains(clock, n.Sel.Name) {
				found = append(found, fmt.Sprintf("uses time.%s: now is an argument", n.Sel.Name))
			}
		}
	}
	return found
}

// match says whether the import path is the pattern's, where "p/..." means p and
// everything below it, as for the go command.
func match(pattern, importPath string) bool {
	if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
		return importPath == tree || strings.HasPrefix(importPath, tree+"/")
	}
	return importPath == pattern
}

// goFiles parses every Go file in and below dir, of nested modules too, by path
// from the root. A dir that does not exist has none.
func goFiles(t *testing.T, dir string) map[string]*ast.File {
	t.Helper()
	files := map[string]*ast.File{}
	err := fs.WalkDir(root, dir, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != "." && (d.Name() == "testdata" || d.Name() == "bin" || strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case d.IsDir() || path.Ext(file) != ".go":
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", file), nil, parser.ParseComments)
		files[file] = f
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return files
}
