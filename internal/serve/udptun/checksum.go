package udptun

import (
	"encoding/binary"
	"math/bits"
)

// The Internet checksum (RFC 1071) is a sum of 16-bit words in ones' complement.
// It comes out the same in either byte order, so that words are added as the
// machine has them, eight bytes at a time.

// sum adds the words of b to acc. All but the last of several parts of one sum
// have an even length.
func sum(b []byte, acc uint64) uint64 {
	var c uint64
	for len(b) >= 64 {
		p := b[:64:64]
		acc, c = bits.Add64(acc, load(p), 0)
		acc, c = bits.Add64(acc, load(p[8:]), c)
		acc, c = bits.Add64(acc, load(p[16:]), c)
		acc, c = bits.Add64(acc, load(p[24:]), c)
		acc, c = bits.Add64(acc, load(p[32:]), c)
		acc, c = bits.Add64(acc, load(p[40:]), c)
		acc, c = bits.Add64(acc, load(p[48:]), c)
		acc, c = bits.Add64(acc, load(p[56:]), c)
		acc, c = bits.Add64(acc, 0, c) // which may carry once more
		acc += c
		b = b[64:]
	}
	for len(b) >= 8 {
		acc, c = bits.Add64(acc, load(b), 0)
		acc += c
		b = b[8:]
	}
	if len(b) == 0 {
		return acc
	}
	var last [8]byte
	copy(last[:], b)
	acc, c = bits.Add64(acc, load(last[:]), 0)
	return acc + c
}

// fold makes 16 bits of a sum.
func fold(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return uint16(acc)
}

// putSum writes a folded sum, which is in the machine's order.
func putSum(b []byte, s uint16) { binary.NativeEndian.PutUint16(b, s) }

// word is n as it would be added from a packet.
func word(n uint16) uint64 {
	return uint64(binary.NativeEndian.Uint16([]byte{byte(n >> 8), byte(n)}))
}

// pseudo is the sum of the pseudo header (RFC 9293 3.1, RFC 8200 8.1) of a
// transport segment of length bytes. addrs are both addresses.
func pseudo(addrs []byte, proto byte, length int) uint64 {
	return uint64(fold(sum(addrs, 0))) + word(uint16(proto)) + word(uint16(length))
}

func load(b []byte) uint64 { return binary.NativeEndian.Uint64(b) }
