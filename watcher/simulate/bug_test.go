package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestBugsApply: every bug of the list is a line that is there.
func TestBugsApply(t *testing.T) {
	all, err := parse(bugs)
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		source, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(all[i].file)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := all[i].apply(source); err != nil {
			t.Error(err)
		}
	}
}

func TestParse(t *testing.T) {
	for _, wrong := range []string{
		"1 a\nf\n- x\n+ y\n",                // no law
		"1 a\nf\n- x\n+ y\n! no such law\n", // an unknown one
		"2 a\nf\n- x\n+ y\n! room\n",        // not the first
		"a\nf\n- x\n+ y\n! room\n",          // no number
	} {
		if b, err := parse(wrong); err == nil {
			t.Errorf("%q is read as %v", wrong, b)
		}
	}
}
