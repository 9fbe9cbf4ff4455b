package kerneltest

import (
	"net/netip"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// Tunnelling is what somebody else does to ways to other hosts.
type Tunnelling interface {
	// Neigh makes a neighbour: permanent, or as the kernel might have found it out.
	Neigh(t *testing.T, n kstate.Neigh, permanent bool)
	// DropNeigh, DropFDB and DropRoute delete what is there: of an FDB what the
	// device has. Unbridge deletes what its bridge has.
	DropNeigh(t *testing.T, n kstate.Neigh)
	DropFDB(t *testing.T, o kstate.FDB)
	Unbridge(t *testing.T, o kstate.FDB)
	// Known sets how the bridge treats its port.
	Known(t *testing.T, dev string, on bool)
	DropRoute(t *testing.T, r kstate.Route)
	// Rule makes a rule without our mark. DropRule deletes one, whoever's it is.
	Rule(t *testing.T, r kstate.Rule)
	DropRule(t *testing.T, r kstate.Rule)
	// Detour sets whether packets whose source is reached by another device may come in
	// by a device of the host.
	Detour(t *testing.T, dev string, on bool)
}

// vxlan is one as Flannel has it.
func vxlan(name string, vni int, local, parent string) kstate.Link {
	l := kstate.Link{
		Name: name, Type: kstate.TypeVXLAN, MTU: 1430, MAC: hw(0xd, byte(vni)), Up: true, Parent: parent,
		VXLAN: kstate.VXLAN{VNI: vni, Port: 8472, NoLearning: true},
	}
	if local != "" {
		l.VXLAN.Local = netip.MustParseAddr(local)
	}
	return l
}

func tun(name string) kstate.Link {
	return kstate.Link{Name: name, Type: kstate.TypeTUN, MTU: 1472, Up: true}
}

func wireguard(name string) kstate.Link {
	// The kernel makes it so where nothing is filtered (drivers/net/wireguard/device.c).
	return kstate.Link{Name: name, Type: kstate.TypeWireGuard, MTU: 1420, Up: true, Detour: true}
}

func neigh(ns kstate.NS, dev, ip, mac string) kstate.Neigh {
	return kstate.Neigh{NS: ns, Dev: dev, Addr: netip.MustParseAddr(ip), MAC: mac}
}

func fdb(dev, mac, dst string) kstate.FDB {
	return kstate.FDB{Dev: dev, MAC: mac, Dst: netip.MustParseAddr(dst)}
}

// onlink is a route whose gateway no address tells of.
func onlink(dst, via, dev string) kstate.Route {
	r := route(host, dst, via, dev)
	r.Onlink = true
	return r
}

// fabric is a vxlan with its own address, and all that leads to two other hosts.
func fabric(l kstate.Link) []kstate.Object {
	dst := []string{"198.51.100.2", "198.51.100.3"}
	if l.VXLAN.Local.Is6() {
		dst = []string{"2001:db8:f::2", "2001:db8:f::3"}
	}
	return []kstate.Object{
		l, addr(host, l.Name, "10.5.1.0/32"), addr(host, l.Name, "2001:db8:1::/128"),
		onlink("10.5.2.0/24", "10.5.2.0", l.Name), onlink("10.5.3.0/24", "10.5.3.0", l.Name), onlink("2001:db8:2::/64", "2001:db8:2::", l.Name),
		neigh(host, l.Name, "10.5.2.0", hw(0xf, 2)), neigh(host, l.Name, "10.5.3.0", hw(0xf, 3)), neigh(host, l.Name, "2001:db8:2::", hw(0xf, 2)),
		fdb(l.Name, hw(0xf, 2), dst[0]), fdb(l.Name, hw(0xf, 3), dst[1]),
		fdb(l.Name, kstate.Everyone, dst[0]), fdb(l.Name, kstate.Everyone, dst[1]),
	}
}

// tunnelCases: devices that carry packets to other hosts.
var tunnelCases = []testcase{
	{"vxlan over a device of the host's, and the way to others", func(s *suite) {
		s.require("vxlan")
		s.Outside.Wire(s.T, "eth1", true)
		s.comesAndGoes(fabric(vxlan("slx1", 1, "192.0.2.1", "eth1"))...)
	}},
	{"vxlan over IPv6", func(s *suite) {
		s.require("vxlan")
		s.Outside.Wire(s.T, "eth1", true)
		s.comesAndGoes(fabric(vxlan("slx1", 1, "2001:db8:f::1", "eth1"))...)
	}},
	{"vxlan over what the host chooses, down, that learns and carries marks", func(s *suite) {
		s.require("vxlan")
		l := vxlan("slx1", 1<<24-1, "", "")
		l.Up, l.VXLAN.NoLearning, l.VXLAN.GBP, l.VXLAN.Port = false, false, true, 4789
		s.comesAndGoes(l)
	}},
	{"vxlan as a bridge port", func(s *suite) {
		s.require("vxlan")
		l := port(vxlan("slx1", 5, "192.0.2.1", ""), "slb1")
		l.Isolated, l.Hairpin, l.GroupForward = true, true, true
		s.comesAndGoes(bridge("slb1", 1), l, fdb("slx1", hw(0xf, 2), "198.51.100.2"), fdb("slx1", kstate.Everyone, "198.51.100.2"))
	}},
	{"two networks on one port", func(s *suite) {
		s.require("vxlan")
		s.comesAndGoes(vxlan("slx1", 1, "192.0.2.1", ""), vxlan("slx2", 2, "192.0.2.1", ""), vxlan("slx3", 1, "2001:db8:f::1", ""))
	}},
	{"what the kernel chooses of a tunnel is no difference", func(s *suite) {
		s.require("vxlan", "tun")
		s.Outside.Wire(s.T, "eth1", true)
		l, u := vxlan("slx1", 1, "192.0.2.1", "eth1"), tun("slt1")
		l.MTU, l.MAC, u.MTU = 0, "", 0
		s.settles(set(l, u))
		if got := s.observe()[l.Key()].(kstate.Link).MTU; got != 1450 {
			s.Errorf("mtu is %d", got)
		}
	}},
	{"what of a vxlan changes in place, with all that is on it", func(s *suite) {
		s.require("vxlan")
		s.Outside.Wire(s.T, "eth1", true)
		s.Outside.Wire(s.T, "eth2", true)
		for _, v6 := range []bool{false, true} {
			l := vxlan("slx1", 1, "192.0.2.1", "eth1")
			other := "192.0.2.9"
			if v6 {
				l, other = vxlan("slx1", 1, "2001:db8:f::1", "eth1"), "2001:db8:f::9"
			}
			s.reach(set(fabric(l)...))
			for _, alter := range []func(){
				func() { l.MTU = 1400 },
				func() { l.VXLAN.Local = netip.MustParseAddr(other) },
				func() { l.Parent = "eth2" },
				func() { l.VXLAN.NoLearning = false },
				func() { l.Parent, l.MTU, l.VXLAN.NoLearning = "eth1", 1430, true },
			} {
				alter()
				s.does(set(fabric(l)...), "~ "+l.String())
			}
			s.reach(kstate.Set{})
		}
	}},
	{"another parent allows longer packets", func(s *suite) {
		s.require("vxlan")
		s.Outside.Wire(s.T, "eth2", true)
		b := bridge("slb1", 1)
		b.MTU = 1300
		l := vxlan("slx1", 1, "192.0.2.1", "slb1")
		l.MTU = 1250
		s.reach(set(b, l))
		l.MTU, l.Parent = 1450, "eth2"
		s.does(set(b, l), "~ "+l.String())
		l.MTU, l.Parent = 1250, "slb1"
		s.does(set(b, l), "~ "+l.String())
	}},
	{"what of a vxlan is made anew, with all that is on it", func(s *suite) {
		s.require("vxlan")
		s.Outside.Wire(s.T, "eth1", true)
		l := vxlan("slx1", 1, "192.0.2.1", "eth1")
		s.reach(set(fabric(l)...))
		for _, alter := range []func(){
			func() { l.VXLAN.VNI = 2 },
			func() { l.VXLAN.Port = 4789 },
			func() { l.VXLAN.GBP = true },
			func() { l.Parent = "" },
			func() { l.VXLAN.Local = netip.Addr{} },
			func() { l.VXLAN.Local = netip.MustParseAddr("2001:db8:f::1") },
			func() { l.Parent = "eth1" },
		} {
			alter()
			want := set(fabric(l)...)
			if ops := s.reach(want); len(ops) < 1+len(want) || ops[0].New != nil || ops[1].Object().Key() != l.Key() {
				s.Errorf("want it removed and all of it made:\n%s", lines(ops))
			}
		}
	}},
	{"down, and another hardware address: the neighbours go, and Diff knows", func(s *suite) {
		s.require("vxlan")
		l := vxlan("slx1", 1, "192.0.2.1", "")
		all := fabric(l)
		s.reach(set(all...))
		l.MAC = hw(0xd, 99)
		s.does(set(append(fabric(l), l)...), "~ "+l.String(), "+ "+all[6].String(), "+ "+all[7].String(), "+ "+all[8].String())
		l.Up = false
		s.reach(set(l, all[1], all[9], all[10], all[11], all[12]))
		l.Up = true
		s.reach(set(append(fabric(l), l)...))
	}},
	{"a process that dies, and another that goes on", func(s *suite) {
		s.require("vxlan", "tun")
		s.Outside.Wire(s.T, "eth1", true)
		want := fabric(vxlan("slx1", 1, "192.0.2.1", "eth1"))
		s.reach(set(append(want, tun("slt1"))...))
		s.Kernel = s.Outside.Reopen(s.T)
		s.holds(append(want, tun("slt1"))...)
		s.cuts(set(tun("slt1")), set(want...))
	}},
	{"a vxlan goes with its parent and comes back with it", func(s *suite) {
		s.require("vxlan")
		s.Outside.Wire(s.T, "eth1", true)
		want := set(fabric(vxlan("slx1", 1, "192.0.2.1", "eth1"))...)
		s.reach(want)
		s.Outside.Delete(s.T, "eth1")
		s.holds()
		s.refuses(kernel.ErrMissing, vxlan("slx1", 1, "192.0.2.1", "eth1"))
		s.Outside.Wire(s.T, "eth1", true)
		s.reach(want)
	}},
	{"what somebody does to a tunnel is made good", func(s *suite) {
		s.require("vxlan", "tun")
		all := fabric(vxlan("slx1", 1, "192.0.2.1", ""))
		want := set(append(all, tun("slt1"))...)
		s.reach(want)
		for _, act := range []func(){
			func() { s.Outside.Delete(s.T, "slx1") },
			func() { s.Outside.Delete(s.T, "slt1") },
			func() { s.Outside.SetUp(s.T, "slx1", false) },
			func() { s.Outside.DropRoute(s.T, all[3].(kstate.Route)) },
			func() { s.Outside.DropNeigh(s.T, all[6].(kstate.Neigh)) },
			func() { s.Outside.DropFDB(s.T, all[9].(kstate.FDB)) },
			func() { s.Outside.DropFDB(s.T, all[11].(kstate.FDB)) },
		} {
			act()
			if len(s.reach(want)) == 0 {
				s.Error("nothing was to be done")
			}
		}
	}},
	{"a vxlan that cannot be leaves nothing behind", func(s *suite) {
		s.require("vxlan")
		s.Outside.Wire(s.T, "eth1", true)
		s.add(vxlan("slx1", 1, "192.0.2.1", "eth1"))
		s.refuses(kernel.ErrInUse, vxlan("slx2", 1, "192.0.2.1", "eth1"))
		s.refuses(kernel.ErrMissing, vxlan("slx2", 2, "192.0.2.1", "eth9"))
		for _, alter := range []func(*kstate.Link){
			func(l *kstate.Link) { l.MTU = 1451 },
			func(l *kstate.Link) { l.VXLAN.VNI = 1 << 24 },
			func(l *kstate.Link) { l.VXLAN.Port = 0 },
			func(l *kstate.Link) { l.VXLAN.Local = netip.MustParseAddr("224.0.0.1") },
			func(l *kstate.Link) { l.NS = s.ns("a") },
			func(l *kstate.Link) { l.Name = "slx3456789abcdef" },
			func(l *kstate.Link) { l.Master = "slb9" },
		} {
			l := vxlan("slx2", 2, "192.0.2.1", "eth1")
			alter(&l)
			s.refuses(nil, l)
		}
		l := vxlan("slx2", 2, "192.0.2.1", "eth1")
		l.VXLAN.GBP = true
		s.refuses(kernel.ErrInUse, l) // the port is, without marks
		l.VXLAN.GBP = false
		s.add(l)
	}},
	{"tun, with addresses and routes", func(s *suite) {
		s.require("tun")
		s.bare(tun("slt1"))
	}},
	{"wireguard, with addresses and routes", func(s *suite) {
		s.require("wireguard")
		s.bare(wireguard("slg1"))
	}},
	{"tunnels have the names of no others", func(s *suite) {
		s.require("vxlan", "tun")
		s.Outside.Bridge(s.T, "br0")
		s.refuses(kernel.ErrInUse, vxlan("br0", 1, "192.0.2.1", ""))
		s.refuses(kernel.ErrInUse, tun("br0"))
		s.add(veth("slv1", host, "slw1", 1))
		s.refuses(kernel.ErrInUse, tun("slv1"))
		s.del(veth("slv1", host, "slw1", 1))
		s.add(tun("slv1")) // the name is free
		s.add(tun("slv1"))
		other := tun("slv1")
		other.MTU = 1000
		s.refuses(kernel.ErrInUse, other)
	}},
	{"one becomes the other, under its name", func(s *suite) {
		s.require("vxlan", "tun")
		a, b := vxlan("slt1", 1, "192.0.2.1", ""), tun("slt1")
		s.reach(set(a, addr(host, "slt1", "10.5.1.0/32")))
		s.reach(set(b, addr(host, "slt1", "10.5.1.0/32")))
		s.reach(set(a, addr(host, "slt1", "10.5.1.0/32")))
	}},
	{"hints for what others do to a vxlan and its parent, not for what we do", func(s *suite) {
		s.require("vxlan", "tun")
		s.Outside.Wire(s.T, "eth1", true)
		l := vxlan("slx1", 1, "192.0.2.1", "eth1")
		s.reach(set(fabric(l)...))
		time.Sleep(settling)
		hinted := s.watch()
		s.reach(set(tun("slt1")))
		s.reach(set(fabric(l)...))
		if hinted(500 * time.Millisecond) {
			s.Error("a hint for our own ops")
		}
		time.Sleep(settling)
		s.Outside.SetUp(s.T, "eth1", false)
		if !hinted(3 * time.Second) {
			s.Error("no hint of the parent")
		}
		time.Sleep(settling)
		s.Outside.Delete(s.T, "slx1")
		if !hinted(3 * time.Second) {
			s.Error("no hint of the device")
		}
	}},
}

// bare checks a device without a hardware address.
func (s *suite) bare(l kstate.Link) {
	s.Helper()
	s.comesAndGoes(l, addr(host, l.Name, "10.5.1.0/32"), addr(host, l.Name, "2001:db8:1::1/128"),
		route(host, "10.5.0.0/16", "", l.Name), route(host, "2001:db8::/32", "", l.Name))
	want := l
	s.reach(set(l))
	for _, alter := range []func(){func() { want.MTU = 1400 }, func() { want.Up = false }, func() { want = l }} {
		alter()
		s.does(set(want), "~ "+want.String())
	}
	s.refuses(nil, neigh(host, l.Name, "10.5.2.0", hw(0xf, 2)))
	s.refuses(nil, fdb(l.Name, hw(0xf, 2), "198.51.100.2"))
	s.add(bridge("slb1", 1))
	for _, alter := range []func(*kstate.Link){
		func(l *kstate.Link) { l.MAC = hw(0xd, 1) },
		func(l *kstate.Link) { l.Master = "slb1" },
		func(l *kstate.Link) { l.Parent = "slb1" },
		func(l *kstate.Link) { l.NoARP = true },
		func(l *kstate.Link) { l.MTU = 66000 },
	} {
		wrong := l
		wrong.Name = "sltwrong"
		alter(&wrong)
		s.refuses(nil, wrong)
	}
	s.del(bridge("slb1", 1))
	s.reach(kstate.Set{})
}
