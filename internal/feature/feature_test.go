package feature

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kernel"
)

// answers makes a feature that gives answers in turn.
func answers(errs ...error) (Feature, *int) {
	asked := 0
	return Feature{"x", "a moon", "tides", func() error {
		asked++
		return errs[asked-1]
	}}, &asked
}

func TestSureAnswersAreRemembered(t *testing.T) {
	no := fmt.Errorf("%w: really", kernel.ErrUnsupported)
	unsure := errors.New("permission denied")
	for _, c := range []struct {
		name  string
		errs  []error
		asked int
		want  string
	}{
		{"yes", []error{nil}, 1, ""},
		{"no", []error{no}, 1, "x: needs a moon: not supported by this kernel: really"},
		{"unsure", []error{unsure, unsure, unsure}, 3, "x: cannot tell whether this kernel has it: permission denied"},
		{"unsure, then yes", []error{unsure, nil}, 2, ""},
	} {
		f, asked := answers(c.errs...)
		var cache Cache
		var err error
		for range 3 {
			err = cache.check(f)
		}
		if got := fmt.Sprint(err); *asked != c.asked || got != c.want && (err != nil || c.want != "") {
			t.Errorf("%s: asked %d times, %q: want %d times, %q", c.name, *asked, got, c.asked, c.want)
		}
		var missing *Missing
		if errors.As(err, &missing) != (c.name == "no") {
			t.Errorf("%s: %T", c.name, err)
		}
	}
}

func TestUnknownFeature(t *testing.T) {
	var missing *Missing
	if err := Check("teleport"); err == nil || errors.As(err, &missing) {
		t.Errorf("%v: want an error that is no *Missing", err)
	}
}

// On a real kernel root gets a sure answer to everything, others unless they may
// not ask; and every feature says what it needs.
func TestAll(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range All() {
		var missing *Missing
		refused := os.Geteuid() != 0 && errors.Is(a.Err, os.ErrPermission)
		if a.Err != nil && !errors.As(a.Err, &missing) && !refused {
			t.Errorf("%v: want a sure answer", a.Err)
		}
		if seen[a.Name] || a.Needs == "" || strings.ToLower(a.Name) != a.Name {
			t.Errorf("%q: want a name of its own in lower case, and what it needs", a.Name)
		}
		seen[a.Name] = true
		t.Logf("%-13s %v", a.Name, a.Err)
	}
}
