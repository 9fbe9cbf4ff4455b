package kerneltest

import (
	"slices"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// handedCases: devices on a parent that a container engine takes.
var handedCases = []testcase{
	{"macvlan handed over", func(s *suite) { s.handed(macvlan(host, "slp1", "eth1", 1)) }},
	{"macvlan for itself handed over", func(s *suite) {
		l := macvlan(host, "slp1", "eth1", 1)
		l.Mode, l.MAC = "passthru", ""
		s.handed(l)
	}},
	{"ipvlan handed over", func(s *suite) {
		s.require("ipvlan")
		for _, mode := range []string{"l2", "l3", "l3s"} {
			s.handed(ipvlan(host, "slp1", "eth1", mode))
		}
	}},
	{"a handed device goes with its parent, and is not missed", func(s *suite) {
		s.Outside.Wire(s.T, "eth1", true)
		l := macvlan(host, "slp1", "eth1", 1)
		l.Up, l.Handed = false, true
		s.reach(set(l))
		s.Outside.Delete(s.T, "eth1")
		l.Taken = true
		s.calm(set(l), host)
		s.Outside.Wire(s.T, "eth1", true)
		s.calm(set(l), host)
		s.reach(kstate.Set{})
	}},
}

// handed walks a device through its life: made, taken, brought back, taken again
// and lost with the namespace.
func (s *suite) handed(l kstate.Link) {
	s.Helper()
	s.Outside.Wire(s.T, "eth1", true)
	l.Up, l.NoARP, l.Handed = false, false, true
	s.settles(set(l))
	s.settles(kstate.Set{}) // nobody came for it
	s.settles(set(l))
	l.Taken = true
	want := set(l)
	s.calm(want, host)
	ns := s.Outside.NetNS(s.T)
	s.Outside.Take(s.T, "slp1", ns, "eth0")
	s.calm(want, host)
	s.calm(want, ns) // somebody of ours has another device there
	inside := kstate.Link{NS: ns, Name: "eth0"}.Key()
	if have := s.scoped(ns)[inside]; have == nil || !kstate.Foreign(have) {
		s.Errorf("in the namespace is %v", have)
	}
	s.Outside.Bring(s.T, ns, "eth0", "slp1")
	s.calm(want, ns)
	s.Outside.Take(s.T, "slp1", ns, "eth0")
	s.del(l) // it is not ours to remove there
	s.calm(kstate.Set{}, ns)
	s.Outside.Bring(s.T, ns, "eth0", "slp1")
	if ops := s.reach(kstate.Set{}); len(ops) != 1 {
		s.Errorf("brought back when nobody wants it:\n%s", lines(ops))
	}
	s.Outside.DropNetNS(s.T, ns)
	s.Outside.Delete(s.T, "eth1")
}

// scoped observes all of ours, and a namespace of others.
func (s *suite) scoped(ns kstate.NS) kstate.Set {
	s.Helper()
	have, err := s.Kernel.Observe(s.Context(), kernel.Scope{NS: slices.DeleteFunc([]kstate.NS{ns}, kstate.NS.IsHost)})
	if err != nil {
		s.Fatal(err)
	}
	return have
}

// calm checks that nothing is to be done.
func (s *suite) calm(want kstate.Set, ns kstate.NS) {
	s.Helper()
	if ops := kstate.Diff(s.scoped(ns), want); len(ops) > 0 {
		s.Errorf("to do:\n%s", lines(ops))
	}
}
