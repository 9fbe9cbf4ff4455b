package udptun

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// slowSum is the Internet checksum as RFC 1071 defines it.
func slowSum(b []byte) uint16 {
	acc := uint32(0)
	for i, c := range b {
		acc += uint32(c) << (8 * (1 - i%2))
		acc = acc>>16 + acc&0xffff
	}
	return ^uint16(acc)
}

// datagram is a UDP packet from port 5000, with all checksums.
func datagram(src, dst string, port uint16, data []byte) []byte {
	b := append(ip(src, dst, unix.IPPROTO_UDP, udpLen+len(data)), 5000>>8, 5000&255, byte(port>>8), byte(port), byte((udpLen+len(data))>>8), byte(udpLen+len(data)), 0, 0)
	return seal(append(b, data...))
}

// segment is a TCP packet.
func segment(src, dst string, seq uint32, flags byte, data []byte) []byte {
	b := ip(src, dst, unix.IPPROTO_TCP, 32+len(data))
	b = binary.BigEndian.AppendUint32(b, 5000<<16|80)
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, 77)
	b = append(b, 8<<4, flags, 1, 0, 0, 0, 0, 0, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2) // with a time stamp
	return seal(append(b, data...))
}

// ip is a header of either family. The checksum is left to seal.
func ip(src, dst string, proto byte, length int) []byte {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	if s.Is6() {
		b := []byte{0x60, 0, 0, 0, byte(length >> 8), byte(length), proto, 64}
		return append(append(b, s.AsSlice()...), d.AsSlice()...)
	}
	b := []byte{0x45, 0, byte((20 + length) >> 8), byte(20 + length), 0, 9, 0x40, 0, 64, proto, 0, 0}
	return append(append(b, s.AsSlice()...), d.AsSlice()...)
}

// seal computes the checksums, slowly.
func seal(b []byte) []byte {
	header, addrs, proto := 20, b[min(12, len(b)):20], b[9]
	if b[0]>>4 == 6 {
		header, addrs, proto = 40, b[8:40], b[6]
	} else {
		binary.BigEndian.PutUint16(b[10:], 0)
		binary.BigEndian.PutUint16(b[10:], slowSum(b[:20]))
	}
	l4 := b[header:]
	at := 16
	if proto == unix.IPPROTO_UDP {
		at = 6
	}
	binary.BigEndian.PutUint16(l4[at:], 0)
	all := append(bytes.Clone(addrs), 0, proto, byte(len(l4)>>8), byte(len(l4)))
	binary.BigEndian.PutUint16(l4[at:], slowSum(append(all, l4...)))
	return b
}

func TestSum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 300 {
		b := make([]byte, n)
		for _, fill := range []func() byte{func() byte { return byte(r.Uint32()) }, func() byte { return 255 }} {
			for i := range b {
				b[i] = fill()
			}
			got := make([]byte, 2)
			putSum(got, ^fold(sum(b, 0)))
			// Zero has two forms.
			if want := slowSum(b); binary.BigEndian.Uint16(got)%0xffff != want%0xffff {
				t.Fatalf("%d bytes: %x, want %04x", n, got, want)
			}
		}
	}
}

// slowFind looks at all peers.
func slowFind(peers []Peer, a netip.Addr) netip.Addr {
	best, found := -1, netip.Addr{}
	for _, p := range peers {
		if p.Prefix.Contains(a) && p.Prefix.Bits() >= best {
			best, found = p.Prefix.Bits(), p.Addr
		}
	}
	return found
}

func TestTable(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	addr := func() netip.Addr {
		if r.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{10, byte(r.IntN(4)), byte(r.IntN(4)), byte(r.Uint32())})
		}
		return netip.AddrFrom16([16]byte{0: 0xfd, 7: byte(r.IntN(4)), 8: byte(r.IntN(4)), 15: byte(r.Uint32())})
	}
	for range 200 {
		var peers []Peer
		for range r.IntN(40) {
			a := addr()
			peers = append(peers, Peer{netip.PrefixFrom(a, r.IntN(a.BitLen()+1)), netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + r.IntN(250))})})
		}
		table, err := newTable(peers, someUnderlay())
		if err != nil {
			t.Fatal(err)
		}
		for range 200 {
			a, got := addr(), netip.Addr{}
			if p := table.find(a); p != nil {
				got = p.Addr
			}
			if want := slowFind(peers, a); got != want {
				t.Fatalf("%v: %v, want %v of %v", a, got, want, peers)
			}
		}
	}
}

func TestNames(t *testing.T) {
	for _, s := range []string{"192.0.2.1:8285", "[2001:db8::1]:8285"} {
		var b [unix.SizeofSockaddrInet6]byte
		a := netip.MustParseAddrPort(s)
		if putName(&b, a); nameAddr(&b) != a.Addr() || b[2] != 8285>>8 || b[3] != 8285&255 {
			t.Errorf("%s: % x", s, b)
		}
	}
	if a := nameAddr(&[unix.SizeofSockaddrInet6]byte{}); a.IsValid() {
		t.Errorf("nobody is %v", a)
	}
}

func TestAge(t *testing.T) {
	for _, b := range [][]byte{datagram("10.5.1.1", "10.5.2.1", 9, nil), datagram("fd05:1::1", "fd05:2::1", 9, nil)} {
		p, ok := parse(b, false)
		at, n := ip4TTL, 0
		if p.v6 {
			at = ip6Hops
		}
		for n = 64; ok && p.age(); n-- {
			if !p.verified() || int(b[at]) != n-1 {
				t.Fatalf("% x", b)
			}
		}
		if n != 1 || b[at] != 1 {
			t.Errorf("ended at %d", n)
		}
	}
}

func TestICMP(t *testing.T) {
	const v4, v6 = "10.5.1.1", "fd05:1::1"
	icmp := func(src, dst string, typ byte) []byte {
		proto := byte(unix.IPPROTO_ICMP)
		if src == v6 {
			proto = unix.IPPROTO_ICMPV6
		}
		return append(ip(src, dst, proto, 8), typ, 0, 0, 0, 0, 0, 0, 0)
	}
	later := datagram(v4, "10.5.9.1", 9, nil)
	later[7] = 1
	for _, c := range []struct {
		name   string
		packet []byte
		want   bool
	}{
		{"udp", datagram(v4, "10.5.9.1", 9, pattern(1000)), true},
		{"udp6", datagram(v6, "fd05:9::1", 9, pattern(1400)), true},
		{"echo request", icmp(v4, "10.5.9.1", 8), true},
		{"unreachable", icmp(v4, "10.5.9.1", 3), false},
		{"echo request 6", icmp(v6, "fd05:9::1", 128), true},
		{"unreachable 6", icmp(v6, "fd05:9::1", 1), false},
		{"multicast", datagram(v4, "224.0.0.251", 9, nil), false},
		{"multicast 6", datagram(v6, "ff02::2", 9, nil), false},
		{"broadcast", datagram(v4, "255.255.255.255", 9, nil), false},
		{"from nobody", datagram("0.0.0.0", "10.5.9.1", 9, nil), false},
		{"later fragment", later, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, ok := parse(c.packet, false)
			var e errorMaker
			b := e.about(&p, noRoute, p.dst)
			if !ok || (b != nil) != c.want {
				t.Fatalf("% x", b)
			}
			if b == nil {
				return
			}
			got, ok := parse(b[vnetLen:], false)
			l4 := got.data[got.header:]
			if !ok || len(got.data) != len(b)-vnetLen || got.src != p.dst || got.dst != p.src || !bytes.HasPrefix(p.data, l4[icmpLen:]) || len(l4) < icmpLen+20 {
				t.Fatalf("% x", b)
			}
			acc := uint64(0)
			if got.v6 {
				acc = pseudo(got.addrs(), unix.IPPROTO_ICMPV6, len(l4))
			} else if slowSum(got.data[:20]) != 0 {
				t.Error("header checksum")
			}
			if fold(sum(l4, acc)) != 0xffff {
				t.Error("checksum")
			}
		})
	}
}

func TestICMPIsLimited(t *testing.T) {
	var e errorMaker
	now := time.Now()
	count := func(n int) (allowed int) {
		for range n {
			if e.allowed(now) {
				allowed++
			}
		}
		return allowed
	}
	if n := count(1000); n != burst {
		t.Errorf("at first %d", n)
	}
	if now = now.Add(100 * time.Millisecond); count(1000) < 9 {
		t.Error("none a while later")
	}
	if now = now.Add(time.Hour); count(1000) != burst {
		t.Error("the limit has grown")
	}
}

// bench is a sender and a receiver whose device takes everything and whose socket
// nothing.
func bench(t testing.TB) (*sender, *receiver) {
	t.Helper()
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	tunnel := &Tunnel{local: someUnderlay(), subnets: []netip.Prefix{netip.MustParsePrefix("10.5.1.0/24"), netip.MustParsePrefix("fd05:1::/64")}, offload: offload{uso: true}}
	if err := tunnel.SetPeers(peersOf("10.5.2.0/24=192.0.2.2", "fd05:2::/64=192.0.2.2")); err != nil {
		t.Fatal(err)
	}
	q := &queue{tun: int(null.Fd()), udp: [families]int{none, none}}
	return newSender(tunnel, q), newReceiver(tunnel, q, ipv4)
}

func someUnderlay() underlay {
	return underlay{ipv4: netip.MustParseAddrPort("192.0.2.1:8285")}
}

var peerAddr = netip.MustParseAddr("192.0.2.2")

func TestNothingIsAllocated(t *testing.T) {
	s, r := bench(t)
	long := append(make([]byte, vnetLen), segment("10.5.1.1", "10.5.2.1", 1, flagACK, pattern(60000))...)
	vnet{needsSum: true, kind: unix.VIRTIO_NET_HDR_GSO_TCPV4, header: 52, size: 1420, sumStart: 20, sumOffset: 16}.put(long)
	var in []byte
	for i := range 40 {
		in = append(in, segment("10.5.2.1", "10.5.1.1", uint32(1400*i), flagACK, pattern(1400))...)
	}
	work := bytes.Clone(in)
	for name, f := range map[string]func(){
		"send": func() { long[vnetLen+8] = 64; s.packet(long); s.flush() },
		"receive": func() {
			copy(work, in)
			r.datagrams(peerAddr, work, 1452)
		},
	} {
		if n := testing.AllocsPerRun(20, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if got := r.received.packets.Load(); got != 40*21 || s.sent.drops[Unsent].Load() != 43*21 {
		t.Errorf("%d received, %d tried", got, s.sent.drops[Unsent].Load())
	}
}

// What waits in the arena is not overwritten by what is read behind it.
func TestArena(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	s, _ := bench(t)
	s.udp, s.gso = [families]int{fds[0], none}, [families]bool{}
	to := &peer{} // of a connected socket, none
	r := rand.New(rand.NewPCG(5, 6))
	var want [][]byte
	got := make([]byte, 1<<16)
	s.at = slotBytes + align // so that 43 pieces reach to the last slot, and the 44th to the first
	for i := range 2000 {
		n := []int{1420, 60000, 1 + r.IntN(65000), 1400, 1000}[r.IntN(5)]
		if i <= 44 {
			n = []int{1420, 65000}[i/44]
		}
		b := append(make([]byte, vnetLen), segment("10.5.1.1", "10.5.2.1", uint32(i), flagACK, pattern(n))...)
		v := vnet{needsSum: true, kind: unix.VIRTIO_NET_HDR_GSO_TCPV4, size: 1420, sumStart: 20, sumOffset: 16}
		own, _ := parse(bytes.Clone(b[vnetLen:]), true)
		for c, _ := cut(&own, v); len(c.payload) > 0; {
			header := make([]byte, maxHeader)
			n, payload := c.next(header)
			want = append(want, append(header[:n], payload...))
		}
		p, ok := parse(s.room()[vnetLen:][:copy(s.room(), b)-vnetLen], true)
		if !ok || !s.cut(&p, v, to) {
			t.Fatal("not cut")
		}
		s.advance(len(b))
		for n, err := unix.Read(fds[1], got); err == nil; n, err = unix.Read(fds[1], got) {
			if !bytes.Equal(got[:n], want[0]) {
				t.Fatalf("packet %d: other bytes", i)
			}
			want = want[1:]
		}
	}
	if len(want) > maxSegments {
		t.Errorf("%d pieces wait", len(want))
	}
}

// A socket that cannot have several at once gets one after the other.
func TestWithoutSegments(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	var b batch
	to := &peer{} // of a connected socket, none
	var want []string
	for i := range 5 {
		n := 100 - i/4
		header, payload := pattern(10)[:i], pattern(n-i)
		if !b.takes(to, n) {
			t.Fatalf("does not take %d", i)
		}
		b.add(to, header, payload)
		want = append(want, string(header)+string(payload))
	}
	if b.takes(to, 99) {
		t.Error("takes more after a shorter one")
	}
	pieces, n, gso := b.send(fds[0], false)
	if pieces != 5 || n != 499 || gso {
		t.Errorf("%d pieces, %d bytes", pieces, n)
	}
	for _, w := range want {
		got := make([]byte, 200)
		if n, err := unix.Read(fds[1], got); err != nil || string(got[:n]) != w {
			t.Errorf("%q: %v", got[:n], err)
		}
	}
	b.empty()
	for n, limit := 0, maxDatagram/1472; n <= limit; n++ {
		if b.takes(to, 1472) != (n < limit) {
			t.Fatalf("%d pieces", n)
		}
		b.add(to, nil, pattern(1472))
	}
	if _, _, gso := b.send(none, true); !gso {
		t.Error(fmt.Errorf("given up on segments over another error"))
	}
}
