package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Lines are as the go command prints them, less the fields that tally ignores.
func TestReport(t *testing.T) {
	for _, test := range []struct {
		name  string
		lines string
		want  counts
		shown string
	}{
		{
			name: "subtests, skip with its reason, failure with its output",
			lines: `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"run","Package":"p","Test":"TestA/sub"}
{"Action":"pass","Package":"p","Test":"TestA/sub","Elapsed":0}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":7.25}
{"Action":"run","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:9: needs the trace\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"--- SKIP: TestB (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestB","Elapsed":0}
{"Action":"run","Package":"p","Test":"TestC"}
{"Action":"output","Package":"p","Test":"TestC","Output":"    c_test.go:3: got 1, want 2\n"}
{"Action":"fail","Package":"p","Test":"TestC","Elapsed":0}
{"Action":"output","Package":"p","Output":"FAIL\n"}
{"Action":"fail","Package":"p","Elapsed":0.1}
`,
			want: counts{passed: 2, failed: 1, skipped: 1},
			shown: `     p.TestA 7.2s
SKIP p.TestB
         b_test.go:9: needs the trace
FAIL p.TestC
         c_test.go:3: got 1, want 2
FAIL p
`,
		},
		{
			name: "packages run side by side",
			lines: `{"Action":"run","Package":"p","Test":"Test"}
{"Action":"run","Package":"q","Test":"Test"}
{"Action":"pass","Package":"p","Test":"Test"}
{"Action":"pass","Package":"p","Elapsed":1}
{"Action":"pass","Package":"q","Test":"Test"}
{"Action":"pass","Package":"q","Elapsed":2}
`,
			want:  counts{passed: 2},
			shown: "ok   p 1.0s: 1 passed, 0 skipped\nok   q 2.0s: 1 passed, 0 skipped\n",
		},
		{
			name: "what a passing test could not run is shown, what else it logged is not",
			lines: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:9: NOT RUN: docker build: no engine\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:9: 100 cases\n"}
{"Action":"pass","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p","Elapsed":1}
`,
			want:  counts{passed: 2},
			shown: "SAYS p.TestA\n         a_test.go:9: NOT RUN: docker build: no engine\nok   p 1.0s: 2 passed, 0 skipped\n",
		},
		{
			name:  "a package without tests",
			lines: `{"Action":"output","Package":"p","Output":"?   \tp\t[no test files]\n"}` + "\n" + `{"Action":"skip","Package":"p"}` + "\n",
		},
		{
			name: "a package that does not compile",
			lines: `{"ImportPath":"p","Action":"build-output","Output":"p/a.go:3:1: syntax error\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"start","Package":"p"}
{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}
{"Action":"fail","Package":"p","Elapsed":0,"FailedBuild":"p"}
`,
			want:  counts{failed: 1},
			shown: "p/a.go:3:1: syntax error\nFAIL p does not compile\n",
		},
		{
			name: "a test that runs when the process dies",
			lines: `{"Action":"run","Package":"p","Test":"TestSlow"}
{"Action":"output","Package":"p","Test":"TestSlow","Output":"panic: test timed out after 1s\n"}
{"Action":"fail","Package":"p","Elapsed":1}
`,
			want:  counts{failed: 1},
			shown: "FAIL p.TestSlow did not end\n     panic: test timed out after 1s\nFAIL p\n",
		},
		{
			name:  "a command that is cut off",
			lines: `{"Action":"run","Package":"p","Test":"Test"}` + "\n",
			want:  counts{failed: 1},
			shown: "FAIL p.Test did not end\nFAIL p\n",
		},
		{
			name:  "lines that are no events pass",
			lines: "compiling etcd\n{\"nodes\": 3}\nno newline",
			shown: "compiling etcd\n{\"nodes\": 3}\nno newline",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var shown strings.Builder
			got, err := report(strings.NewReader(test.lines), &shown)
			if err != nil {
				t.Fatal(err)
			}
			if got != test.want {
				t.Errorf("counted %v, want %v", got, test.want)
			}
			if shown.String() != test.shown {
				t.Errorf("showed:\n%swant:\n%s", shown.String(), test.shown)
			}
		})
	}
}

func TestSum(t *testing.T) {
	for _, test := range []struct {
		name  string
		file  string
		ok    bool
		shown string
	}{
		{
			name: "stages in order, runs of one stage added up",
			file: "61 0 0 0 static\n5 3 0 1 fuzz\n6 4 0 0 fuzz\n",
			ok:   true,
			shown: `   time  passed  failed  skipped  stage
   1m1s       0       0        0  static
    11s       7       0        1  fuzz
  1m12s       7       0        1  all
7 passed, 0 failed, 1 skipped
`,
		},
		{
			name: "a failed stage",
			file: "1 3 1 0 unit\n",
			shown: `  time  passed  failed  skipped  stage
    1s       3       1        0  unit
    1s       3       1        0  all
3 passed, 1 failed, 0 skipped
`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var shown strings.Builder
			ok, err := sum(write(t, test.file), &shown)
			if err != nil {
				t.Fatal(err)
			}
			if ok != test.ok {
				t.Errorf("sum says %t, want %t", ok, test.ok)
			}
			if shown.String() != test.shown {
				t.Errorf("showed:\n%swant:\n%s", shown.String(), test.shown)
			}
		})
	}
}

// A green result needs tests that ran, and a file that tally wrote.
func TestSumRefuses(t *testing.T) {
	for _, file := range []string{"", "3 0 0 0 unit\n", "3 1 0 unit\n", "3 1 0 x unit tests\n"} {
		if ok, err := sum(write(t, file), new(strings.Builder)); err == nil || ok {
			t.Errorf("sum of %q: %t, %v; want an error", file, ok, err)
		}
	}
}

func write(t *testing.T, content string) string {
	file := filepath.Join(t.TempDir(), "stages")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
