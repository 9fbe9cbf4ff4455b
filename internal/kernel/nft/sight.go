package nft

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"golang.org/x/sys/unix"
)

// event is an NFT_MSG_TRACE (nft_trace_notify in net/netfilter/nf_tables_trace.c). The
// headers come with the first of each base chain.
type event struct {
	id      uint32 // the packet's, the same as long as it stays in one buffer
	in, out uint32 // indices of devices, 0: none
	echo    uint16 // identifier of an echo request or reply
	kernel.Sighting
}

// traceFamilies are the families of tables in which packets are traced.
var traceFamilies = map[byte]string{
	unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6", unix.NFPROTO_ARP: "arp",
	unix.NFPROTO_BRIDGE: "bridge", unix.NFPROTO_NETDEV: "netdev",
}

// traceEnds are the words for NFT_TRACETYPE_*.
var traceEnds = map[uint32]string{unix.NFT_TRACETYPE_POLICY: "policy", unix.NFT_TRACETYPE_RETURN: "return", unix.NFT_TRACETYPE_RULE: "rule"}

// decodeEvent reads a message; false: it is no trace.
func decodeEvent(r reply) (event, bool) {
	family, known := traceFamilies[r.family()]
	if r.typ != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_TRACE || !known {
		return event{}, false
	}
	a := r.attrs()
	e := event{id: number(a.find(unix.NFTA_TRACE_ID)), in: number(a.find(unix.NFTA_TRACE_IIF)), out: number(a.find(unix.NFTA_TRACE_OIF))}
	e.Table = kstate.Table{Family: family, Name: text(a.find(unix.NFTA_TRACE_TABLE))}
	e.Chain = text(a.find(unix.NFTA_TRACE_CHAIN))
	e.Handle = handleOf(a.find(unix.NFTA_TRACE_RULE_HANDLE))
	e.Ends = traceEnds[number(a.find(unix.NFTA_TRACE_TYPE))]
	e.Verdict = verdictText(a)
	e.Headed = e.headers(a.find(unix.NFTA_TRACE_NETWORK_HEADER), a.find(unix.NFTA_TRACE_TRANSPORT_HEADER))
	return e, e.Ends != ""
}

// handleOf is a rule's number; 0 if it is not one.
func handleOf(v []byte) uint64 {
	if len(v) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

// verdictText is what was decided. A policy is a verdict of netfilter alone.
func verdictText(a attrs) string {
	if policy := a.find(unix.NFTA_TRACE_POLICY); policy != nil {
		return verdictWord(verdict{code: int32(number(policy))})
	}
	v := attrs(a.find(unix.NFTA_TRACE_VERDICT))
	return verdictWord(verdict{int32(number(v.find(unix.NFTA_VERDICT_CODE))), text(v.find(unix.NFTA_VERDICT_CHAIN))})
}

// Verdicts that rules do not say: NFT_CONTINUE, NFT_BREAK; NF_STOLEN, NF_QUEUE.
const (
	codeContinue, codeBreak = -1, -2
	codeStolen, codeQueue   = 2, 3
)

func verdictWord(v verdict) string {
	switch {
	case v.code == codeContinue || v.code == codeBreak:
		return "continue"
	case v.code == codeStolen:
		return "stolen"
	case v.code >= 0 && v.code&0xff == codeQueue: // the queue's number is in the upper half
		return "queue"
	}
	return v.String()
}

// echoes are the types of requests and replies, of ICMP and ICMPv6.
var echoes = []byte{0, 8, 128, 129}

// headers reads what the packet is, and reports whether it is of IP.
func (e *event) headers(network, transport []byte) bool {
	var src, dst netip.Addr
	switch {
	case len(network) >= 20 && network[0]>>4 == 4:
		e.Proto = network[9]
		src, dst = netip.AddrFrom4([4]byte(network[12:16])), netip.AddrFrom4([4]byte(network[16:20]))
	case len(network) >= 40 && network[0]>>4 == 6:
		e.Proto = network[6]
		src, dst = netip.AddrFrom16([16]byte(network[8:24])), netip.AddrFrom16([16]byte(network[24:40]))
	default:
		return false
	}
	var sport, dport uint16
	if icmp := e.Proto == unix.IPPROTO_ICMP || e.Proto == unix.IPPROTO_ICMPV6; icmp && len(transport) >= 6 && slices.Contains(echoes, transport[0]) {
		e.echo = binary.BigEndian.Uint16(transport[4:])
	}
	if (e.Proto == unix.IPPROTO_TCP || e.Proto == unix.IPPROTO_UDP) && len(transport) >= 4 {
		sport, dport = binary.BigEndian.Uint16(transport), binary.BigEndian.Uint16(transport[2:])
	}
	e.Src, e.Dst = netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)
	return true
}
