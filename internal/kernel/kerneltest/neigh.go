package kerneltest

import (
	"net/netip"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// insider is a sandbox with a device that has addresses.
func (s *suite) insider() []kstate.Object {
	a := s.ns("a")
	return []kstate.Object{kstate.NetNS{NS: a}, veth("slv1", a, "eth0", 1), addr(a, "eth0", "192.0.2.2/24"), addr(a, "eth0", "2001:db8::2/64")}
}

// neighCases: neighbours and forwarding entries that nobody need ask for.
var neighCases = []testcase{
	{"neighbours of both families, in the host and in a sandbox", func(s *suite) {
		a := s.ns("a")
		s.comesAndGoes(append(s.insider(), bridge("slb1", 1),
			neigh(a, "eth0", "192.0.2.9", hw(0xf, 1)), neigh(a, "eth0", "2001:db8::9", hw(0xf, 1)), neigh(a, "eth0", "fe80::9", hw(0xf, 1)),
			neigh(host, "slb1", "192.0.2.9", hw(0xf, 1)), neigh(host, "slb1", "2001:db8::9", hw(0xf, 1)))...)
	}},
	{"another hardware address, in place", func(s *suite) {
		a := s.ns("a")
		base := append(s.insider(), bridge("slb1", 1))
		for _, at := range []kstate.Neigh{neigh(a, "eth0", "192.0.2.9", ""), neigh(a, "eth0", "2001:db8::9", ""), neigh(host, "slb1", "192.0.2.9", "")} {
			at.MAC = hw(0xf, 1)
			s.reach(set(append(base, at)...))
			at.MAC = hw(0xf, 2)
			s.does(set(append(base, at)...), "~ "+at.String())
			s.add(neigh(at.NS, at.Dev, at.Addr.String(), hw(0xf, 3))) // over what is there
			s.does(set(append(base, at)...), "~ "+at.String())
		}
	}},
	{"with the device, its last address and its hardware address", func(s *suite) {
		a := s.ns("a")
		base := s.insider()
		four, six := neigh(a, "eth0", "192.0.2.9", hw(0xf, 1)), neigh(a, "eth0", "2001:db8::9", hw(0xf, 1))
		s.reach(set(append(base, four, six)...))
		l := base[1].(kstate.Link)
		l.Peer.MAC = hw(0xc, 9)
		s.does(set(base[0], l, base[2], base[3], four, six), "~ "+l.String(), "+ "+four.String(), "+ "+six.String())
		s.reach(set(base[0], l, addr(a, "eth0", "192.0.2.3/24"), base[3], four, six))
		s.reach(set(base[0], l, base[3], six))
		s.reach(set(base[0], l, base[2], base[3], four, six))
		s.del(l)
		s.holds(base[0])
	}},
	{"what the kernel finds out is no object, and in nobody's way", func(s *suite) {
		b := bridge("slb1", 1)
		want := neigh(host, "slb1", "192.0.2.9", hw(0xf, 1))
		s.reach(set(b, addr(host, "slb1", "192.0.2.1/24")))
		s.Outside.Neigh(s.T, neigh(host, "slb1", "192.0.2.8", hw(0xf, 8)), false)
		s.Outside.Neigh(s.T, neigh(host, "slb1", "192.0.2.9", hw(0xf, 8)), false)
		s.holds(b, addr(host, "slb1", "192.0.2.1/24"))
		s.does(set(b, addr(host, "slb1", "192.0.2.1/24"), want), "+ "+want.String())
	}},
	{"somebody's on a device of ours is not wanted, on another's not looked at", func(s *suite) {
		s.Outside.Bridge(s.T, "br0")
		b := bridge("slb1", 1)
		s.reach(set(b))
		s.Outside.Neigh(s.T, neigh(host, "br0", "192.0.2.8", hw(0xf, 8)), true)
		s.holds(b)
		n := neigh(host, "slb1", "192.0.2.8", hw(0xf, 8))
		s.Outside.Neigh(s.T, n, true)
		s.does(set(b), "- "+n.String())
	}},
	{"somebody's in a sandbox is his, and ours beside it ours", func(s *suite) {
		a := s.ns("a")
		theirs, ours := neigh(a, "eth0", "192.0.2.8", hw(0xf, 8)), neigh(a, "eth0", "192.0.2.9", hw(0xf, 9))
		base := s.insider()
		s.reach(set(base...))
		s.Outside.Neigh(s.T, theirs, true)
		s.holds(base...)
		s.reach(set(append(base, ours)...))
		s.Kernel = s.Outside.Reopen(s.T)
		s.holds(append(base, ours)...)
		s.Outside.DropNeigh(s.T, ours)
		s.does(set(append(base, ours)...), "+ "+ours.String())
		theirs.MAC = hw(0xf, 7)
		s.does(set(append(base, ours, theirs)...), "+ "+theirs.String()) // wanted now
		s.reach(set(base...))
	}},
	{"neighbours that cannot be", func(s *suite) {
		s.Outside.Bridge(s.T, "br0")
		s.add(bridge("slb1", 1))
		s.refuses(kernel.ErrMissing, neigh(host, "slb9", "192.0.2.9", hw(0xf, 1)))
		s.refuses(kernel.ErrInUse, neigh(host, "br0", "192.0.2.9", hw(0xf, 1)))
		s.refuses(kernel.ErrNoNamespace, neigh(s.ns("a"), "eth0", "192.0.2.9", hw(0xf, 1)))
		for _, mac := range []string{"", "02:00", "01:00:5e:00:00:01", "02:00:00:00:00:00:00:01"} {
			s.refuses(nil, neigh(host, "slb1", "192.0.2.9", mac))
		}
		for _, ip := range []string{"0.0.0.0", "224.0.0.1", "fe80::1%slb1", "::ffff:192.0.2.9"} {
			s.refuses(nil, neigh(host, "slb1", ip, hw(0xf, 1)))
		}
		s.refuses(nil, kstate.Neigh{Dev: "slb1", MAC: hw(0xf, 1)})
		s.del(neigh(host, "slb9", "192.0.2.9", hw(0xf, 1)), neigh(s.ns("a"), "eth0", "192.0.2.9", hw(0xf, 1)), neigh(host, "slb1", "192.0.2.9", hw(0xf, 1)))
	}},
	{"another host for a hardware address, in place", func(s *suite) {
		s.require("vxlan")
		l := vxlan("slx1", 1, "192.0.2.1", "")
		s.reach(set(l, fdb("slx1", hw(0xf, 1), "198.51.100.2"), fdb("slx1", kstate.Everyone, "198.51.100.2")))
		want := set(l, fdb("slx1", hw(0xf, 1), "198.51.100.3"), fdb("slx1", kstate.Everyone, "198.51.100.2"))
		s.does(want, "~ "+fdb("slx1", hw(0xf, 1), "198.51.100.3").String())
		s.add(fdb("slx1", hw(0xf, 1), "198.51.100.4")) // over what is there
		s.does(want, "~ "+fdb("slx1", hw(0xf, 1), "198.51.100.3").String())
	}},
	{"hosts that everyone's frames go to come and go one by one", func(s *suite) {
		s.require("vxlan")
		l := vxlan("slx1", 1, "192.0.2.1", "")
		all := []kstate.Object{l}
		s.reach(set(l))
		for _, dst := range []string{"198.51.100.2", "198.51.100.3", "198.51.100.4"} {
			all = append(all, fdb("slx1", kstate.Everyone, dst))
			s.does(set(all...), "+ "+all[len(all)-1].String())
		}
		s.does(set(all[0], all[1], all[3]), "- "+all[2].String())
		s.does(set(all[0]), "- "+all[3].String(), "- "+all[1].String())
	}},
	{"forwarding entries that cannot be", func(s *suite) {
		s.require("vxlan")
		s.add(bridge("slb1", 1), vxlan("slx1", 1, "192.0.2.1", ""))
		s.refuses(kernel.ErrMissing, fdb("slx9", hw(0xf, 1), "198.51.100.2"))
		s.refuses(nil, fdb("slb1", hw(0xf, 1), "198.51.100.2"))
		s.refuses(kernel.ErrUnsupported, fdb("slx1", hw(0xf, 1), "2001:db8:f::2"))
		s.refuses(nil, fdb("slx1", hw(0xf, 1), "239.0.0.1"))
		s.refuses(nil, fdb("slx1", "33:33:00:00:00:01", "198.51.100.2"))
		s.refuses(nil, kstate.FDB{Dev: "slx1", MAC: hw(0xf, 1)})
		s.del(fdb("slx9", hw(0xf, 1), "198.51.100.2"), fdb("slx1", hw(0xf, 1), "198.51.100.2"), fdb("slx1", kstate.Everyone, "198.51.100.2"))
	}},
}

// hole is a blackhole.
func hole(ns kstate.NS, dst string) kstate.Route {
	return kstate.Route{NS: ns, Dst: prefix(dst), Blackhole: true}
}

// wayCases: routes by gateways that no address tells of, to nowhere, and for
// packets of some length.
var wayCases = []testcase{
	{"onlink, with an MTU, and blackholes, in the host and in a sandbox", func(s *suite) {
		a := s.ns("a")
		long := onlink("10.5.2.0/24", "10.5.2.0", "slb1")
		long.MTU, long.Src = 1400, netip.MustParseAddr("192.0.2.1")
		long6 := onlink("2001:db8:2::/64", "2001:db8:2::", "slb1")
		long6.MTU = 1300
		s.comesAndGoes(append(s.insider(), bridge("slb1", 1), addr(host, "slb1", "192.0.2.1/24"),
			long, long6, hole(host, "10.5.0.0/16"), hole(host, "2001:db8::/32"), hole(a, "10.5.0.0/16"), hole(a, "::/0"))...)
	}},
	{"another way in place", func(s *suite) {
		base := []kstate.Object{bridge("slb1", 1), addr(host, "slb1", "192.0.2.1/24"), addr(host, "slb1", "2001:db8::1/64")}
		for _, r := range []kstate.Route{route(host, "10.5.2.0/24", "192.0.2.9", "slb1"), route(host, "2001:db8:2::/64", "2001:db8::9", "slb1")} {
			s.reach(set(append(base, r)...))
			r.MTU = 1400
			s.does(set(append(base, r)...), "~ "+r.String())
			r.Onlink = true
			s.does(set(append(base, r)...), "~ "+r.String())
			r.MTU = 0
			s.does(set(append(base, r)...), "~ "+r.String())
			h := hole(host, r.Dst.String())
			s.does(set(append(base, h)...), "~ "+h.String())
			s.does(set(append(base, r)...), "~ "+r.String())
			s.reach(set(base...))
		}
	}},
	{"a blackhole outlives all devices", func(s *suite) {
		h := hole(host, "10.5.0.0/16")
		s.reach(set(bridge("slb1", 1), addr(host, "slb1", "192.0.2.1/24"), h))
		s.reach(set(h))
		s.Outside.DropRoute(s.T, h)
		s.does(set(h), "+ "+h.String())
	}},
	{"a route in the place of a blackhole, with its device", func(s *suite) {
		s.require("vxlan")
		h, r := hole(host, "10.5.2.0/24"), onlink("10.5.2.0/24", "10.5.2.0", "slx1")
		l := vxlan("slx1", 1, "192.0.2.1", "")
		s.reach(set(h))
		s.reach(set(l, r))
		s.reach(set(h))
	}},
	{"ways that cannot be", func(s *suite) {
		s.Outside.Bridge(s.T, "br0")
		s.add(bridge("slb1", 1), addr(host, "slb1", "192.0.2.1/24"))
		s.refuses(nil, onlink("10.5.2.0/24", "192.0.2.1", "slb1"))
		s.refuses(nil, onlink("10.5.2.0/24", "", "slb1"))
		s.refuses(kernel.ErrMissing, onlink("10.5.2.0/24", "10.5.2.0", "slb9"))
		for _, alter := range []func(*kstate.Route){
			func(r *kstate.Route) { r.Dev = "slb1" },
			func(r *kstate.Route) { r.Via = netip.MustParseAddr("192.0.2.9") },
			func(r *kstate.Route) { r.MTU = 1400 },
			func(r *kstate.Route) { r.Dst = netip.MustParsePrefix("10.5.2.1/24") },
		} {
			h := hole(host, "10.5.2.0/24")
			alter(&h)
			s.refuses(nil, h)
		}
		s.Outside.Route(s.T, prefix("203.0.113.0/24"), "br0")
		s.refuses(kernel.ErrInUse, hole(host, "203.0.113.0/24"))
		s.refuses(kernel.ErrNoNamespace, hole(s.ns("a"), "10.5.2.0/24"))
		s.del(hole(s.ns("a"), "10.5.2.0/24"), hole(host, "10.9.0.0/16"))
	}},
}
