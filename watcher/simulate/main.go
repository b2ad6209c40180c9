// Command simulate runs the watcher's driver against a model of a cluster in which
// everything that can happen does, one course of events per seed, and holds each step to
// the laws of watcher/internal/simulation. `make simulate` is the usual way to call it.
//
//	simulate --seeds 100000         try that many seeds
//	simulate --seed 4711            tell the story of one
//	simulate --bug 3                plant a bug, and see that it is found
//	simulate --bug all              all bugs, in a table
//
// It ends with tables of what has happened: a fault or a way of a pod that no run had is
// as bad as a broken law, if there were at least 3,000 seeds. If a seed breaks a law, the
// run is made as short as it can be and told line by line; the same seed tells the same
// story again.
//
// bugs.txt has the bugs. Each is one line of the watcher made wrong, compiled into a copy
// of this command by an overlay, so that the checkout stays as it is.
//
// Exit status: 0 if all laws hold and nothing is missing, or if the bug is found; 1 if
// not; 2 if the command line is wrong.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/berth-scheduler/berth/watcher/internal/simulation"
)

// enough is how many seeds must have had everything.
const enough = 3000

// mostLines are the most of a story that are printed.
const mostLines = 300

func main() {
	c := &campaign{}
	flag.IntVar(&c.seeds, "seeds", 20000, "how many seeds to try")
	flag.Uint64Var(&c.first, "first", 1, "the first of them")
	seed := flag.Uint64("seed", 0, "tell the story of this seed alone")
	bug := flag.String("bug", "", "plant the bug of this number in bugs.txt, or `all` one after the other, and see whether it is found")
	laws := flag.String("laws", "", "look for seeds that break one of these laws, with commas between them, and pass over others; all laws if empty")
	asJSON := flag.Bool("json", false, "print JSON")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "Usage of simulate: runs the watcher's driver through made-up histories and holds it to its laws.")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() > 0 || c.seeds < 1 {
		fmt.Fprintln(os.Stderr, "simulate: no arguments, and at least one seed; see --help")
		os.Exit(2)
	}
	var err error
	if c.laws, err = lawsOf(*laws); err != nil {
		fmt.Fprintln(os.Stderr, "simulate: --laws:", err)
		os.Exit(2)
	}
	switch {
	case *bug != "":
		err = plant(*bug, c, *asJSON)
	case *seed != 0:
		err = tell(*seed, *asJSON)
	default:
		err = c.report(*asJSON)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "simulate:", err)
		os.Exit(1)
	}
}

// lawsOf reads a list of laws.
func lawsOf(list string) ([]string, error) {
	if list == "" {
		return nil, nil
	}
	laws := strings.Split(list, ", ")
	for _, law := range laws {
		if !slices.Contains(simulation.Laws, law) {
			return nil, fmt.Errorf("there is no law %q; they are %s", law, strings.Join(simulation.Laws, ", "))
		}
	}
	return laws, nil
}

// tell prints the story of one seed: the whole of it if it keeps the laws.
func tell(seed uint64, asJSON bool) error {
	if s := simulation.Shortest(seed); s != nil {
		return found(s, asJSON)
	}
	lines, _ := simulation.Tell(seed)
	if asJSON {
		return print(map[string]any{"seed": seed, "lines": lines})
	}
	fmt.Println(strings.Join(lines, "\n"))
	return nil
}

// errBroken says that a law does not hold; what it is was printed.
var errBroken = errors.New("a law does not hold")

// found prints a story that breaks a law.
func found(s *simulation.Story, asJSON bool) error {
	if asJSON {
		return errors.Join(errBroken, print(s))
	}
	printStory(s)
	return errBroken
}

func printStory(s *simulation.Story) {
	fmt.Printf("seed %d breaks the law %q at %v: %s\n", s.Seed, s.Broken.Law, s.Broken.At, s.Broken.What)
	fmt.Printf("left of it: %d acts, faults: %s\n\n", s.Acts, strings.Join(s.Faults, ", "))
	lines := s.Lines
	if left := len(lines) - mostLines; left > 0 { // in the middle something goes round and round
		lines = slices.Concat(lines[:mostLines/2], []string{fmt.Sprintf("... %d lines ...", left)}, lines[len(lines)-mostLines/2:])
	}
	fmt.Println(strings.Join(lines, "\n"))
	fmt.Printf("\nagain: go run ./watcher/simulate --seed %d\n", s.Seed)
}

func print(v any) error {
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
