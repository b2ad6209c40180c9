package scenario

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// FormatCluster prints nodes, placed pods, namespaces and budgets as ParseCluster
// reads them.
func FormatCluster(s *berthv1.Snapshot) string {
	var out strings.Builder
	for _, n := range s.GetNodes() {
		out.WriteString(FormatNode(n) + "\n")
	}
	for _, p := range s.GetPlacedPods() {
		out.WriteString(FormatPlacedPod(p) + "\n")
	}
	for _, ns := range s.GetNamespaces() {
		out.WriteString(formatNamespace(ns) + "\n")
	}
	for _, b := range s.GetDisruptionBudgets() {
		out.WriteString(formatBudget(b) + "\n")
	}
	return out.String()
}

// FormatNode prints a node as ParseNode reads it.
func FormatNode(n *berthv1.Node) string {
	l := newLine(n.GetName())
	l.add("uid", n.GetUid())
	l.labels(n.GetLabels())
	for _, name := range slices.Sorted(maps.Keys(n.GetAllocatable())) {
		if name != "pods" || n.GetAllocatable()[name] != defaultPods {
			l.word(name, formatQuantity(name, n.GetAllocatable()[name]))
		}
	}
	if _, given := n.GetAllocatable()["pods"]; !given {
		l.word("pods", "0")
	}
	for _, t := range n.GetTaints() {
		l.word("taint", withValue(t.GetKey(), t.GetValue())+":"+effects.format(t.GetEffect()))
	}
	l.flag("unschedulable", n.GetUnschedulable())
	for _, c := range n.GetConditions() {
		l.word("condition", c.GetType()+":"+statuses.format(c.GetStatus()))
	}
	for _, name := range slices.Sorted(maps.Keys(n.GetImages())) {
		l.word("image:"+name, formatQuantity("image", n.GetImages()[name]))
	}
	l.list("feature", n.GetDeclaredFeatures())
	for _, name := range slices.Sorted(maps.Keys(n.GetSignals())) {
		l.word("signal:"+name, formatMilli(n.GetSignals()[name]))
	}
	l.list("constraint", n.GetConstraints())
	return l.String()
}

func formatNamespace(ns *berthv1.Namespace) string {
	l := newLine("namespace " + ns.GetName())
	l.labels(ns.GetLabels())
	return l.String()
}

func formatBudget(b *berthv1.DisruptionBudget) string {
	name := b.GetName()
	if b.GetNamespace() != "" || strings.Contains(name, "/") {
		name = b.GetNamespace() + "/" + name
	}
	l := newLine("budget " + name)
	if b.GetSelector() != nil {
		l.word("selector", formatLabelSelector(b.GetSelector()))
	}
	if b.GetDisruptionsAllowed() != 0 {
		l.word("allowed", fmt.Sprint(b.GetDisruptionsAllowed()))
	}
	if len(b.GetDisruptedPods()) > 0 {
		l.word("disrupted", strings.Join(b.GetDisruptedPods(), ","))
	}
	return l.String()
}

// FormatPlacedPod prints a placed pod as ParsePlacedPod reads it.
func FormatPlacedPod(p *berthv1.PlacedPod) string {
	l := newLine(p.GetName())
	l.word("on", p.GetNodeName())
	l.pod(p)
	l.labels(p.GetLabels())
	l.requests(p.GetRequests(), p.GetScoreRequests())
	l.podAffinities(p.GetPodAffinity(), p.GetPodAntiAffinity())
	l.flag("terminating", p.GetTerminating())
	l.flag("preempted", p.GetPreempted())
	l.flag("nominated", p.GetNominated())
	if p.GetStartTimeNanos() != 0 {
		l.word("start", fmt.Sprint(p.GetStartTimeNanos()))
	}
	l.list("constraint", p.GetConstraints())
	return l.String()
}

// FormatPod prints a pod as ParsePod reads it.
func FormatPod(p *berthv1.Pod) string {
	l := newLine(p.GetName())
	l.pod(p)
	l.labels(p.GetLabels())
	l.requests(p.GetRequests(), p.GetScoreRequests())
	for _, name := range []string{"cpu", "memory"} {
		if amount, ok := p.GetPlacedScoreRequests()[name]; ok {
			l.word("placed-score-"+name, formatQuantity(name, amount))
		}
	}
	l.add("node", p.GetNodeName())
	for _, key := range slices.Sorted(maps.Keys(p.GetNodeSelector())) {
		l.word("selector", key+"="+p.GetNodeSelector()[key])
	}
	if required := p.GetNodeAffinity().GetRequired(); required != nil {
		var terms []string
		for _, t := range required.GetTerms() {
			terms = append(terms, formatTerm(t))
		}
		l.word("affinity", strings.Join(terms, "|"))
	}
	for _, preferred := range p.GetNodeAffinity().GetPreferred() {
		l.word("prefer", fmt.Sprintf("%d:%s", preferred.GetWeight(), formatTerm(preferred.GetTerm())))
	}
	l.podAffinities(p.GetPodAffinity(), p.GetPodAntiAffinity())
	for _, c := range p.GetTopologySpreadConstraints() {
		l.word("spread", formatSpread(c))
	}
	if p.GetSpreadSelector() != nil {
		l.word("spread-selector", formatLabelSelector(p.GetSpreadSelector()))
	}
	for _, t := range p.GetTolerations() {
		text := t.GetKey()
		if t.GetOperator() != berthv1.TolerationOperator_TOLERATION_OPERATOR_EXISTS {
			text += "=" + t.GetValue()
		}
		if t.GetEffect() != berthv1.TaintEffect_TAINT_EFFECT_UNSPECIFIED {
			text += ":" + effects.format(t.GetEffect())
		}
		l.word("toleration", text)
	}
	if p.GetPreemptionPolicy() == berthv1.PreemptionPolicy_PREEMPTION_POLICY_NEVER {
		l.word("preemption", "Never")
	}
	l.add("nominated-node", p.GetNominatedNodeName())
	l.list("image", p.GetImages())
	l.list("volume-image", p.GetVolumeImages())
	l.list("feature", p.GetRequiredFeatures())
	l.list("constraint", p.GetConstraints())
	return l.String()
}

// FormatDecision prints a decision: a line, and indented what would wake the pod,
// the preemption, and if it is explained a line for each node. A score is printed
// as raw->normalized*weight, without the raw one where that is the same.
func FormatDecision(d *berthv1.Decision) string {
	var out strings.Builder
	out.WriteString(d.GetPodUid())
	switch d.GetOutcome() {
	case berthv1.Outcome_OUTCOME_PLACED:
		var nodes []string
		for _, c := range d.GetCandidates() {
			nodes = append(nodes, fmt.Sprintf("%s (%d)", c.GetNodeName(), c.GetScore()))
		}
		out.WriteString(" -> " + strings.Join(nodes, ", "))
	case berthv1.Outcome_OUTCOME_REJECTED:
		out.WriteString(" rejected: " + d.GetRejection().GetMessage())
		for _, w := range d.GetRejection().GetWakeConditions() {
			out.WriteString("\n  wake: " + formatWake(w))
		}
	case berthv1.Outcome_OUTCOME_INVALID:
		out.WriteString(" invalid: " + d.GetRefusal().GetField() + ": " + d.GetRefusal().GetMessage())
	case berthv1.Outcome_OUTCOME_UNSUPPORTED:
		out.WriteString(" unsupported: " + d.GetRefusal().GetConstraint())
	case berthv1.Outcome_OUTCOME_NOT_DECIDED:
		out.WriteString(" not decided")
	default:
		fmt.Fprintf(&out, " %v", d.GetOutcome())
	}
	out.WriteByte('\n')
	if p := d.GetPreemption(); p != nil {
		fmt.Fprintf(&out, "  preempt %s: %s\n", p.GetNodeName(), formatVictims(p))
	}
	for _, n := range d.GetExplanation().GetNodes() {
		out.WriteString("  " + formatNodeExplanation(n) + "\n")
	}
	for _, p := range d.GetExplanation().GetPreemptions() {
		text := formatVictims(p)
		if len(p.GetVictims()) == 0 {
			text = "no help: " + strings.Join(p.GetReasons(), ", ")
		}
		out.WriteString("  eviction on " + p.GetNodeName() + ": " + text + "\n")
	}
	return out.String()
}

func formatWake(w *berthv1.WakeCondition) string {
	words := []string{lower(w.GetObject().String(), "OBJECT_KIND_")}
	for _, c := range w.GetChanges() {
		words = append(words, lower(c.String(), "CHANGE_KIND_"))
	}
	if len(w.GetNodeNames()) > 0 {
		words = append(words, "on="+strings.Join(w.GetNodeNames(), ","))
	}
	for _, name := range slices.Sorted(maps.Keys(w.GetFree())) {
		words = append(words, "free:"+name+"="+formatQuantity(name, w.GetFree()[name]))
	}
	return strings.Join(words, " ")
}

// formatVictims prints names, those of pods with a namespace after it.
func formatVictims(p interface {
	GetVictims() []*berthv1.Victim
	GetBudgetViolations() int32
}) string {
	var victims []string
	for _, v := range p.GetVictims() {
		name := v.GetName()
		if v.GetNamespace() != "" {
			name = v.GetNamespace() + "/" + name
		}
		victims = append(victims, name)
	}
	text := strings.Join(victims, ", ")
	switch n := p.GetBudgetViolations(); n {
	case 0:
	case 1:
		text += " (1 budget violation)"
	default:
		text += fmt.Sprintf(" (%d budget violations)", n)
	}
	return text
}

func formatNodeExplanation(n *berthv1.NodeExplanation) string {
	if n.GetRule() == "" {
		text := fmt.Sprintf("%s: %d", n.GetNodeName(), n.GetTotal())
		for _, s := range n.GetScores() {
			text += " " + s.GetRule() + "="
			if s.GetRaw() != s.GetNormalized() {
				text += fmt.Sprintf("%d->", s.GetRaw())
			}
			text += fmt.Sprintf("%d*%d", s.GetNormalized(), s.GetWeight())
		}
		return text
	}
	text := n.GetNodeName() + ": " + n.GetRule() + ": " + strings.Join(n.GetReasons(), ", ")
	if n.GetEvictionCouldHelp() {
		text += " (eviction could help)"
	}
	return text
}

// lower turns OBJECT_KIND_PLACED_POD into "placed pod".
func lower(name, prefix string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, prefix), "_", " "))
}

func withValue(key, value string) string {
	if value == "" {
		return key
	}
	return key + "=" + value
}

// line collects a record's words.
type line struct {
	name  string
	words []string
}

func newLine(name string) *line { return &line{name: name, words: []string{name}} }

func (l *line) word(key, value string) { l.words = append(l.words, key+"="+value) }

// add adds a word unless its value is empty.
func (l *line) add(key, value string) {
	if value != "" {
		l.word(key, value)
	}
}

func (l *line) flag(word string, set bool) {
	if set {
		l.words = append(l.words, word)
	}
}

// list adds a word for each value.
func (l *line) list(key string, values []string) {
	for _, value := range values {
		l.word(key, value)
	}
}

func (l *line) podAffinities(affinity, anti *berthv1.PodAffinity) {
	for _, a := range []struct {
		required, preferred string
		of                  *berthv1.PodAffinity
	}{{"pod-affinity", "prefer-pod", affinity}, {"pod-anti-affinity", "prefer-no-pod", anti}} {
		for _, t := range a.of.GetRequired() {
			l.word(a.required, formatPodTerm(t))
		}
		for _, preferred := range a.of.GetPreferred() {
			l.word(a.preferred, fmt.Sprintf("%d:%s", preferred.GetWeight(), formatPodTerm(preferred.GetTerm())))
		}
	}
}

func (l *line) labels(labels map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		l.word("label:"+key, labels[key])
	}
}

// pod adds what pods and placed pods share.
func (l *line) pod(p interface {
	GetUid() string
	GetNamespace() string
	GetPriority() int32
	GetHostPorts() []*berthv1.HostPort
}) {
	if p.GetUid() != l.name {
		l.add("uid", p.GetUid())
	}
	l.add("namespace", p.GetNamespace())
	if p.GetPriority() != 0 {
		l.word("priority", fmt.Sprint(p.GetPriority()))
	}
	for _, port := range p.GetHostPorts() {
		text := fmt.Sprint(port.GetPort())
		if port.GetIp() != "" {
			text = port.GetIp() + ":" + text
		}
		if port.GetProtocol() != "" {
			text += "/" + port.GetProtocol()
		}
		l.word("port", text)
	}
}

// requests adds requests and, where they are not what parsing would fill in, what
// scores count.
func (l *line) requests(requests, score map[string]int64) {
	for _, name := range slices.Sorted(maps.Keys(requests)) {
		l.word(name, formatQuantity(name, requests[name]))
	}
	filled := map[string]int64{}
	addScoreDefaults(filled, requests)
	for _, name := range []string{"cpu", "memory"} {
		if score[name] != filled[name] {
			l.word("score-"+name, formatQuantity(name, score[name]))
		}
	}
}

func (l *line) String() string { return strings.Join(l.words, " ") }
