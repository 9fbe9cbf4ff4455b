package bpf

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kstate"
)

// sockets holds each port with a bound socket. TCP ones never listen, so a
// connection is refused as if nobody were there; UDP ones drop what they get.
// The holds end with the process, and the next one's Observe lists none.
type sockets struct {
	diag *diag                 // names programs in errors; nil where the kernel cannot tell
	held map[kstate.Hold][]int // file descriptors
}

func openSockets() *sockets {
	d, err := openDiag()
	if err != nil {
		d = nil
	}
	return &sockets{diag: d, held: map[kstate.Hold][]int{}}
}

func (s *sockets) spare(port uint16) {
	if s.diag != nil {
		s.diag.spared = port
	}
}

func (s *sockets) take(holds []kstate.Hold) []error {
	errs := make([]error, len(holds))
	for i, h := range holds {
		if _, ok := s.held[h]; !ok {
			errs[i] = s.takeOne(h)
		}
	}
	return errs
}

// takeOne binds all ports of h or none.
func (s *sockets) takeOne(h kstate.Hold) error {
	var fds []int
	for port := int(h.First); port <= int(h.Last); port++ {
		fd, err := s.bind(h, uint16(port))
		if err != nil {
			closeAll(fds)
			return err
		}
		if fd != needless {
			fds = append(fds, fd)
		}
	}
	s.held[h] = fds
	return nil
}

// needless stands for the socket of a port that needs none.
const needless = -1

// bind binds one port. The kernel refuses a TCP port also because of
// connections that somebody had there, even closed ones for a minute. When
// there is no socket to blame, SO_REUSEADDR ignores those; only then, for it
// also lets in others that set it. A port that this very process listens on is
// kept from others as it is.
func (s *sockets) bind(h kstate.Hold, port uint16) (int, error) {
	fd, err := bind(h, port, false)
	if !errors.Is(err, unix.EADDRINUSE) {
		return fd, err
	}
	taken := &inUse{h.Proto, netip.AddrPortFrom(h.Addr, port), "another program"}
	if s.diag == nil {
		return -1, taken
	}
	one := kstate.Hold{Proto: h.Proto, Addr: h.Addr, First: port, Last: port}
	seen, err := s.diag.look([]kstate.Hold{one})
	if err != nil {
		return -1, errors.Join(taken, err)
	}
	if err := seen.conflict(one); err != nil {
		return -1, err
	}
	if fd, err = bind(h, port, true); err == nil {
		return fd, nil
	}
	if len(seen.inWay(one)) > 0 && !s.holds(one) {
		return needless, nil
	}
	return -1, taken
}

// holds reports whether a socket of a hold has a port of h: it may go before h.
func (s *sockets) holds(h kstate.Hold) bool {
	for have := range s.held {
		if have.Proto == h.Proto && have.First <= h.First && h.First <= have.Last {
			return true
		}
	}
	return false
}

// bind returns a new socket bound to a port of h. The address need not be
// there (IP_FREEBIND).
func bind(h kstate.Hold, port uint16, reuse bool) (fd int, err error) {
	family, addr, only6 := sockaddr(h.Addr, port)
	typ := unix.SOCK_STREAM
	if h.Proto == "udp" {
		typ = unix.SOCK_DGRAM
	}
	fd, err = unix.Socket(family, typ|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) && !h.Addr.IsValid() {
		h.Addr = netip.IPv4Unspecified() // a kernel without IPv6
		return bind(h, port, reuse)
	}
	if err != nil {
		return -1, fmt.Errorf("port %d/%s: socket: %w", port, h.Proto, err)
	}
	set := func(level, opt, value int) {
		if err == nil {
			err = unix.SetsockoptInt(fd, level, opt, value)
		}
	}
	if family == unix.AF_INET6 {
		set(unix.SOL_IPV6, unix.IPV6_V6ONLY, only6)
		set(unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
	} else {
		set(unix.SOL_IP, unix.IP_FREEBIND, 1)
	}
	if reuse && h.Proto == "tcp" {
		set(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil && h.Proto == "udp" {
		err = dropAll(fd)
	}
	if err == nil {
		err = unix.Bind(fd, addr)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("port %d/%s: bind: %w", port, h.Proto, err)
	}
	return fd, nil
}

// sockaddr returns where to bind for a hold on a: one socket on [::] takes both
// families when a is not set.
func sockaddr(a netip.Addr, port uint16) (family int, addr unix.Sockaddr, only6 int) {
	a = a.Unmap()
	switch {
	case !a.IsValid():
		return unix.AF_INET6, &unix.SockaddrInet6{Port: int(port)}, 0
	case a.Is4():
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(port), Addr: a.As4()}, 0
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(port), Addr: a.As16()}, 1
}

// dropAll makes a socket drop what arrives, instead of keeping it until its
// buffer is full: a classic BPF program that takes no byte of any packet.
func dropAll(fd int) error {
	ret := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &ret})
}

func (s *sockets) release(holds []kstate.Hold) []error {
	for _, h := range holds {
		closeAll(s.held[h])
		delete(s.held, h)
	}
	return make([]error, len(holds))
}

func (s *sockets) observe() ([]kstate.Hold, error) {
	out := make([]kstate.Hold, 0, len(s.held))
	for h := range s.held {
		out = append(out, h)
	}
	return out, nil
}

func (s *sockets) close() error {
	for _, fds := range s.held {
		closeAll(fds)
	}
	clear(s.held)
	if s.diag == nil {
		return nil
	}
	return s.diag.close()
}

func (s *sockets) remove() error { return s.close() }

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
