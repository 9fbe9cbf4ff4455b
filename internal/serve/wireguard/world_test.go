package wireguard

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/sealane/sealane/internal/feature"
	"github.com/sealane/sealane/internal/feature/featuretest"
	"github.com/sealane/sealane/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

const slt = "slt0"

// end is a host with a device that is kept.
type end struct {
	*lab.Host
	t      testing.TB
	served bool
	key    Secret
	at     netip.AddrPort
	subnet netip.Prefix
	log    *lockedBuffer
	keeper *Keeper
}

// world is two hosts on a switch, with devices of the kernel's or served ones:
//
//	     a                                     b
//	slt0 10.5.1.0                         slt0 10.5.2.0
//	    │                                     │
//	eth0 192.0.2.1 ──────── lan ─────────── eth0 192.0.2.2
type world struct {
	lan  *lab.Switch
	a, b *end
}

// eachKind runs a test on served devices, and on the kernel's where there are any.
func eachKind(t *testing.T, test func(*testing.T, *world)) {
	t.Run("served", func(t *testing.T) {
		featuretest.Require(t, feature.TUN)
		test(t, newWorld(t, true))
	})
	t.Run("native", func(t *testing.T) {
		featuretest.Require(t, feature.WireGuard)
		test(t, newWorld(t, false))
	})
}

func newWorld(t *testing.T, served bool) *world {
	t.Helper()
	l := lab.New(t)
	w := &world{lan: l.Switch("lan")}
	w.a, w.b = w.host(l, t, "a", 1, served), w.host(l, t, "b", 2, served)
	return w
}

// host adds the n-th host.
func (w *world) host(l *lab.Lab, t *testing.T, name string, n byte, served bool) *end {
	t.Helper()
	addr := netip.AddrFrom4([4]byte{192, 0, 2, n})
	e := &end{Host: l.Host(name), t: t, served: served, key: NewSecret(), at: netip.AddrPortFrom(addr, 51820),
		subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 5, n, 0}), 24), log: &lockedBuffer{}}
	e.Plug(w.lan, "eth0", addr.String()+"/24")
	e.make()
	e.keep()
	return e
}

// make makes the host's device as the kernel layer does: with an address, up, and the
// route to all.
func (e *end) make() {
	e.t.Helper()
	if err := e.Do(e.makeDevice); err != nil {
		e.t.Fatalf("%s: device: %v", e.Name, err)
	}
}

func (e *end) makeDevice() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = slt, 1420
	var link netlink.Link = &netlink.Wireguard{LinkAttrs: attrs}
	tun := &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TUN, Queues: 1,
		Flags: netlink.TUNTAP_MULTI_QUEUE_DEFAULTS | netlink.TUNTAP_VNET_HDR}
	if e.served {
		link = tun
	}
	if err := netlink.LinkAdd(link); err != nil {
		return err
	}
	for _, f := range tun.Fds {
		f.Close()
	}
	link, err := netlink.LinkByName(slt)
	if err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: netlink.NewIPNet(e.subnet.Addr().AsSlice())}
	if err := netlink.LinkSetMTU(link, 1420); err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	_, all, _ := net.ParseCIDR("10.5.0.0/16")
	return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: all})
}

// inside is a device that is told and asked in its host's namespace.
type inside struct {
	keeping
	e *end
}

func (i inside) read() (s state, err error) {
	if doErr := i.e.Do(func() error { s, err = i.keeping.read(); return nil }); doErr != nil {
		return s, doErr
	}
	return s, err
}

func (i inside) change(c change) (err error) {
	if doErr := i.e.Do(func() error { err = i.keeping.change(c); return nil }); doErr != nil {
		return doErr
	}
	return err
}

// keep begins to keep the host's device; the test's end ends it.
func (e *end) keep() {
	k := NewKeeper(slog.New(slog.NewTextHandler(e.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	open := k.open
	k.open = func(w Want) (dev keeping, err error) {
		if doErr := e.Do(func() error { dev, err = open(w); return nil }); doErr != nil {
			return nil, doErr
		}
		return inside{dev, e}, err
	}
	e.keeper = k
	e.t.Cleanup(func() { k.Close() })
}

// want is the host's device with others as peers.
func (e *end) want(others ...*end) Want {
	w := Want{Device: slt, Served: e.served, Port: e.at.Port(), Private: e.key, Shared: Secret{42}}
	for _, o := range others {
		w.Peers = append(w.Peers, Peer{o.key.Public(), o.at, []netip.Prefix{o.subnet}})
	}
	return w
}

// meet has both hosts know each other.
func (w *world) meet() {
	w.a.keeper.Want([]Want{w.a.want(w.b)})
	w.b.keeper.Want([]Want{w.b.want(w.a)})
}

// reach sends a datagram from a host's address to another's until it is there. Where both
// began a handshake at once, wireguard-go may be left with keys that do not fit, and begins
// another after 15 s without an answer (KeepaliveTimeout and RekeyTimeout).
func (e *end) reach(o *end) {
	e.t.Helper()
	var l net.PacketConn
	if err := o.Do(func() (err error) { l, err = net.ListenPacket("udp", o.subnet.Addr().String()+":7"); return err }); err != nil {
		e.t.Fatal(err)
	}
	defer l.Close()
	var c net.Conn
	if err := e.Do(func() (err error) { c, err = net.Dial("udp", o.subnet.Addr().String()+":7"); return err }); err != nil {
		e.t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 16)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		_, _ = c.Write([]byte("hello"))
		_ = l.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, from, err := l.ReadFrom(buf); err == nil {
			if got := from.(*net.UDPAddr).AddrPort().Addr(); got != e.subnet.Addr() {
				e.t.Errorf("from %v", got)
			}
			return
		}
	}
	e.t.Fatalf("%s does not reach %s\n%s\n%s", e.Name, o.Name, e.log, o.log)
}

// await waits until a condition holds.
func await(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so after %v: %s", limit, what)
		}
	}
}

// lockedBuffer keeps what is logged.
type lockedBuffer struct {
	mu sync.Mutex // protects the following
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// stream sends numbered datagrams from one host's address to another's until ctx is
// done, and returns how many were lost, and how many there were.
func (e *end) stream(ctx context.Context, o *end, every time.Duration) (lost, sent int, err error) {
	var l net.PacketConn
	var c net.Conn
	if err := o.Do(func() (err error) { l, err = net.ListenPacket("udp", o.subnet.Addr().String()+":9"); return err }); err != nil {
		return 0, 0, err
	}
	defer l.Close()
	if err := e.Do(func() (err error) { c, err = net.Dial("udp", o.subnet.Addr().String()+":9"); return err }); err != nil {
		return 0, 0, err
	}
	defer c.Close()
	got := make(chan int)
	go func() {
		n := 0
		for buf := make([]byte, 64); ; n++ {
			if _, _, err := l.ReadFrom(buf); err != nil {
				got <- n
				return
			}
		}
	}()
	for ; ctx.Err() == nil; sent++ {
		_, _ = fmt.Fprint(c, sent)
		time.Sleep(every)
	}
	time.Sleep(200 * time.Millisecond)
	l.Close()
	return sent - <-got, sent, nil
}
