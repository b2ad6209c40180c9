package snapshot

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/encoding/protojson"

	berthv1 "github.com/berth-scheduler/berth/proto/berth/v1"
)

// TestSnapshot runs the command; the input is standard input, and the files of
// testdata/manifests can be named. It prints what went to both outputs, and the
// exit code if it is not 0.
func TestSnapshot(t *testing.T) {
	datadriven.RunTest(t, "testdata/snapshot", func(t *testing.T, d *datadriven.TestData) string {
		var args []string
		for _, arg := range d.CmdArgs {
			args = append(args, arg.Key)
			args = append(args, arg.Vals...)
		}
		stdout, stderr, code := run(t, d.Input, args...)
		if code == 0 && stdout != "" {
			// What is printed must be what a decider reads.
			if err := protojson.Unmarshal([]byte(stdout), &berthv1.DecideRequest{}); err != nil {
				d.Fatalf(t, "%v", err)
			}
		}
		out := stderr + stdout
		if code != 0 {
			out += "exit " + string(rune('0'+code)) + "\n"
		}
		return out
	})
}

func TestSameObjectsSameBytes(t *testing.T) {
	input, err := os.ReadFile(filepath.FromSlash("testdata/manifests/cluster.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := run(t, string(input), "-f", "-", "--explain", "--seed", "7")
	docs := strings.Split(string(input), "\n---\n")
	if len(docs) < 2 {
		t.Fatal("the manifests are one document")
	}
	// Nodes and placed pods in another order are the same cluster.
	docs[0], docs[1] = docs[1], docs[0]
	second, _, _ := run(t, strings.Join(docs, "\n---\n"), "-f", "-", "--explain", "--seed", "7")
	if first != second || first == "" {
		t.Errorf("one cluster, two requests:\n%s\n%s", first, second)
	}
}

func TestHelpGoesToStandardOutput(t *testing.T) {
	stdout, stderr, code := run(t, "", "--help")
	if code != 0 || stderr != "" || !strings.Contains(stdout, "--kubeconfig") {
		t.Errorf("exit %d, stderr %q, stdout %q", code, stderr, stdout)
	}
}

func run(t *testing.T, input string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Run(args, strings.NewReader(input), &out, &errs)
	return out.String(), errs.String(), code
}
