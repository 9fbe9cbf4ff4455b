package style

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// emptyNames say where code is, not what it is about.
var emptyNames = []string{"util", "utils", "common", "types", "helpers", "helper", "manager", "controller", "base", "core", "misc", "shared", "lib"}

func TestPackageNames(t *testing.T) { check(t, packageNames(load(t))) }

func packageNames(m *module) []string {
	noun := regexp.MustCompile(`^[a-z][a-z0-9]*$`)
	var out []string
	for _, p := range m.pkgs {
		name, base := p.name(), path.Base(p.dir)
		switch {
		case name != "main" && !noun.MatchString(name):
			out = append(out, fmt.Sprintf("%s: package %s: one lower-case noun", p.dir, name))
		case slices.Contains(emptyNames, name) || slices.Contains(emptyNames, base):
			out = append(out, fmt.Sprintf("%s: package %s: a name that fits everything says nothing", p.dir, name))
		case name != "main" && name != base && hasCode(p):
			out = append(out, fmt.Sprintf("%s: package %s: its directory has another name", p.dir, name))
		}
	}
	return out
}

// The words are put together so that this file does not contain them.
var (
	emptyErrors = regexp.MustCompile(`(?i)\b(failed|unable) ` + `to\b`)
	unfinished  = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX|HA` + `CK)\b|(?i:not (yet )?` + `implemented)`)
)

func TestWords(t *testing.T) { check(t, words(load(t))) }

// words looks into strings and comments.
func words(m *module) []string {
	var out []string
	m.each(func(_ *pkg, f *file) {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if w := emptyErrors.FindString(lit.Value); w != "" {
					out = append(out, m.at(lit.Pos(), "%q: an error is “object: operation: cause”; that it failed is understood", w))
				}
				if w := unfinished.FindString(lit.Value); w != "" {
					out = append(out, m.at(lit.Pos(), "%q: finish it or leave it out", w))
				}
			}
			return true
		})
		for _, group := range f.ast.Comments {
			for _, c := range group.List {
				if w := unfinished.FindString(c.Text); w != "" {
					out = append(out, m.at(c.Pos(), "%q: finish it or leave it out", w))
				}
			}
		}
	})
	return out
}

func TestNoInit(t *testing.T) { check(t, inits(load(t))) }

func inits(m *module) []string {
	var out []string
	m.each(func(p *pkg, f *file) {
		if p.dir == "internal/cluster/etcd" && strings.HasSuffix(f.path, "/quiet.go") {
			return // gRPC takes balancers at no other time
		}
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" && !matches(p.dir, "cmd/...") { // nobody imports a program
				out = append(out, m.at(fn.Pos(), "func init: an import has no effects; let the caller call"))
			}
		}
	})
	return out
}

func TestFormat(t *testing.T) {
	m := load(t)
	check(t, append(unformatted(m), m.broken...))
}

func unformatted(m *module) []string {
	var out []string
	m.each(func(_ *pkg, f *file) {
		if want, err := format.Source(f.src); err != nil || !bytes.Equal(want, f.src) {
			out = append(out, f.path+": not as gofmt has it")
		}
	})
	return out
}

// mayskip are the files where a test may skip, and why. Everything else asks
// featuretest.Require, which CI turns into a failure where the feature must be.
var mayskip = map[string]string{}

func TestNothingSkips(t *testing.T) {
	found, used := skips(load(t), mayskip)
	for f, why := range mayskip {
		if !used[f] || why == "" {
			found = append(found, f+": may skip, but does not, or for no reason")
		}
	}
	check(t, found)
}

// skips finds calls of Skip, Skipf and SkipNow outside internal/feature/featuretest.
func skips(m *module, allowed map[string]string) (found []string, used map[string]bool) {
	used = map[string]bool{}
	m.each(func(p *pkg, f *file) {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			s, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, s.Sel.Name) || matches(p.dir, "internal/feature/featuretest") {
				return true
			}
			if used[f.path] = true; allowed[f.path] == "" {
				found = append(found, m.at(call.Pos(), "%s: a skipped test tests nothing; use featuretest.Require", s.Sel.Name))
			}
			return true
		})
	})
	return found, used
}

// TestScriptsDoNotSkip looks for the skip and stop commands of testscript.
func TestScriptsDoNotSkip(t *testing.T) {
	scripts, err := filepath.Glob(filepath.Join("..", "..", "test", "script", "*.txtar"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("scripts: %v, %v", scripts, err)
	}
	skip := regexp.MustCompile(`(?m)^(\[[^]]*\]\s*)*(skip|stop)\b`)
	for _, name := range scripts {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		script, _, _ := strings.Cut(string(b), "\n-- ")
		if s := skip.FindString(script); s != "" {
			t.Errorf("%s: %q: a script that stops tests nothing", filepath.Base(name), s)
		}
	}
}
