package rtnl

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kstate"
)

func aTunnel(v kstate.VXLAN, parent int) *message {
	m := newMessage(unix.RTM_NEWLINK, 0).link(unix.AF_UNSPEC, 9, 0, 0).str(unix.IFLA_IFNAME, "slx1")
	return m.nest(unix.IFLA_LINKINFO, func() {
		m.str(unix.IFLA_INFO_KIND, "vxlan")
		m.nest(unix.IFLA_INFO_DATA, func() { m.vxlan(kstate.Link{Type: kstate.TypeVXLAN, VXLAN: v}, parent) })
	})
}

func TestVXLANRoundTrip(t *testing.T) {
	for _, v := range []kstate.VXLAN{
		{VNI: 1<<24 - 1, Port: 65535, Local: netip.MustParseAddr("192.0.2.1"), NoLearning: true, Proxy: true},
		{VNI: 1, Port: 4789, Local: netip.MustParseAddr("2001:db8::1"), GBP: true},
		{Port: 1},
	} {
		for _, parent := range []int{0, 7} {
			if d := parseDevice(body(aTunnel(v, parent))); d.vxlan != v || d.under != parent || d.name != "slx1" {
				t.Errorf("%+v, want %+v on %d", d, v, parent)
			}
		}
	}
}

func aNeigh(family uint8, state uint16, flags uint8) *message {
	return newMessage(unix.RTM_NEWNEIGH, 0).neigh(family, 9, state, flags).
		attr(unix.NDA_DST, []byte{198, 51, 100, 2}).attr(unix.NDA_LLADDR, []byte{2, 0, 0, 0, 0, 6}).u8(ndaProtocol, protocol)
}

func TestNeighbours(t *testing.T) {
	want := neighEntry{index: 9, addr: netip.MustParseAddr("198.51.100.2"), mac: "02:00:00:00:00:06", protocol: protocol}
	ours := func(index int) bool { return index == 9 }
	for _, c := range []struct {
		name string
		m    *message
		of   func(int) bool
		ok   bool
	}{
		{"permanent", aNeigh(unix.AF_INET, unix.NUD_PERMANENT, 0), ours, true},
		{"found out", aNeigh(unix.AF_INET, unix.NUD_REACHABLE, 0), ours, false},
		{"the kernel's own", aNeigh(unix.AF_INET, unix.NUD_NOARP, 0), ours, false},
		{"another device's", aNeigh(unix.AF_INET, unix.NUD_PERMANENT, 0), func(int) bool { return false }, false},
		{"without an address", newMessage(unix.RTM_NEWNEIGH, 0).neigh(unix.AF_INET, 9, unix.NUD_PERMANENT, 0), ours, false},
		{"the device's own", aNeigh(unix.AF_BRIDGE, unix.NUD_PERMANENT, unix.NTF_SELF), ours, true},
		{"the device's own, static", aNeigh(unix.AF_BRIDGE, unix.NUD_NOARP|unix.NUD_REACHABLE, unix.NTF_SELF|ntfSticky), ours, true},
		{"what the device learnt", aNeigh(unix.AF_BRIDGE, unix.NUD_REACHABLE, unix.NTF_SELF), ours, false},
		{"the bridge's", aNeigh(unix.AF_BRIDGE, unix.NUD_NOARP, ntfSticky), ours, true},
		{"what the bridge learnt", aNeigh(unix.AF_BRIDGE, unix.NUD_REACHABLE, 0), ours, false},
		{"the bridge's, for the host itself", aNeigh(unix.AF_BRIDGE, unix.NUD_PERMANENT, 0), ours, false},
	} {
		got, ok := parseNeigh(body(c.m), c.of)
		want.bridge = got.bridge
		want.master = got.master
		if ok != c.ok || ok && got != want {
			t.Errorf("%s: %+v, %v", c.name, got, ok)
		}
	}
}

// What a device and its bridge have of an address is one object, and one has to be
// there for half of it too.
func TestEntries(t *testing.T) {
	const a, b, c = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"
	dst, other := netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("198.51.100.3")
	all := []neighEntry{
		{mac: a, bridge: true, master: true}, {mac: c, bridge: true, master: true},
		{mac: a, bridge: true, addr: dst}, {mac: b, bridge: true, addr: dst},
		{mac: kstate.Everyone, bridge: true, addr: dst}, {mac: kstate.Everyone, bridge: true, addr: other},
	}
	want := []kstate.Object{
		kstate.FDB{Dev: "slx1", MAC: a, Dst: dst, Bridged: true}, kstate.FDB{Dev: "slx1", MAC: b, Dst: dst},
		kstate.FDB{Dev: "slx1", MAC: kstate.Everyone, Dst: dst}, kstate.FDB{Dev: "slx1", MAC: kstate.Everyone, Dst: other},
		kstate.FDB{Dev: "slx1", MAC: c, Bridged: true},
	}
	if got := entries("slx1", all); !slices.Equal(got, want) {
		t.Errorf("there is %v, want %v", got, want)
	}
}

func TestKnownPort(t *testing.T) {
	type attr struct {
		typ uint16
		v   uint8
	}
	for _, c := range []struct {
		name  string
		attrs []attr
		want  bool
	}{
		{"told nothing", nil, false},
		{"known", []attr{{unix.IFLA_BRPORT_LEARNING, 0}, {unix.IFLA_BRPORT_UNICAST_FLOOD, 0}, {unix.IFLA_BRPORT_MCAST_FLOOD, 1}, {unix.IFLA_BRPORT_BCAST_FLOOD, 1}}, true},
		{"of a kernel that knows less", []attr{{unix.IFLA_BRPORT_UNICAST_FLOOD, 0}, {unix.IFLA_BRPORT_LEARNING, 0}}, true},
		{"learnt from", []attr{{unix.IFLA_BRPORT_LEARNING, 1}, {unix.IFLA_BRPORT_UNICAST_FLOOD, 0}}, false},
		{"flooded", []attr{{unix.IFLA_BRPORT_LEARNING, 0}, {unix.IFLA_BRPORT_UNICAST_FLOOD, 1}}, false},
		{"not for many", []attr{{unix.IFLA_BRPORT_MCAST_FLOOD, 0}, {unix.IFLA_BRPORT_LEARNING, 0}, {unix.IFLA_BRPORT_UNICAST_FLOOD, 0}, {unix.IFLA_BRPORT_BCAST_FLOOD, 1}}, false},
		{"not for all", []attr{{unix.IFLA_BRPORT_LEARNING, 0}, {unix.IFLA_BRPORT_UNICAST_FLOOD, 0}, {unix.IFLA_BRPORT_BCAST_FLOOD, 0}}, false},
	} {
		var d device
		for _, a := range c.attrs {
			d.port(a.typ, []byte{a.v})
		}
		if d.known() != c.want {
			t.Errorf("%s: %v", c.name, d.known())
		}
	}
	m := newMessage(unix.RTM_NEWLINK, 0).link(unix.AF_UNSPEC, 9, 0, 0).port(kstate.Link{Known: true})
	if d := parseDevice(body(m)); !d.known() || d.isolated || d.hairpin || d.groups {
		t.Errorf("%+v", d)
	}
}
