// Package overlay is the driver of networks that are one link of Ethernet over several
// hosts: on each that has endpoints a bridge, as package bridge makes it, with one
// more port, a vxlan device that leads to the others (RFC 7348).
//
//	 host 192.0.2.1                               host 192.0.2.2
//	┌─────────────────────────────────────┐      ┌───────────────────────────┐
//	│ bridge slb… 10.0.0.1/24 ─ 10.0.0.2  │      │ bridge slb… 10.0.0.1/24   │
//	│   │                                 │      │   │            ─ 10.0.0.3 │
//	│ slx… vxlan, port of the bridge      │      │ slx…                      │
//	│   10.0.0.3 has MAC M3               │      │   10.0.0.2 has MAC M2     │
//	│   M3 is at 192.0.2.2                │      │   M2 is at 192.0.2.1      │
//	│   what is for all: to 192.0.2.2     │      │   …: to 192.0.2.1         │
//	│ eth0 192.0.2.1 ────────── UDP ──────┼──────┼─ eth0 192.0.2.2           │
//	└─────────────────────────────────────┘      └───────────────────────────┘
//
// Where an endpoint is, and which hardware address it has, is known of every one: the
// device answers ARP and neighbour discovery itself, so no such question crosses it,
// no host learns from what others send, and what is for nobody known goes nowhere.
// That is why the gateway may have the same addresses on every host.
package overlay

import (
	"slices"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Reach returns what leads from a network's bridge on this host to its endpoints on
// others. It has nothing on a host where nobody is on it.
func Reach(n *model.Network) (kstate.Set, error) {
	o := n.Overlay
	s := make(kstate.Set, 4*len(o.Far)+4)
	objs := []kstate.Object{trunk(n)}
	for _, host := range o.Hosts() {
		objs = append(objs, kstate.FDB{Dev: n.Trunk(), MAC: kstate.Everyone, Dst: host})
	}
	for i := range o.Far {
		f := &o.Far[i]
		if !f.Reached() {
			continue
		}
		objs = append(objs, kstate.FDB{Dev: n.Trunk(), MAC: f.MAC, Dst: f.At, Bridged: true})
		addrs := f.Addrs
		if _, six := n.Subnet(true); six {
			addrs = append(slices.Clip(addrs), model.LinkLocal(f.MAC).Addr())
		}
		for _, a := range addrs {
			objs = append(objs, kstate.Neigh{Dev: n.Trunk(), Addr: a, MAC: f.MAC})
		}
	}
	for i := range o.Services {
		for _, a := range o.Services[i].VIPs { // the host's own business, and no other's
			objs = append(objs, kstate.Neigh{Dev: n.Trunk(), Addr: a, MAC: model.MACForID(model.MACBridge, n.ID)})
		}
	}
	return s, s.Add(objs...)
}

// trunk is the vxlan device. Its hardware address is nobody's: it sends nothing itself.
func trunk(n *model.Network) kstate.Link {
	o := n.Overlay
	return kstate.Link{
		Name: n.Trunk(), Type: kstate.TypeVXLAN, MTU: n.Options.MTU, MAC: model.MACForID(model.MACVeth, n.ID), Up: true,
		Master: n.Device(), Known: true, Isolated: n.Options.NoICC, Parent: o.Uplink,
		VXLAN: kstate.VXLAN{VNI: o.VNI, Port: o.Port, Local: o.Local, NoLearning: true, Proxy: true},
		Alias: "sealane " + n.Name,
	}
}

// MTU returns what of a host's MTU is left for a network's packets, in bytes.
func MTU(o *model.Overlay) int {
	return o.MTU - kstate.VXLAN{Local: o.Local}.Overhead()
}
