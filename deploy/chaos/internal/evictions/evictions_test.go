package evictions

import (
	"testing"
	"time"

	"github.com/berth-scheduler/berth/deploy/chaos/internal/trace"
)

var begin = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }

func pods(all ...*Pod) map[string]*Pod {
	m := map[string]*Pod{}
	for _, p := range all {
		if p.Name != "unheard" { // of its creation
			p.UID = "uid-" + p.Name
		}
		m[p.Name] = p
	}
	return m
}

func TestJudge(t *testing.T) {
	victim := func() *Pod {
		return &Pod{Name: "victim", Group: "g", Priority: 100, Created: at(0), Bound: at(1), Node: "n"}
	}
	once := []trace.Write{{Pod: "victim", At: at(10), By: "w"}}
	claim := []Claim{{Victim: "victim", Preemptor: "uid-other"}}
	for _, c := range []struct {
		name string
		run  Run
		want Verdict
		rule string // of the one violation
	}{
		{"by event", Run{once, pods(victim(), &Pod{Name: "other", Priority: 200}), claim, nil}, Verdict{Evicted: 1, ByEvent: 1}, ""},
		{"not lower", Run{once, pods(victim(), &Pod{Name: "other", Priority: 100}), claim, nil}, Verdict{Evicted: 1, ByEvent: 1}, NotLower},
		{"by nomination", Run{once, pods(victim(), &Pod{Name: "other", Priority: 200, Nominated: []string{"n"}}), nil, nil}, Verdict{Evicted: 1, ByNomination: 1}, ""},
		{"nominated elsewhere", Run{once, pods(victim(), &Pod{Name: "other", Priority: 200, Created: at(2), Nominated: []string{"m"}}), nil, nil}, Verdict{Evicted: 1, Unattributed: 1}, ""},
		{"waited", Run{once, pods(victim(), &Pod{Name: "other", Priority: 200, Created: at(2), Bound: at(11)}), nil, nil}, Verdict{Evicted: 1, Unattributed: 1}, ""},
		{"was bound", Run{once, pods(victim(), &Pod{Name: "other", Priority: 200, Created: at(2), Bound: at(9)}), nil, nil}, Verdict{Evicted: 1}, ForNobody},
		{"not for one whose uid is not known", Run{once, pods(victim(), &Pod{Name: "unheard", Priority: 100}, &Pod{Name: "other", Priority: 200, Created: at(2)}), nil, nil}, Verdict{Evicted: 1, Unattributed: 1}, ""},
		{"came later", Run{once, pods(victim(), &Pod{Name: "other", Priority: 200, Created: at(12)}), nil, nil}, Verdict{Evicted: 1}, ForNobody},
		{"is lower", Run{once, pods(victim(), &Pod{Name: "other", Priority: 50, Created: at(2), Nominated: []string{"n"}}), nil, nil}, Verdict{Evicted: 1}, ForNobody},
		{"twice", Run{append(once, once...), pods(victim(), &Pod{Name: "other", Priority: 200}), claim, nil}, Verdict{Evicted: 1, ByEvent: 1}, Twice},
		{"a stranger", Run{once, nil, claim, nil}, Verdict{Evicted: 1}, ForNobody},
		{"over budget", Run{once, pods(victim(), &Pod{Name: "other", Priority: 200}), claim, map[string][]Budget{"g": {{at(5), 1}, {at(9), 0}, {at(11), 1}}}}, Verdict{Evicted: 1, ByEvent: 1, OverBudget: 1}, ""},
		{"within budget", Run{once, pods(victim(), &Pod{Name: "other", Priority: 200}), claim, map[string][]Budget{"g": {{at(5), 0}, {at(9), 1}}}}, Verdict{Evicted: 1, ByEvent: 1}, ""},
	} {
		got := Judge(c.run)
		rules := ""
		for _, f := range got.Violations {
			rules += f.Rule
		}
		got.Violations = nil
		if got.Evicted != c.want.Evicted || got.ByEvent != c.want.ByEvent || got.ByNomination != c.want.ByNomination ||
			got.Unattributed != c.want.Unattributed || got.OverBudget != c.want.OverBudget || rules != c.rule {
			t.Errorf("%s: %+v with violation %q, want %+v with %q", c.name, got, rules, c.want, c.rule)
		}
	}
}
