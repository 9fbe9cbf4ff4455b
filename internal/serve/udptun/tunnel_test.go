package udptun

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestBothWays(t *testing.T) {
	for _, queues := range []int{1, 2} {
		t.Run(fmt.Sprint("queues ", queues), func(t *testing.T) {
			w := newWorld(t)
			a, b := w.pair(queues)
			for family := range 2 {
				w.a.Must("lab-echo", "ping", w.b.addr(family))
				w.b.Must("lab-echo", "ping", "-size", "4000", w.a.addr(family))
				transfer(t, w.a, w.b, w.b.addr(family), pattern(8<<20+1))
			}
			for name, s := range map[string]Stats{"a": a.Stats(), "b": b.Stats()} {
				if s.Sent.Bytes < 16<<20 || s.Received.Bytes < 16<<20 || s.Drops[Unsent]+s.Drops[Unwritten]+s.Drops[Malformed]+s.Drops[Spoofed] > 0 {
					t.Errorf("%s: %+v", name, s)
				}
			}
		})
	}
}

// Datagrams keep their bounds, whether they are sent one by one, in fragments or
// many at once.
func TestDatagrams(t *testing.T) { bothWays(t, testDatagrams) }

func testDatagrams(t *testing.T, w *world) {
	w.pair(1)
	for family := range 2 {
		to := w.b.packets(net.JoinHostPort(w.b.addr(family), "9"))
		from := w.a.packets(net.JoinHostPort(w.a.addr(family), "0"))
		expect := func(want []byte) {
			t.Helper()
			got := make([]byte, 65536)
			to.SetReadDeadline(time.Now().Add(20 * time.Second))
			if n, err := to.Read(got); err != nil || !bytes.Equal(got[:n], want) {
				t.Fatalf("%d bytes, want %d: %v", n, len(want), err)
			}
		}
		dst := netip.MustParseAddrPort(to.LocalAddr().String())
		for _, n := range []int{0, 1, 1424, 1444, 1445, 9000, 65000} {
			if _, err := from.WriteToUDPAddrPort(pattern(n), dst); err != nil {
				t.Fatal(err)
			}
			expect(pattern(n))
		}
		many := pattern(40*1000 + 7)
		oob := unix.CmsgSpace(2)
		control := make([]byte, oob)
		control[0], control[8], control[12] = byte(unix.CmsgLen(2)), unix.IPPROTO_UDP, unix.UDP_SEGMENT
		control[16], control[17] = 1000&255, 1000>>8
		if _, _, err := from.WriteMsgUDPAddrPort(many, control, dst); err != nil {
			t.Fatal(err)
		}
		for b := many; len(b) > 0; b = b[min(1000, len(b)):] {
			expect(b[:min(1000, len(b))])
		}
	}
}

// A packet that is too long for the tunnel is answered, so that senders behind
// the host learn the MTU; one that the underlay finds too long goes in fragments.
func TestMTU(t *testing.T) { bothWays(t, testMTU) }

func testMTU(t *testing.T, w *world) {
	w.pair(1)
	w.a.NetNS("c")
	for _, c := range []string{
		"link add c0 type veth peer name eth0 netns c", "link set c0 up", "addr add 10.5.1.1/24 dev c0",
		"-n c link set eth0 up", "-n c addr add 10.5.1.9/24 dev eth0", "-n c route add default via 10.5.1.1",
	} {
		w.a.Must("ip", strings.Fields(c)...)
	}
	w.a.Must("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
	ping := func(size string) int {
		return w.a.Run("ip", "netns", "exec", "c", "lab-echo", "ping", "-timeout", "2s", "-size", size, w.b.addr(0)).Code
	}
	if ping("1444") != 0 {
		t.Error("1472 bytes do not pass")
	}
	ping("1445") // learns
	if got := w.a.Must("ip", "-n", "c", "route", "get", w.b.addr(0)); !strings.Contains(got, "mtu 1472") {
		t.Errorf("route after a long packet: %s", got)
	}
	if ping("1445") != 0 {
		t.Error("what was cut by its sender does not pass")
	}
	for _, e := range []*end{w.a, w.b} {
		e.Must("ip", "link", "set", "eth0", "mtu", "1300")
	}
	transfer(t, w.a, w.b, w.b.addr(0), pattern(1<<20))
}

// A tunnel gets other peers again and again under load.
func TestPeersChange(t *testing.T) {
	w := newWorld(t)
	a, _ := w.pair(1)
	few, many := w.b.peers(), crowd(5000)
	many = append(many, few...)
	stop := make(chan struct{})
	changed := make(chan int)
	go func() {
		n := 0
		for over := false; !over; n++ {
			select {
			case <-stop:
				over = true
			case <-time.After(5 * time.Millisecond):
			}
			if err := a.SetPeers([][]Peer{few, many}[n%2]); err != nil {
				t.Error(err)
			}
		}
		changed <- n
	}()
	transfer(t, w.a, w.b, w.b.addr(0), pattern(32<<20))
	close(stop)
	if n := <-changed; n < 3 {
		t.Errorf("changed %d times", n)
	}
	if err := a.SetPeers([]Peer{{netip.MustParsePrefix("10.5.2.0/24"), netip.MustParseAddr("2001:db8::2")}}); err == nil {
		t.Error("a peer of another underlay")
	}
	w.a.Must("lab-echo", "ping", w.b.addr(0)) // as they were
	if err := a.SetPeers(nil); err != nil {
		t.Fatal(err)
	}
	if w.a.Run("lab-echo", "ping", "-timeout", "200ms", w.b.addr(0)).Code == 0 {
		t.Error("ping without a peer")
	}
}

// crowd is n peers in 10.128.0.0/9.
func crowd(n int) []Peer {
	var out []Peer
	for i := range n {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 128 + byte(i>>8), byte(i), 0}), 24)
		out = append(out, Peer{p, netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})})
	}
	return out
}

// Who is no peer, or says that it is another, is not heard.
func TestSpoofed(t *testing.T) { bothWays(t, testSpoofed) }

func testSpoofed(t *testing.T, w *world) {
	a := w.a.open(2, w.b.peers()...)
	stranger := unsummed(w.host(t, "c", 3).packets("192.0.2.3:8285"))
	peer := unsummed(w.b.packets("192.0.2.2:8285"))
	heard := w.a.packets("10.5.1.0:9")
	to := netip.MustParseAddrPort("192.0.2.1:8285")
	good := datagram("10.5.2.7", "10.5.1.0", 9, []byte("good"))
	hear := func() {
		t.Helper()
		if _, err := peer.WriteToUDPAddrPort(good, to); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		heard.SetReadDeadline(time.Now().Add(20 * time.Second))
		if n, from, err := heard.ReadFromUDPAddrPort(b); err != nil || string(b[:n]) != "good" || from.Addr().Unmap().String() != "10.5.2.7" {
			t.Errorf("%q from %v: %v", b[:n], from, err)
		}
	}
	hear()
	eventually(t, "one received", func() bool { return a.Stats().Received.Packets == 1 })
	for _, c := range []struct {
		from *net.UDPConn
		data []byte
		want Drop
	}{
		{stranger, good, Stranger},
		{stranger, datagram("10.5.3.7", "10.5.1.0", 9, []byte("bad")), Stranger},
		{peer, datagram("10.5.3.7", "10.5.1.0", 9, []byte("bad")), Spoofed},
		{peer, datagram("10.5.1.7", "10.5.1.0", 9, []byte("bad")), Spoofed},
		{peer, datagram("192.0.2.2", "10.5.1.0", 9, []byte("bad")), Spoofed},
		{peer, datagram("10.5.2.7", "192.0.2.1", 9, []byte("bad")), NotOurs},
		{peer, datagram("10.5.2.7", "10.5.3.1", 9, []byte("bad")), NotOurs},
		{peer, good[:len(good)-1], Malformed},
		{peer, []byte{0x45}, Malformed},
		{peer, nil, drops},
		{peer, []byte("hello, world: this is no packet"), Malformed},
	} {
		before := a.Stats().Drops[c.want]
		if _, err := c.from.WriteToUDPAddrPort(c.data, to); err != nil {
			t.Fatal(err)
		}
		if c.want != drops {
			eventually(t, fmt.Sprintf("%v of % x", c.want, c.data), func() bool { return a.Stats().Drops[c.want] == before+1 })
		}
	}
	hear()
	eventually(t, "the other received", func() bool { return a.Stats().Received.Packets == 2 || w.shortcuts })
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !so(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// The sender hears what became of a packet that was not carried.
func TestErrors(t *testing.T) { bothWays(t, testErrors) }

func testErrors(t *testing.T, w *world) {
	a, _ := w.pair(1)
	connect := func(addr string, hops int) error {
		return w.a.Do(func() error {
			d := net.Dialer{Timeout: 20 * time.Second, Control: func(_, _ string, c syscall.RawConn) (err error) {
				c.Control(func(fd uintptr) {
					if hops == 0 {
						return
					}
					if strings.Contains(addr, "[") {
						err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, hops)
					} else {
						err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, hops)
					}
				})
				return err
			}}
			c, err := d.Dial("tcp", addr)
			if err == nil {
				c.Close()
			}
			return err
		})
	}
	for _, c := range []struct {
		addr string
		hops int
		want error
	}{
		{"10.5.9.9:7", 0, unix.ENETUNREACH},
		{"[fd05:9::9]:7", 0, unix.ENETUNREACH},
		{"10.5.2.0:7", 1, unix.EHOSTUNREACH},
		{"[fd05:2::]:7", 1, unix.EHOSTUNREACH},
		{"10.5.2.0:7", 2, unix.ECONNREFUSED},
		{"[fd05:2::]:7", 2, unix.ECONNREFUSED},
	} {
		if err := connect(c.addr, c.hops); !errors.Is(err, c.want) {
			t.Errorf("%s, %d hops: %v, want %v", c.addr, c.hops, err, c.want)
		}
	}
	if s := a.Stats(); s.Drops[NoRoute] < 2 || s.Drops[Expired] != 2 {
		t.Errorf("%+v", s)
	}
}

// A tunnel ends under load, leaves nothing but the device, and another begins.
func TestCloseUnderLoad(t *testing.T) {
	w := newWorld(t)
	w.b.open(2, w.a.peers()...)
	l := w.b.listen("tcp", "10.5.2.0:0")
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			go func() {
				b := make([]byte, 1<<16)
				for {
					if _, err := c.Read(b); err != nil {
						return
					}
				}
			}()
		}
	}()
	before := runtime.NumGoroutine()
	var c net.Conn
	for range 5 {
		a := w.a.open(2, w.b.peers()...)
		if c == nil {
			c = w.a.dial("tcp", l.Addr().String())
			go func() {
				for b := pattern(1 << 16); ; {
					if _, err := c.Write(b); err != nil {
						return
					}
				}
			}()
		}
		eventually(t, "traffic", func() bool { return a.Stats().Sent.Bytes > 1<<20 })
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		<-a.Done()
		if err := errors.Join(a.Close(), a.Err()); err != nil {
			t.Error(err)
		}
		w.a.Must("ip", "link", "show", device)
	}
	c.Close()
	eventually(t, "the goroutines gone", func() bool { return runtime.NumGoroutine() <= before+1 }) // the server's
}

func TestDeviceDeleted(t *testing.T) {
	w := newWorld(t)
	a := w.a.open(2)
	w.a.Must("ip", "link", "del", device)
	select {
	case <-a.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("goes on without a device")
	}
	if err := a.Err(); err == nil || !strings.Contains(err.Error(), device) {
		t.Errorf("error: %v", err)
	}
}

func TestOpenSaysNo(t *testing.T) {
	w := newWorld(t)
	w.a.packets("192.0.2.1:8285")
	w.a.Must("ip", "tuntap", "add", "single", "mode", "tun")
	local := func(s ...string) (out []netip.Addr) {
		for _, a := range s {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	for _, c := range []struct {
		device string
		config Config
		want   string
	}{
		{device, Config{}, "udp tunnel flannel0: no local address"},
		{device, Config{Local: local("192.0.2.1", "192.0.2.2")}, "udp tunnel flannel0: local address 192.0.2.2: not valid, or not the only one of its family"},
		{device, Config{Local: make([]netip.Addr, 1)}, "udp tunnel flannel0: local address invalid IP: not valid, or not the only one of its family"},
		{device, Config{Local: local("2001:db8::1", "192.0.2.1")}, "udp tunnel flannel0: bind 192.0.2.1:8285: address already in use"},
		{device, Config{Local: local("192.0.2.9")}, "udp tunnel flannel0: bind 192.0.2.9:8285: cannot assign requested address"},
		{device, Config{Local: local("2001:db8::1"), Subnets: make([]netip.Prefix, 1)}, "udp tunnel flannel0: invalid subnet"},
		{"nobody0", Config{Local: local("2001:db8::1")}, "udp tunnel nobody0: no persistent device of that name"},
		{"single", Config{Local: local("2001:db8::1")}, "udp tunnel single: attach: invalid argument"},
	} {
		err := w.a.Do(func() error {
			tunnel, err := Open(c.device, c.config)
			if err == nil {
				tunnel.Close()
			}
			return err
		})
		if err == nil || err.Error() != c.want {
			t.Errorf("%s %+v: %v, want %s", c.device, c.config, err, c.want)
		}
	}
	if w.a.Run("ip", "link", "show", "nobody0").Code == 0 {
		t.Error("a device has been made")
	}
}

// Over an underlay of both families each packet goes where its peer is.
func TestUnderlayOfBothFamilies(t *testing.T) {
	w := newWorld(t)
	tunnels := map[*end]*Tunnel{}
	other := map[*end]*end{w.a: w.b, w.b: w.a}
	six := func(e *end) netip.Addr {
		return netip.MustParseAddr(strings.Replace(e.local, "192.0.2.", "2001:db8::", 1))
	}
	for e := range other {
		e.Must("ip", "link", "set", device, "mtu", "1452")
		err := e.Do(func() (err error) {
			tunnels[e], err = Open(device, Config{Local: []netip.Addr{netip.MustParseAddr(e.local), six(e)}, Port: 9000, Subnets: e.subnet, Queues: 2})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { tunnels[e].Close() })
	}
	for _, crossed := range []bool{false, true} {
		for e, tunnel := range tunnels {
			peers := other[e].peers()
			peers[1].Addr = six(other[e])
			if crossed {
				peers[0].Addr, peers[1].Addr = peers[1].Addr, peers[0].Addr
			}
			if err := tunnel.SetPeers(peers); err != nil {
				t.Fatal(err)
			}
		}
		for family := range 2 {
			transfer(t, w.a, w.b, w.b.addr(family), pattern(1<<20))
		}
	}
	for e, tunnel := range tunnels {
		for f := range families {
			if n := tunnel.queues[0].received[f].packets.Load() + tunnel.queues[1].received[f].packets.Load(); n < 1000 {
				t.Errorf("%s: %d packets by family %d", e.Name, n, f)
			}
		}
	}
}
