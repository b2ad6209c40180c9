package kube

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-scheduler/berth/watcher/internal/driver"
)

// Nominate writes for which node the pod is nominated, if it still has the UID that it is
// known by.
func (c *Client) Nominate(ctx context.Context, n driver.Nominate) error {
	c.precedence.begin()
	defer c.precedence.end()
	var node any // null removes it
	if n.Node != "" {
		node = n.Node
	}
	return c.patchStatus(ctx, n.Pod, map[string]any{"nominatedNodeName": node})
}

// Evict marks the victim with the condition DisruptionTarget, as kube-scheduler does, and
// deletes it with its own grace period, if it still has the UID that it is known by. The
// message is the API server's; empty if the victim is being deleted or gone. ctx must
// have a deadline no longer than LeaseConfig.BindTimeout.
func (c *Client) Evict(ctx context.Context, e driver.Evict) (driver.EvictOutcome, string) {
	c.precedence.begin()
	defer c.precedence.end()
	err := c.patchStatus(ctx, e.Victim, map[string]any{"conditions": []corev1.PodCondition{{
		Type:               corev1.DisruptionTarget,
		Status:             corev1.ConditionTrue,
		LastTransitionTime: metav1.Now(),
		Reason:             corev1.PodReasonPreemptionByScheduler,
		Message:            e.By.Spec.SchedulerName + ": preempting to accommodate a higher priority pod",
	}}})
	if err == nil {
		err = c.main.CoreV1().Pods(e.Victim.Namespace).Delete(ctx, e.Victim.Name, *metav1.NewPreconditionDeleteOptions(string(e.Victim.UID)))
	}
	switch outcome := evictOutcome(err); outcome {
	case driver.EvictOK, driver.EvictGone:
		return outcome, ""
	default:
		return outcome, err.Error()
	}
}

func (c *Client) patchStatus(ctx context.Context, pod *corev1.Pod, status map[string]any) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
	if err != nil {
		return err
	}
	_, err = c.main.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// evictOutcome sorts errors by what is certain about the victim, as bindOutcome does. With
// its UID as the only precondition a conflict means that another pod has its name.
func evictOutcome(err error) driver.EvictOutcome {
	if err == nil {
		return driver.EvictOK
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) || apierrors.IsUnexpectedServerError(err) {
		return driver.EvictUnknown
	}
	switch code := status.Status().Code; {
	case code == http.StatusNotFound, code == http.StatusConflict:
		return driver.EvictGone
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests:
		return driver.EvictUnknown
	case code >= 400 && code < 500:
		return driver.EvictRefused
	default:
		return driver.EvictUnknown
	}
}
