package process

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// table prints an answer for people: per pod what became of it, which pods to evict
// for it, and, where the answer is explained, what became of every node.
func table(request *berthv1.DecideRequest, response *berthv1.DecideResponse) ([]byte, error) {
	var out bytes.Buffer
	for i, d := range response.GetDecisions() {
		if i > 0 {
			out.WriteByte('\n')
		}
		fmt.Fprintf(&out, "%s: %s\n", podName(request.GetPods()[i]), verdict(d))
		if p := d.GetPreemption(); p != nil {
			fmt.Fprintf(&out, "  fits on %s without %s\n", p.GetNodeName(), victims(p))
		}
		if d.GetExplanation() == nil {
			continue
		}
		if err := nodeTable(&out, d.GetExplanation().GetNodes()); err != nil {
			return nil, err
		}
		if err := evictionTable(&out, d.GetExplanation().GetPreemptions()); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

func nodeTable(out io.Writer, nodes []*berthv1.NodeExplanation) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  NODE\tSCORE\tWHY")
	for _, n := range nodes {
		if n.GetRule() == "" {
			fmt.Fprintf(w, "  %s\t%d\t%s\n", n.GetNodeName(), n.GetTotal(), scores(n.GetScores()))
			continue
		}
		fmt.Fprintf(w, "  %s\t-\t%s: %s\n", n.GetNodeName(), n.GetRule(), strings.Join(n.GetReasons(), ", "))
	}
	return w.Flush()
}

// evictionTable prints nothing if preemption was not looked at.
func evictionTable(out io.Writer, preemptions []*berthv1.PreemptionExplanation) error {
	if len(preemptions) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  NODE\tEVICT")
	for _, p := range preemptions {
		evict := "no help: " + strings.Join(p.GetReasons(), ", ")
		if len(p.GetVictims()) > 0 {
			evict = victims(p)
		}
		fmt.Fprintf(w, "  %s\t%s\n", p.GetNodeName(), evict)
	}
	return w.Flush()
}

// victims prints the pods to evict.
func victims(p interface {
	GetVictims() []*berthv1.Victim
	GetBudgetViolations() int32
}) string {
	var names []string
	for _, v := range p.GetVictims() {
		names = append(names, podName(v))
	}
	text := strings.Join(names, ", ")
	if n := p.GetBudgetViolations(); n > 0 {
		text += fmt.Sprintf(" (%d beyond a disruption budget)", n)
	}
	return text
}

// podName is what people call the pod.
func podName(p interface {
	GetUid() string
	GetNamespace() string
	GetName() string
}) string {
	switch {
	case p.GetName() == "":
		return p.GetUid()
	case p.GetNamespace() == "":
		return p.GetName()
	}
	return p.GetNamespace() + "/" + p.GetName()
}

func verdict(d *berthv1.Decision) string {
	switch d.GetOutcome() {
	case berthv1.Outcome_OUTCOME_PLACED:
		var names []string
		for _, c := range d.GetCandidates() {
			names = append(names, c.GetNodeName())
		}
		return "placed on " + strings.Join(names, ", then ")
	case berthv1.Outcome_OUTCOME_REJECTED:
		return "rejected: " + d.GetRejection().GetMessage()
	case berthv1.Outcome_OUTCOME_INVALID:
		return fmt.Sprintf("invalid: %s: %s", d.GetRefusal().GetField(), d.GetRefusal().GetMessage())
	case berthv1.Outcome_OUTCOME_UNSUPPORTED:
		return "unsupported: " + d.GetRefusal().GetMessage()
	}
	return "not decided"
}

// scores prints what a total is made of: normalised score times weight.
func scores(parts []*berthv1.Score) string {
	var printed []string
	for _, s := range parts {
		printed = append(printed, fmt.Sprintf("%s %d*%d", s.GetRule(), s.GetNormalized(), s.GetWeight()))
	}
	return strings.Join(printed, " + ")
}
