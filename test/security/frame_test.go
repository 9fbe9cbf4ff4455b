package security

import (
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ends is who is on the wire of a network: web sends, peer listens.
type ends struct {
	network
	web, peer, bridge net.HardwareAddr
}

func (e ends) ip(host int, is6 bool) []byte { return netip.MustParseAddr(e.addr(host, is6)).AsSlice() }

// local is the link-local address of a hardware address, RFC 4291 appendix A.
func local(mac net.HardwareAddr) []byte {
	return []byte{0xfe, 0x80, 7: 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]}
}

// Numbers of IANA.
const (
	typeIPv4, typeARP, typeVLAN, typeIPv6, typeLLDP            = 0x0800, 0x0806, 0x8100, 0x86dd, 0x88cc
	hopByHop, udpProto, fragmentHeader, icmp6, dstOpts         = 0, 17, 44, 58, 60
	icmp4, tcpProto, gre                                       = 1, 6, 47
	echoRequest6, echoReply6, mldReport, nsType, naType        = 128, 129, 143, 135, 136
	raType, redirectType                                       = 134, 137
	dhcpServer, dhcpClient, dhcp6Server, dhcp6Client           = 67, 68, 547, 546
	arpRequest, arpReply                                uint16 = 1, 2
)

var (
	broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodes  = netip.MustParseAddr("ff02::1").AsSlice()
	gateLocal = netip.MustParseAddr("fe80::1").AsSlice()
)

func join(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func u16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

func ether(dst, src net.HardwareAddr, typ uint16, payload []byte) []byte {
	return join(dst, src, u16(typ), payload)
}

// arp is a packet of RFC 826 for Ethernet and IPv4.
func arp(op uint16, hardware net.HardwareAddr, sender, target []byte) []byte {
	return join(u16(1), u16(typeIPv4), []byte{6, 4}, u16(op), hardware, sender, make([]byte, 6), target)
}

// sum is the Internet checksum, RFC 1071.
func sum(b []byte) uint16 {
	var n uint32
	for i := 0; i+1 < len(b); i += 2 {
		n += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		n += uint32(b[len(b)-1]) << 8
	}
	for n > 0xffff {
		n = n>>16 + n&0xffff
	}
	return ^uint16(n)
}

// ip4 is a packet of RFC 791; offset is of a fragment, in units of 8 bytes.
func ip4(src, dst []byte, offset uint16, payload []byte) []byte {
	return summed(join([]byte{0x45, 0}, u16(uint16(20+len(payload))), u16(7), u16(offset), []byte{64, udpProto, 0, 0}, src, dst, payload))
}

// of gives a packet of RFC 791 another protocol.
func of(proto byte, packet []byte) []byte {
	packet[9] = proto
	return summed(packet)
}

// summed gives a packet of RFC 791 its checksum.
func summed(packet []byte) []byte {
	h := packet[:4*(packet[0]&15)]
	h[10], h[11] = 0, 0
	binary.BigEndian.PutUint16(h[10:], sum(h))
	return packet
}

// ip6 is a packet of RFC 8200.
func ip6(src, dst []byte, next byte, payload []byte) []byte {
	return join([]byte{0x60, 0, 0, 0}, u16(uint16(len(payload))), []byte{next, 255}, src, dst, payload)
}

// options is an extension header with only padding, of 8 bytes times n.
func options(next byte, n int) []byte {
	return join([]byte{next, byte(n - 1), 1, byte(8*n - 4)}, make([]byte, 8*n-4))
}

// part is the fragment header of RFC 8200 4.5; offset in units of 8 bytes.
func part(next byte, offset uint16, more bool) []byte {
	field := offset << 3
	if more {
		field |= 1
	}
	return join([]byte{next, 0}, u16(field), []byte{0, 0, 0, 9})
}

// udp is a datagram without a checksum, which IPv4 allows and only the receiver misses.
func udp(from, to uint16, data string) []byte {
	return join(u16(from), u16(to), u16(uint16(8+len(data))), u16(0), []byte(data))
}

// icmp is a message of RFC 4443 and 4861, again without a checksum.
func icmp(typ byte, flags byte, body ...[]byte) []byte {
	return join([]byte{typ, 0, 0, 0, flags, 0, 0, 0}, join(body...))
}

// frame is one that a container sends, and whether the guard lets it pass.
type frame struct {
	name string
	pass bool
	data []byte
}

// honest is what containers send that have nothing to hide.
func (e ends) honest() []frame {
	own4, own6, to4, to6 := e.ip(web, false), e.ip(web, true), e.ip(peer, false), e.ip(peer, true)
	f := e.collect(true)
	f.v4("UDP", own4, 0, udp(9, 9, "hi"))
	f.v4("a later fragment", own4, 100, []byte("12345678"))
	f.v6("UDP", own6, udpProto, udp(9, 9, "hi"))
	f.v6("UDP, first fragment", own6, fragmentHeader, join(part(udpProto, 0, true), udp(9, 9, "12345678")))
	f.v6("UDP, later fragment", own6, fragmentHeader, join(part(udpProto, 100, false), []byte("12345678")))
	f.v6("ping, first fragment", own6, fragmentHeader, join(part(icmp6, 0, true), icmp(echoRequest6, 0, []byte("12345678"))))
	f.v6("ping, later fragment", own6, fragmentHeader, join(part(icmp6, 100, false), []byte("12345678")))
	for name, next := range map[string]byte{"TCP": tcpProto, "SCTP": 132, "ESP": 50, "GRE": gre} {
		f.v6(name+", first fragment", own6, fragmentHeader, join(part(next, 0, true), make([]byte, 24)))
	}
	f.v6("ping answered, first fragment", own6, fragmentHeader, join(part(icmp6, 0, true), icmp(echoReply6, 0, []byte("12345678"))))
	f.v6("ping behind options", own6, dstOpts, join(options(icmp6, 2), icmp(echoRequest6, 0)))
	f.v6("no next header", own6, 59, nil)
	f.v6("link-local UDP", local(e.web), udpProto, udp(9, 9, "hi"))
	f.add("ARP request", ether(broadcast, e.web, typeARP, arp(arpRequest, e.web, own4, to4)))
	f.add("ARP announcement", ether(broadcast, e.web, typeARP, arp(arpRequest, e.web, own4, own4)))
	f.add("ARP probe", ether(broadcast, e.web, typeARP, arp(arpRequest, e.web, make([]byte, 4), own4)))
	f.v6("solicitation", own6, icmp6, icmp(nsType, 0, to6))
	f.v6("advertisement", own6, icmp6, icmp(naType, 0x60, own6))
	f.v6("duplicate address detection", make([]byte, 16), icmp6, icmp(nsType, 0, own6))
	f.v6("listener report", make([]byte, 16), hopByHop, join(options(icmp6, 1), icmp(mldReport, 0)))
	f.add("DHCP request", ether(broadcast, e.web, typeIPv4, ip4(make([]byte, 4), []byte{255, 255, 255, 255}, 0, udp(dhcpClient, dhcpServer, ""))))
	f.v6("DHCPv6 request", local(e.web), udpProto, udp(dhcp6Client, dhcp6Server, ""))
	return f.frames
}

// forged is what they must not: the numbers are those of the matrix.
func (e ends) forged() []frame {
	f := e.collect(false)
	e.spoofed(f)
	e.poison(f)
	e.routers(f)
	e.servers(f)
	e.wrapped(f)
	e.odd(f)
	e.odd6(f)
	return f.frames
}

// padded is a packet in a frame that goes on behind it.
func (c *collection) padded(name string, src []byte, next byte, payload, more []byte) {
	c.add("IPv6 "+name, ether(c.ends.peer, c.ends.web, typeIPv6, join(ip6(src, c.ip(peer, true), next, payload), more)))
}

// spoofed has senders that web is not.
func (e ends) spoofed(f *collection) {
	own4, own6, to4 := e.ip(web, false), e.ip(web, true), e.ip(peer, false)
	f.v4("S15 another's IPv4 address", e.ip(nobody, false), 0, udp(9, 9, "hi"))
	f.v4("S15 the gateway's IPv4 address", e.ip(gateway, false), 0, udp(9, 9, "hi"))
	f.v4("S15 the gateway's IPv4 address, later fragment", e.ip(gateway, false), 100, []byte("12345678"))
	f.v4("S15 a foreign IPv4 address", []byte{192, 0, 2, 2}, 0, udp(9, 9, "hi"))
	f.v4("S15 no IPv4 address", make([]byte, 4), 0, udp(9, 9, "hi"))
	f.v4("S15 a multicast IPv4 address", []byte{224, 0, 0, 1}, 0, udp(9, 9, "hi"))
	f.v4("S15 an IPv4 loopback address", []byte{127, 0, 0, 1}, 0, udp(9, 9, "hi"))
	gate := e.ip(gateway, false)
	f.add("S15 the gateway's IPv4 address, GRE", ether(e.peer, e.web, typeIPv4, of(gre, ip4(gate, to4, 0, join(u16(0), u16(typeIPv4), ip4(own4, to4, 0, udp(9, 9, "hi")))))))
	f.add("S15 the gateway's IPv4 address, a redirect", ether(e.peer, e.web, typeIPv4, of(icmp4, ip4(gate, to4, 0, join([]byte{5, 1, 0, 0}, own4, ip4(to4, []byte{192, 0, 2, 2}, 0, udp(9, 9, "hi")))))))
	f.v6("S15 the gateway's IPv6 address, GRE", e.ip(gateway, true), gre, join(u16(0), u16(typeIPv4), ip4(own4, to4, 0, udp(9, 9, "hi"))))
	f.v6("S15 another's IPv6 address", e.ip(nobody, true), udpProto, udp(9, 9, "hi"))
	f.v6("S15 the gateway's IPv6 address", e.ip(gateway, true), udpProto, udp(9, 9, "hi"))
	f.v6("S15 the gateway's IPv6 address, later fragment", e.ip(gateway, true), fragmentHeader, join(part(udpProto, 100, false), []byte("12345678")))
	f.v6("S15 the gateway's link-local address", gateLocal, udpProto, udp(9, 9, "hi"))
	f.v6("S15 the gateway's link-local address, ping", gateLocal, icmp6, icmp(echoRequest6, 0))
	f.v6("S15 no IPv6 address", make([]byte, 16), udpProto, udp(9, 9, "hi"))
	f.add("S15 a new hardware address, duplicate address detection", ether(e.peer, other1, typeIPv6, ip6(make([]byte, 16), allNodes, icmp6, icmp(nsType, 0, own6))))
	f.v6("S15 no IPv6 address, ping", make([]byte, 16), icmp6, icmp(echoRequest6, 0))
	f.add("S15 the bridge's hardware address", ether(e.peer, e.bridge, typeIPv4, ip4(own4, to4, 0, udp(9, 9, "hi"))))
	f.add("S15 a new hardware address, IPv4", ether(e.peer, other1, typeIPv4, ip4(own4, to4, 0, udp(9, 9, "hi"))))
	f.add("S15 a new hardware address, IPv6", ether(e.peer, other1, typeIPv6, ip6(own6, e.ip(peer, true), udpProto, udp(9, 9, "hi"))))
	f.add("S15 neither ARP nor IP", ether(e.peer, e.web, 0x88b5, make([]byte, 46)))
	f.add("S15 IEEE 802.2", ether(e.peer, e.web, 46, join([]byte{0x42, 0x42, 3}, make([]byte, 43))))
	f.add("S15 another's IPv4 address with a tag", ether(e.peer, e.web, typeVLAN, join(u16(5), u16(typeIPv4), ip4(e.ip(gateway, false), to4, 0, udp(9, 9, "hi")))))
	f.add("S15 another's IPv6 address with a tag", ether(e.peer, e.web, typeVLAN, join(u16(5), u16(typeIPv6), ip6(gateLocal, allNodes, udpProto, udp(9, 9, "hi")))))
}

// other1 is nobody's hardware address.
var other1 = net.HardwareAddr{2, 0x66, 0, 0, 0, 1}

// poison claims addresses for web's port that are others'.
func (e ends) poison(f *collection) {
	own4, to4, none := e.ip(web, false), e.ip(peer, false), make([]byte, 16)
	gate4, gate6, to6 := e.ip(gateway, false), e.ip(gateway, true), e.ip(peer, true)
	f.add("S15 ARP announces the gateway's address", ether(broadcast, e.web, typeARP, arp(arpRequest, e.web, gate4, gate4)))
	f.add("S15 ARP answers for the gateway", ether(e.peer, e.web, typeARP, arp(arpReply, e.web, gate4, to4)))
	f.add("S15 ARP answers for a neighbour", ether(broadcast, e.web, typeARP, arp(arpReply, e.web, to4, gate4)))
	f.add("S15 ARP with another's hardware address", ether(e.peer, e.web, typeARP, arp(arpReply, e.bridge, own4, to4)))
	f.add("S15 ARP with another's hardware address about nothing", ether(e.peer, e.web, typeARP, arp(arpRequest, e.bridge, make([]byte, 4), to4)))
	f.add("S15 ARP from another's hardware address", ether(e.peer, other1, typeARP, arp(arpReply, e.web, own4, to4)))
	f.add("S15 ARP probe for a neighbour's address", ether(broadcast, e.web, typeARP, arp(arpRequest, e.web, make([]byte, 4), to4)))
	f.add("S15 ARP probe for an address that is free", ether(broadcast, e.web, typeARP, arp(arpRequest, e.web, make([]byte, 4), e.ip(nobody, false))))
	f.add("S15 ARP with a tag", ether(e.peer, e.web, typeVLAN, join(u16(5), u16(typeARP), arp(arpReply, e.web, gate4, to4))))
	f.v6("S15 advertisement of the gateway, override", local(e.web), icmp6, icmp(naType, 0x20, gate6))
	f.v6("S15 advertisement of the gateway", local(e.web), icmp6, icmp(naType, 0, gate6))
	f.v6("S15 advertisement of the gateway's link-local address", local(e.web), icmp6, icmp(naType, 0xa0, gateLocal))
	f.v6("S15 advertisement of the gateway, from it", gateLocal, icmp6, icmp(naType, 0xa0, gateLocal))
	f.v6("S15 advertisement of a neighbour, override", e.ip(web, true), icmp6, icmp(naType, 0x60, to6))
	f.v6("S15 advertisement of a neighbour", e.ip(web, true), icmp6, icmp(naType, 0x40, to6))
	f.v6("S15 advertisement behind options", local(e.web), dstOpts, join(options(icmp6, 1), icmp(naType, 0x20, gate6)))
	f.v6("S15 advertisement, target in the next fragment", local(e.web), fragmentHeader, join(part(icmp6, 0, true), icmp(naType, 0x20)))
	f.padded("S15 advertisement, another target in the frame", local(e.web), fragmentHeader, join(part(icmp6, 0, true), icmp(naType, 0x20)), e.ip(web, true))
	f.padded("S15 duplicate address detection in a fragment, another target in the frame", none, fragmentHeader, join(part(icmp6, 0, true), icmp(nsType, 0)), e.ip(web, true))
	f.v6("S15 solicitation for a neighbour, from it", to6, icmp6, icmp(nsType, 0, gate6))
	f.v6("S15 duplicate address detection of a neighbour", none, icmp6, icmp(nsType, 0, to6))
	f.v6("S15 redirect", gateLocal, icmp6, icmp(redirectType, 0, local(e.web), gate6))
	f.v6("S15 redirect, own address", local(e.web), icmp6, icmp(redirectType, 0, local(e.web), gate6))
}

// routers are router advertisements, plain and in all disguises of RFC 7113.
func (e ends) routers(f *collection) {
	from, ra := local(e.web), icmp(raType, 0, make([]byte, 8))
	f.v6("S16 router advertisement", from, icmp6, ra)
	f.v6("S16 router advertisement, the gateway's", gateLocal, icmp6, ra)
	f.v6("S16 router advertisement without an address", make([]byte, 16), icmp6, ra)
	f.v6("S16 router advertisement behind hop-by-hop options", from, hopByHop, join(options(icmp6, 1), ra))
	f.v6("S16 router advertisement behind options", from, dstOpts, join(options(dstOpts, 1), options(icmp6, 3), ra))
	f.v6("S16 router advertisement, the only fragment", from, fragmentHeader, join(part(icmp6, 0, false), ra))
	f.v6("S16 router advertisement, the first fragment", from, fragmentHeader, join(part(icmp6, 0, true), ra))
	f.v6("S16 router advertisement behind options and a fragment header", from, dstOpts,
		join(options(fragmentHeader, 1), part(dstOpts, 0, true), options(icmp6, 1), ra))
	f.v6("S16 the first fragment ends in its options", from, fragmentHeader, join(part(dstOpts, 0, true), options(icmp6, 40)[:64]))
	f.v6("S16 the first fragment ends before the message", from, fragmentHeader, join(part(dstOpts, 0, true), options(icmp6, 8)))
	// What stands behind the packet's end in the frame is not what comes in the next fragment.
	padding := icmp(echoRequest6, 0, make([]byte, 16))
	f.padded("S16 the first fragment ends before the message, and the frame does not", from, fragmentHeader, join(part(dstOpts, 0, true), options(icmp6, 8)), padding)
	f.padded("S16 the first fragment ends in its options, and the frame says TCP", from, fragmentHeader, join(part(dstOpts, 0, true), options(dstOpts, 8)), options(6, 1))
	f.add("S16 router advertisement with a tag", ether(broadcast, e.web, typeVLAN, join(u16(5), u16(typeIPv6), ip6(from, allNodes, icmp6, ra))))
}

// servers answer as DHCP servers do.
func (e ends) servers(f *collection) {
	own, from := e.ip(web, false), local(e.web)
	all := []byte{255, 255, 255, 255}
	f.add("S16 DHCP offer", ether(broadcast, e.web, typeIPv4, ip4(own, all, 0, udp(dhcpServer, dhcpClient, ""))))
	f.add("S16 DHCP offer to one", ether(e.peer, e.web, typeIPv4, ip4(own, e.ip(peer, false), 0, udp(dhcpServer, dhcpClient, ""))))
	f.add("S16 DHCP offer from another port", ether(broadcast, e.web, typeIPv4, ip4(own, all, 0, udp(9, dhcpClient, ""))))
	f.add("S16 DHCP offer, first fragment", ether(broadcast, e.web, typeIPv4, ip4(own, all, 0x2000, udp(dhcpServer, dhcpClient, "")[:8])))
	f.add("S16 DHCP offer with a tag", ether(broadcast, e.web, typeVLAN, join(u16(5), u16(typeIPv4), ip4(own, all, 0, udp(dhcpServer, dhcpClient, "")))))
	f.v6("S16 DHCPv6 reply", from, udpProto, udp(dhcp6Server, dhcp6Client, ""))
	f.v6("S16 DHCPv6 reply from another port", from, udpProto, udp(9, dhcp6Client, ""))
	f.v6("S16 DHCPv6 reply behind options", from, dstOpts, join(options(udpProto, 1), udp(dhcp6Server, dhcp6Client, "")))
	f.v6("S16 DHCPv6 reply, first fragment", from, fragmentHeader, join(part(udpProto, 0, true), udp(dhcp6Server, dhcp6Client, "")))
	f.padded("S16 DHCPv6 reply, another header in the frame", from, fragmentHeader, join(part(dstOpts, 0, true), options(udpProto, 8)), udp(9, 9, ""))
	f.v6("S16 DHCPv6 reply, header in the next fragment", from, fragmentHeader, join(part(dstOpts, 0, true), options(udpProto, 8)))
}

// collection gathers frames.
type collection struct {
	ends
	pass   bool
	frames []frame
}

func (e ends) collect(pass bool) *collection { return &collection{ends: e, pass: pass} }

func (c *collection) add(name string, data []byte) {
	c.frames = append(c.frames, frame{name, c.pass, data})
}

func (c *collection) v4(name string, src []byte, offset uint16, payload []byte) {
	c.add("IPv4 "+name, ether(c.peer, c.web, typeIPv4, ip4(src, c.ip(peer, false), offset, payload)))
}

func (c *collection) v6(name string, src []byte, next byte, payload []byte) {
	c.add("IPv6 "+name, ether(c.ends.peer, c.ends.web, typeIPv6, ip6(src, c.ip(peer, true), next, payload)))
}

// ends looks the hardware addresses of a network up.
func (w *world) ends(n network) ends {
	return ends{n, w.mac(n.web(), "eth0"), w.mac(n.peer(), "eth0"), w.mac("", n.bridge())}
}

// frames sends everything on a guarded network. If bridged packets are left alone,
// honest ones all have to arrive, and with antispoof=off forged ones too: so that
// the test can fail.
func (w *world) frames(plain bool) {
	e := w.ends(modes[0])
	all := append(e.honest(), e.forged()...)
	for i, got := range w.deliver(e, all) {
		// The IP firewall keeps fragments until it has all.
		if !plain && strings.Contains(all[i].name, "fragment") && all[i].pass {
			continue
		}
		w.Run(all[i].name, func(t *testing.T) {
			if got != all[i].pass {
				t.Errorf("passed: %v, want %v", got, all[i].pass)
			}
		})
	}
	w.Run("S15 where a hardware address is", func(t *testing.T) { w := *w; w.T = t; w.learning(e) })
	if !plain {
		return
	}
	e = w.ends(loose)
	all = append(e.honest(), e.forged()...)
	arrived := w.deliver(e, all)
	w.Run("antispoof=off", func(t *testing.T) {
		for i, got := range arrived {
			// The kernel's own rules.
			if !got && !strings.Contains(all[i].name, "the bridge's hardware address") && !strings.Contains(all[i].name, "a multicast sender") {
				t.Errorf("%s: did not arrive", all[i].name)
			}
		}
	})
}

// deliver sends frames from web to peer and says which the bridge let in: what
// it then shows to whom is not the guard's business.
func (w *world) deliver(e ends, all []frame) []bool {
	w.Helper()
	sniffer := w.start(w.h, in("", "lab-echo", "sniff", e.network.bridge()))
	defer sniffer.Signal(syscall.SIGTERM)
	// What comes last passes, so all others have had their time.
	last := ether(e.peer, e.web, typeIPv4, ip4(e.ip(web, false), e.ip(peer, false), 0, udp(9, 9, "the end")))
	args := []string{"lab-echo", "send", "eth0"}
	seen := map[string]string{}
	for _, f := range append(all, frame{data: last}) {
		text := hex.EncodeToString(f.data)
		if first, twice := seen[text]; twice {
			w.Fatalf("%s and %s are one frame", first, f.name)
		}
		seen[text], args = f.name, append(args, text)
	}
	w.must(e.network.web(), args...)
	for end := time.Now().Add(5 * time.Second); !strings.Contains(sniffer.Output(), untagged(last)); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatal("the last frame did not arrive")
		}
	}
	arrived := make([]bool, len(all))
	for i, f := range all {
		arrived[i] = strings.Contains(sniffer.Output(), untagged(f.data))
	}
	return arrived
}

// untagged is the line that sniff prints for a frame: the first tag of a VLAN
// is not in it.
func untagged(data []byte) string {
	if typ := binary.BigEndian.Uint16(data[12:]); typ == typeVLAN || typ == typeQinQ {
		data = join(data[:12], data[16:])
	}
	return hex.EncodeToString(data) + "\n"
}

// flooding: a container does not fill the bridge's table, which all share, with
// hardware addresses that are nobody's.
func (w *world) flooding(e ends) {
	args := []string{"lab-echo", "send", "eth0"}
	for i := range 256 {
		args = append(args, hex.EncodeToString(ether(broadcast, net.HardwareAddr{2, 0x77, 0, 0, 0, byte(i)}, typeIPv4, ip4(e.ip(web, false), e.ip(peer, false), 0, udp(9, 9, "flood")))))
	}
	w.must(e.network.web(), args...)
	if table := w.must("", "bridge", "fdb", "show", "br", e.network.bridge()); strings.Contains(table, "02:77:") {
		w.Errorf("the bridge has learnt:\n%s", table)
	}
}

// learning: no frame makes the bridge believe that peer is at web's port, not
// even those that pass no hook of netfilter.
func (w *world) learning(e ends) {
	fdb := func() string {
		for line := range strings.Lines(w.must("", "bridge", "fdb", "show", "br", e.network.bridge())) {
			if strings.HasPrefix(line, e.peer.String()+" ") && !strings.Contains(line, "permanent") {
				return strings.TrimSpace(line)
			}
		}
		return "nowhere"
	}
	hello := ether(e.web, e.peer, typeIPv4, ip4(e.ip(peer, false), e.ip(web, false), 0, udp(9, 9, "hi")))
	w.must(e.network.peer(), "lab-echo", "send", "eth0", hex.EncodeToString(hello))
	before := fdb()
	if before == "nowhere" {
		w.Fatal("the bridge has not learnt where peer is")
	}
	for last := range byte(16) {
		to := net.HardwareAddr{1, 0x80, 0xc2, 0, 0, last}
		w.must(e.network.web(), "lab-echo", "send", "eth0", hex.EncodeToString(ether(to, e.peer, typeLLDP, make([]byte, 46))))
	}
	if after := fdb(); after != before {
		w.Errorf("%s; before: %s", after, before)
	}
	w.flooding(e)
}
