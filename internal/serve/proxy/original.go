package proxy

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// onSocket runs do on the file descriptor of c.
func onSocket(c interface {
	Control(func(fd uintptr)) error
}, do func(fd int) error) error {
	var failed error
	if err := c.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil {
		return err
	}
	return failed
}

// original returns where a redirected connection wanted to go, without zone.
// The options answer from conntrack, by the connection's own addresses
// (nf_conntrack_proto.c, ipv6_getorigdst and getorigdst).
func original(c *net.TCPConn) (netip.AddrPort, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	local := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr()
	var dst netip.AddrPort
	err = onSocket(raw, func(fd int) error {
		if local.Is4() {
			dst, err = original4(fd)
		} else {
			dst, err = original6(fd)
		}
		return err
	})
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("original destination: %w", err)
	}
	return dst, nil
}

// original4 reads a sockaddr_in through the wrapper of another option of 20
// bytes: family 2, port 2 (big endian), address 4, padding.
func original4(fd int) (netip.AddrPort, error) {
	m, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, unix.SO_ORIGINAL_DST)
	if err != nil {
		return netip.AddrPort{}, err
	}
	b := m.Multiaddr
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3])), nil
}

// original6 reads a sockaddr_in6 through an option that begins with one.
// IP6T_SO_ORIGINAL_DST has the number of its IPv4 twin.
func original6(fd int) (netip.AddrPort, error) {
	m, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, unix.SO_ORIGINAL_DST)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(netip.AddrFrom16(m.Addr.Addr), swap(m.Addr.Port)), nil
}

// swap turns the bytes of a port in network order, read as a native number.
func swap(port uint16) uint16 {
	return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, port))
}
