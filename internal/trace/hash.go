package trace

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// hashSeed is that of the chains that choose by the client's address.
const hashSeed = 0x5ea1

// hashed returns the number below n that the kernel chooses for a client's address.
func hashed(a netip.Addr, n int) int {
	return int(uint64(jhash(a.AsSlice(), hashSeed)) * uint64(n) >> 32) // reciprocal_scale in linux/kernel.h
}

// jhash is the kernel's, of include/linux/jhash.h, for keys whose length is a multiple
// of four.
func jhash(key []byte, seed uint32) uint32 {
	a := 0xdeadbeef + uint32(len(key)) + seed
	b, c := a, a
	for ; len(key) > 12; key = key[12:] {
		a += binary.NativeEndian.Uint32(key)
		b += binary.NativeEndian.Uint32(key[4:])
		c += binary.NativeEndian.Uint32(key[8:])
		a, b, c = jmix(a, b, c)
	}
	for i, word := range []*uint32{&a, &b, &c} {
		if len(key) >= 4*i+4 {
			*word += binary.LittleEndian.Uint32(key[4*i:])
		}
	}
	return jfinal(a, b, c)
}

func jmix(a, b, c uint32) (uint32, uint32, uint32) {
	for _, turn := range []int{4, 6, 8, 16, 19, 4} {
		a = (a - c) ^ bits.RotateLeft32(c, turn)
		c += b
		a, b, c = b, c, a
	}
	return a, b, c
}

func jfinal(a, b, c uint32) uint32 {
	for _, turn := range []int{14, 11, 25, 16, 4, 14, 24} {
		c = (c ^ b) - bits.RotateLeft32(b, turn)
		a, b, c = b, c, a
	}
	return b
}
