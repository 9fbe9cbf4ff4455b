package trail

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Types of messages (RFC 792, RFC 4443 4.1):
//
//	| type | code 0 | checksum | identifier | number | …
const (
	request4, reply4 = 8, 0
	request6, reply6 = 128, 129
	echoLen          = 8 // bytes
	payloadLen       = 56
)

func echoProtocol(is6 bool) int {
	if is6 {
		return unix.IPPROTO_ICMPV6
	}
	return unix.IPPROTO_ICMP
}

// echoRequest is the message. The kernel puts the checksum into one of ICMPv6.
func echoRequest(is6 bool, id uint16) []byte {
	b := make([]byte, echoLen+payloadLen)
	b[0] = request4
	if is6 {
		b[0] = request6
	}
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], 1)
	if !is6 {
		// The sum of RFC 1071 over the three numbers that are not zero.
		sum := uint32(request4)<<8 + uint32(id) + 1
		binary.BigEndian.PutUint16(b[2:], ^uint16(sum>>16+sum&0xffff))
	}
	return b
}

// isEchoReply says whether a packet is the reply to a request. A raw socket of IPv4 reads
// the IP header too.
func isEchoReply(is6 bool, id uint16, b []byte) bool {
	if !is6 && len(b) > 0 {
		b = b[min(len(b), int(b[0]&15)*4):]
	}
	want := byte(reply4)
	if is6 {
		want = reply6
	}
	return len(b) >= echoLen && b[0] == want && binary.BigEndian.Uint16(b[4:]) == id
}
