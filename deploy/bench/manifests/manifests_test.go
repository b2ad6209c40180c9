// Package manifests is the benchmark's workloads as plain manifests: a file for
// each, written and held to package workload by the test.
package manifests

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/berth-scheduler/berth/deploy/bench/internal/workload"
)

var rewrite = flag.Bool("rewrite", false, "write the manifests")

const (
	scheduler = "berth"
	image     = "registry.k8s.io/pause:3.10"
	// nodes is the size of the cluster that the manifests are made for.
	nodes = 100
	// tooBig is what a pod asks for that fits nowhere, on real nodes too.
	tooBig = "1k"
)

// without says why a workload has no manifest.
var without = map[string]string{
	"churn":   "something has to come and go meanwhile",
	"trickle": "a manifest has no rate",
	"what-if": "nobody asks",
	"restart": "it is about what was there before",
}

// pods is how many each workload has here: ten to a node, or one.
func pods(workload string) int {
	if workload == "anti-affinity" || workload == "daemonset" {
		return nodes
	}
	return 10 * nodes
}

// A kind is one template with its number of pods.
type kind struct {
	template corev1.PodTemplateSpec
	pods     int
}

// kinds sorts pods by what they have in common, the first first.
func kinds(t *testing.T, name string, pods []workload.Pod) []kind {
	var all []kind
	place := map[string]int{} // of a template's JSON in all
	for _, p := range pods {
		labels := maps.Clone(p.Object.Labels)
		// Their controller gives them to the pods.
		maps.DeleteFunc(labels, func(key, _ string) bool { return strings.Contains(key, ".kubernetes.io/") })
		template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: *p.Object.Spec.DeepCopy()}
		template.Spec.Containers[0].Image = image
		if !p.Fits() {
			template.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse(tooBig)
		}
		if name == "daemonset" {
			template.Spec.Affinity, template.Spec.Tolerations = nil, nil
		}
		key, err := json.Marshal(template)
		if err != nil {
			t.Fatal(err)
		}
		i, ok := place[string(key)]
		if !ok {
			i = len(all)
			place[string(key)] = i
			all = append(all, kind{template: template})
		}
		all[i].pods++
	}
	return all
}

// controller returns what creates the pods of a kind. It is a Job wherever the
// workload says nothing else: schedulers spread the pods of the other
// controllers by default, which is a workload of its own.
func controller(workload, name string, k kind) any {
	meta := metav1.ObjectMeta{Name: name, Namespace: namespace(workload)}
	count := int32(k.pods)
	selector := &metav1.LabelSelector{MatchLabels: k.template.Labels}
	switch workload {
	case "default-spread":
		return &appsv1.Deployment{
			TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: meta,
			Spec: appsv1.DeploymentSpec{Replicas: &count, Selector: selector, Template: k.template},
		}
	case "statefulset":
		meta.Name = k.template.Labels["app"]
		return &appsv1.StatefulSet{
			TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "StatefulSet"}, ObjectMeta: meta,
			Spec: appsv1.StatefulSetSpec{
				Replicas: &count, Selector: selector, ServiceName: meta.Name,
				PodManagementPolicy: appsv1.ParallelPodManagement, Template: k.template,
			},
		}
	case "daemonset":
		return &appsv1.DaemonSet{
			TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "DaemonSet"}, ObjectMeta: meta,
			Spec: appsv1.DaemonSetSpec{Selector: selector, Template: k.template},
		}
	}
	k.template.Spec.RestartPolicy = corev1.RestartPolicyNever
	return &batchv1.Job{
		TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"}, ObjectMeta: meta,
		Spec: batchv1.JobSpec{Parallelism: &count, Completions: &count, Template: k.template},
	}
}

// namespace keeps the pods of one workload from those of the others.
func namespace(workload string) string { return "bench-" + workload }

// manifest returns the file of a workload.
func manifest(t *testing.T, w workload.Workload) []byte {
	objects, err := w.Objects(scheduler, nodes, pods(w.Name))
	if err != nil {
		t.Fatal(err)
	}
	all := []any{&corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: namespace(w.Name)},
	}}
	for _, s := range objects.Services {
		s.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}
		s.Namespace = namespace(w.Name)
		all = append(all, s)
	}
	ks := kinds(t, w.Name, objects.Pods)
	for i, k := range ks {
		name := w.Name
		if len(ks) > 1 {
			name = fmt.Sprintf("%s-%02d", w.Name, i)
		}
		all = append(all, controller(w.Name, name, k))
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "# %d pods: %s.\n# Written by `go test ./deploy/bench/manifests -rewrite`; see README.md.\n", len(objects.Pods), w.Description)
	for i, object := range all {
		if i > 0 {
			out.WriteString("---\n")
		}
		out.Write(document(t, object))
	}
	return out.Bytes()
}

// document writes an object without what is empty.
func document(t *testing.T, object any) []byte {
	data, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	delete(fields, "status")
	prune(fields)
	out, err := yaml.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// prune deletes empty fields, however deep, and says whether v is empty then.
func prune(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		maps.DeleteFunc(v, func(_ string, field any) bool { return prune(field) })
		return len(v) == 0
	case []any:
		for _, item := range v {
			prune(item)
		}
		return len(v) == 0
	}
	return false
}

func TestManifests(t *testing.T) {
	var want []string
	for _, w := range workload.All() {
		if without[w.Name] != "" {
			continue
		}
		file := w.Name + ".yaml"
		want = append(want, file)
		written := manifest(t, w)
		if *rewrite {
			if err := os.WriteFile(file, written, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, written) {
			t.Errorf("%s is not what package workload makes of it; write it anew with -rewrite", file)
		}
		check(t, w, data)
	}
	slices.Sort(want)
	if got, _ := filepath.Glob("*.yaml"); !slices.Equal(got, want) {
		t.Errorf("manifests %v, want %v", got, want)
	}
}

// check reads a manifest as the API server does, strictly, and fails unless it
// is complete in itself and asks for the pods that the workload has.
func check(t *testing.T, w workload.Workload, data []byte) {
	t.Helper()
	total := int32(0)
	template := func(name string, selector *metav1.LabelSelector, replicas *int32, p corev1.PodTemplateSpec) {
		if p.Spec.SchedulerName != scheduler {
			t.Errorf("%s: %s has schedulerName %q", w.Name, name, p.Spec.SchedulerName)
		}
		if selector != nil && (len(selector.MatchLabels) == 0 || !maps.Equal(selector.MatchLabels, p.Labels)) {
			t.Errorf("%s: %s selects %v, its pods have %v", w.Name, name, selector.MatchLabels, p.Labels)
		}
		if replicas != nil {
			total += *replicas
		} else {
			total += nodes
		}
	}
	for i, doc := range bytes.Split(data, []byte("\n---\n")) {
		var object metav1.PartialObjectMetadata
		if err := yaml.Unmarshal(doc, &object); err != nil {
			t.Fatal(err)
		}
		decode := func(into any) {
			if err := yaml.UnmarshalStrict(doc, into); err != nil {
				t.Errorf("%s: %s %s: %v", w.Name, object.Kind, object.Name, err)
			}
		}
		if (i == 0) != (object.Kind == "Namespace") || (i > 0) != (object.Namespace == namespace(w.Name)) {
			t.Errorf("%s: document %d is a %s in namespace %q", w.Name, i, object.Kind, object.Namespace)
		}
		switch object.Kind {
		case "Namespace":
			decode(&corev1.Namespace{})
		case "Service":
			decode(&corev1.Service{})
		case "Job":
			var job batchv1.Job
			decode(&job)
			template(job.Name, nil, job.Spec.Parallelism, job.Spec.Template)
			if *job.Spec.Completions != *job.Spec.Parallelism {
				t.Errorf("%s: %d completions of %s, %d at once", w.Name, *job.Spec.Completions, job.Name, *job.Spec.Parallelism)
			}
		case "Deployment":
			var d appsv1.Deployment
			decode(&d)
			template(d.Name, d.Spec.Selector, d.Spec.Replicas, d.Spec.Template)
		case "StatefulSet":
			var s appsv1.StatefulSet
			decode(&s)
			template(s.Name, s.Spec.Selector, s.Spec.Replicas, s.Spec.Template)
		case "DaemonSet":
			var d appsv1.DaemonSet
			decode(&d)
			template(d.Name, d.Spec.Selector, nil, d.Spec.Template)
		default:
			t.Errorf("%s: a %s", w.Name, object.Kind)
		}
	}
	if int(total) != pods(w.Name) {
		t.Errorf("%s: %d pods, want %d", w.Name, total, pods(w.Name))
	}
}

// The table of the README has a row for each file with its number of pods, and
// the text below says what has no file.
func TestReadme(t *testing.T) {
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, row := range regexp.MustCompile("(?m)^\\| `.*$").FindAllString(string(data), -1) {
		cells := strings.Split(strings.Trim(row, "| "), " | ")
		got = append(got, strings.Join(cells[:min(2, len(cells))], " | "))
	}
	for _, w := range workload.All() {
		if reason := without[w.Name]; reason != "" {
			if !strings.Contains(string(data), "`"+w.Name+"`") || !strings.Contains(string(data), reason) {
				t.Errorf("README.md does not say of %s that %s", w.Name, reason)
			}
			continue
		}
		count := fmt.Sprint(pods(w.Name))
		if w.Name == "daemonset" {
			count = "one per node"
		}
		want = append(want, fmt.Sprintf("`%s.yaml` | %s", w.Name, count))
	}
	if !slices.Equal(got, want) {
		t.Errorf("README.md has the rows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
