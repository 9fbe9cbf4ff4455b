package pathmtu

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

// A probe is an echo request of ICMP (RFC 792) or ICMPv6 (RFC 4443 4.1), as large as
// the packet that it stands for:
//
//	 0                   1                   2                   3
//	+---------------+---------------+-------------------------------+
//	|     type      |    code 0     |           checksum            |
//	+---------------+---------------+-------------------------------+
//	|    identifier, the prober's   |    number, the probe's        |
//	+-------------------------------+-------------------------------+
//	|  secret, 8 bytes, then zeros                                  …
//
// What says that it was too big, type 3 code 4 of ICMP (RFC 1191 4) and type 2 of ICMPv6
// (RFC 4443 3.2), has the MTU of the next link in bytes 6 and 7, or 4 to 7, and quotes
// the packet from byte 8 on, its IP header too.
const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
	unreachable4, needsFrag4 = 3, 4
	tooBig6                  = 2

	header4, header6, headerEcho = 20, 40, 8 // bytes
	secretLen                    = 8
)

// least is what every path carries, in bytes: RFC 791 has hosts take that much of
// IPv4, and hardly anything is narrower; RFC 8200 says so of IPv6.
func least(is6 bool) int {
	if is6 {
		return 1280
	}
	return 576
}

// mark is what a probe is known by.
type mark struct {
	id, number uint16
	secret     [secretLen]byte
}

// request is the message of a probe without its IP header. The kernel puts the checksum
// into one of ICMPv6.
func (m mark) request(is6 bool, size int) []byte {
	header := header4
	if is6 {
		header = header6
	}
	b := make([]byte, max(size-header, headerEcho+secretLen))
	b[0] = echoRequest4
	if is6 {
		b[0] = echoRequest6
	}
	binary.BigEndian.PutUint16(b[4:], m.id)
	binary.BigEndian.PutUint16(b[6:], m.number)
	copy(b[headerEcho:], m.secret[:])
	if !is6 {
		binary.BigEndian.PutUint16(b[2:], checksum(b))
	}
	return b
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// word is what was heard of a probe.
type word struct {
	mark
	signed bool       // the mark is all there: a router need not quote the secret
	host   netip.Addr // that the probe was for
	big    bool       // it was too big; otherwise it was answered
	fits   int        // what is not too big there; 0: that is not said
}

// parse reads a message of ICMP or ICMPv6 from an address, without its IP header, or
// returns false for what is about no probe of anybody's.
func parse(is6 bool, from netip.Addr, b []byte) (w word, ok bool) {
	if len(b) < headerEcho {
		return w, false
	}
	switch {
	case !is6 && b[0] == echoReply4, is6 && b[0] == echoReply6:
		w.host = from
		return w, w.read(b)
	case !is6 && b[0] == unreachable4 && b[1] == needsFrag4:
		w.fits = int(binary.BigEndian.Uint16(b[6:]))
	case is6 && b[0] == tooBig6:
		w.fits = int(min(binary.BigEndian.Uint32(b[4:]), 1<<16))
	default:
		return w, false
	}
	w.big = true
	return w, w.quoted(is6, b[headerEcho:])
}

// quoted reads the packet that was too big.
func (w *word) quoted(is6 bool, b []byte) bool {
	if is6 {
		if len(b) < header6+headerEcho || b[6] != protocol6 || b[header6] != echoRequest6 {
			return false
		}
		w.host, _ = netip.AddrFromSlice(b[24:40])
		return w.read(b[header6:])
	}
	if len(b) < header4 || b[9] != protocol4 {
		return false
	}
	header := int(b[0]&15) * 4
	if header < header4 || len(b) < header+headerEcho || b[header] != echoRequest4 {
		return false
	}
	w.host, _ = netip.AddrFromSlice(b[16:20])
	return w.read(b[header:])
}

// read reads the mark.
func (w *word) read(b []byte) bool {
	w.id, w.number = binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])
	w.signed = copy(w.secret[:], b[headerEcho:]) == secretLen
	return true
}

// of reports whether something is said of a probe: whoever answers has seen all of it, and
// a router that quotes the secret has quoted that of the probe.
func (w word) of(m mark, host netip.Addr) bool {
	return w.id == m.id && w.number == m.number && w.host == host &&
		(w.signed && bytes.Equal(w.secret[:], m.secret[:]) || !w.signed && w.big)
}
