package kerneltest

import (
	"net/netip"
	"time"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// bridged is an FDB that the bridge of its device has too.
func bridged(dev, mac, dst string) kstate.FDB {
	o := fdb(dev, mac, dst)
	o.Bridged = true
	return o
}

// trunk is a vxlan that is one port of many hosts' bridge.
func trunk(name string, local, master string) kstate.Link {
	l := port(vxlan(name, 5, local, ""), master)
	l.Known, l.VXLAN.Proxy = true, true
	return l
}

// overlay is all that a host has of a link of Ethernet over three, two of which are
// others: the first object is the bridge, the second the vxlan, the third and the
// fourth where two addresses are.
func overlay(l kstate.Link) []kstate.Object {
	dst := []string{"198.51.100.2", "198.51.100.3"}
	if l.VXLAN.Local.Is6() {
		dst = []string{"2001:db8:f::2", "2001:db8:f::3"}
	}
	return []kstate.Object{
		bridge("slb1", 1), l,
		bridged(l.Name, hw(0xf, 2), dst[0]), bridged(l.Name, hw(0xf, 3), dst[1]),
		fdb(l.Name, kstate.Everyone, dst[0]), fdb(l.Name, kstate.Everyone, dst[1]),
		neigh(host, l.Name, "10.5.0.2", hw(0xf, 2)), neigh(host, l.Name, "10.5.0.3", hw(0xf, 3)), neigh(host, l.Name, "2001:db8:5::2", hw(0xf, 2)),
		neigh(host, l.Name, "10.5.0.200", hw(0, 1)), // at the bridge itself
	}
}

// overlayCases: a bridge that goes on at other hosts, by a vxlan that is a port of it.
var overlayCases = []testcase{
	{"a bridge over several hosts, by IPv4", func(s *suite) {
		s.require("vxlan")
		s.comesAndGoes(overlay(trunk("slx1", "192.0.2.1", "slb1"))...)
	}},
	{"a bridge over several hosts, by IPv6", func(s *suite) {
		s.require("vxlan")
		s.comesAndGoes(overlay(trunk("slx1", "2001:db8:f::1", "slb1"))...)
	}},
	{"one whose ports are isolated, and its address is not in the bridge's table", func(s *suite) {
		s.require("vxlan")
		l := trunk("slx1", "192.0.2.1", "slb1")
		l.Isolated, l.Hairpin, l.GroupForward = true, true, true
		s.comesAndGoes(append(overlay(l), fdb("slx1", hw(0xf, 4), "198.51.100.3"))...)
	}},
	{"what of it changes in place", func(s *suite) {
		s.require("vxlan")
		l := trunk("slx1", "192.0.2.1", "slb1")
		s.reach(set(overlay(l)...))
		for _, alter := range []func(){
			func() { l.Known = false },
			func() { l.Known, l.Isolated = true, true },
			func() { l.Isolated = false },
			func() { l.VXLAN.Local = netip.MustParseAddr("192.0.2.9") },
			func() { l.MTU = 1400 },
		} {
			alter()
			s.does(set(overlay(l)...), "~ "+l.String())
		}
		at := bridged("slx1", hw(0xf, 2), "198.51.100.3")
		s.does(set(append(overlay(l), at)...), "~ "+at.String())
		at.Bridged = false
		s.does(set(append(overlay(l), at)...), "~ "+at.String())
		s.add(bridged("slx1", hw(0xf, 2), "198.51.100.2")) // over what is there
		s.does(set(append(overlay(l), at)...), "~ "+at.String())
		s.does(set(overlay(l)...), "~ "+overlay(l)[2].String())
		s.add(at)
		s.does(set(overlay(l)...), "~ "+overlay(l)[2].String())
	}},
	{"who answers for neighbours is made anew, with all that is on it", func(s *suite) {
		s.require("vxlan")
		l := trunk("slx1", "192.0.2.1", "slb1")
		s.reach(set(overlay(l)...))
		for range 2 {
			l.VXLAN.Proxy = !l.VXLAN.Proxy
			want := set(overlay(l)...)
			if ops := s.reach(want); len(ops) != len(want) || ops[0].New != nil || ops[1].Object().Key() != l.Key() {
				s.Errorf("want it removed and all of it made:\n%s", lines(ops))
			}
		}
	}},
	{"a port that leaves its bridge for another, and Diff knows what that forgets", func(s *suite) {
		s.require("vxlan")
		l := trunk("slx1", "192.0.2.1", "slb1")
		all := append(overlay(l), bridge("slb2", 2))
		s.reach(set(all...))
		l.Master = "slb2"
		s.does(set(append(all, l)...), "~ "+l.String(), "~ "+all[2].String(), "~ "+all[3].String())
		l.Master, l.Known = "", false
		alone := fdb("slx1", hw(0xf, 2), "198.51.100.2")
		delete3 := set(append(all, l, alone)...)
		delete(delete3, all[3].Key())
		s.does(delete3, "- "+all[3].String(), "~ "+l.String(), "~ "+alone.String())
		l.Master, l.Known = "slb1", true
		s.reach(set(append(all, l)...))
		l.Up = false
		s.does(set(append(all[:6:6], l, all[10])...), "~ "+l.String())
		l.Up = true
		s.reach(set(append(all, l)...))
	}},
	{"a bridge goes and its port stays", func(s *suite) {
		s.require("vxlan")
		l := trunk("slx1", "192.0.2.1", "slb1")
		all := overlay(l)
		s.reach(set(all...))
		s.del(all[0])
		l.Master, l.Known = "", false
		s.holds(append(all[4:], l, fdb("slx1", hw(0xf, 2), "198.51.100.2"), fdb("slx1", hw(0xf, 3), "198.51.100.3"))...)
		s.reach(set(all...))
	}},
	{"what somebody does to a port and to what its bridge knows is made good", func(s *suite) {
		s.require("vxlan")
		all := overlay(trunk("slx1", "192.0.2.1", "slb1"))
		want := set(all...)
		s.reach(want)
		for _, act := range []func(){
			func() { s.Outside.DropFDB(s.T, all[2].(kstate.FDB)) },
			func() { s.Outside.Unbridge(s.T, all[2].(kstate.FDB)) },
			func() { s.Outside.DropFDB(s.T, all[2].(kstate.FDB)); s.Outside.Unbridge(s.T, all[2].(kstate.FDB)) },
			func() { s.Outside.DropNeigh(s.T, all[6].(kstate.Neigh)) },
			func() { s.Outside.Known(s.T, "slx1", false) },
			func() { s.Outside.SetUp(s.T, "slx1", false) },
			func() { s.Outside.Unplug(s.T, "slx1") },
			func() { s.Outside.Delete(s.T, "slb1") },
			func() { s.Outside.Delete(s.T, "slx1") },
		} {
			act()
			if len(s.reach(want)) == 0 {
				s.Error("nothing was to be done")
			}
		}
	}},
	{"half of an entry that nobody wants goes, on either side", func(s *suite) {
		s.require("vxlan")
		all := overlay(trunk("slx1", "192.0.2.1", "slb1"))
		less := set(all...)
		delete(less, all[2].Key())
		half := kstate.FDB{Dev: "slx1", MAC: hw(0xf, 2), Bridged: true}
		s.reach(set(all...))
		s.Outside.DropFDB(s.T, all[2].(kstate.FDB))
		s.does(less, "- "+half.String())
		s.reach(set(all...))
		s.Outside.Unbridge(s.T, all[2].(kstate.FDB))
		s.does(less, "- "+fdb("slx1", hw(0xf, 2), "198.51.100.2").String())
		s.reach(set(all...))
		s.does(less, "- "+all[2].String())
	}},
	{"a process that dies beside a bridge over several hosts", func(s *suite) {
		s.require("vxlan")
		all := overlay(trunk("slx1", "192.0.2.1", "slb1"))
		s.reach(set(all...))
		s.Kernel = s.Outside.Reopen(s.T)
		s.holds(all...)
		s.cuts(set(all[0]), set(all...))
	}},
	{"what a bridge cannot know, and a port that cannot be", func(s *suite) {
		s.require("vxlan")
		s.add(overlay(trunk("slx1", "192.0.2.1", "slb1"))...)
		s.add(vxlan("slx2", 6, "192.0.2.1", ""))
		s.refuses(nil, bridged("slx2", hw(0xf, 1), "198.51.100.2")) // is no port
		s.refuses(nil, bridged("slx1", kstate.Everyone, "198.51.100.9"))
		s.refuses(nil, bridged("slx1", hw(0xf, 9), "239.0.0.1"))
		s.refuses(nil, kstate.FDB{Dev: "slx1", MAC: hw(0xf, 9), Bridged: true})
		s.refuses(kernel.ErrMissing, bridged("slx9", hw(0xf, 9), "198.51.100.2"))
		s.del(bridged("slx9", hw(0xf, 9), "198.51.100.2"), bridged("slx1", hw(0xf, 9), "198.51.100.2"), bridged("slx2", hw(0xf, 9), "198.51.100.2"))
		l := trunk("slx3", "192.0.2.9", "slb1")
		l.VXLAN.VNI, l.NoARP = 7, true // and answers for others
		s.refuses(nil, l)
	}},
	{"hints for what others take out of either table, not for what we do", func(s *suite) {
		s.require("vxlan")
		all := overlay(trunk("slx1", "192.0.2.1", "slb1"))
		s.reach(set(all...))
		time.Sleep(settling)
		hinted := s.watch()
		less := set(all...)
		for _, alter := range []func(){
			func() { delete(less, all[2].Key()) },
			func() { delete(less, all[6].Key()) },
			func() { less[all[3].Key()] = fdb("slx1", hw(0xf, 3), "198.51.100.3") },
		} {
			alter()
			s.reach(less)
			if hinted(500 * time.Millisecond) {
				s.Error("a hint for our own ops")
			}
			time.Sleep(settling)
		}
		s.reach(set(all...))
		for _, act := range []func(t kstate.FDB){
			func(o kstate.FDB) { s.Outside.Unbridge(s.T, o) },
			func(o kstate.FDB) { s.Outside.DropFDB(s.T, o) },
		} {
			time.Sleep(settling)
			act(all[2].(kstate.FDB))
			if !hinted(3 * time.Second) {
				s.Error("no hint")
			}
		}
	}},
}
