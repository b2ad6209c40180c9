package main

import (
	"fmt"
	"slices"
	"strings"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/config"
	"github.com/berth-scheduler/berth/watcher/internal/queue"
)

// configure takes over what the file of --config says and no flag does; given says
// which flags were. What neither says keeps the flag's default, so that a file
// without a word about leader election is no reason to fight with kube-scheduler
// over its Lease.
func (o *options) configure(given map[string]bool) error {
	if o.config == "" {
		return nil
	}
	c, err := config.ReadFile(o.config)
	if err != nil {
		return err
	}
	names := c.SchedulerNames()
	if len(o.rawSchedulerNames) == 0 {
		o.rawSchedulerNames = names
	}
	for _, name := range o.rawSchedulerNames {
		if !slices.Contains(names, name) {
			return fmt.Errorf("--scheduler-name %s: %s has no profile of that name; there are %s", name, o.config, strings.Join(names, ", "))
		}
	}
	e, api := c.LeaderElection, c.ClientConnection
	if e.LeaderElect != nil && !given["leader-elect"] {
		o.leaderElect = *e.LeaderElect
	}
	take(&o.leaseNamespace, e.ResourceNamespace, given["leader-elect-resource-namespace"])
	take(&o.leaseName, e.ResourceName, given["leader-elect-resource-name"])
	take(&o.leaseDuration, e.LeaseDuration, given["leader-elect-lease-duration"])
	take(&o.renewDeadline, e.RenewDeadline, given["leader-elect-renew-deadline"])
	take(&o.retryTime, e.RetryPeriod, given["leader-elect-retry-period"])
	take(&o.kubeconfig, api.Kubeconfig, given["kubeconfig"])
	take(&o.kubeAPIQPS, float64(api.QPS), given["kube-api-qps"])
	take(&o.kubeAPIBurst, int(api.Burst), given["kube-api-burst"])
	for _, p := range c.Profiles {
		if slices.ContainsFunc(p.Args.PodTopologySpread.DefaultConstraints, func(d *berthv1.TopologySpreadConstraint) bool {
			return d.GetWhenUnsatisfiable() == berthv1.UnsatisfiableAction_UNSATISFIABLE_ACTION_DO_NOT_SCHEDULE
		}) {
			if o.oneAtATime == nil {
				o.oneAtATime = map[string]bool{}
			}
			o.oneAtATime[p.SchedulerName] = true
		}
	}
	o.backoffs = queue.Backoffs{Initial: c.PodInitialBackoff, Max: c.PodMaxBackoff}
	return nil
}

// take sets an option to what the file says, if it says something and no flag does.
func take[T comparable](option *T, file T, given bool) {
	var nothing T
	if file != nothing && !given {
		*option = file
	}
}
