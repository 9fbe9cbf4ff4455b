package compile_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/kstate"
)

// TestExceptions: which filters of others get a rule of ours, where, and which
// are beyond help.
func TestExceptions(t *testing.T) {
	const rule = ": meta mark and 0x10000000 == 0x10000000 accept"
	filter := func(hook string, ends kstate.Ending, reached ...string) kstate.Filter {
		return kstate.Filter{Table: kstate.Table{Family: "ip", Name: "filter"}, Chain: "BASE", Hook: hook, Ends: ends, Reached: reached}
	}
	early, late, owned := filter("forward", kstate.EndsPolicy), filter("forward", kstate.EndsPolicy), filter("forward", kstate.EndsLast)
	legacy, legacy6 := filter("input", kstate.EndsInside), filter("forward", kstate.EndsInside)
	legacy.Legacy, legacy6.Legacy, legacy6.Table.Family = true, true, "ip6"
	early.Priority, late.Priority, owned.Owned = -10, 10, true
	for _, c := range []struct {
		name     string
		filter   kstate.Filter
		proxy    uint16
		want     string
		helpless string
	}{
		{"open", filter("forward", kstate.EndsOpen, "DOCKER-USER"), 1, "", ""},
		{"policy", filter("forward", kstate.EndsPolicy), 0, "ip filter BASE", ""},
		{"docker", filter("forward", kstate.EndsPolicy, "DOCKER", "DOCKER-USER"), 0, "ip filter DOCKER-USER", ""},
		{"ufw beside docker", filter("forward", kstate.EndsPolicy, "DOCKER-USER", "ufw-before-forward"), 0, "ip filter ufw-before-forward", ""},
		{"chains of the other hook", filter("input", kstate.EndsPolicy, "DOCKER-USER", "ufw-before-forward"), 1, "ip filter BASE", ""},
		{"input", filter("input", kstate.EndsInside, "ufw-before-input"), 1, "ip filter ufw-before-input", ""},
		{"input without a proxy", filter("input", kstate.EndsPolicy, "ufw-before-input"), 0, "", ""},
		{"late", late, 0, "ip filter BASE", ""},
		{"early", early, 0, "", "chain BASE of table ip filter drops what it does not know before Sealane can judge it: give it a priority above -10"},
		{"owned", owned, 0, "", "chain BASE of table ip filter drops what it does not know, and only its owner may change it: have it accept packets with mark 0x10000000/0x10000000"},
		{"legacy", legacy, 1, "", "chain BASE of iptables-legacy drops what it does not know: iptables-legacy -I BASE -m mark --mark 0x10000000/0x10000000 -j ACCEPT has it let pass what Sealane does"},
		{"legacy without a proxy", legacy, 0, "", ""},
		{"legacy IPv6", legacy6, 0, "", "chain BASE of ip6tables-legacy drops what it does not know: ip6tables-legacy -I BASE -m mark --mark 0x10000000/0x10000000 -j ACCEPT has it let pass what Sealane does"},
	} {
		f := compile.Facts{Filters: []kstate.Filter{c.filter}, ProxyPort: c.proxy}
		var want []string
		if c.want != "" {
			want = []string{c.want + rule}
		}
		if got := compile.Exceptions(f); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", c.name, got, want)
		}
		if got := compile.Helpless(f); got != c.helpless {
			t.Errorf("%s: helpless: %q, want %q", c.name, got, c.helpless)
		}
	}
}

// TestMarked: what passes is marked once somebody may ask for that.
func TestMarked(t *testing.T) {
	for _, marked := range []bool{false, true} {
		all, err := compile.All(compile.Intent{}, compile.Facts{Marked: marked})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range all {
			if c, ok := o.(kstate.Chain); ok && c.Name == "pass" && strings.Contains(c.Rules[0], "mark set") != marked {
				t.Errorf("marked %v: %v", marked, c)
			}
		}
	}
}
