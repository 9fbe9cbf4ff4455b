package proxy

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/lab/netspace"
)

func addr(s string) netip.Addr         { return netip.MustParseAddr(s) }
func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func limitUDP(p *Proxy, most int) {
	p.flows.mu.Lock()
	defer p.flows.mu.Unlock()
	p.flows.udp.most = most
}

// connect dials from the host or from the client, and closes with the test.
func connect(t *testing.T, w world, fromHost bool, network, address string) net.Conn {
	t.Helper()
	from := &w.client
	if fromHost {
		from = nil
	}
	c, err := dial(from, network, "", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ask sends and wants an answer of that length and text.
func ask(t *testing.T, c net.Conn, send, want string) {
	t.Helper()
	if _, err := c.Write([]byte(send)); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	buf := make([]byte, len(want))
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != want {
		t.Fatalf("sent %.20q: got %.20q, %v", send, buf, err)
	}
}

// exchange sends a datagram and returns the answer, "" if none comes soon.
func exchange(c net.Conn, send string) string {
	c.Write([]byte(send))
	c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	buf := make([]byte, 100)
	n, _ := c.Read(buf)
	return string(buf[:n])
}

func silent(t *testing.T, c net.Conn) {
	t.Helper()
	c.Write([]byte("x"))
	c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d bytes, %v", n, err)
	}
}

func wantReset(t *testing.T, c net.Conn) {
	t.Helper()
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("want a reset, got %d bytes, %v", n, err)
	}
}

// dialReset wants a connection that is reset, maybe before dial returns.
func dialReset(t *testing.T, from *netspace.Space, address string) {
	t.Helper()
	c, err := dial(from, "tcp", "", address)
	switch {
	case errors.Is(err, unix.ECONNRESET):
	case err != nil:
		t.Error(err)
	default:
		wantReset(t, c)
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not come to pass")
		}
	}
}
