package style

import (
	"slices"
	"strings"
	"testing"
)

// bad breaks every rule, so that a check that has gone blind is noticed.
var bad = map[string]string{
	"internal/model/a.go":               "// Package model is.\npackage model\nimport _ \"os\"\nimport _ \"github.com/sealane/sealane/internal/kstate\"\n",
	"internal/model/b.go":               "// Package model is twice.\npackage model\n",
	"internal/driver/x/x.go":            "package x\nimport \"time\"\nvar Now = time.Now()\nfunc init() {}\n",
	"internal/ipam/i.go":                "// Package ipam is.\npackage ipam\nimport _ \"github.com/sealane/sealane/internal/engine\"\n",
	"internal/engine/e.go":              "// Package engine is.\npackage engine\nimport _ \"os/exec\"\nimport _ \"github.com/sealane/sealane/cmd/x\"\n// Other words.\nfunc Do()  {}\n// T is.\ntype T struct{}\nfunc (T) M() { panic(\"fail" + "ed to\") } // TO" + "DO\n",
	"internal/store/s.go":               "// Package store is.\npackage store\nimport _ \"github.com/sealane/sealane/internal/kernel\"\nimport _ \"github.com/sealane/sealane/internal/kernel/fake\"\nimport _ \"github.com/sealane/sealane/internal/kernel/journal\"\n",
	"internal/kernel/util/u.go":         "// Package util is.\npackage util\nfunc long() {\n" + strings.Repeat("\tlong()\n", 600) + "}\n",
	"internal/elsewhere/e.go":           "// Package other is.\npackage other\n",
	"internal/store/s_test.go":          "package store\nimport \"testing\"\nfunc TestX(t *testing.T) { t.Skip() }\n",
	"internal/feature/featuretest/r.go": "// Package featuretest is.\npackage featuretest\nimport \"testing\"\nfunc require(t *testing.T) { t.Skip() }\n",
}

func TestEveryRuleCanFail(t *testing.T) {
	m := parse(bad)
	_, long := functions(m)
	skipped, _ := skips(m, nil)
	for _, c := range []struct {
		name string
		got  []string
		want []string // a part of each violation, in order
	}{
		{"imports", forbiddenImports(m, rules), []string{
			"e.go:3: internal/engine must not import os/exec: kernel/ is the only door",
			"e.go:4: internal/engine must not import cmd/x: main packages",
			"a.go:3: internal/model must not import os: this package is pure",
			"a.go:4: internal/model must not import internal/kstate: the words of the domain",
			"s.go:4: internal/store must not import internal/kernel/fake: this package exists for tests",
		}},
		{"direction", againstTheCurrent(m), []string{
			"elsewhere/e.go:2: internal/elsewhere is in no layer",
			"engine/e.go:4: internal/engine must not import cmd/x",
			"ipam/i.go:3: internal/ipam must not import internal/engine",
			"model/a.go:4: internal/model must not import internal/kstate",
			"store/s.go:3: internal/store must not import internal/kernel:",
		}},
		{"clocks", clocks(m), []string{"x.go:3: time.Now"}},
		{"package comments", packageComments(m), []string{"driver/x: no package comment", "model: package comments in"}},
		{"names documented", undocumented(m), []string{"x.go:3: Now", "e.go:6: Do", "e.go:9: M"}},
		{"files", longFiles(m), []string{"u.go: 604 lines"}},
		{"functions", long, []string{"u.go:3: long has 602 lines"}},
		{"package names", packageNames(m), []string{"elsewhere: package other: its directory", "util: package util: a name that fits everything"}},
		{"words", words(m), []string{"e.go:9: \"TO" + "DO\"", "e.go:9: \"fail"}},
		{"init", inits(m), []string{"x.go:4: func init"}},
		{"skips", skipped, []string{"s_test.go:3: Skip"}},
	} {
		slices.Sort(c.got)
		if !slices.EqualFunc(c.got, c.want, strings.Contains) {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, strings.Join(c.got, "\n"), strings.Join(c.want, "\n"))
		}
	}
	if got := unformatted(m); len(got) == 0 {
		t.Error("format: nothing found")
	}
}

func TestHeavyChains(t *testing.T) {
	graph := map[string][]string{
		"cmd/sealane":                    {"internal/cli", "fmt"},
		"internal/cli":                   {"internal/api", "internal/model"},
		"internal/api":                   {"github.com/vishvananda/netlink"},
		"github.com/vishvananda/netlink": {"github.com/vishvananda/netns"},
	}
	got := heavyChains(graph, "cmd/sealane", heavy)
	want := "cmd/sealane → internal/cli → internal/api → github.com/vishvananda/netlink: " + clientWhy
	if len(got) != 1 || got[0] != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
