// Command tally runs the stages of Berth's tests and adds them up: it shows
// what `go test -json` reports in a form for people, keeps each stage's time and
// counts in a file, and closes with one line over all of them.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"text/tabwriter"
	"time"
)

const usage = `Usage:
  tally --file FILE run STAGE COMMAND [ARG...]
      Runs the command, shows its output, and appends the stage's time and test
      counts to FILE. Output of "go test -json" is shown package by package, with
      every skip's reason and every failure's output; other lines pass unchanged.
      Exits 1 if a test or the command failed.
  tally --file FILE sum
      Prints a table of FILE's stages, then "N passed, N failed, N skipped" over
      all of them. Exits 1 if anything failed or no test ran.

Tests and subtests count alike, as "go test -v" lists them. A command or package
that fails without a failing test (it does not compile, it ran out of time)
counts as one failure.
`

func main() {
	file := flag.String("file", "", "the `file` that stages are appended to and summed from")
	flag.Usage = func() { fmt.Fprint(flag.CommandLine.Output(), usage) }
	flag.Parse()

	args := flag.Args()
	var ok bool
	var err error
	switch {
	case *file != "" && len(args) >= 3 && args[0] == "run":
		ok, err = run(*file, args[1], args[2:])
	case *file != "" && len(args) == 1 && args[0] == "sum":
		ok, err = sum(*file, os.Stdout)
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// A stage is one line of the file: what ran, for how long, with what result.
type stage struct {
	name string
	took time.Duration
	counts
}

// run carries out one stage and reports whether all of it passed.
func run(file, name string, command []string) (bool, error) {
	fmt.Printf("== %s\n", name)
	start := time.Now()
	counts, err := execute(command, os.Stdout)
	if err != nil {
		fmt.Printf("FAIL %s: %s: %v\n", name, strings.Join(command, " "), err)
		// The failed tests already account for the command's exit status.
		if counts.failed == 0 {
			counts.failed = 1
		}
	}
	took := time.Since(start).Round(time.Second)
	fmt.Printf("== %s: %v, %v\n", name, counts, took)

	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return false, err
	}
	_, err = fmt.Fprintf(f, "%d %d %d %d %s\n", int(took.Seconds()), counts.passed, counts.failed, counts.skipped, name)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return counts.failed == 0, err
}

// execute runs the command without standard input and shows its output on w.
func execute(command []string, w io.Writer) (counts, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return counts{}, err
	}
	if err := cmd.Start(); err != nil {
		return counts{}, err
	}
	c, readErr := report(out, w)
	if err := cmd.Wait(); err != nil {
		return c, err
	}
	return c, readErr
}

// sum prints the table and the closing line, and reports whether all passed.
func sum(file string, w io.Writer) (bool, error) {
	stages, err := readStages(file)
	if err != nil {
		return false, err
	}
	var total stage
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "time\tpassed\tfailed\tskipped\t  stage")
	for _, s := range stages {
		fmt.Fprintf(table, "%v\t%d\t%d\t%d\t  %s\n", s.took, s.passed, s.failed, s.skipped, s.name)
		total.took += s.took
		total.add(s.counts)
	}
	fmt.Fprintf(table, "%v\t%d\t%d\t%d\t  all\n", total.took, total.passed, total.failed, total.skipped)
	if err := table.Flush(); err != nil {
		return false, err
	}
	fmt.Fprintln(w, total.counts)
	if total.passed == 0 {
		return false, fmt.Errorf("%s: no test passed", file)
	}
	return total.failed == 0, nil
}

// readStages returns the file's stages in the order in which they first ran;
// runs of the same stage are added up.
func readStages(file string) ([]stage, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var stages []stage
	index := map[string]int{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var seconds int
		var c counts
		fields := strings.SplitN(lines.Text(), " ", 5)
		if len(fields) != 5 {
			return nil, fmt.Errorf("%s: not a line of tally's: %q", file, lines.Text())
		}
		if _, err := fmt.Sscan(strings.Join(fields[:4], " "), &seconds, &c.passed, &c.failed, &c.skipped); err != nil {
			return nil, fmt.Errorf("%s: not a line of tally's: %q: %v", file, lines.Text(), err)
		}
		name := fields[4]
		i, seen := index[name]
		if !seen {
			i = len(stages)
			index[name] = i
			stages = append(stages, stage{name: name})
		}
		stages[i].took += time.Duration(seconds) * time.Second
		stages[i].add(c)
	}
	return stages, nil
}
