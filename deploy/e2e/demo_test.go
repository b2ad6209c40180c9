//go:build e2e

package e2e

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// TestRunWithoutDeciders has `make run ONCE=1` fail when there is nobody to ask,
// and say what is missing. TestReadme runs it with deciders.
func TestRunWithoutDeciders(t *testing.T) {
	cmd := exec.Command(bin+"/demo", "--dir", t.TempDir(), "--once", "--deciders", "0", "--nodes", "6", "--pods", "12", "--timeout", "10s")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("it ended with %v, want exit status 1\n%s", err, out)
	}
	for _, want := range []string{"no decider reachable", "SchedulerError", "12 of 12 pods are not what they should be"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
}
