package compile

import (
	"fmt"
	"slices"

	"github.com/sealane/sealane/internal/driver"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// The fixed structure of the firewall: one table, fixed chains, shared sets
// and maps. A network, a sandbox or a published port adds elements, never a
// chain, set or rule, so a packet meets the same few look-ups however many
// there are.
//
// The story of a packet from a client to a published port:
//
//	prerouting  its destination is an address of the host: publish looks
//	            protocol and port up in a map and rewrites the destination
//	forward     a rewritten packet passes while its port is in open*; all else
//	            ingress judges by the bridge it leaves through: to_nat,
//	            to_routed and to_open, for networks of those gateway modes
//	postrouting a client on a network of the container's is masqueraded, so
//	            that the answer comes back this way; any other keeps its address
//
// and of one that a container sends:
//
//	forward     egress judges the bridge it came from: within asks whether it
//	            stays inside its network, else ingress judges the bridge it
//	            goes to
//	postrouting what leaves its own network gets the host's address
//
// Where the kernel cannot rewrite (::1 and link-local clients, an address
// family the container does not have) proxy sends to the daemon's proxy.
var table = kstate.Table{Family: "inet", Name: "sealane"}

// The sets and maps. Names end in the address family where they hold addresses
// or differ by family.
var (
	setBridges = set("bridges", "ifname", "")                              // every network's bridge
	setShards  = set("shards", "ifname", "")                               // bridges that only forward: a network's second and more
	setInside  = set("inside", "ifname . ifname", "verdict")               // bridge . bridge: what containers of a network may send each other
	setClosed  = set("closed", "ifname", "")                               // bridges that published ports are not served to
	setTrusted = set("trusted", "ifname . ifname", "")                     // host device . bridge: may use ports directly
	mapEgress  = set("egress", "ifname", "verdict")                        // what may leave a network, by its bridge
	mapOnward  = set("onward", "ifname", "verdict")                        // what may go from a network to another bridge, or a tunnel
	mapIngress = perFamily("ingress", "ifname", "verdict")                 // what may enter a network
	mapToHost  = perFamily("to_host", "ifname", "verdict")                 // what may reach the host itself
	setListed  = set("listed", "ifname", "")                               // bridges of networks whose addresses are all in there
	setThere   = perFamily("there", "ADDR", "")                            // of networks that others may enter: who is there
	setHome    = perFamily("home", "ADDR . ifname", "", interval)          // prefix . bridge
	setFabric  = perFamily("fabric", "ifname . ADDR . ADDR", "", interval) // device . source . destination: from other hosts of a network
	setWithin  = perFamily("within", "ADDR . ADDR", "", interval)          // source . destination: inside a network that spans hosts
	setWhole   = perFamily("whole", "ADDR", "", interval)                  // prefixes of networks that span hosts
	setMasq    = perFamily("masq", "ADDR", "", interval)                   // sources that get the host's address
	mapSource  = perFamily("source", "ADDR", "ADDR", interval)             // sources that get another address
	mapPorts   = perFamily("ports", "inet_proto . inet_service", "ADDR . inet_service")
	mapPortsAt = perFamily("ports_at", "ADDR . inet_proto . inet_service", "ADDR . inet_service")
	mapRanges  = perFamily("ranges", "inet_proto . inet_service", "ADDR", interval) // same ports inside and out
	setOpen    = perFamily("open", "ADDR . inet_proto . inet_service", "")          // container ports that are published
	setOpens   = perFamily("open_ranges", "ADDR . inet_proto . inet_service", "", interval)
	setOpenTo  = perFamily("open_from", "ADDR . inet_proto . inet_service . ADDR", "", interval)         // the same, and for whom
	setAsked   = perFamily("asked_from", "ADDR . inet_service . ADDR . inet_proto . ADDR", "", interval) // asked for . container . for whom
	setLinks   = perFamily("links", "ADDR . ADDR . inet_proto . inet_service", "", interval)             // client . container . port
	setAround  = perFamily("around", "ADDR . ADDR", "", interval)                                        // clients that a container would answer past us
	setProxy   = perFamily("proxy", "inet_proto . inet_service", "")
	setProxies = perFamily("proxy_ranges", "inet_proto . inet_service", "", interval)
	setProxyAt = perFamily("proxy_at", "ADDR . inet_proto . inet_service", "")
	setNear    = perFamily("near", "ifname . ADDR . inet_proto . inet_service", "", interval) // bridge . asked for: by containers kept apart
)

// families holds a set for IPv4 and its twin for IPv6.
type families struct{ v4, v6 *kstate.NftSet }

// of returns the set of an address family.
func (f families) of(is6 bool) *kstate.NftSet {
	if is6 {
		return f.v6
	}
	return f.v4
}

func set(name, key, data string) *kstate.NftSet {
	return &kstate.NftSet{Table: table, Name: name, Type: key, Data: data}
}

func interval(s *kstate.NftSet) { s.Interval = true }

func perFamily(name, key, data string, mods ...func(*kstate.NftSet)) families {
	one := func(digit, addr string) *kstate.NftSet {
		s := set(name+digit, replaceAddr(key, addr), replaceAddr(data, addr))
		for _, mod := range mods {
			mod(s)
		}
		return s
	}
	return families{one("4", "ipv4_addr"), one("6", "ipv6_addr")}
}

// Verdicts of the maps by bridge.
const (
	verdictDrop     = "drop"
	verdictPass     = "goto pass"
	verdictLeave    = "goto leave"
	verdictStay     = "goto stay"
	verdictWithin   = "goto within"
	verdictToOthers = "goto to_others"
	verdictToNAT    = "goto to_nat"
	verdictToRouted = "goto to_routed"
	verdictToOpen   = "goto to_open"
	verdictNoHost   = "goto no_host"
	verdictAcross   = "goto across"
	verdictArrived  = "goto arrived"
	verdictLodgers  = "goto lodgers"
	verdictToLodge  = "goto to_lodge"
)

// judging is the priority of the chains that judge: before those of other
// firewalls, which have 0 (filter) or more, so that these see the mark.
const judging = -10

// builder puts the table's chains together.
type builder struct{ kstate.Set }

func (b builder) base(name, typ, hook string, priority int, rules ...string) {
	must(b.Add(kstate.Chain{Table: table, Name: name, Type: typ, Hook: hook, Priority: priority, Rules: rules}))
}

func (b builder) chain(name string, rules ...string) {
	must(b.Add(kstate.Chain{Table: table, Name: name, Rules: rules}))
}

// firewall returns the table with its sets and chains, for networks of which some
// may have shards, or parts on other hosts.
func firewall(f Facts, in Intent) kstate.Set {
	b := builder{kstate.Set{}}
	must(b.Add(table, *setBridges, *setShards, *setInside, *setClosed, *setTrusted, *setListed, *mapEgress, *mapOnward))
	for _, f := range []families{mapIngress, mapToHost, setThere, setHome, setMasq, mapSource, mapPorts, mapPortsAt, mapRanges,
		setOpen, setOpens, setOpenTo, setAsked, setLinks, setAround, setProxy, setProxies, setProxyAt} {
		must(b.Add(*f.v4, *f.v6))
	}
	if f.BridgeNetfilter && (f.Sharded || sharded(in)) {
		b.untracked()
	}
	var clamps, parting, arriving, staying []string
	if f.Spanned || spanning(in) {
		must(b.Add(*setFabric.v4, *setFabric.v6, *setWithin.v4, *setWithin.v6, *setWhole.v4, *setWhole.v6))
		clamps = append(clamps, b.clamp())
		b.chain("across", "ip saddr . ip daddr @within4 goto pass", "ip6 saddr . ip6 daddr @within6 goto pass", "drop")
		b.chain("arrived", "iifname . ip saddr . ip daddr @fabric4 goto pass", "iifname . ip6 saddr . ip6 daddr @fabric6 goto pass", "drop")
		parting = []string{"ip daddr @whole4 goto across", "ip6 daddr @whole6 goto across"}
		arriving = []string{"iifname . ip saddr . ip daddr @fabric4 goto pass", "iifname . ip6 saddr . ip6 daddr @fabric6 goto pass"}
		b.lodging(parting, arriving)
		staying = []string{"ip saddr . ip daddr @within4 return", "ip6 saddr . ip6 daddr @within6 return"}
	}
	meshed := f.Meshed || meshing(in)
	if f.Spanned || spanning(in) || f.Overlaid || overlaid(in) || meshed {
		b.wrapped(meshed)
	}
	var carried []string
	if f.Overlaid || overlaid(in) {
		b.outer(f.Sealed || sealing(in))
		carried = []string{"udp dport @trunks goto outer"}
	}
	if f.Narrowed || narrowing(in) {
		clamps = append(clamps, narrowed())
	}
	b.forward(f.Marked, clamps, parting)
	var near, offered, offering []string
	apart, serves := f.Apart || parted(in), f.Serving || serving(in) || meshed
	if apart && f.BridgeNetfilter {
		near = b.near()
	}
	if apart || serves {
		b.unsent(serves)
	}
	if meshed {
		b.mesh()
		offered, offering = publishing(), []string{ // a service's own address is for its network
			"ct original ip daddr @vip4 goto for_some",
			"ct original ip6 daddr @vip6 goto for_some",
			"ip daddr . meta l4proto . th dport @exposed4 goto pass",
			"ip6 daddr . meta l4proto . th dport @exposed6 goto pass"}
	}
	b.ingress(f.Accepted, arriving, offering)
	b.input(f.ProxyPort, carried)
	var asking, calling []string
	if serves {
		b.services(f, in, meshed)
		asking = []string{"ip daddr @vip4 goto service4", "ip6 daddr @vip6 goto service6"}
		calling = slices.Concat([]string{"ip saddr . ip daddr @hairpin4 masquerade", "ip6 saddr . ip6 daddr @hairpin6 masquerade"}, straying(f),
			[]string{"ct original ip daddr @vip4 return", "ct original ip6 daddr @vip6 return"}) // the client keeps its address
	}
	if meshed {
		calling = append(lending(in), calling...)
	}
	b.nat(f.ProxyPort, asking, near, offered, append(calling, sources(staying)...))
	return b.Set
}

// untracked leaves bridged packets on shards untracked, where they pass here:
// see forwards.
func (b builder) untracked() {
	b.base("untracked", "filter", "prerouting", -300, "iifname @shards notrack")
}

// unsent keeps to itself that there is a shorter way than by the host, for what the
// host sends back by the bridge that it came by: to a service's backend, or to a container
// that isolated ports keep the sender from. Packets of tunnels meet these rules too, so what
// few are is asked first: to look a name up takes much longer. serves: for itself the host
// asks for no service.
func (b builder) unsent(serves bool) {
	rules := []string{
		"icmp type redirect oifname @bridges drop",
		"icmpv6 type nd-redirect oifname @bridges drop",
	}
	if serves {
		rules = append(rules, "ip daddr @vip4 reject", "ip6 daddr @vip6 reject")
	}
	b.base("unsent", "filter", "output", judging, rules...)
}

// near sends containers that are kept apart to the proxy, for published ports of their own
// bridge. Where bridged packets pass here, the kernel bridges what is rewritten to go back
// where it came from (br_nf_pre_routing_finish in net/bridge/br_netfilter_hooks.c), and
// isolated ports exchange nothing.
func (b builder) near() []string {
	must(b.Add(*setNear.v4, *setNear.v6))
	return []string{
		"iifname . ip daddr . meta l4proto . th dport @near4 goto to_proxy",
		"iifname . ip6 daddr . meta l4proto . th dport @near6 goto to_proxy",
	}
}

// forward judges what leaves a network before what enters one. The look-ups
// are few for the packets of a published port: each costs as much as the rest
// of a chain. So what comes to one from no network is not asked which network it
// enters: all that have open ports would let it pass. marked: somebody may ask for the mark; clamps: of segment sizes, by a
// chain that is there anyway; parting: of what goes to other hosts of a network.
func (b builder) forward(marked bool, clamps, parting []string) {
	b.base("forward", "filter", "forward", judging, append(clamps,
		"iifname vmap @egress",
		"ct status dnat ip daddr . meta l4proto . th dport @open4 goto pass",
		"ct status dnat ip6 daddr . meta l4proto . th dport @open6 goto pass",
		"meta nfproto ipv4 oifname vmap @ingress4",
		"meta nfproto ipv6 oifname vmap @ingress6")...)
	b.chain("leave", slices.Concat([]string{ // an answer goes where the question was let in from
		"ct direction reply ct state established goto pass",
		"oifname vmap @onward",
	}, parting, []string{
		"ct state invalid goto unknown",
		"goto pass",
	})...)
	// What belongs to no connection is not rewritten, or seen by postrouting.
	b.chain("unknown",
		"ip saddr 127.0.0.0/8 drop",
		"ip saddr @masq4 drop",
		"ip6 saddr @masq6 drop",
		"goto pass")
	b.chain("within",
		"iifname . oifname vmap @inside",
		"meta nfproto ipv4 oifname vmap @ingress4",
		"meta nfproto ipv6 oifname vmap @ingress6",
		"drop")
	b.chain("stay",
		"iifname . oifname vmap @inside",
		"drop")
	// Without the mark it is for others' firewalls to say what reaches theirs.
	b.chain("to_others",
		"ct state related goto pass",
		"ct direction reply ct state established goto pass",
		"accept")
	if marked {
		b.chain("pass", fmt.Sprintf("meta mark set meta mark or %#x accept", kstate.Mark))
	} else {
		b.chain("pass", "accept")
	}
}

// ingress is what may enter a network, by its gateway mode; accepted: marked by somebody
// for that; arriving: of what comes from other hosts; offering: backends of published services.
func (b builder) ingress(accepted driver.Mark, arriving, offering []string) {
	var marked []string
	if accepted.Mask != 0 {
		marked = []string{accepted.Match() + " goto there"}
	}
	b.chain("to_nat", slices.Concat([]string{
		"ct direction reply ct state established goto pass",
		"ct status dnat goto published",
	}, arriving, []string{
		"ct state related goto pass",
	}, marked, []string{
		"iifname . oifname @trusted goto published",
		"ip saddr . ip daddr . meta l4proto . th dport @links4 goto pass",
		"ip6 saddr . ip6 daddr . meta l4proto . th dport @links6 goto pass",
		"drop",
	})...)
	b.chain("to_routed", slices.Concat([]string{
		"ct direction reply ct state established goto pass",
		"icmp type echo-request goto there",
		"icmpv6 type echo-request goto there",
	}, marked, []string{"goto published"})...)
	b.chain("to_open",
		"ct direction original ct status dnat goto published",
		"ct state established goto pass",
		"goto there")
	// The kernel would ask for each of a subnet's addresses, and has room for a
	// thousand such questions, of all namespaces: who scans would fill it.
	b.chain("there",
		"oifname != @listed goto pass",
		"ip daddr @there4 goto pass",
		"ip6 daddr @there6 goto pass",
		"drop")
	b.chain("published", slices.Concat([]string{
		"ip daddr . meta l4proto . th dport @open4 goto pass",
		"ip daddr . meta l4proto . th dport @open_ranges4 goto pass",
		"ip6 daddr . meta l4proto . th dport @open6 goto pass",
		"ip6 daddr . meta l4proto . th dport @open_ranges6 goto pass",
	}, offering, []string{
		"ct state related goto pass",
		"goto for_some",
	})...)
	b.chain("for_some",
		"ct status dnat goto asked",
		"ip daddr . meta l4proto . th dport . ip saddr @open_from4 goto pass",
		"ip6 daddr . meta l4proto . th dport . ip6 saddr @open_from6 goto pass",
		"drop")
	b.chain("asked", askedFor()...)
}

// askedFor finds who may use what was asked for. The nft program wants to know the
// protocol before it reads a port that was asked for.
func askedFor() []string {
	var rules []string
	for _, f := range []struct{ addr, digit string }{{"ip", "4"}, {"ip6", "6"}} {
		for _, proto := range []string{"tcp", "udp", "sctp"} {
			rules = append(rules, fmt.Sprintf("meta l4proto %s ct original %[2]s daddr . ct original proto-dst . %[2]s daddr . meta l4proto . %[2]s saddr @asked_from%s goto pass",
				proto, f.addr, f.digit))
		}
	}
	return append(rules, "drop")
}

// input is what may reach the host itself. What comes by a port, and not by its
// bridge, was sent to a group address of IEEE 802.1D (01:80:c2:00:00:0x) by a
// port without a guard (see kstate.Link.GroupForward): nothing that is said of
// bridges is true of it. The kernel does not forward it (ip_forward in
// net/ipv4/ip_forward.c). carried: of what other hosts send through tunnels.
func (b builder) input(proxyPort uint16, carried []string) {
	b.base("input", "filter", "input", judging, append(carried,
		"iifname "+model.PortPrefix+"* drop",
		fmt.Sprintf("iifgroup %d drop", kstate.GroupNamed),
		"ip saddr 127.0.0.0/8 iifname @bridges drop",
		"ip daddr 127.0.0.0/8 iifname @bridges ct direction original drop",
		mapped+" iifname @bridges drop",
		"meta nfproto ipv4 iifname vmap @to_host4",
		"meta nfproto ipv6 iifname vmap @to_host6",
		"ct status dnat goto proxied")...)
	b.chain("no_host",
		"ct state related accept",
		"ct direction reply ct state established accept",
		"icmp type echo-request accept",
		"icmpv6 type echo-request accept",
		"icmpv6 type nd-neighbor-solicit accept",
		"icmpv6 type nd-neighbor-advert accept",
		"ct status dnat jump proxied",
		"drop")
	b.chain("proxied", proxied(proxyPort)...)
}

// nat rewrites addresses; the first packet of a flow decides for all. asking: of what is
// for services; near: of what containers ask for that are kept apart; publishing: of what is
// for published ports of services; leaving: of the senders of what leaves.
func (b builder) nat(proxyPort uint16, asking, near, publishing, leaving []string) {
	b.base("prerouting", "nat", "prerouting", -100, append(asking,
		"iifname @closed return",
		"ip daddr 127.0.0.0/8 return",
		"fib daddr type local goto publish")...)
	b.base("output", "nat", "output", -100,
		"fib daddr type local goto publish")
	b.chain("publish", slices.Concat(near, []string{
		mapped + " return",
		"ip6 daddr ::1 goto proxy",
		"ip6 saddr fe80::/10 goto proxy",
		"dnat ip addr . port to ip daddr . meta l4proto . th dport map @ports_at4",
		"dnat ip addr . port to meta l4proto . th dport map @ports4",
		"dnat ip to meta l4proto . th dport map @ranges4",
		"dnat ip6 addr . port to ip6 daddr . meta l4proto . th dport map @ports_at6",
		"dnat ip6 addr . port to meta l4proto . th dport map @ports6",
		"dnat ip6 to meta l4proto . th dport map @ranges6",
	}, publishing, []string{"goto proxy"})...)
	b.chain("proxy", proxyRules()...)
	b.chain("to_proxy", toProxy(proxyPort)...)
	b.base("postrouting", "nat", "postrouting", 100, leaving...)
	b.chain("clients",
		"ip saddr . oifname @home4 masquerade",
		"ip6 saddr . oifname @home6 masquerade",
		"ip saddr . ip daddr @around4 masquerade",
		"ip6 saddr . ip6 daddr @around6 masquerade")
}

// mapped is a sender that a socket of both families takes for one of IPv4, as for the
// loopback's (::ffff:127.0.0.1): the kernel lets in by IPv6 what it would not by IPv4.
const mapped = "ip6 saddr ::ffff:0.0.0.0/96"

// sources says which address what leaves gets: the host's, another one, or none
// but its own. 127.0.0.0/8 is routable over our bridges for the sake of
// published ports on it; nothing may come in that way.
func sources(staying []string) []string {
	return slices.Concat([]string{
		"ip saddr 127.0.0.0/8 iifname @bridges drop",
		"ip saddr 127.0.0.0/8 oifname @bridges masquerade",
		mapped + " oifname @bridges drop",
		"ct status dnat oifname @bridges goto clients",
		"ip saddr . oifname @home4 return",
		"ip6 saddr . oifname @home6 return",
	}, staying, []string{
		"snat ip to ip saddr map @source4",
		"snat ip6 to ip6 saddr map @source6",
		"ip saddr @masq4 masquerade",
		"ip6 saddr @masq6 masquerade",
	})
}

// proxyRules finds what only the daemon's proxy can serve.
func proxyRules() []string {
	var rules []string
	for _, f := range []struct{ proto, addr, digit string }{{"ipv4", "ip", "4"}, {"ipv6", "ip6", "6"}} {
		rules = append(rules,
			f.addr+" daddr . meta l4proto . th dport @proxy_at"+f.digit+" goto to_proxy",
			"meta nfproto "+f.proto+" meta l4proto . th dport @proxy"+f.digit+" goto to_proxy",
			"meta nfproto "+f.proto+" meta l4proto . th dport @proxy_ranges"+f.digit+" goto to_proxy")
	}
	return rules
}

// proxied lets packets that to_proxy rewrote reach the proxy, past firewalls
// that close the host to others.
func proxied(port uint16) []string {
	if port == 0 {
		return nil
	}
	var rules []string
	for _, proto := range []string{"tcp", "udp"} {
		rules = append(rules, fmt.Sprintf("meta l4proto %s th dport %d goto pass", proto, port))
	}
	return rules
}

// toProxy rewrites the port alone, and not with redirect: that would take the
// address of another device for the host's own link-local ones.
func toProxy(port uint16) []string {
	if port == 0 {
		return nil
	}
	var rules []string
	for _, nfproto := range []string{"ipv4", "ipv6"} {
		for _, proto := range []string{"tcp", "udp"} {
			rules = append(rules, fmt.Sprintf("meta nfproto %s meta l4proto %s dnat to :%d", nfproto, proto, port))
		}
	}
	return rules
}
