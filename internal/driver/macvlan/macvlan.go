// Package macvlan is the driver of networks whose endpoints are machines of their
// own on a LAN of the host's: each is a macvlan, a device with a hardware address
// of its own on the host's NIC, or on a VLAN of it.
//
//	 host                                            sandbox
//	┌─────────────────────────────────────────┐     ┌──────────────────┐
//	│ eth0 ◀─ parent, raised if it was down   │     │                  │
//	│  ├─ eth0.10     VLAN, if there is one   │     │                  │
//	│  │   ├──────────────────── macvlan ─────┼─────┼─ eth0            │
//	│  │   └─ slm<network>  the host's leg    │     │  192.0.2.7/24    │
//	│  │      192.0.2.9/32                    │     │                  │
//	│  │      192.0.2.7 dev slm… src 192.0.2.9│     │                  │
//	└──┼──────────────────────────────────────┘     └──────────────────┘
//	   └── the LAN: its router, its machines
//
// The kernel takes what comes in by the parent to the device whose hardware
// address it has, and never lets the parent and the devices on it meet: the host
// and its containers do by the host's leg alone, another such device. The host's
// firewall sees none of this (drivers/net/macvlan.c).
package macvlan

import (
	"github.com/sealane/sealane/internal/driver"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Driver compiles macvlan networks.
type Driver struct{}

// Network returns what stands for a parent that is not there, and the host's leg.
func (Driver) Network(n *model.Network, f driver.Facts) (kstate.Set, error) {
	s := kstate.Set{}
	leg := device(n, f.Fit(n, n.Options.MTU))
	leg.MAC = model.MACForID(model.MACSide, model.ID(n.Leg()))
	return s, s.Add(append(driver.Stub(n, f), driver.Leg(n, leg)...)...)
}

// Endpoint returns the device, born in the sandbox, its addresses, and the host's
// ways to it. Of a handed one what is in the sandbox is the container engine's.
func (Driver) Endpoint(n *model.Network, e *model.Endpoint, ns kstate.NS, f driver.Facts) (kstate.Set, error) {
	s := kstate.Set{}
	l := device(n, f.Fit(n, driver.MTU(n, e)))
	l.NS, l.Name, l.Sysctls, l.Auto = ns, e.IfName, e.InterfaceSysctls(), e.Auto(n)
	inner := *e
	if n.OwnMAC() {
		l.MAC = e.MAC
	} else {
		inner.MAC = e.DerivedMAC() // for a link-local address only: the device has the parent's
	}
	if e.Handed {
		return s, s.Add(append(driver.ToLeg(n, e), driver.Handed(l, e))...)
	}
	objs := append([]kstate.Object{l}, driver.Inside(&inner, ns)...)
	return s, s.Add(append(objs, driver.ToLeg(n, e)...)...)
}

func device(n *model.Network, mtu int) kstate.Link {
	return kstate.Link{Type: kstate.TypeMacvlan, Parent: n.Lower(), Mode: string(n.LinkMode()), MTU: mtu, Up: true, Alias: "sealane " + n.Name}
}
