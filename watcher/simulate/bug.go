package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/berth-scheduler/berth/watcher/internal/simulation"
)

//go:embed bugs.txt
var bugs string

// bug is one line made wrong; bugs.txt says how it is written.
type bug struct {
	number            int
	name              string
	file, declaration string // from the root of the repository; all of the file if empty
	old, new          string // without indentation
	laws              []string
}

// parse reads a list of bugs. The error names the line.
func parse(list string) ([]bug, error) {
	var out []bug
	var lines []string
	for i, line := range append(strings.Split(list, "\n"), "") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		if line != "" {
			lines = append(lines, line)
			continue
		}
		if len(lines) == 0 {
			continue
		}
		b, err := parseOne(lines)
		if err == nil && b.number != len(out)+1 {
			err = fmt.Errorf("bug %d is number %d of the list", b.number, len(out)+1)
		}
		if err != nil {
			return nil, fmt.Errorf("before line %d: %w", i+1, err)
		}
		out = append(out, b)
		lines = nil
	}
	return out, nil
}

func parseOne(lines []string) (b bug, err error) {
	if len(lines) != 5 || !strings.HasPrefix(lines[2], "- ") || !strings.HasPrefix(lines[3], "+ ") || !strings.HasPrefix(lines[4], "! ") {
		return b, errors.New("a bug has five lines: its number and name, its file, and one each that begins with -, + and !, in this order")
	}
	number, name, _ := strings.Cut(lines[0], " ")
	if b.number, err = strconv.Atoi(number); err != nil {
		return b, fmt.Errorf("%q is no number", number)
	}
	b.name, b.old, b.new = name, lines[2][2:], lines[3][2:]
	b.file, b.declaration, _ = strings.Cut(lines[1], " @ ")
	b.laws, err = lawsOf(lines[4][2:])
	return b, err
}

// apply returns source with the new line in the place of the old one, which must be there
// exactly once.
func (b *bug) apply(source []byte) ([]byte, error) {
	lines := strings.SplitAfter(string(source), "\n")
	inside, at := b.declaration == "", -1
	for i, line := range lines {
		if b.declaration != "" && strings.HasPrefix(line, b.declaration) {
			inside = true
		}
		if inside && strings.TrimSpace(line) == b.old {
			if at >= 0 {
				return nil, fmt.Errorf("bug %d: lines %d and %d of %s are both %q", b.number, at+1, i+1, b.file, b.old)
			}
			at = i
		}
		if b.declaration != "" && strings.HasPrefix(line, "}") {
			inside = false
		}
	}
	if at < 0 {
		return nil, fmt.Errorf("bug %d: there is no line %q in %s %s", b.number, b.old, b.file, b.declaration)
	}
	lines[at] = strings.Replace(lines[at], b.old, b.new, 1)
	return []byte(strings.Join(lines, "")), nil
}

// plant plants the bug of that number, or all, and returns an error unless each is found.
func plant(which string, c *campaign, asJSON bool) error {
	all, err := parse(bugs)
	if err != nil {
		return fmt.Errorf("bugs.txt: %w", err)
	}
	root, err := repository()
	if err != nil {
		return err
	}
	if which != "all" {
		n, err := strconv.Atoi(which)
		if err != nil || n < 1 || n > len(all) {
			return fmt.Errorf("there is no bug %q: they are 1 to %d, or all", which, len(all))
		}
		s, err := all[n-1].find(root, c)
		if err != nil {
			return err
		}
		if s == nil {
			return fmt.Errorf("bug %d, %s: SURVIVED %d seeds", n, all[n-1].name, c.seeds)
		}
		if asJSON {
			return print(s)
		}
		fmt.Printf("bug %d, %s: found\n\n", n, all[n-1].name)
		printStory(s)
		return nil
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "bug\tseed\tlaw\tlines\ttime\t")
	survived := 0
	for i := range all {
		b := &all[i]
		began := time.Now()
		s, err := b.find(root, c)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%d of %d\n", i+1, len(all))
		if s == nil {
			survived++
			fmt.Fprintf(w, "%d\tSURVIVED\t\t\t%.0fs\t%s\n", b.number, time.Since(began).Seconds(), b.name)
			continue
		}
		fmt.Fprintf(w, "%d\t%d\t%s\t%d\t%.0fs\t%s\n", b.number, s.Seed, s.Broken.Law, len(s.Lines), time.Since(began).Seconds(), b.name)
	}
	w.Flush()
	if survived > 0 {
		return fmt.Errorf("%d of %d bugs survived %d seeds", survived, len(all), c.seeds)
	}
	return nil
}

// find compiles this command with the bug and runs it. The story is nil if no seed tells.
func (b *bug) find(root string, c *campaign) (*simulation.Story, error) {
	scratch, err := os.MkdirTemp("", "simulate-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch)
	source, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(b.file)))
	if err != nil {
		return nil, err
	}
	planted, err := b.apply(source)
	if err != nil {
		return nil, err
	}
	file, overlay, binary := filepath.Join(scratch, "planted.go"), filepath.Join(scratch, "overlay.json"), filepath.Join(scratch, "simulate")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, filepath.FromSlash(b.file)): file}})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.WriteFile(file, planted, 0o600), os.WriteFile(overlay, replace, 0o600)); err != nil {
		return nil, err
	}
	build := exec.Command("go", "build", "-overlay", overlay, "-o", binary, "./watcher/simulate")
	build.Dir = root
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("bug %d does not compile: %w: %s", b.number, err, bytes.TrimSpace(output))
	}
	// What another law tells may be about something else.
	run := exec.Command(binary, "--json", "--laws", strings.Join(b.laws, ", "), "--first", strconv.FormatUint(c.first, 10), "--seeds", strconv.Itoa(c.seeds))
	var stdout, stderr bytes.Buffer
	run.Stdout, run.Stderr = &stdout, &stderr
	runErr := run.Run()
	var s simulation.Story
	if err := json.Unmarshal(stdout.Bytes(), &s); err != nil {
		return nil, fmt.Errorf("bug %d: %w: %s", b.number, errors.Join(runErr, err), bytes.TrimSpace(stderr.Bytes()))
	}
	if s.Broken == nil {
		return nil, nil
	}
	return &s, nil
}

// repository is its root: bugs are planted in a checkout.
func repository() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	mod := strings.TrimSpace(string(out))
	if err != nil || filepath.Base(mod) != "go.mod" {
		return "", errors.New("bugs are planted in a checkout of Berth: run this in one")
	}
	return filepath.Dir(mod), nil
}
