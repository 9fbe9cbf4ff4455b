package docs

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestArchitectureIsComplete looks for every package in the map of the code, and
// for every file of package compile.
func TestArchitectureIsComplete(t *testing.T) {
	const page = "docs/ARCHITECTURE.md"
	plan := text(t, page)
	want := map[string]bool{}
	for _, pattern := range []string{"internal/*/*.go", "internal/*/*/*.go"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, f := range files {
			dir, name := filepath.Split(strings.TrimPrefix(f, root+"/"))
			want[strings.TrimPrefix(strings.TrimSuffix(dir, "/"), "internal/")+"`"] = true
			if dir == "internal/compile/" && !strings.HasSuffix(name, "_test.go") {
				want["`"+name+"`"] = true
			}
		}
	}
	for name := range want {
		if !strings.Contains(plan, name) {
			t.Errorf("%s: nothing about %s", page, strings.Trim(name, "`"))
		}
	}
}

// TestExampleIsInstalled holds the example of a CNI network to the file that make
// install brings.
func TestExampleIsInstalled(t *testing.T) {
	const page, file = "docs/cni.md", "init/10-sealane.conflist"
	var shown strings.Builder
	for _, c := range blocks(text(t, page), "json")[0] {
		shown.WriteString(c.text + "\n")
	}
	if want := text(t, file); shown.String() != want {
		t.Errorf("%s shows\n%s\nand %s is\n%s", page, shown.String(), file, want)
	}
}
