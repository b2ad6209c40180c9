package guard

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const openNode = `
metadata: {name: n1, labels: {zone: a}}
status: {allocatable: {cpu: "2", memory: 4Gi, pods: "3", example.com/gpu: "1"}}`

func TestCheck(t *testing.T) {
	tests := []struct {
		name, pod, node string
		onNode          []string
		want            string // the start of "reason: message"; empty for none
	}{
		{name: "an empty pod", pod: `{}`},
		{name: "its own node", pod: `spec: {nodeName: n1}`},
		{name: "another node", pod: `spec: {nodeName: n2}`, want: "node-name: "},
		{name: "cordoned", node: `spec: {unschedulable: true}`, want: "cordoned: "},
		{name: "cordoned, tolerated", node: `spec: {unschedulable: true}`,
			pod: `spec: {tolerations: [{key: node.kubernetes.io/unschedulable, operator: Exists}]}`},
		{name: "cordoned, taint tolerated by effect alone", node: `spec: {unschedulable: true, taints: [{key: node.kubernetes.io/unschedulable, effect: NoSchedule}]}`,
			pod: `spec: {tolerations: [{effect: NoSchedule, operator: Exists}]}`},
		{name: "NoSchedule", node: `spec: {taints: [{key: k, value: v, effect: NoSchedule}]}`, want: "taint: the pod does not tolerate the node's taint k=v:NoSchedule"},
		{name: "NoExecute", node: `spec: {taints: [{key: k, effect: NoExecute}]}`, want: "taint: "},
		{name: "the second taint", node: `spec: {taints: [{key: k, effect: NoExecute}, {key: l, effect: NoSchedule}]}`,
			pod: `spec: {tolerations: [{key: k, operator: Exists}]}`, want: "taint: the pod does not tolerate the node's taint l:NoSchedule"},
		{name: "PreferNoSchedule", node: `spec: {taints: [{key: k, effect: PreferNoSchedule}]}`},
		{name: "tolerated for another value", node: `spec: {taints: [{key: k, value: v, effect: NoSchedule}]}`,
			pod: `spec: {tolerations: [{key: k, value: w}]}`, want: "taint: "},
		{name: "tolerated by comparison", node: `spec: {taints: [{key: k, value: "5", effect: NoSchedule}]}`,
			pod: `spec: {tolerations: [{key: k, operator: Lt, value: "6"}]}`},
		{name: "selector", pod: `spec: {nodeSelector: {zone: b}}`, want: "affinity: "},
		{name: "affinity", pod: `spec: {affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: NotIn, values: [a]}]}]}}}}`, want: "affinity: "},
		{name: "affinity to another name", pod: `spec: {affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [n2]}]}]}}}}`, want: "affinity: "},
		{name: "a bad term beside a good one", pod: `spec: {affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: Like}]}, {matchExpressions: [{key: zone, operator: Exists}]}]}}}}`},
		{name: "port", pod: port("80"), onNode: []string{port("80")}, want: "ports: port TCP 0.0.0.0:80 is taken"},
		{name: "port on one address", pod: port("80, hostIP: 10.0.0.1"), onNode: []string{port("80")}, want: "ports: "},
		{name: "port held on one address", pod: port("80"), onNode: []string{port("80, hostIP: 10.0.0.1")}, want: "ports: "},
		{name: "port on two addresses", pod: port("80, hostIP: 10.0.0.1"), onNode: []string{port("80, hostIP: 10.0.0.2")}},
		{name: "port of another protocol", pod: port("80, protocol: UDP"), onNode: []string{port("80")}},
		{name: "another port", pod: port("81"), onNode: []string{port("80")}},
		{name: "more than an int64 holds", pod: requests("memory: 10E"), want: "resources: the pod wants 9223372036854775807 of memory"},
		{name: "cpu", pod: requests("cpu: 1500m"), onNode: []string{requests("cpu: 501m")}, want: "resources: the pod wants 1500 of cpu; the node has 2000, of which 501 is taken"},
		{name: "cpu to the last", pod: requests("cpu: 1500m"), onNode: []string{requests("cpu: 500m")}},
		{name: "a device", pod: requests("example.com/gpu: 1"), onNode: []string{requests("example.com/gpu: 1")}, want: "resources: the pod wants 1 of example.com/gpu"},
		{name: "a device that the node does not have", pod: requests("example.com/fpga: 1"), want: "resources: "},
		{name: "devices by claim", pod: requests("deviceclass.resource.kubernetes.io/gpu: 1")},
		{name: "memory that nobody asks for", pod: requests("cpu: 1m"), onNode: []string{requests("memory: 5Gi")}},
		{name: "a name that is not counted", pod: requests("storage: 5")},
		{name: "the last place", onNode: []string{`{}`, `{}`}},
		{name: "no place", onNode: []string{`{}`, `{}`, `{}`}, want: "resources: the node has 3 pods and takes 3"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var node corev1.Node
			parse(t, openNode, &node)
			parse(t, test.node, &node)
			var usage Usage
			for _, text := range test.onNode {
				var p corev1.Pod
				parse(t, text, &p)
				usage.Add(FootprintOf(&p))
			}
			var pod corev1.Pod
			parse(t, test.pod, &pod)
			got := ""
			if r := Check(&pod, &node, usage); r != nil {
				got = r.Reason + ": " + r.Message
			}
			if (got == "") != (test.want == "") || !strings.HasPrefix(got, test.want) {
				t.Errorf("refusal %q, want %q", got, test.want)
			}
		})
	}
}

func TestUsageForgetsWhatWasRemoved(t *testing.T) {
	var first, second corev1.Pod
	parse(t, port("80"), &first)
	parse(t, port("80"), &second)
	parse(t, requests("cpu: 1"), &second)
	var u Usage
	u.Add(FootprintOf(&first))
	u.Add(FootprintOf(&second))
	u.Remove(FootprintOf(&second))
	if !u.taken(hostPorts(&first)[0]) {
		t.Error("the port is free while one of its two holders is left")
	}
	u.Remove(FootprintOf(&first))
	if u.Pods != 0 || len(u.Requested) != 0 || len(u.ports) != 0 {
		t.Errorf("an empty node has %+v", u)
	}
	if !reflect.DeepEqual(u.Requested, map[string]int64{}) && u.Requested != nil {
		t.Errorf("requested is %v", u.Requested)
	}
}

func port(number string) string {
	return fmt.Sprintf("spec: {containers: [{name: c, ports: [{containerPort: 1, hostPort: %s}]}]}", number)
}

func requests(list string) string {
	return fmt.Sprintf("spec: {containers: [{name: c, resources: {requests: {%s}}}]}", list)
}

func parse(t testing.TB, text string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}
