package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDependencies: a judge that shared code with what it judges would share
// its mistakes.
func TestDependencies(t *testing.T) {
	const module = "github.com/berth-scheduler/berth/"
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("go list -deps: %v", err)
	}
	own := 0
	for dep := range strings.FieldsSeq(string(out)) {
		if !strings.HasPrefix(dep, module) {
			continue
		}
		own++
		if !strings.HasPrefix(dep, module+"deploy/check") {
			t.Errorf("check depends on %s; it may use no code of the processes it judges", dep)
		}
	}
	if own == 0 {
		t.Errorf("go list -deps names no package of %s: the test looks for the wrong module", module)
	}
}
