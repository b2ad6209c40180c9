package main

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/berth-scheduler/berth/deploy/check/internal/audit"
	"github.com/berth-scheduler/berth/deploy/check/internal/history"
	"github.com/berth-scheduler/berth/deploy/check/internal/judge"
)

// FuzzJudge: whatever two readable files hold, the judge comes to an end, and
// to the same verdict again.
func FuzzJudge(f *testing.F) {
	recording, err := os.ReadFile("testdata/recording.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	log, err := os.ReadFile("testdata/audit.log")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(recording), string(log))
	f.Fuzz(func(t *testing.T, recording, log string) {
		records, err := history.Read(strings.NewReader(recording))
		if err != nil {
			return
		}
		binds, err := audit.Read(strings.NewReader(log))
		if err != nil {
			return
		}
		in := judge.Input{Records: records, Binds: binds, SchedulerNames: []string{"berth"}, Lease: "kube-system/berth-berth", PendingFit: true}
		if first, second := judge.Judge(in), judge.Judge(in); !reflect.DeepEqual(first, second) {
			t.Errorf("two verdicts on one run:\n%+v\n%+v", first, second)
		}
	})
}
