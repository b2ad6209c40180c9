package main

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
)

func TestUsageErrors(t *testing.T) {
	for _, c := range []struct {
		line string
		want string // part of the message
	}{
		{"", "which subcommand?"},
		{"upp", `unknown subcommand "upp"`},
		{"up --node 3", "flag provided but not defined: -node; see local up --help"},
		{"up now", `unexpected argument "now"`},
		{"up --nodes many", `invalid value "many"`},
		{"up --nodes -1", "--nodes -1: must be between 0 and 99999"},
		{"build kubectl", `unexpected argument "kubectl"`},
		{"down --all", "flag provided but not defined: -all"},
		{"kill", "COMPONENT is missing"},
		{"restart etcd kwok", `unexpected argument "kwok"`},
	} {
		var out bytes.Buffer
		err := run(context.Background(), strings.Fields(c.line), &out, &out)
		if !errors.As(err, new(usageError)) {
			t.Errorf("local %s: got %v, want a usage error", c.line, err)
			continue
		}
		if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("local %s: got %q, want one line with %q", c.line, err, c.want)
		}
		if out.Len() > 0 {
			t.Errorf("local %s: printed %q besides its error", c.line, out.String())
		}
	}
}

// Every flag that a subcommand's first line shows is described, and accepted.
func TestHelp(t *testing.T) {
	flags := regexp.MustCompile(`--[a-z]+`)
	for _, c := range commands() {
		var out bytes.Buffer
		if err := run(context.Background(), []string{c.name, "--help"}, &out, &out); err != nil || out.String() != c.help {
			t.Errorf("local %s --help: got %q, %v", c.name, out.String(), err)
		}
		usage, rest, _ := strings.Cut(c.help, "\n")
		for _, name := range flags.FindAllString(usage, -1) {
			if !strings.Contains(rest, "\n  "+name+" ") {
				t.Errorf("local %s --help does not describe %s", c.name, name)
			}
			// A flag that does not exist is an error even before --help.
			if err := run(context.Background(), []string{c.name, name + "=1", "--help"}, &out, &out); err != nil {
				t.Errorf("local %s %s=1 --help: %v", c.name, name, err)
			}
		}
	}
	var out bytes.Buffer
	if err := run(context.Background(), []string{"--help"}, &out, &out); err != nil {
		t.Fatal(err)
	}
	for _, c := range commands() {
		if !strings.Contains(out.String(), c.short) {
			t.Errorf("local --help does not list %s", c.name)
		}
	}
}

func TestDownWithoutCluster(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, dir := range []string{".", "missing"} {
		var out bytes.Buffer
		if err := run(context.Background(), []string{"down", "--dir", dir}, &out, &out); err != nil {
			t.Errorf("down --dir %s: %v", dir, err)
		}
		if !strings.HasPrefix(out.String(), "no cluster is running in /") {
			t.Errorf("down --dir %s: printed %q", dir, out.String())
		}
	}
	err := run(context.Background(), []string{"kill", "--dir", ".", "etcd"}, nil, nil)
	if !errors.Is(err, errNotRunning) {
		t.Errorf("kill without a cluster: got %v", err)
	}
}
