package style

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// modulePath begins the import paths that are ours.
const modulePath = "github.com/sealane/sealane"

// file is a parsed Go file; path is relative to the module's root.
type file struct {
	path string
	src  []byte
	ast  *ast.File
	test bool
}

// pkg is the Go files of one directory; dir is relative to the root.
type pkg struct {
	dir   string
	files []*file
}

// module is all packages, by directory.
type module struct {
	fset   *token.FileSet
	pkgs   []*pkg
	broken []string // what does not parse
}

// load parses the module that this test is in.
func load(t *testing.T) *module {
	t.Helper()
	sources := map[string]string{}
	root := os.DirFS(filepath.Join("..", ".."))
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if d.IsDir() && (base == "testdata" || base == "vendor" || len(base) > 1 && (base[0] == '.' || base[0] == '_')) {
			return fs.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(base, ".go") {
			src, err := fs.ReadFile(root, name)
			sources[name] = string(src)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(sources) < 10 {
		t.Fatalf("only %d files: this is not the module", len(sources))
	}
	return parse(sources)
}

// parse builds a module from sources by path.
func parse(sources map[string]string) *module {
	m := &module{fset: token.NewFileSet()}
	byDir := map[string]*pkg{}
	for name, src := range sources {
		f, err := parser.ParseFile(m.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			m.broken = append(m.broken, err.Error())
			continue
		}
		dir := path.Dir(name)
		if byDir[dir] == nil {
			byDir[dir] = &pkg{dir: dir}
			m.pkgs = append(m.pkgs, byDir[dir])
		}
		byDir[dir].files = append(byDir[dir].files, &file{name, []byte(src), f, strings.HasSuffix(name, "_test.go")})
	}
	slices.SortFunc(m.pkgs, func(a, b *pkg) int { return strings.Compare(a.dir, b.dir) })
	for _, p := range m.pkgs {
		slices.SortFunc(p.files, func(a, b *file) int { return strings.Compare(a.path, b.path) })
	}
	return m
}

// each calls f for every file.
func (m *module) each(f func(p *pkg, f *file)) {
	for _, p := range m.pkgs {
		for _, x := range p.files {
			f(p, x)
		}
	}
}

// at is "path:line: message".
func (m *module) at(pos token.Pos, format string, args ...any) string {
	p := m.fset.Position(pos)
	return fmt.Sprintf("%s:%d: %s", p.Filename, p.Line, fmt.Sprintf(format, args...))
}

// imports returns a file's imports; ours are relative to the module's root.
func (f *file) imports() map[string]token.Pos {
	out := map[string]token.Pos{}
	for _, spec := range f.ast.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			out[strings.TrimPrefix(p, modulePath+"/")] = spec.Pos()
		}
	}
	return out
}

// matches says whether an import path or directory fits one of the patterns:
// exactly, or at and below "x/...". "std" is the standard library, "ours" this
// module, "other" everything else.
func matches(name string, patterns ...string) bool {
	for _, pattern := range patterns {
		if prefix, ok := strings.CutSuffix(pattern, "/..."); ok {
			if name == prefix || strings.HasPrefix(name, prefix+"/") {
				return true
			}
		} else if name == pattern || class(name) == pattern {
			return true
		}
	}
	return false
}

// class tells apart our packages, whose paths are relative, the standard
// library, and modules of others, whose paths begin with a host name.
func class(name string) string {
	first, _, _ := strings.Cut(name, "/")
	switch {
	case slices.Contains([]string{"cmd", "internal", "bench", "test"}, first):
		return "ours"
	case strings.Contains(first, "."):
		return "other"
	}
	return "std"
}

// check reports each violation as an error.
func check(t *testing.T, violations []string) {
	t.Helper()
	slices.Sort(violations)
	for _, v := range violations {
		t.Error(v)
	}
}
