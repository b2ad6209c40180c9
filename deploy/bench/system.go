package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/berth-scheduler/berth/deploy/bench/internal/result"
	"github.com/berth-scheduler/berth/deploy/bench/internal/workload"
	"github.com/berth-scheduler/berth/deploy/internal/child"
)

// A system is what places pods: programs, or the benchmark itself.
type system struct {
	name        string
	description string
	scheduler   string // spec.schedulerName of the pods
	events      bool   // every pod gets an Event
	only        string // the workload it is for unless systems are named; empty is all

	decides bool // has deciders, which can be asked

	// programs lists what to start; nil where the benchmark itself binds.
	programs func(ctx context.Context, c *cluster) ([]program, error)
}

// A program is one process of a system.
type program struct {
	name  string // in the folder of programs
	args  []string
	ready string // URL that answers 200 when it is
	grpc  string // address where a decider answers; empty for other programs
}

// Every scheduler may send as many requests as it likes: --kube-api-qps and
// --kube-api-burst of kube-scheduler and the watcher alike.
var unlimited = []string{"--kube-api-qps=5000", "--kube-api-burst=5000"}

// systems returns all of them, in the order of result.Systems.
func systems() []system {
	return []system{
		{name: result.Bare, description: "no scheduler: 64 workers bind to nodes known in advance, and write no Events", scheduler: "bench"},
		{name: result.BareEvents, description: "the same with one Event per pod", scheduler: "bench", events: true},
		{name: result.Stock, description: "stock kube-scheduler with its default profile", scheduler: "default-scheduler", events: true, programs: kubeScheduler},
		{name: "berth", description: "one watcher and one decider with the default policy", scheduler: "berth", events: true, decides: true,
			programs: func(_ context.Context, c *cluster) ([]program, error) { return berth(c, 1) }},
		{name: "berth-2x2", description: "two watchers that elect a leader and two deciders, as deploy/base has them; on \"equal\" alone unless named", scheduler: "berth", events: true, only: "equal", decides: true,
			programs: func(_ context.Context, c *cluster) ([]program, error) { return berth(c, 2) }},
	}
}

// suits says whether there is something to measure with s on w: a start, if s is
// what is started, and answers, if it can be asked.
func (s system) suits(w workload.Workload) bool {
	return (w.PlacedPerNode == 0 || s.programs != nil) && (w.Questions == 0 || s.decides)
}

func findSystem(name string) (system, error) {
	all := systems()
	i := slices.IndexFunc(all, func(s system) bool { return s.name == name })
	if i < 0 {
		var names []string
		for _, s := range all {
			names = append(names, s.name)
		}
		return system{}, fmt.Errorf("no system %q: there are %s", name, strings.Join(names, ", "))
	}
	return all[i], nil
}

func kubeScheduler(_ context.Context, c *cluster) ([]program, error) {
	addresses, err := child.FreeAddresses(1)
	if err != nil {
		return nil, err
	}
	_, port, _ := strings.Cut(addresses[0], ":")
	return []program{{
		name: "kube-scheduler",
		args: append([]string{
			"--kubeconfig=" + c.kubeconfig,
			"--authentication-kubeconfig=" + c.kubeconfig,
			"--authorization-kubeconfig=" + c.kubeconfig,
			"--leader-elect=false",
			"--bind-address=127.0.0.1",
			"--secure-port=" + port,
			"--tls-cert-file=" + filepath.Join(c.dir, "pki", "serving.crt"),
			"--tls-private-key-file=" + filepath.Join(c.dir, "pki", "serving.key"),
		}, unlimited...),
		ready: "https://" + addresses[0] + "/readyz",
	}}, nil
}

// berth is so many watchers and deciders. A watcher on its own needs no leader
// election, and kube-scheduler does without it here as well. Where there are
// several deciders the first of them answers as long as it can: on loopback no
// name stands for both, as the Service does in a cluster.
func berth(c *cluster, replicas int) ([]program, error) {
	addresses, err := child.FreeAddresses(3 * replicas)
	if err != nil {
		return nil, err
	}
	var deciders, watchers []program
	watcher := append([]string{
		"--kubeconfig=" + c.kubeconfig,
		"--scheduler-name=berth",
		fmt.Sprintf("--leader-elect=%t", replicas > 1),
	}, unlimited...)
	for i := range replicas {
		grpc, metrics := addresses[3*i], addresses[3*i+1]
		deciders = append(deciders, program{
			name:  "decider",
			args:  []string{"--listen=" + grpc, "--policy=default", "--metrics-listen=" + metrics},
			ready: "http://" + metrics + "/readyz",
			grpc:  grpc,
		})
		watcher = append(watcher, "--decider="+grpc)
	}
	for i := range replicas {
		metrics := addresses[3*i+2]
		watchers = append(watchers, program{
			name:  "watcher",
			args:  append(slices.Clone(watcher), "--metrics-listen="+metrics),
			ready: "http://" + metrics + "/readyz",
		})
	}
	return append(deciders, watchers...), nil
}

// prober asks programs whether they are ready. Those that serve HTTPS have the
// certificate that the local cluster gave them.
func prober(c *cluster) (*http.Client, error) {
	pem, err := os.ReadFile(filepath.Join(c.dir, "pki", "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", filepath.Join(c.dir, "pki", "ca.crt"))
	}
	return &http.Client{
		Timeout:   time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}},
	}, nil
}

// ask returns nil if url answers 200, or what it says instead.
func ask(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 500))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, strings.Join(strings.Fields(string(body)), " "))
	}
	return nil
}
