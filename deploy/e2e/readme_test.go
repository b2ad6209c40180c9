//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// command is one that README.md tells people to type, and what it prints.
type command struct {
	line     int
	text     string
	expected []string
}

// consoleCommands reads the commands in README.md's console blocks, in order.
func consoleCommands(t *testing.T) []command {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var commands []command
	inside := false
	for i, line := range strings.Split(string(readme), "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
			if !inside && line != "```" && line != "```text" {
				t.Errorf("README.md:%d: a block of commands must be a console block, so that this test runs it", i+1)
			}
		case !inside:
		case strings.HasPrefix(line, "$ "):
			commands = append(commands, command{line: i + 1, text: line[2:]})
		case strings.HasPrefix(line, "> ") || line == ">":
			last := &commands[len(commands)-1]
			last.text += "\n" + strings.TrimPrefix(strings.TrimPrefix(line, ">"), " ")
		default:
			last := &commands[len(commands)-1]
			last.expected = append(last.expected, line)
		}
	}
	return commands
}

// TestReadme types README.md's commands into one shell, in order, and compares
// what they print except for names and times. A line "..." stands for any lines.
func TestReadme(t *testing.T) {
	commands := consoleCommands(t)
	if len(commands) < 20 {
		t.Fatalf("only %d commands found in README.md", len(commands))
	}
	const mark = "--- end of command"
	var script strings.Builder
	for _, c := range commands {
		if c.text == "make test" {
			c.text = ":" // it is what runs this test
		}
		fmt.Fprintf(&script, "%s\necho \"%s $?\"\n", c.text, mark)
	}
	file := t.TempDir() + "/commands"
	if err := os.WriteFile(file, []byte(script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	shell := &process{name: "README.md", cmd: exec.Command("bash", file)}
	shell.cmd.Dir = "../.."
	if err := shell.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		shell.end(syscall.SIGTERM)
		down := exec.Command("bin/local", "down", "--dir", ".local/first") // if a command before that failed
		down.Dir = "../.."
		down.Run()
	})
	<-shell.done

	printed := strings.Split(shell.output(), mark)
	if len(printed) != len(commands)+1 {
		t.Fatalf("%d of %d commands were run:\n%s", len(printed)-1, len(commands), shell.output())
	}
	for i, c := range commands {
		output := printed[i]
		if i > 0 {
			_, output, _ = strings.Cut(output, "\n") // the status of the command before
		}
		if status := strings.Fields(printed[i+1])[0]; status != "0" {
			t.Errorf("README.md:%d: %s\nended with %s and printed\n%s", c.line, c.text, status, output)
			continue
		}
		got, want := normalize(strings.Split(output, "\n")), normalize(c.expected)
		if c.text != "make test" && !matches(want, got) {
			t.Errorf("README.md:%d: %s\nprinted\n  %s\nnot\n  %s", c.line, c.text, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
	}
}

// Names and times, and what depends on them.
var varying = []struct {
	pattern     *regexp.Regexp
	replacement string
}{
	{regexp.MustCompile(`web-[a-z0-9]+-[a-z0-9]{5}`), "web-NAME"},
	{regexp.MustCompile(`node-\d{5}`), "node-NAME"},
	{regexp.MustCompile(`\S*/?\.local/`), ".local/"},
	{regexp.MustCompile(`"[0-9a-f]{64}"`), `"DIGEST"`},
	{regexp.MustCompile(`"(version|instanceId)": "[^"]+"`), `"$1": "NAME"`},
	{regexp.MustCompile(`\d+\.\d+`), "TIME"},
}

// normalize replaces what may differ and drops empty lines and what bash says of
// ended jobs.
func normalize(lines []string) []string {
	var out []string
	for _, line := range lines {
		if strings.TrimSpace(line) == "" || strings.Contains(line, " Terminated ") {
			continue
		}
		for _, v := range varying {
			line = v.pattern.ReplaceAllString(line, v.replacement)
		}
		out = append(out, strings.TrimRight(line, " "))
	}
	return out
}

// matches compares line by line; "..." in want stands for any lines.
func matches(want, got []string) bool {
	if len(want) == 0 {
		return len(got) == 0
	}
	if want[0] == "..." {
		for i := range len(got) + 1 {
			if matches(want[1:], got[i:]) {
				return true
			}
		}
		return false
	}
	return len(got) > 0 && want[0] == got[0] && matches(want[1:], got[1:])
}

// TestReadmeComparison has the comparison tell outputs apart.
func TestReadmeComparison(t *testing.T) {
	for _, c := range []struct {
		want, got string
		matches   bool
	}{
		{"a\nb", "a\nb", true},
		{"a\nb", "a", false},
		{"a", "a\nb", false},
		{"...\nb", "x\ny\nb", true},
		{"...\nb", "x\ny", false},
		{"p50 0.1 s", "p50 2.5 s", true},
		{"placed 437 of 500", "placed 436 of 500", false},
		{"web-1-abcde node-00001", "web-2-fghij node-00002", true},
	} {
		if got := matches(normalize(strings.Split(c.want, "\n")), normalize(strings.Split(c.got, "\n"))); got != c.matches {
			t.Errorf("%q and %q: %v", c.want, c.got, got)
		}
	}
}
