// Package phys is the driver of networks that are a NIC of the host's, or a virtual
// function of one (SR-IOV): whoever is connected has it.
//
//	 host                        sandbox
//	┌──────────────┐            ┌──────────────────┐
//	│              │            │                  │
//	│  eth2 ───────┼── moves ───┼▶ eth0            │
//	│    ▲         │            │  192.0.2.7/24    │
//	└────┼─────────┘            └──┼───────────────┘
//	     └──────── comes back ─────┘  when the endpoint or the sandbox goes
//
// The NIC is what the kernel marks and the journal knows, see kernel/rtnl: it comes
// home under its own name also when its namespace ends without us. A VLAN of a NIC
// that nobody made before is made in the sandbox, and goes with it.
package phys

import (
	"github.com/sealane/sealane/internal/driver"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Driver compiles phys networks.
type Driver struct{}

// Network returns nothing: a NIC that nobody has is the host's.
func (Driver) Network(*model.Network, driver.Facts) (kstate.Set, error) { return kstate.Set{}, nil }

// Endpoint returns the NIC in the sandbox, and what it has there. It keeps its
// hardware address unless the user chose one.
func (Driver) Endpoint(n *model.Network, e *model.Endpoint, ns kstate.NS, _ driver.Facts) (kstate.Set, error) {
	s := kstate.Set{}
	nic := kstate.Link{
		NS: ns, Name: e.IfName, Type: kstate.TypeNIC, Parent: n.NIC(),
		MTU: driver.MTU(n, e), Up: true, Sysctls: e.InterfaceSysctls(), Auto: e.Auto(n), MAC: e.MAC,
	}
	if nic.Parent == "" {
		nic.Type, nic.Parent, nic.VLAN = kstate.TypeVLAN, n.Options.Parent, n.Options.VLAN
	}
	return s, s.Add(append([]kstate.Object{nic}, driver.Inside(e, ns)...)...)
}
