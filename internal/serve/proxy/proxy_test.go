package proxy

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/lab/netspace"
)

// Where flows come from and how they reach the host; the target is of either
// family. The host's own link-local address cannot be reached by a redirect,
// which takes it to ::1: the socket is bound to the device. Rewriting nothing
// but the port keeps the address.
var routesIn = []struct {
	name     string
	fromHost bool
	verb     string // "" for both
	address  string // without port
	target   string // in the container
}{
	{"loopback to IPv6", true, "", "[::1]", "[2001:db8:2::2]"},
	{"loopback to IPv4", true, "", "[::1]", "172.30.0.2"},
	{"loopback v4 to IPv6", true, "", "127.0.0.1", "[2001:db8:2::2]"},
	{"own address", true, "", "[2001:db8:1::1]", "172.30.0.2"},
	{"own link-local", true, "dnat to", "[fe80::1%lan]", "172.30.0.2"},
	{"link-local", false, "", "[fe80::1%eth0]", "[2001:db8:2::2]"},
	{"global to IPv4", false, "", "[2001:db8:1::1]", "172.30.0.2"},
	{"IPv4 to IPv6", false, "", "192.0.2.1", "[2001:db8:2::2]"},
}

// eachRoute runs f with an address that leads to a port of the container.
func eachRoute(t *testing.T, port string, f func(t *testing.T, w world, fromHost bool, address string)) {
	p, resolve, w := start(t, map[uint16]string{})
	next := uint16(1000)
	for _, verb := range []string{"redirect to", "dnat to"} {
		take(t, p, verb)
		for _, r := range routesIn {
			if r.verb != "" && r.verb != verb {
				continue
			}
			t.Run(verb+"/"+r.name, func(t *testing.T) {
				next++
				resolve.set(next, r.target+port)
				f(t, w, r.fromHost, fmt.Sprint(r.address, ":", next))
			})
		}
	}
}

func TestTCP(t *testing.T) {
	theWorld().serveTCP(t, ":80", echo)
	eachRoute(t, ":80", func(t *testing.T, w world, fromHost bool, address string) {
		c := connect(t, w, fromHost, "tcp", address)
		ask(t, c, "hello", "hello")
		c.(*net.TCPConn).CloseWrite()
		if rest, err := io.ReadAll(c); err != nil || len(rest) != 0 {
			t.Errorf("after the end: %q, %v", rest, err)
		}
	})
}

func TestUDP(t *testing.T) {
	theWorld().serveUDP(t, ":53", "a")
	eachRoute(t, ":53", func(t *testing.T, w world, fromHost bool, address string) {
		// A connected socket takes answers only from where it sent to.
		c := connect(t, w, fromHost, "udp", address)
		ask(t, c, "one", "a:one")
		ask(t, c, "two", "a:two")
		ask(t, c, "", "a:")
		big := strings.Repeat("x", 9000)
		ask(t, c, big, "a:"+big)
	})
}

// One client socket talks to two published ports: the packets differ in
// nothing but their original destination.
func TestUDPTwoDestinationsOneClientPort(t *testing.T) {
	_, _, w := start(t, map[uint16]string{1001: "172.30.0.2:5301", 1002: "172.30.0.2:5302"})
	w.serveUDP(t, ":5301", "a")
	w.serveUDP(t, ":5302", "b")
	c, err := netspace.In(w.client, func() (net.PacketConn, error) { return net.ListenPacket("udp", ":0") })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for port, want := range map[int]string{1001: "a:x", 1002: "b:x"} {
		to := &net.UDPAddr{IP: net.ParseIP("2001:db8:1::1"), Port: port}
		if _, err := c.WriteTo([]byte("x"), to); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(2 * time.Second))
		buf := make([]byte, 10)
		n, from, err := c.ReadFrom(buf)
		if err != nil || string(buf[:n]) != want || from.(*net.UDPAddr).Port != port {
			t.Errorf("port %d: got %q from %v, %v", port, buf[:n], from, err)
		}
	}
}

// The client says that it is done; the container goes on for a while.
func TestHalfClose(t *testing.T) {
	_, _, w := start(t, map[uint16]string{1000: "172.30.0.2:80"})
	w.serveTCP(t, ":80", func(c *net.TCPConn) {
		all, _ := io.ReadAll(c)
		time.Sleep(100 * time.Millisecond)
		fmt.Fprintf(c, "%d bytes", len(all))
		c.Close()
	})
	c := connect(t, w, true, "tcp", "[::1]:1000")
	io.WriteString(c, "hello")
	c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != "5 bytes" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestBulk(t *testing.T) {
	_, _, w := start(t, map[uint16]string{1000: "172.30.0.2:80"})
	w.serveTCP(t, ":80", echo)
	c := connect(t, w, true, "tcp", "[::1]:1000")
	block := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	const blocks = 100
	sent, got := sha256.New(), sha256.New()
	go func() {
		for i := range blocks {
			block[i] ^= 0x55
			sent.Write(block)
			c.Write(block)
		}
		c.(*net.TCPConn).CloseWrite()
	}()
	begin := time.Now()
	n, err := io.Copy(got, c)
	if err != nil || n != blocks<<20 || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Fatalf("%d bytes came back, %v", n, err)
	}
	t.Logf("%d MiB there and back in %v", blocks, time.Since(begin))
}

// Whatever cannot be served is reset, so that a client knows at once.
func TestReset(t *testing.T) {
	p, _, w := start(t, map[uint16]string{
		1000: "172.30.0.2:81",       // nobody listens
		1001: "192.0.2.1:1000",      // the host itself
		1002: "127.0.0.1:1000",      // the host itself
		1003: "[2001:db8:1::1]:100", // the host itself
		1004: "198.51.100.1:80",     // no route
	})
	for name, address := range map[string]string{
		"refused":     "[::1]:1000",
		"loop":        "[::1]:1001",
		"loop v4":     "127.0.0.1:1002",
		"loop v6":     "[::1]:1003",
		"unreachable": "[::1]:1004",
		"nobody":      "[::1]:1005",
		"direct":      fmt.Sprintf("[::1]:%d", p.Port()),
		"direct v4":   fmt.Sprintf("127.0.0.1:%d", p.Port()),
	} {
		t.Run(name, func(t *testing.T) {
			dialReset(t, nil, address)
		})
	}
	t.Run("direct from elsewhere", func(t *testing.T) {
		dialReset(t, &w.client, fmt.Sprintf("192.0.2.1:%d", p.Port()))
	})
	t.Run("direct UDP", func(t *testing.T) {
		c := connect(t, w, false, "udp", fmt.Sprintf("192.0.2.1:%d", p.Port()))
		silent(t, c)
	})
}

// A container that breaks the connection breaks the client's.
func TestTargetResets(t *testing.T) {
	_, _, w := start(t, map[uint16]string{1000: "172.30.0.2:80"})
	w.serveTCP(t, ":80", func(c *net.TCPConn) {
		io.ReadFull(c, make([]byte, 2))
		abort(c)
	})
	c := connect(t, w, true, "tcp", "[::1]:1000")
	io.WriteString(c, "hi")
	wantReset(t, c)
}

func TestRecheck(t *testing.T) {
	p, resolve, w := start(t, map[uint16]string{
		1000: "172.30.0.2:80", 1001: "172.30.0.2:80", 1002: "172.30.0.2:53", 1003: "172.30.0.2:80",
	})
	w.serveTCP(t, ":80", echo)
	w.serveUDP(t, ":53", "a")
	w.serveUDP(t, ":54", "b")
	stays := connect(t, w, true, "tcp", "[::1]:1000")
	gone := connect(t, w, true, "tcp", "[::1]:1001")
	moved := connect(t, w, true, "tcp", "[::1]:1003")
	datagrams := connect(t, w, true, "udp", "[::1]:1002")
	for _, c := range []net.Conn{stays, gone, moved} {
		ask(t, c, "x", "x")
	}
	ask(t, datagrams, "x", "a:x")

	resolve.set(1001, "")
	resolve.set(1002, "172.30.0.2:54")
	resolve.set(1003, "[2001:db8:2::2]:80")
	ask(t, gone, "still", "still") // the flow began before, and nobody said Recheck
	p.Recheck()

	wantReset(t, gone)
	wantReset(t, moved)
	ask(t, stays, "x", "x")
	eventually(t, func() bool { return exchange(datagrams, "x") == "b:x" })
	resolve.set(1002, "")
	p.Recheck()
	eventually(t, func() bool { return exchange(datagrams, "x") == "" })
}

// After a silence the same client port may mean another destination.
func TestUDPAsksAgain(t *testing.T) {
	p, _, w := start(t, map[uint16]string{1001: "172.30.0.2:53", 1002: "172.30.0.2:54"})
	w.serveUDP(t, ":53", "a")
	w.serveUDP(t, ":54", "b")
	r := newRelayUDP(p, p.sockets.udp[0])
	c := connect(t, w, false, "udp", "192.0.2.1:1001")
	ask(t, c, "x", "a:x")
	key := udpKey{client: c.LocalAddr().(*net.UDPAddr).AddrPort(), local: addr("192.0.2.1")}
	f, err := r.flowOf(key)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := r.flowOf(key); err != nil || again != f {
		t.Fatalf("a flow in use: %v, %v", again, err)
	}
	f.heard = f.heard.Add(-2 * udpAskAgain)
	if again, err := r.flowOf(key); err != nil || again != f {
		t.Fatalf("the same destination after a silence: %v, %v", again, err)
	}
	sh("conntrack -D -p udp --dport 1001", nil)
	local := c.LocalAddr().String()
	c.Close()
	c2, err := dial(&w.client, "udp", local, "192.0.2.1:1002")
	if err != nil {
		t.Fatal(err)
	}
	defer c2.Close()
	c2.Write([]byte("x"))
	f.heard = f.heard.Add(-2 * udpAskAgain)
	eventually(t, func() bool {
		again, err := r.flowOf(key)
		return err == nil && again.dst.Port() == 1002
	})
	if f.Err() == nil {
		t.Error("the old flow goes on")
	}
}

func TestUDPLimits(t *testing.T) {
	p, _, w := start(t, map[uint16]string{1001: "172.30.0.2:53"})
	w.serveUDP(t, ":53", "a")
	const most = candidates - 1 // all are looked at
	limitUDP(p, most)
	r := newRelayUDP(p, p.sockets.udp[0])
	begin := time.Now().Add(time.Hour)
	flow := func(i int) *udpFlow {
		key := udpKey{client: addrPort(fmt.Sprintf("192.0.2.2:%d", 1+i)), local: addr("192.0.2.1")}
		f, err := r.begin(key, addrPort("192.0.2.1:1001"), begin.Add(time.Duration(i)))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	first := flow(0)
	second := flow(1)
	for i := 2; i <= most; i++ {
		flow(i)
	}
	if first.Err() == nil || second.Err() != nil {
		t.Error("the longest idle flow should have gone")
	}
	eventually(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.talks) == most
	})
	second.last.Store(begin.Add(time.Second).UnixNano())
	r.expire(begin.Add(time.Millisecond))
	eventually(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.talks) == 1 && r.talks[second.key] == second
	})
}

// A client that sends from every port it has ends no conversation of another's.
func TestUDPFlood(t *testing.T) {
	p, _, w := start(t, map[uint16]string{1001: "172.30.0.2:53", 1002: "172.30.0.2:54"})
	w.serveUDP(t, ":53", "a")
	w.serveUDP(t, ":54", "b")
	const most = 100
	limitUDP(p, most)
	quiet := connect(t, w, true, "udp", "[::1]:1002")
	ask(t, quiet, "x", "b:x")
	p.flows.mu.Lock()
	var its *flow
	for f := range p.flows.udp.open {
		its = f
	}
	p.flows.mu.Unlock()
	for i := range 20 * most {
		c, err := dial(&w.client, "udp", "", "[2001:db8:1::1]:1001")
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("x"))
		c.Close()
		if i%most == 0 {
			ask(t, quiet, "y", "b:y")
		}
	}
	ask(t, quiet, "z", "b:z")
	p.flows.mu.Lock()
	defer p.flows.mu.Unlock()
	if n := len(p.flows.udp.open); its.Err() != nil || n > most {
		t.Errorf("of %d flows the quiet one has gone: %v", n, its.Err())
	}
}

func TestClose(t *testing.T) {
	p, _, w := start(t, map[uint16]string{1000: "172.30.0.2:80", 1001: "172.30.0.2:53"})
	w.serveTCP(t, ":80", echo)
	w.serveUDP(t, ":53", "a")
	c := connect(t, w, true, "tcp", "[::1]:1000")
	ask(t, c, "x", "x")
	u := connect(t, w, true, "udp", "[::1]:1001")
	ask(t, u, "x", "a:x")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	wantReset(t, c)
	if _, err := dial(nil, "tcp", "", "[::1]:1000"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("after Close: %v", err)
	}
	eventually(t, func() bool {
		p.flows.mu.Lock()
		defer p.flows.mu.Unlock()
		return len(p.flows.tcp.open)+len(p.flows.udp.open) == 0
	})
}
