//go:build e2e

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// leader says which of the watchers holds the Lease.
func leader(t testing.TB, watchers ...*process) *process {
	t.Helper()
	var holder *process
	eventually(t, "a leader", func() error {
		lease, err := client.CoordinationV1().Leases("kube-system").Get(context.Background(), "berth-berth", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity != "" {
			for _, w := range watchers {
				if strings.Contains(w.output(), *lease.Spec.HolderIdentity) {
					holder = w
					return nil
				}
			}
		}
		return fmt.Errorf("none of %d watchers holds the Lease", len(watchers))
	})
	return holder
}

// TestKills runs 800 pods through two deciders and two watchers. One decider is
// killed, then the watcher that leads. Every pod is bound, and bin/check, which
// only knows the API server and its audit log, finds nothing.
func TestKills(t *testing.T) {
	const n = 800
	namespace(t)
	nodes(t, 25, nil)
	record := filepath.Join(t.TempDir(), "record")
	recorder := run(t, bin+"/check", "record", "--kubeconfig", adminKubeconfig(), "--out", record)
	eventually(t, "recording", func() error { return recorder.said("recording from resourceVersion") })

	first, firstAddress := decider(t)
	_, secondAddress := decider(t)
	deciders := firstAddress + "," + secondAddress
	a, _ := watcher(t, "--decider", deciders)
	b, _ := watcher(t, "--decider", deciders)
	active := leader(t, a, b)

	done := make(chan struct{})
	go func() {
		defer close(done)
		createPods(t, n, "p", "100m")
	}()
	boundAtLeast := func(want int) func() error {
		return func() error {
			if got := strings.Count(active.output(), `"Bound"`); got < want {
				return fmt.Errorf("%d bound", got)
			}
			return nil
		}
	}
	eventually(t, "a quarter bound", boundAtLeast(n/4))
	first.cmd.Process.Kill()
	eventually(t, "half bound", boundAtLeast(n/2))
	active.cmd.Process.Kill()
	<-done
	eventually(t, "all bound", allBound(t, slug(t), n))
	standby := a
	if active == a {
		standby = b
	}
	if holder := leader(t, a, b); holder != standby {
		t.Error("the watcher that was killed still holds the Lease")
	}

	judge := func(output string) ([]byte, error) {
		return exec.Command(bin+"/check", "--kubeconfig", adminKubeconfig(), "--record", record,
			"--audit-log", filepath.Join(clusterDir, "audit.log"), "--scheduler-name", "berth", "--output", output).Output()
	}
	table, err := judge("table")
	t.Logf("REPORT: bin/check after the kills:\n%s", table)
	if err != nil {
		t.Errorf("bin/check: %v", err)
	}
	var verdict struct {
		Refusals []struct {
			Reason  string `json:"reason"`
			Outside int    `json:"outsideTakeover"`
		} `json:"refusals"`
		Takeovers []struct{} `json:"takeovers"`
	}
	data, _ := judge("json")
	if err := json.Unmarshal(data, &verdict); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	if len(verdict.Takeovers) != 1 {
		t.Errorf("bin/check saw %d takeovers, want 1", len(verdict.Takeovers))
	}
	for _, r := range verdict.Refusals {
		if r.Outside > 0 {
			t.Errorf("%d bindings were refused outside the takeover: %s", r.Outside, r.Reason)
		}
	}
}

// TestRollingUpdate ends the watcher that leads, as a rolling update does, while
// pods keep coming: the Lease is released and the standby goes on.
func TestRollingUpdate(t *testing.T) {
	const n = 300
	namespace(t)
	nodes(t, 6, nil)
	_, address := decider(t)
	a, _ := watcher(t, "--decider", address)
	b, _ := watcher(t, "--decider", address)
	active := leader(t, a, b)
	standby := a
	if active == a {
		standby = b
	}
	createPods(t, n, "before", "100m")
	active.cmd.Process.Signal(syscall.SIGTERM)
	began := time.Now()
	createPods(t, n, "after", "100m")
	eventually(t, "the standby schedules", func() error { return standby.said(`"Bound"`) })
	t.Logf("REPORT: from SIGTERM to the standby's first binding: %v", time.Since(began).Round(time.Millisecond))
	<-active.done
	if code := active.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the watcher that was asked to stop ended with %d", code)
	}
	eventually(t, "all bound", allBound(t, slug(t), 2*n))
	// The API server knows of a binding before the watcher that asked for it.
	var bound int
	eventually(t, "all bindings logged", func() error {
		if bound = strings.Count(a.output()+b.output(), `"Bound"`); bound < 2*n {
			return fmt.Errorf("%d of %d", bound, 2*n)
		}
		return nil
	})
	if refused := strings.Count(a.output()+b.output(), "Binding failed"); bound != 2*n || refused != 0 {
		t.Errorf("%d bindings for %d pods, %d failed", bound, 2*n, refused)
	}
}

// TestAPIServerRestart kills the API server while bindings are under way.
func TestAPIServerRestart(t *testing.T) {
	const n = 500
	namespace(t)
	nodes(t, 10, nil)
	_, address := decider(t)
	w, _ := watcher(t, "--decider", address)
	createPods(t, n, "p", "100m")
	eventually(t, "some bound", func() error { return w.said(`"Bound"`) })
	if out, err := exec.Command(bin+"/local", "restart", "--dir", clusterDir, "kube-apiserver").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	eventually(t, "all bound", func() error {
		list, err := client.CoreV1().Pods(slug(t)).List(context.Background(), metav1.ListOptions{FieldSelector: "spec.nodeName="})
		if err != nil {
			return err
		}
		if len(list.Items) > 0 {
			return fmt.Errorf("%d are not", len(list.Items))
		}
		return nil
	})
}

// TestMutualTLS has both sides show a certificate, and a watcher without one turned away.
func TestMutualTLS(t *testing.T) {
	namespace(t)
	nodes(t, 1, nil)
	dir := t.TempDir()
	certificates(t, dir)
	in := func(name string) string { return filepath.Join(dir, name) }
	_, address := decider(t, "--tls-cert-file", in("decider.crt"), "--tls-key-file", in("decider.key"), "--tls-client-ca-file", in("ca.crt"))

	stranger, metrics := watcher(t, "--decider", address, "--decider-ca-file", in("ca.crt"))
	eventually(t, "the stranger is turned away", func() error { return stranger.said("Decider is not reachable") })
	if code, _ := get(t, metrics, "/readyz"); code != 503 {
		t.Errorf("/readyz of a watcher without a certificate answers %d", code)
	}
	stranger.end(syscall.SIGTERM)

	watcher(t, "--decider", address, "--decider-ca-file", in("ca.crt"), "--decider-cert-file", in("watcher.crt"), "--decider-key-file", in("watcher.key"))
	createPods(t, 1, "p", "1")
	eventually(t, "bound over TLS", allBound(t, slug(t), 1))
}

// certificates writes ca.crt, and decider and watcher .crt and .key, into dir.
func certificates(t testing.TB, dir string) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, kind string, der []byte) {
		check(os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	var caCert *x509.Certificate
	var caKey *ecdsa.PrivateKey
	for i, name := range []string{"ca", "decider", "watcher"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		check(err)
		cert := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			IsCA:        i == 0, BasicConstraintsValid: true,
		}
		if i == 0 {
			caCert, caKey = cert, key
		}
		der, err := x509.CreateCertificate(rand.Reader, cert, caCert, &key.PublicKey, caKey)
		check(err)
		write(name+".crt", "CERTIFICATE", der)
		keyDER, err := x509.MarshalECPrivateKey(key)
		check(err)
		write(name+".key", "EC PRIVATE KEY", keyDER)
	}
}

// TestUnderstands sends a pod with a constraint that no decider understands: it
// waits, the condition names the constraint, and nodes would not help.
func TestUnderstands(t *testing.T) {
	namespace(t)
	nodes(t, 1, nil)
	_, address := decider(t)
	watcher(t, "--decider", address)
	p := pod(t, "claims", "1")
	p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
	}}}
	createPod(t, p)
	eventually(t, "the condition names the constraint", func() error {
		p, err := client.CoreV1().Pods(slug(t)).Get(context.Background(), "claims", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if c := condition(p); c.Reason != "SchedulerError" || !strings.Contains(c.Message, "VolumeBinding") {
			return fmt.Errorf("condition %+v", c)
		}
		return nil
	})
}
