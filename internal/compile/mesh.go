package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/driver/overlay"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Published ports of services, at all hosts of the cluster. The host that is asked chooses
// a backend as for a service's address. What goes to another host goes by the mesh, with
// the client's address, and what comes back finds the way by the flow's mark:
//
//	prerouting -100  published4, pick3, target4: a port of the host is rewritten to a backend's
//	prerouting -300  what comes from a host of the mesh is tracked apart from what comes from
//	                 others: a client may ask two hosts from one port
//	prerouting  -80  from a host of the mesh: the flow is marked with who it is
//	                 node4: a new flow to another host is marked with that one; all packets of
//	                 marked flows that do not come by the mesh have the mark, and are routed by it
//	output     -110  the same for what the host says itself, errors about such flows too,
//	            -80  and for what it begins
//	postrouting -150 no mark inside the mesh: the kernel would route the outer packet by it;
//	                 and segments as large as the way takes
//
// A host where nobody is on the network has nothing of it but this.
var (
	mapPublished   = perFamily("published", "inet_proto . inet_service", "verdict")
	mapPublishedAt = perFamily("published_at", "ADDR . inet_proto . inet_service", "verdict")
	mapTarget      = perFamily("target", "inet_proto . inet_service . mark", "ADDR . inet_service")
	mapTargetAt    = perFamily("target_at", "ADDR . inet_proto . inet_service . mark", "ADDR . inet_service")
	mapNode        = perFamily("node", "ADDR . inet_proto . inet_service", "mark") // backends on other hosts → the host
	setExposed     = perFamily("exposed", "ADDR . inet_proto . inet_service", "")  // those here
	mapPeer        = set("peer", "ether_addr", "mark")                             // devices of the mesh → the host
	setItself      = perFamily("itself", "ADDR . mark", "")                        // addresses of a host . that host
)

const meshDevices = "slm*"

// Published reports whether a network has services with published ports, for which this
// host takes part in the mesh.
func Published(n *model.Network) bool {
	return n.Overlay != nil && n.Overlay.Mesh != nil && slices.ContainsFunc(n.Overlay.Services, func(s *model.Service) bool { return len(s.Publish) > 0 })
}

// meshed lists them, apart those that are encrypted.
func meshed(in Intent) (plain, sealed []*model.Network) {
	for _, n := range in.Networks {
		switch {
		case !Published(n):
		case n.Options.Encrypted:
			sealed = append(sealed, n)
		default:
			plain = append(plain, n)
		}
	}
	return plain, sealed
}

func meshing(in Intent) bool {
	plain, sealed := meshed(in)
	return len(plain)+len(sealed) > 0
}

// mesh returns what the host has of it: devices, ways, and whose packets are let in by it.
func mesh(in Intent) []kstate.Object {
	var objs []kstate.Object
	var all [2]bool
	ways := narrow(in)
	plain, sealed := meshed(in)
	for i, nets := range [][]*model.Network{plain, sealed} {
		m := overlay.MeshOf(nets)
		if m == nil {
			continue
		}
		var families [2]bool
		for _, n := range nets {
			for _, s := range n.Subnets {
				f := index(s.Prefix.Addr().Is6())
				families[f], all[f] = true, true
			}
		}
		objs = append(objs, overlay.Mesh(m, i == 1, families, ways)...)
		for j := range m.Hosts {
			h := &m.Hosts[j]
			if overlay.MeshWay(h, i == 1).IsValid() {
				objs = append(objs, elem(mapPeer, model.MeshMAC(h.ID, i == 1), meshMark(h.Number, i == 1)))
				for _, a := range h.Public {
					objs = append(objs, elem(setItself.of(a.Is6()), fmt.Sprintf("%s . %s", a, meshMark(h.Number, i == 1)), ""))
				}
			}
		}
		dev := overlay.MeshDevice(i == 1)
		objs = append(objs, elem(mapEgress, dev, verdictFromMesh), elem(mapOnward, dev, verdictToMesh),
			elem(mapIngress.v4, dev, verdictToMesh), elem(mapIngress.v6, dev, verdictToMesh),
			elem(mapToHost.v4, dev, verdictMeshHost), elem(mapToHost.v6, dev, verdictMeshHost))
	}
	return append(objs, overlay.MeshRules(overlay.MeshDevice(len(plain) == 0), all)...)
}

const (
	verdictFromMesh = "goto from_mesh"
	verdictToMesh   = "goto to_mesh"
	verdictMeshHost = "goto mesh_host"
)

func meshMark(number int, sealed bool) string {
	return fmt.Sprintf("0x%08x", overlay.MarkOf(number, sealed))
}

// mesh adds the chains of published ports.
func (b builder) mesh() {
	for _, f := range []families{mapPublished, mapPublishedAt, mapTarget, mapTargetAt, mapNode, setExposed, setItself} {
		must(b.Add(*f.v4, *f.v6))
	}
	must(b.Add(*mapPeer))
	b.chain("mesh_from", "ct mark set ether saddr map @peer")
	b.base("mesh_output", "route", "output", before, ownFlow())
	b.base("mesh_begin", "route", "output", steering, "ct state new ct status dnat goto mesh_new")
	// A backend on this host needs no mark; the one there is was for the choice.
	b.chain("mesh_new",
		"ct original ip daddr @vip4 accept",
		"ct original ip6 daddr @vip6 accept",
		"meta mark set ip daddr . meta l4proto . th dport map @node4 ct mark set meta mark accept",
		"meta mark set ip6 daddr . meta l4proto . th dport map @node6 ct mark set meta mark accept",
		"ip daddr . meta l4proto . th dport @exposed4 meta mark set 0",
		"ip6 daddr . meta l4proto . th dport @exposed6 meta mark set 0")
	// Who was asked sends the questions that way, and who answers the answers. What came by
	// it is where it was to go.
	b.chain("mesh_way",
		"ct direction original ct status dnat iifname != "+meshDevices+" meta mark set ct mark accept",
		"ct status dnat accept",
		"ct direction reply iifname != "+meshDevices+" meta mark set ct mark")
	// Without a mark nothing leaves by it: to compare a name takes longer.
	b.base("mesh_to", "filter", "postrouting", clamping, "meta mark != 0 oifname "+meshDevices+" goto mesh_leave")
	b.chain("mesh_leave", "meta mark set 0", "tcp flags syn / syn,rst tcp option maxseg size set rt mtu")
	b.chain("from_mesh",
		"ct state established goto pass",
		"ct state related goto pass",
		"ip daddr . meta l4proto . th dport @exposed4 goto pass",
		"ip6 daddr . meta l4proto . th dport @exposed6 goto pass",
		"drop")
	b.chain("to_mesh",
		"ct status dnat goto pass",
		"ct direction reply ct state established goto pass",
		"ct state related goto pass",
		"drop")
	b.chain("mesh_host",
		"ct direction reply ct state established accept",
		"ct state related accept",
		"drop")
}

// steering is the priority of what marks flows: after what rewrites them. What the host
// itself sends is marked before: to rewrite it is to route it again, by its mark.
const (
	steering = -80
	before   = -110
)

// originating is the rule for what comes by the mesh before its connection is looked for.
// The answers are in no zone, so that the kernel gives the client another port where it
// would not tell them from those of another flow.
func originating() string { return "iifname " + meshDevices + " ct original zone set @ll,80,16" }

// ownFlow is the rule for packets of flows that have another host at an end.
func ownFlow() string {
	return fmt.Sprintf("ct mark and %#x == %#x goto mesh_way", uint32(overlay.MeshMask), uint32(overlay.MeshMark))
}

// beginning are the rules for the first packets of flows.
func beginning() []string {
	return []string{"iifname " + meshDevices + " goto mesh_from", "ct status dnat goto mesh_new"}
}

// targeting are the rules that rewrite what is asked for at a published port.
func targeting() []string {
	return []string{
		fmt.Sprintf("meta mark set meta mark or %#x", overlay.ChoiceMark),
		"dnat ip addr . port to ip daddr . meta l4proto . th dport . meta mark map @target_at4",
		"dnat ip addr . port to meta l4proto . th dport . meta mark map @target4",
		"dnat ip6 addr . port to ip6 daddr . meta l4proto . th dport . meta mark map @target_at6",
		"dnat ip6 addr . port to meta l4proto . th dport . meta mark map @target6",
	}
}

// publishing are the rules that find who serves a port of the host.
func publishing() []string {
	return []string{
		"ip daddr . meta l4proto . th dport vmap @published_at4",
		"ip daddr 127.0.0.0/8 goto proxy", // which asks this host's own address

		"meta nfproto ipv4 meta l4proto . th dport vmap @published4",
		"ip6 daddr . meta l4proto . th dport vmap @published_at6",
		"meta nfproto ipv6 meta l4proto . th dport vmap @published6",
	}
}

// lending are the rules by which what a container of this host asks of another host has
// this host's address: the other one knows no other way back to it, and may have the same.
// So has what the other host asked itself, or a container of it: it takes nothing in that
// has its own address.
func lending(in Intent) []string {
	plain, sealed := meshed(in)
	m := overlay.MeshOf(append(plain, sealed...))
	var rules []string
	for _, f := range []struct{ family, ip, digit string }{{"ipv4", "ip", "4"}, {"ipv6", "ip6", "6"}} {
		to := "masquerade"
		if m != nil && m.Lends(f.digit == "6").IsValid() {
			to = "snat " + f.ip + " to " + m.Lends(f.digit == "6").String()
		}
		rules = append(rules, fmt.Sprintf("meta nfproto %s oifname %s iifname @bridges %s", f.family, meshDevices, to),
			fmt.Sprintf("oifname %s %s saddr . ct mark @itself%s %s", meshDevices, f.ip, f.digit, to))
	}
	return rules
}

// offered returns the elements of a service's published ports.
func offered(n *model.Network, s *model.Service, f Facts) []kstate.Object {
	o := offer{network: n, seen: map[kstate.Key]bool{}}
	if !n.Absent() {
		o.near = neighbourhood(n, f)
	}
	for _, p := range s.Publish {
		o.port(s, p)
	}
	return o.objs
}

// offer gathers the elements of a service's published ports.
type offer struct {
	network *model.Network
	near    string // see neighbourhood
	seen    map[kstate.Key]bool
	objs    []kstate.Object
}

func (o *offer) once(obj kstate.Object) {
	if !o.seen[obj.Key()] {
		o.seen[obj.Key()] = true
		o.objs = append(o.objs, obj)
	}
}

// reached reports whether there is a way by the mesh to a host, by its number.
func reached(n *model.Network, number int) bool {
	return slices.ContainsFunc(n.Overlay.Mesh.Hosts, func(h model.MeshHost) bool {
		return h.Number == number && overlay.MeshWay(&h, n.Options.Encrypted).IsValid()
	})
}

// port adds those of one port.
func (o *offer) port(s *model.Service, p model.Publish) {
	// What it gave back would end the flows of who drains.
	if !p.Local || slices.ContainsFunc(s.Backends, func(m model.Member) bool {
		return m.Local && (m.State == model.MemberReady || m.State == model.MemberDraining)
	}) {
		o.hold(p)
	}
	for _, sub := range o.network.Subnets {
		is6 := sub.Prefix.Addr().Is6()
		chosen := o.seats(s, p, is6)
		if len(chosen) == 0 || p.Taken != "" {
			continue // nobody listens at the port, so the kernel refuses
		}
		pick := pickVerdict(Pick{Balance: s.Balance, N: len(chosen)})
		if len(p.Addrs) == 0 {
			at := fmt.Sprintf("%s . %d", p.Proto, p.Port)
			o.leads(mapPublished.of(is6), mapTarget.of(is6), at, pick, chosen, p, is6)
			o.leadsNear(p, anyAddr(is6).String(), is6)
		}
		for _, a := range p.Addrs {
			if a.Is6() == is6 {
				at := fmt.Sprintf("%s . %s . %d", a, p.Proto, p.Port)
				o.leads(mapPublishedAt.of(is6), mapTargetAt.of(is6), at, pick, chosen, p, is6)
				o.leadsNear(p, a.String(), is6)
			}
		}
	}
}

// hold keeps other programs off the port.
func (o *offer) hold(p model.Publish) {
	if p.Taken != "" || p.Proto == "sctp" {
		return
	}
	for _, a := range p.Addrs {
		o.once(kstate.Hold{Proto: p.Proto, Addr: a, First: p.Port, Last: p.Port})
	}
	if len(p.Addrs) == 0 {
		o.once(kstate.Hold{Proto: p.Proto, First: p.Port, Last: p.Port})
	}
}

// leads adds what leads from a port to those chosen.
func (o *offer) leads(asked, target *kstate.NftSet, at, pick string, chosen []*model.Member, p model.Publish, is6 bool) {
	o.once(elem(asked, at, pick))
	if len(p.Addrs) == 0 && p.Proto != "sctp" && o.network.Overlay.Mesh.Local.Is6() == is6 {
		o.once(elem(setProxyAt.v4, fmt.Sprintf("%s . %s . %d", loopback(false), p.Proto, p.Port), ""))
		o.once(elem(setProxyAt.v6, fmt.Sprintf("%s . %s . %d", loopback(true), p.Proto, p.Port), ""))
	}
	for i, m := range chosen {
		o.once(elem(target, fmt.Sprintf("%s . 0x%08x", at, overlay.ChoiceMark|i), fmt.Sprintf("%s . %d", m.Addr(is6), cmp.Or(m.Port, p.Target))))
	}
}

// leadsNear sends containers that are kept apart to the daemon's proxy, see builder.near.
func (o *offer) leadsNear(p model.Publish, at string, is6 bool) {
	if o.near != "" && p.Proto != "sctp" {
		o.once(elem(setNear.of(is6), fmt.Sprintf("%s . %s . %s . %d", o.near, at, p.Proto, p.Port), ""))
	}
}

// loopback is the host's address to itself.
func loopback(is6 bool) netip.Addr {
	if is6 {
		return netip.IPv6Loopback()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// exposed returns where a backend that published ports lead to is, or that it is here.
func exposed(n *model.Network, s *model.Servant) []kstate.Object {
	var objs []kstate.Object
	for _, e := range s.Exposed {
		is6, at := e.Addr.Is6(), fmt.Sprintf("%s . %s . %d", e.Addr, e.Proto, e.Port)
		switch {
		case e.Local:
			objs = append(objs, elem(setExposed.of(is6), at, ""))
		case reached(n, e.Node):
			objs = append(objs, elem(mapNode.of(is6), at, meshMark(e.Node, n.Options.Encrypted)))
		}
	}
	return objs
}

// seats lists the backends that new flows to a port go to, each as often as it weighs.
func (o *offer) seats(s *model.Service, p model.Publish, is6 bool) []*model.Member {
	all := slices.DeleteFunc(seats(s, is6), func(m *model.Member) bool { return !m.Local && (p.Local || !reached(o.network, m.Node)) })
	far := func(m *model.Member) bool { return !m.Local }
	if s.Nearby && slices.ContainsFunc(all, func(m *model.Member) bool { return m.Local }) {
		all = slices.DeleteFunc(all, far)
	}
	return all
}

// offeredPicks are the chains that a service's published ports need.
func offeredPicks(n *model.Network, s *model.Service) (all []Pick) {
	o := offer{network: n}
	for _, p := range s.Publish {
		for _, sub := range n.Subnets {
			if c := o.seats(s, p, sub.Prefix.Addr().Is6()); len(c) > 0 {
				all = append(all, Pick{Balance: s.Balance, N: len(c)})
			}
		}
	}
	return all
}

// meshAddrs are where the hosts of the mesh are that send to this one, not through a tunnel.
func meshAddrs(plain []*model.Network) (all []netip.Addr) {
	if m := overlay.MeshOf(plain); m != nil {
		for _, h := range m.Hosts {
			if h.At.IsValid() {
				all = append(all, h.At)
			}
		}
	}
	return all
}
