package shortcut

import (
	"encoding/binary"
	"net/netip"
)

// The fields of struct __sk_buff (linux/bpf.h) that the programs use.
const (
	ctxLen      = 0
	ctxPktType  = 4
	ctxMark     = 8
	ctxProtocol = 16
	ctxVLAN     = 20 // whether there is a tag
	ctxIfindex  = 40
	ctxData     = 76
	ctxDataEnd  = 80
	ctxGSOSize  = 176
)

// Lengths and offsets of Ethernet, IPv4 (RFC 791 3.1), UDP (RFC 768) and TCP (RFC 9293
// 3.1).
const (
	ethLen = 14

	ipLen   = 20 // without options
	ipTotal = 2
	ipID    = 4
	ipFlags = 6
	ipTTL   = 8
	ipProto = 9
	ipSum   = 10
	ipSrc   = 12
	ipDst   = 16

	udpLen    = 8
	udpDport  = 2
	udpLength = 4
	udpSum    = 6

	tcpLen    = 20
	tcpOffset = 12

	overhead     = ipLen + udpLen
	maxPacket    = 65535
	plainIP      = 0x45 // the first byte of a header without options
	dontFragment = 0x4000
	outerTTL     = 64
)

// struct bpf_fib_lookup, and what the kernel answers.
const (
	fibProto   = 1
	fibSport   = 2
	fibDport   = 4
	fibTotal   = 6
	fibIfindex = 8
	fibSrc     = 16
	fibDst     = 32
	fibLen     = 64

	fibSuccess = 0
	fibNoNeigh = 7 // which is to be asked for
)

// hopLen is of struct bpf_redir_neigh: a family, and an address as in bpf_fib_lookup.
const hopLen = 20

// Where the programs keep what they look up, from the frame pointer.
const (
	keyAt  = -8
	hostAt = -16
	fibAt  = hostAt - fibLen
	hopAt  = fibAt - 24
)

// Where things are in a known.
const (
	knownOut  = 0
	knownIn   = 4
	knownAble = 8
)

// Verdicts: linux/pkt_cls.h.
const (
	goOn = -1 // TC_ACT_UNSPEC
	shot = 2  // TC_ACT_SHOT
)

// wire16 is a number as the programs read it from a packet.
func wire16(n uint16) int32 {
	return int32(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n)))
}

// wire32 is an IPv4 address as the programs read it from a packet.
func wire32(a netip.Addr) int32 {
	b := a.As4()
	return int32(binary.NativeEndian.Uint32(b[:]))
}

func host32(a netip.Addr) int32 {
	b := a.As4()
	return int32(binary.BigEndian.Uint32(b[:]))
}

func netmask(bits int) int32 { return int32(^uint32(0) << (32 - bits)) }
