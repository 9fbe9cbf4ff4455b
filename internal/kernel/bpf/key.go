package bpf

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kstate"
)

// key is a key of the trie (BPF_MAP_TYPE_LPM_TRIE). A range of ports becomes a
// few prefixes of the port's 16 bits: 10,000 ports are about 16 keys.
//
//	0          4       5       6      8                 24      26
//	┌──────────┬───────┬───────┬──────┬─────────────────┬───────┐
//	│ bits     │ proto │ class │ zero │ address         │ port  │
//	└──────────┴───────┴───────┴──────┴─────────────────┴───────┘
//	 host order                         IPv4 as ::ffff:…  big endian
//
// bits counts from the protocol on, so all but the port is always matched in
// full.
type key [keySize]byte

const (
	keySize  = 26
	keyProto = 4
	keyClass = 5
	keyAddr  = 8
	keyPort  = 24
	keyBits  = (keySize - keyProto) * 8 // of a single port
)

// class says which bind(2) a key refuses. What the address of a bind is looked
// up under follows the kernel's rule for two sockets: they are in each other's
// way when their addresses are equal or one is the wildcard of the other's
// family.
type class uint8

const (
	every  class = 0  // to any address
	exact  class = 1  // to the key's address
	every4 class = 4  // to any one IPv4 address
	every6 class = 6  // to any one IPv6 address
	some4  class = 14 // to the IPv4 wildcard: some IPv4 address is held
	some6  class = 16 // to the IPv6 wildcard: some IPv6 address is held
)

// protocols are those that can be held.
var protocols = [...]string{"tcp", "udp"}

// protocol returns the IP protocol number, 0 for what cannot be held.
func protocol(name string) uint8 {
	switch name {
	case "tcp":
		return unix.IPPROTO_TCP
	case "udp":
		return unix.IPPROTO_UDP
	}
	return 0
}

// keys returns the keys that stand for holds. Of those for any address, which
// most are, it is one for a port.
func keys(holds ...kstate.Hold) []key {
	out := make([]key, 0, 2*len(holds))
	for _, h := range holds {
		one, two := classes(h.Addr)
		out = appendKeys(out, h, one)
		if two != one {
			out = appendKeys(out, h, two)
		}
	}
	return out
}

// classes returns the one or two classes of a hold's keys, by its address.
func classes(a netip.Addr) (class, class) {
	a = a.Unmap()
	switch {
	case !a.IsValid():
		return every, every
	case a.IsUnspecified() && a.Is4():
		return every4, some4
	case a.IsUnspecified():
		return every6, some6
	case a.Is4():
		return exact, some4
	}
	return exact, some6
}

// appendKeys appends h's keys of a class, one per prefix that its ports fall
// into.
func appendKeys(out []key, h kstate.Hold, c class) []key {
	var k key
	k[keyProto], k[keyClass] = protocol(h.Proto), byte(c)
	if c == exact {
		a := h.Addr.As16()
		copy(k[keyAddr:], a[:])
	}
	for at, end := uint32(h.First), uint32(h.Last)+1; at < end; {
		size, bits := uint32(1), uint32(keyBits)
		for at%(2*size) == 0 && at+2*size <= end {
			size, bits = 2*size, bits-1
		}
		binary.NativeEndian.PutUint32(k[:], bits)
		binary.BigEndian.PutUint16(k[keyPort:], uint16(at))
		out = append(out, k)
		at += size
	}
	return out
}
