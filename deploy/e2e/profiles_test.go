//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// threeProfiles is a file that kube-scheduler would take as it is.
const threeProfiles = `apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
podInitialBackoffSeconds: 1
profiles:
- schedulerName: profiles-spread
- schedulerName: profiles-pack
  plugins:
    score:
      disabled: [{name: NodeResourcesBalancedAllocation}]
  pluginConfig:
  - name: NodeResourcesFit
    args:
      scoringStrategy:
        type: MostAllocated
        resources: [{name: cpu, weight: 1}]
- schedulerName: profiles-pool
  pluginConfig:
  - name: NodeAffinity
    args:
      addedAffinity:
        requiredDuringSchedulingIgnoredDuringExecution:
          nodeSelectorTerms:
          - matchExpressions: [{key: pool, operator: In, values: [b]}]
`

// TestProfiles gives both processes one KubeSchedulerConfiguration with three
// profiles: each pod is placed by the rules and scores of its scheduler name's.
func TestProfiles(t *testing.T) {
	namespace(t)
	i := -1
	names := nodes(t, 3, func(n *corev1.Node) {
		i++
		n.Labels["pool"] = string(rune('a' + i))
		n.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse("4")
	})
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(threeProfiles), 0o600); err != nil {
		t.Fatal(err)
	}
	_, address := decider(t, "--config", file)
	// deploy/base lets the watcher have the Lease of this name.
	watcher(t, "--config", file, "--decider", address, "--leader-elect-resource-name", "berth-berth")

	place := func(profile string, n int) []string {
		t.Helper()
		for i := range n {
			p := pod(t, fmt.Sprintf("%s-%d", profile, i), "200m")
			p.Spec.SchedulerName = "profiles-" + profile
			createPod(t, p)
		}
		var where []string
		eventually(t, profile+" bound", func() error {
			where = nil
			for i := range n {
				p, err := client.CoreV1().Pods(slug(t)).Get(context.Background(), fmt.Sprintf("%s-%d", profile, i), metav1.GetOptions{})
				if err != nil {
					return err
				}
				if p.Spec.NodeName == "" {
					return fmt.Errorf("%s waits: %+v", p.Name, condition(p))
				}
				where = append(where, p.Spec.NodeName)
			}
			return nil
		})
		slices.Sort(where)
		return where
	}
	if where := place("spread", 3); !slices.Equal(where, names) {
		t.Errorf("least allocated first: %v, want one on each of %v", where, names)
	}
	if where := place("pool", 4); !slices.Equal(slices.Compact(where), names[1:2]) {
		t.Errorf("with an added affinity to pool b: %v, want %s alone", where, names[1])
	}
	// The pool's node is now the fullest.
	if where := place("pack", 4); !slices.Equal(slices.Compact(where), names[1:2]) {
		t.Errorf("most allocated first: %v, want %s alone", where, names[1])
	}

	big := pod(t, "big", "3")
	big.Spec.SchedulerName = "profiles-pool"
	createPod(t, big)
	eventually(t, "told why", func() error {
		p, err := client.CoreV1().Pods(slug(t)).Get(context.Background(), "big", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if c := condition(p); !strings.Contains(c.Message, "1 Insufficient cpu") || !strings.Contains(c.Message, "node(s) didn't match scheduler-enforced node affinity") {
			return fmt.Errorf("condition %+v", c)
		}
		return nil
	})

	// What would misplace pods is refused by name, before anything is served.
	for _, program := range []string{"race/decider", "race/watcher"} {
		bad := filepath.Join(t.TempDir(), "bad.yaml")
		if err := os.WriteFile(bad, []byte(strings.Replace(threeProfiles, "NodeResourcesBalancedAllocation}", "NodeResourcesBalanced}", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		p := run(t, filepath.Join(bin, program), "--config", bad)
		<-p.done
		if code := p.cmd.ProcessState.ExitCode(); code == 0 || !strings.Contains(p.output(), `NodeResourcesBalanced"`) && !strings.Contains(p.output(), "NodeResourcesBalanced ") {
			t.Errorf("%s with an unknown plugin: exit %d, output %q", program, code, p.output())
		}
	}
}
