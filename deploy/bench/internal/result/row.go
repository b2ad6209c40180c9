package result

import (
	"fmt"
	"strings"
)

// rowFormat aligns the columns of the rows that are printed while a benchmark
// runs.
const rowFormat = "%-14s %-15s %5s %8s %8s %8s %9s %9s %8s %8s %8s %8s %6s  %s"

// Header is the line above rows.
func Header() string {
	return strings.TrimRight(fmt.Sprintf(rowFormat, "workload", "system", "round",
		"ready/s", "first/s", "event/s", "p50", "p99", "cpu/pod", "+start", "api/pod", "etcd/pod", "MiB", ""), " ")
}

// Row is r as one line, with its problems at the end.
func Row(r Result) string {
	cpu := r.Scheduler()
	note := strings.Join(r.Problems, "; ")
	if note != "" {
		note = "DOES NOT COUNT: " + note
	} else if r.Placed > 0 {
		note = fmt.Sprintf("from its start: ready %s, first bind %s, last bind %s", latency(r.StartToReady), latency(r.StartToFirstBind), latency(r.StartToLastBind))
	} else if r.Questions > 0 {
		note = fmt.Sprintf("%d questions answered: p50 %s, p99 %s", r.Questions, latency(r.Answer.P50), latency(r.Answer.P99))
	} else if r.Rejected > 0 {
		note = fmt.Sprintf("rejected: p50 %s, p99 %s", latency(r.CreateToRejected.P50), latency(r.CreateToRejected.P99))
	}
	perSecond := func(seconds float64) string {
		if r.Rate > 0 || r.Placed > 0 {
			return none
		}
		return count(r.PerSecond(seconds))
	}
	return strings.TrimRight(fmt.Sprintf(rowFormat, r.Workload, r.System, fmt.Sprint(r.Round),
		perSecond(r.ReadyToLastBind), perSecond(r.FirstToLastBind), perSecond(r.ReadyToLastEvent),
		latency(r.CreateToBound.P50), latency(r.CreateToBound.P99),
		millis(r.PerPod(cpu.Ready)), millis(r.PerPod(cpu.Life)), millis(r.PerPod(r.APIServer)), millis(r.PerPod(r.Etcd)),
		mebibytes(float64(cpu.Peak)), note), " ")
}

// What is not there is a dash, since 0 would be a measurement.
const none = "-"

// count prints a number of pods.
func count(v float64) string {
	if v == 0 {
		return none
	}
	return fmt.Sprintf("%.0f", v)
}

// latency prints seconds in the unit that suits them.
func latency(seconds float64) string {
	switch {
	case seconds == 0:
		return none
	case seconds < 0.1:
		return fmt.Sprintf("%.1f ms", 1000*seconds)
	case seconds < 1:
		return fmt.Sprintf("%.0f ms", 1000*seconds)
	}
	return fmt.Sprintf("%.1f s", seconds)
}

// seconds prints seconds of CPU.
func seconds(v float64) string {
	if v == 0 {
		return none
	}
	return fmt.Sprintf("%.2f", v)
}

// millis prints milliseconds.
func millis(v float64) string {
	if v == 0 {
		return none
	}
	return fmt.Sprintf("%.2f", v)
}

// mebibytes prints bytes.
func mebibytes(bytes float64) string {
	if bytes == 0 {
		return none
	}
	return fmt.Sprintf("%.0f", bytes/(1<<20))
}
