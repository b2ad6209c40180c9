package child

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// shell returns a Spawner and its command that runs a script.
func shell(t *testing.T, script string) (*Spawner, *exec.Cmd) {
	t.Helper()
	sh, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	s := NewSpawner(filepath.Dir(sh))
	return s, s.Command(filepath.Base(sh), "-c", script)
}

// start starts a script that is killed with the test.
func start(t *testing.T, script string) *Child {
	t.Helper()
	s, cmd := shell(t, script)
	c, err := s.Start("script", filepath.Join(t.TempDir(), "log"), cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Stop(0) })
	return c
}

// awaitLine waits for a line of c's log that begins with prefix.
func awaitLine(t *testing.T, c *Child, prefix string) (line string, err error) {
	err = c.Await(t.Context(), time.Millisecond, func(context.Context) (err error) {
		line, err = c.Said(prefix)
		return err
	})
	return line, err
}

func TestSaid(t *testing.T) {
	t.Setenv("KUBECONFIG", "secret")
	c := start(t, "echo noise; echo kubeconfig: $KUBECONFIG-; read forever < /dev/zero")
	if got, err := awaitLine(t, c, "kubeconfig: "); err != nil || got != "-" {
		t.Errorf("said %q, error %v; want %q, the environment's KUBECONFIG being left out", got, err, "-")
	}
	if _, err := c.Said("server: "); err == nil || err.Error() != `it has not said "server: "` {
		t.Errorf("error %v", err)
	}
}

// A line that is not complete has not been said.
func TestSaidInPart(t *testing.T) {
	c := &Child{Log: filepath.Join(t.TempDir(), "log")}
	if err := os.WriteFile(c.Log, []byte("kubeconfig: /some"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Said("kubeconfig: "); err == nil {
		t.Errorf("said %q", got)
	}
}

func TestFailure(t *testing.T) {
	c := start(t, "echo the reason; exit 3")
	_, err := awaitLine(t, c, "never: ")
	if c.Alive() {
		t.Fatal("it lives")
	}
	failure := fmt.Sprintf("script ended (exit status 3); end of %s:\n  the reason", c.Log)
	if got := c.Failure().Error(); got != failure {
		t.Errorf("%s, want %s", got, failure)
	}
	if err == nil || !strings.HasSuffix(err.Error(), failure) {
		t.Errorf("awaited: %v, want %s", err, failure)
	}
}

func TestStop(t *testing.T) {
	for _, test := range []struct {
		name, script string
		grace        time.Duration
		want         string
	}{
		{"gently", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done", time.Minute, "exit status 0"},
		{"deaf", "trap '' TERM; echo ready; while :; do sleep 0.01; done", 50 * time.Millisecond, "signal: killed"},
	} {
		c := start(t, test.script)
		if _, err := awaitLine(t, c, "ready"); err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		c.Stop(test.grace)
		if c.Alive() || c.How() != test.want {
			t.Errorf("%s: alive %v, ended with %s, want %s", test.name, c.Alive(), c.How(), test.want)
		}
		c.Stop(test.grace) // ending it again does nothing
	}
}

func TestRun(t *testing.T) {
	s, cmd := shell(t, "echo said; exit 2")
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := s.Run(t.Context(), cmd); out.String() != "said\n" || err == nil || err.Error() != "exit status 2" {
		t.Errorf("printed %q, error %v", &out, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s, cmd = shell(t, "exec sleep 1000")
	cancel()
	if err := s.Run(ctx, cmd); err == nil || err.Error() != "signal: killed" {
		t.Errorf("error %v", err)
	}
}

func TestPolite(t *testing.T) {
	if _, err := exec.LookPath("nice"); err != nil {
		t.Skip("no program nice")
	}
	s, cmd := shell(t, "nice")
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := s.Run(t.Context(), Polite(cmd)); err != nil || strings.TrimSpace(out.String()) != "19" {
		t.Errorf("niceness %q, error %v", &out, err)
	}
}

func TestPoll(t *testing.T) {
	calls := 0
	err := Poll(t.Context(), time.Millisecond, func(context.Context) error {
		if calls++; calls < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	if err != nil || calls != 3 {
		t.Errorf("%d calls, error %v", calls, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause, last := errors.New("interrupted"), errors.New("not yet")
	cancel(cause)
	if err := Poll(ctx, time.Hour, func(context.Context) error { return last }); !errors.Is(err, cause) || !errors.Is(err, last) {
		t.Errorf("error %v, want both %v and %v", err, cause, last)
	}
}

func TestFreeAddresses(t *testing.T) {
	free, err := FreeAddresses(3)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, a := range free {
		if _, _, err := net.SplitHostPort(a); err != nil || seen[a] {
			t.Errorf("address %s of %v: %v", a, free, err)
		}
		seen[a] = true
	}
	if len(seen) != 3 {
		t.Errorf("%d addresses, want 3", len(seen))
	}
}

// Nothing that a program does about SIGTERM keeps it from being killed.
func TestKill(t *testing.T) {
	c := start(t, "trap '' TERM; echo ready: yes; read forever < /dev/zero")
	if _, err := awaitLine(t, c, "ready: "); err != nil {
		t.Fatal(err)
	}
	c.Kill()
	if c.Alive() || c.How() != "signal: killed" {
		t.Errorf("it ended with %s", c.How())
	}
	c.Kill() // it is gone already
}
