package result

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berth-scheduler/berth/deploy/bench/internal/plot"
)

// A column of one of the report's tables.
type column struct {
	title string
	value func(s *Summary) string
}

// Of the programs that make up Berth, each has columns of its own.
const watcher, decider = "watcher", "decider"

// names are the first columns of every table.
var names = []column{
	{"workload", func(s *Summary) string { return s.Workload }},
	{"system", func(s *Summary) string { return s.System }},
}

var throughput = append(slices.Clip(names),
	column{"pods", func(s *Summary) string { return fmt.Sprint(s.Pods) }},
	column{"ready to last bind, pods/s", func(s *Summary) string { return spread(s.ReadyToLastBind, count) }},
	column{"first to last bind, pods/s", func(s *Summary) string { return spread(s.FirstToLastBind, count) }},
	column{"ready to last Event, pods/s", func(s *Summary) string { return spread(s.ReadyToLastEvent, count) }},
	column{"first to last: × kube-scheduler", func(s *Summary) string { return spread(s.OfStock, times) }},
	column{"× bare", func(s *Summary) string { return spread(s.OfBare, times) }},
	column{"last Event: × bare-events", func(s *Summary) string { return spread(s.OfBareEvents, times) }},
	column{"runs", func(s *Summary) string { return fmt.Sprintf("%d of %d", s.Counted, s.Runs) }},
)

var cost = append(slices.Clip(names),
	column{"scheduler, ms/pod", func(s *Summary) string { return spread(s.CPU, millis) }},
	column{"× kube-scheduler", func(s *Summary) string { return spread(s.CPUOfStock, times) }},
	column{"with its start, ms/pod", func(s *Summary) string { return spread(s.Life, millis) }},
	column{"× kube-scheduler", func(s *Summary) string { return spread(s.LifeOfStock, times) }},
	column{"watcher", func(s *Summary) string { return spread(s.Programs[watcher], millis) }},
	column{"decider", func(s *Summary) string { return spread(s.Programs[decider], millis) }},
	column{"kube-apiserver, ms/pod", func(s *Summary) string { return spread(s.APIServer, millis) }},
	column{"etcd, ms/pod", func(s *Summary) string { return spread(s.Etcd, millis) }},
	column{"peak memory, MiB", func(s *Summary) string { return spread(s.Peak, mebibytes) }},
	column{"× kube-scheduler", func(s *Summary) string { return spread(s.PeakOfStock, times) }},
	column{"watcher, MiB", func(s *Summary) string { return spread(s.Peaks[watcher], mebibytes) }},
	column{"decider, MiB", func(s *Summary) string { return spread(s.Peaks[decider], mebibytes) }},
)

var starts = append(slices.Clip(names),
	column{"placed pods", func(s *Summary) string { return fmt.Sprint(s.Placed) }},
	column{"waiting pods", func(s *Summary) string { return fmt.Sprint(s.Pods) }},
	column{"start to ready", func(s *Summary) string { return spread(s.StartToReady, latency) }},
	column{"start to first bind", func(s *Summary) string { return spread(s.StartToFirstBind, latency) }},
	column{"× kube-scheduler", func(s *Summary) string { return spread(s.StartOfStock, times) }},
	column{"start to last bind", func(s *Summary) string { return spread(s.StartToLastBind, latency) }},
	column{"CPU, s", func(s *Summary) string { return spread(s.total(s.Life), seconds) }},
	column{"× kube-scheduler", func(s *Summary) string { return spread(s.LifeOfStock, times) }},
	column{"watcher, s", func(s *Summary) string { return spread(s.total(s.Programs[watcher]), seconds) }},
	column{"decider, s", func(s *Summary) string { return spread(s.total(s.Programs[decider]), seconds) }},
	column{"peak memory, MiB", func(s *Summary) string { return spread(s.Peak, mebibytes) }},
	column{"× kube-scheduler", func(s *Summary) string { return spread(s.PeakOfStock, times) }},
	column{"watcher, MiB", func(s *Summary) string { return spread(s.Peaks[watcher], mebibytes) }},
	column{"decider, MiB", func(s *Summary) string { return spread(s.Peaks[decider], mebibytes) }},
	column{"runs", func(s *Summary) string { return fmt.Sprintf("%d of %d", s.Counted, s.Runs) }},
)

var latencies = append(slices.Clip(names),
	column{"created to bound, p50", func(s *Summary) string { return spread(s.CreateP50, latency) }},
	column{"p99", func(s *Summary) string { return spread(s.CreateP99, latency) }},
	column{"p50 × bare", func(s *Summary) string { return spread(s.P50OfBare, times) }},
	column{"p99 × bare", func(s *Summary) string { return spread(s.P99OfBare, times) }},
	column{"seen to bound, p50", func(s *Summary) string { return spread(s.SeenP50, latency) }},
	column{"p99", func(s *Summary) string { return spread(s.SeenP99, latency) }},
	column{"p50 × baseline", func(s *Summary) string { return spread(s.P50OfBaseline, times) }},
	column{"p99 × baseline", func(s *Summary) string { return spread(s.P99OfBaseline, times) }},
	column{"questions", func(s *Summary) string { return spread(s.Questions, count) }},
	column{"asked to answered, p50", func(s *Summary) string { return spread(s.AnswerP50, latency) }},
	column{"p99", func(s *Summary) string { return spread(s.AnswerP99, latency) }},
	column{"created to rejected, p50", func(s *Summary) string { return spread(s.RejectP50, latency) }},
	column{"p99", func(s *Summary) string { return spread(s.RejectP99, latency) }},
)

// Markdown is the report as text.
func Markdown(summaries []Summary) string {
	var b strings.Builder
	rounds, nodes := 0, 0
	for _, s := range summaries {
		rounds, nodes = max(rounds, s.Runs), max(nodes, s.Nodes)
	}
	fmt.Fprintf(&b, "%d nodes. Of several rounds the median, with the lowest and the highest behind it; rounds: %d.\n", nodes, rounds)
	restarts := where(summaries, (*Summary).restart)
	others := where(summaries, func(s *Summary) bool { return !s.restart() })
	for _, t := range []struct {
		title     string
		columns   []column
		summaries []Summary
	}{
		{"Throughput", throughput, where(summaries, (*Summary).burst)},
		{"CPU and memory", cost, others},
		{"Latency", latencies, others},
		{"Start", starts, restarts},
	} {
		if len(t.summaries) > 0 {
			table(&b, t.title, t.columns, t.summaries)
		}
	}
	problems(&b, summaries)
	return b.String()
}

// where returns those of summaries of which is says so.
func where(summaries []Summary, is func(*Summary) bool) []Summary {
	return slices.DeleteFunc(slices.Clone(summaries), func(s Summary) bool { return !is(&s) })
}

// table writes one table. Columns in which nothing was measured are left out.
func table(b *strings.Builder, title string, columns []column, summaries []Summary) {
	var cells [][]string // by column
	var titles []string
	for _, c := range columns {
		var values []string
		for i := range summaries {
			values = append(values, c.value(&summaries[i]))
		}
		if slices.ContainsFunc(values, func(v string) bool { return v != none }) {
			cells, titles = append(cells, values), append(titles, c.title)
		}
	}
	fmt.Fprintf(b, "\n### %s\n\n| %s |\n|", title, strings.Join(titles, " | "))
	for i := range titles {
		if i < len(names) {
			b.WriteString("---|")
		} else {
			b.WriteString("--:|")
		}
	}
	b.WriteByte('\n')
	for i := range summaries {
		b.WriteByte('|')
		for _, column := range cells {
			fmt.Fprintf(b, " %s |", column[i])
		}
		b.WriteByte('\n')
	}
}

// problems lists the runs that do not count.
func problems(b *strings.Builder, summaries []Summary) {
	heading := "\n### Runs that do not count\n\n"
	for _, s := range summaries {
		for _, p := range s.Problems {
			fmt.Fprintf(b, "%s- %s, %s: %s\n", heading, s.Workload, s.System, p)
			heading = ""
		}
	}
}

// spread prints a Stat, with its ends where they tell something.
func spread(s Stat, print func(float64) string) string {
	median, low, high := print(s.Median), print(s.Low), print(s.High)
	if low == high {
		return median
	}
	return fmt.Sprintf("%s (%s-%s)", median, low, high)
}

// times prints a ratio.
func times(v float64) string {
	if v == 0 {
		return none
	}
	return fmt.Sprintf("%.2f", v)
}

// A File is a picture of a report.
type File struct {
	Name string
	Data []byte
}

// Charts draws what the report's tables say. A picture of which nothing was
// measured is left out.
func Charts(summaries []Summary) ([]File, error) {
	bursts, trickles, restarts := where(summaries, (*Summary).burst), where(summaries, (*Summary).trickle), where(summaries, (*Summary).restart)
	others := where(summaries, func(s *Summary) bool { return !s.restart() })
	var files []File
	for _, c := range []struct {
		name, title, unit string
		summaries         []Summary
		value             func(s *Summary) Stat
		factor            float64
	}{
		{"throughput.svg", "Pods placed", "pods/s from the first to the last bind", bursts, func(s *Summary) Stat { return s.FirstToLastBind }, 1},
		{"events.svg", "Pods placed and told of", "pods/s from the scheduler's readiness to the last Event", bursts, func(s *Summary) Stat { return s.ReadyToLastEvent }, 1},
		{"cpu.svg", "CPU of the scheduler", "ms per pod, its start included", others, func(s *Summary) Stat { return s.Life }, 1},
		{"memory.svg", "Peak memory of the scheduler", "MiB", summaries, func(s *Summary) Stat { return s.Peak }, 1.0 / (1 << 20)},
		{"latency-p50.svg", "Median latency of one pod", "ms from its create request until a watch shows its node", trickles, func(s *Summary) Stat { return s.CreateP50 }, 1000},
		{"latency-p99.svg", "99th percentile of latency", "ms from its create request until a watch shows its node", trickles, func(s *Summary) Stat { return s.CreateP99 }, 1000},
		{"start.svg", "Until the first pod is bound", "s from the scheduler's start on a cluster full of pods", restarts, func(s *Summary) Stat { return s.StartToFirstBind }, 1},
	} {
		bars := plot.Bars{Title: c.title, Unit: c.unit}
		place := map[string]int{} // of systems
		for i := range c.summaries {
			s := &c.summaries[i]
			if _, known := place[s.System]; !known && c.value(s) != (Stat{}) {
				place[s.System] = len(place)
				bars.Systems = append(bars.Systems, s.System)
				bars.Colours = append(bars.Colours, slices.Index(Systems, s.System))
			}
		}
		for i := range c.summaries {
			s := &c.summaries[i]
			at, drawn := place[s.System]
			if !drawn {
				continue
			}
			if n := len(bars.Groups); n == 0 || bars.Groups[n-1].Name != s.Workload {
				bars.Groups = append(bars.Groups, plot.Group{Name: s.Workload, Values: make([]plot.Value, len(bars.Systems))})
			}
			v := c.value(s)
			drawing := plot.Value{Median: v.Median * c.factor}
			if v.Low != v.High {
				drawing.Low, drawing.High = v.Low*c.factor, v.High*c.factor
			}
			bars.Groups[len(bars.Groups)-1].Values[at] = drawing
		}
		if len(bars.Groups) == 0 {
			continue
		}
		data, err := bars.SVG()
		if err != nil {
			return nil, err
		}
		files = append(files, File{c.name, data})
	}
	return files, nil
}
