package outcome

import (
	"cmp"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/berth-scheduler/berth/deploy/demo/internal/workload"
)

// A Summary is a run in figures.
type Summary struct {
	Counts
	// Pending has one entry per reason, the most frequent first.
	Pending []Reason
	// SinceCreate is from the first create request to the last bind, SinceBind
	// from the first bind to the last. Zero if nothing was bound.
	SinceCreate, SinceBind time.Duration
	// P50 and P99 are percentiles, over the bound pods, of the time from sending
	// the create request to seeing the pod with a node.
	P50, P99 time.Duration
	// Use has cpu, memory and, where any node has them, GPUs.
	Use []Use
}

// A Reason is why Pods many pods are pending.
type Reason struct {
	Text string
	Pods int
}

// A Use is how much of a resource the bound pods of the workload request.
type Use struct {
	Name                   corev1.ResourceName
	Requested, Allocatable resource.Quantity
}

// Summary sums up what became of the pods on nodes.
func (t *Tracker) Summary(nodes []*corev1.Node) Summary {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Summary{Counts: t.counts}
	var latencies []time.Duration
	var created, firstBind, lastBind time.Time
	reasons := map[string]int{}
	requested := corev1.ResourceList{}
	for _, p := range t.pods {
		if !p.sent.IsZero() && (created.IsZero() || p.sent.Before(created)) {
			created = p.sent
		}
		if !p.bound.IsZero() {
			latencies = append(latencies, p.bound.Sub(p.sent))
			if firstBind.IsZero() || p.bound.Before(firstBind) {
				firstBind = p.bound
			}
			if p.bound.After(lastBind) {
				lastBind = p.bound
			}
		}
		switch {
		case p.last == nil || p.gone:
		case p.last.Spec.NodeName == "":
			reasons[reason(p.last)]++
		default:
			add(requested, p.Object.Spec.Containers[0].Resources.Requests)
		}
	}
	for text, n := range reasons {
		s.Pending = append(s.Pending, Reason{text, n})
	}
	slices.SortFunc(s.Pending, func(a, b Reason) int {
		return cmp.Or(cmp.Compare(b.Pods, a.Pods), cmp.Compare(a.Text, b.Text))
	})
	if len(latencies) > 0 {
		s.SinceCreate, s.SinceBind = lastBind.Sub(created), lastBind.Sub(firstBind)
		slices.Sort(latencies)
		s.P50, s.P99 = percentile(latencies, 50), percentile(latencies, 99)
	}
	allocatable := corev1.ResourceList{}
	for _, n := range nodes {
		add(allocatable, n.Status.Allocatable)
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, workload.GPU} {
		if q := allocatable[name]; !q.IsZero() {
			s.Use = append(s.Use, Use{name, requested[name], q})
		}
	}
	return s
}

// add adds list to total.
func add(total, list corev1.ResourceList) {
	for name, q := range list {
		sum := total[name]
		sum.Add(q)
		total[name] = sum
	}
}

// percentile is the smallest of sorted that at least p percent do not exceed.
// sorted must not be empty.
func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

var (
	available = regexp.MustCompile(`^0/\d+ nodes are available: `)
	count     = regexp.MustCompile(`^\d+ `)
)

// reason is why p is pending: its condition's reason and what the message says,
// without the numbers of nodes, so that like pods count together.
func reason(p *corev1.Pod) string {
	c := condition(p)
	if c == nil {
		return "no PodScheduled condition yet"
	}
	prefix := available.FindString(c.Message)
	if prefix == "" {
		return c.Reason + ": " + c.Message
	}
	sentence, _, _ := strings.Cut(strings.TrimPrefix(c.Message, prefix), ". ") // what follows is about preemption
	parts := strings.Split(strings.TrimSuffix(sentence, "."), ", ")
	for i, part := range parts {
		parts[i] = strings.TrimPrefix(part, count.FindString(part))
	}
	slices.Sort(parts)
	return c.Reason + ": " + strings.Join(parts, ", ")
}

// maxReasons is how many reasons a printed summary names.
const maxReasons = 10

// Print writes the summary for people.
func (s Summary) Print(w io.Writer) {
	fmt.Fprintf(w, "placed       %d of %d pods, %d Running\n", s.Bound, s.Total, s.Running)
	fmt.Fprintf(w, "pending      %d\n", s.Created-s.Bound)
	rest := 0
	for i, r := range s.Pending {
		if i >= maxReasons {
			rest += r.Pods
			continue
		}
		fmt.Fprintf(w, "  %8d   %s\n", r.Pods, r.Text)
	}
	if rest > 0 {
		fmt.Fprintf(w, "  %8d   for %d other reasons\n", rest, len(s.Pending)-maxReasons)
	}
	if s.Created < s.Total {
		fmt.Fprintf(w, "missing      %d pods do not exist\n", s.Total-s.Created)
	}
	if s.Bound > 0 {
		fmt.Fprintf(w, "speed        %s pods/s from the first creation to the last bind (%s), %s pods/s from the first bind (%s)\n",
			rate(s.Bound, s.SinceCreate), seconds(s.SinceCreate), rate(s.Bound, s.SinceBind), seconds(s.SinceBind))
		fmt.Fprintf(w, "latency      p50 %s, p99 %s from sending the create request to seeing the pod bound\n", seconds(s.P50), seconds(s.P99))
	}
	var uses []string
	for _, u := range s.Use {
		uses = append(uses, fmt.Sprintf("%s %.0f%%", u.Name, 100*u.Requested.AsApproximateFloat64()/u.Allocatable.AsApproximateFloat64()))
	}
	if len(uses) > 0 {
		fmt.Fprintf(w, "utilisation  %s of what the nodes offer is requested by these pods\n", strings.Join(uses, ", "))
	}
}

func rate(n int, d time.Duration) string {
	if d <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", float64(n)/d.Seconds())
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f s", d.Seconds()) }

// maxMissing is how many pods a printed table names.
const maxMissing = 20

// PrintMissing writes the table of pods that are not as they should be. Long
// texts are cut.
func PrintMissing(w io.Writer, missing []Missing) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintf(t, "POD\tSTATE\tEXPECTED\tPODSCHEDULED CONDITION\n")
	for i, m := range missing {
		if i == maxMissing {
			break
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", m.Pod, m.State, shorten(m.Expected), shorten(m.Condition))
	}
	t.Flush() // w reports its own errors
	if more := len(missing) - maxMissing; more > 0 {
		fmt.Fprintf(w, "... and %d more\n", more)
	}
}

// maxText is how many characters of a text fit a table's column.
const maxText = 110

func shorten(s string) string {
	if runes := []rune(s); len(runes) > maxText {
		return string(runes[:maxText-3]) + "..."
	}
	return s
}
