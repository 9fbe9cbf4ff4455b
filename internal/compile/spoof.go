package compile

import (
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// The guard of the bridges: what containers send is looked at where it enters
// a bridge, before any other container sees it. A frame passes if its port,
// hardware address and source address belong together; ARP and neighbour
// advertisements may claim only addresses that are the sender's. Routers and
// DHCP servers are not in containers: their messages are dropped.
var bridgeTable = kstate.Table{Family: "bridge", Name: table.Name}

// The sets hold a port and what its container may use. Every address of a
// sandbox may be used on each of its interfaces: answers leave by the default
// route, whichever interface the question came in by.
var (
	setGuarded = bridgeSet("guarded", "ifname")
	setMACs    = bridgeSet("macs", "ifname . ether_addr")
	setOwn     = families{bridgeSet("own4", "ifname . ether_addr . ipv4_addr"), bridgeSet("own6", "ifname . ether_addr . ipv6_addr")}
)

func bridgeSet(name, key string) *kstate.NftSet {
	return &kstate.NftSet{Table: bridgeTable, Name: name, Type: key}
}

// guard returns the bridges' table. The first rules are the path of ordinary
// packets.
func guard() kstate.Set {
	s := kstate.Set{}
	chain := func(name string, rules ...string) {
		must(s.Add(kstate.Chain{Table: bridgeTable, Name: name, Rules: rules}))
	}
	must(s.Add(bridgeTable, *setGuarded, *setMACs, *setOwn.v4, *setOwn.v6, kstate.Chain{
		Table: bridgeTable, Name: "guard", Type: "filter", Hook: "prerouting", Priority: -300, Rules: []string{
			"iifname != @guarded accept",
			"udp sport 67 drop",
			"iifname . ether saddr . ip saddr @own4 accept",
			"iifname . ether saddr != @macs drop",
			"ether type arp goto arp",
			"ether type ip6 goto ip6",
			"ip saddr 0.0.0.0 udp dport 67 accept",
			"drop",
		}}))
	chain("arp",
		"iifname . arp saddr ether . arp saddr ip @own4 accept",
		"iifname . arp saddr ether != @macs drop",
		"arp saddr ip 0.0.0.0 accept",
		"drop")
	chain("ip6",
		"icmpv6 type nd-router-advert drop",
		"icmpv6 type nd-redirect drop",
		"udp sport 547 drop",
		"icmpv6 type nd-neighbor-advert goto claim",
		"iifname . ether saddr . ip6 saddr @own6 accept",
		"ip6 saddr :: icmpv6 type nd-neighbor-solicit accept",
		"ip6 saddr :: icmpv6 type mld2-listener-report accept",
		"drop")
	chain("claim",
		"iifname . ether saddr . icmpv6 taddr @own6 accept",
		"drop")
	return s
}

// genuine returns what the sandbox may send from one of its endpoints.
func genuine(sb *model.Sandbox, e *model.Endpoint) []kstate.Object {
	port, from := e.Device(), e.Device()+" . "+e.MAC
	objs := []kstate.Object{elem(setGuarded, port, ""), elem(setMACs, from, "")}
	for i := range sb.Endpoints {
		for _, a := range sb.Endpoints[i].Addrs {
			objs = append(objs, elem(setOwn.of(a.Addr().Is6()), from+" . "+a.Addr().String(), ""))
		}
	}
	if _, ok := e.Addr(true); ok {
		objs = append(objs, elem(setOwn.v6, from+" . "+model.LinkLocal(e.MAC).Addr().String(), ""))
	}
	return objs
}
