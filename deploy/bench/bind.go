package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/berth-scheduler/berth/deploy/bench/internal/workload"
)

// A binder writes what a scheduler has to write about a pod and nothing else,
// for nodes that it need not look for: the floor of what the API server makes
// possible.
type binder struct {
	client kubernetes.Interface
	events bool // also write an Event
}

// place binds the pod created to the node that the workload names, or writes the
// condition of a pod that fits nowhere.
func (b binder) place(ctx context.Context, p workload.Pod, created *corev1.Pod) error {
	e := &eventsv1.Event{Reason: "Scheduled", Type: corev1.EventTypeNormal, Action: "Binding", Note: fmt.Sprintf("Successfully assigned %s/%s to %s", created.Namespace, created.Name, p.Node)}
	var err error
	if p.Fits() {
		err = b.bind(ctx, created, p.Node)
	} else {
		const message = "no node has room for it"
		e.Reason, e.Type, e.Action, e.Note = "FailedScheduling", corev1.EventTypeWarning, "Scheduling", message
		err = b.reject(ctx, created, message)
	}
	if err == nil && b.events {
		err = b.tell(ctx, created, e)
	}
	if err != nil {
		return fmt.Errorf("pod %s: %w", created.Name, err)
	}
	return nil
}

func (b binder) bind(ctx context.Context, p *corev1.Pod, node string) error {
	return b.client.CoreV1().Pods(p.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, UID: p.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}, metav1.CreateOptions{})
}

// reject writes the condition as kube-scheduler does.
func (b binder) reject(ctx context.Context, p *corev1.Pod, message string) error {
	patch, err := json.Marshal(map[string]any{"status": corev1.PodStatus{Conditions: []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: message,
		LastTransitionTime: metav1.Now(),
	}}}})
	if err != nil {
		return err
	}
	_, err = b.client.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// tell completes and creates the Event.
func (b binder) tell(ctx context.Context, p *corev1.Pod, e *eventsv1.Event) error {
	e.ObjectMeta = metav1.ObjectMeta{Namespace: p.Namespace, Name: fmt.Sprintf("%s.%x", p.Name, time.Now().UnixNano())}
	e.EventTime = metav1.NowMicro()
	e.ReportingController, e.ReportingInstance = "berth-bench", "berth-bench"
	e.Regarding = corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion}
	_, err := b.client.EventsV1().Events(p.Namespace).Create(ctx, e, metav1.CreateOptions{})
	return err
}
