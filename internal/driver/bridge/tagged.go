package bridge

import (
	"slices"

	"github.com/sealane/sealane/internal/driver"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// sort gives the bridge and one of its ports their VLANs, in one of two ways.
//
//	bridge sorts: one for all VLANs          lanes: a bridge for each VLAN
//	┌──────────────────────────────┐         ┌──────────────────────────────┐
//	│ br0   tag 10                 │         │ slb…                         │
//	│  ├─ slv…  tag 10      web    │         │  ├─ slv…              web    │
//	│  ├─ slv…  tag 20      db     │         │  └─ br0.10 ─┐                │
//	│  └─ eth1  tags all ── wire   │         │ slw…        │                │
//	└──────────────────────────────┘         │  ├─ slv…    │         db     │
//	                                         │  └─ br0.20 ─┴ br0 ─ eth1 ─ wire
//	                                         └──────────────────────────────┘
//
// The first needs CONFIG_BRIDGE_VLAN_FILTERING, and of what others plug in makes
// trunks; the second needs CONFIG_VLAN_8021Q. There br0 sends frames with tags to
// all its ports, and br0.10, which is promiscuous as a port of a bridge, has it keep
// for the host what is for others (br_handle_frame_finish in net/bridge/br_input.c).
// With option parent the device below is a NIC, which stays the host's.
func sort(n *model.Network, e *model.Endpoint, l *kstate.Link) {
	if n.Sorts() {
		l.Tag, l.Tags = n.VLANOf(e), string(n.TrunksOf(e))
	}
}

// sorting returns the network's own bridge, which the host is on as an endpoint
// without a VLAN of its own.
func sorting(n *model.Network, own kstate.Link) []kstate.Object {
	if !n.Sorts() {
		return []kstate.Object{own}
	}
	own.Sorting, own.Tag = true, n.Options.VLAN
	return []kstate.Object{own, kstate.Trunk{Bridge: own.Name}}
}

// lanes returns the ports by which VLANs lead to bridges of the network, and those
// bridges that are not its Device. The Device of a VLAN's network is made with its
// gateways, unless those are others'; then the bridge below it is made here.
func lanes(n *model.Network, f driver.Facts) []kstate.Object {
	var objs []kstate.Object
	alias := "sealane " + n.Name
	plain := func(name string) kstate.Link {
		return kstate.Link{Name: name, Type: kstate.TypeBridge, MTU: n.Options.MTU, MAC: deviceMAC(model.MACBridge, name), Up: true, Alias: alias}
	}
	for _, l := range n.Ways() {
		if n.Hostless(l) {
			own := plain(l.Bridge)
			if own.NoARP = true; l.Bridge == n.Device() {
				own.MAC = model.MACForID(model.MACBridge, n.ID)
			}
			objs = append(objs, own)
		}
		objs = append(objs, kstate.Link{
			Name: l.Port, Type: kstate.TypeVLAN, Parent: l.Parent, VLAN: l.VLAN, Master: l.Bridge,
			MTU: n.Options.MTU, Up: true, NoARP: true, Alias: alias,
		})
	}
	if base := n.Base(); base != n.Device() && !n.Options.Adopted {
		below := plain(base)
		if slices.Contains(f.Uplinked, base) {
			below.MAC = "" // the NIC's
		}
		objs = append(objs, below)
	}
	return objs
}
