package udptun

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/sealane/sealane/internal/lab"
)

// argTunnel as name of the test binary makes it a tunnel of its own process:
//
//	udptun-tunnel QUEUES LOCAL SUBNET,… PREFIX=ADDR,…
const argTunnel = "udptun-tunnel"

func TestMain(m *testing.M) {
	mains := map[string]func([]string) error{argTunnel: tunnelMain, argSink: sinkMain, argSource: sourceMain, argAsk: askMain}
	if run := mains[os.Args[0]]; run != nil {
		if err := run(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	lab.Main(m)
}

// tunnelMain carries until it is told to end, then prints what it has done. It
// writes a profile where UDPTUN_PROFILE says.
func tunnelMain(args []string) error {
	if path := os.Getenv("UDPTUN_PROFILE"); path != "" {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	queues, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	c := Config{Queues: queues, Local: []netip.Addr{netip.MustParseAddr(args[1])}}
	for s := range strings.SplitSeq(args[2], ",") {
		c.Subnets = append(c.Subnets, netip.MustParsePrefix(s))
	}
	t, err := Open(device, c)
	if err != nil {
		return err
	}
	if err := t.SetPeers(peersOf(strings.Split(args[3], ",")...)); err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt)
	fmt.Println("ready")
	<-stop
	fmt.Printf("%+v\n", t.Stats())
	return t.Close()
}

const device = "flannel0"

// peersOf reads PREFIX=ADDR.
func peersOf(text ...string) []Peer {
	var out []Peer
	for _, s := range text {
		prefix, addr, _ := strings.Cut(s, "=")
		out = append(out, Peer{netip.MustParsePrefix(prefix), netip.MustParseAddr(addr)})
	}
	return out
}

// end is a host with a device for a tunnel.
type end struct {
	*lab.Host
	world  *world
	t      testing.TB
	local  string
	subnet []netip.Prefix
}

// world is two hosts on a switch:
//
//	     a                                     b
//	flannel0 10.5.1.0, fd05:1::            flannel0 10.5.2.0, fd05:2::
//	    │ tunnel                                │ tunnel
//	eth0 192.0.2.1 ──────── lan ─────────── eth0 192.0.2.2
type world struct {
	lab  *lab.Lab
	lan  *lab.Switch
	a, b *end

	shortcuts bool // that tunnels have
}

func newWorld(t testing.TB) *world {
	t.Helper()
	l := lab.New(t)
	w := &world{lab: l, lan: l.Switch("lan")}
	w.a, w.b = w.host(t, "a", 1), w.host(t, "b", 2)
	return w
}

// host adds the n-th host.
func (w *world) host(t testing.TB, name string, n int) *end {
	t.Helper()
	e := &end{Host: w.lab.Host(name), world: w, t: t, local: fmt.Sprintf("192.0.2.%d", n)}
	e.Plug(w.lan, "eth0", e.local+"/24", fmt.Sprintf("2001:db8::%d/64", n))
	e.subnet = []netip.Prefix{
		netip.MustParsePrefix(fmt.Sprintf("10.5.%d.0/24", n)), netip.MustParsePrefix(fmt.Sprintf("fd05:%d::/64", n)),
	}
	err := e.Do(func() error { return makeDevice(e.addr(0), e.addr(1)) })
	if err != nil {
		t.Fatalf("%s: device: %v", name, err)
	}
	return e
}

// addr is the host's tunnel address, of IPv4 (0) or IPv6 (1).
func (e *end) addr(family int) string { return e.subnet[family].Addr().String() }

// peers are what others need to know of the host.
func (e *end) peers() []Peer {
	var out []Peer
	for _, p := range e.subnet {
		out = append(out, Peer{p, netip.MustParseAddr(e.local)})
	}
	return out
}

// makeDevice makes the device that a tunnel is opened on, as the kernel layer
// will: persistent, with one address per family and the route to all.
func makeDevice(addr4, addr6 string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = device, 1500-Overhead
	link := &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TUN, Queues: 1,
		Flags: netlink.TUNTAP_MULTI_QUEUE_DEFAULTS | netlink.TUNTAP_VNET_HDR}
	if err := netlink.LinkAdd(link); err != nil {
		return err
	}
	for _, f := range link.Fds {
		f.Close()
	}
	if err := netlink.LinkSetMTU(link, 1500-Overhead); err != nil {
		return err
	}
	for _, s := range []string{addr4 + "/32", addr6 + "/128"} {
		addr, err := netlink.ParseAddr(s)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	for _, s := range []string{"10.5.0.0/16", "fd05::/16"} {
		_, dst, err := net.ParseCIDR(s)
		if err != nil {
			return err
		}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Index, Dst: dst}); err != nil {
			return err
		}
	}
	return nil
}

// open opens a tunnel on a host; it is closed with the test.
func (e *end) open(queues int, peers ...Peer) *Tunnel {
	e.t.Helper()
	var tunnel *Tunnel
	err := e.Do(func() (err error) {
		tunnel, err = Open(device, Config{Local: []netip.Addr{netip.MustParseAddr(e.local)}, Subnets: e.subnet, Queues: queues})
		return err
	})
	if err != nil {
		e.t.Fatalf("%s: %v", e.Name, err)
	}
	e.t.Cleanup(func() { tunnel.Close() })
	if err := tunnel.SetPeers(peers); err != nil {
		e.t.Fatal(err)
	}
	if e.world.shortcuts {
		e.shorten(tunnel, peers...)
	}
	return tunnel
}

// pair opens the tunnels of both hosts.
func (w *world) pair(queues int) (a, b *Tunnel) {
	return w.a.open(queues, w.b.peers()...), w.b.open(queues, w.a.peers()...)
}

// listen listens on a host.
func (e *end) listen(network, addr string) (l net.Listener) {
	e.t.Helper()
	if err := e.Do(func() (err error) { l, err = net.Listen(network, addr); return err }); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { l.Close() })
	return l
}

// dial connects from a host.
func (e *end) dial(network, addr string) (c net.Conn) {
	e.t.Helper()
	err := e.Do(func() (err error) { c, err = net.DialTimeout(network, addr, 20*time.Second); return err })
	if err != nil {
		e.t.Fatalf("%s: %v", e.Name, err)
	}
	e.t.Cleanup(func() { c.Close() })
	return c
}

// packets opens a UDP socket on a host.
func (e *end) packets(addr string) (c *net.UDPConn) {
	e.t.Helper()
	err := e.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
		return err
	})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { c.Close() })
	return c
}

// pattern is data whose order can be seen.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>8)*7 ^ byte(i>>16)
	}
	return b
}

// transfer sends data over TCP from one host to an address of the other, in
// both directions at once, and compares what came.
func transfer(t testing.TB, from, to *end, addr string, data []byte) {
	t.Helper()
	l := to.listen("tcp", net.JoinHostPort(addr, "0"))
	served := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			served <- err
			return
		}
		defer c.Close()
		served <- swap(c, data)
	}()
	c := from.dial("tcp", l.Addr().String())
	if err := swap(c, data); err != nil {
		t.Errorf("%s: %v", from.Name, err)
	}
	if err := <-served; err != nil {
		t.Errorf("%s: %v", to.Name, err)
	}
}

// swap sends data and expects the same.
func swap(c net.Conn, data []byte) error {
	c.SetDeadline(time.Now().Add(30 * time.Second))
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		wrote <- err
	}()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != string(data) {
		return fmt.Errorf("other data came")
	}
	return <-wrote
}
