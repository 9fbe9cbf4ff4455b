package trace

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/sealane/sealane/internal/kstate"
)

// followed are the sets that filter looks into, with the verdicts that it knows.
var followed = map[string][]string{
	"egress": {"goto leave", "goto stay", "goto arrived", "goto lodgers", "goto from_mesh", "drop"}, "onward": {"goto within", "goto across", "goto to_others", "goto to_mesh", "drop"}, "inside": {"goto pass", "goto to_nat"},
	"ingress4": {"drop", "goto to_nat", "goto to_routed", "goto to_open", "goto to_lodge", "goto to_mesh"}, "ingress6": {"drop", "goto to_nat", "goto to_routed", "goto to_open", "goto to_lodge", "goto to_mesh"},
	"to_host4": {"drop", "goto no_host", "goto mesh_host"}, "to_host6": {"drop", "goto no_host", "goto mesh_host"},
	"fabric4": nil, "within4": nil, "whole4": nil, "home4": nil, "masq4": nil, "source4": nil, "trusted": nil, "trunks": nil, "hosts4": nil, "hairpin4": nil, "exposed4": nil, "open4": nil, "open_ranges4": nil, "asked_from4": nil, "open_from4": nil, "around4": nil, "bridges": nil, "closed": nil,
	"near4": nil, "ranges4": nil, "proxy4": nil, "proxy_at4": nil, "proxy_ranges4": nil, "ports4": nil, "ports_at4": nil, "published4": nil, "published_at4": nil, "target4": nil, "target_at4": nil, "node4": nil, "vip4": nil, "service4": nil, "pick": nil, "backend4": nil, "answers4": nil, "here": nil,
}

// The firewall that is compiled has these sets, and no other verdicts in them.
func TestFilterKnowsTheFirewall(t *testing.T) {
	paths, _ := filepath.Glob("testdata/*.txtar")
	sets := map[string]bool{}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range parseWorld(t, txtar.Parse(b).Files[0].Data).Want {
			switch o := o.(type) {
			case kstate.NftSet:
				sets[o.Name] = true
			case kstate.Elem:
				verdicts, ok := followed[o.Set.Name]
				if ok && verdicts != nil && strings.HasPrefix(o.Set.Data, "verdict") && !slices.Contains(verdicts, o.Value) {
					t.Errorf("%s: not followed", o)
				}
			}
		}
	}
	for name := range followed {
		if !sets[name] {
			t.Errorf("no set %s in the firewall", name)
		}
	}
}

func TestHolds(t *testing.T) {
	for _, c := range []struct {
		part, key string
		want      bool
	}{
		{"10.5.0.0/16", "10.5.2.9", true}, {"10.5.0.0/16", "10.6.2.9", false}, {"10.5.2.9", "10.5.2.9", true},
		{"10.5.2.1-10.5.2.9", "10.5.2.9", true}, {"10.5.2.1-10.5.2.9", "10.5.2.10", false}, {"10.5.2.1-10.5.2.9", "10.5.2.0", false},
		{"fd00::/64", "fd00::9", true}, {"fd00::/64", "10.5.2.9", false}, {"slbx", "slby", false},
		{"eth0 . 10.5.2.0/24 . 10.5.1.0/24", "eth0 . 10.5.2.9 . 10.5.1.2", true}, {"eth0 . 10.5.2.0/24 . 10.5.1.0/24", "eth1 . 10.5.2.9 . 10.5.1.2", false},
		{"eth0 . 10.5.2.0/24", "eth0", false}, {"tcp . 8000-8010", "tcp . 8005", true}, {"tcp . 8000-8010", "tcp . 8011", false},
	} {
		if got := holds(strings.Split(c.part, " . "), strings.Split(c.key, " . ")); got != c.want {
			t.Errorf("%s, %s: %v", c.part, c.key, got)
		}
	}
}

// source-ip comes before the masquerade, and neither inside the network.
func TestSource(t *testing.T) {
	f := filter{}
	set := func(name, at, value string) {
		f.add(kstate.Elem{Set: &kstate.NftSet{Table: kstate.Table{Family: "inet", Name: "sealane"}, Name: name}, At: at, Value: value})
	}
	set("home4", "10.5.1.0/24 . slb1", "")
	set("masq4", "10.5.1.0/24", "")
	set("masq4", "10.6.1.0/24", "")
	set("source4", "10.6.1.0/24", "192.0.2.77")
	for _, c := range []struct{ src, out, to, by string }{
		{"10.5.1.2", "slb1", "invalid IP", ""}, {"10.5.1.2", "eth0", "invalid IP", "masquerade"},
		{"10.6.1.2", "eth0", "192.0.2.77", "source-ip"}, {"10.7.1.2", "eth0", "invalid IP", ""},
	} {
		if to, by := f.source(packet{src: netip.MustParseAddr(c.src), dst: netip.MustParseAddr("203.0.113.7"), out: c.out}); to.String() != c.to || by != c.by {
			t.Errorf("%s by %s: %s, %q", c.src, c.out, to, by)
		}
	}
}
