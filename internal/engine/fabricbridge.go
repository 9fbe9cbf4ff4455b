package engine

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// This host's part of a fabric may be another program's: Docker's docker0, by --bip, or
// the bridge of a CNI plugin. It makes the bridge of what subnet.env says, and gives
// containers their addresses; of ours are the lease, the ways to other hosts and what
// the firewall lets pass there and back.

// lodges reports whether this host's part of a fabric is another program's to be. It
// waits for that until nobody is on our own.
func (e *Engine) lodges(key string, old *model.Network) bool {
	return e.cfg.Cluster.Bridge != "" && key == e.cfg.Cluster.Prefix && (old == nil || old.ByOthers() || !e.inhabited(old))
}

// inhabited reports whether containers are on a network, or promised to it.
func (e *Engine) inhabited(n *model.Network) bool {
	return n.Docker != "" || len(e.users(n.ID)) > 0 || promised(n)
}

// lodge gives a fabric the other program's bridge, if its part here is to be there. The
// bridge may not be there yet.
func (d *draft) lodge(n, old *model.Network, view *hostView) error {
	dev := d.e.cfg.Cluster.Bridge
	if !d.e.lodges(n.Fabric.Key, old) {
		return nil
	}
	if l, there := view.links[dev]; there && l.Type != kstate.TypeBridge {
		return fmt.Errorf("fabric-bridge %s: is no bridge", dev)
	}
	for _, o := range d.allNetworks() {
		if o.ID != n.ID && o.Bridged() && o.HasBridge(dev) {
			return fmt.Errorf("fabric-bridge %s: is the bridge of network %s", dev, o.Name)
		}
	}
	n.Options.Device, n.Options.Adopted = dev, true
	for i := range n.Fabric.Peers {
		n.Fabric.Peers[i].Taken = view.taken(dev, &n.Fabric.Peers[i])
	}
	return nil
}

// taken lists the subnets of another host that a device has, by an address or a route, as
// a bridge has that was made before this host's subnet became another.
func (v *hostView) taken(dev string, p *model.Peer) (out []netip.Prefix) {
	for _, sub := range p.Subnets {
		if slices.ContainsFunc(v.addrs, func(a kstate.Addr) bool { return a.Dev == dev && a.Prefix.Masked().Overlaps(sub) }) ||
			slices.ContainsFunc(v.routes, func(r kstate.Route) bool { return r.Dev == dev && r.Dst.Overlaps(sub) }) {
			out = append(out, sub)
		}
	}
	return out
}

// lodgesOtherwise reports whether a fabric is to be settled again: for where this host's
// part of it is, or for which peers its bridge is in the way. The caller holds work.
func (e *Engine) lodgesOtherwise(n *model.Network, view *hostView) bool {
	if e.lodges(n.Fabric.Key, n) != n.ByOthers() {
		return true
	}
	return n.ByOthers() && slices.ContainsFunc(n.Fabric.Peers, func(p model.Peer) bool { return !slices.Equal(p.Taken, view.taken(n.Device(), &p)) })
}

// badLodging says what hinders this host's part of a fabric on another program's bridge,
// or "". That there is none does not: some come with the first container. The caller
// holds mu.
func (e *Engine) badLodging(n *model.Network, view *hostView) string {
	dev := e.cfg.Cluster.Bridge
	if !n.ByOthers() {
		if dev != "" && n.Fabric.Key == e.cfg.Cluster.Prefix && e.inhabited(n) {
			return fmt.Sprintf("fabric-bridge %s: waits until nobody is on the network's own, %s", dev, n.Device())
		}
		return ""
	}
	dev = n.Device()
	if l, there := view.links[dev]; there && l.Type != kstate.TypeBridge {
		return fmt.Sprintf("fabric-bridge %s: is no bridge", dev)
	}
	for _, s := range n.Subnets {
		has, ok := view.address(dev, s.Prefix.Addr().Is6())
		if ok && !slices.ContainsFunc(view.addrs, func(a kstate.Addr) bool { return a.Dev == dev && a.Prefix.Masked() == s.Prefix }) {
			return fmt.Sprintf("bridge %s: has %s, and this host's subnet is %s: start again who made it, as subnet.env says now", dev, has, s.Prefix)
		}
	}
	return ""
}

// notOurs refuses containers on another program's bridge, which gives them addresses.
func notOurs(n *model.Network) error {
	if !n.ByOthers() {
		return nil
	}
	return model.Errorf(model.Conflict, n.Ref(), "join", "is on %s here, where another program gives out the addresses", n.Device()).WithHint("have that start the container")
}
