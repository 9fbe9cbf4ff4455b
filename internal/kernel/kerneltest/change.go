package kerneltest

import (
	"os"
	"path"
	"slices"

	"github.com/sealane/sealane/internal/kstate"
)

// changeCases: what Diff calls a change is done in place; what cannot be is
// removed and made again with all that stood on it.
var changeCases = []testcase{
	{"mtu", func(s *suite) { s.changes(func(b, _ *kstate.Link) { b.MTU = 1400 }) }},
	{"mtu of a port", func(s *suite) { s.changes(func(_, v *kstate.Link) { v.MTU = 1400 }) }},
	{"hardware address", func(s *suite) { s.changes(func(b, v *kstate.Link) { b.MAC, v.MAC = hw(1, 1), hw(1, 2) }) }},
	{"hardware address of the far end", func(s *suite) { s.changes(func(_, v *kstate.Link) { v.Peer.MAC = hw(1, 3) }) }},
	{"master, to another", func(s *suite) {
		s.add(bridge("slb2", 2))
		s.changes(func(_, v *kstate.Link) { v.Master = "slb2" }, bridge("slb2", 2))
	}},
	{"master, to none", func(s *suite) { s.changes(func(_, v *kstate.Link) { v.Master = "" }) }},
	{"isolated", func(s *suite) { s.changes(func(_, v *kstate.Link) { v.Isolated = true }) }},
	{"hairpin", func(s *suite) { s.changes(func(_, v *kstate.Link) { v.Hairpin = true }) }},
	{"group addresses", func(s *suite) { s.changes(func(_, v *kstate.Link) { v.GroupForward = true }) }},
	{"known", func(s *suite) { s.changes(func(_, v *kstate.Link) { v.Known = true }) }},
	{"no ARP", func(s *suite) { s.changes(func(b, _ *kstate.Link) { b.NoARP = true }) }},
	{"pinned, with another hardware address", func(s *suite) {
		s.changes(func(_, v *kstate.Link) { v.Pinned, v.Peer.MAC = true, hw(1, 3) })
		s.changes(func(_, v *kstate.Link) { v.Pinned, v.Peer.MAC = true, hw(1, 4) })
	}},
	{"master of the far end, isolated and hairpin", func(s *suite) {
		slb1, slb2, slb3 := bridge("slb1", 1), bridge("slb2", 2), bridge("slb3", 3)
		v := cord("slv1", "slw1", "slb1", "slb2", 1)
		s.reach(set(slb1, slb2, slb3, v))
		for _, alter := range []func(){
			func() { v.Peer.Master = "slb3" },
			func() { v.Isolated, v.Peer.Isolated = true, true },
			func() { v.Hairpin, v.Master, v.Peer.Master = true, "slb2", "slb1" },
			func() { v.Peer.Master, v.Peer.Isolated = "", false },
			func() { v.Peer.Master, v.MTU = "slb1", 1400 },
		} {
			alter()
			s.does(set(slb1, slb2, slb3, v), "~ "+v.String())
		}
	}},
	{"localnet", func(s *suite) { s.changes(func(b, _ *kstate.Link) { b.Localnet = true }) }},
	{"proxy ARP", func(s *suite) { s.changes(func(b, _ *kstate.Link) { b.ProxyARP = true }) }},
	{"up and down", func(s *suite) { s.changes(func(b, _ *kstate.Link) { b.Up = false }) }},
	{"setting a device down takes its routes and IPv6 addresses, and Diff knows", func(s *suite) {
		down := bridge("slb1", 1)
		down.Up = false
		four, six := addr(host, "slb1", "192.0.2.1/24"), addr(host, "slb1", "2001:db8::1/64")
		s.reach(set(bridge("slb1", 1), four, six, route(host, "198.51.100.0/24", "192.0.2.9", "slb1")))
		s.reach(set(down, four, six))
	}},
	{"what a link leaves to the kernel is no difference", func(s *suite) {
		b, v := bridge("slb1", 1), veth("slv1", s.ns("a"), "eth0", 1)
		b.MTU, b.MAC, v.MTU, v.MAC, v.Peer.MAC = 0, "", 0, "", ""
		want := set(b, v, kstate.NetNS{NS: s.ns("a")})
		s.apply(kstate.Diff(s.observe(v), want)...)
		if left := kstate.Diff(s.observe(v), want); len(left) > 0 {
			s.Errorf("still to do:\n%s", lines(left))
		}
		s.add(b, v)
	}},
	{"sysctl, and the first value is put back", func(s *suite) {
		const name = "net.ipv4.ip_forward"
		before := s.Outside.Sysctl(s.T, name)
		s.add(kstate.Sysctl{Name: name, Value: other(before)})
		s.apply(kstate.Op{Old: kstate.Sysctl{Name: name, Value: other(before)}, New: kstate.Sysctl{Name: name, Value: before}})
		s.apply(kstate.Op{Old: kstate.Sysctl{Name: name, Value: before}, New: kstate.Sysctl{Name: name, Value: other(before)}})
		s.del(kstate.Sysctl{Name: name, Value: other(before)})
		if got := s.Outside.Sysctl(s.T, name); got != before {
			s.Errorf("%s is %s, was %s", name, got, before)
		}
	}},
	{"file, without a new inode", func(s *suite) {
		f := kstate.File{Path: path.Join(s.RunDir, "sandboxes/a/hosts"), Content: "a longer first text\n"}
		s.add(f)
		open, _ := os.Open(f.Path) // a kernel in memory has none
		if open != nil {
			defer open.Close()
		}
		g := kstate.File{Path: f.Path, Content: "short\n"}
		s.apply(kstate.Op{Old: f, New: g})
		s.holds(g)
		if open != nil {
			got, err := os.ReadFile("/proc/self/fd/" + itoa(int(open.Fd())))
			if err != nil || string(got) != g.Content {
				s.Errorf("through the open file: %q, %v", got, err)
			}
		}
	}},
	{"rules of a chain", func(s *suite) {
		s.reach(set(firewall()...))
		fw := set(firewall()...)
		published := chain("published", "ip daddr . meta l4proto . th dport @open4 accept", "return")
		fw[published.Key()] = published
		s.does(fw, "~ "+published.String())
		empty := chain("published")
		fw[empty.Key()] = empty
		s.does(fw, "~ "+empty.String())
	}},
	{"value of an element", func(s *suite) {
		a, b := elem(ports4, "tcp . 80", "192.0.2.2 . 80"), elem(ports4, "tcp . 80", "192.0.2.3 . 80")
		s.reach(set(append(firewall(), a)...))
		s.does(set(append(firewall(), b)...), "- "+a.String(), "+ "+b.String())
	}},
	{"priority of a chain, by a new table in one go", func(s *suite) {
		s.reach(set(append(firewall(), elem(ports4, "tcp . 80", "192.0.2.2 . 80"))...))
		fw := set(append(firewall(), elem(ports4, "tcp . 80", "192.0.2.2 . 80"))...)
		c := base("prerouting", "nat", "prerouting", -99, "fib daddr type local goto publish")
		fw[c.Key()] = c
		s.reach(fw)
	}},
	{"type of a set, and one set less", func(s *suite) {
		e := elem(ports4, "tcp . 80", "192.0.2.2 . 80")
		s.reach(set(append(firewall(), e)...))
		masq := &kstate.NftSet{Table: table, Name: "masq4", Type: "ipv4_addr . ipv4_addr", Interval: true}
		fw := set(append(firewall(), e, *masq, base("postrouting", "nat", "postrouting", 100))...)
		delete(fw, home4.Key())
		s.reach(fw)
	}},
	{"route by another gateway", func(s *suite) {
		objs := []kstate.Object{bridge("slb1", 1), addr(host, "slb1", "192.0.2.1/24")}
		s.reach(set(append(objs, route(host, "198.51.100.0/24", "192.0.2.8", "slb1"))...))
		s.reach(set(append(objs, route(host, "198.51.100.0/24", "192.0.2.9", "slb1"))...))
	}},
	{"another address, and the default route survives", func(s *suite) {
		a := s.ns("a")
		objs := []kstate.Object{kstate.NetNS{NS: a}, veth("slv1", a, "eth0", 1),
			route(a, "0.0.0.0/0", "192.0.2.1", "eth0"), route(a, "::/0", "2001:db8::1", "eth0")}
		s.reach(set(append(objs, addr(a, "eth0", "192.0.2.2/24"), addr(a, "eth0", "2001:db8::2/64"))...))
		s.reach(set(append(objs, addr(a, "eth0", "192.0.2.3/24"), addr(a, "eth0", "2001:db8::3/64"))...))
		s.reach(set(append(objs, addr(a, "eth0", "192.0.2.3/25"), addr(a, "eth0", "2001:db8::3/96"))...))
	}},
	{"far end by another name: link, addresses and routes anew", func(s *suite) {
		a := s.ns("a")
		with := func(dev string) kstate.Set {
			return set(kstate.NetNS{NS: a}, veth("slv1", a, dev, 1), addr(host, "slv1", "192.0.2.1/24"),
				addr(a, dev, "192.0.2.2/24"), route(a, "0.0.0.0/0", "192.0.2.1", dev))
		}
		s.reach(with("eth0"))
		s.reach(with("eth1"))
	}},
	{"names of two sandboxes swapped", func(s *suite) {
		a, b := s.ns("a"), s.ns("b")
		s.reach(set(kstate.NetNS{NS: a}, kstate.NetNS{NS: b}, veth("slv1", a, "eth0", 1), veth("slv2", b, "eth0", 2)))
		s.reach(set(kstate.NetNS{NS: a}, kstate.NetNS{NS: b}, veth("slv1", b, "eth0", 1), veth("slv2", a, "eth0", 2)))
	}},
}

// changes makes a bridge with a port, alters both and back, and checks that
// each time changes in place were enough.
func (s *suite) changes(alter func(b, v *kstate.Link), also ...kstate.Object) {
	s.Helper()
	b, v := bridge("slb1", 1), port(veth("slv1", s.ns("a"), "eth0", 1), "slb1")
	s.add(b, kstate.NetNS{NS: s.ns("a")}, v)
	was := set(append(slices.Clone(also), b, v, kstate.NetNS{NS: s.ns("a")})...)
	alter(&b, &v)
	will := set(append(slices.Clone(also), b, v, kstate.NetNS{NS: s.ns("a")})...)
	for _, want := range []kstate.Set{will, was} {
		for _, op := range s.reach(want) {
			if op.Old == nil || op.New == nil {
				s.Errorf("not in place: %s", op)
			}
		}
	}
}

// does reaches want by exactly these ops.
func (s *suite) does(want kstate.Set, ops ...string) {
	s.Helper()
	var did []string
	for _, op := range s.reach(want) {
		did = append(did, op.String())
	}
	if !slices.Equal(did, ops) {
		s.Errorf("did:\n%s\nwant:\n%s", did, ops)
	}
}
