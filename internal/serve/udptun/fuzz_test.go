package udptun

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

// samples are packets of all kinds, in either direction.
func samples(src4, dst4, src6, dst6 string) [][]byte {
	var out [][]byte
	for _, a := range [][2]string{{src4, dst4}, {src6, dst6}} {
		for i, n := range []int{100, 100, 100, 40} {
			out = append(out, segment(a[0], a[1], uint32(100*i), flagACK, pattern(n)), datagram(a[0], a[1], 9, pattern(n)))
		}
		out = append(out, segment(a[0], a[1], 7, flagACK|flagPSH, pattern(100)), segment(a[0], a[1], 7, flagACK, nil), ip(a[0], a[1], 47, 0))
	}
	return out
}

// FuzzReceive receives anything from a peer. What is written as one packet has to
// come apart into what was received.
func FuzzReceive(f *testing.F) {
	for _, b := range samples("10.5.2.1", "10.5.1.1", "fd05:2::1", "fd05:1::1") {
		f.Add(b, uint16(len(b)))
		f.Add(bytes.Repeat(b, 3), uint16(len(b)))
	}
	for _, proto := range []func(i int) []byte{
		func(i int) []byte { return segment("10.5.2.1", "10.5.1.1", uint32(50*i), flagACK, pattern(50)) },
		func(i int) []byte { return segment("fd05:2::1", "fd05:1::1", uint32(50*i), flagACK, pattern(50)) },
		func(i int) []byte { return datagram("fd05:2::1", "fd05:1::1", 9, pattern(50)) },
	} {
		var b []byte
		for i := range 5 {
			b = append(b, proto(i)...)
		}
		f.Add(b, uint16(len(b)/5))
		f.Add(b[:len(b)-3], uint16(len(b)/5))
	}
	_, r := bench(f)
	f.Fuzz(func(t *testing.T, b []byte, size uint16) {
		if size == 0 {
			return
		}
		before := r.counted()
		r.datagrams(peerAddr, bytes.Clone(b), int(size))
		if got, want := r.counted()-before, uint64((len(b)+int(size)-1)/int(size)); got != want {
			t.Fatalf("%d packets counted, %d received", got, want)
		}
		together(t, b, int(size))
	})
}

// counted is how many packets were received, for better or worse.
func (r *receiver) counted() uint64 {
	n := r.received.packets.Load()
	for d := range drops {
		n += r.received.drops[d].Load()
	}
	return n
}

// together puts pieces together as far as they go and takes them apart again.
func together(t *testing.T, b []byte, size int) {
	var u run
	var want [][]byte
	for b := bytes.Clone(b); len(b) > 0; b = b[min(size, len(b)):] {
		piece := b[:min(size, len(b))]
		p, ok := parse(piece, false)
		switch {
		case !ok:
			return
		case u.count == 0:
			u.start(&p, true)
		case !u.add(&p):
			b = nil
			continue
		}
		want = append(want, bytes.Clone(p.data))
	}
	if u.count < 2 {
		return
	}
	v := u.finish()
	whole := bytes.Clone(u.first.data[:u.header])
	for _, p := range u.payloads[:u.count] {
		whole = append(whole, p...)
	}
	p, ok := parse(whole, false)
	if !ok || len(p.data) != u.total {
		t.Fatalf("bad packet: % x", whole)
	}
	c, ok := cut(&p, v)
	if !ok {
		t.Fatalf("cannot be cut: %+v % x", v, whole)
	}
	for i, w := range want {
		header := make([]byte, maxHeader)
		n, payload := c.next(header)
		if got := append(header[:n], payload...); !same(got, w) {
			t.Fatalf("piece %d\n% x\nwant\n% x", i, got, w)
		}
	}
	if len(c.payload) != 0 {
		t.Fatal("more pieces")
	}
}

// same compares packets but for what says nothing: the number of one that may
// not be cut, and which zero a checksum has.
func same(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	a, b = bytes.Clone(a), bytes.Clone(b)
	for _, p := range [][]byte{a, b} {
		p := packet{data: p, header: ip6Len, proto: p[ip6Next], v6: p[0]>>4 == 6}
		if !p.v6 {
			p.header, p.proto = ip4Len, p.data[ip4Proto]
			if p.data[ip4Flags]&dontFragment != 0 {
				copy(p.data[ip4ID:], []byte{0, 0})
			}
			copy(p.data[ip4Sum:], []byte{0, 0})
		}
		at := p.header + sumOffset(p.proto)
		if p.data[at] == 0xff && p.data[at+1] == 0xff {
			p.data[at], p.data[at+1] = 0, 0
		}
	}
	return bytes.Equal(a, b)
}

// FuzzSend sends anything that a device might hand over.
func FuzzSend(f *testing.F) {
	for _, b := range samples("10.5.1.1", "10.5.2.1", "fd05:1::1", "fd05:2::1") {
		for _, v := range []vnet{
			{},
			{needsSum: true, sumStart: 20, sumOffset: 6},
			{needsSum: true, kind: unix.VIRTIO_NET_HDR_GSO_TCPV4, size: 30, sumStart: 20, sumOffset: 16},
			{needsSum: true, kind: unix.VIRTIO_NET_HDR_GSO_TCPV6, size: 30, sumStart: 40, sumOffset: 16},
			{needsSum: true, kind: unix.VIRTIO_NET_HDR_GSO_UDP_L4, size: 30, sumStart: 20, sumOffset: 6},
			{needsSum: true, kind: unix.VIRTIO_NET_HDR_GSO_UDP_L4, size: 30, sumStart: 40, sumOffset: 6},
		} {
			in := append(make([]byte, vnetLen), b...)
			v.put(in)
			f.Add(in)
		}
	}
	s, _ := bench(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < vnetLen || len(b) > slotBytes {
			return
		}
		before := s.refused()
		n := copy(s.room(), b)
		s.packet(s.arena[s.at : s.at+n])
		s.advance(n)
		s.flush()
		if s.refused() == before {
			t.Fatal("neither tried nor counted")
		}
	})
}

func (s *sender) refused() (n uint64) {
	for d := range drops {
		n += s.sent.drops[d].Load()
	}
	return n
}
