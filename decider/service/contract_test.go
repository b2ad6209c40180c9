package service_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-scheduler/berth/decider/policy"
	"github.com/berth-scheduler/berth/decider/service"
	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// docs/contract.md names what this decider does not honour, in the order of its
// table.
func TestContractSaysWhatIsNotHonoured(t *testing.T) {
	text, err := os.ReadFile("../../docs/contract.md")
	if err != nil {
		t.Fatal(err)
	}
	s, err := service.New(service.Config{Policy: policy.Default()})
	if err != nil {
		t.Fatal(err)
	}
	described, err := s.Describe(t.Context(), &berthv1.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	honoured := map[string]bool{}
	for _, name := range described.GetConstraints() {
		honoured[name] = true
	}
	_, section, _ := strings.Cut(string(text), "\n## What must be honoured\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var want []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(section, -1) {
		if !honoured[row[1]] {
			want = append(want, row[1])
		}
		delete(honoured, row[1])
	}
	for name := range honoured {
		t.Errorf("the table has no row for %s", name)
	}
	_, sentence, _ := strings.Cut(section, "honours all of these but")
	sentence, _, _ = strings.Cut(sentence, ".")
	var got []string
	for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(sentence, -1) {
		got = append(got, name[1])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
