package kerneltest

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

func itoa(n int) string { return strconv.Itoa(n) }

// refuseCases: what cannot be is refused with the right cause, changes
// nothing, and does not keep the ops after it from being carried out.
var refuseCases = []testcase{
	{"link without its master", func(s *suite) {
		s.refuses(kernel.ErrMissing, port(veth("slv1", host, "slv2", 1), "slb9"))
	}},
	{"far end without its master, or with one from another namespace", func(s *suite) {
		s.refuses(kernel.ErrMissing, cord("slv1", "slw1", "", "slb9", 1))
		a := s.ns("a")
		s.add(kstate.NetNS{NS: a}, bridge("slb1", 1))
		v := veth("slv1", a, "eth0", 1)
		v.Peer.Master = "slb1"
		s.refuses(kernel.ErrUnsupported, v)
	}},
	{"veth into a namespace that is gone", func(s *suite) {
		s.refuses(kernel.ErrNoNamespace, veth("slv1", s.ns("a"), "eth0", 1))
	}},
	{"veth into a path that names another namespace by now", func(s *suite) {
		ns := s.Outside.NetNS(s.T)
		ns.Inode++
		s.refuses(kernel.ErrNoNamespace, veth("slv1", ns, "eth0", 1))
	}},
	{"name of somebody else's device", func(s *suite) {
		s.Outside.Bridge(s.T, "br0")
		s.refuses(kernel.ErrInUse, bridge("br0", 1))
		s.refuses(kernel.ErrInUse, veth("br0", host, "slv2", 1))
	}},
	{"name of the far end taken", func(s *suite) {
		a := s.ns("a")
		s.add(kstate.NetNS{NS: a}, veth("slv1", a, "eth0", 1))
		s.refuses(kernel.ErrInUse, veth("slv2", a, "eth0", 2))
	}},
	{"name of a far end in the host taken", func(s *suite) {
		s.add(veth("slv1", host, "slv2", 1))
		s.refuses(kernel.ErrInUse, veth("slv2", host, "slv3", 2))
	}},
	{"setting of another device than the far end", func(s *suite) {
		s.add(kstate.NetNS{NS: s.ns("a")})
		v := veth("slv1", s.ns("a"), "eth0", 1)
		v.Peer.Sysctls = "net.ipv4.conf.eth7.forwarding=1"
		s.refuses(kernel.ErrMissing, v)
		v.Peer.Sysctls = "kernel.panic=1"
		s.refuses(kernel.ErrMissing, v)
	}},
	{"name longer than 15 bytes", func(s *suite) {
		s.refuses(nil, bridge("slb3456789abcdef", 1))
		s.refuses(nil, veth("slv1", host, "slv3456789abcdef", 1))
	}},
	{"address on a device that is missing", func(s *suite) {
		s.refuses(kernel.ErrMissing, addr(host, "slb1", "192.0.2.1/24"))
	}},
	{"address in a namespace that is gone", func(s *suite) {
		s.refuses(kernel.ErrNoNamespace, addr(s.ns("a"), "eth0", "192.0.2.1/24"))
	}},
	{"IPv6 address with two lengths", func(s *suite) {
		s.add(bridge("slb1", 1), addr(host, "slb1", "2001:db8::1/64"))
		s.refuses(kernel.ErrInUse, addr(host, "slb1", "2001:db8::1/48"))
	}},
	{"route with a device that is missing", func(s *suite) {
		s.refuses(kernel.ErrMissing, route(host, "198.51.100.0/24", "", "slb1"))
	}},
	{"route with a gateway that is no neighbour", func(s *suite) {
		s.add(bridge("slb1", 1), addr(host, "slb1", "192.0.2.1/24"), addr(host, "slb1", "2001:db8::1/64"))
		s.refuses(nil, route(host, "198.51.100.0/24", "203.0.113.1", "slb1"))
		s.refuses(nil, route(host, "2001:db8:1::/64", "2001:db8:2::1", "slb1"))
	}},
	{"route over a device that is down", func(s *suite) {
		b := bridge("slb1", 1)
		b.Up = false
		s.add(b, addr(host, "slb1", "192.0.2.1/24"))
		s.refuses(nil, route(host, "198.51.100.0/24", "", "slb1"))
	}},
	{"sysctl that does not exist", func(s *suite) {
		s.refuses(kernel.ErrMissing, kstate.Sysctl{Name: "net.ipv4.conf.nobody.rp_filter", Value: "1"})
		if e, err := s.Journal.Entries(); err != nil || len(e) > 0 {
			s.Errorf("journal has %v, %v", e, err)
		}
	}},
	{"change of a link that is gone", func(s *suite) {
		err := s.fails(kstate.Op{Old: bridge("slb1", 1), New: bridge("slb1", 2)})
		if !errors.Is(err, kernel.ErrMissing) {
			s.Errorf("%v, want %v", err, kernel.ErrMissing)
		}
	}},
	{"set, chain and element without their table or set", func(s *suite) {
		s.refuses(kernel.ErrMissing, *bridges)
		s.refuses(kernel.ErrMissing, chain("c"))
		s.add(table)
		s.refuses(kernel.ErrMissing, elem(bridges, "slb1", ""))
	}},
	{"rule with a set or chain that is missing", func(s *suite) {
		s.add(table)
		s.refuses(kernel.ErrMissing, chain("c", "iifname @bridges drop"))
		s.refuses(kernel.ErrMissing, chain("c", "goto nowhere"))
	}},
	{"element with a jump to a chain that is missing", func(s *suite) {
		s.add(table, *ingress)
		s.refuses(kernel.ErrMissing, elem(ingress, "slb1", "jump to_nat"))
	}},
	{"element that is there with another value", func(s *suite) {
		s.add(table, *ports4, elem(ports4, "tcp . 80", "192.0.2.2 . 80"))
		s.refuses(nil, elem(ports4, "tcp . 80", "192.0.2.3 . 80"))
	}},
	{"interval that overlaps another", func(s *suite) {
		s.add(table, *ranges4, elem(ranges4, "tcp . 80-90", "192.0.2.2"), elem(ranges4, "udp . 80-90", "192.0.2.2"))
		s.refuses(nil, elem(ranges4, "tcp . 85-95", "192.0.2.3"))
		s.add(elem(ranges4, "tcp . 91-95", "192.0.2.3"))
	}},
	{"removal of a set or chain that is used", func(s *suite) {
		s.add(firewall()...)
		s.fails(kstate.Op{Old: *bridges})
		s.fails(kstate.Op{Old: chain("published")})
		s.holds(firewall()...)
	}},
	{"nftables ops side by side happen together or not at all", func(s *suite) {
		s.add(firewall()...)
		e := elem(ports4, "tcp . 80", "192.0.2.2 . 80")
		s.fails(Adds(e, elem(bridges, "slb1", ""), elem(ingress, "slb1", "jump nowhere"), elem(bridges, "slb2", ""))...)
		s.holds(firewall()...)
		s.fails(append(Dels(table), Adds(table, chain("c", "goto nowhere"))...)...)
		s.holds(firewall()...)
	}},
	{"an op between makes two nftables transactions", func(s *suite) {
		s.add(firewall()...)
		e := elem(ports4, "tcp . 80", "192.0.2.2 . 80")
		s.fails(Adds(e, bridge("slb1", 1), elem(ingress, "slb1", "jump nowhere"))...)
		s.holds(append(firewall(), e, bridge("slb1", 1))...)
	}},
	{"a chain may be jumped to before it is made in the same transaction", func(s *suite) {
		s.add(table, chain("a", "goto b"), chain("b", "drop"))
		s.del(chain("a"), chain("b"))
		s.holds(table)
	}},
	{"all failures are told, in order, and the rest is done", func(s *suite) {
		bad1, bad2 := addr(host, "slb7", "192.0.2.1/24"), route(host, "198.51.100.0/24", "", "slb8")
		err := s.fails(Adds(bad1, bridge("slb1", 1), bad2, bridge("slb2", 2))...)
		text := err.Error()
		i, j := strings.Index(text, bad1.String()), strings.Index(text, bad2.String())
		if i < 0 || j < i {
			s.Errorf("error is %q", text)
		}
		s.holds(bridge("slb1", 1), bridge("slb2", 2))
	}},
	{"hold of a port that a program listens on", func(s *suite) {
		for _, c := range []struct {
			listen string
			hold   kstate.Hold
		}{
			{"127.0.0.1:18080", kstate.Hold{Proto: "tcp", First: 18080, Last: 18080}},
			{"0.0.0.0:18090", kstate.Hold{Proto: "tcp", Addr: netip.MustParseAddr("127.0.0.1"), First: 18085, Last: 18095}},
			{"[::1]:18100", kstate.Hold{Proto: "tcp", Addr: netip.MustParseAddr("::1"), First: 18100, Last: 18100}},
		} {
			program, err := s.Outside.Listen(s.T, "tcp", netip.MustParseAddrPort(c.listen))
			if err != nil {
				s.Fatal(err)
			}
			if err := s.refuses(kernel.ErrInUse, c.hold); !strings.Contains(err.Error(), program) {
				s.Errorf("error %q does not name %s", err, program)
			}
			c.hold.Proto = "udp"
			s.add(c.hold)
		}
	}},
	{"a program cannot bind a held port", func(s *suite) {
		s.add(kstate.Hold{Proto: "tcp", First: 18080, Last: 18081}, kstate.Hold{Proto: "tcp", Addr: netip.MustParseAddr("127.0.0.1"), First: 18090, Last: 18090})
		for at, free := range map[string]bool{
			"127.0.0.1:18080": false, "0.0.0.0:18081": false, "[::1]:18080": false, "127.0.0.1:18082": true,
			"127.0.0.1:18090": false, "[::1]:18090": true,
		} {
			if _, err := s.Outside.Listen(s.T, "tcp", netip.MustParseAddrPort(at)); (err == nil) != free {
				s.Errorf("listen on %s: %v", at, err)
			}
		}
		s.del(kstate.Hold{Proto: "tcp", First: 18080, Last: 18081})
		if _, err := s.Outside.Listen(s.T, "tcp", netip.MustParseAddrPort("127.0.0.1:18080")); err != nil {
			s.Errorf("after the removal: %v", err)
		}
	}},
	{"a bridge has at most 1023 ports", func(s *suite) {
		ops := Adds(bridge("slb1", 1))
		for i := range 1023 {
			v := port(veth("slv"+itoa(i), host, "slw"+itoa(i), 1), "slb1")
			v.MAC, v.Peer.MAC, v.Up = "", "", false
			ops = append(ops, kstate.Op{New: v})
		}
		s.apply(ops...)
		last := port(veth("slv1023", host, "slw1023", 2), "slb1")
		err := s.fails(Adds(last)...)
		if !strings.Contains(err.Error(), "exchange full") {
			s.Errorf("error is %q", err)
		}
		if s.observe()[last.Key()] != nil {
			s.Error("the refused port is there")
		}
	}},
}
