package kerneltest

import (
	"net/netip"

	"github.com/sealane/sealane/internal/kstate"
)

// asideCases: a default route of ours instead of what a namespace of others has,
// which comes back when ours goes.
var asideCases = []testcase{
	{"ours is used, and theirs is back when ours goes", func(s *suite) {
		ns, own, want := s.routed()
		s.reach(want)
		s.Kernel = s.Outside.Reopen(s.T)
		s.reach(want)
		if s.theirs(ns) {
			s.Error("theirs is not aside")
		}
		s.reach(own)
		if !s.theirs(ns) {
			s.Error("theirs is not back")
		}
		s.notedNothing()
	}},
	{"ours goes with its device", func(s *suite) {
		ns, own, want := s.routed()
		s.reach(want)
		delete(own, kstate.Link{Name: "slv2"}.Key())
		delete(own, addr(ns, "eth1", "198.51.100.2/24").Key())
		s.reach(own)
		if !s.theirs(ns) {
			s.Error("theirs is not back")
		}
		s.notedNothing()
	}},
	{"nobody asks for the namespace any more", func(s *suite) {
		ns, own, want := s.routed()
		s.reach(want)
		s.apply(kstate.Diff(s.observe(), kstate.Set{})...)
		s.reach(own, kstate.NetNS{NS: ns})
		s.notedNothing()
	}},
	{"the namespace is gone", func(s *suite) {
		ns, _, want := s.routed()
		s.reach(want)
		s.Outside.DropNetNS(s.T, ns)
		s.reach(kstate.Set{})
		s.notedNothing()
	}},
	{"there is none, and one comes later", func(s *suite) {
		ns := s.Outside.NetNS(s.T)
		link := veth("slv1", ns, "eth0", 1)
		a := kstate.Aside{NS: ns}
		s.add(link, a)
		want := set(link, a)
		if ops := kstate.Diff(s.observe(a), want); len(ops) > 0 {
			s.Errorf("to do:\n%s", lines(ops))
		}
		s.Outside.DefaultIn(s.T, ns, netip.MustParseAddr("192.0.2.9"), "eth0")
		s.apply(kstate.Diff(s.observe(a), want)...)
		if s.theirs(ns) {
			s.Error("theirs is not aside")
		}
	}},
	{"another of theirs came meanwhile, and counts", func(s *suite) {
		ns, own, want := s.routed()
		s.reach(want)
		s.del(kstate.Route{NS: ns, Dst: kstate.Aside{}.Dst(), Via: netip.MustParseAddr("198.51.100.1"), Dev: "eth1"})
		s.Outside.DefaultIn(s.T, ns, netip.MustParseAddr("192.0.2.8"), "eth0")
		s.reach(own)
		s.notedNothing()
		n := 0
		for _, o := range s.observe(kstate.Aside{NS: ns}) {
			if r, ok := o.(kstate.Route); ok && r.NS == ns && r.Dst.Bits() == 0 {
				if n++; r.Via != netip.MustParseAddr("192.0.2.8") {
					s.Errorf("there is %s", r)
				}
			}
		}
		if n != 1 {
			s.Errorf("%d default routes", n)
		}
	}},
	{"IPv6: ours comes first by its metric", func(s *suite) {
		ns := s.Outside.NetNS(s.T)
		link := veth("slv1", ns, "eth0", 1)
		r := route(ns, "::/0", "2001:db8::1", "eth0")
		r.First = true
		want := set(link, addr(ns, "eth0", "2001:db8::2/64"), r)
		s.reach(want)
		s.Kernel = s.Outside.Reopen(s.T)
		s.reach(want)
		s.reach(set(link))
	}},
}

// routed makes a namespace of others with a default route of theirs on eth0, which
// is a device of ours for want of another. It returns what is ours without and
// with a default route.
func (s *suite) routed() (ns kstate.NS, own, want kstate.Set) {
	s.Helper()
	ns = s.Outside.NetNS(s.T)
	objs := []kstate.Object{veth("slv1", ns, "eth0", 1), veth("slv2", ns, "eth1", 2), addr(ns, "eth0", "192.0.2.2/24"), addr(ns, "eth1", "198.51.100.2/24")}
	s.reach(set(objs...))
	s.Outside.DefaultIn(s.T, ns, netip.MustParseAddr("192.0.2.1"), "eth0")
	return ns, set(objs...), set(append(objs, kstate.Aside{NS: ns}, route(ns, "0.0.0.0/0", "198.51.100.1", "eth1"))...)
}

// theirs reports whether their default route is as they made it.
func (s *suite) theirs(ns kstate.NS) bool {
	s.Helper()
	r := kstate.Route{NS: ns, Dst: kstate.Aside{}.Dst(), Via: netip.MustParseAddr("192.0.2.1"), Dev: "eth0", Other: true}
	return s.observe(kstate.Aside{NS: ns})[r.Key()] != nil
}
