package trace

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kstate"
)

// A choice that is not as it is to be is followed as it is, and what is wrong with it said.
func TestChoices(t *testing.T) {
	place := netip.MustParseAddrPort
	key := kstate.Choice{At: place("10.1.0.200:80")}.Key()
	for _, c := range []struct {
		name   string
		change func(*kstate.Choice)
		said   []string
	}{
		{"as it is to be", func(*kstate.Choice) {}, []string{"choice 10.1.0.200:80: one of 3 by chance", "becomes 10.1.0.7 port 8080"}},
		{"another backend", func(o *kstate.Choice) { o.Backends = []netip.AddrPort{place("10.1.0.4:80")} }, []string{
			"! connect(2): choice 10.1.0.200:80 is not as it is to be: sealane diff says more",
			"! connect(2): leads to 10.1.0.4 port 80, and is not to",
			"! connect(2): is to lead to 10.1.0.7 port 8080 too",
			"! connect(2): is to lead to 10.1.0.3 port 80 too",
			"choice 10.1.0.200:80: there is one", "becomes 10.1.0.4 port 80",
		}},
		{"another weight", func(o *kstate.Choice) { o.Backends = o.Backends[:2] }, []string{"! connect(2): choice 10.1.0.200:80 is not as it is to be", ": one of 2 by chance"}},
		{"another way", func(o *kstate.Choice) { o.Turns = true }, []string{"! connect(2): choice 10.1.0.200:80 is not as it is to be", ": one of 3 after the other"}},
		{"nobody", func(o *kstate.Choice) { o.Backends[0] = netip.AddrPort{} }, []string{
			"! number 0: no backend: arrives, but: connect(2): nothing says which backend has number 0: the host is to choose",
			"host: prerouting: chain service4: 10.1.0.200 port 80/tcp: goto pick3",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := worldOf(t, "choice")
			o := w.Have[key].(kstate.Choice)
			o.Backends = slices.Clone(o.Backends)
			c.change(&o)
			w.Have[key] = o
			checkChoice(t, w, c.said)
		})
	}
	t.Run("not to be", func(t *testing.T) {
		w := worldOf(t, "choice")
		delete(w.Want, key)
		checkChoice(t, w, []string{"! connect(2): choice 10.1.0.200:80 is not to be: the host is to choose", "becomes 10.1.0.7 port 8080"})
	})
}

func checkChoice(t *testing.T, w World, said []string) {
	t.Helper()
	a, err := Explain(w, Question{From: named(w, "api"), Service: serviceNamed(w, "shop")})
	text := print("there", a.There)
	if err != nil || !a.There.Arrives {
		t.Errorf("%v\n%s", err, text)
	}
	for _, s := range said {
		if !strings.Contains(text, s) {
			t.Errorf("%q is not said:\n%s", s, text)
		}
	}
	if wrong := strings.Contains(text, "!"); wrong != strings.Contains(strings.Join(said, "\n"), "!") {
		t.Errorf("wrong: %v\n%s", wrong, text)
	}
}
