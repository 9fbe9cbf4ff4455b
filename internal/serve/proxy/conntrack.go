package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// errUntracked: conntrack has no entry for the flow.
var errUntracked = errors.New("not in the connection tracking table")

// tracker asks conntrack what a UDP packet's destination was.
type tracker struct{ socket *nl.SocketHandle }

func newTracker() (*tracker, error) {
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("conntrack: %w", err)
	}
	// The kernel answers within the system call; a second is for ever.
	s.SetReceiveTimeout(&unix.Timeval{Sec: 1})
	return &tracker{&nl.SocketHandle{Socket: s}}, nil
}

func (t *tracker) close() { t.socket.Close() }

// check reports why conntrack cannot be asked, by asking for what is not there.
func (t *tracker) check() error {
	nowhere := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	if _, err := t.original(nowhere, nowhere); !errors.Is(err, errUntracked) {
		return err
	}
	return nil
}

// original returns where a UDP packet was sent that reached us from client at
// local. The kernel keeps the reply tuples of a family distinct (it changes a
// client's port if it must), so the pair names one entry.
func (t *tracker) original(local, client netip.AddrPort) (netip.AddrPort, error) {
	family := uint8(unix.AF_INET)
	if local.Addr().Is6() {
		family = unix.AF_INET6
	}
	// The answer is marked as one of many, but no end of many follows it
	// (ctnetlink_fill_info): the acknowledgement is the end.
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|nl.IPCTNL_MSG_CT_GET, unix.NLM_F_ACK)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: t.socket}
	req.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: unix.NFNETLINK_V0})
	req.AddData(replyTuple(local, client))
	replies, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return netip.AddrPort{}, errUntracked
	case err != nil:
		return netip.AddrPort{}, fmt.Errorf("conntrack: %w", err)
	}
	for _, m := range replies {
		if dst, ok := parseOriginal(m); ok {
			return dst, nil
		}
	}
	return netip.AddrPort{}, errUntracked
}

// replyTuple is the attribute that names an entry by the answers it expects.
// Zones are no part of conntrack's addresses.
func replyTuple(src, dst netip.AddrPort) *nl.RtAttr {
	srcType, dstType := nl.CTA_IP_V4_SRC, nl.CTA_IP_V4_DST
	if src.Addr().Is6() {
		srcType, dstType = nl.CTA_IP_V6_SRC, nl.CTA_IP_V6_DST
	}
	tuple := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_REPLY, nil)
	ip := tuple.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil)
	ip.AddRtAttr(srcType, src.Addr().AsSlice())
	ip.AddRtAttr(dstType, dst.Addr().AsSlice())
	proto := tuple.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil)
	proto.AddRtAttr(nl.CTA_PROTO_NUM, []byte{unix.IPPROTO_UDP})
	proto.AddRtAttr(nl.CTA_PROTO_SRC_PORT, binary.BigEndian.AppendUint16(nil, src.Port()))
	proto.AddRtAttr(nl.CTA_PROTO_DST_PORT, binary.BigEndian.AppendUint16(nil, dst.Port()))
	return tuple
}

// parseOriginal returns the destination of an entry's original direction.
func parseOriginal(msg []byte) (netip.AddrPort, bool) {
	if len(msg) < nl.SizeofNfgenmsg {
		return netip.AddrPort{}, false
	}
	tuple := attribute(msg[nl.SizeofNfgenmsg:], nl.CTA_TUPLE_ORIG)
	ip := attribute(tuple, nl.CTA_TUPLE_IP)
	raw := attribute(ip, nl.CTA_IP_V4_DST)
	if raw == nil {
		raw = attribute(ip, nl.CTA_IP_V6_DST)
	}
	addr, ok := netip.AddrFromSlice(raw)
	port := attribute(attribute(tuple, nl.CTA_TUPLE_PROTO), nl.CTA_PROTO_DST_PORT)
	if !ok || len(port) != 2 {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(port)), true
}

// attribute returns the value of the first attribute of a type, nil if there
// is none. Each is | length 2, with this header | type 2 | value |, and begins
// at a multiple of four bytes (linux/netlink.h).
func attribute(data []byte, kind uint16) []byte {
	for len(data) >= unix.SizeofNlAttr {
		n := int(binary.NativeEndian.Uint16(data))
		if n < unix.SizeofNlAttr || n > len(data) {
			return nil
		}
		if binary.NativeEndian.Uint16(data[2:])&nl.NLA_TYPE_MASK == kind {
			return data[unix.SizeofNlAttr:n]
		}
		data = data[min((n+3)&^3, len(data)):]
	}
	return nil
}
