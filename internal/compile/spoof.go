package compile

import (
	"fmt"
	"slices"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// The guard of the bridges: what containers send is looked at where it enters
// a bridge, before any other container sees it. A frame passes if its port,
// hardware address and source address belong together; ARP and neighbour
// discovery may claim, or be about to claim, only addresses that are the sender's. Routers and
// DHCP servers are not in containers: their messages are refused. So is what
// could become one: a fragment that hides what it is a part of (RFC 7113).
//
// A port of ours is guarded from the moment it is there: a network without a
// guard is the one with elements, in free. So no order of steps opens it.
var bridgeTable = kstate.Table{Family: "bridge", Name: table.Name}

// The sets hold a port and what its container may use. Every address of a
// sandbox may be used on each of its interfaces: answers leave by the default
// route, whichever interface the question came in by.
var (
	setFree = bridgeSet("free", "ifname")
	setMACs = bridgeSet("macs", "ifname . ether_addr")
	setSeek = bridgeSet("seeking", "ifname") // who gets addresses from others, and asks about one before it is his
	setOwn  = families{bridgeSet("own4", "ifname . ether_addr . ipv4_addr"), bridgeSet("own6", "ifname . ether_addr . ipv6_addr")}
)

func bridgeSet(name, key string) *kstate.NftSet {
	return &kstate.NftSet{Table: bridgeTable, Name: name, Type: key}
}

// notNamed is true of what is no port of ours with a name of somebody's choice.
func notNamed(group string) string { return fmt.Sprintf("%s != %d", group, kstate.GroupNamed) }

// guard returns the bridges' table. Bridges of others are here too, so theirs are
// let pass first. Ordinary packets meet one look-up, which is most of what the
// guard costs them.
func guard() kstate.Set {
	s := kstate.Set{}
	chain := func(name string, rules ...string) {
		must(s.Add(kstate.Chain{Table: bridgeTable, Name: name, Rules: rules}))
	}
	must(s.Add(bridgeTable, *setFree, *setMACs, *setSeek, *setOwn.v4, *setOwn.v6, kstate.Chain{
		Table: bridgeTable, Name: "guard", Type: "filter", Hook: "prerouting", Priority: -300, Rules: []string{
			"iifname . ether saddr . ip saddr @own4 goto mine4",
			"iifname != " + model.PortPrefix + "* " + notNamed("iifgroup") + " accept",
			"ether type ip6 goto ip6",
			"iifname . ether saddr != @macs goto refused",
			"ether type arp goto arp",
			"ip saddr 0.0.0.0 udp dport 67 accept",
			"goto refused",
		}}))
	chain("mine4",
		"udp dport 68 goto refused",
		"accept")
	chain("arp",
		"iifname . arp saddr ether . arp saddr ip @own4 accept",
		"iifname . arp saddr ether != @macs goto refused",
		"arp saddr ip 0.0.0.0 iifname . arp saddr ether . arp daddr ip @own4 accept",
		"arp saddr ip 0.0.0.0 iifname @seeking accept",
		"goto refused")
	chain("ip6",
		"iifname . ether saddr . ip6 saddr @own6 goto mine6",
		"iifname . ether saddr . ip6 saddr "+interfaceID+" @own6 goto mine6",
		"iifname . ether saddr != @macs goto refused",
		"ip6 saddr :: goto nameless",
		"goto refused")
	// Ports and types are read where the kernel finds them in the frame, also
	// behind the packet's end. Only of fragments does the receiver believe more
	// than is in the packet; so those have nothing between the fragment header
	// and the message, whose first 8 bytes are there then.
	chain("mine6",
		"ip6 nexthdr tcp accept",
		"ip6 nexthdr udp goto udp6",
		"frag frag-off != 0 accept",
		"frag frag-off 0 goto first",
		"meta l4proto ipv6-icmp goto icmp6",
		"udp dport 546 goto refused",
		"meta l4proto != ipv6-icmp accept",
		"goto refused")
	chain("udp6",
		"udp dport 546 goto refused",
		"accept")
	chain("first",
		"frag nexthdr udp goto first_udp",
		"frag nexthdr ipv6-icmp goto first_icmp6",
		"frag nexthdr tcp accept",
		"frag nexthdr sctp accept",
		"frag nexthdr esp accept",
		"frag nexthdr gre accept",
		"goto refused")
	chain("first_udp",
		"udp dport != 546 accept",
		"goto refused")
	chain("first_icmp6",
		"icmpv6 type echo-request accept",
		"icmpv6 type echo-reply accept",
		"goto refused")
	chain("icmp6",
		"icmpv6 type nd-neighbor-advert goto claim",
		"icmpv6 type nd-redirect goto refused",
		"icmpv6 type != nd-router-advert accept",
		"goto refused")
	chain("nameless",
		"frag frag-off 0 goto refused",
		"icmpv6 type nd-neighbor-solicit goto claim",
		"icmpv6 type mld2-listener-report accept",
		"goto refused")
	chain("claim",
		"iifname . ether saddr . icmpv6 taddr @own6 accept",
		"iifname . ether saddr . icmpv6 taddr "+interfaceID+" @own6 accept",
		"goto refused")
	chain("refused",
		"iifname @free accept",
		"drop")
	return s
}

// interfaceID leaves of an IPv6 address what its owner made of his hardware address. The
// rest a router said, on a network whose addresses others give.
const interfaceID = "& ::ffff:ffff:ffff:ffff"

// genuine returns what the sandbox may send from one of its endpoints. What it has
// in VLANs of its own making is for nobody to know.
func genuine(sb *model.Sandbox, e *model.Endpoint, n *model.Network) []kstate.Object {
	if n.Options.NoAntispoof || n.TrunksOf(e) != "" {
		return []kstate.Object{elem(setFree, e.Device(), "")}
	}
	from := e.Device() + " . " + e.MAC
	objs := []kstate.Object{elem(setMACs, from, "")}
	if n.Options.NoIPAM || e.DHCP4 != nil {
		objs = append(objs, elem(setSeek, e.Device(), ""))
	}
	for i := range sb.Endpoints {
		for _, a := range slices.Concat(sb.Endpoints[i].Addrs, sb.Endpoints[i].Outside) {
			objs = append(objs, elem(setOwn.of(a.Addr().Is6()), from+" . "+a.Addr().String(), ""))
		}
	}
	for _, p := range e.LinkLocal {
		objs = append(objs, elem(setOwn.of(p.Addr().Is6()), from+" . "+p.Addr().String(), ""))
	}
	if e.Speaks6() {
		objs = append(objs, elem(setOwn.v6, from+" . "+model.LinkLocal(e.MAC).Addr().String(), ""))
	}
	if n.Options.NoIPAM {
		objs = append(objs, elem(setOwn.v6, from+" . "+model.InterfaceID(e.MAC).String(), ""))
	}
	return objs
}
