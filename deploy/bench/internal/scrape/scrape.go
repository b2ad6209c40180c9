// Package scrape is what a process's /metrics says.
package scrape

import (
	"fmt"
	"strconv"
	"strings"
)

// Metrics are values by name and labels as Prometheus' text format writes them, such as
// `berth_watcher_conflicts_total{result="next"}`.
type Metrics map[string]float64

// Parse reads the text format. Timestamps are ignored.
func Parse(text string) (Metrics, error) {
	m := Metrics{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		// A label's value may have spaces, and a brace that is no end only before it.
		end := strings.LastIndexByte(line, '}') + 1
		if end == 0 {
			end = max(0, strings.IndexByte(line, ' '))
		}
		fields := strings.Fields(line[end:])
		if end == 0 || len(fields) == 0 || len(fields) > 2 {
			return nil, fmt.Errorf("line %d: %q is no metric", n, line)
		}
		value, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			return nil, fmt.Errorf("line %d: %q is no number", n, fields[0])
		}
		m[line[:end]] = value
	}
	return m, nil
}

// Sum adds up the values of a name whose labels have all of the pairs, each as
// `label="value"`. It is 0 where there is none: a counter appears when it first counts.
func (m Metrics) Sum(name string, pairs ...string) float64 {
	sum := 0.0
	m.each(name, pairs, func(v float64) { sum += v })
	return sum
}

// Count is how many values of a name there are.
func (m Metrics) Count(name string, pairs ...string) int {
	n := 0
	m.each(name, pairs, func(float64) { n++ })
	return n
}

func (m Metrics) each(name string, pairs []string, do func(float64)) {
	for key, value := range m {
		of, labels, _ := strings.Cut(strings.TrimSuffix(key, "}"), "{")
		all := of == name
		for _, pair := range pairs {
			all = all && strings.Contains(","+labels+",", ","+pair+",")
		}
		if all {
			do(value)
		}
	}
}

// Since is what a counter has counted from before to m.
func (m Metrics) Since(before Metrics, name string, pairs ...string) int {
	return int(m.Sum(name, pairs...) - before.Sum(name, pairs...))
}
