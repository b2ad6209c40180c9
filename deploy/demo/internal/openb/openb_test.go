package openb

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/berth-scheduler/berth/deploy/demo/internal/workload"
)

func TestLoad(t *testing.T) {
	w, err := Load("testdata", "default", "berth")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range w.Nodes {
		got = append(got, fmt.Sprintf("node %s %s model=%s", n.Name, list(n.Status.Allocatable), n.Labels[workload.ModelLabel]))
	}
	for _, p := range w.Pods {
		if p.Want != (workload.Want{}) {
			t.Errorf("%s: the trace cannot know what becomes of it, but wants %v", p.Object.Name, p.Want)
		}
		got = append(got, fmt.Sprintf("pod %s %s models=%v", p.Object.Name, list(p.Object.Spec.Containers[0].Resources.Requests), models(p.Object)))
	}
	want := []string{
		"node cpu-node cpu=32 ephemeral-storage=1Ti memory=256Gi pods=110 model=",
		"node gpu-node cpu=96 ephemeral-storage=1Ti memory=384Gi nvidia.com/gpu=8 pods=110 model=G2",
		"pod early cpu=500m models=[]",
		"pod picky cpu=8 memory=1Gi nvidia.com/gpu=8 models=[V100M16 V100M32]",
		"pod share cpu=6 memory=12Gi nvidia.com/gpu=1 models=[]",
		"pod late cpu=12 memory=16Gi nvidia.com/gpu=1 models=[]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// list prints resources sorted by name.
func list(l corev1.ResourceList) string {
	var parts []string
	for _, name := range []corev1.ResourceName{"cpu", "ephemeral-storage", "memory", workload.GPU, "pods"} {
		if q, ok := l[name]; ok {
			parts = append(parts, fmt.Sprintf("%s=%s", name, q.String()))
		}
	}
	return strings.Join(parts, " ")
}

func models(p *corev1.Pod) []string {
	if p.Spec.Affinity == nil {
		return nil
	}
	return p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0].MatchExpressions[0].Values
}

func TestErrorsNameTheRemedy(t *testing.T) {
	const header = "name,cpu_milli,memory_mib,num_gpu,gpu_spec,creation_time\n"
	for _, test := range []struct{ csv, want string }{
		{"", "the file is empty; its first line must name the columns"},
		{"name,cpu_milli\n", `line 1: no column "memory_mib" among name, cpu_milli`},
		{header + "a,1,1,0,,0\nb,x,1,0,,0\n", `line 3: cpu_milli "x" is not a whole number from 0 to 1000000000000`},
		{header + "a,-1,1,0,,0\n", `line 2: cpu_milli "-1" is not a whole number from 0 to 1000000000000`},
		{header + "A b,1,1,0,,0\n", `line 2: name "A b" is not a name`},
		{header + "a,1,1,0,,0\na,1,1,0,,0\n", `line 3: name "a" appears twice`},
		{header + "a,1,1,1,G2|,0\n", `line 2: gpu_spec "G2|" has an empty model`},
		{header + "a,1,1,1,a b,0\n", `line 2: gpu_spec "a b" is not a label`},
		{header + "a,1\n", "wrong number of fields"},
	} {
		_, err := Pods(strings.NewReader(test.csv), "berth")
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: error %v, want %q", test.csv, err, test.want)
		}
	}
	if _, err := Load("testdata", "other", "berth"); err == nil || !strings.Contains(err.Error(), "--trace-pods must name one of default") {
		t.Errorf("unknown list: error %v", err)
	}
	if _, err := Load(t.TempDir(), "default", "berth"); err == nil || !strings.Contains(err.Error(), nodesFile) {
		t.Errorf("empty folder: error %v", err)
	}
}

// The real trace has the sizes that its publishers state.
func TestRealTrace(t *testing.T) {
	dir := os.Getenv("BERTH_TRACE")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", "..", "shared", "data", "openb")
	}
	if _, err := os.Stat(filepath.Join(dir, nodesFile)); err != nil {
		t.Skipf("needs the openb trace in ../shared/data/openb or in the folder BERTH_TRACE: %v", err)
	}
	for _, name := range []string{"default", "gpuspec33"} {
		w, err := Load(dir, name, "berth")
		if err != nil {
			t.Fatal(err)
		}
		var gpus int64
		for _, n := range w.Nodes {
			q := n.Status.Allocatable[workload.GPU]
			gpus += q.Value()
		}
		if len(w.Nodes) != 1523 || gpus != 6212 || len(w.Pods) != 8152 {
			t.Errorf("%s: %d nodes, %d GPUs, %d pods, want 1523, 6212, 8152", name, len(w.Nodes), gpus, len(w.Pods))
		}
		if first := w.Pods[0].Object.Name; first != "openb-pod-0000" {
			t.Errorf("%s: the first pod is %s", name, first)
		}
	}
}

func FuzzPods(f *testing.F) {
	example, err := os.ReadFile(filepath.Join("testdata", "openb_pod_list_default.csv"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(example))
	f.Add("creation_time,name,gpu_spec,num_gpu,cpu_milli,memory_mib\n\"1\",\"a\nb\",|,0,0,0\n")
	f.Add("name,name,cpu_milli,memory_mib,num_gpu,gpu_spec,creation_time\na,a,9223372036854775807,999999999,1,\xff,0\n")
	f.Fuzz(func(t *testing.T, text string) {
		pods, err := Pods(strings.NewReader(text), "berth")
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, p := range pods {
			if p.Name == "" || seen[p.Name] {
				t.Errorf("pod name %q is empty or appears twice", p.Name)
			}
			seen[p.Name] = true
			for name, q := range p.Spec.Containers[0].Resources.Requests {
				if q.Sign() <= 0 {
					t.Errorf("pod %s requests %s of %s", p.Name, q.String(), name)
				}
			}
		}
	})
}

func FuzzNodes(f *testing.F) {
	f.Add("sn,cpu_milli,memory_mib,gpu,model\na,32000,262144,0,\nb,96000,393216,8,G2\n")
	f.Add("sn,cpu_milli,memory_mib,gpu,model\n,,,,\n")
	f.Fuzz(func(t *testing.T, text string) {
		nodes, err := Nodes(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, n := range nodes {
			if n.Name == "" || n.Status.Allocatable.Pods().Value() != podsPerNode {
				t.Errorf("node %q holds %s pods", n.Name, n.Status.Allocatable.Pods())
			}
			for name, q := range n.Status.Allocatable {
				if q.Sign() < 0 {
					t.Errorf("node %s has %s of %s", n.Name, q.String(), name)
				}
			}
		}
	})
}
