package main

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Starting a cluster wipes what an earlier one left and nothing else.
func TestNewClusterWipes(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"audit.log", "etcd.log", "kwok.pid", "mine.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := newCluster(dir, false, true); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	want := []string{"config", "kube-controller-manager.kubeconfig", "kube-scheduler.kubeconfig",
		"kubeconfig", "kwok.kubeconfig", "mine.txt", "pki"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestComponents(t *testing.T) {
	for _, c := range []struct {
		bare, scheduler bool
		want            string
	}{
		{false, false, "etcd kube-apiserver kube-controller-manager kwok"},
		{false, true, "etcd kube-apiserver kube-controller-manager kwok kube-scheduler"},
		{true, false, "etcd kube-apiserver"},
		{true, true, "etcd kube-apiserver kube-scheduler"},
	} {
		cluster, err := newCluster(t.TempDir(), c.bare, c.scheduler)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, k := range cluster.components {
			names = append(names, k.name)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("bare=%t scheduler=%t: got %s, want %s", c.bare, c.scheduler, got, c.want)
		}
	}
}

func TestFreePorts(t *testing.T) {
	first, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", strings.TrimPrefix(address(first[0]), "https://"))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	ports, err := freePorts(5)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(ports, first[0]) {
		t.Errorf("port %d is offered although somebody listens on it", first[0])
	}
	slices.Sort(ports)
	if len(slices.Compact(ports)) != 5 {
		t.Errorf("got %v, want 5 different ports", ports)
	}
}

// A certificate opens the servers of its own authority and no others.
func TestAuthorities(t *testing.T) {
	ca, err := newAuthority("kubernetes-ca")
	if err != nil {
		t.Fatal(err)
	}
	other, err := newAuthority("etcd-ca")
	if err != nil {
		t.Fatal(err)
	}
	serving, err := ca.issue(pkix.Name{CommonName: "server"}, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	config, err := ca.client(serving)
	if err != nil {
		t.Fatal(err)
	}
	config.ClientCAs, config.ClientAuth = config.RootCAs, tls.RequireAndVerifyClientCert
	var user pkix.Name
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user = r.TLS.PeerCertificates[0].Subject
	}))
	server.TLS = config
	server.Config.ErrorLog = nil
	server.StartTLS()
	defer server.Close()

	request := func(trust, signer *authority) error {
		p, err := signer.issue(pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}})
		if err != nil {
			t.Fatal(err)
		}
		config, err := trust.client(p)
		if err != nil {
			t.Fatal(err)
		}
		return newAPI(server.URL, config).get(t.Context(), "/", nil)
	}
	if err := request(ca, ca); err != nil {
		t.Fatal(err)
	}
	if user.CommonName != "admin" || !slices.Equal(user.Organization, []string{"system:masters"}) {
		t.Errorf("the server saw user %v", user)
	}
	if err := request(ca, other); err == nil {
		t.Error("a certificate of another authority was accepted")
	}
	if err := request(other, ca); err == nil {
		t.Error("a client accepted a server of another authority")
	}
}

func TestSimulatedNodes(t *testing.T) {
	count := map[string]int{}
	for i := range 6 {
		n := simulatedNode(i)
		if !n.usable() {
			t.Errorf("%s is not usable", n.Metadata.Name)
		}
		count[n.Metadata.Labels["topology.kubernetes.io/zone"]]++
	}
	if len(count) != 3 || count["zone-a"] != 2 || count["zone-b"] != 2 || count["zone-c"] != 2 {
		t.Errorf("6 nodes over zones: %v, want 2 in each of 3", count)
	}
	tainted := simulatedNode(0)
	tainted.Spec.Taints = []taint{{Key: "node.kubernetes.io/not-ready"}}
	unready := simulatedNode(0)
	unready.Status.Conditions[0].Status = "Unknown"
	unknown := simulatedNode(0)
	unknown.Status.Conditions = nil
	for what, n := range map[string]node{"tainted": tainted, "not Ready": unready, "without conditions": unknown} {
		if n.usable() {
			t.Errorf("a node that is %s is usable", what)
		}
	}
}
