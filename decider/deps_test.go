package main

import (
	"os/exec"
	"strings"
	"testing"
)

// What the decider may not be linked with, and why. A prefix stands for all
// packages below it.
var forbidden = map[string]string{
	"k8s.io/client-go":                         "a decider holds no credentials and talks to no API server",
	"github.com/berth-scheduler/berth/watcher": "the processes share the contract and nothing else",
}

// What knows Kubernetes' own types: the configuration file is written in them.
const knowsKubernetes = "github.com/berth-scheduler/berth/proto/config"

// What the pure packages may not import directly: they have no clock, no
// randomness, no logs, no goroutines' tools and no protocol.
var impure = []string{"context", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand", "net", "os", "sync", "time", "google.golang.org/grpc", "k8s.io/klog/v2"}

func TestDependencies(t *testing.T) {
	for _, dependency := range goList(t, "-deps", ".") {
		for prefix, why := range forbidden {
			if dependency == prefix || strings.HasPrefix(dependency, prefix+"/") {
				t.Errorf("the decider depends on %s: %s", dependency, why)
			}
		}
	}
}

// The contract is all that a decider knows of Kubernetes' objects.
func TestKubernetesTypes(t *testing.T) {
	for _, line := range goList(t, "-deps", "-f", `{{.ImportPath}} {{join .Imports " "}}`, ".") {
		imports := strings.Fields(line)
		if !strings.HasPrefix(imports[0], "github.com/berth-scheduler/") || imports[0] == knowsKubernetes {
			continue
		}
		for _, name := range imports[1:] {
			if strings.HasPrefix(name, "k8s.io/api/") || strings.HasPrefix(name, "k8s.io/apimachinery/") {
				t.Errorf("%s imports %s: only %s may", imports[0], name, knowsKubernetes)
			}
		}
	}
}

func TestPurity(t *testing.T) {
	for _, line := range goList(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./internal/...", "./policy") {
		imports := strings.Fields(line)
		for _, name := range imports[1:] {
			for _, not := range impure {
				if name == not {
					t.Errorf("%s imports %s: what decides is a pure function", imports[0], name)
				}
			}
		}
	}
}

func goList(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) < 2 {
		t.Fatalf("go list %v found %q", args, lines)
	}
	return lines
}
