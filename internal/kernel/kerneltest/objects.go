package kerneltest

import (
	"context"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// objectCases: every kind can be made, seen and removed, twice.
var objectCases = []testcase{
	{"an empty host shows nothing of ours", func(s *suite) { s.holds() }},
	{"netns", func(s *suite) { s.comesAndGoes(kstate.NetNS{NS: s.ns("a")}) }},
	{"bridge", func(s *suite) { s.comesAndGoes(bridge("slb1", 1)) }},
	{"bridge with localnet", func(s *suite) {
		b := bridge("slb1", 1)
		b.Localnet = true
		s.comesAndGoes(b)
	}},
	{"bridge with proxy ARP", func(s *suite) {
		b := bridge("slb1", 1)
		b.ProxyARP = true
		s.comesAndGoes(b)
	}},
	{"bridge that is down", func(s *suite) {
		b := bridge("slb1", 1)
		b.Up = false
		s.comesAndGoes(b)
	}},
	{"veth into a namespace", func(s *suite) {
		a := s.ns("a")
		s.comesAndGoes(kstate.NetNS{NS: a}, veth("slv1", a, "eth0", 1))
	}},
	{"veth with both ends in the host", func(s *suite) { s.comesAndGoes(veth("slv1", host, "slv2", 1)) }},
	{"bridge port, isolated, hairpin and to be forwarded what is for groups", func(s *suite) {
		v := port(veth("slv1", s.ns("a"), "eth0", 1), "slb1")
		v.Isolated, v.Hairpin, v.GroupForward = true, true, true
		s.comesAndGoes(kstate.NetNS{NS: s.ns("a")}, bridge("slb1", 1), v)
	}},
	{"bridge that answers no ARP", func(s *suite) { s.comesAndGoes(shard("slb1", 1)) }},
	{"veth between two bridges", func(s *suite) {
		v := cord("slv1", "slw1", "slb1", "slb2", 1)
		v.Isolated, v.Hairpin = true, true
		w := cord("slv2", "slw2", "slb2", "slb1", 2)
		w.Peer.Isolated = true
		s.comesAndGoes(bridge("slb1", 1), shard("slb2", 2), v, w)
	}},
	{"bridge port that is pinned", func(s *suite) {
		v := port(veth("slv1", s.ns("a"), "eth0", 1), "slb1")
		v.Pinned = true
		s.comesAndGoes(kstate.NetNS{NS: s.ns("a")}, bridge("slb1", 1), v)
	}},
	{"addresses of both families", func(s *suite) {
		a := s.ns("a")
		s.comesAndGoes(kstate.NetNS{NS: a}, bridge("slb1", 1), veth("slv1", a, "eth0", 1),
			addr(host, "slb1", "192.0.2.1/24"), addr(host, "slb1", "2001:db8::1/64"), addr(host, "slb1", "fe80::1/64"),
			addr(a, "eth0", "192.0.2.2/24"), addr(a, "eth0", "2001:db8::2/64"))
	}},
	{"routes, default and on-link, of both families", func(s *suite) {
		a := s.ns("a")
		s.comesAndGoes(kstate.NetNS{NS: a}, veth("slv1", a, "eth0", 1),
			addr(a, "eth0", "192.0.2.2/24"), addr(a, "eth0", "2001:db8::2/64"),
			route(a, "0.0.0.0/0", "192.0.2.1", "eth0"), route(a, "::/0", "2001:db8::1", "eth0"),
			route(a, "198.51.100.0/24", "", "eth0"), route(a, "2001:db8:1::/64", "", "eth0"))
	}},
	{"route of the host", func(s *suite) {
		s.comesAndGoes(bridge("slb1", 1), addr(host, "slb1", "192.0.2.1/24"), route(host, "198.51.100.0/24", "192.0.2.9", "slb1"))
	}},
	{"sysctl", func(s *suite) { s.comesAndGoes(kstate.Sysctl{Name: "net.ipv4.ip_forward", Value: "1"}) }},
	{"file", func(s *suite) {
		s.comesAndGoes(kstate.File{Path: path.Join(s.RunDir, "sandboxes/a/hosts"), Content: "127.0.0.1\tlocalhost\n"},
			kstate.File{Path: path.Join(s.RunDir, "sandboxes/a/resolv.conf")})
	}},
	{"hold", func(s *suite) {
		s.comesAndGoes(kstate.Hold{Proto: "tcp", First: 18080, Last: 18080},
			kstate.Hold{Proto: "udp", Addr: netip.MustParseAddr("127.0.0.1"), First: 18000, Last: 18009},
			kstate.Hold{Proto: "tcp", Addr: netip.MustParseAddr("::1"), First: 18081, Last: 18081})
	}},
	{"table", func(s *suite) { s.comesAndGoes(table) }},
	{"sets and maps", func(s *suite) {
		s.comesAndGoes(table, *bridges, *inside, *ingress, *home4, *home6, *masq4, *ports4, *ports6, *portsAt4, *ranges4, *open4, *opens6)
	}},
	{"firewall", func(s *suite) { s.comesAndGoes(firewall()...) }},
	{"table of frames", func(s *suite) { s.comesAndGoes(frames()...) }},
	{"tables of both families side by side", func(s *suite) {
		both := set(append(firewall(), frames()...)...)
		s.reach(both)
		s.Outside.Flush(s.T)
		s.holds()
		s.reach(both)
		s.reach(set(frames()...))
		s.reach(set(firewall()...))
	}},
	{"elements", func(s *suite) {
		s.add(firewall()...)
		s.comesAndGoesOn(firewall(),
			elem(bridges, "slb1", ""), elem(inside, "slb1 . slb1", ""), elem(inside, "slb1 . slb2", ""),
			elem(ingress, "slb1", "jump to_nat"), elem(ingress, "slb2", "drop"),
			elem(home4, "192.0.2.0/24 . slb1", ""), elem(home6, "2001:db8::/64 . slb1", ""),
			elem(masq4, "192.0.2.0/24", ""), elem(masq4, "198.51.100.7", ""), elem(masq4, "192.0.3.0/24", ""),
			elem(ports4, "tcp . 80", "192.0.2.2 . 8080"), elem(ports4, "udp . 80", "192.0.2.2 . 8080"), elem(ports4, "sctp . 80", "192.0.2.2 . 80"),
			elem(ports6, "tcp . 80", "2001:db8::2 . 8080"), elem(portsAt4, "127.0.0.1 . tcp . 81", "192.0.2.2 . 81"),
			elem(ranges4, "tcp . 7000-7999", "192.0.2.2"), elem(ranges4, "udp . 1-65535", "192.0.2.3"),
			elem(open4, "192.0.2.2 . tcp . 8080", ""), elem(opens6, "2001:db8::2 . tcp . 80-90", ""))
	}},
	{"a namespace takes everything in it along", func(s *suite) {
		a := s.ns("a")
		s.add(bridge("slb1", 1), kstate.NetNS{NS: a}, port(veth("slv1", a, "eth0", 1), "slb1"),
			addr(a, "eth0", "192.0.2.2/24"), route(a, "0.0.0.0/0", "192.0.2.1", "eth0"))
		s.del(kstate.NetNS{NS: a})
		s.holds(bridge("slb1", 1))
		s.add(kstate.NetNS{NS: a}, port(veth("slv1", a, "eth0", 1), "slb1")) // the names are free again
	}},
	{"a link takes addresses and routes of both ends along", func(s *suite) {
		a := s.ns("a")
		v := veth("slv1", a, "eth0", 1)
		s.add(kstate.NetNS{NS: a}, v, addr(host, "slv1", "192.0.2.1/24"), route(host, "198.51.100.0/24", "192.0.2.2", "slv1"),
			addr(a, "eth0", "192.0.2.2/24"), route(a, "0.0.0.0/0", "192.0.2.1", "eth0"))
		s.del(v)
		s.holds(kstate.NetNS{NS: a})
	}},
	{"a bridge leaves its ports behind without a master", func(s *suite) {
		v := port(veth("slv1", host, "slv2", 1), "slb1")
		v.Isolated = true
		s.add(bridge("slb1", 1), v)
		s.del(bridge("slb1", 1))
		s.holds(veth("slv1", host, "slv2", 1))
	}},
	{"a bridge leaves far ends behind without a master", func(s *suite) {
		v := cord("slv1", "slw1", "slb1", "slb2", 1)
		v.Peer.Isolated = true
		s.add(bridge("slb1", 1), bridge("slb2", 2), v)
		s.del(bridge("slb2", 2))
		s.holds(bridge("slb1", 1), port(veth("slv1", host, "slw1", 1), "slb1"))
	}},
	{"a table takes everything in it along", func(s *suite) {
		s.add(firewall()...)
		s.add(elem(ports4, "tcp . 80", "192.0.2.2 . 80"), elem(ingress, "slb1", "jump to_nat"))
		s.del(table)
		s.holds()
	}},
	{"removing one address leaves the others of its subnet", func(s *suite) {
		s.add(bridge("slb1", 1), addr(host, "slb1", "192.0.2.1/24"), addr(host, "slb1", "192.0.2.2/24"), addr(host, "slb1", "192.0.2.3/24"))
		s.del(addr(host, "slb1", "192.0.2.1/24"))
		s.holds(bridge("slb1", 1), addr(host, "slb1", "192.0.2.2/24"), addr(host, "slb1", "192.0.2.3/24"))
	}},
	{"settings of a namespace are inside it, not on the host", func(s *suite) {
		before := s.Outside.Sysctl(s.T, "net.ipv4.ip_forward")
		s.add(kstate.NetNS{NS: s.ns("a"), Sysctls: []string{"net.ipv4.ip_forward=" + other(before)}})
		if got := s.Outside.Sysctl(s.T, "net.ipv4.ip_forward"); got != before {
			s.Errorf("the host's forwarding is %s, was %s", got, before)
		}
	}},
	{"settings of a far end are inside its namespace, not on the host", func(s *suite) {
		const name = "net.ipv4.conf.eth0.forwarding"
		s.Outside.Bridge(s.T, "eth0")
		before := s.Outside.Sysctl(s.T, name)
		v := veth("slv1", s.ns("a"), "eth0", 1)
		v.Peer.Sysctls = name + "=" + other(before) + "\nnet.ipv6.conf.eth0.accept_ra=0"
		s.add(kstate.NetNS{NS: s.ns("a")}, v, addr(s.ns("a"), "eth0", "192.0.2.2/24"))
		if got := s.Outside.Sysctl(s.T, name); got != before {
			s.Errorf("the host's is %s, was %s", got, before)
		}
	}},
	{"scope: without a namespace its inside is not seen", func(s *suite) {
		a := s.ns("a")
		s.add(kstate.NetNS{NS: a}, veth("slv1", a, "eth0", 1), addr(a, "eth0", "192.0.2.2/24"))
		have, err := s.Kernel.Observe(s.Context(), kernel.Scope{})
		if err != nil {
			s.Fatal(err)
		}
		if have[addr(a, "eth0", "192.0.2.2/24").Key()] != nil {
			s.Error("the address inside is seen")
		}
		if have[veth("slv1", a, "eth0", 1).Key()] == nil {
			s.Error("the link is not seen")
		}
	}},
	{"scope: only a namespace", func(s *suite) {
		a, b := s.ns("a"), s.ns("b")
		s.add(bridge("slb1", 1), addr(host, "slb1", "192.0.2.1/24"), kstate.NetNS{NS: a}, kstate.NetNS{NS: b},
			veth("slv1", a, "eth0", 1), addr(a, "eth0", "192.0.2.2/24"), table,
			kstate.File{Path: path.Join(s.RunDir, "sandboxes/a/hosts")})
		s.add(choice("10.1.0.9:80", "10.1.0.2:80"), kstate.Chooser{NS: a, VNI: 4096})
		have, err := s.Kernel.Observe(s.Context(), kernel.Scope{NS: []kstate.NS{a}, Only: true})
		if err != nil {
			s.Fatal(err)
		}
		want := set(kstate.NetNS{NS: a}, addr(a, "eth0", "192.0.2.2/24")).String()
		if have.String() != want {
			s.Errorf("there is:\n%swant:\n%s", have, want)
		}
	}},
	{"scope: devices", func(s *suite) {
		a := s.ns("a")
		devices := []kstate.Object{bridge("slb1", 1), addr(host, "slb1", "192.0.2.1/24"), kstate.NetNS{NS: a}, veth("slv1", a, "eth0", 1)}
		s.add(devices...)
		s.add(table, kstate.Sysctl{Name: "net.ipv4.ip_forward", Value: "1"}, kstate.File{Path: path.Join(s.RunDir, "sandboxes/a/hosts")},
			kstate.Hold{Proto: "tcp", First: 18080, Last: 18080}, choice("10.1.0.9:80", "10.1.0.2:80"), kstate.Chooser{NS: a, VNI: 4096})
		have, err := s.Kernel.Observe(s.Context(), kernel.Scope{Devices: true})
		if err != nil {
			s.Fatal(err)
		}
		if want := set(devices...).String(); have.String() != want {
			s.Errorf("there is:\n%swant:\n%s", have, want)
		}
	}},
	{"a namespace that does not exist is left out", func(s *suite) {
		s.add(bridge("slb1", 1))
		have, err := s.Kernel.Observe(s.Context(), kernel.Scope{NS: []kstate.NS{s.ns("nobody"), {Path: "/nowhere", Inode: 7}}})
		if err != nil || have.String() != set(bridge("slb1", 1)).String() {
			s.Errorf("%v, there is:\n%s", err, have)
		}
	}},
	{"a context that is done stops everything", func(s *suite) {
		ctx, cancel := context.WithCancel(s.Context())
		cancel()
		if err := s.Kernel.Apply(ctx, Adds(bridge("slb1", 1))); err == nil {
			s.Error("apply: no error")
		}
		if _, err := s.Kernel.Observe(ctx, kernel.Scope{}); err == nil {
			s.Error("observe: no error")
		}
		s.holds()
	}},
	{"observe and apply at the same time", func(s *suite) {
		done := make(chan error, 4)
		for i := range 4 {
			ns := s.ns(string(rune('a' + i)))
			v := veth("slv"+string(rune('a'+i)), ns, "eth0", byte(i))
			go func() {
				err := s.Kernel.Apply(s.Context(), Adds(kstate.NetNS{NS: ns}, v, addr(ns, "eth0", "192.0.2.2/24")))
				if err == nil {
					_, err = s.Kernel.Observe(s.Context(), kernel.Scope{NS: []kstate.NS{ns}, Only: true})
				}
				done <- err
			}()
		}
		for range 4 {
			select {
			case err := <-done:
				if err != nil {
					s.Error(err)
				}
			case <-time.After(30 * time.Second):
				s.Fatal("stuck")
			}
		}
		if n := strings.Count(s.text(), "type veth"); n != 4 {
			s.Errorf("%d links, want 4", n)
		}
	}},
}

// comesAndGoes checks for objects in order: made, seen as wanted, made again
// without a failure; then removed in the other order, and again; and all of that
// once more, at once.
func (s *suite) comesAndGoes(objs ...kstate.Object) { s.Helper(); s.comesAndGoesOn(nil, objs...) }

// comesAndGoesOn does so on top of what is there.
func (s *suite) comesAndGoesOn(base []kstate.Object, objs ...kstate.Object) {
	s.Helper()
	all := append(slices.Clone(base), objs...)
	back := slices.Clone(objs)
	slices.Reverse(back)
	for range 2 {
		for range 2 {
			s.add(objs...)
			s.holds(all...)
		}
		if left := kstate.Diff(s.observe(all...), set(all...)); len(left) > 0 {
			s.Fatalf("still to do:\n%s", lines(left))
		}
		for range 2 {
			s.del(back...)
			s.holds(base...)
		}
	}
}

func other(bit string) string {
	if bit == "1" {
		return "0"
	}
	return "1"
}
