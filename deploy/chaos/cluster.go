package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/berth-scheduler/berth/deploy/chaos/internal/workload"
	"github.com/berth-scheduler/berth/deploy/internal/child"
)

const (
	// pollInterval is the time between two looks at something awaited.
	pollInterval = 100 * time.Millisecond
	// readyTimeout bounds how long the cluster, its nodes and the namespace may take
	// to be usable, each.
	readyTimeout = 3 * time.Minute
	// stopGrace is how long a program has between SIGTERM and SIGKILL.
	stopGrace = 30 * time.Second
	// requestTimeout bounds one request, so that one to an API server that was killed
	// is repeated.
	requestTimeout = 10 * time.Second
	// leaseNamespace and leaseName are what the watchers elect their leader by.
	leaseNamespace, leaseName = "kube-system", "berth-berth"
)

// A cluster is the control plane and how to reach it, by no proxy.
type cluster struct {
	spawner    *child.Spawner
	local      *child.Child
	dir        string
	kubeconfig string
	client     kubernetes.Interface
	mu         sync.Mutex // held by who has a component killed or started
}

// startCluster starts one with its files in dir.
func startCluster(ctx context.Context, s *child.Spawner, dir, log string) (*cluster, error) {
	local, err := s.Start("local", log, s.Command("local", "up", "--dir", dir, "--bin", s.Bin))
	if err != nil {
		return nil, err
	}
	c := &cluster{spawner: s, local: local, dir: dir}
	waiting, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	err = local.Await(waiting, pollInterval, func(context.Context) (err error) {
		c.kubeconfig, err = local.Said("kubeconfig: ")
		return err
	})
	if err == nil {
		c.client, err = connect(c.kubeconfig)
	}
	if err != nil {
		local.Stop(stopGrace)
		return nil, err
	}
	return c, nil
}

func connect(kubeconfig string) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.UserAgent = "berth-chaos"
	config.QPS = -1 // creators is the limit
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	return kubernetes.NewForConfig(config)
}

// auditLog is where the API server logs writes.
func (c *cluster) auditLog() string { return filepath.Join(c.dir, "audit.log") }

// prepare creates what the pods need, and returns when nodes are Ready.
func (c *cluster) prepare(ctx context.Context, nodes int) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: workload.Namespace}}
	if _, err := c.client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating namespace %s: %w", namespace.Name, err)
	}
	for _, class := range workload.Classes() {
		if _, err := c.client.SchedulingV1().PriorityClasses().Create(ctx, class, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating priority class %s: %w", class.Name, err)
		}
	}
	for _, n := range workload.Nodes(nodes) {
		if _, err := c.client.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating node %s: %w", n.Name, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return child.Poll(ctx, time.Second, func(ctx context.Context) error {
		list, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for i := range list.Items {
			if !settled(&list.Items[i]) {
				return fmt.Errorf("node %s is not Ready", list.Items[i].Name)
			}
		}
		_, err = c.client.CoreV1().ServiceAccounts(workload.Namespace).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// settled says whether a node is Ready and the controller manager has taken away the
// taints that nodes are born with.
func settled(n *corev1.Node) bool {
	for _, t := range n.Spec.Taints {
		if strings.HasPrefix(t.Key, "node.kubernetes.io/") {
			return false
		}
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// server is the host and port of the API server.
func (c *cluster) server() (string, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(config.Host)
	if err != nil {
		return "", err
	}
	return u.Host, nil
}

// kubeconfigFor writes the administrator's kubeconfig with another address of the API
// server into file.
func (c *cluster) kubeconfigFor(address, file string) error {
	config, err := clientcmd.LoadFromFile(c.kubeconfig)
	if err != nil {
		return err
	}
	for _, to := range config.Clusters {
		to.Server = "https://" + address
	}
	return clientcmd.WriteToFile(*config, file)
}

// leader is the process that holds the watchers' Lease.
func (c *cluster) leader(ctx context.Context) (pid int, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	lease, err := c.client.CoordinationV1().Leases(leaseNamespace).Get(ctx, leaseName, metav1.GetOptions{})
	if err != nil {
		return 0, err
	}
	if lease.Spec.HolderIdentity == nil {
		return 0, errors.New("nobody leads")
	}
	// HOST_PID_RANDOM, and a host name has no underscore.
	parts := strings.Split(*lease.Spec.HolderIdentity, "_")
	if len(parts) != 3 {
		return 0, fmt.Errorf("holder %q is no watcher", *lease.Spec.HolderIdentity)
	}
	return strconv.Atoi(parts[1])
}

// outage kills a component, starts it again after a while, and returns when it is
// ready. Of the others those that died with it are started again too; their names are
// returned.
func (c *cluster) outage(ctx context.Context, component string, after time.Duration) (alsoDied []string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.control(ctx, "kill", component); err != nil {
		return nil, err
	}
	pause(ctx, after)
	// It has to come back, whatever ended the wait.
	ctx = context.WithoutCancel(ctx)
	if err := c.control(ctx, "restart", component); err != nil {
		return nil, err
	}
	for _, other := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kwok"} {
		if _, err := os.Stat(filepath.Join(c.dir, other+".pid")); err == nil {
			continue
		}
		alsoDied = append(alsoDied, other)
		if err := c.control(ctx, "restart", other); err != nil {
			return alsoDied, err
		}
	}
	return alsoDied, nil
}

func (c *cluster) control(ctx context.Context, verb, component string) error {
	cmd := c.spawner.Command("local", verb, "--dir", c.dir, component)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := c.spawner.Run(ctx, cmd); err != nil {
		return fmt.Errorf("local %s %s: %w: %s", verb, component, err, strings.TrimSpace(out.String()))
	}
	return nil
}

// persist repeats a request until it was carried out, or ctx ends. What is there
// already, and what is gone already, is what was wanted: an answer may be lost.
func persist(ctx context.Context, request func(context.Context) error) error {
	return child.Poll(ctx, pollInterval, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		err := request(ctx)
		if apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
