package main

import (
	"bytes"
	"fmt"
	"strings"
)

// Mutation is one line of Berth's code made wrong.
type Mutation struct {
	// Name is the rule, a colon and what is wrong from then on. No two are equal.
	Name string
	// File is relative to the repository.
	File string
	// Declaration is what the first line of the top-level declaration begins with
	// that the line is looked for in; empty is the whole file.
	Declaration string
	// Old is the line and New what takes its place, both without indentation.
	Old, New string
}

// Parse reads a list of mutations; the list itself says how it is written. The error
// names the line.
func Parse(list string) ([]Mutation, error) {
	var out []Mutation
	names := map[string]bool{}
	var m []string // the lines of the mutation that is being read
	for i, line := range append(strings.Split(list, "\n"), "") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		if line != "" {
			m = append(m, line)
			continue
		}
		if len(m) == 0 {
			continue
		}
		if len(m) != 4 || !strings.Contains(m[0], ": ") || !strings.HasPrefix(m[2], "- ") || !strings.HasPrefix(m[3], "+ ") {
			return nil, fmt.Errorf("before line %d: a mutation is a name with a colon, a file, a line with - and one with +", i+1)
		}
		if names[m[0]] {
			return nil, fmt.Errorf("before line %d: %q is the name of an earlier mutation", i+1, m[0])
		}
		names[m[0]] = true
		file, declaration, _ := strings.Cut(m[1], " @ ")
		out = append(out, Mutation{Name: m[0], File: file, Declaration: declaration, Old: m[2][2:], New: m[3][2:]})
		m = nil
	}
	return out, nil
}

// Apply returns source with the new line in the place of the old one. It is an error
// if the old line is not there exactly once.
func (m *Mutation) Apply(source []byte) ([]byte, error) {
	lines := strings.SplitAfter(string(source), "\n")
	inside := m.Declaration == ""
	found := -1
	for i, line := range lines {
		if m.Declaration != "" && strings.HasPrefix(line, m.Declaration) {
			inside = true
		}
		if inside && strings.TrimSpace(line) == m.Old {
			if found >= 0 {
				return nil, fmt.Errorf("%s: lines %d and %d of %s are both %q", m.Name, found+1, i+1, m.File, m.Old)
			}
			found = i
		}
		if m.Declaration != "" && strings.HasPrefix(line, "}") {
			inside = false
		}
	}
	if found < 0 {
		return nil, fmt.Errorf("%s: %s has no line %q", m.Name, m.File, m.Old)
	}
	lines[found] = strings.Replace(lines[found], m.Old, m.New, 1)
	var out bytes.Buffer
	for _, line := range lines {
		out.WriteString(line)
	}
	return out.Bytes(), nil
}
