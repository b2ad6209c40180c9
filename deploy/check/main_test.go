package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-scheduler/berth/deploy/check/internal/judge"
)

// check runs the command and returns what it printed.
func check(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(context.Background(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// file returns the path of a copy of path in which old is replaced.
func file(t *testing.T, path, old, new string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.ReplaceAll(string(content), old, new)
	if changed == string(content) {
		t.Fatalf("%s does not contain %s", path, old)
	}
	out := filepath.Join(t.TempDir(), filepath.Base(path))
	if err := os.WriteFile(out, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestReplay(t *testing.T) {
	const recording, log = "testdata/recording.jsonl", "testdata/audit.log"
	noToleration := file(t, recording, `,"tolerations":[{"operator":"Exists"}]`, "")
	notSynced := file(t, recording, "SYNCED", "PROGRESS")
	tests := []struct {
		name, recording string
		code            int
		want            string
	}{
		{"clean", recording, 0, "No violation."},
		{"violation", noToleration, 1, "Taint      ns/p  a     55  taint gpu:NoSchedule is not tolerated"},
		{"incomplete", notSynced, 2, "the recording was never synced for kind Pod"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{"replay", "--record", tt.recording, "--audit-log", log}
			code, stdout, stderr := check(args...)
			if code != tt.code || !strings.Contains(stdout, tt.want) || stderr != "" {
				t.Errorf("exit %d, want %d and %q in:\n%s%s", code, tt.code, tt.want, stdout, stderr)
			}
			code, stdout, _ = check(append(args, "--output", "json")...)
			var report judge.Report
			if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != tt.code || report.ExitCode() != tt.code {
				t.Errorf("as JSON: exit %d, error %v, report %+v", code, err, report)
			}
		})
	}
}

func TestUsageErrors(t *testing.T) {
	for args, want := range map[string]string{
		"":                                "check: --kubeconfig is required; --record is required; --audit-log is required\n",
		"record --kubeconfig x":           "check: --out is required\n",
		"replay --record x":               "check: --audit-log is required\n",
		"replay --kubeconfig x":           "check: flag provided but not defined: -kubeconfig\n",
		"judge":                           "check: unexpected argument \"judge\": the commands are record and replay, everything else is a flag\n",
		"replay --record x --audit-log y": "check: --record: open x: no such file or directory\n",
		"replay --record x --audit-log y --output yaml": "check: --output \"yaml\": want table or json\n",
		"replay --record x --audit-log y --lease berth": "check: --lease \"berth\": want NAMESPACE/NAME\n",
	} {
		code, stdout, stderr := check(strings.Fields(args)...)
		if code != 2 || stdout != "" || stderr != want {
			t.Errorf("check %s: exit %d, printed %q, want %q", args, code, stderr, want)
		}
	}
	if code, _, stderr := check("--help"); code != 0 || !strings.Contains(stderr, "--pending-fit") && !strings.Contains(stderr, "-pending-fit") {
		t.Errorf("--help: exit %d, printed %s", code, stderr)
	}
}
