package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// slow is from how many seconds on a passed test gets a line of its own, so that
// a long package shows that it moves.
const slow = 5.0

// counts says how many tests, subtests included, ended in which way.
type counts struct{ passed, failed, skipped int }

func (c counts) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", c.passed, c.failed, c.skipped)
}

func (c *counts) add(o counts) {
	c.passed += o.passed
	c.failed += o.failed
	c.skipped += o.skipped
}

// An event is one line of `go test -json`; see `go doc test2json`.
type event struct {
	Action      string
	Package     string
	Test        string
	ImportPath  string // of a build-output
	Elapsed     float64
	Output      string
	FailedBuild string
}

// A pkg is a package whose tests run at the moment.
type pkg struct {
	counts
	// output of each test that runs, and under "" of the package itself.
	output map[string]*strings.Builder
}

// report reads what a command prints, shows it on w and counts the tests in it.
// A test that has begun but not ended when its package ends has failed.
func report(r io.Reader, w io.Writer) (counts, error) {
	var total counts
	running := map[string]*pkg{}
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		var ev event
		if !bytes.HasPrefix(line, []byte(`{"`)) || json.Unmarshal(line, &ev) != nil || ev.Action == "" {
			w.Write(line)
		} else if ev.Action == "build-output" {
			io.WriteString(w, ev.Output)
		} else if ev.Package != "" {
			p := running[ev.Package]
			if p == nil {
				p = &pkg{output: map[string]*strings.Builder{"": {}}}
				running[ev.Package] = p
			}
			if p.step(ev, w) {
				total.add(p.counts)
				delete(running, ev.Package)
			}
		}
		if err != nil {
			// Packages still open were cut off together with the command.
			for _, name := range slices.Sorted(maps.Keys(running)) {
				running[name].end(event{Action: "fail", Package: name}, w)
				total.add(running[name].counts)
			}
			if err == io.EOF {
				err = nil
			}
			return total, err
		}
	}
}

// step takes one event of the package and says whether it was the last.
func (p *pkg) step(ev event, w io.Writer) (done bool) {
	switch ev.Action {
	case "output":
		if out := p.output[ev.Test]; out != nil {
			out.WriteString(ev.Output)
		}
		return false
	case "run":
		p.output[ev.Test] = &strings.Builder{}
		return false
	case "pass", "fail", "skip":
	default: // start, pause, cont, bench, attr, artifacts
		return false
	}

	if ev.Test == "" {
		p.end(ev, w)
		return true
	}
	said := quote(p.output[ev.Test])
	delete(p.output, ev.Test)
	switch ev.Action {
	case "pass":
		p.passed++
		if ev.Elapsed >= slow {
			fmt.Fprintf(w, "     %s.%s %.1fs\n", ev.Package, ev.Test, ev.Elapsed)
		}
		if reports(said) {
			fmt.Fprintf(w, "SAYS %s.%s\n%s", ev.Package, ev.Test, said)
		}
	case "skip":
		p.skipped++
		fmt.Fprintf(w, "SKIP %s.%s\n%s", ev.Package, ev.Test, said)
	case "fail":
		p.failed++
		fmt.Fprintf(w, "FAIL %s.%s\n%s", ev.Package, ev.Test, said)
	}
	return false
}

// reports says whether a test that passed logged something that people should
// see: a part of it that could not run here, or a figure.
func reports(said string) bool {
	return strings.Contains(said, "NOT RUN:") || strings.Contains(said, "REPORT:")
}

// end closes the package: ev is its own pass, fail or skip.
func (p *pkg) end(ev event, w io.Writer) {
	if ev.Action == "fail" {
		for _, test := range slices.Sorted(maps.Keys(p.output)) {
			if test != "" {
				p.failed++
				fmt.Fprintf(w, "FAIL %s.%s did not end\n%s", ev.Package, test, quote(p.output[test]))
			}
		}
		if p.failed == 0 {
			p.failed = 1
		}
		why := ""
		if ev.FailedBuild != "" {
			why = " does not compile"
		}
		fmt.Fprintf(w, "FAIL %s%s\n%s", ev.Package, why, quote(p.output[""]))
		return
	}
	// A package without tests passes or skips in silence.
	if p.counts != (counts{}) {
		fmt.Fprintf(w, "ok   %s %.1fs: %d passed, %d skipped\n", ev.Package, ev.Elapsed, p.passed, p.skipped)
	}
}

// quote indents a test's own words and leaves out the frame around them.
func quote(out *strings.Builder) string {
	if out == nil {
		return ""
	}
	var b strings.Builder
	for line := range strings.Lines(out.String()) {
		words := strings.Fields(line)
		if len(words) == 0 || slices.Contains([]string{"===", "---", "FAIL", "PASS"}, words[0]) {
			continue
		}
		b.WriteString("     " + strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}
