package kstate_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/sealane/sealane/internal/kstate"
)

func macvlan(ns kstate.NS, name, parent string) kstate.Link {
	return kstate.Link{NS: ns, Name: name, Type: kstate.TypeMacvlan, Parent: parent, Mode: "bridge", MTU: 1500, MAC: "02:00:00:00:00:04", Up: true}
}

func vlan(parent string, id int) kstate.Link {
	return kstate.Link{Name: fmt.Sprintf("%s.%d", parent, id), Type: kstate.TypeVLAN, Parent: parent, VLAN: id, Up: true}
}

func TestLowerTexts(t *testing.T) {
	leg := route(host, "192.0.2.2/32", "", "slm1")
	leg.Src = netip.MustParseAddr("192.0.2.9")
	for want, o := range map[string]kstate.Object{
		"netns /run/sealane/netns/web link eth0 type macvlan parent eth1 mode bridge mtu 1500 address 02:00:00:00:00:04 up": macvlan(web, "eth0", "eth1"),
		"link slm1 type ipvlan parent eth1 mode l3s private noarp up":                                                       kstate.Link{Name: "slm1", Type: kstate.TypeIPvlan, Parent: "eth1", Mode: "l3s", Flag: "private", NoARP: true, Up: true},
		"link eth1.10 type vlan parent eth1 id 10 up":                                                                       vlan("eth1", 10),
		"raise eth1": kstate.Raise{Dev: "eth1"},
		"route 192.0.2.2/32 dev slm1 src 192.0.2.9": leg,
	} {
		if o.String() != want {
			t.Errorf("%s\nwant\n%s", o, want)
		}
	}
}

// TestLowerOrder: first what is there goes up, then what is on it, one upon the
// other; and what goes takes along all that is on it.
func TestLowerOrder(t *testing.T) {
	want := set(kstate.NetNS{NS: web}, kstate.Raise{Dev: "eth1"}, vlan("eth1", 10), macvlan(web, "eth0", "eth1.10"),
		bridge("slb1"), veth("slv1", "slb1", web, "eth1"), addr(web, "eth0", "192.0.2.2/24"), route(web, "0.0.0.0/0", "192.0.2.1", "eth0"))
	check := func(what string, ops []kstate.Op, keys ...string) {
		t.Helper()
		var got []string
		for _, op := range ops {
			got = append(got, op.String()[:1]+" "+op.Object().Key().ID)
		}
		if !slices.Equal(got, keys) {
			t.Errorf("%s: %q, want %q", what, got, keys)
		}
	}
	ns := web.String()
	check("all of it", kstate.Diff(kstate.Set{}, want),
		"+ "+ns, "+ eth1", "+  slb1", "+  slv1", "+  eth1.10", "+ "+ns+" eth0", "+ "+ns+" eth0 192.0.2.2/24", "+ "+ns+" 0.0.0.0/0")
	left := set(kstate.NetNS{NS: web}, bridge("slb1"), veth("slv1", "slb1", web, "eth1"))
	check("the VLAN goes", kstate.Diff(want, left), "-  eth1.10", "- eth1")

	other := macvlan(web, "eth0", "eth1.10")
	other.Mode = "private"
	anew := kstate.Set{}
	for k, o := range want {
		anew[k] = o
	}
	anew[other.Key()] = other
	check("another mode", kstate.Diff(want, anew),
		"- "+ns+" eth0", "+ "+ns+" eth0", "+ "+ns+" eth0 192.0.2.2/24", "+ "+ns+" 0.0.0.0/0")
}

// TestRaised: a device that is up without us needs nothing, and stays up.
func TestRaised(t *testing.T) {
	up := kstate.Link{Name: "eth1", Type: "ether", Up: true, Other: true}
	down := up
	down.Up = false
	raise := kstate.Raise{Dev: "eth1"}
	for _, c := range []struct {
		what       string
		have, want kstate.Set
		ops        int
	}{
		{"it is up", set(up), set(raise), 0},
		{"it is down", set(down), set(raise), 1},
		{"it is gone", set(), set(raise), 1},
		{"we raised it", set(up, raise), set(raise), 0},
		{"nobody wants it", set(up, raise), set(), 1},
		{"it was up", set(up), set(), 0},
	} {
		if ops := kstate.Diff(c.have, c.want); len(ops) != c.ops {
			t.Errorf("%s: %v", c.what, ops)
		}
	}
}
