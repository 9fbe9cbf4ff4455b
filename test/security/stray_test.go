package security

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
)

// stray is a hand-made frame that somebody sends, with a question for a
// nameserver in it. It may be seen on a device, or asked of the host, which has
// a nameserver on all its addresses.
type stray struct {
	what string
	from string // a host or a sandbox, by its eth0
	at   string // a sandbox, a host, or "the host" for its nameserver
	make func(name string) []byte
	rest func(frame []byte) [][]byte // what is sent in place of the frame; nil: just that
	want bool                        // it is here to show that the test can tell
}

// question is what RFC 1035 has for the address of a name.
func dnsQuestion(name string) string {
	return "\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + string(rune(len(name))) + name + "\x00\x00\x01\x00\x01"
}

// addr4 and addr6 are addresses as packets have them.
func addr4(s string) []byte { return netip.MustParseAddr(s).AsSlice() }
func addr6(s string) []byte { return netip.MustParseAddr(s).AsSlice() }

// udp6 is a packet with the checksum that IPv6 demands, RFC 8200 8.1.
func udp6(src, dst []byte, to uint16, data string) []byte {
	d := udp(9, to, data)
	binary.BigEndian.PutUint16(d[6:], sum(join(src, dst, u16(0), u16(uint16(len(d))), u16(0), u16(udpProto), d)))
	return ip6(src, dst, udpProto, d)
}

// strayFrom are the ways of one who has a device: its hardware address, and that
// of the next hop.
type strayFrom struct {
	who      string
	mac, via net.HardwareAddr
}

func (s strayFrom) v4(what, src, dst string, port uint16, at string) stray {
	return s.frame(what, at, func(name string) []byte {
		return ether(s.via, s.mac, typeIPv4, ip4(addr4(src), addr4(dst), 0, udp(9, port, dnsQuestion(name))))
	})
}

func (s strayFrom) v6(what, src, dst string, port uint16, at string) stray {
	return s.frame(what, at, func(name string) []byte {
		return ether(s.via, s.mac, typeIPv6, udp6(addr6(src), addr6(dst), port, dnsQuestion(name)))
	})
}

func (s strayFrom) frame(what, at string, frame func(name string) []byte) stray {
	return stray{what: what, from: s.who, at: at, make: frame}
}

// to sends to another hardware address.
func (s strayFrom) to(mac net.HardwareAddr) strayFrom { s.via = mac; return s }

// control is a stray that has to arrive.
func control(s stray) stray { s.want = true; return s }

// tagged puts a frame into VLAN 0, which the kernel takes for none.
func tagged(s stray) stray {
	plain := s.make
	s.what += ", with a tag of no VLAN"
	s.make = func(name string) []byte {
		b := plain(name)
		return join(b[:12], u16(typeVLAN), u16(0), b[12:])
	}
	return s
}

// inParts sends a frame's packet in two fragments: the first ends behind the header of
// UDP, so ports are in one and the question in the other.
func inParts(s stray) stray {
	s.what += ", in fragments"
	s.rest = func(frame []byte) [][]byte {
		head, p := frame[:14], frame[14:]
		if p[0]>>4 == 6 {
			first := ip6(p[8:24], p[24:40], fragmentHeader, join(part(udpProto, 0, true), p[40:48]))
			return [][]byte{join(head, first), join(head, ip6(p[8:24], p[24:40], fragmentHeader, join(part(udpProto, 1, false), p[48:])))}
		}
		return [][]byte{join(head, ip4(p[12:16], p[16:20], 0x2000, p[20:28])), join(head, ip4(p[12:16], p[16:20], 1, p[28:]))}
	}
	return s
}

// optional puts a packet of IPv6 behind options that say nothing.
func optional(s stray) stray {
	s.what += ", behind options"
	s.rest = func(frame []byte) [][]byte {
		p := frame[14:]
		return [][]byte{join(frame[:14], ip6(p[8:24], p[24:40], dstOpts, join(options(udpProto, 1), p[40:])))}
	}
	return s
}

// strange says that a datagram is of a protocol without ports.
func strange(s stray) stray {
	s.what += ", as GRE"
	s.rest = func(frame []byte) [][]byte {
		if p := frame[14:]; p[0]>>4 == 6 {
			p[6] = gre
		} else {
			of(gre, p)
		}
		return [][]byte{frame}
	}
	return s
}

// disguised is a stray in each of these ways.
func disguised(s stray) []stray {
	all := []stray{s, inParts(s), strange(s)}
	if strings.HasSuffix(s.what, "IPv6") {
		all = append(all, optional(s))
	}
	return all
}

// routedBy is a packet with a loose source route, RFC 791 page 18: to first, and then on.
func (s strayFrom) routedBy(what, src, first, then string, at string) stray {
	return s.frame(what, at, func(name string) []byte {
		p := optioned(ip4(addr4(src), addr4(first), 0, udp(9, 53, dnsQuestion(name))), 8)
		copy(p[20:], join([]byte{131, 7, 4}, addr4(then), []byte{0}))
		return ether(s.via, s.mac, typeIPv4, summed(p))
	})
}

// unreachable is an ICMP error about a packet from inner to outer, RFC 792 page 4.
func (s strayFrom) unreachable(what, src, inner, outer string, at string) stray {
	return s.frame(what, at, func(name string) []byte {
		about := ip4(addr4(inner), addr4(outer), 0, udp(81, 9, dnsQuestion(name)))
		m := join([]byte{3, 3, 0, 0, 0, 0, 0, 0}, about)
		binary.BigEndian.PutUint16(m[2:], sum(m))
		return ether(s.via, s.mac, typeIPv4, of(icmp4, ip4(addr4(src), addr4(inner), 0, m)))
	})
}

// leads returns a sandbox's ways by its network's bridge.
func (w *world) leads(n network, sandbox string) strayFrom {
	return strayFrom{sandbox, w.mac(sandbox, "eth0"), w.mac("", n.bridge())}
}

// strays are the frames, by who sends them.
func (w *world) strays() []stray {
	nat, routed, open, internal, isolated := modes[0], modes[1], modes[2], modes[3], modes[4]
	out := w.fromOutside(nat, routed, open, internal)
	out = append(out, w.fromInternal(internal, nat, open)...)
	for _, n := range []network{isolated, shut, shutIn} {
		out = append(out, w.toHost(n)...)
	}
	for _, n := range []network{apart, apartOpen, apartWay} {
		out = append(out, w.toPeer(n, false)...)
	}
	out = append(out, w.toPeer(nat, true)...)
	out = append(out, w.fromLoopback(loose, nat)...)
	free := w.leads(nat, nat.web())
	return append(out,
		control(free.v4("a container to the host", nat.addr(web, false), nat.addr(gateway, false), 53, "the host")),
		control(free.v6("a container to the host, IPv6", nat.addr(web, true), nat.addr(gateway, true), 53, "the host")),
		control(inParts(free.v4("a container to the host", nat.addr(web, false), nat.addr(gateway, false), 53, "the host"))),
		control(optional(free.v6("a container to the host, IPv6", nat.addr(web, true), nat.addr(gateway, true), 53, "the host"))),
		free.v4("a container to the host's loopback", nat.addr(web, false), "127.0.0.1", 53, "the host"),
		free.v6("a container to the host's loopback, IPv6", nat.addr(web, true), "::1", 53, "the host"),
		free.v6("a container to a link-local address elsewhere", nat.addr(web, true), "fe80::2", 53, "remote"),
		free.v4("a container to everybody outside", nat.addr(web, false), "192.0.2.255", 9, "remote"),
		free.v4("a container to the network address of a neighbour", nat.addr(web, false), routed.addr(255, false), 80, routed.web()),
	)
}

// fromOutside is what the attacker sends to the host's hardware address.
func (w *world) fromOutside(nat, routed, open, internal network) []stray {
	mac, err := net.ParseMAC(strings.TrimSpace(w.attacker.Must("cat", "/sys/class/net/eth0/address")))
	if err != nil {
		w.Fatal(err)
	}
	a := strayFrom{"attacker", mac, w.mac("", "eth0")}
	own, local6 := "192.0.2.3", netip.AddrFrom16([16]byte(local(mac))).String()
	var list []stray
	for _, n := range []network{nat, routed, internal, open} {
		for _, s := range slices.Concat(disguised(a.v4("outside to "+n.name, own, n.addr(web, false), 81, n.web())),
			disguised(a.v6("outside to "+n.name+", IPv6", "2001:db8::3", n.addr(web, true), 81, n.web()))) {
			s.want = n.name == open.name
			list = append(list, s)
		}
	}
	return append(list,
		control(a.v4("outside to the host", own, "192.0.2.1", 53, "the host")),
		a.v4("outside to the host's loopback", own, "127.0.0.1", 53, "the host"),
		a.v6("outside to the host's loopback, IPv6", "2001:db8::3", "::1", 53, "the host"),
		a.v4("outside as the host's loopback", "127.0.0.1", "192.0.2.1", 53, "the host"),
		a.v6("outside as the host's loopback, IPv6", "::1", "2001:db8::1", 53, "the host"),
		a.v4("outside as the gateway", nat.addr(gateway, false), "192.0.2.1", 53, "the host"),
		a.v4("outside to a port on loopback", own, "127.0.0.1", 9001, nat.web()),
		a.v6("outside to a port on loopback, IPv6", "2001:db8::3", "::1", 9001, nat.web()),
		a.v4("outside as the gateway, to its container", nat.addr(gateway, false), nat.addr(web, false), 80, nat.web()),
		a.v4("outside as a neighbour of the container", nat.addr(peer, false), nat.addr(web, false), 81, nat.web()),
		a.v6("outside as a neighbour of the container, IPv6", nat.addr(peer, true), nat.addr(web, true), 81, nat.web()),
		a.v4("outside as a neighbour, routed", routed.addr(peer, false), routed.addr(web, false), 81, routed.web()),
		a.v4("outside as a neighbour, internal", internal.addr(peer, false), internal.addr(web, false), 80, internal.web()),
		a.v6("outside as a neighbour, internal, IPv6", internal.addr(peer, true), internal.addr(web, true), 80, internal.web()),
		a.v4("outside to all of a network", own, open.addr(255, false), 81, open.web()),
		a.v6("outside by its link-local address", local6, open.addr(web, true), 81, open.web()),
		a.routedBy("outside by a source route", own, "192.0.2.1", nat.addr(web, false), nat.web()),
		a.unreachable("outside with an error about nothing", own, nat.addr(web, false), "192.0.2.99", nat.web()),
		a.unreachable("outside with an error about nothing, internal", own, internal.addr(web, false), "192.0.2.99", internal.web()),
		tagged(a.v4("outside to an unpublished port", own, nat.addr(web, false), 81, nat.web())),
		a.v6("outside to the host's loopback as IPv4 has it", "2001:db8::3", "::ffff:127.0.0.1", 53, "the host"),
		a.v6("outside as loopback as IPv4 has it, to a published port", "::ffff:127.0.0.1", "2001:db8::1", 8001, nat.web()),
		a.v6("outside as loopback as IPv4 has it, to a routed container", "::ffff:127.0.0.1", routed.addr(web, true), 80, routed.web()),
		a.v6("outside as loopback as IPv4 has it, to nat-unprotected", "::ffff:127.0.0.1", open.addr(web, true), 81, open.web()),
		a.v6("outside to a container as IPv4 has it", "2001:db8::3", "::ffff:"+nat.addr(web, false), 80, nat.web()),
	)
}

// fromInternal is what an internal network's container sends to get out.
func (w *world) fromInternal(internal, nat, open network) []stray {
	in := w.leads(internal, internal.web())
	own, own6 := internal.addr(web, false), internal.addr(web, true)
	return append(slices.Concat(
		disguised(in.v4("internal to nat-unprotected", own, open.addr(web, false), 81, open.web())),
		disguised(in.v6("internal to nat-unprotected, IPv6", own6, open.addr(web, true), 81, open.web())),
		disguised(in.v4("internal to the outside", own, "192.0.2.2", 9, "remote")),
		disguised(in.v6("internal to the outside, IPv6", own6, "2001:db8::2", 9, "remote"))),
		in.v4("internal to a cloud's metadata", own, "169.254.169.254", 9, "remote"),
		in.v6("internal to the host's loopback as IPv4 has it", own6, "::ffff:127.0.0.1", 53, "the host"),
		tagged(in.v4("internal to nat-unprotected", own, open.addr(web, false), 81, open.web())),
		tagged(in.v6("internal to nat-unprotected, IPv6", own6, open.addr(web, true), 81, open.web())),
		tagged(in.v4("internal to the outside", own, "192.0.2.2", 9, "remote")),
		in.v4("internal to everybody outside", own, "192.0.2.255", 9, "remote"),
		in.v6("internal to everybody outside, IPv6", own6, "ff02::1", 9, "remote"),
		in.routedBy("internal by a source route", own, internal.addr(gateway, false), "192.0.2.2", "remote"),
		in.unreachable("internal with an error about nothing", own, nat.addr(web, false), "192.0.2.99", nat.web()),
		in.v4("internal to the host's loopback", own, "127.0.0.1", 53, "the host"),
		in.v4("internal to a port on loopback", own, "127.0.0.1", 9001, nat.web()),
	)
}

// fromLoopback is what a container sends that may use any address.
func (w *world) fromLoopback(n, to network) []stray {
	in, own := w.leads(n, n.web()), n.addr(web, false)
	return []stray{
		control(in.v4("antispoof=off, as another", "192.0.2.98", "192.0.2.1", 53, "the host")),
		in.v4("antispoof=off, as loopback to the host", "127.0.0.1", "192.0.2.1", 53, "the host"),
		in.v4("antispoof=off, as loopback to its gateway", "127.0.0.1", n.addr(gateway, false), 53, "the host"),
		in.v4("antispoof=off, as loopback to loopback", "127.0.0.1", "127.0.0.1", 53, "the host"),
		in.v6("antispoof=off, as loopback to the host, IPv6", "::1", "2001:db8::1", 53, "the host"),
		in.v4("antispoof=off, as loopback to the outside", "127.0.0.1", "192.0.2.2", 9, "remote"),
		in.v4("antispoof=off, as loopback to another network", "127.0.0.1", to.addr(web, false), 80, to.web()),
		in.v4("antispoof=off, as loopback to a published port", "127.0.0.1", "192.0.2.1", 8001, to.web()),
		in.v4("antispoof=off, as the gateway", n.addr(gateway, false), "192.0.2.1", 53, "the host"),
		in.v4("antispoof=off, to the host's loopback", own, "127.0.0.1", 53, "the host"),
		in.v4("antispoof=off, to a port on loopback", own, "127.0.0.1", 9001, to.web()),
		in.v6("antispoof=off, to the host's loopback, IPv6", n.addr(web, true), "::1", 53, "the host"),
		in.v6("antispoof=off, as loopback as IPv4 has it, to the host", "::ffff:127.0.0.1", "2001:db8::1", 53, "the host"),
		in.v6("antispoof=off, as loopback as IPv4 has it, to a published port", "::ffff:127.0.0.1", "2001:db8::1", 8001, to.web()),
	}
}

// toHost is what a container sends where the host is closed to it.
func (w *world) toHost(n network) []stray {
	in, own, own6 := w.leads(n, n.web()), n.addr(web, false), n.addr(web, true)
	all := in.to(broadcast)
	list := []stray{
		in.v4("to the host", own, "192.0.2.1", 53, "the host"),
		inParts(in.v4("to the host", own, "192.0.2.1", 53, "the host")),
		in.v6("to the host, IPv6", own6, "2001:db8::1", 53, "the host"),
		inParts(in.v6("to the host, IPv6", own6, "2001:db8::1", 53, "the host")),
		optional(in.v6("to the host, IPv6", own6, "2001:db8::1", 53, "the host")),
		in.v6("to the host as IPv4 has it", own6, "::ffff:192.0.2.1", 53, "the host"),
		in.v6("to the host's link-local address", own6, "fe80::1", 53, "the host"),
		all.v4("to everybody", own, "255.255.255.255", 53, "the host"),
		all.v4("to all of the network", own, n.addr(255, false), 53, "the host"),
		all.v4("to all systems", own, "224.0.0.1", 53, "the host"),
		all.v6("to all nodes", own6, "ff02::1", 53, "the host"),
		all.v6("to all routers", netip.AddrFrom16([16]byte(local(in.mac))).String(), "ff02::2", 53, "the host"),
		tagged(in.v4("to the host", own, "192.0.2.1", 53, "the host")),
		tagged(all.v6("to all nodes", own6, "ff02::1", 53, "the host")),
		in.routedBy("to the host by a source route", own, n.addr(gateway, false), "192.0.2.1", "the host"),
		in.to([]byte{1, 0x80, 0xc2, 0, 0, 0}).v4("to the host by the bridges' address", own, "192.0.2.1", 53, "the host"),
	}
	for i := range list {
		list[i].what = n.name + " " + list[i].what
	}
	return list
}

// toPeer is what a container sends to another of its network, by every hardware
// address that may lead there.
func (w *world) toPeer(n network, open bool) []stray {
	e := w.ends(n)
	in, own, own6 := w.leads(n, n.web()), n.addr(web, false), n.addr(web, true)
	at, at6, to := n.addr(peer, false), n.addr(peer, true), n.peer()
	list := []stray{
		in.to(e.peer).v4("directly", own, at, 9, to),
		in.to(e.peer).v6("directly, IPv6", own6, at6, 9, to),
		in.to(broadcast).v4("as everybody", own, "255.255.255.255", 9, to),
		in.to(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}).v6("as all nodes", own6, "ff02::1", 9, to),
		in.to([]byte{1, 0x80, 0xc2, 0, 0, 0}).v4("by the bridges' address", own, at, 9, to),
		tagged(in.to(e.peer).v4("directly", own, at, 9, to)),
	}
	if !open {
		list = append(list,
			inParts(in.to(e.peer).v4("directly", own, at, 9, to)),
			strange(in.to(e.peer).v4("directly", own, at, 9, to)),
			strange(in.to(e.peer).v6("directly, IPv6", own6, at6, 9, to)),
			in.v6("by the host, link-local", own6, netip.AddrFrom16([16]byte(local(e.peer))).String(), 80, to),
			in.v4("by the host, to all", own, n.addr(255, false), 80, to),
			in.routedBy("by the host and a source route", own, n.addr(gateway, false), at, to),
			in.unreachable("by the host, with an error about nothing", own, at, "192.0.2.99", to))
		list = append(list, disguised(in.v4("by the host", own, at, 80, to))...)
		list = append(list, disguised(in.v6("by the host, IPv6", own6, at6, 80, to))...)
	}
	for i := range list {
		list[i].what, list[i].want = n.name+" to a neighbour "+list[i].what, open
	}
	return list
}

// astray sends all strays and looks where they went.
func (w *world) astray() {
	all := w.strays()
	names := make([]string, len(all))
	sees, sends := map[string]*lab.Process{}, map[string][]string{}
	for i, s := range all {
		names[i] = fmt.Sprintf("astray%03d", i)
		frames := [][]byte{s.make(names[i])}
		if s.rest != nil {
			frames = s.rest(frames[0])
		}
		for _, f := range frames {
			sends[s.from] = append(sends[s.from], hex.EncodeToString(f))
		}
		if sees[s.at] == nil {
			sees[s.at] = w.watch(s.at)
			defer sees[s.at].Signal(syscall.SIGTERM)
		}
	}
	for who, frames := range sends {
		w.from(who, append([]string{"lab-echo", "send", "eth0"}, frames...))
	}
	seen := func(i int) bool {
		name := names[i]
		if all[i].at != "the host" {
			name = hex.EncodeToString([]byte(name))
		}
		return strings.Contains(sees[all[i].at].Output(), name)
	}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		missing := 0
		for i, s := range all {
			if s.want && !seen(i) {
				missing++
			}
		}
		if missing == 0 {
			break
		}
	}
	time.Sleep(50 * time.Millisecond)
	for i, s := range all {
		w.Run(s.what, func(t *testing.T) {
			if got := seen(i); got != s.want {
				t.Errorf("from %s, arrived at %s: %v, want %v", s.from, s.at, got, s.want)
			}
		})
	}
}

// watch looks at what arrives at a host or a sandbox.
func (w *world) watch(at string) *lab.Process {
	hosts := map[string]*lab.Host{"remote": w.remote, "attacker": w.attacker, "neighbour": w.neighbour}
	switch h := hosts[at]; {
	case at == "the host":
		return w.start(w.h, []string{"lab-echo", "nameserver"})
	case h != nil:
		return w.start(h, []string{"lab-echo", "sniff", "eth0"})
	}
	return w.start(w.h, in(at, "lab-echo", "sniff", "eth0"))
}
