package udptun

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// vnetLen is the length of struct virtio_net_hdr (include/uapi/linux/virtio_net.h),
// which goes before each packet of the device, in the machine's byte order:
//
//	flags(8) gso_type(8) hdr_len(16) gso_size(16) csum_start(16) csum_offset(16)
const vnetLen = 10

// vnet is that header.
type vnet struct {
	needsSum  bool  // the checksum is that of the pseudo header: the rest is to be added
	kind      uint8 // VIRTIO_NET_HDR_GSO_…
	header    int   // length of all headers; from the kernel it may be more
	size      int   // of the payload of each piece
	sumStart  int   // where the transport header begins
	sumOffset int   // of the checksum in there
}

func parseVnet(b []byte) vnet {
	n := binary.NativeEndian
	return vnet{
		needsSum: b[0]&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM != 0, kind: b[1],
		header: int(n.Uint16(b[2:])), size: int(n.Uint16(b[4:])),
		sumStart: int(n.Uint16(b[6:])), sumOffset: int(n.Uint16(b[8:])),
	}
}

func (v vnet) put(b []byte) {
	n := binary.NativeEndian
	b[0], b[1] = 0, v.kind
	if v.needsSum {
		b[0] = unix.VIRTIO_NET_HDR_F_NEEDS_CSUM
	}
	n.PutUint16(b[2:], uint16(v.header))
	n.PutUint16(b[4:], uint16(v.size))
	n.PutUint16(b[6:], uint16(v.sumStart))
	n.PutUint16(b[8:], uint16(v.sumOffset))
}

// complete computes the checksum that the kernel has left to us.
func (v vnet) complete(pkt []byte) bool {
	at := v.sumStart + v.sumOffset
	if v.sumStart > len(pkt) || at+2 > len(pkt) {
		return false
	}
	s := ^fold(sum(pkt[v.sumStart:], 0)) // with the pseudo header's, which is there
	if s == 0 && v.sumOffset == udpSum {
		s = 0xffff // in UDP zero says that there is none
	}
	putSum(pkt[at:], s)
	return true
}
