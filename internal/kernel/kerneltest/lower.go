package kerneltest

import (
	"errors"
	"net/netip"
	"time"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// macvlan is a device on one of the host's, in a namespace.
func macvlan(ns kstate.NS, name, parent string, mac byte) kstate.Link {
	return kstate.Link{NS: ns, Name: name, Type: kstate.TypeMacvlan, MTU: 1500, MAC: hw(0xc, mac), Up: true, Parent: parent, Mode: "bridge"}
}

func ipvlan(ns kstate.NS, name, parent, mode string) kstate.Link {
	return kstate.Link{NS: ns, Name: name, Type: kstate.TypeIPvlan, MTU: 1500, Up: true, Parent: parent, Mode: mode, NoARP: mode != "l2"}
}

func vlan(parent string, id int) kstate.Link {
	return kstate.Link{Name: parent + "." + itoa(id), Type: kstate.TypeVLAN, MTU: 1500, Up: true, Parent: parent, VLAN: id}
}

func up(dev string) kstate.Raise { return kstate.Raise{Dev: dev} }

func src(r kstate.Route, a string) kstate.Route {
	r.Src = netip.MustParseAddr(a)
	return r
}

// onLAN is a sandbox with a device on the host's eth1, and the host's own there.
func (s *suite) onLAN() []kstate.Object {
	a := s.ns("a")
	leg := addr(host, "slm1", "192.0.2.9/32")
	to := src(route(host, "192.0.2.2/32", "", "slm1"), "192.0.2.9")
	return []kstate.Object{
		kstate.NetNS{NS: a}, macvlan(host, "slm1", "eth1", 9), macvlan(a, "eth0", "eth1", 1), leg,
		addr(a, "eth0", "192.0.2.2/24"), addr(a, "eth0", "2001:db8::2/64"), route(a, "0.0.0.0/0", "192.0.2.1", "eth0"), to,
	}
}

// lowerCases: devices on devices of the host's, which may be somebody else's.
var lowerCases = []testcase{
	{"a device in a namespace, and one of the host's", func(s *suite) {
		s.Outside.Wire(s.T, "eth1", true)
		all := s.onLAN()
		s.comesAndGoes(all...)
		s.reach(set(all...))
		s.reach(set(all[0]))
		s.reach(kstate.Set{})
	}},
	{"every mode of macvlan", func(s *suite) {
		s.Outside.Wire(s.T, "eth1", true)
		for _, mode := range []string{"bridge", "vepa", "private", "passthru"} {
			l := macvlan(s.ns("a"), "eth0", "eth1", 1)
			if l.Mode = mode; mode == "passthru" {
				l.MAC = ""
			}
			s.settles(set(kstate.NetNS{NS: s.ns("a")}, l, addr(s.ns("a"), "eth0", "192.0.2.2/24")))
		}
		s.refuses(nil, macvlan(host, "slm1", "eth1", 2))
		s.refuses(kernel.ErrUnsupported, kstate.Link{Name: "slm1", Type: kstate.TypeMacvlan, Parent: "eth1", Mode: "hub"})
	}},
	{"what changes in place, and what is made anew", func(s *suite) {
		s.Outside.Wire(s.T, "eth1", true)
		s.Outside.Wire(s.T, "eth2", true)
		a := s.ns("a")
		want := set(kstate.NetNS{NS: a}, macvlan(a, "eth0", "eth1", 1), addr(a, "eth0", "192.0.2.2/24"))
		s.reach(want)
		l := macvlan(a, "eth0", "eth1", 2)
		l.MTU = 1400
		s.does(with(want, l), "~ "+l.String())
		l.Parent = "eth2"
		if ops := s.reach(with(want, l)); len(ops) != 3 {
			s.Errorf("want it removed and made again, with its address:\n%s", lines(ops))
		}
	}},
	{"a lone device is down until it is up", func(s *suite) {
		s.Outside.Wire(s.T, "eth1", true)
		l := macvlan(s.ns("a"), "eth0", "eth1", 1)
		l.Up = false
		s.reach(set(kstate.NetNS{NS: s.ns("a")}, l))
		l.Up = true
		s.does(set(kstate.NetNS{NS: s.ns("a")}, l), "~ "+l.String())
	}},
	{"another process finds them", func(s *suite) {
		s.Outside.Wire(s.T, "eth1", false)
		all := append(s.onLAN(), up("eth1"))
		s.reach(set(all...))
		s.Kernel = s.Outside.Reopen(s.T)
		s.holds(all...)
		s.reach(set(all...))
		s.reach(kstate.Set{})
	}},
	{"they go with their parent and come back with it", func(s *suite) {
		s.Outside.Wire(s.T, "eth1", true)
		want := set(s.onLAN()...)
		s.reach(want)
		s.Outside.Delete(s.T, "eth1")
		err := s.Kernel.Apply(s.Context(), kstate.Diff(s.observe(want.Sorted()...), want))
		if !errors.Is(err, kernel.ErrMissing) {
			s.Errorf("without the parent: %v", err)
		}
		s.holds(kstate.NetNS{NS: s.ns("a")})
		s.Outside.Wire(s.T, "eth1", true)
		s.reach(want)
	}},
	{"what somebody does to them is made good", func(s *suite) {
		s.Outside.Wire(s.T, "eth1", true)
		want := set(s.onLAN()...)
		s.reach(want)
		for _, act := range []func(){
			func() { s.Outside.Delete(s.T, "slm1") },
			func() { s.Outside.SetUp(s.T, "slm1", false) },
		} {
			act()
			if len(s.reach(want)) == 0 {
				s.Error("nothing was to be done")
			}
		}
	}},
	{"a parent that is down is set up, and down again afterwards", func(s *suite) {
		s.Outside.Wire(s.T, "eth1", false)
		want := set(up("eth1"), macvlan(host, "slm1", "eth1", 1))
		s.reach(want)
		if !s.isUp("eth1") {
			s.Fatal("it is down")
		}
		s.Outside.SetUp(s.T, "eth1", false)
		s.does(want, "+ "+up("eth1").String())
		s.reach(kstate.Set{})
		if s.isUp("eth1") {
			s.Error("it is still up")
		}
		s.noEntries()
	}},
	{"a parent that is up stays up", func(s *suite) {
		s.Outside.Wire(s.T, "eth1", true)
		want := set(macvlan(host, "slm1", "eth1", 1))
		s.reach(want)
		if ops := kstate.Diff(s.observe(), with(want, up("eth1"))); len(ops) > 0 {
			s.Errorf("still to do:\n%s", lines(ops))
		}
		s.add(up("eth1"))
		s.del(macvlan(host, "slm1", "eth1", 1), up("eth1"))
		if !s.isUp("eth1") {
			s.Error("it is down")
		}
		s.noEntries()
	}},
	{"a parent that somebody uses by now stays up", func(s *suite) {
		s.Outside.Wire(s.T, "eth1", false)
		s.reach(set(up("eth1")))
		s.Outside.Addr(s.T, "eth1", prefix("192.0.2.1/24"))
		s.reach(kstate.Set{})
		if !s.isUp("eth1") {
			s.Error("it is down")
		}
		s.noEntries()
	}},
	{"a parent that somebody has a device on by now stays up", func(s *suite) {
		s.Outside.Wire(s.T, "eth1", false)
		s.reach(set(up("eth1")))
		s.Outside.OnWire(s.T, "eth1", "mv0")
		s.reach(kstate.Set{})
		if !s.isUp("eth1") {
			s.Error("it is down")
		}
		s.noEntries()
	}},
	{"a parent that is gone", func(s *suite) {
		s.refuses(kernel.ErrMissing, macvlan(host, "slm1", "eth1", 1))
		s.refuses(kernel.ErrMissing, up("eth1"))
		s.Outside.Wire(s.T, "eth1", false)
		s.reach(set(up("eth1")))
		s.Outside.Delete(s.T, "eth1")
		s.del(up("eth1"))
		s.noEntries()
	}},
	{"a parent that cannot be one", func(s *suite) {
		s.refuses(nil, macvlan(host, "slm1", "lo", 1))
		s.Outside.Bridge(s.T, "br0")
		s.reach(set(bridge("slb1", 1), port(veth("slv1", host, "slw1", 1), "slb1")))
		s.refuses(kernel.ErrInUse, macvlan(host, "slm1", "slv1", 1))
		s.add(macvlan(host, "slm1", "br0", 1)) // a bridge itself can
	}},
	{"a namespace that is gone", func(s *suite) {
		s.Outside.Wire(s.T, "eth1", true)
		s.refuses(kernel.ErrNoNamespace, macvlan(s.ns("a"), "eth0", "eth1", 1))
		s.del(macvlan(s.ns("a"), "eth0", "eth1", 1))
	}},
	{"a name that is taken inside", func(s *suite) {
		s.Outside.Wire(s.T, "eth1", true)
		a := s.ns("a")
		s.add(kstate.NetNS{NS: a}, veth("slv1", a, "eth0", 1))
		s.refuses(kernel.ErrInUse, macvlan(a, "eth0", "eth1", 1))
	}},
	{"settings of a device are inside its namespace", func(s *suite) {
		const name = "net.ipv4.conf.eth0.forwarding"
		s.Outside.Bridge(s.T, "eth0")
		s.Outside.Wire(s.T, "eth1", true)
		before := s.Outside.Sysctl(s.T, name)
		s.add(kstate.NetNS{NS: s.ns("a")})
		l := macvlan(s.ns("a"), "eth0", "eth1", 1)
		l.Sysctls = "net.ipv4.conf.eth7.forwarding=1"
		s.refuses(kernel.ErrMissing, l)
		l.Sysctls = name + "=" + other(before)
		s.add(l)
		if got := s.Outside.Sysctl(s.T, name); got != before {
			s.Errorf("the host's is %s, was %s", got, before)
		}
	}},
	{"hints for what others do to them and to their parent, not for what we do", func(s *suite) {
		s.Outside.Wire(s.T, "eth1", true)
		want := set(s.onLAN()...)
		s.reach(want)
		time.Sleep(settling)
		hinted := s.watch()
		l := macvlan(s.ns("a"), "eth0", "eth1", 3)
		s.apply(kstate.Op{Old: macvlan(s.ns("a"), "eth0", "eth1", 1), New: l})
		s.del(l)
		s.add(l)
		if hinted(500 * time.Millisecond) {
			s.Error("a hint for our own ops")
		}
		time.Sleep(settling)
		s.Outside.SetUp(s.T, "eth1", false)
		if !hinted(3 * time.Second) {
			s.Error("no hint")
		}
	}},
	{"VLANs, and what is on them", func(s *suite) {
		s.require("vlan")
		s.Outside.Wire(s.T, "eth1", false)
		a, b := s.ns("a"), s.ns("b")
		want := set(kstate.NetNS{NS: a}, kstate.NetNS{NS: b}, up("eth1"), vlan("eth1", 10), vlan("eth1", 4094),
			macvlan(a, "eth0", "eth1.10", 1), macvlan(b, "eth0", "eth1.10", 2), macvlan(b, "eth1", "eth1.4094", 3),
			addr(a, "eth0", "192.0.2.2/24"), addr(b, "eth0", "192.0.2.3/24"))
		s.settles(want)
		s.Kernel = s.Outside.Reopen(s.T)
		s.settles(want)
		delete(want, vlan("eth1", 10).Key())
		delete(want, macvlan(a, "eth0", "eth1.10", 1).Key())
		delete(want, macvlan(b, "eth0", "eth1.10", 2).Key())
		delete(want, addr(a, "eth0", "192.0.2.2/24").Key())
		delete(want, addr(b, "eth0", "192.0.2.3/24").Key())
		s.settles(want)
		s.reach(kstate.Set{})
		s.noEntries()
	}},
	{"VLAN as a bridge port", func(s *suite) {
		s.require("vlan")
		s.Outside.Wire(s.T, "eth1", true)
		s.settles(set(bridge("slb1", 1), port(vlan("eth1", 10), "slb1")))
		s.reach(kstate.Set{})
	}},
	{"ipvlan in each mode, and beside macvlan", func(s *suite) {
		s.require("ipvlan")
		s.Outside.Wire(s.T, "eth1", true)
		a := s.ns("a")
		for _, mode := range []string{"l2", "l3", "l3s"} {
			for _, flag := range []string{"", "private", "vepa"} {
				l := ipvlan(a, "eth0", "eth1", mode)
				if l.Flag = flag; mode == "l3s" && flag == "vepa" {
					continue
				}
				s.settles(set(kstate.NetNS{NS: a}, l, addr(a, "eth0", "192.0.2.2/24"), addr(a, "eth0", "2001:db8::2/64"), route(a, "0.0.0.0/0", "", "eth0")))
				s.refuses(kernel.ErrInUse, macvlan(host, "slm1", "eth1", 1))
				s.reach(kstate.Set{})
			}
		}
	}},
}

// settles leads to want, in which some links leave something to the kernel: then
// nothing is left to do.
func (s *suite) settles(want kstate.Set) {
	s.Helper()
	s.apply(kstate.Diff(s.observe(want.Sorted()...), want)...)
	if left := kstate.Diff(s.observe(want.Sorted()...), want); len(left) > 0 {
		s.Fatalf("still to do:\n%s", lines(left))
	}
}

// isUp reports whether a device of the host is.
func (s *suite) isUp(dev string) bool {
	s.Helper()
	l, ok := s.observe()[kstate.Link{Name: dev}.Key()].(kstate.Link)
	if !ok {
		s.Fatalf("device %s is gone", dev)
	}
	return l.Up
}

// noEntries checks that the journal is empty.
func (s *suite) noEntries() {
	s.Helper()
	if e, err := s.Journal.Entries(); err != nil || len(e) > 0 {
		s.Errorf("journal has %v, %v", e, err)
	}
}

// require ends the case where the kernel lacks a feature.
func (s *suite) require(features ...string) {
	s.Helper()
	if s.Require != nil {
		s.Require(s.T, features...)
	}
}
