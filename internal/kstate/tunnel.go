package kstate

import (
	"errors"
	"fmt"
	"net/netip"
)

// Devices that carry packets to other hosts. They are the host's, and go with
// their addresses, routes, neighbours and forwarding entries.
const (
	// TypeVXLAN puts Ethernet frames into UDP (RFC 7348), see [VXLAN]. Parent
	// is the device that the outer packets leave by; "" leaves that to the
	// host's routes. It goes with its parent.
	TypeVXLAN LinkType = "vxlan"
	// TypeTUN gives the packets that are routed to it to a program: one of several
	// queues, each packet behind a struct virtio_net_hdr, without struct tun_pi
	// (linux/if_tun.h). Only root may attach to it. It is there without a
	// program, and then has no carrier.
	TypeTUN LinkType = "tun"
	// TypeWireGuard encrypts; its keys and peers are not told here.
	TypeWireGuard LinkType = "wireguard"
)

// VXLAN is what a link of that type is.
type VXLAN struct {
	VNI  int // the number of its network, below 1<<24
	Port int // UDP, here and at the other hosts
	// Local is the address that outer packets leave with, and its family that of
	// all the other hosts. Zero is of IPv4, and the kernel's choice.
	//
	// UDP has no checksum over IPv4, as RFC 7348 wants it and Flannel does it.
	// Over IPv6 it has one, as Flannel's, and packets without one are taken too.
	Local netip.Addr
	// NoLearning: where a hardware address is, only FDB says.
	NoLearning bool
	// Proxy answers who asks by ARP or neighbour discovery for one of the host's
	// neighbours on the device, as [Neigh] makes them, whatever their hardware
	// addresses are, the host's own included. All other ARP, and what else asks who
	// has an address, it drops (arp_reduce and neigh_reduce in
	// drivers/net/vxlan/vxlan_core.c). Without ARP it cannot.
	Proxy bool
	// GBP carries the packets' marks along (group based policy, draft-smith-vxlan-group-policy).
	GBP bool
}

// Overhead is how many bytes of the parent's MTU an outer packet takes from the
// device's: the headers of IP, UDP and VXLAN and the inner Ethernet header.
func (v VXLAN) Overhead() int {
	if v.Local.Is6() {
		return 70
	}
	return 50
}

// tunnel is the text of what a vxlan is.
func (o Link) tunnel() string {
	if o.Type != TypeVXLAN {
		return ""
	}
	s := fmt.Sprintf(" vni %d port %d", o.VXLAN.VNI, o.VXLAN.Port)
	if o.VXLAN.Local.IsValid() {
		s += " local " + o.VXLAN.Local.String()
	}
	if o.Parent != "" {
		s += " parent " + o.Parent
	}
	if o.VXLAN.NoLearning {
		s += " nolearning"
	}
	if o.VXLAN.Proxy {
		s += " proxy"
	}
	if o.VXLAN.GBP {
		s += " gbp"
	}
	return s
}

// Tunnels reports whether devices of the type carry packets to other hosts.
func (t LinkType) Tunnels() bool { return t == TypeVXLAN || t == TypeTUN || t == TypeWireGuard }

// HasMAC reports whether devices of the type have a hardware address, and with it
// neighbours. Those without one cannot be ports of a bridge either.
func (t LinkType) HasMAC() bool { return t != TypeTUN && t != TypeWireGuard }

// CheckTunnel says what no kernel can make of a link that tunnels.
func (o Link) CheckTunnel() error {
	switch v := o.VXLAN; {
	case !o.NS.IsHost():
		return errors.New("tunnels are in the host's namespace")
	case o.Type != TypeVXLAN && (v != VXLAN{} || o.Parent != ""):
		return fmt.Errorf("a %s has no vni, port, local address nor parent", o.Type)
	case !o.Type.HasMAC() && (o.MAC != "" || o.NoARP || o.Master != ""):
		return fmt.Errorf("a %s has no hardware address, knows no ARP and is no bridge port", o.Type)
	case o.MTU < 0 || o.MTU > 65535:
		return fmt.Errorf("mtu %d: out of range", o.MTU)
	case o.Type != TypeVXLAN:
		return nil
	case v.VNI < 0 || v.VNI >= 1<<24:
		return fmt.Errorf("vni %d: out of range", v.VNI)
	case v.Port < 1 || v.Port > 65535:
		return fmt.Errorf("port %d: out of range", v.Port)
	case v.Local.IsValid() && (v.Local.IsMulticast() || v.Local.IsUnspecified() || v.Local.Zone() != "" || v.Local.Is4In6()):
		return fmt.Errorf("local %s: not an address of a host", v.Local)
	case v.Proxy && o.NoARP:
		return errors.New("a vxlan without ARP answers none")
	}
	return nil
}

// rebuilt reports whether a link that tunnels cannot become another in place. Where
// its outer packets come from and leave can change while it is up
// (vxlan_nl2conf in drivers/net/vxlan/vxlan_core.c), unless it was or will be the
// kernel's choice.
func rebuilt(a, b Link) bool {
	v, w := a.VXLAN, b.VXLAN
	return v.VNI != w.VNI || v.Port != w.Port || v.GBP != w.GBP || v.Proxy != w.Proxy ||
		v.Local.BitLen() != w.Local.BitLen() || (a.Parent == "") != (b.Parent == "")
}
