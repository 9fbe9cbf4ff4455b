package compile

import (
	"slices"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// The hush of the bridges: questions that everybody hears, and one answers, go
// to that one alone. A frame for all ports is one packet for each of them in a
// queue of 1,000 (net.core.netdev_max_backlog): on a network with as many
// endpoints one question for the gateway fills it, and the answer is lost.
//
// An announcement is a question for the asker's own address (RFC 5227), and is
// for all; so is any about a link-local address, as containers of several
// networks may have the same. Nobody follows the reports of multicast listeners (RFC 3810) here, for
// our bridges send multicasts to all ports.
var (
	setAt   = families{bridgeSet("at4", "ifname . ipv4_addr"), bridgeSet("at6", "ifname . ipv6_addr")} // port and address
	setSelf = bridgeSet("self4", "ether_addr . ipv4_addr . ipv4_addr")                                 // sender, and its address twice
)

// hush returns the sets and chains, in the bridges' table; overlaid: a bridge may lead to
// other hosts.
func hush(overlaid bool) kstate.Set {
	s := kstate.Set{}
	if overlaid {
		must(s.Add(*mapHere, *setAnswers.v4, *setAnswers.v6, *setServants.v4, *setServants.v6, *setDirect.v4, *setDirect.v6))
	}
	must(s.Add(*setAt.v4, *setAt.v6, *setSelf))
	for name, hook := range map[string]string{"hush": "forward", "hush_host": "output"} {
		var first []string
		if hook == "output" && overlaid {
			first = unsaid()
		}
		must(s.Add(kstate.Chain{
			Table: bridgeTable, Name: name, Type: "filter", Hook: hook, Priority: -300, Rules: append(first,
				"meta protocol ip accept",
				"oifname != "+model.PortPrefix+"* "+notNamed("oifgroup")+" accept",
				"arp operation request goto asked4",
				"icmpv6 type nd-neighbor-solicit goto asked6",
				"icmpv6 type mld2-listener-report drop",
			)}))
	}
	must(s.Add(kstate.Chain{Table: bridgeTable, Name: "asked4", Rules: []string{
		"oifname . arp daddr ip @at4 accept",
		"ether saddr . arp saddr ip . arp daddr ip @self4 accept",
		"arp daddr ip 169.254.0.0/16 accept",
		"oifname @free accept",
		"drop",
	}}, kstate.Chain{Table: bridgeTable, Name: "asked6", Rules: []string{
		"oifname . icmpv6 taddr @at6 accept",
		"oifname . icmpv6 taddr " + interfaceID + " @at6 accept",
		"oifname @free accept",
		"drop",
	}}))
	return s
}

// asked returns what a sandbox is asked for at one of its endpoints: every
// address it has, as for what it may send.
func asked(sb *model.Sandbox, e *model.Endpoint, n *model.Network) []kstate.Object {
	var objs []kstate.Object
	at := func(is6 bool, addr string) {
		objs = append(objs, elem(setAt.of(is6), e.Device()+" . "+addr, ""))
		if !is6 {
			objs = append(objs, elem(setSelf, e.MAC+" . "+addr+" . "+addr, ""))
		}
	}
	for i := range sb.Endpoints {
		for _, p := range slices.Concat(sb.Endpoints[i].Addrs, sb.Endpoints[i].Outside) {
			at(p.Addr().Is6(), p.Addr().String())
		}
	}
	for _, p := range e.LinkLocal {
		at(p.Addr().Is6(), p.Addr().String())
	}
	if e.Speaks6() {
		at(true, model.LinkLocal(e.MAC).Addr().String())
	}
	if n.Options.NoIPAM {
		at(true, model.InterfaceID(e.MAC).String())
	}
	return objs
}
