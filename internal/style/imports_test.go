package style

import (
	"fmt"
	"go/ast"
	"maps"
	"slices"
	"testing"
)

// rule forbids imports. Patterns are as in matches.
type rule struct {
	in     []string // packages the rule is about
	forbid []string
	unless []string // importing packages the rule is not about, after all
	tests  bool     // test files too
	why    string
}

// kernelAPIs are the ways to the operating system that need care.
var kernelAPIs = []string{
	"os/exec", "golang.org/x/sys/...",
	"github.com/vishvananda/...", "github.com/google/nftables/...", "github.com/cilium/ebpf/...",
	"github.com/mdlayher/...", "golang.zx2c4.com/...",
}

// testOnly are packages that exist for tests.
var testOnly = []string{"internal/lab/...", "internal/style/...", "internal/kernel/fake/...", "internal/kernel/kerneltest/...", "internal/runtime/runtimetest/...", "internal/cluster/clustertest/...", "internal/compile/compiletest/...", "bench/...", "test/..."}

// pure computes and touches nothing.
var pure = []string{"internal/model", "internal/kstate", "internal/driver/...", "internal/compile/...", "internal/ipam/...", "internal/trace/..."}

var rules = []rule{
	{in: []string{"internal/model"}, forbid: []string{"ours", "other"}, tests: false,
		why: "the words of the domain depend on nothing"},
	{in: []string{"internal/kstate"}, forbid: []string{"ours", "other"},
		why: "kernel state is plain data that anything may hold; it depends on nothing"},
	{in: pure, forbid: append([]string{"os", "os/signal", "os/user", "net", "net/http", "syscall", "runtime/cgo", "log", "log/slog", "math/rand/...", "crypto/rand"}, kernelAPIs...),
		why: "this package is pure, so that all of it can be tested anywhere: no kernel, files, sockets, logs or randomness; what it needs to know comes in as a value"},
	{in: pure, forbid: []string{"other"}, unless: testOnly,
		why: "this package is pure and needs the standard library only"},
	{in: []string{"ours"}, forbid: kernelAPIs, unless: append([]string{"internal/kernel/...", "internal/serve/..."}, testOnly...),
		why: "kernel/ is the only door to the operating system, and serve/ the only other owner of sockets; add what is missing there"},
	{in: []string{"ours"}, forbid: []string{"cmd/..."}, tests: true,
		why: "main packages are wiring; nothing can stand on them"},
	{in: []string{"ours"}, forbid: testOnly, unless: testOnly,
		why: "this package exists for tests and must not ship"},
	{in: []string{"ours"}, forbid: []string{"log", "log/slog"},
		unless: append([]string{"internal/engine/...", "internal/serve/...", "internal/cluster/...", "cmd/..."}, testOnly...),
		why:    "return an error or a value: only engine, serve, cmd and what follows other hosts know what is worth a line in the log"},
	{in: []string{"ours"}, forbid: []string{"github.com/prometheus/..."}, unless: append([]string{"internal/metrics/..."}, testOnly...),
		why: "count with package tally; only metrics knows who reads"},
	{in: []string{"ours"}, forbid: []string{"unsafe", "C"}, unless: []string{"internal/kernel/...", "internal/serve/..."},
		why: "only what talks to the kernel may need it"},
	{in: []string{"ours"}, forbid: []string{"io/ioutil", "math/rand", "github.com/pkg/errors", "github.com/sirupsen/logrus"}, tests: true,
		why: "the standard library has had better for years"},
}

func TestImports(t *testing.T) { check(t, forbiddenImports(load(t), rules)) }

func forbiddenImports(m *module, rules []rule) []string {
	var out []string
	m.each(func(p *pkg, f *file) {
		imports := f.imports()
		for _, r := range rules {
			if f.test && !r.tests || !matches(p.dir, r.in...) || matches(p.dir, r.unless...) {
				continue
			}
			for _, imported := range slices.Sorted(maps.Keys(imports)) {
				if matches(imported, r.forbid...) {
					out = append(out, m.at(imports[imported], "%s must not import %s: %s", p.dir, imported, r.why))
				}
			}
		}
	})
	return out
}

// layers are the packages from the bottom up. A package may import those of
// lower layers and its own subtree.
var layers = [][]string{
	{"internal/model", "internal/kstate", "internal/tally"},
	{"internal/driver/...", "internal/ipam/..."},
	{"internal/compile/...", "internal/store/...", "internal/cluster/...", "internal/kernel/...", "internal/serve/...", "internal/feature/...", "internal/runtime/..."},
	{"internal/engine/...", "internal/trace/..."},
	{"internal/cli/...", "internal/cni/...", "internal/dockerplugin/...", "internal/pipework/...", "internal/api/...", "internal/metrics/..."},
	{"cmd/..."},
}

// sideways are the imports within a layer that are meant.
var sideways = []struct{ from, to, why string }{
	{"internal/store", "internal/kernel/journal", "the store keeps the journal's entries and implements its interface"},
	{"internal/feature", "internal/kernel/...", "a probe asks the kernel"},
	{"internal/runtime", "internal/kernel/...", "a container is found by its process and its namespace"},
	{"internal/engine", "internal/trace", "the engine answers what explain asks"},
	{"internal/serve/...", "internal/kernel/netns", "a server in a sandbox has its sockets in the sandbox's namespace"},
	{"internal/cli/...", "internal/api", "the command line is a client of the API"},
	{"internal/cni/...", "internal/api", "the CNI plugin is a client of the API"},
	{"internal/pipework/...", "internal/api", "pipework is a client of the API"},
	{"internal/cli/...", "internal/cni", "the client has it as a command"},
	{"internal/cli/...", "internal/pipework", "the client has it as a command"},
}

func TestDirection(t *testing.T) { check(t, againstTheCurrent(load(t))) }

func againstTheCurrent(m *module) []string {
	var out []string
	m.each(func(p *pkg, f *file) {
		from := layer(p.dir)
		if f.test || matches(p.dir, testOnly...) {
			return
		}
		if from < 0 {
			out = append(out, m.at(f.ast.Package, "%s is in no layer: say in internal/style where it belongs", p.dir))
			return
		}
		for imported, pos := range f.imports() {
			to := layer(imported)
			if class(imported) != "ours" || matches(imported, testOnly...) || to < from || top(p.dir) == top(imported) || meant(p.dir, imported) {
				continue
			}
			out = append(out, m.at(pos, "%s must not import %s: imports point one way: "+
				"cmd → cli cni dockerplugin pipework api → engine → compile store cluster kernel serve → driver/* ipam → kstate, model → std", p.dir, imported))
		}
	})
	return out
}

// layer is a package's number from the bottom, or -1.
func layer(dir string) int {
	return slices.IndexFunc(layers, func(patterns []string) bool { return matches(dir, patterns...) })
}

// top is the directory below internal/ or cmd/ that a package belongs to.
func top(dir string) string {
	slashes := 0
	for i, c := range dir {
		if c == '/' {
			if slashes++; slashes == 2 {
				return dir[:i]
			}
		}
	}
	return dir
}

func meant(from, to string) bool {
	for _, s := range sideways {
		if matches(from, s.from) && matches(to, s.to) {
			return true
		}
	}
	return false
}

// clockReads are the functions of package time that know what time it is.
var clockReads = []string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "Tick", "NewTimer", "NewTicker"}

func TestPureCodeReadsNoClock(t *testing.T) { check(t, clocks(load(t))) }

func clocks(m *module) []string {
	var out []string
	m.each(func(p *pkg, f *file) {
		if f.test || !matches(p.dir, pure...) {
			return
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if name, ok := selector(n, "time"); ok && slices.Contains(clockReads, name) {
				out = append(out, m.at(n.Pos(), "time.%s: %s is pure; take the time as an argument", name, p.dir))
			}
			return true
		})
	})
	return out
}

// selector returns X if n is pkg.X.
func selector(n ast.Node, pkg string) (string, bool) {
	s, ok := n.(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	x, ok := s.X.(*ast.Ident)
	return s.Sel.Name, ok && x.Name == pkg
}

func TestTablesAreSane(t *testing.T) {
	var bad []string
	for i, r := range rules {
		if r.why == "" || len(r.in) == 0 || len(r.forbid) == 0 {
			bad = append(bad, fmt.Sprintf("rule %d is incomplete", i))
		}
	}
	for _, s := range sideways {
		if s.why == "" || layer(s.from) < 0 && layer(s.from+"/x") < 0 {
			bad = append(bad, fmt.Sprintf("sideways %s → %s: no reason or no layer", s.from, s.to))
		}
	}
	check(t, bad)
}
