//go:build e2e

package e2e

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const dockerfile = "../Dockerfile"

// The images hold what the Dockerfile's own lines build from what it copies: both
// binaries, static, of the version that was asked for.
func TestDockerfile(t *testing.T) {
	const version = "v0.1.2-test"
	stages := parseDockerfile(t, map[string]string{"VERSION": version, "TARGETOS": runtime.GOOS, "TARGETARCH": runtime.GOARCH})

	disk := t.TempDir() // the build stage's file system
	build := stages["build"]
	if build == nil {
		t.Fatalf("%s has no stage build", dockerfile)
	}
	build.run(t, disk)

	for _, target := range []string{"decider", "watcher"} {
		image := stages[target]
		if image == nil {
			t.Errorf("%s has no target %s", dockerfile, target)
			continue
		}
		if image.from != "scratch" {
			t.Errorf("target %s is from %s, want scratch", target, image.from)
		}
		if got := image.arguments("USER"); !slices.Equal(got, []string{"65532:65532"}) {
			t.Errorf("target %s runs as %q, want the numeric user that the manifests name, 65532:65532", target, got)
		}
		if got, want := image.arguments("ENTRYPOINT"), []string{`["/` + target + `"]`}; !slices.Equal(got, want) {
			t.Errorf("target %s starts %q, want %q", target, got, want)
		}
		copies := image.arguments("COPY")
		if len(copies) != 1 || len(strings.Fields(copies[0])) != 3 {
			t.Errorf("target %s copies %q, want its binary alone", target, copies)
			continue
		}
		words := strings.Fields(copies[0])
		if words[0] != "--from=build" || words[2] != "/"+target {
			t.Errorf("target %s copies %q, want its binary from stage build to /%s", target, copies[0], target)
		}
		file := filepath.Join(disk, filepath.FromSlash(words[1]))
		program, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
			continue
		}
		if err := static(program); err != nil {
			t.Errorf("%s: %v", target, err)
		}
		if static(withLoader(program)) == nil {
			t.Errorf("%s passes for static with a loader as well", target)
		}
		out, err := exec.Command(file, "--version").CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != version {
			t.Errorf("%s --version: %q, %v; want %s", target, got, err, version)
		}
	}
	buildImages(t)
}

// static returns an error if the program asks for a loader or a library: an
// image from scratch has neither.
func static(program []byte) error {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return err
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			return fmt.Errorf("not static: it has a program header %v", p.Type)
		}
	}
	return nil
}

// withLoader returns the 64-bit program with its first program header turned
// into one that asks for a loader.
func withLoader(program []byte) []byte {
	const offsetOfHeaders = 32 // e_phoff of the file header; p_type comes first in each
	dynamic := slices.Clone(program)
	first := binary.NativeEndian.Uint64(dynamic[offsetOfHeaders:])
	binary.NativeEndian.PutUint32(dynamic[first:], uint32(elf.PT_INTERP))
	return dynamic
}

// buildImages builds both images as `make image` does, where there is a Docker
// engine.
func buildImages(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("docker", "info").CombinedOutput(); err != nil {
		reason := "no Docker engine reachable"
		if errors.Is(err, exec.ErrNotFound) {
			reason = "docker is not installed"
		}
		t.Logf("NOT RUN: docker build: %s", reason)
		t.Logf("docker info: %v: %s", err, out)
		return
	}
	for _, target := range []string{"decider", "watcher"} {
		build := exec.Command("docker", "build", "--file", dockerfile, "--target", target, "../..")
		if out, err := build.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", build, err, out)
		}
	}
}

// A stage is what the Dockerfile does from one FROM to the next.
type stage struct {
	from         string
	instructions []instruction
}

// An instruction is one line of the Dockerfile, continuation lines joined.
type instruction struct{ name, arguments string }

func (s *stage) arguments(name string) []string {
	var all []string
	for _, i := range s.instructions {
		if i.name == name {
			all = append(all, i.arguments)
		}
	}
	return all
}

var fromLine = regexp.MustCompile(`^(?:--platform=\S+ )?(\S+) AS (\S+)$`)

// parseDockerfile returns the Dockerfile's stages by name. ARGs become
// environment of RUN lines with the values in args.
func parseDockerfile(t *testing.T, args map[string]string) map[string]*stage {
	t.Helper()
	text, err := os.ReadFile(dockerfile)
	if err != nil {
		t.Fatal(err)
	}
	stages := map[string]*stage{}
	var current *stage
	for line := range strings.SplitSeq(strings.ReplaceAll(string(text), "\\\n", " "), "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, rest, _ := strings.Cut(line, " ")
		if name == "FROM" {
			m := fromLine.FindStringSubmatch(rest)
			if m == nil {
				t.Fatalf("%s: FROM %s names no stage", dockerfile, rest)
			}
			current = &stage{from: m[1]}
			stages[m[2]] = current
			continue
		}
		if current == nil {
			t.Fatalf("%s: %s before the first FROM", dockerfile, name)
		}
		if name == "ARG" {
			arg, _, _ := strings.Cut(rest, "=")
			if _, ok := args[arg]; !ok {
				t.Fatalf("%s: this test has no value for ARG %s", dockerfile, arg)
			}
			rest = arg + "=" + args[arg]
		}
		current.instructions = append(current.instructions, instruction{name, rest})
	}
	return stages
}

// run does on disk what the builder does in the stage's file system, as far as
// relative paths and the builder's own Go go. RUN lines are run by sh, unchanged.
func (s *stage) run(t *testing.T, disk string) {
	t.Helper()
	workdir := disk
	env := os.Environ()
	for _, i := range s.instructions {
		switch i.name {
		case "WORKDIR":
			workdir = filepath.Join(disk, filepath.FromSlash(i.arguments))
			if err := os.MkdirAll(workdir, 0o755); err != nil {
				t.Fatal(err)
			}
		case "ARG":
			env = append(env, i.arguments)
		case "COPY":
			words := strings.Fields(i.arguments)
			to := words[len(words)-1]
			for _, from := range words[:len(words)-1] {
				copySources(t, from, filepath.Join(workdir, filepath.FromSlash(to)), strings.HasSuffix(to, "/"))
			}
		case "RUN":
			sh := exec.Command("sh", "-c", i.arguments)
			sh.Dir, sh.Env = workdir, env
			if out, err := sh.CombinedOutput(); err != nil {
				t.Fatalf("RUN %s: %v\n%s", i.arguments, err, out)
			}
		default:
			t.Fatalf("this test does not know what %s %s does", i.name, i.arguments)
		}
	}
}

// copySources copies a file or a folder of the repository, without what
// Dockerfile.dockerignore keeps from the builder.
func copySources(t *testing.T, from, to string, into bool) {
	t.Helper()
	if into {
		to = filepath.Join(to, path.Base(from))
	}
	root := filepath.Join("../..", filepath.FromSlash(from))
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		switch {
		case d.IsDir() && d.Name() == "testdata":
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case strings.HasSuffix(file, "_test.go"):
			return nil
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What the Dockerfile copies is what the builder is sent.
func TestDockerignore(t *testing.T) {
	text, err := os.ReadFile(dockerfile + ".dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	sent := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "!"); ok {
			sent[name] = true
		}
	}
	copied := map[string]bool{}
	for _, arguments := range parseDockerfile(t, map[string]string{"VERSION": "", "TARGETOS": "", "TARGETARCH": ""})["build"].arguments("COPY") {
		words := strings.Fields(arguments)
		for _, from := range words[:len(words)-1] {
			copied[from] = true
		}
	}
	if !maps.Equal(sent, copied) {
		t.Errorf("%s.dockerignore lets through %v, the Dockerfile copies %v", dockerfile,
			slices.Sorted(maps.Keys(sent)), slices.Sorted(maps.Keys(copied)))
	}
}
