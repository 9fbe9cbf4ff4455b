package main

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealane/sealane/internal/feature"
	"github.com/sealane/sealane/internal/feature/featuretest"
	"github.com/sealane/sealane/internal/lab"
)

var update = flag.Bool("update", false, "write docs/generated/cni.md anew")

const (
	generated = "../../docs/generated/cni.md"
	written   = "<!-- Written by go test ./test/cni -update, below the prose of test/cni/page.md; do not edit. -->\n"
	reference = "/usr/lib/cni" // where Debian's containernetworking-plugins are
)

func TestMain(m *testing.M) {
	if code, ok := role(os.Args); ok {
		os.Exit(code)
	}
	lab.Main(m, "sealane", "sealane-cni", "sealaned")
}

// TestPage checks both plugins and holds the page against what came out.
func TestPage(t *testing.T) {
	featuretest.Require(t, feature.Nftables, feature.Holds, feature.NSID, feature.IPv6, feature.Veth, feature.Bridge)
	prose, err := os.ReadFile("page.md")
	if err != nil {
		t.Fatal(err)
	}
	bin := os.Getenv(lab.EnvBin)
	text := written + string(prose) + table([]column{
		inHost(t, target{Label: "bridge " + debian(t), Plugin: filepath.Join(reference, "bridge")}),
		inHost(t, target{Plugin: filepath.Join(bin, "sealane-cni"), Path: bin + ":" + reference,
			Setup: "exec sealaned", Ready: "test -S /run/sealane/sealane.sock"}),
	})
	if *update {
		if err := os.WriteFile(generated, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	old, _ := os.ReadFile(generated) // one that is not there is out of date
	if d := cmp.Diff(string(old), text); d != "" {
		t.Errorf("%s is out of date (go test ./test/cni -update writes it anew):\n%s", generated, d)
	}
}

// debian is the upstream version of the reference plugins.
func debian(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("dpkg-query", "-W", "-f", "${source:Upstream-Version}", "containernetworking-plugins").Output()
	if err != nil {
		t.Fatalf("containernetworking-plugins: %v", err)
	}
	version, _, _ := strings.Cut(string(out), "+")
	return version
}

// inHost checks a plugin.
func inHost(t *testing.T, p target) column {
	t.Helper()
	if err := p.complete(""); err != nil {
		t.Fatal(err)
	}
	col, err := p.check()
	if err != nil {
		t.Fatal(err)
	}
	if len(col.Findings) != len(checks()) {
		t.Fatalf("%s: %d findings of %d checks", p.Label, len(col.Findings), len(checks()))
	}
	return col
}

// nothingPasses are the checks that a plugin passes which does nothing and says
// that all is well. All others have to see through it.
func nothingPasses() []string {
	return []string{
		"version.answer", "version.bare", "version.silent", "version.released",
		"config.unknown", "del.never", "status.ready", "args.unknown", "args.malformed",
		"output.success", "output.silent", "tidy.processes", "tidy.devices", "tidy.mounts",
	}
}

func TestNothing(t *testing.T) {
	featuretest.Require(t, feature.Veth, feature.Bridge)
	config, err := os.ReadFile("testdata/nothing.json")
	if err != nil {
		t.Fatal(err)
	}
	plugin, err := filepath.Abs("testdata/nothing")
	if err != nil {
		t.Fatal(err)
	}
	col, err := (&target{Plugin: plugin, Config: string(config)}).check()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range col.Findings {
		if f.Outcome == passed {
			got = append(got, f.ID)
		}
	}
	if d := cmp.Diff(nothingPasses(), got); d != "" {
		t.Errorf("what a plugin passes that does nothing:\n%s", d)
	}
}

func TestChecksAreSane(t *testing.T) {
	ids := map[string]bool{}
	for _, c := range checks() {
		group, _, _ := strings.Cut(c.id, ".")
		switch {
		case ids[c.id]:
			t.Errorf("%s: twice", c.id)
		case headings()[group] == "":
			t.Errorf("%s: no heading", c.id)
		case !slices.Contains([]string{"must", "should", "convention", "sense"}, c.word):
			t.Errorf("%s: %q is no weight", c.id, c.word)
		case c.since != "" && !slices.Contains(released, c.since):
			t.Errorf("%s: no version %s", c.id, c.since)
		case strings.Contains(c.says, "|") || strings.HasSuffix(c.says, "."):
			t.Errorf("%s: %q", c.id, c.says)
		}
		ids[c.id] = true
	}
}
