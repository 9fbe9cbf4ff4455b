package compile_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/compile/compiletest"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

var update = flag.Bool("update", false, "write the goldens anew")

// TestGolden compiles the intent of each testdata/*.txtar. The file "state" is
// all that comes of it but the fixed structure of the firewall; "firewall" is
// that, and "files" the content of the sandboxes' files, where a golden has
// them.
func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d goldens, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { golden(t, path) })
	}
}

func golden(t *testing.T, path string) {
	ar, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var f compiletest.File
	compiletest.Read(t, ar.Files[0].Data, &f)
	intent, facts := f.Intent(t), f.Facts
	set, err := compile.All(intent, facts)
	if err != nil {
		t.Fatal(err)
	}
	texts := sections(set)
	for i, f := range ar.Files[1:] {
		got, ok := texts[f.Name]
		if d := gocmp.Diff(string(f.Data), got); d != "" && !*update || !ok {
			t.Errorf("%s (- golden, + compiled; -update writes it anew):\n%s", f.Name, d)
		}
		ar.Files[i+1].Data = []byte(got)
	}
	if *update {
		if err := os.WriteFile(path, txtar.Format(ar), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// sections prints a set in the parts that goldens have.
func sections(set kstate.Set) map[string]string {
	part := map[string]*strings.Builder{"state": {}, "firewall": {}, "files": {}}
	for _, o := range set.Sorted() {
		to := "state"
		switch o := o.(type) {
		case kstate.Table, kstate.NftSet:
			to = "firewall"
		case kstate.Chain:
			c := o
			c.Rules = nil
			fmt.Fprintln(part["firewall"], c)
			for _, r := range o.Rules {
				fmt.Fprintln(part["firewall"], "\t"+r)
			}
			continue
		case kstate.File:
			fmt.Fprintf(part["files"], "# %s\n%s", o.Path, o.Content)
		case kstate.NetNS:
			fmt.Fprintf(part["state"], "%s %s\n", o, strings.Join(o.Sysctls, " "))
			continue
		}
		fmt.Fprintln(part[to], o)
	}
	out := map[string]string{}
	for name, b := range part {
		out[name] = b.String()
	}
	return out
}

func TestErrors(t *testing.T) {
	n := &model.Network{ID: "aaaaaaaaaaaa", Name: "app", Driver: "ghost"}
	in := compile.Intent{Networks: map[model.ID]*model.Network{n.ID: n}}
	if _, err := compile.All(in, compile.Facts{}); err == nil || err.Error() != `network app: driver "ghost": not known` {
		t.Error(err)
	}
	sb := &model.Sandbox{ID: "bbbbbbbbbbbb", Name: "web", Endpoints: []model.Endpoint{{ID: "cccccccccccc", Network: "dddddddddddd"}}}
	in = compile.Intent{Sandboxes: map[model.ID]*model.Sandbox{sb.ID: sb}}
	if _, err := compile.All(in, compile.Facts{}); err == nil || err.Error() != "sandbox web: endpoint cccccccccccc: network dddddddddddd does not exist" {
		t.Error(err)
	}
}

func TestNothingWantedIsNothing(t *testing.T) {
	set, err := compile.All(compile.Intent{}, compile.Facts{ProxyPort: 1, AcceptRA: []string{"eth0"}})
	if err != nil || len(set) != 0 {
		t.Errorf("%v, %v", set, err)
	}
}

func TestParseResolv(t *testing.T) {
	got := compile.ParseResolv(`# comment
nameserver 127.0.0.53
nameserver ::1
nameserver 192.0.2.53
nameserver 2001:db8::53
nameserver fe80::1%eth0
nameserver fe80::2
nameserver nonsense
domain old.example
search a.example b.example
options edns0
options ndots:2 rotate
sortlist 192.0.2.0
nameserver
`)
	if text := fmt.Sprintf("%v %v %v", got.Servers, got.Search, got.Options); text != "[192.0.2.53 2001:db8::53] [a.example b.example] [edns0 ndots:2 rotate]" {
		t.Error(text)
	}
}
