package kerneltest

import (
	"time"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// outsideCases: living with others. What is theirs is seen and left alone, what
// they do to ours is noticed, what we borrow is given back.
var outsideCases = []testcase{
	{"foreign objects say so and are never removed", func(s *suite) {
		s.Outside.Bridge(s.T, "br0")
		s.Outside.Addr(s.T, "br0", prefix("192.0.2.1/24"))
		s.Outside.Route(s.T, prefix("203.0.113.0/24"), "br0")
		have := s.observe()
		for _, o := range []kstate.Object{
			kstate.Link{Name: "br0"}, addr(host, "br0", "192.0.2.1/24"),
			kstate.Route{Dst: prefix("203.0.113.0/24"), Dev: "br0", Other: true},
		} {
			if seen := have[o.Key()]; seen == nil || !kstate.Foreign(seen) {
				s.Errorf("%s: seen as %v", o.Key().ID, seen)
			}
		}
		s.apply(kstate.Diff(have, kstate.Set{})...)
		if after := s.observe(); len(after) != len(have) {
			s.Errorf("%d objects, were %d", len(after), len(have))
		}
	}},
	{"far end handed over, taken and moved: the near end is kept, wherever it is", func(s *suite) {
		l := port(veth("slv1", host, "slp1", 1), "slb1")
		l.Handed = true
		want := set(bridge("slb1", 1), l)
		s.reach(want)
		ns := s.Outside.NetNS(s.T)
		s.Outside.Take(s.T, "slp1", ns, "eth0")
		if ops := kstate.Diff(s.observe(), want); len(ops) > 0 {
			s.Errorf("after it was taken:\n%s", lines(ops))
		}
		s.Outside.Unplug(s.T, "slv1")
		s.apply(kstate.Diff(s.observe(), want)...)
		if ops := kstate.Diff(s.observe(), want); len(ops) > 0 {
			s.Errorf("after the repair of the near end:\n%s", lines(ops))
		}
		s.reach(set(bridge("slb1", 1)))
		if have := s.observe()[l.Key()]; have != nil {
			s.Errorf("left: %s", have)
		}
		s.Outside.DropNetNS(s.T, ns)
	}},
	{"removal of a link that became somebody else's", func(s *suite) {
		s.Outside.Bridge(s.T, "slb1")
		s.fails(kstate.Op{Old: bridge("slb1", 1)})
		if have := s.observe()[bridge("slb1", 1).Key()]; have == nil {
			s.Error("the bridge is gone")
		}
	}},
	{"a wanted route that somebody has made already", func(s *suite) {
		s.Outside.Bridge(s.T, "br0")
		s.Outside.Route(s.T, prefix("203.0.113.0/24"), "br0")
		r := route(host, "203.0.113.0/24", "", "br0")
		if ops := kstate.Diff(s.observe(), set(r)); len(ops) > 0 {
			s.Errorf("to do:\n%s", lines(ops))
		}
		s.add(r)
	}},
	{"a wanted route that somebody has made otherwise", func(s *suite) {
		s.Outside.Bridge(s.T, "br0")
		s.Outside.Route(s.T, prefix("203.0.113.0/24"), "br0")
		s.add(bridge("slb1", 1), addr(host, "slb1", "192.0.2.1/24"))
		s.refuses(kernel.ErrInUse, route(host, "203.0.113.0/24", "192.0.2.9", "slb1"))
	}},
	{"address on a foreign bridge: journaled, ours, given back", func(s *suite) {
		a := addr(host, "br0", "192.0.2.1/24")
		s.Outside.Bridge(s.T, "br0")
		s.Outside.Addr(s.T, "br0", prefix("198.51.100.1/24"))
		s.add(a)
		s.noted("addr/br0/192.0.2.1/24", "")
		s.holds(a)
		s.Kernel = s.Outside.Reopen(s.T)
		s.holds(a)
		s.reach(kstate.Set{})
		s.notedNothing()
		have := s.observe()
		if have[a.Key()] != nil || have[addr(host, "br0", "198.51.100.1/24").Key()] == nil {
			s.Errorf("left: %v", have.Sorted())
		}
	}},
	{"addresses that others add in a sandbox are theirs, and ours beside them ours", func(s *suite) {
		a := s.ns("a")
		mine, mine6 := addr(a, "eth0", "192.0.2.2/24"), addr(a, "eth0", "2001:db8::2/64")
		link := []kstate.Object{kstate.NetNS{NS: a}, veth("slv1", a, "eth0", 1)}
		want := set(append(link, mine, mine6)...)
		s.reach(want)
		theirs := []kstate.Addr{addr(a, "eth0", "192.0.2.9/24"), addr(a, "eth0", "198.51.100.2/24"), addr(a, "eth0", "2001:db8::9/64")}
		for _, o := range theirs {
			s.Outside.AddrIn(s.T, a, "eth0", o.Prefix)
		}
		s.Kernel = s.Outside.Reopen(s.T)
		if ops := kstate.Diff(s.observe(kstate.NetNS{NS: a}), want); len(ops) > 0 {
			s.Errorf("to do:\n%s", lines(ops))
		}
		s.add(theirs[0]) // wanted now, and there
		s.reach(set(append(link, mine6)...))
		have := s.observe(kstate.NetNS{NS: a})
		for _, o := range theirs {
			if seen := have[o.Key()]; seen == nil || !kstate.Foreign(seen) {
				s.Errorf("%s: seen as %v", o, seen)
			}
		}
		if have[mine.Key()] != nil || have[mine6.Key()] == nil {
			s.Errorf("of ours are left:\n%v", have)
		}
	}},
	{"journal entry that a crash left without its address does not claim it later", func(s *suite) {
		a := addr(host, "br0", "192.0.2.1/24")
		s.Outside.Bridge(s.T, "br0")
		for _, left := range []string{"addr/br0/192.0.2.1/24", "addr/gone/192.0.2.1/24", "addr//run/netns/gone eth0/192.0.2.1/24"} {
			if err := s.Journal.Put(left, ""); err != nil {
				s.Fatal(err)
			}
		}
		s.Kernel = s.Outside.Reopen(s.T)
		s.notedNothing()
		s.Outside.Addr(s.T, "br0", a.Prefix)
		s.reach(kstate.Set{})
		if s.observe()[a.Key()] == nil {
			s.Error("the address is gone")
		}
	}},
	{"address that was on a foreign bridge before is not ours", func(s *suite) {
		a := addr(host, "br0", "192.0.2.1/24")
		s.Outside.Bridge(s.T, "br0")
		s.Outside.Addr(s.T, "br0", a.Prefix)
		if ops := kstate.Diff(s.observe(), set(a)); len(ops) > 0 {
			s.Errorf("to do:\n%s", lines(ops))
		}
		s.add(a)
		s.notedNothing()
		s.apply(kstate.Diff(s.observe(), kstate.Set{})...)
		if s.observe()[a.Key()] == nil {
			s.Error("the address is gone")
		}
	}},
	{"sysctl: journaled, ours, put back by another process", func(s *suite) {
		const name = "net.ipv4.ip_forward"
		s.Outside.SetSysctl(s.T, name, "0")
		s.holds()
		s.add(kstate.Sysctl{Name: name, Value: "1"})
		s.noted("sysctl/"+name, "0")
		s.Kernel = s.Outside.Reopen(s.T)
		s.holds(kstate.Sysctl{Name: name, Value: "1"})
		s.reach(kstate.Set{})
		s.notedNothing()
		if got := s.Outside.Sysctl(s.T, name); got != "0" {
			s.Errorf("%s is %s", name, got)
		}
	}},
	{"sysctl that is right already: journaled all the same, and left so", func(s *suite) {
		const name = "net.ipv4.ip_forward"
		s.Outside.SetSysctl(s.T, name, "1")
		want := set(kstate.Sysctl{Name: name, Value: "1"})
		s.reach(want)
		s.reach(kstate.Set{})
		if got := s.Outside.Sysctl(s.T, name); got != "1" {
			s.Errorf("%s is %s", name, got)
		}
	}},
	{"sysctl that somebody changes back is seen and set again", func(s *suite) {
		const name = "net.ipv4.ip_forward"
		s.Outside.SetSysctl(s.T, name, "0")
		want := set(kstate.Sysctl{Name: name, Value: "1"})
		s.reach(want)
		s.Outside.SetSysctl(s.T, name, "0")
		s.reach(want)
		s.noted("sysctl/"+name, "0")
	}},
	{"a namespace given to us: used, seen as foreign, never removed", func(s *suite) {
		ns := s.Outside.NetNS(s.T)
		want := set(veth("slv1", ns, "eth0", 1), addr(ns, "eth0", "192.0.2.2/24"), route(ns, "0.0.0.0/0", "192.0.2.1", "eth0"))
		s.reach(want)
		in := kstate.NetNS{NS: ns}
		if seen := s.observe(in)[in.Key()]; seen == nil || !kstate.Foreign(seen) {
			s.Errorf("the namespace is seen as %v", seen)
		}
		s.reach(kstate.Set{}, in)
		if s.observe(in)[in.Key()] == nil {
			s.Error("the namespace is gone")
		}
	}},
	{"a namespace given to us that goes: left out without an error", func(s *suite) {
		ns := s.Outside.NetNS(s.T)
		s.add(veth("slv1", ns, "eth0", 1), addr(ns, "eth0", "192.0.2.2/24"))
		s.Outside.DropNetNS(s.T, ns)
		s.eventually("the veth goes with it", func() bool { return s.text(kstate.NetNS{NS: ns}) == "" })
		s.del(addr(ns, "eth0", "192.0.2.2/24"), veth("slv1", ns, "eth0", 1))
	}},
	{"a path that names another namespace by now is left out", func(s *suite) {
		ns := s.Outside.NetNS(s.T)
		was := kstate.NS{Path: ns.Path, Inode: ns.Inode + 1}
		have, err := s.Kernel.Observe(s.Context(), kernel.Scope{NS: []kstate.NS{was}})
		if err != nil || have[kstate.NetNS{NS: was}.Key()] != nil {
			s.Errorf("%v, %v", have.Sorted(), err)
		}
	}},
	{"what somebody deletes is made again", func(s *suite) {
		want := s.twoNetworks()
		s.reach(want)
		s.Outside.Delete(s.T, "slbback")
		s.reach(want)
		s.Outside.Delete(s.T, "slvweb0")
		s.reach(want)
		s.Outside.Flush(s.T)
		s.reach(want)
	}},
	{"a subnet's route that somebody deletes: a hint, and it is made again, and goes with the address", func(s *suite) {
		a := s.ns("a")
		want := set(bridge("slb1", 1), kstate.NetNS{NS: a}, port(veth("slv1", a, "eth0", 1), "slb1"), port(veth("slv2", a, "eth1", 2), "slb1"),
			addr(host, "slb1", "10.1.0.1/24"), addr(host, "slb1", "fd01::1/64"), addr(a, "eth0", "10.1.0.2/24"), addr(a, "eth0", "fd01::2/64"),
			addr(a, "eth1", "10.1.0.3/24"), addr(a, "eth1", "fd01::3/64"))
		s.reach(want)
		time.Sleep(settling)
		hinted := s.watch()
		for _, o := range want.Sorted() {
			of, ok := o.(kstate.Addr)
			if !ok {
				continue
			}
			s.Outside.Unroute(s.T, of.NS, of.Dev, of.Prefix)
			if !hinted(3 * time.Second) {
				s.Errorf("%s: no hint", of)
			}
			s.does(want, "+ "+kstate.Route{NS: of.NS, Dst: of.Prefix.Masked(), Dev: of.Dev}.String())
			s.reach(want)
		}
		s.reach(set(bridge("slb1", 1), addr(host, "slb1", "192.0.2.1/24")))
		s.add(bridge("slb2", 2), addr(host, "slb2", "10.1.0.1/24"), route(host, "198.51.100.0/24", "10.1.0.9", "slb2"))
	}},
	{"a bridge of two parts heals", func(s *suite) {
		a := s.ns("a")
		v := port(veth("slv1", a, "eth0", 1), "slb2")
		v.Pinned = true
		want := set(bridge("slb1", 1), shard("slb2", 2), cord("slv2", "slw2", "slb1", "slb2", 2), kstate.NetNS{NS: a}, v)
		s.reach(want)
		for _, act := range []func(){
			func() { s.Outside.Delete(s.T, "slb1") }, func() { s.Outside.Delete(s.T, "slb2") },
			func() { s.Outside.Delete(s.T, "slv2") }, func() { s.Outside.Delete(s.T, "slw2") },
			func() { s.Outside.Unplug(s.T, "slv2") }, func() { s.Outside.Unplug(s.T, "slw2") }, func() { s.Outside.Unplug(s.T, "slv1") },
		} {
			act()
			if len(s.reach(want)) == 0 {
				s.Error("nothing was to be done")
			}
		}
		s.Kernel = s.Outside.Reopen(s.T)
		s.holds(want.Sorted()...)
	}},
	{"a hint for a far end that leaves its bridge", func(s *suite) {
		s.add(bridge("slb1", 1), bridge("slb2", 2), cord("slv1", "slw1", "slb1", "slb2", 1))
		time.Sleep(settling)
		hinted := s.watch()
		s.Outside.Unplug(s.T, "slw1")
		if !hinted(3 * time.Second) {
			s.Error("no hint")
		}
	}},
	{"hardware address that somebody sets inside a sandbox: a hint, and a difference", func(s *suite) {
		a := s.ns("a")
		v := port(veth("slv1", a, "eth0", 1), "slb1")
		want := set(bridge("slb1", 1), kstate.NetNS{NS: a}, v)
		hinted := s.watch()
		s.reach(want)
		if hinted(500 * time.Millisecond) {
			s.Error("a hint for our own ops")
		}
		time.Sleep(settling)
		s.Outside.SetMAC(s.T, a, "eth0", hw(1, 9))
		if !hinted(3 * time.Second) {
			s.Error("no hint")
		}
		s.does(want, "~ "+v.String())
	}},
	{"hints: for what others do, not for what we do", func(s *suite) {
		v := veth("slv1", host, "slv2", 1)
		s.add(firewall()...)
		hinted := s.watch()
		s.add(bridge("slb1", 1), v, addr(host, "slb1", "192.0.2.1/24"), route(host, "198.51.100.0/24", "192.0.2.9", "slb1"),
			elem(bridges, "slb1", ""))
		s.del(v)
		if hinted(500 * time.Millisecond) {
			s.Error("a hint for our own ops")
		}
		for what, act := range map[string]func(){
			"a deleted bridge":   func() { s.Outside.Delete(s.T, "slb1") },
			"a flushed firewall": func() { s.Outside.Flush(s.T) },
		} {
			act()
			if !hinted(3 * time.Second) {
				s.Errorf("no hint for %s", what)
			}
			for hinted(300 * time.Millisecond) {
			}
		}
	}},
	{"hints end with the context", func(s *suite) {
		hints, err := s.Kernel.Watch(canceled(s))
		if err != nil {
			return // it says so at once
		}
		s.eventually("the channel is closed", func() bool {
			select {
			case _, ok := <-hints:
				return !ok
			default:
				return false
			}
		})
	}},
}

// settling is longer than a kernel takes what becomes of a device for the
// consequence of what we did to it.
const settling = 1600 * time.Millisecond

// noted checks that the journal has exactly one entry.
func (s *suite) noted(key, before string) {
	s.Helper()
	entries, err := s.Journal.Entries()
	if v, ok := entries[key]; err != nil || !ok || v != before || len(entries) != 1 {
		s.Errorf("journal has %v, %v; want %s=%q", entries, err, key, before)
	}
}

func (s *suite) notedNothing() {
	s.Helper()
	if entries, err := s.Journal.Entries(); err != nil || len(entries) > 0 {
		s.Errorf("journal has %v, %v; want nothing", entries, err)
	}
}

// eventually waits for what the kernel does in its own time.
func (s *suite) eventually(what string, ok func() bool) {
	s.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	s.Fatalf("did not happen: %s", what)
}
