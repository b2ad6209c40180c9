package audit

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRead(t *testing.T) {
	log, err := os.ReadFile("testdata/audit.log")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Read(strings.NewReader(string(log)))
	if err != nil {
		t.Fatal(err)
	}
	at := func(s int) time.Time { return time.Date(2026, 1, 2, 3, 4, s, 0, time.UTC) }
	agent := "berth-watcher/v0.1.0 (host-1_7f)"
	want := []Bind{
		{ID: "1", Namespace: "ns", Pod: "p", UID: "u1", Node: "n1", NodeUID: "un1", User: "watcher", UserAgent: agent, Received: at(1), Code: 201},
		{ID: "2", Namespace: "ns", Pod: "q", UID: "u2", Node: "n1", User: "watcher", UserAgent: agent, Received: at(2), Code: 409, Reason: "Conflict", Message: "pod q is taken"},
		{ID: "3", Namespace: "ns", Pod: "r", Node: "n2", User: "watcher", UserAgent: "kubectl/v1 (linux/amd64)", Received: at(3)},
		{ID: "4", Namespace: "ns", Pod: "s", Node: "n2", User: "watcher", UserAgent: agent, Received: at(4), Code: 201},
		{ID: "5", Namespace: "ns", Pod: "t", User: "watcher", UserAgent: agent, Received: at(5), Code: 500, Reason: "InternalError", Message: "unexpected EOF"},
		{ID: "6", Namespace: "ns", Pod: "u", User: "watcher", UserAgent: agent, Received: at(6), Code: 201, Shallow: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("binds (-want +got):\n%s", diff)
	}
}

func TestReadNamesTheLine(t *testing.T) {
	_, err := Read(strings.NewReader("{}\n{\"binding\"\n"))
	if err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("got %v, want an error that names line 2", err)
	}
}

func TestIdentity(t *testing.T) {
	for agent, want := range map[string]string{
		"berth-watcher/v0.1.0 (host_1(2))": "host_1(2)",
		"berth-watcher/v0.1.0":             "",
		"berth-watcher/v0.1.0 (host":       "",
		"kubectl/v1.36.3 (linux/amd64)":    "",
	} {
		if got := (&Bind{UserAgent: agent}).Identity(); got != want {
			t.Errorf("%s: got %q, want %q", agent, got, want)
		}
	}
}

// FuzzRead: whatever the file holds, Read returns, and says of every bind
// which request it was.
func FuzzRead(f *testing.F) {
	log, err := os.ReadFile("testdata/audit.log")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(log))
	f.Fuzz(func(t *testing.T, log string) {
		binds, err := Read(strings.NewReader(log))
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for i := range binds {
			if seen[binds[i].ID] {
				t.Errorf("two binds with the audit ID %q", binds[i].ID)
			}
			seen[binds[i].ID] = true
			if binds[i].OK() && binds[i].Refused() {
				t.Errorf("answer %d both bound and refused", binds[i].Code)
			}
			binds[i].Identity()
		}
	})
}
