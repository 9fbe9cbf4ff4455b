package security

import "encoding/binary"

// Numbers of IANA and IEEE: what may be around a packet, and what is no packet.
const (
	typeQinQ, typeOldQinQ, typePPPoE, typeMPLS, typeRARP = 0x88a8, 0x9100, 0x8864, 0x8847, 0x8035
	typePause, typeEAPOL, typeMACsec                     = 0x8808, 0x888e, 0x88e5
	routingHeader                                        = 43
)

// wrapping is a way to hide a packet from who looks only at the type of a frame.
type wrapping struct {
	name string
	wrap func(typ uint16, packet []byte) []byte // what follows the hardware addresses
}

// tags are what IEEE 802.1Q has in a frame: a type, and priority and VLAN.
// The kernel takes VLAN 0 for no VLAN, and reads on.
func tags(name string, pairs ...uint16) wrapping {
	return wrapping{name, func(typ uint16, packet []byte) []byte {
		var out []byte
		for _, p := range pairs {
			out = append(out, u16(p)...)
		}
		return join(out, u16(typ), packet)
	}}
}

var wrappings = []wrapping{
	tags("with a tag of no VLAN", typeVLAN, 0),
	tags("with a priority", typeVLAN, 0xe000),
	tags("with a provider's tag", typeQinQ, 5),
	tags("with a provider's tag of no VLAN", typeQinQ, 0),
	tags("with two tags", typeQinQ, 0, typeVLAN, 5),
	tags("with two tags of no VLAN", typeVLAN, 0, typeVLAN, 0),
	tags("with an old provider's tag", typeOldQinQ, 0),
	{"in PPPoE", func(typ uint16, packet []byte) []byte {
		protocol := map[uint16]uint16{typeIPv4: 0x21, typeIPv6: 0x57}[typ]
		return join(u16(typePPPoE), []byte{0x11, 0}, u16(1), u16(uint16(2+len(packet))), u16(protocol), packet)
	}},
	{"in SNAP", func(typ uint16, packet []byte) []byte { // RFC 1042
		return join(u16(uint16(8+len(packet))), []byte{0xaa, 0xaa, 3, 0, 0, 0}, u16(typ), packet)
	}},
	{"in MPLS", func(_ uint16, packet []byte) []byte {
		return join(u16(typeMPLS), []byte{0, 0, 1, 64}, packet) // label 0, bottom of the stack
	}},
}

// wrapped has each wrapping of each kind of forged packet.
func (e ends) wrapped(f *collection) {
	own, to, gate := e.ip(web, false), e.ip(peer, false), e.ip(gateway, false)
	for _, w := range wrappings {
		for _, p := range []struct {
			name string
			typ  uint16
			data []byte
		}{
			{"S15 an ARP answer for the gateway", typeARP, arp(arpReply, e.web, gate, to)},
			{"S15 the gateway's IPv4 address", typeIPv4, ip4(gate, to, 0, udp(9, 9, "wrapped"))},
			{"S15 the gateway's IPv6 address", typeIPv6, ip6(e.ip(gateway, true), e.ip(peer, true), udpProto, udp(9, 9, "wrapped"))},
			{"S16 a router advertisement", typeIPv6, ip6(local(e.web), allNodes, icmp6, icmp(raType, 0, make([]byte, 12)))},
			{"S16 a DHCP offer", typeIPv4, ip4(own, []byte{255, 255, 255, 255}, 0, udp(dhcpServer, dhcpClient, "wrapped"))},
		} {
			f.add(p.name+" "+w.name, join(e.peer, e.web, w.wrap(p.typ, p.data)))
		}
	}
}

// odd has packets that are almost what they say, and protocols of the wire itself.
func (e ends) odd(f *collection) {
	own, to, gate := e.ip(web, false), e.ip(peer, false), e.ip(gateway, false)
	answer := arp(arpReply, e.web, gate, to)
	for name, change := range map[string]func(b []byte) []byte{
		"of IEEE 802 networks":            func(b []byte) []byte { b[1] = 6; return b },
		"with longer hardware addresses":  func(b []byte) []byte { b[4] = 8; return join(b[:14], []byte{0, 0}, b[14:]) },
		"with shorter hardware addresses": func(b []byte) []byte { b[4] = 4; return join(b[:12], b[14:]) },
		"that says nothing of protocols":  func(b []byte) []byte { b[5] = 0; return b },
		"that is neither":                 func(b []byte) []byte { b[7] = 9; return b },
		"that ends early":                 func(b []byte) []byte { return b[:16] },
	} {
		f.add("S15 ARP answer "+name, ether(e.peer, e.web, typeARP, change(join(answer))))
	}
	for name, typ := range map[string]uint16{"RARP": typeRARP, "a pause": typePause, "EAPOL": typeEAPOL, "MACsec": typeMACsec, "LLDP": typeLLDP} {
		f.add("S15 "+name, ether(e.peer, e.web, typ, answer))
	}
	f.add("S15 a bridge's greeting", join([]byte{1, 0x80, 0xc2, 0, 0, 0}, e.web, u16(38), []byte{0x42, 0x42, 3}, make([]byte, 43)))
	f.add("S15 an IPv4 packet that says IPv6", ether(e.peer, e.web, typeIPv6, ip4(own, to, 0, udp(9, 9, "mistaken, and long enough for both"))))
	f.add("S15 an IPv6 packet that says IPv4", ether(e.peer, e.web, typeIPv4, ip6(e.ip(web, true), e.ip(peer, true), udpProto, udp(9, 9, "mistaken"))))
	f.add("S15 a multicast sender", ether(e.peer, []byte{3, 0x66, 0, 0, 0, 1}, typeIPv4, ip4(own, to, 0, udp(9, 9, "many"))))
	f.add("S15 the gateway's IPv4 address, with options", ether(e.peer, e.web, typeIPv4, optioned(ip4(gate, to, 0, udp(9, 9, "hi")), 24)))
	f.add("S16 DHCP offer, with options", ether(e.peer, e.web, typeIPv4, optioned(ip4(own, to, 0, udp(dhcpServer, dhcpClient, "")), 40)))
	f.add("S16 DHCP offer, first fragment, with options", ether(e.peer, e.web, typeIPv4, optioned(ip4(own, to, 0x2000, udp(dhcpServer, dhcpClient, "")), 8)))
}

// odd6 has headers that few have met.
func (e ends) odd6(f *collection) {
	from, ra, na := local(e.web), icmp(raType, 0, make([]byte, 8)), icmp(naType, 0x20, e.ip(gateway, true))
	routing := func(next byte) []byte { return []byte{next, 0, 253, 0, 0, 0, 0, 0} } // RFC 4727's type for experiments, nowhere left to go
	jumbo := func(next byte, n int) []byte {                                         // RFC 2675
		return binary.BigEndian.AppendUint32([]byte{next, 0, 0xc2, 4}, uint32(n))
	}
	f.v6("S16 router advertisement behind a routing header", from, routingHeader, join(routing(icmp6), ra))
	f.v6("S16 router advertisement behind all headers", from, hopByHop,
		join(options(dstOpts, 1), options(routingHeader, 2), routing(dstOpts), options(icmp6, 1), ra))
	f.v6("S16 router advertisement behind hop-by-hop options twice", from, hopByHop, join(options(hopByHop, 1), options(icmp6, 1), ra))
	f.v6("S16 router advertisement behind fragment headers", from, fragmentHeader, join(part(fragmentHeader, 0, false), part(icmp6, 0, false), ra))
	f.v6("S15 advertisement behind a routing header", from, routingHeader, join(routing(icmp6), na))
	f.v6("S15 advertisement in a jumbogram", from, hopByHop, join(jumbo(icmp6, 8+len(na)), na))
	f.v6("S15 redirect behind a routing header", from, routingHeader, join(routing(icmp6), icmp(redirectType, 0, from, e.ip(gateway, true))))
	for name, length := range map[string]uint16{"no length": 0, "a short length": 4, "a long length": 1400} {
		p := ip6(from, allNodes, icmp6, ra)
		binary.BigEndian.PutUint16(p[4:], length)
		f.add("IPv6 S16 router advertisement of "+name, ether(e.peer, e.web, typeIPv6, p))
	}
	p := ip6(from, allNodes, hopByHop, join(jumbo(icmp6, 8+len(ra)), ra))
	binary.BigEndian.PutUint16(p[4:], 0)
	f.add("IPv6 S16 router advertisement in a jumbogram", ether(e.peer, e.web, typeIPv6, p))
}

// optioned gives a packet of RFC 791 n bytes of options that do nothing.
func optioned(packet []byte, n int) []byte {
	p := join(packet[:20], make([]byte, n), packet[20:])
	for i := range n {
		p[20+i] = 1
	}
	p[0] += byte(n / 4)
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	return summed(p)
}
