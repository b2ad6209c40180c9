package trace

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

var begin = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }

func TestRead(t *testing.T) {
	line := func(verb, agent, subresource, pod, code string) string {
		return `{"stage":"ResponseComplete","verb":"` + verb + `","userAgent":"` + agent + `","objectRef":{"resource":"pods","subresource":"` + subresource +
			`","namespace":"ns","name":"` + pod + `"},"responseStatus":{"code":` + code + `},"requestReceivedTimestamp":"2026-11-30T12:00:01.000000Z"}` + "\n"
	}
	const watcher, other = "berth-watcher/v1 (host_1_a)", "kwok/v0"
	log := line("create", watcher, "binding", "bound", "201") +
		line("create", watcher, "binding", "refused", "409") +
		line("create", other, "binding", "by-another", "201") +
		line("delete", watcher, "", "deleted", "200") +
		line("create", watcher, "eviction", "evicted", "201") +
		line("delete", watcher, "", "gone", "404") +
		line("delete", other, "", "by-another", "200") +
		line("patch", watcher, "status", "condition", "200") +
		strings.TrimSuffix(line("create", watcher, "binding", "half", "201")[:120], "\n") + line("create", watcher, "binding", "spoilt", "201") +
		strings.TrimSuffix(line("create", watcher, "binding", "unfinished", "201"), "\n")
	got, err := Read(strings.NewReader(log))
	write := func(pod string) Write { return Write{Namespace: "ns", Pod: pod, At: at(1), By: "host_1_a"} }
	want := Trace{Binds: []Write{write("bound")}, Evictions: []Write{write("deleted"), write("evicted")}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

func TestLongestPause(t *testing.T) {
	binds := []Write{{At: at(-5)}, {At: at(2)}, {At: at(9)}, {At: at(8)}, {At: at(30)}}
	for _, c := range []struct{ from, to, want, took int }{
		{0, 10, 2, 7},
		{0, 20, 9, 11},
		{3, 5, 3, 2},
		{-100, 10, -100, 95},
	} {
		if got := LongestPause(binds, at(c.from), at(c.to)); got.From != at(c.want) || got.Took != time.Duration(c.took)*time.Second {
			t.Errorf("from %d to %d: %v from %v", c.from, c.to, got.Took, got.From)
		}
	}
}
