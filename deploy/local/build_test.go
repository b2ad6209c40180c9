package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What build.go says about versions and packages is what go.mod pins.
func TestGoModAgrees(t *testing.T) {
	data, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	mod := string(data)
	for _, p := range programs {
		if !strings.Contains(mod, "\t"+p.pkg+"\n") {
			t.Errorf("go.mod has no tool %s", p.pkg)
		}
	}
	if !strings.Contains(mod, "\tk8s.io/kubernetes "+kubernetesVersion) {
		t.Errorf("go.mod does not require k8s.io/kubernetes %s", kubernetesVersion)
	}
	// The staging modules carry the same minor and patch version, with major 0.
	staging := "v0" + strings.TrimPrefix(kubernetesVersion, "v1")
	replaced := 0
	for line := range strings.Lines(mod) {
		if !strings.Contains(line, " => ") {
			continue
		}
		replaced++
		if f := strings.Fields(line); len(f) != 4 || f[0] != f[2] || f[3] != staging {
			t.Errorf("go.mod replaces %q; want MODULE => MODULE %s", strings.TrimSpace(line), staging)
		}
	}
	if replaced != 33 {
		t.Errorf("go.mod replaces %d modules, want the 33 staging modules", replaced)
	}
}

// A program is compiled again when it, go.mod or its stamp changed, and only then.
func TestFresh(t *testing.T) {
	source, bin := t.TempDir(), t.TempDir()
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(source, "go.mod"), "module example.com/m\n")
	write(filepath.Join(source, "go.sum"), "")
	b := builder{bin: bin, source: source, out: new(bytes.Buffer)}
	key, err := b.key(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	p := programs[0]
	if b.fresh(p, key) {
		t.Error("fresh although nothing is compiled")
	}
	write(filepath.Join(bin, p.name), "")
	if b.fresh(p, key) {
		t.Error("fresh without a stamp")
	}
	write(b.stamp(p), stampOf(p, key))
	if !b.fresh(p, key) {
		t.Error("stale right after compiling")
	}
	if b.fresh(program{p.name, "example.com/other"}, key) {
		t.Error("fresh although compiled from another package")
	}
	write(filepath.Join(source, "go.sum"), "example.com/x v1.0.0 h1:x\n")
	changed, err := b.key(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if b.fresh(p, changed) {
		t.Error("fresh although go.sum changed")
	}
}

func TestBuildWithoutSource(t *testing.T) {
	err := run(context.Background(), []string{"build", "--source", t.TempDir()}, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "--source must name the folder deploy/local") {
		t.Errorf("got %v", err)
	}
}

// A program that does not compile is reported with the compiler's words.
func TestBuildFails(t *testing.T) {
	source := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/m\n\ngo 1.26.0\n", "go.sum": "",
		"main.go": "package main\n\nfunc main() { undeclared() }\n",
	} {
		if err := os.WriteFile(filepath.Join(source, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b := builder{bin: t.TempDir(), source: source, out: new(bytes.Buffer)}
	err := b.compile(context.Background(), program{"m", "example.com/m"}, "m")
	if err == nil || !strings.Contains(err.Error(), "undefined: undeclared") {
		t.Errorf("got %v", err)
	}
}
