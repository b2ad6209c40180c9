//go:build e2e

package e2e

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

// TestBench has `make bench` measure small workloads, of which every run counts,
// and go on from there when it is called again.
func TestBench(t *testing.T) {
	dir, results := t.TempDir(), t.TempDir()
	for _, again := range []bool{false, true} {
		cmd := exec.Command(bin+"/bench", "--quick", "--nodes", "100", "--pods", "100",
			"--workloads", "half-too-big,what-if,restart", "--systems", "bare-events,berth", "--dir", dir, "--results", results)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s%s", err, &stderr, &stdout)
		}
		want := "4 runs, 0 of them measured before"
		if again {
			want = "4 runs, 4 of them measured before"
		}
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, &stderr)
		}
		for _, want := range []string{"| half-too-big | bare-events | 100 |", "| half-too-big | berth | 100 |", "| what-if | berth |", "| restart | berth | 1000 | 100 |", "| 1 of 1 |"} {
			if !strings.Contains(stdout.String(), want) {
				t.Errorf("it does not print %q:\n%s", want, &stdout)
			}
		}
	}
}
