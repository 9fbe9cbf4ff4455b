package kerneltest

import (
	"errors"
	"strings"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// nic is a NIC of the host's that is lent to a namespace.
func nic(ns kstate.NS, name, home string) kstate.Link {
	return kstate.Link{NS: ns, Name: name, Type: kstate.TypeNIC, Parent: home, Up: true}
}

// atHome checks that a NIC is with the host, and who it is.
func (s *suite) atHome(dev string, was kstate.Link) {
	s.Helper()
	l, _ := s.observe()[kstate.Link{Name: dev}.Key()].(kstate.Link)
	if l.Index, was.Index = 0, 0; l != was {
		s.Errorf("at home there is\n%+v, and was\n%+v", l, was)
	}
}

func (s *suite) wire(dev string) kstate.Link {
	s.Outside.Wire(s.T, dev, true)
	return s.observe()[kstate.Link{Name: dev}.Key()].(kstate.Link)
}

// nicCases: NICs of the host's come back as they were.
var nicCases = []testcase{
	{"a NIC is lent and comes back", func(s *suite) {
		was := s.wire("eth2")
		a := s.ns("a")
		l := nic(a, "eth0", "eth2")
		want := set(kstate.NetNS{NS: a}, l, addr(a, "eth0", "192.0.2.2/24"), addr(a, "eth0", "2001:db8::2/64"), route(a, "0.0.0.0/0", "192.0.2.1", "eth0"))
		for range 2 {
			s.settles(want)
			if _, there := s.observe()[kstate.Link{Name: "eth2"}.Key()]; there {
				s.Error("it is still with the host")
			}
			s.add(l) // again
			s.reach(set(kstate.NetNS{NS: a}))
			s.atHome("eth2", was)
			s.noEntries()
		}
	}},
	{"what it is to be while it is away is not for home", func(s *suite) {
		was := s.wire("eth2")
		s.Outside.Addr(s.T, "eth2", prefix("192.0.2.7/24"))
		a := s.ns("a")
		l := nic(a, "eth0", "eth2")
		l.MTU, l.MAC = 1400, hw(0xc, 1)
		want := set(kstate.NetNS{NS: a}, l)
		s.reach(want)
		l.MTU, l.Up = 1300, false
		s.does(with(want, l), "~ "+l.String())
		s.reach(set(kstate.NetNS{NS: a}))
		s.atHome("eth2", was)
		back := kstate.Addr{Dev: "eth2", Prefix: prefix("192.0.2.7/24"), Other: true}
		if have := s.observe(); have[back.Key()] != kstate.Object(back) {
			s.Errorf("its address is gone:\n%s", have)
		}
	}},
	{"it is brought home before its namespace goes", func(s *suite) {
		was := s.wire("eth2")
		a := s.ns("a")
		s.settles(set(kstate.NetNS{NS: a}, nic(a, "eth0", "eth2"), addr(a, "eth0", "192.0.2.2/24")))
		if ops := s.reach(kstate.Set{}); len(ops) != 2 || !strings.HasPrefix(ops[0].String(), "- netns "+a.String()+" link eth0 type nic") {
			s.Errorf("ops are\n%s", lines(ops))
		}
		s.atHome("eth2", was)
	}},
	{"it moves to another namespace, and to another name", func(s *suite) {
		was := s.wire("eth2")
		a, b := s.ns("a"), s.ns("b")
		both := set(kstate.NetNS{NS: a}, kstate.NetNS{NS: b})
		s.settles(with(both, nic(a, "eth0", "eth2")))
		s.settles(with(both, nic(b, "eth0", "eth2")))
		s.settles(with(both, nic(b, "eth7", "eth2")))
		s.reach(both)
		s.atHome("eth2", was)
	}},
	{"another process finds it", func(s *suite) {
		was := s.wire("eth2")
		a := s.ns("a")
		want := set(kstate.NetNS{NS: a}, nic(a, "eth0", "eth2"))
		s.settles(want)
		s.Kernel = s.Outside.Reopen(s.T)
		if left := kstate.Diff(s.observe(want.Sorted()...), want); len(left) > 0 {
			s.Errorf("still to do:\n%s", lines(left))
		}
		s.reach(kstate.Set{})
		s.atHome("eth2", was)
	}},
	{"a NIC that others need stays", func(s *suite) {
		was := s.wire("eth2")
		a := s.ns("a")
		s.add(kstate.NetNS{NS: a})
		s.Outside.Bridge(s.T, "br0")
		s.Outside.Plug(s.T, "eth2", "br0")
		s.refuses(kernel.ErrInUse, nic(a, "eth0", "eth2"))
		s.Outside.Unplug(s.T, "eth2")
		s.add(macvlan(host, "slm1", "eth2", 9))
		s.refuses(kernel.ErrInUse, nic(a, "eth0", "eth2"))
		s.del(macvlan(host, "slm1", "eth2", 9))
		s.Outside.Route(s.T, prefix("198.51.100.0/24"), "eth2")
		s.refuses(kernel.ErrInUse, nic(a, "eth0", "eth2"))
		s.refuses(kernel.ErrMissing, nic(a, "eth0", "eth9"))
		s.refuses(nil, nic(a, "eth0", "lo"))
		s.atHome("eth2", was)
		s.noEntries()
	}},
	{"a name that is taken at home", func(s *suite) {
		was := s.wire("eth2")
		a := s.ns("a")
		lent := nic(a, "eth2", "eth2") // so that it cannot come home by this name either
		s.add(kstate.NetNS{NS: a}, lent)
		s.Outside.Bridge(s.T, "eth2")
		err := s.fails(Dels(lent)...)
		if errors.Is(err, kernel.ErrInUse) || !strings.HasSuffix(err.Error(), ": device eth2: back to eth2: another device of the host has that name") {
			s.Errorf("error is %v", err) // in use would be somebody else's, which is left alone
		}
		var waits kstate.Link
		for _, o := range s.observe(kstate.NetNS{NS: a}) {
			if l, ok := o.(kstate.Link); ok && l.Type == kstate.TypeNIC {
				waits = l
			}
		}
		if !waits.NS.IsHost() || waits.Parent != "eth2" {
			s.Fatalf("it waits as %+v", waits)
		}
		s.fails(Dels(waits)...)
		s.Outside.Delete(s.T, "eth2")
		s.reach(set(kstate.NetNS{NS: a}))
		s.atHome("eth2", was)
		s.noEntries()
	}},
	{"a name that is taken in the namespace", func(s *suite) {
		was := s.wire("eth2")
		a := s.ns("a")
		s.add(kstate.NetNS{NS: a}, veth("slv1", a, "eth0", 1))
		s.refuses(kernel.ErrInUse, nic(a, "eth0", "eth2"))
		s.atHome("eth2", was)
	}},
}
