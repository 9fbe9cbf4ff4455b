package dhcp

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/net/bpf"
)

// Frames, around a message of DHCP:
//
//	 0        6        12   14                       34 (54)        42 (62)
//	┌────────┬────────┬────┬────────────────────────┬──────────────┬─────────┐
//	│ to mac │ own mac│type│ IPv4, 20 bytes (IPv6,  │ UDP: ports,  │ message │
//	│        │        │    │ 40 bytes), no options  │ length, sum  │         │
//	└────────┴────────┴────┴────────────────────────┴──────────────┴─────────┘
//
// The checksum of a UDP datagram that comes in is not looked at: one from this
// very machine has none yet (packet(7), PACKET_AUXDATA), and what the wire damages
// the link layer throws away.
const (
	atIP      = 14
	ip4Bytes  = 20
	ip6Bytes  = 40
	udpBytes  = 8
	typeIP4   = 0x0800
	typeIP6   = 0x86dd
	protoUDP  = 17
	timeLive  = 64
	fragments = 0x1fff
)

var (
	allEther   = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	agents6MAC = net.HardwareAddr{0x33, 0x33, 0, 1, 0, 2}          // RFC 2464, section 7
	agents6    = netip.AddrFrom16([16]byte{0xff, 2, 13: 1, 15: 2}) // RFC 8415, section 7.1
	broadcast  = netip.AddrFrom4([4]byte{255, 255, 255, 255})
)

// frame returns the frame for a message.
func (s *socket) frame(p *packet) []byte {
	if s.is6 {
		b := ethernet(agents6MAC, s.frames.MAC, typeIP6)
		n := udpBytes + len(p.payload)
		b = append(b, 0x60, 0, 0, 0, byte(n>>8), byte(n), protoUDP, timeLive)
		b = append(append(b, s.local.AsSlice()...), agents6.AsSlice()...)
		return udp(b, s.local, agents6, clientPort6, serverPort6, p.payload)
	}
	to, mac, from := broadcast, allEther, netip.IPv4Unspecified()
	if p.from.IsValid() {
		from = p.from
	}
	if hw, err := net.ParseMAC(p.via); p.to.IsValid() && err == nil && len(hw) == 6 {
		to, mac = p.to, hw
	}
	b := ethernet(mac, s.frames.MAC, typeIP4)
	n := ip4Bytes + udpBytes + len(p.payload)
	b = append(b, 0x45, 0, byte(n>>8), byte(n), 0, 0, 0, 0, timeLive, protoUDP, 0, 0)
	b = append(append(b, from.AsSlice()...), to.AsSlice()...)
	binary.BigEndian.PutUint16(b[atIP+10:], checksum(b[atIP:atIP+ip4Bytes]))
	return udp(b, from, to, clientPort4, serverPort4, p.payload)
}

func ethernet(to, from net.HardwareAddr, typ uint16) []byte {
	b := append(append(make([]byte, 0, 512), to...), from...)
	return binary.BigEndian.AppendUint16(b, typ)
}

// udp appends a datagram to the headers before it.
func udp(b []byte, from, to netip.Addr, sport, dport uint16, payload []byte) []byte {
	at, n := len(b), udpBytes+len(payload)
	for _, v := range []uint16{sport, dport, uint16(n), 0} {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	b = append(b, payload...)
	pseudo := append(from.AsSlice(), to.AsSlice()...) // RFC 768; RFC 8200, section 8.1, adds up to the same
	pseudo = append(pseudo, 0, protoUDP, byte(n>>8), byte(n))
	sum := checksum(append(pseudo, b[at:]...))
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[at+6:], sum)
	return b
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// parse returns the message in a frame that passed the filter, and who sent it;
// nil if the frame ends too early.
func parse(b []byte) ([]byte, sender) {
	if len(b) < atIP+ip4Bytes {
		return nil, sender{}
	}
	from := sender{mac: net.HardwareAddr(b[6:12]).String()}
	ip, at := b[atIP:], ip6Bytes
	if binary.BigEndian.Uint16(b[12:]) == typeIP4 {
		at = int(ip[0]&15) * 4
		from.addr = netip.AddrFrom4([4]byte(ip[12:16]))
	} else if len(ip) >= ip6Bytes {
		from.addr = netip.AddrFrom16([16]byte(ip[8:24]))
	}
	if at < ip4Bytes || len(ip) < at+udpBytes {
		return nil, from
	}
	n := int(binary.BigEndian.Uint16(ip[at+4:]))
	if n < udpBytes || len(ip) < at+n {
		return nil, from
	}
	return ip[at+udpBytes : at+n], from
}

// linkLocal is the address that is made of a hardware address (RFC 4291,
// appendix A).
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
}

// answers lets pass what may be an answer to a client: unfragmented UDP to its
// port, and of IPv4 for its hardware address. A flood of anything else costs the
// daemon nothing.
func answers(is6 bool, mac net.HardwareAddr) []bpf.Instruction {
	if is6 {
		return []bpf.Instruction{
			bpf.LoadAbsolute{Off: 12, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: typeIP6, SkipFalse: 5},
			bpf.LoadAbsolute{Off: atIP + 6, Size: 1},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: protoUDP, SkipFalse: 3},
			bpf.LoadAbsolute{Off: atIP + ip6Bytes + 2, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: clientPort6, SkipFalse: 1},
			bpf.RetConstant{Val: maxMessage + atIP},
			bpf.RetConstant{},
		}
	}
	const chaddr = udpBytes + 28 // of BOOTP (RFC 951)
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: typeIP4, SkipFalse: 12},
		bpf.LoadAbsolute{Off: atIP + 9, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: protoUDP, SkipFalse: 10},
		bpf.LoadAbsolute{Off: atIP + 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: fragments, SkipTrue: 8},
		bpf.LoadMemShift{Off: atIP},
		bpf.LoadIndirect{Off: atIP + 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: clientPort4, SkipFalse: 5},
		bpf.LoadIndirect{Off: atIP + chaddr, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: binary.BigEndian.Uint32(mac), SkipFalse: 3},
		bpf.LoadIndirect{Off: atIP + chaddr + 4, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(binary.BigEndian.Uint16(mac[4:])), SkipFalse: 1},
		bpf.RetConstant{Val: maxMessage + atIP},
		bpf.RetConstant{},
	}
}
