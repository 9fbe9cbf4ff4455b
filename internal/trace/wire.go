package trace

import (
	"net/netip"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// neverMeet is why the host and containers on a device of its are not reached there.
const neverMeet = "the kernel lets a device and those on it never meet: -o host-leg is for that (docs/lan.md)"

// onWire leaves by a network that others are on, past the host.
func (w *walk) onWire(n *model.Network, r kstate.Route) {
	dev, next := n.Lower(), hop(r, w.dst)
	if n.Driver == model.DriverOVS {
		dev = n.Device()
	}
	if n.OnParent() && len(n.Legs()) == 0 && w.is.on(kstate.NS{}, dev, next) {
		w.stop(hostName, dev, "%s is the host's own on the parent of %s, driver %s: %s", next, n.Ref(), n.Driver, neverMeet)
		return
	}
	w.step(hostName, dev, w.linkMTU(dev), "%s, driver %s: it leaves here, past the host's routes and firewall; %s is to take it", n.Ref(), n.Driver, next)
	w.vanish()
}

// child returns who has an address beside a device of the host's, on a network whose
// parent that is, or nil.
func (s *sight) child(dev string, a netip.Addr) (*model.Sandbox, *model.Network) {
	for _, n := range s.Intent.Networks {
		if !n.OnParent() || n.Lower() != dev {
			continue
		}
		if sb, _ := s.holder(n, a); sb != nil {
			return sb, n
		}
	}
	return nil, nil
}
