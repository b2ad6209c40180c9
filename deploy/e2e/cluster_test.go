//go:build e2e

// Package e2e tests what a user has: both binaries as processes, the manifests'
// access rights, and a real etcd and kube-apiserver. One cluster serves all
// tests, which run one after another; each has nodes and a namespace of its own.
// `make test` builds what it needs.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const bin = "../../bin"

// The cluster that all tests share.
var (
	clusterDir string
	client     *kubernetes.Clientset // the administrator's
)

func TestMain(m *testing.M) {
	code, err := withCluster(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// withCluster runs tests against a cluster of their own with Berth's access
// rights installed.
func withCluster(tests func() int) (int, error) {
	for _, name := range []string{"local", "check", "demo", "chaos", "kubectl", "grpcurl", "kube-apiserver", "decider", "watcher", "race/decider", "race/watcher"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			return 0, fmt.Errorf("bin/%s is missing: run `make test`, which builds it", name)
		}
	}
	dir, err := os.MkdirTemp("", "berth-e2e-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	clusterDir = dir
	local := &process{name: "local", cmd: exec.Command(bin+"/local", "up", "--dir", dir)}
	if err := local.start(); err != nil {
		return 0, err
	}
	defer local.end(syscall.SIGTERM)
	if err := wait(3*time.Minute, func() error { return local.said("kubeconfig:") }); err != nil {
		return 0, fmt.Errorf("the local cluster did not come up: %w\n%s", err, local.output())
	}
	config, err := clientcmd.BuildConfigFromFlags("", adminKubeconfig())
	if err != nil {
		return 0, err
	}
	config.QPS, config.Burst = 1000, 2000
	if client, err = kubernetes.NewForConfig(config); err != nil {
		return 0, err
	}
	if out, err := exec.Command(bin+"/kubectl", "--kubeconfig", adminKubeconfig(), "apply", "-k", "../base/access").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("deploy/base/access: %w\n%s", err, out)
	}
	return tests(), nil
}

func adminKubeconfig() string { return filepath.Join(clusterDir, "kubeconfig") }

// kubectl runs kubectl as the administrator and returns what it printed.
func kubectl(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command(bin+"/kubectl", append([]string{"--kubeconfig", adminKubeconfig()}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

// watcherKubeconfig is a kubeconfig of exactly the ServiceAccount that deploy/base
// gives the watcher.
var watcherToken = sync.OnceValues(func() (string, error) {
	out, err := exec.Command(bin+"/kubectl", "--kubeconfig", adminKubeconfig(),
		"create", "token", "berth-watcher", "-n", "berth-system", "--duration", "2h").Output()
	return strings.TrimSpace(string(out)), err
})

func watcherKubeconfig(t testing.TB) string {
	t.Helper()
	token, err := watcherToken()
	if err != nil {
		t.Fatalf("token of the watcher's ServiceAccount: %v", err)
	}
	config, err := clientcmd.LoadFromFile(adminKubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	for name := range config.AuthInfos {
		config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token}
	}
	path := filepath.Join(t.TempDir(), "watcher.kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// nodes creates n simulated nodes whose names begin with the test's and returns
// the names. They are gone when the test ends.
func nodes(t testing.TB, n int, edit func(*corev1.Node)) []string {
	t.Helper()
	var names []string
	for i := range n {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name:        fmt.Sprintf("%s-%03d", slug(t), i),
			Annotations: map[string]string{"kwok.x-k8s.io/node": "fake"},
			Labels:      map[string]string{"test": slug(t)},
		}}
		node.Status.Allocatable = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("32"), corev1.ResourceMemory: resource.MustParse("64Gi"), corev1.ResourcePods: resource.MustParse("110"),
		}
		node.Status.Capacity = node.Status.Allocatable
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now()}}
		if edit != nil {
			edit(node)
		}
		create(t, node)
		names = append(names, node.Name)
	}
	t.Cleanup(func() {
		for _, name := range names {
			if err := client.CoreV1().Nodes().Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
				t.Errorf("delete node: %v", err)
			}
		}
	})
	// The controller manager taints a node that is not Ready yet.
	eventually(t, "nodes without taints", func() error {
		list, err := client.CoreV1().Nodes().List(context.Background(), metav1.ListOptions{LabelSelector: "test=" + slug(t)})
		if err != nil {
			return err
		}
		for _, node := range list.Items {
			for _, taint := range node.Spec.Taints {
				if taint.Key == corev1.TaintNodeNotReady {
					return fmt.Errorf("%s is not ready", node.Name)
				}
			}
		}
		return nil
	})
	return names
}

func create(t testing.TB, node *corev1.Node) {
	t.Helper()
	if _, err := client.CoreV1().Nodes().Create(context.Background(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// namespace creates the test's namespace. Its pods are gone when the test ends.
func namespace(t testing.TB) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: slug(t)}}
	if _, err := client.CoreV1().Namespaces().Create(context.Background(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the default ServiceAccount", func() error {
		_, err := client.CoreV1().ServiceAccounts(ns.Name).Get(context.Background(), "default", metav1.GetOptions{})
		return err
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("pods that are not bound:\n%s", kubectl(t, "", "get", "pods", "-n", ns.Name, "--field-selector=spec.nodeName="))
		}
		zero := int64(0)
		background := metav1.DeletePropagationBackground
		if err := client.CoreV1().Pods(ns.Name).DeleteCollection(context.Background(), metav1.DeleteOptions{GracePeriodSeconds: &zero, PropagationPolicy: &background}, metav1.ListOptions{}); err != nil {
			t.Errorf("delete pods: %v", err)
		}
		eventually(t, "no pods", func() error {
			if left := pods(t, ns.Name); len(left) > 0 {
				return fmt.Errorf("%d left", len(left))
			}
			return nil
		})
		if err := client.CoreV1().Namespaces().Delete(context.Background(), ns.Name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("delete namespace: %v", err)
		}
	})
	return ns.Name
}

// pod is one for scheduler name berth that wants the test's nodes.
func pod(t testing.TB, name, cpu string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: slug(t), Name: name},
		Spec: corev1.PodSpec{
			SchedulerName: "berth",
			NodeSelector:  map[string]string{"test": slug(t)},
			Containers: []corev1.Container{{Name: "c", Image: "registry.k8s.io/pause:3.10", Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}}},
		},
	}
}

func createPod(t testing.TB, p *corev1.Pod) {
	t.Helper()
	if _, err := client.CoreV1().Pods(p.Namespace).Create(context.Background(), p, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// createPods creates n equal pods, several at a time.
func createPods(t testing.TB, n int, prefix, cpu string) {
	t.Helper()
	var wg sync.WaitGroup
	numbers := make(chan int)
	for range 16 {
		wg.Go(func() {
			for i := range numbers {
				p := pod(t, fmt.Sprintf("%s-%05d", prefix, i), cpu)
				if _, err := client.CoreV1().Pods(p.Namespace).Create(context.Background(), p, metav1.CreateOptions{}); err != nil {
					t.Errorf("create pod: %v", err)
				}
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	wg.Wait()
}

func pods(t testing.TB, namespace string) []corev1.Pod {
	t.Helper()
	list, err := client.CoreV1().Pods(namespace).List(context.Background(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// allBound is a condition for eventually: n pods, and each has a node.
func allBound(t testing.TB, namespace string, n int) func() error {
	return func() error {
		all := pods(t, namespace)
		bound := 0
		for _, p := range all {
			if p.Spec.NodeName != "" {
				bound++
			}
		}
		if bound != n || len(all) != n {
			return fmt.Errorf("%d of %d pods bound, %d exist", bound, n, len(all))
		}
		return nil
	}
}

func condition(p *corev1.Pod) corev1.PodCondition {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled {
			return c
		}
	}
	return corev1.PodCondition{}
}

// slug is the test's name as Kubernetes takes it.
func slug(t testing.TB) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(t.Name(), "Test"), "/", "-"))
}

// eventually waits until the condition holds.
func eventually(t testing.TB, what string, condition func() error) {
	t.Helper()
	if err := wait(90*time.Second, condition); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func wait(limit time.Duration, condition func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := condition()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// process is a program that runs beside the test and ends with it.
type process struct {
	name string
	cmd  *exec.Cmd
	log  lockedBuffer
	done chan struct{}
}

// start starts the program. It is killed if the test dies.
func (p *process) start() error {
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.done = make(chan struct{})
	started := make(chan error)
	go func() {
		// The kernel kills the child when the thread that started it ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	return nil
}

// run starts a program for the length of the test.
func run(t testing.TB, name string, args ...string) *process {
	t.Helper()
	p := &process{name: filepath.Base(name), cmd: exec.Command(name, args...)}
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.end(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("%s %s:\n%s", p.name, strings.Join(args, " "), tail(p.output(), 60))
		}
		if strings.Contains(p.output(), "WARNING: DATA RACE") {
			t.Errorf("%s: data race:\n%s", p.name, p.output())
		}
	})
	return p
}

// end signals the program and waits until it has ended.
func (p *process) end(signal syscall.Signal) {
	select {
	case <-p.done:
		return
	default:
	}
	p.cmd.Process.Signal(signal)
	select {
	case <-p.done:
	case <-time.After(60 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
	}
}

func (p *process) output() string { return p.log.String() }

// said is a condition for eventually: the program has printed the words.
func (p *process) said(words string) error {
	if strings.Contains(p.output(), words) {
		return nil
	}
	select {
	case <-p.done:
		return errors.New("it has ended")
	default:
		return fmt.Errorf("it has not said %q", words)
	}
}

// logged returns a value that the program logged as key="value".
func (p *process) logged(t testing.TB, message, key string) string {
	t.Helper()
	var value string
	eventually(t, p.name+" logs "+message, func() error {
		for line := range strings.Lines(p.output()) {
			if _, rest, ok := strings.Cut(line, message); ok {
				if _, rest, ok = strings.Cut(rest, key+`="`); ok {
					value, _, _ = strings.Cut(rest, `"`)
					return nil
				}
			}
		}
		return p.said(message)
	})
	return value
}

// decider starts a decider on any port and returns it with its address.
func decider(t testing.TB, args ...string) (*process, string) {
	t.Helper()
	p := run(t, bin+"/race/decider", append([]string{"--listen", "127.0.0.1:0", "--metrics-listen", ""}, args...)...)
	return p, p.logged(t, "Serving decisions", "address")
}

// watcher starts a watcher with the access rights that users give it, and returns
// it with the address of its metrics.
func watcher(t testing.TB, args ...string) (*process, string) {
	t.Helper()
	p := run(t, bin+"/race/watcher", append([]string{"--kubeconfig", watcherKubeconfig(t), "--metrics-listen", "127.0.0.1:0", "-v", "2"}, args...)...)
	return p, p.logged(t, "Serving metrics", "address")
}

// lockedBuffer is a buffer that a program writes while a test reads.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
