package kerneltest

import (
	"github.com/sealane/sealane/internal/kstate"
)

// sorter is a bridge that sorts frames by VLAN.
func sorter(name string, mac byte) kstate.Link {
	b := bridge(name, mac)
	b.Sorting = true
	return b
}

// tagged is a port in a VLAN, and in others with their tags.
func tagged(l kstate.Link, master string, tag int, tags string) kstate.Link {
	l.Master, l.Tag, l.Tags = master, tag, tags
	return l
}

// trunkCases: bridges that sort frames by VLAN, of ours and of others.
var trunkCases = []testcase{
	{"a bridge that sorts, and its ports", func(s *suite) {
		s.require("vlan-filtering")
		a := s.ns("a")
		b := sorter("slb1", 1)
		b.Tag = 10
		s.settles(set(kstate.NetNS{NS: a}, b, kstate.Trunk{Bridge: "slb1"},
			port(veth("slv0", a, "eth0", 1), "slb1"),
			tagged(veth("slv1", a, "eth1", 2), "slb1", 10, ""),
			tagged(veth("slv2", a, "eth2", 3), "slb1", 20, "30,100-200"),
			tagged(veth("slv3", a, "eth3", 4), "slb1", 0, "4094"),
			tagged(veth("slv4", a, "eth4", 5), "slb1", 0, kstate.AllTags)))
	}},
	{"VLANs change in place", func(s *suite) {
		s.require("vlan-filtering")
		a := s.ns("a")
		l := veth("slv1", a, "eth0", 1)
		want := set(kstate.NetNS{NS: a}, sorter("slb1", 1), kstate.Trunk{Bridge: "slb1"}, tagged(l, "slb1", 10, ""))
		s.reach(want)
		for _, next := range []kstate.Link{
			tagged(l, "slb1", 20, ""), tagged(l, "slb1", 20, "10,30-40"), tagged(l, "slb1", 0, "10"),
			port(l, "slb1"), tagged(l, "slb1", 0, kstate.AllTags), tagged(l, "slb1", 1, "2"), tagged(l, "slb1", 10, ""),
		} {
			want = with(want, next)
			s.does(want, "~ "+next.String())
		}
		b := sorter("slb1", 1)
		b.Tag = 7
		s.does(with(want, b), "~ "+b.String())
	}},
	{"a bridge begins to sort, and ends it", func(s *suite) {
		s.require("vlan-filtering")
		a := s.ns("a")
		plain := set(kstate.NetNS{NS: a}, bridge("slb1", 1), port(veth("slv1", a, "eth0", 1), "slb1"))
		s.reach(plain)
		sorts := set(kstate.NetNS{NS: a}, sorter("slb1", 1), tagged(veth("slv1", a, "eth0", 1), "slb1", 10, ""), kstate.Trunk{Bridge: "slb1"})
		s.reach(sorts)
		s.reach(plain)
		s.reach(sorts)
	}},
	{"a trunk of ours takes in what others plug in", func(s *suite) {
		s.require("vlan-filtering")
		want := set(sorter("slb1", 1), kstate.Trunk{Bridge: "slb1"})
		s.reach(want)
		s.Outside.Wire(s.T, "eth1", true)
		s.Outside.Plug(s.T, "eth1", "slb1")
		s.does(want, "+ trunk slb1")
		s.Outside.Untag(s.T, "eth1")
		s.does(want, "+ trunk slb1")
	}},
	{"somebody's bridge sorts for us, and no more when we go", func(s *suite) {
		s.require("vlan-filtering")
		s.Outside.Bridge(s.T, "br0")
		s.Outside.Wire(s.T, "eth1", true)
		s.Outside.Plug(s.T, "eth1", "br0")
		a := s.ns("a")
		l := tagged(veth("slv1", a, "eth0", 1), "br0", 10, "")
		want := set(kstate.Trunk{Bridge: "br0"}, kstate.NetNS{NS: a}, l)
		s.reach(want)
		s.journaled("vlans/br0", true)
		s.Kernel = s.Outside.Reopen(s.T)
		s.holds(want.Sorted()...)
		s.Outside.Untag(s.T, "eth1")
		s.does(want, "+ trunk br0")
		s.reach(kstate.Set{})
		s.journaled("vlans/br0", false)
		l.Tag = 0
		s.reach(set(kstate.NetNS{NS: a}, l)) // it does not sort, so nobody looks
	}},
	{"a bridge that sorts already is left alone", func(s *suite) {
		s.require("vlan-filtering")
		s.Outside.Bridge(s.T, "br0")
		s.Outside.Wire(s.T, "eth1", true)
		s.Outside.Plug(s.T, "eth1", "br0")
		s.Outside.Sort(s.T, "br0")
		a := s.ns("a")
		l := tagged(veth("slv1", a, "eth0", 1), "br0", 10, "")
		if ops := kstate.Diff(s.observe(), set(kstate.Trunk{Bridge: "br0"})); len(ops) > 0 {
			s.Errorf("to do:\n%s", lines(ops))
		}
		s.add(kstate.Trunk{Bridge: "br0"})
		s.journaled("vlans/br0", false)
		s.add(kstate.NetNS{NS: a}, l)
		s.holds(kstate.NetNS{NS: a}, l)
		s.del(kstate.Trunk{Bridge: "br0"})
		s.holds(kstate.NetNS{NS: a}, l)
	}},
	{"a trunk of a bridge that is not there", func(s *suite) {
		s.require("vlan-filtering")
		s.refuses(nil, kstate.Trunk{Bridge: "br0"})
		s.del(kstate.Trunk{Bridge: "br0"})
	}},
}

// journaled checks whether the journal has an entry.
func (s *suite) journaled(key string, want bool) {
	s.Helper()
	entries, err := s.Journal.Entries()
	if err != nil {
		s.Fatal(err)
	}
	if _, is := entries[key]; is != want {
		s.Errorf("journal has %v", entries)
	}
}
