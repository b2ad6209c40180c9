package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-scheduler/berth/deploy/chaos/internal/evictions"
	"github.com/berth-scheduler/berth/deploy/chaos/internal/trace"
	"github.com/berth-scheduler/berth/deploy/chaos/internal/workload"
	"github.com/berth-scheduler/berth/deploy/internal/child"
)

const (
	// restTimeout is how long nothing may happen to any pod while the cluster is not
	// at rest, restLimit how long it may take to come to rest.
	restTimeout = 90 * time.Second
	restLimit   = 10 * time.Minute
	// restLooks is how many looks in a row, restInterval apart, must find it at rest.
	restLooks    = 8
	restInterval = 500 * time.Millisecond
)

// The rules that this program judges itself, besides those of evictions.
const (
	noRest    = "NoRest"          // the cluster does not come to rest
	noReason  = "NoReason"        // a pod is neither bound nor said to be unschedulable
	untrue    = "UntrueCondition" // a pod is bound, and said not to be
	crashed   = "Crashed"         // a watcher or a decider fell over
	nominated = "StaleNomination" // a node is set aside for a pod that is said to fit nowhere
)

// A verdict is what bin/check says, in its own words.
type verdict struct {
	Exit       int
	Violations []struct {
		Rule, Pod, Node, Detail string
	} `json:"violations"`
	Incomplete []string `json:"incomplete"`
	Pods       struct {
		Bound   int `json:"bound"`
		Pending int `json:"pending"`
	} `json:"pods"`
	Refusals []struct {
		Code    int    `json:"code"`
		Reason  string `json:"reason"`
		Message string `json:"message"`
		Inside  int    `json:"insideTakeover"`
		Outside int    `json:"outsideTakeover"`
	} `json:"refusals"`
	Takeovers []json.RawMessage `json:"takeovers"`
}

// rest waits until every pod is bound or has been refused and the watcher that leads
// has nothing to do. What keeps it from it is returned.
func (r *chaos) rest(ctx context.Context) (busy string, err error) {
	ctx, cancel := context.WithTimeout(ctx, restLimit)
	defer cancel()
	var looks int
	var last uint64
	var moved = time.Now()
	for {
		c := r.tracker.counts()
		if c.changes != last {
			last, looks, moved = c.changes, 0, time.Now()
		}
		if busy = r.unrest(ctx); busy == "" {
			looks++
		} else {
			looks = 0
		}
		switch {
		case looks >= restLooks:
			return "", nil
		case busy != "" && time.Since(moved) > restTimeout:
			return busy, nil
		}
		if pause(ctx, restInterval); ctx.Err() != nil {
			if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				return busy, nil
			}
			return busy, context.Cause(ctx)
		}
	}
}

// unrest says why the cluster is not at rest; empty if it is.
func (r *chaos) unrest(ctx context.Context) string {
	pid, err := r.cluster.leader(ctx)
	if err != nil {
		return "the Lease: " + err.Error()
	}
	leader := r.fleet.watcherOf(pid)
	if leader == nil {
		return "no watcher leads"
	}
	if busy := leader.busy(ctx); busy != "" {
		return leader.name + ": " + busy
	}
	return ""
}

// survivors judges the pods that are there in the end.
func (r *chaos) survivors(ctx context.Context) ([]evictions.Finding, error) {
	var list *corev1.PodList
	err := child.Poll(ctx, pollInterval, func(ctx context.Context) (err error) {
		list, err = r.cluster.client.CoreV1().Pods(workload.Namespace).List(ctx, metav1.ListOptions{})
		return err
	})
	if err != nil {
		return nil, err
	}
	var found []evictions.Finding
	for i := range list.Items {
		p := &list.Items[i]
		if p.DeletionTimestamp != nil {
			continue
		}
		r.report.Surviving++
		c := scheduled(p)
		say := func(rule, detail string) {
			found = append(found, evictions.Finding{Rule: rule, Pod: p.Name, Detail: detail})
		}
		switch {
		case p.Spec.NodeName != "":
			if c.Status == corev1.ConditionFalse {
				say(untrue, fmt.Sprintf("it is on %s, and PodScheduled is False: %s: %s", p.Spec.NodeName, c.Reason, c.Message))
			}
			continue
		case c.Status != corev1.ConditionFalse || c.Reason != corev1.PodReasonUnschedulable:
			say(noReason, fmt.Sprintf("it has no node, and PodScheduled is %q: %s: %s", c.Status, c.Reason, c.Message))
		case p.Status.NominatedNodeName != "":
			say(nominated, fmt.Sprintf("%s is set aside for it, and yet: %s", p.Status.NominatedNodeName, c.Message))
		}
		r.report.Waiting++
	}
	return found, nil
}

func scheduled(p *corev1.Pod) corev1.PodCondition {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled {
			return c
		}
	}
	return corev1.PodCondition{}
}

// check has bin/check judge the run.
func (r *chaos) check(ctx context.Context) (verdict, error) {
	cmd := r.spawner.Command("check", "--kubeconfig", r.cluster.kubeconfig, "--record", r.recording(), "--audit-log", r.cluster.auditLog(),
		"--scheduler-name", workload.Scheduler, "--pending-fit", "--output", "json")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var v verdict
	if err := r.spawner.Run(ctx, cmd); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			return v, fmt.Errorf("check: %w", err)
		}
		v.Exit = exit.ExitCode()
	}
	if err := json.Unmarshal(stdout.Bytes(), &v); err != nil {
		return v, fmt.Errorf("check: %w: %s%s", err, strings.TrimSpace(stderr.String()), strings.TrimSpace(stdout.String()))
	}
	return v, nil
}

// evictions judges whom the watchers evicted, by the audit log, and finds the longest
// time without a bind.
func (r *chaos) audit(ctx context.Context, from, to time.Time) (evictions.Verdict, error) {
	var v evictions.Verdict
	file, err := os.Open(r.cluster.auditLog())
	if err != nil {
		return v, err
	}
	defer file.Close()
	t, err := trace.Read(file)
	if err != nil {
		return v, fmt.Errorf("%s: %w", r.cluster.auditLog(), err)
	}
	r.report.Bound = len(t.Binds)
	r.report.Pause = r.pauseOf(trace.LongestPause(t.Binds, from, to))

	var events *corev1.EventList
	err = child.Poll(ctx, pollInterval, func(ctx context.Context) (err error) {
		events, err = r.cluster.client.CoreV1().Events(workload.Namespace).List(ctx, metav1.ListOptions{FieldSelector: "reason=Preempted"})
		return err
	})
	if err != nil {
		return v, fmt.Errorf("listing Events: %w", err)
	}
	run := evictions.Run{Evictions: t.Evictions}
	run.Pods, run.Budgets = r.tracker.known()
	for _, e := range events.Items {
		if e.Related != nil {
			run.Claims = append(run.Claims, evictions.Claim{Victim: e.InvolvedObject.Name, Preemptor: string(e.Related.UID)})
		}
	}
	return evictions.Judge(run), nil
}

// pauseOf adds what was broken meanwhile.
func (r *chaos) pauseOf(p trace.Pause) longPause {
	long := longPause{From: p.From, Seconds: p.Took.Seconds()}
	for _, b := range r.breaker.history() {
		if b.From.Before(p.From.Add(p.Took)) && b.To.After(p.From.Add(-pauseCause)) {
			long.Meanwhile = append(long.Meanwhile, fmt.Sprintf("%+.1f s %s", b.From.Sub(p.From).Seconds(), b.What))
		}
	}
	return long
}

// pauseCause is how long before a pause a fault may have been that explains it.
const pauseCause = 2 * time.Second
