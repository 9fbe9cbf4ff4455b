// Package ovs is the driver of networks on Open vSwitch: a bridge that several of
// them may be on, each on a VLAN of its own, and a veth pair per endpoint.
//
//	 host                                                   sandbox
//	┌────────────────────────────────────────────────┐     ┌──────────────────┐
//	│ ovs-bridge ovsbr0 ── VLAN 100 ── slv<endpoint> ─┼veth─┼─ eth0  no tag    │
//	│   │            └──── VLANs 100,200, tagged ─────┼veth─┼─ eth0  eth0.100  │
//	│   └── eth0, a trunk: whoever made it one        │     │                  │
//	└───────┼────────────────────────────────────────┘     └──────────────────┘
//	        └── the LAN, its VLANs, other hosts
//
// The host is on no network of this kind, and its firewall judges nothing on it.
//
// The datapath "netdev" has ovs-vswitchd itself read frames from the veth and
// write them to others, as they are. What a container leaves to hardware, as
// Linux does with a veth, would never be done: checksums, and cutting a large
// segment into frames. There the far end does it before it sends.
package ovs

import (
	"strings"

	"github.com/sealane/sealane/internal/driver"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Driver compiles networks on Open vSwitch.
type Driver struct{}

// Network returns nothing: the bridge may be that of several networks, see
// [driver.Shared].
func (Driver) Network(*model.Network, driver.Facts) (kstate.Set, error) { return kstate.Set{}, nil }

// Endpoint returns the veth, its port, and what its far end has.
func (Driver) Endpoint(n *model.Network, e *model.Endpoint, ns kstate.NS, _ driver.Facts) (kstate.Set, error) {
	s := kstate.Set{}
	peer := kstate.Peer{NS: ns, Name: e.IfName, MAC: e.MAC, Sysctls: e.InterfaceSysctls(), Auto: e.Auto(n)}
	if e.Handed {
		peer = kstate.Peer{Name: e.FarDevice(), MAC: e.MAC}
	}
	peer.Whole = n.Options.Datapath == model.DatapathNetdev
	objs := []kstate.Object{kstate.Link{
		Name: e.Device(), Type: kstate.TypeVeth, MTU: driver.MTU(n, e), MAC: model.MACForID(model.MACVeth, e.ID),
		Up: true, NoARP: true, Peer: peer, Handed: e.Handed, Alias: "sealane " + n.Name, Named: e.Alias != "",
	}, port(n, e)}
	if e.Handed {
		return s, s.Add(objs...)
	}
	return s, s.Add(append(objs, driver.Inside(e, ns)...)...)
}

// port returns the host's end of an endpoint as a port of its network's bridge.
func port(n *model.Network, e *model.Endpoint) kstate.OVSPort {
	trunks := n.TrunksOf(e)
	return kstate.OVSPort{
		Bridge: n.Device(), Device: e.Device(), Tag: n.VLANOf(e), Trunks: trunks.List(), All: trunks == model.AllVLANs,
		IDs: map[string]string{"sealane.network": n.Name, "sealane.endpoint": string(e.ID), "sealane.addresses": addresses(e)},
	}
}

func addresses(e *model.Endpoint) string {
	var list []string
	for _, p := range e.Addrs {
		list = append(list, p.String())
	}
	for _, p := range e.Outside {
		list = append(list, p.String())
	}
	return strings.Join(list, " ")
}
