package rtnl

import (
	"net/netip"
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
		{VNI: 1<<24 - 1, Port: 65535, Local: netip.MustParseAddr("192.0.2.1"), NoLearning: true},
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
		{"the bridge's", aNeigh(unix.AF_BRIDGE, unix.NUD_PERMANENT, unix.NTF_MASTER), ours, false},
	} {
		got, ok := parseNeigh(body(c.m), c.of)
		want.bridge = got.bridge
		if ok != c.ok || ok && got != want {
			t.Errorf("%s: %+v, %v", c.name, got, ok)
		}
	}
}
