package trail

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
)

// shot is the socket that a probe is sent from.
type shot struct {
	probe kernel.Probe
	fd    int
	open  bool
	src   netip.AddrPort
	mark  uint16 // the source port, or the identifier of an echo request
}

// prepare opens the socket, in the namespace of the calling thread, and sends nothing.
func (s *shot) prepare() (err error) {
	src, err := sourceOf(s.probe.To)
	if err != nil {
		return err
	}
	typ, proto := unix.SOCK_STREAM, 0
	switch s.probe.Proto {
	case "udp":
		typ = unix.SOCK_DGRAM
	case "icmp":
		typ, proto = unix.SOCK_RAW, echoProtocol(src.Is6())
	}
	if s.fd, err = unix.Socket(domain(src), typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto); err != nil {
		return os.NewSyscallError("socket", err)
	}
	s.open = true
	if err := unix.Bind(s.fd, sockaddr(netip.AddrPortFrom(src, 0))); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := complaints(s.fd, src.Is6()); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if s.probe.Proto == "icmp" {
		var b [2]byte
		rand.Read(b[:])
		s.src, s.mark = netip.AddrPortFrom(src, 0), binary.BigEndian.Uint16(b[:])
		return nil
	}
	s.src, err = nameOf(s.fd)
	s.mark = s.src.Port()
	return err
}

// complaints has whoever says that a packet cannot be delivered heard (ip(7): IP_RECVERR).
func complaints(fd int, is6 bool) error {
	if is6 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1)
}

func (s *shot) close() {
	if s.open {
		_ = unix.Close(s.fd) // it has done what it was for
	}
}

// sourceOf asks the routes from which address something is sent.
func sourceOf(to netip.AddrPort) (netip.Addr, error) {
	fd, err := unix.Socket(domain(to.Addr()), unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return netip.Addr{}, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, sockaddr(netip.AddrPortFrom(to.Addr(), max(to.Port(), 1)))); err != nil {
		return netip.Addr{}, &noRoute{to.Addr(), err}
	}
	a, err := nameOf(fd)
	return a.Addr(), err
}

// noRoute is that the sender knows no way.
type noRoute struct {
	to    netip.Addr
	cause error
}

func (e *noRoute) Error() string { return fmt.Sprintf("no route to %s: %v", e.to, e.cause) }

func nameOf(fd int) (netip.AddrPort, error) {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockname", err)
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)), nil
	}
	return netip.AddrPort{}, errors.New("getsockname: not an address of IP")
}

func domain(a netip.Addr) int {
	if a.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is6() {
		return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
}

// send sends the probe and notes in out what comes back.
func (s *shot) send(ctx context.Context, out *kernel.Trail) {
	began := time.Now()
	err := unix.Connect(s.fd, sockaddr(s.target()))
	if err == nil && s.probe.Proto != "tcp" {
		err = unix.Send(s.fd, s.payload(), 0)
	}
	if err == unix.EINPROGRESS || err == nil && s.probe.Proto != "tcp" {
		err = s.await(ctx)
	}
	out.Took = time.Since(began)
	switch {
	case err == nil:
		out.Answered = true
	case err == unix.ECONNREFUSED:
		out.Refused, out.Why = true, "connection refused"
	case errors.Is(err, context.DeadlineExceeded), err == unix.ETIMEDOUT:
		out.Took = 0
	default:
		out.Took, out.Why = 0, err.Error()
	}
}

// target is where the socket sends to: raw ones know no ports.
func (s *shot) target() netip.AddrPort {
	if s.probe.Proto == "icmp" {
		return netip.AddrPortFrom(s.probe.To.Addr(), 0)
	}
	return s.probe.To
}

// payload is an echo request, or for UDP nothing: what no server can take for more than a
// knock.
func (s *shot) payload() []byte {
	if s.probe.Proto != "icmp" {
		return nil
	}
	return echoRequest(s.src.Addr().Is6(), s.mark)
}

// glance is how long is waited before it is asked whether somebody still waits.
const glance = 100 // ms

// await returns nil when there is an answer.
func (s *shot) await(ctx context.Context) error {
	events := int16(unix.POLLIN)
	if s.probe.Proto == "tcp" {
		events = unix.POLLOUT
	}
	for ctx.Err() == nil {
		list := []unix.PollFd{{Fd: int32(s.fd), Events: events}}
		n, err := unix.Poll(list, glance)
		switch {
		case err == unix.EINTR || err == nil && n == 0:
			continue
		case err != nil:
			return os.NewSyscallError("poll", err)
		}
		done, err := s.look()
		if done || err != nil {
			return err
		}
	}
	return ctx.Err()
}

// look takes what came; done: it is the answer.
func (s *shot) look() (done bool, err error) {
	if code, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil {
		return false, os.NewSyscallError("getsockopt", err)
	} else if code != 0 {
		return false, unix.Errno(code)
	}
	if s.probe.Proto == "tcp" {
		return true, nil
	}
	b := make([]byte, 2048)
	n, err := unix.Read(s.fd, b)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return false, nil
	case err != nil:
		return false, err
	}
	return s.probe.Proto == "udp" || isEchoReply(s.src.Addr().Is6(), s.mark, b[:n]), nil
}
