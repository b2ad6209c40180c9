package signal

import (
	"encoding/json"
	"fmt"
	"time"
)

// Usage is what a node used, in thousandths of cores and bytes, over some seconds
// before At.
type Usage struct {
	CPU, Memory int64
	At          time.Time
}

// ReadNodeMetrics reads a NodeMetricsList of metrics.k8s.io/v1beta1 in JSON: what each
// node uses by its name, and by the same name why an entry cannot be used. Its entries are read one by one, so that a
// bad one costs no other.
func ReadNodeMetrics(raw []byte) (map[string]Usage, map[string]error, error) {
	var list struct {
		Kind  string
		Items []json.RawMessage
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, nil, fmt.Errorf("the metrics API's answer is not a NodeMetricsList: %w", err)
	}
	if list.Kind != "NodeMetricsList" {
		return nil, nil, fmt.Errorf("the metrics API's answer is of kind %q, want NodeMetricsList", list.Kind)
	}
	all, bad := map[string]Usage{}, map[string]error{}
	for i, item := range list.Items {
		var named struct{ Metadata struct{ Name string } }
		if err := json.Unmarshal(item, &named); err != nil || named.Metadata.Name == "" {
			return nil, nil, fmt.Errorf("the metrics API's answer: items[%d] has no metadata.name", i)
		}
		used, err := readUsage(item)
		if err != nil {
			bad[named.Metadata.Name] = err
			continue
		}
		all[named.Metadata.Name] = used
	}
	return all, bad, nil
}

func readUsage(item []byte) (Usage, error) {
	var entry struct {
		Timestamp time.Time
		Usage     map[string]string // text, since a quantity that cannot be read names no field
	}
	if err := json.Unmarshal(item, &entry); err != nil {
		return Usage{}, err
	}
	out := Usage{At: entry.Timestamp}
	if out.At.IsZero() {
		return Usage{}, fmt.Errorf("timestamp: required, since a value without one would never be too old")
	}
	for _, one := range []struct {
		name string
		into *int64
	}{{"cpu", &out.CPU}, {"memory", &out.Memory}} {
		value, err := Parse(entry.Usage[one.name])
		if err != nil {
			return Usage{}, fmt.Errorf("usage.%s: %w", one.name, err)
		}
		*one.into = value.Milli
	}
	return out, nil
}
