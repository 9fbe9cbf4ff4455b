package nft

import (
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// selector is something of a packet that a rule can look at.
type selector struct {
	name  string
	typ   *datatype
	layer layer  // what must be known of the packet before it is read
	value byte   // … the layer's value
	over  byte   // … and, for a transport's field, NFPROTO_* of the network: 0 for any
	tells layer  // the layer that an equal match makes known
	key   uint32 // meta or ct key, or offset in the header
	load  func(s *selector, reg uint32) expr.Any
	mask  []byte // the bits that a rule looks at, nil for all
}

// layer is a part of a packet whose protocol decides what a field means. Where
// a rule has not established it, nft puts a match in front; so do we.
type layer uint8

const (
	layerNone      layer = iota
	layerLink            // value unused: ethernet
	layerNetwork         // value is NFPROTO_IPV4, NFPROTO_IPV6 or NFPROTO_ARP
	layerTransport       // value is an IP protocol
)

// selectors in nft's words. Offsets are those of struct iphdr, ipv6hdr, tcphdr,
// udphdr, icmphdr, nd_msg, ethhdr and, with addresses of ethernet and IPv4, arphdr.
var selectors = []selector{
	{name: "iifname", typ: typeIfname, key: unix.NFT_META_IIFNAME, load: loadMeta},
	{name: "oifname", typ: typeIfname, key: unix.NFT_META_OIFNAME, load: loadMeta},
	{name: "meta iifname", typ: typeIfname, key: unix.NFT_META_IIFNAME, load: loadMeta},
	{name: "meta oifname", typ: typeIfname, key: unix.NFT_META_OIFNAME, load: loadMeta},
	{name: "iifgroup", typ: typeDevGroup, key: unix.NFT_META_IIFGROUP, load: loadMeta},
	{name: "oifgroup", typ: typeDevGroup, key: unix.NFT_META_OIFGROUP, load: loadMeta},
	{name: "meta mark", typ: typeMark, key: unix.NFT_META_MARK, load: loadMeta},
	{name: "meta l4proto", typ: typeProto, tells: layerTransport, key: unix.NFT_META_L4PROTO, load: loadMeta},
	{name: "meta protocol", typ: typeEtherType, tells: layerNetwork, key: unix.NFT_META_PROTOCOL, load: loadMeta},
	{name: "meta nfproto", typ: typeNFProto, tells: layerNetwork, key: unix.NFT_META_NFPROTO, load: loadMeta},

	{name: "ct state", typ: typeState, key: unix.NFT_CT_STATE, load: loadCt},
	{name: "ct status", typ: typeStatus, key: unix.NFT_CT_STATUS, load: loadCt},
	{name: "ct direction", typ: typeDirection, key: unix.NFT_CT_DIRECTION, load: loadCt},
	{name: "ct mark", typ: typeMark, key: unix.NFT_CT_MARK, load: loadCt},
	{name: "ct protocol", typ: typeProto, key: unix.NFT_CT_PROTOCOL, load: loadCt},
	{name: "ct original ip saddr", typ: typeIPv4, key: unix.NFT_CT_SRC_IP, load: loadAsked},
	{name: "ct original ip6 saddr", typ: typeIPv6, key: unix.NFT_CT_SRC_IP6, load: loadAsked},
	{name: "ct original proto-src", typ: typeService, key: unix.NFT_CT_PROTO_SRC, load: loadAsked},
	{name: "ct original ip daddr", typ: typeIPv4, key: unix.NFT_CT_DST_IP, load: loadAsked},
	{name: "ct original ip6 daddr", typ: typeIPv6, key: unix.NFT_CT_DST_IP6, load: loadAsked},
	{name: "ct original proto-dst", typ: typeService, key: unix.NFT_CT_PROTO_DST, load: loadAsked},

	{name: "fib daddr type", typ: typeFibType, key: unix.NFTA_FIB_F_DADDR, load: loadFib},
	{name: "fib saddr type", typ: typeFibType, key: unix.NFTA_FIB_F_SADDR, load: loadFib},

	{name: "ether daddr", typ: typeEther, layer: layerLink, key: 0, load: loadLink},
	{name: "ether saddr", typ: typeEther, layer: layerLink, key: 6, load: loadLink},
	{name: "ether type", typ: typeEtherType, layer: layerLink, tells: layerNetwork, key: 12, load: loadLink},

	{name: "arp operation", typ: typeARPOp, layer: layerNetwork, value: unix.NFPROTO_ARP, key: 6, load: loadNetwork},
	{name: "arp saddr ether", typ: typeEther, layer: layerNetwork, value: unix.NFPROTO_ARP, key: 8, load: loadNetwork},
	{name: "arp saddr ip", typ: typeIPv4, layer: layerNetwork, value: unix.NFPROTO_ARP, key: 14, load: loadNetwork},
	{name: "arp daddr ether", typ: typeEther, layer: layerNetwork, value: unix.NFPROTO_ARP, key: 18, load: loadNetwork},
	{name: "arp daddr ip", typ: typeIPv4, layer: layerNetwork, value: unix.NFPROTO_ARP, key: 24, load: loadNetwork},

	{name: "ip frag-off", typ: typeFragBits, layer: layerNetwork, value: unix.NFPROTO_IPV4, key: 6, load: loadNetwork},
	{name: "ip protocol", typ: typeProto, layer: layerNetwork, value: unix.NFPROTO_IPV4, tells: layerTransport, key: 9, load: loadNetwork},
	{name: "ip saddr", typ: typeIPv4, layer: layerNetwork, value: unix.NFPROTO_IPV4, key: 12, load: loadNetwork},
	{name: "ip daddr", typ: typeIPv4, layer: layerNetwork, value: unix.NFPROTO_IPV4, key: 16, load: loadNetwork},
	{name: "ip6 nexthdr", typ: typeProto, layer: layerNetwork, value: unix.NFPROTO_IPV6, tells: layerTransport, key: 6, load: loadNetwork},
	{name: "ip6 saddr", typ: typeIPv6, layer: layerNetwork, value: unix.NFPROTO_IPV6, key: 8, load: loadNetwork},
	{name: "ip6 daddr", typ: typeIPv6, layer: layerNetwork, value: unix.NFPROTO_IPV6, key: 24, load: loadNetwork},

	// The fragment header of RFC 8200 4.5, where the packet has one.
	{name: "exthdr frag", typ: typeExists, layer: layerNetwork, value: unix.NFPROTO_IPV6, load: loadPresence},
	{name: "frag nexthdr", typ: typeProto, layer: layerNetwork, value: unix.NFPROTO_IPV6, key: 0, load: loadFragment},
	{name: "frag frag-off", typ: typeFragOff, layer: layerNetwork, value: unix.NFPROTO_IPV6, key: 2, load: loadFragment},

	{name: "tcp sport", typ: typeService, layer: layerTransport, value: unix.IPPROTO_TCP, key: 0, load: loadTransport},
	{name: "tcp dport", typ: typeService, layer: layerTransport, value: unix.IPPROTO_TCP, key: 2, load: loadTransport},
	{name: "tcp flags", typ: typeTCPFlags, layer: layerTransport, value: unix.IPPROTO_TCP, key: 13, load: loadTransport},
	{name: "udp sport", typ: typeService, layer: layerTransport, value: unix.IPPROTO_UDP, key: 0, load: loadTransport},
	{name: "udp dport", typ: typeService, layer: layerTransport, value: unix.IPPROTO_UDP, key: 2, load: loadTransport},
	{name: "sctp sport", typ: typeService, layer: layerTransport, value: unix.IPPROTO_SCTP, key: 0, load: loadTransport},
	{name: "sctp dport", typ: typeService, layer: layerTransport, value: unix.IPPROTO_SCTP, key: 2, load: loadTransport},
	{name: "icmp type", typ: typeICMP, layer: layerTransport, value: unix.IPPROTO_ICMP, over: unix.NFPROTO_IPV4, key: 0, load: loadTransport},
	{name: "icmp id", typ: typeService, layer: layerTransport, value: unix.IPPROTO_ICMP, over: unix.NFPROTO_IPV4, key: 4, load: loadTransport},
	{name: "icmpv6 type", typ: typeICMPv6, layer: layerTransport, value: unix.IPPROTO_ICMPV6, over: unix.NFPROTO_IPV6, key: 0, load: loadTransport},
	{name: "icmpv6 id", typ: typeService, layer: layerTransport, value: unix.IPPROTO_ICMPV6, over: unix.NFPROTO_IPV6, key: 4, load: loadTransport},
	{name: "icmpv6 taddr", typ: typeIPv6, layer: layerTransport, value: unix.IPPROTO_ICMPV6, over: unix.NFPROTO_IPV6, key: 8, load: loadTransport},
	{name: "th sport", typ: typeService, key: 0, load: loadTransport},
	{name: "th dport", typ: typeService, key: 2, load: loadTransport},
}

func loadMeta(s *selector, reg uint32) expr.Any {
	return &expr.Meta{Key: expr.MetaKey(s.key), Register: reg}
}

func loadCt(s *selector, reg uint32) expr.Any {
	return &expr.Ct{Key: expr.CtKey(s.key), Register: reg}
}

func loadAsked(s *selector, reg uint32) expr.Any {
	return asked{&expr.Ct{Key: expr.CtKey(s.key), Register: reg}}
}

func loadFib(s *selector, reg uint32) expr.Any {
	return &expr.Fib{
		Register: reg, ResultADDRTYPE: true,
		FlagSADDR: s.key == unix.NFTA_FIB_F_SADDR, FlagDADDR: s.key == unix.NFTA_FIB_F_DADDR,
	}
}

func loadLink(s *selector, reg uint32) expr.Any { return s.header(expr.PayloadBaseLLHeader, reg) }

func loadNetwork(s *selector, reg uint32) expr.Any {
	return s.header(expr.PayloadBaseNetworkHeader, reg)
}

func loadTransport(s *selector, reg uint32) expr.Any {
	return s.header(expr.PayloadBaseTransportHeader, reg)
}

func loadFragment(s *selector, reg uint32) expr.Any {
	return &expr.Exthdr{DestRegister: reg, Type: unix.IPPROTO_FRAGMENT, Offset: s.key, Len: uint32(s.typ.width), Op: expr.ExthdrOpIpv6}
}

// presentFlag is NFT_EXTHDR_F_PRESENT: whether there is such a header, in one byte.
const presentFlag = 1

func loadPresence(s *selector, reg uint32) expr.Any {
	return &expr.Exthdr{DestRegister: reg, Type: unix.IPPROTO_FRAGMENT, Len: 1, Flags: presentFlag, Op: expr.ExthdrOpIpv6}
}

// extension says that s reads an extension header of IPv6.
func (s *selector) extension() bool {
	return strings.HasPrefix(s.name, "frag ") || s.typ == typeExists
}

func (s *selector) header(base expr.PayloadBase, reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: base, Offset: s.key, Len: uint32(s.typ.width)}
}

// asked reads what a flow's first packet asked for, or writes its zone, which expr.Ct
// cannot: it leaves the direction out, or writes it in four bytes.
type asked struct{ *expr.Ct }

func (x asked) append(e *encoder) {
	whole := e.nest(unix.NFTA_LIST_ELEM)
	e.str(unix.NFTA_EXPR_NAME, "ct")
	data := e.nest(unix.NFTA_EXPR_DATA)
	e.u32(unix.NFTA_CT_KEY, uint32(x.Key))
	if x.SourceRegister {
		e.u32(unix.NFTA_CT_SREG, x.Register)
	} else {
		e.u32(unix.NFTA_CT_DREG, x.Register)
	}
	e.bytes(unix.NFTA_CT_DIRECTION, []byte{0}) // IP_CT_DIR_ORIGINAL
	e.unnest(data)
	e.unnest(whole)
}

// masked takes the bits of an IPv6 address that count, if a rule says which.
func (s *selector) masked(c *cursor) (*selector, error) {
	if s.typ != typeIPv6 || !c.accept("&") {
		return s, nil
	}
	some := *s
	some.mask = make([]byte, s.typ.width)
	return &some, s.typ.parse(some.mask, c.next().text)
}

// takeSelector takes the selector that comes next, nil if none does.
func takeSelector(c *cursor) *selector {
	for i := range selectors {
		if s := &selectors[i]; c.accept(strings.Fields(s.name)...) {
			return s
		}
	}
	return nil
}
