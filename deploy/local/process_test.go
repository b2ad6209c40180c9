package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// script returns a process whose program is a shell script. It is ready once it
// has made the file "ready" in its folder; died sends what is reported.
func script(t *testing.T, text string) (*process, chan error) {
	t.Helper()
	bin, dir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "etcd"), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	died := make(chan error, 1)
	p := &process{
		bin: bin, dir: dir, spawn: newSpawner(),
		component: component{name: "etcd", ready: func(context.Context) error {
			_, err := os.Stat(filepath.Join(dir, "ready"))
			return err
		}},
		died: func(_ *process, err error) { died <- err },
	}
	t.Cleanup(func() { p.stop(0) })
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	return p, died
}

func TestEndsBeforeReady(t *testing.T) {
	p, died := script(t, "echo the disk is on fire; exit 3")
	err := p.await(t.Context())
	if err == nil || !strings.Contains(err.Error(), "etcd ended") || !strings.Contains(err.Error(), "  the disk is on fire") {
		t.Errorf("got %v, want the end of the log", err)
	}
	select {
	case err := <-died:
		t.Errorf("reported twice: %v", err)
	default:
	}
}

func TestStop(t *testing.T) {
	for _, c := range []struct {
		name, text string
		grace      time.Duration
	}{
		{"gently", "trap 'echo bye; exit 0' TERM; touch ready; while :; do sleep 0.01; done", time.Minute},
		{"deaf", "trap '' TERM; touch ready; while :; do sleep 0.01; done", 100 * time.Millisecond},
		{"at once", "touch ready; exec sleep 1000", 0},
	} {
		p, died := script(t, c.text)
		if err := p.await(t.Context()); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		pid, err := os.ReadFile(p.pidFile())
		if err != nil || len(bytes.TrimSpace(pid)) == 0 {
			t.Errorf("%s: pid file: %q, %v", c.name, pid, err)
		}
		if p.stop(c.grace) == 0 {
			t.Errorf("%s: it was not running", c.name)
		}
		if p.stop(c.grace) != 0 {
			t.Errorf("%s: still running after stop", c.name)
		}
		if _, err := os.Stat(p.pidFile()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: pid file after stop: %v", c.name, err)
		}
		if c.name == "gently" && !strings.Contains(p.tail(), "bye") {
			t.Errorf("%s: it did not get SIGTERM; its log: %s", c.name, p.tail())
		}
		select {
		case err := <-died:
			t.Errorf("%s: an asked-for end was reported: %v", c.name, err)
		default:
		}
	}
}

// The end of a ready component that nobody asked for is reported, and it can be
// started again.
func TestDied(t *testing.T) {
	p, died := script(t, "touch ready; while [ ! -e die ]; do sleep 0.01; done; exit 7")
	if err := p.await(t.Context()); err != nil {
		t.Fatal(err)
	}
	die := filepath.Join(p.dir, "die")
	if err := os.WriteFile(die, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := <-died; err == nil || err.Error() != "exit status 7" {
		t.Errorf("reported %v, want exit status 7", err)
	}
	if err := os.Remove(die); err != nil {
		t.Fatal(err)
	}
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	if err := p.await(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestEnvironment(t *testing.T) {
	got := environment([]string{"HOME=/h", "ETCD_NAME=x", "KWOK_CONFIG=y", "NETCD_=z"}, "/d")
	if want := []string{"HOME=/h", "NETCD_=z", "KWOK_WORKDIR=/d/kwok"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLastLines(t *testing.T) {
	for _, c := range []struct{ log, want string }{
		{"", "  "},
		{"a\n", "  a"},
		{"a\nb\nc\n", "  b\n  c"},
		{"a\nb\nc", "  b\n  c"},
	} {
		if got := lastLines([]byte(c.log), 2); got != c.want {
			t.Errorf("lastLines(%q, 2) = %q, want %q", c.log, got, c.want)
		}
	}
}

// One folder, one cluster; and up fails with the log of what did not start.
func TestUpFails(t *testing.T) {
	t.Chdir(t.TempDir())
	dir, bin := t.TempDir(), t.TempDir()
	up := func() string {
		var out bytes.Buffer
		err := run(t.Context(), []string{"up", "--bare", "--dir", dir, "--bin", bin}, &out, &out)
		if err == nil {
			t.Fatal("up succeeded")
		}
		return err.Error()
	}
	if got := up(); !strings.Contains(got, "etcd is not in "+bin+"; compile the control plane with make tools") {
		t.Errorf("without programs: %s", got)
	}
	for _, name := range []string{"etcd", "kube-apiserver"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\necho no luck today\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got := up(); !strings.Contains(got, "etcd ended before it was ready") && !strings.Contains(got, "etcd ended at once") ||
		!strings.Contains(got, "  no luck today") {
		t.Errorf("with a broken etcd: %s", got)
	}
	lock, err := acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if got := up(); !strings.Contains(got, "a cluster is running in "+dir) {
		t.Errorf("with a second supervisor: %s", got)
	}
}
