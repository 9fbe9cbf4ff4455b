package proxy

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// wantDestination prepares a UDP socket that serves many addresses: each
// packet comes with the local address it was sent to, because the answer must
// leave from there.
func wantDestination(network, _ string, c syscall.RawConn) error {
	return onSocket(c, func(fd int) error {
		// More than net.core.rmem_max takes CAP_NET_ADMIN; less is no failure.
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, udpQueueBytes)
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, udpQueueBytes)
		if network == "udp4" {
			return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_PKTINFO, 1)
		}
		return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1)
	})
}

// parseKey reads where a packet arrived from its control messages.
func parseKey(client netip.AddrPort, control []byte) (udpKey, bool) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return udpKey{}, false
	}
	for _, m := range messages {
		key := udpKey{client: client}
		switch {
		case m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			// ifindex 4, address to answer from 4, destination in the header 4
			key.local = netip.AddrFrom4([4]byte(m.Data[4:8]))
			return key, true
		case m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			key.local = netip.AddrFrom16([16]byte(m.Data[:16]))
			if key.local.IsLinkLocalUnicast() {
				key.iface = binary.NativeEndian.Uint32(m.Data[16:20])
			}
			return key, true
		}
	}
	return udpKey{}, false
}

// control returns the control message that makes an answer leave from where
// the flow's packets arrive.
func (k udpKey) control() []byte {
	if k.local.Is4() {
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: k.local.As4()})
	}
	return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: k.local.As16(), Ifindex: k.iface})
}
