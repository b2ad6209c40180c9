// Package kubeburner tests the kube-burner configuration beside it: that it says
// what kube-burner's reference allows, and that the pods are the benchmark's.
package kubeburner

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"text/template"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"github.com/berth-scheduler/berth/deploy/bench/internal/workload"
)

// The fields of a kube-burner 2.7 configuration that are used here, with the
// types that its reference gives them, docs/reference/configuration.md there.
// Decoding is strict, as kube-burner's is.
type (
	spec struct {
		Global struct {
			GC           bool `json:"gc"`
			Measurements []struct {
				Name string `json:"name"`
			} `json:"measurements"`
		} `json:"global"`
		Jobs []job `json:"jobs"`
	}
	job struct {
		Name                 string   `json:"name"`      // a DNS-1123 subdomain, unique
		Namespace            string   `json:"namespace"` // a DNS-1123 subdomain
		NamespacedIterations bool     `json:"namespacedIterations"`
		JobIterations        int      `json:"jobIterations"` // at least 1
		QPS                  int      `json:"qps"`
		Burst                int      `json:"burst"`
		PreLoadImages        bool     `json:"preLoadImages"`
		WaitWhenFinished     bool     `json:"waitWhenFinished"`
		MaxWaitTimeout       string   `json:"maxWaitTimeout"` // a Go duration
		GC                   bool     `json:"gc"`
		ChurnConfig          *churn   `json:"churnConfig"`
		Objects              []object `json:"objects"`
	}
	churn struct {
		Mode    string `json:"mode"` // namespaces or objects
		Percent int    `json:"percent"`
		Cycles  int    `json:"cycles"`
	}
	object struct {
		ObjectTemplate string         `json:"objectTemplate"`
		Replicas       int            `json:"replicas"` // in each iteration
		InputVars      map[string]any `json:"inputVars"`
		Wait           *bool          `json:"wait"` // true unless given
		RunOnce        bool           `json:"runOnce"`
		WaitOptions    struct {
			LabelSelector map[string]string `json:"labelSelector"`
		} `json:"waitOptions"`
	}
)

// functions are those of Sprig's that the templates use, for integers.
var functions = template.FuncMap{
	"add": func(a, b any) int64 { return integer(a) + integer(b) },
	"sub": func(a, b any) int64 { return integer(a) - integer(b) },
	"mul": func(a, b any) int64 { return integer(a) * integer(b) },
	"div": func(a, b any) int64 { return integer(a) / integer(b) },
	"mod": func(a, b any) int64 { return integer(a) % integer(b) },
	"toJson": func(v any) (string, error) {
		data, err := json.Marshal(v)
		return string(data), err
	},
}

// integer is v as a template or a YAML file has it.
func integer(v any) int64 {
	switch v := v.(type) {
	case int:
		return int64(v)
	case float64: // sigs.k8s.io/yaml goes by way of JSON
		return int64(v)
	}
	return v.(int64)
}

// parse reads a template as kube-burner does, to which a missing value is an
// error.
func parse(t *testing.T, file string) *template.Template {
	t.Helper()
	parsed, err := template.New(filepath.Base(file)).Option("missingkey=error").Funcs(functions).ParseFiles(file)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// render fills in a template.
func render(t *testing.T, parsed *template.Template, values map[string]any) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := parsed.Execute(&out, values); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// variables reads vars.yml.
func variables(t *testing.T) map[string]any {
	data, err := os.ReadFile("vars.yml")
	if err != nil {
		t.Fatal(err)
	}
	var vars map[string]any
	if err := yaml.UnmarshalStrict(data, &vars); err != nil {
		t.Fatal(err)
	}
	return vars
}

// config renders config.yml and reads it strictly.
func config(t *testing.T, vars map[string]any) spec {
	t.Helper()
	rendered := render(t, parse(t, "config.yml"), vars)
	var s spec
	if err := yaml.UnmarshalStrict(rendered, &s); err != nil {
		t.Fatalf("%v in\n%s", err, rendered)
	}
	return s
}

func TestConfig(t *testing.T) {
	vars := variables(t)
	s := config(t, vars)
	if !s.Global.GC || len(s.Global.Measurements) != 1 || s.Global.Measurements[0].Name != "podLatency" {
		t.Errorf("global is %+v", s.Global)
	}
	var jobs, workloads []string
	for _, w := range workload.All() {
		// A scheduler is started, or asked, by make bench alone.
		if w.PlacedPerNode == 0 && w.Questions == 0 {
			workloads = append(workloads, w.Name)
		}
	}
	subdomain := regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	for _, j := range s.Jobs {
		jobs = append(jobs, j.Name)
		if !subdomain.MatchString(j.Name) || j.Namespace != "bench-"+j.Name {
			t.Errorf("job %q has namespace %q", j.Name, j.Namespace)
		}
		if d, err := time.ParseDuration(j.MaxWaitTimeout); err != nil || d <= 0 {
			t.Errorf("job %s: maxWaitTimeout %q: %v", j.Name, j.MaxWaitTimeout, err)
		}
		if j.JobIterations < 1 || j.QPS < 1 || j.Burst != j.QPS || j.NamespacedIterations || j.PreLoadImages || !j.WaitWhenFinished || !j.GC {
			t.Errorf("job %s is %+v", j.Name, j)
		}
		if c := j.ChurnConfig; (c != nil) != (j.Name == "churn") || c != nil && (c.Mode != "objects" || c.Percent < 1 || c.Cycles < 1) {
			t.Errorf("job %s has churn %+v", j.Name, c)
		}
	}
	if !slices.Equal(jobs, workloads) {
		t.Errorf("jobs %v, want one for each of %v", jobs, workloads)
	}
	vars["podLatency"] = false
	if m := config(t, vars).Global.Measurements; len(m) != 0 {
		t.Errorf("measurements %v although podLatency is false", m)
	}
}

// The pods and Services that kube-burner creates are the benchmark's, but for
// names, for the image, and for how much is too much.
func TestObjects(t *testing.T) {
	vars := variables(t)
	nodes := int(integer(vars["nodes"]))
	tooBig := resource.NewQuantity(integer(vars["tooBig"]), resource.DecimalSI)
	for _, entry := range vars["workloads"].([]any) {
		// Four times the classes there are show every case.
		entry := entry.(map[string]any)
		entry["pods"] = min(integer(entry["pods"]), 4*workload.Classes)
	}
	jobs := map[string]job{}
	for _, j := range config(t, vars).Jobs {
		jobs[j.Name] = j
	}
	for _, entry := range vars["workloads"].([]any) {
		entry := entry.(map[string]any)
		w, err := workload.Find(entry["name"].(string))
		if err != nil {
			t.Fatal(err)
		}
		want, err := w.Objects(vars["scheduler"].(string), nodes, int(integer(entry["pods"])))
		if err != nil {
			t.Fatal(err)
		}
		pods, services := created(t, jobs[w.Name])
		if len(pods) != len(want.Pods) || len(services) != len(want.Services) {
			t.Fatalf("%s: %d pods, %d Services, want %d, %d", w.Name, len(pods), len(services), len(want.Pods), len(want.Services))
		}
		names := map[string]bool{}
		for i, p := range pods {
			names[p.Name] = true
			object := want.Pods[i].Object
			object.Spec.Containers[0].Image = vars["image"].(string)
			if !want.Pods[i].Fits() {
				object.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = *tooBig
			}
			if !maps.Equal(p.Labels, object.Labels) {
				t.Fatalf("%s: labels of pod %d are %v, want %v", w.Name, i, p.Labels, object.Labels)
			}
			if !equality.Semantic.DeepEqual(object.Spec, p.Spec) {
				t.Fatalf("%s: pod %d (-want +got):\n%s", w.Name, i, cmp.Diff(object.Spec, p.Spec))
			}
		}
		if len(names) != len(pods) {
			t.Errorf("%s: %d names for %d pods", w.Name, len(names), len(pods))
		}
		for i, s := range services {
			if s.Name != want.Services[i].Name || !equality.Semantic.DeepEqual(s.Spec, want.Services[i].Spec) {
				t.Errorf("%s: Service %+v, want %+v", w.Name, s, want.Services[i])
			}
		}
	}
}

// created returns what a job creates, in its order.
func created(t *testing.T, j job) (pods []corev1.Pod, services []corev1.Service) {
	templates := make([]*template.Template, len(j.Objects))
	for i, o := range j.Objects {
		templates[i] = parse(t, o.ObjectTemplate)
	}
	for iteration := range j.JobIterations {
		for i, o := range j.Objects {
			if o.RunOnce && iteration > 0 {
				continue
			}
			for replica := 1; replica <= o.Replicas; replica++ {
				values := maps.Clone(o.InputVars)
				if values == nil {
					values = map[string]any{}
				}
				values["JobName"], values["Iteration"], values["Replica"] = j.Name, iteration, replica
				rendered := render(t, templates[i], values)
				var pod corev1.Pod
				var service corev1.Service
				var err error
				if bytes.Contains(rendered, []byte("kind: Service\n")) {
					err = yaml.UnmarshalStrict(rendered, &service)
					services = append(services, service)
				} else {
					err = yaml.UnmarshalStrict(rendered, &pod)
					pods = append(pods, pod)
				}
				if err != nil {
					t.Fatalf("%s: %v in\n%s", o.ObjectTemplate, err, rendered)
				}
			}
		}
	}
	return pods, services
}

// Before it renders a template, kube-burner deletes what is in braces and reads
// the kind of what is left.
func TestKindsAreToldWithoutValues(t *testing.T) {
	templates, err := filepath.Glob("pods/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	braces := regexp.MustCompile(`\{\{.*\}\}`)
	for _, file := range append(templates, "service.yml", "services.yml") {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var object struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
		}
		if err := yaml.Unmarshal(braces.ReplaceAll(data, nil), &object); err != nil || object.APIVersion != "v1" || object.Kind == "" {
			t.Errorf("%s: %+v, %v", file, object, err)
		}
	}
}
