package udptun

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/serve/udptun/shortcut"
)

// bothWays tests without and with shortcuts.
func bothWays(t *testing.T, test func(*testing.T, *world)) {
	for _, shortcuts := range []bool{false, true} {
		t.Run(fmt.Sprint("shortcuts ", shortcuts), func(t *testing.T) {
			w := newWorld(t)
			w.shortcuts = shortcuts
			test(t, w)
		})
	}
}

// shorten gives a tunnel a shortcut, as a keeper does.
func (e *end) shorten(tunnel *Tunnel, peers ...Peer) (s *shortcut.Shortcut) {
	e.t.Helper()
	e.forward()
	c := shortcutOf(device, Config{Local: []netip.Addr{netip.MustParseAddr(e.local)}, Subnets: e.subnet})
	if err := e.Do(func() (err error) { s, err = shortcut.Open(c); return err }); err != nil {
		e.t.Fatalf("%s: %+v", e.Name, err)
	}
	e.t.Cleanup(func() {
		tunnel.Close()
		s.Close()
	})
	tunnel.short.Store(s)
	if err := tunnel.setShortcut(peers); err != nil {
		e.t.Fatal(err)
	}
	if err := s.Keep(); err != nil {
		e.t.Fatal(err)
	}
	return s
}

// forward has a host forward packets, as one with containers does. The kernel looks for no way
// in a shortcut otherwise.
func (e *end) forward() { e.Must("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward") }

// unsummed has datagrams bear no checksum: those may take a shortcut.
func unsummed(c *net.UDPConn) *net.UDPConn {
	raw, err := c.SyscallConn()
	if err == nil {
		raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_NO_CHECK, 1) })
	}
	if err != nil {
		panic(err)
	}
	return c
}

// carried is how many packets processes have carried.
func carried(tunnels ...*Tunnel) (n uint64) {
	for _, t := range tunnels {
		s := t.Stats()
		n += s.Sent.Packets + s.Received.Packets
	}
	return n
}

// awaitShort waits until pings are carried by no process. What it carries it counts
// after that, maybe after the answer is there: so one ping is not enough.
func awaitShort(t *testing.T, from *end, to string, tunnels ...*Tunnel) {
	t.Helper()
	await(t, "the shortcut is taken", func() bool {
		before := carried(tunnels...)
		for range 3 {
			if from.Run("lab-echo", "ping", "-timeout", "500ms", to).Code != 0 {
				return false
			}
		}
		return carried(tunnels...) == before
	})
}

// What is easy is carried by no process, streams as they are.
func TestShortcut(t *testing.T) {
	w := newWorld(t)
	w.shortcuts = true
	a, b := w.pair(2)
	awaitShort(t, w.a, w.b.addr(0), a, b)
	before := carried(a, b)
	transfer(t, w.a, w.b, w.b.addr(0), pattern(32<<20+1))
	transfer(t, w.b, w.a, w.a.addr(0), pattern(32<<20+1))
	if n := carried(a, b) - before; n != 0 {
		t.Errorf("%d packets by processes", n)
	}
	transfer(t, w.a, w.b, w.b.addr(1), pattern(1<<20))
	if n := carried(a, b) - before; n == 0 {
		t.Error("IPv6 by no process")
	}
	a.Close()
	b.Close()
	transfer(t, w.a, w.b, w.b.addr(0), pattern(1<<20))
}

// A packet is the same on the wire whichever way it goes.
func TestShortcutWire(t *testing.T) {
	w := newWorld(t)
	a := w.a.open(1, w.b.peers()...)
	wire, fd := w.b.packets(w.b.local+":8285"), w.a.raw()
	send := func(p []byte) (got []byte) {
		t.Helper()
		if err := unix.Sendto(fd, p, 0, &unix.SockaddrInet4{Addr: [4]byte(p[16:])}); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 2000)
		wire.SetReadDeadline(time.Now().Add(20 * time.Second))
		for {
			n, from, err := wire.ReadFromUDPAddrPort(b)
			switch {
			case err != nil || from.String() != "192.0.2.1:8285":
				t.Fatalf("from %v: %v", from, err)
			case n > 0: // or it tells of its shortcut
				return b[:n]
			}
		}
	}
	packets := map[string][]byte{
		"UDP": datagram("10.5.1.0", "10.5.2.7", 9, []byte("data")), "TCP": segment("10.5.1.9", "10.5.2.7", 1, flagACK, pattern(700)),
		"GRE": ip("10.5.1.0", "10.5.2.255", 47, 0), "full": datagram("10.5.1.0", "10.5.2.7", 9, pattern(1472-28)),
		"TTL 2": aged(datagram("10.5.1.0", "10.5.2.7", 9, nil), 2), "TTL 255": aged(datagram("10.5.1.0", "10.5.2.7", 9, nil), 255),
	}
	want := map[string][]byte{}
	for name, p := range packets {
		binary.BigEndian.PutUint16(p[4:], 4711) // or the kernel chooses
		want[name] = send(aged(p, p[8]))
		if string(want[name]) != string(aged(bytes.Clone(p), p[8]-1)) {
			t.Errorf("%s, by the process: % x", name, want[name])
		}
	}
	w.a.shorten(a, w.b.peers()...)
	if _, err := unsummed(wire).WriteToUDPAddrPort(nil, netip.MustParseAddrPort("192.0.2.1:8285")); err != nil {
		t.Fatal(err)
	}
	await(t, "the shortcut is taken", func() bool {
		before := carried(a)
		for range 3 { // see awaitShort
			send(packets["UDP"])
		}
		return carried(a) == before
	})
	before := carried(a)
	for name, p := range packets {
		if got := send(p); string(got) != string(want[name]) {
			t.Errorf("%s, in the kernel: % x", name, got[:min(len(got), 64)])
		}
	}
	if n := carried(a) - before; n != 0 {
		t.Errorf("%d packets by the process", n)
	}
}

// raw opens a socket that sends packets as they are.
func (e *end) raw() (fd int) {
	err := e.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { syscall.Close(fd) })
	return fd
}

// aged gives a packet of IPv4 a TTL.
func aged(p []byte, ttl byte) []byte {
	p[8] = ttl
	binary.BigEndian.PutUint16(p[10:], 0)
	binary.BigEndian.PutUint16(p[10:], slowSum(p[:20]))
	return p
}

// A host's firewall is asked before a shortcut is taken, and anew in each round.
func TestShortcutAsksFirewall(t *testing.T) {
	for _, hook := range []string{"input", "output"} {
		w := newWorld(t)
		a, b := w.a.open(1, w.b.peers()...), w.b.open(1, w.a.peers()...)
		s := w.a.shorten(a, w.b.peers()...)
		w.b.shorten(b, w.a.peers()...)
		forbid := func() {
			w.a.Must("nft", "add table ip mine; add chain ip mine c { type filter hook "+hook+" priority 0; }; add rule ip mine c udp dport 8285 drop")
		}
		works := func() bool { return w.a.Run("lab-echo", "ping", "-timeout", "200ms", w.b.addr(0)).Code == 0 }
		forbid()
		if works() || works() {
			t.Errorf("%s: past the firewall", hook)
		}
		w.a.Must("nft", "delete table ip mine")
		awaitShort(t, w.a, w.b.addr(0), a, b)
		forbid()
		if err := errors.Join(s.Renew(), s.Renew()); err != nil {
			t.Fatal(err)
		}
		if works() || works() {
			t.Errorf("%s: past the firewall in a later round", hook)
		}
	}
}

// Where datagrams may have to be encrypted there is no shortcut.
func TestShortcutIPsec(t *testing.T) {
	w := newWorld(t)
	a, b := w.a.open(1, w.b.peers()...), w.b.open(1, w.a.peers()...)
	s := w.a.shorten(a, w.b.peers()...)
	w.b.shorten(b, w.a.peers()...)
	awaitShort(t, w.a, w.b.addr(0), a, b)
	w.a.Must("ip", "xfrm", "policy", "add", "src", "203.0.113.1/32", "dst", "203.0.113.2/32", "dir", "out", "priority", "1")
	if err := s.Keep(); err == nil || err.Error() != "shortcut of flannel0: the host has policies of IPsec" {
		t.Errorf("error: %v", err)
	}
	before := carried(a)
	w.a.Must("lab-echo", "ping", w.b.addr(0))
	await(t, "both packets by the process", func() bool { return carried(a)-before == 2 }) // which counts what it has done
	w.a.Must("ip", "xfrm", "policy", "flush")
	if err := s.Keep(); err != nil {
		t.Error(err)
	}
	awaitShort(t, w.a, w.b.addr(0), a, b)
}

// A keeper's shortcuts come back, go on without it, are the next one's then, and go with
// their tunnels.
func TestShortcutKept(t *testing.T) {
	w := newWorld(t)
	w.a.forward()
	w.shortcuts = true
	b := w.b.open(1, w.a.peers()...)
	hooks := func() string {
		return w.a.Must("tc", "filter", "show", "dev", "eth0", "ingress") + w.a.Must("tc", "filter", "show", "dev", device, "egress")
	}
	there := func() bool { return strings.Count(hooks(), "direct-action") == 2 }
	want := []Want{w.a.want(w.b.peers()...)}
	k, _ := w.a.keep()
	k.Want(want)
	await(t, "it is there", there)
	awaitShort(t, w.a, w.b.addr(0), b)
	for _, del := range []string{"filter del dev eth0 ingress", "qdisc del dev eth0 clsact", "qdisc del dev flannel0 clsact"} {
		w.a.Must("tc", strings.Fields(del)...)
		w.a.Must("lab-echo", "ping", w.b.addr(0))
		k.Want(want)
		await(t, "it is back", there)
	}
	awaitShort(t, w.a, w.b.addr(0), b)
	k.Close()
	left := hooks()
	awaitShort(t, w.a, w.b.addr(0), b)
	k, _ = w.a.keep()
	k.Want(want)
	await(t, "it is another one's", func() bool { return there() && hooks() != left })
	awaitShort(t, w.a, w.b.addr(0), b)
	k.Want(nil)
	await(t, "it has gone", func() bool { return !strings.Contains(hooks(), "bpf") })
	k.Want(want)
	await(t, "it is there", there)
	k.Close()
	w.a.Must("ip", "link", "del", device)
	if err := w.a.Do(func() error { return shortcut.Sweep(device) }); err != nil {
		t.Error(err)
	}
	if out := w.a.Must("tc", "filter", "show", "dev", "eth0", "ingress"); strings.Contains(out, "bpf") {
		t.Errorf("left: %s", out)
	}
}
