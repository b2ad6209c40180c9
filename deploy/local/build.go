package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

const buildHelp = `Usage: local build [--bin DIR] [--source DIR]

Compiles etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl,
kwok and grpcurl from their Go modules. The first build takes about 8 minutes
on 2 cores; a program whose module versions, flags and Go version are unchanged
is not compiled again.

  --bin DIR     where the programs go (default: the folder of this program)
  --source DIR  the Go module deploy/local, whose go.mod fixes the versions
                (default: ../deploy/local as seen from this program)
`

// kubernetesVersion is the version of the k8s.io/kubernetes module in go.mod;
// a test compares the two.
const kubernetesVersion = "v1.36.3"

// A program is compiled by build. Every package is a tool of go.mod.
type program struct{ name, pkg string }

// programs in the order in which they are compiled: the small one first, so
// that a broken toolchain shows early, then the one that compiles most of what
// the later ones share.
var programs = []program{
	{"etcd", "go.etcd.io/etcd/server/v3"},
	{"kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"},
	{"kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"},
	{"kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"},
	{"kubectl", "k8s.io/kubernetes/cmd/kubectl"},
	{"kwok", "sigs.k8s.io/kwok/cmd/kwok"},
	{"grpcurl", "github.com/fullstorydev/grpcurl/cmd/grpcurl"},
}

// ldflags strips the programs and gives those of Kubernetes the version that
// their release builds report; unset, it would be v0.0.0-master, which kubectl
// warns about.
var ldflags = "-s -w" +
	" -X k8s.io/component-base/version.gitVersion=" + kubernetesVersion +
	" -X k8s.io/component-base/version.gitMajor=" + strings.Split(kubernetesVersion, ".")[0][1:] +
	" -X k8s.io/component-base/version.gitMinor=" + strings.Split(kubernetesVersion, ".")[1] +
	" -X k8s.io/client-go/pkg/version.gitVersion=" + kubernetesVersion

// heartbeat is how often a build that takes long says that it is alive.
const heartbeat = 30 * time.Second

func runBuild(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("build", flag.ContinueOnError)
	bin := fs.String("bin", programFolder(), "")
	source := fs.String("source", filepath.Join(programFolder(), "..", "deploy", "local"), "")
	if _, err := parse(fs, args); err != nil {
		return err
	}
	if err := errors.Join(absolute(bin), absolute(source)); err != nil {
		return err
	}
	b := builder{bin: *bin, source: *source, out: stdout}
	return b.build(ctx)
}

// A builder compiles programs from the module in source into bin.
type builder struct {
	bin, source string
	out         io.Writer
}

func (b *builder) build(ctx context.Context) error {
	key, err := b.key(ctx)
	if err != nil {
		return err
	}
	var stale []program
	for _, p := range programs {
		if !b.fresh(p, key) {
			stale = append(stale, p)
		}
	}
	if len(stale) == 0 {
		fmt.Fprintf(b.out, "control plane up to date in %s\n", b.bin)
		return nil
	}
	fmt.Fprintf(b.out, "compiling %d programs into %s; the first time takes about 8 minutes on 2 cores\n", len(stale), b.bin)
	began := time.Now()
	for i, p := range stale {
		if err := b.compile(ctx, p, fmt.Sprintf("[%d/%d] %s", i+1, len(stale), p.name)); err != nil {
			return err
		}
		if err := os.WriteFile(b.stamp(p), []byte(stampOf(p, key)), 0o644); err != nil {
			return err
		}
	}
	fmt.Fprintf(b.out, "control plane compiled in %s\n", time.Since(began).Round(time.Second))
	return nil
}

// key digests everything that decides what the programs contain besides their
// package: modules never change under a version, so go.mod, go.sum, the
// toolchain and the flags are the whole of it.
func (b *builder) key(ctx context.Context) (string, error) {
	h := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(b.source, name))
		if err != nil {
			return "", fmt.Errorf("%w; --source must name the folder deploy/local of the repository", err)
		}
		fmt.Fprintf(h, "%s %d\n%s", name, len(data), data)
	}
	goEnv := b.command(ctx, "env", "GOVERSION", "GOOS", "GOARCH", "GOAMD64", "GOARM64", "GOFLAGS", "GOEXPERIMENT")
	toolchain, err := goEnv.Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w; is Go installed and on PATH?", err)
	}
	fmt.Fprintf(h, "%s%s", toolchain, ldflags)
	return hex.EncodeToString(h.Sum(nil)), nil
}

// stamp is the file that says from what p in b.bin was compiled.
func (b *builder) stamp(p program) string {
	return filepath.Join(b.bin, "."+p.name+".stamp")
}

func stampOf(p program, key string) string { return p.pkg + " " + key + "\n" }

// fresh says whether p is there, compiled from what key stands for.
func (b *builder) fresh(p program, key string) bool {
	if _, err := os.Stat(filepath.Join(b.bin, p.name)); err != nil {
		return false
	}
	got, err := os.ReadFile(b.stamp(p))
	return err == nil && string(got) == stampOf(p, key)
}

// command is a go command in the module. A go.work around the repository would
// override the module's replace lines, so it is switched off.
func (b *builder) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	return cmd
}

// compile builds one program, telling the time on the way. label begins each
// line of progress.
func (b *builder) compile(ctx context.Context, p program, label string) error {
	began := time.Now()
	cmd := b.command(ctx, "build", "-v", "-trimpath", "-ldflags", ldflags, "-o", filepath.Join(b.bin, p.name), p.pkg)
	progress, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w; is Go installed and on PATH?", p.name, err)
	}

	// With -v the go command prints one import path per package it compiles;
	// a line with a space in it is a message.
	var packages atomic.Int64
	var messages []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(progress); lines.Scan(); {
			switch line := lines.Text(); {
			case !strings.Contains(line, " "):
				packages.Add(1)
			case !strings.HasPrefix(line, "go: downloading "):
				messages = append(messages, line)
			}
		}
	}()

	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	for waiting := true; waiting; {
		select {
		case <-done:
			waiting = false
		case <-ticker.C:
			fmt.Fprintf(b.out, "%s: %d packages compiled, %s\n", label, packages.Load(), time.Since(began).Round(time.Second))
		}
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return errors.New("build interrupted; what is compiled so far is kept")
		}
		return fmt.Errorf("%s: go build: %w\n%s", p.name, err, strings.Join(messages, "\n"))
	}
	fmt.Fprintf(b.out, "%s: %s\n", label, time.Since(began).Round(100*time.Millisecond))
	return nil
}
