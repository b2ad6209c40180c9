package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// variable is the environment variable that says by its number which mutation a
// differential test with several runs with; none if it is not set.
const variable = "BERTH_MUTATION"

// overlay is files that take the place of others, or that are added, by their names
// in the repository.
type overlay map[string][]byte

// compile compiles the differential test with o into the file binary.
func (m *mutator) compile(ctx context.Context, o overlay, binary string) error {
	replace := map[string]string{}
	for name, source := range o {
		file := filepath.Join(m.scratch, fmt.Sprintf("%s-%d.go", filepath.Base(binary), len(replace)))
		if err := os.WriteFile(file, source, 0o600); err != nil {
			return err
		}
		replace[filepath.Join(m.root, filepath.FromSlash(name))] = file
	}
	encoded, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	if err := os.WriteFile(binary+".json", encoded, 0o600); err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-overlay", binary+".json", "-o", binary, "./differential")
	build.Dir = filepath.Join(m.root, "decider", "upstream")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(output))
	}
	return nil
}

// overlay is the one with a single mutation.
func (m *mutator) overlay(mutation *Mutation) (overlay, error) {
	source, err := os.ReadFile(filepath.Join(m.root, filepath.FromSlash(mutation.File)))
	if err != nil {
		return nil, err
	}
	mutated, err := mutation.Apply(source)
	return overlay{mutation.File: mutated}, err
}

// together is the overlay with all mutations that are in functions, so that linking,
// which takes longer than anything else, is done once: each function has a copy for
// each of its mutations and begins with going to the one that variable names. left are
// the numbers of the mutations that are elsewhere.
func (m *mutator) together(mutations []Mutation) (_ overlay, left []int, _ error) {
	byFile := map[string][]int{}
	for i := range mutations {
		byFile[mutations[i].File] = append(byFile[mutations[i].File], i)
	}
	o := overlay{}
	for name, numbers := range byFile {
		source, err := os.ReadFile(filepath.Join(m.root, filepath.FromSlash(name)))
		if err != nil {
			return nil, nil, err
		}
		file, err := parse(source)
		if err != nil {
			return nil, nil, err
		}
		copies := &bytes.Buffer{}
		begins := map[*function]*bytes.Buffer{}
		for _, i := range numbers {
			mutated, err := mutations[i].Apply(source)
			if err != nil {
				return nil, nil, err
			}
			changed, err := parse(mutated)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", mutations[i].Name, err)
			}
			f, g := file.differs(changed)
			if f == nil {
				left = append(left, i)
				continue
			}
			suffix := fmt.Sprintf("_%d", i)
			fmt.Fprintf(copies, "\n%s%s%s\n", g.text[:g.nameEnd], suffix, g.text[g.nameEnd:])
			if begins[f] == nil {
				begins[f] = &bytes.Buffer{}
			}
			fmt.Fprintf(begins[f], "case \"%d\": %s; ", i, f.call(suffix))
		}
		var out bytes.Buffer
		at := 0
		for _, f := range file.functions {
			if begins[f] == nil {
				continue
			}
			for i, blank := range f.blanks {
				out.Write(source[at:blank])
				fmt.Fprintf(&out, "blank%d", i)
				at = blank + 1
			}
			out.Write(source[at:f.body])
			fmt.Fprintf(&out, " switch mutation { %s}; ", begins[f])
			at = f.body
		}
		out.Write(source[at:])
		out.Write(copies.Bytes())
		o[name] = out.Bytes()
		o[filepath.ToSlash(filepath.Join(filepath.Dir(name), "mutation.go"))] = fmt.Appendf(nil,
			"package %s\n\nimport \"os\"\n\nvar mutation = os.Getenv(%q)\n", file.name, variable)
	}
	slices.Sort(left)
	return o, left, nil
}

// source is what is needed of a file.
type source struct {
	name      string // of the package
	functions []*function
}

// function is a function or method of a file.
type function struct {
	text    string
	nameEnd int   // in text
	body    int   // where the body begins, after the brace, in the file
	blanks  []int // where parameters are called _, in the file
	decl    *ast.FuncDecl
}

// parse finds the functions of a file.
func parse(text []byte) (*source, error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "", text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	offset := func(p token.Pos) int { return set.Position(p).Offset }
	out := &source{name: file.Name.Name}
	for _, d := range file.Decls {
		decl, ok := d.(*ast.FuncDecl)
		if !ok || decl.Body == nil {
			continue
		}
		begin := offset(decl.Pos())
		var blanks []int
		for _, field := range decl.Type.Params.List {
			for _, name := range field.Names {
				if name.Name == "_" {
					blanks = append(blanks, offset(name.Pos()))
				}
			}
		}
		out.functions = append(out.functions, &function{
			text:    string(text[begin:offset(decl.End())]),
			nameEnd: offset(decl.Name.End()) - begin,
			body:    offset(decl.Body.Lbrace) + 1,
			blanks:  blanks,
			decl:    decl,
		})
	}
	return out, nil
}

// differs returns the one function that differs, as it is in both files; nil if the
// difference is elsewhere or calls cannot be passed on.
func (s *source) differs(changed *source) (f, g *function) {
	if len(s.functions) != len(changed.functions) {
		return nil, nil
	}
	for i, f := range s.functions {
		if g := changed.functions[i]; f.text != g.text && f.call("") != "" {
			return f, g
		}
	}
	return nil, nil
}

// call is the statement that passes a call on to the function whose name has a suffix
// besides; "" if that cannot be written.
func (f *function) call(suffix string) string {
	var args []string
	blanks := 0
	for _, field := range f.decl.Type.Params.List {
		for _, name := range field.Names {
			if name.Name == "_" {
				args = append(args, fmt.Sprintf("blank%d", blanks))
				blanks++
				continue
			}
			args = append(args, name.Name)
		}
		if _, variadic := field.Type.(*ast.Ellipsis); variadic || len(field.Names) == 0 {
			return ""
		}
	}
	name := f.decl.Name.Name + suffix
	if f.decl.Recv != nil {
		receiver := f.decl.Recv.List[0].Names
		if len(receiver) == 0 {
			return ""
		}
		name = receiver[0].Name + "." + name
	}
	if f.decl.Type.TypeParams != nil {
		return ""
	}
	call := name + "(" + strings.Join(args, ", ") + ")"
	if f.decl.Type.Results == nil {
		return call + "; return"
	}
	return "return " + call
}
