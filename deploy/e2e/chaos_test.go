//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestChaos has `make chaos` break one thing of each kind within half a minute, and find
// nothing wrong.
func TestChaos(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.json")
	cmd := exec.Command(bin+"/chaos", "--minutes", "0.5", "--pods", "500", "--seed", "1", "--dir", t.TempDir(), "--json", file)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Created, Bound, Takeovers int
		Faults                    map[string]int
	}
	if err := json.Unmarshal(data, &report); err != nil {
		t.Fatal(err)
	}
	faults := 0
	for _, n := range report.Faults {
		faults += n
	}
	if report.Created < 500 || report.Bound < 300 || report.Takeovers == 0 || faults != 5 {
		t.Errorf("created %d, bound %d, %d takeovers, faults %v", report.Created, report.Bound, report.Takeovers, report.Faults)
	}
	t.Logf("REPORT:\n%s", &out)
}
