package driver

import (
	"cmp"
	"net/netip"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Inside returns what an endpoint's interface has in its namespace whatever the
// driver made it of: the addresses of the network's subnets and those from
// outside them, an IPv6 link-local address where it speaks IPv6, and its routes.
// Default routes belong to package compile.
func Inside(e *model.Endpoint, ns kstate.NS) []kstate.Object {
	var objs []kstate.Object
	for _, list := range [][]netip.Prefix{e.Addrs, e.Outside, e.LinkLocal} {
		for _, p := range list {
			objs = append(objs, kstate.Addr{NS: ns, Dev: e.IfName, Prefix: p})
		}
	}
	if e.Speaks6() {
		objs = append(objs, kstate.Addr{NS: ns, Dev: e.IfName, Prefix: model.LinkLocal(e.MAC)})
	}
	for _, r := range e.Ways() {
		objs = append(objs, kstate.Route{NS: ns, Dst: r.Dst, Via: r.Via, Dev: e.IfName})
	}
	return objs
}

// Fit returns an MTU, or that of the device that a network is on if it is less.
func (f Facts) Fit(n *model.Network, mtu int) int {
	if most, narrow := f.Narrow[n.Lower()]; narrow {
		return min(mtu, most)
	}
	return mtu
}

// MTU returns the MTU of an endpoint's interface: its own, or the network's.
func MTU(n *model.Network, e *model.Endpoint) int { return cmp.Or(e.MTU, n.Options.MTU) }
