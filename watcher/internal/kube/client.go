// Package kube is the watcher's side of the API server: informers in, bindings,
// conditions, Events and the Lease out.
package kube

import (
	"context"
	"fmt"
	"net"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Config says how to reach the API server.
type Config struct {
	// Kubeconfig is the file to read; empty means the cluster that this process
	// runs in.
	Kubeconfig string
	// QPS and Burst bound the requests of the informers, binds and reads together,
	// and separately those of the reporter, so that reports never hold up a bind.
	// The Lease is bounded by neither.
	QPS   float32
	Burst int
	// NodeAnnotations is what the keys of those annotations begin with that the watch
	// keeps on nodes; empty means that it keeps none.
	NodeAnnotations string
	// Version and Identity name this process in the API server's audit log.
	Version, Identity string
}

// Client talks to one API server. It may be used concurrently.
type Client struct {
	host     string
	kept     string // Config.NodeAnnotations
	main     kubernetes.Interface
	reports  kubernetes.Interface
	lease    kubernetes.Interface
	metadata metadata.Interface
	// precedence is of bindings and conditions over Events.
	precedence *precedence
}

const protobuf = "application/vnd.kubernetes.protobuf"

// NewClient reads the configuration. It sends nothing: see Ping.
func NewClient(config Config) (*Client, error) {
	base, err := restConfig(config.Kubeconfig)
	if err != nil {
		return nil, err
	}
	base.QPS, base.Burst = config.QPS, config.Burst
	base.UserAgent = fmt.Sprintf("berth-watcher/%s (%s)", config.Version, config.Identity)

	c := &Client{host: base.Host, kept: config.NodeAnnotations, precedence: newPrecedence()}
	if c.metadata, err = metadata.NewForConfig(base); err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	typed := rest.CopyConfig(base)
	typed.ContentType = protobuf
	typed.AcceptContentTypes = protobuf + ",application/json"
	lease := rest.CopyConfig(typed)
	lease.QPS = -1 // no limit: a renewal must not wait behind anything
	for _, one := range []struct {
		into   *kubernetes.Interface
		config *rest.Config
	}{{&c.main, typed}, {&c.reports, rest.CopyConfig(typed)}, {&c.lease, lease}} {
		// A clientset of its own has a limiter of its own. A dialer of its own gives it
		// a connection of its own: an API server allows about 100 requests at a time on
		// one, and what is written to one is written one after the other.
		one.config.Dial = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext
		if *one.into, err = kubernetes.NewForConfig(one.config); err != nil {
			return nil, fmt.Errorf("kubernetes client: %w", err)
		}
	}
	return c, nil
}

// restConfig deliberately reads no KUBECONFIG: a watcher writes to the cluster that
// it was told to, never to the one that a shell happens to point at.
func restConfig(path string) (*rest.Config, error) {
	if path == "" {
		config, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("no --kubeconfig, and not running in a cluster: %w", err)
		}
		return config, nil
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig %s: %w", path, err)
	}
	return config, nil
}

// Ping asks the API server for its version. Its error names the server.
func (c *Client) Ping(ctx context.Context) error {
	if err := c.main.Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Error(); err != nil {
		return fmt.Errorf("cannot reach the API server at %s: %w", c.host, err)
	}
	return nil
}

// pollInterval is how often a condition that nobody announces is looked at.
const pollInterval = 20 * time.Millisecond
