package trace

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/compile/compiletest"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

var update = flag.Bool("update", false, "write the goldens anew")

// TestGolden answers questions in the worlds of testdata/*.txtar. The name of each file
// after the world is a question, "FROM TO", "FROM TO:PORT/PROTOCOL" or "FROM TO:PORT/PROTOCOL
// by ENDPOINT", and " without TEXT" when the kernel lacks the objects that have TEXT in
// theirs. TO is a sandbox, an address or a service; FROM may be world:ADDRESS too, and then
// TO nothing but a port.
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
	for i, f := range ar.Files[1:] {
		got := ask(t, ar.Files[0].Data, f.Name)
		if d := gocmp.Diff(string(f.Data), got); d != "" && !*update {
			t.Errorf("%s (- golden, + answered; -update writes it anew):\n%s", f.Name, d)
		}
		ar.Files[i+1].Data = []byte(got)
	}
	if *update {
		if err := os.WriteFile(path, txtar.Format(ar), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func ask(t *testing.T, text []byte, question string) string {
	t.Helper()
	w := parseWorld(t, text)
	question, lacks, some := strings.Cut(question, " without ")
	if some {
		before := len(w.Have)
		for k, o := range w.Have {
			if strings.Contains(o.String(), lacks) {
				delete(w.Have, k)
			}
		}
		if len(w.Have) == before {
			t.Fatalf("%s: nothing has it", lacks)
		}
	}
	a, err := Explain(w, asked(t, w, question))
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	out := print("there", a.There)
	if a.Back != nil {
		out += print("back", *a.Back)
	}
	return out
}

func asked(t *testing.T, w World, question string) Question {
	t.Helper()
	question, backend, _ := strings.Cut(question, " by ")
	from, to, _ := strings.Cut(question, " ")
	q := Question{From: named(w, from), FromMates: mates(w, from), Backend: model.ID(backend)}
	if i := strings.LastIndex(to, ":"); i >= 0 && strings.Contains(to, "/") {
		p, err := model.ParseServicePort(to[i+1:])
		if err != nil {
			t.Fatal(err)
		}
		to, q.Port, q.Proto = strings.Trim(to[:i], "[]"), p.Port, p.Proto
	}
	if text, ok := strings.CutPrefix(from, "world:"); ok {
		q.Outside = netip.MustParseAddr(text)
	}
	if a, err := netip.ParseAddr(to); err == nil || to == "" {
		q.Addr = a
		return q
	}
	if q.Service = serviceNamed(w, to); q.Service != nil {
		return q
	}
	if q.To, q.ToMates = named(w, to), mates(w, to); q.To == nil && q.ToMates == nil {
		t.Fatalf("%s: no such sandbox", to)
	}
	return q
}

// serviceNamed is a service of some network, or nil.
func serviceNamed(w World, name string) *model.Service {
	for _, n := range w.Intent.Networks {
		if n.Overlay == nil {
			continue
		}
		if s := n.Overlay.Service(name); s != nil {
			return s
		}
	}
	return nil
}

func print(name string, w Way) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s -> %s arrives=%v mtu %d\n", name, w.Src, w.Dst, w.Arrives, w.MTU)
	for _, s := range w.Steps {
		fmt.Fprintln(&b, "", s)
	}
	if w.Why != "" {
		fmt.Fprintln(&b, " why:", w.Why)
	}
	return b.String()
}

func named(w World, name string) *model.Sandbox {
	for _, sb := range w.Intent.Sandboxes {
		if sb.Name == name {
			return sb
		}
	}
	return nil
}

// mates are what a sandbox on another host has on overlay networks.
func mates(w World, name string) []*model.Far {
	var all []*model.Far
	for _, n := range w.Intent.Networks {
		for i := 0; n.Overlay != nil && i < len(n.Overlay.Far); i++ {
			if f := n.Overlay.Far[i]; f.Sandbox == name {
				all = append(all, f)
			}
		}
	}
	return all
}

// worldFile is intent as compile's goldens write it, and what others have.
type worldFile struct {
	compiletest.File
	Links  []kstate.Link
	Addrs  []kstate.Addr
	Routes []kstate.Route
	Since  map[model.ID]time.Time // in touch with the cluster
}

func parseWorld(t *testing.T, text []byte) World {
	t.Helper()
	var f worldFile
	compiletest.Read(t, text, &f)
	in := f.Intent(t)
	f.Facts.Filters = nil
	want, err := compile.All(in, f.Facts)
	if err != nil {
		t.Fatal(err)
	}
	have := kstate.Set{}
	if err := have.Merge(want); err != nil {
		t.Fatal(err)
	}
	for _, o := range f.Links {
		o.Other = true
		have[o.Key()] = o
	}
	for _, o := range f.Addrs {
		o.Other = true
		have[o.Key()] = o
	}
	for _, o := range f.Routes {
		o.Other = true
		have[o.Key()] = o
	}
	w := World{Have: have, Want: want, Intent: in, Leases: map[model.ID]Leases{}}
	for id, since := range f.Since {
		w.Leases[id] = Leases{InTouch: true, Since: since}
	}
	return w
}
