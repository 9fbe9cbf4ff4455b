package udptun

import (
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// problem is what an ICMP error is about: its type and code for IPv4 (RFC 792)
// and IPv6 (RFC 4443 3).
type problem struct{ type4, code4, type6, code6 byte }

// The problems that a tunnel tells of. That a packet is too long, the kernel
// tells, from the device's MTU.
var (
	noRoute = problem{3, 0, 1, 0}
	expired = problem{11, 0, 3, 0}
)

// Of ICMP errors. The lengths that they are cut to are those of RFC 1812 4.3.2.3
// and RFC 4443 2.4 (c); how many there may be is Linux' own limit for a peer and
// its burst (icmp_ratelimit, icmp_msgs_burst), for all together.
const (
	icmpLen   = 8
	icmpTTL   = 64
	maxError4 = 576
	maxError6 = 1280
	perSecond = 100
	burst     = 50
)

// errorMaker makes ICMP errors, not too many.
type errorMaker struct {
	tokens float64
	last   time.Time
	buf    [vnetLen + maxError6]byte
}

// about returns an error about a packet, with the header that the device wants,
// or nil if none is due. It comes from an address that is not the host's own: the
// kernel takes none from outside that has one (ip(7): accept_local).
func (e *errorMaker) about(p *packet, why problem, from netip.Addr) []byte {
	if !mayAnswer(p) || !e.allowed(time.Now()) {
		return nil
	}
	clear(e.buf[:vnetLen])
	b := e.buf[vnetLen:]
	if p.v6 {
		return e.buf[:vnetLen+put6(b, p, why, from)]
	}
	return e.buf[:vnetLen+put4(b, p, why, from)]
}

// allowed takes one of the errors that may be made by now.
func (e *errorMaker) allowed(now time.Time) bool {
	e.tokens = min(burst, e.tokens+perSecond*now.Sub(e.last).Seconds())
	e.last = now
	if e.tokens < 1 {
		return false
	}
	e.tokens--
	return true
}

// mayAnswer keeps to RFC 1122 3.2.2 and RFC 4443 2.4 (e): no error about an
// error, about what was for many or is from nobody, and about a later fragment.
func mayAnswer(p *packet) bool {
	src, l4 := p.src, p.data[p.header:]
	if p.dst.IsMulticast() || src.IsMulticast() || src.IsUnspecified() || src.IsLoopback() || p.dst == broadcast {
		return false
	}
	if p.v6 {
		return p.proto != unix.IPPROTO_ICMPV6 || len(l4) > 0 && l4[0] >= 128
	}
	if binary.BigEndian.Uint16(p.data[ip4Flags:])&fragmentFirst != 0 {
		return false
	}
	return p.proto != unix.IPPROTO_ICMP || len(l4) > 0 && asks4(l4[0])
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// asks4 says whether an ICMP message is no error, RFC 1122 3.2.2.
func asks4(typ byte) bool {
	switch typ {
	case 0, 8, 9, 10, 13, 14, 15, 16, 17, 18:
		return true
	}
	return false
}

// put4 writes IP header, ICMP header and the beginning of the packet.
//
//	type(8) code(8) checksum(16) unused(32) packet…
func put4(b []byte, p *packet, why problem, from netip.Addr) int {
	quoted := copy(b[ip4Len+icmpLen:maxError4], p.data)
	total := ip4Len + icmpLen + quoted
	h := b[:ip4Len]
	clear(h)
	h[0], h[ip4TTL], h[ip4Proto] = 0x45, icmpTTL, unix.IPPROTO_ICMP
	src, dst := from.As4(), p.src.As4()
	copy(h[ip4Src:], src[:])
	copy(h[ip4Dst:], dst[:])
	setLength(h, false, total)
	putICMP(b[ip4Len:total], why.type4, why.code4, 0)
	return total
}

// put6 is put4 for IPv6, whose checksum has a pseudo header.
func put6(b []byte, p *packet, why problem, from netip.Addr) int {
	quoted := copy(b[ip6Len+icmpLen:maxError6], p.data)
	total := ip6Len + icmpLen + quoted
	h := b[:ip6Len]
	clear(h)
	h[0], h[ip6Next], h[ip6Hops] = 0x60, unix.IPPROTO_ICMPV6, icmpTTL
	src, dst := from.As16(), p.src.As16()
	copy(h[ip6Src:], src[:])
	copy(h[ip6Dst:], dst[:])
	setLength(h, true, total)
	putICMP(b[ip6Len:total], why.type6, why.code6, pseudo(addrs(h, true), unix.IPPROTO_ICMPV6, icmpLen+quoted))
	return total
}

func putICMP(b []byte, typ, code byte, acc uint64) {
	clear(b[:icmpLen])
	b[0], b[1] = typ, code
	putSum(b[2:], ^fold(sum(b, acc)))
}
