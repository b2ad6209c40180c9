package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// command runs the decider to its end.
func command(stdin string, args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = program.Run(context.Background(), args, strings.NewReader(stdin), &out, &errs)
	return status, out.String(), errs.String()
}

func TestPolicy(t *testing.T) {
	status, _, stderr := command("{}", "decide", "--policy", "best")
	if want := "decider: unknown policy \"best\": it is one of default, first, random\n"; status != 2 || stderr != want {
		t.Errorf("status %d, %q, want 2, %q", status, stderr, want)
	}
	status, _, stderr = command("{}", "decide", "--solver", "fast")
	if want := "decider: --solver \"fast\" is neither indexed nor plain\n"; status != 2 || stderr != want {
		t.Errorf("status %d, %q, want 2, %q", status, stderr, want)
	}
}

// configFile writes a configuration file and returns its name.
func configFile(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

const emptyConfig = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"

// A file that cannot be read or understood ends the process with all complaints.
func TestConfigErrors(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.yaml")
	broken := configFile(t, emptyConfig+"extenders: [{urlPrefix: x}]\nprofiles:\n- plugin: {}\n")
	complaints := []string{"profiles[0].plugin: unknown field", "extenders: Forbidden: "}
	for _, c := range []struct {
		args string
		says []string // after the file's name
	}{
		{"--config " + missing, []string{"no such file or directory"}},
		{"--config " + broken, complaints},
		{"decide --config " + broken, complaints},
	} {
		status, stdout, stderr := command("{}", strings.Fields(c.args)...)
		lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
		file := c.args[strings.LastIndex(c.args, " ")+1:]
		ok := status == 2 && stdout == "" && len(lines) == len(c.says)
		for i := range lines {
			ok = ok && strings.HasPrefix(lines[i], "decider: "+file+": "+c.says[i])
		}
		if !ok {
			t.Errorf("decider %s: status %d, stdout %q, stderr %q, want 2 and %q", c.args, status, stdout, stderr, c.says)
		}
	}
}

// decide answers by the profile of the pod's scheduler name.
func TestDecideByProfile(t *testing.T) {
	file := configFile(t, emptyConfig+`profiles:
- schedulerName: packing
  pluginConfig:
  - name: NodeResourcesFit
    args:
      scoringStrategy: {type: MostAllocated}
`)
	const request = `{"snapshot": {"nodes": [
		{"name": "large", "allocatable": {"cpu": "8000", "pods": "9"}},
		{"name": "small", "allocatable": {"cpu": "1000", "pods": "9"}}]},
		"pods": [{"uid": "one", "schedulerName": "NAME", "requests": {"cpu": "1000"}, "scoreRequests": {"cpu": "1000"}}]}`
	for name, want := range map[string]string{
		"packing": `"nodeName": "small"`,
		"berth":   `"field": "pods[0].scheduler_name"`,
	} {
		status, stdout, stderr := command(strings.Replace(request, "NAME", name, 1), "decide", "--config", file)
		if status != 0 || !strings.Contains(stdout, want) {
			t.Errorf("%s: status %d, %s%s", name, status, stdout, stderr)
		}
	}
	status, stdout, stderr := command(request, "decide")
	if status != 0 || !strings.Contains(stdout, `"nodeName": "large"`) {
		t.Errorf("without a file: status %d, %s%s", status, stdout, stderr)
	}
}
