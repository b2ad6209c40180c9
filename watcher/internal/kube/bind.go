package kube

import (
	"context"
	"errors"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-scheduler/berth/watcher/internal/driver"
)

// Bind binds the pod, if it still has the UID that it is known by. The message is
// the API server's; empty if the pod was bound. ctx must have a deadline no longer
// than LeaseConfig.BindTimeout.
func (c *Client) Bind(ctx context.Context, b driver.Bind) (driver.BindOutcome, string) {
	c.precedence.begin()
	defer c.precedence.end()
	err := c.main.CoreV1().Pods(b.Pod.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.Pod.Namespace, Name: b.Pod.Name, UID: b.Pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: b.Node},
	}, metav1.CreateOptions{})
	if err == nil {
		return driver.BindOK, ""
	}
	return bindOutcome(err), err.Error()
}

// bindOutcome sorts errors by what is certain about the pod. The client has
// retried 429 by itself; one that is left over was never carried out, but a proxy
// may have made it up, so it counts as unknown like everything that is not a
// plain no. So does an answer that is not the API server's own: the 404 of a load
// balancer is not that of a pod, and a pod that is taken for gone is lost.
func bindOutcome(err error) driver.BindOutcome {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || apierrors.IsUnexpectedServerError(err) {
		return driver.BindUnknown
	}
	switch code := status.Status().Code; {
	case code == http.StatusNotFound:
		return driver.BindGone
	case code == http.StatusConflict:
		return driver.BindConflict
	case code == http.StatusRequestTimeout, code == http.StatusTooManyRequests:
		return driver.BindUnknown
	case code >= 400 && code < 500:
		return driver.BindRefused
	default:
		return driver.BindUnknown
	}
}

// Read reads the pod by quorum. It is nil if no pod of that UID exists.
func (c *Client) Read(ctx context.Context, r driver.Read) (*corev1.Pod, error) {
	// Without a resourceVersion the answer is no older than the request.
	pod, err := c.main.CoreV1().Pods(r.Namespace).Get(ctx, r.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err) && !apierrors.IsUnexpectedServerError(err):
		return nil, nil
	case err != nil:
		return nil, err
	case pod.UID != r.UID:
		return nil, nil
	}
	return pod, nil
}
