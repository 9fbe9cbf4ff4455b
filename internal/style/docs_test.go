package style

import (
	"go/ast"
	"go/token"
	"strings"
	"testing"
)

func TestPackageComments(t *testing.T) { check(t, packageComments(load(t))) }

// packageComments demands one comment per package, in one file: two of them
// are joined by godoc in an order nobody chose.
func packageComments(m *module) []string {
	var out []string
	for _, p := range m.pkgs {
		var in []string
		onlyTests := !hasCode(p)
		for _, f := range p.files {
			if f.ast.Doc == nil || f.test && !onlyTests {
				continue
			}
			in = append(in, f.path)
			want := "Package " + p.name() + " "
			if p.name() == "main" {
				want = "Command "
			}
			if !strings.HasPrefix(f.ast.Doc.Text(), want) {
				out = append(out, m.at(f.ast.Doc.Pos(), "the package comment begins with %q", want))
			}
		}
		switch len(in) {
		case 0:
			out = append(out, p.dir+": no package comment: say what it does and what it does not")
		case 1:
		default:
			out = append(out, p.dir+": package comments in "+strings.Join(in, ", ")+": keep one")
		}
	}
	return out
}

func hasCode(p *pkg) bool {
	for _, f := range p.files {
		if !f.test {
			return true
		}
	}
	return false
}

// name is the package's name.
func (p *pkg) name() string {
	return strings.TrimSuffix(p.files[0].ast.Name.Name, "_test")
}

func TestExportedNamesAreDocumented(t *testing.T) { check(t, undocumented(load(t))) }

// undocumented lists exported names without a comment that begins with them.
// In a group of constants or variables the group's comment will do.
func undocumented(m *module) []string {
	var out []string
	m.each(func(p *pkg, f *file) {
		if f.test || p.name() == "main" {
			return
		}
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && exportedReceiver(d) && !begins(d.Doc, d.Name) {
					out = append(out, m.at(d.Pos(), "%s: the comment begins with the name", d.Name))
				}
			case *ast.GenDecl:
				out = append(out, m.undocumentedSpecs(d)...)
			}
		}
	})
	return out
}

func (m *module) undocumentedSpecs(d *ast.GenDecl) []string {
	var out []string
	complain := func(name *ast.Ident) {
		out = append(out, m.at(name.Pos(), "%s: the comment begins with the name", name))
	}
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() && !begins(s.Doc, s.Name) && (d.Lparen.IsValid() || !begins(d.Doc, s.Name)) {
				complain(s.Name)
			}
		case *ast.ValueSpec:
			for _, name := range s.Names {
				grouped := d.Lparen.IsValid() && (d.Doc != nil || s.Doc != nil || s.Comment != nil)
				if name.IsExported() && !grouped && !begins(d.Doc, name) {
					complain(name)
				}
			}
		}
	}
	return out
}

// exportedReceiver says whether a function is one that users see: it is no
// method, or one of an exported type.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	x := d.Recv.List[0].Type
	for {
		switch t := x.(type) {
		case *ast.StarExpr:
			x = t.X
		case *ast.IndexExpr:
			x = t.X
		case *ast.IndexListExpr:
			x = t.X
		case *ast.Ident:
			return t.IsExported()
		default:
			return false
		}
	}
}

// begins says whether a comment begins with the name, after an article.
func begins(doc *ast.CommentGroup, name *ast.Ident) bool {
	if doc == nil {
		return false
	}
	text := doc.Text()
	for _, article := range []string{"A ", "An ", "The "} {
		text = strings.TrimPrefix(text, article)
	}
	rest, ok := strings.CutPrefix(text, name.Name)
	return ok && (rest == "" || !token.IsIdentifier("x"+rest[:1]))
}
