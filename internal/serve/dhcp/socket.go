package dhcp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/serve/wire"
)

// Ports of RFC 2131, section 4.1, and of RFC 8415, section 7.2.
const (
	clientPort4 = 68
	serverPort4 = 67
	clientPort6 = 546
	serverPort6 = 547
)

// socket is how a client talks: by a packet socket, which needs no address and is
// nobody's port, and for messages to a server that the sandbox has a way to, by a
// UDP socket.
type socket struct {
	is6    bool
	frames *wire.Socket
	local  netip.Addr // of IPv6
	udp    int        // -1 where a program of the sandbox's own has the port
	buffer [maxMessage + atIP]byte
}

// open opens a socket in the sandbox of w. It waits up to patience for an
// interface that has just been made.
func open(ctx context.Context, w Want, patience time.Duration) (*socket, error) {
	mac, err := net.ParseMAC(w.MAC)
	if err != nil || len(mac) != 6 {
		return nil, errors.New("hardware address " + w.MAC + ": want six bytes")
	}
	s := &socket{is6: w.Is6, local: w.Local, udp: -1}
	at := wire.Place{NS: w.NS, Device: w.Device}
	if s.frames, err = wire.Open(ctx, at, patience, answers(w.Is6, mac)); err != nil {
		return nil, err
	}
	if !s.local.IsValid() {
		s.local = linkLocal(s.frames.MAC)
	}
	_ = at.Do(func() error { s.udp = occupy(w.Is6, w.Device); return nil }) // or without it
	return s, nil
}

// occupy binds the client's port on a device, so that the kernel does not tell
// servers that nobody is there, and returns the socket, which nobody reads, or -1.
// Others who share the port as clients do may have it at the same time.
func occupy(is6 bool, device string) int {
	family, addr := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: clientPort4})
	if is6 {
		family, addr = unix.AF_INET6, &unix.SockaddrInet6{Port: clientPort6}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1
	}
	for _, set := range []func() error{
		func() error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) },
		func() error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1) }, // the least there is
		func() error { return unix.BindToDevice(fd, device) },
		func() error {
			if !is6 {
				return nil
			}
			return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 1)
		},
		func() error { return unix.Bind(fd, addr) },
	} {
		if set() != nil {
			unix.Close(fd)
			return -1
		}
	}
	return fd
}

// send sends a message: one to a server the way that the kernel knows, if it has
// one, unless it must be gone before its interface is; what waits for ARP is not.
func (s *socket) send(p *packet) error {
	if p.to.IsValid() && s.udp >= 0 && !(p.urgent && p.via != "") && s.route(p) == nil {
		return nil
	}
	return s.frames.Send(s.frame(p))
}

func (s *socket) route(p *packet) error {
	from := unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: p.from.As4()})
	to := &unix.SockaddrInet4{Port: serverPort4, Addr: p.to.As4()}
	return os.NewSyscallError("send", unix.Sendmsg(s.udp, p.payload, from, to, unix.MSG_DONTWAIT))
}

// receive returns the next message, of which the buffer is overwritten by the
// next call.
func (s *socket) receive(ctx context.Context, until time.Time) ([]byte, sender, error) {
	f, err := s.frames.Receive(ctx, until, s.buffer[:])
	if err != nil || f.Outgoing || f.VLAN != 0 {
		return nil, sender{}, err
	}
	payload, from := parse(f.Data)
	return payload, from, nil
}

func (s *socket) close() error {
	if s.udp >= 0 {
		unix.Close(s.udp)
	}
	return s.frames.Close()
}
