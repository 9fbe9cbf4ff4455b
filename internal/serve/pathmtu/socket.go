package pathmtu

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Protocols (IANA).
const (
	protocol4 = unix.IPPROTO_ICMP
	protocol6 = unix.IPPROTO_ICMPV6
)

// sockets are raw ones, one of a family that the host has. They get a copy of every
// ICMP message to the host that their filter lets pass.
type sockets struct {
	v4, v6 *net.IPConn // nil: there is no such family
	words  chan word
	stop   chan struct{}
	work   sync.WaitGroup
}

// open opens them.
func open() (wire, error) {
	s := &sockets{words: make(chan word, 64), stop: make(chan struct{})}
	var err4, err6 error
	if s.v4, err4 = listen("ip4:icmp", "0.0.0.0", settle4); err4 == nil {
		s.work.Go(func() { s.listen(s.v4, false) })
	}
	if s.v6, err6 = listen("ip6:ipv6-icmp", "::", settle6); err6 == nil {
		s.work.Go(func() { s.listen(s.v6, true) })
	}
	if s.v4 == nil && s.v6 == nil {
		return nil, errors.Join(err4, err6)
	}
	return s, nil
}

func listen(network, address string, settle func(fd int) error) (*net.IPConn, error) {
	c, err := net.ListenPacket(network, address)
	if err != nil {
		return nil, err
	}
	conn := c.(*net.IPConn)
	raw, err := conn.SyscallConn()
	if err == nil {
		var failed error
		err = raw.Control(func(fd uintptr) { failed = settle(int(fd)) })
		err = errors.Join(err, failed)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return conn, nil
}

// solRaw and icmpFilter are SOL_RAW and ICMP_FILTER of linux/icmp.h: a bit for each
// type that is kept away.
const (
	solRaw     = 255
	icmpFilter = 1
)

// settle4 has packets go out as they are, or not at all, whatever size is known to fit
// (ip(7): IP_PMTUDISC_PROBE).
func settle4(fd int) error {
	keep := uint32(1<<echoReply4 | 1<<unreachable4)
	return errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE),
		unix.SetsockoptInt(fd, solRaw, icmpFilter, int(int32(^keep))))
}

func settle6(fd int) error {
	var keep unix.ICMPv6Filter // a bit for each type that is kept away too (RFC 3542 3.2)
	for i := range keep.Data {
		keep.Data[i] = ^uint32(0)
	}
	for _, typ := range []int{echoReply6, tooBig6} {
		keep.Data[typ/32] &^= 1 << (typ % 32)
	}
	return errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1),
		unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &keep))
}

func (s *sockets) heard() <-chan word { return s.words }

func (s *sockets) close() {
	close(s.stop)
	for _, c := range []*net.IPConn{s.v4, s.v6} {
		if c != nil {
			c.Close()
		}
	}
	s.work.Wait()
}

// send sends a probe with the address that other hosts know, if it is this host's.
// What routers say of one probe is an error of the next call too (raw_err in
// net/ipv4/raw.c), which then has sent nothing.
func (s *sockets) send(p Path, m mark, size int) (err error) {
	is6 := p.Remote.Is6()
	c, from := s.v4, source4(p.Local)
	if is6 {
		c, from = s.v6, source6(p.Local)
	}
	if c == nil {
		return net.ErrClosed
	}
	b, to := m.request(is6, size), &net.IPAddr{IP: p.Remote.AsSlice()}
	for range 3 {
		if _, _, err = c.WriteMsgIP(b, from, to); err == nil {
			return nil
		}
		if !isTooBig(err) {
			from = nil // others may know it by an address that a router has for it
		}
	}
	return err
}

// isTooBig reports whether not even the host's own device takes a packet.
func isTooBig(err error) bool { return errors.Is(err, syscall.EMSGSIZE) }

func source4(a netip.Addr) []byte {
	if !a.Is4() {
		return nil
	}
	return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: a.As4()})
}

func source6(a netip.Addr) []byte {
	if !a.Is6() {
		return nil
	}
	return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: a.As16()})
}

// listen reads until the socket is closed. Errors are those of probes, as in send.
func (s *sockets) listen(c *net.IPConn, is6 bool) {
	b := make([]byte, 1<<16)
	for {
		n, _, _, from, err := c.ReadMsgIP(b, nil)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || from == nil {
			continue
		}
		text := b[:n]
		if header := int(b[0]&15) * 4; !is6 && n >= header4 && header <= n {
			text = b[header:n]
		}
		addr, _ := netip.AddrFromSlice(from.IP)
		w, ok := parse(is6, addr.Unmap(), text)
		if !ok {
			continue
		}
		select {
		case s.words <- w:
		case <-s.stop:
			return
		}
	}
}
