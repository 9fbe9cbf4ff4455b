// Package fabric is the driver of networks that span hosts: on each a bridge with
// the containers of its own subnet, as package bridge makes it, and ways to the
// subnets of the others, by a backend. What it makes is what flanneld makes, so that
// hosts of both kinds are of one network.
//
//	 host 192.0.2.1, lease 10.5.1.0/24           host 192.0.2.2, lease 10.5.2.0/24
//	┌─────────────────────────────────────┐     ┌────────────────────────────────┐
//	│ bridge slb… 10.5.1.1/24 ─ containers│     │ bridge slb… 10.5.2.1/24 ─ …    │
//	│   │                                 │     │   │                            │
//	│ route 10.5.2.0/24 via 10.5.2.0      │     │ route 10.5.1.0/24 via …        │
//	│   │ dev slt…                        │     │   │                            │
//	│ slt… vxlan, 10.5.1.0/32, M1         │     │ slt… vxlan, 10.5.2.0/32, M2    │
//	│   │ neighbour 10.5.2.0 is M2        │     │   │                            │
//	│   │ M2 is at 192.0.2.2              │     │   │                            │
//	│ eth0 192.0.2.1 ─────────── UDP ─────┼─────┼─ eth0 192.0.2.2                │
//	└─────────────────────────────────────┘     └────────────────────────────────┘
//
// With host-gw, or where vxlan may route directly and the hosts are on one link, the
// way is a route alone: 10.5.2.0/24 via 192.0.2.2 dev eth0.
package fabric

import (
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Ways returns what leads from this host's subnets of a network to those of its
// peers. A peer that the backend cannot reach has none, see Unreached.
func Ways(n *model.Network) (kstate.Set, error) {
	s, f := make(kstate.Set, 3*len(n.Fabric.Peers)+8), n.Fabric
	for _, is6 := range []bool{false, true} {
		own, ok := n.Subnet(is6)
		whole, in := f.Of(is6)
		if !ok || !in || !Routed(f) {
			continue
		}
		// What is in nobody's subnet does not leave by the default route.
		objs := append(tunnel(n, own.Prefix, is6), kstate.Route{Dst: whole, Blackhole: true})
		for i := range f.Peers {
			objs = append(objs, way(n, &f.Peers[i], is6)...)
		}
		if err := s.Add(objs...); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// way returns what leads to a peer's subnet of a family.
func way(n *model.Network, p *model.Peer, is6 bool) []kstate.Object {
	dst, ok := p.Subnet(is6)
	if !ok || Unreached(n.Fabric, p, is6) != "" {
		return nil
	}
	fits := Fits(n.Fabric, p, is6)
	if Direct(n.Fabric, p) {
		return []kstate.Object{kstate.Route{Dst: dst, Via: p.Public(is6), Dev: n.Fabric.Uplink, MTU: fits}}
	}
	dev := n.Tunnel(is6)
	if n.Fabric.Backend.Type != model.BackendVXLAN {
		return []kstate.Object{kstate.Route{Dst: dst, Dev: dev, MTU: fits}}
	}
	gateway := dst.Addr() // no container's: the subnet's own
	return []kstate.Object{
		kstate.Route{Dst: dst, Via: gateway, Dev: dev, Onlink: true, MTU: fits},
		kstate.Neigh{Dev: dev, Addr: gateway, MAC: p.MAC(is6)},
		kstate.FDB{Dev: dev, MAC: p.MAC(is6), Dst: p.Public(is6)},
	}
}

// Direct reports whether a peer is the next hop to its own subnets.
func Direct(f *model.Fabric, p *model.Peer) bool {
	return p.OnLink && (f.Backend.Type == model.BackendHostGW || f.Backend.DirectRouting)
}

// Unreached says why a peer's subnet of a family cannot be reached; "" if it can.
func Unreached(f *model.Fabric, p *model.Peer, is6 bool) string {
	sub, _ := p.Subnet(is6)
	switch {
	case slices.Contains(p.Taken, sub):
		return "another program's bridge on this host has that subnet"
	case f.Backend.Type == model.BackendWireGuard:
		return withoutTunnel(f, p, is6)
	case !p.Public(is6).IsValid() || !f.Public(is6).IsValid():
		return "both hosts need an address of that family"
	case f.Backend.Type == model.BackendHostGW && !p.OnLink:
		return p.Public(is6).String() + " is not on a link of " + f.Uplink + ", as host-gw needs"
	case f.Backend.Type == model.BackendVXLAN && !Direct(f, p) && p.MAC(is6) == "":
		return "it says no hardware address of a vxlan device"
	}
	return ""
}

// tunnel returns the device of a family, with the address that packets of the host's
// own have: that of the subnet itself, as flanneld's.
func tunnel(n *model.Network, own netip.Prefix, is6 bool) []kstate.Object {
	f, dev := n.Fabric, n.Tunnel(is6)
	if dev == "" || !starts(f, is6) {
		return nil
	}
	l := kstate.Link{Name: dev, Type: kstate.TypeTUN, MTU: MTU(f), Up: true, Alias: "sealane " + n.Name}
	if f.Backend.Type == model.BackendWireGuard && !f.Served {
		l.Type = kstate.TypeWireGuard
	}
	if f.Backend.Type == model.BackendVXLAN {
		l.Type, l.MAC, l.Parent = kstate.TypeVXLAN, f.MAC, f.Uplink
		l.VXLAN = kstate.VXLAN{VNI: f.Backend.VNI, Port: f.Backend.Port, Local: f.Public(is6), NoLearning: true, GBP: f.Backend.GBP}
	}
	return []kstate.Object{l, kstate.Addr{Dev: dev, Prefix: netip.PrefixFrom(own.Addr(), own.Addr().BitLen())}}
}

// What a backend puts around a packet, in bytes. WireGuard's is as flanneld counts:
// 40 of IPv6, 8 of UDP and 32 of its own.
const (
	aroundUDP4      = 28
	aroundUDP6      = 48
	aroundWireGuard = 80
)

// MTU returns what fits through the tunnel in bytes. It is one for both families:
// containers have one.
func MTU(f *model.Fabric) int {
	mtu, around := f.MTU, 0
	if f.Backend.MTU != 0 {
		mtu = f.Backend.MTU
	}
	_, six := f.Of(true)
	switch f.Backend.Type {
	case model.BackendVXLAN:
		outer := kstate.VXLAN{Local: f.Public4}
		if six {
			outer.Local = f.Public6
		}
		around = outer.Overhead()
	case model.BackendUDP:
		if around = aroundUDP4; six {
			around = aroundUDP6
		}
	case model.BackendWireGuard:
		around = aroundWireGuard
	}
	return mtu - around
}
