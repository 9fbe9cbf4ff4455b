package style

import (
	"bytes"
	"fmt"
	"go/ast"
	"slices"
	"testing"
)

// Sizes, in lines. A file that does not fit is two files; the halves of a
// function that does not fit have names.
const (
	maxFile     = 500
	medianFunc  = 12
	ninetieth   = 45
	longestFunc = 100
)

func TestFilesAreSmall(t *testing.T) { check(t, longFiles(load(t))) }

func longFiles(m *module) []string {
	var out []string
	m.each(func(_ *pkg, f *file) {
		if n := bytes.Count(f.src, []byte("\n")); !f.test && n > maxFile {
			out = append(out, fmt.Sprintf("%s: %d lines: more than %d, find the second noun", f.path, n, maxFile))
		}
	})
	return out
}

func TestFunctionsAreShort(t *testing.T) {
	m := load(t)
	lengths, long := functions(m)
	p50, p90 := lengths[len(lengths)/2], lengths[len(lengths)*9/10]
	t.Logf("%d functions: half ≤ %d lines, nine in ten ≤ %d, longest %d", len(lengths), p50, p90, lengths[len(lengths)-1])
	if p50 > medianFunc {
		t.Errorf("half of the functions have up to %d lines, not %d", p50, medianFunc)
	}
	if p90 > ninetieth {
		t.Errorf("nine in ten functions have up to %d lines, not %d", p90, ninetieth)
	}
	check(t, long)
}

// functions returns the sorted lengths of all functions, and complaints about
// those that no reader can hold in mind.
func functions(m *module) (lengths []int, long []string) {
	m.each(func(_ *pkg, f *file) {
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || f.test {
				continue
			}
			n := m.fset.Position(fn.End()).Line - m.fset.Position(fn.Pos()).Line + 1
			lengths = append(lengths, n)
			if n > longestFunc {
				long = append(long, m.at(fn.Pos(), "%s has %d lines: more than %d, name its parts", fn.Name, n, longestFunc))
			}
		}
	})
	slices.Sort(lengths)
	return lengths, long
}
