// Package bridge is the driver of bridge networks: a Linux bridge per network
// and a veth pair per endpoint, as Docker's default driver.
//
//	 host                                     sandbox
//	┌───────────────────────────────┐        ┌──────────────────┐
//	│ bridge slb<network>           │        │                  │
//	│   10.0.0.1/24  fe80::1/64     │        │  10.0.0.2/24     │
//	│     │                         │        │                  │
//	│   slv<endpoint> ──────────────┼──veth──┼─ eth0            │
//	└───────────────────────────────┘        └──────────────────┘
//
// The veth's far end is born in the sandbox under its final name. IPv6
// addresses are set by us on both sides, link-local ones too, so that a port
// comes up without autoconfiguration or duplicate address detection.
package bridge

import (
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/driver"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Driver compiles bridge networks.
type Driver struct{}

// linkLocal is the bridge's own link-local address, the same on every bridge as
// in Docker.
var linkLocal = netip.MustParsePrefix("fe80::1/64")

// Network returns the bridge with the gateway addresses. An adopted bridge is
// not made, only given the addresses it lacks.
func (Driver) Network(n *model.Network, f driver.Facts) (kstate.Set, error) {
	s := kstate.Set{}
	if err := s.Add(shards(n, f)...); err != nil {
		return nil, err
	}
	_, has4 := n.Subnet(false)
	_, has6 := n.Subnet(true)
	dev := n.Device()
	if err := s.Add(lanes(n, f)...); err != nil {
		return nil, err
	}
	if n.Wired() || n.ByOthers() {
		return s, nil // its router is somebody else's, or the bridge with all on it
	}
	localnet := has4 && !n.Internal
	proxyARP := n.Options.NoICC && has4 && n.OnBridge(false)
	if proxyARP { // at once: no other would answer, for whom it would wait up to 0.8 s (arp_process in net/ipv4/arp.c)
		if err := s.Add(kstate.Sysctl{Name: driver.NeighSetting(dev, "proxy_delay"), Value: "0"}); err != nil {
			return nil, err
		}
	}
	if n.Options.Adopted {
		objs := gateways(n, dev)
		if localnet {
			objs = append(objs, kstate.Sysctl{Name: driver.Setting("ipv4", dev, "route_localnet"), Value: "1"})
		}
		if proxyARP {
			objs = append(objs, kstate.Sysctl{Name: driver.Setting("ipv4", dev, "proxy_arp_pvlan"), Value: "1"})
		}
		return s, s.Add(objs...)
	}
	own := kstate.Link{
		Name: dev, Type: kstate.TypeBridge, MTU: n.Options.MTU, MAC: model.MACForID(model.MACBridge, n.ID),
		Up: true, Localnet: localnet, ProxyARP: proxyARP, NoARP: isolated(n), Alias: "sealane " + n.Name,
	}
	if slices.Contains(f.Uplinked, dev) {
		own.MAC = "" // the NIC's
	}
	objs := append(gateways(n, dev), sorting(n, own)...)
	if has6 && n.OnBridge(true) {
		objs = append(objs, kstate.Addr{Dev: dev, Prefix: linkLocal})
	}
	return s, s.Add(objs...)
}

// isolated reports whether the host is no part of a network: then it does not
// tell it, by ARP, which addresses it has elsewhere.
func isolated(n *model.Network) bool {
	return n.Mode(false) == model.GatewayIsolated && n.Mode(true) == model.GatewayIsolated
}

func gateways(n *model.Network, dev string) []kstate.Object {
	var objs []kstate.Object
	for _, sub := range n.Subnets {
		if !n.OnBridge(sub.Prefix.Addr().Is6()) {
			continue
		}
		objs = append(objs, kstate.Addr{Dev: dev, Prefix: netip.PrefixFrom(sub.Gateway, sub.Prefix.Bits())})
	}
	return objs
}

// Endpoint returns the veth, what limits it, and the addresses of its far end.
func (Driver) Endpoint(n *model.Network, e *model.Endpoint, ns kstate.NS, f driver.Facts) (kstate.Set, error) {
	s := kstate.Set{}
	peer := kstate.Peer{NS: ns, Name: e.IfName, MAC: e.MAC, Sysctls: e.InterfaceSysctls(), Auto: e.Auto(n)}
	if e.Handed {
		peer = kstate.Peer{Name: e.FarDevice(), MAC: e.MAC}
	}
	l := kstate.Link{
		Name: e.Device(), Type: kstate.TypeVeth, MTU: driver.MTU(n, e), MAC: model.MACForID(model.MACVeth, e.ID),
		Up: true, NoARP: n.Options.NoAntispoof, Master: n.BridgeOf(e), Isolated: n.Options.NoICC,
		Hairpin: f.BridgeNetfilter && e.Shard == 0, Pinned: e.Shard > 0, // see shards
		GroupForward: !n.Options.NoAntispoof, // to the guard
		Peer:         peer, Handed: e.Handed,
		Alias: "sealane " + n.Name, Named: e.Alias != "",
	}
	sort(n, e, &l)
	objs := append([]kstate.Object{l}, limits(n, e)...)
	if e.Handed {
		return s, s.Add(objs...)
	}
	for _, r := range n.Detours(e) {
		objs = append(objs, kstate.Route{NS: ns, Dst: r.Dst, Via: r.Via, Dev: e.IfName, Onlink: r.Via.IsValid()})
	}
	return s, s.Add(append(objs, driver.Inside(e, ns)...)...)
}
