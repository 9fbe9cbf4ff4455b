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
	"net/netip"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Trunk returns the port of a network's bridge on this host that leads to its endpoints on
// others: the vxlan device. Its hardware address is nobody's: it sends nothing itself.
func Trunk(n *model.Network) kstate.Object {
	o := n.Overlay
	return kstate.Link{
		Name: n.Trunk(), Type: kstate.TypeVXLAN, MTU: n.Options.MTU, MAC: model.MACForID(model.MACVeth, n.ID), Up: true,
		Master: n.Device(), Known: true, Isolated: n.Options.NoICC, Parent: n.Carrier(),
		VXLAN: kstate.VXLAN{VNI: o.VNI, Port: o.Port, Local: o.Local, NoLearning: true, Proxy: true},
		Alias: "sealane " + n.Name,
	}
}

// ToAll returns what has a host that is found at an address get what is for everyone.
func ToAll(n *model.Network, at netip.Addr) []kstate.Object {
	return []kstate.Object{kstate.FDB{Dev: n.Trunk(), MAC: kstate.Everyone, Dst: at}}
}

// Mate returns what leads to an endpoint on another host.
func Mate(n *model.Network, f *model.Far) []kstate.Object {
	if !f.Reached() {
		return nil
	}
	objs := []kstate.Object{kstate.FDB{Dev: n.Trunk(), MAC: f.MAC, Dst: f.At, Bridged: true}}
	for _, a := range f.Addrs {
		objs = append(objs, kstate.Neigh{Dev: n.Trunk(), Addr: a, MAC: f.MAC})
	}
	if _, six := n.Subnet(true); six {
		objs = append(objs, kstate.Neigh{Dev: n.Trunk(), Addr: model.LinkLocal(f.MAC).Addr(), MAC: f.MAC})
	}
	return append(objs, narrowed(n, f)...)
}

// Asked returns what has the host be asked for a service: it is the host's own business,
// and no other's.
func Asked(n *model.Network, s *model.Service) []kstate.Object {
	var objs []kstate.Object
	for _, a := range s.VIPs {
		objs = append(objs, kstate.Neigh{Dev: n.Trunk(), Addr: a, MAC: model.MACForID(model.MACBridge, n.ID)})
	}
	return objs
}

// MTU returns what of a host's MTU is left for a network's packets, in bytes.
func MTU(n *model.Network) int {
	mtu := n.Overlay.MTU
	if n.Options.Encrypted {
		mtu -= aroundCipher
	}
	return mtu - kstate.VXLAN{Local: n.Overlay.Local}.Overhead()
}

// aroundCipher is what WireGuard puts around a packet, in bytes: 40 of IPv6, 8 of UDP and
// 32 of its own.
const aroundCipher = 80

// MinUplink is the least MTU, in bytes, of a host's device to the others by which encrypted
// networks can go: what is inside their tunnel is IPv6 (RFC 8200 5).
const MinUplink = 1280 + aroundCipher

// Cipher returns the device that encrypts, which all such networks on this host share.
//
//	slx… ─ vxlan, [fd5e:…:A] to [fd5e:…:B] UDP 8474 ─ slw0 ─ 192.0.2.1 to 192.0.2.2 UDP 51822 ─ eth0
func Cipher(n *model.Network) []kstate.Object {
	o, dev := n.Overlay, model.CipherDevice
	l := kstate.Link{Name: dev, Type: kstate.TypeWireGuard, MTU: o.MTU - aroundCipher, Up: true, Alias: "sealane"}
	if o.Served {
		l.Type = kstate.TypeTUN
	}
	return []kstate.Object{l, kstate.Addr{Dev: dev, Prefix: whole(o.Local)}}
}

// Through returns the ways through that device to the hosts that have endpoints on an
// encrypted network. Other networks have ways to the same hosts in the same words.
func Through(n *model.Network, narrow Narrow) []kstate.Object {
	var objs []kstate.Object
	for _, a := range n.Overlay.Hosts {
		objs = append(objs, narrow.through(a))
	}
	return objs
}

func whole(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
