//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const operating = "../../docs/operating.md"

// A way is one to run Berth, with all the objects it needs.
type way struct{ name, objects string }

// ways are those that deploy/ offers.
func ways(t *testing.T) []way {
	t.Helper()
	return []way{
		{"base", kustomize(t, "../base")},
		{"overlays/sidecar", kustomize(t, "../overlays/sidecar")},
		{"own, with TLS", kustomize(t, ownKustomization(t))},
	}
}

// kustomize returns what dir builds, one YAML document per object.
func kustomize(t *testing.T, dir string) string {
	t.Helper()
	build := exec.Command("../../bin/kubectl", "kustomize", dir)
	var stderr bytes.Buffer
	build.Stderr = &stderr
	out, err := build.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", build, err, &stderr)
	}
	return string(out)
}

// ownKustomization is the one that docs/operating.md tells people to write, in
// the place where it tells them to put it, in a copy of deploy/.
func ownKustomization(t *testing.T) string {
	t.Helper()
	copied := t.TempDir()
	for _, dir := range []string{"base", "components"} {
		if err := os.CopyFS(filepath.Join(copied, "deploy", dir), os.DirFS("../"+dir)); err != nil {
			t.Fatal(err)
		}
	}
	own := filepath.Join(copied, "deploy", "overlays", "own")
	if err := os.MkdirAll(own, 0o755); err != nil {
		t.Fatal(err)
	}
	block := documented(t, "# deploy/overlays/own/kustomization.yaml\n")
	if err := os.WriteFile(filepath.Join(own, "kustomization.yaml"), []byte(block), 0o644); err != nil {
		t.Fatal(err)
	}
	return own
}

// documented returns the fenced block of docs/operating.md that begins so.
func documented(t *testing.T, beginning string) string {
	t.Helper()
	for i, part := range strings.Split(read(t, operating), "\n```") {
		_, block, _ := strings.Cut(part, "\n") // behind the fence is its language
		if i%2 == 1 && strings.HasPrefix(block, beginning) {
			return block + "\n"
		}
	}
	t.Fatalf("%s has no fenced block that begins with %q", operating, beginning)
	return ""
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// deployments are those among the YAML documents.
func deployments(t *testing.T, objects string) []*appsv1.Deployment {
	t.Helper()
	var found []*appsv1.Deployment
	for document := range strings.SplitSeq(objects, "\n---\n") {
		var d appsv1.Deployment
		if err := yaml.Unmarshal([]byte(document), &d.TypeMeta); err != nil {
			t.Fatal(err)
		}
		if d.Kind != "Deployment" {
			continue
		}
		if err := yaml.UnmarshalStrict([]byte(document), &d); err != nil {
			t.Fatal(err)
		}
		found = append(found, &d)
	}
	return found
}

// install applies what every way of running Berth needs, for real: the namespace
// that the other objects go to, and what may be done by whom.
func install(t *testing.T) {
	t.Helper()
	kubectl(t, "", "apply", "--validate=strict", "-k", "../base/access")
}

// The API server accepts every object of every way, with strict validation.
func TestManifestsAreAccepted(t *testing.T) {
	install(t)
	for _, way := range ways(t) {
		out := kubectl(t, way.objects, "apply", "--dry-run=server", "--validate=strict", "-f", "-")
		if accepted, sent := strings.Count(out, "(server dry run)"), strings.Count(way.objects, "\n---\n")+1; accepted != sent {
			t.Errorf("%s: %d of %d objects were accepted:\n%s", way.name, accepted, sent, out)
		}
	}
}

// A Deployment is accepted whatever its pods ask for. The pods are not: the
// namespace enforces the restricted standard.
func TestPodsAreRestricted(t *testing.T) {
	install(t)
	kubectl(t, "", "apply", "-f", "../base/priority-class.yaml")
	// The rest of base would bring pods that other tests could see. Of it, a pod
	// needs its ServiceAccount.
	kubectl(t, "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: berth-decider, namespace: berth-system}\n", "apply", "-f", "-")
	for _, way := range ways(t) {
		if way.name == "overlays/sidecar" {
			continue // on the host's network; TestSidecarNeedsNoScheduler
		}
		for _, d := range deployments(t, way.objects) {
			pod := &corev1.Pod{
				TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
				ObjectMeta: metav1.ObjectMeta{Name: d.Name, Namespace: d.Namespace, Labels: d.Spec.Template.Labels},
				Spec:       d.Spec.Template.Spec,
			}
			document, err := yaml.Marshal(pod)
			if err != nil {
				t.Fatal(err)
			}
			out := kubectl(t, string(document), "create", "--dry-run=server", "--validate=strict", "-o", "yaml", "-f", "-")
			var admitted corev1.Pod
			if err := yaml.UnmarshalStrict([]byte(out), &admitted); err != nil {
				t.Fatalf("%v in\n%s", err, out)
			}
			if got, want := hasToken(&admitted, admitted.Spec.Containers[0]), d.Name == "berth-watcher"; got != want {
				t.Errorf("%s: %s has a token: %v, want %v", way.name, d.Name, got, want)
			}
			if admitted.Spec.SchedulerName != "default-scheduler" {
				t.Errorf("%s: %s waits for scheduler %q, which must not be Berth", way.name, d.Name, admitted.Spec.SchedulerName)
			}
			if *admitted.Spec.Priority != 1000000000 {
				t.Errorf("%s: %s has priority %d, want that of berth-critical", way.name, d.Name, *admitted.Spec.Priority)
			}
		}
	}
}

// hasToken says whether the container can read a token for the API server.
func hasToken(pod *corev1.Pod, c corev1.Container) bool {
	for _, mount := range c.VolumeMounts {
		for _, volume := range pod.Spec.Volumes {
			if volume.Name != mount.Name || volume.Projected == nil {
				continue
			}
			if slices.ContainsFunc(volume.Projected.Sources, func(s corev1.VolumeProjection) bool { return s.ServiceAccountToken != nil }) {
				return true
			}
		}
	}
	return false
}

// Where Berth is the only scheduler its own pods get to run without one. Here the
// cluster has none, and kubelets that run whatever is bound to them.
func TestSidecarNeedsNoScheduler(t *testing.T) {
	objects := kustomize(t, "../overlays/sidecar")
	replicas := deployments(t, objects)
	if len(replicas) != 2 {
		t.Fatalf("%d Deployments, want the first and the second", len(replicas))
	}
	t.Cleanup(func() {
		for _, d := range replicas {
			kubectl(t, "", "delete", "--ignore-not-found", "-n", d.Namespace, "--cascade=foreground", "deployment/"+d.Name)
			kubectl(t, "", "delete", "--ignore-not-found", "node/"+d.Spec.Template.Spec.NodeName)
		}
		install(t) // and the namespace is restricted again
	})
	for _, d := range replicas {
		// Cordoned, so that no other test's pod comes here.
		kubectl(t, fmt.Sprintf(`apiVersion: v1
kind: Node
metadata: {name: %s, annotations: {kwok.x-k8s.io/node: fake}}
spec: {unschedulable: true}
`, d.Spec.Template.Spec.NodeName), "apply", "-f", "-")
	}
	kubectl(t, objects, "apply", "--validate=strict", "-f", "-")
	for _, d := range replicas {
		kubectl(t, "", "wait", "-n", d.Namespace, "--for=condition=Available", "--timeout=60s", "deployment/"+d.Name)
		out := kubectl(t, "", "get", "pods", "-n", d.Namespace, "-o", "yaml", "-l", metav1.FormatLabelSelector(d.Spec.Selector))
		var pods corev1.PodList
		if err := yaml.UnmarshalStrict([]byte(out), &pods); err != nil {
			t.Fatal(err)
		}
		if len(pods.Items) != 1 {
			t.Fatalf("%s has %d pods, want 1", d.Name, len(pods.Items))
		}
		pod := &pods.Items[0]
		if hasToken(pod, pod.Spec.InitContainers[0]) || !hasToken(pod, pod.Spec.Containers[0]) {
			t.Errorf("%s: decider has a token: %v, want false; watcher: %v, want true", pod.Name,
				hasToken(pod, pod.Spec.InitContainers[0]), hasToken(pod, pod.Spec.Containers[0]))
		}
	}
}

// The watcher may do this and nothing else, the decider nothing at all, beyond
// what every ServiceAccount may.
func TestAccess(t *testing.T) {
	install(t)
	const everywhere = `events.events.k8s.io [create patch]
namespaces [list watch]
nodes [list watch]
nodes.metrics.k8s.io [list]
pods [get list watch delete]
pods/binding [create]
pods/status [patch]
poddisruptionbudgets.policy [list watch]
replicasets.apps [list watch]
replicationcontrollers [list watch]
services [list watch]
statefulsets.apps [list watch]
`
	for _, c := range []struct{ account, namespace, want string }{
		{"berth-watcher", "default", everywhere},
		{"berth-watcher", "berth-system", everywhere + "endpointslices.discovery.k8s.io [list watch]\n"},
		{"berth-watcher", "kube-system", everywhere + `leases.coordination.k8s.io [create]
leases.coordination.k8s.io/berth-berth [get update]
`},
		{"berth-decider", "default", ""},
		{"berth-decider", "berth-system", ""},
		{"berth-decider", "kube-system", ""},
	} {
		may := access(t, c.account, c.namespace)
		for _, anybody := range access(t, "anybody", c.namespace) {
			may = slices.DeleteFunc(may, func(rule string) bool { return rule == anybody })
		}
		want := strings.Split(strings.TrimSuffix(c.want, "\n"), "\n")
		if c.want == "" {
			want = nil
		}
		slices.Sort(want)
		if !slices.Equal(may, want) {
			t.Errorf("%s in %s may\n  %s\nwant\n  %s", c.account, c.namespace, strings.Join(may, "\n  "), strings.Join(want, "\n  "))
		}
	}
}

var accessLine = regexp.MustCompile(`^(\S*)\s+\[(.*?)\]\s+\[(.*?)\]\s+\[(.*?)\]$`)

// access returns what a ServiceAccount may do, each as resource[/name] [verbs].
func access(t *testing.T, account, namespace string) []string {
	t.Helper()
	out := kubectl(t, "", "auth", "can-i", "--list", "-n", namespace, "--as", "system:serviceaccount:berth-system:"+account)
	var rules []string
	for line := range strings.Lines(out) {
		m := accessLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue // the heading
		}
		resource := m[1] + m[2]
		if m[3] != "" {
			resource += "/" + m[3]
		}
		rules = append(rules, fmt.Sprintf("%s [%s]", resource, m[4]))
	}
	slices.Sort(rules)
	if len(rules) == 0 {
		t.Fatalf("no rules found for %s in\n%s", account, out)
	}
	return rules
}

// Every container is started with flags that its binary takes.
func TestManifestsFlags(t *testing.T) {
	seen := map[string]bool{}
	for _, way := range ways(t) {
		for _, d := range deployments(t, way.objects) {
			for _, c := range slices.Concat(d.Spec.Template.Spec.InitContainers, d.Spec.Template.Spec.Containers) {
				seen[c.Name] = true
				// Flags are parsed before --version is answered.
				start := exec.Command("../../bin/race/"+c.Name, append(slices.Clone(c.Args), "--version")...)
				if out, err := start.CombinedOutput(); err != nil {
					t.Errorf("%s: %s: %v\n%s", way.name, start, err, out)
				}
			}
		}
	}
	if !seen["decider"] || !seen["watcher"] {
		t.Errorf("the manifests start %v, want decider and watcher", slices.Sorted(maps.Keys(seen)))
	}
}

var flagLine = regexp.MustCompile(`(?m)^  --?([a-z][a-z-]*)`)

// docs/operating.md has a row for every flag of both binaries.
func TestFlagsAreDocumented(t *testing.T) {
	text := read(t, operating)
	for _, command := range [][]string{{"decider"}, {"decider", "decide"}, {"watcher"}, {"watcher", "snapshot"}} {
		help := exec.Command("../../bin/race/"+command[0], append(command[1:], "--help")...)
		out, err := help.CombinedOutput()
		flags := flagLine.FindAllStringSubmatch(string(out), -1)
		if err != nil || len(flags) == 0 {
			t.Errorf("%s: %v, no flags in\n%s", help, err, out)
		}
		_, section, found := strings.Cut(text, "\n### `"+strings.Join(command, " ")+"`\n")
		if !found {
			t.Errorf("%s has no section on the flags of %s", operating, strings.Join(command, " "))
			continue
		}
		section, _, _ = strings.Cut(section, "\n#")
		for _, flag := range flags {
			dashes := "--"
			if len(flag[1]) == 1 {
				dashes = "-"
			}
			if row := "\n| `" + dashes + flag[1] + "`"; !strings.Contains(section, row) {
				t.Errorf("%s: the section on %s has no row for %s%s", operating, strings.Join(command, " "), dashes, flag[1])
			}
		}
	}
}

// metricName finds names where metrics are declared: fields of the contract, such as
// scheduler_name, look the same elsewhere.
var metricName = regexp.MustCompile(`(?:Name:\s+|NewDesc\()"((?:berth|scheduler)_[a-z_]+)"`)

// docs/operating.md has a row for every metric that the sources name.
func TestMetricsAreDocumented(t *testing.T) {
	text := read(t, operating)
	found := 0
	for _, process := range []string{"decider", "watcher"} {
		err := filepath.WalkDir("../../"+process, func(file string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") {
				return err
			}
			for _, m := range metricName.FindAllStringSubmatch(read(t, file), -1) {
				found++
				if !strings.Contains(text, "\n| `"+m[1]+"`") {
					t.Errorf("%s has no row for %s of %s", operating, m[1], file)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found == 0 {
		t.Error("no metrics found in the sources")
	}
}

// The documented certificates, with the flags of components/tls, let the watcher
// in and nobody else.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	sh := exec.Command("bash", "-euc", documented(t, "openssl req "))
	sh.Dir = dir
	if out, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("the openssl commands of %s: %v\n%s", operating, err, out)
	}
	// What the Secrets of the two sides hold, as files.
	socket := filepath.Join(dir, "decider.sock")
	var args []string
	for _, d := range deployments(t, kustomize(t, ownKustomization(t))) {
		if d.Name != "berth-decider" {
			continue
		}
		for _, arg := range d.Spec.Template.Spec.Containers[0].Args {
			switch flag, _, _ := strings.Cut(arg, "="); flag {
			case "--listen":
				arg = "--listen=unix://" + socket
			case "--metrics-listen":
				arg = "--metrics-listen="
			case "--tls-cert-file":
				arg = flag + "=" + filepath.Join(dir, "decider.crt")
			case "--tls-key-file":
				arg = flag + "=" + filepath.Join(dir, "decider.key")
			case "--tls-client-ca-file":
				arg = flag + "=" + filepath.Join(dir, "ca.crt")
			}
			args = append(args, arg)
		}
	}
	decider := exec.Command("../../bin/race/decider", args...)
	var stderr bytes.Buffer
	decider.Stderr = &stderr
	if err := decider.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		decider.Process.Signal(os.Interrupt)
		if err := decider.Wait(); err != nil || t.Failed() {
			t.Errorf("decider %v: %v\n%s", args, err, &stderr)
		}
	})

	authority := x509.NewCertPool()
	if !authority.AppendCertsFromPEM([]byte(read(t, filepath.Join(dir, "ca.crt")))) {
		t.Fatal("ca.crt holds no certificate")
	}
	// check asks the decider how it is.
	check := func(shown []tls.Certificate, serverName string, options ...grpc.CallOption) error {
		conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(credentials.NewTLS(
			&tls.Config{RootCAs: authority, ServerName: serverName, Certificates: shown})))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		_, err = healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: "berth.v1.DeciderService"}, options...)
		return err
	}
	watcher, err := tls.LoadX509KeyPair(filepath.Join(dir, "watcher.crt"), filepath.Join(dir, "watcher.key"))
	if err != nil {
		t.Fatal(err)
	}
	const name = "berth-decider.berth-system.svc"
	if err := check([]tls.Certificate{watcher}, name, grpc.WaitForReady(true)); err != nil {
		t.Fatalf("the watcher is not let in: %v", err)
	}
	if err := check(nil, name); status.Code(err) != codes.Unavailable {
		t.Errorf("somebody without a certificate: %v, want Unavailable", err)
	}
	if err := check([]tls.Certificate{watcher}, "other.berth-system.svc"); status.Code(err) != codes.Unavailable {
		t.Errorf("the decider passes for another host: %v, want Unavailable", err)
	}
}
