package pathmtu

import (
	"bytes"
	"net/netip"
	"testing"
)

var secretMark = mark{id: 0x1234, number: 0x5678, secret: [secretLen]byte{1, 2, 3, 4, 5, 6, 7, 8}}

// packet is a probe with its IP header, as a router quotes it.
func packet(is6 bool, to netip.Addr, size int) []byte {
	header := make([]byte, header4)
	header[0], header[9] = 0x45, protocol4
	copy(header[16:], to.AsSlice())
	if is6 {
		header = make([]byte, header6)
		header[0], header[6] = 0x60, protocol6
		copy(header[24:], to.AsSlice())
	}
	return append(header, secretMark.request(is6, size)...)
}

func TestMessages(t *testing.T) {
	four, six, other := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("192.0.2.254")
	reply := func(is6 bool) []byte {
		b := secretMark.request(is6, 1400)
		b[0] = echoReply4
		if is6 {
			b[0] = echoReply6
		}
		return b
	}
	big4 := append([]byte{3, 4, 0, 0, 0, 0, 0x05, 0x14}, packet(false, four, 1400)...)
	big6 := append([]byte{2, 0, 0, 0, 0, 0, 0x05, 0x78}, packet(true, six, 1500)...)
	for _, c := range []struct {
		name string
		is6  bool
		from netip.Addr
		text []byte
		host netip.Addr // whose probe it is about; zero: nobody's
		big  bool
		fits int
	}{
		{"reply", false, four, reply(false), four, false, 0},
		{"reply, IPv6", true, six, reply(true), six, false, 0},
		{"too big", false, other, big4, four, true, 1300},
		{"too big, the least quote", false, other, big4[:8+20+8], four, true, 1300},
		{"too big, IPv6", true, other, big6, six, true, 1400},
		{"reply of somebody else", false, other, reply(false), netip.Addr{}, false, 0},
		{"reply without the secret", false, four, reply(false)[:12], netip.Addr{}, false, 0},
		{"reply with another secret", false, four, append(reply(false)[:8], make([]byte, 100)...), netip.Addr{}, false, 0},
		{"too big, of another secret", false, other, append(bytes.Clone(big4[:8+20+8]), make([]byte, 8)...), netip.Addr{}, false, 0},
		{"too big, of somebody else's packet", false, other, append([]byte{3, 4, 0, 0, 0, 0, 0x05, 0x14}, packet(false, other, 1400)...), netip.Addr{}, false, 0},
		{"unreachable for another reason", false, other, append([]byte{3, 1, 0, 0, 0, 0, 0, 0}, packet(false, four, 1400)...), netip.Addr{}, false, 0},
		{"request", false, four, secretMark.request(false, 100), netip.Addr{}, false, 0},
		{"nothing", false, four, nil, netip.Addr{}, false, 0},
		{"cut off", false, other, big4[:30], netip.Addr{}, false, 0},
		{"cut off, IPv6", true, other, big6[:50], netip.Addr{}, false, 0},
	} {
		w, ok := parse(c.is6, c.from, c.text)
		about := c.host
		if !about.IsValid() {
			about = four
		}
		if ok = ok && w.of(secretMark, about); ok != c.host.IsValid() || ok && (w.big != c.big || w.fits != c.fits) {
			t.Errorf("%s: %+v, %v", c.name, w, ok)
		}
	}
	if n := len(secretMark.request(false, 1400)); n != 1380 {
		t.Errorf("a probe of 1400 bytes has %d behind its header", n)
	}
	if sum := checksum(secretMark.request(false, 1400)); sum != 0 {
		t.Errorf("checksum: %#x is left", sum)
	}
}

func FuzzParse(f *testing.F) {
	four := netip.MustParseAddr("192.0.2.2")
	f.Add(false, append([]byte{3, 4, 0, 0, 0, 0, 0x05, 0x14}, packet(false, four, 100)...))
	f.Add(true, append([]byte{2, 0, 0, 0, 0, 0, 0x05, 0x78}, packet(true, netip.MustParseAddr("2001:db8::2"), 100)...))
	f.Fuzz(func(t *testing.T, is6 bool, text []byte) {
		w, ok := parse(is6, four, text)
		if ok && (w.fits < 0 || w.fits > 1<<16) {
			t.Errorf("%+v", w)
		}
	})
}
