package index_test

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
	"github.com/berth-scheduler/berth/proto/scenario"
)

// String is a history for people to read.
func (h *history) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "index.Config%+v\n", h.config)
	for i, s := range h.steps {
		fmt.Fprintf(&b, "step %d", i)
		if s.resync {
			b.WriteString(", on a snapshot made anew")
		}
		if s.undo {
			b.WriteString(", and back in the end")
		}
		b.WriteString("\n")
		printChanges(&b, s.changes)
		if s.ask != nil {
			fmt.Fprintf(&b, "  decide seed=%d candidates=%d", s.ask.GetSeed(), s.ask.GetCandidates())
			if s.ask.GetPreempt() {
				b.WriteString(" preempt")
			}
			if s.ask.GetExplanation() != 0 {
				b.WriteString(" explain")
			}
			if s.stopAfter >= 0 {
				fmt.Fprintf(&b, " stop=%d", s.stopAfter)
			}
			fmt.Fprintf(&b, " bind=%b", s.bind)
			if s.nominate {
				b.WriteString(" nominate")
			}
			b.WriteString("\n")
			for _, p := range s.ask.GetPods() {
				fmt.Fprintf(&b, "    profile=%s %s\n", p.GetSchedulerName(), recordText(p, scenario.FormatPod, func(text string) (*berthv1.Pod, error) {
					parsed, err := scenario.ParsePod(text)
					if err == nil {
						parsed.SchedulerName = p.GetSchedulerName()
					}
					return parsed, err
				}))
			}
		}
	}
	return b.String()
}

func printChanges(b *strings.Builder, changes *berthv1.Changes) {
	for _, removed := range [][]string{changes.GetRemovedNodes(), changes.GetRemovedPlacedPods(), changes.GetRemovedNamespaces()} {
		for _, key := range removed {
			fmt.Fprintf(b, "  remove %s\n", key)
		}
	}
	for _, key := range changes.GetRemovedDisruptionBudgets() {
		fmt.Fprintf(b, "  remove budget %s\n", budgetKey(key))
	}
	for _, n := range changes.GetNodes() {
		fmt.Fprintf(b, "  %s\n", recordText(n, scenario.FormatNode, scenario.ParseNode))
	}
	for _, q := range changes.GetPlacedPods() {
		fmt.Fprintf(b, "  %s\n", recordText(q, scenario.FormatPlacedPod, scenario.ParsePlacedPod))
	}
	for _, line := range strings.Split(scenario.FormatCluster(&berthv1.Snapshot{Namespaces: changes.GetNamespaces(), DisruptionBudgets: changes.GetDisruptionBudgets()}), "\n") {
		if line != "" {
			fmt.Fprintf(b, "  %s\n", line)
		}
	}
}

// recordText is a record as in a scenario, and all of it where a scenario does not have
// all of it.
func recordText[R proto.Message](r R, format func(R) string, parse func(string) (R, error)) string {
	text := format(r)
	if parsed, err := parse(text); err != nil || !proto.Equal(parsed, r) {
		text += "\n      in full: " + prototext.MarshalOptions{}.Format(r)
	}
	return text
}

func decisionText(d *berthv1.Decision) string {
	text := scenario.FormatDecision(d)
	for _, r := range d.GetRejection().GetRules() {
		text += fmt.Sprintf("  %s %q %d %t\n", r.GetRule(), r.GetText(), r.GetNodes(), r.GetEvictionCouldHelp())
	}
	if why := d.GetRejection().GetPreemption(); why != "" {
		text += "  preemption: " + why + "\n"
	}
	return text
}

func (v *violation) String() string {
	text := fmt.Sprintf("%s: not so in step %d", v.law, v.step)
	if v.who != "" {
		text += fmt.Sprintf(", pod %d, for %s", v.pod, v.who)
	}
	lines := func(text string) string { return "  " + strings.Join(slices.Collect(strings.Lines(text)), "  ") }
	if v.want != "" {
		text += "\nwant\n" + lines(v.want)
	}
	return text + "\ngot\n" + lines(v.got)
}
