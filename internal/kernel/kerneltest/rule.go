package kerneltest

import (
	"net/netip"
	"time"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// byMark is a rule of the IPv4 packets of one mark.
func byMark(priority int, mark uint32, table int) kstate.Rule {
	return kstate.Rule{Priority: priority, Mark: mark, Mask: ^uint32(0), Table: table}
}

// six is a rule for IPv6.
func six(r kstate.Rule) kstate.Rule { r.Is6 = true; return r }

// inTable is a route in another table than the main one.
func inTable(r kstate.Route, table int) kstate.Route { r.Table = table; return r }

// mesh is a vxlan without any address, and ways by mark to two other hosts through it.
func mesh() []kstate.Object {
	l := vxlan("slm0", 77, "192.0.2.1", "")
	l.Detour, l.Localnet = true, true
	rest := kstate.Rule{Priority: 24300}
	skip := kstate.Rule{Priority: 24224, Mark: 0x5ea10000, Mask: 0xffff0000, Not: true, Goto: rest.Priority}
	out := []kstate.Object{l}
	for i, mark := range []uint32{0x5ea10002, 0x5ea10fff} {
		table, mac := 242250002+i, hw(0xf, byte(i))
		via4, via6 := "169.254.0."+itoa(2+i), "fe80::"+itoa(2+i)
		out = append(out,
			inTable(onlink("0.0.0.0/0", via4, l.Name), table), inTable(onlink("::/0", via6, l.Name), table),
			byMark(24225, mark, table), six(byMark(24225, mark, table)),
			neigh(host, l.Name, via4, mac), neigh(host, l.Name, via6, mac), fdb(l.Name, mac, "198.51.100."+itoa(2+i)))
	}
	return append(out, rest, six(rest), skip, six(skip))
}

// ruleCases: rules, and the tables of routes that they are for.
var ruleCases = []testcase{
	{"a way by mark over a vxlan without an address", func(s *suite) {
		s.require("vxlan")
		s.comesAndGoes(mesh()...)
	}},
	{"a whole mesh: cut at any op, seen by a new process", func(s *suite) {
		s.require("vxlan")
		s.cuts(set(tun("slt1")), set(mesh()...))
		s.cuts(set(mesh()...), kstate.Set{})
		s.reach(set(mesh()...))
		s.Kernel = s.Outside.Reopen(s.T)
		s.holds(mesh()...)
	}},
	{"rules of every form", func(s *suite) {
		none, low := kstate.Rule{Priority: 300}, kstate.Rule{Priority: 1<<31 - 2, Goto: 1<<31 - 1}
		all := []kstate.Object{none, low, byMark(100, 1, 1), byMark(100, 2, 1<<31-1), byMark(101, 0, 7),
			kstate.Rule{Priority: 100, Table: 100}, kstate.Rule{Priority: 100, Mark: 0x10, Mask: 0xf0, Goto: 300},
			kstate.Rule{Priority: 100, Mark: 0x10, Mask: 0xf0, Not: true, Goto: 200}, kstate.Rule{Priority: 250, Mask: 0xff, Not: true},
			kstate.Rule{Priority: 99, Port: 8473, Table: 7}}
		for _, o := range all {
			all = append(all, six(o.(kstate.Rule)))
		}
		s.comesAndGoes(all...)
	}},
	{"a rule does another thing, in place", func(s *suite) {
		for _, r := range []kstate.Rule{byMark(100, 7, 1000), six(byMark(100, 7, 1000)), {Priority: 100, Table: 1000}} {
			s.reach(set(r))
			for _, alter := range []func(){
				func() { r.Table = 1001 }, func() { r.Table, r.Goto = 0, 200 }, func() { r.Goto = 201 }, func() { r.Goto = 0 }, func() { r.Table = 1000 },
			} {
				alter()
				s.does(set(r), "~ "+r.String())
			}
			s.reach(kstate.Set{})
		}
	}},
	{"rules of one priority come and go each by itself", func(s *suite) {
		all := []kstate.Rule{{Priority: 100, Goto: 200}, {Priority: 100, Mark: 1, Mask: 3, Goto: 200}, {Priority: 100, Mark: 1, Mask: 3, Not: true, Goto: 200},
			{Priority: 100, Mark: 1, Mask: 1, Goto: 300}, {Priority: 100, Mask: 3, Goto: 300}, byMark(100, 1, 7), {Priority: 100, Mark: 1, Mask: 1, Is6: true, Goto: 300},
			{Priority: 100, Port: 8473, Table: 7}, {Priority: 100, Port: 51822, Table: 7}}
		want := kstate.Set{}
		for _, r := range all {
			want[r.Key()] = r
		}
		s.reach(want)
		for _, r := range all {
			delete(want, r.Key())
			s.does(want, "- "+r.String())
			want[r.Key()] = r
			s.does(want, "+ "+r.String())
		}
	}},
	{"somebody's rules are not told, and in nobody's way", func(s *suite) {
		r := byMark(100, 7, 1000)
		s.Outside.Rule(s.T, r)
		s.holds()
		s.add(r)
		s.holds(r)
		s.del(r)
		s.holds()
		s.Outside.DropRule(s.T, r) // theirs is still there
		s.del(r)
	}},
	{"rules that cannot be", func(s *suite) {
		for _, r := range []kstate.Rule{{Table: 7}, {Priority: -1}, {Priority: 1 << 31}, {Priority: 100, Not: true}, {Priority: 100, Mark: 3, Mask: 1},
			{Priority: 100, Table: 7, Goto: 200}, {Priority: 100, Goto: 100}, {Priority: 100, Goto: 99}, {Priority: 100, Goto: -1}, {Priority: 100, Table: -1}, {Priority: 100, Table: 1 << 31}} {
			s.refuses(nil, r)
			s.refuses(nil, six(r))
		}
		s.del(byMark(100, 7, 1000))
	}},
	{"what somebody does to a way by mark: a hint, and it is made good", func(s *suite) {
		s.require("vxlan")
		all := mesh()
		want := set(all...)
		hinted := s.watch()
		s.reach(want)
		if hinted(500 * time.Millisecond) {
			s.Error("a hint for our own ops")
		}
		for _, act := range []func(){
			func() { s.Outside.DropRoute(s.T, all[1].(kstate.Route)) }, func() { s.Outside.DropRoute(s.T, all[2].(kstate.Route)) },
			func() { s.Outside.DropRule(s.T, all[3].(kstate.Rule)) }, func() { s.Outside.DropRule(s.T, all[4].(kstate.Rule)) },
			func() { s.Outside.DropRule(s.T, all[17].(kstate.Rule)) },
		} {
			act()
			if !hinted(20 * time.Second) {
				s.Error("no hint")
			}
			if len(s.reach(want)) != 1 {
				s.Error("not one thing was to be done")
			}
			for hinted(300 * time.Millisecond) {
			}
		}
		s.Outside.Detour(s.T, "slm0", false)
		s.does(want, "~ "+all[0].String())
	}},
	{"tables apart", func(s *suite) {
		s.Outside.Bridge(s.T, "br0")
		s.Outside.Route(s.T, prefix("203.0.113.0/24"), "br0")
		base := []kstate.Object{bridge("slb1", 1), addr(host, "slb1", "192.0.2.1/24")}
		six, first := inTable(onlink("::/0", "fe80::9", "slb1"), 1000), onlink("::/0", "fe80::9", "slb1")
		first.First = true
		long := inTable(onlink("198.51.100.0/24", "192.0.2.9", "slb1"), 1001)
		long.MTU, long.Src = 1400, netip.MustParseAddr("192.0.2.1")
		s.add(base...)
		s.comesAndGoesOn(base, inTable(route(host, "198.51.100.0/24", "192.0.2.9", "slb1"), 1000), long, inTable(hole(host, "198.51.100.0/24"), 100),
			route(host, "198.51.100.0/24", "192.0.2.9", "slb1"), six, first,
			inTable(route(host, "203.0.113.0/24", "", "br0"), 1000), inTable(route(host, "203.0.113.0/24", "", "slb1"), 1001)) // others have it in the main one
	}},
	{"another way in a table, in place", func(s *suite) {
		base := []kstate.Object{bridge("slb1", 1), addr(host, "slb1", "192.0.2.1/24")}
		r := inTable(onlink("0.0.0.0/0", "192.0.2.9", "slb1"), 1000)
		s.reach(set(append(base, r)...))
		r.MTU = 1400
		s.does(set(append(base, r)...), "~ "+r.String())
		h := inTable(hole(host, "0.0.0.0/0"), 1000)
		s.does(set(append(base, h)...), "~ "+h.String())
		s.does(set(append(base, r)...), "~ "+r.String())
		r.Via = netip.MustParseAddr("192.0.2.8")
		s.reach(set(append(base, r)...))
	}},
	{"ways need no address, but go with the last one", func(s *suite) {
		s.require("vxlan")
		all := mesh()
		a := addr(host, "slm0", "10.5.1.0/32")
		s.reach(set(all...))
		s.reach(set(append(all, a)...))
		four := []string{"- " + a.String()}
		for _, i := range []int{1, 8, 5, 12} {
			four = append(four, "+ "+all[i].String())
		}
		s.does(set(all...), four...)
		s.Outside.Addr(s.T, "slm0", prefix("10.5.1.1/32"))
		s.reach(set(all...))
	}},
	{"tables that are not ours to fill", func(s *suite) {
		s.add(bridge("slb1", 1), addr(host, "slb1", "192.0.2.1/24"))
		for _, n := range []int{254, 255, -1, 1 << 31} {
			s.refuses(nil, inTable(route(host, "198.51.100.0/24", "192.0.2.9", "slb1"), n))
		}
		in := s.insider()
		s.add(in...)
		s.refuses(nil, inTable(route(s.ns("a"), "198.51.100.0/24", "192.0.2.9", "eth0"), 1000))
		s.del(in[1], in[0])
		s.refuses(kernel.ErrMissing, inTable(route(host, "198.51.100.0/24", "", "slb9"), 1000))
		s.del(inTable(route(host, "198.51.100.0/24", "192.0.2.9", "slb1"), 1000))
	}},
	{"detour and localnet on tunnels, alone and together", func(s *suite) {
		s.require("vxlan")
		s.Outside.SetSysctl(s.T, "net.ipv4.conf.default.rp_filter", "1")
		l := vxlan("slm0", 77, "192.0.2.1", "")
		l.Detour = true
		s.comesAndGoes(l)
		l.Detour = false
		s.reach(set(l))
		for _, alter := range []func(){func() { l.Localnet = true }, func() { l.Detour = true }, func() { l.Localnet = false }} {
			alter()
			s.does(set(l), "~ "+l.String())
		}
		less := l
		less.Detour = false
		if ops := kstate.Diff(s.observe(), set(less)); len(ops) > 0 {
			s.Errorf("what is the kernel's choice is a difference:\n%s", lines(ops))
		}
		s.add(less)
		wrong := bridge("slb1", 1)
		wrong.Detour = true
		s.refuses(nil, wrong)
		s.add(bridge("slb1", 1))
		s.fails(kstate.Op{Old: bridge("slb1", 1), New: wrong})
	}},
	{"a chain of type route", func(s *suite) {
		node := &kstate.NftSet{Table: table, Name: "node4", Type: "ipv4_addr", Data: "mark"}
		way := base("way", "route", "output", -80, "ct mark and 0xfffff000 != 0x5ea10000 accept", "meta mark set ip daddr map @node4 ct mark set meta mark accept")
		all := []kstate.Object{table, *node, way, elem(node, "192.0.2.7", "0x5ea10002")}
		s.comesAndGoes(all...)
		s.reach(set(all...))
		other := way
		other.Type = "filter"
		s.reach(set(table, *node, other, all[3]))
		s.reach(set(all...))
		s.Outside.Flush(s.T)
		if len(s.reach(set(all...))) == 0 {
			s.Error("nothing was to be done")
		}
		s.refuses(nil, base("way_in", "route", "prerouting", -80))
	}},
}
