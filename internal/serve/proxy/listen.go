package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// How often another port is tried when the one the kernel chose for the first
// socket is taken for one of the others.
const portAttempts = 16

// What one UDP socket may queue each way: it serves all published ports of a
// family, and packets to a client that does not answer ARP count
// for seconds.
const udpQueueBytes = 4 << 20

// sockets are the two or four that share one port number.
type sockets struct {
	port uint16
	tcp  []*net.TCPListener
	udp  []*net.UDPConn
}

// listen finds a port that is free for TCP and UDP in both families, first
// unless that is 0 or taken.
func listen(ctx context.Context, first uint16) (sockets, error) {
	var err error
	for i := range portAttempts {
		var s sockets
		if i == 0 {
			s.port = first
		}
		if err = s.open(ctx); err == nil {
			return s, nil
		}
		s.close()
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return sockets{}, err
}

func (s *sockets) open(ctx context.Context) error {
	if err := s.openFamily(ctx, "4", netip.IPv4Unspecified()); err != nil {
		return err
	}
	err := s.openFamily(ctx, "6", netip.IPv6Unspecified())
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return nil // a kernel without IPv6
	}
	return err
}

func (s *sockets) openFamily(ctx context.Context, digit string, all netip.Addr) error {
	lc := net.ListenConfig{}
	// A Multipath TCP socket does not tell the original destination.
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, "tcp"+digit, netip.AddrPortFrom(all, s.port).String())
	if err != nil {
		return err
	}
	s.tcp = append(s.tcp, l.(*net.TCPListener))
	s.port = l.Addr().(*net.TCPAddr).AddrPort().Port()
	lc.Control = wantDestination
	c, err := lc.ListenPacket(ctx, "udp"+digit, netip.AddrPortFrom(all, s.port).String())
	if err != nil {
		return err
	}
	s.udp = append(s.udp, c.(*net.UDPConn))
	return nil
}

// close closes what is open; doing it again does nothing.
func (s *sockets) close() {
	for _, l := range s.tcp {
		l.Close()
	}
	for _, c := range s.udp {
		c.Close()
	}
}
