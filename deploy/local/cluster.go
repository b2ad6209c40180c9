package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"text/template"
)

//go:embed config
var config embed.FS

// kubeconfigTemplate embeds certificates, so that a kubeconfig works wherever
// it is copied.
var kubeconfigTemplate = template.Must(template.New("kubeconfig.tmpl").
	Funcs(template.FuncMap{"base64": base64.StdEncoding.EncodeToString}).
	ParseFS(config, "config/kubeconfig.tmpl"))

// serviceIPs is the range of Services' cluster IPs; its first address is the
// API server's own.
const (
	serviceIPs  = "10.0.0.0/16"
	apiserverIP = "10.0.0.1"
)

// A cluster is everything that is decided before the first process starts:
// addresses, certificates, configuration files, and each component's flags.
type cluster struct {
	dir        string
	kubeconfig string // of the administrator
	server     *api   // the API server, asked as administrator
	// In starting order: etcd and kube-apiserver each need the one before, the
	// others need kube-apiserver only.
	components []component
}

// owned are the entries of a cluster's folder that belong to the cluster and
// are wiped when the next one starts there. Anything else is left alone, since
// a folder given by mistake must not lose its files.
func owned() []string {
	entries := []string{"pki", "config", "etcd", "kwok", "kubeconfig", "audit.log", controlSocket}
	for _, p := range programs {
		entries = append(entries, p.name+".log", p.name+".pid", p.name+".kubeconfig")
	}
	return entries
}

// newCluster wipes what a previous cluster left in dir and writes the files of
// a new one.
func newCluster(dir string, bare, scheduler bool) (*cluster, error) {
	for _, name := range owned() {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"pki", "config"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"audit-policy.yaml", "kwok.yaml"} {
		data, err := config.ReadFile("config/" + name)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, "config", name), data, 0o644); err != nil {
			return nil, err
		}
	}
	ports, err := freePorts(5)
	if err != nil {
		return nil, err
	}

	// Two authorities, as in a real cluster: a certificate that the API server
	// accepts must not open etcd behind its back.
	etcdCA, err1 := newAuthority("etcd-ca")
	ca, err2 := newAuthority("kubernetes-ca")
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	etcdPair, err1 := etcdCA.issue(pkix.Name{CommonName: "etcd"}, "127.0.0.1")
	etcdClient, err2 := etcdCA.issue(pkix.Name{CommonName: "kube-apiserver"})
	servingPair, err3 := ca.issue(pkix.Name{CommonName: "kube-apiserver"},
		"127.0.0.1", "localhost", apiserverIP, "kubernetes", "kubernetes.default", "kubernetes.default.svc")
	serviceAccounts, err4 := ca.issue(pkix.Name{CommonName: "service-accounts"}) // for its key
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	for name, p := range map[string]pair{
		"etcd-ca": etcdCA.pair, "etcd": etcdPair, "etcd-client": etcdClient,
		"ca": ca.pair, "serving": servingPair, "service-accounts": serviceAccounts,
	} {
		if err := p.write(filepath.Join(dir, "pki", name)); err != nil {
			return nil, err
		}
	}

	c := &cluster{dir: dir, kubeconfig: filepath.Join(dir, "kubeconfig")}
	server := address(ports[1])
	admin, err := c.writeKubeconfig(c.kubeconfig, server, ca, pkix.Name{CommonName: "kubernetes-admin", Organization: []string{"system:masters"}})
	if err != nil {
		return nil, err
	}
	c.server = newAPI(server, admin)
	etcdTLS, err := etcdCA.client(etcdClient)
	if err != nil {
		return nil, err
	}
	c.components = []component{
		c.etcd(ports[0], newAPI(address(ports[0]), etcdTLS)),
		c.apiserver(ports[0], ports[1], bare),
	}
	if !bare {
		c.components = append(c.components, c.controllerManager(ports[2], newAPI(address(ports[2]), admin)), c.kwok(ports[3]))
	}
	if scheduler {
		c.components = append(c.components, c.scheduler(ports[4], newAPI(address(ports[4]), admin)))
	}
	for _, k := range c.components[2:] {
		user := "system:" + k.name
		if k.name == "kwok" {
			user = "berth:kwok"
		}
		if _, err := c.writeKubeconfig(c.in(k.name+".kubeconfig"), server, ca, pkix.Name{CommonName: user}); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// in is the path of an entry of the cluster's folder.
func (c *cluster) in(elements ...string) string {
	return filepath.Join(append([]string{c.dir}, elements...)...)
}

// pki is the path of a certificate or key.
func (c *cluster) pki(name string) string { return c.in("pki", name) }

// writeKubeconfig writes a kubeconfig for a new certificate of user to path and
// returns the same credentials for use in this program.
func (c *cluster) writeKubeconfig(path, server string, ca *authority, user pkix.Name) (*tls.Config, error) {
	p, err := ca.issue(user)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	err = kubeconfigTemplate.Execute(&text, struct {
		Server, User  string
		CA, Cert, Key []byte
	}{server, user.CommonName, ca.cert, p.cert, p.key})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		return nil, err
	}
	return ca.client(p)
}

// etcd syncs nothing to disk: the data need not survive a power cut, and tests
// should not wait for disks. It survives the death of the process. The peer
// address is never dialled, since there is one member.
func (c *cluster) etcd(port int, probe *api) component {
	const peer = "https://127.0.0.1:1"
	return component{
		name: "etcd",
		args: []string{
			"--name=local",
			"--data-dir=" + c.in("etcd"),
			"--unsafe-no-fsync",
			"--listen-client-urls=" + address(port),
			"--advertise-client-urls=" + address(port),
			"--listen-peer-urls=https://127.0.0.1:0",
			"--initial-advertise-peer-urls=" + peer,
			"--initial-cluster=local=" + peer,
			"--client-cert-auth", "--peer-client-cert-auth",
			"--trusted-ca-file=" + c.pki("etcd-ca.crt"), "--peer-trusted-ca-file=" + c.pki("etcd-ca.crt"),
			"--cert-file=" + c.pki("etcd.crt"), "--peer-cert-file=" + c.pki("etcd.crt"),
			"--key-file=" + c.pki("etcd.key"), "--peer-key-file=" + c.pki("etcd.key"),
			"--quota-backend-bytes=8589934592",
			"--auto-compaction-retention=0", // the API server compacts
			"--log-level=warn",
		},
		ready: func(ctx context.Context) error { return probe.get(ctx, "/readyz", nil) },
	}
}

func (c *cluster) apiserver(etcdPort, port int, bare bool) component {
	args := []string{
		"--etcd-servers=" + address(etcdPort),
		"--etcd-cafile=" + c.pki("etcd-ca.crt"),
		"--etcd-certfile=" + c.pki("etcd-client.crt"),
		"--etcd-keyfile=" + c.pki("etcd-client.key"),
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none", // endpoints cannot be loopback addresses
		fmt.Sprintf("--secure-port=%d", port),
		"--tls-cert-file=" + c.pki("serving.crt"),
		"--tls-private-key-file=" + c.pki("serving.key"),
		"--client-ca-file=" + c.pki("ca.crt"),
		"--authorization-mode=Node,RBAC",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + c.pki("service-accounts.crt"),
		"--service-account-signing-key-file=" + c.pki("service-accounts.key"),
		"--service-cluster-ip-range=" + serviceIPs,
		"--allow-privileged=true",
		"--max-requests-inflight=1000",
		"--max-mutating-requests-inflight=500",
		"--audit-policy-file=" + c.in("config", "audit-policy.yaml"),
		"--audit-log-path=" + c.in("audit.log"),
		"--audit-log-maxsize=1000000", // MB: one file, never rotated
	}
	if bare {
		// Each of these needs a controller manager: ServiceAccount wants
		// accounts that it makes, TaintNodesByCondition sets a taint that it
		// takes away, StorageObjectInUseProtection adds finalizers that it
		// removes.
		args = append(args, "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition,StorageObjectInUseProtection")
	} else {
		args = append(args, "--enable-admission-plugins=NodeRestriction")
	}
	return component{
		name:  "kube-apiserver",
		args:  args,
		ready: func(ctx context.Context) error { return c.server.get(ctx, "/readyz", nil) },
	}
}

func (c *cluster) controllerManager(port int, probe *api) component {
	return component{
		name: "kube-controller-manager",
		args: append(c.client("kube-controller-manager", port),
			"--use-service-account-credentials",
			"--service-account-private-key-file="+c.pki("service-accounts.key"),
			"--root-ca-file="+c.pki("ca.crt"),
			"--cluster-signing-cert-file="+c.pki("ca.crt"),
			"--cluster-signing-key-file="+c.pki("ca.key"),
			// The simulated kubelets report every 5 to 6 minutes; see config/kwok.yaml.
			"--node-monitor-grace-period=15m",
			// Annotates every node for the caches of real kubelets.
			"--controllers=*,-ttl-controller",
			// The default of 20 requests/s would take a minute to untaint 1,000 nodes.
			"--kube-api-qps=1000",
			"--kube-api-burst=2000",
		),
		ready: func(ctx context.Context) error { return probe.get(ctx, "/healthz", nil) },
	}
}

// scheduler has the request rate that comparisons with Berth are made with.
func (c *cluster) scheduler(port int, probe *api) component {
	return component{
		name: "kube-scheduler",
		args: append(c.client("kube-scheduler", port),
			"--kube-api-qps=5000",
			"--kube-api-burst=10000",
		),
		ready: func(ctx context.Context) error { return probe.get(ctx, "/healthz", nil) },
	}
}

// client is what kube-controller-manager and kube-scheduler have in common.
// There is one of each, and without an election it works at once after a restart.
func (c *cluster) client(name string, port int) []string {
	kubeconfig := c.in(name + ".kubeconfig")
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--leader-elect=false",
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", port),
		"--tls-cert-file=" + c.pki("serving.crt"),
		"--tls-private-key-file=" + c.pki("serving.key"),
	}
}

func (c *cluster) kwok(port int) component {
	probe := newAPI(fmt.Sprintf("http://127.0.0.1:%d", port), nil)
	return component{
		name: "kwok",
		args: []string{
			"--kubeconfig=" + c.in("kwok.kubeconfig"),
			"--config=" + c.in("config", "kwok.yaml"),
			fmt.Sprintf("--server-address=127.0.0.1:%d", port),
		},
		ready: func(ctx context.Context) error { return probe.get(ctx, "/healthz", nil) },
	}
}

// authorizeKwok gives the simulated kubelets their rights.
func (c *cluster) authorizeKwok(ctx context.Context) error {
	for _, m := range []struct{ file, path string }{
		{"config/kwok-role.yaml", "clusterroles"},
		{"config/kwok-role-binding.yaml", "clusterrolebindings"},
	} {
		manifest, err := config.ReadFile(m.file)
		if err != nil {
			return err
		}
		if err := c.server.createYAML(ctx, "/apis/rbac.authorization.k8s.io/v1/"+m.path, manifest); err != nil {
			return err
		}
	}
	return nil
}

// awaitServiceAccount waits until the controller manager has made the account
// without which no pod is admitted to the namespace default.
func (c *cluster) awaitServiceAccount(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return poll(ctx, pollInterval, func(ctx context.Context) error {
		return c.server.get(ctx, "/api/v1/namespaces/default/serviceaccounts/default", nil)
	})
}

func address(port int) string { return fmt.Sprintf("https://127.0.0.1:%d", port) }

// freePorts returns n different loopback ports that nobody listens on. They lie
// below the ports that kernels hand out to clients: a client's connection must
// not take the port of a component while it is being restarted.
func freePorts(n int) ([]int, error) {
	const low, high = 20000, 32000
	var ports []int
	// Beginning at a place that differs between clusters started side by side.
	for i, first := 0, os.Getpid()*16; i < high-low && len(ports) < n; i++ {
		port := low + (first+i)%(high-low)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		l.Close()
		ports = append(ports, port)
	}
	if len(ports) < n {
		return nil, fmt.Errorf("fewer than %d free ports between %d and %d on 127.0.0.1", n, low, high)
	}
	return ports, nil
}
