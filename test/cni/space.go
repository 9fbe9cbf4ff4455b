package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// space is a container as CNI knows one: an id and a network namespace. Its
// loopback is up.
type space struct {
	id   string // CNI_CONTAINERID
	path string // CNI_NETNS
}

// newSpace makes a namespace and binds it to a name like those of ip-netns(8).
func newSpace(id, name string) (*space, error) {
	s := &space{id, filepath.Join("/run/netns", name)}
	err := apart(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		if err := setUp("lo"); err != nil {
			return err
		}
		if err := os.WriteFile(s.path, nil, 0o444); err != nil {
			return err
		}
		return unix.Mount("/proc/thread-self/ns/net", s.path, "", unix.MS_BIND, "")
	})
	if err != nil {
		return nil, fmt.Errorf("namespace %s: %w", s.path, err)
	}
	return s, nil
}

// end takes the namespace's name away, and with it the namespace unless
// somebody else holds it. It may be gone.
func (s *space) end() error {
	if err := unix.Unmount(s.path, unix.MNT_DETACH); err != nil {
		return ignore(err, unix.ENOENT, unix.EINVAL)
	}
	return os.Remove(s.path)
}

func ignore(err error, these ...error) error {
	for _, e := range these {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// apart calls fn on a thread that ends with it.
func apart(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good
		done <- fn()
	}()
	return <-done
}

// do calls fn on a thread inside the namespace. Goroutines that fn starts are
// not there; sockets that it makes stay there.
func (s *space) do(fn func() error) error {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	return apart(func() error {
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return fn()
	})
}

// handle calls fn with a netlink socket in the namespace; a nil space is the host.
func (s *space) handle(fn func(*netlink.Handle) error) error {
	if s == nil {
		return withHandle(netlink.NewHandle(unix.NETLINK_ROUTE))(fn)
	}
	ns, err := netns.GetFromPath(s.path)
	if err != nil {
		return err
	}
	defer ns.Close()
	return withHandle(netlink.NewHandleAt(ns, unix.NETLINK_ROUTE))(fn)
}

func withHandle(h *netlink.Handle, err error) func(func(*netlink.Handle) error) error {
	return func(fn func(*netlink.Handle) error) error {
		if err != nil {
			return err
		}
		defer h.Close()
		for {
			err := fn(h)
			if !errors.Is(err, netlink.ErrDumpInterrupted) {
				return err
			}
		}
	}
}

// link is a device as the kernel has it.
type link struct {
	index     int
	name, mac string
	kind      string
	mtu       int
	up        bool
	addresses []string // in CIDR notation, without link-local ones
}

// links returns the devices of a namespace, or of the host, by name.
func (s *space) links() (map[string]link, error) {
	var out map[string]link
	err := s.handle(func(h *netlink.Handle) error {
		out = map[string]link{}
		list, err := h.LinkList()
		if err != nil {
			return err
		}
		for _, l := range list {
			one, err := describe(h, l)
			if err != nil {
				return err
			}
			out[one.name] = one
		}
		return nil
	})
	return out, err
}

func describe(h *netlink.Handle, l netlink.Link) (link, error) {
	a := l.Attrs()
	out := link{a.Index, a.Name, a.HardwareAddr.String(), l.Type(), a.MTU, a.Flags&net.FlagUp != 0, nil}
	addrs, err := h.AddrList(l, unix.AF_UNSPEC)
	for _, addr := range addrs {
		if !addr.IP.IsLinkLocalUnicast() {
			out.addresses = append(out.addresses, addr.IPNet.String())
		}
	}
	return out, ignore(err, unix.ENODEV)
}

// routes returns the routes of a namespace's main table as "DST via GW dev NAME".
func (s *space) routes() ([]string, error) {
	var out []string
	err := s.handle(func(h *netlink.Handle) error {
		out = nil
		list, err := h.RouteList(nil, unix.AF_UNSPEC)
		for _, r := range list {
			l, failed := h.LinkByIndex(r.LinkIndex)
			if failed != nil {
				continue
			}
			via := ""
			if r.Gw != nil {
				via = " via " + r.Gw.String()
			}
			out = append(out, fmt.Sprintf("%v%s dev %s", r.Dst, via, l.Attrs().Name))
		}
		return err
	})
	return out, err
}

// hasRoute says whether there is a route to dst, by gw unless that is empty, on
// the device.
func (s *space) hasRoute(dst, gw, device string) (bool, error) {
	routes, err := s.routes()
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(routes, func(r string) bool {
		return strings.HasPrefix(r, dst+" ") && strings.HasSuffix(r, " dev "+device) && (gw == "" || strings.Contains(r, " via "+gw+" "))
	}), nil
}

// onLink calls fn with a device of the namespace.
func (s *space) onLink(name string, fn func(*netlink.Handle, netlink.Link) error) error {
	return s.handle(func(h *netlink.Handle) error {
		l, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		return fn(h, l)
	})
}

// occupy makes a device of ours with a name in the namespace.
func (s *space) occupy(name string) error {
	return s.handle(func(h *netlink.Handle) error {
		return h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}})
	})
}

// pingTimeout is how long an answer may take: the first one waits for ARP, and
// a bridge may still be listening.
const pingTimeout = 5 * time.Second

// ping has the namespace ask an address for an echo until it answers.
func (s *space) ping(to netip.Addr) error {
	network, protocol, ask := "ip4:icmp", 1, icmp.Type(ipv4.ICMPTypeEcho)
	if to.Is6() {
		network, protocol, ask = "ip6:ipv6-icmp", 58, ipv6.ICMPTypeEchoRequest
	}
	return s.do(func() error {
		c, err := net.ListenPacket(network, "")
		if err != nil {
			return err
		}
		defer c.Close()
		for deadline := time.Now().Add(pingTimeout); time.Now().Before(deadline); {
			if err = echo(c, protocol, ask, to); err == nil {
				return nil
			}
			time.Sleep(50 * time.Millisecond)
		}
		return fmt.Errorf("no echo from %v within %v: %w", to, pingTimeout, err)
	})
}

// echo sends one request and waits half a second for the reply.
func echo(c net.PacketConn, protocol int, ask icmp.Type, to netip.Addr) error {
	m := icmp.Message{Type: ask, Body: &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: 1, Data: []byte("sealane")}}
	b, err := m.Marshal(nil) // the kernel computes the checksum of ICMPv6
	if err != nil {
		return err
	}
	if err := c.SetDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
		return err
	}
	if _, err := c.WriteTo(b, &net.IPAddr{IP: to.AsSlice()}); err != nil {
		return err
	}
	for buf := make([]byte, 1500); ; {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return err
		}
		reply, err := icmp.ParseMessage(protocol, buf[:n])
		if err == nil && (reply.Type == ipv4.ICMPTypeEchoReply || reply.Type == ipv6.ICMPTypeEchoReply) && from.String() == to.String() {
			return nil
		}
	}
}

// listen returns a TCP listener in the namespace, on a port of all addresses.
func (s *space) listen(port int) (net.Listener, error) {
	var l net.Listener
	err := s.do(func() (err error) {
		l, err = net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
		return err
	})
	return l, err
}

// dial connects from the namespace. Closing the connection resets it: one that
// waits for an end that DEL has cut off would hold the namespace for a minute.
func (s *space) dial(addr string) (net.Conn, error) {
	var c net.Conn
	err := s.do(func() (err error) {
		c, err = net.DialTimeout("tcp4", addr, 2*time.Second)
		if t, ok := c.(*net.TCPConn); ok {
			err = t.SetLinger(0)
		}
		return err
	})
	return c, err
}
