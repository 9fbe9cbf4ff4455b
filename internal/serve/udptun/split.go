package udptun

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// maxHeader is the length of headers that pieces may have: the longest of IPv4
// and TCP are 120 bytes, and IPv6 may have some of its own.
const maxHeader = 192

// pieces are the packets that a longer one is cut into, as the kernel's own
// segmentation does it (net/ipv4/tcp_offload.c, udp_offload.c).
type pieces struct {
	header  []byte // of the long packet
	payload []byte // that is left
	l4      int    // where TCP or UDP begins in header
	size    int    // of the payload of each piece but the last
	proto   byte
	v6      bool
	count   int // of pieces taken
	seq     uint32
	id      uint16
}

// cut prepares to cut a packet as v says; false if that makes no sense.
func cut(p *packet, v vnet) (pieces, bool) {
	c := pieces{l4: v.sumStart, size: v.size, v6: p.v6}
	length := udpLen
	switch v.kind {
	case unix.VIRTIO_NET_HDR_GSO_TCPV4, unix.VIRTIO_NET_HDR_GSO_TCPV6:
		c.proto = unix.IPPROTO_TCP
		if len(p.data) < c.l4+tcpLen {
			return c, false
		}
		length = int(p.data[c.l4+tcpOffset]>>4) * 4
	case unix.VIRTIO_NET_HDR_GSO_UDP_L4:
		c.proto = unix.IPPROTO_UDP
	default:
		return c, false
	}
	end := c.l4 + length // hdr_len is not it where the packet was forwarded
	if c.size == 0 || c.l4 < p.header || c.proto == unix.IPPROTO_TCP && length < tcpLen || end > maxHeader || end >= len(p.data) {
		return c, false
	}
	c.header, c.payload = p.data[:end], p.data[end:]
	if c.proto == unix.IPPROTO_TCP {
		c.seq = binary.BigEndian.Uint32(c.header[c.l4+tcpSeq:])
	}
	if !c.v6 {
		c.id = binary.BigEndian.Uint16(c.header[ip4ID:])
	}
	return c, true
}

// next writes the headers of the next piece and returns their length, with its
// payload, which stays where it was. A length of zero ends the pieces.
func (c *pieces) next(header []byte) (n int, payload []byte) {
	if len(c.payload) == 0 {
		return 0, nil
	}
	payload, c.payload = c.payload[:min(c.size, len(c.payload))], c.payload[min(c.size, len(c.payload)):]
	n = copy(header, c.header)
	header = header[:n]
	if !c.v6 {
		binary.BigEndian.PutUint16(header[ip4ID:], c.id+uint16(c.count))
	}
	setLength(header, c.v6, n+len(payload))
	if c.proto == unix.IPPROTO_TCP {
		c.tcp(header[c.l4:])
	} else {
		binary.BigEndian.PutUint16(header[c.l4+udpLength:], uint16(udpLen+len(payload)))
	}
	c.sum(header, payload)
	c.count++
	return n, payload
}

func (c *pieces) tcp(header []byte) {
	binary.BigEndian.PutUint32(header[tcpSeq:], c.seq+uint32(c.count*c.size))
	if len(c.payload) > 0 {
		header[tcpFlags] &^= flagFIN | flagPSH // are the last piece's
	}
	if c.count > 0 {
		header[tcpFlags] &^= flagCWR // is the first one's
	}
}

func (c *pieces) sum(header, payload []byte) {
	at := c.l4 + sumOffset(c.proto)
	putSum(header[at:], 0)
	acc := pseudo(addrs(header, c.v6), c.proto, len(header)-c.l4+len(payload))
	acc = sum(header[c.l4:], acc)
	s := ^fold(sum(payload, acc))
	if s == 0 && c.proto == unix.IPPROTO_UDP {
		s = 0xffff
	}
	putSum(header[at:], s)
}
