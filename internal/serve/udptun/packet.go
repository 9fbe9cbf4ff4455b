package udptun

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Offsets and lengths of IPv4 (RFC 791 3.1), IPv6 (RFC 8200 3), TCP (RFC 9293
// 3.1) and UDP (RFC 768).
const (
	ip4Len, ip6Len = 20, 40
	ip4Total       = 2
	ip4ID          = 4
	ip4Flags       = 6 // with the fragment's offset
	ip4TTL         = 8
	ip4Proto       = 9
	ip4Sum         = 10
	ip4Src         = 12
	ip4Dst         = 16
	ip6Payload     = 4
	ip6Next        = 6
	ip6Hops        = 7
	ip6Src         = 8
	ip6Dst         = 24

	dontFragment  = 0x40   // in the byte at ip4Flags
	fragmentMask  = 0x3fff // more of them, or an offset
	fragmentFirst = 0x1fff // zero in the first one

	tcpLen    = 20
	tcpSeq    = 4
	tcpAck    = 8
	tcpOffset = 12
	tcpFlags  = 13
	tcpWindow = 14
	tcpSum    = 16

	flagFIN, flagPSH, flagACK, flagCWR = 0x01, 0x08, 0x10, 0x80

	udpLen    = 8
	udpLength = 4
	udpSum    = 6
)

// packet is an IP packet that has all the bytes it says it has.
type packet struct {
	data     []byte
	src, dst netip.Addr
	header   int  // length of the IPv4 header, or of the first IPv6 header
	proto    byte // of what follows that
	v6       bool
	fragment bool // of IPv4, one of several
}

// parse reads a packet, and cuts off what follows it. A packet that will be cut
// into pieces (whole) is as long as b, whatever it says.
func parse(b []byte, whole bool) (packet, bool) {
	if len(b) < ip4Len {
		return packet{}, false
	}
	switch b[0] >> 4 {
	case 4:
		return parse4(b, whole)
	case 6:
		return parse6(b, whole)
	}
	return packet{}, false
}

func parse4(b []byte, whole bool) (packet, bool) {
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[ip4Total:]))
	if whole {
		total = len(b)
	}
	if header < ip4Len || total < header || total > len(b) {
		return packet{}, false
	}
	return packet{
		data: b[:total], header: header, proto: b[ip4Proto],
		src:      netip.AddrFrom4([4]byte(b[ip4Src:])),
		dst:      netip.AddrFrom4([4]byte(b[ip4Dst:])),
		fragment: binary.BigEndian.Uint16(b[ip4Flags:])&fragmentMask != 0,
	}, true
}

func parse6(b []byte, whole bool) (packet, bool) {
	if len(b) < ip6Len {
		return packet{}, false
	}
	total := ip6Len + int(binary.BigEndian.Uint16(b[ip6Payload:]))
	if whole {
		total = len(b)
	}
	if total > len(b) {
		return packet{}, false
	}
	return packet{
		data: b[:total], header: ip6Len, proto: b[ip6Next], v6: true,
		src: netip.AddrFrom16([16]byte(b[ip6Src:])),
		dst: netip.AddrFrom16([16]byte(b[ip6Dst:])),
	}, true
}

// age takes one off the TTL, and says whether some is left. The packet is
// unchanged if not.
func (p *packet) age() bool {
	if p.v6 {
		if p.data[ip6Hops] <= 1 {
			return false
		}
		p.data[ip6Hops]--
		return true
	}
	if p.data[ip4TTL] <= 1 {
		return false
	}
	p.data[ip4TTL]--
	// RFC 1624: the sum goes up by what the word went down.
	s := uint32(binary.BigEndian.Uint16(p.data[ip4Sum:])) + 0x100
	binary.BigEndian.PutUint16(p.data[ip4Sum:], uint16(s+s>>16))
	return true
}

// addrs are the source and destination as they are in the packet.
func (p *packet) addrs() []byte { return addrs(p.data, p.v6) }

func addrs(header []byte, v6 bool) []byte {
	if v6 {
		return header[ip6Src:ip6Len]
	}
	return header[ip4Src:ip4Len]
}

// verified says whether the checksums of a segment of TCP or UDP, and of its
// IPv4 header, are right.
func (p *packet) verified() bool {
	if !p.v6 && fold(sum(p.data[:p.header], 0)) != 0xffff {
		return false
	}
	l4 := p.data[p.header:]
	return fold(sum(l4, pseudo(p.addrs(), p.proto, len(l4)))) == 0xffff
}

// sumOffset is where TCP or UDP has its checksum.
func sumOffset(proto byte) int {
	if proto == unix.IPPROTO_UDP {
		return udpSum
	}
	return tcpSum
}

// setLength writes the length of a packet into its IP header, and of an IPv4
// header its checksum.
func setLength(header []byte, v6 bool, total int) {
	if v6 {
		binary.BigEndian.PutUint16(header[ip6Payload:], uint16(total-ip6Len))
		return
	}
	binary.BigEndian.PutUint16(header[ip4Total:], uint16(total))
	setSum4(header[:int(header[0]&15)*4])
}

func setSum4(header []byte) {
	putSum(header[ip4Sum:], 0)
	putSum(header[ip4Sum:], ^fold(sum(header, 0)))
}
