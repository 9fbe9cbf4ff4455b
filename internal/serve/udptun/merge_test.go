package udptun

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// Packets are put together only if nothing is lost by it.
func TestWhatMayBeOne(t *testing.T) {
	const a4, b4, a6, b6 = "10.5.2.1", "10.5.1.1", "fd05:2::1", "fd05:1::1"
	tcp4 := func(seq uint32, n int) []byte { return segment(a4, b4, seq, flagACK, pattern(n)) }
	tcp6 := func(seq uint32, n int) []byte { return segment(a6, b6, seq, flagACK, pattern(n)) }
	udp4 := func(n int) []byte { return datagram(a4, b4, 9, pattern(n)) }
	udp6 := func(n int) []byte { return datagram(a6, b6, 9, pattern(n)) }
	set := func(b []byte, at int, to byte) []byte { // and right again
		b[at] = to
		return seal(b)
	}
	spoil := func(b []byte) []byte {
		b[len(b)-1] ^= 1
		return b
	}
	id := func(b []byte, id uint16, flags byte) []byte {
		binary.BigEndian.PutUint16(b[ip4ID:], id)
		b[ip4Flags] = flags
		return seal(b)
	}
	for _, c := range []struct {
		name string
		a, b []byte
		want bool
	}{
		{"tcp", tcp4(0, 100), tcp4(100, 100), true},
		{"tcp6", tcp6(0, 100), tcp6(100, 100), true},
		{"udp", udp4(100), udp4(100), true},
		{"udp6", udp6(100), udp6(100), true},
		{"shorter", tcp4(0, 100), tcp4(100, 1), true},
		{"longer", tcp4(0, 100), tcp4(100, 101), false},
		{"longer udp", udp4(100), udp4(101), false},
		{"nothing", tcp4(0, 100), tcp4(100, 0), false},
		{"after nothing", tcp4(0, 0), tcp4(0, 100), false},
		{"gap", tcp4(0, 100), tcp4(101, 100), false},
		{"again", tcp4(0, 100), tcp4(0, 100), false},
		{"tcp and udp", tcp4(0, 100), udp4(100), false},
		{"families", tcp4(0, 100), tcp6(100, 100), false},
		{"other source", tcp4(0, 100), segment("10.5.2.9", b4, 100, flagACK, pattern(100)), false},
		{"other destination", udp6(100), datagram(a6, "fd05:1::9", 9, pattern(100)), false},
		{"other port", udp4(100), datagram(a4, b4, 10, pattern(100)), false},
		{"other tcp port", tcp4(0, 100), set(tcp4(100, 100), 21, 1), false},
		{"other acknowledgement", tcp4(0, 100), set(tcp4(100, 100), 31, 1), false},
		{"other window", tcp4(0, 100), set(tcp4(100, 100), 35, 1), false},
		{"other time stamp", tcp4(0, 100), set(tcp4(100, 100), 47, 9), false},
		{"push at the end", tcp4(0, 100), segment(a4, b4, 100, flagACK|flagPSH, pattern(100)), true},
		{"push before", segment(a4, b4, 0, flagACK|flagPSH, pattern(100)), tcp4(100, 100), false},
		{"end", tcp4(0, 100), segment(a4, b4, 100, flagACK|flagFIN, pattern(100)), false},
		{"congestion", tcp4(0, 100), segment(a4, b4, 100, flagACK|flagCWR, pattern(100)), false},
		{"ttl", tcp4(0, 100), set(tcp4(100, 100), ip4TTL, 63), false},
		{"hop limit", tcp6(0, 100), set(tcp6(100, 100), ip6Hops, 63), false},
		{"traffic class", tcp4(0, 100), set(tcp4(100, 100), 1, 3), false},
		{"flow label", udp6(100), set(udp6(100), 3, 3), false},
		{"fragments", id(udp4(100), 9, 0x20), id(udp4(100), 10, 0x20), false},
		{"may be cut", id(udp4(100), 9, 0), id(udp4(100), 10, 0), true},
		{"may be cut, out of order", id(udp4(100), 9, 0), id(udp4(100), 11, 0), false},
		{"one may be cut", udp4(100), id(udp4(100), 10, 0), false},
		{"first spoiled", spoil(tcp4(0, 100)), tcp4(100, 100), false},
		{"second spoiled", tcp4(0, 100), spoil(tcp4(100, 100)), false},
		{"first spoiled udp", spoil(udp6(100)), udp6(100), false},
		{"header spoiled", tcp4(0, 100), func() []byte { b := tcp4(100, 100); b[ip4Sum] ^= 1; return b }(), false},
		{"no checksum", udp4(100), func() []byte { b := udp4(100); b[26], b[27] = 0, 0; return b }(), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			both := append(bytes.Clone(c.a), c.b...)
			first, ok1 := parse(both[:len(c.a)], false)
			second, ok2 := parse(both[len(c.a):], false)
			var u run
			u.start(&first, true)
			if got := u.add(&second); !ok1 || !ok2 || got != c.want {
				t.Errorf("%v", got)
			}
			if !bytes.Equal(both[len(c.a):], c.b) || !c.want && !bytes.Equal(both[:len(c.a)], c.a) {
				t.Error("changed")
			}
		})
	}
	first, _ := parse(udp4(100), false)
	second := first
	var u run
	if u.start(&first, false); u.add(&second) {
		t.Error("datagrams put together for a kernel that cannot cut them")
	}
}
