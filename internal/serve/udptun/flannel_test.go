package udptun

import (
	"context"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

// plain is a host with flanneld's end of the wire.
func plain(e *end, routes ...Peer) {
	e.t.Helper()
	args := []string{"flannel", "plain0", e.local}
	for _, r := range routes {
		if r.Prefix.Addr().Is4() {
			args = append(args, r.Prefix.String()+"="+r.Addr.String())
		}
	}
	e.Must("ip", "link", "del", device) // is another's
	p := e.Start("lab-echo", args...)
	ctx, cancel := context.WithTimeout(e.t.Context(), 10*time.Second)
	defer cancel()
	if err := p.Await(ctx, func(line string) bool { return line == "ready" }); err != nil {
		e.t.Fatalf("%v\n%s", err, p.Output())
	}
	e.Must("ip", "link", "set", "plain0", "mtu", "1472")
	e.Must("ip", "addr", "add", e.addr(0)+"/16", "dev", "plain0")
	e.Must("ip", "link", "set", "plain0", "up")
}

func TestPlainPeer(t *testing.T) { bothWays(t, testPlainPeer) }

func testPlainPeer(t *testing.T, w *world) {
	a := w.a.open(1, w.b.peers()...)
	plain(w.b, w.a.peers()...)
	w.a.Must("lab-echo", "ping", w.b.addr(0))
	w.b.Must("lab-echo", "ping", "-size", "3000", w.a.addr(0))
	transfer(t, w.a, w.b, w.b.addr(0), pattern(4<<20))
	transfer(t, w.b, w.a, w.a.addr(0), pattern(4<<20))
	if s := a.Stats(); s.Drops[Spoofed]+s.Drops[NotOurs]+s.Drops[Malformed]+s.Drops[Unwritten] != 0 {
		t.Errorf("%+v", s)
	}
}

// On the wire there is the packet and nothing else, one TTL older.
func TestWire(t *testing.T) {
	w := newWorld(t)
	w.a.open(1, w.b.peers()...)
	wire := w.b.packets(w.b.local + ":8285")
	from := w.a.packets("10.5.1.0:5000")
	if _, err := from.WriteToUDPAddrPort([]byte("data"), netip.MustParseAddrPort("10.5.2.7:9")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2000)
	n, source, err := wire.ReadFromUDPAddrPort(b)
	if err != nil || source.String() != "192.0.2.1:8285" && source.Addr().Unmap().String() != "192.0.2.1" || source.Port() != 8285 {
		t.Fatalf("from %v: %v", source, err)
	}
	want := datagram("10.5.1.0", "10.5.2.7", 9, []byte("data"))
	copy(want[4:8], b[4:8]) // number and flags are the kernel's choice
	want[8] = 63
	binary.BigEndian.PutUint16(want[10:], 0)
	binary.BigEndian.PutUint16(want[10:], slowSum(want[:20]))
	if string(b[:n]) != string(want) {
		t.Errorf("got\n% x\nwant\n% x", b[:n], want)
	}
}
