// Package ipvlan is the driver of networks whose endpoints are on a LAN of the
// host's with addresses of their own behind the host's one hardware address: where
// a switch or an access point takes no more than that.
//
//	 host                                          sandbox
//	┌────────────────────────────────────────┐    ┌─────────────────────┐
//	│ eth0 or eth0.10, as of macvlan         │    │                     │
//	│  ├──────────────────── ipvlan ─────────┼────┼─ eth0 192.0.2.7/24  │
//	│  └─ slm<network>  the host's leg       │    │  eth0's address     │
//	└────────────────────────────────────────┘    └─────────────────────┘
//
// The kernel finds the device by the address a packet is for, of those that the
// devices were given (drivers/net/ipvlan/ipvlan_core.c). In mode l2 they answer
// ARP; in l3 and l3s they are no part of the link, the default route has no router,
// and other machines need a route to the subnet by the host.
package ipvlan

import (
	"github.com/sealane/sealane/internal/driver"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Driver compiles ipvlan networks.
type Driver struct{}

// Network returns what stands for a parent that is not there, and the host's leg.
func (Driver) Network(n *model.Network, f driver.Facts) (kstate.Set, error) {
	s := kstate.Set{}
	return s, s.Add(append(driver.Stub(n, f), driver.Leg(n, device(n, f.Fit(n, n.Options.MTU)))...)...)
}

// Endpoint returns the device, born in the sandbox, its addresses, and the host's
// ways to it. All devices have the parent's hardware address, so the one that its
// IPv6 link-local address is made of is nobody's. Of a handed one what is in the
// sandbox is the container engine's.
func (Driver) Endpoint(n *model.Network, e *model.Endpoint, ns kstate.NS, f driver.Facts) (kstate.Set, error) {
	s := kstate.Set{}
	l := device(n, f.Fit(n, driver.MTU(n, e)))
	l.NS, l.Name, l.Sysctls = ns, e.IfName, e.InterfaceSysctls()
	if e.Handed {
		return s, s.Add(append(driver.ToLeg(n, e), driver.Handed(l, e))...)
	}
	inner := *e
	inner.MAC = e.DerivedMAC()
	objs := append([]kstate.Object{l}, driver.Inside(&inner, ns)...)
	return s, s.Add(append(objs, driver.ToLeg(n, e)...)...)
}

// device is without ARP in the modes that are no part of the link, as the kernel
// makes it (ipvlan_set_port_mode in drivers/net/ipvlan/ipvlan_main.c).
func device(n *model.Network, mtu int) kstate.Link {
	return kstate.Link{Type: kstate.TypeIPvlan, Parent: n.Lower(), Mode: string(n.LinkMode()), Flag: string(n.Options.LinkFlag),
		MTU: mtu, Up: true, NoARP: n.Pointed(), Alias: "sealane " + n.Name}
}
