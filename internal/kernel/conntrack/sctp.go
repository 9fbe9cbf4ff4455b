package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The netlink package reads no ports of SCTP. A flow comes as (linux/netfilter/nfnetlink_conntrack.h)
//
//	nfgenmsg (4) · CTA_TUPLE_ORIG { CTA_TUPLE_IP { from, to } CTA_TUPLE_PROTO { number, from, to } } · CTA_TUPLE_REPLY { … } · …
//
// and is deleted by sending that back.

// forgetSCTP deletes the flows of SCTP that a filter matches.
func forgetSCTP(family netlink.InetFamily, filter netlink.CustomConntrackFilter) error {
	all, err := request(family, nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP).Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list flows: %w", err)
	}
	var errs []error
	for _, b := range all {
		if f := parseSCTP(b); f == nil || !filter.MatchConntrackFlow(f) {
			continue
		}
		forget := request(family, nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
		forget.AddRawData(b[nl.SizeofNfgenmsg:])
		if _, err := forget.Execute(unix.NETLINK_NETFILTER, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func request(family netlink.InetFamily, operation, flags int) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(netlink.ConntrackTable<<8|operation, flags)
	r.AddData(&nl.Nfgenmsg{NfgenFamily: uint8(family), Version: nl.NFNETLINK_V0})
	return r
}

// parseSCTP returns the flow of a message, or nil if it is none of SCTP.
func parseSCTP(b []byte) *netlink.ConntrackFlow {
	if len(b) < nl.SizeofNfgenmsg {
		return nil
	}
	flow := attributes(b[nl.SizeofNfgenmsg:])
	f := &netlink.ConntrackFlow{Forward: parseTuple(flow[nl.CTA_TUPLE_ORIG]), Reverse: parseTuple(flow[nl.CTA_TUPLE_REPLY])}
	if f.Forward.Protocol != unix.IPPROTO_SCTP {
		return nil
	}
	return f
}

func parseTuple(b []byte) (t netlink.IPTuple) {
	tuple := attributes(b)
	ip, proto := attributes(tuple[nl.CTA_TUPLE_IP]), attributes(tuple[nl.CTA_TUPLE_PROTO])
	if t.SrcIP, t.DstIP = net.IP(ip[nl.CTA_IP_V4_SRC]), net.IP(ip[nl.CTA_IP_V4_DST]); t.SrcIP == nil {
		t.SrcIP, t.DstIP = net.IP(ip[nl.CTA_IP_V6_SRC]), net.IP(ip[nl.CTA_IP_V6_DST])
	}
	if n := proto[nl.CTA_PROTO_NUM]; len(n) == 1 {
		t.Protocol = n[0]
	}
	if from, to := proto[nl.CTA_PROTO_SRC_PORT], proto[nl.CTA_PROTO_DST_PORT]; len(from) == 2 && len(to) == 2 {
		t.SrcPort, t.DstPort = binary.BigEndian.Uint16(from), binary.BigEndian.Uint16(to)
	}
	return t
}

// attributes splits what is nested, by type.
func attributes(b []byte) map[uint16][]byte {
	all, _ := nl.ParseRouteAttr(b)
	out := map[uint16][]byte{}
	for _, a := range all {
		out[a.Attr.Type&nl.NLA_TYPE_MASK] = a.Value
	}
	return out
}
