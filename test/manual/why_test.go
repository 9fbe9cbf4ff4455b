package manual

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// explanations say why lines of a snapshot are there. In the files of why/ an
// explanation is indented and comes after the lines that it is about; … in such
// a line stands for anything. The first one that fits a line explains it.
// Lines of sandboxes begin with "inside " instead of "in NAME: ".
type explanations struct {
	list    []*explanation
	missing map[string]bool
}

type explanation struct {
	line    string // with …
	pattern *regexp.Regexp
	text    string
	used    bool
}

func readWhy(t *testing.T, dir string) *explanations {
	t.Helper()
	w := &explanations{missing: map[string]bool{}}
	for _, name := range list(t, dir) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		w.read(t, name, string(b))
	}
	return w
}

func (w *explanations) read(t *testing.T, name, text string) {
	t.Helper()
	var open []*explanation // lines whose explanation is being read
	for l := range strings.Lines(text) {
		l = strings.TrimRight(l, "\n")
		switch {
		case l == "" || strings.HasPrefix(l, "#"):
		case strings.HasPrefix(l, "\t"):
			if len(open) == 0 {
				t.Fatalf("why/%s: %s: explains nothing", name, l)
			}
			for _, e := range open {
				e.text = strings.TrimSpace(e.text + " " + strings.TrimSpace(l))
			}
		default:
			if len(open) > 0 && open[0].text != "" {
				open = nil
			}
			e := &explanation{line: l, pattern: regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(l), "…", ".*") + "$")}
			open = append(open, e)
			w.list = append(w.list, e)
		}
	}
}

// sandboxPart is how lines of a sandbox begin.
var sandboxPart = regexp.MustCompile(`^in [^ ]+: `)

// why explains a line, and notes one that has no explanation.
func (w *explanations) why(line string) string {
	line = sandboxPart.ReplaceAllString(line, "inside ")
	for _, e := range w.list {
		if e.text != "" && e.pattern.MatchString(line) {
			e.used = true
			return e.text
		}
	}
	w.missing[line] = true
	return "**nobody explained this**"
}

// unused lists the explanations that no line needed.
func (w *explanations) unused() []string {
	var out []string
	for _, e := range w.list {
		if !e.used {
			out = append(out, e.line)
		}
	}
	return out
}

func TestExplanations(t *testing.T) {
	w := &explanations{missing: map[string]bool{}}
	w.read(t, "a.txt", "# not a line\nset a\nset b…\n\tholds\n\tthings\n\ninside route …\n\ta way\nrule x\n\tnobody needs it\n")
	for line, want := range map[string]string{
		"set a": "holds things", "set b2": "holds things", "in web: route default": "a way",
		"set a2": "", "a set a": "", "route default": "",
	} {
		got := w.why(line)
		if missing := w.missing[line]; missing != (want == "") || !missing && got != want {
			t.Errorf("%s: %q, missing %v", line, got, missing)
		}
	}
	if got := w.unused(); len(got) != 1 || got[0] != "rule x" {
		t.Errorf("unused: %q", got)
	}
}
