package signal

import (
	"strings"
	"testing"
)

const nodeMetricsList = `{"kind":"NodeMetricsList","apiVersion":"metrics.k8s.io/v1beta1","metadata":{},"items":[
	{"metadata":{"name":"a"},"timestamp":"2026-01-31T12:00:00Z","window":"20s","usage":{"cpu":"1500000001n","memory":"2097152Ki"}},
	{"metadata":{"name":"b"},"timestamp":"2026-01-31T12:00:00Z","usage":{"cpu":"much","memory":"1"}},
	{"metadata":{"name":"c"},"usage":{"cpu":"1","memory":"1"}},
	{"metadata":{"name":"d"},"timestamp":"2026-01-31T12:00:00Z","usage":{"cpu":"1"}},
	{"metadata":{"name":"e"},"timestamp":"yesterday"}]}`

func TestReadNodeMetrics(t *testing.T) {
	all, bad, err := ReadNodeMetrics([]byte(nodeMetricsList))
	if err != nil {
		t.Fatal(err)
	}
	if want := (Usage{1501, 2 << 30 * 1000, noon}); len(all) != 1 || all["a"].CPU != want.CPU || all["a"].Memory != want.Memory || !all["a"].At.Equal(want.At) {
		t.Errorf("read %v, want %v of a", all, want)
	}
	for name, want := range map[string]string{"b": `usage.cpu: "much" is not a number`, "c": "timestamp: required", "d": `usage.memory: "" is not a number`, "e": "yesterday"} {
		if got := bad[name]; got == nil || !strings.Contains(got.Error(), want) {
			t.Errorf("%s: %v, want %s", name, got, want)
		}
	}
	for raw, want := range map[string]string{
		"<html>": "not a NodeMetricsList", `{"kind":"Status"}`: `of kind "Status"`, `{"kind":"NodeMetricsList","items":[{}]}`: "items[0] has no metadata.name",
	} {
		if _, _, err := ReadNodeMetrics([]byte(raw)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", raw, err, want)
		}
	}
}

// FuzzReadNodeMetrics: whatever the metrics API says is read or refused, and each of
// its nodes is one or the other.
func FuzzReadNodeMetrics(f *testing.F) {
	f.Add([]byte(nodeMetricsList))
	f.Fuzz(func(t *testing.T, raw []byte) {
		all, bad, err := ReadNodeMetrics(raw)
		if err != nil && (len(all) > 0 || len(bad) > 0) {
			t.Errorf("%v, and read %v, %v", err, all, bad)
		}
		for name, used := range all {
			if used.At.IsZero() {
				t.Errorf("%q: %v has no time", name, used)
			}
		}
	})
}
